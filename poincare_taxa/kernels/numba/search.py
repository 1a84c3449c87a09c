"""Few queries against millions of rows: `nearest` and `count_nearer`.

To *rank* by distance, t of (1) in `tiles` is enough: no root and no logarithm. To rank by ancestor
score, d + r_v, (√t + √(1+t)) e^{r_v/2} is. The compiler may not reorder what belongs to a pair: the
same pair gives the same bits wherever it is computed, so ties are found.
"""

import math

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.counts import counts_between
from poincare_taxa.kernels.numba.arrays import Array, Rows, array, rim_of, rows_of, sides_of
from poincare_taxa.kernels.numba.compile import fusing, helper, in_threads, kernel
from poincare_taxa.kernels.numba.tiles import FACTS, fill_tile

__all__ = [
    "LONGEST",
    "SPAN",
    "columns",
    "count_nearer",
    "fill_keys",
    "fill_whole",
    "keys_of",
    "levels_of",
    "nearest",
]

SPAN = 128
"""Points of a tile, which is also a leaf of `index`: the keys of both are the same bits."""
LONGEST = 4096
"""Neighbours up to which an insertion costs less than the search."""


def nearest(
    points: Points, queries: Points, k: int, ancestor: bool, skip: Tensor, rows: Tensor | None
) -> Tensor | None:
    """Rows [Q, k] of the nearest, −1 where there are fewer; None where the keys would overflow."""
    if k > LONGEST or points.too_far or queries.too_far:
        return None
    arrays, some = sides_of(points), rows_of(rows)
    about = points.c, rim_of(points.coordinates), columns(queries), array(skip), ancestor
    loop = search_loop(arrays[1].dtype)
    total = len(points) if rows is None else len(rows)
    found: list[tuple[Array, Array]] = []

    def part(start: int, stop: int) -> None:
        best = np.full((len(queries), k), np.inf)
        at = np.full((len(queries), k), -1)
        loop(*arrays, some, start, stop, *about, best, at)
        found.append((best, at))

    in_threads(part, total, len(queries) * (2 + points.dim / 4))
    if len(found) == 1:
        return torch.from_numpy(found[0][1])
    best, at = (np.concatenate(lists, axis=1) for lists in zip(*found, strict=True))
    order = np.lexsort((at, best), axis=1)[:, :k]  # ties: the earlier row, whatever the threads
    return torch.from_numpy(np.take_along_axis(at, order, axis=1))


