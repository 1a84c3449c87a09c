"""The layout and the refinement of a slice, bit for bit those of one process.

`layouts.tree` goes from level to level, and a family needs of other families only the direction of
its parent. Families within a slice are computed by its process alone. Those that a cut goes
through, the children of ancestors of the first rows of slices, are computed by every process, so
that the top of the tree need not be sent: of their children, sizes of subtrees are enough.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poincare_taxa.evaluation.subjects import Subject
from poincare_taxa.layouts.refinement import (
    MEASURED,
    Yardstick,
    count_equal_siblings,
    improved,
    queries_of_yardstick,
    row_hashes,
)
from poincare_taxa.layouts.tree import (
    Layout,
    Level,
    check_request,
    families_by_level,
    family_offsets,
    fitted,
    move_directions,
    pole,
    preferred_tau,
    warn_of_limits,
)
from poincare_taxa.shards.evaluation import ScatteredPoints, ScatteredQueries
from poincare_taxa.shards.orientation import Orientation
from poincare_taxa.shards.slices import ScatteredTree

__all__ = ["SliceLayout"]

Rows = NDArray[np.integer]


class SliceLayout:
    """Layouts of a slice. All processes call all methods alike.

    Parameters
    ----------
    tree
        The tree. The slice of this process has, besides its rows, the families of shared parents.
    shared
        Ascending rows of the parents whose families a cut goes through.
    size
        Size of the whole subtree of each of the slice's rows.
    dim, dtype, seed
        As for `layouts.layout`.
    """

    def __init__(
        self,
        tree: ScatteredTree,
        shared: Rows,
        size: Rows,
        dim: int,
        dtype: torch.dtype,
        seed: int,
    ) -> None:
        self.tree, self.dim, self.dtype, self.seed = tree, dim, dtype, seed
        part = tree.part
        levels = list(families_by_level(part.tree, size=size))
        own = [self._is_own(part.rows[level.parent]) for level in levels]
        cut = [np.isin(part.rows[level.parent], shared) for level in levels]

        # 1. What each process knows of the families of each level, and of those that are cut.
        def known() -> tuple[list[int], list[bool], Rows, Rows]:
            place = [np.where(o, np.cumsum(o) - 1, -1)[c] for o, c in zip(own, cut, strict=True)]
            bottom = [level.bottom[c] for level, c in zip(levels, cut, strict=True)]
            return (
                [int(o.sum()) for o in own],
                [bool((level.children == 1).all()) for level in levels],
                np.concatenate([*place, np.empty(0, np.int64)]),
                np.concatenate([*bottom, np.empty(0, np.int64)]),
            )

        counts, single, places, bottoms = zip(*tree.together.each(known), strict=True)
        depth = max(map(len, counts))
        count = np.array([[*some, *[0] * (depth - len(some))] for some in counts], np.int64)
        before = np.cumsum(count, axis=0) - count
        self._single = [
            all(some[number] for some in single if number < len(some)) for number in range(depth)
        ]
        draws = np.where(self._single, 0, count.sum(0))
        self._orientation = Orientation(seed, draws.tolist(), dim - 1)

        # 2. Of cut families, the highest node below all processes, and the place in the level.
        bottom = np.max(bottoms, axis=0)
        number_of_cut = np.array([c.sum() for c in cut], np.int64)
        of_level = np.repeat(np.arange(len(levels)), number_of_cut)
        place = np.max(
            [np.where(p >= 0, p + b[of_level], -1) for p, b in zip(places, before, strict=True)],
            axis=0,
        )
        # 3. Families of each level by themselves: those of the slice, and cut ones of others.
        rank = tree.together.rank
        self._levels: list[list[tuple[Level, Rows, bool]]] = []
        for number, (level, o, c) in enumerate(zip(levels, own, cut, strict=True)):
            level.bottom[c] = bottom[of_level == number]
            where = np.where(o, np.cumsum(o) - 1 + before[rank, number], -1)
            where[c] = place[of_level == number]
            parts = [
                (level.some(some), where[some], is_own) for some, is_own in ((o, True), (~o, False))
            ]
            self._levels.append([part for part in parts if len(part[1])])

    def _is_own(self, rows: Rows) -> NDArray[np.bool_]:
        return (rows >= self.tree.part.start) & (rows < self.tree.part.stop)

    def directions(self, tau: float, layered: bool = False) -> tuple[NDArray[Any], int]:
        """Directions of the slice's rows, and the number of unresolved nodes of the whole tree."""
        rows = self.tree.part.rows
        direction = np.zeros((len(rows), self.dim), torch.empty(0, dtype=self.dtype).numpy().dtype)
        direction[0] = pole(self.dim)
        unresolved = 0
        for number, parts in enumerate(self._levels):
            for level, places, is_own in parts:
                above = direction[level.parent]
                if self._single[number]:
                    direction[level.child] = above
                    continue
                drawn = self._orientation.at(number, places)
                offset, lost = family_offsets(level, above, tau, drawn, layered)
                direction[level.child] = move_directions(above[level.family], offset, layered)
                unresolved += lost if is_own else 0
        return direction, sum(self.tree.together.each(lambda: unresolved))

    def layout(self, tau: float | None) -> Layout:
        """Compute `layouts.layout`."""
        tree, together = self.tree, self.tree.together
        largest = min(
            together.each(lambda: check_request(tree.part.tree, self.dim, tau, self.dtype))
        )
        wanted = preferred_tau(self.dim) if tau is None else tau
        if tau is None:
            tau, direction, unresolved = fitted(self.directions, min(wanted, largest), len(tree))
        else:
            direction, unresolved = self.directions(tau)
        if together.rank == 0:
            extent = f"{max(tree.max_depth, 1)} levels deep"
            warn_of_limits(unresolved, len(tree), extent, tau, wanted, self.dim, self.dtype)
        return self._as_layout(tau, direction, unresolved)

    def _as_layout(self, tau: float, direction: NDArray[Any], unresolved: int) -> Layout:
        radius = tau * torch.tensor(self.tree.part.tree.depth, dtype=self.dtype)
        info = {"tau": tau, "unresolved": unresolved}
        return Layout(radius, torch.from_numpy(direction), info)

    def refined(self, tau: float | None, passes: int, queries: int = 256) -> Layout:
        """Compute `layouts.refine` of the layout.

        A layout follows from its τ, so that one at a time is in memory: the best one is computed
        again where it was not the last.
        """
        tree, start = self.tree, self.layout(tau)
        if tree.max_depth == 0 or not passes:
            return start._replace(info={**start.info, "passes": []})
        largest = min(
            tree.together.each(lambda: check_request(tree.part.tree, self.dim, None, self.dtype))
        )
        first, at_hand = start.info["tau"], [start]
        del start

        def named(tau: float) -> Layout:
            return Layout(torch.empty(0), torch.empty(0), {"tau": tau})

        def placed(points: Layout) -> Layout:
            tau = points.info["tau"]
            if at_hand[0].info["tau"] != tau:
                at_hand.clear()
                at_hand.append(self._as_layout(tau, *self.directions(tau, layered=tau != first)))
            return at_hand[0]

        yardstick = _ScatteredYardstick(tree, queries, self.seed)
        best = improved(
            named(first), lambda points: yardstick(placed(points)), named, largest, passes
        )
        found = placed(best)
        return found._replace(info={**found.info, "passes": best.info["passes"]})


class _ScatteredYardstick(Yardstick):
    """The yardstick of refinement; each process counts among the points of its slice."""

    def __init__(self, tree: ScatteredTree, queries: int, seed: int) -> None:
        chosen, rng = tree.together.once(lambda: queries_of_yardstick(len(tree), queries, seed))
        self.scattered = tree
        super().__init__(ScatteredQueries(tree, 10, MEASURED), chosen, rng)

    def subject(self, points: Layout) -> Subject:
        """Return the points of all processes as what is measured."""
        return ScatteredPoints(self.scattered, points.radius, points.direction, self.queries)

    def coincident(self, points: Layout) -> int:
        """Count the taxa of all processes: each counts the families of parents in its slice."""
        part = self.scattered.part

        def mine() -> int:
            parent = part.tree.parent
            own = np.zeros(len(parent) + 1, np.bool_)  # the last is for the root, without parent
            own[part.own] = True
            theirs = own[parent]
            return count_equal_siblings(parent[theirs], row_hashes(points.direction)[theirs])

        return sum(self.scattered.together.each(mine))
