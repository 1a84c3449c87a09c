r"""Conversions between the ball, polar and Lorentz models.

Polar coordinates have curvature -1. With another ``c``, lengths are measured in units of the
curvature radius 1/√c: the polar radius is √c times the distance to the origin, and the same
polar point is a point of every ball.

Errors of a round trip: polar → ball → polar changes a radius by up to eps·e^r and a direction by a
few eps; radii beyond `ball.max_radius` are clipped. Polar → Lorentz → polar changes both by a few
eps, as long as e^r fits the dtype (radius 88 in float32). A converted direction is normalised
again, which loses the digits below an ulp of 1 that a stored direction holds (see `polar`). Store
polar coordinates; convert for other programs.
"""

import math

import torch
from torch import Tensor

from poincare_taxa.geometry import ball, lorentz
from poincare_taxa.geometry.arguments import check_curvature, check_points, check_polar
from poincare_taxa.geometry.numerics import unit

__all__ = [
    "ball_to_lorentz",
    "ball_to_polar",
    "lorentz_to_ball",
    "lorentz_to_polar",
    "polar_to_ball",
    "polar_to_lorentz",
]


def ball_to_polar(x: Tensor, *, c: float = 1.0) -> tuple[Tensor, Tensor]:
    """Radius 2 artanh(√c|x|) [...] and direction x/|x| [..., dim] of ball points.

    The direction of the origin is the first basis vector.

    Raises
    ------
    ValueError
        As `ball.dist`; this holds for every function of this file.

    Examples
    --------
    >>> ball_to_polar(torch.tensor([0.0, 0.5]))
    (tensor(1.0986), tensor([0., 1.]))
    """
    return ball.dist0(x, c=c) * math.sqrt(c), unit(x)[1]  # in this order: dist0 checks c


def polar_to_ball(
    r: Tensor, u: Tensor, *, c: float = 1.0, dtype: torch.dtype | None = None
) -> Tensor:
    """Ball points tanh(r/2) u / √c [..., dim], projected to `ball.max_norm`.

    Parameters
    ----------
    r, u
        Radius [...] and direction [..., dim].
    c
        Curvature parameter of the ball.
    dtype
        Dtype of the result, in which it is projected; by default the widest dtype of r and u.

    Examples
    --------
    >>> polar_to_ball(torch.tensor(3.0).log(), torch.tensor([0.0, 1.0]))
    tensor([0.0000, 0.5000])
    """
    check_curvature(c)
    check_polar(r, u)
    x = torch.tanh(r / 2)[..., None] * u / math.sqrt(c)
    return ball.project(x if dtype is None else x.to(dtype), c=c)


def polar_to_lorentz(r: Tensor, u: Tensor, *, c: float = 1.0) -> Tensor:
    """Lorentz points (cosh r, sinh r · u) / √c [..., 1 + dim].

    Examples
    --------
    >>> polar_to_lorentz(torch.tensor(0.0), torch.tensor([0.0, 1.0]))
    tensor([1., 0., 0.])
    """
    check_curvature(c)
    check_polar(r, u)
    return lorentz.project(
        torch.nn.functional.pad(torch.sinh(r)[..., None] * u / math.sqrt(c), (1, 0)), c=c
    )


def lorentz_to_polar(x: Tensor, *, c: float = 1.0) -> tuple[Tensor, Tensor]:
    """Radius [...] and direction [..., dim] of Lorentz points [..., 1 + dim].

    The direction of the origin is the first basis vector.

    Examples
    --------
    >>> lorentz_to_polar(torch.tensor([1.0, 0.0, 0.0]))
    (tensor(0.), tensor([1., 0.]))
    """
    return lorentz.dist0(x, c=c) * math.sqrt(c), unit(x[..., 1:])[1]


def ball_to_lorentz(x: Tensor, *, c: float = 1.0) -> Tensor:
    """Lorentz points [..., 1 + dim] of the same curvature; their space part is 2x / (1 − c|x|²).

    Examples
    --------
    >>> ball_to_lorentz(torch.tensor([0.5, 0.0]))
    tensor([1.6667, 1.3333, 0.0000])
    """
    space = 2 * x / ball.conformal_gap(x, c=c)[..., None]
    return lorentz.project(torch.nn.functional.pad(space, (1, 0)), c=c)


def lorentz_to_ball(x: Tensor, *, c: float = 1.0) -> Tensor:
    """Ball points x₁… / (1 + √c x₀) [..., dim] of the same curvature, projected to `ball.max_norm`.

    Examples
    --------
    >>> lorentz_to_ball(torch.tensor([5 / 3, 4 / 3, 0.0]))
    tensor([0.5000, 0.0000])
    """
    check_curvature(c)
    check_points(x)
    return ball.project(x[..., 1:] / (1 + math.sqrt(c) * x[..., :1]), c=c)
