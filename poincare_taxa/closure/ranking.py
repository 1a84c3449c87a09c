"""How well plain distance ranks every node's ancestors first: the measure of the WordNet tables.

For each node that has ancestors, all other nodes are ranked by their distance to it. Its ancestors
are the relevant ones; descendants and siblings are not. An ancestor's rank is its place among the
nodes that are no ancestors, from 1 ([NK17] Nickel & Kiela 2017, §4.1). Ties count as the mean over
all ways to break them, as in `ranks`. Exact: no node is sampled.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import digamma
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
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
    table = radius.detach().double(), direction.detach().double()
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
        nearer, tied = (part[place].numpy() for part in counts)
        row = torch.arange(len(query)).repeat_interleave(count).numpy()
        found, before, others, of = _groups(row, nearer, tied)
        ranks += float(found @ (1 + before + others / 2))
        total = _precision_sums(found, before, others, of)
        precision.append(np.bincount(of, total, len(query)) / count.numpy())
    average = np.concatenate(precision)
    return ClosureRanking(float(average.mean()), ranks / len(pairs), nodes.numpy(), average)


Integers = NDArray[np.int64]


def _groups(
    row: Integers, nearer: Integers, tied: Integers
) -> tuple[Integers, Integers, Integers, Integers]:
    """Of each set of tied ancestors: how many, others before and tied with them, and their row."""
    order = np.lexsort((nearer, row))
    row, nearer, tied = row[order], nearer[order], tied[order]
    first = np.flatnonzero((np.diff(row, prepend=-1) != 0) | (np.diff(nearer, prepend=-1) != 0))
    found = np.diff(np.append(first, len(row)))
    of = row[first]
    return found, nearer[first] - _ahead(found, of), tied[first] - (found - 1), of


def _ahead(found: Integers, of: Integers) -> Integers:
    """How many ancestors of the same row come in groups before."""
    total = np.cumsum(found) - found
    start = np.flatnonzero(np.diff(of, prepend=-1))
    return total - np.repeat(total[start], np.diff(np.append(start, len(of))))


def _precision_sums(
    p: Integers, before: Integers, others: Integers, of: Integers
) -> NDArray[np.float64]:
    """Sum of the precisions at a group's places: the formula of `ranks.Ranks.average_precision`."""
    m, P = p + others, _ahead(p, of)
    R = P + before
    h = np.where(m == 1, 1 / (R + 1), digamma(R + m + 1) - digamma(R + 1))
    slope = (p - 1) / np.maximum(m - 1, 1)
    return p / m * ((P + 1) * h + slope * (m - (R + 1) * h))
