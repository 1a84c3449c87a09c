"""Which implementation runs: asked for by name, or the fastest that this machine has."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch

__all__ = ["Backend", "choose"]

Backend = Literal["auto", "torch", "numba"]


def choose(backend: Backend, device: torch.device) -> ModuleType | None:
    """Return the module that implements the kernels; None for plain torch.

    Raises
    ------
    ValueError
        If the backend is not one of the above, or cannot work on this device.
    ModuleNotFoundError
        If it was asked for by name and is not installed.
    """
    if backend == "torch":
        return None
    if backend == "auto":
        if device.type == "cpu" and _installed("numba"):
            return _numba()
        return None
    if backend == "numba":
        if device.type != "cpu":
            raise ValueError(
                f"backend='numba' works on the CPU; the points are on {device}. Use 'torch' "
                "or 'auto', or move them with .cpu()"
            )
        if not _installed("numba"):
            raise ModuleNotFoundError(
                "backend='numba' needs numba: pip install 'poincare-taxa[fast]' (or ask for "
                "'auto', which does without)"
            )
        return _numba()
    raise ValueError(f"backend must be 'auto', 'torch' or 'numba'; got {backend!r}")


@cache
def _installed(name: str) -> bool:
    return find_spec(name) is not None


def _numba() -> ModuleType:
    from poincare_taxa.kernels import _cpu

    return _cpu
