"""The radius penalty, recomputed, and its schedule."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks.regularizers import LinearRadius, NormRegularizer, Regularizer
from poincare_taxa.blocks.schedules import value_at

RADIUS, DEPTH = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64), torch.tensor([0, 1, 4])


@given(st.floats(0.05, 3), st.floats(0, 2))
def test_norm_regularizer__is_the_weighted_mean_square_distance_from_the_target(tau, weight):
    errors = [float(r) - tau * int(d) for r, d in zip(RADIUS, DEPTH, strict=True)]
    expected = weight * sum(error**2 for error in errors) / 3
    value = NormRegularizer(LinearRadius(tau), weight)(RADIUS, DEPTH)
    assert value.dtype == torch.float64
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_norm_regularizer__takes_any_target_and_is_zero_on_it():
    regularizer = NormRegularizer(target=lambda depth: 0.1 + 0.85 * depth / 4, weight=0.1)
    on_target = 0.1 + 0.85 * DEPTH.double() / 4
    assert float(regularizer(on_target, DEPTH)) == pytest.approx(0, abs=1e-30)
    assert float(regularizer(RADIUS, DEPTH)) > 0


def test_norm_regularizer__pulls_only_the_rows_it_is_given():
    radius = torch.tensor([1.0, 1.0, 1.0], requires_grad=True)
    rows = torch.tensor([0, 2])
    NormRegularizer(LinearRadius(1.0), 1.0)(radius[rows], torch.tensor([0, 2])).backward()
    assert radius.grad.tolist() == [1.0, 0.0, -1.0]


def test_norm_regularizer__follows_its_schedule():
    regularizer = NormRegularizer(LinearRadius(), weight=[(0, 0.1), (5, 0.01)])
    base = float(NormRegularizer(LinearRadius(), 1.0)(RADIUS, DEPTH))
    for epoch, weight in [(0, 0.1), (4, 0.1), (5, 0.01), (100, 0.01)]:
        assert float(regularizer.at(epoch)(RADIUS, DEPTH)) == pytest.approx(weight * base)
    assert NormRegularizer(weight=0.3).at(7) == NormRegularizer(weight=0.3)


def test_regularizers__are_values_that_fit_the_seam():
    regularizer = NormRegularizer(LinearRadius(0.5), weight=((0, 0.1), (2, 0.0)))
    assert isinstance(regularizer, Regularizer)
    assert pickle.loads(pickle.dumps(regularizer)) == regularizer
    with pytest.raises(AttributeError):
        regularizer.weight = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NormRegularizer(weight=-1), "weight must be at least 0; got -1"),
        (lambda: NormRegularizer(weight=[(0, 1), (3, -1)]), "weight must be at least 0"),
        (lambda: NormRegularizer(weight=[]), r"a schedule is \[\(0, value\)"),
        (lambda: LinearRadius(0), "tau must be positive; got 0"),
    ],
)
def test_regularizers__refuse_with_advice(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(st.lists(st.integers(1, 50), unique=True), st.integers(0, 60))
def test_value_at__is_that_of_the_last_step_begun(starts, epoch):
    schedule = [(start, f"from {start}") for start in [0, *sorted(starts)]]
    begun = max(start for start, _ in schedule if start <= epoch)
    assert value_at(schedule, epoch) == f"from {begun}"


@pytest.mark.parametrize(
    "schedule", [[], [(1, "a")], [(0, "a"), (0, "b")], [(0, 1), (5, 2), (3, 3)], "cosine", 0.5]
)
def test_value_at__refuses_what_is_no_schedule(schedule):
    with pytest.raises(ValueError, match="ascending epochs"):
        value_at(schedule, 0)
