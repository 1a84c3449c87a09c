"""Points as a caller gives them, in polar coordinates; what is no point is refused or counted.

One rule for rows that are no points: nan, infinite, or a negative radius is a *lost* row, counted
and last wherever taxa are ranked; finite but outside the space is an error that names the space in
which the rows may lie.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry.arguments import check_curvature
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["GivenPoints", "read_points"]

_UNIT = 1e-3  # Largest | |u| − 1 | of a direction; what rounding leaves is in the report.


@dataclass(frozen=True)
class GivenPoints:
    """Points as they were given.

    Attributes
    ----------
    radius, direction : Tensor
        Polar coordinates [n] and [n, dim].
    rim : Tensor
        Distance of each point of the unit ball from its rim [n], without cancellation; nan where a
        row is lost.
    dtype : str
        Of the coordinates.
    direction_error : float or None
        Largest | |u| − 1 |; None for points of the ball.
    lost : int
        Number of rows that are no points.
    """

    radius: Tensor
    direction: Tensor
    rim: Tensor
    dtype: str
    direction_error: float | None
    lost: int


def read_points(
    model: Any, taxonomy: Taxonomy | Tree | None, c: float
) -> tuple[Taxonomy, GivenPoints]:
    """Find out what was given as model, and refuse what is no point."""
    own = getattr(model, "taxonomy", None)
    taxonomy = own if taxonomy is None else taxonomy
    if taxonomy is None:
        raise ValueError("these vectors come without a taxonomy: evaluate(vectors, taxonomy)")
    if isinstance(taxonomy, Tree):
        taxonomy = Taxonomy.from_tree(taxonomy)
    if own is not None and not own.has_rows_of(taxonomy):
        raise ValueError(
            "the model is of another taxonomy than the one given: its rows are other taxa. Leave "
            "the taxonomy out, or embed the one that is meant"
        )
    check_curvature(c)
    if hasattr(model, "radius") and hasattr(model, "direction"):
        model = model.radius, model.direction
    given = _given_polar(*model) if isinstance(model, tuple) else _given_ball(model, c)
    if len(given.radius) != len(taxonomy):
        raise ValueError(
            f"{len(given.radius):,} vectors, but the taxonomy has {len(taxonomy):,} taxa: row i "
            "must be the vector of node i (node i is the i-th in preorder, not the i-th smallest "
            "id)"
        )
    return taxonomy, given


def _given_polar(radius: Any, direction: Any) -> GivenPoints:
    r, u = _tensor(radius), _tensor(direction)
    if r.ndim != 1 or u.ndim != 2 or len(r) != len(u):
        raise ValueError(
            "polar coordinates are a radius [n] and a direction [n, dim]; "
            f"got {list(r.shape)} and {list(u.shape)}"
        )
    length = torch.linalg.vector_norm(u.double(), dim=1)
    valid = (r >= 0) & torch.isfinite(r) & torch.isfinite(length)
    error = torch.where(valid & (r > 0), (length - 1).abs(), 0)  # The origin has no direction.
    if bool((error > _UNIT).any()):
        row = int(error.argmax())
        raise ValueError(
            f"the direction of row {row} has length {float(length[row]):.4g}: directions are unit "
            "vectors. Divide each by its length, or, if these are points of the ball, give them "
            "alone: evaluate(points, taxonomy)"
        )
    rim = 2 / (torch.where(valid, r.double(), torch.nan).exp() + 1)  # 1 − tanh(r/2)
    worst = float((length[valid] - 1).abs().max()) if bool(valid.any()) else float("nan")
    return GivenPoints(r, u, rim, dtype_name(u.dtype), worst, int((~valid).sum()))


def _given_ball(points: Any, c: float) -> GivenPoints:
    x = _tensor(points)
    if x.ndim != 2:
        raise ValueError(f"points of the ball have shape [n, dim]; got {list(x.shape)}")
    wide = x.double() * c**0.5
    valid = torch.isfinite(wide).all(dim=1)
    norm = torch.linalg.vector_norm(wide, dim=1)
    outside = valid & (norm >= 1)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        raise ValueError(
            f"{int(outside.sum()):,} rows lie outside the ball, the first is row {row} with norm "
            f"{float(norm[row]) / c**0.5:.4g} (c={c:g} allows less than {c**-0.5:.4g}). "
            f"{_guess(x[valid].double(), c)}"
        )
    rim = torch.where(valid, 1 - norm, torch.nan)
    radius = torch.log1p(2 * norm / rim)  # 2 artanh(norm)
    direction = wide / norm.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    return GivenPoints(radius, direction, rim, dtype_name(x.dtype), None, int((~valid).sum()))


def _guess(x: Tensor, c: float) -> str:
    """Advice for finite rows that are no points of the ball: which space they may be points of."""
    time, space = x[:, 0], torch.linalg.vector_norm(x[:, 1:], dim=1)
    several = x.shape[1] > 1
    if several and bool(
        ((c**0.5 * time - (1 + c * space.square()).sqrt()).abs() < 1e-3 * time.abs()).all()
    ):
        return (
            "They look like points of the Lorentz model: evaluate(convert.lorentz_to_polar(x), "
            "taxonomy)"
        )
    if several and bool(((space - 1).abs() < _UNIT).all() & (time >= 0).all()):
        return (
            "They look like polar coordinates, radius first: evaluate((x[:, 0], x[:, 1:]), "
            "taxonomy)"
        )
    return (
        "They look like tangent vectors, whose length is the radius (model.tangent()), or like "
        "Euclidean vectors: give tangent vectors as polar coordinates, evaluate((x.norm(dim=1), "
        "torch.nn.functional.normalize(x)), taxonomy); Euclidean distances are not measured here"
    )


def _tensor(values: Any) -> Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch shares memory, and warns where that is read-only.
    return torch.as_tensor(values).detach()
