"""Binary search in columns."""

import polars as pl

from poincare_taxa.taxonomy import columns


def test_find__in_text_and_numbers_agree():
    numbers = pl.Series([5, 3, 9])
    wanted = pl.Series([9, 4, None, 3, 10])
    expected = [2, -1, -1, 1, -1]
    assert columns.find(columns.sort(numbers), wanted).tolist() == expected
    as_text = columns.sort(numbers.cast(pl.String))
    assert columns.find(as_text, wanted.cast(pl.String)).tolist() == expected
