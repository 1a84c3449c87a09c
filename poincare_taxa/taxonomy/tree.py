"""`Tree`: a rooted tree as preorder arrays, and the arithmetic of its rows.

A *row* is a node, 0…n-1, in preorder: parents precede their children, and the subtree of row v is
``range(v, end[v])``. A tree has no ids and no names; a `Taxonomy` holds these and a tree, and
``tax.rows(keys)`` converts ids and names to rows. What computes takes a `Tree`; what a person calls
takes keys.

**Branch lengths.** The distance of two rows is patristic, the sum of the lengths between them,
where a tree has lengths, and else the number of edges. Not every length of a source is one: a
negative length (neighbour joining estimates such) counts as 0, and one that is missing as the
median of those that are known, each with a `BranchLengthWarning` that has the number of them;
lengths of 0 are left, and taxa between which all lengths are 0 are at distance 0. `lengths` keeps
what the source has.
"""

import hashlib
import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from poincare_taxa.taxonomy import preorder

__all__ = ["BranchLengthWarning", "Tree"]


class BranchLengthWarning(UserWarning):
    """Some branch lengths are negative or missing, and what counts in their place."""


_FEW = 64  # pairs have their ancestors listed where these are so many times fewer than all rows


@dataclass(frozen=True, eq=False, repr=False)
class Tree:
    """A rooted tree; immutable. Row i is the i-th node in preorder, and the root is row 0.

    The constructor does not check that its arrays are in preorder; `Taxonomy.from_parents` and the
    readers sort nodes of any order into preorder.

    Attributes
    ----------
    parent : int32 [n]
        Row of the parent; -1 at the root; ``parent[i] < i``.
    end : int32 [n]
        The subtree of row v is ``range(v, end[v])``.
    depth : int32 [n]
        Edges from the root.
    lengths : float64 [n] or None
        Length of the edge to the parent, in the source's unit; nan at the root and where unknown.
    """

    parent: NDArray[np.int32]
    end: NDArray[np.int32]
    depth: NDArray[np.int32]
    lengths: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        arrays = [self.parent, self.end, self.depth]
        arrays += [] if self.lengths is None else [self.lengths]
        if len({len(array) for array in arrays}) != 1:
            raise ValueError(
                f"arrays differ in length: {[len(array) for array in arrays]}; each has an entry "
                "for every row"
            )
        for array in arrays:
            array.flags.writeable = False

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.parent)

    def __repr__(self) -> str:
        return f"Tree({len(self):,} rows, max depth {self.max_depth})"

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the parents: trees that have it in common have the same rows.

        Branch lengths are not in it, and so a copy that was saved or read again has it too.
        """
        return hashlib.sha256(self.parent.data).hexdigest()

    @cached_property
    def max_depth(self) -> int:
        """Depth of the deepest row."""
        return int(self.depth.max())

    @cached_property
    def height(self) -> NDArray[Any]:
        """Distance of each row from the root: float64 [n] of branch lengths, int32 [n] of edges.

        Warns
        -----
        BranchLengthWarning
            If lengths are negative (they count as 0) or missing (as the median of the others).

        Raises
        ------
        ValueError
            If a branch length is infinite.

        Examples
        --------
        >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
        >>> tax = Taxonomy.from_parents([-1, 0, 1, 0], branch_lengths=[0, 0.5, 0.25, 2])
        >>> tax.tree.height.tolist(), tax.tree.topology.height.tolist()
        ([0.0, 0.5, 0.75, 2.0], [0, 1, 2, 1])
        """
        if self.lengths is None:
            return self.depth
        height = _usable(self.lengths)
        for rows in preorder.group_rows(self.depth)[1:]:
            height[rows] += height[self.parent[rows]]
        return _frozen(height)

    @cached_property
    def mean_edge(self) -> float:
        """Mean branch length; 1 where edges are counted, or all lengths are 0."""
        if self.lengths is None or len(self) == 1:
            return 1.0
        return float((self.height[1:] - self.height[self.parent[1:]]).mean()) or 1.0

    @cached_property
    def topology(self) -> "Tree":
        """The same tree without branch lengths; itself where it has none."""
        return self if self.lengths is None else Tree(self.parent, self.end, self.depth)

    @cached_property
    def num_children(self) -> NDArray[np.int32]:
        """Number of children of each row, int32 [n]."""
        return _frozen(np.bincount(self.parent[1:], minlength=len(self)).astype(np.int32))

    @cached_property
    def subtree_size(self) -> NDArray[np.int32]:
        """Number of rows in each row's subtree, itself included, int32 [n]."""
        return _frozen(self.end - np.arange(len(self), dtype=np.int32))

    @cached_property
    def _head(self) -> NDArray[np.int32]:
        """Topmost row of each row's heavy path, for `lca`."""
        return _frozen(preorder.heavy_heads(self.parent, self.end))

    def is_ancestor(self, a: ArrayLike, v: ArrayLike) -> NDArray[np.bool_]:
        """Whether row a is row v or one of its ancestors: ``a <= v < end[a]``. Broadcasts."""
        a, v = self.check_rows(a), self.check_rows(v)
        return (a <= v) & (v < self.end[a])

    def lca(self, i: ArrayLike, j: ArrayLike) -> NDArray[np.int32]:
        """Row of the lowest common ancestor of rows i and j. Broadcasts; O(log n) per pair."""
        i, j = np.broadcast_arrays(self.check_rows(i), self.check_rows(j))
        few = 0 < i.size * (self.max_depth + 1) * _FEW <= len(self)
        if few and "_head" not in self.__dict__:
            return self._lca_of_few(i.ravel(), j.ravel()).reshape(i.shape)[()]
        return preorder.lca(i, j, self.parent, self._head).reshape(i.shape)[()]

    def _lca_of_few(self, i: NDArray[Any], j: NDArray[Any]) -> NDArray[np.int32]:
        """Find the first self-or-ancestor of i whose subtree has j, without paths of all rows."""
        above = self.lineages(i)
        inside = (above <= j[:, None]) & (j[:, None] < self.end[above])  # the root's has all
        return above[np.arange(len(i)), inside.argmax(axis=1)].astype(np.int32)

    def distance(self, i: ArrayLike, j: ArrayLike) -> NDArray[Any]:
        """Sum the branch lengths between rows i and j; count the edges of a tree without lengths.

        Edges of every tree are counted by ``tree.topology.distance(i, j)``. Float64 or int32, never
        negative. Broadcasts; O(log n) per pair. See `height` for lengths that are no lengths.
        """
        i, j, height = self.check_rows(i), self.check_rows(j), self.height
        return height[i] + height[j] - 2 * height[self.lca(i, j)]

    def distance_matrix(self, rows: ArrayLike, others: ArrayLike | None = None) -> NDArray[Any]:
        """Compute the `distance` of every one of k rows and every one of m others: [k, m].

        Others are by default the rows themselves. In preorder, the lowest common ancestor of two
        rows is the highest one of the neighbours between them, so that a few operations of whole
        arrays give all distances of a row.

        Examples
        --------
        >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
        >>> Taxonomy.from_parents([-1, 0, 1, 0]).tree.distance_matrix([2, 3], [0, 2, 3]).tolist()
        [[2, 0, 3], [1, 3, 0]]
        """
        rows = self.check_rows(rows).ravel()
        others = rows if others is None else self.check_rows(others).ravel()
        found = np.empty((len(rows), len(others)), self.height.dtype)
        # 1. Different rows in preorder, and the height at which each and the next one separate.
        once = np.unique(np.concatenate((rows, others)))
        height = self.height[once]
        shared = self.height[self.lca(once[:-1], once[1:])]
        # 2. Of one row, heights of the common ancestors: least ones from its place to both ends.
        column = np.searchsorted(once, others)
        places, where = np.unique(np.searchsorted(once, rows), return_inverse=True)
        by_place = np.argsort(where, kind="stable")
        ends = np.cumsum(np.bincount(where, minlength=len(places)))
        common = np.empty(len(once), self.height.dtype)
        for place, first, stop in zip(places, np.append(0, ends), ends, strict=False):
            common[place] = height[place]
            np.minimum.accumulate(shared[place:], out=common[place + 1 :])
            np.minimum.accumulate(shared[:place][::-1], out=common[:place][::-1])
            found[by_place[first:stop]] = (height[place] + height - 2 * common)[column]
        return found

    def ancestors(self, row: int) -> NDArray[np.int32]:
        """Rows from the parent of a row up to the root, int32 [depth]; empty at the root."""
        above = np.empty(self.depth[int(self.check_rows(row))], np.int32)
        for step in range(len(above)):
            row = above[step] = self.parent[row]
        return above

    def lineages(self, rows: ArrayLike) -> NDArray[np.int64]:
        """Rows from each of k rows up to the root, itself first: [k, longest], −1 beyond the root.

        Examples
        --------
        >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
        >>> Taxonomy.from_parents([-1, 0, 1, 0]).tree.lineages([2, 3]).tolist()
        [[2, 1, 0], [3, 0, -1]]
        """
        here = self.check_rows(rows).ravel().astype(np.int64)
        longest = int(self.depth[here].max()) + 1 if len(here) else 0
        found = np.empty((len(here), longest), np.int64)
        for step in range(longest):
            found[:, step] = here
            here = np.where(here >= 0, self.parent[here], -1)
        return found

    def ancestor_at_depth(self, rows: ArrayLike, depth: ArrayLike) -> NDArray[np.int32]:
        """Self-or-ancestor of each row at a depth; −1 where the row is nearer to the root.

        Broadcasts; O(log n) for each. In level order, by depth and then by row, it is the last row
        of its level that is at most the given row.
        """
        rows, depth = np.broadcast_arrays(self.check_rows(rows), np.asarray(depth, np.int64))
        place = np.searchsorted(self._level_key, depth * len(self) + rows, side="right") - 1
        found = self._level_key[place] - depth * len(self)
        return np.where((depth >= 0) & (depth <= self.depth[rows]), found, -1).astype(np.int32)[()]

    def nearest_marked(self, marked: ArrayLike) -> NDArray[np.int32]:
        """Nearest self-or-ancestor of every row that is marked, bool [n]; −1 where there is none.

        Examples
        --------
        >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
        >>> Taxonomy.from_parents([-1, 0, 1, 0]).tree.nearest_marked([0, 1, 0, 0]).tolist()
        [-1, 1, 1, -1]
        """
        marked = np.asarray(marked, np.bool_)
        nearest = preorder.nearest_marked(self.parent, marked)
        return np.where(marked[nearest], nearest, np.int32(-1))

    def children(self, row: int) -> NDArray[np.int64]:
        """Rows of the children of a row, ascending, int64; empty at a leaf."""
        first, stop = self.first_child[int(self.check_rows(row)) :][:2]
        return self.by_parent[first:stop]

    def leaves(self, row: int = 0) -> NDArray[np.int64]:
        """Rows without children in the subtree of a row, ascending, int64; a leaf is its own."""
        inside = row, self.end[int(self.check_rows(row))]
        first, stop = np.searchsorted(self.leaf_rows, inside)
        return self.leaf_rows[first:stop]

    @cached_property
    def by_parent(self) -> NDArray[np.int64]:
        """All rows by their parent, then by row, int64 [n]; the root is the first."""
        return _frozen(np.argsort(self.parent, kind="stable"))

    @cached_property
    def first_child(self) -> NDArray[np.int64]:
        """Places [n + 1]: children of v are ``by_parent[first_child[v] : first_child[v + 1]]``."""
        return _frozen(np.cumsum(np.append(1, self.num_children)))

    @cached_property
    def leaf_rows(self) -> NDArray[np.int64]:
        """Rows without children, ascending, int64."""
        return _frozen(np.flatnonzero(self.num_children == 0))

    @cached_property
    def _level_key(self) -> NDArray[np.int64]:
        """Depth and row of all rows as one ascending number, depth · n + row."""
        return np.sort(self.depth * np.int64(len(self)) + np.arange(len(self)))

    def subtree(self, row: int) -> "Tree":
        """Return the tree of a row and its descendants; its rows start at 0."""
        rows = slice(row, int(self.end[int(self.check_rows(row))]))
        parent = self.parent[rows] - np.int32(row)
        parent[0] = -1
        lengths = None
        if self.lengths is not None:
            lengths = self.lengths[rows].copy()
            lengths[0] = np.nan
        return Tree(
            parent,
            self.end[rows] - np.int32(row),
            self.depth[rows] - self.depth[row],
            lengths,
        )

    def check_rows(self, rows: ArrayLike) -> NDArray[np.integer]:
        """Return rows as an integer array.

        Raises
        ------
        ValueError
            If a row is no whole number, or is not in [0, n).
        """
        array = np.asarray(rows)
        if array.size == 0:
            return array.astype(np.int32)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"rows are whole numbers; got {array.dtype} (for ids and names, use tax.rows(…))"
            )
        if array.min() < 0 or array.max() >= len(self):
            raise ValueError(
                f"rows run from 0 to {len(self) - 1}; got {array.min()}…{array.max()}"
                " (for ids, use tax.rows(…))"
            )
        return array


