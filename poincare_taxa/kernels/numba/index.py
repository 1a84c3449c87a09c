r"""Loops of the exact index (`search`): nodes that bound distances, and the search through them.

Points stand in *leaves* of `SPAN` points, in an order in which near ones are close together;
`WIDTH` consecutive leaves are the children of a node, as many of those of the next level. A node
has a cap and a shell that hold its points: a centre c and s ≥ |u − c| for the direction u of each,
and bounds of e^{r/2}.

**Lower bound.** With the half chord m = |u_q − u|/2, (1) of `tiles` is, in both models,

.. math:: T(r, m) = \sinh^2\tfrac{r_q - r}{2} + \sinh r_q\,\sinh r\;m^2

(in the ball by c|x − y|² = (n − n')² + n n'|u − u'|², n = √c|x|). It grows with m, and
m ≥ (|u_q − c| − s)/2 by the triangle inequality, of directions that need not be unit vectors.
For given m it is least where tanh r = (1 − 2m²) tanh r_q, which is

.. math:: e^{2r} = \frac{1 - z}{e^{-2r_q} + z}, \qquad z = m^2 (1 - e^{-2r_q}), \qquad (2)

or at the nearer end of the shell. The key of the ancestor score, (√T + √(1+T)) e^{r/2}, is
e^{(d + r)/2}, and d + r never falls with r (triangle inequality): least at the inner end.

**Upper bound.** m ≤ (|u_q − c| + s)/2 and at most 1. T is a sum of multiples of e^r and e^{−r},
neither negative, so it is convex in r: largest at one of the ends; the ancestor score at the outer.

**Rounding.** A key in a leaf differs from the bound's formula by a relative (dim + 20) eps: the sum
of squares, a few products. Only h = sinh((r_q − r)/2) cancels, with an absolute error of
2 eps cosh, in T of at most 4 eps √(T(1+T)): relative for T ≥ 1, below 1e-14 for T < 1. The half
chord loses (dim + 8) eps of |u_q − c| and of s. Bounds give way by more than all of it (`slack`).
In the ball 1 − n has an absolute error of eps: radii are uncertain by eps e^r, the part of T with
h by as much; shells are widened and bounds give way by 8 eps e^r, r the largest in the table or of
a query, which must be below .01 (radius 29 or less): else there is no index.
"""

import math
from typing import Any

import numpy as np

from poincare_taxa.kernels.numba.arrays import Array, Rows
from poincare_taxa.kernels.numba.compile import fusing, helper, kernel
from poincare_taxa.kernels.numba.search import SPAN, fill_keys, fill_whole
from poincare_taxa.kernels.numba.tiles import FACTS

__all__ = [
    "BATCH",
    "KEPT",
    "WIDTH",
    "asked_loop",
    "counts_loop",
    "halves_loop",
    "leaves_loop",
    "neighbours_loop",
    "nodes_loop",
]

WIDTH = 16
"""Children of a node."""
KEPT = 3
"""Facts of a point in a leaf, after its coordinates: e^{r/2}, e^{−r/2}, its factor of w. Of a node,
after its centre: s/2, and the least and the largest e^{r/2}."""
BATCH = 128
"""Queries that share a descent."""
_STEPS = 3  # towards the farthest direction (Bădoiu and Clarkson 2003): the cap gets smaller


@kernel(
    "real[:], real[:, :], int64[::1], int64, int64, int64, float64, float64, float64[:, :, ::1]"
)
def leaves_loop(
    radius: Array,
    coordinates: Array,
    rows: Rows,
    count: int,
    start: int,
    stop: int,
    c: float,
    rim: float,
    leaves: Array,
) -> None:
    """Fill leaves start to stop [leaf, dim + KEPT, SPAN] with the points of a list of rows.

    Without a list (it is empty), these are rows 0 to `count`. Past the last point stands nan.
    """
    kept = leaves.shape[1]
    tile = np.empty((kept - KEPT + FACTS, SPAN))
    for leaf in range(start, stop):
        fill_whole(radius, coordinates, rows, leaf * SPAN, count, c, rim, tile)
        leaves[leaf] = tile[:kept]


@helper
def _direct(leaf: Array, polar: bool, scale: Array) -> None:
    """Fill scale [SPAN] with what makes coordinates directions: 1, or 1/|x| in the ball.

    It is nan where a direction does not matter: at the origin, and past the last point.
    """
    dim = len(leaf) - KEPT
    for m in range(SPAN):
        scale[m] = 0.0
    for k in range(dim):
        for m in range(SPAN):
            scale[m] += leaf[k, m] * leaf[k, m]
    for m in range(SPAN):
        if not scale[m] > 0:
            scale[m] = np.nan
        else:
            scale[m] = 1.0 if polar else 1 / math.sqrt(scale[m])


