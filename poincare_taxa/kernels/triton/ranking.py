"""`ranking_loss` on a GPU: shared negatives in tiles, lists of their own as so many pairs."""

import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Comparison, Pairs
from poincare_taxa.kernels.triton.pairs import pairs_backward, pairs_forward
from poincare_taxa.kernels.triton.tiles import pull, ranking_sums

__all__ = ["ranking_backward", "ranking_forward"]


def ranking_forward(
    table: Tensor, anchor: Tensor, positive: Tensor, negatives: Tensor, how: Comparison
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss of each anchor; distances from the positive, and what sums the backward pass wants.

    Negatives that all anchors share are compared in tiles. Lists of their own are so many pairs, of
    which each has a gradient of its own: there a matrix of distances is small beside the result.
    """
    table = table.detach()
    near = pairs_forward(Pairs(table, anchor, table, positive, how.polar, how.c))
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
    pairs = Pairs(table, anchor, table, positive, *model)
    to_anchor, to_positive = pairs_backward(pairs, by_near)
    factor, level = factor[:, None], level[:, None]
    if negatives.ndim == 1:
        x, y = table[anchor], table[negatives]
        to_anchor += pull(x, y, factor, level, how)
        to_negatives = pull(y, x, factor.T, level.T, how.transposed)
    else:
        far = _own_distances(table, anchor, negatives, how)
        weight = _weights(far, factor, level, how).flatten()
        each, flat = anchor.repeat_interleave(far.shape[1]), negatives.flatten()
        by_pair, to_negatives = pairs_backward(Pairs(table, each, table, flat, *model), weight)
        to_anchor += by_pair.view(*far.shape, table.shape[1]).sum(1)
    rows = torch.cat((anchor, positive, negatives.flatten()))
    return rows, torch.cat((to_anchor, to_positive, to_negatives))


def _own_distances(table: Tensor, anchor: Tensor, negatives: Tensor, how: Comparison) -> Tensor:
    """Distance of each anchor from its own list of negatives [B, K]."""
    each = anchor.repeat_interleave(negatives.shape[1])
    far = pairs_forward(Pairs(table, each, table, negatives.flatten(), how.polar, how.c))
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
