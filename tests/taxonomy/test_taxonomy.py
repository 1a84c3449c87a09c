"""Laws of trees, and what `Taxonomy` answers about taxa."""

import hypothesis.strategies as st
import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from oracles.tree import lca, preorder, subtree, walk_up
from support.trees import parents, taxonomies

from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.taxonomy import MergedTaxonWarning, Status, Taxonomy, TaxonomyError


def assert_same(a, b):
    for array in ("parent", "end", "depth"):
        np.testing.assert_array_equal(getattr(a, array), getattr(b, array))
    assert a.ids.equals(b.ids, check_dtypes=True)
    assert a.names.equals(b.names)
    assert a.taxon_ranks.cast(pl.String).equals(b.taxon_ranks.cast(pl.String))


@pytest.fixture(scope="module")
def animals():
    """A small taxonomy with homonyms, synonyms, merged and deleted ids."""
    return Taxonomy.from_parents(
        [-1, 0, 0, 1, 3, 2, 2],
        ids=[1, 10, 20, 30, 40, 50, 60],
        names=["root", "Mammalia", "Insecta", "Felis", "Felis catus", "Musca", "Morus"],
        taxon_ranks=["no rank", "class", "class", "genus", "species", "genus", "genus"],
        synonyms=pl.DataFrame(
            {
                "name": ["cat", "domestic cat", "fly", "cat", "Felis catus", "Musca", "mammals"],
                "node": [4, 4, 5, 6, 6, 5, 1],
                "name_class": ["common name"] * 7,
            }
        ),
        merged=pl.DataFrame({"old_id": [41, 42, 43, 44], "new_id": [40, 41, 999, 43]}),
        deleted=pl.Series([70, 10]),
    )


# ------------------------------------------------------------------ the tree


@given(parents())
def test_from_parents__is_the_depth_first_walk_of_the_input(parent):
    tax = Taxonomy.from_parents(parent)
    order = preorder(parent)
    assert tax.ids.to_list() == order
    place = {node: row for row, node in enumerate(order)}
    assert tax.parent.tolist() == [-1, *(place[parent[node]] for node in order[1:])]


@given(taxonomies())
def test_arrays__parents_precede_children_one_level_above(tax):
    rows = np.arange(1, len(tax))
    assert tax.parent[0] == -1
    assert tax.depth[0] == 0
    assert (tax.parent[rows] < rows).all()
    assert (tax.depth[rows] == tax.depth[tax.parent[rows]] + 1).all()
    assert tax.max_depth == tax.depth.max()


@given(taxonomies())
def test_arrays__count_children_and_subtrees(tax):
    for node in range(len(tax)):
        below = subtree(tax.parent, node)
        assert below == set(range(node, tax.end[node]))
        assert tax.subtree_size[node] == len(below)
        assert tax.num_children[node] == (tax.parent == node).sum()


@given(taxonomies())
def test_is_ancestor__equals_walking_up(tax):
    n = len(tax)
    walked = [[a in walk_up(tax.parent, v) for v in range(n)] for a in range(n)]
    rows = np.arange(n)
    np.testing.assert_array_equal(tax.is_ancestor(rows[:, None], rows), walked)


@given(taxonomies())
def test_ancestors__are_as_many_as_the_depth(tax):
    for node in range(len(tax)):
        above = tax.ancestors(node)
        assert len(above) == tax.depth[node]
        assert above.tolist() == walk_up(tax.parent, node)[1:]


@given(taxonomies())
def test_lca__equals_brute_force_and_commutes_and_lies_above_both(tax):
    rows = np.arange(len(tax))
    found = tax.lca(rows[:, None], rows)
    expected = [[lca(tax.parent, u, v) for v in rows] for u in rows]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, found.T)
    assert (tax.depth[found] <= np.minimum(tax.depth[:, None], tax.depth)).all()
    assert tax.is_ancestor(found, rows).all()


@given(taxonomies())
def test_tree_distance__is_the_shortest_path(tax):
    graph = nx.Graph(list(enumerate(tax.parent))[1:])
    graph.add_nodes_from(range(len(tax)))
    rows = np.arange(len(tax))
    found = tax.tree_distance(rows[:, None], rows)
    for u, lengths in nx.all_pairs_shortest_path_length(graph):
        assert found[u].tolist() == [lengths[v] for v in rows]


