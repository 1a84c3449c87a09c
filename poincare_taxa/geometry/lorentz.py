r"""The Lorentz (hyperboloid) model of sectional curvature -c, as functions of tensors.

A point is [..., 1 + dim]: time first, x₀ = √(1/c + |x₁…|²), so that −x₀² + |x₁…|² = −1/c.

Distances here use the identity

.. math:: \sinh^2\tfrac{\sqrt c\,d}{2} = \tfrac c4 \|x - y\|_L^2
          = \tfrac14 (1 + \sqrt c x_0)(1 + \sqrt c y_0)\,|\xi - \eta|^2, \qquad
          \xi = \frac{\sqrt c\,x_{1…}}{1 + \sqrt c\,x_0},   \qquad (1)

a product of positive terms: ξ is the stereographic image in the unit ball, and 2/(1 + √c x₀) is its
gap 1 − |ξ|², computed without a subtraction. For paired points, with x the one of larger radius,

.. math:: \xi - \eta = \sqrt c\,\frac{x_{1…} - y_{1…} - \eta\,(x_0 - y_0)}{1 + \sqrt c\,x_0}, \qquad
          x_0 - y_0 = (x_{1…} - y_{1…}) \cdot \frac{x_{1…} + y_{1…}}{x_0 + y_0},   \qquad (2)

keeps all digits of the difference of near coordinates.

Precision: coordinates grow as e^r/2, so rounding them moves a point by up to eps·e^r/2: in float32
no digit is left at radius 16, in float64 at 36. The textbook form arcosh(−⟨x, y⟩) subtracts numbers
of size e^{2r} and has no digit left at half that radius (8 and 18); nor has ‖x − y‖_L computed from
coordinates, where the radii differ.

Sources: [NK18] Nickel & Kiela 2018, eqs. 2-6. [R19] Ratcliffe 2019, §3.2 (distance), §4.5
(stereographic projection).
"""

import math

import torch
from torch import Tensor

from poincare_taxa.geometry import means
from poincare_taxa.geometry.arguments import check_curvature, check_points
from poincare_taxa.geometry.numerics import length, norm, pairwise_norm, unit

__all__ = [
    "all_ancestor_scores",
    "ancestor_score",
    "cdist",
    "dist",
    "dist0",
    "expmap0",
    "geodesic",
    "logmap0",
    "mean",
    "midpoint",
    "project",
    "translate",
]


def dist(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Geodesic distance between paired points, by equation (1) of this module.

    Parameters
    ----------
    x, y
        Points [..., 1 + dim] on the hyperboloid; the batch dimensions broadcast.
    c
        Curvature parameter, c > 0; distances scale as ``1/√c``.

    Returns
    -------
    distance
        [...]

    Raises
    ------
    ValueError
        If ``c <= 0``, a tensor is not float32 or float64, or the last dimensions differ.

    Notes
    -----
    Absolute error below ``2 eps e^r / √c``, r the larger radius at c = 1, as in the ball; between
    near points a relative error of a few eps. The gradient is finite everywhere, and 0 where
    ``x == y``.

    Examples
    --------
    cosh d = 3 for the point (3, √8):

    >>> dist(torch.tensor([1.0, 0.0]), torch.tensor([3.0, 8**0.5])).cosh()
    tensor(3.0000)
    """
    s = _checked(c, x, y)
    time_x, time_y = x[..., :1], y[..., :1]
    nearer = torch.where(time_x < time_y, _stereographic(x, s), _stereographic(y, s))
    apart = x[..., 1:] - y[..., 1:]
    middle = (x[..., 1:] + y[..., 1:]) / (time_x + time_y)
    moved = apart - nearer * (apart * middle).sum(-1, keepdim=True)
    shrunk = moved * (s / (1 + s * torch.maximum(time_x, time_y)))
    chord = length(shrunk)
    return (2 / s) * torch.asinh(chord * (_stretch(x, s) * _stretch(y, s)))


def cdist(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """Geodesic distance of every point of ``x`` [n, 1+dim] to every point of ``y`` [m, 1+dim].

    The result is [n, m]; memory is a few times that. The absolute error is below
    ``2 eps e^r / √c``, also between near points: equation (2) would need an array [n, m, dim].

    Raises
    ------
    ValueError
        As `dist`; this holds for every function of this file.

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0]])
    >>> cdist(x, x)
    tensor([[0.]])
    """
    s = _checked(c, x, y)
    chord = pairwise_norm(_stereographic(x, s), _stereographic(y, s))
    stretched = chord * _stretch(x, s)[..., :, None] * _stretch(y, s)[..., None, :]
    return (2 / s) * torch.asinh(stretched)


def dist0(x: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Radius: distance [...] to the origin (1/√c, 0, …).

    .. math:: \operatorname{arsinh}(\sqrt c|x_{1…}|)/\sqrt c

    Examples
    --------
    >>> dist0(torch.tensor([3.0, 8**0.5])).cosh()
    tensor(3.)
    """
    s = _checked(c, x)
    return torch.asinh(s * norm(x[..., 1:])) / s


