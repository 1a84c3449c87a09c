"""The closure layout: perfect ranking of ancestors on every tree, against the slow definition."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.realdata import real_data

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.layout import closure_layout, nested_start, packed_start
from poincare_taxa.closure.ranking import rank_ancestors
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.geometry import polar
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError
from poincare_taxa.training.run import fit

TREES = st.integers(1, 40).flatmap(
    lambda n: st.tuples(*(st.integers(0, max(i - 1, 0)) for i in range(1, n)))
)


def ancestors(parent, v):
    found = []
    while parent[v] >= 0:
        v = parent[v]
        found.append(v)
    return found


def worst_margin(points, parent):
    """How much farther than its farthest ancestor the nearest other node is, at the worst node."""
    r, u, _ = points
    d = polar.cdist(r, u, r, u).numpy()
    margins = [np.inf]
    for v in range(len(parent)):
        above = ancestors(parent, v)
        others = np.setdiff1d(np.arange(len(parent)), [*above, v])
        if above and len(others):
            margins.append(d[v, others].min() - d[v, above].max())
    return min(margins)


@given(TREES, st.integers(2, 5))
@settings(deadline=None, max_examples=60)
def test_every_tree__ranks_all_ancestors_before_all_others(parents, dim):
    tax = Taxonomy.from_parents([-1, *parents])
    points = closure_layout(tax, dim)
    assert points.direction.shape == (len(tax), dim)
    if points.info["unresolved"] == 0:
        assert worst_margin(points, tax.parent) > 0


@given(TREES)
@settings(deadline=None, max_examples=30)
def test_caps__are_nested_for_ancestors_and_disjoint_for_others(parents):
    tax = Taxonomy.from_parents([-1, *parents])
    r, u, _ = closure_layout(tax)
    inner = np.flatnonzero((tax.num_children > 0) & (tax.parent >= 0))
    centre = torch.atan2(u[:, 1], u[:, 0]).numpy()
    half = 2 * np.arctan(np.exp(-r.numpy() / 2))
    slack = 1e-12
    for a in inner:
        for b in inner[inner != a]:
            apart = abs(centre[a] - centre[b])
            if tax.tree.is_ancestor(a, b):
                assert apart + half[b] <= half[a] + slack
                assert apart >= half[b] - slack  # outside of its descendants' caps
            elif not tax.tree.is_ancestor(b, a):
                assert apart >= half[a] + half[b] - slack


def test_a_forest__has_no_root_in_the_way():
    pairs = ClosurePairs([(0, 1), (0, 2), (3, 4), (4, 5), (3, 5)])
    assert worst_margin(closure_layout(pairs), [-1, 0, 0, -1, 3, 4]) > 0


def test_a_dag__is_its_spanning_tree():
    pairs = ClosurePairs([(0, 1), (0, 2), (1, 3), (2, 3), (0, 3), (2, 4), (0, 4)])
    points = closure_layout(pairs)
    assert points.info["missed"] == 1
    assert worst_margin(points, [-1, 0, 0, 1, 2]) > 0


def test_a_node_with_several_parents__keeps_the_one_with_most_ancestors():
    edges = [(0, 1), (1, 2), (0, 3), (3, 4), (2, 4)]
    pairs = ClosurePairs([*edges, (0, 2), (0, 4), (1, 4)])
    points = closure_layout(pairs)
    assert points.info["missed"] == 1  # (3, 4); the other way up would miss two
    assert worst_margin(points, [-1, 0, 1, 0, 2]) > 0


def test_a_comb__says_what_float64_cannot_tell_apart():
    comb = [-1] + [p for i in range(0, 140, 2) for p in (i, i)]
    assert closure_layout(Taxonomy.from_parents(comb)).info["unresolved"] > 0
    assert closure_layout(Taxonomy.from_parents(comb[:41])).info["unresolved"] == 0


def test_faults__are_named():
    with pytest.raises(ValueError, match="dim must be at least 2, got 1"):
        closure_layout(Taxonomy.from_parents([-1, 0]), 1)
    with pytest.raises(ValueError, match="dim must be at least 2, got 1"):
        nested_start(ClosurePairs([(0, 1)]), 1)
    with pytest.raises(ValueError, match="dim must be at least 2, got 1"):
        packed_start(ClosurePairs([(0, 1)]), 1)
    with pytest.raises(TaxonomyError, match="node b is an ancestor of one of its ancestors"):
        closure_layout(ClosurePairs([(1, 2), (2, 1), (0, 1)], names=["a", "b", "c"]))


def test_wordnet_mammals__miss_one_genus_only():
    pairs = ClosurePairs.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    r, u, info = closure_layout(pairs)
    assert info == {"unresolved": 0, "missed": 10, "paired": 0}
    d = polar.cdist(r, u, r, u)
    related = torch.zeros(len(r), len(r), dtype=torch.bool)
    related[pairs.pairs[:, 1], pairs.pairs[:, 0]] = True
    farthest = d.masked_fill(~related, -torch.inf).max(1).values
    others = d.masked_fill(related | torch.eye(len(r), dtype=torch.bool), torch.inf).min(1).values
    assert int((others <= farthest).sum()) == 10


def test_two_parents_apart__share_a_child_in_four_dimensions():
    edges = [(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 6), (2, 7), (3, 8), (3, 9), (1, 9)]
    pairs = ClosurePairs([*edges, *((0, v) for v in range(4, 10))])
    ancestor, descendant = pairs.pairs.numpy().T
    for dim, paired in ((2, 0), (4, 1), (7, 1)):
        r, u, info = closure_layout(pairs, dim)
        assert info["paired"] == paired
        d = polar.cdist(r, u, r, u).numpy()
        ahead = [
            np.delete(d[v], [*ancestor[descendant == v], v]).min()
            > d[v, ancestor[descendant == v]].max()
            for v in range(1, 10)
        ]
        assert all(ahead) == bool(paired)


def test_wordnet_mammals__are_perfect_in_four_dimensions():
    pairs = ClosurePairs.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    r, u, info = closure_layout(pairs, 5)
    assert info["paired"] == 1
    assert rank_ancestors(pairs, r, u)[:2] == (1, 1)


def test_leaves_an_ulp_apart__are_farther_from_each_other_than_any_ancestor():
    comb = [-1] + [p for i in range(0, 80, 2) for p in (i, i)]
    r, u, info = closure_layout(Taxonomy.from_parents(comb))
    assert info["unresolved"] == 0
    leaf = torch.from_numpy(np.setdiff1d(np.arange(len(comb)), comb))
    one = u[leaf]
    turned = one + torch.stack((-one[:, 1], one[:, 0]), 1) * 2.0**-52
    assert ((turned != one).any(1)).all()
    inner = torch.from_numpy(np.unique(comb[1:]))
    farthest = polar.cdist(r[leaf], one, r[inner], u[inner]).max(1).values
    assert (polar.dist(r[leaf], one, r[leaf], turned) > farthest).all()


@pytest.mark.parametrize("dim", [2, 5])
def test_nested_start__is_near_the_parents_and_farther_out_the_smaller(dim):
    rng, above = np.random.default_rng(3), [set() for _ in range(60)]
    for v in range(1, 60):
        for p in rng.choice(v, min(v, rng.integers(1, 3)), replace=False).tolist():
            above[v] |= {p} | above[p]
    pairs = ClosurePairs([(a, v) for v in range(60) for a in sorted(above[v])], num_nodes=60)
    radius, direction, _ = nested_start(pairs, dim, seed=1)
    size = torch.bincount(pairs.pairs[:, 0], minlength=60)
    assert (radius[size.argsort()].diff() <= 0).all()
    torch.testing.assert_close(direction.norm(dim=1), torch.ones(60, dtype=torch.float64))
    again, other = nested_start(pairs, dim, seed=1), nested_start(pairs, dim, seed=2)
    assert torch.equal(again.direction, direction)
    assert not torch.equal(other.direction, direction)
    related = torch.zeros(60, 60, dtype=torch.bool)
    related[pairs.pairs[1:, 0], pairs.pairs[1:, 1]] = True
    related[0] = False  # of all
    cosine = direction @ direction.T
    strangers = torch.ones(60, 60, dtype=torch.bool).triu(1) & ~related
    assert cosine[related].mean() > cosine[strangers].mean()


@given(st.integers(0, 1000), st.integers(2, 5))
@settings(deadline=None, max_examples=15)
def test_packed_start__of_a_tree_nests_caps(seed, dim):
    rng = np.random.default_rng(seed)
    parent = [int(rng.integers(v)) for v in range(1, 40)]
    pairs = ClosurePairs.from_edges([(v, p) for v, p in enumerate(parent, 1)]).closed()
    names = pairs.names.to_list()
    radius, direction, _ = packed_start(pairs, dim, seed=seed)
    cap = 2 * torch.atan(torch.exp(-radius / 2))
    for v, p in enumerate(parent, 1):
        v, p = names.index(v), names.index(p)
        apart = 2 * torch.asin((direction[v] - direction[p]).norm() / 2)
        assert apart <= cap[p] - cap[v] + 1e-9


def test_packed_start__puts_a_node_where_most_of_its_descendants_are():
    # In the forest 14 is below 1, which has more ancestors than 2, and of 2 only 3 is left.
    edges = [(17, 0), (1, 17), (14, 1), (2, 0), (14, 2), (3, 2)]
    edges += [(leaf, 14) for leaf in range(4, 14)] + [(15, 4), (16, 5)]
    pairs = ClosurePairs.from_edges(edges).closed()
    names = pairs.names.to_list()
    radius, direction, _ = packed_start(pairs, 3)
    at = {name: i for i, name in enumerate(names)}
    assert torch.equal(direction[at[2]], direction[at[14]])
    assert radius[at[2]] < radius[at[14]]
    assert not torch.equal(direction[at[1]], direction[at[2]])


def test_closure_layout__counts_missed_pairs_of_edges_too():
    edges = [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)]
    with pytest.warns(UserWarning, match=r"4 pairs follow from these 5"):
        open_layout = closure_layout(ClosurePairs(edges))
    assert open_layout.info["missed"] == 1  # one of the two parents of 3
    closed = ClosurePairs(edges).closed()
    assert closure_layout(closed).info["missed"] == 2  # the same one, of 3 and of 4


@pytest.mark.parametrize("use", [nested_start, packed_start, rank_ancestors, ClosureSoftmax, fit])
def test_closure_mode__warns_of_pairs_that_are_not_closed(use):
    pairs = ClosurePairs([(0, 1), (1, 2), (0, 3)])
    points = nested_start(pairs.closed(), 3)[:2]
    arguments = {nested_start: (3,), packed_start: (3,), rank_ancestors: points}.get(use, ())
    options = {"epochs": 1, "progress": False} if use is fit else {}
    with pytest.warns(UserWarning, match=r"1 pairs follow from these 3 .*closed\(\)") as caught:
        use(pairs, *arguments, **options)
    assert len(caught) == 1
