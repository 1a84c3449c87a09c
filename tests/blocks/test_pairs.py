"""Laws of the positive pairs: nothing missing, nothing twice, drawn as stated."""

import itertools

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from support.sampling import TREE, assert_distribution, closure_of, generator
from support.trees import taxonomies
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.pairs import (
    AncestorPairs,
    LCAPairs,
    LCATriplets,
    MixedPairs,
    PairSampler,
    ParentChildPairs,
    StratifiedPairs,
)
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy

SHARES = {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8}


def gap(tax, pair):
    return int(tax.depth[pair[1]] - tax.depth[pair[0]])


def drawn(pairs, count=20_000, seed=0):
    return [tuple(pair) for pair in pairs.sample(count, generator=generator(seed)).tolist()]


@given(taxonomies(min_size=2))
def test_ancestor_pairs__are_the_closure_in_the_stated_order(tax):
    pairs = AncestorPairs(tax)
    listed = [tuple(pair.tolist()) for pair in pairs]
    assert len(pairs) == len(listed)
    assert sorted(listed) == sorted(closure_of(tax))
    order = [(int(tax.depth[v]), v, gap(tax, (a, v))) for a, v in listed]
    assert order == sorted(order)


@given(taxonomies(min_size=2), st.integers(1, 6), st.integers(0, 6))
def test_ancestor_pairs__hold_the_gaps_asked_for(tax, least, more):
    most = least + more
    wanted = [pair for pair in closure_of(tax) if least <= gap(tax, pair) <= most]
    if not wanted:
        with pytest.raises(ValueError, match="no pairs with gap"):
            AncestorPairs(tax, min_gap=least, max_gap=most)
        return
    pairs = AncestorPairs(tax, min_gap=least, max_gap=most)
    assert sorted(map(tuple, pairs[range(len(pairs))].tolist())) == sorted(wanted)


@given(taxonomies(min_size=2))
def test_parent_child_pairs__are_the_edges(tax):
    pairs = ParentChildPairs(tax)
    edges = sorted(map(tuple, pairs[range(len(pairs))].tolist()))
    assert edges == sorted((int(p), v) for v, p in enumerate(tax.parent) if v)


@given(taxonomies(min_size=2), st.data())
def test_indexing__takes_numbers_lists_and_tensors_from_either_end(tax, data):
    pairs = AncestorPairs(tax)
    places = data.draw(st.lists(st.integers(-len(pairs), len(pairs) - 1), min_size=1))
    assert torch.equal(pairs[places], torch.stack([pairs[i] for i in places]))
    assert torch.equal(pairs[torch.tensor(places)], pairs[places])
    for place in (len(pairs), -len(pairs) - 1):
        with pytest.raises(IndexError, match="out of range"):
            pairs[place]


def test_data_loader__can_ask_for_whole_batches():
    pairs = AncestorPairs(TREE)
    sampler = BatchSampler(RandomSampler(pairs, generator=generator()), 4, drop_last=False)
    batches = list(DataLoader(pairs, sampler=sampler, batch_size=None))
    assert sorted(map(tuple, torch.cat(batches).tolist())) == sorted(closure_of(TREE))


def test_sample__is_uniform_over_pairs():
    assert_distribution(drawn(AncestorPairs(TREE)), dict.fromkeys(closure_of(TREE), 1))
    two = [pair for pair in closure_of(TREE) if gap(TREE, pair) == 2]
    assert_distribution(drawn(AncestorPairs(TREE, min_gap=2, max_gap=2)), dict.fromkeys(two, 1))


def test_sample__keeps_the_shares_of_strata_and_is_uniform_within():
    strata = {"parent": [], "grandparent": [], "deeper": []}
    for pair in closure_of(TREE):
        strata[["parent", "grandparent", "deeper"][min(gap(TREE, pair), 3) - 1]].append(pair)
    probability = {pair: SHARES[s] / len(strata[s]) for s in SHARES for pair in strata[s]}
    assert_distribution(drawn(StratifiedPairs(TREE, SHARES)), probability)


def test_sample__keeps_the_shares_of_depths():
    pairs = StratifiedPairs(TREE, {1: 1, (2, 2): 2, (3, None): 3}, by="depth")
    number = [sum(TREE.depth[v] == d for _, v in closure_of(TREE)) for d in range(4)]
    probability = {(a, v): TREE.depth[v] / number[TREE.depth[v]] for a, v in closure_of(TREE)}
    assert_distribution(drawn(pairs), probability)


