r"""One pair on a GPU: distance and partial derivatives, in the dtype of the points.

**Polar.** With lo = min(r₁, r₂), gap = |r₁−r₂|, s = |u₁−u₂|/2 and f = 1 − e^{−2r}, equation (1) of
`numba.tiles` divided by e^{gap} is, as `geometry.polar_distance` derives,

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

**Ball.** t = c|x−y|²/(g(x) g(y)) as in `numba.tiles`, times 1/√c.

**Elementary functions** are written here, of sums, products and powers of two: a GPU's float32
exponential errs by as many ulps as its argument is large, which is too much for distances, and
arithmetic gives in Triton's interpreter what it gives on the device.
"""
# pyright: basic, reportInvalidTypeForm=false, reportAssignmentType=false
# pyright: reportGeneralTypeIssues=false, reportMissingImports=false

import triton
import triton.language as tl

__all__ = ["distance_of", "exp", "fact_of", "log1p", "rounded", "slopes_of", "square_of"]

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
def exp(x):
    """Compute eˣ."""
    scale, m = _split_exp(x)
    return scale + scale * m


@triton.jit
def _decay(x):
    """e^{−x} and 1 − e^{−x} of x ≥ 0, both with a small relative error."""
    scale, m = _split_exp(-x)
    return scale + scale * m, (1 - scale) - scale * m


@triton.jit
def log1p(z):
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
def rounded(value, like):
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
def square_of(difference, POLAR: tl.constexpr):
    """Square of a difference of coordinates, lifted in the polar model."""
    if POLAR:
        difference = difference * _lift(difference)
    return difference * difference


@triton.jit
def fact_of(own, c, POLAR: tl.constexpr):
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
    grown = exp(0.5 * (low - shift))
    s = tl.sqrt(square) * (0.5 / _lift(square))
    B = (s * grown) * grown
    b = B * tl.sqrt(f1 * f2)
    p = tl.sqrt(a * a + b * b)
    q = tl.sqrt(p * p + 4 * shrunk)
    return shrunk, a, B, b, p, q, grown, shift


@triton.jit
def distance_of(own1, fact1, own2, fact2, square, c, unit, POLAR: tl.constexpr):
    """Distance from radii (or norms, unused), their facts, and the square of the difference."""
    if POLAR:
        shrunk, a, _, b, p, q, _, shift = _polar(own1, fact1, own2, fact2, square)
        steep = b / tl.maximum(p + a, 1e-37) + b / (q + 1 + shrunk)
        return tl.abs(own1 - own2) + 2 * (log1p(0.5 * b * steep) + shift)
    else:
        t = c * square / (fact1 * fact2)
        return 2 * unit * log1p(tl.sqrt(t) + t / (1 + tl.sqrt(1 + t)))


@triton.jit
def slopes_of(own1, fact1, own2, fact2, square, c, unit, POLAR: tl.constexpr):
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
