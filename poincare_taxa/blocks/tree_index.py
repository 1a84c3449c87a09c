"""A tree as tensors: ancestors, levels and distances for batches of nodes, on any device.

Nodes are rows in preorder, so the subtree of v is the rows v ≤ w < end[v]. In this order or one of
two others, every set of nodes that a sampler draws from is at most two ranges of indices:

- *postorder*: the nodes before the subtree of v are the v − depth[v] nodes to its left, without its
  ancestors (which are among them in preorder); v itself has the place end[v] − 1 − depth[v].
- *level order*, by depth, then by row: the ancestor of v at depth d is the last node of level d
  with a row ≤ v, and the members of a subtree at depth d are adjacent.

Sources: Knuth, *The Art of Computer Programming* 1, §2.3.2 exercise 19 (places in the two orders);
[BF00] Bender & Farach-Colton 2000, *The LCA problem revisited*, §3 (range minima by sparse table).
"""

import copy
from typing import Any, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["Movable", "TreeIndex", "moved"]


class TreeIndex:
    """A tree as tensors on a device; O(n) memory (48 bytes a node).

    Blocks take a `Taxonomy`, a `Tree` or a `TreeIndex`. Several blocks save memory if they share
    an index.

    Parameters
    ----------
    taxonomy
        A taxonomy or its tree.

    Attributes
    ----------
    parent, end, depth : int64 [n]
        As in `Tree`.
    height : float64 or int64 [n]
        Distance from the root, by branch lengths or edges, as in `Tree`.
    postorder : int64 [n]
        Rows in postorder.
    level_order : int64 [n]
        Rows by depth, then by row.
    level_start : int64 [max depth + 2]
        The nodes at depth d are ``level_order[level_start[d] : level_start[d + 1]]``.

    Examples
    --------
    >>> tree = TreeIndex(Taxonomy.from_parents([-1, 0, 1, 1, 0]))
    >>> tree.ancestor(torch.tensor([2, 3, 4]), torch.tensor([1, 0, 1]))
    tensor([1, 0, 4])
    >>> tree.distance(torch.tensor([2, 2]), torch.tensor([3, 4]))
    tensor([2, 3])
    """

    parent: Tensor
    end: Tensor
    depth: Tensor
    postorder: Tensor
    level_order: Tensor
    level_start: Tensor

    def __init__(self, taxonomy: Taxonomy | Tree) -> None:
        self._tree = tree = tree_of(taxonomy)
        self.parent, self.end, self.depth = (
            torch.tensor(column, dtype=torch.int64)
            for column in (tree.parent, tree.end, tree.depth)
        )
        row = torch.arange(len(tree))
        self.height = self.depth if tree.lengths is None else torch.tensor(tree.height)
        self.postorder = torch.empty_like(row)
        self.postorder[self.end - 1 - self.depth] = row
        self.level_order = torch.argsort(self.depth, stable=True)
        self.level_start = torch.cat((row[:1], torch.bincount(self.depth).cumsum(0)))
        # (depth, row) as one ascending number, in which a binary search finds a place of a level.
        self._key = self.depth[self.level_order] * len(tree) + self.level_order
        self._minima: Tensor | None = None

    @classmethod
    def of(cls, source: "Taxonomy | Tree | TreeIndex") -> "TreeIndex":
        """Index a taxonomy or a tree; an index is returned as it is."""
        return source if isinstance(source, TreeIndex) else cls(source)

    def __repr__(self) -> str:
        return f"TreeIndex({len(self):,} rows, max depth {self.max_depth}, {self.device})"

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.parent)

    @property
    def fingerprint(self) -> str:
        """Hash of the tree, as `Tree.fingerprint`."""
        return self._tree.fingerprint

    @property
    def max_depth(self) -> int:
        """Depth of the deepest node."""
        return len(self.level_start) - 2

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.parent.device

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def is_ancestor(self, a: Tensor, v: Tensor) -> Tensor:
        """Whether a is an ancestor of v, or v itself. Rows; broadcasts."""
        return (a <= v) & (v < self.end[a])

    def ancestor(self, v: Tensor, depth: Tensor) -> Tensor:
        """Row of the ancestor-or-self of v at a depth, 0 ≤ depth ≤ depth[v]. Broadcasts; O(log n).

        Examples
        --------
        >>> tree = TreeIndex(Taxonomy.from_parents([-1, 0, 1]))
        >>> tree.ancestor(torch.tensor(2), torch.tensor([2, 1, 0]))
        tensor([2, 1, 0])
        """
        base = depth * len(self)
        place = torch.searchsorted(self._key, base + v, right=True) - 1
        return self._key[place] - base

    def stretch(self, v: Tensor, depth: Tensor) -> tuple[Tensor, Tensor]:
        """First and last + 1 place in `level_order` of the members of v's subtree at a depth."""
        base = depth * len(self)
        return (
            torch.searchsorted(self._key, base + v),
            torch.searchsorted(self._key, base + self.end[v]),
        )

    def lca_depth(self, u: Tensor, v: Tensor) -> Tensor:
        """Depth of the lowest common ancestor. Rows; broadcasts; O(1) a pair.

        For u < v it is the smallest depth among the rows u + 1 … v, less one: all of these rows are
        below the LCA, and one of them is its child with v in its subtree. The table of minima
        (log₂ n bytes a node, up to depth 127) is built at the first call.
        """
        if self._minima is None:
            self._minima = _range_minima(self.depth, self.max_depth)
        u, v = torch.broadcast_tensors(u, v)
        # Two ranges of 2^power rows, which may overlap, cover the rows first … last.
        first, last = torch.minimum(u, v) + 1, torch.maximum(u, v)
        length = (last - first + 1).clamp(min=1)
        power = torch.frexp(length.to(torch.float64))[1].to(torch.int64) - 1
        first = first.clamp(max=len(self) - 1)
        second = last + 1 - torch.bitwise_left_shift(torch.ones_like(power), power)
        lowest = torch.minimum(self._minima[power, first], self._minima[power, second])
        return torch.where(u == v, self.depth[u], lowest.to(torch.int64) - 1)

    def distance(self, u: Tensor, v: Tensor) -> Tensor:
        """Sum the branch lengths between u and v, float64; count the edges where there are none.

        Rows; broadcasts; O(1) a pair (see `lca_depth`), O(log n) with branch lengths. See `Tree`.
        """
        common = self.lca_depth(u, v)
        if self.height.is_floating_point():
            common = self.height[self.ancestor(torch.minimum(u, v), common)]
        return self.height[u] + self.height[v] - 2 * common

    @property
    def mean_edge(self) -> float:
        """Mean length of an edge, as `Tree.mean_edge`."""
        return self._tree.mean_edge


@runtime_checkable
class Movable(Protocol):
    """What can be copied to a device."""

    def to(self, device: Any, /) -> Any:
        """Copy to a device."""
        ...


def moved(thing: Any, device: torch.device | str) -> Any:
    """Copy an object, with all attributes that have a method ``to`` on the device."""
    twin = copy.copy(thing)
    for name, value in vars(thing).items():
        if isinstance(value, Movable):
            setattr(twin, name, value.to(device))
    return twin


def _range_minima(depth: Tensor, max_depth: int) -> Tensor:
    """Minima of 2^k consecutive rows from each row on (fewer at the end), for all k [BF00]."""
    dtype = next(
        t for t in (torch.int8, torch.int16, torch.int32) if max_depth <= torch.iinfo(t).max
    )
    n = len(depth)
    table = torch.empty(n.bit_length(), n, dtype=dtype, device=depth.device)
    table[0] = depth
    for k in range(1, len(table)):
        half = 2 ** (k - 1)
        table[k] = table[k - 1]
        torch.minimum(table[k - 1, :-half], table[k - 1, half:], out=table[k, :-half])
    return table
