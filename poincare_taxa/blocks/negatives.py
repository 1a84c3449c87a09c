"""Negatives for a batch of pairs: nodes that are not related to the anchor, and never by accident.

Seam: ``(pairs [batch, 2], generator) -> nodes [batch, num_negatives]``, int64. Pairs are (ancestor,
descendant); the *anchor* is the endpoint that stays, the *positive* the one that negatives replace.
Which is which depends on the loss, so each sampler is told. An anchor without a valid negative gets
−1: ``nodes >= 0`` is the mask that losses take, ``nodes.clamp(min=0)`` what to index by.

What is excluded (`exclude`):

- "relatives": the anchor, its ancestors and its descendants;
- "positives": the anchor and whatever could be its positive: the ancestors of an anchor that is the
  descendant ([NK17]'s negatives), the descendants of one that is the ancestor;
- "nothing": no filter. In a tree of 12,212 taxa 45 % of same-depth negatives drawn like this are
  descendants of the anchor; it is here to measure what that costs.

Exactness is by construction: a negative is a uniform integer below the number (or weight) of the
allowed nodes, looked up by its place among them. Nothing is drawn twice, no row is looped over.

Source: [NK17] Nickel & Kiela 2017, §3.
"""

from collections.abc import Sequence
from typing import Literal, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from poincare_taxa.blocks._candidates import (
    ClosureAllowed,
    Region,
    Relations,
    Stretches,
    TreeAllowed,
)
from poincare_taxa.blocks._random import Order, below, integer_weights, tensor_of
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.tree_index import TreeIndex, moved
from poincare_taxa.taxonomy import preorder
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = [
    "CousinNegatives",
    "MixedNegatives",
    "NegativeSampler",
    "SameDepthNegatives",
    "UniformNegatives",
]

Anchor = Literal["ancestor", "descendant"]
Exclude = Literal["relatives", "positives", "nothing"]


@runtime_checkable
class NegativeSampler(Protocol):
    """What fits the seam; a lambda does."""

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None, /) -> Tensor:
        """Return nodes [batch, num_negatives] for pairs [batch, 2]; −1 where there is none."""
        ...


