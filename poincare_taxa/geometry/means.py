r"""Geodesics, midpoints and means of points, for all models.

On the hyperboloid X = (cosh r, sinh r · u), points of the geodesic between X and Y, and midpoints
of many points, are sums with positive masses, divided by their Lorentz length:

.. math:: \frac{\sinh((1-t)d)\,X + \sinh(td)\,Y}{\sinh d}, \qquad
          \frac{\sum w_i X_i}{\|\sum w_i X_i\|_L},

the second being Einstein's midpoint in the Klein model and the gyromidpoint of the ball ([U08] ch.
3 and 6: its factors λ − 1 and λx are cosh r and sinh r · u). Its length, computed from coordinates,
is a difference of numbers of size e^{2r}. Here points are added two by two instead, in log₂ k
rounds, and the length of a sum of two is a sum of positive terms,

.. math:: \|aX + bY\|_L^2 = a^2 + b^2 + 2ab\cosh d(X, Y),

in polar coordinates with exponents apart from factors, so that nothing overflows at any radius.

The Fréchet mean minimises F(m) = ½ Σ wᵢ d(m, xᵢ)², Σ wᵢ = 1, by Newton's method. With n the unit
vectors and d the distances from m to the points, gradient and Hessian are ([LK20] §3; [P06] §4)

.. math:: -\sum w_i d_i n_i, \qquad
          \sum w_i \bigl(n_i n_i^T + d_i \coth d_i\,(I - n_i n_i^T)\bigr) \ge I.

Since the Hessian is at least I, the mean is no further from m than the length of the gradient,
which is the criterion of convergence.

Sources: [U08] Ungar 2008. [P06] Pennec 2006 (*Intrinsic Statistics on Riemannian Manifolds*).
[LK20] Lou, Katsman et al. 2020 (*Differentiating through the Fréchet Mean*).
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import check_polar, is_plain
from poincare_taxa.geometry.numerics import length, norm, renormalised
from poincare_taxa.geometry.polar_distance import paired
from poincare_taxa.geometry.polar_maps import finite_sinh, frame_expmap, frame_logmap

__all__ = ["geodesic", "mean", "midpoint", "off_origin", "shares", "space_midpoint"]

_LONGEST_STEP = 8.0  # Rounding beside the way grows with its length, as e^ℓ.
_MOST_STEPS = 200
_MOST_HALVINGS = 30


def geodesic(
    r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, t: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Point of the geodesic from ``(r1, u1)`` to ``(r2, u2)``, at a share ``t`` of its length.

    Parameters
    ----------
    r1, u1, r2, u2
        Start and end: radii [...] and directions [..., dim].
    t
        Number, or tensor [...]: 0 is the start, ½ the middle, 1 the end; beyond, the geodesic goes
        on.

    Returns
    -------
    radius, direction
        [...] and [..., dim]. A point at the origin, through which the geodesic of opposite
        directions goes, may have any direction.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> r, u = torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0])
    >>> geodesic(r[0], u, r[1], u, 0.25)
    (tensor(1.5000), tensor([0., 1.]))
    """
    check_polar(r1, u1, r2, u2)
    d = paired(r1, u1, r2, u2)
    t = torch.as_tensor(t, dtype=d.dtype, device=d.device)
    a1, a2 = shares(d, t)
    one, zero = torch.ones_like(d), torch.zeros_like(d)
    return _place(r1, u1, a1, -t * d, r2, u2, a2, (t - 1) * d, one, zero)


