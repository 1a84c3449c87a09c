"""`Nodes`: the leaves and nodes of an index, built and searched by the loops of the kernels."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.counts import counts_between
from poincare_taxa.kernels.numba.arrays import Array, Rows, array, rim_of, sides_of
from poincare_taxa.kernels.numba.compile import in_threads
from poincare_taxa.kernels.numba.index import (
    BATCH,
    KEPT,
    WIDTH,
    asked_loop,
    counts_loop,
    leaves_loop,
    neighbours_loop,
    nodes_loop,
)
from poincare_taxa.kernels.numba.search import (
    LONGEST,
    SPAN,
    columns,
    keys_of,
    levels_of,
)

__all__ = ["Nodes", "are_bounded"]

_LARGEST_BALL = 29.0  # radius, in curvature -1, up to which bounds in the ball are worth it
_SEARCH = 5e4  # nanoseconds of a search, roughly


@dataclass(frozen=True, eq=False)
class Nodes:
    """Points in an order, in leaves of `SPAN`, below nodes of `WIDTH` children."""

    leaves: Array
    """Float64 [leaf, dim + KEPT, SPAN], of an even dim."""
    rows: Rows
    """int64 [count]: row of the table in each place; empty where places are rows."""
    nodes: Array
    """Float64 [node, dim + KEPT, WIDTH]: what bounds the children of each node, level by level."""
    levels: Rows
    """int64 [level]: at which node each level begins, the lowest first."""
    count: int
    """Number of places."""
    polar: bool
    wide: float
    """By how much radii are uncertain, relative to e^{r/2}; see the loops."""

    @classmethod
    def build(cls, points: Points, rows: Tensor | None) -> "Nodes":
        """Build all levels over rows of the points, or over all rows in their order."""
        radius, coordinates = sides_of(points)
        order = np.empty(0, np.int64) if rows is None else array(rows)
        count = len(coordinates) if rows is None else len(order)
        polar = points.radius is not None
        dim = points.dim + points.dim % 2
        leaves = np.empty((max(1, -(-count // SPAN)), dim + KEPT, SPAN))
        fill = leaves_loop(coordinates.dtype)
        about = points.c, rim_of(points.coordinates)

        def fill_leaves(start: int, stop: int) -> None:
            fill(radius, coordinates, order, count, start, stop, *about, leaves)

        in_threads(fill_leaves, len(leaves), 1e4)
        wide = _uncertainty(leaves[:, dim], polar)
        parts, starts, size, children = [], [0], 1, len(leaves)
        while True:
            parts.append(_level(leaves, size, children, polar, wide))
            if children <= WIDTH:
                break
            starts.append(starts[-1] + len(parts[-1]))
            size, children = size * WIDTH, -(-children // WIDTH)
        return cls(leaves, order, np.concatenate(parts), np.array(starts), count, polar, wide)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in (self.leaves, self.rows, self.nodes, self.levels))

    def nearest(
        self,
        queries: Points,
        k: int,
        ancestor: bool,
        skip: Tensor,
        home: Tensor | None = None,
        within: tuple[int, int] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Rows [Q, k] of the nearest, −1 where there are fewer, and the leaves opened [Q].

        A search starts at the place `home` [Q] of its query, −1 for none; `within` are the places
        that are candidates, from the first to before the last. `are_bounded` must hold.
        """
        asked, directed, slack = self._asked(queries)
        at = np.full(len(queries), -1) if home is None else array(home)
        best = np.full((len(queries), k), np.inf)
        found = np.full((len(queries), k), -1)
        opened = np.zeros(len(queries), np.int64)
        loop = neighbours_loop(np.float64)
        low, high = (0, self.count) if within is None else within
        settings = (
            *(asked, directed, np.where(at < 0, -1, at // SPAN), array(skip), ancestor, slack),
            *(self.leaves, self.rows, self.nodes, self.levels, low, high),
        )

        def part(start: int, stop: int) -> None:
            loop(*settings, start, stop, best, found, opened)

        in_threads(part, len(queries), _SEARCH)
        return torch.from_numpy(found), torch.from_numpy(opened)

    def count_nearer(
        self, points: Points, queries: Points, targets: Tensor, ancestor: bool, skip: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Nearer and tied points of each target [Q, T]; −1 is no target, or no row to skip.

        `points` are those of the nodes. Consecutive queries that are near each other share what
        they open.
        """
        asked, directed, slack = self._asked(queries)
        levels, order, last = levels_of(points, asked, array(targets), ancestor)
        below, equal = torch.zeros((2, *levels.shape), dtype=torch.int64)
        loop = counts_loop(np.float64)
        settings = asked, directed, ancestor, slack, self.leaves, self.nodes, self.levels
        places = levels.numpy(), last.numpy()

        def part(start: int, stop: int) -> None:
            loop(*settings, self.count, *places, start, stop, below.numpy(), equal.numpy())

        in_threads(part, len(queries), 20 * _SEARCH, step=BATCH)
        # The row to skip was counted with the others.
        own = torch.from_numpy(keys_of(points, asked, array(skip)[:, None], ancestor))
        place = torch.searchsorted(levels, own)[:, 0]
        every = torch.nonzero(place < last).flatten()  # inf, the key of no row, is past the last
        place, own = place[every], own[every, 0]
        tied = levels[every, place] == own
        equal[every[tied], place[tied]] -= 1
        below[every[~tied], place[~tied]] -= 1
        return counts_between(below, equal, levels, order)

    def _asked(self, queries: Points) -> tuple[Array, Array, float]:
        """Write queries as the leaves and the nodes take them; and what bounds lose by rounding."""
        asked = columns(queries)
        directed = np.empty((self.leaves.shape[1], len(queries)))
        asked_loop(np.float64)(asked, self.polar, directed)
        wide = max(self.wide, _uncertainty(directed[-KEPT], self.polar))
        return asked, directed, 2 * wide + (self.leaves.shape[1] + 32) * 4.5e-16


def are_bounded(points: Points, k: int = 1) -> bool:
    """Whether the loops can bound distances of such points, and keep k neighbours."""
    if k > LONGEST or points.too_far:
        return False
    if points.radius is not None:
        return True
    norm = points.c**0.5 * torch.linalg.vector_norm(points.coordinates.double(), dim=-1)
    return not bool((norm > np.tanh(_LARGEST_BALL / 2)).any())


def _level(leaves: Array, size: int, number: int, polar: bool, wide: float) -> Array:
    """Bounds of all nodes of a level, of `size` leaves each: [parent, dim + KEPT, WIDTH]."""
    flat = np.full((-(-number // WIDTH) * WIDTH, leaves.shape[1]), np.nan)
    loop = nodes_loop(np.float64)

    def part(start: int, stop: int) -> None:
        loop(leaves, size, polar, wide, start, stop, flat)

    in_threads(part, number, 1e4 * size)
    return np.ascontiguousarray(flat.reshape(-1, WIDTH, flat.shape[1]).transpose(0, 2, 1))


def _uncertainty(grown: Array, polar: bool) -> float:
    """By how much e^{r/2} may be off: 1 − √c|x| of the ball has an absolute error of eps."""
    if polar:
        return 0.0
    return 8 * float(np.finfo(np.float64).eps * np.nanmax(grown, initial=1.0) ** 2)
