"""Measures, against loops over every way to break ties; and the laws that forbid flattery."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import assume, given
from oracles import metrics as oracle
from scipy import stats
from support.trees import taxonomies

from poincare_taxa.evaluation import metrics
from poincare_taxa.evaluation.ranks import Ranks, nearest
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@st.composite
def rankings(draw, largest=6):
    """Scores with ties, the query's place, and a set of relevant candidates."""
    n = draw(st.integers(2, largest))
    scores = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), dtype=np.float64)
    scores[scores == 3] = np.inf
    skip = draw(st.integers(0, n - 1))
    others = [v for v in range(n) if v != skip]
    relevant = draw(st.sets(st.sampled_from(others), min_size=1))
    return scores, skip, np.array(sorted(relevant))


# -------------------------------------------------------------------- ranks


@given(rankings())
def test_ranks__average_over_every_way_to_break_ties(case):
    scores, skip, relevant = case
    ranks = Ranks.of(scores, relevant, skip=skip)
    every = oracle.orders(scores, skip)
    precisions = [oracle.average_precision(order, set(relevant)) for order in every]
    sums = [oracle.rank_sum(order, set(relevant)) for order in every]
    assert ranks.count == len(relevant)
    assert ranks.average_precision == pytest.approx(np.mean(precisions), rel=1e-12)
    assert ranks.average_precision_bounds == pytest.approx((min(precisions), max(precisions)))
    assert ranks.realistic == pytest.approx(np.mean(sums))
    assert (ranks.optimistic, ranks.pessimistic) == (min(sums), max(sums))


@given(rankings(largest=40))
def test_ranks__optimistic_realistic_pessimistic_are_in_order(case):
    scores, skip, relevant = case
    ranks = Ranks.of(scores, relevant, skip=skip)
    assert ranks.count <= ranks.optimistic <= ranks.realistic <= ranks.pessimistic
    worst, best = ranks.average_precision_bounds
    assert worst - 1e-12 <= ranks.average_precision <= best + 1e-12
    assert np.all(ranks.before >= 0)
    assert np.all(ranks.tied >= 0)
    if len(set(scores)) == len(scores):
        assert ranks.optimistic == ranks.pessimistic
        assert worst == best == pytest.approx(ranks.average_precision)


def test_ranks__a_million_ties_are_worth_what_chance_is_worth():
    n = 1_000_001
    ranks = Ranks.of(np.zeros(n), np.array([5]), skip=0)
    # One relevant candidate at a random one of n − 1 places: the mean of 1/place.
    assert ranks.average_precision == pytest.approx(np.mean(1 / np.arange(1, n)), rel=1e-7)
    assert ranks.realistic == (n - 1 + 1) / 2


def test_ranks__nothing_relevant_is_undefined():
    ranks = Ranks.of(np.zeros(3), np.empty(0, np.int64), skip=0)
    assert ranks.count == 0
    assert np.isnan(ranks.average_precision)
    assert np.isnan(ranks.average_precision_bounds).all()


@given(rankings(), st.integers(1, 6), st.randoms(use_true_random=False))
def test_nearest__places_are_the_mean_over_every_order(case, k, random):
    scores, skip, _ = case
    worth = np.array([random.random() for _ in scores])
    found = nearest(scores, k, skip=skip)
    places = [order[:k] for order in oracle.orders(scores, skip)]
    expected = np.mean([np.mean(worth[way]) for way in places])
    assert found.mean(lambda rows: worth[rows]) == pytest.approx(expected)
    assert found.k == min(k, len(scores) - 1)
    assert found.edge == max(scores[places[0]])
    sure = set.intersection(*(set(way) for way in places))
    assert set(found.sure) == sure
    assert found.by_lot == pytest.approx(1 - len(sure) / found.k)


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from([10, 1000, 10**9]))
def test_nearest__long_rows_agree_with_a_full_sort(seed, k, distinct):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, distinct, 30_000).astype(rng.choice([np.int32, np.float64]))
    skip = int(rng.choice([0, np.argmin(scores), 29_999]))
    found = nearest(scores, k, skip=skip)
    others = np.delete(scores, skip)
    edge = np.sort(others)[k - 1]
    assert found.edge == edge
    inside = np.flatnonzero((scores < edge) & (np.arange(30_000) != skip))
    tied = np.flatnonzero((scores == edge) & (np.arange(30_000) != skip))
    if len(inside) + len(tied) == k:
        inside, tied = np.sort(np.append(inside, tied)), tied[:0]
    assert np.array_equal(found.sure, inside)
    assert np.array_equal(found.tied, tied)


