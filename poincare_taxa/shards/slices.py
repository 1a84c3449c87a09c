"""Where the rows of a tree are cut, and a tree of which each process has a slice.

Rows are in preorder, so that a slice ``range(start, stop)`` is made of whole clades, but for those
that a cut goes through: the ancestors of the first row of each slice. Cuts are at the starts of
clades, and no clade of less than an eighth of a slice is cut.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "Column",
    "ScatteredTree",
    "Slice",
    "children_of",
    "cuts",
    "local_tree",
    "rows_above",
]

Rows = NDArray[np.integer]
_WHOLE = 8  # A clade of at most 1/8 of a slice is not cut.
_ROWS = 1 << 20  # rows that are looked through together


def cuts(parent: NDArray[np.int32], end: NDArray[np.int32], slices: int) -> list[int]:
    """Bounds of slices of about as many rows, at the starts of clades: [slices + 1].

    Raises
    ------
    ValueError
        If there are fewer rows than slices.
    """
    n = len(parent)
    if n < slices:
        raise ValueError(f"{n} taxa cannot be cut into {slices} slices: run fewer processes")
    found = [0]
    for number in range(1, slices):
        row = number * n // slices
        while end[parent[row]] - parent[row] <= n // (_WHOLE * slices):
            row = int(parent[row])
        found.append(row)
    return [*found, n]


def rows_above(parent: NDArray[np.int32], row: int) -> list[int]:
    """Ancestors of a row, from the root down."""
    found = []
    while (row := int(parent[row])) >= 0:
        found.append(row)
    return found[::-1]


@dataclass(frozen=True)
class Slice:
    """A slice of a tree, and what a process knows of the rest.

    Attributes
    ----------
    rows : int64 [m]
        Rows of the whole tree that are here, ascending: all of the slice, their ancestors, and
        perhaps others.
    tree : Tree
        The tree of these.
    start, stop : int
        The slice.
    """

    rows: Rows
    tree: Tree
    start: int
    stop: int

    @property
    def own(self) -> slice:
        """Places of the slice in `rows`."""
        first = int(np.searchsorted(self.rows, self.start))
        return slice(first, first + self.stop - self.start)

    def known(self, rows: Rows) -> tuple[NDArray[np.bool_], Rows]:
        """Which of some rows are here, and the places of these."""
        place = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        here = self.rows[place] == rows
        return here, place[here]


def local_tree(arrays: tuple[NDArray[np.int32], ...], rows: Rows) -> Tree:
    """Tree of some rows of a tree, given as parent, end and depth, with all of their ancestors."""
    parent, end, depth = (array[rows] for array in arrays)
    above = np.where(parent >= 0, np.searchsorted(rows, parent), -1)
    return Tree(above.astype(np.int32), np.searchsorted(rows, end).astype(np.int32), depth)


def children_of(parent: NDArray[np.int32], above: Rows) -> Rows:
    """Rows whose parent is one of some ascending rows, from a mapped array, a part at a time."""
    found = [np.empty(0, np.int64)]
    for first in range(0, len(parent) if len(above) else 0, _ROWS):
        part = parent[first : first + _ROWS]
        place = np.minimum(np.searchsorted(above, part), len(above) - 1)
        found.append(first + np.flatnonzero(above[place] == part))
    return np.concatenate(found)


class Column:
    """Values by row of a whole tree, looked up where they are."""

    def __init__(self, n: int, look_up: Callable[[Any], NDArray[Any]]) -> None:
        self._n, self._look_up = n, look_up

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._n

    def __getitem__(self, rows: ArrayLike) -> NDArray[Any]:
        """Values of rows; those of the root where a row is negative."""
        return self._look_up(np.maximum(rows, 0))


class ScatteredTree:
    """A tree by rows of the whole, as `Tree` is; each process has a slice of it.

    All processes call all methods alike, and have the same results: what a process does not have
    itself, it gets from that which has it.
    """

    lengths = None

    def __init__(self, part: Slice, together: Processes) -> None:
        self.part, self.together = part, together
        tree, own = part.tree, part.own
        seen = together.each(lambda: (part.stop, tree.max_depth))
        self.n, self.max_depth = (int(x) for x in np.max(seen, axis=0))
        self.depth = Column(self.n, lambda rows: self.from_owners(rows, lambda at: tree.depth[at]))
        self.end = Column(self.n, self._ends)
        self.subtree_size = Column(self.n, lambda rows: self._ends(rows) - rows)
        self.height = self.depth
        # Rows of the slice by depth and then by row, to count those of a subtree at a depth.
        self._by_depth = np.sort(tree.depth[own] * np.int64(self.n) + part.rows[own])

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.n

    @property
    def topology(self) -> "ScatteredTree":
        """Itself: there are no branch lengths."""
        return self

    def from_owners(self, rows: NDArray[Any], values: Callable[[Rows], Any]) -> Any:
        """Collect values of rows, each from the process in whose slice it is.

        Called with places in `part.rows`, `values` returns an array [places, …].
        """
        once, place = np.unique(rows, return_inverse=True)
        mine = once[(once >= self.part.start) & (once < self.part.stop)]
        found = self.together.each(lambda: values(self.part.known(mine)[1]))
        return np.concatenate(found)[place.reshape(np.shape(rows))]

    def _ends(self, rows: NDArray[Any]) -> Rows:
        once, place = np.unique(rows, return_inverse=True)

        def last() -> Rows:
            here, at = self.part.known(once)
            found = np.zeros(len(once), np.int64)
            found[here] = self.part.rows[self.part.tree.end[at] - 1] + 1
            return found

        return np.max(self.together.each(last), axis=0)[place.reshape(np.shape(rows))]

    def lineages(self, rows: Rows) -> Rows:
        """Rows from each of some rows up to the root: [k, longest], as `Tree.lineages`."""
        longest = int(self.depth[rows].max(initial=-1)) + 1

        def mine(at: Rows) -> Rows:
            above = self.part.tree.lineages(at)
            found = np.full((len(at), longest), -1)
            found[:, : above.shape[1]] = np.where(above >= 0, self.part.rows[above], -1)
            return found

        return self.from_owners(rows, mine)

    def lca(self, i: Rows, j: Rows) -> Rows:
        """Row of the lowest common ancestor of rows i [Q, 1] and j [Q, T]."""
        above = self.lineages(i[:, 0])
        stop = np.where(above >= 0, self.end[above], 0)
        found = np.full(j.shape, -1)
        for step in range(above.shape[1]):
            top, below = above[:, step, None], stop[:, step, None]
            found = np.where((found < 0) & (top <= j) & (j < below), top, found)
        return found

    def distance(self, i: Rows, j: Rows) -> Rows:
        """Count the edges between rows i [Q, 1] and j [Q, T]."""
        return self.depth[i] + self.depth[j] - 2 * self.depth[self.lca(i, j)]

    def members(self, top: Rows, depth: Rows) -> Rows:
        """Count the rows of each subtree at a depth."""
        stop, first = self.end[top], depth.astype(np.int64) * self.n

        def mine() -> Rows:
            upto, before = (np.searchsorted(self._by_depth, first + row) for row in (stop, top))
            return upto - before

        return np.sum(self.together.each(mine), axis=0)

    def children(self, rows: Rows) -> Rows:
        """Children of each row [k, most], ascending; −1 where there are fewer."""
        once, place = np.unique(rows, return_inverse=True)
        part, own = self.part, self.part.own

        def mine() -> tuple[Rows, Rows]:
            parent = part.tree.parent[own]
            wanted = np.zeros(len(part.rows) + 1, np.bool_)  # the last is for the root's parent
            wanted[part.known(once)[1]] = True
            theirs = np.flatnonzero(wanted[parent])
            at = np.searchsorted(once, part.rows[parent[theirs]])
            return at, part.rows[own][theirs]

        found = self.together.each(mine)
        at, child = (np.concatenate(some) for some in zip(*found, strict=True))
        order = np.argsort(at, kind="stable")
        at, child = at[order], child[order]
        count = np.bincount(at, minlength=len(once))
        table = np.full((len(once), count.max(initial=0)), -1)
        table[at, np.arange(len(at)) - (np.cumsum(count) - count)[at]] = child
        return table[place]
