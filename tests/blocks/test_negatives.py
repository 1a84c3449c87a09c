"""Negatives are exactly the nodes they should be, each as often as stated."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.sampling import (
    TREE,
    ancestors,
    assert_distribution,
    closure_of,
    descendants,
    generator,
)
from support.trees import taxonomies

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.negatives import (
    CousinNegatives,
    MixedNegatives,
    NegativeSampler,
    SameDepthNegatives,
    SharedNegatives,
    UniformNegatives,
)
from poincare_taxa.blocks.pairs import AncestorPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

ANCHORS = ["ancestor", "descendant"]
EXCLUDES = ["relatives", "positives", "nothing"]
DAG = ClosurePairs([(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (2, 4), (0, 4)], num_nodes=7)


def excluded(tax, pair, anchor, exclude):
    """What must not be drawn for a pair; a tree or a ClosurePairs."""
    a, v = pair
    x = a if anchor == "ancestor" else v
    if isinstance(tax, ClosurePairs):
        listed = [tuple(p) for p in tax.pairs.tolist()]
        above, below = {a for a, v in listed if v == x}, {v for a, v in listed if a == x}
    else:
        above, below = ancestors(tax, x), descendants(tax, x)
    if exclude == "nothing":
        return set()
    if exclude == "relatives":
        return {x} | above | below
    return {x} | (below if anchor == "ancestor" else above)


def enumerated(sampler, pair):
    """Every node that a sampler can draw for a pair, as often as it is one of its choices."""
    region = sampler._region(torch.tensor([pair]))
    mass = int(region.mass())
    return region.at(torch.arange(mass)[None, :])[0].tolist() if mass else []


def pairs_of(tax):
    return torch.tensor(closure_of(tax)).reshape(-1, 2)


def cousins_top(tax, x, levels):
    """The ancestor `levels` up, or the first one with another child if that is higher."""
    walk = sorted(ancestors(tax, x), reverse=True)
    forks = [i for i, a in enumerate(walk) if tax.num_children[a] > 1]
    first = forks[0] if forks else len(walk) - 1
    return walk[min(max(levels - 1, first), len(walk) - 1)] if walk else x


@given(taxonomies(min_size=2, max_size=20), st.sampled_from(ANCHORS), st.sampled_from(EXCLUDES))
def test_uniform__can_draw_each_allowed_node_in_one_way(tax, anchor, exclude):
    sampler = UniformNegatives(tax, 1, anchor=anchor, exclude=exclude)
    for pair in closure_of(tax):
        allowed = set(range(len(tax))) - excluded(tax, pair, anchor, exclude)
        assert sorted(enumerated(sampler, pair)) == sorted(allowed)


@given(taxonomies(min_size=2, max_size=15), st.sampled_from(ANCHORS), st.sampled_from(EXCLUDES))
def test_uniform__draws_the_same_from_a_closure_as_from_its_tree(tax, anchor, exclude):
    pairs = ClosurePairs(closure_of(tax), num_nodes=len(tax))
    tree = UniformNegatives(tax, 1, anchor=anchor, exclude=exclude)
    closure = UniformNegatives(pairs, 1, anchor=anchor, exclude=exclude)
    for pair in closure_of(tax):
        assert sorted(enumerated(closure, pair)) == sorted(enumerated(tree, pair))


@pytest.mark.parametrize("exclude", EXCLUDES)
@pytest.mark.parametrize("anchor", ANCHORS)
def test_uniform__can_draw_each_allowed_node_of_a_dag_in_one_way(anchor, exclude):
    sampler = UniformNegatives(DAG, 1, anchor=anchor, exclude=exclude)
    for pair in DAG.pairs.tolist():
        allowed = set(range(7)) - excluded(DAG, pair, anchor, exclude)
        assert sorted(enumerated(sampler, pair)) == sorted(allowed)


@given(st.data(), st.sampled_from(ANCHORS), st.sampled_from(["relatives", "positives"]))
def test_ignored_pairs_and_what_follows__are_never_drawn(data, anchor, exclude):
    """Of a DAG whose edges alone are listed, and of pairs to ignore."""
    rows = st.tuples(st.integers(0, 7), st.integers(0, 7))
    edges = data.draw(st.sets(rows.filter(lambda e: e[0] < e[1]), min_size=1, max_size=9))
    ignore = data.draw(st.sets(rows.filter(lambda e: e[0] != e[1]), min_size=1, max_size=6))
    source = ClosurePairs(sorted(edges), num_nodes=8)
    related = ClosurePairs(sorted(ignore | {tuple(p) for p in source.closed().pairs.tolist()}))
    options = {"anchor": anchor, "exclude": exclude, "ignore": sorted(ignore)}
    sampler = UniformNegatives(source, 1, **options)
    tile = SharedNegatives(source, None, **options).tile(source.pairs)
    for pair, mask in zip(source.pairs.tolist(), tile.mask.tolist(), strict=True):
        allowed = set(range(8)) - excluded(related, pair, anchor, exclude)
        assert sorted(enumerated(sampler, pair)) == sorted(allowed)
        assert [v for v in range(8) if mask[v]] == sorted(allowed)
    assert {tuple(p) for p in sampler.ignored.tolist()} == {
        tuple(p) for p in source.beyond(sorted(ignore)).tolist()
    }


def test_ignore__is_refused_where_it_does_nothing():
    with pytest.raises(ValueError, match="in a tree no relative is a negative"):
        UniformNegatives(TREE, 1, ignore=[(0, 1)])
    with pytest.raises(ValueError, match="leave one out"):
        SharedNegatives(DAG, 1, exclude="nothing", ignore=[(0, 6)])
    with pytest.raises(TaxonomyError, match="row that is no node"):
        UniformNegatives(DAG, 1, ignore=[(0, 7)])


@given(taxonomies(min_size=2, max_size=20), st.sampled_from(ANCHORS))
def test_same_depth__can_draw_each_unrelated_node_of_the_level_in_one_way(tax, anchor):
    sampler = SameDepthNegatives(tax, 1, anchor=anchor)
    unfiltered = SameDepthNegatives(tax, 1, anchor=anchor, exclude="nothing")
    for a, v in closure_of(tax):
        positive = v if anchor == "ancestor" else a
        level = {w for w in range(len(tax)) if tax.depth[w] == tax.depth[positive]}
        assert sorted(enumerated(unfiltered, (a, v))) == sorted(level)
        allowed = level - excluded(tax, (a, v), anchor, "relatives")
        assert sorted(enumerated(sampler, (a, v))) == sorted(allowed)


@given(
    taxonomies(min_size=2, max_size=20),
    st.integers(1, 4),
    st.sampled_from(ANCHORS),
    st.sampled_from(EXCLUDES),
)
def test_cousins__are_the_allowed_nodes_below_the_ancestor_levels_up(tax, levels, anchor, exclude):
    sampler = CousinNegatives(tax, 1, levels=levels, anchor=anchor, exclude=exclude)
    for a, v in closure_of(tax):
        top = cousins_top(tax, a if anchor == "ancestor" else v, levels)
        family = {top} | descendants(tax, top)
        allowed = family - excluded(tax, (a, v), anchor, exclude)
        assert sorted(enumerated(sampler, (a, v))) == sorted(allowed)


@given(taxonomies(min_size=2, max_size=15), st.sampled_from(ANCHORS), st.integers(0, 99))
def test_negatives__are_never_related_and_missing_only_where_there_is_none(tax, anchor, seed):
    pairs = pairs_of(tax)
    samplers = [
        UniformNegatives(tax, 3, anchor=anchor),
        CousinNegatives(tax, 3, anchor=anchor),
        SameDepthNegatives(tax, 3, anchor=anchor),
        SharedNegatives(tax, 3, anchor=anchor),
        UniformNegatives(tax, 3, anchor=anchor, weights=np.arange(1, len(tax) + 1)),
    ]
    for sampler in samplers:
        nodes = sampler(pairs, generator(seed))
        assert nodes.shape == (len(pairs), 3)
        assert nodes.dtype == torch.int64
        for pair, row in zip(closure_of(tax), nodes.tolist(), strict=True):
            unrelated = set(range(len(tax))) - excluded(tax, pair, anchor, "relatives")
            assert set(row) <= unrelated | {-1}
            if isinstance(sampler, UniformNegatives | CousinNegatives):
                assert (-1 in row) == (not unrelated)


def test_cousins__of_a_tree_of_one_node_are_none():
    sampler = CousinNegatives(Taxonomy.from_parents([-1]), 2)
    assert sampler(torch.tensor([[0, 0]]), generator()).tolist() == [[-1, -1]]
    assert sampler(torch.empty((0, 2), dtype=torch.int64), generator()).shape == (0, 2)


@pytest.mark.parametrize("exclude", EXCLUDES)
@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("weights", [None, np.array([1, 2, 0, 3, 1, 5, 1, 0.5, 2, 1, 4])])
def test_uniform__is_uniform_or_as_weighted(anchor, exclude, weights):
    pair = (5, 7)
    sampler = UniformNegatives(TREE, 100, anchor=anchor, exclude=exclude, weights=weights)
    nodes = sampler(torch.tensor([pair]).expand(200, 2), generator()).flatten().tolist()
    allowed = set(range(len(TREE))) - excluded(TREE, pair, anchor, exclude)
    weights = np.ones(len(TREE)) if weights is None else weights
    assert_distribution(nodes, {v: weights[v] for v in allowed if weights[v]})


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("weights", [None, np.array([1, 2, 0, 3, 1, 5, 4])])
def test_uniform__is_uniform_or_as_weighted_in_a_dag(anchor, weights):
    pair = (2, 3)
    sampler = UniformNegatives(DAG, 100, anchor=anchor, weights=weights)
    nodes = sampler(torch.tensor([pair]).expand(200, 2), generator()).flatten().tolist()
    allowed = set(range(7)) - excluded(DAG, pair, anchor, "relatives")
    weights = np.ones(7) if weights is None else weights
    assert_distribution(nodes, {v: weights[v] for v in allowed if weights[v]})


def test_cousins_and_same_depth__are_uniform():
    pairs = torch.tensor([(0, 7)]).expand(200, 2)
    nodes = CousinNegatives(TREE, 100, levels=2)(pairs, generator()).flatten().tolist()
    assert_distribution(nodes, {8: 1, 9: 1})
    pairs = torch.tensor([(1, 3)]).expand(200, 2)
    nodes = SameDepthNegatives(TREE, 100)(pairs, generator()).flatten().tolist()
    assert_distribution(nodes, {5: 1, 10: 1})


def test_negatives__repeat_with_their_generator():
    pairs = pairs_of(TREE)
    for sampler in (UniformNegatives(TREE, 9), SharedNegatives(TREE, 9)):
        one, same, other = (sampler(pairs, generator(seed)) for seed in (1, 1, 2))
        assert torch.equal(one, same)
        assert not torch.equal(one, other)


@pytest.mark.parametrize("weights", [None, np.array([1, 2, 0.5, 3, 1, 5, 4])])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_log_weights__make_sums_estimate_those_over_all_allowed_nodes(anchor, weights):
    pairs = DAG.pairs
    value = torch.arange(7.0).exp()
    exact = torch.zeros(len(pairs))
    for i, pair in enumerate(pairs.tolist()):
        exact[i] = value[list(set(range(7)) - excluded(DAG, pair, anchor, "relatives"))].sum()
    sampler = UniformNegatives(DAG, 20_000, anchor=anchor, weights=weights)
    nodes = sampler(pairs, generator())
    terms = value[nodes] * sampler.log_weights(pairs, nodes).exp()
    torch.testing.assert_close(terms.sum(1).float(), exact, rtol=0.05, atol=0)

    tile = SharedNegatives(DAG, 20_000, anchor=anchor, weights=weights).tile(pairs, generator())
    terms = value[tile.nodes] * tile.log_weights.exp() * tile.mask
    torch.testing.assert_close(terms.sum(1).float(), exact, rtol=0.05, atol=0)


def test_log_weights__are_0_where_there_is_no_negative():
    tax = Taxonomy.from_parents([-1, 0, 1, 0, 0])  # all are below 0; of 1, only 3 and 4 are not
    pairs = torch.tensor([(0, 2), (1, 2)])
    for weights, sums in ((None, [0, 2]), ([1, 1, 1, 3, 3], [0, 6])):
        sampler = UniformNegatives(tax, 5, anchor="ancestor", weights=weights)
        nodes = sampler(pairs, generator())
        assert nodes[0].tolist() == [-1] * 5
        expected = torch.tensor(sums)[:, None] / (5 * (1 if weights is None else 3))
        found = sampler.log_weights(pairs, nodes)
        assert found[0].tolist() == [0] * 5
        torch.testing.assert_close(found[1].exp(), expected[1].expand(5).to(found))


@pytest.mark.parametrize("weights", [None, np.array([2, 1, 4, 3, 1, 5, 4])])
def test_log_weights__are_those_of_the_odds_of_each_node(weights):
    sampler = UniformNegatives(DAG, 100, exclude="nothing", weights=weights)
    nodes = sampler(DAG.pairs, generator())
    assert set(nodes.unique().tolist()) == set(range(7))
    odds = torch.full((7,), 1 / 7) if weights is None else torch.tensor(weights / weights.sum())
    found = sampler.log_weights(DAG.pairs, nodes)
    torch.testing.assert_close(found, -(100 * odds[nodes]).log().to(found.dtype))


@pytest.mark.parametrize("num_negatives", [None, 7])
@given(
    tax=taxonomies(min_size=2, max_size=15),
    anchor=st.sampled_from(ANCHORS),
    exclude=st.sampled_from(EXCLUDES),
    seed=st.integers(0, 99),
)
def test_tile__masks_exactly_what_is_excluded(tax, anchor, exclude, num_negatives, seed):
    pairs = pairs_of(tax)
    for source in (tax, ClosurePairs(closure_of(tax), num_nodes=len(tax))):
        sampler = SharedNegatives(source, num_negatives, anchor=anchor, exclude=exclude)
        tile = sampler.tile(pairs, generator(seed))
        nodes = tile.nodes.tolist()
        assert nodes == sorted(nodes)
        assert num_negatives is not None or nodes == list(range(len(tax)))
        for pair, mask in zip(closure_of(tax), tile.mask.tolist(), strict=True):
            forbidden = excluded(tax, pair, anchor, exclude)
            assert mask == [v not in forbidden for v in nodes]


def test_tile__is_drawn_as_weighted_and_fits_the_seam():
    weights = np.array([1, 2, 0, 3, 1, 5, 1, 0.5, 2, 1, 4])
    sampler = SharedNegatives(TREE, 20_000, weights=weights)
    tile = sampler.tile(pairs_of(TREE), generator())
    assert_distribution(tile.nodes.tolist(), {v: w for v, w in enumerate(weights) if w})
    nodes = sampler(pairs_of(TREE), generator())
    assert torch.equal(nodes >= 0, tile.mask)
    assert (nodes[tile.mask] == tile.nodes.expand_as(nodes)[tile.mask]).all()


def test_mixed__puts_any_callables_side_by_side():
    hard = CousinNegatives(TREE, 2)
    mixed = MixedNegatives([hard, lambda pairs, generator: pairs[:, :1]])
    pairs = pairs_of(TREE)
    nodes = mixed(pairs, generator(3))
    assert torch.equal(nodes[:, :2], hard(pairs, generator(3)))
    assert torch.equal(nodes[:, 2], pairs[:, 0])
    assert mixed.anchor == MixedNegatives([lambda *_: nodes]).anchor == "descendant"
    above = [UniformNegatives(TREE, 2, anchor="ancestor") for _ in range(2)]
    assert MixedNegatives([*above, lambda *_: nodes]).anchor == "ancestor"
    assert isinstance(mixed, NegativeSampler)
    assert mixed.to("meta").samplers[0].tree.device.type == "meta"
    with pytest.raises(ValueError, match="different anchors"):
        MixedNegatives([hard, UniformNegatives(TREE, 2, anchor="ancestor")])
    with pytest.raises(ValueError, match="at least one"):
        MixedNegatives([])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: UniformNegatives(TREE, 0), "num_negatives must be at least 1; got 0"),
        (lambda: UniformNegatives(TREE, 1, anchor="parent"), "anchor must be"),
        (lambda: UniformNegatives(TREE, 1, exclude="some"), "exclude must be"),
        (lambda: UniformNegatives(TREE, 1, weights=[1, 2]), "one number for each of 11 nodes"),
        (lambda: UniformNegatives(TREE, 1, weights=[-1] * 11), "weight 0 is -1"),
        (lambda: SameDepthNegatives(TREE, 1, anchor="parent"), "anchor must be"),
        (lambda: SameDepthNegatives(TREE, 1, exclude="positives"), "exclude must be"),
        (lambda: CousinNegatives(TREE, 1, levels=0), "levels must be at least 1; got 0"),
        (lambda: SharedNegatives(TREE, 0), "at least 1, or None; got 0"),
        (lambda: SharedNegatives(TREE, 5, anchor="both"), "anchor must be"),
        (lambda: SharedNegatives(TREE, None, weights=[1] * 11), "weights are for nodes that are"),
    ],
)
def test_negatives__refuse_with_advice(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_negatives__move_and_share_a_tree():
    tree = TreeIndex(TREE)
    assert CousinNegatives(tree, 1).tree is tree
    for source in (tree, DAG):
        moved = UniformNegatives(source, 1, weights=range(1, 8 if source is DAG else 12)).to("meta")
        assert moved.weights.device.type == "meta"
        shared = SharedNegatives(source, 2).to("meta")
        assert shared._all.device.type == "meta"
    assert SharedNegatives(DAG, 2).to("meta")._candidates._key.device.type == "meta"


def test_uniform__draws_among_all_of_a_large_tree():
    """No rejection: in a path with one leaf at the top, a deep anchor has one negative."""
    depth = 10_000
    tax = Taxonomy.from_parents([*range(-1, depth), 0])
    nodes = UniformNegatives(tax, 5)(AncestorPairs(tax)[[-1]], generator())
    assert nodes.tolist() == [[depth + 1] * 5]
