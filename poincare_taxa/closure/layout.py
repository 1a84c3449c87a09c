r"""Points whose nearest are their ancestors, by plain distance and without training.

`closure_layout` is a result of its own; `nested_start` and `packed_start` are starts for training.

From a leaf at infinite radius in direction x, a node at radius r and angle θ from x has the
Busemann distance

.. math:: B(\theta) = \log(\cosh r - \sinh r\cos\theta), \qquad
          B < 0 \iff \cos\theta > \tanh\tfrac r2 \iff \theta < 2\arctan e^{-r/2},

and the origin has 0. So a node is nearer than the root exactly for the leaves in its *cap*, the
directions within 2 arctan e^{−r/2} of its own. Caps that are nested for ancestors and disjoint for
others rank every leaf's ancestors first; on a circle they are nested intervals, as of an Euler
tour. For a node at finite radius R the origin is nearer than a node at r unless
cos θ > tanh(r/2) / tanh R, a slightly smaller cap; its descendants are farther than the origin if
its own direction is in none of their caps. So each interval has a gap in its middle: the children
lie on the left and on the right of it. Then a node's ancestors are its nearest for *every* node of
*every* tree, in two dimensions and more, as long as numbers resolve the intervals.

The layout of a DAG is that of a spanning tree, in which each node keeps the parent that has most
ancestors. The pairs with ancestors on other ways up are missed, because the descendants of such an
ancestor fill several intervals. With four dimensions the circle becomes the trigonometric moment
curve

.. math:: x(t) = (\cos t, \sin t, \cos 2t, \sin 2t) / \sqrt 2,

whose intersection with a cap is where a trigonometric polynomial of degree 2 is positive: up to two
intervals, wherever they lie. The hyperplane through the four ends of two intervals bounds the cap
that holds exactly these. An ancestor of several intervals takes the cap of its two largest where
this ranks better.

Sources: the criterion is that of [NK17] Nickel & Kiela 2017, §4.1. The intervals of [SDGR18] Sala,
De Sa, Gu & Ré 2018 lie around their parent; there no node is the nearest of all its descendants.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.kernels.numba.packing import pack_caps
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.taxonomy.preorder import group_rows
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["LEAF_RADIUS", "closure_layout", "direct_parents", "nested_start", "packed_start"]

_GAP = 0.25
"""Half of the gap in the middle of an interval, in widths of a leaf."""

LEAF_RADIUS = 160.0
"""Radius of nodes without descendants. Two of them whose directions differ by an ulp, 1e-16, are at
a distance of 2·160 − 74, beyond every ancestor; more costs nothing but the range of e^{−r}."""

_MISS = 300.0
"""Cost of a leaf outside its ancestor's cap, relative to a leaf inside the cap of another node. The
first moves an ancestor hundreds of ranks back, the second each of the leaf's ancestors by one."""

_NARROWEST = 1e-14
"""Half-width in radians below which float64 does not resolve an interval's ends near 1."""

_FILL = 0.65
"""Half-angle of the cap of an only child, in that of its parent. F1 of WordNet's nouns in 5-D as
`packed_start` leaves them: .95 at .8, .96 at .65; in 10-D .93 at .77, .96 at .6 and .68."""

_TRIES = 64
"""Places that are tried for a node; four times as many change F1 by less than .01."""

_PLACES = 2**16
"""Random places, of which each node tries the next ones; so the same come again after 1,024."""

_BLOCK = 256
"""Nodes of a block when caps are compared; all leaves are held for each of them."""

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


