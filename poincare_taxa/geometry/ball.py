r"""The Poincaré ball of sectional curvature -c, as functions of tensors.

Notation: points x, y [..., dim] with √c |x| < 1; *norm* is Euclidean, *radius* is hyperbolic.
The conformal gap 1 − c|x|² is always formed as (1 − √c|x|)(1 + √c|x|), which rounds once where
1 − c|x|² loses half the digits. No formula recovers digits that the coordinates do not hold: near
the rim, float32 norms are 6e-8 apart, so distances have an absolute error of about eps·e^r. Points
of large radius belong in `poincare_taxa.geometry.polar`; the ball is a view of them.

Sources: [NK17] Nickel & Kiela 2017, eq. 1. [GBH18] Ganea, Bécigneul & Hofmann 2018 (*Hyperbolic
Neural Networks*), eq. 4 (Möbius addition), lemma 2 (maps), theorem 4 (transport). [U08] Ungar 2008
(*Analytic Hyperbolic Geometry and Albert Einstein's Special Theory of Relativity*), ch. 3.
"""

import math
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.geometry import means
from poincare_taxa.geometry.arguments import check_curvature, check_points
from poincare_taxa.geometry.numerics import length, pairwise_norm, unit

__all__ = [
    "all_ancestor_scores",
    "ancestor_score",
    "cdist",
    "conformal_gap",
    "dist",
    "dist0",
    "expmap",
    "expmap0",
    "geodesic",
    "logmap",
    "logmap0",
    "max_norm",
    "max_radius",
    "mean",
    "midpoint",
    "mobius_add",
    "project",
    "transport",
]

# 1 − max_norm. float32: radius 12.2 (geoopt's 4e-3 gives 6.2); at 1e-6 neighbouring norms are so
# far apart that radii at the rim are rounding noise. float64: radius 28.3 (geoopt's 1e-5: 12.2).
_RIM = {torch.float32: 1e-5, torch.float64: 1e-12}


def max_norm(dtype: torch.dtype = torch.float64, *, c: float = 1.0) -> float:
    """Largest norm of a projected point: 1 − 1e-5 in float32, 1 − 1e-12 in float64, over √c.

    All limits of the ball in this library are computed from this function.

    Raises
    ------
    ValueError
        If the dtype is not float32 or float64, or ``c <= 0``.

    Examples
    --------
    >>> max_norm(torch.float32)
    0.99999
    """
    check_curvature(c)
    if dtype not in _RIM:
        raise ValueError(f"points of the ball are float32 or float64; got {dtype}")
    return (1 - _RIM[dtype]) / math.sqrt(c)


def max_radius(dtype: torch.dtype = torch.float64, *, c: float = 1.0) -> float:
    """Hyperbolic radius of `max_norm`: 12.2 in float32, 28.3 in float64, over √c.

    Raises
    ------
    ValueError
        As `max_norm`.

    Examples
    --------
    >>> round(max_radius(torch.float32), 2), round(max_radius(torch.float64), 2)
    (12.21, 28.32)
    """
    rim = _RIM[dtype] if max_norm(dtype, c=c) else 0.0
    return math.log((2 - rim) / rim) / math.sqrt(c)


