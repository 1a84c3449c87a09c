"""What is evaluated, and the scan of all taxa from each query: see `evaluation`."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poincare_taxa.evaluation import metrics
from poincare_taxa.evaluation._scan import Points
from poincare_taxa.evaluation.ranks import Ranks, nearest
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["Clock", "Embedding", "QueryTaxa", "Tree", "scan"]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]

_QUERIES_AT_ONCE = 8  # Rows that a thread holds; 8 share each read of the coordinates.


class Clock:
    """Seconds spent on each part: by the clock on the wall, and summed over threads."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.thread_seconds: defaultdict[str, float] = defaultdict(float)
        self._lock = Lock()

    @contextmanager
    def __call__(self, name: str, *, thread: bool = False) -> Iterator[None]:
        start = time.perf_counter()
        yield
        spent = time.perf_counter() - start
        with self._lock:
            (self.thread_seconds if thread else self.seconds)[name] += spent


class Embedding:
    """Points as a subject of evaluation."""

    dtype = np.float64

    def __init__(self, points: Points) -> None:
        self.points = points
        self.height = points.radius

    def rows(self, queries: Rows, out: NDArray[Any]) -> NDArray[Any]:
        """Write the distance from each query to all to `out` [Q, n]."""
        return self.points.rows(queries, out)

    def pairs(self, first: Rows, second: Rows) -> Floats:
        """Distance of paired rows; broadcasts."""
        return self.points.pairs(first, second)

    def square(self, rows: Rows) -> Floats:
        """Distance of all pairs of rows."""
        return self.points.square(rows)


class Tree:
    """The tree's own distances as a subject: the ceiling."""

    dtype = np.int32

    def __init__(self, taxonomy: Taxonomy) -> None:
        self.taxonomy = taxonomy
        self.height = taxonomy.depth

    def rows(self, queries: Rows, out: NDArray[Any]) -> NDArray[Any]:
        """Write the edges between each query and all to `out` [Q, n]."""
        for q, row in zip(queries.tolist(), out, strict=True):
            metrics.tree_distances(self.taxonomy, q, row)
        return out

    def pairs(self, first: Rows, second: Rows) -> NDArray[np.int32]:
        """Edges between paired rows; broadcasts."""
        return self.taxonomy.tree_distance(first, second)

    def square(self, rows: Rows) -> NDArray[np.int32]:
        """All pairs of ascending rows.

        In preorder, the common ancestor of two rows is the highest of those of the neighbours
        between them.
        """
        depth = self.taxonomy.depth[rows]
        between = self.taxonomy.depth[self.taxonomy.lca(rows[:-1], rows[1:])]
        lca = np.diag(depth)
        for i in range(len(rows) - 1):
            lca[i, i + 1 :] = lca[i + 1 :, i] = np.minimum.accumulate(between[i:])
        return depth[:, None] + depth - 2 * lca


# -------------------------------------------------------------------- one query against all taxa


class _Buffers(local):
    """Arrays that a thread writes to again and again: fresh memory is slower than the sums."""

    def __init__(self, n: int, dtype: type[np.number]) -> None:
        self.rows = np.empty((_QUERIES_AT_ONCE, n), dtype)
        self.score = np.empty(n, dtype)
        self.tree = np.empty(n, np.int32)


class QueryTaxa:
    """What is asked of each query taxon: a fixed list of numbers, given its row of distances."""

    def __init__(
        self, taxonomy: Taxonomy, groups: dict[str, NDArray[np.int32]], k: int, parts: set[str]
    ) -> None:
        self.taxonomy = taxonomy
        self.groups = groups
        self.k = k
        self.parts = parts
        self.by_parent = np.argsort(taxonomy.parent, kind="stable")
        self.first_child = np.cumsum(np.append(1, taxonomy.num_children))

    def statistics(
        self,
        q: int,
        distance: NDArray[np.number],
        height: NDArray[np.number],
        buffers: _Buffers,
        clock: Clock,
    ) -> dict[str, float]:
        """Measure one query.

        Parameters
        ----------
        distance
            [n], from the query to every taxon.
        height
            [n], distance from the origin (embedding) or the root (tree).
        """
        found: dict[str, float] = {}
        if self.parts & {"precision", "purity"}:
            with clock("nearest", thread=True):
                found |= self.near(q, distance, buffers.tree)
        above = self.taxonomy.ancestors(q)
        if "ancestor" in self.parts:
            with clock("ancestor", thread=True):
                # s(q, v) = d(q, v) + d(0, v) − d(0, q), whose last term is the same for all v
                score = np.add(distance, height, out=buffers.score)
                found |= _ranked("ancestor", Ranks.of(score, above, skip=q))
        if "closure" in self.parts:
            with clock("closure", thread=True):
                found |= _ranked("closure", Ranks.of(distance, above, skip=q))
        if "neighbour" in self.parts:
            with clock("neighbour", thread=True):
                children = self.by_parent[self.first_child[q] : self.first_child[q + 1]]
                beside = np.append(above[:1], children)
                found |= _ranked("neighbour", Ranks.of(distance, beside, skip=q))
        return found

    def near(
        self, q: int, distance: NDArray[np.number], tree: NDArray[np.int32] | None = None
    ) -> dict[str, float]:
        """Measure the k nearest of one query, given its distances; `tree` is a buffer [n]."""
        found: dict[str, float] = {}
        near = nearest(distance, self.k, skip=q)
        if "precision" in self.parts:
            tree = metrics.tree_distances(self.taxonomy, q, tree)
            true = nearest(tree, self.k, skip=q)
            tie_aware, plain = metrics.precision(near, tree, true)
            found |= {"precision": tie_aware, "plain": plain, "by lot": near.by_lot}
        for name, labels in self.groups.items():
            found[f"purity {name}"] = metrics.purity(near, labels, q)
        return found


def _ranked(name: str, ranks: Ranks) -> dict[str, float]:
    low, high = ranks.average_precision_bounds
    return {
        f"{name} AP": ranks.average_precision,
        f"{name} AP, unlucky": low,
        f"{name} AP, lucky": high,
        f"{name} ranks": ranks.realistic if ranks.count else np.nan,
        f"{name} count": ranks.count if ranks.count else np.nan,
    }


def scan(
    subject: Embedding | Tree,
    query_taxa: QueryTaxa,
    asked: Rows,
    clock: Clock,
    advance: Callable[[int, int], None],
) -> dict[str, Floats]:
    """Statistics of every query: name → [Q]."""
    buffers = _Buffers(len(query_taxa.taxonomy), subject.dtype)

    def job(block: Rows) -> list[dict[str, float]]:
        with clock("distances", thread=True):
            rows = subject.rows(block, buffers.rows[: len(block)])
        return [
            query_taxa.statistics(q, row, subject.height, buffers, clock)
            for q, row in zip(block.tolist(), rows, strict=True)
        ]

    blocks = [asked[i : i + _QUERIES_AT_ONCE] for i in range(0, len(asked), _QUERIES_AT_ONCE)]
    at_once = max(1, 2**27 // (_QUERIES_AT_ONCE * len(query_taxa.taxonomy)))  # 1 GiB of rows
    found: list[dict[str, float]] = []
    with clock("scan"), ThreadPoolExecutor(min(torch.get_num_threads(), at_once)) as pool:
        for block in pool.map(job, blocks):
            found += block
            advance(len(found), len(asked))
    return {name: np.array([one[name] for one in found]) for name in found[0]}
