"""Euclidean norms and unit vectors for all models, with finite gradients at zero."""

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.geometry.derivatives import by_rule

__all__ = ["length", "norm", "pairwise_norm", "renormalised", "unit"]


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
    return length(x[..., :, None, :] - y[..., None, :, :])


def length(x: Tensor, *, keepdim: bool = False) -> Tensor:
    """Euclidean norm over the last dimension; all derivatives are 0 at 0, torch's second nan."""
    if not (x.requires_grad and torch.is_grad_enabled()):
        return torch.linalg.vector_norm(x, dim=-1, keepdim=keepdim)
    zero = torch.linalg.vector_norm(x.detach(), dim=-1, keepdim=True) == 0
    n = torch.linalg.vector_norm(torch.where(zero, 1, x), dim=-1, keepdim=True)
    n = torch.where(zero, 0, n)
    return n if keepdim else n[..., 0]


def norm(x: Tensor, *, keepdim: bool = False) -> Tensor:
    """Euclidean norm over the last dimension at any magnitude; the gradient at 0 is 0.

    Components are first divided by the largest one: the square of 1e19 overflows in float32.
    """
    largest = _largest_component(x)
    scaled = length(x / largest, keepdim=True) * largest
    return scaled if keepdim else scaled[..., 0]


def unit(x: Tensor) -> tuple[Tensor, Tensor]:
    """Length [...] and direction [..., dim] of x at any magnitude.

    The direction of 0 is the first basis vector.
    """
    largest = _largest_component(x)
    scaled = x / largest
    n = length(scaled, keepdim=True)
    zero = n == 0
    first = torch.zeros_like(x)
    first[..., 0] = 1
    direction = torch.where(zero, first, scaled / torch.where(zero, 1, n))
    return (n * largest)[..., 0], direction


def renormalised(u: Tensor) -> Tensor:
    """Normalise directions with | |u|² − 1 | > 16 eps; others are returned bit for bit."""
    off = (u.square().sum(-1, keepdim=True) - 1).abs() > 16 * torch.finfo(u.dtype).eps
    return torch.where(off, unit(u)[1], u)


def _largest_component(x: Tensor) -> Tensor:
    """Return max |xᵢ| [..., 1], or 1 where x = 0; a constant to autograd."""
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    return torch.where(largest > 0, largest, 1)
