"""Parquet files in preorder: the arrays of the tree, or the row that is at fault."""

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from support.trees import taxonomies

from poincare_taxa.shards import source
from poincare_taxa.shards.source import Source, mapped_tree


@settings(max_examples=50, deadline=None)
@given(taxonomies(), st.integers(1, 7))
def test_write_tree__is_the_tree_of_the_taxonomy(tmp_path_factory, tax, rows):
    folder = tmp_path_factory.mktemp("tree")
    tax.to_frame().write_parquet(folder / "tax.parquet")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "_ROWS", rows)
        Source(folder / "tax.parquet").write_tree(folder)
    for name, array in zip(("parent", "end", "depth"), mapped_tree(folder), strict=True):
        np.testing.assert_array_equal(array, getattr(tax.tree, name))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": [1, 2]}, "no column parent"),
        ({"id": [1], "parent": [1], "branch_length": [0.5]}, "branch lengths"),
        ({"id": [], "parent": []}, "no rows"),
    ],
)
def test_source__refuses_what_is_none(tmp_path, columns, message):
    pl.DataFrame(columns).write_parquet(tmp_path / "tax.parquet")
    with pytest.raises(ValueError, match=message):
        Source(tmp_path / "tax.parquet")


def test_source__refuses_what_is_no_parquet(tmp_path):
    (tmp_path / "tax.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(ValueError, match="not a readable parquet file"):
        Source(tmp_path / "tax.parquet")


@pytest.mark.parametrize("parent", [[None, 1, 2, 1, 3], [None, 1, 9, 1, 1], [None, 1, None, 1, 1]])
def test_write_tree__names_the_first_row_that_is_not_in_preorder(tmp_path, parent):
    pl.DataFrame({"id": [1, 2, 3, 4, 5], "parent": parent}).write_parquet(tmp_path / "tax.parquet")
    row = 4 if parent[-1] == 3 else 2
    with pytest.raises(ValueError, match=f"row {row} .* is not in preorder"):
        Source(tmp_path / "tax.parquet").write_tree(tmp_path)


def test_write_tree__takes_a_root_that_is_its_own_parent(tmp_path):
    pl.DataFrame({"id": ["a", "b"], "parent": ["a", "a"]}).write_parquet(tmp_path / "tax.parquet")
    Source(tmp_path / "tax.parquet").write_tree(tmp_path)
    assert mapped_tree(tmp_path)[0].tolist() == [-1, 0]