def test_nearest__a_lone_query_has_no_neighbours():
    found = nearest(np.zeros(1), 10, skip=0)
    assert found.k == 0
    assert np.isnan(found.mean(lambda rows: np.ones(len(rows))))
    assert np.isnan(found.by_lot)


# -------------------------------------------------------------------- the tree


@given(taxonomies())
def test_tree_distances__agree_with_walking_up(tax):
    expected = oracle.tree_matrix(tax.parent)
    for node in range(len(tax)):
        assert np.array_equal(metrics.tree_distances(tax, node), expected[node])


@given(taxonomies(min_size=2), st.integers(0, 2**32 - 1))
def test_lca_balanced_others__part_where_they_say(tax, seed):
    queries = np.arange(len(tax))
    others, depth = metrics.lca_balanced_others(tax, queries, 7, np.random.default_rng(seed))
    assert np.all(others != queries[:, None])
    assert np.array_equal(tax.depth[tax.lca(queries[:, None], others)], depth)


def test_lca_balanced_others__every_level_and_every_taxon_of_it_is_as_likely():
    # 0 ─ 1 ─ 2 ─ {3, 4}, 0 ─ {5, 6}: from 3, level 0 holds 0, 5, 6; level 1 1; level 2 2, 4
    tax = Taxonomy.from_parents([-1, 0, 1, 2, 2, 0, 0])
    rng = np.random.default_rng(0)
    others, depth = metrics.lca_balanced_others(tax, np.array([3]), 30_000, rng)
    assert stats.chisquare(np.bincount(depth[0])).pvalue > 1e-4
    weight = np.array([1 / 9, 1 / 3, 1 / 6, 0, 1 / 6, 1 / 9, 1 / 9])
    seen = np.bincount(others[0], minlength=7)
    assert seen[3] == 0
    assert stats.chisquare(seen[weight > 0], 30_000 * weight[weight > 0]).pvalue > 1e-4


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_uniform_others__reach_all_but_the_query(n, seed):
    queries = np.arange(n)
    others = metrics.uniform_others(n, queries, 200, np.random.default_rng(seed))
    for q in queries:
        assert set(others[q]) == set(range(n)) - {q}


@given(taxonomies(), st.integers(1, 5))
def test_taxon_groups__depths_are_the_ancestors_at_that_depth(tax, depth):
    labels = metrics.taxon_groups(tax, [f"depth {depth}"])[f"depth {depth}"]
    for node in range(len(tax)):
        lineage = [*tax.ancestors(node)[::-1], node]
        assert labels[node] == (lineage[depth] if depth < len(lineage) else -1)


