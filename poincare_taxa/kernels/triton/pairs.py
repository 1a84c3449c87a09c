"""Paired points on a GPU: distances and gradients of the rows of two tables, or of one."""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import math
from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from poincare_taxa.kernels.arguments import Pairs
from poincare_taxa.kernels.triton.formulas import (
    distance_of,
    fact_of,
    rounded,
    slopes_of,
    square_of,
)
from poincare_taxa.kernels.triton.launch import INTERPRETED, launch, quotient

__all__ = ["pairs_backward", "pairs_forward", "scatter"]

_BLOCK = 1024 if INTERPRETED else 128  # Pairs of a program: one for each of its threads.
_WIDTH = 16  # Columns of a row that are loaded at once.


def pairs_forward(pairs: Pairs) -> Tensor:
    """Distance of each pair [m]."""
    out = pairs.x.new_empty(pairs.number)
    _each_pair(pairs_kernel, pairs, out)
    return out


def pairs_backward(pairs: Pairs, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by the points of both sides times grad: [m, columns] each."""
    to_x, to_y = (pairs.x.new_empty(len(grad), pairs.x.shape[1]) for _ in range(2))
    _each_pair(pairs_backward_kernel, pairs, grad, to_x, to_y)
    return to_x, to_y


def scatter(rows: Tensor, values: Tensor, out: Tensor) -> None:
    """Add rows of values to rows of out; on CUDA the last bits depend on the order."""
    out.index_add_(0, rows, values)


def _each_pair(kernel: Any, pairs: Pairs, *more: Tensor) -> None:
    x, i, y, j, polar, c = pairs
    total, columns = pairs.number, x.shape[1]
    arguments = (x, x if i is None else i, y, y if j is None else j, *more)
    launch(
        kernel,
        (quotient(total, _BLOCK),),
        *(t.detach().contiguous() for t in arguments),
        total,
        c,
        1 / math.sqrt(c),
        COLUMNS=columns,
        WIDTH=min(_WIDTH, 1 << (columns - 1).bit_length()),
        BLOCK=_BLOCK,
        POLAR=polar,
        GATHER=i is not None,
    )


# -------------------------------------------------------------------- kernels
#
# Rows are loaded as tiles [BLOCK, WIDTH], neighbours in memory by neighbouring threads; what
# belongs to a pair is [BLOCK]. The first column, the radius or one coordinate among others, is
# loaded once more as [BLOCK]: the compiler lays a value out like the loads that it comes from, and
# else all threads of a row would repeat the arithmetic of their pair.


@triton.jit
def _places(i, j, total, BLOCK: tl.constexpr, GATHER: tl.constexpr):
    """Pairs of this program, which of them there are, and the rows of both sides."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    if GATHER:
        return at, inside, tl.load(i + at, inside, other=0), tl.load(j + at, inside, other=0)
    else:
        return at, inside, at, at


@triton.jit
def _tile(x, rows, inside, column, COLUMNS: tl.constexpr):
    """Load some columns of rows of a table; 0 beyond its last."""
    mask = inside[:, None] & (column < COLUMNS)
    return tl.load(x + rows[:, None] * COLUMNS + column, mask=mask, other=0.0)


@triton.jit
def _others(rows, column):
    """Rows without their first column."""
    return tl.where(column == 0, 0.0, rows)


@triton.jit
def _sums(x, p, y, q, inside, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, POLAR: tl.constexpr):
    """Of pairs of rows: radius or square of each, and the square of their difference."""
    square = tl.zeros(p.shape, x.dtype.element_ty)
    own1, own2 = square, square
    for start in tl.range(0, COLUMNS, WIDTH):
        column = start + tl.arange(0, WIDTH)[None, :]
        a = _tile(x, p, inside, column, COLUMNS)
        b = _tile(y, q, inside, column, COLUMNS)
        square += tl.sum(square_of(_others(a - b, column), POLAR), axis=1)
        if not POLAR:
            own1 += tl.sum(_others(a * a, column), axis=1)
            own2 += tl.sum(_others(b * b, column), axis=1)
    # last: of two layouts the compiler takes that of the later load
    first1 = tl.load(x + p * COLUMNS, mask=inside, other=0.0)
    first2 = tl.load(y + q * COLUMNS, mask=inside, other=0.0)
    if POLAR:
        return first1, first2, square + first1 * 0
    else:
        square += square_of(first1 - first2, POLAR)
        return own1 + first1 * first1, own2 + first2 * first2, square


@triton.jit
def pairs_kernel(
    x,
    i,
    y,
    j,
    out,
    total,
    c: tl.float64,
    unit: tl.float64,
    COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    POLAR: tl.constexpr,
    GATHER: tl.constexpr,
):
    """Distance of row i[m] of x and row j[m] of y; of row m and row m unless GATHER."""
    at, inside, p, q = _places(i, j, total, BLOCK, GATHER)
    own1, own2, square = _sums(x, p, y, q, inside, COLUMNS, WIDTH, POLAR)
    c, unit = rounded(c, square), rounded(unit, square)
    fact1, fact2 = fact_of(own1, c, POLAR), fact_of(own2, c, POLAR)
    d = distance_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
    tl.store(out + at, d, mask=inside)


@triton.jit
def pairs_backward_kernel(
    x,
    i,
    y,
    j,
    grad,
    to_x,
    to_y,
    total,
    c: tl.float64,
    unit: tl.float64,
    COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    POLAR: tl.constexpr,
    GATHER: tl.constexpr,
):
    """Gradient of the distances times grad, a row for each pair."""
    at, inside, p, q = _places(i, j, total, BLOCK, GATHER)
    own1, own2, square = _sums(x, p, y, q, inside, COLUMNS, WIDTH, POLAR)
    c, unit = rounded(c, square), rounded(unit, square)
    fact1, fact2 = fact_of(own1, c, POLAR), fact_of(own2, c, POLAR)
    by_1, by_2, pull, other = slopes_of(own1, fact1, own2, fact2, square, c, unit, POLAR)
    g = tl.load(grad + at, mask=inside, other=0.0)
    by_1, by_2, pull, other = g * by_1, g * by_2, (g * pull)[:, None], other[:, None]
    for start in tl.range(0, COLUMNS, WIDTH):
        column = start + tl.arange(0, WIDTH)[None, :]
        a = _tile(x, p, inside, column, COLUMNS)
        b = _tile(y, q, inside, column, COLUMNS)
        turn = pull * (a - b) * other
        if POLAR:
            to_a = tl.where(column == 0, by_1[:, None], turn)
            to_b = tl.where(column == 0, by_2[:, None], -turn)
        else:
            to_a = turn + by_1[:, None] * a
            to_b = by_2[:, None] * b - turn
        where = at[:, None] * COLUMNS + column
        mask = inside[:, None] & (column < COLUMNS)
        tl.store(to_x + where, to_a, mask=mask)
        tl.store(to_y + where, to_b, mask=mask)
