r"""Every point of one set with every point of another, in tiles: distances, gradients, losses.

Points are columns: x [columns, n]. A tile has the points i of x down and the points j of y across;
nothing of the size n × m is stored but the result. `pull_kernel` and `ranking_kernel` give each
thread one point i, so that sums over j need no other thread. Where there are few i, stretches of
the j (*splits*) are summed apart, and added up afterwards: no sum depends on the order of programs.

With d_j the distances of an anchor i from its negatives, ``ranking_kernel`` reduces them, over the
valid ones, to sums that a loss is made of:

.. math:: \text{softmax:}\quad \ell = \log \sum_j w_j e^{-d_j/T}; \qquad
          \text{margin, of reach}\ \ell = d_+ + m:\quad \sum_j \max(0, \ell - d_j), \quad
          \sum_j 1, \quad \sum_j [d_j < \ell].

Back, the gradient of the loss by d_j is f w_j e^{−d_j/T − ℓ} or f [d_j < ℓ], with f a factor of the
anchor, and `pull_kernel` computes it from distances of its own, or is given it as f.

What belongs to pairs is a matrix [n, m], [n, 1] or [1, m]; its transpose belongs to the sets in the
other order.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from poincare_taxa.kernels.arguments import Comparison
from poincare_taxa.kernels.triton.formulas import (
    distance_of,
    exp,
    fact_of,
    log1p,
    rounded,
    slopes_of,
    square_of,
)
from poincare_taxa.kernels.triton.launch import INTERPRETED, launch, quotient

__all__ = ["cdist", "cdist_backward", "pull", "ranking_sums"]

_THREADS = 128
_PROGRAMS = 512  # That keep a device busy: where there are fewer points, sums are split.


def cdist(x: Tensor, y: Tensor, polar: bool, c: float) -> Tensor:
    """Distances [n, m]."""
    out = x.new_empty(len(x), len(y))
    tall = _few(x)
    launch(
        cdist_kernel,
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


def cdist_backward(
    x: Tensor, y: Tensor, polar: bool, c: float, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `cdist` with respect to x and y."""
    how = Comparison(polar=polar, c=c)
    return pull(x, y, grad, None, how), pull(y, x, grad.T, None, how)


def ranking_sums(x: Tensor, y: Tensor, reach: Tensor | None, how: Comparison) -> Tensor:
    """Reduce distances [n, m] to what a loss needs: [3, n] with a reach [n], else [1, n]."""
    splits, span = _splits(x, y)
    out = x.new_empty(1 if reach is None else 3, splits, len(x))
    limit = x if reach is None else reach.contiguous()
    _sum(ranking_kernel, x, y, splits, span, out, limit, how=how, SOFTMAX=reach is None)
    return out.sum(1) if reach is not None else torch.logsumexp(out, 1)


def pull(x: Tensor, y: Tensor, factor: Tensor, level: Tensor | None, how: Comparison) -> Tensor:
    """Gradient [n, columns] of x by the distances to y, whose own gradient is the factor.

    With a level, the factor is multiplied by what the loss has for each distance.
    """
    splits, span = _splits(x, y)
    out = x.new_zeros(splits, *x.shape)
    kind = "given" if level is None else "softmax" if how.margin is None else "margin"
    matrices = *_steps(factor, x, y), *_steps(level, x, y)
    _sum(pull_kernel, x, y, splits, span, out, *matrices, how=how, KIND=kind)
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


# -------------------------------------------------------------------- kernels


@triton.jit
def _sums(x, n, i, y, m, j, TALL: tl.constexpr, WIDE: tl.constexpr, COLUMNS, POLAR: tl.constexpr):
    """Radius or square of points i [TALL, 1] and j [1, WIDE], and square of their differences."""
    x, y = x + i, y + j
    first1, first2 = tl.load(x, mask=i < n, other=0.0), tl.load(y, mask=j < m, other=0.0)
    if POLAR:
        own1, own2 = first1, first2
        square = tl.zeros((TALL, WIDE), first1.dtype)
    else:
        own1, own2 = first1 * first1, first2 * first2
        square = square_of(first1 - first2, POLAR)
    for _ in tl.range(1, COLUMNS):
        x, y = x + n, y + m
        a, b = tl.load(x, mask=i < n, other=0.0), tl.load(y, mask=j < m, other=0.0)
        square += square_of(a - b, POLAR)
        if not POLAR:
            own1 += a * a
            own2 += b * b
    return own1, own2, square


