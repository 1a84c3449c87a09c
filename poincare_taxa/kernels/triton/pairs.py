r"""Distances and their gradients for a GPU, in the dtype of the points.

**Polar.** With lo = min(r₁, r₂), gap = |r₁−r₂|, s = |u₁−u₂|/2 and f = 1 − e^{−2r}, equation (1) of
`_numba` divided by e^{gap} is, as `geometry.polar_distance` derives,

.. math:: p^2 = a^2 + b^2, \quad q^2 = p^2 + 4E, \qquad
          E = e^{-gap}, \quad a = 1 - E, \quad b = e^{lo} s \sqrt{f_1 f_2},

.. math:: d = gap + 2\log\Bigl(1 + \tfrac{b^2}{2}
              \Bigl[\frac1{p + a} + \frac1{q + 1 + E}\Bigr]\Bigr),
          \qquad \sinh d = \tfrac12 e^{gap} p q .                                    \qquad (1)

Dividing the numerators of the gradient by sinh d leaves nothing to exponentiate:

.. math:: \partial d/\partial r_1 = \frac{\pm a(1 + E) + B^2 (2 - f_1) f_2}{pq}, \qquad
          \partial d/\partial u_1 = \frac{e^{2 lo} f_1 f_2}{2pq}(u_1 - u_2),    \qquad (2)

B = e^{lo} s. No term cancels. Where b would overflow, a and E are less than its rounding: then lo
is shortened by a κ such that b fits, (2) does not change, and d = … + 2κ: this holds at any radius.

**Ball.** t = c|x−y|²/(g(x) g(y)) as in `_numba`, times 1/√c.

**Elementary functions** are written here, of sums, products and powers of two: a GPU's float32
exponential errs by as many ulps as its argument is large, which is too much for distances, and
arithmetic gives in Triton's interpreter what it gives on the device.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import triton
import triton.language as tl

__all__ = ["pairs", "pairs_backward"]

# -------------------------------------------------------------------- elementary functions


@triton.jit
def _power_of_two(k, like):
    """2ᵏ, k an integer that the dtype's exponent holds."""
    if like.dtype == tl.float64:
        return ((k.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    else:
        return ((k.to(tl.int32) + 127) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _exponent(x):
    """⌊log₂ x⌋ of a positive number."""
    if x.dtype == tl.float64:
        return ((x.to(tl.int64, bitcast=True) >> 52) - 1023).to(tl.int32)
    else:
        return (x.to(tl.int32, bitcast=True) >> 23) - 127


@triton.jit
def _clamped(x, limit):
    """Bring x, be it nan, between −limit and limit."""
    return tl.where(x < limit, tl.where(x > -limit, x, -limit), limit)


@triton.jit
def _split_exp(x):
    """2ᵏ and m = e^f − 1, where x = k log 2 + f and |f| ≤ ½ log 2: eˣ = 2ᵏ + 2ᵏ m.

    Taylor's series to the degree whose remainder is below half an eps. log 2 is subtracted in two
    parts, the first of so few bits that its product with k is exact.
    """
    if x.dtype == tl.float64:
        degree: tl.constexpr = 14
        x = _clamped(x, 700.0)
        k = tl.floor(x * 1.4426950408889634 + 0.5)
        f = (x - k * 0.693147180369123816490) - k * 1.90821492927058770002e-10
    else:
        degree: tl.constexpr = 8
        x = _clamped(x, 86.0)
        k = tl.floor(x * 1.4426950408889634 + 0.5)
        f = (x - k * 0.693145751953125) - k * 1.42860682030941723212e-6
    m = 1 + f * (1.0 / degree)
    for n in tl.static_range(degree - 1, 1, -1):
        m = 1 + m * f * (1.0 / n)
    return _power_of_two(k, x), m * f


@triton.jit
def _exp(x):
    scale, m = _split_exp(x)
    return scale + scale * m


@triton.jit
def _decay(x):
    """e^{−x} and 1 − e^{−x} of x ≥ 0, both with a small relative error."""
    scale, m = _split_exp(-x)
    return scale + scale * m, (1 - scale) - scale * m


@triton.jit
def _log1p(z):
    """log(1 + z), z ≥ 0: k log 2 + 2 artanh g/(2+g), where 1 + z = 2ᵏ(1 + g), ½ ≤ (1 + g)² < 2."""
    w = 1 + z
    k = _exponent(w * 1.4142135623730951)
    g = tl.where(k == 0, z, w * _power_of_two(-k, w) - 1)
    s = g / (2 + g)
    square = s * s
    terms: tl.constexpr = 11 if z.dtype == tl.float64 else 5
    series = 1.0 / (2 * terms + 1) + square * 0
    for n in tl.static_range(terms - 1, -1, -1):
        series = 1.0 / (2 * n + 1) + square * series
    return k.to(z.dtype) * 0.6931471805599453 + 2 * s * series


# -------------------------------------------------------------------- one pair


@triton.jit
def _number(value, like):
    """Round a number of the caller's to the dtype of the points."""
    return tl.full((), value, tl.float64).to(like.dtype)


@triton.jit
def _lift(like):
    """Power of two by which directions' differences, at most 2, are lifted to be squared."""
    if like.dtype == tl.float64:
        return 2.0**500
    else:
        return 2.0**60


@triton.jit
def _square(difference, POLAR: tl.constexpr):
    """Square of a difference of coordinates, lifted in the polar model."""
    if POLAR:
        difference = difference * _lift(difference)
    return difference * difference


@triton.jit
def _fact(own, c, POLAR: tl.constexpr):
    """Compute what a distance needs of one point: 1 − e^{−2r} of r, or 1 − c|x|² of |x|².

    The latter is at least half an eps: a point on the rim counts as that far inside.
    """
    if POLAR:
        _, fact = _decay(2 * own)
        return fact
    else:
        n = tl.sqrt(own * c)
        rim: tl.constexpr = 2.0**-53 if own.dtype == tl.float64 else 2.0**-24
        return tl.maximum(1 - n, rim) * (1 + n)


@triton.jit
def _polar(r1, f1, r2, f2, square):
    """E, a, B, b, p, q of (1), √e^{lo−κ}, and κ."""
    low = tl.where(square > 0, tl.minimum(r1, r2), 0.0)  # of no account where s = 0
    shrunk, a = _decay(tl.abs(r1 - r2))
    if square.dtype == tl.float64:
        reach: tl.constexpr = 300.0
        lifted: tl.constexpr = 1000
    else:
        reach: tl.constexpr = 40.0
        lifted: tl.constexpr = 120
    # an upper bound of log s is enough
    log_s = (_exponent(square) - (lifted + 1)).to(square.dtype) * 0.34657359027997264
    shift = tl.maximum(low + log_s - reach, 0.0)
    grown = _exp(0.5 * (low - shift))
    s = tl.sqrt(square) * (0.5 / _lift(square))
    B = (s * grown) * grown
    b = B * tl.sqrt(f1 * f2)
    p = tl.sqrt(a * a + b * b)
    q = tl.sqrt(p * p + 4 * shrunk)
    return shrunk, a, B, b, p, q, grown, shift


@triton.jit
def _distance(own1, fact1, own2, fact2, square, c, unit, POLAR: tl.constexpr):
    """Distance from radii (or norms, unused), their facts, and the square of the difference."""
    if POLAR:
        shrunk, a, _, b, p, q, _, shift = _polar(own1, fact1, own2, fact2, square)
        steep = b / tl.maximum(p + a, 1e-37) + b / (q + 1 + shrunk)
        return tl.abs(own1 - own2) + 2 * (_log1p(0.5 * b * steep) + shift)
    else:
        t = c * square / (fact1 * fact2)
        return 2 * unit * _log1p(tl.sqrt(t) + t / (1 + tl.sqrt(1 + t)))


@triton.jit
def _slopes(own1, fact1, own2, fact2, square, c, unit, POLAR: tl.constexpr):
    """Partial derivatives: own1, own2, and two factors whose product multiplies x₁ − x₂.

    The first two are those by r₁, r₂ in the polar model; in the ball they multiply x₁, x₂. All are
    0 where the points coincide. Two factors, as their product may overflow before it meets x₁ − x₂.
    """
    if POLAR:
        shrunk, a, B, _, p, q, grown, _ = _polar(own1, fact1, own2, fact2, square)
        apart = p > 0
        over_p, over_q = 1 / tl.where(apart, p, 1.0), 1 / q
        radial = (a * over_p) * ((1 + shrunk) * over_q)
        radial = tl.where(own1 >= own2, radial, -radial)
        turn = (B * over_p) * (B * over_q)
        by_1 = radial + turn * (2 - fact1) * fact2
        by_2 = turn * (2 - fact2) * fact1 - radial
        by_1 = tl.minimum(tl.maximum(by_1, -1.0), 1.0)
        by_2 = tl.minimum(tl.maximum(by_2, -1.0), 1.0)
        pull = tl.minimum((grown * over_p) * grown, 3e38)
        other = (grown * over_q) * grown * (0.5 * fact1 * fact2)
        return by_1, by_2, tl.where(apart, pull, 0.0), tl.minimum(other, 3e38)
    else:
        w = c / (fact1 * fact2)
        t = w * square
        apart = t > 0
        root, more = tl.sqrt(t), tl.sqrt(1 + t)
        slope = tl.where(apart, unit / (tl.where(apart, root, 1.0) * more), 0.0)
        push = 2 * c * t * slope
        return push / fact1, push / fact2, 2 * w, slope


# -------------------------------------------------------------------- paired points
#
# Rows are loaded as tiles [BLOCK, WIDTH], neighbours in memory by neighbouring threads; what
# belongs to a pair is [BLOCK]. The first column, the radius or one coordinate among others, is
# loaded once more as [BLOCK]: the compiler lays a value out like the loads that it comes from, and
# else all threads of a row would repeat the arithmetic of their pair.


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
def _meet(x, p, y, q, inside, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, POLAR: tl.constexpr):
    """Of pairs of rows: radius or square of each, and the square of their difference."""
    square = tl.zeros(p.shape, x.dtype.element_ty)
    own1, own2 = square, square
    for start in tl.range(0, COLUMNS, WIDTH):
        column = start + tl.arange(0, WIDTH)[None, :]
        a = _tile(x, p, inside, column, COLUMNS)
        b = _tile(y, q, inside, column, COLUMNS)
        square += tl.sum(_square(_others(a - b, column), POLAR), axis=1)
        if not POLAR:
            own1 += tl.sum(_others(a * a, column), axis=1)
            own2 += tl.sum(_others(b * b, column), axis=1)
    # last: of two layouts the compiler takes that of the later load
    first1 = tl.load(x + p * COLUMNS, mask=inside, other=0.0)
    first2 = tl.load(y + q * COLUMNS, mask=inside, other=0.0)
    if POLAR:
        return first1, first2, square + first1 * 0
    else:
        square += _square(first1 - first2, POLAR)
        return own1 + first1 * first1, own2 + first2 * first2, square


@triton.jit
def pairs(
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
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    p, q = at, at
    if GATHER:
        p, q = tl.load(i + at, mask=inside, other=0), tl.load(j + at, mask=inside, other=0)
    own1, own2, square = _meet(x, p, y, q, inside, COLUMNS, WIDTH, POLAR)
    c, unit = _number(c, square), _number(unit, square)
    fact1, fact2 = _fact(own1, c, POLAR), _fact(own2, c, POLAR)
    d = _distance(own1, fact1, own2, fact2, square, c, unit, POLAR)
    tl.store(out + at, d, mask=inside)


@triton.jit
def pairs_backward(
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
    """Gradient of `pairs` times grad, a row for each pair."""
    at = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = at < total
    p, q = at, at
    if GATHER:
        p, q = tl.load(i + at, mask=inside, other=0), tl.load(j + at, mask=inside, other=0)
    own1, own2, square = _meet(x, p, y, q, inside, COLUMNS, WIDTH, POLAR)
    c, unit = _number(c, square), _number(unit, square)
    fact1, fact2 = _fact(own1, c, POLAR), _fact(own2, c, POLAR)
    by_1, by_2, pull, other = _slopes(own1, fact1, own2, fact2, square, c, unit, POLAR)
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
