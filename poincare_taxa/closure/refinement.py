r"""Search for points that rank a DAG's ancestors earlier: one node at a time, by exact cost.

What is searched for is the total of the ranks, the numerator of the mean rank. Seen from the node
q, at radius R, a node at radius r stands at

.. math:: \rho = \frac{\cosh d - 1}{\cosh R - 1}
          = \frac{\sinh^2\frac{R-r}2}{\sinh^2\frac R2} + \frac{\sinh r}{2\tanh\frac R2}\,D
          \;\longrightarrow\; e^{-r} + \tfrac12 \sinh r\, D \quad (R \to \infty)

with D the squared chord between their directions; the origin stands at 1. When an inner node v
moves, and nothing else does, the total changes by

- the nodes before v, for each of its descendants: from a histogram of ρ for every query;
- the ancestors that v comes before, for every other query: only where ρ is below the last of them.

So a candidate costs a few passes over the queries, and the best of some dozens is taken: v's own
direction, the mean of its descendants' and a few of theirs, what points away from everything, each
with caps that hold more or fewer of its descendants and with radii close to 0. Those matter most: a
node *near the origin* comes behind everybody's ancestors and before all else, so an ancestor that
no cap can hold is late by the number of others like it rather than by thousands. Leaves take turns
with inner nodes: of random places around theirs and between their ancestors, the one that ranks
these best.

No gradient sees any of this, because counts have none; it needs a start that is right in the large,
from `closure_layout` or from training.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.layout import LEAF_RADIUS
from poincare_taxa.closure.queries import Queries
from poincare_taxa.closure.ranking import rank_ancestors
from poincare_taxa.layouts.tree import Layout

__all__ = ["refine_closure"]

_EDGES = np.concatenate(
    (
        2.0 ** np.arange(-40, 0),
        1 - 2.0 ** -np.arange(1.5, 26, 0.5),
        1 + 2.0 ** -np.arange(26, 0, -0.5),
        2.0 ** np.arange(1, 60, 0.5),
    )
)
"""Of the histograms of ρ: finest around 1, where the nodes near the origin are."""

_SHRINK = np.array([0.02, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 1, 1.05])
"""Radii to try, times a radius that is about right."""

_NEAR = np.geomspace(1e-4, 1, 9)
"""Radii to try near the origin."""

_LARGEST = 34.0
"""Radius of inner nodes, at most: their caps hold the turn by which leaves of a set stand apart."""

_GENERATIONS, _LITTER = 3, 10
"""Random changes of an inner node: how many times how many."""

_PLACES = 60
"""Random places tried for a leaf."""

_LATE = 0.99
"""Share of all that is late that the nodes which have their turn make up."""

_BLOCK = 1 << 22
"""Entries of a block of ρ."""

Array = NDArray[np.float64]


def refine_closure(
    pairs: ClosurePairs, radius: Tensor, direction: Tensor, *, rounds: int = 2, seed: int = 0
) -> Layout:
    """Move nodes, one at a time, to where they rank ancestors better by plain distance.

    Parameters
    ----------
    pairs
        Who is an ancestor of whom, transitively closed.
    radius, direction
        The start, [num_nodes] and [num_nodes, dim]: of `closure_layout` or of training.
    rounds
        How often every late node and every late leaf has its turn, at least 1.
    seed
        Of the random candidates.

    Returns
    -------
    layout
        Radius and direction, float64, of the best of the start and the rounds. Nodes without
        descendants are at radius 160, those with the same ancestors next to each other, all others
        at 34 at most. info: ``rank_excess``, the sum of (rank − 1) over all pairs as
        `rank_ancestors` counts it, at the start and after each round.

    Raises
    ------
    ValueError
        If ``rounds < 1``, there are not as many points as nodes, or a point is not finite.
    TaxonomyError
        If the pairs have a cycle.

    Examples
    --------
    >>> import poincare_taxa as pt
    >>> both = [(0, 3), (1, 3), (0, 4), (1, 4), (2, 4), (0, 5), (2, 5), (1, 6), (2, 6)]
    >>> pairs = pt.ClosurePairs(both)
    >>> start = pt.closure_layout(pairs)
    >>> refine_closure(pairs, *start[:2]).info["rank_excess"]
    [2.0, 1.0, 0.0]
    """
    if rounds < 1:
        raise ValueError(f"rounds must be at least 1; got {rounds}")
    if len(radius) != pairs.num_nodes or len(direction) != pairs.num_nodes:
        raise ValueError(
            f"{len(radius)} points for {pairs.num_nodes} nodes: row i must be node i of the pairs"
        )
    bad = (~(radius.isfinite() & direction.isfinite().all(1))).nonzero()
    if len(bad):
        raise ValueError(
            f"the start is not finite in {len(bad)} rows, the first is {int(bad[0])}; did a "
            "training diverge?"
        )
    search = _Search(pairs, radius, direction, seed)
    best = search.layout(seed)
    excess = [_rank_excess(pairs, best)]
    for _ in range(rounds):
        search.move_inner_nodes()
        search.move_leaves()
        after = search.layout(seed)
        excess.append(_rank_excess(pairs, after))
        if excess[-1] == min(excess):
            best = after
    return best._replace(info={"rank_excess": excess})


def _rank_excess(pairs: ClosurePairs, layout: Layout) -> float:
    """Sum of (rank − 1) over all pairs; a multiple of 1/2, because a tie counts one half."""
    mean_rank = rank_ancestors(pairs, layout.radius, layout.direction).mean_rank
    return round(2 * (mean_rank - 1) * len(pairs)) / 2


class _Search:
    """Points, and for every query where all inner nodes stand."""

    def __init__(self, pairs: ClosurePairs, radius: Tensor, direction: Tensor, seed: int) -> None:
        self.queries = q = Queries.of(pairs.to("cpu"))
        self.rng = np.random.default_rng(seed)
        self.n = pairs.num_nodes
        points = radius.detach().cpu().double().numpy(), direction.detach().cpu().double().numpy()
        self.start = points[1]
        inner, row = q.inner.numpy(), q.row.numpy()
        self.r, self.x = np.clip(points[0][inner], 1e-4, _LARGEST), points[1][inner].copy()
        self.own, self.weight = q.own.numpy(), q.weight.numpy()
        self.y = points[1][row].copy()
        start, column = q.ancestors.start.numpy(), q.ancestors.column.numpy()
        self.count = np.diff(start)
        query = np.repeat(np.arange(len(row)), self.count)
        self.place = np.arange(len(column)) - start[query]  # in the list of the query
        self.listed = np.arange(self.count.max()) < self.count[:, None]
        by_node = np.argsort(column, kind="stable")
        self.below_start = np.searchsorted(column[by_node], np.arange(len(inner) + 1))
        self.below, self.below_place = query[by_node], self.place[by_node]
        self.query, self.column = query, column
        self.own_query = np.full(len(inner), -1)
        self.own_query[self.own[self.own >= 0]] = np.flatnonzero(self.own >= 0)

    # ---------------------------------------------------------------- where things stand

    def late(self, queries: NDArray[np.int64], places: Array, radius: Array) -> Array:
        """By how many places the ancestors of queries are late, seen from these places."""
        table = torch.from_numpy(np.column_stack((self.r, self.x)))
        points = torch.from_numpy(np.column_stack((radius, places)))
        return self.queries.rank_excess(table, points, torch.from_numpy(queries)).numpy()

    def radii(self) -> Array:
        """Radius of every query."""
        return np.where(self.own >= 0, self.r[self.own], LEAF_RADIUS)

    def every_late(self) -> Array:
        return self.late(np.arange(len(self.y)), self.y, self.radii())

    def _rho(self, r: Any, chord: Array, some: Any = slice(None)) -> Array:
        """Where a node at radius r stands for some queries, at squared chords from them."""
        a = np.exp(-r / 2)
        along = (a - self.shrunk[some] / a) * self.inverse[some]
        return along * along + np.sinh(r) * self.steep[some] * chord

    def _look(self) -> None:
        """Compute where every node stands for every query: histograms, and ancestors one by one."""
        self.shrunk, self.inverse, self.steep = _factors(self.radii())
        edges, bins = torch.from_numpy(_EDGES), len(_EDGES) + 1
        self.histogram = np.zeros((len(self.y), bins), np.int32)
        self.standing = np.full(self.listed.shape, -1.0)
        x = torch.from_numpy(self.x)
        for some in np.array_split(np.arange(len(self.y)), len(self.y) * len(x) // _BLOCK + 1):
            chord = torch.cdist(
                torch.from_numpy(self.y[some]), x, compute_mode="donot_use_mm_for_euclid_dist"
            )
            rho = self._rho(self.r, chord.square_().numpy(), some[:, None])
            entries = slice(*np.searchsorted(self.query, [some[0], some[-1] + 1]))
            i, j = self.query[entries] - some[0], self.column[entries]
            self.standing[self.query[entries], self.place[entries]] = rho[i, j]
            which = torch.bucketize(torch.from_numpy(rho), edges, right=True)
            which += torch.arange(len(some))[:, None] * bins
            counts = torch.bincount(which.flatten(), minlength=len(some) * bins).numpy()
            at = which.numpy()
            np.subtract.at(counts, at[i, j], 1)
            mine = np.flatnonzero(self.own[some] >= 0)
            counts[at[mine, self.own[some[mine]]]] -= 1
            self.histogram[some] = counts.reshape(-1, bins)
        self.last = self.standing.max(1)

    # ---------------------------------------------------------------- inner nodes

    def move_inner_nodes(self) -> None:
        """Give every inner node that is late its turn, the latest first."""
        self._look()
        every = self._late_by_node()
        mean = self.weight @ self.y
        self.away = -mean / max(float(np.linalg.norm(mean)), 1e-300)
        order = np.argsort(-every)
        total = np.cumsum(every[order])
        for v in order[: np.count_nonzero(total - every[order] < _LATE * total[-1])]:
            self._move(int(v))

    def _late_by_node(self) -> Array:
        """Places by which a node is late, over all its descendants, to half a bin."""
        upto = np.cumsum(self.histogram, axis=1)
        rho = self.standing[self.query, self.place]
        which = np.searchsorted(_EDGES, rho, side="right")
        before = upto[self.query, which] - self.histogram[self.query, which]
        total = np.bincount(self.column, self.weight[self.query] * before, len(self.r))
        return np.asarray(total, np.float64)

    def _move(self, v: int) -> None:
        at = slice(self.below_start[v], self.below_start[v + 1])
        below, place = self.below[at], self.below_place[at]
        others = np.ones(len(self.y), bool)
        others[below] = False
        if self.own_query[v] >= 0:
            others[self.own_query[v]] = False
        others = np.flatnonzero(others)
        self._count(others, self.r[v], self.x[v], -1)
        self.standing[below, place] = -1
        self.last[below] = self.standing[below].max(1)
        cost = _Cost(self, below, others)
        before = (float(self.r[v]), self.x[v].copy())
        start = cost.best = cost.of(*before)
        cost.point = before
        for x, r in self._candidates(v, below):
            cost.offer(x, r)
        scale = 0.3
        for _ in range(_GENERATIONS):
            best = cost.best
            r, x = cost.point
            size = scale * min(1, 2 * np.exp(-r / 2)) / np.sqrt(len(x))
            for step in self.rng.standard_normal((_LITTER, len(x) + 1)):
                y = x + size * step[1:]
                cost.offer(y / np.linalg.norm(y), r * np.exp(scale / 2 * step[:1]))
            scale *= 1.5 if cost.best < best else 0.4
        if cost.best < start:
            self._place(v, *cost.point)
            if not self._pays(v, before, start - cost.best):
                self._place(v, *before)
        rho = self._rho(self.r[v], _chord(self.y[below], self.x[v]), below)
        self.standing[below, place] = rho
        self.last[below] = np.maximum(self.last[below], rho)
        self._count(others, self.r[v], self.x[v], 1)

    def _place(self, v: int, r: float, x: Array) -> None:
        self.r[v], self.x[v] = r, x
        if (q := self.own_query[v]) >= 0:
            self.y[q] = x
            self.shrunk[q], self.inverse[q], self.steep[q] = _factors(r)

    def _pays(self, v: int, before: tuple[float, Array], gain: float) -> bool:
        """Whether v's own ancestors are not later by more than what its descendants gain."""
        q = self.own_query[v]
        if q < 0:
            return True
        places = np.stack((before[1], self.x[v]))
        radii = np.array([before[0], self.r[v]])
        old, new = self.late(np.array([q, q]), places, radii)
        return new - old < gain

    def _count(self, queries: NDArray[np.int64], r: float, x: Array, sign: int) -> None:
        """Enter a node into the histograms of queries, or take it out."""
        rho = self._rho(r, _chord(self.y[queries], x), queries)
        self.histogram[queries, np.searchsorted(_EDGES, rho, side="right")] += sign

    def _candidates(self, v: int, below: NDArray[np.int64]) -> list[tuple[Array, Array]]:
        """Directions, each with radii."""
        r, x = self.r[v], self.x[v]
        y, weight = self.y[below], self.weight[below]
        towards = [x, weight @ y, y.sum(0), y.mean(0) + self.away * np.linalg.norm(y.mean(0))]
        towards += list(y[self.rng.integers(len(y), size=min(4, len(y)))])
        towards += [self.away, self.away + x]
        found = []
        for direction in towards:
            if (norm := np.linalg.norm(direction)) < 1e-9:
                continue
            direction = direction / norm
            # caps that just hold a quarter, a half, … of the descendants
            chord = np.quantile(_chord(y, direction), [0.25, 0.5, 0.75, 0.9, 1])
            edge = 2 * np.arctanh(np.clip(1 - chord * 0.501, 1e-4, 1 - 1e-15))
            radii = np.concatenate((r * _SHRINK, _NEAR, edge))
            found.append((direction, np.unique(np.minimum(radii, _LARGEST))))
        return found

    # ---------------------------------------------------------------- leaves

    def move_leaves(self) -> None:
        """Try places for every set of leaves whose ancestors are late."""
        late = self.every_late()
        some = np.flatnonzero((self.own < 0) & (late > 0))
        if len(some) == 0:
            return
        best, scale = late[some], np.full(len(some), 0.3)
        first, dim = np.searchsorted(self.query, some), self.y.shape[1]
        reach = np.exp(np.minimum(self.r, 30))
        for trial in range(_PLACES):
            y = self.y[some]
            pick = (self.rng.random(len(some)) * self.count[some]).astype(np.int64)
            one = self.column[first + pick]
            if trial < 3:  # means of the ancestors, the deeper the heavier
                towards = np.zeros((len(self.y), dim))
                heavy = reach[self.column] ** (trial / 2)
                np.add.at(towards, self.query, heavy[:, None] * self.x[self.column])
                towards = towards[some]
            elif trial % 3 == 0:
                towards = y + 2 * (scale * self.rng.random(len(some)))[:, None] * (self.x[one] - y)
            elif trial % 3 == 1:  # inside the cap of an ancestor
                size = np.minimum(1, np.exp(-self.r[one] / 2))[:, None] / np.sqrt(dim)
                towards = self.x[one] + size * self.rng.standard_normal(y.shape)
            else:
                size = scale[:, None] / np.sqrt(dim)
                towards = y + size * self.rng.standard_normal(y.shape)
            towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-300)
            there = self.late(some, towards, np.full(len(some), LEAF_RADIUS))
            better = there < best
            self.y[some[better]], best[better] = towards[better], there[better]
            scale = np.clip(np.where(better, scale * 1.5, scale * 0.9), 1e-3, 1)

    # ---------------------------------------------------------------- result

    def layout(self, seed: int) -> Layout:
        """Points of all nodes."""
        q = self.queries
        points = torch.from_numpy(np.column_stack((np.full(self.n, LEAF_RADIUS), self.start)))
        points[q.inner] = torch.from_numpy(np.column_stack((self.r, self.x)))
        points[q.row, 1:] = torch.from_numpy(self.y)
        q.align_leaves(points, torch.Generator().manual_seed(seed))
        return Layout(points[:, 0].clone(), points[:, 1:].clone(), {})


