import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks.targets import (
    clade_levels,
    clade_log_probs,
    hierarchical_cross_entropy,
    soft_labels,
)
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

RANKS = ["root", "family", "genus", "species", "species", "genus", "species", "species"]
TAX = Taxonomy.from_parents([-1, 0, 1, 2, 2, 1, 5, 0], taxon_ranks=RANKS)
LEAVES = [3, 4, 6, 7]


def random_log_probs(seed, shape, spread):
    generator = torch.Generator().manual_seed(seed)
    logits = spread * torch.randn(*shape, dtype=torch.float64, generator=generator)
    return logits.log_softmax(-1)


@given(st.integers(0, 99), st.sampled_from([1.0, 30.0, 300.0]))
def test_clade_log_probs__are_sums_with_all_their_digits(seed, spread):
    """Also of probabilities as small as e^−1000, which a sum of probabilities would lose."""
    log_probs = random_log_probs(seed, (3, 9), spread)
    slices = np.random.default_rng(seed).integers(0, 10, size=(7, 2))
    slices.sort(axis=1)
    low, high = torch.from_numpy(slices).unbind(1)
    found = clade_log_probs(log_probs, low, high)
    for k, (a, b) in enumerate(slices):
        expected = log_probs[:, a:b].logsumexp(-1)
        assert torch.allclose(found[:, k], expected, rtol=1e-14, atol=1e-14)


def test_clade_log_probs__have_the_gradient_of_the_sum():
    log_probs = random_log_probs(0, (2, 5), 50.0)
    log_probs[0, :2] = -math.inf  # as candidates that are not possible
    low, high = torch.tensor([0, 0, 2, 3]), torch.tensor([5, 2, 4, 3])
    one, other = (log_probs.clone().requires_grad_() for _ in range(2))
    found = clade_log_probs(one, low, high)
    assert torch.equal(found[:, 3], torch.full((2,), -math.inf).double())
    found[:, [0, 2]].sum().backward()
    (other.logsumexp(-1) + other[:, 2:4].logsumexp(-1)).sum().backward()
    assert torch.allclose(one.grad, other.grad, rtol=1e-13)


def test_clade_levels__number_the_clades_of_each_rank():
    levels = clade_levels(TAX, LEAVES, ["genus", "family"])
    assert levels.tolist() == [[2, 2, 5, 7], [1, 1, 1, 7]]
    with pytest.raises(ValueError, match="no taxon has the rank 'order'"):
        clade_levels(TAX, LEAVES, ["order"])


@given(st.integers(0, 99), st.lists(st.floats(0, 3), min_size=2, max_size=2))
def test_hierarchical_cross_entropy__is_the_weighted_sum_over_levels(seed, weights):
    log_probs = random_log_probs(seed, (5, 4), 3.0)
    target = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, 5))
    levels = clade_levels(TAX, LEAVES)
    expected = 0.0
    for sample, y in enumerate(target.tolist()):
        expected -= log_probs[sample, y].item() / 5
        for weight, level in zip(weights, levels.tolist(), strict=True):
            clade = [c for c in range(4) if level[c] == level[y]]
            p = sum(math.exp(log_probs[sample, c]) for c in clade)
            expected -= weight * math.log(p) / 5
    found = hierarchical_cross_entropy(log_probs, target, levels, weights)
    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_hierarchical_cross_entropy__refuses_what_does_not_fit():
    log_probs, target = random_log_probs(0, (2, 4), 1.0), torch.tensor([0, 1])
    levels = clade_levels(TAX, LEAVES)
    with pytest.raises(ValueError, match="levels are"):
        hierarchical_cross_entropy(log_probs[:, :3], target, levels)
    for weights in ([1.0], [1.0, -1.0]):
        with pytest.raises(ValueError, match="weights are 2 numbers, at least 0"):
            hierarchical_cross_entropy(log_probs, target, levels, weights)


@given(st.floats(0.1, 50))
def test_soft_labels__fall_by_the_same_factor_with_every_edge(beta):
    labels = soft_labels(TAX, LEAVES, beta).double()
    assert torch.allclose(labels.sum(1), torch.ones(4).double(), atol=1e-6)
    edges = TAX.tree.distance(np.array(LEAVES)[:, None], LEAVES)
    ratio = (labels / labels.diagonal()[:, None]).log()
    expected = -beta * torch.from_numpy(edges) / edges.max()
    shown = labels > 1e-30
    assert torch.allclose(ratio[shown], expected[shown].double(), atol=2e-5)


def test_soft_labels__of_some_targets_are_rows_of_all():
    labels = soft_labels(TAX, LEAVES, 3.0)
    assert torch.equal(soft_labels(TAX, LEAVES, 3.0, targets=[6, 3]), labels[[2, 0]])


def test_soft_labels__refuse_what_makes_no_labels(monkeypatch):
    with pytest.raises(ValueError, match="beta must be positive; got 0"):
        soft_labels(TAX, LEAVES, 0.0)
    with pytest.raises(TaxonomyError, match="99"):
        soft_labels(TAX, [3, 99])
    monkeypatch.setattr("poincare_taxa.blocks.targets._MOST_CELLS", 15)
    with pytest.raises(ValueError, match="those of each batch, with targets="):
        soft_labels(TAX, LEAVES)
