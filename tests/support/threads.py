"""Many Python threads that begin at the same moment."""

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_python_threads(function: Callable[[], T], number: int = 8) -> list[T]:
    """Call a function in each of so many threads at once; their results, or the first error.

    Python changes from one to another as often as it can, so that they do get in each other's way.
    """
    start = threading.Barrier(number)

    def call() -> T:
        start.wait()
        return function()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(number) as threads:
            return [one.result() for one in [threads.submit(call) for _ in range(number)]]
    finally:
        sys.setswitchinterval(interval)
