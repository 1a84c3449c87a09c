r"""Placement: points for the new taxa of a tree, without moving those that have points.

A new tree is compared with an old one whose nodes have points. Which nodes are the same taxon is
given. A taxon *stays* if its nearest ancestor that is in both trees is the same in both: what was
inserted or removed between the two does not matter. It then keeps its point bit for bit, or is
carried along if that ancestor is. A taxon that does not stay is the *top* of a subtree that moves
as a whole. From the root downwards, level by level,

- an *inserted* node, above taxa that stay, is put between these and its parent;
- a new node, and a top, is put beside its siblings. Where none of them has a point yet, the family
  is laid out as by `layouts.tree`. Else each is put on the best of many points around the parent,
  one after the other: that whose worst ratio of distance and tree distance is best, to siblings
  (where distances are too small) and to the parent (where they are too large). The points are
  compared as the dtype stores them;
- below a top, an isometry takes the old point of the top to the new one, the direction outwards
  there to the direction outwards here, and everything below the top with it.

**The isometry.** In coordinates along the top's ray, a point at the squared chord :math:`4h` from
it has

.. math:: p = e^r - 2h\sinh r,\quad m = e^{-r} + 2h\sinh r,\quad q = 2\sinh r\sqrt{h(1-h)},

which are :math:`\cosh r ± \sinh r\cosθ` and :math:`\sinh r\sinθ` without cancellation. A shift by s
along the ray gives :math:`(e^s p, e^{-s} m, q)`. Across the ray, the coordinates are exchanged so
that those with the finest spacing at the old point become those with the finest one at the new
point. A direction is that of the parent plus a difference, so that coordinates which both have in
common remain common.

Source: the equations are those of `geometry.polar`; rules and candidates are this library's.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree
from torch import Tensor

from poincare_taxa.files.seeds import stream
from poincare_taxa.layouts.codes import extent, tight_code
from poincare_taxa.layouts.tree import (
    Level,
    compact_extents,
    families_by_level,
    family_offsets,
    fine_axes,
    largest_tau,
    move_directions,
    reflect,
    scaled_codes,
)
from poincare_taxa.taxonomy.preorder import group_rows, nearest_marked
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["CARRIED", "INSERTED", "KEPT", "MOVED", "PLACED", "Placement", "place"]

KEPT, CARRIED, MOVED, INSERTED, PLACED = range(5)
"""What became of a node: it has its old point, bit for bit; it was carried along with the top of a
moved subtree; it is such a top; it was inserted above taxa that stay; it was put beside others."""

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
Points = tuple[NDArray[np.floating], NDArray[np.floating]]
"""Radius [n] and direction [n, dim]."""

_TURNS = 64
"""Directions from a parent in which there are candidates."""

_REACH = (0.3, 0.7, 1.0, 1.3, 1.7)
"""Offsets of candidates, in units of a compact family's extent."""

_REACH_OF_SUBTREES = (2.0, 2.4)
"""Further ones for new nodes with children, to which room matters more than a near parent."""

_ONE_BY_ONE = 64
"""Largest number of new siblings that are placed one after the other; more of them share a code."""

_CELLS = 1 << 22
"""Coordinates that are compared at once."""

_COINCIDENT = 1e-3
"""Ratio of distance and tree distance of siblings below which they are not separated."""


class Placement(NamedTuple):
    """Points of all nodes of a tree, some of them those of an older tree."""

    radius: Tensor
    """[n], of the dtype of the old points."""
    direction: Tensor
    """Unit vectors [n, dim]."""
    state: NDArray[np.int8]
    """[n], what became of each node: `KEPT`, `CARRIED`, `MOVED`, `INSERTED` or `PLACED`."""
    top: NDArray[np.int32]
    """[n], top of the moved subtree that a node is in; 0 where it is in none."""
    unresolved: int
    """Number of placed nodes that share a sibling's direction, because no coordinate was fine
    enough."""


