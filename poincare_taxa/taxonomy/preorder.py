"""Algorithms for rooted trees given as arrays of parents: preorder, heavy paths, common ancestors.

Every function is vectorised over nodes; loops run over levels or over powers of two only. So the
time for a star, a path of 10^5 levels or 2.6 million taxa is linear or n log(depth).
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


class Preorder(NamedTuple):
    """A tree whose node i is the i-th one of a depth-first traversal; arrays are int32 [n]."""

    order: IntArray
    """Old number of each node; fewer than n where some cannot be reached from the root."""
    parent: IntArray
    """Parent of each node, -1 at the root."""
    end: IntArray
    """The subtree of node v is ``range(v, end[v])``."""
    depth: IntArray
    """Edges from the root."""


def renumber(parent: NDArray[np.integer], root: int) -> Preorder:
    """Renumber a tree in preorder; siblings keep their order.

    Parameters
    ----------
    parent
        Parent of each node, -1 (or the node itself) at the root; every entry in [-1, n).
    root
        Number of the root.

    Returns
    -------
    tree
        If some nodes cannot be reached from the root (cycles), `order` holds the others in
        breadth-first order, and the other arrays are empty.
    """
    # Imported here: it takes a tenth of a second.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order

    # 1. Breadth-first order.
    n = len(parent)
    child = np.delete(np.arange(n, dtype=np.int32), root)
    edges = (np.ones(n - 1, np.int8), (parent[child], child))
    order = breadth_first_order(csr_array(edges, shape=(n, n)), root, return_predecessors=False)
    if len(order) < n:
        nothing = np.empty(0, np.int32)
        return Preorder(order, nothing, nothing, nothing)

    # 2. Bounds of levels. Nodes are numbered breadth-first from here on: each level, and each
    #    family in it, is one slice.
    position = np.empty(n, np.int32)
    position[order] = np.arange(n, dtype=np.int32)
    above = position[parent[order]]
    above[0] = 0
    num_children = np.bincount(above[1:], minlength=n)
    children_end = 1 + np.cumsum(num_children)
    bounds = [0, 1]
    while bounds[-1] < n:
        bounds.append(int(children_end[bounds[-1] - 1]))
    levels = list(pairwise(bounds[1:]))

    # 3. Sizes of subtrees, from the leaves upwards.
    size = np.ones(n, np.int64)
    for start, stop in reversed(levels):
        # The copy saves time: where operands overlap, ufunc.at copies the whole target every time.
        np.add.at(size, above[start:stop], size[start:stop].copy())

    # 4. Rows in preorder, from the root downwards: a node's row is its parent's, plus 1, plus the
    #    sizes of its earlier siblings' subtrees.
    before = np.cumsum(size) - size
    first_sibling = (children_end - num_children)[above]
    first_sibling[0] = 0
    row = 1 + before - before[first_sibling]
    row[0] = 0
    for start, stop in levels:
        row[start:stop] += row[above[start:stop]]

    def by_row(values: NDArray[np.integer]) -> IntArray:
        out = np.empty(n, np.int32)
        out[row] = values
        return out

    tree = Preorder(
        order=by_row(order),
        parent=by_row(row[above]),
        end=by_row(row + size),
        depth=by_row(np.repeat(np.arange(len(bounds) - 1), np.diff(bounds))),
    )
    tree.parent[0] = -1
    return tree


def as_it_is(parent: NDArray[np.integer]) -> Preorder | None:
    """Return a tree whose nodes are in preorder already; None where they are not.

    One loop over the nodes, of the time that it takes to read them, where `renumber` sorts.
    """
    n, others = len(parent), parent[1:]
    if parent[0] not in (-1, 0) or (others < 0).any() or (others >= np.arange(1, n)).any():
        return None
    above = parent.astype(np.int32)  # a copy
    above[0] = -1
    end, depth = np.empty(n, np.int32), np.empty(n, np.int32)
    if not _preorder_loop()(above, end, depth):
        return None
    return Preorder(np.arange(n, dtype=np.int32), above, end, depth)


def _close_subtrees(parent: IntArray, end: IntArray, depth: IntArray) -> bool:
    """Fill `end` and `depth`; return whether nodes whose parents precede them are in preorder."""
    depth[0] = 0
    for v in range(1, len(parent) + 1):
        # The parent of a node is the node before it, or an ancestor of that: all that lie between
        # have their whole subtree before this node. After the last node, all end.
        above = parent[v] if v < len(parent) else -1
        open_node = v - 1
        while open_node > above:
            end[open_node] = v
            open_node = parent[open_node]
        if open_node != above:
            return False
        if v < len(parent):
            depth[v] = depth[above] + 1
    return True


@cache
def _preorder_loop() -> Callable[[IntArray, IntArray, IntArray], bool]:
    """Compile the loop; the machine code is kept on disk where that can be written."""
    from numba import njit  # Imported here: it takes a fifth of a second.

    signature = "boolean(int32[::1], int32[::1], int32[::1])"
    try:
        return njit(signature, cache=True)(_close_subtrees)
    except RuntimeError:  # there is no such place
        return njit(signature)(_close_subtrees)


def nearest_marked(parent: IntArray, marked: NDArray[np.bool_]) -> IntArray:
    """Nearest marked self-or-ancestor of each node, int32 [n]; the root where there is none.

    Pointer jumping: after k rounds each node's pointer spans 2^k edges, so log2(depth) rounds are
    enough.
    """
    at = np.where(marked, np.arange(len(parent), dtype=np.int32), parent)
    at[0] = 0
    while True:
        further = at[at]
        if np.array_equal(further, at):
            return at
        at = further


def heavy_heads(parent: IntArray, end: IntArray) -> IntArray:
    """Topmost node of each node's heavy path, int32 [n].

    The heavy child of a node is the first child with the largest subtree. A path to the root
    leaves a heavy path at most log2(n) times, since each light edge at least doubles the subtree
    [Sleator & Tarjan 1983, §2].
    """
    # 1. Size of the largest subtree among each node's children.
    n = len(parent)
    size = end - np.arange(n, dtype=np.int32)
    largest = np.zeros(n, np.int32)
    np.maximum.at(largest, parent[1:], size[1:])
    # 2. The first child of that size: candidates are written backwards, so the first one remains.
    candidates = 1 + np.flatnonzero(size[1:] == largest[parent[1:]])[::-1]
    heavy_child = np.zeros(n, np.int32)
    heavy_child[parent[candidates]] = candidates
    # 3. Every node that is no heavy child is the head of a path.
    is_head = np.ones(n, np.bool_)
    is_head[heavy_child[parent[candidates]]] = False
    return nearest_marked(parent, is_head)


def lca(
    u: NDArray[np.integer], v: NDArray[np.integer], parent: IntArray, head: IntArray
) -> IntArray:
    """Lowest common ancestor of paired rows of a preorder tree; arrays of one shape in, flat out.

    While two nodes lie on different heavy paths, the one whose path starts later in preorder moves
    to the parent of its path's head, since this head is no ancestor of the other node. On one path,
    the node nearer to the root has the smaller row and is the common ancestor.
    """
    u, v = u.ravel().astype(np.int32), v.ravel().astype(np.int32)
    active = np.flatnonzero(head[u] != head[v])
    while len(active):
        head_u, head_v = head[u[active]], head[v[active]]
        u_moves = head_u > head_v
        u[active] = np.where(u_moves, parent[head_u], u[active])
        v[active] = np.where(u_moves, v[active], parent[head_v])
        active = active[head[u[active]] != head[v[active]]]
    return np.minimum(u, v)


def group_rows(number: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    """Group rows by a number of each, such as the depth: element k has the rows with number k.

    Rows of a group are ascending.

    Examples
    --------
    >>> [rows.tolist() for rows in group_rows(np.array([0, 1, 2, 1]))]
    [[0], [1, 3], [2]]
    """
    return np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number))[:-1])


def ranges(
    start: NDArray[np.integer], stop: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Members of k ranges, one range after the other: the range that each is of, and the member.

    Examples
    --------
    >>> place, member = ranges(np.array([4, 0, 7]), np.array([6, 0, 8]))
    >>> place.tolist(), member.tolist()
    ([0, 0, 2], [4, 5, 7])
    """
    size = (stop - start).astype(np.int64)
    before = np.cumsum(size) - size
    return np.repeat(np.arange(len(size)), size), np.arange(size.sum()) + np.repeat(
        start - before, size
    )


def outside_branch(top: Any, branch: Any, stop: Any, step: Any) -> Any:
    """Row number `step` of the subtree of `top` without the rows ``branch <= row < stop``.

    Counted from 0. All arguments are integer arrays of numpy, or all are integer tensors. With
    `branch` a child of `top` and `stop` its end, these are the rows whose lowest common ancestor
    with any row of the branch is `top`; there are ``end[top] - top - (stop - branch)`` of them.

    Examples
    --------
    >>> rows = outside_branch(top=1, branch=3, stop=6, step=np.arange(4))
    >>> rows.tolist()
    [1, 2, 6, 7]
    """
    row = top + step
    return row + (row >= branch) * (stop - branch)


def find_cycle(parent: NDArray[np.integer], start: int) -> list[int]:
    """Nodes of the cycle that the ancestors of `start` run into; `start` must not have a root."""
    seen: dict[int, int] = {}
    path: list[int] = []
    node = start
    while node not in seen:
        seen[node] = len(path)
        path.append(node)
        node = int(parent[node])
    return path[seen[node] :]
