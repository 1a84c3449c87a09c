"""Weights of neighbours: whole levels, against a loop."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.features.neighbours import neighbour_weights


@given(taxonomies(min_size=2), st.data())
def test_neighbour_weights__take_all_that_are_as_near_as_the_kth(tax, data):
    distance = tax.distance_matrix(tax.ids[0:5], tax.ids)
    k = data.draw(st.integers(1, len(tax)))
    tolerance = data.draw(st.sampled_from([0.0, 0.5, 1.0]))
    found = neighbour_weights(distance, k, tolerance=tolerance).toarray()
    for row, weights in zip(distance, found, strict=True):
        near = row <= sorted(row)[k - 1] + tolerance
        np.testing.assert_array_equal(weights, near / near.sum())


def test_neighbour_weights__a_product_predicts_whatever_the_order_of_taxa():
    distance, y = np.array([[1, 2, 2, 2, 4]]), np.array([1.0, 2.0, 3.0, 6.0, 100.0])
    assert (neighbour_weights(distance, 2) @ y).tolist() == [3.0]
    order = [4, 3, 2, 1, 0]
    assert (neighbour_weights(distance[:, order], 2) @ y[order]).tolist() == [3.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0, 2.0], 1), r"matrix \[q, m\]"),
        (([[1.0, np.nan]], 1), "without nan"),
        (([[1.0, 2.0]], 3), "from 1 to 2"),
        (([[1.0, 2.0]], 0), "got 0"),
        (([[1.0, 2.0]], 1, -1.0), "at least 0"),
    ],
)
def test_neighbour_weights__refuses_what_has_no_meaning(arguments, message):
    distance, k, *rest = arguments
    with pytest.raises(ValueError, match=message):
        neighbour_weights(distance, k, tolerance=rest[0] if rest else 0.0)