def closure_layout(source: Taxonomy | Tree | ClosurePairs, dim: int = 2) -> Layout:
    """Place every node so that its ancestors are nearer than all other nodes.

    Parameters
    ----------
    source
        A tree, for which the ranking is perfect while float64 resolves it; or the pairs of a DAG,
        transitively closed, whose ranking is that of a spanning tree.
    dim
        Number of coordinates of a direction, at least 2. The layout of a tree uses two of them,
        that of a DAG four if there are as many.

    Returns
    -------
    layout
        Radius [n], direction [n, dim], float64, and info: ``unresolved``, the number of nodes whose
        interval is narrower than float64 resolves; ``missed``, the number of pairs of a DAG that
        are not in its spanning tree; ``paired``, the number of nodes whose cap holds two intervals.

    Raises
    ------
    ValueError
        If `dim` < 2.
    TaxonomyError
        If the pairs have a cycle.

    Examples
    --------
    >>> from poincare_taxa.geometry import polar
    >>> r, u, info = closure_layout(Taxonomy.from_parents([-1, 0, 1, 1, 0]))
    >>> distance = polar.cdist(r, u, r, u)
    >>> distance[2].argsort()[1:].sort().values[:2]  # of node 2: its ancestors 0 and 1
    tensor([0, 1])
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}: caps lie on a circle")
    on_tree = not isinstance(source, ClosurePairs)
    parent = tree_of(source).parent.astype(np.int64) if on_tree else _spanning_parents(source)
    forest = _Forest.of(parent)
    missed = 0
    if not on_tree:
        source.warn_unless_closed()
        missed = _missed(source, parent)
    paired, intervals = 0, _intervals(forest)
    if not on_tree and missed and dim >= 4:
        # A cap of the moment curve is a single interval up to a third of the turn.
        intervals = intervals.scaled(2 / 3)
        radius, direction = _caps(intervals, 2)
        paired = _pair_intervals(source, parent, intervals, radius, direction)
    else:
        radius, direction = _caps(intervals, 1)
    roots = parent < 0
    if roots.sum() == 1:
        radius[roots] = 0
    unused = np.zeros((len(parent), dim - direction.shape[1]))
    unresolved = int((intervals.half_width < _NARROWEST).sum())
    return Layout(
        radius=torch.from_numpy(radius),
        direction=torch.from_numpy(np.concatenate([direction, unused], axis=1)),
        info={"unresolved": unresolved, "missed": missed, "paired": paired},
    )


def nested_start(pairs: ClosurePairs, dim: int, *, seed: int = 0) -> Layout:
    """Place every node at random near its parents, the farther out the fewer descendants it has.

    A node's cap is of the radian measure (its share of all nodes)^(1 / (dim - 1)), so that siblings
    have about as much room as they need; its direction is the mean of its parents' plus noise of
    0.7 times the smallest of their caps. Caps overlap: a start for training, no layout to keep.

    Parameters
    ----------
    pairs
        Pairs of a DAG, transitively closed.
    dim
        Number of coordinates of a direction, at least 2.
    seed
        Seed of the noise.

    Returns
    -------
    layout
        Radius [n], direction [n, dim], float64; info is empty.

    Raises
    ------
    ValueError
        If `dim` < 2.
    TaxonomyError
        If the pairs have a cycle.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}: there is no room for siblings")
    n, rng = pairs.num_nodes, np.random.default_rng(seed)
    parents: Any = direct_parents(pairs).astype(np.float64)
    pairs.warn_unless_closed()
    below = np.bincount(pairs.pairs[:, 0].cpu().numpy(), minlength=n)
    cap = ((below + 1) / n) ** (1 / (dim - 1))
    noise = rng.standard_normal((n, dim))
    direction = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    for rows in _rows_by_longest_way(parents)[1:]:
        above = parents[rows]
        room = np.minimum.reduceat(cap[above.indices], above.indptr[:-1])
        x = above @ direction
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        x += 0.7 * (room / dim**0.5)[:, None] * noise[rows]
        direction[rows] = x / np.linalg.norm(x, axis=1, keepdims=True)
    radius = np.maximum(-2 * np.log(np.tan(cap / 2)), 0.05)
    return Layout(torch.from_numpy(radius), torch.from_numpy(direction), {})


