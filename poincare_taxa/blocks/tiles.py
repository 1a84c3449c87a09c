"""Negatives shared by a whole batch: few rows to gather, and one all-pairs distance.

With 512 pairs and 50 negatives each, distances need 25,600 rows of the table; with a tile of 50
they need 562. The price is that negatives of different pairs are not independent, so a tile is
usually larger (4,096 for WordNet's nouns). Words and exclusion are those of `negatives`.
"""

from typing import NamedTuple, Self

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from poincare_taxa.blocks._random import Order, below
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.negatives import (
    Anchor,
    Exclude,
    allowed_nodes,
    column_of,
    device_of,
    node_units,
)
from poincare_taxa.blocks.tree_index import TreeIndex, moved
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["SharedNegatives", "Tile"]


class Tile(NamedTuple):
    """Negatives that a whole batch shares."""

    nodes: Tensor
    """Rows [num_negatives], ascending."""
    mask: Tensor
    """Bool [batch, num_negatives]: whether a node is a valid negative of an anchor."""
    log_weights: Tensor
    """[num_negatives]: makes a masked sum over the tile estimate that over all allowed nodes."""


class SharedNegatives:
    """One set of negatives for the batch: one gather and one ``cdist`` instead of one per pair.

    Parameters
    ----------
    source
        The tree, or the pairs of a DAG.
    num_negatives
        How many for the batch, drawn with replacement; None for every node: the full softmax.
    anchor, exclude, weights
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

    def __init__(
        self,
        source: Taxonomy | TreeIndex | ClosurePairs,
        num_negatives: int | None,
        *,
        anchor: Anchor = "descendant",
        exclude: Exclude = "relatives",
        weights: ArrayLike | Tensor | None = None,
    ) -> None:
        if num_negatives is not None and num_negatives < 1:
            raise ValueError(f"num_negatives must be at least 1, or None; got {num_negatives}")
        if num_negatives is None and weights is not None:
            raise ValueError(
                "weights choose which nodes are drawn, and without num_negatives all are: give a "
                "number, or leave weights out"
            )
        self.num_negatives = num_negatives
        self.anchor: Anchor = anchor
        self.exclude: Exclude = exclude
        self.weights = node_units(source, weights)
        self._allowed = allowed_nodes(source, anchor, exclude)
        self._all = _all_nodes(source)
        self._order = Order.weighted(None, self.weights)

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
        mask = self._allowed.mask(pairs[:, column_of(self.anchor)], nodes)
        return Tile(nodes, mask, log_weights.expand(len(nodes)))

    def __call__(self, pairs: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return the tile as nodes [batch, num_negatives], −1 where not valid: fits any loop."""
        tile = self.tile(pairs, generator)
        return torch.where(tile.mask, tile.nodes, -1)


def _all_nodes(source: Taxonomy | TreeIndex | ClosurePairs) -> Tensor:
    n = source.num_nodes if isinstance(source, ClosurePairs) else len(source)
    return torch.arange(n, device=device_of(source))