@helper
def _farthest(
    leaves: Array, first: int, last: int, polar: bool, centre: Array, far: Array
) -> float:
    """Square of the largest distance of a direction from a centre; far is that direction."""
    dim = leaves.shape[1] - KEPT
    scale, apart = np.empty(SPAN), np.empty(SPAN)
    largest = 0.0
    for leaf in range(first, last):
        _direct(leaves[leaf], polar, scale)
        for m in range(SPAN):
            apart[m] = 0.0
        for k in range(dim):
            for m in range(SPAN):
                step = leaves[leaf, k, m] * scale[m] - centre[k]
                apart[m] += step * step
        for m in range(SPAN):
            if apart[m] > largest:
                largest = apart[m]
                for k in range(dim):
                    far[k] = leaves[leaf, k, m] * scale[m]
    return largest


@kernel("float64[:, :, ::1], int64, bool, float64, int64, int64, float64[:, ::1]")
def nodes_loop(
    leaves: Array,
    size: int,
    polar: bool,
    wide: float,
    start: int,
    stop: int,
    nodes: Array,
) -> None:
    """Fill nodes start to stop [node, dim + KEPT] of a level whose nodes have `size` leaves each.

    Shells are widened by the factor 1 + wide.
    """
    dim = leaves.shape[1] - KEPT
    scale = np.empty(SPAN)
    centre, best, far = np.empty(dim), np.empty(dim), np.empty(dim)
    for node in range(start, stop):
        first, last = node * size, min((node + 1) * size, len(leaves))
        # The mean direction, and the shell.
        centre[:] = 0
        low, high = np.inf, 0.0
        for leaf in range(first, last):
            _direct(leaves[leaf], polar, scale)
            for k in range(dim):
                for m in range(SPAN):
                    step = leaves[leaf, k, m] * scale[m]
                    centre[k] += step if step == step else 0.0
            for m in range(SPAN):
                grown = leaves[leaf, dim, m]
                low, high = (min(low, grown), max(high, grown)) if grown == grown else (low, high)
        length = math.sqrt((centre * centre).sum())
        if length > 0:
            centre /= length
        best[:] = centre
        # Steps towards the farthest direction; the smallest cap of all is kept.
        smallest = _farthest(leaves, first, last, polar, centre, far)
        for turn in range(_STEPS):
            centre += (far - centre) / (turn + 2)
            apart = _farthest(leaves, first, last, polar, centre, far)
            if apart < smallest:
                smallest = apart
                best[:] = centre
        nodes[node, :dim] = best
        nodes[node, dim] = 0.5 * math.sqrt(smallest)
        nodes[node, dim + 1], nodes[node, dim + 2] = low / (1 + wide), high * (1 + wide)


@kernel("float64[:, ::1], bool, float64[:, ::1]")
def asked_loop(queries: Array, polar: bool, out: Array) -> None:
    """Fill out [dim + KEPT, Q] with direction, e^{r/2}, e^{−r/2} and sinh(r)/2 of the queries."""
    dim = len(out) - KEPT
    for q in range(out.shape[1]):
        scale = 1.0
        if not polar:
            square = 0.0
            for k in range(dim):
                square += queries[k, q] * queries[k, q]
            scale = 1 / math.sqrt(square) if square > 0 else 0.0
        for k in range(dim):
            out[k, q] = queries[k, q] * scale
        grown = queries[dim + FACTS - 1, q]
        out[dim, q], out[dim + 1, q] = grown, 1 / grown
        out[dim + 2, q] = 0.25 * (grown * grown - 1 / (grown * grown))


@helper
def _fill_chords(node: Array, asked: Array, q: int, half: Array) -> None:
    """Fill half [WIDTH] with |c − u|/2, of the centre of each child and the query's direction."""
    for m in range(WIDTH):
        half[m] = 0.0
    for k in range(len(node) - KEPT):
        a = asked[k, q]
        for m in range(WIDTH):
            half[m] += (node[k, m] - a) * (node[k, m] - a)
    for m in range(WIDTH):
        half[m] = 0.5 * math.sqrt(half[m])