class _Negatives:
    """Common to the samplers: which endpoint is the anchor, and drawing from its region."""

    def __init__(self, num_negatives: int, anchor: Anchor) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1; got {num_negatives}")
        column_of(anchor)
        self.num_negatives = num_negatives
        self.anchor: Anchor = anchor

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw negatives with replacement.

        Parameters
        ----------
        pairs
            Rows [batch, 2]: (ancestor, descendant), on the device of the sampler.
        generator
            Randomness, on the same device; torch's global one by default.

        Returns
        -------
        nodes
            [batch, num_negatives], int64; −1 in the rows of anchors that have no negative.
        """
        region = self._region(pairs)
        mass = region.mass()[:, None].expand(-1, self.num_negatives)
        return torch.where(mass > 0, region.at(below(mass, generator)), -1)

    def _region(self, pairs: Tensor) -> Region:
        raise NotImplementedError


class UniformNegatives(_Negatives):
    """All nodes that are not related to the anchor, alike or in proportion to weights.

    Parameters
    ----------
    source
        The tree, or the pairs of a DAG.
    num_negatives
        How many for each pair, at least 1. Nickel & Kiela use 10 (reconstruction) and 50.
    anchor
        Which endpoint stays: "descendant" ([NK17]) or "ancestor" (the hinge of taxembed).
    exclude
        "relatives", "positives" or "nothing"; see the module.
    weights
        Weight of each node [n], at least 0: a negative is drawn in proportion to it. Counts to a
        power below 1, for example ``tax.subtree_size ** 0.75``, are the classical choice.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    Rows 0 and 1 are ancestors of 2; only 3 is not related.

    >>> negatives = UniformNegatives(Taxonomy.from_parents([-1, 0, 1, 0]), 2)
    >>> negatives(torch.tensor([[0, 2], [0, 3]]))[0]
    tensor([3, 3])
    """

    def __init__(
        self,
        source: Taxonomy | TreeIndex | ClosurePairs,
        num_negatives: int,
        *,
        anchor: Anchor = "descendant",
        exclude: Exclude = "relatives",
        weights: ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__(num_negatives, anchor)
        self.exclude: Exclude = exclude
        self.weights = node_units(source, weights)
        self._allowed = allowed_nodes(source, anchor, exclude, self.weights)

    def log_weights(self, pairs: Tensor, nodes: Tensor) -> Tensor:
        """Make a sum over these negatives estimate the sum over all allowed nodes.

        Returns −log(k q) for each of the k negatives, q the probability with which it was drawn;
        add it to −d in `softmax_ranking_loss`.

        Parameters
        ----------
        pairs, nodes
            What the sampler was called with, and what it returned.

        Returns
        -------
        log_weights
            [batch, num_negatives]; 0 where the entry is −1.
        """
        log_q = -self._region(pairs).mass().clamp(min=1).log()[:, None]
        if self.weights is not None:
            log_q = log_q + self.weights[nodes.clamp(min=0)].log()
        weights = -log_q - np.log(self.num_negatives)
        return torch.where(nodes >= 0, weights.expand(nodes.shape), 0)

    def _region(self, pairs: Tensor) -> Region:
        return self._allowed.region(pairs[:, column_of(self.anchor)])


class SameDepthNegatives(_Negatives):
    """Nodes at the depth of the positive, which radius alone cannot tell from it.

    With an ancestor as anchor: nodes at the depth of the descendant that are outside the anchor's
    subtree. With a descendant as anchor: nodes at the depth of the ancestor that are not the
    ancestor; there is none for the root.

    Parameters
    ----------
    taxonomy
        The tree.
    num_negatives
        How many for each pair, at least 1.
    anchor
        Which endpoint stays.
    exclude
        "relatives" or "nothing" (every node of the level, the positive among them).

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 1, 0, 3])
    >>> SameDepthNegatives(tax, 1)(torch.tensor([[1, 2], [3, 4]]))
    tensor([[3],
            [1]])
    """

    def __init__(
        self,
        taxonomy: Taxonomy | TreeIndex,
        num_negatives: int,
        *,
        anchor: Anchor = "descendant",
        exclude: Literal["relatives", "nothing"] = "relatives",
    ) -> None:
        super().__init__(num_negatives, anchor)
        if exclude not in ("relatives", "nothing"):
            raise ValueError(f"exclude must be 'relatives' or 'nothing'; got {exclude!r}")
        self.tree = TreeIndex.of(taxonomy)
        self.exclude: Exclude = exclude
        self._level = Order(self.tree.level_order, None)

    def _region(self, pairs: Tensor) -> Region:
        depth = self.tree.depth[pairs[:, 1 - column_of(self.anchor)]]
        start, stop = self.tree.level_start[depth], self.tree.level_start[depth + 1]
        if self.exclude == "nothing":
            return Stretches(self._level, start, stop, self._level, stop, stop)
        # The ancestor's subtree at that depth: its descendants there, or just itself.
        hole_start, hole_stop = self.tree.stretch(pairs[:, 0], depth)
        return Stretches(self._level, start, hole_start, self._level, hole_stop, stop)


class CousinNegatives(_Negatives):
    """Nodes from the subtree some levels above the anchor: the fewer levels, the harder.

    ``levels=1`` draws siblings and what is below them, 2 cousins, and so on. Where nothing branches
    within so few levels, the subtree of the first ancestor that has another child is used.

    Parameters
    ----------
    taxonomy
        The tree.
    num_negatives
        How many for each pair, at least 1.
    levels
        How far to go up from the anchor, at least 1.
    anchor, exclude
        As in `UniformNegatives`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 1, 1, 0])
    >>> CousinNegatives(tax, 1)(torch.tensor([[0, 2], [0, 4]]))[0]
    tensor([3])
    """

    def __init__(
        self,
        taxonomy: Taxonomy | TreeIndex,
        num_negatives: int,
        *,
        levels: int = 1,
        anchor: Anchor = "descendant",
        exclude: Exclude = "relatives",
    ) -> None:
        super().__init__(num_negatives, anchor)
        if levels < 1:
            raise ValueError(f"levels must be at least 1; got {levels}")
        self.tree = TreeIndex.of(taxonomy)
        self.levels, self.exclude = levels, exclude
        self._allowed = TreeAllowed(self.tree, _relations(anchor, exclude))
        self._fork = _forks(self.tree)

    def _region(self, pairs: Tensor) -> Region:
        x = pairs[:, column_of(self.anchor)]
        above = self.tree.ancestor(x, (self.tree.depth[x] - self.levels).clamp(min=0))
        return self._allowed.region(x, torch.minimum(above, self._fork[x]))


class MixedNegatives:
    """Several samplers side by side: each contributes its own columns.

    ``MixedNegatives([CousinNegatives(tax, 25), UniformNegatives(tax, 25)])`` is half hard, half
    easy.

    Parameters
    ----------
    samplers
        At least one; any callable that fits the seam.

    Raises
    ------
    ValueError
        If there is none, or if their anchors differ.
    """

    def __init__(self, samplers: Sequence[NegativeSampler]) -> None:
        if not samplers:
            raise ValueError(
                "MixedNegatives needs at least one sampler, such as UniformNegatives(tax, 50)"
            )
        anchors = {s.anchor for s in samplers if hasattr(s, "anchor")}  # pyright: ignore
        if len(anchors) > 1:
            raise ValueError("the samplers have different anchors; give all the same `anchor`")
        self.anchor: Anchor = anchors.pop() if anchors else "descendant"
        self.samplers = list(samplers)

    def to(self, device: torch.device | str) -> "MixedNegatives":
        """Copy to a device; a sampler without a ``to`` is taken as it is."""
        return MixedNegatives(
            [s.to(device) if hasattr(s, "to") else s for s in self.samplers]  # pyright: ignore
        )

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw from each sampler in turn; the results stand side by side."""
        return torch.cat([sampler(pairs, generator) for sampler in self.samplers], dim=1)


