r"""Few queries against millions of rows on a GPU: what `_numba` does in its searches, in float64.

A point is a column of float64 numbers: its coordinates and facts of it (`_gpu` writes them). Its
key for a query, which grows with the distance (or with the ancestor score), is

.. math:: t = h^2 + w\,|x - y|^2 \qquad\text{or}\qquad (\sqrt t + \sqrt{1 + t})\,e^{r/2},

with h and w products of facts. Every product that meets a sum is an explicit fma, so that there is
one way to compile it: a pair gives the same bits in every kernel, and ties are found. Columns past
the last point are nan, which no comparison lets through. Programs of neighbouring number share
points, so that a table is read once for all queries.

**Nearest.** `minima` keeps of each group of points the lowest key alone. The k nearest points lie
in the k groups whose lowest keys are lowest: were one of them in another group, each of those k
would hold a point at least as near. Their points are few; `keys_at` computes their keys once more.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import triton
import triton.language as tl

__all__ = ["count", "keys_at", "minima"]


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
def minima(
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
def keys_at(
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
def count(
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
