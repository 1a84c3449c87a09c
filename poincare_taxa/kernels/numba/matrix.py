"""`cdist`: rows of one table against tiles of another, forward and backward.

Only the matrix itself is stored. What is computed of a row and a tile is in `tiles`.
"""

import math

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.geometry import polar as polar_distance
from poincare_taxa.kernels.numba.arrays import Array, array, points_of, rim_of, sides_of, split
from poincare_taxa.kernels.numba.compile import in_threads, kernel, pieces_of
from poincare_taxa.kernels.numba.elementary import log1p
from poincare_taxa.kernels.numba.tiles import (
    FACTS,
    TILE,
    fill_t,
    fill_tile,
    fill_turn,
    pull_two,
    scatter_gradients,
    squares_of_two,
)

__all__ = ["cdist", "cdist_backward"]

_ROWS = 1024  # Rows that are held with what was computed of them, for all tiles of the others.
_GAP = 8  # Columns more than a power of two: else all coordinates of a point share a set of cache.


def cdist(x: Tensor, y: Tensor, polar: bool, c: float) -> Tensor:
    """Distance of every row of x to every row of y [n, m]."""
    sides = [points_of(x, polar, c), points_of(y, polar, c)]
    if any(side.too_far for side in sides):
        return polar_distance.cdist(*split(x), *split(y))
    arrays = [array for side in sides for array in sides_of(side)]
    out = np.empty((len(x), len(y)), arrays[1].dtype)
    loop = cdist_loop(out.dtype)

    def part(start: int, stop: int) -> None:
        loop(*arrays, c, rim_of(x), start, stop, out)

    in_threads(part, len(x), len(y) * (5 + x.shape[1] / 3))
    return torch.from_numpy(out)


