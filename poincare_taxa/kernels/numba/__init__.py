"""The CPU kernels of `_numba` on tensors: shapes, dtypes, and one stretch of work per thread.

Threads are this module's own (as many as ``torch.get_num_threads()``), not numba's: these loops
release the GIL, and numba's default team of threads aborts when two Python threads call it at once.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa import geometry
from poincare_taxa.geometry.polar_distance import largest_exponent
from poincare_taxa.kernels.arguments import LARGEST, Comparison, Points
from poincare_taxa.kernels.numba import adam as _adam_loops
from poincare_taxa.kernels.numba import compile as _numba
from poincare_taxa.kernels.numba import matrix as _matrix_loops
from poincare_taxa.kernels.numba import pairs as _pair_loops
from poincare_taxa.kernels.numba import ranking as _ranking_loops

__all__ = [
    "adam",
    "cdist",
    "cdist_backward",
    "count_nearer",
    "merge",
    "nearest",
    "pairs",
    "pairs_backward",
    "ranking",
    "ranking_backward",
    "scatter",
]

_LONGEST = 4096  # Neighbours up to which an insertion costs less than the search.
_WORTH = 20_000  # Pairs below which starting a thread costs more than it saves.
_PIECES = 16  # Parts of a sum: a fixed number, so that no sum depends on the number of threads.

Array = NDArray[Any]
Rows = NDArray[np.int64]


def pairs(
    x: Tensor, i: Tensor | None, y: Tensor, j: Tensor | None, polar: bool, c: float
) -> Tensor:
    """Distance of row i[m] of x and row j[m] of y; of rows m, where no rows are given."""
    sides = _array(x), _rows(i), _array(y), _rows(j)
    d = np.empty(len(x if i is None else i), sides[0].dtype)
    kernel = _pair_loops.pairs(d.dtype)

    def part(start: int, stop: int) -> None:
        kernel(*sides, polar, c, _rim(x), start, stop, d)

    _in_threads(part, len(d), _WORTH, step=_numba.TILE)
    return torch.from_numpy(d)


def pairs_backward(
    x: Tensor,
    i: Tensor | None,
    y: Tensor,
    j: Tensor | None,
    polar: bool,
    c: float,
    grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of `pairs` with respect to the rows of x and of y: [m, columns] each."""
    sides, g = (_array(x), _rows(i), _array(y), _rows(j)), _array(grad)
    # numpy asks for large pages of memory where torch does not: half the time of filling them
    out_x, out_y = (np.empty((len(g), x.shape[1]), g.dtype) for _ in range(2))
    kernel = _pair_loops.pairs_backward(out_x.dtype)

    def part(start: int, stop: int) -> None:
        kernel(*sides, polar, c, _rim(x), start, stop, g, out_x, out_y)

    _in_threads(part, len(g), _WORTH, step=_numba.TILE)
    return torch.from_numpy(out_x), torch.from_numpy(out_y)


def scatter(rows: Tensor, values: Tensor, out: Tensor) -> None:
    """Add rows of values to rows of out, in order: the same sum with any number of threads."""
    where, what, into = _array(rows), _array(values), out.numpy()
    kernel = _numba.scatter(into.dtype)

    def part(start: int, stop: int) -> None:
        kernel(where, what, start, stop, into)

    _in_threads(part, len(out), len(out) if len(rows) < _WORTH else 1)


