"""How a block is printed: its class and its settings."""

from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

__all__ = ["settings_repr"]


def settings_repr(self: Any) -> str:
    """Return ``Class(a=1, b='x')`` of the public attributes; use it as ``__repr__`` of a class.

    A block that has a length begins with it; of an array the length is shown in its place.
    """
    parts = [f"{len(self):,}"] if hasattr(self, "__len__") else []
    parts += [_shown(name, value) for name, value in vars(self).items() if name[0] != "_"]
    return f"{type(self).__name__}({', '.join(parts)})"


def _shown(name: str, value: Any) -> str:
    if isinstance(value, Tensor | np.ndarray | pl.Series):
        return f"{name}=<{len(value):,} values>"
    return f"{name}={value!r}"
