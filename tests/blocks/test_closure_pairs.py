"""Explicit pairs: as given, drawn as weighted, and every fault named with its place."""

import gzip
import sys
import types
from pathlib import Path

import networkx as nx
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.realdata import real_data
from support.sampling import assert_distribution, generator
from support.trees import taxonomies

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

DIAMOND = [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]  # 3 has two parents


def drawn(pairs, count=20_000):
    return [tuple(pair) for pair in pairs.sample(count, generator=generator()).tolist()]


def test_closure_pairs__are_the_pairs_given_in_their_order():
    pairs = ClosurePairs(DIAMOND, num_nodes=5)
    assert pairs.num_nodes == 5
    assert [tuple(pair.tolist()) for pair in pairs] == DIAMOND
    assert pairs[-1].tolist() == [0, 3]
    assert ClosurePairs(torch.tensor(DIAMOND)).num_nodes == 4
    star = [(99_999, child) for child in range(9)]
    assert ClosurePairs(star, num_nodes=10**5).pairs.tolist() == [list(pair) for pair in star]
    with pytest.raises(IndexError):
        pairs[5]


def test_sample__is_uniform_or_as_weighted():
    assert_distribution(drawn(ClosurePairs(DIAMOND)), dict.fromkeys(DIAMOND, 1))
    assert_distribution(drawn(ClosurePairs(DIAMOND, weights=[3] * 5)), dict.fromkeys(DIAMOND, 1))
    weights = [1, 2, 3, 0.5, 0]
    wanted = {pair: w for pair, w in zip(DIAMOND, weights, strict=True) if w}
    assert_distribution(drawn(ClosurePairs(DIAMOND, weights=weights)), wanted)


@pytest.mark.parametrize(
    ("pairs", "options", "row", "message"),
    [
        ([], {}, None, "there are no pairs"),
        ([(0, 1), (1, 1)], {}, 1, "pair 1 .* makes a node its own ancestor"),
        ([(0, 1), (1, 2), (0, 1)], {}, 2, "pair 2 .ancestor 0, descendant 1. was listed before"),
        ([(0, 1), (0, 2), (1, 2), (0, 2)], {}, 3, "pair 3 .ancestor 0, descendant 2. was listed"),
        ([*((0, 1 + k) for k in range(99)), (0, 50)], {}, 99, "pair 99 .* was listed before"),
        ([(0, 1), (0, 3)], {"num_nodes": 3}, 1, "has a row that is no node; rows run from 0 to 2"),
        ([(0, -1)], {}, 0, "has a row that is no node"),
        ([(0, 2)], {"names": ["a", "b"]}, 0, "ancestor 0, descendant 2. has a row that is no node"),
        ([(0.0, 1.5)], {}, None, "whole numbers, .ancestor, descendant."),
        ([0, 1, 2], {}, None, r"rows \[k, 2\]"),
        ([(0, 1), (2,)], {}, None, r"rows \[k, 2\]"),
        ([("dog", "cat")], {}, None, "for names use ClosurePairs.from_edges"),
        ([(0, 1), (1, 1)], {"names": ["a", "b"]}, 1, "ancestor b, descendant b"),
    ],
)
def test_closure_pairs__name_the_pair_at_fault(pairs, options, row, message):
    with pytest.raises(TaxonomyError, match=message) as caught:
        ClosurePairs(pairs, **options)
    assert caught.value.row == row


def test_closure_pairs__refuse_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="2 names for 4 nodes"):
        ClosurePairs(DIAMOND, num_nodes=4, names=["a", "b"])
    with pytest.raises(ValueError, match=r"\(2,\) weights for 5 pairs"):
        ClosurePairs(DIAMOND, weights=[1, 1])
    with pytest.raises(ValueError, match="weight 1 is -1"):
        ClosurePairs(DIAMOND, weights=[1, -1, 1, 1, 1])
    with pytest.raises(ValueError, match="all weights are zero"):
        ClosurePairs(DIAMOND, weights=[0] * 5)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        ClosurePairs(DIAMOND).sample(0)
    assert ClosurePairs(DIAMOND).sample(1).shape == (1, 2)


