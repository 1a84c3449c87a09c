"""The kernels of `_triton_tiles` on tensors: all pairs of two sets of points.

What belongs to pairs is a matrix [n, m], [n, 1] or [1, m]; its transpose belongs to the sets in the
other order.
"""

import math
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Comparison
from poincare_taxa.kernels.triton import tiles as _triton_tiles
from poincare_taxa.kernels.triton.launch import INTERPRETED, launch, quotient

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


def ranking_sums(x: Tensor, y: Tensor, reach: Tensor | None, how: Comparison) -> Tensor:
    """Reduce distances [n, m] to what a loss needs: [3, n] with a reach [n], else [1, n]."""
    splits, span = _splits(x, y)
    out = x.new_empty(1 if reach is None else 3, splits, len(x))
    limit = x if reach is None else reach.contiguous()
    _sum(_triton_tiles.ranking, x, y, splits, span, out, limit, how=how, SOFTMAX=reach is None)
    return out.sum(1) if reach is not None else torch.logsumexp(out, 1)


def pull(x: Tensor, y: Tensor, factor: Tensor, level: Tensor | None, how: Comparison) -> Tensor:
    """Gradient [n, columns] of x by the distances to y, whose own gradient is the factor.

    With a level, the factor is multiplied by what the loss has for each distance.
    """
    splits, span = _splits(x, y)
    out = x.new_zeros(splits, *x.shape)
    kind = "given" if level is None else "softmax" if how.margin is None else "margin"
    matrices = *_steps(factor, x, y), *_steps(level, x, y)
    _sum(_triton_tiles.pull, x, y, splits, span, out, *matrices, how=how, KIND=kind)
    return out.sum(0)


def _sum(
    kernel: Any,
    x: Tensor,
    y: Tensor,
    splits: int,
    span: int,
    out: Tensor,
    *more: Tensor | int,
    how: Comparison,
    **settings: object,
) -> None:
    """Start a kernel that sums over stretches of y."""
    launch(
        kernel,
        (quotient(len(x), _THREADS), splits),
        *_columns(x, y),
        span,
        out,
        *more,
        *_steps(how.log_weights, x, y),
        *_steps(how.valid, x, y),
        how.c,
        1 / math.sqrt(how.c),
        1 / how.temperature,
        COLUMNS=x.shape[1],
        POLAR=how.polar,
        WEIGHTED=how.log_weights is not None,
        MASKED=how.valid is not None,
        TALL=_THREADS,
        WIDE=_few(x),
        **settings,
    )


def _columns(x: Tensor, y: Tensor) -> tuple[Tensor, int, Tensor, int]:
    """Both sets with neighbouring points beside each other, and how many they are."""
    return x.detach().T.contiguous(), len(x), y.detach().T.contiguous(), len(y)


def _steps(matrix: Tensor | None, x: Tensor, y: Tensor) -> tuple[Tensor, int, int]:
    """Pointer to a matrix and its steps down and across; to anything, where there is none."""
    if matrix is None:
        return x, 0, 0
    down, across = matrix.expand(len(x), len(y)).stride()
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