def column_of(anchor: Anchor) -> int:
    """Column of the pairs in which the anchor stands."""
    if anchor not in ("ancestor", "descendant"):
        raise ValueError(f"anchor must be 'ancestor' or 'descendant'; got {anchor!r}")
    return 0 if anchor == "ancestor" else 1


def allowed_nodes(
    source: Taxonomy | TreeIndex | ClosurePairs,
    anchor: Anchor,
    exclude: Exclude,
    units: Tensor | None = None,
) -> TreeAllowed | ClosureAllowed:
    """Choose how the nodes that are not excluded are counted and looked up."""
    without = _relations(anchor, exclude)
    if isinstance(source, ClosurePairs):
        return ClosureAllowed(source, without, units)
    return TreeAllowed(TreeIndex.of(source), without, units)


def node_units(
    source: Taxonomy | TreeIndex | ClosurePairs, weights: ArrayLike | Tensor | None
) -> Tensor | None:
    """Weights of the nodes as integers, on the device of the source."""
    if weights is None:
        return None
    weights = tensor_of(weights)
    n = source.num_nodes if isinstance(source, ClosurePairs) else len(source)
    if weights.shape != (n,):
        raise ValueError(f"weights need one number for each of {n} nodes; got {weights.shape}")
    return integer_weights(weights).to(device_of(source))


def device_of(source: Taxonomy | TreeIndex | ClosurePairs) -> torch.device:
    """Where a sampler over the source will live."""
    if isinstance(source, ClosurePairs):
        return source.pairs.device
    return source.device if isinstance(source, TreeIndex) else torch.device("cpu")


def _relations(anchor: Anchor, exclude: Exclude) -> Relations:
    if exclude not in ("relatives", "positives", "nothing"):
        raise ValueError(f"exclude must be 'relatives', 'positives' or 'nothing'; got {exclude!r}")
    positives = ("descendants", "ancestors")[column_of(anchor)]
    return positives if exclude == "positives" else exclude


def _forks(tree: TreeIndex) -> Tensor:
    """Nearest ancestor of each node that has another child too; the root where there is none."""
    parent = tree.parent.cpu().numpy().astype(np.int32)
    several = np.bincount(parent[1:], minlength=len(parent)) > 1
    fork = preorder.nearest_marked(parent, several)[np.maximum(parent, 0)]
    return torch.from_numpy(fork).to(tree.device, torch.int64)
