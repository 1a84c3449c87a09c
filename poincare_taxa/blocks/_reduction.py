"""What every loss asks of its arguments, and how it reduces."""

from typing import Literal

from torch import Tensor

__all__ = ["Reduction", "check_negatives", "reduced"]

Reduction = Literal["mean", "sum", "none"]


def check_negatives(d_pos: Tensor, d_neg: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError unless there is a row of negatives, and of their mask, for each positive."""
    if d_pos.ndim != 1 or d_neg.ndim != 2 or len(d_pos) != len(d_neg):
        raise ValueError(
            "positives are [batch] and negatives [batch, num_negatives]; got "
            f"{tuple(d_pos.shape)} and {tuple(d_neg.shape)}"
        )
    if mask is not None and mask.shape != d_neg.shape:
        raise ValueError(
            f"mask {tuple(mask.shape)} does not fit negatives {tuple(d_neg.shape)}: it says of "
            "each of them whether it counts"
        )


def reduced(losses: Tensor, counts: Tensor | None, reduction: Reduction) -> Tensor:
    """Reduce the losses of pairs; a mean is over those that count (0 where none does)."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")
    if counts is None:
        return losses.mean()
    return losses.sum() / counts.sum().clamp(min=1)
