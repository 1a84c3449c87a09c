"""What the library writes about its results: values as JSON has them, names, its own version."""

import math
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

__all__ = ["as_json", "dtype_name", "library_version"]


def library_version() -> str:
    """Return the version of the installed library; "uninstalled" in a bare checkout."""
    try:
        return version("poincare-taxa")
    except PackageNotFoundError:
        return "uninstalled"


def dtype_name(dtype: object) -> str:
    """Name of a dtype of torch without its package.

    Examples
    --------
    >>> import torch
    >>> dtype_name(torch.float64)
    'float64'
    """
    return str(dtype).removeprefix("torch.")


def _text(value: Any) -> Any:
    """List or number of an array, a tensor or a numpy scalar; text of anything else."""
    return value.tolist() if hasattr(value, "tolist") else str(value)


def as_json(value: Any, other: Callable[[Any], Any] = _text) -> Any:
    """Copy a value in terms of what JSON has.

    Parameters
    ----------
    value
        Mappings become dicts whose keys are text, tuples lists, and numbers that are not finite
        None.
    other
        Called with an object that JSON does not have: what to write for it. By default arrays and
        tensors become lists, and anything else its text.

    Examples
    --------
    >>> import numpy as np
    >>> as_json({1: np.arange(2), "share": (0.5, float("nan")), "folder": {1}})
    {'1': [0, 1], 'share': [0.5, None], 'folder': '{1}'}
    """
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return float(value) if math.isfinite(value) else None
        case Mapping():
            return {str(key): as_json(item, other) for key, item in value.items()}
        case list() | tuple():
            return [as_json(item, other) for item in value]
    return as_json(other(value), other)
