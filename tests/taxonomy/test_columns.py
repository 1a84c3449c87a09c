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


def test_string_column__is_null_where_empty():
    for values in (["a", "", None, "b"], ["", ""], ["a"], [7, None]):
        expected = [None if value in ("", None) else str(value) for value in values]
        assert columns.string_column("name", values, len(values)).to_list() == expected
    assert columns.string_column("name", None, 2).to_list() == [None, None]


def test_whole_numbers__that_no_int64_holds_are_missing():
    for far in (1e30, -1e30, float("inf"), float("nan")):
        assert columns.whole_numbers(pl.Series([far, 2.0])).to_list() == [None, 2]
    halves = pl.Series([1.5, 2.0])
    assert columns.whole_numbers(halves) is halves


def test_rank_column__keeps_an_enum_whose_categories_all_occur():
    ranks = pl.Series(["b", "a", "b"], dtype=pl.Enum(["a", "b"]))
    assert columns.rank_column(ranks, 3).dtype == ranks.dtype
    more = ranks.cast(pl.Enum(["c", "a", "b"]))
    assert columns.rank_column(more, 3).dtype == pl.Enum(["b", "a"])
    assert columns.rank_column(more.set(more == "a", None), 3).to_list() == ["b", "no rank", "b"]


def test_rank_column__has_its_categories_in_order_of_appearance():
    ranks = [f"rank {k * 37 % 101}" for k in range(101)]
    found = columns.rank_column([*ranks, "", *ranks], 203)
    assert found.dtype == pl.Enum([*ranks, "no rank"])
    assert found.to_list() == [*ranks, "no rank", *ranks]


def test_as_id__is_none_where_no_such_id_can_be():
    for key in (2**63, -(2**63), "9" * 19, "a", "1.0", ""):
        assert columns.as_id(key, pl.Int64()) is None
    assert columns.as_id(2**63 - 1, pl.Int64()) == 2**63 - 1
    assert columns.as_id("-7", pl.Int64()) == -7
    assert columns.as_id(7, pl.String()) == "7"
