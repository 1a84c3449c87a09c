"""Who asks in closure mode, and for which ancestors: sets of leaves with the same ones ask once."""

from typing import NamedTuple

import torch
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.layout import direct_parents
from poincare_taxa.kernels import count_nearer

__all__ = ["Queries"]

_SPREAD = 1e-9
"""Turn by which leaves that share a direction stand apart: at radius 160 that is a distance of 278,
beyond everything else."""


class _Lists(NamedTuple):
    """A list of columns for every query."""

    start: Tensor
    column: Tensor

    def lists(self, queries: Tensor) -> Tensor:
        """Join the lists of some, one after the other."""
        number = self.start.diff()[queries]
        shift = self.start[queries] - (number.cumsum(0) - number)
        return self.column[
            torch.arange(int(number.sum()), device=number.device) + shift.repeat_interleave(number)
        ]


class Queries(NamedTuple):
    """Who asks: every inner node that has ancestors, and each set of leaves with the same ones."""

    nodes: int
    """How many nodes there are."""
    row: Tensor
    """Row of the table, of a set of leaves the first of it [Q]."""
    weight: Tensor
    """How many nodes a query stands for [Q]."""
    own: Tensor
    """Its own column among the inner nodes, -1 for leaves [Q]."""
    descendants: Tensor
    """How many it has [Q]."""
    ancestors: _Lists
    parents: _Lists
    inner: Tensor
    """Rows of the nodes that have descendants, which are the columns [V]."""
    rim: Tensor
    """Rows of the nodes that have none."""
    leaf: Tensor
    """Those of them that have ancestors."""
    leaf_query: Tensor
    """Their queries."""

    @classmethod
    def of(cls, pairs: ClosurePairs) -> "Queries":
        """Sort nodes into inner ones and leaves, and leaves into sets."""
        direct, n = direct_parents(pairs), pairs.num_nodes
        device = pairs.pairs.device
        ancestor, descendant = pairs.pairs.cpu().unbind(1)
        order = torch.argsort(descendant * n + ancestor)
        ancestor, descendant = ancestor[order], descendant[order]
        below, above = (
            torch.bincount(ancestor, minlength=n),
            torch.bincount(descendant, minlength=n),
        )
        inner = below.nonzero()[:, 0]
        column = torch.full((n,), -1)
        column[inner] = torch.arange(len(inner))
        # Two sets of ancestors are the same if random numbers of theirs have the same sums.
        keys = torch.randint(-(2**62), 2**62, (n, 2), generator=torch.Generator().manual_seed(0))
        key = torch.zeros(n, 2, dtype=torch.int64).index_add_(0, descendant, keys[ancestor])
        leaf = ((below == 0) & (above > 0)).nonzero()[:, 0]
        _, group, weight = key[leaf].unique(dim=0, return_inverse=True, return_counts=True)
        first = torch.full((len(weight),), n).scatter_reduce_(0, group, leaf, "amin")
        asking = inner[above[inner] > 0]
        row = torch.cat((asking, first))
        start = torch.cat((torch.zeros(1, dtype=torch.int64), above.cumsum(0)))
        direct_start = torch.from_numpy(direct.indptr).long()
        made = cls(
            nodes=n,
            row=row,
            weight=torch.cat((torch.ones(len(asking)), weight)).double(),
            own=column[row],
            descendants=below[row],
            ancestors=_lists(start, column[ancestor], row),
            parents=_lists(direct_start, column[torch.from_numpy(direct.indices).long()], row),
            inner=inner,
            rim=(below == 0).nonzero()[:, 0],
            leaf=leaf,
            leaf_query=len(asking) + group,
        )
        return made._replace(
            **{
                name: _Lists(*(part.to(device) for part in value))
                if isinstance(value, _Lists)
                else value.to(device)
                if isinstance(value, Tensor)
                else value
                for name, value in made._asdict().items()
            }
        )

    def gather(self, points: Tensor, generator: torch.Generator) -> None:
        """Let leaves of one query share a direction, but for as little as keeps them apart."""
        like = {"dtype": points.dtype, "device": points.device}
        turn = torch.randn(len(self.leaf), points.shape[1] - 1, generator=generator, **like)
        shared = points[self.row[self.leaf_query], 1:]
        points[self.leaf, 1:] = torch.nn.functional.normalize(shared + _SPREAD * turn, dim=1)

    def rank_excess(self, table: Tensor, points: Tensor, queries: Tensor) -> Tensor:
        """Sum of (rank − 1) over the ancestors of each query, float64 [q].

        A tie counts as the mean of both orders, as in `ranking.rank_ancestors`: nodes at the same
        point must not rank better than nodes at different ones.

        Parameters
        ----------
        table
            Points of the inner nodes [V, 1 + dim].
        points
            Point of each query [q, 1 + dim]; it may be another than that of its row.
        queries
            Indices of queries [q].
        """
        number = self.ancestors.start.diff()[queries]
        listed = torch.arange(int(number.max()), device=number.device) < number[:, None]
        targets = torch.full(listed.shape, -1, device=number.device)
        targets[listed] = self.ancestors.lists(queries)
        counts = count_nearer(
            (table[:, 0], table[:, 1:]),
            (points[:, 0], points[:, 1:]),
            targets,
            manifold="polar",
            skip=self.own[queries],
        )
        # Of m ancestors, each pair has one that is nearer, or a tie that counts twice one half:
        # m (m − 1) / 2 in all, which are no excess.
        before = torch.where(listed, counts.nearer + counts.tied / 2, 0).sum(1, dtype=torch.float64)
        return before - number * (number - 1) / 2


def _lists(start: Tensor, column: Tensor, row: Tensor) -> _Lists:
    number = start.diff()[row]
    chosen = _Lists(start, column).lists(row)
    return _Lists(torch.cat((number.new_zeros(1), number.cumsum(0))), chosen)
