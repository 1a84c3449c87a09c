"""Schedules are data: sequences of (epoch, value), each value holding from its epoch on."""

from collections.abc import Sequence
from typing import Any

__all__ = ["Schedule", "value_at"]

Schedule = Sequence[tuple[int, Any]]


def value_at(schedule: Schedule, epoch: int) -> Any:
    """Value of a schedule at an epoch (counted from 0).

    Raises
    ------
    ValueError
        If the schedule is empty, does not begin at epoch 0, or its epochs do not increase.

    Examples
    --------
    >>> [value_at([(0, 0.1), (2, 0.01)], epoch) for epoch in range(4)]
    [0.1, 0.1, 0.01, 0.01]
    """
    epochs = [start for start, _ in schedule]
    if not epochs or epochs[0] != 0 or sorted(set(epochs)) != epochs:
        raise ValueError(
            f"a schedule is [(0, value), (epoch, value), …] with ascending epochs; got {schedule!r}"
        )
    return next(value for start, value in reversed(schedule) if start <= epoch)
