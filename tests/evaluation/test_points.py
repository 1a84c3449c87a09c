"""Points of every space are measured by its distance, or refused with the space they may be of."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.evaluation.points import read_points
from poincare_taxa.geometry import ball, convert
from poincare_taxa.testing import synthetic_taxonomy

TAX = synthetic_taxonomy(60)
PARTS = {"precision", "ancestor", "closure", "neighbour", "correlation", "distortion", "radius"}


def some_points(seed=0, largest=4.0, dim=3):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(60, dim, generator=generator, dtype=torch.float64)
    r = largest * torch.rand(60, generator=generator, dtype=torch.float64)
    return r, torch.nn.functional.normalize(u)


def values(report):
    return {row.key: row.value for row in report.rows}


@pytest.mark.parametrize("c", [1.0, 0.25])
def test_manifolds__of_hyperbolic_space_are_one_space(c):
    r, u = some_points()
    expected = values(evaluate((r, u), TAX, only=PARTS))
    for points, manifold in (
        (convert.polar_to_ball(r, u, c=c), "ball"),
        (convert.polar_to_lorentz(r, u, c=c), "lorentz"),
    ):
        found = evaluate(points, TAX, only=PARTS, manifold=manifold, c=c)
        assert values(found) == pytest.approx(expected, rel=1e-6, abs=1e-9, nan_ok=True)
        assert found.meta["manifold"] == manifold
        assert f"({manifold})" in str(found)
    packed = torch.cat((r[:, None], u), 1)
    assert values(evaluate(packed, TAX, only=PARTS, manifold="polar")) == pytest.approx(
        expected, nan_ok=True
    )


def test_manifolds__a_function_is_the_distance():
    """The ball, measured a tile at a time; and its radii from the root's point, the origin."""
    r, u = some_points()
    r[0] = 0
    x = convert.polar_to_ball(r, u)
    parts = PARTS - {"radius"}
    expected = values(evaluate(x, TAX, only=parts))
    found = values(evaluate(x, TAX, only=parts, manifold=ball.dist))
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)

    class Manifold:
        dist = staticmethod(ball.dist)

    found = values(evaluate(x, TAX, only=parts, manifold=Manifold()))
    assert found == pytest.approx(expected, rel=1e-6, nan_ok=True)


def test_manifolds__euclidean_distances_are_those_of_a_loop():
    x = 5 * torch.randn(60, 3, generator=torch.Generator().manual_seed(0))
    report = evaluate(x, TAX, manifold="euclidean", k=5)
    matrix = torch.cdist(x.double(), x.double()).numpy()
    edges = np.array([[TAX.tree.distance(i, j) for j in range(60)] for i in range(60)])
    shares = []
    for q in range(60):
        others = np.delete(np.arange(60), q)
        near = others[np.argsort(matrix[q, others])[:5]]
        shares.append(np.mean(edges[q, near] <= np.sort(edges[q, others])[4]))
    assert report["precision@5"].value == pytest.approx(np.mean(shares))
    assert report["lost rows"].value == 0
    assert "max norm" not in report
    assert "depth–norm Pearson" not in report
    norm = torch.linalg.vector_norm(x.double(), dim=1).numpy()
    _, points = read_points(x, TAX, "euclidean")
    assert points.radius.numpy() == pytest.approx(norm)


@pytest.mark.parametrize("manifold", ["lorentz", "euclidean", ball.dist])
def test_manifolds__lost_rows_are_counted_in_each(manifold):
    r, u = some_points()
    x = convert.polar_to_lorentz(r, u) if manifold == "lorentz" else convert.polar_to_ball(r, u)
    sound = evaluate(x, TAX, manifold=manifold)
    x[3:60:4] = math.nan
    x[4] = math.inf
    report = evaluate(x, TAX, manifold=manifold)
    assert report["lost rows"].value == 16
    for key in ("depth–radius Pearson", "depth–radius Spearman", "triplet order"):
        assert report[key].value < sound[key].value
    x[:] = math.nan
    report = evaluate(x, TAX, manifold=manifold)
    assert report["precision@10"].value == 0
    assert report["triplet order"].value == report["depth–radius Spearman"].value == -1