def count_nearer(
    points: Points, queries: Points, targets: Tensor, ancestor: bool, skip: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Nearer and tied rows of each target [Q, T]; None where the keys would overflow."""
    if points.too_far or queries.too_far:
        return None
    arrays = sides_of(points)
    about = points.c, rim_of(points.coordinates), columns(queries)
    levels, order, last = levels_of(points, about[2], array(targets), ancestor)
    counted: list[tuple[Array, Array]] = []
    counting, without = count_loop(arrays[1].dtype), array(skip)
    bounds = levels.numpy(), last.numpy()

    def part(start: int, stop: int) -> None:
        below, equal = np.zeros((2, *levels.shape), np.int64)
        counting(*arrays, start, stop, *about, without, ancestor, *bounds, below, equal)
        counted.append((below, equal))

    in_threads(part, len(points), len(queries) * (2 + points.dim / 4))
    below, equal = (torch.from_numpy(sum(parts)) for parts in zip(*counted, strict=True))
    return counts_between(below, equal, levels, order)


def keys_of(points: Points, queries: Array, targets: Array, ancestor: bool) -> Array:
    """Keys of each query's targets [Q, T], inf for −1; queries as `columns` writes them."""
    arrays = sides_of(points)
    keys = np.empty(targets.shape)
    loop = keys_loop(arrays[1].dtype)
    about = points.c, rim_of(points.coordinates), queries

    def part(start: int, stop: int) -> None:
        loop(*arrays, targets, *about, start, stop, ancestor, keys)

    in_threads(part, len(targets), targets.shape[1] * (5 + 2 * points.dim))
    return keys


def levels_of(
    points: Points, queries: Array, targets: Array, ancestor: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Keys of the targets in ascending order [Q, T], that order, and how many are finite [Q]."""
    keys = torch.from_numpy(keys_of(points, queries, targets, ancestor))
    levels, order = keys.nan_to_num_(torch.inf, torch.inf).sort(dim=1)
    return levels, order, (levels < torch.inf).sum(1)


def columns(queries: Points) -> Array:
    """Write queries to the columns of a tile: coordinates, in even number, and facts."""
    radius, coordinates = sides_of(queries)
    rows = queries.dim + queries.dim % 2 + FACTS
    out = np.empty((rows, len(queries)))
    rim = rim_of(queries.coordinates)
    columns_loop(coordinates.dtype)(radius, coordinates, queries.c, rim, out)
    return out


# -------------------------------------------------------------------- loops


@kernel("real[:], real[:, :], float64, float64, float64[:, ::1]")
def columns_loop(radius: Array, coordinates: Array, c: float, rim: float, out: Array) -> None:
    """Write all points to the columns of out [dim + facts, n]."""
    everyone = np.empty(0, np.int64)
    fill_tile(radius, coordinates, everyone, 0, len(coordinates), c, rim, out)


@helper
def fill_whole(
    radius: Array,
    coordinates: Array,
    rows: Rows,
    begin: int,
    stop: int,
    c: float,
    rim: float,
    tile: Array,
) -> None:
    """Fill a tile from `begin`; past the last point with nan, for which comparisons are false.

    The first fact is e^{r/2} in the ball too: those of the query are 0, and h of (1) with them.
    """
    fill_tile(radius, coordinates, rows, begin, min(begin + SPAN, stop), c, rim, tile)
    tile[len(tile) - FACTS] = tile[len(tile) - 1]
    tile[:, stop - begin :] = np.nan


@fusing
def fill_keys(tile: Array, queries: Array, q: int, ancestor: bool, keys: Array) -> None:
    """Fill keys [SPAN] with what ranks the points of a tile for query q (a column of queries).

    Always a whole tile, by vector instructions that do not know of a point's place in it: the same
    point gives the same bits, and ties.
    """
    padded = len(queries) - FACTS
    start = padded % 4
    a, b = queries[0, q], queries[1, q]
    for m in range(SPAN):
        first, second = tile[0, m] - a, tile[1, m] - b
        keys[m] = first * first + second * second if start else 0.0
    for k in range(start, padded, 4):
        a, b, c, d = queries[k, q], queries[k + 1, q], queries[k + 2, q], queries[k + 3, q]
        for m in range(SPAN):
            first, second = tile[k, m] - a, tile[k + 1, m] - b
            third, fourth = tile[k + 2, m] - c, tile[k + 3, m] - d
            keys[m] += first * first + second * second + (third * third + fourth * fourth)
    grown, shrunk, weight = queries[padded, q], queries[padded + 1, q], queries[padded + 2, q]
    for m in range(SPAN):
        h = 0.5 * (grown * tile[padded + 1, m] - shrunk * tile[padded, m])
        keys[m] = keys[m] * (weight * tile[padded + 2, m]) + h * h
    if ancestor:
        for m in range(SPAN):
            keys[m] = (math.sqrt(keys[m]) + math.sqrt(1 + keys[m])) * tile[padded, m]


@kernel(
    "real[:], real[:, :], int64[::1], int64, int64, float64, float64, float64[:, ::1], "
    "int64[::1], bool, float64[:, ::1], int64[:, ::1]"
)
def search_loop(
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
    tile = np.empty((queries.shape[0], SPAN))
    keys = np.empty(SPAN)
    for begin in range(start, stop, SPAN):
        fill_whole(radius, coordinates, rows, begin, stop, c, rim, tile)
        for q in range(len(best)):
            fill_keys(tile, queries, q, ancestor, keys)
            edge = best[q, k - 1]
            below = 0
            for m in range(SPAN):
                below += keys[m] < edge
            if below == 0:
                continue
            for m in range(SPAN):
                if keys[m] < best[q, k - 1]:
                    row = rows[begin + m] if len(rows) > 0 else begin + m
                    if row == skip[q]:
                        continue
                    place = k - 1
                    while place > 0 and keys[m] < best[q, place - 1]:
                        best[q, place], found[q, place] = best[q, place - 1], found[q, place - 1]
                        place -= 1
                    best[q, place], found[q, place] = keys[m], row


@kernel(
    "real[:], real[:, :], int64[:, ::1], float64, float64, float64[:, ::1], int64, int64, bool, "
    "float64[:, ::1]"
)
def keys_loop(
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
    tile = np.empty((queries.shape[0], SPAN))
    keys = np.empty(SPAN)
    for q in range(start, stop):
        for begin in range(0, targets.shape[1], SPAN):
            end = min(begin + SPAN, targets.shape[1])
            some = np.maximum(targets[q, begin:end], 0)
            fill_whole(radius, coordinates, some, 0, end - begin, c, rim, tile)
            fill_keys(tile, queries, q, ancestor, keys)
            for m in range(end - begin):
                out[q, begin + m] = keys[m] if targets[q, begin + m] >= 0 else np.inf


@kernel(
    "real[:], real[:, :], int64, int64, float64, float64, float64[:, ::1], int64[::1], bool, "
    "float64[:, ::1], int64[::1], int64[:, ::1], int64[:, ::1]"
)
def count_loop(
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
    tile = np.empty((queries.shape[0], SPAN))
    keys = np.empty(SPAN)
    everyone = np.empty(0, np.int64)
    for begin in range(start, stop, SPAN):
        fill_whole(radius, coordinates, everyone, begin, stop, c, rim, tile)
        for q in range(len(levels)):
            if last[q] == 0:
                continue
            fill_keys(tile, queries, q, ancestor, keys)
            top = levels[q, last[q] - 1]
            within = 0
            for m in range(SPAN):
                within += keys[m] <= top
            if within == 0:
                continue
            for m in range(SPAN):
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