def place(
    tree: Tree,
    old: Tree,
    source: Rows,
    points: tuple[Tensor, Tensor],
    tau: float,
    *,
    layered: bool = False,
    seed: int = 0,
) -> Placement:
    """Compute points of a tree whose nodes are partly those of an older one.

    Parameters
    ----------
    tree
        The tree.
    old
        The older one.
    source
        Row in the older tree of each node, int64 [n]; −1 for new ones. The root has the root, and
        no two nodes have the same row.
    points
        Radius and direction of the older tree's nodes, float64 or float32.
    tau
        Radius per level, or per unit of branch length, of new edges.
    layered
        Whether new families may use coarse coordinates, as those of `layouts.refine` do.
    seed
        Seed of the orientation of new families, and of the candidates.

    Returns
    -------
    placement
        Points of all nodes. Those of taxa that stay are the old ones, bit for bit.

    Raises
    ------
    ValueError
        If a node would get a radius beyond the largest one of the dtype, 320 or 80.

    Examples
    --------
    >>> from poincare_taxa.layouts.tree import layout
    >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
    >>> old, new = (Taxonomy.from_parents([-1] + [0] * k).tree for k in (2, 3))
    >>> radius, direction, _ = layout(old, dim=3, tau=1.0)
    >>> placed = place(new, old, np.array([0, 1, 2, -1]), (radius, direction), 1.0)
    >>> placed.radius.tolist(), placed.direction[:3].equal(direction)
    ([0.0, 1.0, 1.0, 1.0], True)
    """
    state, frame = _states(tree, old, source)
    shared = np.flatnonzero(source >= 0)
    radius, direction = (part.numpy(force=True) for part in points)
    # In coordinates of the old points: those of all taxa that are in both trees, and of insertions.
    before = np.zeros(len(tree), radius.dtype), np.zeros((len(tree), direction.shape[1]))
    before = before[0], before[1].astype(direction.dtype)
    for part, given in zip(before, (radius, direction), strict=True):
        part[shared] = given[source[shared]]
    _insert(tree, state, nearest_marked(tree.parent, source >= 0), before)
    work = _Work(tree, state, frame, before, tau, layered, stream(seed, "placement"))
    unresolved = sum(work.place_level(level) for level in families_by_level(tree))
    radius, direction = (torch.from_numpy(part) for part in work.points)
    return Placement(radius, direction, state, frame, unresolved)


def _states(tree: Tree, old: Tree, source: Rows) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
    """Return what becomes of each node, and the top of the moved subtree that it is in, else 0."""
    shared = source >= 0
    rows = np.flatnonzero(shared)[1:]
    # 1. A taxon stays if its nearest ancestor in both trees is the same. Of the old tree first.
    goal = np.full(len(old), -1)
    goal[source[shared]] = np.flatnonzero(shared)
    above = old.parent[source[rows]]
    expected = goal[nearest_marked(old.parent, goal >= 0)[above]]
    found = nearest_marked(tree.parent, shared)[tree.parent[rows]]
    top = np.zeros(len(tree), np.bool_)
    top[rows[expected != found]] = True
    # 2. Inserted nodes have a child that stays, or one that is inserted: from the leaves upwards.
    in_place = shared & ~top
    for level in reversed(group_rows(tree.depth)[1:]):
        above = tree.parent[level[in_place[level]]]
        in_place[above[~shared[above]]] = True
    frame = nearest_marked(tree.parent, top)
    state = np.select(
        [top, ~in_place, ~shared, frame != 0], [MOVED, PLACED, INSERTED, CARRIED], KEPT
    )
    return state.astype(np.int8), frame


def _insert(tree: Tree, state: NDArray[np.int8], anchor: NDArray[np.int32], points: Points) -> None:
    """Set the points of inserted nodes, between their nearest old ancestor and the taxa below.

    A node is at the mean of the directions of the nearest old taxa that stay below it. Its radius
    divides the distance from the ancestor to the innermost of them by the number of edges.
    """
    inserted = np.flatnonzero(state == INSERTED)
    if len(inserted) == 0:
        return
    radius, direction = points
    place = np.full(len(tree), -1)
    place[inserted] = np.arange(len(inserted))
    offset = np.zeros((len(inserted), direction.shape[1]))
    count, edges = np.zeros(len(inserted)), np.zeros(len(inserted))
    inmost = np.full(len(inserted), np.inf)
    # 1. From the leaves upwards: sums over the taxa below, relative to the ancestor.
    stays = np.isin(state, (KEPT, CARRIED, INSERTED))
    for level in reversed(group_rows(tree.depth)[1:]):
        level = level[stays[level] & (place[tree.parent[level]] >= 0)]
        theirs, to = place[level], place[tree.parent[level]]
        old = theirs < 0
        away = direction[level].astype(np.float64) - direction[anchor[tree.parent[level]]]
        np.add.at(offset, to, np.where(old[:, None], away, offset[theirs]))
        np.add.at(count, to, np.where(old, 1, count[theirs]))
        np.maximum.at(edges, to, np.where(old, 1, 1 + edges[theirs]))
        np.minimum.at(inmost, to, np.where(old, radius[level], inmost[theirs]))
    # 2. Their share of the way from the ancestor.
    above = anchor[inserted]
    steps = tree.depth[inserted] - tree.depth[above]
    start = radius[above].astype(np.float64)
    radius[inserted] = start + (inmost - start) * steps / (steps + edges)
    direction[inserted] = _unit(direction[above] + (offset / count[:, None]).astype(radius.dtype))


