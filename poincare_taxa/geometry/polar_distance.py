r"""The distance of `polar` with its closed-form gradient: paired, and all pairs in little memory.

With x = |r₁−r₂|/2, lo = min(r₁, r₂), s = |u₁−u₂|/2 and f(r) = 1 − e^{−2r}, equation (1) of `polar`
divided by e^{2x} has no term that overflows while lo < 350 (float64) or 44 (float32):

.. math:: 4 e^{-2x} \sinh^2\tfrac{d}{2} = p^2 = a^2 + b^2, \qquad a = 1 - e^{-2x}, \quad
          b = e^{lo}\,s\,\sqrt{f(r_1) f(r_2)},

and d = 2x + bend, where the bend, d − |r₁−r₂|, is a sum of positive terms,

.. math:: \text{bend} = 2\log\tfrac{p + \sqrt{p^2 + 4e^{-2x}}}{2}
          = 2\log\Bigl(1 + \tfrac{b^2}{2}\Bigl[\frac{1}{p + a}
          + \frac{1}{\sqrt{p^2 + 4e^{-2x}} + 1 + e^{-2x}}\Bigr]\Bigr).

Beyond, terms overflow only for points whose geodesic passes near the origin (e^{lo} s > e^{350},
e^{44}); there bend = 2 lo + 2 log s to the last digit. The ancestor score d + r₂ − r₁ is
bend + 2 max(r₂−r₁, 0).

Gradient, from ∂(sinh² d/2) = ½ sinh d ∂d:

.. math:: \partial d/\partial r_1 = \frac{\sinh(r_1-r_2) + 2 s^2\cosh r_1\sinh r_2}{\sinh d}, \qquad
          \partial d/\partial u_1 = \frac{\sinh r_1 \sinh r_2}{\sinh d}(u_1-u_2),

with exponents collected as e^{2g}, g = (r₁+r₂−d)/2, since
2 sinh r₁ sinh r₂ / sinh d = e^{2g} f(r₁) f(r₂) / f(d). (g is the Gromov product, about the radius
at which the rays to the two points separate.)
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.geometry.numerics import length, pairwise_norm

__all__ = [
    "AllPairs",
    "all_half_chords",
    "busemann_of",
    "finite",
    "half_chord",
    "haversines",
    "largest_exponent",
    "paired",
    "partials",
    "spread",
]

# Powers of two, so that products are exact, by which a difference of directions (at most 2) is
# multiplied before it is squared: in float32 squares of numbers below 1e-19 underflow, and
# directions differ by less than that.
_LIFT = {torch.float32: 2.0**60, torch.float64: 2.0**500}
# Radius up to which e^{2r} is finite: e^88 = 1.7e38 and e^700 = 1e304.
_DIRECT = {torch.float32: 44.0, torch.float64: 350.0}
# Elements of a block: three float64 buffers of this size fit a 2 MiB second-level cache.
_BLOCK = 65536


def paired(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, *, score: bool = False) -> Tensor:
    """Distance (or, with ``score``, ancestor score) [...] of paired points; broadcasts."""
    return haversines(r1, r2, half_chord(u1 - u2), score)


def haversines(r1: Tensor, r2: Tensor, s: Tensor, score: bool) -> Tensor:
    """Distance (or ancestor score) from two radii and s = |u₁−u₂|/2, elementwise; broadcasts."""
    # torch.compile traces no function that has a forward derivative
    function = _TraceableHaversines if torch.compiler.is_compiling() else Haversines
    return function.apply(r1, r2, s, score)


class _TraceableHaversines(torch.autograd.Function):
    """`haversines`, with all derivatives: `backward` consists of differentiable operations."""

    @staticmethod
    def forward(r1: Tensor, r2: Tensor, s: Tensor, score: bool) -> Tensor:
        """Bend plus the radial part: |r₁−r₂| for a distance, 2 max(r₂−r₁, 0) for a score."""
        return _bend(r1, r2, s) + (2 * (r2 - r1).clamp(min=0) if score else (r1 - r2).abs())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        """Keep radii, half chord and result for `backward`."""
        ctx.score = inputs[3]
        ctx.save_for_backward(*inputs[:3], output)
        ctx.save_for_forward(*inputs[:3], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients for r₁, r₂ and s, by the closed form of the module's docstring."""
        (grad,) = grads
        r1, r2, s, d = ctx.saved_tensors
        slopes = _derivatives(r1, r2, s, d, ctx.score)
        return *(
            (grad * by).sum_to_size(x.shape).to(x.dtype)
            for by, x in zip(slopes, (r1, r2, s), strict=True)
        ), None


