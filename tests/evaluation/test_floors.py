"""What knows the radii and nothing else: random directions, and one direction."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.trees import taxonomies

from poincare_taxa.evaluation import floors, rows
from poincare_taxa.evaluation.floors import RaySubject, points_and_floors
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.evaluation.points import read_points
from poincare_taxa.evaluation.report import Estimate
from poincare_taxa.evaluation.subjects import DistanceSubject, Relatives, TreeSubject
from poincare_taxa.geometry import polar
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy


def on_a_ray(height, valid):
    """The same points, measured a row at a time, on the grid on which a ray compares radii."""
    largest = np.nanmax(height, initial=0) or 1
    places = np.rint(height * 2.0**40 / largest)
    x = torch.from_numpy(np.nan_to_num(places))
    return DistanceSubject((x,), lambda a, b: (a - b).abs(), places, valid)


def some_heights(tax, kind, rng):
    n = len(tax)
    height = {
        "any": 5 * rng.random(n),
        "planted": 0.83 * tax.tree.depth,
        "few": rng.integers(0, 4, n).astype(float),
        "one": np.zeros(n),
    }[kind]
    valid = rng.random(n) < rng.choice([1, 0.8, 0.1])
    return np.where(valid, height, np.nan), valid


@given(
    taxonomies(min_size=2, max_size=40),
    st.sampled_from(["any", "planted", "few", "one"]),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
)
@settings(deadline=None)
def test_ray__has_the_places_and_counts_that_rows_of_distances_have(tax, kind, k, seed):
    rng = np.random.default_rng(seed)
    height, valid = some_heights(tax, kind, rng)
    n, k = len(tax), min(k, len(tax) - 1)
    ray, slow = RaySubject(height, valid), on_a_ray(height, valid)
    queries = rng.permutation(n)
    edge, _ = TreeSubject(tax.tree).edge(queries, k)
    relatives = Relatives(tax.tree, edge, {"a": rng.integers(-1, 3, n).astype(np.int32)})
    found, expected = (subject.nearest(queries, k, relatives) for subject in (ray, slow))
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        assert np.array_equal(mine, theirs)
    assert np.array_equal(found.groups["a"], expected.groups["a"])
    targets = rng.integers(-1, n, (n, 5))
    targets[targets == queries[:, None]] = -1
    for by in ("distance", "ancestor"):
        counts = (subject.count_nearer(queries, targets, by) for subject in (ray, slow))
        for mine, theirs in zip(*counts, strict=True):
            assert np.array_equal(mine, theirs)
    apart = ray.pairs(queries[:, None], targets.clip(0))
    known = valid[queries][:, None] & valid[targets.clip(0)]
    assert np.array_equal(np.isfinite(apart), known)


def test_ray__is_hyperbolic_space_with_one_direction():
    r = torch.tensor([0.0, 0.3, 2.0, 7.5, 30.0], dtype=torch.float64)
    u = torch.tensor([[0.6, 0.8]], dtype=torch.float64).expand(5, 2)
    i = np.arange(5)
    found = RaySubject(r.numpy(), np.ones(5, bool)).pairs(i[:, None], i)
    assert found == pytest.approx(polar.cdist(r, u, r, u).numpy(), abs=30 * 2.0**-40)


def test_ray__of_many_tied_taxa_some_stand_for_all(monkeypatch):
    tax = synthetic_taxonomy(3000)
    height, valid = 1.2 * tax.tree.depth, np.ones(3000, bool)
    queries = np.arange(0, 3000, 7)
    edge, _ = TreeSubject(tax.tree).edge(queries, 10)
    relatives = Relatives(tax.tree, edge, {})

    def within(most):
        monkeypatch.setattr(floors, "_TIED", most)
        places = RaySubject(height, valid).nearest(queries, 10, relatives)
        return (places.within.tied / places.everyone.tied).mean(), places.everyone

    exact, everyone = within(3000)
    some, fewer = within(60)
    assert everyone.tied.max() > 240
    assert fewer.tied.max() == 60
    assert np.array_equal(fewer.sure, everyone.sure)
    # Queries of a level share the order, so that only levels are drawn apart; at most 60 of each.
    assert some == pytest.approx(exact, abs=4 * np.sqrt(exact * (1 - exact) / 60 / tax.max_depth))
    assert some != exact


def test_random_directions__have_the_same_radii_and_losses_and_unit_length():
    tax = synthetic_taxonomy(50)
    generator = torch.Generator().manual_seed(1)
    u = torch.nn.functional.normalize(torch.randn(50, 4, generator=generator).double())
    r = torch.rand(50, generator=generator).double()
    r[7] = torch.nan
    _, given = read_points((r, u), tax)
    found = points_and_floors(given, seed=0)
    value, floor, ray = (found[key] for key in ("value", "random directions", "one direction"))
    for other in (floor, ray):
        assert np.array_equal(other.valid, value.valid)
        assert np.array_equal(other.height, value.height, equal_nan=True)
    length = torch.linalg.vector_norm(floor.table[:, 1:], dim=1)
    assert torch.allclose(length, torch.ones(50, dtype=torch.float64), rtol=0, atol=1e-15)
    assert not torch.allclose(floor.table[:, 1:], value.table[:, 1:])


@pytest.mark.parametrize("manifold", ["euclidean", lambda x, y: (x - y).abs().sum(-1)])
def test_floors__of_other_spaces_have_their_radii_too(manifold):
    tax = synthetic_taxonomy(60)
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    _, given = read_points(x, tax, manifold)
    found = points_and_floors(given, seed=0)
    value, first, ray = found.values()
    assert sorted(first.height) == pytest.approx(sorted(value.height))
    assert np.array_equal(ray.height, value.height)
    if manifold == "euclidean":
        assert torch.linalg.vector_norm(first.points[0], dim=1).numpy() == pytest.approx(
            value.height
        )


# -------------------------------------------------------------------- the better of both


def test_floor__is_the_better_one_and_the_report_names_it():
    a, b, nothing = Estimate(0.2), Estimate(0.5), Estimate(np.nan)
    estimates = {"value": Estimate(1), "ceiling": Estimate(1), "first": a, "one direction": b}
    row = rows._beside("", "", estimates)
    assert (row.floor, row.floor_of) == (b, "one direction")
    row = rows._beside("", "", estimates, low_is_good=True)
    assert (row.floor, row.floor_of) == (a, "first")
    row = rows._beside("", "", estimates | {"one direction": nothing})
    assert (row.floor, row.floor_of) == (a, "first")
    row = rows._beside("", "", {"value": a})
    assert (row.floor, row.floor_of) == (None, "")


def test_floor__of_a_deep_tree_is_what_one_direction_earns():
    """On a path the radius is all: what random directions earn says nothing."""
    tax = Taxonomy.from_parents([-1, *range(80)])
    u = torch.nn.functional.normalize(
        torch.randn(81, 8, generator=torch.Generator().manual_seed(0)).double()
    )
    r = torch.from_numpy(0.8 * tax.tree.depth)
    report = evaluate((r, u), tax)
    same = evaluate((r, u[:1].expand_as(u)), tax, only=("correlation", "precision", "ancestor"))
    for key in ("precision@10", "ancestor MAP", "Spearman/LCA-balanced", "triplet order"):
        row = report[key]
        assert row.floor.value > 0.99, key
        assert row.floor_of == "one direction" or row.value > 0.99
        # Rounding breaks ties of the radii that the floor leaves tied.
        assert same[key].value == pytest.approx(row.floor.value, abs=1e-3)
    assert report["mean distortion"].floor.value == pytest.approx(0, abs=1e-9)
    assert "†" in str(report)
    assert report.to_frame()["floor_of"].to_list() == [row.floor_of for row in report.rows]


def test_floor__of_alike_families_orders_separation_and_balanced_pairs():
    """Few deep genera, many shallow ones: the radius alone separates them."""
    tax = synthetic_taxonomy(3000)
    r = torch.from_numpy(0.9 * tax.tree.depth)
    u = torch.nn.functional.normalize(
        torch.randn(3000, 10, generator=torch.Generator().manual_seed(0)).double()
    )
    report = evaluate((r, u), tax, queries=300, exact=False)
    balanced = report["Spearman/LCA-balanced"]
    assert balanced.floor_of == "one direction"
    assert balanced.floor.value > balanced.value + 0.3
    for row in report.rows:
        if row.floor and row.floor_of:
            lower = row.metric.endswith(("mean rank", "distortion")) or "by lot" in row.metric
            worse = row.value > row.floor.value if lower else row.value < row.floor.value
            # The embedding is a draw of the first floor: never much better than the better one.
            assert worse or abs(row.value - row.floor.value) < 0.1 * max(1, abs(row.value)), row.key
