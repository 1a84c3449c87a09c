"""Sampled others: who can be drawn, and how often."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from scipy import stats
from support.trees import taxonomies

from poincare_taxa.evaluation import samples
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@given(taxonomies(min_size=2), st.integers(0, 2**32 - 1))
def test_lca_balanced_others__part_where_they_say(tax, seed):
    queries = np.arange(len(tax))
    others, depth = samples.lca_balanced_others(tax.tree, queries, 7, np.random.default_rng(seed))
    assert np.all(others != queries[:, None])
    assert np.array_equal(tax.depth[tax.tree.lca(queries[:, None], others)], depth)


def test_lca_balanced_others__every_level_and_every_taxon_of_it_is_as_likely():
    # 0 ─ 1 ─ 2 ─ {3, 4}, 0 ─ {5, 6}: from 3, level 0 holds 0, 5, 6; level 1 1; level 2 2, 4
    tax = Taxonomy.from_parents([-1, 0, 1, 2, 2, 0, 0])
    rng = np.random.default_rng(0)
    others, depth = samples.lca_balanced_others(tax.tree, np.array([3]), 30_000, rng)
    assert stats.chisquare(np.bincount(depth[0])).pvalue > 1e-4
    weight = np.array([1 / 9, 1 / 3, 1 / 6, 0, 1 / 6, 1 / 9, 1 / 9])
    seen = np.bincount(others[0], minlength=7)
    assert seen[3] == 0
    assert stats.chisquare(seen[weight > 0], 30_000 * weight[weight > 0]).pvalue > 1e-4


@given(st.integers(2, 9), st.integers(0, 2**32 - 1))
def test_uniform_others__reach_all_but_the_query(n, seed):
    queries = np.arange(n)
    others = samples.uniform_others(n, queries, 200, np.random.default_rng(seed))
    for q in queries:
        assert set(others[q]) == set(range(n)) - {q}


@given(st.lists(st.integers(-1, 3), min_size=1, max_size=30), st.integers(0, 2**32 - 1))
def test_separation_partners__are_of_the_group_and_of_others(labels, seed):
    labels = np.array(labels)
    rng = np.random.default_rng(seed)
    queries, within, between = samples.separation_partners(labels, np.arange(len(labels)), 60, rng)
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
    draw = samples.separation_partners(labels, np.array([3]), 30_000, np.random.default_rng(0))
    for rows, expected in zip(draw[1:], ([1, 4, 6], [2, 5, 7, 9]), strict=True):
        found, count = np.unique(rows, return_counts=True)
        assert found.tolist() == expected
        assert stats.chisquare(count).pvalue > 1e-4
