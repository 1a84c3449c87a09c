"""Helpers for tests of samplers: trees to sample from, and whether counts fit a distribution."""

from collections import Counter

import torch
from oracles.tree import walk_up
from scipy.stats import chisquare

from poincare_taxa.taxonomy.taxonomy import Taxonomy

# 0 ─ 1 ─ 2 ─ (3, 4)        a fork of leaves below a path
#   └ 5 ─ (6 ─ 7, 8, 9)     a family with a child that has one
#   └ 10
TREE = Taxonomy.from_parents([-1, 0, 1, 2, 2, 0, 5, 6, 5, 5, 0])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_distribution(drawn, probability, at_least=1e-4):
    """Drawn values have the probabilities {value: p}; nothing else occurs (χ², fixed seed)."""
    counts = Counter(drawn)
    assert set(counts) <= set(probability), set(counts) - set(probability)
    total = sum(probability.values())
    expected = [len(drawn) * p / total for p in probability.values()]
    assert min(expected) >= 5, "too few draws for a χ² test"
    assert chisquare([counts[v] for v in probability], expected).pvalue > at_least


def ancestors(tax, node):
    return set(walk_up(tax.parent, node)[1:])


def descendants(tax, node):
    return {v for v in range(len(tax)) if node in ancestors(tax, v)}


def closure_of(tax):
    return [(a, v) for v in range(len(tax)) for a in sorted(ancestors(tax, v))]
