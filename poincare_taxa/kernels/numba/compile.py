r"""Compiled loops for the CPU. All arithmetic is float64, whatever the points are stored in.

Every distance is that of

.. math:: t = \sinh^2\tfrac{d}{2} = h^2 + w\,|x - y|^2, \qquad
          d = 2\log\bigl(\sqrt t + \sqrt{1 + t}\bigr),                      \qquad (1)

polar (law of haversines): h = sinh((r₁−r₂)/2), w = ¼ sinh r₁ sinh r₂, x and y the directions;
ball (times 1/√c): h = 0, w = c / (g(x) g(y)), g(x) = 1 − c|x|². No term cancels, and up to radius
350 none overflows.

To *rank* by distance, t is enough: no root and no logarithm. To rank by ancestor score, d + r_v,
(√t + √(1+t)) e^{r_v/2} is. The compiler may not reorder what touches a pair: the same pair gives
the same bits wherever it is computed, so ties are found.
"""

import hashlib
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from poincare_taxa.kernels.numba.elementary import exp

__all__ = [
    "FACTS",
    "TILE",
    "count",
    "prepare",
    "scatter",
    "search",
    "target_keys",
]

TILE = 256  # Points transposed at once: 10 coordinates and 4 facts of them fill 28 KiB of cache.
FACTS = 4  # Of a point, after its coordinates: e^{r/2}, e^{−r/2}, its factor of w, e^{r/2} again.

Array = NDArray[Any]
Rows = NDArray[np.int64]

# Python's error model would put a branch on every division, and no loop with one into vectors.
# Fast mathematics that is not turned off would be inherited from whichever caller compiles first.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "error_model": "numpy",
    "fastmath": False,
}
_SOURCES = b"".join(file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py")))
_STATE = hashlib.sha256(_SOURCES).hexdigest()[:12]


def _named(function: Any) -> Any:
    """Name a function after the state of all these sources, under which its machine code is kept.

    Numba compiles anew when the file of a function changed, but not when that of a helper did.
    """
    function.__qualname__ += f"_{_STATE}"
    return function


def _compiler(**options: Any) -> Any:
    """Return a decorator that compiles a helper with these options besides the usual ones.

    Inlined, not called: a call in code that was just compiled finds the helper's own machine code,
    in code from the disk the copy that was kept with it, and these may round differently.
    """
    chosen: dict[str, Any] = OPTIONS | {"forceinline": True} | options
    return lambda function: njit(**chosen)(_named(function))


_inline = _compiler(inline="always")
_helper = _compiler()
_fusing = _compiler(fastmath={"contract"})  # product and sum in one, rounded once
_summing = _compiler(fastmath={"contract", "nsz", "reassoc"})  # and sums in any order


def _kernel(
    signature: str, **options: Any
) -> Callable[[Callable[..., None]], Callable[[Any], Any]]:
    """Compile for points of a dtype when first asked to, and keep the machine code on disk.

    The signature says which arrays may be strided; "real" stands for the dtype of the points.
    Numba's own choice would compile once more for each layout that turns up.
    """

    def decorate(function: Callable[..., None]) -> Callable[[Any], Any]:
        _named(function)

        @cache
        def compiled(dtype: Any) -> Any:
            types = f"void({signature.replace('real', np.dtype(dtype).name)})"
            chosen: dict[str, Any] = OPTIONS | options
            return njit(types, **chosen)(function)

        return compiled

    return decorate


@_inline
def _sinh(x: float, grown: float, shrunk: float) -> float:
    """Compute sinh x from x, eˣ and e⁻ˣ with a small relative error: a series near 0."""
    y = x * x
    series = 1 + y / 6 * (1 + y / 20 * (1 + y / 42 * (1 + y / 72 * (1 + y / 110))))
    return x * series if y < 0.0625 else 0.5 * (grown - shrunk)


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
            grown = exp(0.5 * r)
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


@_fusing
def _keys(tile: Array, queries: Array, q: int, ancestor: bool, keys: Array) -> None:
    """Fill keys [TILE] with what ranks the points of a tile for query q (a column of queries).

    Always a whole tile, by vector instructions that do not know of a point's place in it: the same
    point gives the same bits, and ties.
    """
    padded = len(tile) - FACTS
    start = padded % 4
    a, b = queries[0, q], queries[1, q]
    for m in range(TILE):
        first, second = tile[0, m] - a, tile[1, m] - b
        keys[m] = first * first + second * second if start else 0.0
    for k in range(start, padded, 4):
        a, b, c, d = queries[k, q], queries[k + 1, q], queries[k + 2, q], queries[k + 3, q]
        for m in range(TILE):
            first, second = tile[k, m] - a, tile[k + 1, m] - b
            third, fourth = tile[k + 2, m] - c, tile[k + 3, m] - d
            keys[m] += first * first + second * second + (third * third + fourth * fourth)
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