def midpoint(r: Tensor, u: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Weighted midpoint of k points: Einstein's, which is the gyromidpoint, in one pass.

    For two points of equal weight it is the middle of their geodesic. Of many it is near the
    Fréchet `mean`, and cheaper.

    Parameters
    ----------
    r, u
        Radii [..., k] and directions [..., k, dim].
    weights
        [..., k], at least 0, by default all equal; only their ratios count.

    Returns
    -------
    radius, direction
        [...] and [..., dim].

    Raises
    ------
    ValueError
        As `dist`, and if there is no point, or weights are negative or all 0.

    Examples
    --------
    >>> midpoint(torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
    (tensor(2.), tensor([0., 1.]))
    """
    check_polar(r, u)
    r, u = _spread(r, u)
    masses = _normalised(weights, r)
    (r, u, _, _) = _reduce(_sum, [r, u, masses, torch.zeros_like(masses)])
    return r, u


def mean(
    r: Tensor, u: Tensor, weights: Tensor | None = None, *, tolerance: float | None = None
) -> tuple[Tensor, Tensor]:
    """Fréchet mean: the point with the smallest weighted sum of squared distances to k points.

    Parameters
    ----------
    r, u
        Radii [..., k] and directions [..., k, dim].
    weights
        [..., k], at least 0, by default all equal; only their ratios count.
    tolerance
        Largest distance to the exact mean: Newton's method ends where the length of the gradient,
        an upper bound of this distance, is no larger. By default 64 eps (1 + largest distance),
        or what the directions of the dtype allow, where that is less.

    Returns
    -------
    radius, direction
        [...] and [..., dim]. They have first derivatives by points and weights, those of the
        implicit function; no second ones.

    Warns
    -----
    RuntimeWarning
        If the tolerance was not reached.

    Raises
    ------
    ValueError
        As `midpoint`.

    Examples
    --------
    >>> u = torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    >>> mean(torch.tensor([1.0, 3.0]), u, torch.tensor([3.0, 1.0]))
    (tensor(1.5000), tensor([0., 1.]))
    """
    check_polar(r, u)
    r, u = _spread(r, u)
    share = _normalised(weights, r)
    with torch.no_grad():
        at = _minimum(r.detach(), u.detach(), share.detach(), tolerance)
        hessian = _downhill(*at, r, u, share)[1]
    # One more step of Newton's method has the derivatives of the minimum; its value is left out.
    gradient = _weighted_sum(frame_logmap(at[0][..., None], at[1][..., None, :], r, u), share)
    step = torch.linalg.solve(hessian, gradient - gradient.detach())
    outwards = (step * at[1]).sum(-1)
    across = step - outwards[..., None] * at[1]
    # At the origin itself the chart has no directions: a mean there is returned as one beside it.
    radius = at[0].clamp(min=torch.finfo(r.dtype).eps ** 2)
    return radius + outwards, at[1] + across / finite_sinh(radius)[..., None]


def shares(d: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Masses sinh((1−t)d) / sinh d and sinh(td) / sinh d, without factors e^{−td} and e^{(t−1)d}.

    Where d = 0 they are 1 − t and t.
    """
    apart = d > 0
    safe = torch.where(apart, d, 1)
    whole = torch.expm1(-2 * safe)
    first = torch.where(apart, torch.expm1(-2 * (1 - t) * safe) / whole, 1 - t)
    return first, torch.where(apart, torch.expm1(-2 * t * safe) / whole, t)


def space_midpoint(
    space: Tensor, weights: Tensor | None, dist: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """`midpoint` of points of the hyperboloid of curvature −1, by their space parts sinh r · u.

    Parameters
    ----------
    space
        [..., k, dim]
    weights
        [..., k], or None.
    dist
        Distance of two points by their space parts.

    Returns
    -------
    space
        [..., dim]
    """

    def add(x: Tensor, a: Tensor, y: Tensor, b: Tensor) -> list[Tensor]:
        mass = _root(a.square() + b.square() + 2 * a * b * dist(x, y).cosh())
        some = torch.where(mass > 0, mass, 1)
        return [(a[..., None] * x + b[..., None] * y) / some[..., None], mass]

    return _reduce(add, [space, _normalised(weights, space[..., 0])])[0]


def off_origin(x: Tensor) -> Tensor:
    """Points [..., dim] with those at 0 moved by eps², where polar coordinates have derivatives."""
    first = torch.zeros_like(x)
    first[..., 0] = torch.finfo(x.dtype).eps ** 2
    return torch.where((x == 0).all(-1, keepdim=True), x + first, x)


def _normalised(weights: Tensor | None, like: Tensor) -> Tensor:
    """Weights [..., k] that sum to 1, with the shape and the dtype of `like`.

    Raises
    ------
    ValueError
        If there is no point, or weights are negative, not finite, all 0, or do not fit the points.
    """
    if like.ndim == 0 or like.shape[-1] == 0:
        raise ValueError(f"means are those of k points, [..., k]; got shape {tuple(like.shape)}")
    if weights is None:
        return torch.full_like(like, 1 / like.shape[-1])
    weights = torch.as_tensor(weights, dtype=like.dtype, device=like.device)
    try:
        weights = weights.expand(like.shape)
    except RuntimeError:
        raise ValueError(
            f"weights {tuple(weights.shape)} do not fit points {tuple(like.shape)}; give one for "
            "each point"
        ) from None
    total = weights.sum(-1, keepdim=True)
    if is_plain(weights) and not bool(((weights >= 0).all(-1) & (total[..., 0] > 0)).all()):
        raise ValueError("weights must be at least 0, and not all 0")
    return weights / total


# -------------------------------------------------------------------- sums of masses


def _spread(r: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Broadcast radii and directions to [..., k] and [..., k, dim] of one dtype."""
    shape = torch.broadcast_shapes(r.shape, u.shape[:-1])
    dtype = torch.promote_types(r.dtype, u.dtype)
    return r.to(dtype).expand(shape), u.to(dtype).expand(*shape, u.shape[-1])


def _reduce(add: Callable[..., Any], terms: list[Tensor]) -> list[Tensor]:
    """Add the k entries of terms [..., k] and [..., k, dim] two by two, until one is left."""
    vectors = [x.ndim > terms[-1].ndim for x in terms]
    terms = [x.movedim(-2 if vector else -1, 0) for x, vector in zip(terms, vectors, strict=True)]
    while (k := len(terms[0])) > 1:
        half = k // 2
        total = add(*(x[:half] for x in terms), *(x[half : 2 * half] for x in terms))
        terms = [torch.cat((x, y[2 * half :])) for x, y in zip(total, terms, strict=True)]
    return [x[0] for x in terms]


def _sum(
    r1: Tensor, u1: Tensor, a1: Tensor, e1: Tensor, r2: Tensor, u2: Tensor, a2: Tensor, e2: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sum of two points with masses a·exp(e): radius, direction, and mass as factor, exponent."""
    d = paired(r1, u1, r2, u2)
    e = torch.maximum(torch.maximum(e1, e2), (e1 + e2 + d) / 2).detach()
    cross = torch.exp(e1 + e2 + d - 2 * e) + torch.exp(e1 + e2 - d - 2 * e)  # 2 cosh d
    squares = (a1 * torch.exp(e1 - e)).square() + (a2 * torch.exp(e2 - e)).square()
    a = _root(squares + a1 * a2 * cross)
    r, u = _place(r1, u1, a1, e1, r2, u2, a2, e2, a, e)
    return r, u, a, e


def _place(
    r1: Tensor, u1: Tensor, a1: Tensor, e1: Tensor,
    r2: Tensor, u2: Tensor, a2: Tensor, e2: Tensor,
    a: Tensor, e: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Radius and direction of the sum of two masses a₁exp(e₁) and a₂exp(e₂), its mass a·exp(e)."""
    # 1. Space parts a sinh r of both, in units of e^top / 2.
    top = torch.maximum(e1 + r1, e2 + r2).detach()
    p = -a1 * torch.exp(e1 + r1 - top) * torch.expm1(-2 * r1)
    q = -a2 * torch.exp(e2 + r2 - top) * torch.expm1(-2 * r2)
    # 2. The direction differs little from that of the larger part: the difference is added to it.
    total = p + q
    some = total.abs() > 0
    safe = torch.where(some, total, 1)
    to_second, to_first = torch.where(some, q / safe, 0.5), torch.where(some, p / safe, 0.5)
    second = (to_second > to_first)[..., None]
    u = torch.where(
        second, u2 + to_first[..., None] * (u1 - u2), u1 + to_second[..., None] * (u2 - u1)
    )
    # 3. The radius, arsinh of the length of the space part; without e^gap where that is large.
    gap = top - e
    part = norm(p[..., None] * u1 + q[..., None] * u2) / (2 * torch.where(a > 0, a, 1))
    near = gap < 20
    close = torch.asinh(torch.exp(torch.where(near, gap, 0)) * torch.where(near, part, 0))
    safe = torch.where(near, 1, part)
    far = gap + torch.log(safe + torch.sqrt(safe.square() + torch.exp(-2 * gap.clamp(min=0))))
    return torch.where(near, close, far), renormalised(u)


def _root(x: Tensor) -> Tensor:
    """Square root with the gradient 0 at 0."""
    return torch.where(x > 0, torch.where(x > 0, x, 1).sqrt(), 0)


# -------------------------------------------------------------------- Newton's method


def _minimum(r: Tensor, u: Tensor, share: Tensor, tolerance: float | None) -> tuple[Tensor, Tensor]:
    """Fréchet mean by damped Newton's method, from the midpoint."""
    middle = _reduce(_sum, [r, u, share, torch.zeros_like(share)])
    at = middle[0], middle[1]
    gradient, hessian, value, reach = _downhill(*at, r, u, share)
    eps = torch.finfo(r.dtype).eps
    limit = 64 * eps * (1 + reach) if tolerance is None else torch.full_like(reach, tolerance)
    for _ in range(_MOST_STEPS):
        left = length(gradient) > limit
        if not bool(left.any()):
            return at[0], at[1]
        # 1. Halve the step of each set of points until it goes down far enough (Armijo 1966), or,
        # where rounding hides the descent, makes the gradient shorter.
        step = torch.linalg.solve(hessian, gradient)
        step = step * (_LONGEST_STEP / length(step, keepdim=True)).clamp(max=1)
        slope = (step * gradient).sum(-1)
        part, new, waits = torch.ones_like(slope), at, left
        for _ in range(_MOST_HALVINGS):
            new, found = _onto_rays(frame_expmap(*at, part[..., None] * step), r, u, share)
            down = found[2] < value - 0.1 * part * slope - 8 * eps * value
            waits = left & ~down & (length(found[0]) > length(gradient) / 2)
            if not bool(waits.any()):
                break
            part = torch.where(waits, part / 2, part)
        # 2. Keep the steps that were found.
        better = left & ~waits
        if not bool(better.any()):
            break
        at = torch.where(better, new[0], at[0]), torch.where(better[..., None], new[1], at[1])
        gradient, hessian, value, reach = _downhill(*at, r, u, share)
    # The directions of a dtype are eps apart: a point at a large radius may lie beside the mean.
    if tolerance is None:
        limit = 64 * eps * (1 + reach) * (1 + finite_sinh(at[0]))
    if bool((length(gradient) > limit).any()):
        warnings.warn(
            f"the mean is known to {length(gradient).max():.1e}, not to {limit.min():.1e}: give a "
            "larger tolerance, or points in float64",
            RuntimeWarning,
            3,
        )
    return at[0], at[1]


def _onto_rays(
    at: tuple[Tensor, Tensor], r: Tensor, u: Tensor, share: Tensor
) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, ...]]:
    """Move points to the ray of one of k, an ulp away, where that is better; with `_downhill`.

    Far out an ulp of a direction is a long way, and a mean of points of one ray is on it.
    """
    found = _downhill(*at, r, u, share)
    if bool((at[0] < 16).all()):  # e^16 ulp are no way
        return at, found
    nearest = (u - at[1][..., None, :]).abs().amax(-1).argmin(-1)
    ray = u.gather(-2, nearest[..., None, None].expand(*nearest.shape, 1, u.shape[-1]))[..., 0, :]
    on_ray = _downhill(at[0], ray, r, u, share)
    beside = (ray - at[1]).abs().amax(-1) <= 4 * torch.finfo(u.dtype).eps
    better = beside & (on_ray[2] < found[2])
    direction = torch.where(better[..., None], ray, at[1])
    return (at[0], direction), _downhill(at[0], direction, r, u, share)


def _downhill(
    r0: Tensor, u0: Tensor, r: Tensor, u: Tensor, share: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Descent Σ w d n [..., dim], Hessian [..., dim, dim], F, and the largest distance, at a point.

    The vectors are those of the frame of `frame_logmap`.
    """
    logs = frame_logmap(r0[..., None], u0[..., None, :], r, u)
    d = paired(r0[..., None], u0[..., None, :], r, u)
    apart = d > 0
    safe = torch.where(apart, d, 1)
    bend = torch.where(apart, safe / torch.tanh(safe), 1)
    towards = torch.where(apart[..., None], logs / safe[..., None], 0)
    outer = ((share * (1 - bend))[..., None] * towards).mT @ towards
    round_ = (share * bend).sum(-1)[..., None, None] * torch.eye(u.shape[-1]).to(u)
    value = (share * d.square()).sum(-1) / 2
    return _weighted_sum(logs, share), outer + round_, value, d.amax(-1)


def _weighted_sum(vectors: Tensor, share: Tensor) -> Tensor:
    return (share[..., None] * vectors).sum(-2)