@triton.jit
def cdist_kernel(
    x,
    n,
    y,
    m,
    out,
    c: tl.float64,
    unit: tl.float64,
    COLUMNS: tl.constexpr,
    POLAR: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Distances out [n, m]."""
    i = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    j = tl.program_id(1).to(tl.int64) * WIDE + tl.arange(0, WIDE)[None, :]
    own1, own2, square = _sums(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
    c, unit = rounded(c, square), rounded(unit, square)
    fact1, fact2 = fact_of(own1, c, POLAR), fact_of(own2, c, POLAR)
    d = distance_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
    tl.store(out + (i * m + j), d, mask=(i < n) & (j < m))


@triton.jit
def _counts(valid, down, across, i, n, j, m, MASKED: tl.constexpr):
    """Which pairs of a tile count."""
    inside = (i < n) & (j < m)
    if MASKED:
        inside = inside & (tl.load(valid + (i * down + j * across), mask=inside, other=0) != 0)
    return inside


@triton.jit
def _logit(d, rate, log_weights, down, across, i, j, counts, WEIGHTED: tl.constexpr):
    """Compute log w − d/T."""
    logit = -rate * d
    if WEIGHTED:
        logit += tl.load(log_weights + (i * down + j * across), mask=counts, other=0.0)
    return logit


@triton.jit
def ranking_kernel(
    x,
    n,
    y,
    m,
    span,
    out,
    reach,
    log_weights,
    weights_down,
    weights_across,
    valid,
    valid_down,
    valid_across,
    c: tl.float64,
    unit: tl.float64,
    rate: tl.float64,
    COLUMNS: tl.constexpr,
    POLAR: tl.constexpr,
    SOFTMAX: tl.constexpr,
    WEIGHTED: tl.constexpr,
    MASKED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Write sums [3, splits, n] over stretches of `span` negatives; of the softmax the first."""
    i = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    split = tl.program_id(1).to(tl.int64)
    splits = tl.num_programs(1).to(tl.int64)
    nothing = tl.zeros((TALL, 1), x.dtype.element_ty)
    c, unit, rate = rounded(c, nothing), rounded(unit, nothing), rounded(rate, nothing)
    highest, total, number, active = nothing - 1e30, nothing, nothing, nothing
    if not SOFTMAX:
        limit = tl.load(reach + i, mask=i < n, other=0.0)
    begin = split * span
    end = tl.minimum(begin + span, m)
    while begin < end:
        j = begin + tl.arange(0, WIDE)[None, :]
        own1, own2, square = _sums(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
        fact1, fact2 = fact_of(own1, c, POLAR), fact_of(own2, c, POLAR)
        d = distance_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
        counts = _counts(valid, valid_down, valid_across, i, n, j, m, MASKED)
        if SOFTMAX:
            logit = _logit(
                d, rate, log_weights, weights_down, weights_across, i, j, counts, WEIGHTED
            )
            counts = counts & ~(logit < -1e30)
            high = tl.where(counts & (logit == logit), logit, -1e30)
            peak = tl.maximum(highest, tl.max(high, axis=1)[:, None])
            share = tl.where(logit == logit, exp(logit - peak), logit)  # nan stays nan
            share = tl.sum(tl.where(counts, share, 0.0), axis=1)[:, None]
            total = total * exp(highest - peak) + share
            highest = peak
        else:
            hinge = tl.where(counts, limit - d, 0.0)
            total += tl.sum(tl.where(hinge < 0, 0.0, hinge), axis=1)[:, None]
            number += tl.sum(counts.to(d.dtype), axis=1)[:, None]
            active += tl.sum((hinge > 0).to(d.dtype), axis=1)[:, None]
        begin += WIDE
    place = out + (split * n + i)
    if SOFTMAX:
        log = highest + log1p(tl.where(total < 1, 0.0, total - 1))  # the highest alone adds 1
        total = tl.where(total == 0, float("-inf"), log)
    else:
        tl.store(place + splits * n, number, mask=i < n)
        tl.store(place + 2 * splits * n, active, mask=i < n)
    tl.store(place, total, mask=i < n)


@triton.jit
def pull_kernel(
    x,
    n,
    y,
    m,
    span,
    out,
    factor,
    factor_down,
    factor_across,
    level,
    level_down,
    level_across,
    log_weights,
    weights_down,
    weights_across,
    valid,
    valid_down,
    valid_across,
    c: tl.float64,
    unit: tl.float64,
    rate: tl.float64,
    COLUMNS: tl.constexpr,
    POLAR: tl.constexpr,
    KIND: tl.constexpr,
    WEIGHTED: tl.constexpr,
    MASKED: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Add to out [splits, n, columns] the gradients of x, by stretches of `span` points of y.

    That by the distances is the factor (KIND "given"), or follows from factor and level. In every
    matrix the next i is so many numbers down, the next j across: none, if a vector stands for it.
    """
    i = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    split = tl.program_id(1).to(tl.int64)
    push = tl.zeros((TALL, 1), x.dtype.element_ty)
    c, unit, rate = rounded(c, push), rounded(unit, push), rounded(rate, push)
    first: tl.constexpr = 1 if POLAR else 0
    place = out + (split * n + i) * COLUMNS
    begin = split * span
    end = tl.minimum(begin + span, m)
    while begin < end:
        j = begin + tl.arange(0, WIDE)[None, :]
        own1, own2, square = _sums(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
        fact1, fact2 = fact_of(own1, c, POLAR), fact_of(own2, c, POLAR)
        by_own, _, turn, other = slopes_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
        counts = _counts(valid, valid_down, valid_across, i, n, j, m, MASKED)
        if KIND != "given":
            d = distance_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
        # after the distance: loaded before it, g would take registers from it
        g = tl.load(factor + (i * factor_down + j * factor_across), mask=counts, other=0.0)
        if KIND != "given":
            limit = tl.load(level + (i * level_down + j * level_across), mask=counts, other=0.0)
            if KIND == "softmax":
                logit = _logit(
                    d, rate, log_weights, weights_down, weights_across, i, j, counts, WEIGHTED
                )
                g *= tl.where(counts, exp(logit - limit), 0.0)
            else:
                g = tl.where(d < limit, g, 0.0)
        push += tl.sum(g * by_own, axis=1)[:, None]
        turn = g * turn
        a_at, b_at = x + first * n + i, y + first * m + j
        for k in tl.range(first, COLUMNS):
            a, b = tl.load(a_at, mask=i < n, other=0.0), tl.load(b_at, mask=j < m, other=0.0)
            sums = tl.sum(turn * (a - b) * other, axis=1)[:, None]
            tl.atomic_add(place + k, sums, mask=i < n, sem="relaxed")
            a_at, b_at = a_at + n, b_at + m
        begin += WIDE
    if POLAR:
        tl.atomic_add(place, push, mask=i < n, sem="relaxed")
    else:
        x += i
        for k in tl.range(0, COLUMNS):
            a = tl.load(x, mask=i < n, other=0.0)
            tl.atomic_add(place + k, push * a, mask=i < n, sem="relaxed")
            x += n
