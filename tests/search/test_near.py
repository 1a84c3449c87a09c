"""Neighbours of one point by two conditions, against a scan of all rows."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from poincare_taxa import kernels
from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.search import without_lost
from poincare_taxa.layouts.tree import layout
from poincare_taxa.search import near
from poincare_taxa.testing import synthetic_taxonomy


def tables(kind, dtype, seed):
    """Radius and direction of about 400 rows."""
    if kind == "taxonomy":
        found = layout(synthetic_taxonomy(400, seed=seed), 4, dtype=dtype, seed=seed)
        return found.radius, found.direction
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(400, 4, generator=generator, dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True)
    radius = 12 * torch.rand(400, generator=generator, dtype=torch.float64)
    if kind == "one point":
        radius, direction = radius[:1].repeat(400), direction[:1].repeat(400, 1)
    if kind == "far":
        radius = 800 + radius
    if kind == "pairs":  # each row twice, and twins that differ by an ulp
        radius[1::2], direction[1::2] = radius[::2], direction[::2]
        radius[1::4] *= 1 + 2**-52
    if kind == "lost":
        radius[3::7], radius[5::11], direction[2::13] = -1, torch.inf, torch.nan
    if kind == "at the origin":
        radius[::3] = 0
    return radius.to(dtype), direction.to(dtype)


KINDS = ["taxonomy", "random", "one point", "far", "pairs", "lost", "at the origin"]


@given(
    st.sampled_from(KINDS),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 3),
    st.integers(0, 399),
    st.sampled_from([1, 3, 50, 90, 400, 500]),  # as many as there are candidates: one is skipped
    st.sampled_from(["all", "some", "none"]),
    st.sampled_from(["home", "elsewhere", "unknown"]),
    st.booleans(),
)
def test_nearest_of_one__has_the_distances_of_a_scan(
    kind, dtype, seed, row, k, candidates, start, skips
):
    points = tables(kind, dtype, seed)
    table = without_lost(Points.of(points, "polar", 1.0))
    query = table.at(torch.tensor([row]))
    rows = None
    if candidates != "all":
        chosen = np.random.default_rng(seed).permutation(400)[: 90 if candidates == "some" else 0]
        rows = torch.from_numpy(np.sort(chosen))
    total = 400 if rows is None else len(rows)
    skip = torch.tensor([row if skips else -1])
    home = {"home": row * total // 400, "elsewhere": total, "unknown": None}[start]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(near, "_SAMPLE", 4)
        found = near.nearest_of_one(table, query, k, skip, rows, home)
    asked = query.radius, query.coordinates
    wanted = kernels.nearest(
        points, asked, k, manifold="polar", skip=skip, rows=rows, backend="torch"
    )
    # Both compute the same distances, in blocks of other sizes: vector loops and their remainders
    # may round differently.
    near_zero = 8 * torch.finfo(torch.float64).eps * (1 + table.radius.nan_to_num(0).double().max())
    torch.testing.assert_close(found.distance, wanted.distance, rtol=0, atol=float(near_zero))
    there = found.row[0][found.row[0] >= 0]
    assert len(there.unique()) == len(there) == int((wanted.row >= 0).sum())
    if rows is not None:
        assert torch.isin(there, rows).all()


def test_nearest_of_one__has_the_first_of_rows_that_tie():
    table = Points(*tables("one point", torch.float64, 0), 1.0)
    one = torch.tensor([7])
    found = near.nearest_of_one(table, table.at(one), 50, one, None, 7)
    assert found.row.tolist() == [[row for row in range(51) if row != 7]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("dim", [2, 100, 3000])
def test_nearest_of_one__finds_the_row_whose_distance_is_the_bound(dim, dtype):
    """Beside the query at its radius, where the chord of that distance is the longest allowed."""
    for radius in (1.0, 5.0, 12.0):
        r = torch.full((3,), radius, dtype=dtype)
        for chord in torch.logspace(-9, 0, 28).tolist():
            u = torch.zeros(3, dim, dtype=dtype)
            u[:, 0], u[1, 1], u[2, 0] = 1, chord, -1
            u[1] /= u[1].norm()
            table = Points(r, u, 1.0)
            skip = torch.tensor([0])
            found = near.nearest_of_one(table, table.at(skip), 1, skip, None, None)
            assert found.row.tolist() == [[1]]


@given(
    st.floats(0, 40),
    st.floats(0, 40),
    st.floats(0, 40),
    st.sampled_from([torch.float32, torch.float64]),
)
@example(12, 4, 4, torch.float64)  # at the widest angle under which a point may be so near
def test_nearest_of_one__finds_the_only_other_row(here, there, turn, dtype):
    angle = math.exp(-turn)
    radius = torch.tensor([here, there], dtype=dtype)
    direction = torch.tensor([[1, 0], [math.cos(angle), math.sin(angle)]], dtype=dtype)
    table, one = Points(radius, direction, 1.0), torch.tensor([0])
    assert near.nearest_of_one(table, table.at(one), 1, one, None, None).row.tolist() == [[1]]


def test_nearest_of_one__compares_few_rows_of_a_taxonomy(monkeypatch):
    found = layout(synthetic_taxonomy(20_000, seed=0), 8)
    table = Points(found.radius, found.direction, 1.0)
    compared = []
    within = near._within

    def counted(*given):
        keep = within(*given)
        compared.append(int(keep.sum()))
        return keep

    monkeypatch.setattr(near, "_within", counted)
    for row in range(0, 20_000, 997):
        one = torch.tensor([row])
        near.nearest_of_one(table, table.at(one), 10, one, None, row)
    assert np.median(compared) < 1000


def test_within__a_bound_that_reaches_the_origin_exactly():
    """The radius less the bound, and the room that it is given, is 0 for these two numbers."""
    radius, bound = 2.0, 1.999999995
    assert radius - (bound + 1e-9 * (1 + bound + radius)) == 0
    points = Points(torch.tensor([radius, 0.0]).double(), torch.eye(2).double(), 1.0)
    assert near._within(points, points.at(torch.tensor([0])), bound).all()
