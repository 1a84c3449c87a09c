"""Separated codes: positions of the children of one family around their parent.

A code is an array of `k` points of R^m whose smallest mutual distance is 1 (an exact code) or about
1 (an optimised one), sorted by length, so that its first points are the most central. The length of
the last point is the code's *extent*: the smaller, the denser the code. A family's offsets are a
scaled code.

There are two kinds. A *tight* code has the smallest extent, but its points use every coordinate. A
*sparse* code moves each point along as few coordinates as possible, which keeps the floating-point
precision of the others for the levels below (see `poincare_taxa.layouts.tree`). An *even* code is a
sparse one with as few opposite points as possible: all others are equally far from each other.

Sources: [CS99] Conway & Sloane, *Sphere Packings, Lattices and Groups*, 3rd ed., ch. 4 (the
hexagonal lattice A2, the checkerboard lattices D_m).  [HM25] van Spengler & Mettes 2025, §4
(optimised directions for the children of a node).
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

__all__ = ["even_code", "extent", "root_code", "sparse_code", "tight_code", "wide_code"]

Code = NDArray[np.float64]

_OPTIMISED = np.round(16 * 1.5 ** np.arange(9)).astype(int)
"""Sizes for which a code is optimised (16 … 410); others use part of the next larger one."""

_STEPS, _MANY_STEPS = 60, 300
"""Steps of gradient descent; of the codes of `wide_code`."""

_WIDE = 64
"""Largest size of which `wide_code` optimises a code."""

_GRID = 2.0**16
"""Positions are rounded to multiples of 1/_GRID after each step."""


@cache
def tight_code(k: int, m: int) -> Code:
    """Compute the code of least extent among those that are fast to compute.

    Up to m + 1 points it is a simplex, up to 2m a cross-polytope: the largest possible separation,
    with equal distances between all pairs or all but opposite ones, as between siblings in a tree.
    For larger k it is the better of an optimised spherical code and the first points of a lattice;
    beyond 410 points it is the lattice.

    Parameters
    ----------
    k
        Number of points, at least 1.
    m
        Dimension of the space, at least 1.

    Returns
    -------
    points
        Array [k, m], read-only, in ascending order of length.
    """
    if k == 1:
        code = np.zeros((1, m))
    elif m == 1:
        code = _line(k)
    elif k <= m + 1:
        code = _simplex(k, m)
    elif k <= 2 * m:
        code = _cross_polytope(k, m)
    else:
        code = _lattice(k, m)
        if m > 2 and k <= _OPTIMISED[-1]:
            optimised = _optimised(int(_OPTIMISED[np.searchsorted(_OPTIMISED, k)]), m)[:k]
            code = min(code, optimised, key=extent)
    return _frozen(code)


@cache
def sparse_code(k: int, m: int, centred: bool) -> Code:
    """Compute a separated code of `k` points in R^m with as many zero coordinates as possible.

    The points are on the axes as long as these suffice, else they are those of a lattice, at equal
    length those with fewer non-zero coordinates first.

    Parameters
    ----------
    k, m
        As for `tight_code`.
    centred
        Whether the first point is the origin, for a child with its parent's direction.

    Returns
    -------
    points
        Array [k, m], read-only, in ascending order of length.
    """
    if k == 1:
        code = np.zeros((1, m))
    elif m == 1:
        code = _line(k) if not centred else _line(k + 1 - k % 2)[:k]
    elif centred and k - 1 <= _most_on_axes(m):
        code = np.concatenate([np.zeros((1, m)), np.sqrt(2) * _cross_polytope(k - 1, m)])
    elif k <= _most_on_axes(m):
        code = _cross_polytope(k, m)
    elif centred or m == 2:
        code = _lattice(k, m)
    else:
        code = _lattice(k + 1, m)[1:]
    return _frozen(code)


@cache
def even_code(k: int, m: int, centred: bool) -> Code:
    """Compute a code like `sparse_code`, its points on axes of their own as long as these suffice.

    Then all are equally far from each other, as siblings are in a tree, but for the centre; of more
    points as few as possible are opposite. Arguments and result are those of `sparse_code`.
    """
    around = k - centred
    if k == 1 or m == 1 or around > _most_on_axes(m):
        return sparse_code(k, m, centred)
    code = _one_an_axis(around, m)
    return _frozen(np.concatenate([np.zeros((1, m)), np.sqrt(2) * code]) if centred else code)


@cache
def wide_code(k: int, m: int) -> Code:
    """Compute a code like `tight_code`, of small families with more steps and their own size.

    Its extent is a few percent less, for which `tight_code` has no time in large taxonomies. Of the
    points on axes as few as possible are opposite.
    """
    if m + 1 < k <= 2 * m:
        return _frozen(_one_an_axis(k, m))
    if k <= m + 1 or k > _WIDE or m < 3:
        return tight_code(k, m)
    return _frozen(min(_optimised(k, m, _MANY_STEPS), tight_code(k, m), key=extent))


@cache
def root_code(k: int, d: int) -> Code:
    """Compute `k` unit vectors of R^d, d ≥ 2, far from each other: directions from the origin.

    Up to d + 1 vectors are a simplex, up to 2d are on the axes, more are optimised: give no more
    than some hundreds, because the time of this is as their square.
    """
    if k == 1:
        return _frozen(np.eye(1, d))
    if d == 2:
        angle = 2 * np.pi * np.arange(k) / k
        return _frozen(np.stack([np.cos(angle), np.sin(angle)], axis=1))
    if k <= 2 * d:
        code = _simplex(k, d) if k <= d + 1 else _one_an_axis(k, d)
    else:
        code = _optimised(k, d, _MANY_STEPS)
    return _frozen(code / np.linalg.norm(code, axis=1, keepdims=True))


def extent(code: Code) -> float:
    """Length of the longest point."""
    return float(np.sqrt((code**2).sum(1).max()))


def _frozen(code: Code) -> Code:
    """Make a code read-only, since all callers share the cached one."""
    code = np.ascontiguousarray(code)
    code.setflags(write=False)
    return code


def _line(k: int) -> Code:
    """Equidistant points of a line, the middle first."""
    points = np.arange(k) - (k - 1) / 2
    return points[np.argsort(np.abs(points), kind="stable"), None].astype(np.float64)


def _simplex(k: int, m: int) -> Code:
    """Compute the corners of a regular simplex."""
    # Helmert's matrix: axis j separates point j from the j points before it.
    points = np.zeros((k, m))
    for j in range(1, k):
        points[:j, j - 1] = 1 / np.sqrt(2 * j * (j + 1))
        points[j, j - 1] = -j / np.sqrt(2 * j * (j + 1))
    return points


def _cross_polytope(k: int, m: int) -> Code:
    """Two opposite points on each axis, the first `k` of them."""
    points = np.zeros((2 * m, m))
    axis = np.arange(m)
    points[2 * axis, axis] = np.sqrt(0.5)
    points[2 * axis + 1, axis] = -np.sqrt(0.5)
    return points[:k]


def _one_an_axis(k: int, m: int) -> Code:
    """Take the first `k` points of a cross-polytope, opposite ones last."""
    return np.sqrt(0.5) * np.concatenate([np.eye(m), -np.eye(m)])[:k]


def _most_on_axes(m: int) -> int:
    """Largest number of points on axes: in the plane a lattice is denser than four."""
    return 3 if m == 2 else 2 * m


def _lattice(k: int, m: int) -> Code:
    """List the `k` shortest points of the hexagonal lattice (m = 2) or of D_m (m ≥ 3)."""
    points = _hexagonal(k) if m == 2 else _checkerboard(k, m)
    length = np.round((points**2).sum(1), 6)
    return points[np.lexsort(((np.abs(points) > 1e-9).sum(1), length))[:k]]


def _hexagonal(k: int) -> Code:
    """At least `k` shortest points of A2 [CS99, ch. 4]."""
    reach = int(1.3 * np.sqrt(k)) + 4  # A disk of k points has radius about 0.53 √k.
    i, j = (c.ravel() for c in np.mgrid[-reach : reach + 1, -reach : reach + 1])
    return np.stack([i + j / 2, j * np.sqrt(0.75)], axis=1)


def _checkerboard(k: int, m: int) -> Code:
    """At least `k` shortest points of D_m, integer vectors of even sum [CS99, ch. 4]."""
    # Squared lengths of such vectors are even: raise the bound until there are enough of them.
    bound = 0
    points = np.zeros((1, m), np.int8)
    while len(points) < k:
        bound += 2
        points = _integer_vectors(bound, m)
        points = points[points.sum(1, dtype=np.int64) % 2 == 0]
    return points / np.sqrt(2)  # The shortest difference, (1, 1, 0, …), gets the length 1.


def _integer_vectors(bound: int, m: int) -> NDArray[np.int8]:
    """All integer vectors of R^m with squared length ≤ `bound`."""
    reach = int(bound**0.5)
    values = np.arange(-reach, reach + 1, dtype=np.int8)
    points = np.zeros((1, 0), np.int8)
    length = np.zeros(1, np.int64)
    # Append one coordinate at a time, and drop what exceeds the bound.
    for _ in range(m):
        longer = (length[:, None] + values.astype(np.int64) ** 2).ravel()
        keep = longer <= bound
        points = np.column_stack(
            [np.repeat(points, len(values), axis=0)[keep], np.tile(values, len(points))[keep]]
        )
        length = longer[keep]
    return points


@cache
def _optimised(k: int, m: int, steps: int = _STEPS) -> Code:
    """Compute a spherical code by gradient descent on a soft maximum of the cosines [HM25, §4].

    The soft maximum approaches the maximum as the steps proceed. Positions are rounded after every
    step, so that different last bits on another processor do not lead to another code.
    """
    points = np.random.default_rng([k, m]).standard_normal((k, m))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    for step in range(steps):
        progress = step / steps
        # 1. Softmax weights of each point's neighbours; the nearest has the largest.
        cosine = points @ points.T
        np.fill_diagonal(cosine, -1)
        weight = np.exp((5 + 60 * progress) * (cosine - cosine.max(1, keepdims=True)))
        weight /= weight.sum(1, keepdims=True)
        # 2. Direction of descent, tangent to the sphere.
        push = -(weight + weight.T) @ points
        push -= (push * points).sum(1, keepdims=True) * points
        # 3. A step whose longest displacement decreases from 0.3 to 0.005, back on the sphere.
        longest = np.linalg.norm(push, axis=1).max()
        points += (0.3 * (1 - progress) + 0.005) / max(longest, 1e-12) * push
        points /= np.linalg.norm(points, axis=1, keepdims=True)
        points = np.round(points * _GRID) / _GRID
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points / float(pdist(points).min())
