"""Laws of trees as arrays, against walks along the parents."""

import itertools
from dataclasses import FrozenInstanceError, replace

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from oracles.tree import lca, subtree, walk_up
from support.trees import phylogenies, taxonomies

from poincare_taxa.taxonomy import tree as tree_module
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import BranchLengthWarning, Tree


@given(taxonomies())
def test_arrays__parents_precede_children_one_level_above(tax):
    tree = tax.tree
    rows = np.arange(1, len(tree))
    assert tree.parent[0] == -1
    assert tree.depth[0] == 0
    assert (tree.parent[rows] < rows).all()
    assert (tree.depth[rows] == tree.depth[tree.parent[rows]] + 1).all()
    assert tree.max_depth == tree.depth.max()


@given(taxonomies())
def test_arrays__count_children_and_subtrees(tax):
    tree = tax.tree
    for node in range(len(tree)):
        below = subtree(tree.parent, node)
        assert below == set(range(node, tree.end[node]))
        assert tree.subtree_size[node] == len(below)
        assert tree.num_children[node] == (tree.parent == node).sum()


@given(taxonomies())
def test_is_ancestor__equals_walking_up(tax):
    tree = tax.tree
    n = len(tree)
    walked = [[a in walk_up(tree.parent, v) for v in range(n)] for a in range(n)]
    rows = np.arange(n)
    np.testing.assert_array_equal(tree.is_ancestor(rows[:, None], rows), walked)


@given(taxonomies())
def test_ancestors__are_as_many_as_the_depth(tax):
    tree = tax.tree
    for node in range(len(tree)):
        above = tree.ancestors(node)
        assert len(above) == tree.depth[node]
        assert above.tolist() == walk_up(tree.parent, node)[1:]


@given(taxonomies(), st.data())
def test_lineages__are_walks_up(tax, data):
    tree = tax.tree
    rows = data.draw(st.lists(st.integers(0, len(tree) - 1), max_size=5))
    found = tree.lineages(np.array(rows, np.int64))
    assert found.shape == (len(rows), max((tree.depth[v] + 1 for v in rows), default=0))
    for v, lineage in zip(rows, found.tolist(), strict=True):
        walk = walk_up(tree.parent, v)
        assert lineage == walk + [-1] * (len(lineage) - len(walk))


@given(taxonomies())
def test_ancestor_at_depth__is_the_one_on_the_walk_to_the_root(tax):
    tree = tax.tree
    depths = np.arange(-1, tree.max_depth + 2)
    found = tree.ancestor_at_depth(np.arange(len(tree))[:, None], depths)
    for node in range(len(tree)):
        at = {int(tree.depth[a]): a for a in walk_up(tree.parent, node)}
        assert found[node].tolist() == [at.get(depth, -1) for depth in depths.tolist()]
    assert tree.ancestor_at_depth(0, 0) == 0


@given(taxonomies(), st.randoms())
def test_nearest_marked__is_the_first_on_the_walk_to_the_root(tax, random):
    tree = tax.tree
    marked = np.array([random.random() < 0.3 for _ in range(len(tree))])
    found = tree.nearest_marked(marked)
    for node in range(len(tree)):
        having = [a for a in walk_up(tree.parent, node) if marked[a]]
        assert found[node] == (having[0] if having else -1)


@given(taxonomies())
def test_children_and_leaves__are_those_of_the_parents(tax):
    tree = tax.tree
    parents = set(tree.parent.tolist())
    for node in range(len(tree)):
        assert tree.children(node).tolist() == np.flatnonzero(tree.parent == node).tolist()
        assert tree.leaves(node).tolist() == sorted(subtree(tree.parent, node) - parents)
    assert tree.leaves().tolist() == tree.leaf_rows.tolist()


@given(taxonomies())
def test_lca__equals_brute_force_and_commutes_and_lies_above_both(tax):
    tree = tax.tree
    rows = np.arange(len(tree))
    found = tree.lca(rows[:, None], rows)
    expected = [[lca(tree.parent, u, v) for v in rows] for u in rows]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, found.T)
    assert (tree.depth[found] <= np.minimum(tree.depth[:, None], tree.depth)).all()
    assert tree.is_ancestor(found, rows).all()


