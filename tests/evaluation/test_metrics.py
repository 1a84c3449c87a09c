"""Correlation and distortion, against loops and scipy; and the laws that forbid flattery."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from oracles import metrics as oracle
from scipy import stats

from poincare_taxa.evaluation import metrics

# -------------------------------------------------------------------- correlation


@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
def test_correlations__agree_with_scipy(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 5, n), rng.integers(0, 5, n)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    assert metrics.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert metrics.spearman(np.exp(y), y) == 1


@given(st.lists(st.integers(-3, 3)))
def test_average_ranks__are_those_of_scipy(values):
    np.testing.assert_array_equal(metrics.average_ranks(values), stats.rankdata(values))
    assert np.isnan(metrics.average_ranks([*values, np.nan])).all()


def test_correlations__a_constant_explains_nothing():
    y = np.arange(5)
    assert metrics.pearson(np.ones(5), y) == 0
    assert metrics.spearman(np.ones(5), y) == 0
    assert np.isnan(metrics.pearson(y, np.ones(5)))


@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
def test_correlations__lost_taxa_stand_in_the_opposite_place(seed, n):
    """So losing taxa of an exact embedding costs, and all lost are worth −1."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 5, n)
    lost = rng.random(n) < 0.4
    lost[y.argmax()] = True  # the opposite of the mean is the mean
    assume(len(set(y)) > 1)
    for measure in (metrics.pearson, metrics.spearman):
        assert measure(np.where(lost, np.nan, y), y) < 1 - 1e-9
        assert measure(np.full(n, np.nan), y) == pytest.approx(-1)
        assert measure(np.where(lost, np.nan, 7.0), y) < 0  # a constant, which was worth 0
    two = np.array([np.nan, 1.0, 2.0]), np.array([0, 1, 2])
    # y is −1, 0, 1 and x, in deviations of its own, −1, 1 where it is known: (√1.5, −1, 1).
    expected = (1 - np.sqrt(1.5)) / np.sqrt(2 * (3.5 - 1.5 / 3))
    assert metrics.pearson(*two) == metrics.spearman(*two) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_radius_explained_by_depth__of_a_radius_that_rounds_is_undefined(dtype):
    depth = np.arange(40) // 4
    radius = dtype(0.3) * (1 + np.finfo(dtype).eps * (depth % 3))
    assert len(set(radius.astype(dtype))) > 1
    assert np.isnan(metrics.radius_explained_by_depth(radius.astype(dtype), depth))
    assert np.isnan(metrics.radius_explained_by_depth(np.full(40, dtype(0.1)), depth))
    assert metrics.radius_explained_by_depth(0.3 + 1e-4 * depth, depth) == pytest.approx(1)


@pytest.mark.parametrize("scale", [2.0**-30, 1.0, 2.0**30])
def test_radius_explained_by_depth__is_undefined_up_to_eight_roundings_of_any_size(scale):
    eps, depth = np.finfo(np.float64).eps, np.array([0, 0, 1, 1])
    for roundings, is_constant in ((7, True), (8, True), (9, False)):
        radius = scale * np.array([1, 1, 1, 1 - roundings * eps])
        assert np.isnan(metrics.radius_explained_by_depth(radius, depth)) == is_constant
    assert np.isnan(metrics.radius_explained_by_depth([], np.array([], int)))


def test_radius_explained_by_depth__is_the_share_between_depths():
    depth = np.array([0, 1, 1, 2, 2])
    assert metrics.radius_explained_by_depth(0.7 * depth, depth) == pytest.approx(1)
    assert metrics.radius_explained_by_depth([5, 1, 3, 0, 4], np.array([0] * 5)) == pytest.approx(0)
    radius = np.array([0.0, 1.0, 3.0, 2.0, 2.0])
    # Mean 1.6, squares 2.56 + .36 + 1.96 + 2 × .16 = 5.2; within depth 1, 1 + 1.
    assert metrics.radius_explained_by_depth(radius, depth) == pytest.approx(1 - 2 / 5.2)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_triplet_order__agrees_with_loops_and_with_scipy(seed, m):
    rng = np.random.default_rng(seed)
    tree = rng.integers(1, 5, (3, m))
    distance = rng.integers(0, 5, (3, m)).astype(float)
    distance[distance == 4] = np.inf
    agreement, comparable = metrics.triplet_order(distance, tree)
    for i in range(3):
        assert (agreement[i], comparable[i]) == oracle.triplet_order(distance[i], tree[i])
        if comparable[i] and len(set(distance[i])) > 1 and np.isfinite(distance[i]).all():
            with np.errstate(invalid="ignore"):  # its p-value, which may be undefined
                expected = stats.somersd(tree[i], stats.rankdata(distance[i])).statistic
            assert agreement[i] / comparable[i] == pytest.approx(expected)


