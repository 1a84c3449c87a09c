r"""Is an embedding any good: each measure as a function of arrays, usable without the rest.

Every function takes *scores* or *distances* and does not care where they come from, so the tree's
own distances go through the same code as an embedding's: that is the ceiling of a report.

Notation: q query, v candidate, d distance, t tree distance (edges), k neighbours; a *label* is the
row of the group's top taxon, -1 for a taxon in no group; n taxa, m sampled others of a query.

Sources: [S62] Somers 1962.  [S18] Sala et al. 2018, §2 (distortion).  [TE] the predecessor
``taxembed``, March 2026 (two definitions of separation).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from poincare_taxa.evaluation.ranks import Nearest
from poincare_taxa.taxonomy.columns import NO_RANK
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = [
    "Distortion",
    "PairSample",
    "distortion",
    "lca_balanced_others",
    "pearson",
    "pooled_separation_pairs",
    "precision",
    "purity",
    "purity_of_chance",
    "radius_explained_by_depth",
    "separation",
    "separation_partners",
    "spearman",
    "taxon_groups",
    "tree_distances",
    "triplet_order",
    "uniform_others",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]


# -------------------------------------------------------------------- the tree as an embedding


def tree_distances(
    taxonomy: Taxonomy, node: int, out: NDArray[np.int32] | None = None
) -> NDArray[np.int32]:
    """Edges between a node and every node: int32 [n], written to `out` where that is given.

    depth q + depth v − 2 depth lca(q, v), where the lowest common ancestor is constant on slices:
    in preorder the subtrees of q's ancestors are nested ranges.
    """
    end, depth = taxonomy.end, taxonomy.depth
    path = [*taxonomy.ancestors(node)[::-1].tolist(), node]
    stops = [*path[1:], *end[path[::-1]].tolist()]  # Down into the nested ranges, and out again.
    levels = [*range(len(path) - 1), *range(len(path) - 1, -1, -1)]
    distance = np.empty(len(taxonomy), np.int32) if out is None else out
    start = 0
    for stop, level in zip(stops, levels, strict=True):
        distance[start:stop] = len(path) - 1 - 2 * level
        start = stop
    distance += depth
    return distance


def uniform_others(n: int, queries: Rows, m: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw m other taxa for each query, uniformly: rows [Q, m]."""
    drawn = rng.integers(0, n - 1, (len(queries), m))
    return drawn + (drawn >= np.asarray(queries)[:, None])


