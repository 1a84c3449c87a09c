"""What samplers are made of: each choice has exactly its weight."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks._random import Order, below, integer_weights

UNITS = st.lists(st.integers(0, 4), min_size=1, max_size=8).filter(any)


@given(UNITS, st.booleans(), st.data())
def test_order__gives_each_row_of_a_stretch_exactly_its_weight(units, permuted, data):
    n = len(units)
    rows = data.draw(st.permutations(range(n))) if permuted else list(range(n))
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n))
    order = Order.weighted(torch.tensor(rows) if permuted else None, torch.tensor(units))
    mass = int(order.mass(torch.tensor(start), torch.tensor(stop)))
    drawn = order.at(torch.tensor(start), torch.arange(mass)).tolist()
    assert drawn == [row for row in rows[start:stop] for _ in range(units[row])]


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20).filter(lambda w: max(w) > 1e-3))
def test_integer_weights__keep_proportions_and_lose_no_positive_weight(weights):
    units = integer_weights(torch.tensor(weights, dtype=torch.float64))
    total = sum(weights)
    for weight, unit in zip(weights, units.tolist(), strict=True):
        assert (unit > 0) == (weight > 0)
        assert unit / 2**40 == pytest.approx(weight / total, rel=1e-6, abs=2**-39)


@given(st.lists(st.integers(0, 2**62), min_size=1), st.integers(0, 99))
def test_below__stays_below_and_is_0_where_there_is_nothing(limits, seed):
    drawn = below(torch.tensor(limits), torch.Generator().manual_seed(seed))
    for value, limit in zip(drawn.tolist(), limits, strict=True):
        assert 0 <= value < max(limit, 1)
