"""Functions with a gradient of their own, for autograd: one way for kernels and for blocks."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain

__all__ = ["Rule", "by_rule"]


class Rule(Protocol):
    """A function of tensors with its gradient, and a twin of operations that torch can derive."""

    def value(self, *tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]] | None:
        """Return the result, and what the gradient needs besides the tensors; None: `plain`."""
        ...

    def gradient(self, grad: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients by the tensors times grad; saved are the tensors and what `value` kept."""
        ...

    def plain(self, *tensors: Tensor) -> Tensor:
        """Compute the same by operations that have every derivative."""
        ...


def by_rule(rule: Any, *tensors: Tensor) -> Tensor:
    """Compute the value of a `Rule`, with autograd's record where a gradient may be wanted.

    A backward pass that will be differentiated again (``create_graph``), or is of a batch of
    gradients, goes through the rule's plain twin.
    """
    found = rule.value(*(x.detach() for x in tensors))
    if found is None:
        return rule.plain(*tensors)
    result, kept = found
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return _ByRule.apply(rule, result, kept, *tensors)
    return result


class _ByRule(torch.autograd.Function):
    """Record of a result that was computed before."""

    @staticmethod
    def forward(
        ctx: Any, rule: Rule, result: Tensor, kept: tuple[Tensor, ...], *tensors: Tensor
    ) -> Tensor:
        ctx.save_for_backward(*tensors, *kept)
        ctx.rule, ctx.count = rule, len(tensors)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (grad,), rule = grads, ctx.rule
        if torch.is_grad_enabled() or not is_plain(grad):
            inputs, needed = ctx.saved_tensors[: ctx.count], ctx.needs_input_grad[3:]
            return None, None, None, *_derived(rule.plain, inputs, needed, grad)
        return None, None, None, *rule.gradient(grad, *ctx.saved_tensors)


def _derived(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], needed: Sequence[bool], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """Gradients of ``function(*inputs)`` times grad, themselves differentiable.

    The function is computed anew from views, since an input may depend on another one: of a view,
    torch.autograd.grad returns what flows through this argument alone.
    """
    with torch.enable_grad():
        # where one alone needs a gradient it is taken as it is: a view of a table has no sparse one
        views = [x.view_as(x) for x in inputs] if sum(needed) > 1 else inputs
        result = function(*views)
    wanted = [x for x, need in zip(views, needed, strict=True) if need]
    create = torch.is_grad_enabled()
    found = iter(torch.autograd.grad(result, wanted, grad, create_graph=create))
    return tuple(next(found) if need else None for need in needed)
