"""Counts of rows by the keys of targets, which the implementations of `count_nearer` sort."""

import torch
from torch import Tensor

__all__ = ["counts_between", "in_order_of_targets"]


def counts_between(
    below: Tensor, equal: Tensor, levels: Tensor, order: Tensor
) -> tuple[Tensor, Tensor]:
    """Nearer and tied rows of targets, from counts by their keys.

    Parameters
    ----------
    below, equal
        int64 [Q, T]: rows whose key lies between levels j − 1 and j, and rows at level j, counted
        at the first of the targets that share it.
    levels, order
        Ascending keys of the targets [Q, T], inf where there is none, and the place of each target.
    """
    first = torch.searchsorted(levels, levels)
    at_level = equal.gather(1, first)
    nearer = (below + equal).cumsum(1).gather(1, first) - at_level
    return in_order_of_targets(levels, order, nearer, at_level - 1)


def in_order_of_targets(levels: Tensor, order: Tensor, *counts: Tensor) -> tuple[Tensor, Tensor]:
    """Put counts by ascending level in the order of the targets; 0 where there is no target."""
    there = levels < torch.inf
    return tuple(
        torch.zeros_like(order).scatter(1, order, torch.where(there, number, 0))
        for number in counts
    )  # pyright: ignore[reportReturnType]
