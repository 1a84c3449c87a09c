r"""Points whose nearest are their ancestors, by plain distance and without training.

Seen from a leaf at infinite radius in direction x, a node at radius r and angle θ from x stands at
the Busemann distance

.. math:: B(\theta) = \log(\cosh r - \sinh r\cos\theta), \qquad
          B < 0 \iff \cos\theta > \tanh\tfrac r2 \iff \theta < 2\arctan e^{-r/2},

and the origin at 0. So a node is nearer than the root exactly for the leaves in its *cap*, the
directions within 2 arctan e^{−r/2} of its own. Caps that are nested for ancestors and disjoint for
others rank every leaf's ancestors first; on a circle they are nested intervals, as of an Euler
tour. A node at finite radius R sees the origin nearer than a node at r unless
cos θ > tanh(r/2) / tanh R, a slightly smaller cap; its descendants stay behind if its own direction
is in none of their caps. So each interval keeps a gap in its middle: the children lie on the left
and on the right of it. Then a node's ancestors are its nearest for *every* node of *every* tree, in
two dimensions and more, as long as numbers resolve the intervals.

Of a DAG, a spanning tree is laid out: each node keeps the parent that has most ancestors. What is
missed is the pairs with the ancestors on the other ways up: the descendants of such an ancestor
fill several intervals. With four dimensions the circle becomes the trigonometric moment curve

.. math:: x(t) = (\cos t, \sin t, \cos 2t, \sin 2t) / \sqrt 2,

whose intersection with a cap is where a trigonometric polynomial of degree 2 is positive: up to two
intervals, wherever they lie. The cap that cuts out exactly two is the hyperplane through their four
ends. An ancestor of several intervals takes the cap of its two largest where this ranks better.

Sources: the criterion is that of [NK17] Nickel & Kiela 2017, §4.1; intervals as of [SDGR18] Sala,
De Sa, Gu & Ré 2018 would lie around their parent, with no node nearest to all its descendants.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["closure_layout"]

_GAP = 0.25
"""Half of the gap in the middle of an interval, in widths of a leaf."""

LEAF_RADIUS = 160.0
"""Of nodes without descendants. Two whose directions differ by an ulp, 1e-16, are then 2·160 − 74
apart, beyond every ancestor; more costs nothing but the range of e^{−r}."""

_MISS = 300.0
"""What a leaf that is missed costs beside a wrong one: it ranks hundreds of nodes late, and a wrong
one puts one node before each of the leaf's ancestors."""

_NARROWEST = 1e-14
"""Half-width in radians below which float64 coordinates near 1 blur an interval's ends."""


def closure_layout(source: Taxonomy | ClosurePairs, dim: int = 2) -> Layout:
    """Place every node so that its ancestors are nearer than all other nodes.

    Parameters
    ----------
    source
        A tree, for which the ranking is perfect while float64 resolves it; or the pairs of a DAG,
        transitively closed, whose ranking is that of a spanning tree.
    dim
        Number of coordinates of a direction, at least 2. A tree uses two, a DAG four where it can.

    Returns
    -------
    layout
        Radius [n], direction [n, dim], float64, and info: ``unresolved``, the number of nodes whose
        interval is narrower than float64 tells apart; ``missed``, the number of pairs of a DAG that
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
    paired = 0
    if isinstance(source, Taxonomy):
        tree = _Tree.of(source.parent.astype(np.int64))
        missed = 0
        centre, half_width, leaf = _intervals(tree)
        radius, direction = _caps(centre, half_width, leaf, 1)
    else:
        parent = _spanning_parents(source)
        tree = _Tree.of(parent)
        missed = len(source) - int(tree.depth.sum())
        centre, half_width, leaf = _intervals(tree)
        degree = 2 if dim >= 4 and missed else 1
        if degree == 2:  # A cap of the curve is a single interval up to a third of the turn.
            centre, half_width = centre * (2 / 3), half_width * (2 / 3)
        radius, direction = _caps(centre, half_width, leaf, degree)
        if degree == 2:
            paired = _pair_intervals(source, parent, centre, half_width, leaf, radius, direction)
    if (tree.parent < 0).sum() == 1:
        radius[tree.parent < 0] = 0
    unresolved = int((half_width < _NARROWEST).sum())
    unused = np.zeros((len(centre), dim - direction.shape[1]))
    return Layout(
        radius=torch.from_numpy(radius),
        direction=torch.from_numpy(np.concatenate([direction, unused], axis=1)),
        info={"unresolved": unresolved, "missed": missed, "paired": paired},
    )


def _curve(t: NDArray[np.float64], degree: int) -> NDArray[np.float64]:
    """Points of the moment curve [..., 2·degree]."""
    angle = t[..., None] * np.arange(1, degree + 1)
    both = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
    return both.reshape(*t.shape, 2 * degree) / np.sqrt(degree)


def _caps(
    centre: NDArray[np.float64],
    half_width: NDArray[np.float64],
    leaf: NDArray[np.bool_],
    degree: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Radius and direction of the cap of every node's own interval."""
    order = np.arange(1, degree + 1)
    sine = np.sqrt((np.sin(half_width[:, None] * order / 2) ** 2).mean(1))  # of half the angle
    radius = 2 * np.log(np.sqrt(1 - sine**2) / sine)
    return np.where(leaf, LEAF_RADIUS, radius), _curve(centre, degree)