def test_sample__repeats_with_its_generator():
    pairs = StratifiedPairs(TREE, SHARES)
    assert drawn(pairs, 50, seed=1) == drawn(pairs, 50, seed=1) != drawn(pairs, 50, seed=2)


@given(taxonomies(min_size=2), st.sampled_from([None, 1, 2, 4]), st.sampled_from([None, 1, 3]))
def test_limit__keeps_what_is_within(tax, max_gap, max_depth):
    kept = [
        (a, v)
        for a, v in closure_of(tax)
        if gap(tax, (a, v)) <= (max_gap or 99) and tax.depth[v] <= (max_depth or 99)
    ]
    pairs = AncestorPairs(tax).limit(max_gap=max_gap, max_depth=max_depth)
    assert sorted(map(tuple, pairs[range(len(pairs))].tolist())) == sorted(kept)


def test_limit__leaves_the_shares_of_the_strata_that_remain():
    for max_depth in (None, 3):  # TREE has no deeper nodes
        pairs = StratifiedPairs(TREE, SHARES).limit(max_gap=2, max_depth=max_depth)
        gaps = [gap(TREE, pair) for pair in drawn(pairs)]
        assert_distribution(gaps, {1: 0.5, 2: 0.5})
        with pytest.raises(ValueError, match="no pairs are left"):
            StratifiedPairs(TREE, {"deeper": 1}).limit(max_gap=2, max_depth=max_depth)


def mixture():
    """Half edges, a quarter of all pairs, a quarter of two pairs that are no pairs of the tree."""
    strangers = ClosurePairs([[3, 4], [9, 8]], num_nodes=len(TREE))
    return MixedPairs([ParentChildPairs(TREE), AncestorPairs(TREE), strangers], [2, 1, 1])


def test_mixed_pairs__keep_the_shares_of_their_sources():
    every, edges = closure_of(TREE), [(int(p), v) for v, p in enumerate(TREE.parent) if v]
    probability = {pair: 0.25 / len(every) for pair in every} | {(3, 4): 1 / 8, (9, 8): 1 / 8}
    for pair in edges:
        probability[pair] += 0.5 / len(edges)
    assert_distribution(drawn(mixture()), probability)
    assert drawn(mixture(), 50, seed=1) == drawn(mixture(), 50, seed=1)


def test_mixed_pairs__are_mixed_within_a_batch_independently():
    one, two = (ClosurePairs([pair], num_nodes=4) for pair in ([0, 1], [2, 3]))
    batches = MixedPairs([one, two], [1, 3]).sample(20_000, generator=generator()).view(-1, 2, 2)
    ends = [tuple(batch) for batch in batches[:, :, 1].tolist()]
    assert_distribution(ends, {(1, 1): 1, (1, 3): 3, (3, 1): 3, (3, 3): 9})


def test_mixed_pairs__list_their_sources_one_after_the_other():
    mixed = mixture()
    listed = [pair for source in mixed.sources for pair in source[range(len(source))].tolist()]
    assert len(mixed) == len(listed)
    assert mixed[range(len(mixed))].tolist() == listed
    assert [mixed[i].tolist() for i in (0, 9, 10, -1)] == [listed[i] for i in (0, 9, 10, -1)]
    with pytest.raises(IndexError, match="out of range"):
        mixed[len(mixed)]


def test_mixed_pairs__limit_every_source_and_give_up_those_that_are_empty():
    far, near = AncestorPairs(TREE, min_gap=3), AncestorPairs(TREE, max_gap=2)
    mixed = MixedPairs([far, MixedPairs([far, near], [1, 1]), ParentChildPairs(TREE)], [5, 1, 3])
    gaps = [gap(TREE, pair) for pair in drawn(mixed.limit(max_gap=2))]
    two = sum(gap(TREE, pair) == 2 for pair in closure_of(TREE)) / len(near)
    assert_distribution(gaps, {1: 3 / 4 + (1 - two) / 4, 2: two / 4})
    assert max(TREE.depth[v] for _, v in drawn(mixed.limit(max_depth=1))) == 1
    with pytest.raises(ValueError, match="no pairs are left with max_gap=2"):
        MixedPairs([far], [1]).limit(max_gap=2)
    with pytest.raises(ValueError, match="ClosurePairs has no depths and so no limits"):
        MixedPairs([near, mixture()], [1, 1]).limit(max_gap=2)


