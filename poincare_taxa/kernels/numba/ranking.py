r"""Compiled loops of `ranking_loss`: an anchor against a tile of negatives, forward and backward.

With v = √t + √(1+t), t as in `_numba`, a distance is d = 2u log v, u = 1/√c, so that

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

import numpy as np

from poincare_taxa.kernels.numba.compile import (
    FACTS,
    TILE,
    Array,
    Rows,
    _helper,
    _kernel,
    _prepare,
    _summing,
)

__all__ = ["collect", "ranking", "ranking_backward"]


@_helper
def _meet(tile: Array, asked: Array, q: int, n: int, apart: Array, t: Array) -> None:
    """|x−y|² and t of column q of asked and the first n columns of a tile; 0 where they agree."""
    dim = len(tile) - FACTS
    for m in range(n):
        apart[m] = 0
    for k in range(0, dim, 2):
        a, b = asked[k, q], asked[k + 1, q]
        for m in range(n):
            first, second = a - tile[k, m], b - tile[k + 1, m]
            apart[m] += first * first + second * second
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    for m in range(n):
        h = 0.5 * (grown * tile[dim + 1, m] - shrunk * tile[dim, m])
        t[m] = apart[m] * (weight * tile[dim + 2, m]) + h * h


@_helper
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


@_summing
def _squared_shares(t: Array, weight: Array, n: int) -> float:
    """Σ w v^{−2}."""
    total = 0.0
    for m in range(n):
        v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
        total += weight[m] / (v * v) if weight[m] > 0 else 0.0
    return total


@_helper
def _log_share(t: float, weight: float, p: float) -> float:
    return math.log(weight) - p * math.log(math.sqrt(t) + math.sqrt(1 + t))


@_helper
def _half_distance(t: float) -> float:
    root = math.sqrt(t)
    return math.log1p(root + t / (1 + math.sqrt(1 + t)))


@_helper
def _column(points: Array, q: int, one: Array) -> None:
    for k in range(len(points)):
        one[k, 0] = points[k, q]


@_kernel(
    "real[:], real[:, :], int64[::1], int64[::1], int64[:, ::1], bool[:, ::1], float64[:, ::1], "
    "bool, float64[::1], float64, float64, float64, float64, int64, int64, float64[::1], real[::1]"
)
def ranking(
    radius: Array,
    coordinates: Array,
    anchor: Rows,
    positive: Rows,
    negatives: Rows,
    valid: Array,
    weights: Array,
    softmax: bool,
    margin: Array,
    temperature: float,
    shift: float,
    c: float,
    rim: float,
    start: int,
    stop: int,
    level: Array,
    loss: Array,
) -> None:
    """Loss of anchors start to stop, and what the backward pass wants of each in `level`.

    That is log Σ w e^{−d/T} of the softmax, 1 / (number of valid negatives) of the margin.
    Negatives are [1, K] where all anchors share them. Weights are e^{log w − shift}.
    """
    unit = 1 / math.sqrt(c)
    p = 2 * unit / temperature
    count = stop - start
    rows = coordinates.shape[1] + coordinates.shape[1] % 2 + FACTS
    asked, near = np.empty((rows, count)), np.empty((rows, count))
    _prepare(radius, coordinates, anchor, start, stop, c, rim, asked)
    _prepare(radius, coordinates, positive, start, stop, c, rim, near)
    tile, one = np.empty((rows, TILE)), np.empty((rows, 1))
    apart, t, weight = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    reach, highest = np.empty(count), np.full(count, -np.inf)
    for q in range(count):
        _column(near, q, one)
        _meet(one, asked, q, 1, apart, t)
        reach[q] = _half_distance(t[0])
    total, number = np.zeros(count), np.zeros(count)
    shared = len(negatives) == 1
    for begin in range(0, negatives.shape[1], TILE):
        end = min(begin + TILE, negatives.shape[1])
        n = end - begin
        if shared:
            _prepare(radius, coordinates, negatives[0], begin, end, c, rim, tile)
        for q in range(count):
            b = start + q
            if not shared:
                _prepare(radius, coordinates, negatives[b], begin, end, c, rim, tile)
            _meet(tile, asked, q, n, apart, t)
            _weigh(valid, weights, b, begin, n, weight)
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
                least = 2 * unit * reach[q] + margin[b]
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
                level[b] = math.log(total[q]) + shift + (0.0 if p == 2 else highest[q])
                x = level[b] + p * reach[q]
                loss[b] = max(x, 0) + math.log1p(math.exp(-abs(x)))
        else:
            level[b] = 1 / number[q] if number[q] > 0 else 0
            loss[b] = total[q] * level[b]


@_summing
def _pull(
    tile: Array,
    asked: Array,
    q: int,
    n: int,
    polar: bool,
    unit: float,
    c: float,
    apart: Array,
    t: Array,
    by_d: Array,
    turn: Array,
    to_asked: Array,
    to_tile: Array,
) -> None:
    """Add gradients of distances times by_d: [dim + 1] of column q, [dim + 1, TILE] of the tile.

    The last is that of the radius; in the ball, what multiplies the point itself.
    """
    dim = len(tile) - FACTS
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    own = 0.0
    if polar:
        bend = 0.25 * (grown * grown + shrunk * shrunk)
        for m in range(n):
            root, more = math.sqrt(t[m]), math.sqrt(1 + t[m])
            s = 0.0 if t[m] == 0 else by_d[m] / (root * more)
            turn[m] = 2 * s * (weight * tile[dim + 2, m])
            there, back = grown * tile[dim + 1, m], shrunk * tile[dim, m]
            radial = 0.25 * (there - back) * (there + back)
            other = 0.25 * (tile[dim, m] * tile[dim, m] + tile[dim + 1, m] * tile[dim + 1, m])
            own += s * (radial + bend * tile[dim + 2, m] * apart[m])
            to_tile[dim, m] += s * (other * weight * apart[m] - radial)
    else:
        scale = 2 * math.sqrt(c)
        for m in range(n):
            root, more = math.sqrt(t[m]), math.sqrt(1 + t[m])
            s = 0.0 if t[m] == 0 else unit * by_d[m] / (root * more)
            turn[m] = 2 * s * (weight * tile[dim + 2, m])
            own += scale * weight * (s * t[m])
            to_tile[dim, m] += scale * tile[dim + 2, m] * (s * t[m])
    to_asked[dim] += own
    for k in range(dim):
        a = asked[k, q]
        total = 0.0
        for m in range(n):
            pull = turn[m] * (a - tile[k, m])
            total += pull
            to_tile[k, m] -= pull
        to_asked[k] += total


@_helper
def _hand_out(points: Array, q: int, found: Array, n: int, polar: bool, out: Array) -> None:
    """Add gradients found of points q … q + n, in columns, to the first n rows of out; clear them.

    Rows are those of the table: in the polar model the radius comes first.
    """
    dim = len(points) - FACTS
    first = 1 if polar else 0
    for m in range(n):
        if polar:
            out[m, 0] += found[dim, m]
        for k in range(first, out.shape[1]):
            own = 0.0 if polar else found[dim, m] * points[k, q + m]
            out[m, k] += found[k - first, m] + own
    found[:, :n] = 0


@_kernel(
    "real[:], real[:, :], int64[::1], int64[::1], int64[:, ::1], bool[:, ::1], float64[:, ::1], "
    "bool, float64[::1], float64, float64, float64, float64, float64[::1], real[::1], int64, "
    "int64, int64, int64, float64[:, ::1], float64[:, ::1], real[:, :, ::1], float64[:, ::1]"
)
def ranking_backward(
    radius: Array,
    coordinates: Array,
    anchor: Rows,
    positive: Rows,
    negatives: Rows,
    valid: Array,
    weights: Array,
    softmax: bool,
    margin: Array,
    temperature: float,
    shift: float,
    c: float,
    rim: float,
    level: Array,
    grad: Array,
    start: int,
    stop: int,
    first: int,
    last: int,
    to_anchor: Array,
    to_positive: Array,
    to_own: Array,
    to_shared: Array,
) -> None:
    """Gradients of the loss of anchors start to stop, by their negatives first to last.

    Added to rows of to_anchor and to_positive; written to to_own [B, K, columns], or added to
    to_shared [K, columns] where there is one list. The positive of a softmax goes with negative 0.
    """
    unit = 1 / math.sqrt(c)
    p = 2 * unit / temperature
    polar = len(radius) > 0
    count = stop - start
    dim = coordinates.shape[1] + coordinates.shape[1] % 2
    rows = dim + FACTS
    asked, near = np.empty((rows, count)), np.empty((rows, count))
    _prepare(radius, coordinates, anchor, start, stop, c, rim, asked)
    _prepare(radius, coordinates, positive, start, stop, c, rim, near)
    tile, one = np.empty((rows, TILE)), np.empty((rows, 1))
    apart, t, weight = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    turn, to_tile = np.empty(TILE), np.zeros((dim + 1, TILE))
    to_asked, to_near = np.zeros((dim + 1, 1)), np.zeros((dim + 1, 1))
    by_near, factor, bound = np.zeros(count), np.empty(count), np.empty(count)
    reach = np.empty(count)
    for q in range(count):
        b = start + q
        _column(near, q, one)
        _meet(one, asked, q, 1, apart, t)
        reach[q] = _half_distance(t[0])
        if softmax:
            x = level[b] + p * reach[q]
            chance = 0.0 if x <= -700 else grad[b] / temperature / (1 + math.exp(-x))
            by_near[q] = chance
            factor[q] = -chance * math.exp(shift - level[b]) if chance != 0 and p == 2 else -chance
            bound[q] = np.inf
        else:
            factor[q] = -grad[b] * level[b]
            bound[q] = math.exp(reach[q] + margin[b] / (2 * unit))
    shared = len(negatives) == 1
    for begin in range(first, last, TILE):
        end = min(begin + TILE, last)
        n = end - begin
        if shared:
            _prepare(radius, coordinates, negatives[0], begin, end, c, rim, tile)
        for q in range(count):
            b = start + q
            if not shared:
                to_own[b, begin:end] = 0
            if factor[q] == 0:
                continue
            if not shared:
                _prepare(radius, coordinates, negatives[b], begin, end, c, rim, tile)
            _meet(tile, asked, q, n, apart, t)
            _weigh(valid, weights, b, begin, n, weight)
            if softmax and p == 2:
                for m in range(n):
                    v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
                    weight[m] *= factor[q] / (v * v)
            elif softmax:
                for m in range(n):
                    if weight[m] > 0:
                        share = _log_share(t[m], weight[m], p) + shift
                        weight[m] = factor[q] * math.exp(share - level[b])
            else:
                for m in range(n):
                    v = math.sqrt(t[m]) + math.sqrt(1 + t[m])
                    weight[m] *= 0.0 if v >= bound[q] else factor[q]
                    by_near[q] -= weight[m]
            _pull(
                tile, asked, q, n, polar, unit, c, apart, t, weight, turn, to_asked[:, 0], to_tile
            )
            _hand_out(asked, q, to_asked, 1, polar, to_anchor[b : b + 1])
            if not shared:
                _hand_out(tile, 0, to_tile, n, polar, to_own[b, begin:end])
        if shared:
            _hand_out(tile, 0, to_tile, n, polar, to_shared[begin:end])
    for q in range(count):
        b = start + q
        if by_near[q] == 0 or (softmax and first > 0):
            continue
        _column(near, q, one)
        _meet(one, asked, q, 1, apart, t)
        weight[0] = by_near[q]
        _pull(one, asked, q, 1, polar, unit, c, apart, t, weight, turn, to_asked[:, 0], to_near)
        _hand_out(asked, q, to_asked, 1, polar, to_anchor[b : b + 1])
        _hand_out(near, q, to_near, 1, polar, to_positive[b : b + 1])


@_kernel("int64[::1], bool[::1], int64[::1], real[::1]")
def collect(rows: Rows, seen: Array, found: Rows, count: Array) -> None:
    """Write every row once to found, in the order of their first appearance, and how many."""
    number = 0
    for row in rows:
        if not seen[row]:
            seen[row] = True
            found[number] = row
            number += 1
    count[0] = number
