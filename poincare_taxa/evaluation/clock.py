"""Seconds spent on each part of an evaluation."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Clock"]


class Clock:
    """A stopwatch for each part: ``with clock("nearest"): …``.

    Attributes
    ----------
    seconds : dict
        Part → seconds on the wall, summed over the threads that take it at the same time.
    """

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        start = time.perf_counter()
        yield
        self.seconds[part] += time.perf_counter() - start