@given(taxonomies(), st.sampled_from(["genus", "clade", "no such rank"]))
def test_ancestor_at_rank__equals_walking_up(tax, taxon_rank):
    found = tax.ancestor_at_rank(taxon_rank)
    for node in range(len(tax)):
        having = [a for a in walk_up(tax.parent, node) if tax.taxon_ranks[a] == taxon_rank]
        assert found[node] == (having[0] if having else -1)


def test_queries__of_single_rows_and_of_none(animals):
    assert animals.is_ancestor([], []).shape == animals.tree_distance([], 0).shape == (0,)
    assert animals.lca(3, 5) == 0
    assert animals.lca(3, 2) == 2
    assert animals.tree_distance(3, 5) == 5
    assert np.ndim(animals.lca(3, 5)) == 0
    assert animals.lca([], []).shape == (0,)
    assert animals.is_ancestor(0, 3)


@pytest.mark.parametrize("row", [-1, 7])
def test_queries__refuse_what_is_no_row(animals, row):
    for query in (animals.lca, animals.tree_distance, animals.is_ancestor):
        with pytest.raises(ValueError, match="rows run from 0 to 6"):
            query(row, 0)
    with pytest.raises(ValueError, match="rows run from 0 to 6"):
        animals.ancestors(row)
    with pytest.raises(ValueError, match="rows are whole numbers; got float64"):
        animals.lca(1.0, 2)


