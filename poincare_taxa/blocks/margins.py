r"""Margins: how much nearer the positive must be than a negative, as a function of the tree.

A margin is any callable ``(near, far) -> margin``, such as
``lambda near, far: 0.3 / near[:, None]``. Here ``near`` [batch] and ``far`` [batch, num_negatives]
are the tree distances (numbers of edges, or sums of branch lengths where the tree has them) from
the anchor to its positive and to its negatives, and the result broadcasts to [batch,
num_negatives]. For an ancestor and its descendant, ``near`` is the difference of their depths.

| margin | formula |
|---|---|
| `ConstantMargin` | m |
| `DepthMargin` | base + slope · near |
| `TreeMargin` | τ (far − near) |
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["ConstantMargin", "DepthMargin", "Margin", "TreeMargin"]


@runtime_checkable
class Margin(Protocol):
    """Any callable from tree distances to margins, such as a lambda."""

    def __call__(self, near: Tensor, far: Tensor, /) -> Tensor | float:
        """Return margins that broadcast to [batch, num_negatives]."""
        ...


@dataclass(frozen=True)
class ConstantMargin:
    """The same margin for every pair.

    A parent and a far ancestor get the same margin, so that no placement of a tree satisfies it
    exactly while radii grow with depth. It is the baseline for the other margins.

    Attributes
    ----------
    margin
        In units of distance, at least 0; taxembed uses 0.2.

    Examples
    --------
    >>> ConstantMargin(0.2)()
    0.2
    """

    margin: float = 0.2

    def __post_init__(self) -> None:
        if not self.margin >= 0:
            raise ValueError(f"margin must be at least 0; got {self.margin}")

    def __call__(self, near: Tensor | None = None, far: Tensor | None = None) -> float:
        """Return the margin, the same for all tree distances."""
        return self.margin


@dataclass(frozen=True)
class DepthMargin:
    """A margin that grows with the gap between the two nodes of the pair.

    Attributes
    ----------
    base
        Margin of a gap of 0, in units of distance.
    slope
        Margin per edge, or unit of branch length, of the gap. taxembed's depth-scaled margin is
        ``DepthMargin(0.05, 0.95 / max_depth)``.

    Examples
    --------
    >>> import torch
    >>> DepthMargin(base=0.5, slope=0.25)(torch.tensor([1, 2]))
    tensor([[0.7500],
            [1.0000]])
    """

    base: float = 0.05
    slope: float = 0.1

    def __call__(self, near: Tensor, far: Tensor | None = None) -> Tensor:
        """Return margins [batch, 1]."""
        return self.base + self.slope * near[:, None]


@dataclass(frozen=True)
class TreeMargin:
    """The margin that the tree implies: the difference of tree distances, in units of τ.

    The hinge of all pairs is 0 exactly if distance is τ times tree distance; no other margin agrees
    with radii τ · depth. If the negative is nearer to the anchor in the tree than the positive (a
    sibling and a distant ancestor), the margin is negative: the positive may be that much farther.

    Attributes
    ----------
    tau
        Distance per edge, > 0; the library's layout uses 0.85 + 3 / (dim − 1).

    Examples
    --------
    >>> import torch
    >>> TreeMargin(tau=0.5)(torch.tensor([1, 2]), torch.tensor([[3, 4], [2, 1]]))
    tensor([[ 1.0000,  1.5000],
            [ 0.0000, -0.5000]])
    """

    tau: float = 1.0

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be positive; got {self.tau}")

    def __call__(self, near: Tensor, far: Tensor) -> Tensor:
        """Return margins [batch, num_negatives]."""
        return self.tau * (far - near[:, None])
