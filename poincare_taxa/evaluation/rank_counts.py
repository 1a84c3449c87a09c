"""Every taxon as a query: what `_subjects.scan` measures, by searches that store no distances.

`kernels.nearest` and `kernels.count_nearer` pass over all points for many queries at once, on any
device; what the tree says of a query is counted along its ancestors. The statistics are those of
`_subjects.QueryTaxa`, with ties as these kernels see them.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.evaluation._scan import Points
from poincare_taxa.evaluation.subjects import Clock, QueryTaxa
from poincare_taxa.kernels import By
from poincare_taxa.kernels.arguments import LARGEST
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["TreeNeighbours", "rank_statistics", "scan_all", "suits"]

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Array = NDArray[Any]

_QUERIES = 256  # That pass over the points together,
_TARGETS = 1 << 20  # and the targets that they have together.
_WIDER = (160, 2560)  # Neighbours asked for where the last places are tied, and at most.


def suits(points: Points) -> bool:
    """Whether these points can be searched: all are valid, none is beyond reach."""
    return bool(points.valid.all()) and bool((points.radius <= LARGEST).all())


def scan_all(
    points: Points,
    query_taxa: QueryTaxa,
    asked: Rows,
    clock: Clock,
    advance: Callable[[int, int], None],
    device: torch.device,
) -> dict[str, Floats]:
    """Statistics of every query: name → [Q]."""
    parts, taxonomy = query_taxa.parts, query_taxa.taxonomy
    table = torch.from_numpy(points.radius).to(device), points.direction.contiguous().to(device)
    tree = TreeNeighbours(taxonomy)
    found: dict[str, Floats] = {}
    done = 0

    def keep(at: Rows, statistics: dict[str, Floats]) -> None:
        for name, values in statistics.items():
            found.setdefault(name, np.full(len(asked), np.nan))[at] = values

    def count(
        rows: Tensor, queries: tuple[Tensor, Tensor], targets: Rows, by: By
    ) -> tuple[Array, Array]:
        sought = torch.from_numpy(targets).to(device)
        counts = kernels.count_nearer(table, queries, sought, manifold="polar", by=by, skip=rows)
        return counts.nearer.cpu().numpy(), counts.tied.cpu().numpy()

    with clock("scan"):
        for at, above, below in _blocks(query_taxa, asked):
            rows = asked[at]
            chosen = torch.from_numpy(rows).to(device)
            queries = table[0][chosen], table[1][chosen]
            if parts & {"precision", "purity"}:
                with clock("nearest", thread=True):
                    k = min(query_taxa.k, len(points) - 1)
                    for near in _nearest(points, table, queries, chosen, k):
                        mine = _neighbour_statistics(query_taxa, tree, rows[near.at], near, k)
                        keep(at[near.at], mine)
            if "ancestor" in parts:
                with clock("ancestor", thread=True):
                    counts = count(chosen, queries, above, "ancestor")
                    keep(at, rank_statistics("ancestor", *counts, above >= 0))
            if parts & {"closure", "neighbour"}:
                with clock("closure and neighbour", thread=True):
                    sought = np.concatenate(
                        [above if "closure" in parts else above[:, :1], below], 1
                    )
                    counts = count(chosen, queries, sought, "distance")
                    there, width = sought >= 0, sought.shape[1] - below.shape[1]
                    if "closure" in parts:
                        nearer, tied, present = (a[:, :width] for a in (*counts, there))
                        keep(at, rank_statistics("closure", nearer, tied, present))
                    if "neighbour" in parts:
                        beside = [0, *range(width, sought.shape[1])]
                        nearer, tied, present = (a[:, beside] for a in (*counts, there))
                        keep(at, rank_statistics("neighbour", nearer, tied, present))
            done += len(at)
            advance(done, len(asked))
    return found


def _blocks(query_taxa: QueryTaxa, asked: Rows) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Places in `asked`, ancestors from the parent up, and children, −1 where there are fewer.

    Queries with as many targets go together.
    """
    taxonomy, first = query_taxa.taxonomy, query_taxa.first_child
    children = np.diff(first)
    if "neighbour" not in query_taxa.parts:
        children = np.zeros_like(children)
    order = np.argsort(children[asked], kind="stable")
    start = 0
    while start < len(order):
        at = order[start : start + _QUERIES]
        most = children[asked[at]]
        at = at[: max(1, int(np.searchsorted(most * np.arange(1, len(at) + 1), _TARGETS)))]
        rows, most = asked[at], int(children[asked[at]].max())
        place = first[rows][:, None] + np.arange(most)
        there = np.arange(most) < children[rows][:, None]
        below = np.where(there, query_taxa.by_parent[np.where(there, place, 0)], -1)
        yield at, _ancestors(taxonomy, rows), below
        start += len(at)