@fusing
def _fill_lower(
    node: Array, asked: Array, q: int, ancestor: bool, slack: float, half: Array, lower: Array
) -> None:
    """Fill lower [WIDTH] with lower bounds of the keys in each child; nan where there is none."""
    dim = len(node) - KEPT
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    once = shrunk * shrunk * shrunk * shrunk  # e^{−2r}
    lost = (dim + 8) * 2.3e-16
    for m in range(WIDTH):
        # The least half chord.
        least = max(half[m] * (1 - lost) - node[dim, m] * (1 + lost), 0.0)
        square = min(least * least, 1.0)
        # The radius at which T is least, (2), within the shell.
        low, high = node[dim + 1, m], node[dim + 2, m]
        z = square * (1 - once)
        at = low if ancestor else math.sqrt(math.sqrt((1 - z) / (once + z)))
        at = min(max(at, low), high)
        back = 1 / at
        h = 0.5 * (grown * back - shrunk * at)
        t = h * h + weight * (at * at - back * back) * square
        t = max(t * (1 - slack) - 1e-14, 0.0)
        if ancestor:
            t = (math.sqrt(t) + math.sqrt(1 + t)) * at * (1 - slack)
        lower[m] = t if low > 0 else np.nan


@fusing
def _fill_upper(
    node: Array, asked: Array, q: int, ancestor: bool, slack: float, half: Array, upper: Array
) -> None:
    """Fill upper [WIDTH] with upper bounds of the keys in each child; nan where there is none."""
    dim = len(node) - KEPT
    grown, shrunk, weight = asked[dim, q], asked[dim + 1, q], asked[dim + 2, q]
    lost = (dim + 8) * 2.3e-16
    for m in range(WIDTH):
        # The largest half chord; stored directions may be longer than 1 by their rounding.
        most = min((half[m] + node[dim, m]) * (1 + lost), 1 + 1e-6)
        square = most * most
        # T is convex in r: largest at one of the ends.
        low, high = node[dim + 1, m], node[dim + 2, m]
        back, out = 1 / low, 1 / high
        h = 0.5 * (grown * out - shrunk * high)
        t = h * h + weight * (high * high - out * out) * square
        if ancestor:
            t = t * (1 + slack) + 1e-14
            upper[m] = (math.sqrt(t) + math.sqrt(1 + t)) * high * (1 + slack)
        else:
            h = 0.5 * (grown * back - shrunk * low)
            t = max(t, h * h + weight * (low * low - back * back) * square)
            upper[m] = t * (1 + slack) + 1e-14


@helper
def _push(
    lower: Array,
    level: int,
    parent: int,
    path: int,
    low: int,
    high: int,
    edge: float,
    stack: tuple[Rows, Array],
    top: int,
) -> int:
    """Push the children of a node that may have candidates, the nearest on top; return the top.

    Not the child `path`, nor one without places between low and high.
    """
    place_of, bound_of = stack
    base, span = top, SPAN * WIDTH**level
    for m in range(WIDTH):
        child = parent * WIDTH + m
        if lower[m] <= edge and child != path and child * span < high and (child + 1) * span > low:
            place = top
            while place > base and bound_of[place - 1] < lower[m]:
                place_of[place], bound_of[place] = place_of[place - 1], bound_of[place - 1]
                place -= 1
            place_of[place, 0], place_of[place, 1], bound_of[place] = level, child, lower[m]
            top += 1
    return top


@helper
def _insert(key: float, row: Any, best: Array, found: Rows) -> None:
    """Put a key among the lowest; equal keys in the order of their rows."""
    place = len(best) - 1
    while place > 0 and (
        key < best[place - 1] or (key == best[place - 1] and row < found[place - 1])
    ):
        best[place], found[place] = best[place - 1], found[place - 1]
        place -= 1
    best[place], found[place] = key, row