def lca_balanced_others(
    taxonomy: Taxonomy, queries: Rows, m: int, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """Draw m others for each query so that near and far relatives are equally frequent.

    First the depth at which the two part, uniformly over the levels of the query's lineage; then a
    taxon that parts there, uniformly. (Uniform pairs nearly all part near the root.)

    Returns
    -------
    others, lca_depth
        Rows and depths, [Q, m].
    """
    end = taxonomy.end
    others = np.empty((len(queries), m), np.int64)
    levels = np.empty((len(queries), m), np.int32)
    for i, q in enumerate(np.asarray(queries).tolist()):
        path = np.append(taxonomy.ancestors(q)[::-1], q)
        deepest = len(path) - (end[q] == q + 1)  # No taxon parts from a leaf at the leaf itself.
        level = rng.integers(0, deepest, m)
        top, below = path[level], np.append(path, q)[level + 1]
        stop = np.append(end[path], q + 1)[level + 1]  # Of the branch that holds the query.
        inside = stop - below
        step = (rng.random(m) * (end[top] - top - inside)).astype(np.int64)
        others[i] = top + step + np.where(top + step >= below, inside, 0)
        levels[i] = level
    return others, levels


def taxon_groups(
    taxonomy: Taxonomy, names: Sequence[str] | None = None, *, smallest: int = 10
) -> dict[str, NDArray[np.int32]]:
    """Classes to judge by: for each taxon rank, the group that every taxon belongs to.

    Parameters
    ----------
    taxonomy
        Where it has no ranks, the clades at the first depths that divide it are used instead.
    names
        Taxon ranks, or "depth 1", "depth 2", …; by default those that divide at least half of all
        taxa into two or more groups of `smallest` or more, and do not nest in themselves as
        "clade" does: from the root down, at most eight.

    Returns
    -------
    labels
        Name → int32 [n]: row of the nearest self-or-ancestor that has the rank, -1 where none has.

    Raises
    ------
    ValueError
        If a name is not a taxon rank of this taxonomy.
    """
    known = taxonomy.taxon_ranks.unique().cast(pl.String).to_list()
    if names is None:
        names = _dividing_ranks(taxonomy, smallest) or _dividing_depths(taxonomy, smallest)
    groups = {}
    for name in names:
        kind, _, level = name.partition(" ")
        if kind == "depth" and level.isdigit():
            groups[name] = _ancestor_at_depth(taxonomy, int(level))
        elif name in known:
            groups[name] = taxonomy.ancestor_at_rank(name)
        else:
            raise ValueError(
                f"no taxon has the rank {name!r}; there are {', '.join(sorted(known))}"
                " (and 'depth 1', 'depth 2', …)"
            )
    return groups


def _dividing_ranks(taxonomy: Taxonomy, smallest: int) -> list[str]:
    tops = pl.DataFrame({"rank": taxonomy.taxon_ranks, "row": np.arange(len(taxonomy))})
    found = []
    for (name,), table in tops.filter(pl.col("rank") != NO_RANK).group_by("rank"):
        rows = table["row"].sort().to_numpy()
        nested = rows[1:] < np.maximum.accumulate(taxonomy.end[rows])[:-1]
        sizes = taxonomy.subtree_size[rows]
        if nested.sum() <= 0.01 * len(rows) and _divides(sizes, len(taxonomy), smallest):
            found.append((taxonomy.depth[rows].mean(), str(name)))
    return [name for _, name in sorted(found)][:8]


def _dividing_depths(taxonomy: Taxonomy, smallest: int) -> list[str]:
    large = taxonomy.subtree_size >= smallest
    clades = np.bincount(taxonomy.depth[large])
    covered = np.bincount(taxonomy.depth[large], taxonomy.subtree_size[large])
    divides = (clades >= 2) & (covered >= len(taxonomy) / 2)
    return [f"depth {depth}" for depth in np.flatnonzero(divides)[:4]]


def _divides(sizes: NDArray[np.int32], n: int, smallest: int) -> bool:
    large = sizes[sizes >= smallest]
    return len(large) >= 2 and bool(large.sum() >= n / 2)


def _ancestor_at_depth(taxonomy: Taxonomy, depth: int) -> NDArray[np.int32]:
    # In preorder, the last node of this depth met so far is the ancestor of all that is deeper.
    rows = np.arange(len(taxonomy), dtype=np.int32)
    last = np.maximum.accumulate(np.where(taxonomy.depth == depth, rows, -1))
    return np.where(taxonomy.depth >= depth, last, -1).astype(np.int32)


# -------------------------------------------------------------------- correlation


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of an embedding's quantity x with the tree's quantity y.

    nan where `y` is constant: there is nothing to explain. 0 where only `x` is: it explains
    nothing.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(b) == 0 or b.min() == b.max():
        return np.nan
    if a.min() == a.max():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))  # Exactly 1 where a is b.


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of the ranks, tied values sharing the mean of theirs."""
    return pearson(rankdata(x), rankdata(y))


def radius_explained_by_depth(radius: ArrayLike, depth: Rows) -> float:
    """Share of the variance of the radius that lies between depths, in [0, 1] (η²).

    1: the radius is a function of depth, and its correlation with depth is planted, not learned.
    """
    r = np.asarray(radius, np.float64)
    r = r - r.mean() if len(r) else r
    total = r @ r
    if total == 0:
        return np.nan
    count = np.bincount(depth)
    mean = np.bincount(depth, r) / np.maximum(count, 1)
    within = r - mean[depth]
    return float(1 - within @ within / total)


def triplet_order(distance: Floats, tree: Rows) -> tuple[Floats, Floats]:
    """Ask of two others whether embedding and tree agree which is nearer to the query.

    Somers' D of the embedding given the tree [S62], per query: (agreeing − contradicting) /
    (comparable) pairs of others. Pairs that the tree ties are not asked, since either order is
    right; pairs that only the embedding ties count as neither. So the tree itself scores 1, a
    constant embedding 0, and random order 0 in the mean.

    Parameters
    ----------
    distance, tree
        [Q, m]: embedding's and tree's distance from each query to its m others.

    Returns
    -------
    agreement, comparable
        [Q] each: the numerator and the denominator.
    """
    agreement, comparable = np.zeros(len(tree)), np.zeros(len(tree))
    for shift in range(1, tree.shape[1]):
        expected = np.sign(tree[:, shift:] - tree[:, :-shift])
        nearer, farther = distance[:, :-shift], distance[:, shift:]
        given = (farther > nearer).astype(np.int8) - (farther < nearer)
        agreement += (expected * given).sum(1)
        comparable += np.abs(expected).sum(1)
    return agreement, comparable


# -------------------------------------------------------------------- neighbourhoods


def precision(near: Nearest, tree: Rows, true: Nearest) -> tuple[float, float]:
    """Precision at k of one query: tie-aware and plain.

    *Tie-aware*: share of the k nearest that are no farther in the tree than the k-th nearest of
    the tree is. *Plain*: share of them that belong to *the* k nearest of the tree; where the tree
    ties the last of these, they are drawn by lot, so that a perfect embedding gets only
    (n_less + (k − n_less)² / n_tied) / k: the tie ceiling, which is `true` put in for `near`.

    Parameters
    ----------
    near
        The k nearest in the embedding.
    tree
        Tree distance from the query, [n].
    true
        The k nearest in the tree: ``nearest(tree, k, skip=query)``.
    """
    at_edge = (true.k - len(true.sure)) / len(true.tied) if len(true.tied) else 1.0

    def chance(rows: Rows) -> Floats:
        distance = tree[rows]
        return np.where(distance < true.edge, 1.0, np.where(distance == true.edge, at_edge, 0.0))

    return near.mean(lambda rows: tree[rows] <= true.edge), near.mean(chance)


def purity(near: Nearest, labels: Rows, query: int) -> float:
    """Share of a query's k nearest that have its label; nan where it has none.

    Neighbours in no group count as different.
    """
    if labels[query] < 0:
        return np.nan
    return near.mean(lambda rows: labels[rows] == labels[query])


def purity_of_chance(labels: Rows) -> float:
    """Purity expected of random neighbours, in the mean over the taxa that have a label."""
    labelled = labels[labels >= 0]
    size = np.bincount(labelled).astype(np.float64) if len(labelled) else np.zeros(1)
    return float(size @ (size - 1) / max(1, len(labelled) * (len(labels) - 1)))


# -------------------------------------------------------------------- distances


class Distortion(NamedTuple):
    """How far distances are from proportional to the tree's.

    Attributes
    ----------
    each : float64 [m]
        |d / (scale · t) − 1| of each pair.
    scale
        Embedding distance that stands for one edge: the one that makes the mean least.
    """

    each: Floats
    scale: float


def distortion(distance: ArrayLike, tree: ArrayLike) -> Distortion:
    """Relative error of distances after the best common scale [S18, §2, with the scale left free].

    The best scale minimises the mean of |d / (s·t) − 1|. As a function of 1/s that is
    Σ x |1/s − 1/x| with x = d/t, so s is the median of x weighted by x.

    Parameters
    ----------
    distance, tree
        [m]: distances of pairs, `tree` at least 1. Infinite distances are infinitely distorted and
        have no say in the scale.

    Examples
    --------
    >>> distortion([2.0, 4.0, 7.0], [1, 2, 3]).scale
    2.0
    """
    x = np.asarray(distance, np.float64) / np.asarray(tree, np.float64)
    ratios = np.sort(x[np.isfinite(x) & (x > 0)])
    if len(ratios) == 0:
        return Distortion(np.where(x > 0, np.inf, 1.0), np.nan)
    weight = np.cumsum(ratios)
    scale = float(ratios[np.searchsorted(weight, weight[-1] / 2)])
    return Distortion(np.abs(x / scale - 1), scale)


def separation(distance: NDArray[np.number], labels: Rows) -> float:
    """Mean distance between groups over mean distance within, all pairs of a sample.

    The definition of [TE]'s training log, with exact distances: over ordered pairs with different
    labels, and with equal ones (the diagonal left out). nan where either kind is missing, or where
    a distance is infinite: a lost taxon does not stand apart.

    Parameters
    ----------
    distance
        [m, m], symmetric.
    labels
        [m].
    """
    same = np.asarray(labels)[:, None] == np.asarray(labels)
    between = distance[~same]
    np.fill_diagonal(same, False)
    within = distance[same]
    if len(within) == 0 or len(between) == 0 or not np.isfinite(distance).all():
        return np.nan
    return float(between.mean() / (within.mean() + 1e-8))


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


class PairSample(NamedTuple):
    """Pairs of rows, the group that drew each, and whether it lies within that group."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    group: NDArray[np.int64]
    within: NDArray[np.bool_]