def dist(x: Tensor, y: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    r"""Geodesic distance between paired points.

    .. math:: d(x, y) = \frac{2}{\sqrt c}\,\operatorname{arsinh}
              \frac{\sqrt c\,|x - y|}{\sqrt{(1 - c|x|^2)(1 - c|y|^2)}}

    The arsinh form of [NK17, eq. 1]: exact for near points, where arcosh(1 + t) loses every digit.

    Parameters
    ----------
    x, y
        Points [..., dim] inside the ball; the batch dimensions broadcast.
    c
        Curvature parameter, c > 0; distances scale as ``1/√c``. A scalar tensor gets its gradient.

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
    Absolute error below ``2 eps e^r / √c``, r the larger radius at c = 1 (measured 1.13). The
    gradient is finite everywhere, and 0 where ``x == y``; so is the second derivative, which does
    not exist there. A point on or outside the rim is treated as lying half an eps inside it.

    Examples
    --------
    2 artanh ½ = ln 3:

    >>> dist(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
    tensor(1.0986)
    """
    check_curvature(c)
    check_points(x, y)
    s = _root(c)
    chord = length(x - y)
    return (2 / s) * torch.asinh(s * chord * (_stretch(x, s) * _stretch(y, s)))


def cdist(x: Tensor, y: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    """Geodesic distance of every point of ``x`` [n, dim] to every point of ``y`` [m, dim]: [n, m].

    The formula is that of `dist`. Memory is a few times that of the result, never [n, m, dim].

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    >>> cdist(x, x)
    tensor([[0.0000, 1.0986],
            [1.0986, 0.0000]])
    """
    check_curvature(c)
    check_points(x, y)
    s = _root(c)
    scaled = pairwise_norm(x, y) * (s * _stretch(x, s))[..., :, None]
    return (2 / s) * torch.asinh(scaled * _stretch(y, s)[..., None, :])


def dist0(x: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    r"""Radius: distance to the origin, :math:`\frac{2}{\sqrt c}\operatorname{artanh}(\sqrt c|x|)`.

    Points x [..., dim] give [...], computed as log1p(2n / (1 − n)) / √c with n = √c|x|.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> dist0(torch.tensor([0.5, 0.0]))
    tensor(1.0986)
    """
    check_curvature(c)
    check_points(x)
    s = _root(c)
    n = s * length(x)
    return torch.log1p(2 * n / _inside(1 - n)) / s


def ancestor_score(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """Detour of the path from the origin to ``x`` by ``y``: d(x, y) + d(0, y) − d(0, x), [...].

    The score is small for ancestors y of x; see `polar.ancestor_score`.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> ancestor_score(torch.tensor([0.5, 0.0]), torch.tensor([0.0, 0.0]))
    tensor(0.)
    """
    return dist(x, y, c=c) + (dist0(y, c=c) - dist0(x, c=c))


def all_ancestor_scores(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """`ancestor_score` of every candidate ``y`` [m, dim] for every ``x`` [n, dim]: [n, m].

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> all_ancestor_scores(torch.tensor([[0.5, 0.0]]), torch.tensor([[0.0, 0.0], [0.5, 0.0]]))
    tensor([[0., 0.]])
    """
    radial = dist0(y, c=c)[..., None, :] - dist0(x, c=c)[..., :, None]
    return cdist(x, y, c=c) + radial


def mobius_add(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Apply to ``y`` the isometry that moves the origin to ``x``.

    .. math:: x \oplus y = \frac{(1 - c|x|^2)(x + y) + c|x + y|^2 x}
                                {(1 - c|x|^2)(1 - c|y|^2) + c|x + y|^2}

    which is [GBH18, eq. 4] rearranged. Every term of the denominator is positive, so
    ``mobius_add(-x, x)`` is exactly 0 and the sum of near points loses no digits.

    Parameters
    ----------
    x, y
        Points [..., dim] inside the ball.
    c
        Curvature parameter.

    Returns
    -------
    point
        [..., dim]; inside the ball up to rounding (`project` removes this rounding error).

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    Radii on one ray are added: artanh ½ + artanh ½ = artanh 0.8.

    >>> x = torch.tensor([0.5, 0.0])
    >>> mobius_add(x, x)
    tensor([0.8000, 0.0000])
    """
    check_curvature(c)
    check_points(x, y)
    total = x + y
    square = c * total.square().sum(-1, keepdim=True)
    gap_x, gap_y = conformal_gap(x, c=c)[..., None], conformal_gap(y, c=c)[..., None]
    return (gap_x * total + square * x) / (gap_x * gap_y + square)


def expmap0(v: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Exponential map at the origin: the end of the geodesic that starts along ``v``, [..., dim].

    .. math:: \tanh(\sqrt c|v|)\,v/(\sqrt c|v|)

    As in [GBH18, lemma 2] and geoopt, ``v`` is given in ball coordinates, where the metric at the
    origin is 4: the radius of the result is 2|v|. The result is projected.

    Parameters
    ----------
    v
        Tangent vectors at the origin [..., dim], any length.
    c
        Curvature parameter.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> dist0(expmap0(torch.tensor([1.5, 0.0])))
    tensor(3.0000)
    """
    check_curvature(c)
    check_points(v)
    n = math.sqrt(c) * length(v, keepdim=True)
    small = n < torch.finfo(n.dtype).eps ** 0.5
    safe = torch.where(small, 1, n)
    # Below √eps, tanh(n)/n differs from 1 by less than eps.
    return project(v * torch.where(small, 1, torch.tanh(safe) / safe), c=c)


def logmap0(x: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Inverse of `expmap0`: :math:`\operatorname{artanh}(\sqrt c|x|)\,x/(\sqrt c|x|)`, [..., dim].

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> logmap0(torch.tensor([0.5, 0.0]))
    tensor([0.5493, 0.0000])
    """
    check_curvature(c)
    check_points(x)
    n = length(x, keepdim=True)
    small = math.sqrt(c) * n < torch.finfo(n.dtype).eps ** 0.5
    safe = torch.where(small, 1, n)
    return x * torch.where(small, 1, dist0(x, c=c)[..., None] / (2 * safe))


def expmap(x: Tensor, v: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Exponential map: the end of the geodesic of length 2|v|/(1 − c|x|²) from ``x`` along ``v``.

    .. math:: x \oplus \tanh(\sqrt c|v|/(1 - c|x|^2))\,v/(\sqrt c|v|)

    [GBH18, lemma 2]. The result [..., dim] is projected.

    Parameters
    ----------
    x, v
        Points [..., dim], and tangent vectors at them in ball coordinates [..., dim].
    c
        Curvature parameter.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> expmap(torch.tensor([0.0, 0.5]), torch.tensor([0.0, 0.0]))
    tensor([0.0000, 0.5000])
    """
    check_points(x, v)
    step = expmap0(v / conformal_gap(x, c=c)[..., None], c=c)
    return project(mobius_add(x, step, c=c), c=c)


def logmap(x: Tensor, y: Tensor, *, c: float = 1.0) -> Tensor:
    """Inverse of `expmap`: the tangent vector at ``x`` whose geodesic ends at ``y``, [..., dim].

    Parameters
    ----------
    x, y
        Start and end [..., dim].
    c
        Curvature parameter.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> logmap(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
    tensor([0.5493, 0.0000])
    """
    return conformal_gap(x, c=c)[..., None] * logmap0(mobius_add(-x, y, c=c), c=c)


def transport(x: Tensor, y: Tensor, v: Tensor, *, c: float = 1.0) -> Tensor:
    r"""Parallel transport of the tangent vector ``v`` from ``x`` to ``y`` along their geodesic.

    .. math:: \frac{1 - c|y|^2}{1 - c|x|^2}\,\operatorname{gyr}[y, -x]v

    [GBH18, theorem 4], with the gyration of [U08, ch. 3] written in δ = y − x, so that near the rim
    its terms do not cancel:

    .. math:: \operatorname{gyr}[y, -x]v = v + 2c\,
              \frac{\bigl(g_x\langle\delta, v\rangle - c|\delta|^2\langle x, v\rangle\bigr) x
              + \bigl(2c\langle x, \delta\rangle\langle x, v\rangle - c|x|^2\langle\delta, v\rangle
              - g_x\langle x, v\rangle\bigr)\delta}{g_x g_y + c|\delta|^2},
              \qquad g = 1 - c|\cdot|^2

    Parameters
    ----------
    x, y
        Start and end [..., dim].
    v
        Tangent vector at x [..., dim], in ball coordinates.
    c
        Curvature parameter.

    Returns
    -------
    vector
        Tangent vector at y [..., dim], of the same length 2|·|/(1 − c|·|²).

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    On the way outwards along a ray a vector keeps its direction; its coordinates shrink as the
    ball's metric grows.

    >>> transport(torch.tensor([0.0, 0.0]), torch.tensor([0.0, 0.5]), torch.tensor([1.0, 0.0]))
    tensor([0.7500, 0.0000])
    """
    check_points(x, y, v)
    gap_x, gap_y = conformal_gap(x, c=c)[..., None], conformal_gap(y, c=c)[..., None]
    apart = y - x
    square, along = _dot(apart, apart), _dot(x, apart)
    p, q = _dot(x, v), _dot(apart, v)
    by_x = gap_x * q - c * square * p
    by_apart = 2 * c * along * p - c * _dot(x, x) * q - gap_x * p
    turned = v + 2 * c * (by_x * x + by_apart * apart) / (gap_x * gap_y + c * square)
    return turned * (gap_y / gap_x)


def geodesic(x: Tensor, y: Tensor, t: float | Tensor, *, c: float = 1.0) -> Tensor:
    """Point of the geodesic from ``x`` to ``y``, at a share ``t`` of its length: [..., dim].

    Parameters
    ----------
    x, y
        Start and end [..., dim].
    t
        Number, or tensor [...]: 0 is the start, ½ the middle, 1 the end; beyond, the geodesic goes
        on.
    c
        Curvature parameter.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> geodesic(torch.tensor([0.0, 0.0]), torch.tensor([0.8, 0.0]), 0.5)
    tensor([0.5000, 0.0000])
    """
    d = dist(x, y, c=c) * math.sqrt(c)  # in this order: the distance checks c
    t = torch.as_tensor(t, dtype=d.dtype, device=d.device)
    a, b = means.shares(d, t)
    a, b = a * torch.exp(-t * d), b * torch.exp((t - 1) * d)
    return _of_space(a[..., None] * _space(x, c) + b[..., None] * _space(y, c), c)


def midpoint(x: Tensor, weights: Tensor | None = None, *, c: float = 1.0) -> Tensor:
    """Weighted midpoint [..., dim] of k points [..., k, dim], the gyromidpoint of [U08, ch. 6].

    In the Klein model it is Einstein's midpoint. Parameters and errors are those of
    `polar.midpoint`.

    Examples
    --------
    >>> midpoint(torch.tensor([[0.0, 0.0], [0.8, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    check_curvature(c)

    def between(v: Tensor, w: Tensor) -> Tensor:
        return dist(_of_space(v, 1.0), _of_space(w, 1.0))

    return _of_space(means.space_midpoint(_space(x, c), weights, between), c)


def mean(
    x: Tensor, weights: Tensor | None = None, *, c: float = 1.0, tolerance: float | None = None
) -> Tensor:
    """Fréchet mean [..., dim] of k points [..., k, dim]: least sum of squared distances.

    Parameters, warnings and errors are those of `polar.mean`, in which it is computed.

    Examples
    --------
    >>> mean(torch.tensor([[0.0, 0.0], [0.8, 0.0]]))
    tensor([0.5000, 0.0000])
    """
    check_curvature(c)
    check_points(x)
    s, moved = math.sqrt(c), means.off_origin(x)
    limit = None if tolerance is None else s * tolerance
    r, u = means.mean(s * dist0(moved, c=c), unit(moved)[1], weights, tolerance=limit)
    return project(torch.tanh(r / 2)[..., None] * u / s, c=c)


def project(x: Tensor, *, c: float = 1.0) -> Tensor:
    """Move points beyond `max_norm` inwards along their ray; others are returned bit for bit.

    A moved point [..., dim] lies a few eps inside `max_norm`, so that the function is idempotent.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> project(torch.tensor([[0.3, 0.4], [3.0, 4.0]])).norm(dim=-1)
    tensor([0.5000, 1.0000])
    """
    check_points(x)
    limit = max_norm(x.dtype, c=c)
    n = length(x, keepdim=True)
    outside = n > limit
    target = limit * (1 - 8 * torch.finfo(x.dtype).eps)
    return torch.where(outside, x * (target / torch.where(outside, n, 1)), x)


def conformal_gap(x: Tensor, *, c: float | Tensor = 1.0) -> Tensor:
    """1 − c|x|² [...], at least eps/2; 2 divided by it is the conformal factor λ of the metric.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> conformal_gap(torch.tensor([0.6, 0.0]))
    tensor(0.6400)
    """
    check_curvature(c)
    check_points(x)
    n = _root(c) * length(x)
    gap = _inside(1 - n) * (1 + n)
    if not (torch.is_grad_enabled() and gap.requires_grad):
        return gap
    # The derivatives are those of 1 − c|x|²: at the origin the norm has none.
    square = c * x.square().sum(-1)
    return gap.detach() + torch.where(n.detach() < 1, square.detach() - square, 0)


def _space(x: Tensor, c: float) -> Tensor:
    """Space part sinh r · u of points, on the hyperboloid of curvature −1."""
    return 2 * math.sqrt(c) * x / conformal_gap(x, c=c)[..., None]


def _of_space(space: Tensor, c: float) -> Tensor:
    """Inverse of `_space`, projected."""
    time = length(torch.nn.functional.pad(space, (1, 0), value=1.0), keepdim=True)
    return project(space / (1 + time) / math.sqrt(c), c=c)


def _dot(x: Tensor, y: Tensor) -> Tensor:
    """Dot product over the last dimension, which stays: [..., 1]."""
    return (x * y).sum(-1, keepdim=True)


def _inside(gap: Tensor) -> Tensor:
    """Raise 1 − √c|x| to at least half an eps, its value at the largest norm below 1."""
    return gap.clamp(min=torch.finfo(gap.dtype).eps / 2)


def _root(c: float | Tensor) -> Any:
    """Square root of c: a number of a number, a tensor of a tensor."""
    return c.sqrt() if isinstance(c, Tensor) else math.sqrt(c)


def _stretch(x: Tensor, s: float | Tensor) -> Tensor:
    """1/√(1 − c|x|²)."""
    return torch.rsqrt(conformal_gap(x, c=s * s))