def _ancestors(taxonomy: Taxonomy, rows: Rows) -> Rows:
    """Ancestors from the parent up [Q, at least 1], −1 beyond the root."""
    above = np.full((len(rows), max(1, int(taxonomy.depth[rows].max()))), -1)
    here = taxonomy.parent[rows].astype(np.int64)
    for level in range(above.shape[1]):
        above[:, level] = here
        here = np.where(here >= 0, taxonomy.parent[here], -1)
    return above


# -------------------------------------------------------------------- neighbours


class _Near(NamedTuple):
    """Who may be among the k nearest of some queries."""

    at: Rows
    """Of which queries [Q]."""
    rows: Rows
    """[Q, W]: all that are as near as the k-th nearest, or nearer; others too."""
    chance: Floats
    """[Q, W], of having one of the k places: those tied for the last ones draw lots."""


def _nearest(
    points: Points,
    table: tuple[Tensor, Tensor],
    queries: tuple[Tensor, Tensor],
    skip: Tensor,
    k: int,
) -> Iterator[_Near]:
    """Ask for one more than k; where that is as near as the k-th, for many more, then for all."""
    at = np.arange(len(skip))
    for width in (k + 1, *(width for width in _WIDER if width > k)):
        left = torch.from_numpy(at).to(skip.device)
        some = queries[0][left], queries[1][left]
        found = kernels.nearest(table, some, width, manifold="polar", skip=skip[left])
        distance, rows = found.distance.cpu().numpy(), found.row.clamp(min=0).cpu().numpy()
        done = distance[:, -1] > distance[:, k - 1]  # infinitely far where there are no more
        yield _Near(at[done], rows[done], _chances(distance[done], k))
        at = at[~done]
        if len(at) == 0:
            return
    for place in at:
        q = skip[place : place + 1].cpu().numpy()
        distance = points.rows(q, np.empty((1, len(points))))
        distance[0, q] = np.inf
        chance = _chances(distance, k)
        rows = np.flatnonzero(chance[0])
        yield _Near(np.array([place]), rows[None], chance[:, rows])


def _chances(distance: Floats, k: int) -> Floats:
    """Of each row of distances, which need no order, who gets one of k places: [Q, W]."""
    edge = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
    sure, tied = distance < edge, distance == edge
    lots = (k - sure.sum(1, keepdims=True)) / tied.sum(1, keepdims=True)
    return np.where(sure, 1.0, np.where(tied, lots, 0.0))


class TreeNeighbours:
    """How far the k nearest of a taxon are in the tree, and how many compete for the last places.

    Of the nodes at D edges from q, those that meet q's path at its j-th ancestor are the members of
    that subtree D − j levels down that are not in the subtree which q comes from; and the members
    of a subtree at one depth are a stretch of the level order.
    """

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        order = np.argsort(taxonomy.depth, kind="stable")
        self._key = taxonomy.depth[order].astype(np.int64) * len(taxonomy) + order

    def edge(self, queries: Rows, k: int) -> tuple[Rows, Rows, Rows]:
        """Tree distance of the k-th nearest; how many are nearer; how many are as far.

        k is at least 1, and less than the number of taxa.
        """
        edge, nearer, tied = (np.zeros(len(queries), np.int64) for _ in range(3))
        left, distance = np.arange(len(queries)), 0
        path = [queries.astype(np.int64)]
        while len(left):
            distance += 1
            last = path[-1]
            path.append(np.where(last >= 0, self.taxonomy.parent[last], -1))
            number = np.zeros(len(left), np.int64)
            for j, ancestor in enumerate(path):
                here = ancestor >= 0
                depth = np.where(here, self.taxonomy.depth[ancestor], 0) + distance - j
                number += np.where(here, self._members(ancestor, depth), 0)
                if j:
                    number -= np.where(here, self._members(path[j - 1], depth), 0)
            enough = nearer[left] + number >= k
            edge[left[enough]], tied[left[enough]] = distance, number[enough]
            nearer[left[~enough]] += number[~enough]
            left, path = left[~enough], [nodes[~enough] for nodes in path]
        return edge, nearer, tied

    def _members(self, node: Rows, depth: Rows) -> Rows:
        """Members of the subtree of a node at a depth."""
        base = depth * len(self.taxonomy)
        start, stop = (
            np.searchsorted(self._key, base + x) for x in (node, self.taxonomy.end[node])
        )
        return stop - start