@given(taxonomies(), st.data())
def test_distance_matrix__is_distance_of_all_pairs_in_any_order(tax, data):
    tree, rows = tax.tree, st.lists(st.integers(0, len(tax) - 1), max_size=6)
    left, right = np.array(data.draw(rows), int), np.array(data.draw(rows), int)
    wanted = tree.distance(left[:, None], right)
    np.testing.assert_array_equal(tree.distance_matrix(left, right), wanted)
    np.testing.assert_array_equal(tree.distance_matrix(left), tree.distance(left[:, None], left))


@given(taxonomies())
def test_distance__is_the_shortest_path(tax):
    tree = tax.tree.topology
    graph = nx.Graph(list(enumerate(tree.parent))[1:])
    graph.add_nodes_from(range(len(tree)))
    rows = np.arange(len(tree))
    found = tree.distance(rows[:, None], rows)
    for u, lengths in nx.all_pairs_shortest_path_length(graph):
        assert found[u].tolist() == [lengths[v] for v in rows]


def test_queries__of_single_rows_and_of_none(animals):
    tree = animals.tree
    assert tree.is_ancestor([], []).shape == tree.distance([], 0).shape == (0,)
    assert tree.lca(3, 5) == 0
    assert tree.lca(3, 2) == 2
    assert tree.distance(3, 5) == 5
    assert np.ndim(tree.lca(3, 5)) == 0
    assert tree.lca([], []).shape == (0,)
    assert tree.is_ancestor(0, 3)


@pytest.mark.parametrize("row", [-1, 7])
def test_queries__refuse_what_is_no_row(animals, row):
    tree = animals.tree
    for query in (tree.lca, tree.distance, tree.is_ancestor):
        with pytest.raises(ValueError, match="rows run from 0 to 6"):
            query(row, 0)
    for query in (tree.ancestors, tree.children, tree.leaves, tree.lineages, tree.subtree):
        with pytest.raises(ValueError, match="rows run from 0 to 6"):
            query(row)
    with pytest.raises(ValueError, match="rows run from 0 to 6"):
        tree.ancestor_at_depth(row, 0)
    with pytest.raises(ValueError, match="rows are whole numbers; got float64"):
        tree.lca(1.0, 2)


def test_arrays__cannot_be_written(animals):
    tree = animals.tree
    for array in (tree.parent, tree.end, tree.depth, tree.num_children):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3
    with pytest.raises(FrozenInstanceError):
        tree.depth = tree.depth[::-1]


@given(taxonomies(), st.data())
def test_subtree__is_the_slice_below_a_row(tax, data):
    tree = tax.tree
    row = data.draw(st.integers(0, len(tree) - 1))
    below = tree.subtree(row)
    rows = np.arange(row, tree.end[row])
    assert below.parent.tolist() == [-1, *(tree.parent[rows[1:]] - row)]
    assert below.end.tolist() == (tree.end[rows] - row).tolist()
    assert below.depth.tolist() == (tree.depth[rows] - tree.depth[row]).tolist()
    if tree.lengths is not None:
        np.testing.assert_array_equal(below.lengths, [np.nan, *tree.lengths[rows[1:]]])


def test_tree__refuses_arrays_of_different_lengths(animals):
    tree = animals.tree
    with pytest.raises(ValueError, match=r"differ in length: \[7, 6, 7\]"):
        Tree(tree.parent, tree.end[1:], tree.depth)


@given(taxonomies())
def test_taxonomy__has_the_arrays_of_its_tree(tax):
    for name in ("parent", "end", "depth", "num_children", "subtree_size"):
        assert getattr(tax, name) is getattr(tax.tree, name)
    assert tax.branch_lengths is tax.tree.lengths
    assert tax.max_depth == tax.tree.max_depth