def ancestor_score(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """Detour of the path from the origin to ``x`` by ``y``: d(x, y) + d(0, y) − d(0, x), [...].

    The score is small for ancestors y of x; see `polar.ancestor_score`.

    Examples
    --------
    >>> o, x = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 8**0.5])
    >>> ancestor_score(o, x) / dist0(x)
    tensor(2.0000)
    """
    return dist(x, y, c=c) + (dist0(y, c=c) - dist0(x, c=c))


def all_ancestor_scores(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """`ancestor_score` of every candidate ``y`` [m, 1+dim] for every ``x`` [n, 1+dim]: [n, m].

    Examples
    --------
    >>> x = torch.tensor([[1.0, 0.0]])
    >>> all_ancestor_scores(x, x)
    tensor([[0.]])
    """
    radial = dist0(y, c=c)[..., None, :] - dist0(x, c=c)[..., :, None]
    return cdist(x, y, c=c) + radial


def translate(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Apply to ``y`` the isometry (Lorentz boost) that moves the origin to ``x``.

    .. math:: z_{1…} = y_{1…} + \sqrt c\,x_{1…}\Bigl(y_0
              + \frac{\sqrt c\,x_{1…}\cdot y_{1…}}{1 + \sqrt c\,x_0}\Bigr)

    with the time coordinate recomputed, so that the result [..., 1 + dim] lies on the hyperboloid.
    In the ball this isometry is `ball.mobius_add`.

    Parameters
    ----------
    x
        Image of the origin [..., 1 + dim].
    y
        Points to move [..., 1 + dim].
    c
        Curvature parameter.

    Examples
    --------
    >>> o, y = torch.tensor([1.0, 0.0]), torch.tensor([3.0, 8**0.5])
    >>> translate(y, o)
    tensor([3.0000, 2.8284])
    """
    s = _checked(c, x, y)
    inner = s * (x[..., 1:] * y[..., 1:]).sum(-1, keepdim=True) / (1 + s * x[..., :1])
    return _lift(y[..., 1:] + s * x[..., 1:] * (y[..., :1] + inner), c)


def expmap0(v: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Exponential map at the origin of ``v`` [..., dim], whose time coordinate 0 is left out.

    .. math:: x_{1…} = \sinh(\sqrt c|v|)\,v/(\sqrt c|v|)

    The metric at the origin is 1: the radius of the result [..., 1 + dim] is |v|.

    Examples
    --------
    >>> expmap0(torch.tensor([0.0, 0.0]))
    tensor([1., 0., 0.])
    """
    s = _checked(c, v)
    n = s * norm(v, keepdim=True)
    small = n < torch.finfo(n.dtype).eps ** 0.5
    safe = torch.where(small, 1, n)
    return _lift(v * torch.where(small, 1, torch.sinh(safe) / safe), c)


def logmap0(x: Tensor, *, c: float = 1.0) -> Tensor:
    """Inverse of `expmap0`: tangent vectors [..., dim] at the origin.

    Examples
    --------
    >>> logmap0(expmap0(torch.tensor([1.5, 2.0])))
    tensor([1.5000, 2.0000])
    """
    s = _checked(c, x)
    n = norm(x[..., 1:], keepdim=True)
    small = s * n < torch.finfo(n.dtype).eps ** 0.5
    safe = torch.where(small, 1, n)
    return x[..., 1:] * torch.where(small, 1, dist0(x, c=c)[..., None] / safe)


def geodesic(x: Tensor, y: Tensor, t: float | Tensor, *, c: float = 1.0) -> Tensor:
    """Point [..., 1 + dim] of the geodesic from ``x`` to ``y``, at a share ``t`` of its length.

    The share is a number, or a tensor [...]: 0 is the start, ½ the middle, 1 the end.

    Examples
    --------
    >>> x = expmap0(torch.tensor([[1.0], [3.0]]))
    >>> logmap0(geodesic(x[0], x[1], 0.25))
    tensor([1.5000])
    """
    d = _checked(c, x, y) * dist(x, y, c=c)
    t = torch.as_tensor(t, dtype=d.dtype, device=d.device)
    a, b = means.shares(d, t)
    a, b = a * torch.exp(-t * d), b * torch.exp((t - 1) * d)
    return _lift(a[..., None] * x[..., 1:] + b[..., None] * y[..., 1:], c)


def midpoint(x: Tensor, weights: Tensor | None = None, *, c: float = 1.0) -> Tensor:
    """Weighted midpoint [..., 1 + dim] of k points [..., k, 1 + dim]: their normalised sum.

    Parameters and errors are those of `polar.midpoint`.

    Examples
    --------
    >>> logmap0(midpoint(expmap0(torch.tensor([[1.0], [3.0]]))))
    tensor([2.0000])
    """
    s = _checked(c, x)

    def between(v: Tensor, w: Tensor) -> Tensor:
        return dist(_lift(v, 1.0), _lift(w, 1.0))

    return _lift(means.space_midpoint(s * x[..., 1:], weights, between) / s, c)


def mean(
    x: Tensor, weights: Tensor | None = None, *, c: float = 1.0, tolerance: float | None = None
) -> Tensor:
    """Fréchet mean [..., 1 + dim] of k points [..., k, 1 + dim]: least sum of squared distances.

    Parameters, warnings and errors are those of `polar.mean`, in which it is computed.

    Examples
    --------
    >>> logmap0(mean(expmap0(torch.tensor([[1.0], [3.0]])), torch.tensor([3.0, 1.0])))
    tensor([1.5000])
    """
    s = _checked(c, x)
    r, u = unit(means.off_origin(s * x[..., 1:]))
    limit = None if tolerance is None else s * tolerance
    r, u = means.mean(torch.asinh(r), u, weights, tolerance=limit)
    return _lift(torch.sinh(r)[..., None] * u / s, c)


def project(x: Tensor, *, c: float = 1.0) -> Tensor:
    """Move points to the hyperboloid: time is recomputed from space; idempotent.

    Examples
    --------
    >>> project(torch.tensor([7.0, 0.0, 0.0]))
    tensor([1., 0., 0.])
    """
    _checked(c, x)
    return _lift(x[..., 1:], c)


def _lift(space: Tensor, c: float) -> Tensor:
    """Points (√(1/c + |space|²), space) of the hyperboloid."""
    # one norm, which has all derivatives at the origin too, where that of space has none
    time = norm(torch.nn.functional.pad(space, (1, 0), value=1 / math.sqrt(c)), keepdim=True)
    return torch.cat((time, space), dim=-1)


def _stereographic(x: Tensor, s: float) -> Tensor:
    """Image ξ of equation (1) in the unit ball; s = √c."""
    return s * x[..., 1:] / (1 + s * x[..., :1])


def _stretch(x: Tensor, s: float) -> Tensor:
    """1/√(1 − |ξ|²) = √((1 + √c x₀)/2)."""
    return torch.sqrt((1 + s * x[..., 0]) / 2)


def _checked(c: float, *points: Tensor) -> float:
    """Check the arguments; return √c."""
    check_curvature(c)
    check_points(*points)
    return math.sqrt(c)
