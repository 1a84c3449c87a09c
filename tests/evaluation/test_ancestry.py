"""Pairs for is-a questions: what the kinds are, against definitions by loops over all nodes."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.zoo import trees

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.evaluation.ancestry import balanced_pairs, kinship_of_closure, kinship_of_tree
from poincare_taxa.taxonomy.taxonomy import Taxonomy


def tree_of(parents):
    return Taxonomy.from_parents(parents).tree


@st.composite
def dags(draw):
    """The closure of a random DAG of up to 12 nodes, edges from lower to higher numbers."""
    n = draw(st.integers(2, 12))
    every = [(a, v) for v in range(n) for a in range(v)]
    edges = draw(st.lists(st.sampled_from(every), min_size=1, unique=True))
    return ClosurePairs(torch.tensor(edges), num_nodes=n).closed()


def check_kinds(n, parents_of, above, pairs, kind, m):
    """Every pair is of its kind by the definition, and half of them are ancestors."""
    assert pairs.shape == (2 * m, 2)
    assert (kind == 0).sum() == m
    for (v, w), k in zip(pairs.tolist(), kind.tolist(), strict=True):
        if k == 0:
            assert w in above[v]
            continue
        assert w != v
        assert w not in above[v]
        if k == 1:
            assert v in above[w]
            continue
        assert v not in above[w]
        shared = parents_of[v] & parents_of[w]
        if k == 2:
            assert shared
        else:
            grand = [{g for p in parents_of[x] for g in parents_of[p]} for x in (v, w)]
            assert grand[0] & grand[1]


@settings(deadline=None, max_examples=50)
@given(dags(), st.integers(1, 40), st.integers(0, 9))
def test_pairs_of_a_dag__are_of_their_kinds(closure, m, seed):
    n = closure.num_nodes
    above = [set() for _ in range(n)]
    for a, v in closure.pairs.tolist():
        above[v].add(a)
    parents = [{p for p in above[v] if not any(p in above[b] for b in above[v])} for v in range(n)]
    kin = kinship_of_closure(closure.matrix)
    assert [set(row) for row in np.split(kin.parents.indices, kin.parents.indptr[1:-1])] == parents
    check_kinds(n, parents, above, *balanced_pairs(kin, m, np.random.default_rng(seed)), m)


@settings(deadline=None, max_examples=50)
@given(trees().filter(lambda tax: len(tax) > 1), st.integers(1, 40), st.integers(0, 9))
def test_pairs_of_a_tree__are_of_their_kinds(tax, m, seed):
    tree = tax.tree
    above = [set(tree.ancestors(v).tolist()) for v in range(len(tree))]
    parents = [{int(p)} - {-1} for p in tree.parent]
    kin = kinship_of_tree(tree)
    every = kin.pairs(np.arange(kin.num_pairs))
    assert len(every) == len(np.unique(every, axis=0)) == sum(map(len, above))
    check_kinds(len(tree), parents, above, *balanced_pairs(kin, m, np.random.default_rng(seed)), m)


def test_cousins__share_a_grandparent_and_no_parent_in_a_tree():
    tree = tree_of([-1, 0, 1, 1, 0, 4, 4])
    pairs, kind = balanced_pairs(kinship_of_tree(tree), 300, np.random.default_rng(0))
    assert {tuple(sorted(p)) for p in pairs[kind == 3].tolist()} == {(2, 5), (2, 6), (3, 5), (3, 6)}
    assert {tuple(sorted(p)) for p in pairs[kind == 2].tolist()} == {(1, 4), (2, 3), (5, 6)}
    assert np.bincount(kind).tolist() == [300, 100, 100, 100]


def test_a_chain__has_reversed_pairs_only():
    kind = balanced_pairs(kinship_of_tree(tree_of([-1, 0, 1])), 6, np.random.default_rng(0))[1]
    assert np.bincount(kind).tolist() == [6, 6]


def test_a_single_node__has_no_pairs():
    with pytest.raises(ValueError, match="a single node has none"):
        balanced_pairs(kinship_of_tree(tree_of([-1])), 5, np.random.default_rng(0))