class Haversines(_TraceableHaversines):
    """The same for ``torch.func``: with a forward derivative, and for batches of a batch."""

    generate_vmap_rule = True

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        of_r1, of_r2, of_s, _ = tangents
        r1, r2, s, d = ctx.saved_tensors
        by_r1, by_r2, by_s = _derivatives(r1, r2, s, d, ctx.score)
        return by_r1 * of_r1 + by_r2 * of_r2 + by_s * of_s


def _derivatives(
    r1: Tensor, r2: Tensor, s: Tensor, d: Tensor, score: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the derivatives of `Haversines` by r₁, r₂ and s, from its result."""
    by_r1, by_r2, turn = _partials(r1, r2, s, d, score)
    return by_r1, by_r2, 4 * s * turn[0] * turn[1]


def _partials(
    r1: Tensor, r2: Tensor, s: Tensor, d: Tensor, score: bool
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Compute `partials` of a distance, or of an ancestor score."""
    by_r1, by_r2, turn = partials(r1, r2, s, d + (r1 - r2) if score else d)
    return (by_r1 - 1, by_r2 + 1, turn) if score else (by_r1, by_r2, turn)


@dataclass(frozen=True)
class AllPairs:
    """`paired` of every row of one set and every row of another, as a rule of `derivatives`.

    In blocks that fit the cache, forward and backward.
    """

    score: bool

    def value(self, r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> tuple[Tensor, tuple[Tensor]]:
        """Distances [n, m] (or, with ``score``, ancestor scores), block by block."""
        dtype = _widest(r1, u1, r2, u2)
        result = torch.empty(len(r1), len(r2), dtype=dtype, device=u1.device)
        if result.numel() > 0:
            block, working = _block_for(max(r1.max().item(), r2.max().item()), dtype)
            row_r, column_r = r1.to(working), r2.to(working)
            for rows, columns in _blocks(*result.shape):
                place = result[rows, columns]
                block(row_r[rows], u1[rows], column_r[columns], u2[columns], self.score, place)
        return result, (result,)

    def gradient(
        self, grad: Tensor, r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, d: Tensor
    ) -> tuple[Tensor, ...]:
        """Gradients for radii and directions, summed block by block; no array [n, m, dim]."""
        sums = [torch.zeros_like(t, dtype=d.dtype) for t in (r1, u1, r2, u2)]
        to_r1, to_u1, to_r2, to_u2 = sums
        for rows, columns in _blocks(*d.shape):
            g, u, v = grad[rows, columns], u1[rows], u2[columns]
            row_r, column_r = r1[rows, None], r2[None, columns]
            s = all_half_chords(u, v)
            by_r1, by_r2, turn = _partials(row_r, column_r, s, d[rows, columns], self.score)
            to_r1[rows] += (g * by_r1).sum(1)
            to_r2[columns] += (g * by_r2).sum(0)
            weight = turn[0] * g
            for k in range(u.shape[1]):
                by_u = finite(weight * (u[:, k, None] - v[None, :, k]) * turn[1])
                to_u1[rows, k] += by_u.sum(1)
                to_u2[columns, k] -= by_u.sum(0)
        return tuple(total.to(t.dtype) for total, t in zip(sums, (r1, u1, r2, u2), strict=True))

    def plain(self, r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> Tensor:
        """Compute `spread`."""
        return spread(r1, u1, r2, u2, self.score)


def spread(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, score: bool) -> Tensor:
    """`AllPairs` of operations that torch can transform: takes the memory of [n, m, dim]."""
    return paired(r1[:, None], u1[:, None], r2, u2, score=score)


def _bend(r1: Tensor, r2: Tensor, s: Tensor) -> Tensor:
    """Compute d − |r₁−r₂| from two radii and s = |u₁−u₂|/2, at any radius, to a few eps."""
    low = torch.minimum(r1, r2)
    gap = (r1 - r2).abs()
    a = -torch.expm1(-gap)
    shrunk = torch.exp(-gap)  # e^{−2x}
    # e^{lo} is applied in two halves around s: e^{lo} alone may overflow where e^{lo} s does not.
    grown = torch.exp(low.clamp(max=2 * largest_exponent(low.dtype)) / 2)
    b = (s * grown) * grown * torch.sqrt(torch.expm1(-2 * r1) * torch.expm1(-2 * r2))
    p = torch.hypot(a, b)
    # The bracket of the bend, times b; the clamp is for coincident points, where a = b = p = 0.
    smallest = torch.finfo(p.dtype).tiny
    bracket = b / (p + a).clamp(min=smallest) + b / (torch.hypot(p, 2 * shrunk.sqrt()) + 1 + shrunk)
    near = 2 * torch.log1p(b * bracket / 2)
    # Where b overflows, the bend equals its limit.
    far = low + torch.log(s)
    return torch.where(far > _DIRECT[low.dtype], 2 * far, near)


def partials(
    r1: Tensor, r2: Tensor, s: Tensor, d: Tensor
) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Partial derivatives of the distance d, all 0 where d = 0.

    Returns
    -------
    by_r1, by_r2
        ∂d/∂r₁ and ∂d/∂r₂, in [-1, 1].
    factors
        Two factors whose product times (u₁−u₂) is ∂d/∂u₁, and times 4s is ∂d/∂s. The product by
        itself may overflow where its multiple by s does not.
    """
    # Coincident points take d = 1 in the formulas, so that no quotient is 0/0, and 0 at the end.
    apart = d > 0
    d = torch.where(apart, d, 1)
    f1, f2, f = -torch.expm1(-2 * r1), -torch.expm1(-2 * r2), -torch.expm1(-2 * d)
    # sinh(r₁−r₂)/sinh d without an exponential that overflows: |r₁−r₂| ≤ d.
    gap = r1 - r2
    radial = torch.sign(gap) * -torch.expm1(-2 * gap.abs()) * torch.exp(gap.abs() - d)
    # e^{2g} s² = (e^g s)², which is at most about 1: g is the Gromov product.
    half = torch.exp(((r1 + r2 - d) / 2).clamp(max=largest_exponent(d.dtype)))  # e^g
    turn = (half * s).square()
    by_r1 = ((radial + turn * (2 - f1) * f2) / f).clamp(-1, 1)
    by_r2 = ((-radial + turn * f1 * (2 - f2)) / f).clamp(-1, 1)
    zero = torch.zeros((), dtype=d.dtype, device=d.device)
    return (
        torch.where(apart, by_r1, zero),
        torch.where(apart, by_r2, zero),
        (torch.where(apart, half, zero), finite(half * f1 * f2 / (2 * f))),
    )


def _block_for(
    largest_radius: float, dtype: torch.dtype
) -> tuple[Callable[..., None], torch.dtype]:
    """Choose the cheapest block function for these radii, and the dtype it works in."""
    for working in (dtype, torch.float64):
        if largest_radius <= _DIRECT[working]:
            return _direct_block, working
    return _general_block, dtype


def _direct_block(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, score: bool, out: Tensor) -> None:
    """Fill ``out`` for radii within `_DIRECT`: one logarithm and two square roots per pair.

    With t = 2 sinh²(d/2) = (e^{(r₁−r₂)/2} − e^{(r₂−r₁)/2})²/2 + 2 sinh r₁ sinh r₂ s²,
    d = arcosh(1 + t) = log1p(t + √(t(t+2))). The radial difference has an absolute error of a few
    eps, because the two exponentials are products of per-point factors.
    """
    # t: first the term of directions, as the square of a product of per-point factors and s.
    s = all_half_chords(u1, u2).to(r1.dtype)
    w1, w2 = torch.sqrt(2**0.5 * torch.sinh(r1)), torch.sqrt(2**0.5 * torch.sinh(r2))
    t = s.mul_(w1[:, None]).mul_(w2).square_()
    # Then the term of radii.
    e1, e2 = torch.exp(r1 / 2), torch.exp(r2 / 2)
    radial = torch.outer(e1, 1 / e2)
    buffer = torch.outer(1 / e1, e2)
    radial -= buffer
    t.addcmul_(radial, radial, value=0.5)
    # √(t(t+2)) as √t √(t+2), in the two buffers that are free again.
    torch.add(t, 2, out=buffer)
    root = torch.sqrt(t, out=radial)
    t.addcmul_(root, buffer.sqrt_()).log1p_()
    if score:
        t.add_(r2).sub_(r1[:, None])
    out.copy_(t)


def _general_block(
    r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, score: bool, out: Tensor
) -> None:
    """Fill ``out`` at any radius."""
    row_r, column_r = r1[:, None], r2[None, :]
    out.copy_(_bend(row_r, column_r, all_half_chords(u1, u2)))
    out.add_(2 * (column_r - row_r).clamp(min=0) if score else (row_r - column_r).abs())


def half_chord(difference: Tensor) -> Tensor:
    """Half of the length of a difference of directions [..., dim]: |u₁−u₂|/2 [...]."""
    lift = _LIFT[difference.dtype]
    return length(difference * lift) / (2 * lift)


def all_half_chords(u1: Tensor, u2: Tensor) -> Tensor:
    """|u₁−u₂|/2 of all pairs, [n, m]."""
    dtype = torch.promote_types(u1.dtype, u2.dtype)
    lift = _LIFT[dtype]
    chords = pairwise_norm(u1.to(dtype) * lift, u2.to(dtype) * lift)
    return chords * (1 / (2 * lift)) if chords.requires_grad else chords.mul_(1 / (2 * lift))


def busemann_of(r: Tensor, s: Tensor) -> Tensor:
    """Busemann function from a radius and s = |u−ξ|/2, elementwise: log1p((e^{2r} − 1) s²) − r."""
    near = r.clamp(max=_DIRECT[s.dtype])
    grown = torch.log1p(torch.expm1(2 * near) * s * s)
    if is_plain(r, s) and not bool((r > near).any()):
        return grown - r
    # Where e^{2r} overflows, the sum is a logaddexp, and 0 on the ray itself.
    ray = s == 0
    far = torch.logaddexp(torch.zeros_like(s), 2 * (r + torch.log(torch.where(ray, 1, s))))
    far = torch.where(ray, 0, far)
    return torch.where(r > near, far, grown) - r


def _blocks(n: int, m: int) -> Iterator[tuple[slice, slice]]:
    """Yield rows and columns of blocks of `_BLOCK` elements that cover [n, m]."""
    height = min(n, 256)
    width = _BLOCK // max(height, 1)
    for top in range(0, n, height or 1):
        for left in range(0, m, width):
            yield slice(top, top + height), slice(left, left + width)


def finite(x: Tensor) -> Tensor:
    """Clamp infinite values to the largest finite ones: gradients of directions 1/max apart."""
    limit = torch.finfo(x.dtype).max
    return x.clamp(-limit, limit)


def largest_exponent(dtype: torch.dtype) -> float:
    """Largest x for which e^x is finite in a dtype, less one hundredth."""
    return 0.99 * math.log(torch.finfo(dtype).max)


def _widest(*tensors: Tensor) -> torch.dtype:
    """Dtype to which all tensors can be promoted."""
    dtype = tensors[0].dtype
    for tensor in tensors[1:]:
        dtype = torch.promote_types(dtype, tensor.dtype)
    return dtype
