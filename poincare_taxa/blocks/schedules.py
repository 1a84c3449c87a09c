"""Schedules are data: sequences of (epoch, value), each value in effect from its epoch on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Cosine", "Schedule", "value_at"]

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
    try:
        epochs = [start for start, _ in schedule]
    except (TypeError, ValueError):
        epochs = []  # not a sequence of pairs
    if not epochs or epochs[0] != 0 or sorted(set(epochs)) != epochs:
        raise ValueError(
            f"a schedule is [(0, value), (epoch, value), …] with ascending epochs; got {schedule!r}"
        )
    return next(value for start, value in reversed(schedule) if start <= epoch)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from 1 to ``last``, repeated every ``period`` epochs.

    As the ``lr_schedule`` of `fit` it is evaluated at every step: epoch 2.5 is the middle of the
    third epoch.

    Attributes
    ----------
    period
        Number of epochs from 1 to ``last``, > 0: the whole run, or a part after which it restarts.
    last
        Value at the end of a period.

    Raises
    ------
    ValueError
        If ``period <= 0``.

    Examples
    --------
    >>> schedule = Cosine(period=4, last=0.0)
    >>> [round(schedule(epoch), 3) for epoch in (0, 1, 2, 4)]
    [1.0, 0.854, 0.5, 1.0]
    """

    period: float = 1.0
    last: float = 0.05

    def __post_init__(self) -> None:
        if not self.period > 0:
            raise ValueError(f"period must be positive; got {self.period}")

    def __call__(self, epoch: float) -> float:
        """Return the value at an epoch, which may be a fraction."""
        share = epoch % self.period / self.period
        return self.last + (1 - self.last) * (1 + math.cos(math.pi * share)) / 2