class _Cost:
    """What it costs to have a node at a point, and the best point so far."""

    best: float
    point: tuple[float, Array]

    def __init__(
        self, search: _Search, below: NDArray[np.int64], others: NDArray[np.int64]
    ) -> None:
        self.search, self.below = search, below
        self.last = np.zeros(len(search.y))
        self.last[others] = search.last[others]
        here = search.histogram[below]
        # the nodes before a bin, and half of those in it
        self.before = np.cumsum(here, axis=1) - 0.5 * here

    def of(self, r: float, x: Array) -> float:
        """Cost of one point."""
        return self._late(np.array([r]), x)[0] + self._intrusion(r, _chord(self.search.y, x))

    def offer(self, x: Array, radii: Array) -> None:
        """Keep the best of some radii in one direction if it is better."""
        late = self._late(radii, x)
        if late.min() >= self.best:
            return
        chord = _chord(self.search.y, x)
        for i in np.argsort(late):
            if late[i] >= self.best:
                return
            room = self.best - float(late[i]) - 1e-9
            intrusion = self._intrusion(float(radii[i]), chord, room)
            if intrusion < room:
                self.best, self.point = float(late[i]) + intrusion, (float(radii[i]), x)

    def _late(self, radii: Array, x: Array) -> Array:
        s, below = self.search, self.below
        rho = s._rho(radii[:, None], _chord(s.y[below], x), below)
        which = np.searchsorted(_EDGES, rho, side="right")
        return self.before[np.arange(len(below)), which] @ s.weight[below]

    def _intrusion(self, r: float, chord: Array, room: float = np.inf) -> float:
        """Ancestors of others that the node comes before; at least `room` if it is not less."""
        s = self.search
        rho = s._rho(r, chord)
        inside = np.flatnonzero(rho < self.last)
        weight = s.weight[inside]
        if (least := float(weight.sum())) >= room:  # one each
            return least
        passed = (s.standing[inside] > rho[inside, None]).sum(1)
        return float(passed @ weight)


def _chord(y: Array, x: Array) -> Array:
    """Squared chord of rows and a point: of differences, since caps may be narrow."""
    apart = y - x
    return np.einsum("ij,ij->i", apart, apart)


def _factors(R: Any) -> tuple[Any, Any, Any]:
    """Return what of ρ depends on the radius of the query alone."""
    return np.exp(-R), -1 / np.expm1(-R), 0.5 / np.tanh(R / 2)
