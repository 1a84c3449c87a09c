"""Tables and graphs as people hold them in memory: polars, pandas, numpy, networkx."""

import math

import networkx as nx
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from support.trees import taxonomies

from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

pd = pytest.importorskip("pandas")


def pairs(tax):
    return tax.to_frame()["id", "parent"].rows()


@pytest.mark.parametrize("none", [None, math.nan, "NA", "nan", "NULL", r"\N", "-", "", "None"])
def test_from_edges__a_word_for_none_is_no_parent(none):
    assert pairs(Taxonomy.from_edges([("a", none), ("b", "a")])) == [("a", None), ("b", "a")]
    assert pairs(Taxonomy.from_edges([(1, none), (2, 1)])) == [(1, None), (2, 1)]
    frame = pl.DataFrame({"id": ["1", "2"], "parent": [None if none is None else str(none), "1"]})
    assert pairs(Taxonomy.from_frame(frame)) == [("1", None), ("2", "1")]


def test_from_edges__a_taxon_may_be_called_none():
    tax = Taxonomy.from_edges([("None", "life"), ("x", "None")])
    assert pairs(tax) == [("life", None), ("None", "life"), ("x", "None")]


@pytest.mark.parametrize("missing", [np.nan, None, pd.NA, pd.NaT])
def test_from_frame__takes_pandas_and_keeps_integers(missing):
    frame = pd.DataFrame({"id": [1, 2, 3], "parent": [missing, 1, 1], "name": ["a", None, "c"]})
    for table in (frame, frame.convert_dtypes(), frame.astype({"parent": object})):
        tax = Taxonomy.from_frame(table)
        assert pairs(tax) == [(1, None), (2, 1), (3, 1)]
        assert tax.ids.dtype == pl.Int64
        assert tax.names.to_list() == ["a", None, "c"]
    edges = frame.rename(columns={"id": "child"})
    assert pairs(Taxonomy.from_edges(edges)) == [(1, None), (2, 1), (3, 1)]


def test_from_edges__parents_as_decimals_are_integers():
    assert pairs(Taxonomy.from_edges([(2, 1.0), (3, 1.0)])) == [(1, None), (2, 1), (3, 1)]
    assert pairs(Taxonomy.from_edges(np.array([[2.0, 1.0], [3.0, 1.0]]))) == [
        *[(1, None), (2, 1), (3, 1)]
    ]


def test_from_frame__refuses_what_is_no_table():
    with pytest.raises(ValueError, match="a table is a polars or pandas frame; got dict"):
        Taxonomy.from_frame({"id": [1], "parent": [None]})


@given(taxonomies(min_size=2))
def test_from_networkx__multigraphs_and_undirected_graphs_keep_what_trees_have(tax):
    graph = tax.to_networkx()
    root = tax.ids[0]
    for kind in (nx.MultiDiGraph, nx.Graph, nx.MultiGraph):
        again = Taxonomy.from_networkx(kind(graph), root=None if kind is nx.MultiDiGraph else root)
        assert sorted(again.to_frame().rows()) == sorted(tax.to_frame().rows())
        if tax.branch_lengths is not None:
            order = again.ids.arg_sort(), tax.ids.arg_sort()
            lengths = again.branch_lengths[order[0]], tax.branch_lengths[order[1]]
            np.testing.assert_array_equal(*lengths)


@pytest.mark.parametrize("kind", [nx.Graph, nx.DiGraph])
def test_from_networkx__refuses_a_node_without_edges(kind):
    graph = kind([("a", "b")])
    graph.add_node("alone")
    with pytest.raises(TaxonomyError, match="alone"):
        Taxonomy.from_networkx(graph, root="a" if kind is nx.Graph else None)


def test_from_networkx__refuses_a_graph_without_nodes():
    with pytest.raises(TaxonomyError, match="there are no edges"):
        Taxonomy.from_networkx(nx.DiGraph())


def test_from_networkx__casts_attributes_and_keeps_a_first_parent_when_told():
    graph = nx.DiGraph([("r", "a"), ("r", "b"), ("a", "b")])
    graph.nodes["a"]["name"] = 7
    graph.nodes["b"]["name"] = math.nan
    graph.edges["r", "a"]["length"] = 2
    with pytest.raises(TaxonomyError, match="multi_parent='first'"):
        Taxonomy.from_networkx(graph)
    tax = Taxonomy.from_networkx(graph, multi_parent="first")
    assert pairs(tax) == [("r", None), ("a", "r"), ("b", "r")]
    assert tax.names.to_list() == [None, "7", None]
    assert tax.branch_lengths[1] == 2


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=20)
@given(taxonomies())
def test_to_skbio__has_the_nodes_below_each_other_in_their_order(tax):
    pytest.importorskip("skbio")
    nodes = list(tax.to_skbio().preorder())
    assert [node.name for node in nodes] == [str(key) for key in tax.ids]
    assert [node.taxon_name for node in nodes] == tax.names.to_list()
    assert [node.taxon_rank for node in nodes] == tax.taxon_ranks.to_list()
    assert [node.parent for node in nodes[1:]] == [nodes[row] for row in tax.parent[1:]]
    lengths = [None] * len(tax) if tax.branch_lengths is None else tax.branch_lengths.tolist()
    assert [node.length for node in nodes[1:]] == lengths[1:]
