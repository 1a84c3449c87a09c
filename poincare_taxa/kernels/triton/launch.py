"""How a Triton kernel is started."""

from typing import Any

import torch
from torch import Tensor
from triton import knobs  # pyright: ignore[reportMissingImports]

__all__ = ["INTERPRETED", "launch", "quotient"]

INTERPRETED = bool(knobs.runtime.interpret)
"""Whether the kernels were made for the interpreter: decided where they are first imported."""


def launch(
    kernel: Any, grid: tuple[int, ...], first: Tensor, *more: object, **settings: object
) -> None:
    """Run a program for each place of a grid, on the device of the first argument."""
    if 0 not in grid:
        with torch.cuda.device_of(first):
            kernel[grid](first, *more, **settings)


def quotient(total: int, size: int) -> int:
    """Count the parts of a size that cover a total."""
    return -(-total // size)
