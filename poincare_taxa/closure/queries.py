"""Queries of closure mode. Leaves with equal ancestor sets are merged into one weighted query."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.tree_index import moved
from poincare_taxa.closure.layout import direct_parents
from poincare_taxa.kernels import count_nearer

__all__ = ["ColumnLists", "Queries"]

_SPREAD = 1e-9
"""Radians by which leaves that share a direction are set apart: at radius 160 that is a distance of
278, which is more than that of any ancestor."""


@dataclass(eq=False)
class ColumnLists:
    """A list of columns for every query, stored one after the other."""

    start: Tensor
    """Where the list of each query starts, and the end of the last one [Q + 1]."""
    column: Tensor
    """The columns of all lists."""

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def length(self, queries: Tensor) -> Tensor:
        """Length of the list of each of some queries [q]."""
        return self.start[queries + 1] - self.start[queries]

    def joined(self, queries: Tensor) -> Tensor:
        """Columns of some queries, one list after the other."""
        length = self.length(queries)
        # Entry i of the result is entry i − (lengths of earlier lists) of its own list.
        shift = self.start[queries] - (length.cumsum(0) - length)
        entry = torch.arange(int(length.sum()), device=length.device)
        return self.column[entry + shift.repeat_interleave(length)]


@dataclass(eq=False)
class Queries:
    """Inner nodes that have ancestors, and sets of leaves that have the same ancestors.

    A node is *inner* if it has descendants, and a *leaf* if it has none. Inner nodes are the
    columns against which a query is compared.
    """

    num_nodes: int
    """Number of nodes of the DAG."""
    row: Tensor
    """Row of the query's node; of a set of leaves, the first row [Q]."""
    weight: Tensor
    """Number of nodes that a query stands for [Q]."""
    own: Tensor
    """The query's own column, −1 for leaves [Q]."""
    descendants: Tensor
    """Number of descendants [Q]."""
    ancestors: ColumnLists
    """Columns of all ancestors."""
    parents: ColumnLists
    """Columns of the ancestors that are not an ancestor of another one."""
    excluded: ColumnLists
    """Columns that are neither ancestors nor compared with them."""
    inner: Tensor
    """Rows of the inner nodes, column by column [V]."""
    share: Tensor
    """Share of all nodes that are descendants of each of them [V]."""
    leaves: Tensor
    """Rows of all leaves, also of those in no pair."""
    leaf: Tensor
    """Rows of leaves that have ancestors [L]."""
    leaf_query: Tensor
    """Index of each such leaf's query [L]."""

    @classmethod
    def of(cls, pairs: ClosurePairs, exclude: Tensor | None = None) -> Self:
        """Build the queries of a DAG, on the device of its pairs.

        The ancestors in the pairs [k, 2] to exclude are not compared with the listed ones.
        """
        direct, n = direct_parents(pairs), pairs.num_nodes
        ancestor, descendant = _by_descendant(pairs.pairs, n)
        below, above = (torch.bincount(node, minlength=n) for node in (ancestor, descendant))

        # Inner nodes become columns.
        inner = below.nonzero()[:, 0]
        column = torch.full((n,), -1)
        column[inner] = torch.arange(len(inner))

        # Leaves, whose columns none is, are excluded already.
        others = pairs.pairs[:0] if exclude is None else exclude
        excluded, of_node = _by_descendant(others, n)
        inner_only = below[excluded] > 0
        excluded, of_node = excluded[inner_only], of_node[inner_only]

        # Leaves are grouped by their ancestors. Every node gets two random numbers of 63 bits, and
        # two sets are the same if the sums of their numbers are. Excluded nodes count three times.
        numbers = torch.randint(-(2**62), 2**62, (n, 2), generator=torch.Generator().manual_seed(0))
        key = torch.zeros(n, 2, dtype=torch.int64).index_add_(0, descendant, numbers[ancestor])
        key.index_add_(0, of_node, 3 * numbers[excluded])
        leaf = ((below == 0) & (above > 0)).nonzero()[:, 0]
        _, group, size = key[leaf].unique(dim=0, return_inverse=True, return_counts=True)
        first = torch.full((len(size),), n).scatter_reduce_(0, group, leaf, "amin")

        # Queries are the inner nodes that have ancestors, then the groups.
        single = inner[above[inner] > 0]
        row = torch.cat((single, first))
        start, excluded_start = (
            torch.cat((torch.zeros(1, dtype=torch.int64), length.cumsum(0)))
            for length in (above, torch.bincount(of_node, minlength=n))
        )
        direct_start, direct_parent = (
            torch.from_numpy(a).long() for a in (direct.indptr, direct.indices)
        )
        queries = cls(
            num_nodes=n,
            row=row,
            weight=torch.cat((torch.ones(len(single)), size)).double(),
            own=column[row],
            descendants=below[row],
            ancestors=_lists_of(row, start, column[ancestor]),
            parents=_lists_of(row, direct_start, column[direct_parent]),
            excluded=_lists_of(row, excluded_start, column[excluded]),
            inner=inner,
            share=below[inner].double() / n,
            leaves=(below == 0).nonzero()[:, 0],
            leaf=leaf,
            leaf_query=len(single) + group,
        )
        return moved(queries, pairs.pairs.device)

    def align_leaves(self, points: Tensor, generator: torch.Generator) -> None:
        """Give the leaves of one query its direction, turned by a tiny random angle, in place."""
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
        length = self.ancestors.length(queries)
        ancestors, excluded = (_padded(lists, queries) for lists in (self.ancestors, self.excluded))
        listed, targets = ancestors >= 0, torch.cat((ancestors, excluded), 1)
        counts = count_nearer(
            (table[:, 0], table[:, 1:]),
            (points[:, 0], points[:, 1:]),
            targets,
            manifold="polar",
            skip=self.own[queries],
        )
        # Each of the m (m − 1) / 2 pairs among m ancestors adds 1 to these counts, in order or as
        # a tie that counts one half twice. That is no excess.
        place = 2 * counts.nearer + counts.tied
        place, other = place[:, : listed.shape[1]].contiguous(), place[:, listed.shape[1] :]
        # Excluded nodes that are nearer than an ancestor, or tied with it, do not count.
        other = torch.where(excluded >= 0, other, torch.iinfo(other.dtype).max).sort(1).values
        less = torch.zeros_like(place)
        for right in (False, True):
            less = less + torch.searchsorted(other, place, right=right)
        twice = torch.where(listed, place - less, 0).sum(1)
        return (twice - length * (length - 1)).double() / 2


def _by_descendant(pairs: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Ancestor and descendant of pairs, in the order of the descendants and of their ancestors."""
    ancestor, descendant = pairs.cpu().unbind(1)
    order = torch.argsort(descendant * n + ancestor)
    return ancestor[order], descendant[order]


def _padded(lists: ColumnLists, queries: Tensor) -> Tensor:
    """Columns of some queries as rows, with −1 at the end of those that are shorter."""
    length = lists.length(queries)
    listed = torch.arange(int(length.max()), device=length.device) < length[:, None]
    columns = torch.full(listed.shape, -1, device=length.device)
    columns[listed] = lists.joined(queries)
    return columns


def _lists_of(row: Tensor, start: Tensor, column: Tensor) -> ColumnLists:
    """Select the lists of some rows from lists of all nodes."""
    of_nodes = ColumnLists(start, column)
    length = of_nodes.length(row)
    return ColumnLists(torch.cat((length.new_zeros(1), length.cumsum(0))), of_nodes.joined(row))
