"""Checks of arguments that the functions of this room share: curvature, dtypes, shapes."""

import torch
from torch import Tensor

__all__ = ["check_curvature", "check_points", "check_polar"]

_FLOATS = (torch.float32, torch.float64)


def check_curvature(c: float) -> None:
    """Raise ValueError unless ``c`` is a positive number."""
    if not c > 0:
        raise ValueError(f"c must be positive (the sectional curvature is -c); got c={c}")


def check_points(*points: Tensor) -> None:
    """Raise ValueError unless all are float32 or float64 with the same last dimension."""
    for x in points:
        if x.dtype not in _FLOATS:
            raise ValueError(
                f"points must be tensors of float32 or float64; got {type(x).__name__} of "
                f"{x.dtype}. Use torch.as_tensor(x).double()"
            )
        if x.ndim == 0:
            raise ValueError(
                "points need a last dimension of coordinates, [..., dim]; got a scalar"
            )
        if x.shape[-1] != points[0].shape[-1]:
            raise ValueError(
                f"points must have the same number of coordinates; got shapes "
                f"{tuple(points[0].shape)} and {tuple(x.shape)}"
            )


def check_polar(*pairs: Tensor) -> None:
    """Raise ValueError unless the arguments are (radius, direction, radius, direction, …)."""
    radii, directions = pairs[::2], pairs[1::2]
    check_points(*directions)
    for r, u in zip(radii, directions, strict=True):
        if r.dtype not in _FLOATS:
            raise ValueError(
                f"radii must be tensors of float32 or float64; got {type(r).__name__} of "
                f"{r.dtype}. Use torch.as_tensor(r).double()"
            )
        try:
            torch.broadcast_shapes(r.shape, u.shape[:-1])
        except RuntimeError:
            raise ValueError(
                f"a direction has one more dimension than its radius; got radius "
                f"{tuple(r.shape)} and direction {tuple(u.shape)}"
            ) from None