def test_arrays__cannot_be_written(animals):
    for array in (animals.parent, animals.end, animals.depth, animals.num_children):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 3


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
    a = tax.lca(u, v)
    assert (tax.is_ancestor(a, u) & tax.is_ancestor(a, v)).all()
    # No child of the lca lies above both: the lca is the lowest.
    lower = (u != a) & (v != a) & (tax.depth[a] < np.minimum(tax.depth[u], tax.depth[v]))
    for k in np.flatnonzero(lower)[:20]:
        towards_u = [b for b in tax.ancestors(u[k]) if tax.parent[b] == a[k]]
        assert not any(tax.is_ancestor(b, v[k]) for b in towards_u)
    if shape != "random":
        assert tax.max_depth == {"path": n - 1, "caterpillar": n // 2, "star": 1}[shape]


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


@given(taxonomies(min_size=2), st.data())
def test_from_edges__restores_the_edges(tax, data):
    rows = data.draw(st.permutations(range(1, len(tax))))
    edges = [(tax.ids[i], tax.ids[int(tax.parent[i])]) for i in rows]
    again = Taxonomy.from_edges(edges)
    assert again.ids[0] == tax.ids[0]
    assert again.ids.dtype == tax.ids.dtype
    rebuilt = {(c, p) for c, p in again.to_frame()["id", "parent"].rows() if p is not None}
    assert rebuilt == set(edges)


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
    assert insects.node("fly") == insects.node(50)
    assert insects.node("cat") == insects.node(60)
    with pytest.raises(TaxonomyError, match="no taxon"):
        insects.node("mammals")


def test_from_edges__root_joins_trees_or_chooses_below_a_node():
    edges = [(2, 1), (3, 1), (20, 10), (30, 20)]
    joined = Taxonomy.from_edges(edges, root=5)
    assert joined.to_frame()["id", "parent"].rows() == [
        *[(5, None), (1, 5), (2, 1), (3, 1), (10, 5), (20, 10), (30, 20)]
    ]
    named = Taxonomy.from_edges(edges, root="life")
    assert (named.ids[0], named.names[0]) == (0, "life")
    below = Taxonomy.from_edges(edges, root=20)
    assert below.ids.to_list() == [20, 30]
    with pytest.raises(TaxonomyError, match="root 99 is no node"):
        Taxonomy.from_edges(edges[:2], root=99)


def test_from_edges__of_several_parents_keeps_the_first_when_told():
    edges = [("cat", "pet"), ("cat", "felid"), ("pet", "animal"), ("felid", "animal")]
    with pytest.raises(TaxonomyError, match="'cat' below 'pet' and 'felid'") as error:
        Taxonomy.from_edges(edges)
    assert error.value.row == 1
    tax = Taxonomy.from_edges(edges, multi_parent="first")
    assert tax.lineage(tax.node("cat")) == "animal; pet; cat"
    with pytest.raises(TaxonomyError, match="'cat' is listed twice"):
        Taxonomy.from_edges([("cat", "pet"), ("cat", "pet")])
    with pytest.raises(ValueError, match="multi_parent is"):
        Taxonomy.from_edges(edges, multi_parent="last")


def test_from_edges__takes_pairs_arrays_and_tables():
    pairs = [(2, 1), (3, 1)]
    expected = [(1, None), (2, 1), (3, 1)]
    table = pl.DataFrame(pairs, schema=["child", "parent"], orient="row")
    for edges in (pairs, np.array(pairs), table, iter(pairs), table.cast(pl.Int32)):
        tax = Taxonomy.from_edges(edges)
        assert tax.to_frame()["id", "parent"].rows() == expected
    words = Taxonomy.from_edges(np.array([("b", "a"), ("c", "a")]))
    assert words.ids.to_list() == ["a", "b", "c"]
    mixed = Taxonomy.from_edges([("b", 1), (2, 1)])
    assert mixed.ids.to_list() == ["1", "b", "2"]


@pytest.mark.parametrize(
    ("edges", "why"),
    [
        ([], "there are no edges"),
        ([(1, 2), (1, 2, 3)], r"edge 1 is \(1, 2, 3\), not \(child, parent\)"),
        (["ab"], "edge 0 is 'ab'"),
        (np.zeros((3, 3)), r"shape \(3, 3\), not \[k, 2\]"),
        (pl.DataFrame({"child": [1]}), r"no column \['parent'\]"),
        ([(None, 1)], "None is not an id"),
    ],
)
def test_from_edges__refuses_what_are_no_pairs(edges, why):
    with pytest.raises(TaxonomyError, match=why):
        Taxonomy.from_edges(edges)


def test_from_edges__hangs_undirected_trees_and_refuses_other_graphs():
    tax = Taxonomy.from_edges([(1, 2), (3, 2), (4, 3)], root=2, undirected=True)
    assert tax.to_frame()["id", "parent"].rows() == [(2, None), (1, 2), (3, 2), (4, 3)]
    for edges, why in [
        ([(1, 2), (2, 3), (3, 1)], "3 edges between 3 nodes are not a tree"),
        ([(1, 2), (3, 4)], "fall into 2 parts: 3 cannot be reached from 1"),
        ([(1, 2), (2, 2)], "joins 2 to itself"),
    ]:
        with pytest.raises(TaxonomyError, match=why):
            Taxonomy.from_edges(edges, root=1, undirected=True)
    with pytest.raises(TaxonomyError, match="need root="):
        Taxonomy.from_edges([(1, 2)], undirected=True)
    with pytest.raises(TaxonomyError, match="root 9 is no node"):
        Taxonomy.from_edges([(1, 2)], root=9, undirected=True)


@pytest.mark.parametrize(
    ("parent", "why", "row"),
    [
        ([], "there are no nodes", None),
        ([-1, 0, 3, 2], "cycle of 2: c → d → c", 2),
        ([1, 2, 0], "cycle of 3: a → b → c → a", 0),
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


def test_from_parents__accepts_a_root_that_is_its_own_parent():
    assert Taxonomy.from_parents([1, 1, 0]).ids.to_list() == [1, 0, 2]


@pytest.mark.parametrize(
    ("ids", "parents", "why"),
    [
        ([1, 2, 1], [None, 1, 1], "id 1 occurs twice, in rows 0 and 2"),
        (["a", "b"], [None, "z"], "parent z of b is no node here"),
        ([1, 2], [None, 9], "parent 9 of 2 is no node here"),
        ([1, None], [None, 1], "row 1: None is not an id"),
        (["a", ""], [None, "a"], "row 1: '' is not an id"),
        ([1, 2], ["", "x"], "parent x of 2 is no node"),
    ],
)
def test_from_frame__names_the_row_at_fault(ids, parents, why):
    with pytest.raises(TaxonomyError, match=why):
        Taxonomy.from_frame(pl.DataFrame({"id": ids, "parent": parents}))


def test_from_frame__needs_its_columns():
    with pytest.raises(TaxonomyError, match=r"no column \['parent'\]"):
        Taxonomy.from_frame(pl.DataFrame({"id": [1]}))


# ------------------------------------------------------------------ looking taxa up


@given(taxonomies())
def test_nodes__is_the_inverse_of_ids(tax):
    rows = np.arange(len(tax))
    np.testing.assert_array_equal(tax.nodes(tax.ids), rows)
    np.testing.assert_array_equal(tax.nodes(tax.ids.to_list()), rows)
    assert [tax.node(key) for key in tax.ids] == rows.tolist()
    assert tax.nodes(tax.ids).dtype == np.int64


def test_node__takes_id_then_name_then_synonym(animals):
    row = animals.ids.to_list().index(40)
    assert animals.node(40) == animals.node("40") == row
    assert animals.node("Felis catus") == row  # though it is also a synonym of Morus
    assert animals.node("domestic cat") == row
    assert animals.node("Musca") == animals.node("fly")  # name and synonym of one taxon


def test_node__lists_the_candidates_of_a_homonym(animals):
    with pytest.raises(TaxonomyError) as error:
        animals.node("cat")
    assert str(error.value).splitlines() == [
        "'cat' names 2 taxa; choose one by its id:",
        "  40: species, in root; Mammalia; Felis; Felis catus",
        "  60: genus, in root; Insecta; Morus",
    ]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("felis catus", "Felis catus"), ("Felix catus", "Felis catus"), ("domestic  cat", "domestic")],
)
def test_node__suggests_names_like_an_unknown_one(animals, asked, meant):
    with pytest.raises(TaxonomyError, match=f"did you mean '{meant}"):
        animals.node(asked)


def test_node__suggests_nothing_where_nothing_is_alike(animals):
    for key in ("Quercus", 12345, 7, "ab", "", -1):
        with pytest.raises(TaxonomyError, match=f"no taxon has the id or name {key!r}; is it of"):
            animals.node(key)


def test_status__is_active_merged_deleted_or_unknown(animals):
    cat = animals.node(40)
    assert animals.status(40) == Status("active", cat)
    assert animals.status("41") == Status("merged", cat, 40)
    assert animals.status(42) == Status("merged", cat, 40)  # through 41
    assert animals.status(43) == Status("unknown", None, 999)
    assert animals.status(44) == Status("unknown", None, 999)
    assert animals.status(70) == Status("deleted")
    assert animals.status(10).state == "active"  # a list of deleted ids may be older than the tree
    assert animals.status(71) == Status("unknown")
    for key in ("Felis", "4_0", "", 10**30, "9" * 30):
        assert animals.status(key) == Status("unknown")
    assert [str(animals.status(i)) for i in (40, 41, 43, 70)] == [
        "active",
        "merged into 40",
        "unknown (merged into 999, which is not in this taxonomy)",
        "deleted",
    ]


def test_status__of_ids_merged_in_a_circle_is_unknown():
    merged = pl.DataFrame({"old_id": [5, 6], "new_id": [6, 5]})
    tax = Taxonomy.from_parents([-1], ids=[1], merged=merged)
    assert tax.status(5).state == "unknown"


def test_status__of_text_ids_merged_by_numbers():
    merged = pl.DataFrame({"old_id": [5], "new_id": [1]})
    tax = Taxonomy.from_parents([-1], ids=["1"], merged=merged, deleted=pl.Series([7]))
    assert [str(tax.status(key)) for key in (5, "7", 1)] == ["merged into 1", "deleted", "active"]


def test_node__follows_merged_ids_and_says_so(animals):
    with pytest.warns(MergedTaxonWarning, match="taxon 41 was merged into 40"):
        assert animals.node(41) == animals.node(40)
    with pytest.warns(MergedTaxonWarning, match="1 of 2 ids were merged .* 41 was merged into 40"):
        assert animals.nodes([1, 41]).tolist() == [0, animals.node(40)]


def test_node__refuses_deleted_and_unknown_ids(animals):
    with pytest.raises(TaxonomyError, match="taxon 70 was deleted"):
        animals.node(70)
    with pytest.raises(TaxonomyError, match=r"taxon 43 is unknown \(merged into 999"):
        animals.node(43)
    with pytest.raises(TaxonomyError, match=r"2 of 3 ids .* 70 is deleted, 71 is unknown"):
        animals.nodes(["1", "70", "71"])
    with pytest.raises(TaxonomyError, match="'Felis' is not an id"):
        animals.nodes(["1", "Felis"])


def test_lineage__runs_from_the_root_to_the_node(animals):
    assert animals.lineage(animals.node(40)) == "root; Mammalia; Felis; Felis catus"
    nameless = Taxonomy.from_parents([-1, 0], ids=["a", "b"], names=["Life", None])
    assert nameless.lineage(1) == "Life; b"


def test_find__in_text_and_numbers_agree():
    numbers = pl.Series([5, 3, 9])
    wanted = pl.Series([9, 4, None, 3, 10])
    expected = [2, -1, -1, 1, -1]
    assert columns.find(columns.sort(numbers), wanted).tolist() == expected
    as_text = columns.sort(numbers.cast(pl.String))
    assert columns.find(as_text, wanted.cast(pl.String)).tolist() == expected


def test_repr__tells_size_depth_and_root(animals):
    assert repr(animals) == "Taxonomy(7 nodes, max depth 3, root 1 'root')"
