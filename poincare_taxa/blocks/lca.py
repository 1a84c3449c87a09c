"""Pairs and triplets drawn evenly over the depth of their lowest common ancestor (LCA).

Two taxa drawn at random from a large tree almost always meet near its root, so a loss over uniform
pairs hardly ever sees two species of a genus. Here a node u is drawn uniformly, then a depth j
above it, then a node v whose LCA with u has exactly that depth: with a the ancestor of u at depth
j, and b the one at j + 1, v is uniform in the subtree of a without that of b.
"""

from typing import Self

import torch
from torch import Tensor

from poincare_taxa.blocks._random import below
from poincare_taxa.blocks.tree_index import TreeIndex, moved
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["LCAPairs", "LCATriplets"]


class LCAPairs:
    """Draws pairs of nodes stratified by the depth of their LCA; for `StressLoss`.

    Every unordered pair of nodes can occur. The first node is never the root; the second may be an
    ancestor of the first.

    Parameters
    ----------
    taxonomy
        The tree.

    Raises
    ------
    ValueError
        If the tree is a single node.

    Examples
    --------
    >>> pairs = LCAPairs(Taxonomy.from_parents([-1, 0, 1, 1])).sample(3)
    >>> pairs.shape
    torch.Size([3, 2])
    """

    def __init__(self, taxonomy: Taxonomy | TreeIndex) -> None:
        self.tree = TreeIndex.of(taxonomy)
        _require_depth(self.tree, 1, "a pair needs two nodes")

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return pairs of rows [batch_size, 2], drawn with replacement."""
        u = _nodes_below(self.tree, 1, batch_size, generator)
        v = _meeting(self.tree, u, below(self.tree.depth[u], generator), generator)
        return torch.stack((u, v), dim=-1)


class LCATriplets:
    """Draws (anchor, near, far): the LCA of anchor and near is deeper than that of anchor and far.

    The two depths are a uniform choice of two among those above the anchor. For `TripletLoss`.

    Parameters
    ----------
    taxonomy
        The tree.

    Raises
    ------
    ValueError
        If the tree is less than two levels deep: then all LCAs are the root.

    Examples
    --------
    >>> triplets = LCATriplets(Taxonomy.from_parents([-1, 0, 1, 1])).sample(3)
    >>> triplets.shape
    torch.Size([3, 3])
    """

    def __init__(self, taxonomy: Taxonomy | TreeIndex) -> None:
        self.tree = TreeIndex.of(taxonomy)
        _require_depth(self.tree, 2, "LCAs of different depths need two levels")

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return triplets of rows [batch_size, 3], drawn with replacement."""
        u = _nodes_below(self.tree, 2, batch_size, generator)
        depth = self.tree.depth[u]
        one, other = below(depth, generator), below(depth - 1, generator)
        other = other + (other >= one)  # a uniform choice among the depths that are left
        near = _meeting(self.tree, u, torch.maximum(one, other), generator)
        far = _meeting(self.tree, u, torch.minimum(one, other), generator)
        return torch.stack((u, near, far), dim=-1)


def _require_depth(tree: TreeIndex, least: int, why: str) -> None:
    if tree.max_depth < least:
        raise ValueError(f"the taxonomy is {tree.max_depth} levels deep; {why}")


def _nodes_below(
    tree: TreeIndex, depth: int, count: int, generator: torch.Generator | None
) -> Tensor:
    """Draw nodes at this depth or deeper, uniformly."""
    if count < 1:
        raise ValueError(f"batch_size must be at least 1; got {count}")
    start = tree.level_start[depth]
    return tree.level_order[start + below((len(tree) - start).expand(count), generator)]


def _meeting(
    tree: TreeIndex, u: Tensor, depth: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw a node for each u whose LCA with u has a depth smaller than u's own."""
    a, b = tree.ancestor(u, depth), tree.ancestor(u, depth + 1)
    outside = (b - a) + (tree.end[a] - tree.end[b])
    v = a + below(outside, generator)
    return torch.where(v < b, v, v - b + tree.end[b])
