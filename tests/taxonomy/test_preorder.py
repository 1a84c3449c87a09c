"""Trees that are in preorder already, against the sort of trees in any order."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy import preorder, taxonomy
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError


@given(taxonomies())
def test_as_it_is__is_the_tree_that_sorting_makes(tax):
    parent = tax.tree.parent.astype(np.int64)
    found, wanted = preorder.as_it_is(parent), preorder.renumber(parent, 0)
    assert found is not None
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    own = np.where(parent < 0, 0, parent)  # a root may be its own parent
    np.testing.assert_array_equal(preorder.as_it_is(own).parent, tax.tree.parent)


@given(st.lists(st.integers(-1, 7), max_size=8).map(lambda others: [-1, *others]))
def test_as_it_is__is_none_unless_the_nodes_are_in_preorder(parent):
    parent = np.array(parent)
    rows = np.arange(len(parent))
    is_tree = bool(((parent[1:] >= 0) & (parent[1:] < rows[1:])).all())
    is_sorted = is_tree and bool((preorder.renumber(parent, 0).order == rows).all())
    assert (preorder.as_it_is(parent) is not None) == is_sorted


def test_as_it_is__of_a_deep_chain_and_a_star():
    n = 10**5
    for parent in (np.arange(-1, n - 1), np.r_[-1, np.zeros(n - 1, np.int64)]):
        for mine, theirs in zip(
            preorder.as_it_is(parent), preorder.renumber(parent, 0), strict=True
        ):
            np.testing.assert_array_equal(mine, theirs)


@given(taxonomies())
def test_heavy_heads__are_the_tops_of_paths_through_the_first_of_the_largest_children(tax):
    tree = tax.tree
    head = preorder.heavy_heads(tree.parent, tree.end)
    for node in range(len(tree)):
        top = node
        while top and top == max(
            tree.children(tree.parent[top]), key=lambda c: tree.subtree_size[c]
        ):
            top = int(tree.parent[top])
        assert head[node] == top


@pytest.mark.parametrize("parent", [[-1, 0, -1], [0, 1], [-1, 2, 1], [1, 0]])
def test_from_parents__of_many_refuses_what_is_no_tree(parent, monkeypatch):
    monkeypatch.setattr(taxonomy, "_MANY", 0)
    with pytest.raises(TaxonomyError):
        Taxonomy.from_parents(parent)


@given(taxonomies())
def test_from_parents__of_many_is_that_of_few(tax):
    columns = {"ids": tax.ids, "names": tax.names, "taxon_ranks": tax.taxon_ranks}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(taxonomy, "_MANY", 0)
        found = Taxonomy.from_parents(tax.parent, **columns)
    assert found.tree.fingerprint == tax.tree.fingerprint
    assert found.to_frame().equals(tax.to_frame())
