"""Tables and pairs of edges: what becomes a tree, and what is refused."""

import hypothesis.strategies as st
import numpy as np
import polars as pl
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError


@given(taxonomies(min_size=2), st.data())
def test_from_edges__restores_the_edges(tax, data):
    rows = data.draw(st.permutations(range(1, len(tax))))
    edges = [(tax.ids[i], tax.ids[int(tax.parent[i])]) for i in rows]
    again = Taxonomy.from_edges(edges)
    assert again.ids[0] == tax.ids[0]
    assert again.ids.dtype == tax.ids.dtype
    rebuilt = {(c, p) for c, p in again.to_frame()["id", "parent"].rows() if p is not None}
    assert rebuilt == set(edges)


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
    assert tax.lineage("cat") == "animal; pet; cat"
    with pytest.raises(TaxonomyError, match="'cat' is listed twice"):
        Taxonomy.from_edges([("cat", "pet"), ("cat", "pet")])
    with pytest.raises(ValueError, match="multi_parent is"):
        Taxonomy.from_edges(edges, multi_parent="last")
    many = [(f"n{i * 7 % 5000}", parent) for i in range(5000) for parent in ("a", "b")]
    with pytest.raises(TaxonomyError, match=r"5000 nodes .*: 'n0' .*; 'n7' .*; 'n14' below 'a'"):
        Taxonomy.from_edges(many)


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
