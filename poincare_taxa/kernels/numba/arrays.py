"""Tensors as the arrays that loops take."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.kernels.arguments import Points

__all__ = ["Array", "Rows", "array", "points_of", "rim_of", "rows_of", "sides_of", "split"]

Array = NDArray[Any]
Rows = NDArray[np.int64]


def array(x: Tensor) -> Array:
    """Contiguous values of a tensor, without a copy where they are so already."""
    return x.detach().contiguous().numpy()


def rows_of(rows: Tensor | None) -> Rows:
    """Return rows, or none for all in their order."""
    return np.empty(0, np.int64) if rows is None else array(rows)


def points_of(table: Tensor, polar: bool, c: float) -> Points:
    """Points of a table whose arguments were checked."""
    flat = table.detach()
    return Points(*split(flat), c) if polar else Points(None, flat, c)


def split(table: Tensor) -> tuple[Tensor, Tensor]:
    """Radius and direction of a polar table."""
    return table[:, 0], table[:, 1:]


def sides_of(points: Points) -> tuple[Array, Array]:
    """Radius (empty in the ball) and coordinates, without a copy."""
    coordinates = points.coordinates.detach().numpy()
    if points.radius is None:
        return np.empty(0, coordinates.dtype), coordinates
    return points.radius.detach().numpy(), coordinates


def rim_of(x: Tensor) -> float:
    """Least 1 − √c|x| that a point of this dtype is taken to have: half an eps."""
    return torch.finfo(x.dtype).eps / 2
