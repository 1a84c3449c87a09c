"""The step of `optimizers.RowwiseRiemannianAdam` on rows of a polar table, and a look after it.

What the step does is written down there and in `manifolds.Polar.frame_walk`, on whole tensors; here
one row at a time stays in registers. Arithmetic is float64; what is stored is rounded once.
"""

import math

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.geometry.polar_distance import largest_exponent
from poincare_taxa.kernels.numba.arrays import Array, Rows, array, rows_of
from poincare_taxa.kernels.numba.compile import in_threads, kernel

__all__ = ["adam_step", "left_space"]


def adam_step(
    table: Tensor, rows: Tensor, gradient: Tensor, moments: tuple[Tensor, ...], *settings: float
) -> None:
    """Take a step of `RowwiseRiemannianAdam` on some rows of a contiguous polar table, in place.

    Moments are those that it keeps: touched, mean, square; settings: step of the radius and of the
    direction, both betas, eps.
    """
    arrays = [x.detach().numpy() for x in (table, *moments)]
    loop = adam_loop(arrays[0].dtype)
    at, by = array(rows), array(gradient)
    limits = largest_exponent(table.dtype), 16 * torch.finfo(table.dtype).eps

    def part(start: int, stop: int) -> None:
        loop(arrays[0], at, by, *arrays[1:], start, stop, *settings, *limits)

    in_threads(part, len(rows), 50 + 5 * table.shape[1])
    torch.autograd.graph.increment_version(table)  # tells autograd that the table has changed


def left_space(table: Tensor, rows: Tensor | None) -> Tensor:
    """Rows of a contiguous polar table, some or all, that `geometry.polar.project` changes.

    Rows that are nan are none of them.
    """
    points, at = array(table), rows_of(rows)
    count = len(table) if rows is None else len(at)
    left = np.empty(count, bool)
    slack = 16 * torch.finfo(table.dtype).eps
    loop = left_space_loop(points.dtype)

    def part(start: int, stop: int) -> None:
        loop(points, at, slack, start, stop, left)

    in_threads(part, count, 5 + table.shape[1])
    places = torch.from_numpy(left.nonzero()[0])
    return places if rows is None or len(places) == 0 else rows[places]


# -------------------------------------------------------------------- loops


@kernel("real[:, ::1], int64[::1], float64, int64, int64, bool[::1]")
def left_space_loop(
    table: Array, rows: Rows, slack: float, start: int, stop: int, left: Array
) -> None:
    """Tell of each row whether its radius is negative, or |u|² not 1; without rows, of all."""
    for index in range(start, stop):
        row = rows[index] if len(rows) > 0 else index
        square = 0.0
        for k in range(1, table.shape[1]):
            square += np.float64(table[row, k]) ** 2
        left[index] = table[row, 0] < 0 or abs(square - 1) > slack


@kernel(
    "real[:, ::1], int64[::1], real[:, ::1], real[:, ::1], real[:, ::1], real[:, ::1], int64, "
    "int64, float64, float64, float64, float64, float64, float64, float64"
)
def adam_loop(
    table: Array,
    rows: Rows,
    gradient: Array,
    touched: Array,
    mean: Array,
    square: Array,
    start: int,
    stop: int,
    radius_lr: float,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    largest: float,
    slack: float,
) -> None:
    """Move rows start to stop against their gradients; rows whose gradient is 0 stay.

    `largest` is the radius at which sinh is capped, `slack` how far |u|² may be from 1.
    """
    dim = table.shape[1] - 1
    step, across = np.empty(dim), np.empty(dim)
    for index in range(start, stop):
        row = rows[index]
        along, moving = 0.0, False
        for k in range(dim + 1):
            moving = moving or gradient[index, k] != 0
        if not moving:
            continue
        for k in range(dim):
            along += gradient[index, k + 1] * np.float64(table[row, k + 1])
        r = np.float64(table[row, 0])
        s = math.sinh(min(r, largest))
        touched[row, 0] += 1
        t = touched[row, 0]
        first, second = 1 - beta1**t, 1 - beta2**t

        radial = np.float64(gradient[index, 0])
        mean_r = mean[row, 0] + (1 - beta1) * (radial - mean[row, 0])
        size = 0.0
        for k in range(dim):
            tangent = gradient[index, k + 1] - along * table[row, k + 1]
            f = tangent / s if s > 0 else 0.0
            size += f * f
            step[k] = mean[row, k + 1] + (1 - beta1) * (f - mean[row, k + 1])
        square[row, 0] += (1 - beta2) * (radial * radial - square[row, 0])
        square[row, 1] += (1 - beta2) * (size - square[row, 1])
        outward = -radius_lr * mean_r / (first * (math.sqrt(square[row, 0] / second) + eps))
        rate = lr / (first * (math.sqrt(square[row, 1] / second) + eps))

        length = 0.0
        for k in range(dim):
            length += step[k] * step[k]
        length = math.sqrt(length)
        for k in range(dim):  # the way that it goes, against the mean; any where that is 0
            across[k] = -step[k] / length if length > 0 else (1.0 if k == 0 else 0.0)
        sideways = rate * length
        slope = sideways / s if s > 0 else 0.0
        turn = math.atan(slope)
        frame_turn = 0.0
        if r > 0:
            frame_turn = sideways / math.tanh(r) * (turn / slope if slope > 0 else 1.0)
        behind = r + outward < 0
        side = -1.0 if behind else 1.0
        cos, sin = math.cos(frame_turn), math.sin(frame_turn)
        back, forth = math.sin(turn), math.cos(turn)
        carried = -length * cos - mean_r * sin  # −length: what the mean has along `across`
        mean[row, 0] = side * (mean_r * cos - length * sin)
        norm = 0.0
        for k in range(dim):
            u = np.float64(table[row, k + 1])
            kept = step[k] + length * across[k]
            mean[row, k + 1] = kept + carried * (forth * across[k] - back * u)
            table[row, k + 1] = side * (u + slope * across[k])
            norm += np.float64(table[row, k + 1]) ** 2
        table[row, 0] = abs(r + outward)
        if abs(norm - 1) > slack:
            norm = math.sqrt(norm)
            for k in range(dim):
                table[row, k + 1] = table[row, k + 1] / norm