def test_taxon_groups__take_the_ranks_that_divide_from_the_root_down():
    # Two families of two genera of ten species, under one kingdom; "clade" nests in itself.
    parent, rank = [-1, 0, 1], ["no rank", "kingdom", "clade"]
    for _ in range(2):
        family = len(parent)
        parent, rank = [*parent, 2], [*rank, "family"]
        for _ in range(2):
            parent, rank = [*parent, family, len(parent)], [*rank, "clade", "genus"]
            genus = len(parent) - 1
            parent, rank = [*parent, *[genus] * 10], [*rank, *["species"] * 10]
    tax = Taxonomy.from_parents(parent, taxon_ranks=rank)
    groups = metrics.taxon_groups(tax)
    assert list(groups) == ["family", "genus"]
    assert np.array_equal(groups["genus"], tax.ancestor_at_rank("genus"))
    assert list(metrics.taxon_groups(tax, ["species"])) == ["species"]
    unranked = Taxonomy.from_parents(parent)
    assert list(metrics.taxon_groups(unranked)) == ["depth 3", "depth 4", "depth 5"]
    with pytest.raises(ValueError, match="no taxon has the rank 'tribe'; there are clade, family"):
        metrics.taxon_groups(tax, ["tribe"])


def test_taxon_groups__a_tree_that_nothing_divides_has_none():
    assert metrics.taxon_groups(Taxonomy.from_parents([-1, *range(99)])) == {}
    assert metrics.taxon_groups(Taxonomy.from_parents([-1])) == {}


def test_taxon_groups__that_leave_most_taxa_out_are_not_used():
    # Two genera of twelve beside a hundred taxa that are in none.
    parent = [-1, 0, 0, *[1] * 12, *[2] * 12, *[0] * 100]
    ranks = ["no rank", "genus", "genus", *["species"] * 124]
    assert metrics.taxon_groups(Taxonomy.from_parents(parent, taxon_ranks=ranks)) == {}
    assert metrics.taxon_groups(Taxonomy.from_parents(parent)) == {}
    ranked = Taxonomy.from_parents(parent, taxon_ranks=ranks)
    assert list(metrics.taxon_groups(ranked, ["genus"])) == ["genus"]


# -------------------------------------------------------------------- correlation


@given(st.integers(0, 2**32 - 1), st.integers(3, 30))
def test_correlations__agree_with_scipy(seed, n):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 5, n), rng.integers(0, 5, n)
    assume(len(set(x)) > 1 and len(set(y)) > 1)
    assert metrics.pearson(x, y) == pytest.approx(stats.pearsonr(x, y).statistic)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert metrics.spearman(np.exp(y), y) == 1


def test_correlations__a_constant_explains_nothing():
    y = np.arange(5)
    assert metrics.pearson(np.ones(5), y) == 0
    assert metrics.spearman(np.ones(5), y) == 0
    assert np.isnan(metrics.pearson(y, np.ones(5)))


def test_radius_explained_by_depth__is_the_share_between_depths():
    depth = np.array([0, 1, 1, 2, 2])
    assert metrics.radius_explained_by_depth(0.7 * depth, depth) == pytest.approx(1)
    assert metrics.radius_explained_by_depth([5, 1, 3, 0, 4], np.array([0] * 5)) == pytest.approx(0)
    radius = np.array([0.0, 1.0, 3.0, 2.0, 2.0])
    # Mean 1.6, squares 2.56 + .36 + 1.96 + 2 × .16 = 5.2; within depth 1, 1 + 1.
    assert metrics.radius_explained_by_depth(radius, depth) == pytest.approx(1 - 2 / 5.2)


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_triplet_order__agrees_with_loops_and_with_scipy(seed, m):
    rng = np.random.default_rng(seed)
    tree = rng.integers(1, 5, (3, m))
    distance = rng.integers(0, 5, (3, m)).astype(float)
    distance[distance == 4] = np.inf
    agreement, comparable = metrics.triplet_order(distance, tree)
    for i in range(3):
        assert (agreement[i], comparable[i]) == oracle.triplet_order(distance[i], tree[i])
        if comparable[i] and len(set(distance[i])) > 1:
            expected = stats.somersd(tree[i], stats.rankdata(distance[i])).statistic
            assert agreement[i] / comparable[i] == pytest.approx(expected)


