"""Slow and obvious answers about rankings, groups and pairs: every order that ties allow."""

from itertools import permutations

import numpy as np
from oracles.tree import lca, walk_up


def orders(scores, skip):
    """Every order in which the candidates may be listed: all n! ways to break ties, once each."""
    candidates = [v for v in range(len(scores)) if v != skip]
    return [sorted(way, key=lambda v: scores[v]) for way in permutations(candidates)]


def counts(scores, targets, skip):
    """Of each target: the other candidates with a lower score, and those with the same score.

    A lost target (its score is infinite) is last with every tie against it.
    """
    nearer, tied = [], []
    for target in targets:
        rest = np.delete(scores, [skip, target])
        lost = np.isinf(scores[target])
        nearer.append(len(rest) if lost else int((rest < scores[target]).sum()))
        tied.append(0 if lost else int((rest == scores[target]).sum()))
    return nearer, tied


def lost_last(orders, scores, relevant):
    """Of some orders, those in which every lost relevant candidate comes after all others."""
    lost = {v for v in relevant if np.isinf(scores[v])}
    return [order for order in orders if set(order[len(order) - len(lost) :]) == lost]


def average_precision(order, relevant):
    hits, total = 0, 0.0
    for place, v in enumerate(order, start=1):
        if v in relevant:
            hits += 1
            total += hits / place
    return total / hits


def rank_sum(order, relevant):
    """Each relevant one ranked among the irrelevant: 1 + the irrelevant ones listed before it."""
    total = 0
    for v in relevant:
        total += 1 + sum(w not in relevant for w in order[: order.index(v)])
    return total


def tie_aware_precision(order, tree, k):
    k = min(k, len(order))
    allowed = sorted(tree[v] for v in order)[k - 1]
    return sum(tree[v] <= allowed for v in order[:k]) / k


def plain_precision(order, tree_order, k):
    k = min(k, len(order))
    return len(set(order[:k]) & set(tree_order[:k])) / k


def purity(order, labels, query, k):
    k = min(k, len(order))
    return sum(labels[v] == labels[query] for v in order[:k]) / k


def tree_distance(parent, u, v):
    top = lca(parent, u, v)
    return walk_up(parent, u).index(top) + walk_up(parent, v).index(top)


def tree_matrix(parent):
    n = len(parent)
    return np.array([[tree_distance(parent, u, v) for v in range(n)] for u in range(n)])


def triplet_order(distance, tree):
    """(agreeing − contradicting, comparable) over all pairs of others; a lost one contradicts."""
    agreement, comparable = 0, 0
    for i in range(len(tree)):
        for j in range(i):
            if tree[i] == tree[j]:
                continue
            comparable += 1
            if np.isinf(distance[i]) or np.isinf(distance[j]):
                agreement -= 1
            elif distance[i] != distance[j]:
                agreement += 1 if (distance[i] < distance[j]) == (tree[i] < tree[j]) else -1
    return agreement, comparable


def separation(distance, labels):
    between, within = [], []
    for i in range(len(labels)):
        for j in range(len(labels)):
            if i != j:
                (within if labels[i] == labels[j] else between).append(distance[i][j])
    if not between or not within:
        return float("nan")
    return np.mean(between) / (np.mean(within) + 1e-8)


def mean_distortion(distance, tree, scale):
    return np.mean([abs(d / (scale * t) - 1) for d, t in zip(distance, tree, strict=True)])
