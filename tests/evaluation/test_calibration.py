"""Probabilities of scores: laws of isotonic regression, and reliability by hand."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.evaluation.calibration import calibrate, reliability

SAMPLES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=1, max_size=40)


def best_falling(score, positive):
    """Isotonic values by the max–min formula, one pair of bounds after the other [ABERS55]."""
    values = np.unique(score)
    means = {}
    for i, low in enumerate(values):
        for high in values[i:]:
            means[low, high] = positive[(score >= low) & (score <= high)].mean()
    return np.array(
        [min(max(means[s, t] for t in values if t >= v) for s in values if s <= v) for v in values]
    )


@given(SAMPLES)
def test_calibrate__is_the_best_falling_function(sample):
    score, positive = np.array(sample, float).T
    found = calibrate(score, positive)
    expected = best_falling(score, positive)
    bound = 1 / (len(score) + 2)
    np.testing.assert_allclose(
        found(np.unique(score)), np.clip(expected, bound, 1 - bound), atol=1e-12
    )
    assert (np.diff(found(np.linspace(-9, 9, 99))) <= 1e-15).all()


def test_calibration__is_not_changed_in_place():
    found = calibrate([0, 1], [True, False])
    with pytest.raises(FrozenInstanceError):
        found.probability = (1.0, 0.0)


def test_calibrate__leaves_scores_out_that_are_not_finite():
    assert calibrate([0, 1, np.nan, np.inf], [True, False, False, True]) == calibrate(
        [0, 1], [True, False]
    )
    assert np.isnan(calibrate([0, 1], [True, False])(np.nan))
    with pytest.raises(ValueError, match="no pair has a finite score"):
        calibrate([np.nan], [True])


def test_calibrate__of_its_own_sample_is_reliable():
    rng = np.random.default_rng(0)
    score = rng.normal(size=20_000)
    positive = rng.random(20_000) < 1 / (1 + np.exp(3 * score))
    fresh = rng.normal(size=20_000)
    truth = 1 / (1 + np.exp(3 * fresh))
    found = calibrate(score, positive)(fresh)
    # Isotonic regression of n samples is off by about n^(-1/3) [.037] in the mean.
    assert np.abs(found - truth).mean() < 0.037
    judged = reliability(found, rng.random(20_000) < truth)
    # Plus the binomial error of ten bins: sum over bins of sqrt(p (1 - p) / n_bin) n_bin / n.
    assert judged.calibration_error < 0.037 + np.sqrt(10 / 20_000) / 2


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30))
def test_reliability__is_what_its_definitions_are(sample):
    p, true = np.array(sample).T
    true = true.astype(bool)
    if true.all() or not true.any():
        with pytest.raises(ValueError, match="both positives and negatives"):
            reliability(p, true)
        return
    found = reliability(p, true)
    error = sum(
        abs((p - true)[np.minimum((10 * p).astype(int), 9) == b].sum()) for b in range(10)
    ) / len(p)
    wins = np.mean([(a > b) + (a == b) / 2 for a in p[true] for b in p[~true]])
    assert found.calibration_error == pytest.approx(error, abs=1e-12)
    assert found.brier == pytest.approx(np.mean((p - true) ** 2))
    assert found.auc == pytest.approx(wins)
    place = np.minimum((10 * p).astype(int), 9)
    expected = [
        (p[place == b].mean(), true[place == b].mean(), (place == b).sum())
        for b in range(10)
        if (place == b).any()
    ]
    np.testing.assert_allclose(found.bins.to_numpy(), expected, atol=1e-12)


@pytest.mark.parametrize("wrong", [np.nan, -1e-9, 1 + 1e-9])
def test_reliability__refuses_what_is_no_probability(wrong):
    with pytest.raises(ValueError, match="outside, or nan"):
        reliability([0.5, wrong], [True, False])


def test_reliability__has_a_bin_for_probabilities_of_1_and_of_other_widths():
    found = reliability([0.95, 1.0, 0.05, 0.85], [True, True, False, False])
    assert found.bins["pairs"].to_list() == [1, 1, 2]
    found = reliability([0.95, 1.0, 0.05, 0.85], [True, True, False, False], bins=2)
    assert found.bins["pairs"].to_list() == [1, 3]


def test_reliability__cannot_be_written():
    found = reliability([0.1, 0.8], [False, True])
    with pytest.raises(FrozenInstanceError):
        found.auc = 1.0