@pytest.mark.parametrize(
    ("sources", "shares", "message"),
    [
        ([], [], "0 shares for 0 sources"),
        ([AncestorPairs(TREE)], [1, 1], "2 shares for 1 sources"),
        ([AncestorPairs(TREE)], [0], "shares must be positive"),
        ([AncestorPairs(TREE)], [float("nan")], "shares must be positive"),
        ([AncestorPairs(TREE), ClosurePairs([[0, 1]])], [1, 1], r"different nodes: \[2, 11\]"),
    ],
)
def test_mixed_pairs__refuse_with_advice(sources, shares, message):
    with pytest.raises(ValueError, match=message):
        MixedPairs(sources, shares)


def test_pairs__of_a_deep_tree_need_no_closure():
    depth = 100_000
    pairs = AncestorPairs(Taxonomy.from_parents(range(-1, depth)))
    assert len(pairs) == depth * (depth + 1) // 2
    assert pairs[-1].tolist() == [0, depth]
    assert pairs[0].tolist() == [0, 1]


def test_pairs__share_a_tree_and_move_together():
    tree = TreeIndex(TREE)
    pairs = AncestorPairs(tree)
    assert pairs.tree is tree
    assert isinstance(pairs, PairSampler)
    moved = StratifiedPairs(tree, SHARES).to("meta")
    assert moved.tree.device.type == moved._blocks.device.type == "meta"


@pytest.mark.parametrize(
    ("shares", "by", "message"),
    [
        ({}, "gap", "shares must be positive"),
        ({"parent": 0.0}, "gap", "shares must be positive"),
        ({"parent": 1, 1: 1}, "gap", "shares must be positive, one for each stratum"),
        ({(1, 2): 1, (2, 3): 1}, "gap", "overlap"),
        ({"deeper": 1, 9: 1}, "gap", "overlap"),
        ({9: 1}, "gap", "no pairs with gap 9: the taxonomy is 3 levels deep"),
        ({(5, None): 1}, "gap", "no pairs with gap 5…: the taxonomy"),
        ({"sibling": 1}, "gap", "a stratum is"),
        ({"parent": 1}, "depth", "a stratum is"),
        ({0: 1}, "depth", "a stratum is"),
        ({1: 1}, "rank", "by must be"),
    ],
)
def test_stratified_pairs__refuse_with_advice(shares, by, message):
    with pytest.raises(ValueError, match=message):
        StratifiedPairs(TREE, shares, by=by)


def test_samplers__refuse_what_has_no_pairs():
    alone = Taxonomy.from_parents([-1])
    for make in (AncestorPairs, ParentChildPairs, LCAPairs):
        with pytest.raises(ValueError, match="0 levels deep"):
            make(alone)
    with pytest.raises(ValueError, match="1 levels deep"):
        LCATriplets(Taxonomy.from_parents([-1, 0, 0]))
    for pairs in (AncestorPairs(TREE), LCAPairs(TREE), LCATriplets(TREE)):
        with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
            pairs.sample(0)
        assert len(pairs.sample(1)) == 1


def test_lca_pairs__are_even_over_the_depths_of_the_lca():
    nodes = range(1, len(TREE))
    probability = {}
    for u in nodes:
        for j in range(TREE.depth[u]):
            meeting = [v for v in range(len(TREE)) if TREE.depth[TREE.tree.lca(u, v)] == j]
            for v in meeting:
                probability[u, v] = 1 / (len(nodes) * TREE.depth[u] * len(meeting))
    assert_distribution(drawn(LCAPairs(TREE), 40_000), probability)


@given(taxonomies(min_size=2), st.integers(0, 99))
def test_lca_triplets__have_the_nearer_node_below_the_deeper_lca(tax, seed):
    assume(tax.max_depth >= 2)
    for u, near, far in LCATriplets(tax).sample(20, generator=generator(seed)).tolist():
        assert tax.depth[tax.tree.lca(u, near)] > tax.depth[tax.tree.lca(u, far)]


def test_lca_triplets__choose_two_depths_evenly():
    depths = [
        (
            int(TREE.depth[u]),
            int(TREE.depth[TREE.tree.lca(u, near)]),
            int(TREE.depth[TREE.tree.lca(u, far)]),
        )
        for u, near, far in drawn(LCATriplets(TREE))
    ]
    deep = [v for v in range(len(TREE)) if TREE.depth[v] >= 2]
    probability = {}
    for v in deep:
        choices = list(itertools.combinations(range(TREE.depth[v]), 2))
        for far, near in choices:
            key = (int(TREE.depth[v]), near, far)
            probability[key] = probability.get(key, 0) + 1 / (len(deep) * len(choices))
    assert_distribution(depths, probability)
