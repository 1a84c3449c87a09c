"""Laws of trees, and what `Taxonomy` answers about taxa."""

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given
from oracles.tree import preorder
from support.trees import parents, phylogenies, taxonomies

from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError
from poincare_taxa.taxonomy.tree import BranchLengthWarning


def assert_same(a, b):
    for array in ("parent", "end", "depth"):
        np.testing.assert_array_equal(getattr(a, array), getattr(b, array))
    assert a.ids.equals(b.ids, check_dtypes=True)
    assert a.names.equals(b.names)
    assert a.taxon_ranks.cast(pl.String).equals(b.taxon_ranks.cast(pl.String))


# ------------------------------------------------------------------ the tree


@given(parents())
def test_from_parents__is_the_depth_first_walk_of_the_input(parent):
    tax = Taxonomy.from_parents(parent)
    order = preorder(parent)
    assert tax.ids.to_list() == order
    place = {node: row for row, node in enumerate(order)}
    assert tax.parent.tolist() == [-1, *(place[parent[node]] for node in order[1:])]


@pytest.mark.parametrize("shape", ["path", "caterpillar", "star", "random"])
def test_from_parents__large_trees_of_extreme_shape(shape):
    n = 100_001
    i = np.arange(1, n)
    below = {
        "path": i - 1,
        "caterpillar": np.maximum(i - 2 + i % 2, 0),
        "star": np.zeros(n - 1, int),
        "random": np.random.default_rng(0).integers(0, i),
    }[shape]
    tax = Taxonomy.from_parents([-1, *below])
    rng = np.random.default_rng(1)
    u, v = rng.integers(0, n, (2, 1000))
    tree = tax.tree
    a = tree.lca(u, v)
    assert (tree.is_ancestor(a, u) & tree.is_ancestor(a, v)).all()
    # No child of the lca lies above both: the lca is the lowest.
    lower = (u != a) & (v != a) & (tax.depth[a] < np.minimum(tax.depth[u], tax.depth[v]))
    for k in np.flatnonzero(lower)[:20]:
        towards_u = [b for b in tree.ancestors(u[k]) if tax.parent[b] == a[k]]
        assert not any(tree.is_ancestor(b, v[k]) for b in towards_u)
    if shape != "random":
        assert tax.max_depth == {"path": n - 1, "caterpillar": n // 2, "star": 1}[shape]


@given(taxonomies(), st.data())
def test_prune__keeps_taxa_with_their_ancestors(tax, data):
    some = data.draw(st.sets(st.integers(0, len(tax) - 1)))
    pruned = tax.prune([tax.ids[row] for row in some])
    above = {0}.union(*({row, *map(int, tax.tree.ancestors(row))} for row in some))
    assert pruned.ids.to_list() == [tax.ids[row] for row in sorted(above)]
    parents = tax.ids.gather(tax.parent[sorted(above)][1:])
    assert pruned.ids.gather(pruned.parent[1:]).to_list() == parents.to_list()
    if len(above) > 1:
        deepest = np.setdiff1d(sorted(above), tax.parent[sorted(above)])
        with pytest.raises(ValueError, match="need those of all their ancestors"):
            tax.at_rows(np.setdiff1d(sorted(above), tax.parent[deepest]))


# ------------------------------------------------------------------ construction


@given(taxonomies(), st.randoms())
def test_from_frame__restores_to_frame_in_any_row_order(tax, random):
    frame = tax.to_frame()
    assert_same(Taxonomy.from_frame(frame), tax)
    rows = list(range(len(tax)))
    random.shuffle(rows)
    shuffled = Taxonomy.from_frame(frame[rows])
    assert sorted(shuffled.to_frame().rows(), key=str) == sorted(frame.rows(), key=str)


@given(taxonomies())
def test_from_networkx__restores_to_networkx(tax):
    graph = tax.to_networkx()
    assert nx.is_arborescence(graph)
    again = Taxonomy.from_networkx(graph)
    assert_same(again, tax)
    if tax.branch_lengths is not None and len(tax) > 1:
        np.testing.assert_array_equal(again.branch_lengths, tax.branch_lengths)


@given(taxonomies(min_size=2))
def test_from_networkx__hangs_an_undirected_tree_from_its_root(tax):
    again = Taxonomy.from_networkx(tax.to_networkx().to_undirected(), root=tax.ids[0])
    assert sorted(again.to_frame()["id", "parent"].rows(), key=str) == sorted(
        tax.to_frame()["id", "parent"].rows(), key=str
    )


@given(taxonomies())
def test_relabelling__changes_nothing_but_labels(tax):
    ids = [f"x{i}" for i in range(len(tax))]
    again = Taxonomy.from_parents(tax.parent, ids=ids)
    for array in ("parent", "end", "depth", "num_children"):
        np.testing.assert_array_equal(getattr(again, array), getattr(tax, array))
    assert again.ids.to_list() == ids


@given(taxonomies(), st.data())
def test_subtree__is_the_slice_below_a_node(tax, data):
    top = data.draw(st.integers(0, len(tax) - 1))
    cut = tax.subtree(tax.ids[top])
    rows = slice(top, int(tax.end[top]))
    expected = tax.to_frame()[rows].with_columns(
        parent=pl.when(pl.col("id") == tax.ids[top]).then(None).otherwise("parent")
    )
    assert_same(cut, Taxonomy.from_frame(expected))
    assert cut.ids.equals(tax.ids[rows])
    if tax.branch_lengths is not None:
        np.testing.assert_array_equal(cut.branch_lengths[1:], tax.branch_lengths[rows][1:])
        assert np.isnan(cut.branch_lengths[0])


def test_subtree__keeps_the_synonyms_inside(animals):
    insects = animals.subtree("Insecta")
    assert insects.rows("fly") == insects.rows(50)
    assert insects.rows("cat") == insects.rows(60)
    with pytest.raises(TaxonomyError, match="no taxon"):
        insects.rows("mammals")
    with pytest.raises(TypeError, match="a subtree is that of one taxon; got 2 keys"):
        animals.subtree([10, 20])


@pytest.mark.parametrize(
    ("parent", "why", "row"),
    [
        ([], "there are no nodes", None),
        ([-1, 0, 3, 2], "cycle of 2: c → d → c", 2),
        ([1, 2, 0], "cycle of 3: a → b → c → a", 0),
        ([1, 2, 3, 4, 5, 0], "cycle of 6: a → b → c → d → e → f → a; one", 0),
        ([1, 2, 3, 4, 5, 6, 7, 0], "cycle of 8: a → b → c → d → e → … → a; one", 0),
        ([-1, 0, -1], "2 trees, with the roots a, c", 2),
        ([-1, 1, 0], "b is its own parent, but the root is a", 1),
        ([0, 0, 2], "2 trees", 2),
        ([-1, 0, 7], "parent 7 of c is no node", 2),
        ([-1, -2], "parent -2 of b is no node", 1),
    ],
)
def test_from_parents__says_what_is_no_tree(parent, why, row):
    with pytest.raises(TaxonomyError, match=why) as error:
        Taxonomy.from_parents(parent, ids=list("abcdefgh"[: len(parent)]))
    assert error.value.row == row


@pytest.mark.parametrize("parent", [[-1.0, 0.0, np.nan], [None, 0, 0], ["", "a", "a"]])
def test_from_parents__asks_for_whole_numbers(parent):
    with pytest.raises(TaxonomyError, match="positions of nodes, whole numbers, -1 at the root"):
        Taxonomy.from_parents(parent)


@pytest.mark.parametrize("column", ["ids", "names", "taxon_ranks", "branch_lengths"])
def test_from_parents__asks_for_an_entry_of_each_node(column):
    with pytest.raises(TaxonomyError, match=f"1 {column} for 2 nodes; give one for each"):
        Taxonomy.from_parents([-1, 0], **{column: [1]})


def test_from_parents__names_the_first_row_whose_id_is_there_already():
    with pytest.raises(TaxonomyError, match="id 'b' occurs twice, in rows 1 and 3") as error:
        Taxonomy.from_parents([-1, 0, 0, 0], ids=list("abcb"))
    assert error.value.row == 3


def test_from_parents__accepts_a_root_that_is_its_own_parent():
    assert Taxonomy.from_parents([1, 1, 0]).ids.to_list() == [1, 0, 2]


@pytest.mark.parametrize(
    ("ids", "parents", "why"),
    [
        ([1, 2, 1], [None, 1, 1], "id 1 occurs twice, in rows 0 and 2"),
        ([1, 2, 3, 2, 3], [None, 1, 1, 1, 1], "id 2 occurs twice, in rows 1 and 3, and 1 more"),
        (["a", "b"], [None, "z"], "parent z of b is no node here"),
        ([1, 2], [None, 9], "parent 9 of 2 is no node here"),
        ([1, None], [None, 1], "row 1: None is not an id"),
        (["a", ""], [None, "a"], "row 1: '' is not an id"),
        ([1, 2], ["", "x"], "parent x of 2 is no node"),
        ([], [], "there are no nodes"),
    ],
)
def test_from_frame__names_the_row_at_fault(ids, parents, why):
    with pytest.raises(TaxonomyError, match=why):
        Taxonomy.from_frame(pl.DataFrame({"id": ids, "parent": parents}))


def test_from_frame__needs_its_columns():
    with pytest.raises(TaxonomyError, match=r"no column \['parent'\]"):
        Taxonomy.from_frame(pl.DataFrame({"id": [1]}))


# ------------------------------------------------------------------ looking taxa up


def test_lineage__runs_from_the_root_to_the_node(animals):
    assert animals.lineage(40) == "root; Mammalia; Felis; Felis catus"
    nameless = Taxonomy.from_parents([-1, 0], ids=["a", "b"], names=["Life", None])
    assert nameless.lineage("b") == "Life; b"


def test_repr__tells_size_depth_and_root(animals):
    assert repr(animals) == "Taxonomy(7 nodes, max depth 3, root 1 'root')"


def test_from_edges__takes_arrays_of_objects_and_tensors():
    expected = [(1, None), (2, 1), (3, 1)]
    objects = np.array([[1, None], [2, 1], [3, 1]], dtype=object)
    for edges in (objects, torch.tensor([[1, -1], [2, 1], [3, 1]]), np.array(expected, float)):
        assert Taxonomy.from_edges(edges).to_frame()["id", "parent"].rows() == expected
    tax = Taxonomy.from_parents([-1, 0], ids=torch.tensor([5, 7]))
    assert tax.ids.to_list() == [5, 7]


@pytest.mark.parametrize(
    ("edges", "message"),
    [
        ([{"child": 1, "parent": 2}], r"edge 0 is .* not \(child, parent\)"),
        ({"cat": "mammal"}, r"edge 0 is 'cat', not \(child, parent\)"),
        ([5], "edge 0 is 5"),
    ],
)
def test_from_edges__refuses_what_are_no_pairs(edges, message):
    with pytest.raises(TaxonomyError, match=message):
        Taxonomy.from_edges(edges)


def test_from_frame__minus_one_is_no_parent_and_rank_is_a_taxon_rank():
    tax = Taxonomy.from_frame(
        pl.DataFrame({"id": [0, 1], "parent": [-1, 0], "rank": ["no rank", "genus"]})
    )
    assert tax.to_frame()["parent"].to_list() == [None, 0]
    assert tax.taxon_ranks.to_list() == ["no rank", "genus"]
    negative = pl.DataFrame({"id": [-1, 1], "parent": [None, -1]})
    assert Taxonomy.from_frame(negative).to_frame()["parent"].to_list() == [None, -1]


def test_from_frame__refuses_lengths_that_are_no_numbers_and_columns_of_one_name():
    frame = pl.DataFrame({"id": [1, 2], "parent": [None, 1], "branch_length": ["NA", "x"]})
    with pytest.raises(TaxonomyError, match="'x' is not a branch length") as caught:
        Taxonomy.from_frame(frame)
    assert caught.value.row == 1
    lengths = frame.with_columns(branch_length=pl.Series(["NA", "1.5"]))
    assert Taxonomy.from_frame(lengths).branch_lengths.tolist()[1:] == [1.5]
    twice = pd.DataFrame([[1, None, 1], [2, 1, 1]], columns=["id", "parent", "parent"])
    with pytest.raises(TaxonomyError, match="several columns are called 'parent'"):
        Taxonomy.from_frame(twice)


def test_from_networkx__nodes_may_be_decimals_and_lengths_missing():
    graph = nx.Graph()
    graph.add_edge(1.0, 2.0, length="NA")
    graph.add_edge(1.0, 3.0, length="2")
    tax = Taxonomy.from_networkx(graph, root=1)
    assert tax.to_frame()["id", "parent"].rows() == [(1, None), (2, 1), (3, 1)]
    np.testing.assert_array_equal(tax.branch_lengths, [np.nan, np.nan, 2])
    assert Taxonomy.from_networkx(nx.Graph([(1, 2)]), root=1).branch_lengths is None


@given(st.one_of(taxonomies(min_size=1), phylogenies()), st.data())
def test_reroot__keeps_distances_and_what_is_known_of_each_taxon(tax, data):
    root = data.draw(st.sampled_from(tax.ids.to_list()))
    other = tax.reroot(root)
    assert other.ids[0] == root
    assert sorted(other.ids.to_list()) == sorted(tax.ids.to_list())
    there = other.rows(tax.ids)
    rows = np.arange(len(tax))
    for found, true in ((other.tree, tax.tree), (other.tree.topology, tax.tree.topology)):
        after = found.distance(there[:, None], there)
        np.testing.assert_allclose(after, true.distance(rows[:, None], rows), rtol=1e-12, atol=1e-9)
    assert other.names.gather(there).equals(tax.names)
    assert other.taxon_ranks.gather(there).equals(tax.taxon_ranks)
    back = other.reroot(tax.ids[0])
    assert set(back.to_frame()["id", "parent"].rows()) == set(tax.to_frame()["id", "parent"].rows())


@given(st.one_of(taxonomies(min_size=1), phylogenies()))
def test_centre__is_the_root_of_least_height(tax):
    rows = np.arange(len(tax))
    farthest = tax.tree.distance(rows[:, None], rows).max(1)
    assert farthest[tax.rows(tax.centre())] == pytest.approx(farthest.min(), rel=1e-12, abs=1e-12)
    assert tax.reroot().ids[0] == tax.centre()


@given(phylogenies(min_size=1))
def test_root_at_midpoint__halves_a_longest_path_and_keeps_distances(tax):
    other = tax.root_at_midpoint()
    rows, there = np.arange(len(tax)), other.rows(tax.ids)
    before = tax.tree.distance(rows[:, None], rows)
    np.testing.assert_array_equal(other.tree.distance(there[:, None], there), before)
    assert other.names.gather(there).equals(tax.names)
    # The root is the only new taxon, and two leaves of a longest path are as far from it.
    new = set(other.ids) - set(tax.ids)
    assert new <= {other.ids[0]}
    assert len(other) == len(tax) + len(new)
    leaves = other.tree.leaf_rows
    apart = other.tree.distance(leaves[:, None], leaves)
    i, j = np.unravel_index(apart.argmax(), apart.shape)
    assert apart[i, j] == before.max()
    assert (other.tree.height[leaves[[i, j]]] == before.max() / 2).all()
    assert other.tree.height.max() == before.max() / 2


@given(taxonomies(min_size=1).map(lambda tax: tax.without_lengths()))
def test_root_at_midpoint__without_lengths_is_the_centre_where_that_is_the_middle(tax):
    rows = np.arange(len(tax))
    longest = tax.tree.distance(rows[:, None], rows).max()
    if longest % 2:
        with pytest.raises(ValueError, match=rf"of {longest} edges, is on an edge.*use reroot\(\)"):
            tax.root_at_midpoint()
    else:
        assert tax.root_at_midpoint().ids[0] == tax.centre()


@pytest.mark.parametrize("ids", [[1, 0, 3], ["midpoint", "cat", "dog"]])
def test_root_at_midpoint__the_new_taxon_has_an_id_that_nothing_had(ids):
    kind = type(ids[0])
    merged = pl.DataFrame({"old_id": [kind(2)], "new_id": [ids[1]]})
    deleted = pl.Series([kind(4)])
    tax = Taxonomy.from_parents(
        [-1, 0, 0], ids=ids, branch_lengths=[0, 1, 3], merged=merged, deleted=deleted
    )
    other = tax.root_at_midpoint()
    assert other.ids[0] == (5 if kind is int else "midpoint_")
    assert other.names[0] == "midpoint"
    assert other.source["root"] == other.ids[0]
    with pytest.warns(UserWarning, match="2"):
        assert other.rows(kind(2)) == other.rows(ids[1])


def test_root_at_midpoint__lengths_that_are_none_count_as_before():
    lengths = [np.nan, np.nan, 2, -1, 7, 3]  # The missing one counts as the median, 2.5.
    tax = Taxonomy.from_parents([-1, 0, 0, 1, 1, 2], branch_lengths=lengths)
    with pytest.warns(BranchLengthWarning, match="1 are negative.* 1 are missing"):
        before = tax.tree.distance(np.arange(6)[:, None], np.arange(6))
    other = tax.root_at_midpoint()
    there = other.rows(tax.ids)
    np.testing.assert_allclose(other.tree.distance(there[:, None], there), before, rtol=1e-15)
    assert len(other) == 7
    assert (other.branch_lengths[1:] >= 0).all()


def test_reroot__keeps_synonyms_and_old_ids_and_names_one_taxon():
    tax = Taxonomy.from_parents(
        [-1, 0, 1],
        ids=["root", "cats", "lion"],
        synonyms=pl.DataFrame({"name": ["Leo"], "node": [2], "name_class": ["synonym"]}),
        merged=pl.DataFrame({"old_id": ["leo1"], "new_id": ["lion"]}),
    )
    other = tax.reroot("lion")
    assert other.ids.to_list() == ["lion", "cats", "root"]
    assert other.rows("Leo") == 0
    assert other.source["root"] == "lion"
    with pytest.warns(UserWarning, match="leo1"):
        assert other.rows("leo1") == 0
    with pytest.raises(TypeError, match="a root is one taxon; got 2 keys"):
        tax.reroot(["lion", "cats"])
