r"""Compiled loops for the CPU. All arithmetic is float64, whatever the points are stored in.

Every distance is that of

.. math:: t = \sinh^2\tfrac{d}{2} = h^2 + w\,|x - y|^2, \qquad
          d = 2\log\bigl(\sqrt t + \sqrt{1 + t}\bigr),                      \qquad (1)

polar (law of haversines): h = sinh((r₁−r₂)/2), w = ¼ sinh r₁ sinh r₂, x and y the directions;
ball (times 1/√c): h = 0, w = c / (g(x) g(y)), g(x) = 1 − c|x|². No term cancels, and up to radius
350 none overflows; beyond, pairs take the logarithmic form at the end.

Gradient: ∂d/∂t = 1/√(t(1+t)), and

.. math:: \partial t/\partial x = 2w(x - y) + 2ct\,x/g(x) \ (\text{ball}), \qquad
          \partial t/\partial r_1 = \tfrac12\sinh(r_1-r_2) + \tfrac14\cosh r_1\sinh r_2 |x-y|^2.

It is 0 where the points coincide.

To *rank* by distance, t is enough: no root and no logarithm. To rank by ancestor score, d + r_v,
(√t + √(1+t)) e^{r_v/2} is. Only additions and products touch a pair, and the compiler may not
reorder them: the same pair gives the same bits wherever it is computed, so ties are found.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from poincare_taxa.kernels._elementary import exp_of

__all__ = [
    "FACTS",
    "TILE",
    "count",
    "pairs",
    "pairs_backward",
    "prepare",
    "scatter",
    "search",
    "target_keys",
]

TILE = 256  # Points transposed at once: 10 coordinates and 4 facts of them fill 28 KiB of cache.
FACTS = 4  # Of a point, after its coordinates: e^{r/2}, e^{−r/2}, its factor of w, e^{r/2} again.
_LARGEST = 350.0  # Radius up to which (1) is finite.

_exp = exp_of(np.float64)

Array = NDArray[Any]
Rows = NDArray[np.int64]

# Python's error model would put a branch on every division, and no loop with one into vectors.
OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
_inline: Any = njit(**OPTIONS, inline="always")
_helper: Any = njit(**OPTIONS)


def _kernel(signature: str) -> Callable[[Callable[..., None]], Callable[[Any], Any]]:
    """Compile for points of a dtype when first asked to, and keep the machine code on disk.

    The signature says which arrays may be strided; "real" stands for the dtype of the points.
    Numba's own choice would compile once more for each layout that turns up.
    """

    def decorate(function: Callable[..., None]) -> Callable[[Any], Any]:
        @cache
        def compiled(dtype: Any) -> Any:
            types = f"void({signature.replace('real', np.dtype(dtype).name)})"
            return njit(types, **OPTIONS)(function)

        return compiled

    return decorate


# -------------------------------------------------------------------- one pair


@_inline
def _sinh(x: float, grown: float, shrunk: float) -> float:
    """Compute sinh x from x, eˣ and e⁻ˣ with a small relative error: a series near 0."""
    y = x * x
    series = 1 + y / 6 * (1 + y / 20 * (1 + y / 42 * (1 + y / 72 * (1 + y / 110))))
    return x * series if y < 0.0625 else 0.5 * (grown - shrunk)


@_inline
def _gap(square: float, c: float, rim: float) -> float:
    """Compute 1 − c|x|², at least half an eps of the stored dtype."""
    n = math.sqrt(c * square)
    return max(1 - n, rim) * (1 + n)


@_inline
def _distance(t: float) -> float:
    root = math.sqrt(t)
    return 2 * math.log1p(root + t / (1 + math.sqrt(1 + t)))


@_inline
def _squares(x: Array, i: int, y: Array, j: int, first: int) -> tuple[float, float, float]:
    """Return |xᵢ−yⱼ|², |xᵢ|², |yⱼ|² of coordinates from `first` on."""
    apart, square_x, square_y = 0.0, 0.0, 0.0
    for k in range(first, x.shape[1]):
        a, b = np.float64(x[i, k]), np.float64(y[j, k])
        apart += (a - b) * (a - b)
        square_x += a * a
        square_y += b * b
    return apart, square_x, square_y


@_inline
def _far_distance(r1: float, r2: float, apart: float) -> float:
    """Distance where radii are past 350: e^{−|r₁−r₂|} and lo + log s carry all that matters.

    `geometry._polar_distance` derives it. Points that part near the origin: d = r₁ + r₂ + 2 log s.
    """
    low, difference = min(r1, r2), abs(r1 - r2)
    s = 0.5 * math.sqrt(apart)
    if s == 0:
        return difference
    reach = low + math.log(s)
    if reach > 300:
        return difference + 2 * reach
    shrunk = math.exp(-difference)
    a = -math.expm1(-difference)
    b = math.exp(reach) * math.sqrt(-math.expm1(-2 * low))
    p = math.sqrt(a * a + b * b)
    steep = b / (p + a) + b / (math.sqrt(p * p + 4 * shrunk) + 1 + shrunk)
    return difference + 2 * math.log1p(b * steep / 2)


@_kernel("real[:, ::1], int64[::1], real[:, ::1], int64[::1], bool, float64, float64, real[::1]")
def pairs(
    x: Array, i: Rows, y: Array, j: Rows, polar: bool, c: float, rim: float, out: Array
) -> None:
    """Distance of rows xᵢ and yⱼ; in polar tables the radius is column 0."""
    unit = 1.0 if polar else 1 / math.sqrt(c)
    for m in range(len(out)):
        p, q = i[m], j[m]
        apart, square_x, square_y = _squares(x, p, y, q, 1 if polar else 0)
        if polar:
            r1, r2 = np.float64(x[p, 0]), np.float64(y[q, 0])
            if max(r1, r2) > _LARGEST:
                out[m] = _far_distance(r1, r2, apart)
                continue
            e1, e2 = math.exp(r1 / 2), math.exp(r2 / 2)
            h = _sinh((r1 - r2) / 2, e1 / e2, e2 / e1)
            sinh1 = _sinh(r1, e1 * e1, 1 / (e1 * e1))
            sinh2 = _sinh(r2, e2 * e2, 1 / (e2 * e2))
            t = h * h + 0.25 * sinh1 * sinh2 * apart
        else:
            t = c * apart / (_gap(square_x, c, rim) * _gap(square_y, c, rim))
        out[m] = unit * _distance(t)


@_kernel(
    "real[:, ::1], int64[::1], real[:, ::1], int64[::1], bool, float64, float64, real[::1], "
    "real[:, ::1], real[:, ::1]"
)
def pairs_backward(
    x: Array,
    i: Rows,
    y: Array,
    j: Rows,
    polar: bool,
    c: float,
    rim: float,
    grad: Array,
    to_x: Array,
    to_y: Array,
) -> None:
    """Gradient of `pairs` times `grad`, a row for each pair."""
    unit = 1.0 if polar else 1 / math.sqrt(c)
    first = 1 if polar else 0
    dim = x.shape[1]
    for m in range(len(grad)):
        p, q = i[m], j[m]
        apart, square_x, square_y = _squares(x, p, y, q, first)
        by_x, by_y = 0.0, 0.0  # what multiplies xᵢ and yⱼ themselves
        if polar:
            r1, r2 = np.float64(x[p, 0]), np.float64(y[q, 0])
            by_r1, by_r2, turn = _polar_partials(r1, r2, apart)
            to_x[m, 0], to_y[m, 0] = grad[m] * by_r1, grad[m] * by_r2
        else:
            gap_x, gap_y = _gap(square_x, c, rim), _gap(square_y, c, rim)
            w = c / (gap_x * gap_y)
            t = w * apart
            # 1/√(t(1+t)): inf at t = 0, where the subgradient 0 is taken
            slope = unit / (math.sqrt(t) * math.sqrt(1 + t)) if t > 0 else 0.0
            turn = 2 * w * slope
            by_x, by_y = 2 * c * t * slope / gap_x, 2 * c * t * slope / gap_y
        turn, by_x, by_y = grad[m] * turn, grad[m] * by_x, grad[m] * by_y
        for k in range(first, dim):
            a, b = np.float64(x[p, k]), np.float64(y[q, k])
            pull = turn * (a - b)
            to_x[m, k] = pull + by_x * a
            to_y[m, k] = by_y * b - pull


@_inline
def _polar_partials(r1: float, r2: float, apart: float) -> tuple[float, float, float]:
    """∂d/∂r₁, ∂d/∂r₂ and the factor of u₁−u₂ in ∂d/∂u₁; 0 where the points coincide."""
    if max(r1, r2) > _LARGEST:
        return _far_partials(r1, r2, apart)
    e1, e2 = math.exp(r1 / 2), math.exp(r2 / 2)
    h = _sinh((r1 - r2) / 2, e1 / e2, e2 / e1)
    g1, g2 = e1 * e1, e2 * e2
    sinh1, sinh2 = _sinh(r1, g1, 1 / g1), _sinh(r2, g2, 1 / g2)
    w = 0.25 * sinh1 * sinh2
    t = h * h + w * apart
    if t == 0:
        return 0.0, 0.0, 0.0
    root, more = math.sqrt(t), math.sqrt(1 + t)
    slope = 1 / (root * more)
    radial = (h / root) * (0.5 * (e1 / e2 + e2 / e1) / more)
    by_r1 = radial + 0.125 * (g1 + 1 / g1) * slope * (sinh2 * apart)
    by_r2 = -radial + 0.125 * (g2 + 1 / g2) * slope * (sinh1 * apart)
    return min(1.0, max(-1.0, by_r1)), min(1.0, max(-1.0, by_r2)), 2 * w * slope


@_inline
def _far_partials(r1: float, r2: float, apart: float) -> tuple[float, float, float]:
    """`_polar_partials` with exponents collected: 2 sinh r₁ sinh r₂ / sinh d = e^{2g} f₁f₂/f."""
    d = _far_distance(r1, r2, apart)
    if d == 0:
        return 0.0, 0.0, 0.0
    f1, f2, f = -math.expm1(-2 * r1), -math.expm1(-2 * r2), -math.expm1(-2 * d)
    gap = r1 - r2
    radial = math.copysign(-math.expm1(-2 * abs(gap)) * math.exp(abs(gap) - d), gap)
    half = math.exp(min((r1 + r2 - d) / 2, 350.0))  # e^g, g the Gromov product
    turn = half * half * 0.25 * apart
    by_r1 = (radial + turn * (2 - f1) * f2) / f
    by_r2 = (-radial + turn * f1 * (2 - f2)) / f
    return (
        min(1.0, max(-1.0, by_r1)),
        min(1.0, max(-1.0, by_r2)),
        half * half * f1 * f2 / (2 * f),
    )


@_kernel("int64[::1], real[:, ::1], int64, int64, real[:, ::1]")
def scatter(rows: Rows, values: Array, start: int, stop: int, out: Array) -> None:
    """Add each row of values to its row of out, for rows from start to stop."""
    for m in range(len(rows)):
        row = rows[m]
        if start <= row < stop:
            for k in range(out.shape[1]):
                out[row, k] += values[m, k]


# -------------------------------------------------------------------- few points against many


@_helper
def _prepare(
    radius: Array,
    coordinates: Array,
    rows: Rows,
    start: int,
    stop: int,
    c: float,
    rim: float,
    out: Array,
) -> None:
    """Write points start to stop of a list of rows to out [dim + facts, TILE], one per column.

    Without a list (it is empty), rows are taken as they come; so are, in the ball, radii. Columns
    past the last point are nan, which no comparison lets through.
    """
    dim = coordinates.shape[1]
    padded = out.shape[0] - FACTS
    polar = len(radius) > 0
    number = min(stop - start, out.shape[1])
    for m in range(number):
        row = rows[start + m] if len(rows) > 0 else start + m
        for k in range(dim):
            out[k, m] = coordinates[row, k]
        if polar:
            out[padded, m] = radius[row]
    out[dim:padded] = 0
    if polar:
        for m in range(number):
            r = out[padded, m]
            grown = _exp(0.5 * r)
            out[padded, m], out[padded + 1, m] = grown, 1 / grown
            out[padded + 2, m] = 0.5 * _sinh(r, grown * grown, 1 / (grown * grown))
            out[padded + 3, m] = grown
    else:
        out[padded] = 0
        for k in range(dim):
            for m in range(number):
                out[padded, m] += out[k, m] * out[k, m]
        for m in range(number):
            n = math.sqrt(c * out[padded, m])
            inside = max(1 - n, rim)
            out[padded, m] = out[padded + 1, m] = 0
            out[padded + 2, m] = math.sqrt(c) / (inside * (1 + n))
            out[padded + 3, m] = math.sqrt((1 + n) / inside)
    out[:, number:] = np.nan


@_kernel("real[:], real[:, :], float64, float64, float64[:, ::1]")
def prepare(radius: Array, coordinates: Array, c: float, rim: float, out: Array) -> None:
    """Write all points to the columns of out [dim + facts, n]."""
    everyone = np.empty(0, np.int64)
    _prepare(radius, coordinates, everyone, 0, len(coordinates), c, rim, out)


@_helper
def _keys(tile: Array, queries: Array, q: int, ancestor: bool, keys: Array) -> None:
    """Fill keys [TILE] with what ranks the points of a tile for query q (a column of queries)."""
    padded = len(tile) - FACTS
    for m in range(TILE):
        keys[m] = 0
    for k in range(0, padded, 2):
        a, b = queries[k, q], queries[k + 1, q]
        for m in range(TILE):
            first, second = tile[k, m] - a, tile[k + 1, m] - b
            keys[m] += first * first + second * second
    grown, shrunk, weight = queries[padded, q], queries[padded + 1, q], queries[padded + 2, q]
    for m in range(TILE):
        h = 0.5 * (grown * tile[padded + 1, m] - shrunk * tile[padded, m])
        keys[m] = keys[m] * (weight * tile[padded + 2, m]) + h * h
    if ancestor:
        for m in range(TILE):
            keys[m] = (math.sqrt(keys[m]) + math.sqrt(1 + keys[m])) * tile[padded + 3, m]


@_kernel(
    "real[:], real[:, :], int64[::1], int64, int64, float64, float64, float64[:, ::1], "
    "int64[::1], bool, float64[:, ::1], int64[:, ::1]"
)
def search(
    radius: Array,
    coordinates: Array,
    rows: Rows,
    start: int,
    stop: int,
    c: float,
    rim: float,
    queries: Array,
    skip: Rows,
    ancestor: bool,
    best: Array,
    found: Array,
) -> None:
    """Keep in best and found [Q, k] the lowest keys among points start to stop, and their rows.

    Equal keys: the earlier row first. `skip` [Q] holds a row that is no candidate, or −1.
    """
    k = best.shape[1]
    tile = np.empty((queries.shape[0], TILE))
    keys = np.empty(TILE)
    for begin in range(start, stop, TILE):
        _prepare(radius, coordinates, rows, begin, min(begin + TILE, stop), c, rim, tile)
        for q in range(len(best)):
            _keys(tile, queries, q, ancestor, keys)
            edge = best[q, k - 1]
            below = 0
            for m in range(TILE):
                below += keys[m] < edge
            if below == 0:
                continue
            for m in range(TILE):
                if keys[m] < best[q, k - 1]:
                    row = rows[begin + m] if len(rows) > 0 else begin + m
                    if row == skip[q]:
                        continue
                    place = k - 1
                    while place > 0 and keys[m] < best[q, place - 1]:
                        best[q, place], found[q, place] = best[q, place - 1], found[q, place - 1]
                        place -= 1
                    best[q, place], found[q, place] = keys[m], row


@_kernel(
    "real[:], real[:, :], int64[:, ::1], float64, float64, float64[:, ::1], int64, int64, bool, "
    "float64[:, ::1]"
)
def target_keys(
    radius: Array,
    coordinates: Array,
    targets: Rows,
    c: float,
    rim: float,
    queries: Array,
    start: int,
    stop: int,
    ancestor: bool,
    out: Array,
) -> None:
    """Fill out [Q, T] with the keys of each query's targets, inf for −1; queries start to stop."""
    tile = np.empty((queries.shape[0], TILE))
    keys = np.empty(TILE)
    for q in range(start, stop):
        for begin in range(0, targets.shape[1], TILE):
            end = min(begin + TILE, targets.shape[1])
            some = np.maximum(targets[q, begin:end], 0)
            _prepare(radius, coordinates, some, 0, end - begin, c, rim, tile)
            _keys(tile, queries, q, ancestor, keys)
            for m in range(end - begin):
                out[q, begin + m] = keys[m] if targets[q, begin + m] >= 0 else np.inf


