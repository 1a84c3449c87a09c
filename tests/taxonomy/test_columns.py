"""The search for values in columns."""

import hypothesis.strategies as st
import polars as pl
import pytest
from hypothesis import given

from poincare_taxa.taxonomy import columns


@pytest.mark.parametrize("far", [0, 10**12])  # small numbers have a table, large ones are sorted
def test_find__in_text_and_numbers_agree(far):
    numbers = pl.Series([5 + far, 3 + far, 9 + far])
    wanted = pl.Series([9 + far, 4 + far, None, 3 + far, 10 + far])
    expected = [2, -1, -1, 1, -1]
    index = columns.sort(numbers)
    assert (index.values is None) == (far == 0)
    assert columns.find(index, wanted).tolist() == expected
    as_text = columns.sort(numbers.cast(pl.String))
    assert columns.find(as_text, wanted.cast(pl.String)).tolist() == expected


@given(
    st.lists(st.integers(-3, 60), unique=True, max_size=20),
    st.lists(st.none() | st.integers(-9, 99)),
)
def test_find__is_the_place_in_a_list(numbers, wanted):
    index = columns.sort(pl.Series(numbers, dtype=pl.Int64))
    expected = [numbers.index(number) if number in numbers else -1 for number in wanted]
    assert columns.find(index, pl.Series(wanted, dtype=pl.Int64)).tolist() == expected


@given(st.lists(st.integers(-1, 30)))
def test_count_distinct__is_the_size_of_the_set(numbers):
    assert columns.count_distinct(pl.Series(numbers, dtype=pl.Int64)) == len(set(numbers))
    texts = [str(number) for number in numbers]
    assert columns.count_distinct(pl.Series(texts, dtype=pl.String)) == len(set(texts))


def test_rank_column__keeps_an_enum_whose_categories_all_occur():
    ranks = pl.Series(["b", "a", "b"], dtype=pl.Enum(["a", "b"]))
    assert columns.rank_column(ranks, 3).dtype == ranks.dtype
    more = ranks.cast(pl.Enum(["c", "a", "b"]))
    assert columns.rank_column(more, 3).dtype == pl.Enum(["b", "a"])
    assert columns.rank_column(more.set(more == "a", None), 3).to_list() == ["b", "no rank", "b"]