def cdist_backward(
    x: Tensor, y: Tensor, polar: bool, c: float, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `cdist` with respect to x and to y."""
    sides = [points_of(x, polar, c), points_of(y, polar, c)]
    if any(side.too_far for side in sides):
        both = x.detach().requires_grad_(), y.detach().requires_grad_()
        with torch.enable_grad():
            far = polar_distance.cdist(*split(both[0]), *split(both[1]))
            return torch.autograd.grad(far, both, grad)  # pyright: ignore[reportReturnType]
    arrays = [array for side in sides for array in sides_of(side)]
    loop, given = cdist_backward_loop(arrays[1].dtype), array(grad)
    # The longer side is cut into pieces, and the shorter one has a copy of its sums for each.
    (n, m), over_x = grad.shape, len(x) >= len(y)
    pieces = pieces_of(n * m)
    to_x = np.zeros((1 if over_x else pieces, n, x.shape[1]))
    to_y = np.zeros((pieces if over_x else 1, m, y.shape[1]))

    def part(start: int, stop: int) -> None:
        for piece in range(start, stop):
            low, high = ((n if over_x else m) * t // pieces for t in (piece, piece + 1))
            bounds = (low, high, 0, m) if over_x else (0, n, low, high)
            sums = (to_x[0], to_y[piece]) if over_x else (to_x[piece], to_y[0])
            loop(*arrays, c, rim_of(x), given, *bounds, *sums)

    in_threads(part, pieces, n * m * (10 + x.shape[1]) / pieces)
    return tuple(torch.from_numpy(sums.sum(0)).to(x.dtype) for sums in (to_x, to_y))  # pyright: ignore[reportReturnType]


# -------------------------------------------------------------------- loops


@kernel(
    "real[:], real[:, :], real[:], real[:, :], float64, float64, int64, int64, real[:, ::1]",
    fastmath={"contract"},
)
def cdist_loop(
    radius_x: Array,  # [n]; empty in the ball
    x: Array,  # [n, dim]: points of the ball, or directions
    radius_y: Array,  # [m]
    y: Array,  # [m, dim]
    c: float,
    rim: float,  # least 1 − √c|x|
    start: int,
    stop: int,
    out: Array,  # [n, m]
) -> None:
    """Distances of rows start to stop of x to all rows of y."""
    real = out.dtype.type
    one, unit, polar = real(1), 2 / math.sqrt(c), len(radius_x) > 0
    width = x.shape[1] + x.shape[1] % 2 + FACTS
    everyone = np.empty(0, np.int64)
    asked, tile = np.empty((width, min(_ROWS, stop - start) + _GAP)), np.empty((width, TILE + _GAP))
    apart1, apart2, t = np.empty(TILE), np.empty(TILE), np.empty(TILE)
    for top in range(start, stop, _ROWS):
        bottom = min(top + _ROWS, stop)
        fill_tile(radius_x, x, everyone, top, bottom, c, rim, asked)
        for begin in range(0, len(y), TILE):
            n = min(TILE, len(y) - begin)
            fill_tile(radius_y, y, everyone, begin, begin + n, c, rim, tile)
            for first in range(0, bottom - top, 2):
                last = min(first + 1, bottom - top - 1)
                squares_of_two(tile, asked, first, last, n, apart1, apart2)
                for q in range(first, last + 1):
                    fill_t(tile, asked, q, n, apart1 if q == first else apart2, t)
                    row = out[top + q]
                    if polar:
                        for m in range(n):
                            near = math.sqrt(t[m]) + t[m] / (1 + math.sqrt(1 + t[m]))
                            row[begin + m] = unit * log1p(near)
                    else:  # t of the ball fits into any dtype
                        for m in range(n):
                            root = real(math.sqrt(t[m]))
                            square = root * root
                            near = root + square / (one + math.sqrt(one + square))
                            row[begin + m] = real(unit) * log1p(near)


@kernel(
    "real[:], real[:, :], real[:], real[:, :], float64, float64, real[:, ::1], int64, int64, "
    "int64, int64, float64[:, ::1], float64[:, ::1]"
)
def cdist_backward_loop(
    radius_x: Array,  # as `cdist_loop`
    x: Array,
    radius_y: Array,
    y: Array,
    c: float,
    rim: float,
    grad: Array,  # gradient of the distances [n, m]
    start: int,  # rows of x,
    stop: int,
    first: int,  # rows of y
    last: int,
    to_x: Array,  # [n, columns], added to
    to_y: Array,  # [m, columns], added to
) -> None:
    """Add gradients of distances of rows start to stop of x and first to last of y, times grad."""
    unit, polar = 1 / math.sqrt(c), len(radius_x) > 0
    dim = x.shape[1] + x.shape[1] % 2
    everyone = np.empty(0, np.int64)
    asked = np.empty((dim + FACTS, min(_ROWS, stop - start) + _GAP))
    tile = np.empty((dim + FACTS, TILE + _GAP))
    apart1, apart2, turn1, turn2 = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    t, by_d = np.empty(TILE), np.empty(TILE)
    to_asked, to_tile = np.zeros((dim + 1, 2)), np.zeros((dim + 1, TILE + _GAP))
    for top in range(start, stop, _ROWS):
        bottom = min(top + _ROWS, stop)
        fill_tile(radius_x, x, everyone, top, bottom, c, rim, asked)
        for begin in range(first, last, TILE):
            end = min(begin + TILE, last)
            n = end - begin
            fill_tile(radius_y, y, everyone, begin, end, c, rim, tile)
            for q in range(0, bottom - top, 2):
                r = min(q + 1, bottom - top - 1)
                squares_of_two(tile, asked, q, r, n, apart1, apart2)
                turn2[:] = 0  # of a last row that has no neighbour
                for column in range(q, r + 1):
                    apart, turn = (apart1, turn1) if column == q else (apart2, turn2)
                    fill_t(tile, asked, column, n, apart, t)
                    for m in range(n):
                        by_d[m] = grad[top + column, begin + m]
                    into = to_asked[:, column - q]
                    about = tile, asked, column, n, polar, unit, c, apart, t, by_d
                    fill_turn(*about, turn, into, to_tile)
                pull_two(tile, asked, q, r, n, turn1, turn2, to_asked, to_tile)
                rows = to_x[top + q : top + r + 1]
                scatter_gradients(asked, q, to_asked, r + 1 - q, polar, rows)
            scatter_gradients(tile, 0, to_tile, n, polar, to_y[begin:end])