@_kernel(
    "real[:], real[:, :], int64, int64, float64, float64, float64[:, ::1], int64[::1], bool, "
    "float64[:, ::1], int64[::1], int64[:, ::1], int64[:, ::1]"
)
def count(
    radius: Array,
    coordinates: Array,
    start: int,
    stop: int,
    c: float,
    rim: float,
    queries: Array,
    skip: Rows,
    ancestor: bool,
    levels: Array,
    last: Rows,
    below: Array,
    equal: Array,
) -> None:
    """Count points start to stop by the ascending levels [Q, T] that their keys fall between.

    below[q, j] counts keys between levels j−1 and j, equal[q, j] those at level j; last[q] is the
    number of levels of q.
    """
    tile = np.empty((queries.shape[0], TILE))
    keys = np.empty(TILE)
    everyone = np.empty(0, np.int64)
    for begin in range(start, stop, TILE):
        _prepare(radius, coordinates, everyone, begin, min(begin + TILE, stop), c, rim, tile)
        for q in range(len(levels)):
            if last[q] == 0:
                continue
            _keys(tile, queries, q, ancestor, keys)
            top = levels[q, last[q] - 1]
            within = 0
            for m in range(TILE):
                within += keys[m] <= top
            if within == 0:
                continue
            for m in range(TILE):
                if keys[m] <= top and begin + m != skip[q]:
                    low, high = 0, last[q] - 1
                    while low < high:
                        middle = (low + high) // 2
                        if levels[q, middle] < keys[m]:
                            low = middle + 1
                        else:
                            high = middle
                    if levels[q, low] == keys[m]:
                        equal[q, low] += 1
                    else:
                        below[q, low] += 1