def _usable(lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lengths that can be added up, 0 at the root; a warning says how many are not the source's."""
    if np.isinf(lengths).any():
        raise ValueError(
            f"the branch length of row {int(np.isinf(lengths).argmax())} is infinite; give a "
            "number, or nan for one that is not known"
        )
    known = ~np.isnan(lengths)
    known[0] = True
    usable = np.where(known, lengths, 0.0)
    usable[0] = 0
    negative, missing = np.flatnonzero(usable < 0), np.flatnonzero(~known)
    usable[negative] = 0
    about = []
    if len(negative):
        about.append(f"{len(negative):,} are negative and count as 0 (such as row {negative[0]})")
    if len(missing):
        given = usable[1:][known[1:]]
        usable[missing] = typical = float(np.median(given)) if len(given) else 1.0
        about.append(
            f"{len(missing):,} are missing and count as the median of the others, {typical:.4g} "
            f"(such as row {missing[0]})"
        )
    if about:
        warnings.warn(
            f"of {len(lengths) - 1:,} branch lengths {', and '.join(about)}; "
            "taxonomy.without_lengths() counts edges",
            BranchLengthWarning,
            stacklevel=3,
        )
    return usable


def _frozen(array: NDArray[Any]) -> NDArray[Any]:
    """Make an array read-only, since a tree is immutable."""
    array.flags.writeable = False
    return array
