r"""Exponential and logarithm that a compiler can turn into vector instructions.

LLVM makes loops of additions, products, roots and bit operations into vectors, but calls the C
library for each exp and log. These are branch-free and made of nothing else.

log(1+y): with u = 1 + y = 2^e m, m in [√½, √2), and s = f / (2 + f), f = m − 1,

.. math:: \log(1+y) = e \log 2 + 2\Bigl(s + \tfrac{s^3}{3} + \tfrac{s^5}{5} + \dots\Bigr),

where |s| < 0.172, so that 11 terms of the series are enough for float64 and 5 for float32. To f is
added 2^{−e} (y − (u − 1)), what rounding took from u: it keeps the relative precision of small y.

exp(x): with k the integer next to x / log 2, 2^k times the Taylor series of x − k log 2, which is
at most 0.347: 14 terms and 8.
"""

from functools import cache
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

__all__ = ["exp", "log1p"]


def _reinterpret(context: Any, x: Any) -> Any:
    """Turn a float into the integer with its bits, and back."""
    pairs = {
        types.float64: (types.int64, ir.IntType(64)),
        types.float32: (types.int32, ir.IntType(32)),
        types.int64: (types.float64, ir.DoubleType()),
        types.int32: (types.float32, ir.FloatType()),
    }
    to, width = pairs[x]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], width)

    return to(x), generate


_bits: Any = intrinsic(_reinterpret)
_REALS = {types.float32: np.float32, types.float64: np.float64}


def log1p(y: Any) -> Any:
    """Compute log(1 + y) of y ≥ 0, in its dtype; nan of nan. In compiled code only."""
    raise NotImplementedError


def exp(x: Any) -> Any:
    """Compute e^x, in its dtype, where that is a normal number; nan of nan. As `log1p`."""
    raise NotImplementedError


@overload(log1p, inline="always")
def _compiled_log1p(y: Any) -> Any:
    return _log1p_of(_REALS[y])


@overload(exp, inline="always")
def _compiled_exp(x: Any) -> Any:
    return _exp_of(_REALS[x])


@cache
def _log1p_of(real: type[np.floating]) -> Any:
    wide = real is np.float64
    whole: Any = np.int64 if wide else np.int32
    shift, bias = whole(52 if wide else 23), whole(1023 if wide else 127)
    root = np.sqrt(real(0.5)).view(whole)
    one, two = real(1), real(2)
    high, low = _log2(real)
    c0, c1, c2, c3, c4, c5, c6, c7, c8, c9, c10 = (real(2 / (2 * n + 1)) for n in range(11))

    def log1p(y: Any) -> Any:
        u = one + y
        bits = _bits(u)
        e = whole(whole(bits - root) >> shift)
        m = _bits(whole(bits - whole(e << shift)))
        f = (m - one) + (y - (u - one)) * _bits(whole(whole(bias - e) << shift))
        s = f / (two + f)
        z = s * s
        total = c4
        if wide:
            total = c5 + z * (c6 + z * (c7 + z * (c8 + z * (c9 + z * c10))))
            total = c4 + z * total
        total = c0 + z * (c1 + z * (c2 + z * (c3 + z * total)))
        k = real(e)
        return (k * low + s * total) + k * high + (y - y)

    return log1p


@cache
def _exp_of(real: type[np.floating]) -> Any:
    wide = real is np.float64
    whole: Any = np.int64 if wide else np.int32
    shift, bias = whole(52 if wide else 23), whole(1023 if wide else 127)
    high, low = _log2(real)
    inverse, half, one = real(1 / np.log(2)), real(0.5), real(1)
    factorials = np.cumprod([1.0, *range(1, 14)])
    _, _, c2, c3, c4, c5, c6, c7, c8, c9, c10, c11, c12, c13 = (real(1 / n) for n in factorials)

    def exp(x: Any) -> Any:
        k = np.floor(x * inverse + half)
        r = (x - k * high) - k * low
        total = c7
        if wide:
            total = c8 + r * (c9 + r * (c10 + r * (c11 + r * (c12 + r * c13))))
            total = c7 + r * total
        total = one + r * (one + r * (c2 + r * (c3 + r * (c4 + r * (c5 + r * (c6 + r * total))))))
        return total * _bits(whole(whole(whole(k) + bias) << shift)) + (x - x)

    return exp


def _log2(real: type[np.floating]) -> tuple[Any, Any]:
    """Log 2 in two parts, of which the first has zeros enough to be multiplied exactly."""
    high = real(float.fromhex("0x1.62e42fefap-1" if real is np.float64 else "0x1.62e4p-1"))
    return high, real(np.log(np.longdouble(2)) - np.longdouble(high))
