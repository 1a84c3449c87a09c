"""Cuts, and a tree in slices: the answers of the whole tree, in every process."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from support.processes import in_threads
from support.trees import taxonomies

from poincare_taxa.processes.group import Processes
from poincare_taxa.shards.slices import (
    ScatteredTree,
    Slice,
    children_of,
    cuts,
    local_tree,
    rows_above,
)
from poincare_taxa.testing import synthetic_taxonomy

TREES = st.one_of(taxonomies(min_size=4), st.just(synthetic_taxonomy(300))).map(
    lambda tax: tax.tree.topology
)


def scattered(tree, size, rank) -> ScatteredTree:
    """The tree as a process has it: its slice, and ancestors of the first row."""
    bounds = cuts(tree.parent, tree.end, size)
    start, stop = bounds[rank : rank + 2]
    rows = np.array([*rows_above(tree.parent, start), *range(start, stop)])
    part = Slice(rows, local_tree((tree.parent, tree.end, tree.depth), rows), start, stop)
    return ScatteredTree(part, Processes.joined())


@settings(max_examples=50, deadline=None)
@given(TREES, st.integers(1, 4))
def test_cuts__are_even_and_leave_small_clades_whole(tree, slices):
    bounds, n = cuts(tree.parent, tree.end, slices), len(tree)
    assert bounds[0] == 0
    assert bounds[-1] == n
    assert (np.diff(bounds) > 0).all()
    assert np.diff(bounds).max() <= n / slices * (1 + 1 / 8) + 1
    for row in bounds[1:-1]:
        through = [a for a in rows_above(tree.parent, row) if a != row]
        assert all(tree.end[a] - a > n // (8 * slices) for a in through)


def test_cuts__need_a_row_for_each_slice():
    tree = synthetic_taxonomy(3).tree
    with pytest.raises(ValueError, match="3 taxa cannot be cut into 4 slices"):
        cuts(tree.parent, tree.end, 4)


@settings(max_examples=30, deadline=None)
@given(TREES, st.data())
def test_children_of__are_those_whose_parent_it_is(tree, data):
    above = np.unique(data.draw(st.lists(st.integers(0, len(tree) - 1), max_size=5)))
    expected = np.flatnonzero(np.isin(tree.parent, above))
    np.testing.assert_array_equal(children_of(tree.parent, above.astype(np.int64)), expected)


@settings(max_examples=40, deadline=None)
@given(TREES, st.integers(1, 4), st.integers(0, 2**32))
def test_scattered_tree__is_the_tree(tree, size, seed):
    rng = np.random.default_rng(seed)
    rows = rng.integers(0, len(tree), 6)
    others = rng.integers(0, len(tree), (6, 5))
    depth = rng.integers(0, tree.max_depth + 1, 6)

    def program(rank):
        found = scattered(tree, size, rank)
        assert (len(found), found.max_depth) == (len(tree), tree.max_depth)
        for name in ("depth", "end", "subtree_size"):
            np.testing.assert_array_equal(getattr(found, name)[others], getattr(tree, name)[others])
        np.testing.assert_array_equal(found.lineages(rows), tree.lineages(rows))
        for name in ("lca", "distance"):
            expected = getattr(tree, name)(rows[:, None], others)
            np.testing.assert_array_equal(getattr(found, name)(rows[:, None], others), expected)
        inside = [tree.depth[r : tree.end[r]] == d for r, d in zip(rows, depth, strict=True)]
        np.testing.assert_array_equal(found.members(rows, depth), [x.sum() for x in inside])
        for row, children in zip(rows, found.children(rows), strict=True):
            assert children[children >= 0].tolist() == tree.children(row).tolist()

    in_threads(size, program)
