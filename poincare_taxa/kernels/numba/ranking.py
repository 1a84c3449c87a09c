r"""`ranking_loss`: an anchor against a tile of negatives, forward and backward.

With v = √t + √(1+t), t as in `tiles`, a distance is d = 2u log v, u = 1/√c, so that

.. math:: e^{-d/T} = v^{-p}, \qquad p = 2u/T:

at p = 2, the common case, a softmax takes two roots and a division of each pair, no exponential and
no logarithm. (Up to radius 350 none of it overflows or vanishes.) A hinge is active where
v < e^{(d₊+m)/2u}, and takes a logarithm only there.

Backward, with g_k = ∂loss/∂d_k and s_k = g_k u / √(t(1+t)), an anchor x and a negative y get

.. math:: x \mathrel{+}= 2 w s\,(x - y) + \tfrac{2 c s t}{g(x)}\,x, \qquad
          r_x \mathrel{+}= s\bigl(\tfrac12\sinh(r_x - r_y)
          + \tfrac14\cosh r_x \sinh r_y |x-y|^2\bigr)

(the second term of the first in the ball, the second sum in the polar model), and y the same with
the two exchanged. Differences of coordinates are formed directly, never expanded. Sums run along a
tile in the compiler's order, which is fixed in the machine code; who adds up tiles and stretches of
the batch does so in an order that does not know of threads.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import LARGEST, Comparison
from poincare_taxa.kernels.numba.arrays import Array, Rows, array, points_of, rim_of, sides_of
from poincare_taxa.kernels.numba.compile import (
    helper,
    in_threads,
    kernel,
    pieces_of,
    record,
    summing,
)
from poincare_taxa.kernels.numba.pairs import scatter
from poincare_taxa.kernels.numba.tiles import (
    FACTS,
    TILE,
    copy_column,
    fill_tile,
    pull,
    scatter_gradients,
    separations,
)

__all__ = ["ranking_backward", "ranking_forward"]


class _Batch(NamedTuple):
    """Rows that are compared, and how, as the loops take them."""

    anchor: Rows
    """Rows of the table [B]."""
    positive: Rows
    """Rows of the table [B]."""
    negatives: Rows
    """Rows of the table: [1, K] where all anchors share them, else [B, K]."""
    valid: Array
    """Bool [B, K], which negatives count; [0, 0]: all."""
    weights: Array
    """e^{log w − shift} [1 or B, K]; [0, 0]: 1."""
    softmax: bool
    """Whether the loss is the softmax, else the margin loss."""
    margin: Array
    """Of the margin loss [B]."""
    temperature: float
    """Of the softmax."""
    shift: float
    """Largest log w."""
    c: float
    """Curvature parameter of the ball; 1 in the polar model."""
    rim: float
    """Least 1 − √c|x| of a point."""


_BATCH = record(
    _Batch,
    "int64[::1], int64[::1], int64[:, ::1], bool[:, ::1], float64[:, ::1], bool, float64[::1], "
    "float64, float64, float64, float64",
)


def ranking_forward(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> tuple[Tensor, tuple[Tensor, ...]] | None:
    """Loss of each anchor, and its normaliser; None where t would overflow."""
    points = sides_of(points_of(table, how.polar, how.c))
    batch = _batch(table, anchor, positive, negatives, how)
    if len(points[0]) > 0 and any((points[0][at] > LARGEST).any() for at in batch[:3]):
        return None
    loop = ranking_loop(points[1].dtype)
    loss, level = torch.empty(len(anchor), dtype=table.dtype), torch.empty(len(anchor)).double()
    into, out = level.numpy(), loss.numpy()

    def part(start: int, stop: int) -> None:
        loop(*points, batch, start, stop, into, out)

    in_threads(part, len(anchor), negatives.shape[-1] * (5 + table.shape[1] / 3))
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
    points = sides_of(points_of(table, how.polar, how.c))
    batch = _batch(table, anchor, positive, negatives, how)
    loop = ranking_backward_loop(points[1].dtype)
    (b, k), width = (len(anchor), negatives.shape[-1]), table.shape[1]
    shared = negatives.ndim == 1 or b == 1
    rows = torch.cat((anchor, positive, negatives.flatten()))
    values = torch.empty(len(rows), width, dtype=table.dtype)
    ends, lists = values.numpy()[: 2 * b].reshape(2, b, width), values.numpy()[2 * b :]
    own = lists.reshape(b, k, width) if not shared else np.empty((0, k, width), lists.dtype)
    level, given = saved[0].numpy(), array(grad)
    # Either the batch or the list is cut into pieces, and what all of them add to has a copy each.
    over_batch = b >= k or not shared
    pieces = pieces_of(b * k)
    to_ends = np.zeros((1 if over_batch else pieces, 2, b, width))
    to_list = np.zeros((pieces if over_batch else 1, k if shared else 0, width))

    def part(start: int, stop: int) -> None:
        for piece in range(start, stop):
            low, high = (t * (b if over_batch else k) // pieces for t in (piece, piece + 1))
            bounds = (low, high, 0, k) if over_batch else (0, b, low, high)
            sums = *to_ends[0 if over_batch else piece], own, to_list[piece if over_batch else 0]
            loop(*points, batch, level, given, *bounds, *sums)

    in_threads(part, pieces, b * k * (10 + width) / pieces)
    ends[:] = to_ends.sum(0)
    if shared:
        lists[:] = to_list.sum(0)
    return _merge(rows, values, len(table))


def _batch(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> _Batch:
    """Turn the arguments of `ranking_loss` into those of its loops."""
    lists = negatives if negatives.ndim == 2 else negatives[None]
    weights, shift = np.empty((0, 0)), 0.0
    if how.log_weights is not None and how.log_weights.numel() > 0:
        given = array(how.log_weights).astype(np.float64)
        shift = float(given.max()) if given.max() > -np.inf else 0.0
        weights = np.exp(given - shift)
    return _Batch(
        anchor=array(anchor),
        positive=array(positive),
        negatives=array(lists),
        valid=np.empty((0, 0), bool) if how.valid is None else array(how.valid),
        weights=weights,
        softmax=how.margin is None,
        margin=np.zeros(len(anchor)) if how.margin is None else array(how.margin).astype(float),
        temperature=float(how.temperature),
        shift=shift,
        c=float(how.c),
        rim=rim_of(table),
    )


def _merge(rows: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Add up the values of equal rows, of a table of n: rows once each, ascending, and sums."""
    every, seen = array(rows), np.zeros(n, bool)
    found, count = np.empty(len(every), np.int64), np.zeros(1, np.int64)
    collect_loop(np.int64)(every, seen, found, count)
    once = np.sort(found[: int(count[0])])
    place = np.empty(n, np.int64)
    place[once] = np.arange(len(once))
    sums = torch.zeros(len(once), values.shape[1], dtype=values.dtype)
    scatter(torch.from_numpy(place[every]), values, sums)
    return torch.from_numpy(once), sums