def test_triplet_order__is_1_for_the_tree_and_0_for_a_constant():
    tree = np.random.default_rng(0).integers(1, 9, (5, 30))
    for distance, expected in ((tree * 2.5, 1), (np.ones(tree.shape), 0), (-1.0 * tree, -1)):
        agreement, comparable = metrics.triplet_order(distance, tree)
        assert np.all(comparable > 0)
        assert np.array_equal(agreement, expected * comparable)


# -------------------------------------------------------------------- neighbourhoods


@given(rankings(), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_precision__is_the_mean_over_every_order_of_both(case, k, seed):
    scores, skip, _ = case
    tree = np.random.default_rng(seed).integers(1, 4, len(scores))
    near, true = nearest(scores, k, skip=skip), nearest(tree, k, skip=skip)
    tie_aware, plain = metrics.precision(near, tree, true)
    ours, theirs = oracle.orders(scores, skip), oracle.orders(tree, skip)
    assert tie_aware == pytest.approx(
        np.mean([oracle.tie_aware_precision(order, tree, k) for order in ours])
    )
    # Each side breaks its ties independently of the other; membership of one place is enough.
    kk = min(k, len(scores) - 1)
    drawn = np.array([np.mean([v in order[:kk] for order in theirs]) for v in range(len(scores))])
    assert plain == pytest.approx(np.mean([drawn[order[:kk]].sum() / kk for order in ours]))


@given(taxonomies(min_size=3), st.integers(1, 12))
def test_precision__of_the_tree_is_1_and_its_plain_one_the_tie_ceiling(tax, k):
    for q in range(len(tax)):
        tree = metrics.tree_distances(tax, q)
        true = nearest(tree, k, skip=q)
        others = np.delete(tree, q)
        kth = np.sort(others)[true.k - 1]
        less, tied = np.sum(others < kth), np.sum(others == kth)
        ceiling = (less + (true.k - less) ** 2 / tied) / true.k
        assert metrics.precision(true, tree, true) == (1, pytest.approx(ceiling))


@given(rankings(), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_purity__is_the_mean_over_every_order(case, k, seed):
    scores, skip, _ = case
    labels = np.random.default_rng(seed).integers(-1, 2, len(scores))
    near = nearest(scores, k, skip=skip)
    value = metrics.purity(near, labels, skip)
    if labels[skip] < 0:
        assert np.isnan(value)
    else:
        expected = [oracle.purity(way, labels, skip, k) for way in oracle.orders(scores, skip)]
        assert value == pytest.approx(np.mean(expected))


@given(st.lists(st.integers(-1, 3), min_size=2, max_size=20), st.integers(1, 8))
def test_purity__of_a_constant_embedding_is_that_of_chance(labels, k):
    labels = np.array(labels)
    assume((labels >= 0).any())
    same = np.zeros(len(labels))
    values = [metrics.purity(nearest(same, k, skip=q), labels, q) for q in range(len(labels))]
    assert np.nanmean(values) == pytest.approx(metrics.purity_of_chance(labels))


# -------------------------------------------------------------------- distances


@given(st.integers(0, 2**32 - 1), st.integers(1, 20))
def test_distortion__no_scale_is_better(seed, m):
    rng = np.random.default_rng(seed)
    tree = rng.integers(1, 6, m)
    distance = rng.exponential(size=m) * tree
    each, scale = metrics.distortion(distance, tree)
    assert each.mean() == pytest.approx(oracle.mean_distortion(distance, tree, scale))
    # As a function of 1/scale the mean is piecewise linear: its least value is at a pair's own.
    best = min(
        oracle.mean_distortion(distance, tree, d / t) for d, t in zip(distance, tree, strict=True)
    )
    assert each.mean() <= best + 1e-12
    assert np.allclose(metrics.distortion(7 * distance, tree).each, each)


def test_distortion__is_0_for_the_tree_and_1_for_a_point():
    tree = np.array([1, 2, 3])
    assert not metrics.distortion(0.5 * tree, tree).each.any()
    assert np.array_equal(metrics.distortion([0.0, 0, 0], tree).each, [1, 1, 1])
    assert np.array_equal(metrics.distortion([1.0, 2, np.inf], tree).each, [0, 0, np.inf])


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_separation__agrees_with_loops(seed, m):
    rng = np.random.default_rng(seed)
    distance = rng.exponential(size=(m, m))
    distance += distance.T
    labels = rng.integers(0, 3, m)
    value = metrics.separation(distance, labels)
    assert value == pytest.approx(oracle.separation(distance, labels), nan_ok=True)


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_separation_partners__are_of_the_group_and_of_others(labels, seed):
    labels = np.array(labels)
    rng = np.random.default_rng(seed)
    queries, within, between = metrics.separation_partners(labels, np.arange(len(labels)), 60, rng)
    for q in range(len(labels)):
        group = set(np.flatnonzero(labels == labels[q])) - {q}
        outside = set(np.flatnonzero((labels >= 0) & (labels != labels[q])))
        asked = labels[q] >= 0 and bool(group) and bool(outside)
        assert (q in queries) == asked
    for q, near, far in zip(queries, within, between, strict=True):
        assert set(near) <= set(np.flatnonzero(labels == labels[q])) - {q}
        assert set(far) <= set(np.flatnonzero((labels >= 0) & (labels != labels[q])))


def test_separation_partners__are_drawn_uniformly():
    labels = np.array([-1, 7, 0, 7, 7, 0, 7, 0, -1, 3])
    draw = metrics.separation_partners(labels, np.array([3]), 30_000, np.random.default_rng(0))
    for rows, expected in zip(draw[1:], ([1, 4, 6], [2, 5, 7, 9]), strict=True):
        found, count = np.unique(rows, return_counts=True)
        assert found.tolist() == expected
        assert stats.chisquare(count).pvalue > 1e-4


def test_pooled_separation_pairs__are_those_of_the_script():
    # Twelve groups of 10 to 21 members, one too small, listed in a shuffled order of ids.
    sizes = [10 + i for i in range(12)] + [9]
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(13), sizes))
    labels = np.append(labels, [-1, -1])
    order = rng.permutation(len(labels))
    pairs = metrics.pooled_separation_pairs(labels, order, np.random.default_rng(0))
    listed = list(dict.fromkeys(labels[v] for v in order))  # as a dict would remember them
    listed = [group for group in listed if group not in (-1, 12)]
    for number, group in enumerate(listed):
        own = [v for v in order if labels[v] == group]
        within = pairs.within & (pairs.group == number)
        drawn = set(zip(pairs.first[within], pairs.second[within], strict=True))
        assert drawn == {
            (own[i], own[j]) for i in range(len(own)) for j in range(i + 1, min(i + 20, len(own)))
        }
        assert within.sum() == len(drawn)
        between = ~pairs.within & (pairs.group == number)
        assert set(labels[pairs.first[between]]) <= {group}
        partners, count = np.unique(labels[pairs.second[between]], return_counts=True)
        assert set(partners) == set(listed[number + 1 : number + 10])
        for partner, drawn_count in zip(partners, count, strict=True):
            assert drawn_count == min(100, sizes[group] * sizes[partner])


def test_pooled_separation_pairs__keep_100_members_and_as_many_groups_as_asked():
    labels = np.repeat(np.arange(30), 150)
    rng = np.random.default_rng(0)
    pairs = metrics.pooled_separation_pairs(labels, np.arange(len(labels)), rng, groups=7)
    assert set(pairs.group) == set(range(7))
    for number in range(7):
        within = pairs.within & (pairs.group == number)
        assert len(set(pairs.first[within]) | set(pairs.second[within])) == 100
        assert within.sum() == sum(min(19, 99 - i) for i in range(100))
    nothing = metrics.pooled_separation_pairs(np.full(5, -1), np.arange(5), rng)
    assert len(nothing.first) == len(nothing.group) == 0
