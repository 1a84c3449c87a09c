"""Loops as machine code: decorators, the folder that keeps the code, and threads."""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numba import njit, types

__all__ = [
    "STATE",
    "fusing",
    "helper",
    "in_threads",
    "inline",
    "kernel",
    "pieces_of",
    "record",
    "summing",
]

# Nanoseconds of work below which another thread costs more than it saves: a sleeping thread wakes
# within 0.1 to 0.3 ms on a virtual machine. Of 10,000 pairs in 10-D, forward takes 0.15 ms on one
# thread and 0.20 on two, forward and backward 0.52 and 0.67.
_SHARE = 3e5

# Python's error model would put a branch on every division, and no loop with one into vectors.
# Fast mathematics that is not turned off would be inherited from whichever caller compiles first.
_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}
_SOURCES = b"".join(file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py")))
STATE = hashlib.sha256(_SOURCES).hexdigest()[:12]
"""Of all sources of the kernels: numba itself compiles anew when the file of a function changed,
but not when that of a helper did."""


def _compile(function: Callable[..., Any], *signature: Any, **options: Any) -> Any:
    """Compile a function, and keep its machine code under a name with the `STATE` of the sources.

    Where neither the folder of the package nor that of the user's caches can be written, the code
    is not kept. It has no other place: whoever can write a folder that all share, such as that
    for temporary files, could leave code there for others to run.
    """
    if not function.__qualname__.endswith(STATE):
        function.__qualname__ += f"_{STATE}"
    chosen = _OPTIONS | options
    try:
        return njit(*signature, cache=True, **chosen)(function)
    except RuntimeError as error:
        if "no locator" not in str(error):
            raise
        return njit(*signature, cache=False, **chosen)(function)


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Compiler(Protocol):
    """What compiles a function, and gives back one of the same type."""

    def __call__(self, function: _Function, /) -> _Function: ...


def _compiler(**options: Any) -> _Compiler:
    """Return a decorator that compiles a helper with these options besides the usual ones.

    Inlined, not called: a call in code that was just compiled finds the helper's own machine code,
    in code from the disk the copy that was kept with it, and these may round differently.
    """
    return lambda function: _compile(function, **{"forceinline": True} | options)


inline: _Compiler = _compiler(inline="always")
helper: _Compiler = _compiler()
fusing: _Compiler = _compiler(fastmath={"contract"})  # product and sum in one, rounded once
summing: _Compiler = _compiler(fastmath={"contract", "nsz", "reassoc"})  # and sums in any order


def record(fields: type[tuple[Any, ...]], signature: str) -> Callable[[Any], Any]:
    """Type of a NamedTuple whose fields have these types, by the type that "real" stands for."""
    return lambda real: types.NamedTuple(_types(signature, real=real), fields)


def _types(signature: str, **more: Any) -> tuple[Any, ...]:
    """Turn a list of types, as numba's signatures have it, into numba's objects."""
    return eval(f"({signature},)", vars(types) | more)


def kernel(
    signature: str, *, fastmath: Any = False, **records: Any
) -> Callable[[Callable[..., None]], Callable[[Any], Any]]:
    """Compile for points of a dtype when first needed.

    The signature says which arrays may be strided; "real" stands for the dtype of the points, and
    the name of a record for its type. Numba's own choice would compile once more for each layout
    that turns up.
    """

    def decorate(function: Callable[..., None]) -> Callable[[Any], Any]:
        @cache
        def compiled(dtype: Any) -> Any:
            real = getattr(types, np.dtype(dtype).name)
            known = {name: made(real) for name, made in records.items()}
            arguments = types.void(*_types(signature, real=real, **known))
            return _compile(function, arguments, fastmath=fastmath)

        return compiled

    return decorate


@cache
def _team(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="poincare-taxa")


if hasattr(os, "register_at_fork"):  # a child process has none of the threads
    os.register_at_fork(after_in_child=_team.cache_clear)


def pieces_of(pairs: int) -> int:
    """Into how many parts a sum over pairs is cut: so many with any number of threads."""
    return min(16, max(1, pairs // 20_000))


def in_threads(part: Callable[[int, int], None], total: int, cost: float, *, step: int = 1) -> None:
    """Call part(start, stop) on stretches that cover the total: one a thread, if that pays.

    Threads are this module's own, as many as ``torch.get_num_threads()``, not numba's: compiled
    loops release the GIL, and numba's default team aborts when two Python threads use it at once.

    Parameters
    ----------
    part
        The loop over a stretch.
    total
        Number of items: pairs, rows.
    cost
        Of an item, roughly, in nanoseconds.
    step
        Stretches start at multiples of it, so that tiles of so many are the same with any threads.
    """
    threads = max(1, min(torch.get_num_threads(), int(total * cost / _SHARE), total))
    if threads == 1:
        part(0, total)
        return
    bounds = [total * t // threads // step * step for t in range(threads)] + [total]
    team = _team(threads - 1)
    first, *rest = pairwise(bounds)
    others = [team.submit(part, *ends) for ends in rest]
    part(*first)
    for other in others:
        other.result()