def _neighbour_statistics(
    query_taxa: QueryTaxa, tree: TreeNeighbours, queries: Rows, near: _Near, k: int
) -> dict[str, Floats]:
    """`metrics.precision` and `metrics.purity` of a block."""
    found: dict[str, Floats] = {}

    def mean(value: Array) -> Floats:
        return (value * near.chance).sum(1) / k

    if "precision" in query_taxa.parts:
        edge, nearer, tied = (part[:, None] for part in tree.edge(queries, k))
        distance = query_taxa.taxonomy.tree_distance(queries[:, None], near.rows)
        lots = np.where(distance < edge, 1.0, np.where(distance == edge, (k - nearer) / tied, 0.0))
        found["precision"] = mean(distance <= edge)
        found["plain"] = mean(lots)
        found["by lot"] = 1 - (near.chance == 1).sum(1) / k
    for name, labels in query_taxa.groups.items():
        own = labels[queries][:, None]
        found[f"purity {name}"] = np.where(own[:, 0] >= 0, mean(labels[near.rows] == own), np.nan)
    return found


# -------------------------------------------------------------------- ranks


def rank_statistics(name: str, nearer: Array, tied: Array, there: Array) -> dict[str, Floats]:
    """Find what `ranks.Ranks` says of each query, from the counts of `kernels.count_nearer`.

    Parameters
    ----------
    name
        What names of the result begin with.
    nearer, tied
        Of each target [Q, T], the rows that are nearer, and the others that are as near.
    there
        Which entries are targets.

    Notes
    -----
    Targets with equal counts are at one level: one of a lower level would itself be nearer.
    """
    order = np.argsort(np.where(there, nearer, np.iinfo(np.int64).max), axis=1, kind="stable")
    nearer, tied, there = (np.take_along_axis(a, order, 1) for a in (nearer, tied, there))
    place = np.broadcast_to(np.arange(nearer.shape[1]), nearer.shape)
    fresh = np.ones(nearer.shape, bool)
    fresh[:, 1:] = (nearer[:, 1:] != nearer[:, :-1]) | ~there[:, 1:]
    lower = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)  # relevant ones before
    last = np.where(np.roll(fresh, -1, axis=1), place, nearer.shape[1])
    last[:, -1:] = place[:, -1:]
    found = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1] - lower + 1
    before, level = nearer - lower, tied + 1
    others = level - found
    # Equation [MN08] of `Ranks.average_precision`, shared among the targets of a level.
    h = 1 / (nearer + 1)
    several = (level > 1) & there
    h[several] = digamma((nearer + level)[several] + 1) - digamma(nearer[several] + 1)
    slope = (found - 1) / np.maximum(level - 1, 1)
    precision = ((lower + 1) * h + slope * (level - (nearer + 1) * h)) / level
    count = there.sum(1)

    def mean(values: Floats) -> Floats:
        total = np.where(there, values, 0).sum(1)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    return {
        f"{name} AP": mean(precision),
        f"{name} AP, unlucky": mean((place + 1) / (place + 1 + before + others)),
        f"{name} AP, lucky": mean((place + 1) / (place + 1 + before)),
        f"{name} ranks": mean(1 + before + others / 2) * count,
        f"{name} count": np.where(count > 0, count, np.nan),
    }