def packed_start(pairs: ClosurePairs, dim: int, *, seed: int = 0) -> Layout:
    """Place every node in the cap of a parent, where it keeps clear of its siblings.

    The cap of a node has 0.65 times the half-angle of its parent's, times (its share of the
    siblings' nodes)^(1 / (dim - 1)), so that siblings have the room that they need; the parent is
    the one with most ancestors. A node most of whose descendants lie elsewhere goes there. Siblings
    are placed one after the other, the largest first, each at the best of 64 random places. Leaves
    of one parent share a place. The start of training with a limit (`ClosureSoftmax`), which keeps
    the caps and moves nodes towards their other parents.

    Parameters
    ----------
    pairs
        Pairs of a DAG, transitively closed.
    dim
        Number of coordinates of a direction, at least 2.
    seed
        Seed of the places.

    Returns
    -------
    layout
        Radius [n], direction [n, dim], float64; info is empty.

    Raises
    ------
    ValueError
        If `dim` < 2.
    TaxonomyError
        If the pairs have a cycle.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}: there is no room for siblings")
    n, rng = pairs.num_nodes, np.random.default_rng(seed)
    parent = _spanning_parents(pairs)
    pairs.warn_unless_closed()
    forest = _Forest.of(parent)
    above = np.append(np.where(parent < 0, n, parent), n)  # Row n stands for what is above roots.
    # 1. Of the leaves of one parent, the first stands for all.
    leaf = np.bincount(pairs.pairs[:, 0].cpu().numpy(), minlength=n) == 0
    stands = np.arange(n)
    leaves = np.flatnonzero(leaf & (parent >= 0))
    _, of, family = np.unique(parent[leaves], return_index=True, return_inverse=True)
    stands[leaves] = leaves[of][family]
    levels = [rows[stands[rows] == rows] for rows in forest.levels]
    # 2. Bottom up: how many places a node needs. Top down: its cap.
    size, below = np.ones(n + 1), np.zeros(n + 1)
    for rows in reversed(levels):
        size[rows] += below[rows]
        np.add.at(below, above[rows], size[rows])
    cap = np.full(n + 1, np.pi / 2)
    for depth, rows in enumerate(levels):
        share = (size[rows] / below[above[rows]]) ** (1 / (dim - 1))
        cap[rows] = share * (_FILL * cap[above[rows]] if depth > 0 else 1.0)
    # 3. Top down: places, the largest of the siblings first.
    order = np.concatenate([rows[np.lexsort((-size[rows], above[rows]))] for rows in levels])
    starts = np.flatnonzero(np.diff(above[order], prepend=-1))
    first = np.repeat(starts, np.diff(np.append(starts, len(order))))
    direction = rng.standard_normal((n + 1, dim))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    turns, shares = rng.standard_normal((_PLACES, dim)), rng.random(_PLACES) ** (1 / (dim - 1))
    pack_caps(np.float64)(order, first, above, cap, turns, shares, _TRIES, direction)
    # 4. A node most of whose descendants are in another part of the forest goes there.
    several, top = _elsewhere(pairs, parent)
    order = np.lexsort((size[top], several))
    largest = order[np.diff(several[order], append=-1) != 0]
    largest = largest[size[stands[top[largest]]] > size[several[largest]]]
    node, part = several[largest], stands[top[largest]]
    direction[node], cap[node] = direction[part], 1.1 * cap[part]
    radius = np.maximum(-2 * np.log(np.tan(cap[stands] / 2)), 0.05)
    return Layout(torch.from_numpy(radius), torch.from_numpy(direction[stands]), {})


# -------------------------------------------------------------------- ancestors


def direct_parents(source: ClosurePairs) -> Any:
    """Find the ancestors of each node that are not an ancestor of another one, sparse [n, n].

    Raises
    ------
    TaxonomyError
        If the pairs have a cycle.
    """
    source.require_acyclic()
    closure = source.matrix
    direct = (closure - closure.multiply((closure @ closure).astype(bool))).tocsr()
    direct.eliminate_zeros()
    return direct


def _spanning_parents(source: ClosurePairs) -> Rows:
    """Choose the parent of each node that has most ancestors; -1 without parents [n]."""
    child, parent = direct_parents(source).nonzero()
    ancestors = np.bincount(source.pairs[:, 1].cpu().numpy(), minlength=source.num_nodes)
    order = np.lexsort((parent, -ancestors[parent], child))
    first = order[np.diff(child[order], prepend=-1) != 0]
    spanning = np.full(source.num_nodes, -1, np.int64)
    spanning[child[first]] = parent[first]
    return spanning


def _elsewhere(source: ClosurePairs, parent: Rows) -> tuple[Rows, Rows]:
    """Nodes with descendants in other parts of the spanning forest, and the tops of these parts.

    The top of a part is a descendant whose parent in the forest is neither the node itself nor a
    descendant of it; all that is below it in the forest belongs to the part.
    """
    n = len(parent)
    ancestor, descendant = source.pairs.cpu().numpy().T
    up = parent[descendant]
    inside = np.isin(up * n + ancestor, descendant * n + ancestor)
    part = (up != ancestor) & ~inside
    return ancestor[part], descendant[part]


def _missed(source: ClosurePairs, parent: Rows) -> int:
    """Count the pairs whose ancestor is none in the spanning trees."""
    ancestor, at = source.pairs.cpu().numpy().T
    missed = 0
    while len(at):
        at = parent[at]
        missed += int((at < 0).sum())
        going = (at >= 0) & (at != ancestor)
        ancestor, at = ancestor[going], at[going]
    return missed


def _rows_by_longest_way(parents: Any) -> list[Rows]:
    """Group the rows of a DAG by the length of the longest way up."""
    child, parent = parents.nonzero()
    length = np.zeros(parents.shape[0], np.int64)
    while True:
        longer = length.copy()
        np.maximum.at(longer, child, length[parent] + 1)
        if (longer == length).all():
            return group_rows(length)
        length = longer


class _Forest(NamedTuple):
    """A forest of spanning trees by its parents."""

    parent: Rows
    """-1 at roots [n]."""
    depth: Rows
    """Edges from the root [n]."""
    levels: list[Rows]
    """Rows by depth; siblings stand next to each other."""

    @classmethod
    def of(cls, parent: Rows) -> "_Forest":
        depth = np.zeros(len(parent), np.int64)
        above = parent
        while (below_root := above >= 0).any():
            depth += below_root
            above = np.where(below_root, parent[above], -1)
        by_parent = np.argsort(parent, kind="stable")
        return cls(parent, depth, [by_parent[some] for some in group_rows(depth[by_parent])])


# -------------------------------------------------------------------- intervals


class _Intervals(NamedTuple):
    """Intervals of the circle, one for each node, in radians."""

    centre: Floats
    half_width: Floats
    leaf: NDArray[np.bool_]
    """Whether the node has no children in the forest."""

    def scaled(self, factor: float) -> "_Intervals":
        return _Intervals(self.centre * factor, self.half_width * factor, self.leaf)


def _intervals(forest: _Forest) -> _Intervals:
    """Nest the intervals of children on both sides of the gap in their parent's interval."""
    n = len(forest.parent)
    demand = np.ones(n + 1)  # Widths in units of a leaf's; place n stands for what is above roots.
    offset = np.zeros(n)
    above = np.where(forest.parent < 0, n, forest.parent)
    # Bottom up: the width of every interval, and offsets of its children from its centre.
    for child in reversed(forest.levels):
        family = above[child]
        first = np.flatnonzero(np.diff(family, prepend=-1))
        of = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(child))))
        width = demand[child]
        total = np.add.reduceat(width, first)
        end = np.cumsum(width)
        end -= (end[first] - width[first])[of]  # Sums start anew in every family.
        # Children whose middle is in the first half of the family go to the left of the gap.
        left = end - width / 2 < total[of] / 2
        on_left = np.add.reduceat(np.where(left, width, 0), first)
        # The left half ends at the gap and the right half begins there.
        offset[child] = end - width / 2 - on_left[of] + np.where(left, -_GAP, _GAP)
        demand[family[first]] = 2 * (np.maximum(on_left, total - on_left) + 2 * _GAP)
    leaf = np.ones(n + 1, bool)
    leaf[above] = False
    # Top down: centres.
    centre = np.zeros(n + 1)
    for child in forest.levels:
        centre[child] = centre[above[child]] + offset[child]
    # All intervals together take half of the circle, because a cap is less than half of the sphere.
    unit = np.pi / demand[n]
    return _Intervals(centre[:n] * unit, demand[:n] * unit / 2, leaf[:n])