@pytest.mark.parametrize("packed", [False, True])
def test_read_csv__numbers_nodes_by_name(tmp_path, packed):
    path = tmp_path / "closure.csv"
    data = b"\xef\xbb\xbfid1,id2,weight\r\ndog,mammal,1\r\ndog,animal,2\r\nmammal,animal,0\r\n"
    path.write_bytes(gzip.compress(data) if packed else data)
    pairs = ClosurePairs.read_csv(path)
    assert pairs.names.to_list() == ["animal", "dog", "mammal"]
    assert pairs.pairs.tolist() == [[2, 1], [0, 1], [0, 2]]
    assert_distribution(drawn(pairs), {(2, 1): 1, (0, 1): 2})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("id1,id2\n", "a header, and nothing below it"),
        ("a,b\nc,d\n", "no column id1 or id2"),
        ("id1,id2\na,b\na,\n", "closure.csv:3: id2 is empty"),
        ("id1,id2\na,b\na,b\n", "closure.csv:3: pair 1 .ancestor b, descendant a. was listed"),
        ("id1,id2\na,b\n\nb,b\n", "closure.csv:4: pair 1 .* its own ancestor"),
        ("id1,id2,weight\na,b,1\nb,c,x\n", "closure.csv:3: weight 'x' is not a number"),
        ("id1,id2,weight\na,b,1\nb,c,-1\n", "closure.csv:3: weight '-1' is not"),
        ("id1,id2,weight\na,b,1\nb,c,nan\n", "closure.csv:3: weight 'nan' is not"),
        ("id1,id2,weight\na,b,1\nb,c,inf\n", "closure.csv:3: weight 'inf' is not"),
        ("id1,id2,weight\na,b,1\nb,c,\n", "closure.csv:3: weight None is not"),
        ("id1,id2,weight\na,b,0\nb,c,0\n", "closure.csv: all weights are zero"),
        ("id1,id2\na,b\nb,c,d\n", "closure.csv:3: 3 fields"),
    ],
)
def test_read_csv__names_the_line_at_fault(tmp_path, text, message):
    path = tmp_path / "closure.csv"
    path.write_text(text)
    with pytest.raises(TaxonomyError, match=message):
        ClosurePairs.read_csv(path)


def test_read_csv__reads_wordnet():
    pairs = ClosurePairs.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    assert (len(pairs), pairs.num_nodes) == (6540, 1180)
    table = pl.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    names = pairs.names.gather(pairs.pairs.flatten().numpy()).to_numpy().reshape(-1, 2)
    assert (names[:, 1] == table["id1"].to_numpy()).all()
    assert (names[:, 0] == table["id2"].to_numpy()).all()


@given(taxonomies(min_size=2), st.data())
def test_closed__is_the_reachability_of_a_dag(tax, data):
    """Edges of a tree and some more downwards; the oracle walks all of them."""
    n = len(tax)
    more = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    edges = {(int(tax.parent[v]), v) for v in range(1, n)} | data.draw(st.sets(more, max_size=6))
    pairs = ClosurePairs(sorted(edges), num_nodes=n)
    reached = set(edges)
    while more := {(a, d) for a, b in reached for c, d in edges if b == c} - reached:
        reached |= more
    closed = pairs.closed()
    assert {tuple(pair) for pair in closed.pairs.tolist()} == reached
    assert closed.pairs[: len(pairs)].tolist() == pairs.pairs.tolist()
    assert pairs.num_missing == len(reached) - len(edges)
    assert pairs.is_closed == (reached == edges)
    assert closed.is_closed
    others = [(a, v) for a in range(n) for v in range(n) if a != v]
    beyond = {tuple(pair) for pair in pairs.beyond(others + others[:1]).tolist()}
    assert beyond == set(others) - reached


