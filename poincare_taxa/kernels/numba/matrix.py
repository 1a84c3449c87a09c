"""Compiled loops of `cdist`: rows of one table against tiles of another, forward and backward.

Only the matrix itself is stored. What happens between a row and a tile is in `_ranking_loops`.
"""

import math

import numpy as np

from poincare_taxa.kernels.numba.compile import FACTS, TILE, Array, _kernel, _prepare
from poincare_taxa.kernels.numba.elementary import log1p
from poincare_taxa.kernels.numba.ranking import _hand_out, _meet, _pull

__all__ = ["cdist", "cdist_backward"]

_ROWS = 1024  # That are held with what was computed of them, while tiles pass by.


@_kernel(
    "real[:], real[:, :], real[:], real[:, :], float64, float64, int64, int64, real[:, ::1]",
    fastmath={"contract"},
)
def cdist(
    radius_x: Array,
    x: Array,
    radius_y: Array,
    y: Array,
    c: float,
    rim: float,
    start: int,
    stop: int,
    out: Array,
) -> None:
    """Distances of rows start to stop of x to all rows of y."""
    unit = 2 / math.sqrt(c)
    width = x.shape[1] + x.shape[1] % 2 + FACTS
    everyone = np.empty(0, np.int64)
    asked, tile = np.empty((width, _ROWS)), np.empty((width, TILE))
    apart, t = np.empty(TILE), np.empty(TILE)
    for top in range(start, stop, _ROWS):
        bottom = min(top + _ROWS, stop)
        _prepare(radius_x, x, everyone, top, bottom, c, rim, asked)
        for begin in range(0, len(y), TILE):
            n = min(TILE, len(y) - begin)
            _prepare(radius_y, y, everyone, begin, begin + n, c, rim, tile)
            for q in range(bottom - top):
                _meet(tile, asked, q, n, apart, t)
                for m in range(n):
                    near = math.sqrt(t[m]) + t[m] / (1 + math.sqrt(1 + t[m]))
                    out[top + q, begin + m] = unit * log1p(near)


@_kernel(
    "real[:], real[:, :], real[:], real[:, :], float64, float64, real[:, ::1], int64, int64, "
    "int64, int64, float64[:, ::1], float64[:, ::1]"
)
def cdist_backward(
    radius_x: Array,
    x: Array,
    radius_y: Array,
    y: Array,
    c: float,
    rim: float,
    grad: Array,
    start: int,
    stop: int,
    first: int,
    last: int,
    to_x: Array,
    to_y: Array,
) -> None:
    """Add gradients of distances of rows start to stop of x and first to last of y, times grad."""
    unit, polar = 1 / math.sqrt(c), len(radius_x) > 0
    dim = x.shape[1] + x.shape[1] % 2
    everyone = np.empty(0, np.int64)
    asked, tile = np.empty((dim + FACTS, _ROWS)), np.empty((dim + FACTS, TILE))
    apart, t, by_d, turn = np.empty(TILE), np.empty(TILE), np.empty(TILE), np.empty(TILE)
    to_asked, to_tile = np.zeros((dim + 1, 1)), np.zeros((dim + 1, TILE))
    for top in range(start, stop, _ROWS):
        bottom = min(top + _ROWS, stop)
        _prepare(radius_x, x, everyone, top, bottom, c, rim, asked)
        for begin in range(first, last, TILE):
            end = min(begin + TILE, last)
            n = end - begin
            _prepare(radius_y, y, everyone, begin, end, c, rim, tile)
            for q in range(bottom - top):
                row = top + q
                _meet(tile, asked, q, n, apart, t)
                for m in range(n):
                    by_d[m] = grad[row, begin + m]
                into = to_asked[:, 0]
                _pull(tile, asked, q, n, polar, unit, c, apart, t, by_d, turn, into, to_tile)
                _hand_out(asked, q, to_asked, 1, polar, to_x[row : row + 1])
            _hand_out(tile, 0, to_tile, n, polar, to_y[begin:end])