def merge(rows: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Add up the values of equal rows, of a table of n: rows once each, ascending, and sums."""
    every, seen = _array(rows), np.zeros(n, bool)
    found, count = np.empty(len(every), np.int64), np.zeros(1)
    _ranking_loops.collect(count.dtype)(every, seen, found, count)
    once = np.sort(found[: int(count[0])])
    place = np.empty(n, np.int64)
    place[once] = np.arange(len(once))
    sums = torch.zeros(len(once), values.shape[1], dtype=values.dtype)
    scatter(torch.from_numpy(place[every]), values, sums)
    return torch.from_numpy(once), sums


def ranking(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Loss of each anchor, and its normaliser; None where t would overflow."""
    points, columns, *rest = _ranking_arguments(table, anchor, positive, negatives, how)
    if len(points[0]) > 0 and any((points[0][at] > LARGEST).any() for at in columns):
        return None
    kernel = _ranking_loops.ranking(points[1].dtype)
    loss, level = torch.empty(len(anchor), dtype=table.dtype), torch.empty(len(anchor)).double()
    into, out = level.numpy(), loss.numpy()

    def part(start: int, stop: int) -> None:
        kernel(*points, *columns, *rest, start, stop, into, out)

    _in_threads(part, len(anchor), _WORTH // max(1, negatives.shape[-1]))
    return loss, (level,)


def ranking_backward(
    table: Tensor,
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    how: Comparison,
    saved: tuple[Tensor, ...],
    grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """Rows, each once and ascending, and their gradients."""
    points, columns, *rest = _ranking_arguments(table, anchor, positive, negatives, how)
    kernel = _ranking_loops.ranking_backward(points[1].dtype)
    (b, k), width = (len(anchor), negatives.shape[-1]), table.shape[1]
    shared = len(columns[2]) == 1
    rows = torch.cat((anchor, positive, negatives.flatten()))
    values = torch.empty(len(rows), width, dtype=table.dtype)
    ends, lists = values.numpy()[: 2 * b].reshape(2, b, width), values.numpy()[2 * b :]
    own = lists.reshape(b, k, width) if not shared else np.empty((0, k, width), lists.dtype)
    level, given = saved[0].numpy(), _array(grad)
    # Either the batch or the list is cut into pieces, and what all of them add to has a copy each.
    over_batch = b >= k or not shared
    pieces = min(_PIECES, max(1, b * k // _WORTH))
    to_ends = np.zeros((1 if over_batch else pieces, 2, b, width))
    to_list = np.zeros((pieces if over_batch else 1, k if shared else 0, width))

    def part(start: int, stop: int) -> None:
        for piece in range(start, stop):
            low, high = (t * (b if over_batch else k) // pieces for t in (piece, piece + 1))
            bounds = (low, high, 0, k) if over_batch else (0, b, low, high)
            to_anchor, to_positive = to_ends[0 if over_batch else piece]
            sums = to_list[piece if over_batch else 0]
            kernel(
                *points, *columns, *rest, level, given, *bounds, to_anchor, to_positive, own, sums
            )

    _in_threads(part, pieces, 1)
    ends[:] = to_ends.sum(0)
    if shared:
        lists[:] = to_list.sum(0)
    return merge(rows, values, len(table))


def _ranking_arguments(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> tuple[Any, ...]:
    """Turn the arguments of `ranking` into those of its loops."""
    lists = negatives if negatives.ndim == 2 else negatives[None]
    columns = tuple(_array(rows) for rows in (anchor, positive, lists))
    valid = np.empty((0, 0), bool) if how.valid is None else _array(how.valid)
    weights, shift = np.empty((0, 0)), 0.0
    if how.log_weights is not None and how.log_weights.numel() > 0:
        given = _array(how.log_weights).astype(np.float64)
        shift = float(given.max()) if given.max() > -np.inf else 0.0
        weights = np.exp(given - shift)
    margin = np.zeros(len(anchor)) if how.margin is None else _array(how.margin).astype(float)
    facts = how.margin is None, margin, float(how.temperature), shift, float(how.c), _rim(table)
    return _arrays(_points(table, how.polar, how.c)), columns, valid, weights, *facts


def cdist(x: Tensor, y: Tensor, polar: bool, c: float) -> Tensor:
    """Distance of every row of x to every row of y [n, m]."""
    sides = [_points(x, polar, c), _points(y, polar, c)]
    if any(side.too_far for side in sides):
        return geometry.polar.cdist(*_apart(x), *_apart(y))
    arrays = [array for side in sides for array in _arrays(side)]
    out = np.empty((len(x), len(y)), arrays[1].dtype)
    kernel = _matrix_loops.cdist(out.dtype)

    def part(start: int, stop: int) -> None:
        kernel(*arrays, c, _rim(x), start, stop, out)

    _in_threads(part, len(x), _WORTH // max(1, len(y)))
    return torch.from_numpy(out)


def cdist_backward(
    x: Tensor, y: Tensor, polar: bool, c: float, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `cdist` with respect to x and to y."""
    sides = [_points(x, polar, c), _points(y, polar, c)]
    if any(side.too_far for side in sides):
        both = x.detach().requires_grad_(), y.detach().requires_grad_()
        with torch.enable_grad():
            far = geometry.polar.cdist(*_apart(both[0]), *_apart(both[1]))
            return torch.autograd.grad(far, both, grad)  # pyright: ignore[reportReturnType]
    arrays = [array for side in sides for array in _arrays(side)]
    kernel, given = _matrix_loops.cdist_backward(arrays[1].dtype), _array(grad)
    # The longer side is cut into pieces, and the shorter one has a copy of its sums for each.
    (n, m), over_x = grad.shape, len(x) >= len(y)
    pieces = min(_PIECES, max(1, n * m // _WORTH))
    to_x = np.zeros((1 if over_x else pieces, n, x.shape[1]))
    to_y = np.zeros((pieces if over_x else 1, m, y.shape[1]))

    def part(start: int, stop: int) -> None:
        for piece in range(start, stop):
            low, high = ((n if over_x else m) * t // pieces for t in (piece, piece + 1))
            bounds = (low, high, 0, m) if over_x else (0, n, low, high)
            sums = (to_x[0], to_y[piece]) if over_x else (to_x[piece], to_y[0])
            kernel(*arrays, c, _rim(x), given, *bounds, *sums)

    _in_threads(part, pieces, 1)
    return tuple(torch.from_numpy(sums.sum(0)).to(x.dtype) for sums in (to_x, to_y))  # pyright: ignore[reportReturnType]


def nearest(
    points: Points, queries: Points, k: int, ancestor: bool, skip: Tensor, rows: Tensor | None
) -> Tensor | None:
    """Rows [Q, k] of the nearest, −1 where there are fewer; None where the keys would overflow."""
    if k > _LONGEST or points.too_far or queries.too_far:
        return None
    arrays, some = _arrays(points), _rows(rows)
    about = points.c, _rim(points.coordinates), _prepared(queries), _array(skip), ancestor
    kernel = _numba.search(arrays[1].dtype)
    total = len(points) if rows is None else len(rows)
    found: list[tuple[Array, Array]] = []

    def part(start: int, stop: int) -> None:
        best = np.full((len(queries), k), np.inf)
        at = np.full((len(queries), k), -1)
        kernel(*arrays, some, start, stop, *about, best, at)
        found.append((best, at))

    _in_threads(part, total, _WORTH // max(1, len(queries)))
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
    arrays, sought = _arrays(points), _array(targets)
    about = points.c, _rim(points.coordinates), _prepared(queries)
    keys = np.empty(sought.shape)
    kernel = _numba.target_keys(arrays[1].dtype)

    def rank(start: int, stop: int) -> None:
        kernel(*arrays, sought, *about, start, stop, ancestor, keys)

    _in_threads(rank, len(queries), max(1, _WORTH // max(1, sought.shape[1])))
    order = np.argsort(keys, axis=1, kind="stable")
    levels = np.take_along_axis(keys, order, axis=1)
    last = (levels < np.inf).sum(axis=1)
    counted: list[tuple[Array, Array]] = []
    counting, without = _numba.count(arrays[1].dtype), _array(skip)

    def part(start: int, stop: int) -> None:
        below, equal = (np.zeros(levels.shape, np.int64) for _ in range(2))
        counting(*arrays, start, stop, *about, without, ancestor, levels, last, below, equal)
        counted.append((below, equal))

    _in_threads(part, len(points), _WORTH // max(1, len(queries)))
    below, equal = (sum(parts) for parts in zip(*counted, strict=True))
    # Rows at a level were counted at the first of the targets that share it.
    upto = np.cumsum(below + equal, axis=1)
    first = _first_of_equals(levels)
    at_level = np.take_along_axis(np.asarray(equal), first, axis=1)
    nearer = np.take_along_axis(upto, first, axis=1) - at_level
    result = []
    for counts in (nearer, at_level - 1):
        placed = np.zeros_like(counts)
        np.put_along_axis(placed, order, np.where(levels < np.inf, counts, 0), axis=1)
        result.append(torch.from_numpy(placed))
    return result[0], result[1]


def adam(
    table: Tensor, rows: Tensor, gradient: Tensor, moments: tuple[Tensor, ...], *settings: float
) -> None:
    """Take a step of `RowwiseRiemannianAdam` on some rows of a contiguous polar table, in place.

    Moments are those that it keeps: touched, mean, square; settings: step of the radius and of the
    direction, both betas, eps.
    """
    arrays = [x.detach().numpy() for x in (table, *moments)]
    kernel = _adam_loops.adam(arrays[0].dtype)
    at, by = _array(rows), _array(gradient)
    limits = largest_exponent(table.dtype), 16 * torch.finfo(table.dtype).eps

    def part(start: int, stop: int) -> None:
        kernel(arrays[0], at, by, *arrays[1:], start, stop, *settings, *limits)

    _in_threads(part, len(rows), _WORTH // 10)
    table.detach()[:0].zero_()  # tells autograd that the table has changed


def _first_of_equals(levels: Array) -> Array:
    """Place of the first entry equal to each entry of ascending rows."""
    place = np.broadcast_to(np.arange(levels.shape[1]), levels.shape)
    fresh = np.ones(levels.shape, bool)
    fresh[:, 1:] = levels[:, 1:] > levels[:, :-1]
    return np.maximum.accumulate(np.where(fresh, place, 0), axis=1)


def _in_threads(part: Callable[[int, int], None], total: int, worth: int, *, step: int = 1) -> None:
    """Call part(start, stop) on stretches that cover the total: one a thread, if that pays.

    They start at multiples of a step, so that tiles of so many are the same with any threads.
    """
    threads = max(1, min(torch.get_num_threads(), total // max(1, worth)))
    bounds = [total * t // threads // step * step for t in range(threads)] + [total]
    if threads == 1:
        part(0, total)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(part, bounds[:-1], bounds[1:]))


def _points(table: Tensor, polar: bool, c: float) -> Points:
    flat = table.detach()
    return Points(*_apart(flat), c) if polar else Points(None, flat, c)


def _apart(table: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and direction of a polar table."""
    return table[:, 0], table[:, 1:]


def _prepared(queries: Points) -> Array:
    """Write queries to the columns of a tile: coordinates, in even number, and facts."""
    radius, coordinates = _arrays(queries)
    rows = queries.dim + queries.dim % 2 + _numba.FACTS
    out = np.empty((rows, len(queries)))
    rim = _rim(queries.coordinates)
    _numba.prepare(coordinates.dtype)(radius, coordinates, queries.c, rim, out)
    return out


def _arrays(points: Points) -> tuple[Array, Array]:
    """Radius (empty in the ball) and coordinates, without a copy."""
    coordinates = points.coordinates.detach().numpy()
    if points.radius is None:
        return np.empty(0, coordinates.dtype), coordinates
    return points.radius.detach().numpy(), coordinates


def _rows(rows: Tensor | None) -> Rows:
    """Return rows, or none for all as they come."""
    return np.empty(0, np.int64) if rows is None else _array(rows)


def _array(x: Tensor) -> Array:
    return x.detach().contiguous().numpy()


def _rim(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps / 2
