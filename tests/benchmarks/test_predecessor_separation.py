"""The predecessor's two definitions of separation, against loops."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given
from oracles import metrics as oracle

import poincare_taxa as pt
from benchmarks.experiments import predecessor_separation
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.evaluation.subjects import TreeSubject, polar_subject
from poincare_taxa.testing import synthetic_taxonomy


@given(st.integers(0, 2**32 - 1), st.integers(2, 12))
def test_separation__agrees_with_loops(seed, m):
    rng = np.random.default_rng(seed)
    distance = rng.exponential(size=(m, m))
    distance += distance.T
    labels = rng.integers(0, 3, m)
    value = predecessor_separation.separation(distance, labels)
    assert value == pytest.approx(oracle.separation(distance, labels), nan_ok=True)


def test_pooled_pairs__are_those_of_the_script():
    # Twelve groups of 10 to 21 members, one too small, listed in a shuffled order of ids.
    sizes = [10 + i for i in range(12)] + [9]
    rng = np.random.default_rng(1)
    labels = rng.permutation(np.repeat(np.arange(13), sizes))
    labels = np.append(labels, [-1, -1])
    order = rng.permutation(len(labels))
    pairs = predecessor_separation.pooled_pairs(labels, order, np.random.default_rng(0))
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


def test_pooled_pairs__keep_100_members_and_as_many_groups_as_asked():
    labels = np.repeat(np.arange(30), 150)
    rng = np.random.default_rng(0)
    pairs = predecessor_separation.pooled_pairs(labels, np.arange(len(labels)), rng, groups=7)
    assert set(pairs.group) == set(range(7))
    for number in range(7):
        within = pairs.within & (pairs.group == number)
        assert len(set(pairs.first[within]) | set(pairs.second[within])) == 100
        assert within.sum() == sum(min(19, 99 - i) for i in range(100))
    nothing = predecessor_separation.pooled_pairs(np.full(5, -1), np.arange(5), rng)
    assert len(nothing.first) == len(nothing.group) == 0


def test_training_log__is_all_pairs_of_the_labelled_taxa():
    tax = synthetic_taxonomy(120)
    radius, direction, _ = pt.layout(tax, 4)
    labels = np.arange(120) % 5 - 1
    rows = np.flatnonzero(labels >= 0)
    subject = polar_subject(radius, direction)
    matrix = pt.polar.cdist(radius, direction, radius, direction)[rows][:, rows].numpy()
    for found, distance in (
        (subject, matrix),
        (TreeSubject(tax.tree), oracle.tree_matrix(tax.tree.parent)[np.ix_(rows, rows)]),
    ):
        value = predecessor_separation.training_log(found, labels, seed=0)
        assert value == pytest.approx(oracle.separation(distance, labels[rows]))


def test_analysis_script__pools_its_pairs_and_is_undefined_where_a_taxon_is_lost():
    tax = synthetic_taxonomy(400)
    radius, direction, _ = pt.layout(tax, 4)
    labels = next(iter(taxon_groups(tax).values()))
    value = predecessor_separation.analysis_script(
        polar_subject(radius, direction), tax, labels, seed=0
    )
    order = tax.ids.arg_sort().to_numpy()
    ratios = []
    for seed in range(20):
        pairs = predecessor_separation.pooled_pairs(labels, order, np.random.default_rng(seed))
        d = pt.polar.dist(
            radius[pairs.first],
            direction[pairs.first],
            radius[pairs.second],
            direction[pairs.second],
        ).numpy()
        ratios.append(d[~pairs.within].mean() / d[pairs.within].mean())
    assert min(ratios) * 0.98 < value < max(ratios) * 1.02
    assert value > 1.2
    lost = torch.where(torch.from_numpy(labels) >= 0, torch.nan, radius)
    assert np.isnan(
        predecessor_separation.analysis_script(polar_subject(lost, direction), tax, labels, seed=0)
    )
