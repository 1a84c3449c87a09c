"""The kernels of `_triton_tiles` on tensors: all pairs of two sets of points.

What belongs to pairs is a matrix [n, m] or a view expanded to one; its transpose belongs to the
sets in the other order.
"""

import math

import torch
from torch import Tensor

from poincare_taxa.kernels import _triton_tiles
from poincare_taxa.kernels._gpu_launch import INTERPRETED, launch, quotient

__all__ = ["cdist", "pull", "ranking_sums"]

_THREADS = 128
_PROGRAMS = 512  # That keep a device busy: where there are fewer points, sums are split.


def cdist(x: Tensor, y: Tensor, polar: bool, c: float) -> Tensor:
    """Distances [n, m]."""
    out = x.new_empty(len(x), len(y))
    tall = _few(x)
    launch(
        _triton_tiles.cdist,
        (quotient(len(x), tall), quotient(len(y), _THREADS)),
        *_columns(x, y),
        out,
        c,
        1 / math.sqrt(c),
        COLUMNS=x.shape[1],
        POLAR=polar,
        TALL=tall,
        WIDE=_THREADS,
    )
    return out


def ranking_sums(
    x: Tensor,
    y: Tensor,
    reach: Tensor | None,
    log_weights: Tensor | None,
    valid: Tensor | None,
    temperature: float,
    polar: bool,
    c: float,
) -> Tensor:
    """Reduce distances [n, m] to what a loss needs: [3, n] with a reach [n], else [1, n]."""
    n, (splits, span) = len(x), _splits(x, y)
    out = x.new_empty(1 if reach is None else 3, splits, n)
    launch(
        _triton_tiles.ranking,
        (quotient(n, _THREADS), splits),
        *_columns(x, y),
        span,
        x if reach is None else reach.contiguous(),
        out,
        *_steps(log_weights, x),
        *_steps(valid, x),
        c,
        1 / math.sqrt(c),
        1 / temperature,
        COLUMNS=x.shape[1],
        POLAR=polar,
        SOFTMAX=reach is None,
        WEIGHTED=log_weights is not None,
        MASKED=valid is not None,
        TALL=_THREADS,
        WIDE=_few(x),
    )
    return out.sum(1) if reach is not None else torch.logsumexp(out, 1)


def pull(
    x: Tensor,
    y: Tensor,
    kind: str,
    polar: bool,
    c: float,
    *,
    given: Tensor | None = None,
    factor: Tensor | None = None,
    level: Tensor | None = None,
    log_weights: Tensor | None = None,
    valid: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """Gradient [n, columns] of x by the distances to y, whose own gradient is given or follows."""
    n, (splits, span) = len(x), _splits(x, y)
    out = x.new_zeros(splits, n, x.shape[1])
    launch(
        _triton_tiles.pull,
        (quotient(n, _THREADS), splits),
        *_columns(x, y),
        span,
        out,
        *_steps(given, x),
        *_steps(factor, x),
        *_steps(level, x),
        *_steps(log_weights, x),
        *_steps(valid, x),
        c,
        1 / math.sqrt(c),
        1 / temperature,
        COLUMNS=x.shape[1],
        POLAR=polar,
        KIND=kind,
        WEIGHTED=log_weights is not None,
        MASKED=valid is not None,
        TALL=_THREADS,
        WIDE=_few(x),
    )
    return out.sum(0)


def _columns(x: Tensor, y: Tensor) -> tuple[Tensor, int, Tensor, int]:
    """Both sets with neighbouring points beside each other, and how many they are."""
    return x.detach().T.contiguous(), len(x), y.detach().T.contiguous(), len(y)


def _steps(matrix: Tensor | None, x: Tensor) -> tuple[Tensor, int, int]:
    """Pointer to a matrix and its steps down and across; to anything, where there is none."""
    if matrix is None:
        return x, 0, 0
    down, across = matrix.stride()
    return matrix.detach(), down, across


def _splits(x: Tensor, y: Tensor) -> tuple[int, int]:
    """In how many stretches of which length a sum over y is cut."""
    wanted = max(1, _PROGRAMS // max(1, quotient(len(x), _THREADS)))
    span = max(64, quotient(len(y), wanted))
    span = quotient(span, _few(x)) * _few(x)
    return max(1, quotient(len(y), span)), span


def _few(x: Tensor) -> int:
    """Pairs of a thread: what its registers hold. Interpreted, tiles cost the same at any size."""
    return _THREADS if INTERPRETED else 32 // x.dtype.itemsize
