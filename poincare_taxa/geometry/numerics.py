"""Euclidean norms and unit vectors for all models, with finite gradients at zero."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain

__all__ = ["derived_again", "norm", "pairwise_norm", "renormalised", "unit"]


def pairwise_norm(x: Tensor, y: Tensor) -> Tensor:
    """Euclidean |x − y| of every row of x [n, dim] and of y [m, dim], by subtraction: [n, m]."""
    if torch.compiler.is_compiling():
        return _cdist(x, y)
    return _PairwiseNorm.apply(x, y) if is_plain(x, y) else _spread(x, y)


class _PairwiseNorm(torch.autograd.Function):
    """`torch.cdist` with a second derivative, which torch's does not have."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor) -> Tensor:
        d = _cdist(x, y)
        ctx.save_for_backward(x, y, d)
        return d

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = grads
        x, y, d = ctx.saved_tensors
        # create_graph: this gradient will be differentiated again; or a batch of gradients
        if torch.is_grad_enabled() or not is_plain(grad):
            return derived_again(_spread, (x, y), ctx.needs_input_grad, grad)
        derive = torch.ops.aten._cdist_backward
        to_x, to_y = ctx.needs_input_grad
        by_x = derive(grad.contiguous(), x, y, 2.0, d) if to_x else None
        by_y = derive(grad.mT.contiguous(), y, x, 2.0, d.mT.contiguous()) if to_y else None
        return (
            None if by_x is None else by_x.sum_to_size(x.shape),
            None if by_y is None else by_y.sum_to_size(y.shape),
        )


def derived_again(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of ``function(*inputs)`` times grad for a backward pass, themselves differentiable.

    The function is computed anew from views, since an input may depend on another one: of a view,
    torch.autograd.grad returns what flows through this argument alone.
    """
    with torch.enable_grad():
        # one input alone is taken as it is: a view of it has no sparse second derivative
        views = [x.view_as(x) for x in inputs] if len(inputs) > 1 else inputs
        result = function(*views)
    wanted = [x for x, need in zip(views, needed, strict=False) if need]
    create = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(result, wanted, grad, create_graph=create))
    return tuple(next(found) if need else None for need in needed)


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