def test_closed__keeps_names_and_refuses_cycles_and_weights():
    pairs = ClosurePairs([[0, 1], [1, 2]], names=["a", "b", "c"])
    assert pairs.closed().names.to_list() == ["a", "b", "c"]
    with pytest.raises(TaxonomyError, match=r"node 1 is an ancestor of .*: a cycle") as error:
        ClosurePairs([[0, 1], [1, 2], [2, 1]]).closed()
    assert error.value.row == 1
    with pytest.raises(TaxonomyError, match="a cycle"):  # with no node above it
        ClosurePairs([[0, 1], [1, 2], [2, 0]]).closed()
    with pytest.raises(ValueError, match="pairs with weights have no closure"):
        ClosurePairs([[0, 1], [1, 2]], weights=[1, 2]).closed()


def test_pairs__may_be_an_array_that_was_turned_around():
    edges = np.array([[1, 0], [2, 1]])  # (child, parent)
    assert ClosurePairs(edges[:, ::-1]).pairs.tolist() == [[0, 1], [1, 2]]


def test_beyond__is_of_the_same_nodes():
    pairs = ClosurePairs([[0, 1], [1, 2]])
    with pytest.raises(ValueError, match="pairs of 4 nodes for pairs of 3"):
        pairs.beyond(ClosurePairs([[0, 3]]))


def test_warn_unless_closed__once_with_the_count():
    pairs = ClosurePairs([[0, 1], [1, 2], [2, 3]])
    with pytest.warns(
        UserWarning,
        match=r"3 pairs follow .*such as \(ancestor 0, descendant 2\), .*pairs\.closed\(\)",
    ):
        pairs.warn_unless_closed()
    pairs.warn_unless_closed()  # pytest makes a second warning an error
    pairs.closed().warn_unless_closed()


@given(taxonomies(min_size=2), st.data())
def test_reduced__is_the_smallest_set_with_this_closure(tax, data):
    n = len(tax)
    more = st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)).filter(lambda e: e[0] < e[1])
    edges = {(int(tax.parent[v]), v) for v in range(1, n)} | data.draw(st.sets(more, max_size=6))
    pairs = ClosurePairs(sorted(edges), num_nodes=n)
    reduced = pairs.reduced()
    kept = reduced.pairs.tolist()
    assert [pair for pair in pairs.pairs.tolist() if pair in kept] == kept
    graph = nx.transitive_reduction(nx.DiGraph(sorted(edges)))
    assert sorted(map(tuple, kept)) == sorted(graph.edges())
    assert sorted(pairs.closed().reduced().pairs.tolist()) == sorted(kept)


def test_reduced__keeps_weights_names_and_labels():
    pairs = ClosurePairs([[0, 1], [0, 2], [1, 2]], weights=[1, 5, 3], names="abc", labels="ABC")
    reduced = pairs.reduced()
    assert_distribution(drawn(reduced), {(0, 1): 1, (1, 2): 3})
    assert (reduced.names.to_list(), reduced.labels.to_list()) == (list("abc"), list("ABC"))
    with pytest.raises(TaxonomyError, match=r"node a is an ancestor of .*: a cycle"):
        ClosurePairs([[0, 1], [1, 0]], names="ab").reduced()


def named(pairs):
    return {tuple(pairs.names[row] for row in pair) for pair in pairs.pairs.tolist()}


EDGES = [("pug", "dog"), ("pug", "pet"), ("dog", "animal"), ("pug", "dog"), ("rock", None)]


def test_from_edges__keeps_the_order_of_edges_and_the_first_of_two():
    edges = [(f"n{i * 37 % 1000}", f"n{(i * 37 + 1) % 1000}") for i in range(999)]
    edges = [edge for edge in edges if edge[0] < edge[1]]
    pairs = ClosurePairs.from_edges(edges + edges[::-1], closed=False)
    names = pairs.names.to_list()
    assert [(names[child], names[parent]) for parent, child in pairs.pairs.tolist()] == edges


