r"""Paired distances: (1) of `tiles`, and its gradient.

A tile of pairs at a time: sums over coordinates, pair by pair; then roots and logarithms of the
tile, in vectors; then, backward, gradients pair by pair.

Gradient: ∂d/∂t = 1/√(t(1+t)), and

.. math:: \partial t/\partial x = 2w(x - y) + 2ct\,x/g(x) \ (\text{ball}), \qquad
          \partial t/\partial r_1 = \tfrac12\sinh(r_1-r_2) + \tfrac14\cosh r_1\sinh r_2 |x-y|^2.

It is 0 where the points coincide. What cancels or overflows is float64 whatever the points are
stored in: sums, 1 − c|x|², and all that is exponential in a radius. The rest has their dtype.
Beyond radius 350, where t overflows, pairs take the logarithmic form at the end.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import LARGEST, Pairs
from poincare_taxa.kernels.numba.arrays import Array, Rows, array, rim_of, rows_of
from poincare_taxa.kernels.numba.compile import (
    helper,
    in_threads,
    inline,
    kernel,
    record,
    summing,
)
from poincare_taxa.kernels.numba.elementary import exp, log1p
from poincare_taxa.kernels.numba.tiles import TILE, sinh

__all__ = ["pairs_backward", "pairs_forward", "scatter"]


class _Arrays(NamedTuple):
    """`Pairs` as the loops take them."""

    x: Array
    """In polar tables the radius is column 0."""
    i: Rows
    """Empty where rows are taken as they come."""
    y: Array
    j: Rows
    polar: bool
    c: float
    rim: float
    """Least 1 − √c|x| that a point is taken to have."""


_PAIRS = record(
    _Arrays, "real[:, ::1], int64[::1], real[:, ::1], int64[::1], bool, float64, float64"
)


def pairs_forward(pairs: Pairs) -> Tensor:
    """Distance of each pair [m]."""
    arrays = _arrays_of(pairs)
    d = np.empty(pairs.number, arrays.x.dtype)
    loop = pairs_loop(d.dtype)

    def part(start: int, stop: int) -> None:
        loop(arrays, start, stop, d)

    in_threads(part, len(d), 10 + pairs.x.shape[1], step=TILE)
    return torch.from_numpy(d)


def pairs_backward(pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by the points of both sides times grad: [m, columns] each."""
    arrays, g = _arrays_of(pairs), array(grad)
    # numpy asks for large pages of memory where torch does not: half the time of filling them
    out_x, out_y = (np.empty((len(g), pairs.x.shape[1]), g.dtype) for _ in range(2))
    loop = pairs_backward_loop(out_x.dtype)

    def part(start: int, stop: int) -> None:
        loop(arrays, start, stop, g, out_x, out_y)

    in_threads(part, len(g), 20 + 2 * pairs.x.shape[1], step=TILE)
    return torch.from_numpy(out_x), torch.from_numpy(out_y)


def _arrays_of(pairs: Pairs) -> _Arrays:
    x, i, y, j, polar, c = pairs
    return _Arrays(array(x), rows_of(i), array(y), rows_of(j), polar, c, rim_of(x))


def scatter(rows: Tensor, values: Tensor, out: Tensor) -> None:
    """Add rows of values to rows of out, in order: the same sum with any number of threads."""
    where, what, into = array(rows), array(values), out.numpy()
    loop = scatter_loop(into.dtype)

    def part(start: int, stop: int) -> None:
        loop(where, what, start, stop, into)

    in_threads(part, len(out), len(rows) * (2 + out.shape[1] / 2) / max(1, len(out)))


# -------------------------------------------------------------------- loops


@inline
def _gap(square: float, c: float, rim: float) -> float:
    """Compute 1 − c|x|²; √c|x| counts as at most 1 − rim, half an eps of the stored dtype."""
    s = c * square
    return max(1 - s, rim * (1 + s))


@inline
def _row(rows: Rows, m: int) -> int:
    """Row m of a list; without one (it is empty), rows are taken as they come."""
    return rows[m] if len(rows) > 0 else m