def pooled_separation_pairs(
    labels: Rows, order: Rows, rng: np.random.Generator, *, groups: int = 200
) -> PairSample:
    """Draw the pairs of [TE]'s analysis script, whose separation pools all groups.

    Groups of 10 or more; at most 100 members of each, at random without replacement. Within: member
    i with the 19 after it. Between: a group with each of the next 9, as many random pairs as the
    smaller of 100 and the product of their sizes. Separation is mean between / mean within.

    Parameters
    ----------
    labels
        [n], -1 for none.
    order
        The rows as the script lists them, by ascending id: which group is "next" depends on it.
    rng
        The script is unseeded; this is not.
    groups
        Where there are more groups, this many of them, at random, play the first part.

    Returns
    -------
    pairs
        Rows `first`, `second`; `group` counts from 0; `within`.
    """
    listed = np.asarray(order)[np.asarray(labels)[order] >= 0]
    label = np.asarray(labels)[listed]
    by_label = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[by_label], prepend=-1))
    stops = np.append(starts[1:], len(label))
    large = stops - starts >= 10
    starts, stops = starts[large], stops[large]
    first_seen = np.argsort(by_label[starts])
    starts, stops = starts[first_seen], stops[first_seen]

    members: dict[int, NDArray[np.int64]] = {}

    def drawn(i: int) -> NDArray[np.int64]:
        if i not in members:
            places = by_label[starts[i] : stops[i]]
            if len(places) > 100:
                places = rng.choice(places, 100, replace=False)
            members[i] = listed[places].astype(np.int64)
        return members[i]

    chosen = np.arange(len(starts))
    if len(chosen) > groups:
        chosen = np.sort(rng.choice(chosen, groups, replace=False))
    blocks = []
    for number, i in enumerate(chosen.tolist()):
        own = drawn(i)
        a, b = np.triu_indices(len(own), 1)
        close = b - a < 20
        blocks.append((own[a[close]], own[b[close]], number, True))
        for j in range(i + 1, min(i + 10, len(starts))):
            other = drawn(j)
            count = min(100, len(own) * len(other))
            blocks.append((rng.choice(own, count), rng.choice(other, count), number, False))
    nothing = np.empty(0, np.int64)
    size = [len(block[0]) for block in blocks]
    return PairSample(
        np.concatenate([nothing, *(block[0] for block in blocks)]),
        np.concatenate([nothing, *(block[1] for block in blocks)]),
        np.repeat(np.array([block[2] for block in blocks], np.int64), size),
        np.repeat(np.array([block[3] for block in blocks], np.bool_), size),
    )