def test_from_edges__is_the_closure():
    pairs = ClosurePairs.from_edges(EDGES)
    assert pairs.names.to_list() == ["animal", "dog", "pet", "pug", "rock"]
    direct = {("dog", "pug"), ("pet", "pug"), ("animal", "dog")}
    assert named(pairs) == direct | {("animal", "pug")}
    assert named(ClosurePairs.from_edges(EDGES, closed=False)) == direct
    table = pl.DataFrame({"child": [3, 2], "parent": [2, 1], "label": ["three", None]})
    pairs = ClosurePairs.from_edges(table)
    assert (pairs.names.to_list(), pairs.labels.to_list()) == ([1, 2, 3], [None, None, "three"])
    with pytest.raises(TaxonomyError, match="a cycle"):
        ClosurePairs.from_edges([("a", "b"), ("b", "a")])
    with pytest.raises(TaxonomyError, match="edge 1 is 'ab'"):
        ClosurePairs.from_edges([("a", "b"), "ab"])


def test_from_networkx__takes_edges_from_parent_to_child():
    graph = nx.MultiDiGraph()
    graph.add_edges_from((up, down) for down, up in EDGES if up)
    graph.add_node("rock", name="a stone")
    pairs = ClosurePairs.from_networkx(graph)
    assert named(pairs) == named(ClosurePairs.from_edges(EDGES))
    assert pairs.labels.to_list() == [None, None, None, None, "a stone"]
    with pytest.raises(TaxonomyError, match="undirected"):
        ClosurePairs.from_networkx(nx.Graph([(0, 1)]))
    with pytest.raises(TaxonomyError, match="no nodes"):
        ClosurePairs.from_networkx(nx.DiGraph())
    with pytest.raises(TaxonomyError, match="there are no pairs"):
        ClosurePairs.from_networkx(nx.empty_graph(3, nx.DiGraph))


CELLS = Path(__file__).parents[2] / "tests" / "support" / "cells.obo"


def test_from_obo__reads_terms_labels_and_relations(tmp_path):
    pytest.importorskip("obonet")
    pairs = ClosurePairs.from_obo(CELLS)
    label = dict(zip(pairs.names, pairs.labels, strict=True))
    assert label["CELL:0007"] == "repair of a mitochondrion"
    assert "CELL:0099" not in label  # obsolete
    found = named(pairs)
    assert ("CELL:0001", "CELL:0011") in found  # by a way of three edges
    assert ("CELL:0006", "CELL:0010") not in found
    both = ClosurePairs.from_obo(CELLS, relations=["is_a", "part_of"])
    assert found < named(both)
    assert ("CELL:0006", "CELL:0010") in named(both)
    packed = tmp_path / "cells.obo.gz"
    packed.write_bytes(gzip.compress(CELLS.read_bytes()))
    assert named(ClosurePairs.from_obo(packed)) == found
    with pytest.raises(
        TaxonomyError, match=r"no relation 'has_part'; they have 'is_a', 'part_of'$"
    ):
        ClosurePairs.from_obo(CELLS, relations=["has_part"])
    with pytest.raises(TypeError, match="a list of names"):
        ClosurePairs.from_obo(CELLS, relations="is_a")
    with pytest.raises(FileNotFoundError, match="is the path right"):
        ClosurePairs.from_obo(tmp_path / "none.obo")
    text = tmp_path / "text.obo"
    text.write_text("id1,id2\n")
    with pytest.raises(TaxonomyError, match=r"text\.obo"):
        ClosurePairs.from_obo(text)


@pytest.mark.parametrize("change", ["cut", "changed", "checksum", "too large", "cycle", "no id"])
def test_from_obo__of_what_is_damaged_names_the_file(tmp_path, change):
    pytest.importorskip("obonet")
    data = CELLS.read_bytes()
    if change == "cycle":
        data += b"\n[Term]\nid: A:1\nis_a: A:2\n\n[Term]\nid: A:2\nis_a: A:1\n"
    elif change == "no id":
        data += b"\n[Term]\nid: \nis_a: CELL:0001\n"
    elif change == "too large":
        data += b"\n" * (80 << 20)
    packed = bytearray(gzip.compress(data, mtime=0))
    if change == "cut":
        del packed[-40:]
    elif change == "changed":
        packed[200:240] = bytes(40)
    elif change == "checksum":
        packed[-8] ^= 1
    path = tmp_path / "cells.obo.gz"
    path.write_bytes(packed)
    with pytest.raises(TaxonomyError, match=r"cells\.obo\.gz: "):
        ClosurePairs.from_obo(path)


