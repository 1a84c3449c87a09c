"""Which implementation runs: asked for by name, or the fastest that this machine has."""

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
        If it was asked for by name and is not installed.
    """
    if backend == "torch":
        return None
    if backend == "auto":
        if device.type == "cpu" and _installed("numba"):
            return _numba()
        if device.type == "cuda" and _installed("triton"):
            return _triton()
        return None
    if backend == "numba":
        if device.type != "cpu":
            raise ValueError(
                f"backend='numba' works on the CPU; the points are on {device}. Use 'torch' "
                "or 'auto', or move them with .cpu()"
            )
        _require("numba", "fast")
        return _numba()
    if backend == "triton":
        _require("triton", "gpu")
        module = _triton()
        if device.type != "cuda" and not (device.type == "cpu" and module.INTERPRETED):
            raise ValueError(
                f"backend='triton' works on a CUDA device; the points are on {device}. Move them "
                "with .cuda(), use 'auto', or, to try the kernels on the CPU (slowly), set "
                "TRITON_INTERPRET=1 in the environment before Python starts"
            )
        return module
    raise ValueError(f"backend must be 'auto', 'torch', 'numba' or 'triton'; got {backend!r}")


def _require(package: str, extra: str) -> None:
    if not _installed(package):
        raise ModuleNotFoundError(
            f"backend={package!r} needs {package}: pip install 'poincare-taxa[{extra}]' (or ask "
            "for 'auto', which does without)"
        )


@cache
def _installed(name: str) -> bool:
    return find_spec(name) is not None


def _numba() -> ModuleType:
    from poincare_taxa.kernels import numba as _cpu

    return _cpu


def _triton() -> ModuleType:
    from poincare_taxa.kernels import triton as _gpu

    return _gpu