@given(taxonomies(), st.data())
def test_lca__of_few_pairs_is_that_of_many(tax, data):
    row = st.integers(0, len(tax) - 1)
    i, j = (np.array(data.draw(st.lists(row, min_size=3, max_size=3))) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        found = []
        for few in (1e-9, 10**9):
            patch.setattr(tree_module, "_FEW", few)
            fresh = Tree(*(array.copy() for array in (tax.parent, tax.end, tax.depth)))
            found.append((fresh.lca(i, j).tolist(), fresh.lca(int(i[0]), int(j[0]))))
            assert ("_head" in vars(fresh)) == (few > 1)
    assert found[0] == found[1]


# -------------------------------------------------------------------- branch lengths


def all_pairs(tree):
    rows = np.arange(len(tree))
    return tree.distance(rows[:, None], rows)


@given(phylogenies())
def test_lengths__distance_is_the_shortest_weighted_path(tax):
    tree = tax.tree
    graph = nx.Graph()
    for row, (parent, length) in enumerate(zip(tree.parent, tree.lengths, strict=True)):
        if row:
            graph.add_edge(row, int(parent), weight=float(length))
    found = all_pairs(tree)
    for u, lengths in nx.all_pairs_dijkstra_path_length(graph):
        assert found[u].tolist() == [lengths[v] for v in range(len(tree))]
    np.testing.assert_array_equal(tree.distance_matrix(np.arange(len(tree))), found)
    assert tree.height.tolist() == found[0].tolist()
    assert tree.height.dtype == found.dtype == np.float64
    assert tree.mean_edge == (tree.lengths[1:].mean() or 1)
    assert tree.topology.mean_edge == 1


@given(phylogenies(max_size=12))
def test_lengths__distance_is_a_metric_of_a_tree(tax):
    """Symmetric, 0 to itself, triangle inequality, and the four-point condition [Buneman 1974]."""
    d = all_pairs(tax.tree)
    np.testing.assert_array_equal(d, d.T)
    assert not d.diagonal().any()
    assert (d >= 0).all()
    assert (d[:, None] <= d[:, :, None] + d[None]).all()
    for i, j, k, m in itertools.combinations(range(len(tax)), 4):
        sums = sorted([d[i, j] + d[k, m], d[i, k] + d[j, m], d[i, m] + d[j, k]])
        assert sums[1] == sums[2]


@given(phylogenies(), st.floats(1e-6, 1e6))
def test_lengths__a_unit_changes_the_scale_of_distances(tax, factor):
    scaled = replace(tax.tree, lengths=factor * tax.tree.lengths)
    np.testing.assert_allclose(
        all_pairs(scaled), factor * all_pairs(tax.tree), rtol=0, atol=1e-13 * factor * 8 * 80
    )


@given(taxonomies())
def test_lengths__of_1_count_edges_and_topology_has_none(tax):
    ones = replace(tax.tree, lengths=np.ones(len(tax)))
    np.testing.assert_array_equal(all_pairs(ones), all_pairs(tax.tree.topology))
    assert all_pairs(ones.topology).dtype == np.int32
    assert ones.topology.lengths is None
    assert tax.tree.topology.topology is tax.tree.topology
    assert ones.fingerprint == ones.topology.fingerprint == tax.tree.fingerprint


def test_lengths__that_are_none_are_told_with_their_number():
    parent, nan = [-1, 0, 1, 1, 0, 0], float("nan")
    tree = Taxonomy.from_parents(parent, branch_lengths=[5, -1, nan, 4, 2, -3]).tree
    with pytest.warns(BranchLengthWarning) as caught:
        found = tree.distance(0, np.arange(6))
    # Known are 0 (twice, of negative ones), 2 and 4: their median is 1.
    assert found.tolist() == [0, 0, 1, 4, 2, 0]
    (message,) = (str(one.message) for one in caught)
    assert "of 5 branch lengths 2 are negative and count as 0 (such as row 1)" in message
    assert "1 are missing and count as the median of the others, 1 (such as row 2)" in message
    assert np.isnan(tree.lengths[2])
    with pytest.raises(ValueError, match="branch length of row 1 is infinite"):
        Taxonomy.from_parents([-1, 0], branch_lengths=[0, np.inf]).tree.distance(0, 1)


@pytest.mark.filterwarnings("error")
def test_lengths__that_are_all_sound_are_taken_in_silence():
    tax = Taxonomy.from_parents([-1, 0, 0], ids=["r", "a", "b"], branch_lengths=[np.nan, 0, 0.25])
    assert tax.tree_distance("a", "b") == 0.25
    assert tax.tree_distance("a", ["b", "a"], edges=True).to_list() == [2, 0]
    assert tax.without_lengths().tree_distance("a", "b") == 2
    assert tax.without_lengths().ids.equals(tax.ids)
    assert tax.subtree("b").tree.height.tolist() == [0]
    assert tax.subtree("b").tree.mean_edge == 1
