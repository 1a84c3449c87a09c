"""Numbers of some families: the bits of a generator that draws those of all."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from hypothesis import settings as hypothesis_settings

from poincare_taxa.shards.orientation import Orientation


@hypothesis_settings(deadline=None, max_examples=200)
@given(st.data(), st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 5))
def test_some_families__have_the_numbers_that_they_have_among_all(data, families, axes):
    seed = data.draw(st.integers(0, 2**40))
    rng, found = np.random.default_rng(seed), Orientation(seed, families, axes)
    for level, count in enumerate(families):
        if not count:
            continue
        uniform = rng.random((count, axes))
        sign = rng.integers(0, 2, (count, axes))
        chosen = data.draw(st.lists(st.integers(0, count - 1), min_size=1, unique=True).map(sorted))
        drawn = found.at(level, np.array(chosen))
        shape = len(chosen), axes
        np.testing.assert_array_equal(drawn.random(shape), uniform[chosen])
        np.testing.assert_array_equal(drawn.integers(0, 2, shape), sign[chosen])