def _pair_intervals(
    source: ClosurePairs,
    parent: NDArray[np.int64],
    centre: NDArray[np.float64],
    half_width: NDArray[np.float64],
    leaf: NDArray[np.bool_],
    radius: NDArray[np.float64],
    direction: NDArray[np.float64],
) -> int:
    """Give caps of two intervals, in place, to nodes that rank better so; returns how many."""
    node, low, high = _largest_two(source, parent, centre, half_width, leaf)
    if len(node) == 0:
        return 0
    middle, half = (low + high) / 2, (high - low) / 2
    order = np.arange(1, 3)
    chord = np.cos(half[..., None] * order).repeat(2, axis=-1) * _curve(middle, 2)
    turned = _curve(middle, 2).reshape(*middle.shape, 2, 2)[..., ::-1] * [-1, 1]
    slope = np.sinc(half[..., None] * order / np.pi) * order
    tangent = (turned * slope[..., None]).reshape(*middle.shape, 4)
    # The cap's centre is the foot of the origin on the hyperplane through the four ends.
    along, _ = np.linalg.qr(
        np.concatenate([chord[:, 1:] - chord[:, :1], tangent], axis=1).transpose(0, 2, 1)
    )
    foot = chord[:, 0]
    for _ in range(2):
        foot = foot - (along @ (foot[:, None] @ along).transpose(0, 2, 1))[..., 0]
    cosine = np.linalg.norm(foot, axis=1)
    sound = (cosine > 1e-3) & (cosine < 1)
    node, foot, cosine = node[sound], foot[sound], cosine[sound]
    foot /= cosine[:, None]

    ancestor, descendant = source.pairs.cpu().numpy().T
    weight = np.bincount(descendant, minlength=len(parent)).astype(float)
    leaves = np.flatnonzero(leaf)
    place = np.cumsum(leaf) - 1
    by_ancestor = np.argsort(ancestor, kind="stable")
    start = np.searchsorted(ancestor[by_ancestor], np.arange(len(parent) + 1))
    better = np.zeros(len(node), bool)
    for some in np.array_split(np.arange(len(node)), len(node) // 256 + 1):
        owner = node[some]
        count = start[owner + 1] - start[owner]
        row = np.repeat(np.arange(len(owner)), count)
        skipped = np.repeat(start[owner] - (np.cumsum(count) - count), count)
        below = descendant[by_ancestor[np.arange(len(row)) + skipped]]
        true = np.zeros((len(owner), len(leaves)), bool)
        true[row[leaf[below]], place[below[leaf[below]]]] = True
        x = direction[leaves].T
        costs = []
        for middle_of, edge in (
            (direction[owner], np.tanh(radius[owner] / 2)),
            (foot[some], cosine[some]),
        ):
            inside = middle_of @ x > edge[:, None]
            costs.append((inside & ~true) @ weight[leaves] + _MISS * (true & ~inside).sum(1))
        better[some] = costs[1] < costs[0]
    radius[node[better]] = 2 * np.arctanh(cosine[better])
    direction[node[better]] = foot[better]
    return int(better.sum())


def _largest_two(
    source: ClosurePairs,
    parent: NDArray[np.int64],
    centre: NDArray[np.float64],
    half_width: NDArray[np.float64],
    leaf: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Nodes whose descendants fill several intervals, and the ends [k, 2] of the largest two."""
    n = len(parent)
    ancestor, descendant = source.pairs.cpu().numpy().T
    # The tops of what lies elsewhere: descendants whose tree parent is none, nor the node itself.
    up = parent[descendant]
    known = np.isin(up * n + ancestor, descendant * n + ancestor)
    elsewhere = (up != ancestor) & ~known
    several, top = ancestor[elsewhere], descendant[elsewhere]
    own = np.unique(several)
    owner, piece = np.concatenate([own, several]), np.concatenate([own, top])
    low, high = centre[piece] - half_width[piece], centre[piece] + half_width[piece]
    order = np.lexsort((low, owner))
    owner, low, high = owner[order], low[order], high[order]
    # Pieces with no leaf of another node between them are one.
    at = np.sort(centre[leaf])
    between = np.searchsorted(at, low[1:]) > np.searchsorted(at, high[:-1])
    first = np.flatnonzero(np.append(True, (np.diff(owner) != 0) | between))
    owner, low, high = owner[first], low[first], np.maximum.reduceat(high, first)
    size = np.searchsorted(at, high) - np.searchsorted(at, low)
    order = np.lexsort((-size, owner))
    owner, low, high = owner[order], low[order], high[order]
    head = np.flatnonzero(np.diff(owner, prepend=-1))
    head = head[np.diff(np.append(head, len(owner))) > 1]
    two = head[:, None] + np.arange(2)
    return owner[head], low[two], high[two]


class _Tree(NamedTuple):
    """A forest: parents, -1 at roots, and its levels, top first, siblings next to each other."""

    parent: NDArray[np.int64]
    depth: NDArray[np.int64]
    levels: list[NDArray[np.int64]]

    @classmethod
    def of(cls, parent: NDArray[np.int64]) -> "_Tree":
        depth = np.zeros(len(parent), np.int64)
        above = parent
        while (open_ := above >= 0).any():
            depth += open_
            above = np.where(open_, parent[above], -1)
        by_level = np.lexsort((np.arange(len(parent)), parent, depth))
        return cls(parent, depth, np.split(by_level, np.cumsum(np.bincount(depth))[:-1]))


def _intervals(
    tree: _Tree,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
    """Centre and half-width in radians of every node's interval, and which nodes are leaves."""
    n = len(tree.parent)
    demand = np.ones(n + 1)  # in widths of a leaf; place n stands for what is above the roots
    offset = np.zeros(n)
    above = np.where(tree.parent < 0, n, tree.parent)
    for child in reversed(tree.levels):
        family = above[child]
        first = np.flatnonzero(np.diff(family, prepend=-1))
        of = np.repeat(np.arange(len(first)), np.diff(np.append(first, len(child))))
        width = demand[child]
        total = np.add.reduceat(width, first)
        end = np.cumsum(width)
        end -= (end[first] - width[first])[of]
        left = end - width / 2 < total[of] / 2
        on_left = np.add.reduceat(np.where(left, width, 0), first)
        # The left half ends at the gap and the right half begins there.
        offset[child] = end - width / 2 - on_left[of] + np.where(left, -_GAP, _GAP)
        demand[family[first]] = 2 * (np.maximum(on_left, total - on_left) + 2 * _GAP)
    leaf = np.ones(n + 1, bool)
    leaf[above] = False
    centre = np.zeros(n + 1)
    for child in tree.levels:
        centre[child] = centre[above[child]] + offset[child]
    # Half of the circle: a cap is smaller than a half of the sphere.
    unit = np.pi / demand[n]
    return centre[:n] * unit, demand[:n] * unit / 2, leaf[:n]


def direct_parents(source: ClosurePairs) -> csr_array:
    """Of each node the ancestors that are not an ancestor of another one [n, n].

    Raises
    ------
    TaxonomyError
        If the pairs have a cycle.
    """
    n = source.num_nodes
    ancestor, descendant = source.pairs.cpu().numpy().T
    closure = csr_array((np.ones(len(ancestor), np.int32), (descendant, ancestor)), shape=(n, n))
    pieces, piece = connected_components(closure, directed=True, connection="strong")
    if pieces < n:
        row = int(np.flatnonzero(np.bincount(piece)[piece] > 1)[0])
        name = row if source.names is None else source.names[row]
        raise TaxonomyError(
            f"node {name} is an ancestor of one of its ancestors: a cycle; one of these pairs is "
            "wrong, or the other way round",
            row=row,
        )
    direct = (closure - closure.multiply((closure @ closure).astype(bool))).tocsr()
    direct.eliminate_zeros()
    return direct


def _spanning_parents(source: ClosurePairs) -> NDArray[np.int64]:
    """Of the parents of each node the one with most ancestors, -1 without."""
    child, parent = direct_parents(source).nonzero()
    ancestors = np.bincount(source.pairs[:, 1].cpu().numpy(), minlength=source.num_nodes)
    order = np.lexsort((parent, -ancestors[parent], child))
    first = order[np.diff(child[order], prepend=-1) != 0]
    spanning = np.full(source.num_nodes, -1, np.int64)
    spanning[child[first]] = parent[first]
    return spanning