# -------------------------------------------------------------------- loops


@helper
def _weigh(valid: Array, weights: Array, b: int, begin: int, n: int, out: Array) -> None:
    """Weights of a stretch of the negatives of anchor b: 0 where they are not valid."""
    if len(weights) == 0:
        for m in range(n):
            out[m] = 1
    else:
        row = min(b, len(weights) - 1)
        for m in range(n):
            out[m] = weights[row, begin + m]
    if len(valid) > 0:
        for m in range(n):
            out[m] = out[m] if valid[b, begin + m] else 0


@summing
def _squared_shares(t: Array, weight: Array, n: int) -> float:
    """Σ w v^{−2}."""
    total = 0.0
    for m in range(n):
        v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
        total += weight[m] / (v * v) if weight[m] > 0 else 0.0
    return total


@helper
def _log_share(t: float, weight: float, p: float) -> float:
    return math.log(weight) - p * math.log(math.sqrt(t) + math.sqrt(1 + t))


@helper
def _half_distance(t: float) -> float:
    root = math.sqrt(t)
    return math.log1p(root + t / (1 + math.sqrt(1 + t)))


@kernel("real[:], real[:, :], batch, int64, int64, float64[::1], real[::1]", batch=_BATCH)
def ranking_loop(
    radius: Array,  # [n]; empty in the ball
    coordinates: Array,  # [n, dim]: of the ball, or of the direction
    batch: _Batch,
    start: int,
    stop: int,
    level: Array,  # out [B]: log Σ w e^{−d/T}, or 1 / (number of valid negatives)
    loss: Array,  # out [B]
) -> None:
    """Loss of anchors start to stop, and what the backward pass needs of each in `level`."""
    c, rim, softmax = batch.c, batch.rim, batch.softmax
    negatives, shared = batch.negatives, len(batch.negatives) == 1
    unit = 1 / math.sqrt(c)
    p = 2 * unit / batch.temperature
    count = stop - start
    rows = coordinates.shape[1] + coordinates.shape[1] % 2 + FACTS
    asked, near = np.empty((rows, count)), np.empty((rows, count))
    fill_tile(radius, coordinates, batch.anchor, start, stop, c, rim, asked)
    fill_tile(radius, coordinates, batch.positive, start, stop, c, rim, near)
    tile, one = np.empty((rows, TILE)), np.empty((rows, 1))
    apart, t, weight = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    reach, highest = np.empty(count), np.full(count, -np.inf)
    for q in range(count):
        copy_column(near, q, one)
        separations(one, asked, q, 1, apart, t)
        reach[q] = _half_distance(t[0])
    total, number = np.zeros(count), np.zeros(count)
    for begin in range(0, negatives.shape[1], TILE):
        end = min(begin + TILE, negatives.shape[1])
        n = end - begin
        if shared:
            fill_tile(radius, coordinates, negatives[0], begin, end, c, rim, tile)
        for q in range(count):
            b = start + q
            if not shared:
                fill_tile(radius, coordinates, negatives[b], begin, end, c, rim, tile)
            separations(tile, asked, q, n, apart, t)
            _weigh(batch.valid, batch.weights, b, begin, n, weight)
            if softmax and p == 2:
                total[q] += _squared_shares(t, weight, n)
            elif softmax:
                for m in range(n):
                    if weight[m] > 0:
                        share = _log_share(t[m], weight[m], p)
                        if share > highest[q]:
                            total[q] *= math.exp(highest[q] - share)
                            highest[q] = share
                        total[q] += math.exp(share - highest[q])
            else:
                least = 2 * unit * reach[q] + batch.margin[b]
                bound = math.exp(least / (2 * unit))
                for m in range(n):
                    number[q] += weight[m]
                    if weight[m] > 0 and not math.sqrt(t[m]) + math.sqrt(1 + t[m]) >= bound:
                        total[q] += least - 2 * unit * _half_distance(t[m])
    for q in range(count):
        b = start + q
        if softmax:
            level[b] = -np.inf
            loss[b] = 0
            if total[q] != 0:  # nan is no loss of 0
                level[b] = math.log(total[q]) + batch.shift + (0.0 if p == 2 else highest[q])
                x = level[b] + p * reach[q]
                loss[b] = max(x, 0) + math.log1p(math.exp(-abs(x)))
        else:
            level[b] = 1 / number[q] if number[q] > 0 else 0
            loss[b] = total[q] * level[b]


