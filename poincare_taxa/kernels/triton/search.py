r"""Few queries against millions of rows on a GPU: `nearest` and `count_nearer`, in float64.

A point is a column of float64 numbers: its coordinates and facts of it (of `_columns`). Its key for
a query, which grows with the distance (or with the ancestor score), is

.. math:: t = h^2 + w\,|x - y|^2 \qquad\text{or}\qquad (\sqrt t + \sqrt{1 + t})\,e^{r/2},

with h and w products of facts. Every product that is added to a sum is an explicit fma, so that
there is one way to compile it: a pair gives the same bits in every kernel, and ties are found.
Columns past the last point are nan, for which every comparison is false. Programs of neighbouring
number share points, so that a table is read once for all queries.

**Nearest.** `minima_kernel` keeps of each group of points the lowest key alone. The k nearest
points lie in the k groups whose lowest keys are lowest: were one of them in another group, each of
those k would hold a point at least as near. `keys_kernel` computes the keys of their few points.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.counts import counts_between
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
            minima_kernel,
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
        count_kernel,
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
    below, equal = counts.long().unbind(2)
    return counts_between(below, equal, levels, order)


def _columns(points: Points, multiple: int = 1) -> Tensor:
    """Points as the kernels take them: [dim + 4, n], float64, padded with nan.

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
        keys_kernel,
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


# -------------------------------------------------------------------- kernels


@triton.jit
def _keys(
    points,
    n,
    here,
    queries,
    asked_of,
    asked,
    DIM: tl.constexpr,
    POLAR: tl.constexpr,
    ANCESTOR: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Keys [TALL, WIDE] of points `here` (columns of n) for queries `asked` (of asked_of)."""
    n, asked_of = tl.cast(n, tl.int64), tl.cast(asked_of, tl.int64)  # k n may pass 2^31
    apart = tl.zeros((TALL, WIDE), tl.float64)
    for k in tl.range(0, DIM):
        difference = tl.load(points + (k * n + here)) - tl.load(queries + (k * asked_of + asked))
        apart = tl.fma(difference, difference, apart)
    facts, asked_facts = points + (DIM * n + here), queries + (DIM * asked_of + asked)
    key = apart * (tl.load(facts + 2 * n) * tl.load(asked_facts + 2 * asked_of))
    if POLAR:
        other = tl.load(facts) * tl.load(asked_facts + asked_of)
        h = 0.5 * tl.fma(tl.load(facts + n), tl.load(asked_facts), -other)
        key = tl.fma(h, h, key)
    if ANCESTOR:
        key = (tl.sqrt(key) + tl.sqrt(1 + key)) * tl.load(facts + 3 * n)
    return key


@triton.jit
def minima_kernel(
    points,
    n,
    rows,
    queries,
    asked_of,
    skip,
    out,
    groups,
    DIM: tl.constexpr,
    POLAR: tl.constexpr,
    ANCESTOR: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    TILES: tl.constexpr,
):
    """Lowest key out[query, group] of each group of TILES × WIDE points; inf where there is none.

    rows[point] is the point's row in the table; skip[query] is a row that is no candidate, or −1.
    """
    group = tl.program_id(1).to(tl.int64)
    asked = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    known = asked < asked_of
    asked = tl.minimum(asked, asked_of - 1)
    without = tl.load(skip + asked)
    best = tl.full((TALL, WIDE), float("inf"), tl.float64)
    for tile in tl.range(0, TILES):
        here = (group * TILES + tile) * WIDE + tl.arange(0, WIDE)[None, :]
        key = _keys(points, n, here, queries, asked_of, asked, DIM, POLAR, ANCESTOR, TALL, WIDE)
        best = tl.where((key < best) & (tl.load(rows + here) != without), key, best)
    lowest = tl.min(best, axis=1)[:, None]
    tl.store(out + asked * groups + group, lowest, mask=known)


@triton.jit
def keys_kernel(
    points,
    n,
    places,
    length,
    queries,
    asked_of,
    out,
    DIM: tl.constexpr,
    POLAR: tl.constexpr,
    ANCESTOR: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Keys out[query, m] of the points places[query, m]."""
    asked = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    at = tl.program_id(1).to(tl.int64) * WIDE + tl.arange(0, WIDE)[None, :]
    inside = (at < length) & (asked < asked_of)
    here = tl.load(places + asked * length + at, mask=inside, other=0)
    known = tl.minimum(asked, asked_of - 1)
    key = _keys(points, n, here, queries, asked_of, known, DIM, POLAR, ANCESTOR, TALL, WIDE)
    tl.store(out + asked * length + at, key, mask=inside)


@triton.jit
def count_kernel(
    points,
    n,
    queries,
    asked_of,
    skip,
    levels,
    last,
    width,
    counts,
    DIM: tl.constexpr,
    POLAR: tl.constexpr,
    ANCESTOR: tl.constexpr,
    TALL: tl.constexpr,
    WIDE: tl.constexpr,
    TILES: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Count points by the ascending levels [query, width] that their keys fall between.

    counts[query, j, 0] grows by the keys between levels j−1 and j, counts[query, j, 1] by those at
    level j; last[query] is the number of a query's levels, fewer than 2^STEPS.
    """
    block = tl.program_id(1).to(tl.int64)
    asked = tl.program_id(0).to(tl.int64) * TALL + tl.arange(0, TALL)[:, None]
    known = asked < asked_of
    asked = tl.minimum(asked, asked_of - 1)
    without = tl.load(skip + asked)
    final = tl.load(last + asked) - 1
    first = asked * width
    top = tl.load(levels + first + final, mask=known & (final >= 0), other=-1.0)
    for tile in tl.range(0, TILES):
        here = (block * TILES + tile) * WIDE + tl.arange(0, WIDE)[None, :]
        key = _keys(points, n, here, queries, asked_of, asked, DIM, POLAR, ANCESTOR, TALL, WIDE)
        within = (key <= top) & (here != without)
        if tl.max(within.to(tl.int32)) > 0:  # hardly a tile has any, where targets are near
            low = tl.zeros((TALL, WIDE), tl.int64)
            high = low + final
            for _ in tl.range(0, STEPS):
                middle = (low + high) // 2
                above = tl.load(levels + first + middle, mask=within, other=0.0) < key
                low = tl.where(above, middle + 1, low)
                high = tl.where(above, high, middle)
            level = tl.load(levels + first + low, mask=within, other=0.0)
            place = 2 * (first + low) + (level == key).to(tl.int64)
            tl.atomic_add(counts + place, 1, mask=within, sem="relaxed")