RELATIONS = CELLS.with_name("relations.obo")
PART = {("CELL:0001", "CELL:0003")}
DEVELOPS = {("CELL:0004", "CELL:0005"), ("CELL:0004", "CELL:0006")}


@pytest.mark.parametrize(
    ("relation", "found"),
    [
        ("BFO:0000050", PART),
        ("BFO_0000050", PART),
        ("part of", PART),
        ("part_of", PART),
        ("develops_from", DEVELOPS),  # of two terms, one of which writes the xref
        ("develops from", DEVELOPS),
        ("RO:0002202", DEVELOPS),
        ("regulates", {("CELL:0005", "CELL:0006")}),  # no stanza
    ],
)
def test_from_obo__knows_relations_by_ids_names_and_xrefs(relation, found):
    pytest.importorskip("obonet")
    pairs = ClosurePairs.from_obo(RELATIONS, relations=[relation], closed=False)
    assert named(pairs) == found
    with_is_a = ClosurePairs.from_obo(RELATIONS, relations=["is_a", relation], closed=False)
    assert named(with_is_a) == found | named(ClosurePairs.from_obo(RELATIONS, closed=False))


def test_from_obo__names_the_relations_that_a_file_has():
    pytest.importorskip("obonet")
    message = (
        r"no relation 'has_part', 'x'; they have 'BFO:0000050' \(part of\), 'RO:0002202' "
        r"\(develops from\), 'develops_from', 'is_a', 'regulates'$"
    )
    with pytest.raises(TaxonomyError, match=message):
        ClosurePairs.from_obo(RELATIONS, relations=["has_part", "part_of", "x"])


class Synset:
    """As nltk's."""

    def __init__(self, name, below=(), instances=()):
        self._name, self._below, self._instances = name, below, instances
        self.up, self.up_instances = [], []
        for other in below:
            other.up.append(self)
        for other in instances:
            other.up_instances.append(self)

    def name(self):
        return self._name

    def hyponyms(self):
        return self._below

    def instance_hyponyms(self):
        return self._instances

    def hypernyms(self):
        return self.up

    def instance_hypernyms(self):
        return self.up_instances


def test_from_wordnet__takes_hypernyms_and_instances(monkeypatch):
    rex = Synset("rex.n.01")
    dog = Synset("dog.n.01", [pug := Synset("pug.n.01")], [rex])
    pet, animal = Synset("pet.n.01", [dog]), Synset("animal.n.01", [dog])
    of = {s.name(): s for s in (rex, dog, pug, pet, animal)}

    def synset(name):
        if name not in of:
            raise RuntimeError(name)
        return of[name]

    def all_synsets(pos):
        return iter(of.values()) if pos == "n" else iter(())

    corpus = types.SimpleNamespace(
        wordnet=types.SimpleNamespace(synset=synset, all_synsets=all_synsets)
    )
    monkeypatch.setitem(sys.modules, "nltk", types.ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    pairs = ClosurePairs.from_wordnet()
    assert named(pairs) == {
        (up, down)
        for up in ("animal.n.01", "pet.n.01")
        for down in ("dog.n.01", "pug.n.01", "rex.n.01")
    } | {("dog.n.01", "pug.n.01"), ("dog.n.01", "rex.n.01")}
    assert named(ClosurePairs.from_wordnet("dog.n.01", closed=False)) == {
        ("dog.n.01", "pug.n.01"),
        ("dog.n.01", "rex.n.01"),
    }
    with pytest.raises(TaxonomyError, match="no synset 'cat'"):
        ClosurePairs.from_wordnet("cat")

    def absent(name):
        raise LookupError(name)

    corpus.wordnet.synset = absent
    with pytest.raises(FileNotFoundError, match=r"nltk\.download\('wordnet'\)"):
        ClosurePairs.from_wordnet("dog.n.01")
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    with pytest.raises(ImportError, match="pip install nltk"):
        ClosurePairs.from_wordnet()
