"""Members of subtrees by depth, and lineages, against walks."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from oracles.tree import walk_up
from support.trees import taxonomies

from poincare_taxa.taxonomy.levels import Levels, lineages


@given(taxonomies(), st.integers(0, 2**32 - 1))
def test_levels__count_the_members_of_a_subtree_at_a_depth(tax, seed):
    tree = tax.tree
    labels = np.random.default_rng(seed).integers(-1, 3, len(tree))
    plain, labelled = Levels(tree.end, tree.depth), Levels(tree.end, tree.depth, labels)
    node, depth = (part.ravel() for part in np.indices((len(tree), tree.max_depth + 3)))
    found = plain.count(node, depth)
    of_label = {
        label: labelled.count(node, depth, np.full(len(node), label)) for label in (-1, 2, 7)
    }
    for i, (v, d) in enumerate(zip(node, depth, strict=True)):
        members = [w for w in range(v, tree.end[v]) if tree.depth[w] == d]
        assert found[i] == len(members)
        for label, counts in of_label.items():
            assert counts[i] == sum(labels[w] == label for w in members)


@given(taxonomies(), st.data())
def test_lineages__are_walks_up(tax, data):
    rows = data.draw(st.lists(st.integers(0, len(tax) - 1), max_size=5))
    found = lineages(tax.tree.parent, np.array(rows, np.int64))
    assert found.shape == (len(rows), max((tax.tree.depth[v] + 1 for v in rows), default=0))
    for v, lineage in zip(rows, found.tolist(), strict=True):
        walk = walk_up(tax.tree.parent, v)
        assert lineage == walk + [-1] * (len(lineage) - len(walk))
