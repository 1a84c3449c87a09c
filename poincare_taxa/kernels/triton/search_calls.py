"""The kernels of `_triton_search` on tensors: few queries against all rows."""

import math
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.triton import search as _triton_search
from poincare_taxa.kernels.triton.launch import INTERPRETED, launch, quotient

__all__ = ["count_nearer", "nearest"]

_TILE = {"TALL": 16 if INTERPRETED else 8, "WIDE": 128}  # Queries and points of a tile,
_WARPS = 2  # two points for each thread: with 16 sums, it loads less than it computes.
_MANY = 1 << 17  # Points from which a program goes through several tiles.
_STORED = 1 << 25  # Keys that a search stores at once.


def nearest(
    points: Points, queries: Points, k: int, ancestor: bool, skip: Tensor, rows: Tensor | None
) -> Tensor | None:
    """Rows [Q, k] of the nearest, −1 where there are fewer; None where the keys would overflow."""
    if points.too_far or queries.too_far:
        return None
    if rows is None:
        rows = torch.arange(len(points), device=points.device)
    else:
        points = points.at(rows)
    n, tiles = len(points), _tiles(points)
    group = tiles * _TILE["WIDE"]
    columns, about = _columns(points, group), _about(points, ancestor)
    rows = torch.nn.functional.pad(rows, (0, columns.shape[1] - n), value=-1)
    groups = columns.shape[1] // group
    chosen = min(k, groups)
    found = [skip.new_empty(0, k)]
    step = max(1, _STORED // max(groups, chosen * group))
    for start in range(0, len(queries) if n > 0 else 0, step):
        at = slice(start, start + step)
        asked, without = _columns(queries.at(at)), skip[at].contiguous()
        q = len(without)
        lowest = columns.new_empty(q, groups)
        launch(
            _triton_search.minima,
            (_rounds(q), groups),
            columns,
            columns.shape[1],
            rows,
            asked,
            q,
            without,
            lowest,
            groups,
            **about,
            **_TILE,
            TILES=tiles,
            num_warps=_WARPS,
        )
        near = lowest.topk(chosen, largest=False).indices
        places = near[:, :, None] * group + torch.arange(group, device=points.device)
        places = places.flatten(1)
        keys = _keys_at(columns, places, asked, about).nan_to_num_(nan=torch.inf)
        here = rows[places]
        keys.masked_fill_(here == without[:, None], torch.inf)
        best, order = keys.topk(min(k, keys.shape[1]), largest=False)
        some = here.gather(1, order).masked_fill_(best.isinf(), -1)
        found.append(torch.nn.functional.pad(some, (0, k - some.shape[1]), value=-1))
    found = torch.cat(found)
    return torch.nn.functional.pad(found, (0, 0, 0, len(queries) - len(found)), value=-1)


def count_nearer(
    points: Points, queries: Points, targets: Tensor, ancestor: bool, skip: Tensor
) -> tuple[Tensor, Tensor] | None:
    """Nearer and tied rows of each target [Q, T]; None where the keys would overflow."""
    if points.too_far or queries.too_far:
        return None
    tiles, about = _tiles(points), _about(points, ancestor)
    columns, asked = _columns(points, tiles * _TILE["WIDE"]), _columns(queries)
    keys = _keys_at(columns, targets.clamp(min=0), asked, about)
    keys = keys.nan_to_num_(nan=torch.inf).masked_fill_(targets < 0, torch.inf)
    levels, order = keys.sort(dim=1)
    q, width = levels.shape
    counts = torch.zeros(q, width, 2, dtype=torch.int32, device=points.device)
    blocks = columns.shape[1] // (tiles * _TILE["WIDE"])
    launch(
        _triton_search.count,
        (_rounds(q), blocks),
        columns,
        columns.shape[1],
        asked,
        q,
        skip.contiguous(),
        levels,
        (levels < torch.inf).sum(1),
        width,
        counts,
        **about,
        **_TILE,
        TILES=tiles,
        STEPS=width.bit_length(),
        num_warps=_WARPS,
    )
    # Rows at a level were counted at the first of the targets that share it.
    first = torch.searchsorted(levels, levels)
    at_level = counts[:, :, 1].long().gather(1, first)
    nearer = counts.sum(2).cumsum(1).gather(1, first) - at_level
    there = levels < torch.inf
    return tuple(
        torch.zeros_like(targets).scatter(1, order, torch.where(there, number, 0))
        for number in (nearer, at_level - 1)
    )  # pyright: ignore[reportReturnType]


def _columns(points: Points, multiple: int = 1) -> Tensor:
    """Points as `_triton_search` takes them: [dim + 4, n], float64, padded with nan.

    After the coordinates e^{r/2}, e^{−r/2}, the point's factor of w, and e^{r/2} again; the first
    two are not read in the ball, where h = 0.
    """
    rim = torch.finfo(points.coordinates.dtype).eps / 2
    r, x, c = points.double()
    if r is None:
        n = torch.sqrt(c * x.square().sum(1))
        inside = (1 - n).clamp(min=rim)
        weight = math.sqrt(c) / (inside * (1 + n))
        grown = torch.sqrt((1 + n) / inside)
    else:
        weight, grown = 0.5 * torch.sinh(r), torch.exp(r / 2)
    columns = torch.cat((x.T, torch.stack((grown, 1 / grown, weight, grown))))
    missing = -len(points) % multiple
    return torch.nn.functional.pad(columns, (0, missing), value=torch.nan).contiguous()


def _keys_at(columns: Tensor, places: Tensor, asked: Tensor, about: dict[str, Any]) -> Tensor:
    """Key of each place [Q, L] among points for its query."""
    q, length = places.shape
    keys = columns.new_empty(q, length)
    launch(
        _triton_search.keys_at,
        (_rounds(q), quotient(length, _TILE["WIDE"])),
        columns,
        columns.shape[1],
        places.contiguous(),
        length,
        asked,
        q,
        keys,
        **about,
        **_TILE,
        num_warps=_WARPS,
    )
    return keys


def _about(points: Points, ancestor: bool) -> dict[str, Any]:
    return {"DIM": points.dim, "POLAR": points.radius is not None, "ANCESTOR": ancestor}


def _tiles(points: Points) -> int:
    """Tiles that a program goes through: few at first, and never more than 2^15 programs."""
    return 1 if len(points) < _MANY else max(8, 1 << (len(points) >> 22).bit_length())


def _rounds(queries: int) -> int:
    return quotient(queries, _TILE["TALL"])
