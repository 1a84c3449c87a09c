"""Explicit pairs: as given, drawn as weighted, and every fault named with its place."""

import gzip

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
        ([(0, 1), (0, 3)], {"num_nodes": 3}, 1, "has a row that is no node; rows run from 0 to 2"),
        ([(0, -1)], {}, 0, "has a row that is no node"),
        ([(0.0, 1.5)], {}, None, "whole numbers, .ancestor, descendant."),
        ([0, 1, 2], {}, None, r"rows \[k, 2\]"),
        ([(0, 1), (2,)], {}, None, r"rows \[k, 2\]"),
        ([("dog", "cat")], {}, None, "for names write a CSV"),
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


@pytest.mark.parametrize("packed", [False, True])
def test_read_csv__numbers_nodes_by_name(tmp_path, packed):
    path = tmp_path / "closure.csv"
    data = b"\xef\xbb\xbfid1,id2,weight\r\ndog,mammal,1\r\ndog,animal,2\r\nmammal,animal,1\r\n"
    path.write_bytes(gzip.compress(data) if packed else data)
    pairs = ClosurePairs.read_csv(path)
    assert pairs.names.to_list() == ["animal", "dog", "mammal"]
    assert pairs.pairs.tolist() == [[2, 1], [0, 1], [0, 2]]
    assert_distribution(drawn(pairs), {(2, 1): 1, (0, 1): 2, (0, 2): 1})


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


def test_closed__keeps_names_and_refuses_cycles_and_weights():
    pairs = ClosurePairs([[0, 1], [1, 2]], names=["a", "b", "c"])
    assert pairs.closed().names.to_list() == ["a", "b", "c"]
    with pytest.raises(TaxonomyError, match="a cycle"):
        ClosurePairs([[0, 1], [1, 2], [2, 0]]).closed()
    with pytest.raises(ValueError, match="pairs with weights have no closure"):
        ClosurePairs([[0, 1], [1, 2]], weights=[1, 2]).closed()


def test_warn_unless_closed__once_with_the_count():
    pairs = ClosurePairs([[0, 1], [1, 2], [2, 3]])
    with pytest.warns(UserWarning, match=r"3 pairs follow from these 3 .*pairs\.closed\(\)"):
        pairs.warn_unless_closed()
    pairs.warn_unless_closed()  # pytest makes a second warning an error
    pairs.closed().warn_unless_closed()
