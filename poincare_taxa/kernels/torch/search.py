"""The same in plain torch, on any device: `geometry` in blocks, float64."""

from collections.abc import Iterator

import torch
from torch import Tensor

from poincare_taxa.geometry import ball, polar
from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.counts import in_order_of_targets

__all__ = ["count_nearer", "nearest"]

_SCORES = 1 << 18  # Scores of a block: a few fit into a core's cache.
_QUERIES = 256  # Queries that a search answers at once.


def nearest(
    points: Points, queries: Points, k: int, ancestor: bool, skip: Tensor, rows: Tensor | None
) -> Tensor:
    """Rows [Q, k] of the nearest, −1 where there are fewer."""
    parts = [
        _nearest(points, queries.at(at), k, ancestor, skip[at], rows)
        for start in range(0, len(queries), _QUERIES)
        for at in [slice(start, start + _QUERIES)]
    ]
    return torch.cat(parts) if parts else skip.new_empty(0, k)


def _nearest(
    points: Points, queries: Points, k: int, ancestor: bool, skip: Tensor, rows: Tensor | None
) -> Tensor:
    q = len(queries)
    best = torch.full((q, k), torch.inf, dtype=torch.float64, device=points.device)
    found = torch.full((q, k), -1, device=points.device)
    for start, stop in _stretches(len(points) if rows is None else len(rows), q):
        here = torch.arange(start, stop, device=points.device)
        here = here if rows is None else rows[start:stop]
        some = points.at(slice(start, stop) if rows is None else here)
        scores = _scores(queries, some, ancestor)
        scores = scores.nan_to_num_(nan=torch.inf).masked_fill_(here == skip[:, None], torch.inf)
        scores, place = scores.topk(min(k, stop - start), largest=False)
        best, order = torch.cat((best, scores), 1).topk(k, largest=False)
        found = torch.cat((found, here[place]), 1).gather(1, order)
    return found.masked_fill(best.isinf(), -1)


def count_nearer(
    points: Points, queries: Points, targets: Tensor, ancestor: bool, skip: Tensor
) -> tuple[Tensor, Tensor]:
    """Nearer and tied rows of each target [Q, T]."""
    blocks = list(_stretches(len(points), len(queries)))
    wanted = torch.full(targets.shape, torch.inf, dtype=torch.float64, device=points.device)
    # The targets' scores are taken from the blocks that are counted: computed apart from them, on
    # vectors of another length, they may differ in the last bit, and tie with nothing.
    for start, stop in blocks:
        scores = _scores(queries, points.at(slice(start, stop)), ancestor)
        here = (start <= targets) & (targets < stop)
        picked = scores.gather(1, (targets - start).clamp(0, stop - start - 1))
        wanted = torch.where(here, picked, wanted)
    levels, order = wanted.sort(dim=1)
    nearer, upto = torch.zeros_like(targets), torch.zeros_like(targets)
    for start, stop in blocks:
        scores = _scores(queries, points.at(slice(start, stop)), ancestor)
        here = torch.arange(start, stop, device=points.device)
        scores = scores.nan_to_num_(nan=torch.inf).masked_fill_(here == skip[:, None], torch.inf)
        scores = scores.sort(dim=1).values
        nearer += torch.searchsorted(scores, levels)
        upto += torch.searchsorted(scores, levels, right=True)
    return in_order_of_targets(levels, order, nearer, upto - nearer - 1)


def _scores(queries: Points, points: Points, ancestor: bool) -> Tensor:
    q, v = queries.double(), points.double()
    if q.radius is None or v.radius is None:
        score = ball.all_ancestor_scores if ancestor else ball.cdist
        return score(q.coordinates, v.coordinates, c=q.c)
    score = polar.all_ancestor_scores if ancestor else polar.cdist
    return score(q.radius, q.coordinates, v.radius, v.coordinates)


def _stretches(total: int, queries: int) -> Iterator[tuple[int, int]]:
    step = max(1, _SCORES // max(1, queries))
    for start in range(0, total, step):
        yield start, min(start + step, total)
