"""The index against a scan of the table: the same rows, distances and ties."""

import math
import sys
from functools import cache

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from support.threads import in_python_threads

from poincare_taxa import kernels
from poincare_taxa.geometry import convert
from poincare_taxa.kernels.arguments import Points
from poincare_taxa.layouts.tree import layout
from poincare_taxa.search import SearchIndex, index
from poincare_taxa.search.nodes import Nodes, are_bounded
from poincare_taxa.search.order import by_halves
from poincare_taxa.testing import synthetic_taxonomy

KINDS = ("taxonomy", "deep", "star", "random", "equal", "shells", "lattice")


@pytest.fixture(autouse=True)
def _always_searched(monkeypatch):
    """Small tables too, and orders in which a scan would be faster."""
    monkeypatch.setattr(index, "_FEWEST", 0)
    monkeypatch.setattr(index, "_OPENED", 0.0)
    monkeypatch.setattr(index, "_BUILDING", 0.0)
    monkeypatch.setattr(index, "_COUNTED", 1.0)


@cache
def laid_out(dim):
    found = layout(synthetic_taxonomy(5000, seed=0), dim, tau=1.2)
    return found.radius, found.direction


def polar_points(kind, n, dim, seed):
    """Radius and direction in float64, near ones close together in the first three kinds."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "taxonomy":  # the first n nodes in preorder
        radius, direction = laid_out(dim)
        return radius[:n].clone(), direction[:n].clone()
    direction = torch.nn.functional.normalize(
        torch.randn(n, dim, generator=generator, dtype=torch.float64)
    )
    radius = 12 * torch.rand(n, generator=generator, dtype=torch.float64)
    if kind == "deep":  # a path that turns
        turns = direction.div_(1 + torch.arange(n)[:, None] ** 2).cumsum(dim=0)
        direction = torch.nn.functional.normalize(turns)
        radius = torch.linspace(0, 12, n, dtype=torch.float64)
    elif kind == "star":
        radius[:] = 4.0
        radius[0] = 0.0
    elif kind == "equal":
        radius[:], direction[:] = 3.0, direction[0].clone()
    elif kind == "shells":
        radius = radius.round()
    elif kind == "lattice":  # many ties
        radius = (radius / 4).round() * 4
        direction = torch.nn.functional.one_hot(torch.arange(n) % dim, dim).double()
    return radius, direction


def as_table(radius, direction, manifold, dtype):
    if manifold == "polar":
        return torch.cat((radius[:, None], direction), dim=1).to(dtype)
    return convert.polar_to_ball(radius, direction, dtype=dtype)


cases = {
    "kind": st.sampled_from(KINDS),
    "n": st.integers(1, 3000),
    "dim": st.integers(2, 6),
    "seed": st.integers(0, 99),
    "manifold": st.sampled_from(("polar", "ball")),
    "dtype": st.sampled_from((torch.float64, torch.float32)),
    "by": st.sampled_from(("distance", "ancestor")),
    "ordered": st.booleans(),
    "k": st.integers(1, 40),
}


@given(**cases)
def test_nearest__is_that_of_a_scan(kind, n, dim, seed, manifold, dtype, by, ordered, k):
    table = as_table(*polar_points(kind, n, dim, seed), manifold, dtype)
    found = SearchIndex(table, manifold=manifold, ordered=ordered)
    found.build()
    assert found.nbytes > 0
    rows = torch.randint(n, (20,), generator=torch.Generator().manual_seed(seed))
    expected = kernels.nearest(table, table[rows], k, manifold=manifold, by=by, skip=rows)
    mine = found.nearest(rows, k, by=by)
    assert mine.row.equal(expected.row)
    assert mine.distance.equal(expected.distance)
    # Queries that are no rows, none of them skipped.
    others = as_table(*polar_points("random", 7, dim, seed + 1), manifold, dtype)
    mine = found.nearest(others, k, by=by)
    expected = kernels.nearest(table, others, k, manifold=manifold, by=by)
    assert mine.row.equal(expected.row)
    assert mine.distance.equal(expected.distance)


@pytest.mark.parametrize("by", ["distance", "ancestor"])
def test_nearest__near_the_rim_of_the_ball_is_that_of_a_scan(by):
    """Rounding moves points there by more than near ones are apart."""
    n, generator = 3000, torch.Generator().manual_seed(0)
    away, depth = torch.randn(n, generator=generator), torch.rand(n, generator=generator)
    for largest in (26.5, 28.5):
        angle = 1 + 0.3 * math.exp(-largest) * away.double()
        direction = torch.stack((angle.cos(), angle.sin()), dim=1)
        table = as_table(largest - 3 * depth.double(), direction, "ball", torch.float64)
        rows = torch.arange(0, n, 10)
        expected = kernels.nearest(table, table[rows], 4, manifold="ball", by=by, skip=rows)
        found = SearchIndex(table, manifold="ball")
        mine = found.nearest(rows, 4, by=by)
        assert mine.row.equal(expected.row)
        assert mine.distance.equal(expected.distance)
        assert found.nearest(rows[:0], 4, by=by).row.shape == (0, 4)


@given(**cases, data=st.data())
def test_nearest__of_some_rows_within_a_stretch_is_that_of_a_scan(
    kind, n, dim, seed, manifold, dtype, by, ordered, k, data
):
    table = as_table(*polar_points(kind, n, dim, seed), manifold, dtype)
    table[torch.randint(n, (n // 10,), generator=torch.Generator().manual_seed(seed + 1)), 0] = (
        data.draw(st.sampled_from((torch.nan, torch.inf, -1.0 if manifold == "polar" else 0.5)))
    )
    generator = torch.Generator().manual_seed(seed)
    some = torch.nonzero(torch.rand(n, generator=generator) < 0.4).flatten()
    low, high = sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n))))
    found = SearchIndex(table, manifold=manifold, rows=some, ordered=ordered)
    rows = torch.randint(n, (20,), generator=generator)
    mine = found.nearest(rows, k, by=by, within=(low, high))
    finite = table[some].isfinite().all(dim=1)
    if manifold == "polar":
        finite &= table[some, 0] >= 0
    candidates = some[finite & (some >= low) & (some < high)]
    expected = kernels.nearest(
        table, table[rows], k, manifold=manifold, by=by, skip=rows, rows=candidates
    )
    assert mine.row.equal(expected.row)
    assert mine.distance.equal(expected.distance)


@given(**cases, width=st.sampled_from((1, 3, 30)), levels=st.sampled_from((0, 1, 5)))
def test_count_nearer__is_that_of_a_scan(
    kind, n, dim, seed, manifold, dtype, by, ordered, k, width, levels
):
    table = as_table(*polar_points(kind, n, dim, seed), manifold, dtype)
    generator = torch.Generator().manual_seed(seed)
    if k < 10:
        table[torch.randint(n, (k,), generator=generator), 0] = torch.nan
    targets = torch.randint(-1, n, (20, width), generator=generator)
    rows = torch.randint(n, (20,), generator=generator).sort()[0]
    depth = torch.randint(levels, (n,), generator=generator) if levels else None
    found = SearchIndex(table, manifold=manifold, ordered=ordered, depth=depth)
    mine = found.count_nearer(rows, targets, by=by)
    expected = kernels.count_nearer(
        table, table[rows], targets, manifold=manifold, by=by, skip=rows
    )
    assert mine.nearer.equal(expected.nearer)
    assert mine.tied.equal(expected.tied)
    others = as_table(*polar_points("random", 20, dim, seed + 1), manifold, dtype)
    skip = rows if k % 2 else None  # also rows that are farther than every target
    mine = found.count_nearer(others, targets, by=by, skip=skip)
    expected = kernels.count_nearer(table, others, targets, manifold=manifold, by=by, skip=skip)
    assert mine.nearer.equal(expected.nearer)
    assert mine.tied.equal(expected.tied)


@pytest.mark.parametrize("built", [True, False])
def test_count_nearer__refuses_targets_that_are_no_rows_of_each_query(monkeypatch, built):
    monkeypatch.setattr(index, "_BUILDING", torch.inf)
    found = SearchIndex(polar_points("random", 300, 3, 0), manifold="polar")
    if built:
        found.build()
    rows = torch.arange(2)
    for target, message in ((300, "row 300"), (-2, "row -2")):
        with pytest.raises(ValueError, match=f"targets.* {message}"):
            found.count_nearer(rows, torch.tensor([[0], [target]]))
    with pytest.raises(ValueError, match="2 queries need as many rows of targets; got 3"):
        found.count_nearer(rows, torch.zeros(3, 1, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["taxonomy", "random", "equal"])
@pytest.mark.parametrize("manifold", ["polar", "ball"])
def test_nodes__bound_the_key_of_every_point(kind, manifold):
    """A search for fewer than all has to open a leaf only if its bound is not above the edge."""
    n = 4000
    table = as_table(*polar_points(kind, n, 4, 0), manifold, torch.float64)
    points = Points.of(table, manifold, 1.0)
    rows = torch.randint(n, (50,), generator=torch.Generator().manual_seed(1))
    nodes = Nodes.build(points, None)
    found, opened = nodes.nearest(points.at(rows), n, False, torch.full((50,), -1))
    assert found.sort(dim=1)[0].equal(torch.arange(n).expand(50, n))
    assert (opened == len(nodes.leaves)).all()


def test_nearest__opens_few_leaves_of_a_taxonomy():
    n = 50_000
    found = layout(synthetic_taxonomy(n, seed=0), 10)
    points = Points(found.radius, found.direction, 1.0)
    opened = Nodes.build(points, None).nearest(
        points.at(torch.arange(0, n, 100)),
        10,
        False,
        torch.arange(0, n, 100),
        torch.arange(0, n, 100),
    )[1]
    assert opened.double().mean() < 0.15 * n / 128


def test_count_nearer__of_distances_goes_by_depth(monkeypatch):
    """Distances through nodes by depth, scores through those in the order of the table."""
    tax = synthetic_taxonomy(3000, seed=0)
    found = layout(tax, 4)
    counted = []
    count = Nodes.count_nearer
    monkeypatch.setattr(
        Nodes, "count_nearer", lambda *given: counted.append(given[0]) or count(*given)
    )
    searched = SearchIndex(
        (found.radius, found.direction),
        manifold="polar",
        ordered=True,
        depth=torch.tensor(tax.tree.depth),
    )
    searched.build()
    before = searched.nbytes
    rows = torch.arange(10)
    searched.count_nearer(rows, rows[:, None], by="distance")
    searched.count_nearer(rows, rows[:, None], by="ancestor")
    first, second = counted
    assert (np.diff(tax.tree.depth[first.rows]) >= 0).all()
    assert len(second.rows) == 0
    assert searched.nbytes > 2 * before


def test_search_index__sorts_points_by_lot_or_scans(monkeypatch):
    monkeypatch.undo()
    n = 20_000
    radius, direction = polar_points("random", n, 3, 0)
    low = SearchIndex((radius, direction), manifold="polar")
    low.build()
    assert low.opened_share < 0.2, "sorted: in three dimensions this pays"
    radius, direction = torch.full((n,), 9.0).double(), torch.randn(n, 50).double()
    direction = torch.nn.functional.normalize(direction)
    high = SearchIndex((radius, direction), manifold="polar")
    high.build()
    assert high.opened_share > 0.9
    rows = torch.arange(30)
    mine = high.nearest(rows, 3)
    expected = kernels.nearest(
        (radius, direction), (radius[rows], direction[rows]), 3, manifold="polar", skip=rows
    )
    assert mine.row.equal(expected.row)


def test_nearest__of_a_row_behind_all_candidates_starts_at_the_last_leaf(monkeypatch):
    radius, direction = polar_points("taxonomy", 400, 4, 0)
    homes = []
    search = Nodes.nearest
    monkeypatch.setattr(
        Nodes, "nearest", lambda *arguments: homes.append(arguments[5:6]) or search(*arguments)
    )
    some = torch.arange(256)  # two whole leaves
    found = SearchIndex((radius, direction), manifold="polar", rows=some, ordered=True)
    rows = torch.arange(256, 400)
    mine = found.nearest(rows, 3)
    (home,) = homes[-1]
    assert home.max() == 255
    expected = kernels.nearest(
        (radius, direction), (radius[rows], direction[rows]), 3, manifold="polar", rows=some
    )
    assert mine.row.equal(expected.row)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("some", [None, torch.arange(0, 400, 2)])
def test_nearest__of_one_point_waits_for_no_compiled_loops(monkeypatch, ordered, some):
    """In a process that has not loaded numba; and from its place where rows are in order."""
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, "numba")
    homes, scans, one, scan = [], [], index.nearest_of_one, kernels.nearest
    monkeypatch.setattr(
        index, "nearest_of_one", lambda *given: homes.append(given[5]) or one(*given)
    )
    monkeypatch.setattr(
        kernels,
        "nearest",
        lambda *given, **more: scans.append(1) or scan(*given, **more, backend="torch"),
    )
    points = polar_points("taxonomy", 400, 4, 0)
    found = SearchIndex(points, manifold="polar", rows=some, ordered=ordered)
    row = torch.tensor([301])
    asked = tuple(x[row] for x in points)
    expected = scan(points, asked, 3, manifold="polar", skip=row, rows=some, backend="torch")
    assert found.nearest(row, 3).row.equal(expected.row)
    found.nearest(asked, 3)
    place = 301 if some is None else 151
    assert (homes, scans) == ([place if ordered else None, None], [])
    found.nearest(row, 3, by="ancestor")
    found.nearest(torch.tensor([1, 2]), 3)
    assert (len(homes), len(scans)) == (2, 2)
    assert found.nbytes == 0


def test_search_index__is_built_once_it_pays(monkeypatch):
    monkeypatch.undo()
    found = layout(synthetic_taxonomy(6000, seed=0), 5)
    searched = SearchIndex((found.radius, found.direction), manifold="polar", ordered=True)
    rows = torch.arange(5)
    first = searched.nearest(rows, 3)
    assert searched.nbytes == 0
    for _ in range(30):
        last = searched.nearest(rows, 3)
    assert searched.nbytes > 0
    assert searched.opened_share < 0.5
    assert last.row.equal(first.row)
    assert last.distance.equal(first.distance)


def test_by_halves__keeps_all_rows_and_makes_leaves_narrow():
    n = 4096
    radius, direction = polar_points("random", n, 2, 0)
    points = Points(radius, direction, 1.0)
    order = by_halves(points, torch.arange(n))
    assert order.sort()[0].equal(torch.arange(n))
    leaves = direction[order].view(-1, 128, 2)
    assert leaves.var(dim=1).sum(-1).median() < 0.2 * direction.var(dim=0).sum()
    radius[0] = 0  # the origin of the ball, where a point has no direction
    points = Points(None, convert.polar_to_ball(radius, direction), 1.0)
    leaves = direction[by_halves(points, torch.arange(n))].view(-1, 128, 2)
    assert leaves.var(dim=1).sum(-1).median() < 0.01 * direction.var(dim=0).sum()


@pytest.mark.parametrize(
    "table",
    [
        torch.tensor([[360.0, 1.0, 0.0], [1.0, 0.0, 1.0]]).double(),
        torch.tensor([[0.0, 1.0, 0.0]]).double(),
        torch.zeros(0, 3).double(),
    ],
    ids=["beyond float64", "one point", "none"],
)
def test_nearest__of_what_has_no_bounds_or_no_neighbours(table):
    found = SearchIndex(table, manifold="polar")
    rows = torch.arange(len(table))
    expected = kernels.nearest(table, table, 3, manifold="polar", skip=rows)
    mine = found.nearest(rows, 3)
    assert mine.row.equal(expected.row)
    assert mine.distance.equal(expected.distance)


def test_count__is_that_of_the_candidates_in_a_stretch():
    table = as_table(*polar_points("random", 9, 3, 0), "polar", torch.float64)
    every = SearchIndex(table, manifold="polar")
    assert (every.count(), every.count((2, 7)), every.count((3, 3))) == (9, 5, 0)
    some = SearchIndex(table, manifold="polar", rows=torch.tensor([1, 4, 5, 8]))
    assert (len(some), some.count(), some.count((2, 6))) == (4, 4, 2)


def test_are_bounded__not_at_the_rim_of_the_ball():
    at_rim = torch.tensor([[1 - 1e-15, 0.0]]).double()
    for c in (1.0, 4.0, 0.25):
        assert not are_bounded(Points(None, at_rim / c**0.5, c))
        assert are_bounded(Points(None, at_rim * 0.999 / c**0.5, c))


@pytest.mark.parametrize(
    ("arguments", "queries", "message"),
    [
        ({}, {"k": 0}, "k must be"),
        ({}, {"k": 1, "within": (2, 1)}, "within must"),
        ({"rows": torch.tensor([1, 0])}, {"k": 1}, "ascending"),
        ({"rows": torch.tensor([0, 2, 1])}, {"k": 1}, "ascending"),
        ({"rows": torch.tensor([0, 1, 1])}, {"k": 1}, "ascending"),
        ({"rows": torch.tensor([9])}, {"k": 1}, "row 9"),
        ({"depth": torch.tensor([0, 1])}, {"k": 1}, "depth"),
    ],
)
def test_search_index__refuses(arguments, queries, message):
    table = torch.tensor([[0.0, 0.1], [0.2, 0.0], [0.0, 0.4]])
    with pytest.raises(ValueError, match=message):
        SearchIndex(table, **arguments).nearest(torch.tensor([0]), **queries)


def test_search_index__of_many_python_threads_at_once_is_built_once(monkeypatch):
    n = 5000
    tax = synthetic_taxonomy(n, seed=0)
    found = layout(tax, 5)
    depth = torch.tensor(tax.tree.depth)
    points = found.radius, found.direction
    rows = torch.arange(200)
    targets = torch.randint(n, (200, 4), generator=torch.Generator().manual_seed(0))
    near = kernels.nearest(
        points, (points[0][rows], points[1][rows]), 5, manifold="polar", skip=rows
    )
    nearer = [
        kernels.count_nearer(
            points, (points[0][rows], points[1][rows]), targets, manifold="polar", by=by, skip=rows
        )
        for by in ("distance", "ancestor")
    ]
    built = []
    build = Nodes.build
    monkeypatch.setattr(Nodes, "build", lambda *given: built.append(given[1]) or build(*given))
    searched = SearchIndex(points, manifold="polar", ordered=True, depth=depth)

    def search():
        return searched.nearest(rows, 5), [
            searched.count_nearer(rows, targets, by=by) for by in ("distance", "ancestor")
        ]

    for mine, counts in in_python_threads(search):
        assert mine.row.equal(near.row)
        assert mine.distance.equal(near.distance)
        for some, expected in zip(counts, nearer, strict=True):
            assert some.nearer.equal(expected.nearer)
            assert some.tied.equal(expected.tied)
    assert len(built) == 2, "in the order of the table, and by depth"