@kernel(
    "float64[:, ::1], float64[:, ::1], int64[::1], int64[::1], bool, float64, float64[:, :, ::1], "
    "int64[::1], float64[:, :, ::1], int64[::1], int64, int64, int64, int64, float64[:, ::1], "
    "int64[:, ::1], int64[::1]"
)
def neighbours_loop(
    queries: Array,  # columns, as those of `search`
    asked: Array,  # columns, of `asked_loop`
    home: Rows,  # leaf at which the search of a query starts; −1: it starts at the root
    skip: Rows,
    ancestor: bool,
    slack: float,
    leaves: Array,
    rows: Rows,
    nodes: Array,  # of all levels, the lowest first: [node, dim + KEPT, WIDTH]
    levels: Rows,  # at which node each level begins
    low: int,  # places from low to high are candidates
    high: int,
    start: int,  # queries from start to stop are searched for
    stop: int,
    best: Array,
    found: Array,
    opened: Rows,
) -> None:
    """Keep in best and found [Q, k] the lowest keys and their rows; opened counts leaves.

    From the leaf of the query outwards: siblings of its leaf, then those of its parent, and so on;
    of each set of children the nearest bound first. Equal keys: the earlier row first.
    """
    k = best.shape[1]
    keys, half, lower = np.empty(SPAN), np.empty(WIDTH), np.empty(WIDTH)
    # The stack of what is still to be opened: level (0 is a leaf), number there, lower bound.
    room = WIDTH * (len(levels) + 2)
    stack = np.empty((room, 2), np.int64), np.empty(room)
    for q in range(start, stop):
        edge, last = np.inf, np.int64(-1)  # the k-th key, and its row
        level = 0 if home[q] >= 0 else len(levels)
        path = max(home[q], 0)
        stack[0][0, 0], stack[0][0, 1], stack[1][0] = level, path, 0.0
        top = 1
        while True:
            # Everything on the stack, down to the leaves.
            while top > 0:
                top -= 1
                if stack[1][top] > edge:
                    continue
                at, number = stack[0][top]
                if at > 0:
                    node = nodes[levels[at - 1] + number]
                    _fill_chords(node, asked, q, half)
                    _fill_lower(node, asked, q, ancestor, slack, half, lower)
                    top = _push(lower, at - 1, number, -1, low, high, edge, stack, top)
                    continue
                fill_keys(leaves[number], queries, q, ancestor, keys)
                opened[q] += 1
                below = 0
                for m in range(SPAN):
                    below += keys[m] <= edge
                if below == 0:
                    continue
                first = number * SPAN
                for m in range(max(low - first, 0), min(SPAN, high - first)):
                    row = rows[first + m] if len(rows) > 0 else first + m
                    if row != skip[q] and (keys[m] < edge or (keys[m] == edge and row < last)):
                        _insert(keys[m], row, best[q], found[q])
                        edge = best[q, k - 1]
                        last = found[q, k - 1] if edge < np.inf else np.int64(0)
            # One level up: the other children of the parent.
            level += 1
            if level > len(levels):
                break
            node = nodes[levels[level - 1] + path // WIDTH]
            _fill_chords(node, asked, q, half)
            _fill_lower(node, asked, q, ancestor, slack, half, lower)
            top = _push(lower, level - 1, path // WIDTH, path, low, high, edge, stack, top)
            path //= WIDTH


@helper
def _first(levels: Array, begin: int, end: int, value: float, above: bool) -> int:
    """Place of the first of ascending levels that is not below a value, or that is above it."""
    while begin < end:
        middle = (begin + end) // 2
        if levels[middle] < value or (above and levels[middle] == value):
            begin = middle + 1
        else:
            end = middle
    return begin


@helper
def _count_leaf(
    keys: Array, number: int, levels: Array, begin: int, end: int, below: Array, equal: Array
) -> None:
    """Count the first `number` keys by the levels from begin to end that they fall between.

    All keys are above the level before these; what is above them all counts at `end`, if that is a
    level.
    """
    if end - begin > 8:
        for m in range(number):
            j = _first(levels, begin, end, keys[m], False)
            if j < end and levels[j] == keys[m]:
                equal[j] += 1
            elif j < len(levels):
                below[j] += 1
        return
    upto = 0
    for j in range(begin, end):
        if j > begin and levels[j] == levels[j - 1]:
            continue  # of equal levels the first one counts
        less, not_more = 0, 0
        for m in range(SPAN):
            less += keys[m] < levels[j]
            not_more += keys[m] <= levels[j]
        below[j] += less - upto
        equal[j] += not_more - less
        upto = not_more
    if end < len(levels):
        below[end] += number - upto


@kernel(
    "float64[:, ::1], float64[:, ::1], bool, float64, float64[:, :, ::1], float64[:, :, ::1], "
    "int64[::1], int64, float64[:, ::1], int64[::1], int64, int64, int64[:, ::1], int64[:, ::1]"
)
def counts_loop(
    queries: Array,
    asked: Array,
    ancestor: bool,
    slack: float,
    leaves: Array,
    nodes: Array,
    starts: Rows,  # at which node each level of nodes begins
    count: int,  # number of points
    levels: Array,
    last: Rows,
    start: int,
    stop: int,
    below: Array,
    equal: Array,
) -> None:
    """Count all points by the ascending levels [Q, T] that their keys fall between.

    below[q, j] counts keys between levels j−1 and j, equal[q, j] those at level j, the first of
    equal ones; last[q] is the number of levels of q.

    From the root down, `BATCH` queries at a time: of each query the levels that lie within the
    bounds of a child go on into it; where none does, the child is counted as a whole. A tile is so
    read once for all queries of a batch.
    """
    depth = len(starts)
    keys, half = np.empty(SPAN), np.empty(WIDTH)
    lower, upper = np.empty(WIDTH), np.empty(WIDTH)
    # For each level, what is to be done in each child of the node that is being visited: a list of
    # a query, its first level within bounds, and that after the last.
    lists = np.empty((depth + 1, WIDTH, BATCH, 3), np.int32)
    sizes = np.zeros((depth + 1, WIDTH), np.int64)
    parent, following = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    for first in range(start, stop, BATCH):
        sizes[depth] = 0
        for q in range(first, min(first + BATCH, stop)):
            if last[q] > 0:
                entry = lists[depth, 0, sizes[depth, 0]]
                entry[0], entry[1], entry[2] = q - first, 0, last[q]
                sizes[depth, 0] += 1
        level, parent[depth], following[depth] = depth, 0, 0
        while level <= depth:
            child = following[level]
            if child == WIDTH:
                level += 1
                continue
            following[level] += 1
            if sizes[level, child] == 0:
                continue
            number = parent[level] * WIDTH + child
            if level == 0:
                for e in range(sizes[0, child]):
                    q = first + lists[0, child, e, 0]
                    begin, end = lists[0, child, e, 1], lists[0, child, e, 2]
                    fill_keys(leaves[number], queries, q, ancestor, keys)
                    points = min(SPAN, count - number * SPAN)
                    row = levels[q, : last[q]]
                    _count_leaf(keys, points, row, begin, end, below[q], equal[q])
                continue
            node = nodes[starts[level - 1] + number]
            span = SPAN * WIDTH ** (level - 1)
            sizes[level - 1] = 0
            for e in range(sizes[level, child]):
                q = first + lists[level, child, e, 0]
                begin, end = lists[level, child, e, 1], lists[level, child, e, 2]
                _fill_chords(node, asked, q, half)
                _fill_lower(node, asked, q, ancestor, slack, half, lower)
                _fill_upper(node, asked, q, ancestor, slack, half, upper)
                for m in range(WIDTH):
                    points = min(span, count - (number * WIDTH + m) * span)
                    if points <= 0:
                        break
                    i = _first(levels[q], begin, end, lower[m], False)
                    j = _first(levels[q], i, end, upper[m], True)
                    if i < j:
                        entry = lists[level - 1, m, sizes[level - 1, m]]
                        entry[0], entry[1], entry[2] = q - first, i, j
                        sizes[level - 1, m] += 1
                    elif j < last[q]:
                        below[q, j] += points
            level -= 1
            parent[level], following[level] = number, 0


@kernel("float64[::1], float64[:, ::1], int64[::1]")
def halves_loop(radius: Array, direction: Array, order: Rows) -> None:
    """Sort rows by halves of whole leaves, each along the axis in which its part is widest."""
    dim = direction.shape[1]
    values = np.empty(len(order))
    begins, ends = np.empty(128, np.int64), np.empty(128, np.int64)
    begins[0], ends[0], top = 0, len(order), 1
    while top > 0:
        top -= 1
        begin, end = begins[top], ends[top]
        number = end - begin
        if number <= SPAN:
            continue
        # The coordinate of the directions with the largest variance.
        axis, widest = 0, -1.0
        for k in range(dim):
            shift, total, squares = direction[order[begin], k], 0.0, 0.0
            for i in range(begin, end):
                x = direction[order[i], k] - shift
                total += x
                squares += x * x
            variance = squares / number - (total / number) ** 2
            if variance > widest:
                axis, widest = k, variance
        # The radius, if it varies more than that distance at the mean radius.
        total, squares = 0.0, 0.0
        for i in range(begin, end):
            total += radius[order[i]]
            squares += radius[order[i]] ** 2
        mean = total / number
        spread = math.sqrt(max(squares / number - mean * mean, 0.0))
        if spread > 2 * math.asinh(math.sinh(min(mean, 350.0)) * math.sqrt(max(widest, 0.0))):
            axis = -1
        for i in range(begin, end):
            values[i] = radius[order[i]] if axis < 0 else direction[order[i], axis]
        half = begin + (-(-number // SPAN) + 1) // 2 * SPAN
        part = order[begin:end].copy()
        place = np.argpartition(values[begin:end], half - begin)
        for i in range(number):
            order[begin + i] = part[place[i]]
        begins[top], ends[top] = half, end
        begins[top + 1], ends[top + 1] = begin, half
        top += 2
