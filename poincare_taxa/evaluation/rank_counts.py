"""Statistics of many queries, from the neighbours and counts that a subject provides.

Every subject is measured by the same code: `subjects` counts, `ranks` says what ties are worth, and
here is which taxa are the targets of a query, and which measures follow.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.ranks import rank_statistics, share
from poincare_taxa.evaluation.subjects import Relatives, Subject, TreeSubject
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["QueryTaxa", "query_statistics"]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
_Measured = tuple[Rows, dict[str, Floats]]

_QUERIES = 1024  # That pass over the points together,
_TARGETS = 1 << 20  # and the targets that they have together.
_FEW = 32  # Targets of a query that are few.


class QueryTaxa:
    """What is measured of each query: neighbours, groups among them, ranks of its relatives.

    Parameters
    ----------
    tree
        The tree.
    groups
        Name → labels [n], for purity.
    k
        Neighbours of precision and purity.
    parts
        Of: precision, purity, ancestor, closure, neighbour.

    Attributes
    ----------
    truth : TreeSubject
        The tree's own distances.
    """

    truth: TreeSubject
    groups: dict[str, NDArray[np.int32]]

    def __init__(
        self, tree: Tree, groups: dict[str, NDArray[np.int32]], k: int, parts: set[str]
    ) -> None:
        self.tree = tree
        self.truth = TreeSubject(tree)
        self.groups = groups if "purity" in parts else {}
        self.k = k
        self.parts = parts

    def blocks(self, queries: Rows) -> Iterator[tuple[Rows, Rows, Rows]]:
        """Cut queries into blocks: places in `queries`, ancestors from the parent up, and children.

        Entries are −1 where a query has fewer relatives. Queries with about as many relatives go
        together, so that little room is left empty; among these, queries that are near each other,
        so that a search of one opens what the others need.
        """
        width = self.tree.depth[queries] + self._children(queries)
        doublings = np.frexp(np.maximum(width - 1, _FEW))[1]  # up to 2 × _FEW, twice as many, …
        order = np.lexsort((queries, doublings))
        start = 0
        while start < len(order):
            at = order[start : start + _QUERIES]
            room = np.maximum.accumulate(width[at]) * np.arange(1, len(at) + 1)
            at = at[: max(1, int(np.searchsorted(room, _TARGETS, "right")))]
            rows = queries[at]
            yield at, self.tree.lineages(rows)[:, 1:], self._below(rows)
            start += len(at)

    def _children(self, rows: Rows) -> Rows:
        return np.diff(self.tree.first_child)[rows] if "neighbour" in self.parts else 0 * rows

    def _below(self, rows: Rows) -> Rows:
        """Children [Q, most], −1 where there are fewer."""
        number = self._children(rows)
        place = np.arange(number.max(initial=0))
        there = place < number[:, None]
        at = self.tree.first_child[rows][:, None] + place
        return np.where(there, self.tree.by_parent[np.where(there, at, 0)], -1)


def query_statistics(
    subject: Subject,
    query_taxa: QueryTaxa,
    queries: Rows,
    clock: Clock,
    advance: Callable[[int, int], None],
    *,
    threads: int = 1,
) -> dict[str, Floats]:
    """Measure each query against all taxa: name → [Q], nan where a measure is undefined.

    So many threads take a block each: the compiled loops use all of them anyway, numpy uses one.
    """
    found: dict[str, Floats] = {}
    done = 0

    def measure(at: Rows, above: Rows, below: Rows) -> tuple[Rows, dict[str, Floats]]:
        return at, _block_statistics(subject, query_taxa, queries[at], above, below, clock)

    for at, statistics in _in_order(measure, query_taxa.blocks(queries), threads):
        for name, values in statistics.items():
            found.setdefault(name, np.full(len(queries), np.nan))[at] = values
        done += len(at)
        advance(done, len(queries))
    return found


def _in_order(
    measure: Callable[..., _Measured], blocks: Iterator[tuple[Any, ...]], threads: int
) -> Iterator[_Measured]:
    """Measure blocks, a few at a time, and yield what was found in their order."""
    if threads == 1:
        yield from (measure(*block) for block in blocks)
        return
    waiting: deque[Future[_Measured]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for block in blocks:
            waiting.append(pool.submit(measure, *block))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _block_statistics(
    subject: Subject,
    query_taxa: QueryTaxa,
    rows: Rows,
    above: Rows,
    below: Rows,
    clock: Clock,
) -> dict[str, Floats]:
    """Measure the queries of a block, whose ancestors and children are given."""
    parts, found = query_taxa.parts, dict[str, Floats]()
    if parts & {"precision", "purity"}:
        with clock("nearest"):
            found |= _neighbour_statistics(subject, query_taxa, rows)
    if "ancestor" in parts:
        with clock("ancestor"):
            counts = subject.count_nearer(rows, above, "ancestor")
            found |= _named("ancestor", *counts, above >= 0)
    if parts & {"closure", "neighbour"}:
        with clock("closure and neighbour"):
            found |= _relative_statistics(subject, parts, rows, above, below)
    return found


def _relative_statistics(
    subject: Subject, parts: set[str], rows: Rows, above: Rows, below: Rows
) -> dict[str, Floats]:
    """Ranks by distance of all ancestors, and of parent and children, from one count."""
    found = {}
    above = above if "closure" in parts else above[:, :1]
    targets = np.concatenate([above, below], axis=1)
    nearer, tied = subject.count_nearer(rows, targets, "distance")
    there, width = targets >= 0, above.shape[1]
    if "closure" in parts:
        found |= _named("closure", nearer[:, :width], tied[:, :width], there[:, :width])
    if "neighbour" in parts:
        beside = [*range(min(1, width)), *range(width, targets.shape[1])]
        found |= _named("neighbour", nearer[:, beside], tied[:, beside], there[:, beside])
    return found


def _named(name: str, nearer: Rows, tied: Rows, there: NDArray[np.bool_]) -> dict[str, Floats]:
    ranks = rank_statistics(nearer, tied, there)
    return {
        f"{name} AP": ranks.average_precision,
        f"{name} AP, unlucky": ranks.unlucky,
        f"{name} AP, lucky": ranks.lucky,
        f"{name} ranks": ranks.rank_sum,
        f"{name} count": ranks.targets,
    }


def _neighbour_statistics(
    subject: Subject, query_taxa: QueryTaxa, queries: Rows
) -> dict[str, Floats]:
    r"""Precision at k, tie-aware and plain, and purity of the k nearest.

    *Tie-aware*: share of the k nearest that are no farther in the tree than the k-th nearest of
    the tree is. *Plain*: share of them that belong to *the* k nearest of the tree; where the tree
    ties the last of these, they are drawn by lot, so that a perfect embedding gets only
    (n_less + (k − n_less)² / n_tied) / k: the tie ceiling. *Purity*: share of them that are of the
    query's group; nan where it has none. Neighbours in no group count as different.
    """
    k = min(query_taxa.k, len(query_taxa.tree) - 1)
    names = [f"purity {name}" for name in query_taxa.groups]
    names += ["precision", "plain", "by lot"] if "precision" in query_taxa.parts else []
    if k < 1:
        return {name: np.full(len(queries), np.nan) for name in names}
    edge, true = query_taxa.truth.edge(queries, k)
    relatives = Relatives(query_taxa.tree, edge, query_taxa.groups)
    near = subject.nearest(queries, k, relatives)
    found: dict[str, Floats] = {}
    if "precision" in query_taxa.parts:
        within, inside = (share(some, near.everyone, k) for some in (near.within, near.inside))
        lots = (k - true.sure) / true.tied  # chance of a taxon at the edge to be one of *the* k
        contested = near.everyone.sure + near.everyone.tied > k
        found["precision"] = within
        found["plain"] = inside + lots * (within - inside)
        found["by lot"] = np.where(contested, 1 - near.everyone.sure / k, 0.0)
    for name, labels in query_taxa.groups.items():
        pure = share(near.groups[name], near.everyone, k)
        found[f"purity {name}"] = np.where(labels[queries] >= 0, pure, np.nan)
    return found