@kernel(
    "real[:], real[:, :], batch, float64[::1], real[::1], int64, int64, int64, int64, "
    "float64[:, ::1], float64[:, ::1], real[:, :, ::1], float64[:, ::1]",
    batch=_BATCH,
)
def ranking_backward_loop(
    radius: Array,  # [n]; empty in the ball
    coordinates: Array,  # [n, dim]: of the ball, or of the direction
    batch: _Batch,
    level: Array,  # [B], of `ranking_loop`
    grad: Array,  # gradient of the losses [B]
    start: int,  # anchors start to stop,
    stop: int,
    first: int,  # negatives first to last
    last: int,
    to_anchor: Array,  # [B, columns], added to
    to_positive: Array,  # [B, columns], added to
    to_own: Array,  # [B, K, columns], written to; empty where there is one list
    to_shared: Array,  # [K, columns], added to; empty where each anchor has its own list
) -> None:
    """Gradients of the loss of anchors start to stop, by their negatives first to last.

    The gradient of the positive of a softmax is added with that of negative 0.
    """
    c, rim, softmax = batch.c, batch.rim, batch.softmax
    negatives, shared = batch.negatives, len(batch.negatives) == 1
    unit = 1 / math.sqrt(c)
    p = 2 * unit / batch.temperature
    polar = len(radius) > 0
    count = stop - start
    dim = coordinates.shape[1] + coordinates.shape[1] % 2
    rows = dim + FACTS
    asked, near = np.empty((rows, count)), np.empty((rows, count))
    fill_tile(radius, coordinates, batch.anchor, start, stop, c, rim, asked)
    fill_tile(radius, coordinates, batch.positive, start, stop, c, rim, near)
    tile, one = np.empty((rows, TILE)), np.empty((rows, 1))
    apart, t, weight = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    turn, to_tile = np.empty(TILE), np.zeros((dim + 1, TILE))
    to_asked, to_near = np.zeros((dim + 1, 1)), np.zeros((dim + 1, 1))
    by_near, factor, bound = np.zeros(count), np.empty(count), np.empty(count)
    reach = np.empty(count)
    for q in range(count):
        b = start + q
        copy_column(near, q, one)
        separations(one, asked, q, 1, apart, t)
        reach[q] = _half_distance(t[0])
        if softmax:
            x = level[b] + p * reach[q]
            chance = 0.0 if x <= -700 else grad[b] / batch.temperature / (1 + math.exp(-x))
            by_near[q] = chance
            factor[q] = (
                -chance * math.exp(batch.shift - level[b]) if chance != 0 and p == 2 else -chance
            )
            bound[q] = np.inf
        else:
            factor[q] = -grad[b] * level[b]
            bound[q] = math.exp(reach[q] + batch.margin[b] / (2 * unit))
    for begin in range(first, last, TILE):
        end = min(begin + TILE, last)
        n = end - begin
        if shared:
            fill_tile(radius, coordinates, negatives[0], begin, end, c, rim, tile)
        for q in range(count):
            b = start + q
            if not shared:
                to_own[b, begin:end] = 0
            if factor[q] == 0:
                continue
            if not shared:
                fill_tile(radius, coordinates, negatives[b], begin, end, c, rim, tile)
            separations(tile, asked, q, n, apart, t)
            _weigh(batch.valid, batch.weights, b, begin, n, weight)
            if softmax and p == 2:
                for m in range(n):
                    v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
                    weight[m] *= factor[q] / (v * v)
            elif softmax:
                for m in range(n):
                    if weight[m] > 0:
                        share = _log_share(t[m], weight[m], p) + batch.shift
                        weight[m] = factor[q] * math.exp(share - level[b])
            else:
                for m in range(n):
                    v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
                    weight[m] *= 0.0 if v >= bound[q] else factor[q]
                    by_near[q] -= weight[m]
            pull(tile, asked, q, n, polar, unit, c, apart, t, weight, turn, to_asked[:, 0], to_tile)
            scatter_gradients(asked, q, to_asked, 1, polar, to_anchor[b : b + 1])
            if not shared:
                scatter_gradients(tile, 0, to_tile, n, polar, to_own[b, begin:end])
        if shared:
            scatter_gradients(tile, 0, to_tile, n, polar, to_shared[begin:end])
    for q in range(count):
        b = start + q
        if by_near[q] == 0 or (softmax and first > 0):
            continue
        copy_column(near, q, one)
        separations(one, asked, q, 1, apart, t)
        weight[0] = by_near[q]
        pull(one, asked, q, 1, polar, unit, c, apart, t, weight, turn, to_asked[:, 0], to_near)
        scatter_gradients(asked, q, to_asked, 1, polar, to_anchor[b : b + 1])
        scatter_gradients(near, q, to_near, 1, polar, to_positive[b : b + 1])


@kernel("int64[::1], bool[::1], int64[::1], real[::1]")
def collect_loop(rows: Rows, seen: Array, found: Rows, count: Array) -> None:
    """Write every row once to found, in the order of their first appearance, and how many."""
    number = 0
    for row in rows:
        if not seen[row]:
            seen[row] = True
            found[number] = row
            number += 1
    count[0] = number
