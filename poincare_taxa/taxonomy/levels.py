"""The levels of a tree: which nodes have a depth, and how many of them a subtree holds.

In *level order*, by depth and then by row, the members of a subtree at one depth stand side by
side, because in preorder a subtree is a range of rows. So a binary search counts them.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Levels"]

Rows = NDArray[np.integer]


class Levels:
    """Counts the members of subtrees by depth, in O(log n) each.

    Parameters
    ----------
    end, depth
        [n], of a tree in preorder: the subtree of v is ``range(v, end[v])``.
    labels
        Integers [n]. If given, members are counted by label and depth.

    Examples
    --------
    >>> levels = Levels(end=np.array([5, 4, 3, 4, 5]), depth=np.array([0, 1, 2, 2, 1]))
    >>> levels.count(np.array([0, 1, 4]), np.array([1, 2, 2])).tolist()
    [2, 2, 0]
    """

    def __init__(self, end: Rows, depth: Rows, labels: Rows | None = None) -> None:
        self._end = end
        self._height = int(depth.max()) + 1
        kind = self._kind(depth, labels)
        order = np.argsort(kind, kind="stable")
        # Kinds are numbered without gaps, so that number × n + row fits into 64 bits.
        self._kinds, number = np.unique(kind[order], return_inverse=True)
        self._key = number * len(end) + order

    def count(self, node: Rows, depth: Rows, labels: Rows | None = None) -> NDArray[np.int64]:
        """Count the members of the subtree of each node at a depth (and with a label)."""
        kind = self._kind(depth, labels)
        number = np.searchsorted(self._kinds, kind)
        known = (depth < self._height) & (
            self._kinds[np.minimum(number, len(self._kinds) - 1)] == kind
        )
        first = number * len(self._end)
        start = np.searchsorted(self._key, first + node)
        stop = np.searchsorted(self._key, first + self._end[node])
        return np.where(known, stop - start, 0)

    def _kind(self, depth: Rows, labels: Rows | None) -> NDArray[np.int64]:
        kind = depth.astype(np.int64)
        return kind if labels is None else labels.astype(np.int64) * self._height + kind
