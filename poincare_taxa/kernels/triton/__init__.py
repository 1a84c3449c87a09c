"""The Triton kernels on tensors: what `_cpu` has, for CUDA devices.

Also for the CPU, where Triton runs in its interpreter: for tests.
"""

import math
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Comparison
from poincare_taxa.kernels.triton import pairs as _triton
from poincare_taxa.kernels.triton.launch import INTERPRETED, launch, quotient
from poincare_taxa.kernels.triton.search_calls import count_nearer, nearest
from poincare_taxa.kernels.triton.tile_calls import cdist, pull, ranking_sums

__all__ = [
    "INTERPRETED",
    "cdist",
    "cdist_backward",
    "count_nearer",
    "nearest",
    "pairs",
    "pairs_backward",
    "ranking",
    "ranking_backward",
    "scatter",
]

_BLOCK = 1024 if INTERPRETED else 128  # Pairs of a program: one for each of its threads.
_WIDTH = 16  # Columns of a row that are loaded at once.


def pairs(
    x: Tensor, i: Tensor | None, y: Tensor, j: Tensor | None, polar: bool, c: float
) -> Tensor:
    """Distance of row i[m] of x and row j[m] of y; of rows m, where no rows are given."""
    out = x.new_empty(len(x if i is None else i))
    _each_pair(_triton.pairs, x, i, y, j, (out,), polar, c)
    return out


def pairs_backward(
    x: Tensor,
    i: Tensor | None,
    y: Tensor,
    j: Tensor | None,
    polar: bool,
    c: float,
    grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients of `pairs` with respect to the rows of x and of y: [m, columns] each."""
    to_x, to_y = (x.new_empty(len(grad), x.shape[1]) for _ in range(2))
    _each_pair(_triton.pairs_backward, x, i, y, j, (grad, to_x, to_y), polar, c)
    return to_x, to_y


def scatter(rows: Tensor, values: Tensor, out: Tensor) -> None:
    """Add rows of values to rows of out; on CUDA the last bits depend on the order."""
    out.index_add_(0, rows, values)


def cdist_backward(
    x: Tensor, y: Tensor, polar: bool, c: float, grad: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of `cdist` with respect to x and y."""
    how = Comparison(polar=polar, c=c)
    return pull(x, y, grad, None, how), pull(y, x, grad.T, None, how)


def ranking(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss of each anchor; distances from the positive, and what sums the backward pass wants.

    Negatives that all anchors share are met in tiles. Lists of their own are so many pairs, of
    which each has a gradient of its own: there a matrix of distances is small beside the result.
    """
    table = table.detach()
    near = pairs(table, anchor, table, positive, how.polar, how.c)
    reach = None if how.margin is None else near + how.margin
    if negatives.ndim == 1:
        sums = ranking_sums(table[anchor], table[negatives], reach, how)
    else:
        sums = _sums(_own_distances(table, anchor, negatives, how), reach, how)
    if reach is None:
        loss = torch.logaddexp(sums[0] + near / how.temperature, torch.zeros_like(near))
        return loss, (near, sums[0])
    total, number, active = sums
    number = number.clamp(min=1)
    return total / number, (reach, number, active)


def ranking_backward(
    table: Tensor,
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    how: Comparison,
    saved: tuple[Tensor, ...],
    grad: Tensor,
) -> tuple[Tensor, Tensor]:
    """Rows (anchors, positives, negatives) and their gradients."""
    table = table.detach()
    if how.margin is None:
        near, level = saved
        by_near = grad * torch.sigmoid(level + near / how.temperature) / how.temperature
        factor, level = -by_near, level.clamp(min=torch.finfo(level.dtype).min)
    else:
        level, number, active = saved
        factor = -grad / number
        by_near = -factor * active
    model = how.polar, how.c
    to_anchor, to_positive = pairs_backward(table, anchor, table, positive, *model, by_near)
    factor, level = factor[:, None], level[:, None]
    if negatives.ndim == 1:
        x, y = table[anchor], table[negatives]
        to_anchor += pull(x, y, factor, level, how)
        to_negatives = pull(y, x, factor.T, level.T, how.transposed)
    else:
        far = _own_distances(table, anchor, negatives, how)
        weight = _weights(far, factor, level, how).flatten()
        each, flat = anchor.repeat_interleave(far.shape[1]), negatives.flatten()
        by_pair, to_negatives = pairs_backward(table, each, table, flat, *model, weight)
        to_anchor += by_pair.view(*far.shape, table.shape[1]).sum(1)
    rows = torch.cat((anchor, positive, negatives.flatten()))
    return rows, torch.cat((to_anchor, to_positive, to_negatives))


def _own_distances(table: Tensor, anchor: Tensor, negatives: Tensor, how: Comparison) -> Tensor:
    """Distance of each anchor from its own list of negatives [B, K]."""
    each = anchor.repeat_interleave(negatives.shape[1])
    far = pairs(table, each, table, negatives.flatten(), how.polar, how.c)
    return far.view(negatives.shape)


def _sums(far: Tensor, reach: Tensor | None, how: Comparison) -> Tensor:
    """Reduce a matrix of distances as `ranking_sums` does."""
    counts = torch.ones_like(far, dtype=torch.bool) if how.valid is None else how.valid
    if reach is None:
        return torch.logsumexp(how.logits(far).masked_fill(~counts, -torch.inf), 1)[None]
    hinge = torch.where(counts, reach[:, None] - far, 0)
    return torch.stack((hinge.clamp(min=0).sum(1), counts.sum(1), (hinge > 0).sum(1)))


def _weights(far: Tensor, factor: Tensor, level: Tensor, how: Comparison) -> Tensor:
    """Gradient of the loss by a matrix of distances, as `pull` has it of each."""
    if how.margin is None:
        weight = factor * torch.exp((how.logits(far) - level).clamp(max=0))
    else:
        weight = torch.where(far < level, factor, 0)
    return weight if how.valid is None else weight.masked_fill(~how.valid, 0)


def _each_pair(
    kernel: Any,
    x: Tensor,
    i: Tensor | None,
    y: Tensor,
    j: Tensor | None,
    more: tuple[Tensor, ...],
    polar: bool,
    c: float,
) -> None:
    total, columns = len(more[0]), x.shape[1]
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
