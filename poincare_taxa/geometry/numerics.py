"""Euclidean norms and unit vectors for all models, with finite gradients at zero."""

import torch
from torch import Tensor

__all__ = ["norm", "pairwise_norm", "renormalised", "unit"]


def pairwise_norm(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean |x − y| of every row of x [n, dim] and of y [m, dim], by subtraction: [n, m]."""
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def norm(x: Tensor, *, keepdim: bool = False) -> Tensor:
    """Euclidean norm over the last dimension at any magnitude; the gradient at 0 is 0.

    Components are first divided by the largest one: the square of 1e19 overflows in float32.
    """
    largest = _largest_component(x)
    return torch.linalg.vector_norm(x / largest, dim=-1, keepdim=keepdim) * (
        largest if keepdim else largest[..., 0]
    )


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Length [...] and direction [..., dim] of x at any magnitude.

    The direction of 0 is the first basis vector.
    """
    largest = _largest_component(x)
    scaled = x / largest
    length = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    zero = length == 0
    first = torch.zeros_like(x)
    first[..., 0] = 1
    direction = torch.where(zero, first, scaled / torch.where(zero, 1, length))
    return (length * largest)[..., 0], direction


def renormalised(u: Tensor) -> Tensor:
    """Normalise directions with | |u|² − 1 | > 16 eps; others are returned bit for bit."""
    off = (u.square().sum(-1, keepdim=True) - 1).abs() > 16 * torch.finfo(u.dtype).eps
    return torch.where(off, unit(u)[1], u)


def _largest_component(x: Tensor) -> Tensor:
    """Return max |xᵢ| [..., 1], or 1 where x = 0; a constant to autograd."""
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    return torch.where(largest > 0, largest, 1)