# -------------------------------------------------------------------- caps


def _curve(t: Floats, degree: int) -> Floats:
    """Points of the moment curve [..., 2·degree]."""
    angle = t[..., None] * np.arange(1, degree + 1)
    both = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return both.reshape(*t.shape, 2 * degree) / np.sqrt(degree)


def _caps(intervals: _Intervals, degree: int) -> tuple[Floats, Floats]:
    """Radius and direction of the cap of every node's own interval."""
    order = np.arange(1, degree + 1)
    # The sine of half the angle between the middle and the end of the interval on the curve.
    sine = np.sqrt((np.sin(intervals.half_width[:, None] * order / 2) ** 2).mean(1))
    radius = 2 * np.log(np.sqrt(1 - sine**2) / sine)
    return np.where(intervals.leaf, LEAF_RADIUS, radius), _curve(intervals.centre, degree)


def _pair_intervals(
    source: ClosurePairs, parent: Rows, intervals: _Intervals, radius: Floats, direction: Floats
) -> int:
    """Give caps of two intervals, in place, to nodes that rank better so; returns how many."""
    node, low, high = _largest_two(source, parent, intervals)
    if len(node) == 0:
        return 0
    centre, cosine = _caps_through(low, high)
    sound = (cosine > 1e-3) & (cosine < 1)
    node, centre, cosine = node[sound], centre[sound], cosine[sound]
    one = direction[node], np.tanh(radius[node] / 2)
    better = _prefer_second(source, intervals.leaf, direction, node, one, (centre, cosine))
    radius[node[better]] = 2 * np.arctanh(cosine[better])
    direction[node[better]] = centre[better]
    return int(better.sum())


