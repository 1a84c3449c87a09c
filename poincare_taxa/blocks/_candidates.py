"""Candidates for the negatives of an anchor, counted and indexed exactly, without rejection.

`TreeCandidates` and `ClosureCandidates` map a batch of anchors to a *region*: ``mass()`` is the
total weight of the candidates (their number, where all weigh 1) and ``at(m)`` the node at which
their cumulative weight passes m. One uniform integer below the mass thus determines a negative.

In a tree the candidates are at most two stretches of orders of the nodes (see `tree_index`). In a
DAG they are all rows except for some holes, which a binary search counts.
"""

from typing import Literal, NamedTuple, Protocol, Self

import torch
from torch import Tensor

from poincare_taxa.blocks._random import Order
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.tree_index import TreeIndex, moved

__all__ = ["ClosureCandidates", "Region", "Relations", "Stretches", "TreeCandidates"]

Relations = Literal["relatives", "ancestors", "descendants", "nothing"]
"""Nodes that are no candidates, besides the anchor itself; with "nothing" the anchor is one too."""


class Region(Protocol):
    """The candidates of each anchor of a batch."""

    def mass(self) -> Tensor:
        """Weight of the candidates, int64 [batch]."""
        ...

    def at(self, m: Tensor) -> Tensor:
        """Node for each m [batch, num] below the mass."""
        ...


class Stretches(NamedTuple):
    """For each anchor [batch], a stretch of one order and a stretch of another."""

    left: Order
    left_start: Tensor
    left_stop: Tensor
    right: Order
    right_start: Tensor
    right_stop: Tensor

    def mass(self) -> Tensor:
        """Weight of the candidates, int64 [batch]."""
        return self._left_mass() + self.right.mass(self.right_start, self.right_stop)

    def at(self, m: Tensor) -> Tensor:
        """Node for each m [batch, num] below the mass."""
        left_mass = self._left_mass()[:, None]
        from_left = self.left.at(self.left_start[:, None], m)
        from_right = self.right.at(self.right_start[:, None], (m - left_mass).clamp(min=0))
        return torch.where(m < left_mass, from_left, from_right)

    def _left_mass(self) -> Tensor:
        return self.left.mass(self.left_start, self.left_stop)


class TreeCandidates:
    """Nodes of a subtree without the anchor's ancestors, descendants, both or neither."""

    def __init__(self, tree: TreeIndex, without: Relations, units: Tensor | None = None) -> None:
        self.tree = tree
        self.without = without
        self._rows = Order.weighted(None, units)
        self._postorder = Order.weighted(tree.postorder, units)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def region(self, x: Tensor, top: Tensor | None = None) -> Stretches:
        """Return the candidates of anchors [batch]: all, or those below an ancestor of each."""
        tree, rows = self.tree, self._rows
        top = torch.zeros_like(x) if top is None else top
        if self.without == "nothing":
            return Stretches(rows, top, tree.end[top], rows, top, top)
        after = x + 1 if self.without == "ancestors" else tree.end[x]
        if self.without == "descendants":
            return Stretches(rows, top, x, rows, after, tree.end[top])
        before_top, before_x = top - tree.depth[top], x - tree.depth[x]
        return Stretches(self._postorder, before_top, before_x, rows, after, tree.end[top])

    def mask(self, x: Tensor, nodes: Tensor) -> Tensor:
        """Whether each of some nodes [num] is a candidate of each anchor [batch]: [batch, num]."""
        x = x[:, None]
        mask = torch.ones(len(x), len(nodes), dtype=torch.bool, device=nodes.device)
        if self.without in ("relatives", "ancestors"):
            mask &= ~((nodes <= x) & (x < self.tree.end[nodes]))
        if self.without in ("relatives", "descendants"):
            mask &= ~((x <= nodes) & (nodes < self.tree.end[x]))
        return mask


class ClosureCandidates:
    """Nodes of a DAG without those that share a pair with the anchor, in one role or in any.

    Pairs that follow by transitivity count as well, listed or not, and so do those to ignore.
    """

    def __init__(
        self,
        closure: ClosurePairs,
        without: Relations,
        units: Tensor | None = None,
        ignored: Tensor | None = None,
    ) -> None:
        self.pairs, n = closure, closure.num_nodes
        related = closure.reached if ignored is None else torch.cat([closure.reached, ignored])
        ancestor, descendant = related.unbind(1)
        itself = torch.arange(n, device=ancestor.device)
        holes = [] if without == "nothing" else [itself * n + itself]
        if without in ("relatives", "ancestors"):
            holes.append(descendant * n + ancestor)
        if without in ("relatives", "descendants"):
            holes.append(ancestor * n + descendant)
        holes = torch.cat([*holes, itself[:0]]).unique()  # ascending: by anchor, then by row
        anchor = holes // n
        self._hole = holes % n
        self._start = torch.searchsorted(holes, torch.arange(n + 1, device=holes.device) * n)
        self._order = Order.weighted(None, units)
        self._total = n if units is None else int(units.sum())
        weight = torch.ones_like(holes) if units is None else units[self._hole]
        self._removed = torch.cat((weight.new_zeros(1), weight.cumsum(0)))
        # Weight of the candidates before each hole. It ascends with the holes of an anchor, so that
        # anchor and weight make one ascending key (below 2^63: see `_random.integer_weights`).
        before = (
            self._hole if self._order.cumulative is None else self._order.cumulative[self._hole]
        )
        before = before - (self._removed[:-1] - self._removed[self._start[anchor]])
        self._key = anchor * (self._total + 1) + before

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def region(self, x: Tensor) -> "_Perforated":
        """Return the candidates of anchors [batch]."""
        return _Perforated(self, x)

    def mask(self, x: Tensor, nodes: Tensor) -> Tensor:
        """Whether each of some nodes [num], ascending, is a candidate of each anchor [batch]."""
        # All holes of the batch, and the row of the batch that each belongs to.
        start, stop = self._start[x], self._start[x + 1]
        count = stop - start
        row = torch.arange(len(x), device=x.device).repeat_interleave(count)
        hole = self._hole[
            torch.arange(len(row), device=x.device) - (count.cumsum(0) - count - start)[row]
        ]
        # A node drawn several times has one column until the end.
        once, place = torch.unique_consecutive(nodes, return_inverse=True)
        column = torch.searchsorted(once, hole).clamp(max=len(once) - 1)
        there = once[column] == hole
        mask = torch.ones(len(x), len(once), dtype=torch.bool, device=x.device)
        mask[row[there], column[there]] = False
        return mask if len(once) == len(nodes) else mask.index_select(1, place)


class _Perforated(NamedTuple):
    """All rows but the holes of each anchor [batch]."""

    candidates: ClosureCandidates
    anchor: Tensor

    def mass(self) -> Tensor:
        """Weight of the candidates, int64 [batch]."""
        a, start = self.candidates, self.candidates._start
        return a._total - (a._removed[start[self.anchor + 1]] - a._removed[start[self.anchor]])

    def at(self, m: Tensor) -> Tensor:
        """Node for each m [batch, num] below the mass."""
        a, anchor = self.candidates, self.anchor[:, None]
        passed = torch.searchsorted(a._key, anchor * (a._total + 1) + m, right=True)
        skipped = a._removed[passed] - a._removed[a._start[anchor]]
        return a._order.at(torch.zeros_like(m), m + skipped)
