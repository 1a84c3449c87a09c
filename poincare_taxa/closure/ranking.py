"""How well plain distance ranks every node's ancestors first: the measure of the WordNet tables.

For each node that has ancestors, all other nodes are ranked by their distance to it. Its ancestors
are the relevant ones; descendants and siblings are not. An ancestor's rank is its place among the
nodes that are no ancestors, from 1 ([NK17] Nickel & Kiela 2017, §4.1). Ties count as the mean over
all ways to break them, as in `evaluation.ranks`. A node whose point is nan, infinite or of a
negative radius is last with every tie against it, and so is every ancestor of such a node. Exact:
no node is sampled.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.evaluation.ranks import rank_statistics
from poincare_taxa.kernels import count_nearer

__all__ = ["ClosureRanking", "rank_ancestors"]

_BLOCK = 4096  # Queries of one pass, which pads their ancestors to the longest list.


class ClosureRanking(NamedTuple):
    """Result of `rank_ancestors`; 1 and 1 at best."""

    mean_average_precision: float
    """Mean over the nodes that have ancestors."""
    mean_rank: float
    """Mean over the pairs."""
    nodes: NDArray[np.int64]
    """The nodes that have ancestors, ascending [m]."""
    average_precision: NDArray[np.float64]
    """Of each of them [m]."""


def rank_ancestors(pairs: ClosurePairs, radius: Tensor, direction: Tensor) -> ClosureRanking:
    """Rank the ancestors of every node by distance among all nodes.

    Parameters
    ----------
    pairs
        Who is an ancestor of whom.
    radius, direction
        Points in polar coordinates, [num_nodes] and [num_nodes, dim].

    Returns
    -------
    ranking

    Raises
    ------
    ValueError
        If there are not as many points as nodes.

    Examples
    --------
    >>> from poincare_taxa.closure.layout import closure_layout
    >>> pairs = ClosurePairs([(0, 1), (1, 2), (0, 2), (0, 3)])
    >>> rank_ancestors(pairs, *closure_layout(pairs)[:2])[:2]
    (1.0, 1.0)
    """
    if len(radius) != pairs.num_nodes:
        raise ValueError(
            f"{len(radius)} points for {pairs.num_nodes} nodes: row i must be node i of the pairs"
        )
    pairs.warn_unless_closed()
    r, u = radius.detach().double(), direction.detach().double()
    table = torch.where((r >= 0) & torch.isfinite(r), r, torch.nan), u
    ancestor, descendant = pairs.pairs.unbind(1)
    order = torch.argsort(descendant, stable=True)
    nodes, number = descendant[order].unique_consecutive(return_counts=True)
    precision, ranks = [], 0.0
    for some, lists in zip(
        torch.arange(len(nodes)).split(_BLOCK),
        ancestor[order].split([int(part.sum()) for part in number.split(_BLOCK)]),
        strict=True,
    ):
        query, count = nodes[some], number[some]
        place = torch.arange(int(count.max())) < count[:, None]
        targets = torch.full(place.shape, -1)
        targets[place] = lists
        counts = count_nearer(
            table, (table[0][query], table[1][query]), targets, manifold="polar", skip=query
        )
        found = rank_statistics(counts.nearer.numpy(), counts.tied.numpy(), place.numpy())
        precision.append(found.average_precision)
        ranks += float(found.rank_sum.sum())
    average = np.concatenate(precision)
    return ClosureRanking(float(average.mean()), ranks / len(pairs), nodes.numpy(), average)
