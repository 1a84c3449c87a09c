"""Intervals hold the truth as often as 95 % promises, also where nearly all values are 1."""

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from scipy import stats

from benchmarks.quality import coverage
from poincare_taxa.evaluation import intervals
from poincare_taxa.evaluation.intervals import (
    bootstrap_interval,
    rank_interval,
    share_interval,
    sums_of_clusters,
)
from poincare_taxa.evaluation.report import Estimate


def ratio(sums):
    return sums[..., 0] / sums[..., 1]


def one_each(values):
    return np.stack([values, np.ones(len(values))], axis=1)


# -------------------------------------------------------------------- how often they are right


DRAWS = 400


@pytest.mark.parametrize("draw", coverage.SHARES.values(), ids=coverage.SHARES)
@pytest.mark.parametrize("p", coverage.MEANS)
@pytest.mark.parametrize("q", coverage.QUERIES)
def test_share__holds_the_truth_in_93_of_100_samples(draw, p, q):
    """At a coverage of .95, fewer than .93 of 400 has a chance of 3 %; the seeds are fixed."""
    rng = np.random.default_rng([q, int(1000 * p)])
    held = 0
    for _ in range(DRAWS):
        values, genus = draw(rng, q, p)
        low, high = share_interval(sums_of_clusters(one_each(values), genus))
        held += low <= p <= high
    assert held >= 0.93 * DRAWS


@pytest.mark.parametrize(("draw", "mean"), coverage.RANKS.values(), ids=coverage.RANKS)
@pytest.mark.parametrize("q", coverage.QUERIES)
def test_rank__is_open_where_the_tail_was_not_seen(draw, mean, q):
    rng = np.random.default_rng(q)
    found = [rank_interval(one_each(draw(rng, q))) for _ in range(DRAWS)]
    # `python -m benchmarks intervals` has it of more samples; .91 is .94 less three errors of 400.
    assert np.mean([low <= mean <= high for low, high in found]) >= 0.91


def test_rank__closes_where_many_decide():
    rng = np.random.default_rng(0)
    assert rank_interval(one_each(rng.normal(5, 1, 100)))[1] < 6
    assert rank_interval(one_each(np.ones(100)))[1] == math.inf  # whatever lies beyond
    ranks = np.ones(1000)
    ranks[3] = 2000.0
    assert rank_interval(one_each(ranks)) == (1.0, math.inf)


# -------------------------------------------------------------------- against known ones


@given(st.integers(1, 60), st.data())
def test_share__of_coins_is_never_narrower_than_half_nor_wider_than_clopper_and_pearson(n, data):
    k = data.draw(st.integers(0, n))
    low, high = share_interval(one_each(np.arange(n) < k))
    exact = stats.binomtest(k, n).proportion_ci(0.95, "exact")
    assert exact.low - 1e-9 <= low <= k / n <= high <= exact.high + 1e-9
    if k in (0, n):
        assert (low, high) == pytest.approx(tuple(exact))


@given(st.integers(1, 40), st.integers(1, 6))
def test_share__counts_genera_that_stand_or_fall_as_one(n, size):
    """As many taxa in each genus, and all of a genus alike, tell what one of each would."""
    values = (np.arange(n) % 3 > 0).astype(float)
    genus = np.repeat(np.arange(n), size)
    found = share_interval(sums_of_clusters(one_each(values[genus]), genus))
    assert found == pytest.approx(share_interval(one_each(values)))


def test_share__one_query_is_no_interval_of_width_zero():
    assert share_interval(np.array([[1.0, 1.0]])) == pytest.approx((0.025, 1))
    assert all(map(math.isnan, bootstrap_interval(np.array([[3.0, 1.0]]), ratio)))


def test_share__values_that_vary_little_have_a_narrow_interval():
    values = np.random.default_rng(0).uniform(0.55, 0.65, 1000)
    low, high = share_interval(one_each(values))
    assert high - low < 0.01
    assert low < values.mean() < high


# -------------------------------------------------------------------- the bootstrap


@given(st.integers(10, 60), st.integers(0, 2**32 - 1))
def test_bootstrap__of_a_mean_is_that_of_student(n, seed):
    x = np.random.default_rng(seed).normal(5, 1, n)
    found = Estimate.of(one_each(x), ratio)
    assert found.value == pytest.approx(x.mean())
    assert found.count == n
    assert found.low <= found.value <= found.high
    # 400 resamples know the width 2 t s/√n within a fifth or so.
    width = 2 * stats.t.ppf(0.975, n - 1) * x.std(ddof=1) / math.sqrt(n)
    assert found.high - found.low == pytest.approx(width, rel=0.35)


def test_bootstrap__draws_genera():
    rng = np.random.default_rng(0)
    genus = np.repeat(np.arange(50), 20)
    x = rng.normal(size=50)[genus]
    alone, together = (
        Estimate.of(one_each(x), ratio),
        Estimate.of(one_each(x), ratio, clusters=genus),
    )
    assert together.value == alone.value
    wider = (together.high - together.low) / (alone.high - alone.low)
    assert wider == pytest.approx(math.sqrt(20), rel=0.3)


@pytest.mark.parametrize("n", [2000, 2057])
def test_bootstrap__of_many_clusters_draws_groups_of_them(n, monkeypatch):
    """As wide an interval, from a table of drawings that does not grow with the taxa."""
    monkeypatch.setattr(intervals, "_GROUPS", 200)
    drawn, original = [], intervals._resamples
    monkeypatch.setattr(intervals, "_resamples", lambda k: drawn.append(k) or original(k))
    x = np.sort(np.random.default_rng(0).exponential(size=n))
    found = Estimate.of(one_each(x), ratio)
    assert drawn == [200]
    assert (found.value, found.count) == (pytest.approx(x.mean()), n)
    assert found.low <= found.value <= found.high
    assert found.high - found.low == pytest.approx(3.92 * x.std() / math.sqrt(n), rel=0.35)


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_sums_of_clusters__are_those_of_a_loop(n, labels, seed):
    rng = np.random.default_rng(seed)
    table, label = rng.integers(0, 9, (n, 2)).astype(float), rng.integers(0, labels, n)
    expected = [table[label == name].sum(0) for name in sorted(set(label))]
    assert np.array_equal(sums_of_clusters(table, label), expected)
