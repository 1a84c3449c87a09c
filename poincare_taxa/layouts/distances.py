r"""A layout whose aim is distances: each pair as far apart as in the tree, times τ.

`layout` makes families compact, for neighbourhoods; here siblings are at the distance that the tree
has. Let two children of a node at radius r have directions that differ by :math:`2se^{-r}`, each
:math:`2te^{-r}` from the parent's. By the law of cosines of `layouts.tree`, with large τ,

.. math:: d(\text{siblings}) = 2τ + 2\log s, \qquad d(\text{parent, child}) = τ + \log(1 + t^2),

and all descendants of siblings inherit the first term, all nodes have the right distance from the
root. So s = 1 makes everything exact but edges, by a code whose extent t is as small as possible: a
simplex of k points has t² = (k-1)/2k. Where a family is so large that t would exceed 0.7, siblings
are nearer than in the tree, as much as edges are longer. Where the tree is deep and τ small,
subtrees overlap, and a larger s in small families compensates for this: of five choices the one
whose distances, measured, are the least distorted is kept.

A tall family, whose levels below need more digits than a simplex would leave them, has its points
on single axes, each on one of its own as long as they suffice: such points are as equally far from
each other as those of a simplex, with t² = 1/2, while the two points of one axis would be too far
by log 2. In the deepest trees the child with the largest subtree keeps its parent's direction (a
*centred* family) and is nearer to its siblings than in the tree: this is done where it allows a τ
so much larger that the errors are less.

The children of the root are on the whole sphere, by a code of R^dim instead of R^(dim-1), and all
nodes but the root are farther from it by :math:`-\log\sin(φ/2)`, φ the least angle between them:
then no two nodes whose paths part at the root are nearer than in the tree.

Sources: [HM25] van Spengler & Mettes 2025 (codes around every node, the parent in one of their
directions: edges are exact, and a path is shorter at each turn). Radii of the tree, so that a path
is longer or shorter at one turn only, and the sizes of codes are this library's.
"""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import KDTree

from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.files.progress import open_display
from poincare_taxa.files.seeds import stream
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.codes import even_code, root_code
from poincare_taxa.layouts.tree import (
    Layout,
    Level,
    Shape,
    check_request,
    families_by_level,
    family_offsets,
    move_directions,
)
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["distance_layout"]

_GROWTHS = (1.0, 0.85, 1.15, 1.3, 1.45)
"""Separations of siblings that are compared."""

_NOTICED = 2.0
"""Logarithm of the expansion × contraction, 7.4, beyond which only the mean distortion decides: so
it is where edges are near zero."""

_WORTH = 0.24
"""Share of the τ of centred families down to which others are tried: their errors at an equal τ are
a quarter or less, as measured."""

_ALL_PAIRS = 2000
"""Nodes up to which all pairs are measured; of a larger tree a sample."""

_SAMPLE = 500, 100, 20_000
"""Nodes of the sample, others of each, and edges and siblings."""


