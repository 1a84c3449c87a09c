"""The choice of an implementation: by name, or the fastest that this machine has."""

from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Literal

import torch

__all__ = ["Backend", "choose"]

Backend = Literal["auto", "torch", "numba", "triton"]


def choose(backend: Backend, device: torch.device) -> ModuleType | None:
    """Return the module that implements the kernels; None for plain torch.

    Raises
    ------
    ValueError
        If the backend is not one of the above, or cannot work on this device.
    ModuleNotFoundError
        If Triton was chosen by name and is not installed.
    """
    if backend == "torch":
        return None
    if backend == "auto":
        if device.type == "cpu":
            return _numba()
        return _triton() if device.type == "cuda" and _installed("triton") else None
    if backend == "numba":
        if device.type != "cpu":
            raise ValueError(
                f"backend='numba' works on the CPU; the points are on {device}. Use 'torch' "
                "or 'auto', or move them with .cpu()"
            )
        return _numba()
    if backend == "triton":
        if not _installed("triton"):
            raise ModuleNotFoundError(
                "backend='triton' needs triton: pip install 'poincare-taxa[gpu]' (or use 'auto', "
                "which works without it)"
            )
        module = _triton()
        if device.type != "cuda" and not (device.type == "cpu" and module.INTERPRETED):
            raise ValueError(
                f"backend='triton' works on a CUDA device; the points are on {device}. Move them "
                "with .cuda(), use 'auto', or, to try the kernels on the CPU (slowly), set "
                "TRITON_INTERPRET=1 in the environment before Python starts"
            )
        return module
    raise ValueError(f"backend must be 'auto', 'torch', 'numba' or 'triton'; got {backend!r}")


@cache
def _installed(name: str) -> bool:
    return find_spec(name) is not None


def _numba() -> ModuleType:
    from poincare_taxa.kernels import numba

    return numba


def _triton() -> ModuleType:
    from poincare_taxa.kernels import triton

    return triton
