"""Negatives for a batch of pairs: nodes that are not related to the anchor, without exception.

A sampler maps ``(pairs [batch, 2], generator)`` to nodes [batch, num_negatives], int64. Pairs are
(ancestor, descendant). The *anchor* is the endpoint that stays, the *positive* the one that
negatives replace; which is which depends on the loss and is an argument of each sampler. The
negatives of an anchor without a valid negative are −1: ``nodes >= 0`` is the mask that losses take,
``nodes.clamp(min=0)`` indexes a table.

`exclude` decides what is excluded:

- "relatives": the anchor, its ancestors and its descendants;
- "positives": the anchor and all nodes that could be its positive: the ancestors of an anchor that
  is the descendant ([NK17]'s negatives), the descendants of one that is the ancestor;
- "nothing": no filter. In a tree of 12,212 taxa 45 % of the same-depth negatives drawn without one
  are descendants of the anchor; the option is there to measure the cost of that.

Of a DAG, what follows from its pairs by transitivity is excluded too, whether it is listed or not.
``ignore`` excludes more pairs in the same roles, such as those that are held out for a test. A
model that was trained so *knows* of them, so that its score on them says little.

The draw is exact: a negative is a uniform integer below the number (or weight) of the candidates,
which a search turns into a node. Nothing is drawn twice, and there is no loop over rows.

`SharedNegatives` draws one *tile* of negatives for the whole batch: few rows to gather, and one
all-pairs distance. With 512 pairs and 50 negatives each, distances need 25,600 rows of the table;
with a tile of 50 they need 562. In return the negatives of different pairs are not independent, so
that a tile is usually larger (4,096 for WordNet's nouns).

Source: [NK17] Nickel & Kiela 2017, §3.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from poincare_taxa.blocks._candidates import (
    ClosureCandidates,
    Region,
    Relations,
    Stretches,
    TreeCandidates,
)
from poincare_taxa.blocks._random import Order, below, integer_weights, tensor_of
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.settings import settings_repr
from poincare_taxa.blocks.tree_index import Movable, TreeIndex, moved
from poincare_taxa.taxonomy import preorder
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "Anchored",
    "CousinNegatives",
    "MixedNegatives",
    "NegativeSampler",
    "SameDepthNegatives",
    "SharedNegatives",
    "Tile",
    "UniformNegatives",
]

Anchor = Literal["ancestor", "descendant"]
Exclude = Literal["relatives", "positives", "nothing"]


@runtime_checkable
class NegativeSampler(Protocol):
    """Any callable from pairs to negatives, such as a lambda."""

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None, /) -> Tensor:
        """Return nodes [batch, num_negatives] for pairs [batch, 2]; −1 where there is none."""
        ...


@runtime_checkable
class Anchored(Protocol):
    """A sampler that says which end of a pair its negatives are for; others: the descendant."""

    anchor: Anchor


class _Negatives:
    """Base of the samplers: the anchor's endpoint, and draws from the anchor's candidates."""

    def __init__(self, num_negatives: int, anchor: Anchor) -> None:
        if num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1; got {num_negatives}")
        column_of(anchor)
        self.num_negatives = num_negatives
        self.anchor: Anchor = anchor

    __repr__ = settings_repr

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
            Randomness, on the same device; torch's global one by default, and among processes
            (`torch.distributed`) a stream of each one's own from it.

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
        "relatives", "positives" or "nothing", as above.
    weights
        Weight of each node [n], at least 0: a negative is drawn in proportion to it. Counts to a
        power below 1, for example ``tax.subtree_size ** 0.75``, are the classical choice.
    ignore
        Pairs of a DAG that are no negatives either: rows [k, 2], (ancestor, descendant), or
        `ClosurePairs`. Those beyond the closure of the source are the attribute ``ignored``.

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

    weights: Tensor | None
    ignored: Tensor | None = None

    def __init__(
        self,
        source: Taxonomy | Tree | TreeIndex | ClosurePairs,
        num_negatives: int,
        *,
        anchor: Anchor = "descendant",
        exclude: Exclude = "relatives",
        weights: ArrayLike | Tensor | None = None,
        ignore: ClosurePairs | ArrayLike | Tensor | None = None,
    ) -> None:
        super().__init__(num_negatives, anchor)
        self.exclude: Exclude = exclude
        self.weights = _node_units(source, weights)
        if ignore is not None:
            self.ignored = _ignored(source, ignore, exclude)
        self._candidates = _candidates_of(source, anchor, exclude, self.weights, self.ignored)

    def log_weights(self, pairs: Tensor, nodes: Tensor) -> Tensor:
        """Log weights with which a sum over these negatives estimates that over all candidates.

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
        log_q = -self._region(pairs).mass().log()[:, None]
        if self.weights is not None:
            log_q = log_q + self.weights[nodes.clamp(min=0)].log()
        weights = -log_q - np.log(self.num_negatives)
        return torch.where(nodes >= 0, weights.expand(nodes.shape), 0)

    def _region(self, pairs: Tensor) -> Region:
        return self._candidates.region(pairs[:, column_of(self.anchor)])


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
        "relatives" or "nothing" (every node of the level, also the positive).

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

    tree: TreeIndex

    def __init__(
        self,
        taxonomy: Taxonomy | Tree | TreeIndex,
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
        # The ancestor's subtree is excluded: its descendants at that depth, or itself.
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

    tree: TreeIndex
    levels: int

    def __init__(
        self,
        taxonomy: Taxonomy | Tree | TreeIndex,
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
        self._candidates = TreeCandidates(self.tree, _relations(anchor, exclude))
        self._fork = _forks(self.tree)

    def _region(self, pairs: Tensor) -> Region:
        x = pairs[:, column_of(self.anchor)]
        above = self.tree.ancestor(x, (self.tree.depth[x] - self.levels).clamp(min=0))
        return self._candidates.region(x, torch.minimum(above, self._fork[x]))


class Tile(NamedTuple):
    """Negatives that a whole batch shares."""

    nodes: Tensor
    """Rows [num_negatives], ascending."""
    mask: Tensor
    """Bool [batch, num_negatives]: whether a node is a valid negative of an anchor."""
    log_weights: Tensor
    """[num_negatives]; with them a masked sum over the tile estimates that over all candidates."""


class SharedNegatives:
    """One set of negatives for the batch: one gather and one ``cdist`` instead of one per pair.

    Parameters
    ----------
    source
        The tree, or the pairs of a DAG.
    num_negatives
        How many for the batch, drawn with replacement; None for every node: the full softmax.
    anchor, exclude, weights, ignore
        As in `UniformNegatives`.

    Raises
    ------
    ValueError
        If an argument is out of its range.

    Examples
    --------
    >>> negatives = SharedNegatives(Taxonomy.from_parents([-1, 0, 0]), None)
    >>> tile = negatives.tile(torch.tensor([[0, 1], [0, 2]]))
    >>> tile.nodes, tile.mask
    (tensor([0, 1, 2]), tensor([[False, False,  True],
            [False,  True, False]]))
    """

    weights: Tensor | None
    ignored: Tensor | None = None

    def __init__(
        self,
        source: Taxonomy | Tree | TreeIndex | ClosurePairs,
        num_negatives: int | None,
        *,
        anchor: Anchor = "descendant",
        exclude: Exclude = "relatives",
        weights: ArrayLike | Tensor | None = None,
        ignore: ClosurePairs | ArrayLike | Tensor | None = None,
    ) -> None:
        if num_negatives is not None and num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, or None; got {num_negatives}")
        if num_negatives is None and weights is not None:
            raise ValueError(
                "weights are for nodes that are drawn, and without num_negatives all nodes are "
                "used: give a number, or leave weights out"
            )
        self.num_negatives = num_negatives
        self.anchor: Anchor = anchor
        self.exclude: Exclude = exclude
        self.weights = _node_units(source, weights)
        if ignore is not None:
            self.ignored = _ignored(source, ignore, exclude)
        self._candidates = _candidates_of(source, anchor, exclude, None, self.ignored)
        self._all = torch.arange(_size_of(source), device=_device_of(source))
        self._order = Order.weighted(None, self.weights)

    __repr__ = settings_repr

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def tile(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tile:
        """Draw the negatives of a batch of pairs; arguments as those of any sampler here."""
        nodes, log_weights = self._all, torch.zeros((), device=pairs.device)
        if self.num_negatives is not None:
            zero = nodes.new_zeros(self.num_negatives)
            total = self._order.mass(zero, zero + len(nodes))
            nodes = self._order.at(zero, below(total, generator)).sort().values
            weight = 1 if self.weights is None else self.weights[nodes]
            log_weights = (total / (self.num_negatives * weight)).log()
        mask = self._candidates.mask(pairs[:, column_of(self.anchor)], nodes)
        return Tile(nodes, mask, log_weights.expand(len(nodes)))

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the tile as nodes [batch, num_negatives], −1 where not valid: fits any loop."""
        tile = self.tile(pairs, generator)
        return torch.where(tile.mask, tile.nodes, -1)


class MixedNegatives:
    """Several samplers side by side: each contributes its own columns.

    ``MixedNegatives([CousinNegatives(tax, 25), UniformNegatives(tax, 25)])`` is half hard, half
    easy.

    Parameters
    ----------
    samplers
        At least one `NegativeSampler`.

    Raises
    ------
    ValueError
        If there is none, or if their anchors differ.
    """

    samplers: list[NegativeSampler]

    def __init__(self, samplers: Sequence[NegativeSampler]) -> None:
        if not samplers:
            raise ValueError(
                "MixedNegatives needs at least one sampler, such as UniformNegatives(tax, 50)"
            )
        anchors: set[Anchor] = {
            sampler.anchor for sampler in samplers if isinstance(sampler, Anchored)
        }
        if len(anchors) > 1:
            raise ValueError("the samplers have different anchors; give all the same `anchor`")
        self.anchor: Anchor = anchors.pop() if anchors else "descendant"
        self.samplers = list(samplers)

    __repr__ = settings_repr

    def to(self, device: torch.device | str) -> "MixedNegatives":
        """Copy to a device; a sampler without a ``to`` is taken as it is."""
        return MixedNegatives(
            [s.to(device) if isinstance(s, Movable) else s for s in self.samplers]
        )

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draw from each sampler in turn, and join the columns."""
        return torch.cat([sampler(pairs, generator) for sampler in self.samplers], dim=1)


def column_of(anchor: Anchor) -> int:
    """Column of the pairs that holds the anchor."""
    if anchor not in ("ancestor", "descendant"):
        raise ValueError(f"anchor must be 'ancestor' or 'descendant'; got {anchor!r}")
    return 0 if anchor == "ancestor" else 1


def _candidates_of(
    source: Taxonomy | Tree | TreeIndex | ClosurePairs,
    anchor: Anchor,
    exclude: Exclude,
    units: Tensor | None = None,
    ignored: Tensor | None = None,
) -> TreeCandidates | ClosureCandidates:
    """Index the candidates of every anchor: the nodes that are not excluded."""
    without = _relations(anchor, exclude)
    if isinstance(source, ClosurePairs):
        return ClosureCandidates(source, without, units, ignored)
    return TreeCandidates(TreeIndex.of(source), without, units)


def _ignored(
    source: Taxonomy | Tree | TreeIndex | ClosurePairs,
    ignore: ClosurePairs | ArrayLike | Tensor,
    exclude: Exclude,
) -> Tensor:
    """Pairs that are no negatives, beyond the closure of the source."""
    if not isinstance(source, ClosurePairs):
        raise ValueError("ignore is for the pairs of a DAG: in a tree no relative is a negative")
    if exclude == "nothing":
        raise ValueError("exclude='nothing' excludes no pair, and ignore would: leave one out")
    return source.beyond(ignore)


def _node_units(
    source: Taxonomy | Tree | TreeIndex | ClosurePairs, weights: ArrayLike | Tensor | None
) -> Tensor | None:
    """Weights of the nodes as integers, on the device of the source."""
    if weights is None:
        return None
    weights = tensor_of(weights)
    n = _size_of(source)
    if weights.shape != (n,):
        raise ValueError(f"weights need one number for each of {n} nodes; got {weights.shape}")
    return integer_weights(weights).to(_device_of(source))


def _size_of(source: Taxonomy | Tree | TreeIndex | ClosurePairs) -> int:
    return source.num_nodes if isinstance(source, ClosurePairs) else len(source)


def _device_of(source: Taxonomy | Tree | TreeIndex | ClosurePairs) -> torch.device:
    """Device of a sampler over the source."""
    if isinstance(source, ClosurePairs):
        return source.pairs.device
    return source.device if isinstance(source, TreeIndex) else torch.device("cpu")


def _relations(anchor: Anchor, exclude: Exclude) -> Relations:
    if exclude not in ("relatives", "positives", "nothing"):
        raise ValueError(f"exclude must be 'relatives', 'positives' or 'nothing'; got {exclude!r}")
    positives = ("descendants", "ancestors")[column_of(anchor)]
    return positives if exclude == "positives" else exclude


def _forks(tree: TreeIndex) -> Tensor:
    """Nearest ancestor of each node with at least two children; the root if there is none."""
    parent = tree.parent.cpu().numpy().astype(np.int32)
    several = np.bincount(parent[1:], minlength=len(parent)) > 1
    fork = preorder.nearest_marked(parent, several)[np.maximum(parent, 0)]
    return torch.from_numpy(fork).to(tree.device, torch.int64)
