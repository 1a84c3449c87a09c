r"""Tiles: points as columns, with what a distance needs of each, and pairs of a point and a tile.

Every distance is that of

.. math:: t = \sinh^2\tfrac{d}{2} = h^2 + w\,|x - y|^2, \qquad
          d = 2\log\bigl(\sqrt t + \sqrt{1 + t}\bigr),                      \qquad (1)

polar (law of haversines): h = sinh((r₁−r₂)/2), w = ¼ sinh r₁ sinh r₂, x and y the directions;
ball (times 1/√c): h = 0, w = c / (g(x) g(y)), g(x) = 1 − c|x|². No term cancels, and up to radius
350 none overflows. All arithmetic is float64, whatever the points are stored in.
"""

import math

from poincare_taxa.kernels.numba.arrays import Array, Rows
from poincare_taxa.kernels.numba.compile import fusing, helper, inline, summing
from poincare_taxa.kernels.numba.elementary import exp

__all__ = [
    "FACTS",
    "TILE",
    "copy_column",
    "fill_t",
    "fill_tile",
    "fill_turn",
    "pull",
    "pull_two",
    "scatter_gradients",
    "separations",
    "sinh",
    "squares_of_two",
]

TILE = 256  # Points transposed at once: 10 coordinates and 4 facts of them fill 28 KiB of cache.
FACTS = 4  # Of a point, after its coordinates: e^{r/2}, e^{−r/2}, its factor of w, e^{r/2} again.


@inline
def sinh(x: float, grown: float, shrunk: float) -> float:
    """Compute sinh x from x, eˣ and e⁻ˣ with a small relative error: a series near 0."""
    y = x * x
    series = 1 + y / 6 * (1 + y / 20 * (1 + y / 42 * (1 + y / 72 * (1 + y / 110))))
    return x * series if y < 0.0625 else 0.5 * (grown - shrunk)


@helper
def fill_tile(
    radius: Array,  # [n]; empty in the ball
    coordinates: Array,  # [n, dim]
    rows: Rows,
    start: int,
    stop: int,
    c: float,
    rim: float,  # least 1 − √c|x|
    out: Array,
) -> None:
    """Write points start to stop of a list of rows to out [dim + facts, TILE], one per column.

    Without a list (it is empty), these are rows start to stop. Columns past the last point stay.
    """
    dim = coordinates.shape[1]
    padded = out.shape[0] - FACTS
    polar = len(radius) > 0
    number = min(stop - start, out.shape[1])
    for m in range(number):
        row = rows[start + m] if len(rows) > 0 else start + m
        for k in range(dim):
            out[k, m] = coordinates[row, k]
        if polar:
            out[padded, m] = radius[row]
    out[dim:padded] = 0
    if polar:
        for m in range(number):
            r = out[padded, m]
            grown = exp(0.5 * r)
            out[padded, m], out[padded + 1, m] = grown, 1 / grown
            out[padded + 2, m] = 0.5 * sinh(r, grown * grown, 1 / (grown * grown))
            out[padded + 3, m] = grown
    else:
        out[padded] = 0
        for k in range(dim):
            for m in range(number):
                out[padded, m] += out[k, m] * out[k, m]
        for m in range(number):
            n = math.sqrt(c * out[padded, m])
            inside = max(1 - n, rim)
            out[padded, m] = out[padded + 1, m] = 0
            out[padded + 2, m] = math.sqrt(c) / (inside * (1 + n))
            out[padded + 3, m] = math.sqrt((1 + n) / inside)


@helper
def separations(tile: Array, asked: Array, q: int, n: int, apart: Array, t: Array) -> None:
    """|x−y|² and t of column q of asked and the first n columns of a tile; 0 where they agree."""
    _squares(tile, asked, q, n, apart)
    fill_t(tile, asked, q, n, apart, t)


@fusing
def _squares(tile: Array, asked: Array, q: int, n: int, apart: Array) -> None:
    for m in range(n):
        apart[m] = 0
    for k in range(0, len(tile) - FACTS, 2):
        a, b = asked[k, q], asked[k + 1, q]
        for m in range(n):
            first, second = a - tile[k, m], b - tile[k + 1, m]
            apart[m] = (apart[m] + first * first) + second * second


@fusing
def squares_of_two(
    tile: Array, asked: Array, q: int, r: int, n: int, apart1: Array, apart2: Array
) -> None:
    """|x−y|² of columns q and r of asked: a tile, larger than the first cache, is read once."""
    for m in range(n):
        apart1[m], apart2[m] = 0, 0
    for k in range(0, len(tile) - FACTS, 2):
        a, b, c, d = asked[k, q], asked[k + 1, q], asked[k, r], asked[k + 1, r]
        for m in range(n):
            x, y = tile[k, m], tile[k + 1, m]
            apart1[m] = (apart1[m] + (a - x) * (a - x)) + (b - y) * (b - y)
            apart2[m] = (apart2[m] + (c - x) * (c - x)) + (d - y) * (d - y)


