"""Points as a caller gives them, in one of several spaces; what is no point is refused or counted.

One rule for rows that are no points: nan, infinite, or a negative radius is a *lost* row, counted
and last wherever taxa are ranked; finite but outside the space is an error that names the space in
which the rows may lie.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from poincare_taxa.evaluation.keyed import as_tensor, place_by_id
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry.arguments import check_curvature
from poincare_taxa.geometry.convert import lorentz_to_polar
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["MANIFOLDS", "Distance", "GivenPoints", "read_points"]

Distance = Callable[[Tensor, Tensor], Tensor]

MANIFOLDS = ("ball", "polar", "lorentz", "euclidean")
_UNIT = 1e-3  # Largest | |u| − 1 | of a direction; what rounding leaves is in the report.


@dataclass(frozen=True)
class GivenPoints:
    """Points as they were given.

    Attributes
    ----------
    radius : Tensor
        Distance of each point from the origin, or from the root's point where a space has no origin
        [n]; nan where a row is lost.
    direction : Tensor or None
        Unit vectors [n, dim]; None where the space has none.
    vectors : Tensor
        The coordinates as they were given [n, …].
    manifold : str
        Name of the space.
    distance : callable or None
        Of vectors; None where radius and direction are polar coordinates of hyperbolic space.
    rim : Tensor or None
        Distance of each point of the unit ball from its rim [n], without cancellation; nan where a
        row is lost, None where the space is not hyperbolic.
    direction_error : float or None
        Largest | |u| − 1 | of polar coordinates; else None.
    rounding
        At most what rounding of the coordinates makes of a radius.
    notes : list of str
        What a reader of the report must know.
    """

    radius: Tensor
    direction: Tensor | None
    vectors: Tensor
    manifold: str
    distance: Distance | None = None
    rim: Tensor | None = None
    direction_error: float | None = None
    rounding: float = 0.0
    notes: tuple[str, ...] = ()

    @property
    def valid(self) -> Tensor:
        """Which rows are points [n]: finite, and of a radius that is not negative."""
        sound = torch.isfinite(self.vectors).all(dim=1)
        return sound if self.direction is None else sound & ~self.radius.isnan()

    @property
    def dtype(self) -> str:
        """Of the coordinates."""
        return dtype_name(self.vectors.dtype)


def read_points(
    model: Any,
    taxonomy: Taxonomy | Tree | None,
    manifold: str | Distance = "ball",
    c: float = 1.0,
) -> tuple[Taxonomy, GivenPoints]:
    """Find out what was given as model, and refuse what is no point."""
    own = getattr(model, "taxonomy", None)
    taxonomy = own if taxonomy is None else taxonomy
    if taxonomy is None:
        raise ValueError("these vectors come without a taxonomy: evaluate(vectors, taxonomy)")
    has_ids = not isinstance(taxonomy, Tree)
    if isinstance(taxonomy, Tree):
        taxonomy = Taxonomy.from_tree(taxonomy)
    if own is not None and not own.has_rows_of(taxonomy):
        raise ValueError(
            "the model is of another taxonomy than the one given: its rows are other taxa. Leave "
            "the taxonomy out, or embed the one that is meant"
        )
    check_curvature(c)
    given, notes = place_by_id(model, taxonomy)
    if given is not model and not has_ids:
        raise ValueError("a tree has no ids to find vectors by: give the Taxonomy")
    model = given
    if hasattr(model, "radius") and hasattr(model, "direction"):
        model = model.radius, model.direction
    given = replace(_in_space(model, manifold, c), notes=notes)
    if len(given.radius) != len(taxonomy):
        raise ValueError(
            f"{len(given.radius):,} vectors, but the taxonomy has {len(taxonomy):,} taxa: row i "
            "must be the vector of node i (node i is the i-th in preorder, not the i-th smallest "
            "id). Give {id: vector} or a table with ids, and rows are found by them"
        )
    return taxonomy, given


def _in_space(given: Any, manifold: str | Distance, c: float) -> GivenPoints:
    if isinstance(given, tuple):
        if manifold not in ("ball", "polar"):
            raise ValueError(f"a radius and a direction are polar coordinates, not {manifold!r}")
        manifold = "polar"
    distance = getattr(manifold, "dist", manifold)  # of a manifold of geoopt
    if manifold not in MANIFOLDS and not callable(distance):
        raise ValueError(
            f"manifold must be one of {', '.join(map(repr, MANIFOLDS))}, or a function of two "
            f"tensors [..., dim] that returns distances [...]; got {manifold!r}"
        )
    if c != 1 and manifold not in ("ball", "lorentz"):
        raise ValueError(f"c is the curvature of the ball or the Lorentz model; got c={c}")
    if isinstance(given, tuple):
        return _polar(*map(as_tensor, given))
    x = as_tensor(given)
    if x.ndim != 2:
        space = f"of the {manifold}" if isinstance(manifold, str) else ""
        raise ValueError(f"points {space} have shape [n, dim]; got {list(x.shape)}")
    if manifold == "polar":
        return _polar(x[:, 0], x[:, 1:])
    if manifold == "ball":
        return _ball(x, c)
    if manifold == "lorentz":
        return _lorentz(x, c)
    if manifold == "euclidean":
        return _euclidean(x)
    return _by_distance(x, cast(Distance, distance))


# -------------------------------------------------------------------- hyperbolic space


def _polar(r: Tensor, u: Tensor) -> GivenPoints:
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
    radius = torch.where(valid, r.double(), torch.nan)
    rim = 2 / (radius.exp() + 1)  # 1 − tanh(r/2)
    worst = float((length[valid] - 1).abs().max()) if bool(valid.any()) else float("nan")
    rounding = _largest(radius) * torch.finfo(u.dtype).eps
    return GivenPoints(radius, u, u, "polar", rim=rim, direction_error=worst, rounding=rounding)


def _ball(x: Tensor, c: float) -> GivenPoints:
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
    # The norm is rounded by half an ulp; a radius grows by cosh²(r/2) times as much.
    rounding = _largest(norm / (rim * (1 + norm))) * torch.finfo(x.dtype).eps
    return GivenPoints(radius, direction, x, "ball", rim=rim, rounding=rounding)


def _lorentz(x: Tensor, c: float) -> GivenPoints:
    wide = x.double()
    valid = torch.isfinite(wide).all(dim=1)
    outside = valid & ~_on_hyperboloid(wide, c)
    if bool(outside.any()):
        row = int(outside.nonzero()[0])
        square = float(wide[row, 1:].square().sum() - wide[row, 0].square())
        raise ValueError(
            f"{int(outside.sum()):,} rows are not on the hyperboloid, the first is row {row}: "
            f"−x₀² + |x₁…|² is {square:.4g}, and not −1/c = {-1 / c:.4g}, with x₀ > 0. "
            f"{_guess(wide[valid], c)}"
        )
    radius, direction = lorentz_to_polar(torch.where(valid[:, None], wide, torch.nan), c=c)
    rim = 2 / (radius.exp() + 1)
    rounding = _largest(radius) * torch.finfo(x.dtype).eps
    return GivenPoints(radius, direction, x, "lorentz", rim=rim, rounding=rounding)


def _on_hyperboloid(x: Tensor, c: float) -> Tensor:
    time, space = x[:, 0], torch.linalg.vector_norm(x[:, 1:], dim=1)
    return (c**0.5 * time - (1 + c * space.square()).sqrt()).abs() < 1e-3 * c**0.5 * time.abs()


def _guess(x: Tensor, c: float) -> str:
    """Advice for finite rows that are no points: which space they may be points of."""
    norm, several = torch.linalg.vector_norm(x, dim=1), x.shape[1] > 1
    space = torch.linalg.vector_norm(x[:, 1:], dim=1)
    if several and bool(_on_hyperboloid(x, c).all()):
        return (
            'They look like points of the Lorentz model: evaluate(x, taxonomy, manifold="lorentz")'
        )
    if several and bool(((space - 1).abs() < _UNIT).all() & (x[:, 0] >= 0).all()):
        return (
            "They look like polar coordinates, radius first: evaluate(x, taxonomy, "
            'manifold="polar")'
        )
    if bool((norm * c**0.5 < 1).all()):
        return 'They look like points of the ball: evaluate(x, taxonomy, manifold="ball")'
    return (
        "They look like tangent vectors, whose length is the radius (model.tangent()), or like "
        "Euclidean vectors: give tangent vectors as polar coordinates, evaluate((x.norm(dim=1), "
        "torch.nn.functional.normalize(x)), taxonomy), and Euclidean ones with "
        'manifold="euclidean"'
    )


def _largest(values: Tensor) -> float:
    return float(values.nan_to_num(nan=0).max()) if len(values) else 0.0


# -------------------------------------------------------------------- other spaces


def euclidean(x: Tensor, y: Tensor) -> Tensor:
    """Length of x − y."""
    return torch.linalg.vector_norm(x - y, dim=-1)


def _euclidean(x: Tensor) -> GivenPoints:
    wide = x.double()
    norm = torch.linalg.vector_norm(wide, dim=1)
    radius = torch.where(torch.isfinite(norm), norm, torch.nan)
    direction = wide / norm.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
    rounding = _largest(radius) * torch.finfo(x.dtype).eps
    return GivenPoints(radius, direction, x, "euclidean", euclidean, rounding=rounding)


def _by_distance(x: Tensor, distance: Distance) -> GivenPoints:
    wide = x.double()
    try:
        shape = list(distance(wide[:1, None], wide[None, :1]).shape)
    except Exception as error:
        shape = f"raised {type(error).__name__}: {error}"
    if shape != [1, 1]:
        raise ValueError(
            "manifold as a function must take tensors that broadcast and return a tensor: of two "
            f"of shape [1, 1, dim] one of shape [1, 1], and not {shape}"
        )
    radius = distance(wide, wide[:1].expand_as(wide)).double()
    radius = torch.where(torch.isfinite(radius), radius, torch.nan)
    name = getattr(distance, "__qualname__", repr(distance))
    rounding = _largest(radius) * torch.finfo(x.dtype).eps
    return GivenPoints(radius, None, x, name, distance, rounding=rounding)
