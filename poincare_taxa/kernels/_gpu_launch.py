"""How a Triton kernel is started."""

from typing import Any

from triton import knobs  # pyright: ignore[reportMissingImports]

__all__ = ["INTERPRETED", "launch", "quotient"]

INTERPRETED = bool(knobs.runtime.interpret)
"""Whether the kernels were made for the interpreter: decided where they are first imported."""


def launch(kernel: Any, grid: tuple[int, ...], *arguments: object, **settings: object) -> None:
    """Run a program for each place of a grid; none for an empty one."""
    if 0 not in grid:
        kernel[grid](*arguments, **settings)


def quotient(total: int, size: int) -> int:
    """Count the parts of a size that cover a total."""
    return -(-total // size)