@given(st.integers(0, 2**32 - 1), st.integers(2, 8))
def test_triplet_order__losing_others_or_the_query_never_helps(seed, m):
    rng = np.random.default_rng(seed)
    tree, distance = rng.integers(1, 5, (4, m)), rng.integers(0, 5, (4, m)).astype(float)
    hurt = np.where(rng.random((4, m)) < 0.3, np.inf, distance)
    before, after = (metrics.triplet_order(d, tree) for d in (distance, hurt))
    assert (after[0] <= before[0]).all()
    assert np.array_equal(after[1], before[1])
    agreement, comparable = metrics.triplet_order(np.full((4, m), np.inf), tree)
    assert np.array_equal(agreement, -comparable)


def test_triplet_order__is_1_for_the_tree_and_0_for_a_constant():
    tree = np.random.default_rng(0).integers(1, 9, (5, 30))
    for distance, expected in ((tree * 2.5, 1), (np.ones(tree.shape), 0), (-1.0 * tree, -1)):
        agreement, comparable = metrics.triplet_order(distance, tree)
        assert np.all(comparable > 0)
        assert np.array_equal(agreement, expected * comparable)


# -------------------------------------------------------------------- distances


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_distortion__no_scale_is_better(seed, m):
    rng = np.random.default_rng(seed)
    tree = rng.integers(1, 6, m)
    distance = rng.exponential(size=m) * tree
    each, scale = metrics.distortion(distance, tree)
    assert each.mean() == pytest.approx(oracle.mean_distortion(distance, tree, scale))
    # As a function of 1/scale the mean is piecewise linear: its least value is at a pair's own.
    best = min(
        oracle.mean_distortion(distance, tree, d / t) for d, t in zip(distance, tree, strict=True)
    )
    assert each.mean() <= best + 1e-12
    assert np.allclose(metrics.distortion(7 * distance, tree).each, each)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_spread__is_the_largest_expansion_times_the_largest_contraction(seed, m):
    rng = np.random.default_rng(seed)
    tree = rng.integers(1, 6, m) / 4
    distance = rng.exponential(size=m) + 0.1
    expansion = max(d / t for d, t in zip(distance, tree, strict=True))
    contraction = max(t / d for d, t in zip(distance, tree, strict=True))
    assert metrics.spread(distance, tree) == pytest.approx(expansion * contraction)
    assert metrics.spread(3 * distance, tree) == pytest.approx(expansion * contraction)
    # Pairs at one place in the tree count in neither measure.
    more = np.append(distance, 7.0), np.append(tree, 0.0)
    assert metrics.spread(*more) == metrics.spread(distance, tree)
    scored, among = metrics.distortion(distance, tree), metrics.distortion(*more)
    assert among.scale == scored.scale
    assert among.each[:-1].tolist() == scored.each.tolist()
    assert np.isnan(among.each[-1])


def test_spread__of_lost_taxa_and_of_one_point_has_no_bound():
    assert metrics.spread([1.0, np.inf], [1, 1]) == np.inf
    assert metrics.spread([1.0, 0.0], [1, 1]) == np.inf
    assert np.isnan(metrics.spread([1.0], [0]))


def test_distortion__is_0_for_the_tree_and_1_for_a_point():
    tree = np.array([1, 2, 3])
    assert not metrics.distortion(0.5 * tree, tree).each.any()
    assert np.array_equal(metrics.distortion([0.0, 0, 0], tree).each, [1, 1, 1])
    assert np.array_equal(metrics.distortion([1.0, 2, np.inf], tree).each, [0, 0, np.inf])