def distance_layout(
    taxonomy: Taxonomy | Tree,
    dim: int = 10,
    *,
    tau: float | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Layout:
    """Compute a point for every node so that distances are those of the tree, times τ.

    Parameters
    ----------
    taxonomy
        A taxonomy or its tree. Where it has branch lengths, tree distance is the sum of them.
    dim
        Number of coordinates of a direction, at least 2.
    tau
        Distance that stands for an edge, or a unit of branch length, > 0. Relative errors are about
        as 1/τ; by default τ is the largest of a few at which all siblings are apart, mostly that of
        radius 320 (float64) or 80 (float32), or a smaller one whose distances are less distorted.
    dtype
        Dtype of the result, ``torch.float64`` or ``torch.float32``.
    seed
        Seed of the orientation of families.

    Returns
    -------
    layout
        Radius [n], direction [n, dim] and info. The radius is τ times the distance from the root,
        plus ``info["shift"]`` but for the root, whose radius is 0.

    Warns
    -----
    UserWarning
        If some taxa share their siblings' direction.

    Raises
    ------
    ValueError
        As `layout`.

    Examples
    --------
    >>> from poincare_taxa.geometry import polar
    >>> points = distance_layout(Taxonomy.from_parents([-1, 0, 0, 1, 1]), dim=4, tau=5.0)
    >>> radius, direction = points.radius[2:4], points.direction[2:4]  # in preorder
    >>> round(float(polar.dist(radius[0], direction[0], radius[1], direction[1])), 3)
    10.0
    """
    tree = tree_of(taxonomy)
    largest = check_request(tree, dim, tau, dtype)
    levels = list(families_by_level(tree, edges=True))
    # 1. The largest τ at which siblings are apart, or the least distorted of two.
    trials = largest * 0.5 ** np.linspace(0, 4, 9) if tau is None else [tau]
    found = _most_apart(tree, levels, dim, trials, dtype, seed)
    pairs = _pairs(tree, seed)
    distortion = {centred: _distortion(points, pairs) for centred, points in found.items()}
    centred = min(distortion, key=lambda key: distortion[key])
    best, least = found[centred], distortion[centred]
    if best.info["unresolved"]:
        warnings.warn(
            f"{best.info['unresolved']} of {len(tree)} taxa share their siblings' direction, which "
            f"{dim} coordinates of {dtype} do not resolve. Use more dimensions or float64.",
            stacklevel=2,
        )
    # 2. Of the separations of siblings, the one with the least distortion.
    for growth in _GROWTHS[1:]:
        shape = Shape(growth, centred, 0)
        points = _points(tree, levels, dim, best.info["tau"], dtype, seed, shape)
        value = _distortion(points, pairs)
        if points.info["unresolved"] <= best.info["unresolved"] and value < least:
            best, least = points, value
    return best


def _most_apart(
    tree: Tree,
    levels: list[Level],
    dim: int,
    trials: Iterable[float],
    dtype: torch.dtype,
    seed: int,
) -> dict[bool, Layout]:
    """Points at the largest τ at which siblings are apart, with centred families or without.

    Where there is no such τ, the points that have the fewest siblings that are not. Centred ones
    allow a larger τ, with larger errors at an equal one, so that the others are tried some more.
    """
    found: dict[bool, Layout] = {}

    def lost(centred: bool) -> int:
        return found[centred].info["unresolved"] if centred in found else len(tree)

    for tau in trials:
        if not lost(True) and tau < _WORTH * found[True].info["tau"]:
            break
        for centred in (False, True):
            if lost(False) and lost(centred):
                points = _points(tree, levels, dim, float(tau), dtype, seed, Shape(1, centred, 0))
                if points.info["unresolved"] < lost(centred):
                    found[centred] = points
        if not lost(False):
            break
    fewest = min(lost(centred) for centred in found)
    return {centred: points for centred, points in found.items() if lost(centred) == fewest}


def _points(
    tree: Tree,
    levels: list[Level],
    dim: int,
    tau: float,
    dtype: torch.dtype,
    seed: int,
    shape: Shape,
) -> Layout:
    """Compute the points of a shape, whose shift is that of the root's family."""
    direction = np.zeros((len(tree), dim), torch.empty(0, dtype=dtype).numpy().dtype)
    direction[0, 0] = 1
    rng = np.random.default_rng(seed)
    show = open_display()
    placed, unresolved = 1, 0
    for level in levels:
        show(f"layout · {tau:.3g} per edge", placed, len(tree))
        placed += len(level.child)
        above = direction[level.parent]
        if level.parent[0] == 0:
            direction[level.child], lost = _around_the_root(level, above, tau, rng)
            assert level.edge is not None
            shape = shape._replace(shift=_shift(direction[level.child], tau * level.edge))
        elif (level.children == 1).all():
            direction[level.child], lost = above, 0
        else:
            offset, lost = family_offsets(level, above, tau, rng, False, shape)
            direction[level.child] = move_directions(above[level.family], offset)
        unresolved += lost
    radius = tau * torch.tensor(tree.height, dtype=torch.from_numpy(direction).dtype)
    radius[1:] += shape.shift
    info = {"tau": tau, "unresolved": unresolved, "growth": shape.growth, "shift": shape.shift}
    lengths = {} if tree.lengths is None else {"lengths": True}
    return Layout(radius, torch.from_numpy(direction), info | lengths)


def _around_the_root(
    level: Level, above: NDArray[np.floating], tau: float, rng: np.random.Generator
) -> tuple[NDArray[np.floating], int]:
    """Directions of the root's children [k, dim] on the whole sphere, and how many are unresolved.

    A code that uses all coordinates leaves the range of one mantissa to the levels below it; where
    they need more, directions are on axes, or near one pole.
    """
    k, dim = len(level.child), above.shape[1]
    shallow = tau * float(level.bottom[0]) < -np.log(np.finfo(above.dtype).eps)
    if k <= 3 or (shallow and k <= 64):
        return root_code(k, dim).astype(above.dtype), 0
    if k <= 2 * dim and dim > 2:
        return (np.sqrt(2) * even_code(k, dim, False)).astype(above.dtype), 0
    offset, lost = family_offsets(level, above, tau, rng, False)
    return move_directions(above[level.family], offset), lost


def _shift(direction: NDArray[np.floating], edge: NDArray[np.float64]) -> float:
    """Compute how much too near the nearest of the root's children are, at most an edge."""
    if len(direction) == 1:
        return 0.0
    nearest = KDTree(direction).query(direction, 2)[0][:, 1].min()
    return float(min(np.log(2 / max(nearest, 1.0)), edge.min()))


class _Pairs(NamedTuple):
    """Pairs of nodes, and their distance in the tree, which is not 0."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    distance: NDArray[np.float64]


def _pairs(tree: Tree, seed: int) -> _Pairs:
    """All pairs of a small tree; of a large one near and far relatives, edges and siblings."""
    n = len(tree)
    if n <= _ALL_PAIRS:
        first, second = np.triu_indices(n, 1)
    else:
        nodes, others, near = _SAMPLE
        rng = stream(seed, "distances")
        asked = rng.permutation(n)[:nodes]
        drawn = samples.uniform_others(n, asked, others, rng)
        balanced, _ = samples.lca_balanced_others(tree, asked, others, rng)
        child = rng.integers(1, n, near)
        next_sibling = tree.end[child]
        has_one = next_sibling < n
        has_one[has_one] = tree.parent[next_sibling[has_one]] == tree.parent[child[has_one]]
        first = [np.repeat(asked, others)] * 2 + [child, child[has_one]]
        second = [drawn.ravel(), balanced.ravel(), tree.parent[child], next_sibling[has_one]]
        first, second = np.concatenate(first), np.concatenate(second)
    distance = tree.distance(first, second).astype(np.float64)
    apart = distance > 0
    return _Pairs(first[apart], second[apart], distance[apart])


def _distortion(points: Layout, pairs: _Pairs) -> float:
    """Logarithm of expansion × contraction, up to `_NOTICED`, plus twice the mean distortion."""
    if not len(pairs.distance):
        return 0.0
    radius, direction = points.radius.double(), points.direction.double()
    i, j = torch.from_numpy(pairs.first), torch.from_numpy(pairs.second)
    d = polar.dist(radius[i], direction[i], radius[j], direction[j]).numpy()
    mean = float(metrics.distortion(d, pairs.distance).each.mean())
    return min(float(np.log(metrics.spread(d, pairs.distance))), _NOTICED) + 2 * mean
