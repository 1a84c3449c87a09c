"""Points of one's own in several coordinates, converted to radius and direction."""

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.geometry import convert, lorentz
from poincare_taxa.geometry.numerics import unit

__all__ = ["Coordinates", "polar_of"]

Coordinates = Literal["ball", "tangent", "polar", "lorentz"]
_TOLERANCE = 1e-3  # Relative error of a unit length, or of the equation of the hyperboloid.


def polar_of(points: Any, coordinates: Coordinates, dim: int) -> tuple[Tensor, Tensor, bool]:
    """Radius [q] and direction [q, dim] of points, float64, and whether one point was given.

    Parameters
    ----------
    points
        A point or several of the space of curvature −1: [dim] or [q, dim] of the ball, or of the
        tangent space at the origin; [1 + dim] or [q, 1 + dim] of the Lorentz model, or polar, the
        radius first. A tuple (radius, direction), as `TaxonEmbedding.mean` returns, is polar.
    coordinates
        What they are, but for such a tuple.
    dim
        Dimension of the space.

    Raises
    ------
    ValueError
        If `coordinates` is none of the four, the shape does not fit, a number is not finite, or a
        row is no point of that space.
    """
    if coordinates not in ("ball", "tangent", "polar", "lorentz"):
        raise ValueError(
            f"coordinates are 'ball', 'tangent', 'polar' or 'lorentz'; got {coordinates!r}"
        )
    if isinstance(points, tuple) and len(points) == 2:
        radius, direction = map(_tensor, points)
        if coordinates == "polar" or direction.ndim == radius.ndim + 1:
            coordinates = "polar"
            points = torch.cat((radius[..., None], direction), dim=-1)
    x = _tensor(points)
    width = dim + (coordinates in ("polar", "lorentz"))
    if x.ndim not in (1, 2) or x.shape[-1] != width:
        raise ValueError(
            f"a point in {coordinates} coordinates has shape [{width}], several have [q, {width}]; "
            f"got {list(x.shape)}"
        )
    single, x = x.ndim == 1, torch.atleast_2d(x)
    _require(torch.isfinite(x).all(dim=1), "is not finite")
    if coordinates == "tangent":
        return *unit(x), single
    if coordinates == "ball":
        _require(
            torch.linalg.vector_norm(x, dim=1) < 1,
            "has a norm of 1 or more, and lies outside the ball; tangent vectors, as model[key] "
            "gives, are coordinates='tangent'",
        )
        return *convert.ball_to_polar(x), single
    length = torch.linalg.vector_norm(x[:, 1:], dim=1)
    if coordinates == "polar":
        is_unit = ((length - 1).abs() <= _TOLERANCE) | (x[:, 0] == 0)
        _require(
            is_unit & (x[:, 0] >= 0),
            "is not a radius of at least 0, followed by a unit vector",
        )
        return x[:, 0], x[:, 1:], single
    on_hyperboloid = (x[:, 0] - (1 + length**2).sqrt()).abs() <= _TOLERANCE * x[:, 0]
    _require(on_hyperboloid, "is not on the hyperboloid x₀² = 1 + |x₁…|², x₀ > 0")
    return *convert.lorentz_to_polar(lorentz.project(x)), single


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch shares memory, and warns where that is read-only.
    return torch.as_tensor(values).detach().cpu().double()


def _require(valid: Tensor, what: str) -> None:
    if not bool(valid.all()):
        raise ValueError(f"point {int((~valid).nonzero()[0])} {what}")
