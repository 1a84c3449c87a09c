r"""Isometries and geodesics of `polar`: translation, exponential and logarithmic map, transport.

A tangent vector at (r, u) is a pair (dr [...], du [..., dim]) with du ⟂ u; its length is that of
(dr, sinh r · du), by the metric dr² + sinh² r |du|². At the origin the chart is singular: only
vectors (dr, 0) along the stored direction can be represented.

All formulas are those of the triangle of the origin and two points at radii r₁ and r₂, whose angle
α at the origin has the half chord s = sin(α/2): its third side ([R19] theorem 3.5.3, as in
`polar`), the law of sines ([R19] theorem 3.5.2), sin β / sinh r₂ = sin α / sinh d, and the cosine
of the angle at r₁, which is −∂d/∂r₁.
"""

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import check_polar
from poincare_taxa.geometry.numerics import norm, renormalised, unit
from poincare_taxa.geometry.polar_distance import (
    finite,
    half_chord,
    haversines,
    largest_exponent,
    paired,
    partials,
)

__all__ = [
    "divided",
    "expmap",
    "finite_sinh",
    "frame_expmap",
    "frame_logmap",
    "logmap",
    "translate",
    "transport",
]


def translate(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
    r"""Apply to ``(r2, u2)`` the isometry that moves the origin to ``(r1, u1)``.

    In the ball this isometry is `ball.mobius_add`. ``translate(r1, -u1, r2, u2)`` is its inverse,
    which moves (r1, u1) to the origin: it centres a clade on its root. With w = u₁+u₂ and R the new
    radius, the components of the new direction along and across u₁ are

    .. math:: \frac{\sinh(r_1-r_2) + \cosh r_1\sinh r_2\,|w|^2/2}{\sinh R}, \qquad
              \frac{\sinh r_2}{\sinh R}\bigl(w - \tfrac{|w|^2}{2}u_1\bigr),

    which is a Lorentz boost, written without differences of large numbers.

    Parameters
    ----------
    r1, u1
        Radius [...] and direction [..., dim] of the image of the origin.
    r2, u2
        Radius and direction of the points to move.

    Returns
    -------
    radius, direction
        The radius is as accurate as `dist`; the direction is normalised and has an error of a few
        eps (1 + r1 + r2). A point that is moved to the origin gets the direction u₁.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    Radii on one ray are added.

    >>> r, u = torch.tensor(1.5), torch.tensor([0.0, 1.0])
    >>> translate(r, u, r, u)
    (tensor(3.0000), tensor([0., 1.]))
    """
    check_polar(r1, u1, r2, u2)
    # The new radius is the distance from (r2, u2) to the point that is moved to the origin.
    radius = paired(r1, -u1, r2, u2)
    w = u1 + u2
    s = half_chord(w)
    # The component along u₁ is ∂d/∂r₁ of the distance from (r1, −u₁).
    along, _, _ = partials(r1, r2, s, radius)
    across = _times_sinh_ratio(w - 2 * s.square()[..., None] * u1, r2, radius)
    direction = unit(along[..., None] * u1 + across)[1]
    return radius, torch.where((radius > 0)[..., None], direction, u1)


def expmap(r: Tensor, u: Tensor, dr: Tensor, du: Tensor) -> tuple[Tensor, Tensor]:
    r"""Exponential map: the end of the geodesic from ``(r, u)`` along the tangent vector.

    With ℓ the length, β the angle to the outward ray and θ the angle between old and new direction,

    .. math:: \sin\theta = \frac{\sinh\ell \sin\beta}{\sinh R}, \qquad
              u' = u + \sin\theta\,\frac{du}{|du|} - (1 - \cos\theta)\,u.

    A small change is *added* to the stored direction, which is normalised only where `project`
    would do so.

    Parameters
    ----------
    r, u
        Radius [...] and direction [..., dim] of the start.
    dr, du
        Tangent vector [...] and [..., dim], du ⟂ u.

    Returns
    -------
    radius, direction
        Radius [...] and direction [..., dim] of the end point. A geodesic through the origin ends
        on the opposite side.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> expmap(*(torch.tensor(x) for x in (1.0, [0.0, 1.0], -3.0, [0.0, 0.0])))
    (tensor(2.), tensor([ 0., -1.]))
    """
    check_polar(r, u, dr, du)
    return _end(r, u, dr, finite_sinh(r)[..., None] * du)


def frame_expmap(r: Tensor, u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`expmap` of a vector ``v`` [..., dim] of the frame of `frame_logmap`; at the origin too."""
    dr = (v * u).sum(-1)
    return _end(r, u, dr, v - dr[..., None] * u)


def _end(r: Tensor, u: Tensor, dr: Tensor, du: Tensor) -> tuple[Tensor, Tensor]:
    """End of the geodesic along a vector with the parts dr along u, and du [..., dim] across."""
    # Length ℓ of the vector, and cosine and sine of its angle β to the outward ray.
    sideways = norm(du)
    length = norm(torch.stack(torch.broadcast_tensors(dr, sideways), dim=-1))
    still = length == 0
    safe = torch.where(still, 1, length)
    cosine, sine = dr / safe, sideways / safe
    # Half chord of the triangle's angle at the start, π − β, from 1 + cos β without cancellation.
    backwards = cosine < 0
    fold = torch.where(backwards, 1 - cosine, 1)  # not 0 on the other side: its gradient counts
    opening = torch.where(backwards, sine.square() / fold, 1 + cosine)  # 1 + cos β
    half = torch.sqrt(torch.where(opening > 0, opening, 1) / 2)
    half = torch.where(opening > 0, half, 0)
    # The third side is the new radius; cos θ is its derivative by r; sin θ is by the law of sines.
    radius = haversines(r, length, half, False)
    cos_turn, _, _ = partials(r, length, half, radius)
    turn = _times_sinh_ratio(du / safe[..., None], length, radius)  # sin θ, along du
    sin_turn = norm(turn)
    # 1 − cos θ, without cancellation where θ is small.
    fall = torch.where(cos_turn > 0, sin_turn.square() / (1 + cos_turn.clamp(min=0)), 1 - cos_turn)
    turned = u + (turn - fall[..., None] * u)
    # A length of 0 has no derivatives by du: a vector of length 0 has those of a short one.
    turned = torch.where(still[..., None], u + divided(du, finite_sinh(r)[..., None]), turned)
    direction = torch.where((radius > 0)[..., None], turned, u)
    return torch.where(still, r + dr, radius), renormalised(direction)


def logmap(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
    r"""Inverse of `expmap`: the tangent vector at ``(r1, u1)`` whose geodesic ends at ``(r2, u2)``.

    .. math:: dr = -d\,\frac{\partial d}{\partial r_1}, \qquad
              du = \frac{d \sinh r_2}{\sinh r_1 \sinh d}
                   \Bigl(u_2 - u_1 + \tfrac{|u_1 - u_2|^2}{2} u_1\Bigr)

    Parameters
    ----------
    r1, u1, r2, u2
        Start and end: radii [...] and directions [..., dim].

    Returns
    -------
    dr, du
        Tangent vector at the start, [...] and [..., dim]. At the origin, where the chart is
        singular, du is 0.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> logmap(*(torch.tensor(x) for x in (1.0, [0.0, 1.0], 3.0, [0.0, 1.0])))
    (tensor(2.), tensor([0., 0.]))
    """
    check_polar(r1, u1, r2, u2)
    dr, across = _start(r1, u1, r2, u2)
    return dr, divided(across, finite_sinh(r1)[..., None])


def frame_logmap(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> Tensor:
    """`logmap` as vectors [..., dim] of an orthonormal frame at ``(r1, u1)``, at the origin too.

    The frame is that of the ambient space at the origin, moved along the ray: its part along u₁ is
    dr, and its part across is sinh r · du. Near points take the vector of length sinh d instead of
    its two parts, which have no derivative where the points coincide.
    """
    dr, across = _start(r1, u1, r2, u2)
    d, s = paired(r1, u1, r2, u2), half_chord(u1 - u2)
    near, turned = d < 1, u2 - u1 + 2 * s.square()[..., None] * u1
    sinh1, sinh2 = finite_sinh(torch.where(near, r1, 0)), finite_sinh(torch.where(near, r2, 0))
    cosh1, s = torch.hypot(sinh1, torch.ones_like(sinh1)), torch.where(near, s, 0)
    along = torch.sinh(torch.where(near, r2 - r1, 0)) - 2 * (s * cosh1) * (s * sinh2)
    safe = torch.where(near & (d > 0), d, 1)
    shrink = torch.where(d > 0, safe / torch.sinh(safe), 1)[..., None]
    vector = shrink * (along[..., None] * u1 + sinh2[..., None] * turned)
    return torch.where(near[..., None], vector, dr[..., None] * u1 + across)


def _start(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> tuple[Tensor, Tensor]:
    """Parts of a logarithm along u₁ [...] and across [..., dim], both in units of length."""
    d = paired(r1, u1, r2, u2)
    s = half_chord(u1 - u2)
    by_r1, _, _ = partials(r1, r2, s, d)
    sideways = _times_sinh_ratio(u2 - u1 + 2 * s.square()[..., None] * u1, r2, d)
    # One point has the derivatives of two near ones, which their distance does not have.
    same = d == 0
    across = torch.where(
        same[..., None], finite_sinh(r2)[..., None] * (u2 - u1), d[..., None] * sideways
    )
    return torch.where(same, r2 - r1, -d * by_r1), across


def transport(
    r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, dr: Tensor, du: Tensor
) -> tuple[Tensor, Tensor]:
    """Parallel transport of ``(dr, du)`` from ``(r1, u1)`` to ``(r2, u2)`` along their geodesic.

    The component of the vector in the plane of the geodesic and the origin keeps its angle to the
    geodesic, whose own angle to the ray changes from β₁ to β₂. The component across that plane does
    not change. At the origin, where the chart is singular, components across the ray are dropped.

    Parameters
    ----------
    r1, u1, r2, u2
        Start and end: radii [...] and directions [..., dim].
    dr, du
        Tangent vector at the start [...] and [..., dim].

    Returns
    -------
    dr, du
        Tangent vector at the end, of the same length.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> r, u, v = torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.0])
    >>> dr, du = transport(r[0], u, r[1], u, torch.tensor(3.0), v)
    >>> dr, du * r[1].sinh() / r[0].sinh()
    (tensor(3.), tensor([0.5000, 0.0000]))
    """
    check_polar(r1, u1, r2, u2, dr, du)
    d = paired(r1, u1, r2, u2)
    s = half_chord(u1 - u2)
    # Unit vectors of the plane across the rays: of u₂ − cos α u₁ at u₁, of cos α u₂ − u₁ at u₂.
    q = 2 * s.square()[..., None]  # 1 − cos α
    sin_angle, toward = unit(u2 - u1 + q * u1)
    onward = unit(u2 - u1 - q * u2)[1]
    # Angles β₁, β₂ of the geodesic to the outward rays at both ends.
    by_r1, by_r2, _ = partials(r1, r2, s, d)
    turns = sin_angle > 0
    cos1, sin1 = _rotation(-by_r1, _times_sinh_ratio(sin_angle[..., None], r2, d), turns)
    cos2, sin2 = _rotation(by_r2, _times_sinh_ratio(sin_angle[..., None], r1, d), turns)

    # Split the vector, in an orthonormal frame, into radial, in-plane and across.
    stretched = finite_sinh(r1)[..., None] * du
    inside = torch.where(turns, (stretched * toward).sum(-1), 0)
    across = stretched - inside[..., None] * toward
    # Rotate radial and in-plane by −β₁ to components along and across the geodesic, then by β₂.
    along, aside = dr * cos1 + inside * sin1, inside * cos1 - dr * sin1
    inside = along * sin2 + aside * cos2
    return along * cos2 - aside * sin2, divided(
        across + inside[..., None] * onward, finite_sinh(r2)[..., None]
    )


def _times_sinh_ratio(x: Tensor, r: Tensor, d: Tensor) -> Tensor:
    """Multiply x [..., k] by sinh r / sinh d; 0 where d = 0.

    e^{r−d} is applied as two factors: their product may overflow where its multiple by a small x
    does not.
    """
    safe = torch.where(d > 0, d, 1)
    half = torch.exp(((r - safe) / 2).clamp(max=largest_exponent(safe.dtype)))
    scale = finite(half * torch.expm1(-2 * r) / torch.expm1(-2 * safe))
    return torch.where((d > 0)[..., None], (half[..., None] * x) * scale[..., None], 0)


def _rotation(cosine: Tensor, sine: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """Rescale to cos² + sin² = 1; (1, 0), no rotation, where the two rays coincide."""
    cosine, sine = torch.where(turns, cosine, 1), torch.where(turns, sine[..., 0], 0)
    length = torch.hypot(cosine, sine)
    return cosine / length, sine / length


def finite_sinh(r: Tensor) -> Tensor:
    """Hyperbolic sine, finite at any radius."""
    return torch.sinh(r.clamp(max=largest_exponent(r.dtype)))


def divided(x: Tensor, s: Tensor) -> Tensor:
    """Divide x by s, sinh of a radius; 0 at the origin, where the chart has no directions."""
    return torch.where(s > 0, x / torch.where(s > 0, s, 1), 0)
