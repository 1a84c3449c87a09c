"""Members of subtrees by depth, against walks."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy.levels import Levels


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
