r"""Every point of one set with every point of another, in tiles: distances, gradients, losses.

Points are columns: x [columns, n]. A tile has the points i of x down and the points j of y across;
nothing of the size n × m is stored but what a caller asked for. `pull` and `ranking` give each
thread one point i, so that sums over j need no other thread. Where there are few i, stretches of
the j (*splits*) are summed apart, and `_gpu` adds them up: no sum depends on the order of programs.

With d_j the distances of an anchor i from its negatives, ``ranking`` reduces them to what a loss
needs, over the valid ones:

.. math:: \text{softmax:}\quad \ell = \log \sum_j w_j e^{-d_j/T}; \qquad
          \text{margin, of reach}\ \ell = d_+ + m:\quad \sum_j \max(0, \ell - d_j), \quad
          \sum_j 1, \quad \sum_j [d_j < \ell].

Back, the gradient of the loss by d_j is f w_j e^{−d_j/T − ℓ} or f [d_j < ℓ], with f a factor of the
anchor, and `pull` computes it from distances of its own, or is given it as f.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import triton
import triton.language as tl

from poincare_taxa.kernels.triton.pairs import (
    _distance,
    _exp,
    _fact,
    _log1p,
    _number,
    _slopes,
    _square,
)

__all__ = ["cdist", "pull", "ranking"]


@triton.jit
def _meet(x, n, i, y, m, j, TALL: tl.constexpr, WIDE: tl.constexpr, COLUMNS, POLAR: tl.constexpr):
    """Radius or square of points i [TALL, 1] and j [1, WIDE], and square of their differences."""
    x, y = x + i, y + j
    first1, first2 = tl.load(x, mask=i < n, other=0.0), tl.load(y, mask=j < m, other=0.0)
    if POLAR:
        own1, own2 = first1, first2
        square = tl.zeros((TALL, WIDE), first1.dtype)
    else:
        own1, own2 = first1 * first1, first2 * first2
        square = _square(first1 - first2, POLAR)
    for _ in tl.range(1, COLUMNS):
        x, y = x + n, y + m
        a, b = tl.load(x, mask=i < n, other=0.0), tl.load(y, mask=j < m, other=0.0)
        square += _square(a - b, POLAR)
        if not POLAR:
            own1 += a * a
            own2 += b * b
    return own1, own2, square


@triton.jit
def cdist(
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
    own1, own2, square = _meet(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
    c, unit = _number(c, square), _number(unit, square)
    fact1, fact2 = _fact(own1, c, POLAR), _fact(own2, c, POLAR)
    d = _distance(own1, fact1, own2, fact2, square, c, unit, POLAR)
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
def ranking(
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
    c, unit, rate = _number(c, nothing), _number(unit, nothing), _number(rate, nothing)
    highest, total, number, active = nothing - 1e30, nothing, nothing, nothing
    if not SOFTMAX:
        limit = tl.load(reach + i, mask=i < n, other=0.0)
    begin = split * span
    end = tl.minimum(begin + span, m)
    while begin < end:
        j = begin + tl.arange(0, WIDE)[None, :]
        own1, own2, square = _meet(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
        fact1, fact2 = _fact(own1, c, POLAR), _fact(own2, c, POLAR)
        d = _distance(own1, fact1, own2, fact2, square, c, unit, POLAR)
        counts = _counts(valid, valid_down, valid_across, i, n, j, m, MASKED)
        if SOFTMAX:
            logit = _logit(
                d, rate, log_weights, weights_down, weights_across, i, j, counts, WEIGHTED
            )
            counts = counts & ~(logit < -1e30)
            high = tl.where(counts & (logit == logit), logit, -1e30)
            peak = tl.maximum(highest, tl.max(high, axis=1)[:, None])
            share = tl.where(logit == logit, _exp(logit - peak), logit)  # nan stays nan
            share = tl.sum(tl.where(counts, share, 0.0), axis=1)[:, None]
            total = total * _exp(highest - peak) + share
            highest = peak
        else:
            hinge = tl.where(counts, limit - d, 0.0)
            total += tl.sum(tl.where(hinge < 0, 0.0, hinge), axis=1)[:, None]
            number += tl.sum(counts.to(d.dtype), axis=1)[:, None]
            active += tl.sum((hinge > 0).to(d.dtype), axis=1)[:, None]
        begin += WIDE
    place = out + (split * n + i)
    if SOFTMAX:
        log = highest + _log1p(tl.where(total < 1, 0.0, total - 1))  # the highest alone adds 1
        total = tl.where(total == 0, float("-inf"), log)
    else:
        tl.store(place + splits * n, number, mask=i < n)
        tl.store(place + 2 * splits * n, active, mask=i < n)
    tl.store(place, total, mask=i < n)


@triton.jit
def pull(
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
    c, unit, rate = _number(c, push), _number(unit, push), _number(rate, push)
    first: tl.constexpr = 1 if POLAR else 0
    place = out + (split * n + i) * COLUMNS
    begin = split * span
    end = tl.minimum(begin + span, m)
    while begin < end:
        j = begin + tl.arange(0, WIDE)[None, :]
        own1, own2, square = _meet(x, n, i, y, m, j, TALL, WIDE, COLUMNS, POLAR)
        fact1, fact2 = _fact(own1, c, POLAR), _fact(own2, c, POLAR)
        by_own, _, turn, other = _slopes(own1, fact1, own2, fact2, square, c, unit, POLAR)
        counts = _counts(valid, valid_down, valid_across, i, n, j, m, MASKED)
        if KIND != "given":
            d = _distance(own1, fact1, own2, fact2, square, c, unit, POLAR)
        # after the distance: loaded before it, g would take registers from it
        g = tl.load(factor + (i * factor_down + j * factor_across), mask=counts, other=0.0)
        if KIND != "given":
            limit = tl.load(level + (i * level_down + j * level_across), mask=counts, other=0.0)
            if KIND == "softmax":
                logit = _logit(
                    d, rate, log_weights, weights_down, weights_across, i, j, counts, WEIGHTED
                )
                g *= tl.where(counts, _exp(logit - limit), 0.0)
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
