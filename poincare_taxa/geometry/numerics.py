"""Euclidean norms and unit vectors for all models, with finite gradients at zero."""

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.geometry.derivatives import by_rule

__all__ = ["norm", "pairwise_norm", "renormalised", "unit"]


def pairwise_norm(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean |x − y| of every row of x [n, dim] and of y [m, dim], by subtraction: [n, m]."""
    if torch.compiler.is_compiling():
        return _cdist(x, y)
    return by_rule(_PairwiseNorm(), x, y) if is_plain(x, y) else _spread(x, y)


class _PairwiseNorm:
    """`torch.cdist` as a rule: with a second derivative, which torch's does not have."""

    def value(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        d = _cdist(x, y)
        return d, (d,)

    def gradient(self, grad: Tensor, x: Tensor, y: Tensor, d: Tensor) -> tuple[Tensor | None, ...]:
        derive = torch.ops.aten._cdist_backward
        by_x = derive(grad.contiguous(), x, y, 2.0, d) if x.requires_grad else None
        by_y = None
        if y.requires_grad:
            by_y = derive(grad.mT.contiguous(), y, x, 2.0, d.mT.contiguous())
        return tuple(
            None if by is None else by.sum_to_size(of.shape) for by, of in ((by_x, x), (by_y, y))
        )

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        return _spread(x, y)


def _cdist(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _spread(x: Tensor, y: Tensor) -> Tensor:
    """`pairwise_norm` of operations that have every derivative: takes the memory of [n, m, dim]."""
    return torch.linalg.vector_norm(x[..., :, None, :] - y[..., None, :, :], dim=-1)


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
