"""Every tolerance of the geometry tests, derived from the conditioning of what is computed.

``eps`` is torch.finfo(dtype).eps, the distance from 1 to the next number: one rounding is eps/2.
"""

import math

import torch


def eps(dtype):
    return torch.finfo(dtype).eps


def polar_rtol(dtype):
    """Relative error of polar.dist and polar.ancestor_score for the coordinates as stored.

    No term of the formula cancels, so relative errors only add up: a norm (1.5 roundings; the lift
    is exact), five elementary functions (at most 1 each, where the argument is exact), some ten
    products and sums (½ each), halved by the square root, and the logarithm never magnifies a
    relative error of its argument's distance from 1. Sum: below 8; measured 3.0.
    """
    return 8 * eps(dtype)


def polar_atol(dtype, distance):
    """Absolute error of polar.cdist: the radial difference e^{(r₁−r₂)/2} − e^{(r₂−r₁)/2} cancels.

    Its two terms carry 2 roundings each, an absolute error 2·eps where the radii agree, which is
    the error of d; far apart it is relative, hence the factor 1 + d. Measured 2.6.
    """
    return 8 * eps(dtype) * (1 + distance)


def distance_atol(dtype, radius, c=1.0):
    """Absolute error of a distance from rounded ball or Lorentz coordinates.

    d = −½ log gap(x) − ½ log gap(y) + …, gap = 1 − norm = 2/(e^r + 1). The norm is rounded
    to k·eps (k ≈ 1: sum of squares, root, scaling by √c), the gap therefore by k·eps·(e^r + 1)/2
    of itself. Two points, the root of their product, the 2 of 2 arsinh: k·eps·(e^r + 1)/2·2. Chord
    and the rest are relative errors of a few eps, of d and never more than that for the radii used.
    With k = 2 for safety (measured over dims 2 to 100 and radii 1 to 14: 1.13 eps e^r):
    """
    return (2 * eps(dtype) * (math.exp(radius) + 1) + 8 * eps(dtype) * radius) / math.sqrt(c)


def direction_atol(dtype, radius, dim):
    """Change of a polar distance when every direction is rounded again (a rotation, a model).

    |∂d/∂u| ≤ sinh of the smaller radius; a matrix product rounds each component by dim/2·eps of
    a unit vector at worst, a conversion by 2. Two directions move.
    """
    return (dim + 4) * eps(dtype) * math.exp(radius) + polar_rtol(dtype) * radius


def ball_gradient_atol(dtype, x):
    """Absolute error, in each component, of a distance's gradient with respect to ball points x.

    ∂d/∂x is a pull along x − y and a push along x. The push is at most 2/gap(x) long, gap =
    1 − |x|²; the pull at most 2/|x − y| and 2/√(gap(x) gap(y)), and so at most 4/gap(x). Both have
    two gaps as factors, of relative error 2 eps/gap each (see `distance_atol`; gap ≈ 4 e^{−r}),
    beside a dozen roundings of half an eps. The smallest gap of the points stands for y's.
    """
    gap = (1 - x.double().square().sum(1, keepdim=True)).clamp(min=eps(dtype))
    smallest = gap.min() if len(gap) else 1.0
    return 6 / gap * (4 * eps(dtype) / smallest + 6 * eps(dtype))


def polar_gradient_rtol(dtype, radius):
    """Relative error of ∂d/∂u, and absolute error of ∂d/∂r (at most 1), in the polar model.

    The exponents r₁ + r₂ − d are sums of numbers up to 2·radius, each rounded: an error of a few
    eps × radius, which is a relative error of the exponential. Beside it, a dozen roundings.
    """
    return 16 * eps(dtype) * (1 + radius)