@summing
def _sums(pairs: _Arrays, begin: int, n: int, apart: Array, of_x: Array, of_y: Array) -> None:
    """|x−y|² of n pairs, and their radii or, in the ball, |x|² and |y|²."""
    x, i, y, j, polar, _, _ = pairs
    for m in range(n):
        p, q = _row(i, begin + m), _row(j, begin + m)
        between, square_x, square_y = 0.0, 0.0, 0.0
        if polar:
            for k in range(1, x.shape[1]):
                step = np.float64(x[p, k]) - np.float64(y[q, k])
                between += step * step
            square_x, square_y = np.float64(x[p, 0]), np.float64(y[q, 0])
        else:
            for k in range(x.shape[1]):
                a, b = np.float64(x[p, k]), np.float64(y[q, k])
                between += (a - b) * (a - b)
                square_x += a * a
                square_y += b * b
        apart[m], of_x[m], of_y[m] = between, square_x, square_y


@kernel("pairs, int64, int64, real[::1]", fastmath={"contract"}, pairs=_PAIRS)
def pairs_loop(pairs: _Arrays, start: int, stop: int, out: Array) -> None:
    """Distance of pairs start to stop."""
    polar, c, rim = pairs.polar, pairs.c, pairs.rim
    real = out.dtype.type
    one, unit = real(1), real(2 / math.sqrt(c))
    apart, of_x, of_y = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    for begin in range(start, stop, TILE):
        n = min(TILE, stop - begin)
        _sums(pairs, begin, n, apart, of_x, of_y)
        if polar:
            for m in range(n):
                r1, r2 = of_x[m], of_y[m]
                e1, e2 = exp(0.5 * r1), exp(0.5 * r2)
                h = sinh(0.5 * (r1 - r2), e1 / e2, e2 / e1)
                sinh1 = sinh(r1, e1 * e1, 1 / (e1 * e1))
                sinh2 = sinh(r2, e2 * e2, 1 / (e2 * e2))
                t = h * h + 0.25 * sinh1 * sinh2 * apart[m]
                out[begin + m] = 2 * log1p(math.sqrt(t) + t / (1 + math.sqrt(1 + t)))
            for m in range(n):
                if max(of_x[m], of_y[m]) > LARGEST:
                    out[begin + m] = far_distance(of_x[m], of_y[m], apart[m])
        else:
            for m in range(n):
                gaps = _gap(of_x[m], c, rim) * _gap(of_y[m], c, rim)
                root = real(math.sqrt(c * apart[m] / gaps))
                t = root * root
                out[begin + m] = unit * log1p(root + t / (one + math.sqrt(one + t)))


@kernel(
    "pairs, int64, int64, real[::1], real[:, ::1], real[:, ::1]",
    fastmath={"contract"},
    pairs=_PAIRS,
)
def pairs_backward_loop(
    pairs: _Arrays, start: int, stop: int, grad: Array, to_x: Array, to_y: Array
) -> None:
    """Gradient of the distances times grad, a row for each pair."""
    x, i, y, j, polar, c, rim = pairs
    real = grad.dtype.type
    one, zero, unit = real(1), real(0), real(1 / math.sqrt(c))
    apart, of_x, of_y, turn = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    pull, own_x, own_y = np.empty((3, TILE), grad.dtype)
    for begin in range(start, stop, TILE):
        n = min(TILE, stop - begin)
        _sums(pairs, begin, n, apart, of_x, of_y)
        if polar:
            _polar_partials(grad[begin:], n, apart, of_x, of_y, turn)
            for m in range(n):
                p, q = _row(i, begin + m), _row(j, begin + m)
                to_x[begin + m, 0], to_y[begin + m, 0] = of_x[m], of_y[m]
                for k in range(1, x.shape[1]):
                    by_u = turn[m] * (np.float64(x[p, k]) - np.float64(y[q, k]))
                    to_x[begin + m, k], to_y[begin + m, k] = by_u, -by_u
            continue
        for m in range(n):
            gap_x, gap_y = 1 / _gap(of_x[m], c, rim), 1 / _gap(of_y[m], c, rim)
            w = c * gap_x * gap_y
            t = w * apart[m]
            root = real(math.sqrt(t))
            slope = unit * grad[begin + m] / (root * math.sqrt(one + root * root))
            slope = slope if root > zero else zero  # inf at t = 0: the subgradient 0 is taken
            pull[m] = real(2 * w) * slope
            by_own = real(2 * c * t) * slope
            own_x[m], own_y[m] = by_own * real(gap_x), by_own * real(gap_y)
        for m in range(n):
            p, q = _row(i, begin + m), _row(j, begin + m)
            by, by_x, by_y = pull[m], own_x[m], own_y[m]
            for k in range(x.shape[1]):
                a, b = x[p, k], y[q, k]
                together = by * (a - b)
                to_x[begin + m, k] = together + by_x * a
                to_y[begin + m, k] = by_y * b - together