def _largest_two(
    source: ClosurePairs, parent: Rows, intervals: _Intervals
) -> tuple[Rows, Floats, Floats]:
    """Nodes whose descendants fill several intervals, and the ends [k, 2] of the largest two."""
    several, top = _elsewhere(source, parent)
    # Pieces of a node are its own interval and those of the subtrees elsewhere.
    own = np.unique(several)
    owner, piece = np.concatenate([own, several]), np.concatenate([own, top])
    low = intervals.centre[piece] - intervals.half_width[piece]
    high = intervals.centre[piece] + intervals.half_width[piece]
    order = np.lexsort((low, owner))
    owner, low, high = owner[order], low[order], high[order]
    # Pieces with no leaf of another node between them are merged.
    at = np.sort(intervals.centre[intervals.leaf])
    between = np.searchsorted(at, low[1:]) > np.searchsorted(at, high[:-1])
    first = np.flatnonzero(np.append(True, (np.diff(owner) != 0) | between))
    owner, low, high = owner[first], low[first], np.maximum.reduceat(high, first)
    # The two that hold most leaves, of nodes that have two.
    size = np.searchsorted(at, high) - np.searchsorted(at, low)
    order = np.lexsort((-size, owner))
    owner, low, high = owner[order], low[order], high[order]
    head = np.flatnonzero(np.diff(owner, prepend=-1))
    head = head[np.diff(np.append(head, len(owner))) > 1]
    two = head[:, None] + np.arange(2)
    return owner[head], low[two], high[two]


def _caps_through(low: Floats, high: Floats) -> tuple[Floats, Floats]:
    """Centre [k, 4] and cosine of the opening [k] of the caps through the ends of two intervals.

    A cap's centre is the foot of the perpendicular from the origin to the hyperplane through its
    four ends.
    """
    middle, half = (low + high) / 2, (high - low) / 2
    order = np.arange(1, 3)
    # The hyperplane is spanned by the line between the middles of the two chords and by the chords
    # themselves, as difference quotients, which keep their digits where intervals are narrow.
    chord = np.cos(half[..., None] * order).repeat(2, axis=-1) * _curve(middle, 2)
    turned = _curve(middle, 2).reshape(*middle.shape, 2, 2)[..., ::-1] * [-1, 1]
    slope = np.sinc(half[..., None] * order / np.pi) * order
    tangent = (turned * slope[..., None]).reshape(*middle.shape, 4)
    along, _ = np.linalg.qr(
        np.concatenate([chord[:, 1:] - chord[:, :1], tangent], axis=1).transpose(0, 2, 1)
    )
    foot = chord[:, 0]
    for _ in range(2):  # The second projection removes the rounding of the first.
        foot = foot - (along @ (foot[:, None] @ along).transpose(0, 2, 1))[..., 0]
    cosine = np.linalg.norm(foot, axis=1)
    return foot / np.maximum(cosine, 1e-300)[:, None], cosine


def _prefer_second(
    source: ClosurePairs,
    leaf: NDArray[np.bool_],
    direction: Floats,
    node: Rows,
    *caps: tuple[Floats, Floats],
) -> NDArray[np.bool_]:
    """Whether the second of two caps ranks the leaves better, for each of some nodes [k].

    Parameters
    ----------
    source, leaf, direction
        The DAG, which nodes are leaves [n], and all directions [n, 4].
    node
        Nodes that have two caps to choose from [k].
    caps
        Two pairs: centre [k, 4] and cosine of the opening [k].
    """
    ancestor, descendant = source.pairs.cpu().numpy().T
    # A leaf that is in the cap by mistake has each of its ancestors one rank later.
    weight = np.bincount(descendant, minlength=len(leaf)).astype(float)
    leaves = np.flatnonzero(leaf)
    place = np.cumsum(leaf) - 1
    by_ancestor = np.argsort(ancestor, kind="stable")
    start = np.searchsorted(ancestor[by_ancestor], np.arange(len(leaf) + 1))
    x = direction[leaves].T
    better = np.zeros(len(node), bool)
    for block in np.array_split(np.arange(len(node)), len(node) // _BLOCK + 1):
        # Which leaves are below each node of the block [block, leaves].
        owner = node[block]
        count = start[owner + 1] - start[owner]
        row = np.repeat(np.arange(len(owner)), count)
        skipped = np.repeat(start[owner] - (np.cumsum(count) - count), count)
        below = descendant[by_ancestor[np.arange(len(row)) + skipped]]
        true = np.zeros((len(owner), len(leaves)), bool)
        true[row[leaf[below]], place[below[leaf[below]]]] = True
        costs = []
        for centre, cosine in caps:
            inside = centre[block] @ x > cosine[block, None]
            costs.append((inside & ~true) @ weight[leaves] + _MISS * (true & ~inside).sum(1))
        better[block] = costs[1] < costs[0]
    return better