def _unit(direction: NDArray[np.floating]) -> NDArray[np.floating]:
    """Normalise directions [k, dim] whose length is off by more than that of a layout may be."""
    exact = direction.astype(np.float64)
    square = (exact**2).sum(1)
    off = np.abs(square - 1) > 16 * np.finfo(direction.dtype).eps
    direction[off] = exact[off] / np.sqrt(square[off])[:, None]
    return direction


class _Work:
    """Points of a tree while its levels are placed, from the root downwards.

    Parameters
    ----------
    tree, state, frame
        The tree, and what `_states` returns.
    before
        Points of all nodes that stay, and of tops, in coordinates of the old points.
    tau, layered
        As in `place`.
    rng
        Source of orientations.
    """

    def __init__(
        self,
        tree: Tree,
        state: NDArray[np.int8],
        frame: NDArray[np.int32],
        before: Points,
        tau: float,
        layered: bool,
        rng: np.random.Generator,
    ) -> None:
        self.tree, self.state, self.frame, self.before = tree, state, frame, before
        self.points = before[0].copy(), before[1].copy()
        self.tau, self.layered, self.rng = tau, layered, rng
        self.nominal = tau * tree.height.astype(before[0].dtype)  # as a layout has them
        dtype = torch.from_numpy(before[0]).dtype
        self.largest = largest_tau(tree, dtype) * (float(tree.height.max()) or 1.0)
        dim = before[1].shape[1]
        turns = rng.standard_normal((_TURNS, dim - 1))
        turns /= np.linalg.norm(turns, axis=1, keepdims=True)
        reach = np.multiply.outer(_REACH + _REACH_OF_SUBTREES, turns).reshape(-1, dim - 1)
        self.pattern = np.concatenate([np.zeros((1, dim - 1)), reach])

    def place_level(self, level: Level) -> int:
        """Set the points of a level's children; return how many of them were not separated."""
        child = level.child
        waits = np.isin(self.state[child], (MOVED, PLACED))
        carried, new = child[~waits & (self.frame[child] != 0)], child[waits]
        self._carry(carried)
        radius, above = self.points[0], self.tree.parent[new]
        radius[new] = self.nominal[new] + (radius[above] - self.nominal[above])
        changed = np.concatenate([carried, new])
        if len(changed) and not radius[changed].max() <= self.largest:
            raise ValueError(
                f"the tree is {self.tree.max_depth} levels deep, where these points would get a "
                f"radius of {radius[changed].max():.4g}; the largest of {radius.dtype} is "
                f"{self.largest:.4g}: embed it afresh"
            )
        if len(new) == 0:
            return 0
        some, every = (way.reduceat(waits, level.first) for way in (np.logical_or, np.logical_and))
        return self._lay_out(level.some(every)) + self._fill(level.some(some & ~every))

    def _lay_out(self, level: Level) -> int:
        """Lay out families none of whose members has a point."""
        if len(level.parent) == 0:
            return 0
        radius, direction = self.points
        height = radius[level.parent] / self.tau
        level = level._replace(height=height, bottom=level.bottom + (height - level.height))
        above = direction[level.parent]
        offset, unresolved = family_offsets(level, above, self.tau, self.rng, self.layered)
        direction[level.child] = move_directions(above[level.family], offset, self.layered)
        return unresolved

    # ---------------------------------------------------------------- beside siblings

    def _fill(self, level: Level) -> int:
        """Place the new members of families some of whose members have points."""
        if len(level.parent) == 0:
            return 0
        waits = np.isin(self.state[level.child], (MOVED, PLACED))
        new = np.add.reduceat(waits, level.first, dtype=np.int64)
        many = new > _ONE_BY_ONE
        unresolved = sum(
            self._share_code(level.some(np.arange(len(new)) == family))
            for family in np.flatnonzero(many)
        )
        # Families are cut into parts whose candidates, and siblings times candidates, fit.
        width = self.pattern.size
        cells = np.cumsum((1 + level.children) * width * ~many) // _CELLS
        for part in group_rows(cells):
            chosen = np.zeros(len(new), np.bool_)
            chosen[part] = ~many[part]
            unresolved += self._one_by_one(level.some(chosen))
        return unresolved

    def _one_by_one(self, level: Level) -> int:
        """Put each new member of some families on the best candidate, larger subtrees first."""
        if len(level.parent) == 0:
            return 0
        tree, (radius, direction) = self.tree, self.points
        waits = np.isin(self.state[level.child], (MOVED, PLACED))
        family, first = level.family[waits], np.flatnonzero(waits)
        new = np.bincount(family, minlength=len(level.parent))
        start = np.cumsum(new) - new
        # 1. Candidates around each parent, at the mean radius of the new members.
        stored = self._around(level, self.pattern[None])
        away = stored - direction[level.parent].astype(np.float64)[:, None]
        r_parent = radius[level.parent].astype(np.float64)
        r_new = np.bincount(family, radius[level.child[waits]]) / new
        outwards = 1 / _ratio(
            r_new[:, None], r_parent[:, None], (away**2).sum(2), r_parent[:, None]
        )
        # 2. Worst ratio to the siblings that have points.
        siblings, theirs = level.child[~waits], level.family[~waits]
        apart = direction[siblings].astype(np.float64) - direction[level.parent[theirs]]
        ratio = self._to_siblings(
            away, theirs, apart, r_new, r_parent, radius[siblings].astype(np.float64)
        )
        worst = np.minimum.reduceat(ratio, np.flatnonzero(np.diff(theirs, prepend=-1)))
        # 3. One new member of each family after the other; each is a sibling of the next.
        unresolved = 0
        for nth in range(int(new.max())):
            left = np.flatnonzero(new > nth)
            score = np.minimum(worst[left], outwards[left])
            leaf = tree.num_children[level.child[first[start[left] + nth]]] == 0
            score[leaf, 1 + len(_REACH) * _TURNS :] = 0
            best = score.argmax(axis=1)
            unresolved += int((score[np.arange(len(left)), best] < _COINCIDENT).sum())
            direction[level.child[first[start[left] + nth]]] = stored[left, best]
            ratio = self._to_siblings(away, left, away[left, best], r_new, r_parent, r_new[left])
            worst[left] = np.minimum(worst[left], ratio)
        return unresolved

    @staticmethod
    def _to_siblings(
        away: Floats, family: Rows, apart: Floats, r_new: Floats, r_parent: Floats, r: Floats
    ) -> Floats:
        """Ratio of distance and tree distance of siblings [k] and their family's candidates."""
        # |x − y|² by products, so that no table of differences is held.
        square = (away[family] ** 2).sum(2) + (apart**2).sum(1)[:, None]
        square -= 2 * np.matmul(away[family], apart[:, :, None])[:, :, 0]
        to_parent = r_parent[family, None]
        return _ratio(r_new[family, None], r[:, None], np.maximum(square, 0), to_parent)

    def _share_code(self, level: Level) -> int:
        """Put the many new members of one family on points of a code that no sibling is near."""
        radius, direction = self.points
        waits = np.isin(self.state[level.child], (MOVED, PLACED))
        new, siblings = level.child[waits], level.child[~waits]
        above = direction[level.parent].astype(np.float64)
        unit = compact_extents(level.parent, radius[level.parent].astype(np.float64), self.layered)
        spacing = np.spacing(np.abs(direction[level.parent, 1:])).astype(np.float64)
        fine = fine_axes(level.children, spacing, unit).fine[0]
        if not fine.any():
            direction[new] = direction[level.parent]
            return len(new)
        # 1. A code with room for all, and for as many again as there are siblings.
        axes = self.rng.permutation(np.flatnonzero(fine))
        code = tight_code(len(new) + 2 * len(siblings), len(axes))
        scale = np.linalg.norm(scaled_codes(code, unit)[0, -1]) / extent(code) / unit[0]
        pattern = np.zeros((1, len(code), len(fine)))
        pattern[:, :, axes] = scale * code * self.rng.choice([-1, 1], len(axes))
        stored = self._around(level, pattern)[0]
        # 2. Those of its points that are farthest from siblings, up to the code's own separation.
        near = KDTree((direction[siblings] - above) / unit).query((stored - above) / unit)[0]
        clear = np.minimum(near, scale)  # The points of the code are 1 apart.
        chosen = np.sort(np.argsort(-clear, kind="stable")[: len(new)])
        direction[new] = stored[chosen]
        return int((clear[chosen] == 0).sum())

    def _around(self, level: Level, pattern: Floats) -> Floats:
        """Directions around each parent as the dtype stores them, [f, candidates, dim].

        A pattern [f or 1, candidates, m] is in units of a compact family's extent. Every other one
        of its points is moved to the coordinates that are fine enough for the family; what rounding
        leaves of the others is compared as it is.
        """
        radius, direction = self.points
        above = direction[level.parent]
        unit = compact_extents(level.parent, radius[level.parent].astype(np.float64), self.layered)
        spacing = np.spacing(np.abs(above[:, 1:])).astype(np.float64)
        fine = fine_axes(level.children, spacing, unit).fine
        step = np.zeros((len(above), *pattern.shape[1:-1], above.shape[1]))
        step[..., 1:] = pattern
        length = np.linalg.norm(step, axis=2, keepdims=True)
        step[:, ::2, 1:] *= fine[:, None]
        left = np.linalg.norm(step, axis=2, keepdims=True)
        step *= unit[:, None, None] * length / np.where(left > 0, left, np.inf)
        # Along the great circle: sin ρ · step/ρ − 2 sin²(ρ/2) · u.
        u = above.astype(np.float64)[:, None]
        angle = unit[:, None, None] * length
        step = reflect(u, step) * np.sinc(angle / np.pi) - 2 * np.sin(angle / 2) ** 2 * u
        return (above[:, None] + step.astype(above.dtype)).astype(np.float64)

    # ---------------------------------------------------------------- moved subtrees

    def _carry(self, rows: Rows) -> None:
        """Set the points of nodes below tops, whose parents have theirs: images by an isometry."""
        radius, direction = self.points
        above = self.tree.parent[rows]
        here, far = self._image(rows, self.frame[rows])
        there, _ = self._image(above, self.frame[rows])
        direction[rows] = _unit(direction[above] + (here - there).astype(direction.dtype))
        radius[rows] = far

    def _image(self, rows: Rows, tops: Rows) -> tuple[Floats, Floats]:
        """Difference of each node's direction and its top's, and radius, after the isometry."""
        (r_top, u_top), (r, u) = (
            tuple(part[at].astype(np.float64) for part in self.before) for at in (tops, rows)
        )
        to_r, to_u = (part[tops].astype(np.float64) for part in self.points)
        # 1. Along the ray of the top's old point, and across it.
        away = u - u_top
        h = (away**2).sum(1) / 4
        p, m = np.exp(r) - 2 * h * np.sinh(r), np.exp(-r) + 2 * h * np.sinh(r)
        across = (away + 2 * h[:, None] * u_top) * np.sinh(r)[:, None]
        # 2. A shift along the ray.
        shift = np.exp(to_r - r_top)
        along = (p * shift - m / shift) / 2
        size = np.hypot(along, np.linalg.norm(across, axis=1))
        # 3. Across the new ray, finest coordinates to finest ones. Where the point is at the
        #    origin it has any direction.
        offset = reflect(u_top, across)[:, 1:]
        turned = np.zeros_like(u)
        finest, finest_now = (np.argsort(np.abs(x[:, 1:]), 1, "stable") for x in (u_top, to_u))
        place = np.arange(len(u))[:, None]
        turned[place, 1 + finest_now] = offset[place, finest]
        safe = np.where(size > 0, size, 1)
        inwards = np.where(size > 0, along / safe - 1, 0)
        turned /= safe[:, None]
        bent = -((turned**2).sum(1)) / (1 + np.abs(along) / safe)  # cos θ − 1
        inwards = np.where(along > 0, bent, inwards)
        step = reflect(to_u, turned) + inwards[:, None] * to_u
        return step, np.arcsinh(size)


def _ratio(r: Floats, other: Floats, square: Floats, common: Floats) -> Floats:
    """Ratio of distance and tree distance of points whose paths part at the radius `common`.

    Arguments are two radii, the squared chord of the directions, and that radius. It is 1 where the
    tree distance is 0.
    """
    far = np.sinh((r - other) / 2) ** 2 + np.sinh(r) * np.sinh(other) * square / 4
    distance, tree = 2 * np.arcsinh(np.sqrt(far)), r + other - 2 * common
    return np.where(tree > 0, distance / np.where(tree > 0, tree, 1), 1.0)