@helper
def _polar_partials(
    grad: Array, n: int, apart: Array, of_x: Array, of_y: Array, turn: Array
) -> None:
    """Put ∂d/∂r₁ and ∂d/∂r₂ times grad in place of the radii, and what u₁−u₂ is times, in turn.

    All are 0 where the points coincide.
    """
    for m in range(n):
        r1, r2 = of_x[m], of_y[m]
        if max(r1, r2) > LARGEST:
            by_r1, by_r2, by_u = far_partials(r1, r2, apart[m])
            of_x[m], of_y[m], turn[m] = grad[m] * by_r1, grad[m] * by_r2, grad[m] * by_u
            apart[m] = -1
    for m in range(n):
        r1, r2 = of_x[m], of_y[m]
        e1, e2 = exp(0.5 * r1), exp(0.5 * r2)
        g1, g2, more1, more2 = e1 * e1, e2 * e2, e1 / e2, e2 / e1
        h = sinh(0.5 * (r1 - r2), more1, more2)
        less1, less2 = 1 / g1, 1 / g2
        sinh1, sinh2 = sinh(r1, g1, less1), sinh(r2, g2, less2)
        w = 0.25 * sinh1 * sinh2
        t = h * h + w * apart[m]
        root, more = math.sqrt(t), math.sqrt(1 + t)
        slope = 1 / (root * more) if t > 0 else 0.0
        radial = (h / root) * (0.5 * (more1 + more2) / more) if t > 0 else 0.0
        by_r1 = radial + 0.125 * (g1 + less1) * slope * (sinh2 * apart[m])
        by_r2 = 0.125 * (g2 + less2) * slope * (sinh1 * apart[m]) - radial
        if apart[m] >= 0:
            of_x[m] = grad[m] * min(1.0, max(-1.0, by_r1))
            of_y[m] = grad[m] * min(1.0, max(-1.0, by_r2))
            turn[m] = grad[m] * (2 * w * slope)


@inline
def far_distance(r1: float, r2: float, apart: float) -> float:
    """Distance where radii are past 350: e^{−|r₁−r₂|} and lo + log s carry all that matters.

    `geometry.polar_distance` derives it. Points that part near the origin: d = r₁ + r₂ + 2 log s.
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


@inline
def far_partials(r1: float, r2: float, apart: float) -> tuple[float, float, float]:
    """`_polar_partials` with exponents collected: 2 sinh r₁ sinh r₂ / sinh d = e^{2g} f₁f₂/f."""
    d = far_distance(r1, r2, apart)
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


@kernel("int64[::1], real[:, ::1], int64, int64, real[:, ::1]")
def scatter_loop(rows: Rows, values: Array, start: int, stop: int, out: Array) -> None:
    """Add each row of values to its row of out, for rows from start to stop."""
    for m in range(len(rows)):
        row = rows[m]
        if start <= row < stop:
            for k in range(out.shape[1]):
                out[row, k] += values[m, k]
