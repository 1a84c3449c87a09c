"""Which taxa are compared: others drawn for each query.

Notation: m sampled others of each of Q queries; rows are nodes of the tree.
"""

import numpy as np
from numpy.typing import NDArray

from poincare_taxa.taxonomy.preorder import outside_branch
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["lca_balanced_others", "separation_partners", "uniform_others"]

Rows = NDArray[np.integer]


def uniform_others(n: int, queries: Rows, m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw m other taxa for each query, uniformly: rows [Q, m]."""
    drawn = rng.integers(0, n - 1, (len(queries), m))
    return drawn + (drawn >= np.asarray(queries)[:, None])


def lca_balanced_others(
    tree: Tree, queries: Rows, m: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Draw m others for each query so that near and far relatives are equally frequent.

    First the depth at which the two part, uniformly over the levels of the query's lineage; then a
    taxon that parts there, uniformly. (Uniform pairs nearly all part near the root.)

    Returns
    -------
    others, lca_depth
        Rows and depths, [Q, m].
    """
    queries = np.asarray(queries)
    depth = tree.depth[queries]
    # No taxon parts from a leaf at the leaf itself.
    choices = depth + (tree.end[queries] > queries + 1)
    level, share = np.empty((len(queries), m), np.int64), np.empty((len(queries), m))
    for i, levels in enumerate(choices.tolist()):  # Each query has its numbers from two calls.
        level[i], share[i] = rng.integers(0, levels, m), rng.random(m)
    # The ancestor at that depth, and the rows of its branch that holds the query.
    path, place = tree.lineages(queries), np.arange(len(queries))[:, None]
    up = depth[:, None] - level
    top, branch = path[place, up], path[place, np.maximum(up - 1, 0)]
    stop = np.where(up > 0, tree.end[branch], branch + 1)
    step = (share * (tree.end[top] - top - (stop - branch))).astype(np.int64)
    return outside_branch(top, branch, stop, step), level.astype(np.int32)


def separation_partners(
    labels: Rows, queries: Rows, m: int, rng: np.random.Generator
) -> tuple[Rows, NDArray[np.int64], NDArray[np.int64]]:
    """Draw, for each query, m taxa of its group and m of other groups, uniformly.

    The mean distance to the second over the mean distance to the first is plain separation. Every
    taxon weighs the same, whatever the size of its group.

    Returns
    -------
    queries, within, between
        The queries that have both, [Q'], and rows [Q', m]; the query itself is never drawn.
    """
    order = np.argsort(labels, kind="stable")
    place = np.empty(len(labels), np.int64)
    place[order] = np.arange(len(labels))
    ordered = labels[order]
    first = np.searchsorted(ordered, 0)  # Before it stand those in no group.
    start = np.searchsorted(ordered, labels[queries], "left")
    size = np.searchsorted(ordered, labels[queries], "right") - start
    outside = len(labels) - first - size
    asked = (labels[queries] >= 0) & (size > 1) & (outside > 0)
    queries, start, size, outside = queries[asked], start[asked], size[asked], outside[asked]
    shape = (len(queries), m)
    inside = start[:, None] + rng.integers(0, (size - 1)[:, None], shape)
    inside += inside >= place[queries][:, None]
    other = first + rng.integers(0, outside[:, None], shape)
    other += np.where(other >= start[:, None], size[:, None], 0)
    return queries, order[inside], order[other]
