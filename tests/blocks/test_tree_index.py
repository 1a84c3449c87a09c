"""The tensors answer as the taxonomy does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from oracles.tree import walk_up
from support.sampling import TREE, ancestors, descendants
from support.trees import phylogenies, taxonomies

from poincare_taxa.blocks.curriculum import Curriculum, balanced_depths
from poincare_taxa.blocks.negatives import (
    CousinNegatives,
    SameDepthNegatives,
    SharedNegatives,
    UniformNegatives,
)
from poincare_taxa.blocks.pairs import (
    AncestorPairs,
    LCAPairs,
    LCATriplets,
    ParentChildPairs,
    StratifiedPairs,
)
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy


def all_pairs(tax):
    rows = torch.arange(len(tax))
    return rows[:, None], rows[None, :]


@given(taxonomies())
def test_ancestor__is_the_node_of_that_depth_on_the_walk_to_the_root(tax):
    tree = TreeIndex(tax)
    for v in range(len(tax)):
        walk = walk_up(tax.parent, v)[::-1]
        found = tree.ancestor(torch.tensor(v), torch.arange(len(walk)))
        assert found.tolist() == walk


@given(taxonomies())
def test_distance_and_lca__agree_with_the_taxonomy(tax):
    u, v = all_pairs(tax)
    tree = TreeIndex(tax)
    np.testing.assert_array_equal(tree.distance(u, v), tax.tree.distance(u.numpy(), v.numpy()))
    np.testing.assert_array_equal(
        tree.lca_depth(u, v), tax.depth[tax.tree.lca(u.numpy(), v.numpy())]
    )
    np.testing.assert_array_equal(
        tree.is_ancestor(u, v), tax.tree.is_ancestor(u.numpy(), v.numpy())
    )


@given(phylogenies())
def test_distance__of_branch_lengths_agrees_with_the_taxonomy(tax):
    u, v = all_pairs(tax)
    tree = TreeIndex(tax)
    found = tree.distance(u, v)
    assert found.dtype == torch.float64
    np.testing.assert_array_equal(found, tax.tree.distance(u.numpy(), v.numpy()))
    edges = tax.tree.height[1:] - tax.tree.height[tax.parent[1:]]
    assert tree.mean_edge == pytest.approx(edges.mean() or 1)
    assert TreeIndex(tax.without_lengths()).mean_edge == 1


@given(taxonomies())
def test_stretch__holds_the_subtree_at_that_depth(tax):
    tree = TreeIndex(tax)
    for v in range(len(tax)):
        inside = descendants(tax, v) | {v}
        for depth in range(tax.max_depth + 1):
            start, stop = tree.stretch(torch.tensor(v), torch.tensor(depth))
            members = tree.level_order[start:stop].tolist()
            assert members == sorted(w for w in inside if tax.depth[w] == depth)


@given(taxonomies())
def test_postorder__has_the_nodes_to_the_left_before_the_subtree(tax):
    tree = TreeIndex(tax)
    for v in range(len(tax)):
        left = set(tree.postorder[: v - int(tax.depth[v])].tolist())
        assert left == set(range(v)) - ancestors(tax, v)


@pytest.mark.parametrize("depth", [127, 128, 300])
def test_lca_depth__holds_in_trees_deeper_than_a_byte(depth):
    tax = Taxonomy.from_parents([*range(-1, depth), depth - 1])  # a path with a fork at its end
    tree = TreeIndex(tax)
    assert tree.max_depth == depth
    assert int(tree.lca_depth(torch.tensor(depth), torch.tensor(depth + 1))) == depth - 1


def test_of__indexes_once():
    tree = TreeIndex.of(TREE)
    assert TreeIndex.of(tree) is tree
    with pytest.raises(TypeError, match=r"a Taxonomy .* or its tree is needed; got str"):
        TreeIndex.of("mammals")


SOURCES = {"taxonomy": TREE, "tree": TREE.tree, "index": TreeIndex(TREE)}
BLOCKS = {
    "AncestorPairs": AncestorPairs,
    "ParentChildPairs": ParentChildPairs,
    "StratifiedPairs": lambda source: StratifiedPairs(source, balanced_depths(source), by="depth"),
    "LCAPairs": LCAPairs,
    "LCATriplets": LCATriplets,
}


@pytest.mark.parametrize("block", BLOCKS)
def test_samplers__draw_the_same_of_a_taxonomy_its_tree_and_an_index(block):
    drawn = [
        BLOCKS[block](source).sample(20, generator=torch.Generator().manual_seed(0))
        for source in SOURCES.values()
    ]
    assert drawn[0].equal(drawn[1])
    assert drawn[0].equal(drawn[2])


@pytest.mark.parametrize(
    "negatives", [UniformNegatives, SameDepthNegatives, CousinNegatives, SharedNegatives]
)
def test_negatives__draw_the_same_of_a_taxonomy_its_tree_and_an_index(negatives):
    pairs = AncestorPairs(TREE)[list(range(5))]
    drawn = [
        negatives(source, 3)(pairs, torch.Generator().manual_seed(0)) for source in SOURCES.values()
    ]
    for other in drawn[1:]:
        assert all(mine.equal(theirs) for mine, theirs in zip(drawn[0], other, strict=True))


@pytest.mark.parametrize("make", [Curriculum.top_down, Curriculum.progressive])
def test_curriculum__is_the_same_of_a_taxonomy_its_tree_and_an_index(make):
    first, *others = (make(12, source) for source in SOURCES.values())
    assert others == [first, first]


def test_to__copies_every_tensor():
    tree = TreeIndex(TREE)
    tree.distance(*all_pairs(TREE))
    twin = tree.to("meta")
    assert all(t.device.type == "meta" for t in vars(twin).values() if isinstance(t, torch.Tensor))
    assert tree.device.type == "cpu"
