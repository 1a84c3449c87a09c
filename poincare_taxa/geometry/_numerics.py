"""Euclidean parts that the models share, safe at zero."""

import torch
from torch import Tensor

__all__ = ["pairwise_norm", "unit"]


def pairwise_norm(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean |x − y| of every row of x and every row of y, by direct subtraction."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Length and direction of x; the direction of 0 is the first basis vector."""
    length = torch.linalg.vector_norm(x, dim=-1)
    zero = length == 0
    first = torch.zeros_like(x)
    first[..., 0] = 1
    direction = x / torch.where(zero, 1, length)[..., None]
    return length, torch.where(zero[..., None], first, direction)