@helper
def fill_t(tile: Array, asked: Array, q: int, n: int, apart: Array, t: Array) -> None:
    """Compute t of (1) from |x−y|²: products that are not fused, so that equal points have 0."""
    dim = len(tile) - FACTS
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    for m in range(n):
        h = 0.5 * (grown * tile[dim + 1, m] - shrunk * tile[dim, m])
        t[m] = apart[m] * (weight * tile[dim + 2, m]) + h * h


@helper
def copy_column(points: Array, q: int, one: Array) -> None:
    """Copy column q of points to a tile of one point."""
    for k in range(len(points)):
        one[k, 0] = points[k, q]


@summing
def pull(
    tile: Array,
    asked: Array,
    q: int,
    n: int,
    polar: bool,
    unit: float,  # 1/√c
    c: float,
    apart: Array,  # |x−y|² and t, of `separations`
    t: Array,
    by_d: Array,  # gradient of the distances
    turn: Array,  # room for n numbers
    to_asked: Array,  # [dim + 1], added to
    to_tile: Array,  # [dim + 1, TILE], added to
) -> None:
    """Add gradients of the distances of column q of asked from a tile.

    The last of dim + 1 is that of the radius; in the ball, what multiplies the point itself.
    """
    fill_turn(tile, asked, q, n, polar, unit, c, apart, t, by_d, turn, to_asked, to_tile)
    for k in range(len(tile) - FACTS):
        a = asked[k, q]
        total = 0.0
        for m in range(n):
            step = turn[m] * (a - tile[k, m])
            total += step
            to_tile[k, m] -= step
        to_asked[k] += total


@summing
def pull_two(
    tile: Array,
    asked: Array,
    q: int,
    r: int,
    n: int,
    turn1: Array,
    turn2: Array,
    to_asked: Array,  # [dim + 1, 2], added to
    to_tile: Array,  # [dim + 1, TILE], added to
) -> None:
    """Do the sums of `pull` over coordinates for columns q and r of asked, of which r is q + 1."""
    for k in range(len(tile) - FACTS):
        a, b = asked[k, q], asked[k, r]
        total1, total2 = 0.0, 0.0
        for m in range(n):
            x = tile[k, m]
            step1, step2 = turn1[m] * (a - x), turn2[m] * (b - x)
            total1 += step1
            total2 += step2
            to_tile[k, m] -= step1 + step2
        to_asked[k, 0] += total1
        to_asked[k, 1] += total2


@summing
def fill_turn(
    tile: Array,
    asked: Array,
    q: int,
    n: int,
    polar: bool,
    unit: float,
    c: float,
    apart: Array,
    t: Array,
    by_d: Array,
    turn: Array,  # out [n]: what multiplies x − y
    to_asked: Array,
    to_tile: Array,
) -> None:
    """Add the part of `pull` that belongs to radii, or multiplies a point of the ball itself."""
    dim = len(tile) - FACTS
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    own = 0.0
    if polar:
        bend = 0.25 * (grown * grown + shrunk * shrunk)
        for m in range(n):
            root, more = math.sqrt(t[m]), math.sqrt(1 + t[m])
            s = 0.0 if t[m] == 0 else by_d[m] / (root * more)
            turn[m] = 2 * s * (weight * tile[dim + 2, m])
            there, back = grown * tile[dim + 1, m], shrunk * tile[dim, m]
            radial = 0.25 * (there - back) * (there + back)
            other = 0.25 * (tile[dim, m] * tile[dim, m] + tile[dim + 1, m] * tile[dim + 1, m])
            own += s * (radial + bend * tile[dim + 2, m] * apart[m])
            to_tile[dim, m] += s * (other * weight * apart[m] - radial)
    else:
        scale = 2 * math.sqrt(c)
        for m in range(n):
            root, more = math.sqrt(t[m]), math.sqrt(1 + t[m])
            s = 0.0 if t[m] == 0 else unit * by_d[m] / (root * more)
            turn[m] = 2 * s * (weight * tile[dim + 2, m])
            own += scale * weight * (s * t[m])
            to_tile[dim, m] += scale * tile[dim + 2, m] * (s * t[m])
    to_asked[dim] += own


@helper
def scatter_gradients(points: Array, q: int, found: Array, n: int, polar: bool, out: Array) -> None:
    """Add gradients found of points q … q + n, in columns, to the first n rows of out; clear them.

    Rows are those of the table: in the polar model the radius comes first.
    """
    dim = len(points) - FACTS
    first = 1 if polar else 0
    for m in range(n):
        if polar:
            out[m, 0] += found[dim, m]
        for k in range(first, out.shape[1]):
            own = 0.0 if polar else found[dim, m] * points[k, q + m]
            out[m, k] += found[k - first, m] + own
    found[:, :n] = 0
