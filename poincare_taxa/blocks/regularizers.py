r"""Penalties on the radii of points.

A regularizer is any callable ``(radius [batch], depth [batch]) -> scalar``, for the rows of the
batch, such as ``lambda radius, depth: radius.square().mean()``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from poincare_taxa.blocks.schedules import Schedule, value_at

__all__ = ["LinearRadius", "NormRegularizer", "Regularizer", "ScheduledRegularizer"]


@runtime_checkable
class Regularizer(Protocol):
    """Any callable from radii and depths to a scalar, such as a lambda."""

    def __call__(self, radius: Tensor, depth: Tensor, /) -> Tensor:
        """Return a scalar to add to the loss."""
        ...


@runtime_checkable
class ScheduledRegularizer(Protocol):
    """A regularizer that changes during training."""

    def at(self, epoch: int, /) -> Regularizer:
        """Return the regularizer of an epoch."""
        ...


@dataclass(frozen=True)
class LinearRadius:
    """Target radius τ · depth, the distance to the root in a tree metric with edges of length τ.

    Attributes
    ----------
    tau
        Radius per level, > 0, in units of distance.

    Examples
    --------
    >>> import torch
    >>> LinearRadius(tau=0.5)(torch.tensor([0, 1, 4]))
    tensor([0.0000, 0.5000, 2.0000])
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be positive; got {self.tau}")

    def __call__(self, depth: Tensor) -> Tensor:
        """Return the target of each depth."""
        return self.tau * depth


@dataclass(frozen=True)
class NormRegularizer:
    r"""Penalty for radii off a function of depth: :math:`\lambda\,\overline{(r - r^*(depth))^2}`.

    It applies to the rows of the batch, not to the whole table.

    Attributes
    ----------
    target
        r*, ``depth -> radius``: `LinearRadius` or any callable.
    weight
        λ, at least 0, or a schedule [(epoch, λ), …] to be resolved by `at`. taxembed uses 0.1, on
        norms instead of radii, with target ``lambda depth: 0.1 + 0.85 * depth / max_depth``.

    Examples
    --------
    >>> import torch
    >>> regularizer = NormRegularizer(LinearRadius(0.5), weight=[(0, 0.1), (10, 0.0)])
    >>> radius, depth = torch.tensor([1.0, 1.0]), torch.tensor([0, 2])
    >>> regularizer.at(0)(radius, depth), regularizer.at(10)(radius, depth)
    (tensor(0.0500), tensor(0.))
    """

    target: Callable[[Tensor], Tensor] = field(default_factory=LinearRadius)
    weight: float | Schedule = 0.01

    def __post_init__(self) -> None:
        value_at(self._schedule, 0)
        if not all(weight >= 0 for _, weight in self._schedule):
            raise ValueError(f"weight must be at least 0; got {self.weight}")

    def at(self, epoch: int) -> Self:
        """Return the regularizer with the weight of an epoch."""
        return replace(self, weight=value_at(self._schedule, epoch))

    def __call__(self, radius: Tensor, depth: Tensor) -> Tensor:
        """Return the penalty of radii [batch] at depths [batch]; of a schedule, that at epoch 0."""
        target = self.target(depth.to(radius.dtype))
        return value_at(self._schedule, 0) * (radius - target).square().mean()

    @property
    def _schedule(self) -> Schedule:
        return [(0, self.weight)] if isinstance(self.weight, int | float) else self.weight
