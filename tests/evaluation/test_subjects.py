"""Three providers of neighbours and counts: they agree, and lost rows have the worst place."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from oracles import metrics as oracle
from support.trees import taxonomies

from poincare_taxa.evaluation import subjects
from poincare_taxa.evaluation.ranks import share
from poincare_taxa.evaluation.subjects import (
    DistanceSubject,
    KernelSubject,
    Relatives,
    TreeSubject,
    polar_subject,
)
from poincare_taxa.geometry import polar
from poincare_taxa.kernels.arguments import LARGEST
from poincare_taxa.testing import synthetic_taxonomy

BY = ["distance", "ancestor"]


def by_distance(tree):
    """The tree's own distances, as a distance of torch."""

    def distance(i, j):
        i, j = torch.broadcast_tensors(i, j)
        return torch.from_numpy(tree.topology.distance(i.numpy(), j.numpy()))

    rows = (torch.arange(len(tree)),)
    return DistanceSubject(rows, distance, tree.depth, np.ones(len(tree), bool))


def scattered(n, places, seed=0, dim=4):
    """Points at few places, many of them at the same one."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(places, dim, generator=generator, dtype=torch.float64)
    r = 9 * torch.rand(places, generator=generator, dtype=torch.float64)
    at = torch.arange(n) % places
    return r[at], torch.nn.functional.normalize(u, dim=1)[at]


def relatives_of(tree, queries, k, seed=0):
    """The k nearest of the tree, and two groupings: nested clades, and labels without order."""
    rng = np.random.default_rng(seed)
    clades = np.where(tree.depth > 0, np.maximum(tree.parent, 0), -1).astype(np.int32)
    labels = rng.integers(-1, 3, len(tree)).astype(np.int32)
    edge, _ = TreeSubject(tree).edge(queries, k)
    return Relatives(tree, edge, {"clades": clades, "labels": labels})


def assert_same(found, expected):
    for mine, theirs in zip(found[:3], expected[:3], strict=True):
        assert np.array_equal(mine, theirs)
    assert found.groups.keys() == expected.groups.keys()
    for name, places in found.groups.items():
        assert np.array_equal(places, expected.groups[name]), name


# -------------------------------------------------------------------- the tree in closed form


@given(taxonomies(min_size=2), st.integers(1, 12))
def test_tree__edge_is_the_kth_smallest_distance(tax, k):
    k = min(k, len(tax) - 1)
    matrix = oracle.tree_matrix(tax.tree.parent)
    edge, places = TreeSubject(tax.tree).edge(np.arange(len(tax)), k)
    for q, distances in enumerate(matrix):
        others = np.delete(distances, q)
        assert edge[q] == np.sort(others)[k - 1]
        assert places.sure[q] == (others < edge[q]).sum()
        assert places.tied[q] == (others == edge[q]).sum()


@given(taxonomies(min_size=2), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_tree__has_the_places_and_counts_that_rows_of_distances_have(tax, k, seed):
    tree, k = tax.tree, min(k, len(tax) - 1)
    rng = np.random.default_rng(seed)
    queries = rng.integers(0, len(tax), 5)
    closed, rows = TreeSubject(tree), by_distance(tree)
    relatives = relatives_of(tree, queries, k, seed)
    assert_same(closed.nearest(queries, k, relatives), rows.nearest(queries, k, relatives))
    targets = rng.integers(-1, len(tax), (5, 4))
    targets[targets == queries[:, None]] = -1
    for by in BY:
        found = closed.count_nearer(queries, targets, by)
        for mine, theirs in zip(found, rows.count_nearer(queries, targets, by), strict=True):
            assert np.array_equal(mine, theirs)


def test_tree__a_long_path_costs_no_more_than_a_pass_for_each_query(monkeypatch):
    """10,000 levels, cut into pieces of 1,000 counts; the ends of a path see all others in turn."""
    from poincare_taxa.taxonomy.taxonomy import Taxonomy

    monkeypatch.setattr(subjects, "_TILE", 1000)
    tree = Taxonomy.from_parents([-1, *range(9_999)]).tree
    queries = np.array([9_999, 5_000])
    above = tree.lineages(queries)[:, 1:]
    nearer, tied = TreeSubject(tree).count_nearer(queries, above, "distance")
    assert nearer[0].tolist() == list(range(9_999))
    assert not tied[0].any()
    assert nearer[1, :4_999].tolist() == [2 * step for step in range(4_999)]
    assert (tied[1, :4_999] == 1).all()


# -------------------------------------------------------------------- points


@pytest.mark.parametrize("wider", [(160, 2560), (20,), (12,)])
@pytest.mark.parametrize("places", [300, 40, 1])
@pytest.mark.parametrize("indexed", [True, False])
def test_kernels__have_the_places_and_counts_that_rows_of_distances_have(
    places, wider, indexed, monkeypatch
):
    """Of points that are all different, and of many at few places, which tie: also for too long."""
    monkeypatch.setattr(subjects, "_WIDER", wider)
    tree = synthetic_taxonomy(300).tree
    radius, direction = scattered(300, places)
    radius[::11] = torch.nan
    fast = polar_subject(radius, direction)
    assert isinstance(fast, KernelSubject)
    assert fast._index is not None, "these points are on the CPU"
    if not indexed:  # as where the points are on another device
        fast._index = None
    slow = DistanceSubject((radius, direction), polar.dist, radius.numpy(), fast.valid)
    queries = np.random.default_rng(0).permutation(300)
    relatives = relatives_of(tree, queries, 10)
    assert_same(fast.nearest(queries, 10, relatives), slow.nearest(queries, 10, relatives))
    targets = np.random.default_rng(1).integers(-1, 300, (300, 6))
    targets[targets == queries[:, None]] = -1
    for by in BY:
        found = fast.count_nearer(queries, targets, by)
        for mine, theirs in zip(found, slow.count_nearer(queries, targets, by), strict=True):
            assert np.array_equal(mine, theirs)
    fast._index = None  # as on a GPU, where tables are scanned
    assert_same(fast.nearest(queries, 10, relatives), slow.nearest(queries, 10, relatives))
    some = fast.pairs(queries[:, None], targets.clip(0))
    np.testing.assert_allclose(some, slow.pairs(queries[:, None], targets.clip(0)), rtol=1e-14)


def test_kernels__compute_all_distances_only_where_places_are_tied_for_too_long(monkeypatch):
    monkeypatch.setattr(subjects, "_WIDER", (12,))
    asked, by_rows = [], DistanceSubject.nearest
    monkeypatch.setattr(
        DistanceSubject, "nearest", lambda *given: asked.append(given[1]) or by_rows(*given)
    )
    tree, queries = synthetic_taxonomy(300).tree, np.arange(40)
    relatives = relatives_of(tree, queries, 10)
    for places, there, left in ((300, 300, []), (300, 8, []), (1, 8, []), (1, 30, range(30))):
        radius, direction = scattered(300, places)
        radius[there:] = torch.nan  # of 8, fewer than 10 places are taken
        asked.clear()
        polar_subject(radius, direction).nearest(queries, 10, relatives)
        assert [row for rows in asked for row in rows] == list(left)


def test_distances__count_as_the_oracle_does_whatever_the_tiles(monkeypatch):
    points = torch.randint(0, 4, (40, 2), generator=torch.Generator().manual_seed(0)).double()
    lost = np.arange(40) % 9 == 4

    def euclidean(x, y):
        return (x - y).abs().sum(-1)

    subject = DistanceSubject((points,), euclidean, points.abs().sum(1).numpy(), ~lost)
    rng = np.random.default_rng(0)
    queries = np.arange(40)
    targets = np.stack([rng.choice(np.delete(queries, q), 5, replace=False) for q in queries])
    expected = [np.full(targets.shape, -1), np.full(targets.shape, -1)]
    for q in queries:
        scores = np.where(lost | lost[q], np.inf, euclidean(points[q], points).numpy())
        for out, counts in zip(expected, oracle.counts(scores, targets[q], q), strict=True):
            out[q] = counts
    for tile in (1 << 18, 1, 37):
        monkeypatch.setattr(subjects, "_TILE", tile)
        found = subject.count_nearer(queries, targets, "distance")
        for mine, theirs in zip(found, expected, strict=True):
            assert np.array_equal(mine, theirs)
        pairs = subject.pairs(queries[:, None], queries)
        either = lost[:, None] | lost
        assert np.array_equal(
            pairs, np.where(either, np.inf, euclidean(points[:, None], points).numpy())
        )


def test_distances__may_be_a_view_of_complex_numbers():
    points = torch.arange(5.0, dtype=torch.float64)

    def distance(x, y):
        d = 2 * (x - y).abs()
        return torch.complex(d, -d).conj().imag  # its signs are turned when it is read

    assert distance(points[0], points[1]).is_neg()
    subject = DistanceSubject((points,), distance, points.numpy(), np.ones(5, bool))
    rows = np.arange(5)
    assert np.array_equal(subject.pairs(rows[:, None], rows), 2 * np.abs(rows[:, None] - rows))
    nearer, tied = subject.count_nearer(np.array([1]), np.array([[4, 2]]), "distance")
    assert (nearer.tolist(), tied.tolist()) == ([[3, 0]], [[0, 1]])


def test_polar_subject__beyond_the_kernels_is_measured_by_rows():
    radius, direction = scattered(20, 20)
    assert isinstance(polar_subject(radius, direction), KernelSubject)
    radius[3] = LARGEST + 1
    far = polar_subject(radius, direction)
    assert isinstance(far, DistanceSubject)
    expected = polar.cdist(radius, direction, radius, direction).numpy()
    rows = np.arange(20)
    np.testing.assert_allclose(far.pairs(rows[:, None], rows), expected, rtol=1e-13, atol=1e-13)


# -------------------------------------------------------------------- lost rows


@pytest.mark.parametrize("damage", [torch.nan, torch.inf, -1.0])
@pytest.mark.parametrize("far", [False, True])
def test_lost_rows__are_infinitely_far_and_have_no_place(damage, far):
    tree = synthetic_taxonomy(30).tree
    radius, direction = scattered(30, 30)
    radius[7] = 1000.0 if far else 1.0
    radius[3] = damage
    direction[4, 0] = torch.nan
    subject = polar_subject(radius, direction)
    assert np.flatnonzero(~subject.valid).tolist() == [3, 4]
    rows = np.arange(30)
    lost = (~subject.valid[:, None]) | ~subject.valid
    assert np.array_equal(np.isinf(subject.pairs(rows[:, None], rows)), lost)
    queries = np.array([3, 0])
    near = subject.nearest(queries, 29, relatives_of(tree, queries, 29))
    assert [places.tolist() for places in near.everyone] == [[0, 27], [0, 0]]
    for by in BY:
        nearer, tied = subject.count_nearer(queries, np.array([[0, 9, -1], [3, 4, 9]]), by)
        assert nearer[0].tolist() == [28, 28, 0]
        assert nearer[1, :2].tolist() == [28, 28]
        assert nearer[1, 2] < 27
        assert not tied.any()


@given(taxonomies(min_size=3, max_size=20), st.integers(0, 2**32 - 1), st.integers(1, 5))
@settings(max_examples=30)
def test_lost_rows__never_help_the_places_of_relatives(tax, seed, k):
    """Of a query, losing its relatives or itself takes places from them and gives none."""
    tree, n, k = tax.tree, len(tax), min(k, len(tax) - 1)
    rng = np.random.default_rng(seed)
    radius, direction = scattered(n, max(2, n // 2), seed)
    queries = np.array([rng.integers(n)])
    relatives = relatives_of(tree, queries, k, seed)
    hurt = radius.clone()
    within = tree.topology.distance(queries, np.arange(n)) <= relatives.edge
    hurt[torch.from_numpy(within & (rng.random(n) < 0.5))] = torch.nan

    def share_of(points):
        found = polar_subject(points, direction).nearest(queries, k, relatives)
        return share(found.within, found.everyone, k)[0]

    assert share_of(hurt) <= share_of(radius) + 1e-12
