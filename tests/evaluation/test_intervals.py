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


@pytest.mark.parametrize("deciding", [18, 20, 22])
def test_rank__closes_where_20_clusters_share_the_variance(deciding):
    """As many clusters above the mean as below it, by the same, and the others at it."""
    s = np.full(100, 5.0)
    s[: deciding // 2], s[-deciding // 2 :] = 7, 3
    low, high = rank_interval(one_each(s))
    assert low < 5 < high
    assert math.isinf(high) == (deciding < 20)


def test_rank__closes_where_many_decide():
    rng = np.random.default_rng(0)
    assert rank_interval(one_each(rng.normal(5, 1, 100)))[1] < 6
    assert rank_interval(one_each(np.ones(100)))[1] == math.inf  # whatever lies beyond
    ranks = np.ones(1000)
    ranks[3] = 2000.0
    assert rank_interval(one_each(ranks)) == (1.0, math.inf)


# -------------------------------------------------------------------- against known ones


CLUSTERS = st.lists(st.tuples(st.integers(0, 8), st.integers(1, 8)), min_size=1, max_size=25)


@given(CLUSTERS)
def test_share__is_the_interval_of_the_larger_number_of_trials(clusters):
    """[CP34] with the numbers of [K65] and of [KG98], each as its source writes it."""
    w = np.array([max(pair) for pair in clusters], float)
    s = np.array([min(pair) for pair in clusters], float)
    total, usual = w.sum(), (w**2).sum() / w.sum()
    p = s.sum() / total
    trials = kish = total**2 / (w**2).sum()
    if kish > 1 + 1e-9:
        unseen = max(p, 1 - p) * usual
        variance = (sum((s - p * w) ** 2) + unseen**2) / total**2
        student = stats.norm.ppf(0.975) / stats.t.ppf(0.975, kish - 1)
        trials = max(kish, p * (1 - p) / variance * student**2)
    low = stats.beta.ppf(0.025, trials * p, trials * (1 - p) + 1) if p > 0 else 0
    high = stats.beta.ppf(0.975, trials * p + 1, trials * (1 - p)) if p < 1 else 1
    found = share_interval(np.stack([s, w], axis=1))
    assert found == pytest.approx((low, high), rel=1e-6, abs=1e-12)


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


@pytest.mark.parametrize(("n", "groups"), [(2, 2000), (7, 2000), (50, 50)])
def test_bootstrap__is_what_thousand_drawings_give(n, groups, monkeypatch):
    monkeypatch.setattr(intervals, "_GROUPS", groups)
    sums = np.random.default_rng(n).integers(1, 9, (n, 2)).astype(float)
    drawings = np.random.default_rng(0).integers(n, size=(1000, n))
    values = [ratio(sums[drawing].sum(0)) for drawing in drawings]
    tail = stats.norm.cdf(math.sqrt(n / (n - 1)) * stats.t.ppf(0.025, n - 1))
    expected = np.quantile(values, [tail, 1 - tail])
    assert bootstrap_interval(sums, ratio) == pytest.approx(tuple(expected), rel=1e-9)


def test_bootstrap__leaves_out_what_is_not_finite():
    sums = np.array([[0.0, 0.0], [2.0, 1.0], [2.0, 1.0]])  # drawn alone, the first is 0 / 0
    assert bootstrap_interval(sums, ratio) == (2, 2)
    assert all(map(math.isnan, bootstrap_interval(0 * sums, ratio)))


def test_bootstrap__draws_2000_groups_where_there_are_more_clusters(monkeypatch):
    drawn, original = [], intervals._resamples
    monkeypatch.setattr(intervals, "_resamples", lambda k: drawn.append(k) or original(k))
    bootstrap_interval(one_each(np.arange(2001.0)), ratio)
    assert drawn == [2000]


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