def test_manifolds__without_the_root_a_function_has_no_radii():
    x = convert.polar_to_ball(*some_points())
    sound = evaluate(x, TAX, manifold=ball.dist)
    x[0] = math.nan
    report = evaluate(x, TAX, manifold=ball.dist)
    assert report["lost rows"].value == 1
    assert report["depth–radius Pearson"].value == -1
    assert report["ancestor mean rank"].value > sound["ancestor mean rank"].value
    assert report["precision@10"].value > 0


# -------------------------------------------------------------------- what is refused


@given(st.floats(0.5, 8), st.integers(1, 5), st.integers(0, 1000))
def test_ball__points_of_other_spaces_are_never_scored_silently(largest, dim, seed):
    """Lorentz points, polar tables, tangent vectors of any size, unless all are short."""
    r, u = some_points(seed, largest, dim)
    r[5] = max(float(r[5]), 1.01)
    for points, guess in (
        (convert.polar_to_lorentz(r, u), "Lorentz"),
        (torch.cat((r[:, None], u), 1), "polar"),
        (r[:, None] * u, "tangent"),
    ):
        with pytest.raises(ValueError, match=f"lie outside the ball.*like.*{guess}"):
            read_points(points, TAX)


@pytest.mark.parametrize(
    ("points", "guess"),
    [
        (convert.polar_to_ball(*some_points()), 'manifold="ball"'),
        (torch.cat((some_points()[0][:, None], some_points()[1]), 1), 'manifold="polar"'),
        (some_points()[0][:, None] * some_points()[1], "tangent vectors"),
        (-convert.polar_to_lorentz(*some_points()), "Euclidean"),
        (convert.polar_to_lorentz(*some_points(), c=0.25), "Euclidean"),
    ],
)
def test_lorentz__rows_beside_the_hyperboloid_are_refused_with_a_guess(points, guess):
    points[3] = math.nan
    with pytest.raises(ValueError, match=f"rows are not on the hyperboloid, the first.*{guess}"):
        evaluate(points, TAX, manifold="lorentz")


@pytest.mark.parametrize(
    ("points", "options", "message"),
    [
        (torch.zeros(60, 2), {"manifold": "sphere"}, "one of 'ball', 'polar', 'lorentz', 'euclid"),
        (some_points(), {"manifold": "euclidean"}, "are polar coordinates, not 'euclidean'"),
        (some_points(), {"c": 2.0}, "c is the curvature of the ball or the Lorentz model"),
        (torch.zeros(60, 2), {"manifold": "euclidean", "c": 2.0}, "c is the curvature of the"),
        (torch.zeros(60, 2), {"manifold": lambda x, y: 1.0}, "must take tensors that broadcast"),
        (torch.zeros(60, 2), {"manifold": lambda x: x}, "raised TypeError"),
        (torch.zeros(60), {"manifold": "euclidean"}, r"of the euclidean have shape \[n, dim\]"),
    ],
)
def test_read_points__errors_say_what_to_do(points, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(points, TAX, **options)


# -------------------------------------------------------------------- a constant radius


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [1e-3, 0.3, 2.0, 7.0])
def test_radius__that_is_constant_but_for_rounding_explains_nothing(dtype, radius):
    _, u = some_points()
    r = torch.full((60,), radius, dtype=torch.float64)
    x = convert.polar_to_ball(r, u).to(dtype)
    report = evaluate(x, TAX, only="radius")
    assert math.isnan(report["radius explained by depth"].value)
    assert report["depth–radius Pearson"].value == report["depth–radius Spearman"].value == 0
    assert report["depth–radius Pearson"].note == ""
    tangent = evaluate(r[:, None] * u, TAX, only="radius", manifold="euclidean")
    assert tangent["depth–radius Pearson"].value == 0
