"""What is evaluated: points or the tree itself, as providers of neighbours and counts.

Embedding, floor and ceiling go through the same statistics (`rank_counts`), which need three things
of a *subject*: who has the k nearest places of a query, how many taxa are nearer than a target, and
the distances of sampled pairs. Three classes provide them:

- `KernelSubject`: points, searched by the compiled kernels, through an index where that pays;
- `TreeSubject`: the tree's own distances, counted in closed form from the sizes of its levels;
- `DistanceSubject`: any distance that torch can compute, one row of distances per query.

A taxon whose row is no point (nan, infinite, or a negative radius) is *lost*: it is infinitely far
from every taxon, and last among candidates with every tie against it; so are all candidates of a
lost query.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.evaluation.ranks import Places
from poincare_taxa.geometry import polar
from poincare_taxa.kernels import By
from poincare_taxa.kernels.arguments import LARGEST
from poincare_taxa.search.index import SearchIndex
from poincare_taxa.taxonomy.levels import Levels
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "DistanceSubject",
    "KernelSubject",
    "Nearest",
    "Relatives",
    "Subject",
    "TreeSubject",
    "polar_subject",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
Array = NDArray[Any]

_WIDER = (160, 2560)  # Neighbours searched for where the last places are tied, and at most.
_TILE = 1 << 18  # Coordinates of a tile of distances, and pairs of a tile of the tree's counts.
_AT_ONCE = 8  # Rows of distances that are held together.


class Relatives(NamedTuple):
    """Sets of taxa whose share of the nearest places is measured, for each query."""

    tree: Tree
    edge: Rows
    """[Q], edges to the k-th nearest taxon in the tree."""
    groups: dict[str, NDArray[np.int32]]
    """Name → labels [n]: the set is the group of the query."""

    def at(self, some: Rows) -> Self:
        """Take some of the queries."""
        return self._replace(edge=self.edge[some])


class Nearest(NamedTuple):
    """Candidates for the k nearest places: all of them, and those of each set of `Relatives`."""

    everyone: Places
    within: Places
    """No farther in the tree than the k-th nearest of the tree."""
    inside: Places
    """Nearer in the tree than that."""
    groups: dict[str, Places]

    @classmethod
    def nobody(cls, queries: int, relatives: Relatives) -> "Nearest":
        """No candidate for any place."""

        def none() -> Places:
            return Places(np.zeros(queries, np.int64), np.zeros(queries, np.int64))

        return cls(none(), none(), none(), {name: none() for name in relatives.groups})

    @classmethod
    def among(
        cls, queries: Rows, rows: Rows, distance: Floats, k: int, relatives: Relatives
    ) -> "Nearest":
        """Choose from rows [Q, W] that hold all as near as the k-th nearest; k ≤ W.

        Rows at an infinite distance are no candidates.
        """
        edge = np.partition(distance, k - 1, axis=1)[:, k - 1 : k]
        sure, tied = distance < edge, (distance == edge) & np.isfinite(edge)

        def of(some: NDArray[np.bool_]) -> Places:
            return Places((sure & some).sum(1), (tied & some).sum(1))

        tree = relatives.tree.topology.distance(queries[:, None], rows)
        kth = relatives.edge[:, None]
        return cls(
            of(np.ones(rows.shape, bool)),
            of(tree <= kth),
            of(tree < kth),
            {
                name: of(labels[rows] == labels[queries][:, None])
                for name, labels in relatives.groups.items()
            },
        )

    def put(self, at: Rows, some: "Nearest") -> None:
        """Store the places of some of the queries."""
        pairs = [*zip(self[:3], some[:3], strict=True)]
        pairs += [(self.groups[name], some.groups[name]) for name in self.groups]
        for mine, theirs in pairs:
            mine.sure[at], mine.tied[at] = theirs


class Subject(Protocol):
    """What is evaluated. Row i is the i-th taxon."""

    height: Array
    """[n], distance from the origin (points) or the root (tree)."""
    valid: NDArray[np.bool_]
    """[n], False where a taxon is lost."""

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """Who has the k nearest places of each query, which is no candidate itself; 1 ≤ k < n."""
        ...

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """Count the candidates nearer than each target, and the others tied with it: [Q, T] each.

        A target is a row, or −1 where a query has fewer than T. Near is what is near by distance,
        or what has a low ancestor score d(q, v) + d(0, v) − d(0, q). The query is no candidate.
        """
        ...

    def pairs(self, first: Rows, second: Rows) -> Array:
        """Distance of paired rows; broadcasts. Infinite where one of them is lost."""
        ...


def polar_subject(
    radius: Tensor,
    direction: Tensor,
    device: torch.device | str = "cpu",
    depth: Rows | None = None,
) -> "KernelSubject | DistanceSubject":
    """Points in polar coordinates [n] and [n, dim] as a subject; of taxa at a depth [n].

    Up to radius `LARGEST` the kernels search them on a device; beyond it, plain torch on the CPU.
    """
    r, u = radius.detach().double(), direction.detach().double()
    valid = (r >= 0) & torch.isfinite(r) & torch.isfinite(u).all(dim=1)
    r = torch.where(valid, r, torch.nan)
    if bool((r > LARGEST).any()):
        points = r.cpu(), u.cpu()
        return DistanceSubject(points, polar.dist, points[0].numpy(), valid.cpu().numpy())
    return KernelSubject(torch.cat((r[:, None], u), dim=1).to(device), valid.cpu().numpy(), depth)


# -------------------------------------------------------------------- points


class KernelSubject:
    """Points that the kernels search; on the CPU through an index, once it pays.

    Parameters
    ----------
    table
        Float64 [n, 1 + dim]: radius, nan where a taxon is lost, and direction.
    valid
        [n].
    depth
        [n], levels of the tree, by which counts by distance are faster.
    """

    height: NDArray[Any]

    def __init__(self, table: Tensor, valid: NDArray[np.bool_], depth: Rows | None = None) -> None:
        self.table = table
        self.valid = valid
        self.height = table[:, 0].cpu().numpy()
        self._index = None
        if table.device.type == "cpu":
            levels = None if depth is None else torch.tensor(depth)
            self._index = SearchIndex(table, manifold="polar", ordered=True, depth=levels)

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """See `Subject`."""
        result = Nearest.nobody(len(queries), relatives)
        left = np.flatnonzero(self.valid[queries])
        # One more than k shows whether the k-th place is tied; where it is, many more, then all.
        for width in (k + 1, *(width for width in _WIDER if width > k + 1)):
            if len(left) == 0:
                return result
            some = self._rows(queries[left])
            if self._index is not None:
                found = self._index.nearest(some, width)
            else:
                found = kernels.nearest(
                    self.table, self.table[some], width, manifold="polar", skip=some
                )
            distance, rows = found.distance.cpu().numpy(), found.row.clamp(min=0).cpu().numpy()
            done = (distance[:, -1] > distance[:, k - 1]) | np.isinf(distance[:, k - 1])
            at = left[done]
            chosen = queries[at], rows[done], distance[done], k, relatives.at(at)
            result.put(at, Nearest.among(*chosen))
            left = left[~done]
        if len(left):
            points = self.table[:, 0].cpu(), self.table[:, 1:].cpu()
            every = DistanceSubject(points, polar.dist, self.height, self.valid)
            result.put(left, every.nearest(queries[left], k, relatives.at(left)))
        return result

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """See `Subject`."""
        some, sought = self._rows(queries), self._rows(targets)
        if self._index is not None:
            counts = self._index.count_nearer(some, sought, by=by)
        else:
            counts = kernels.count_nearer(
                self.table, self.table[some], sought, manifold="polar", by=by, skip=some
            )
        return counts.nearer.cpu().numpy(), counts.tied.cpu().numpy()

    def pairs(self, first: Rows, second: Rows) -> Floats:
        """See `Subject`."""
        i, j = np.broadcast_arrays(first, second)
        rows = self._rows(i.ravel()), self._rows(j.ravel())
        distance = kernels.pair_distance(self.table, *rows, manifold="polar").cpu().numpy()
        return np.where(np.isnan(distance), np.inf, distance).reshape(i.shape)

    def _rows(self, rows: Array) -> Tensor:
        return torch.tensor(rows, dtype=torch.int64, device=self.table.device)


class DistanceSubject:
    """Points of any space, by any distance that torch can compute, a tile at a time.

    Parameters
    ----------
    points
        Tensors [n, …] that describe the points together, such as radius and direction.
    distance
        Called with these tensors of some points, and then of others: their distances. Broadcasts.
    height
        [n], distance from the origin.
    valid
        [n], False where a taxon is lost.
    """

    def __init__(
        self,
        points: tuple[Tensor, ...],
        distance: Callable[..., Tensor],
        height: Array,
        valid: NDArray[np.bool_],
    ) -> None:
        self.points = points
        self.distance = distance
        self.height = height
        self.valid = valid

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """See `Subject`."""
        result = Nearest.nobody(len(queries), relatives)
        for at, distance in self._all_distances(queries):
            edge = np.partition(distance, k - 1)[k - 1]
            rows = np.flatnonzero(distance <= edge)
            some = np.array([at])
            chosen = queries[some], rows[None], distance[None, rows], k, relatives.at(some)
            result.put(some, Nearest.among(*chosen))
        return result

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """See `Subject`."""
        nearer, tied = np.zeros_like(targets), np.zeros_like(targets)
        for at, scores in self._all_distances(queries):
            if by == "ancestor":
                known = self.valid & ~np.isnan(self.height)
                scores = np.where(known, scores + self.height, np.inf)
            there = targets[at] >= 0
            levels = scores[targets[at][there]]
            # Only scores up to the farthest target are sorted.
            near = np.sort(scores[scores <= levels.max(initial=-np.inf)])
            lower, upto = (np.searchsorted(near, levels, side) for side in ("left", "right"))
            lost = np.isinf(levels)
            nearer[at, there] = np.where(lost, len(scores) - 2, lower)
            tied[at, there] = np.where(lost, 0, upto - lower - 1)
        return nearer, tied

    def pairs(self, first: Rows, second: Rows) -> Floats:
        """See `Subject`."""
        i, j = np.broadcast_arrays(first, second)
        flat_i, flat_j = torch.tensor(i.ravel()), torch.tensor(j.ravel())
        found = np.empty(len(flat_i))
        width = self._width(1)
        for start in range(0, len(found), width):
            tile = slice(start, start + width)
            found[tile] = self._distance(
                [x[flat_i[tile]] for x in self.points], [x[flat_j[tile]] for x in self.points]
            )
        found[~(self.valid[i] & self.valid[j]).ravel()] = np.inf
        return found.reshape(i.shape)

    def _all_distances(self, queries: Rows) -> Iterator[tuple[int, Floats]]:
        """Yield the place of each query, and its distance to all rows [n]; infinite to itself."""
        n = len(self.valid)
        width = self._width(_AT_ONCE)
        for first in range(0, len(queries), _AT_ONCE):
            some = queries[first : first + _AT_ONCE]
            distance = np.empty((len(some), n))
            near = [x[torch.tensor(some)][:, None] for x in self.points]
            for start in range(0, n, width):
                tile = slice(start, start + width)
                distance[:, tile] = self._distance(near, [x[None, tile] for x in self.points])
            distance[:, ~self.valid] = np.inf
            distance[~self.valid[some]] = np.inf
            distance[np.arange(len(some)), some] = np.inf
            yield from zip(range(first, first + len(some)), distance, strict=True)

    def _width(self, queries: int) -> int:
        """Rows of a tile."""
        coordinates = sum(x[0].numel() for x in self.points)
        return max(1, _TILE // (queries * coordinates))

    @torch.no_grad()
    def _distance(self, some: list[Tensor], others: list[Tensor]) -> Floats:
        distance = self.distance(*some, *others).double().numpy(force=True)
        return np.where(np.isnan(distance), np.inf, distance)


# -------------------------------------------------------------------- the tree


class TreeSubject:
    """The tree's own distances, path length for distance and for radius: the ceiling.

    Neighbours and counts are those by edges; `pairs` follows branch lengths where there are any.

    Of the taxa at D edges from q, those that part from its lineage at the j-th ancestor are the
    members of that ancestor's subtree D − j levels down which are not in the subtree that holds q.
    The sizes of these levels are looked up, so that no query costs a pass over all taxa.
    """

    height: NDArray[np.int32]
    valid: NDArray[np.bool_]

    def __init__(self, tree: Tree) -> None:
        self._lengths = tree
        self.tree = tree.topology
        self.height = tree.height
        self.valid = np.ones(len(tree), bool)
        self._levels = Levels(tree.end, tree.depth)
        self._labelled: dict[str, Levels] = {}

    def edge(self, queries: Rows, k: int) -> tuple[Rows, Places]:
        """Tree distance of the k-th nearest taxon, and who has the k places; 1 ≤ k < n."""
        count = self._counts(queries, k, "distance")
        count[:, 0] = 0  # the query itself
        upto = np.cumsum(count, axis=1)
        edge = (upto < k).sum(1)
        row = np.arange(len(queries))
        return edge, Places(upto[row, edge] - count[row, edge], count[row, edge])

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """See `Subject`."""
        edge, everyone = self.edge(queries, k)
        row = np.arange(len(queries))
        groups = {}
        for name, labels in relatives.groups.items():
            count = self._counts(queries, k, "distance", name, labels)
            count[:, 0] = 0
            sure = np.where(np.arange(k + 1) < edge[:, None], count, 0).sum(1)
            groups[name] = Places(sure, count[row, edge])
        # All are no farther than the k-th nearest; those with a sure place are nearer than it.
        inside = Places(everyone.sure, np.zeros_like(everyone.tied))
        return Nearest(everyone, within=everyone, inside=inside, groups=groups)

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """See `Subject`."""
        depth, sought = self.tree.depth, np.maximum(targets, 0)
        # In a tree d(q, v) + d(0, v) − d(0, q) is twice what v lies below the lineage of q.
        below = depth[sought] - depth[self.tree.lca(queries[:, None], sought)]
        level = self.tree.distance(queries[:, None], sought) if by == "distance" else below
        level = np.where(targets >= 0, level, 0)
        count = self._counts(queries, int(level.max(initial=0)), by)
        count[:, 0] -= 1  # the query itself
        tied = np.take_along_axis(count, level, axis=1) - 1
        nearer = np.take_along_axis(np.cumsum(count, axis=1), level, axis=1) - tied - 1
        return tuple(np.where(targets >= 0, found, 0) for found in (nearer, tied))  # pyright: ignore[reportReturnType]

    def pairs(self, first: Rows, second: Rows) -> Array:
        """See `Subject`."""
        return self._lengths.distance(first, second)

    def _counts(
        self,
        queries: Rows,
        upto: int,
        by: By,
        name: str = "",
        labels: NDArray[np.int32] | None = None,
    ) -> Rows:
        """Count taxa at each distance from each query, or depth below its lineage: [Q, upto + 1].

        With labels, which are known by a name, only the taxa that have the label of the query.
        """
        size = self.tree.subtree_size
        lineage = self.tree.lineages(queries)
        step = np.arange(lineage.shape[1]) if by == "distance" else np.zeros(lineage.shape[1], int)
        # 1. Taxa that part from the lineage at each of its members: its subtree, less the part of
        #    it that was counted one member before.
        subtree = np.where(lineage >= 0, size[lineage], 0)
        side = np.maximum(np.diff(subtree, axis=1, prepend=0), 0)
        # 2. Of these, the levels that are near enough. There are at most as many levels as taxa, so
        #    that a query never costs more than a pass over all taxa, however deep the tree is.
        reach = np.clip(np.minimum(side, upto + 1 - step), 0, None)
        count = np.zeros(len(queries) * (upto + 1), np.int64)
        pieces = max(1, min(len(queries), int(reach.sum()) // _TILE))
        for some in np.array_split(np.arange(len(queries)), pieces):
            # 3. A flat list of (query, member of the lineage, levels below it).
            q, j = np.nonzero(reach[some])
            levels = reach[some][q, j]
            q, j = np.repeat(some[q], levels), np.repeat(j, levels)
            below = np.arange(len(q)) - np.repeat(np.cumsum(levels) - levels, levels)
            # 4. The members of each subtree at that level, less those of the subtree before.
            top = lineage[q, j]
            depth = self.tree.depth[top] + below
            own = self._members(top, depth, queries[q], name, labels)
            inner = np.flatnonzero(j)
            before = lineage[q, j - 1][inner]
            own[inner] -= self._members(before, depth[inner], queries[q[inner]], name, labels)
            np.add.at(count, q * (upto + 1) + below + step[j], own)
        return count.reshape(len(queries), upto + 1)

    def _members(
        self, top: Rows, depth: Rows, queries: Rows, name: str, labels: NDArray[np.int32] | None
    ) -> Rows:
        """Count the members of a subtree at a depth, with the label of a query."""
        if labels is None:
            return self._levels.count(top, depth)
        if name not in self._labelled:
            self._labelled[name] = Levels(self.tree.end, self.tree.depth, labels)
        return self._labelled[name].count(top, depth, labels[queries])
