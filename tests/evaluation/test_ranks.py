"""What counts of nearer and tied candidates are worth: every way to break ties, and lost rows."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from oracles import metrics as oracle

from poincare_taxa.evaluation.ranks import Places, rank_statistics, share


@st.composite
def rankings(draw, largest=6):
    """Scores with ties, some of them lost; the query's place; and a set of targets."""
    n = draw(st.integers(2, largest))
    scores = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.float64)
    scores[scores == 3] = np.inf
    skip = draw(st.integers(0, n - 1))
    others = [v for v in range(n) if v != skip]
    targets = draw(st.sets(st.sampled_from(others), min_size=1))
    return scores, skip, sorted(targets)


def statistics(scores, targets, skip, padding=2):
    """Statistics of one query, whose row has room for more targets than it has."""
    nearer, tied = (
        np.array([part + [0] * padding]) for part in oracle.counts(scores, targets, skip)
    )
    there = np.array([[True] * len(targets) + [False] * padding])
    return type(found := rank_statistics(nearer, tied, there))(*(part[0] for part in found))


@given(rankings(), st.integers(0, 2))
def test_rank_statistics__average_over_every_way_to_break_ties(case, padding):
    scores, skip, targets = case
    found = statistics(scores, targets, skip, padding)
    every = oracle.lost_last(oracle.orders(scores, skip), scores, targets)
    precisions = [oracle.average_precision(order, set(targets)) for order in every]
    sums = [oracle.rank_sum(order, set(targets)) for order in every]
    assert found.targets == len(targets)
    assert found.average_precision == pytest.approx(np.mean(precisions), rel=1e-12)
    assert (found.unlucky, found.lucky) == pytest.approx((min(precisions), max(precisions)))
    assert found.rank_sum == pytest.approx(np.mean(sums))


@given(rankings(largest=40))
def test_rank_statistics__ranks_are_at_least_1_and_bounds_are_in_order(case):
    scores, skip, targets = case
    found = statistics(scores, targets, skip)
    assert found.rank_sum >= len(targets)
    assert found.rank_sum <= len(targets) * (len(scores) - len(targets))
    assert found.unlucky - 1e-12 <= found.average_precision <= found.lucky + 1e-12
    finite = scores[np.isfinite(scores)]
    if len(set(finite)) == len(finite):
        assert found.unlucky == found.lucky == pytest.approx(found.average_precision)


@given(rankings(largest=12), st.data())
def test_rank_statistics__losing_targets_or_the_query_never_helps(case, data):
    scores, skip, targets = case
    before = statistics(scores, targets, skip)
    lost = data.draw(st.one_of(st.just(range(len(scores))), st.sets(st.sampled_from(targets))))
    hurt = scores.copy()
    hurt[list(lost)] = np.inf
    after = statistics(hurt, targets, skip)
    assert after.rank_sum >= before.rank_sum - 1e-9
    for name in ("average_precision", "unlucky", "lucky"):
        assert getattr(after, name) <= getattr(before, name) + 1e-12


@given(st.integers(1, 8), st.integers(0, 20))
def test_rank_statistics__of_a_lost_query_are_the_worst_there_are(targets, others):
    scores = np.full(1 + targets + others, np.inf)
    found = statistics(scores, list(range(1, 1 + targets)), 0)
    worst = list(range(1 + targets, len(scores))) + list(range(1, 1 + targets))
    relevant = set(range(1, 1 + targets))
    assert found.average_precision == pytest.approx(oracle.average_precision(worst, relevant))
    assert found.rank_sum == oracle.rank_sum(worst, relevant)


def test_rank_statistics__a_million_ties_are_worth_what_chance_is_worth():
    n = 1_000_001
    found = rank_statistics(np.array([[0]]), np.array([[n - 2]]), np.array([[True]]))
    # One target at a random one of n − 1 places: the mean of 1/place.
    assert found.average_precision[0] == pytest.approx(np.mean(1 / np.arange(1, n)), rel=1e-7)
    assert found.rank_sum[0] == (n - 1 + 1) / 2


@given(rankings(largest=12))
def test_rank_statistics__have_the_same_bits_in_a_row_with_more_room(case):
    scores, skip, targets = case
    assert statistics(scores, targets, skip, 0) == statistics(scores, targets, skip, 9)


def test_rank_statistics__one_place_far_behind_is_exact():
    nearer = 10**6 + np.arange(4)[None]
    found = rank_statistics(nearer, np.zeros_like(nearer), nearer > 0)
    expected = np.cumsum(np.arange(1, 5) / (nearer[0] + 1))[-1] / 4
    assert found.average_precision[0] == expected


@pytest.mark.parametrize("width", [0, 3])
def test_rank_statistics__nothing_to_rank_is_undefined(width):
    nothing = np.zeros((2, width), np.int64)
    found = rank_statistics(nothing, nothing, np.zeros((2, width), bool))
    for part in found:
        assert np.isnan(part).all()


@given(rankings(), st.integers(1, 6), st.sets(st.integers(0, 5)))
def test_share__is_the_mean_over_every_order(case, k, some):
    scores, skip, _ = case
    k = min(k, len(scores) - 1)
    others = np.delete(np.arange(len(scores)), skip)
    edge = np.sort(scores[others])[k - 1]

    def places(members):
        sure = sum(scores[v] < edge for v in members)
        tied = sum(scores[v] == edge and np.isfinite(edge) for v in members)
        return Places(np.array([sure]), np.array([tied]))

    found = share(places([v for v in others if v in some]), places(others), k)[0]
    # A lost candidate has a place in an order, but nobody counts it.
    counted = {v for v in some if v < len(scores) and np.isfinite(scores[v])}
    every = [len(counted & set(order[:k])) / k for order in oracle.orders(scores, skip)]
    assert found == pytest.approx(np.mean(every))
