"""Points and losses as the kernels take them, and what is asked of the arguments."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import check_curvature, check_points, check_polar

__all__ = [
    "LARGEST",
    "By",
    "Comparison",
    "Manifold",
    "Pairs",
    "Points",
    "PointsLike",
    "check_manifold",
    "check_rows",
    "joined",
    "table_of",
]

Manifold = Literal["ball", "polar"]
By = Literal["distance", "ancestor"]
PointsLike = Tensor | tuple[Tensor, Tensor]
LARGEST = 350.0  # Radius up to which t of (1) in `numba.tiles` is finite.


class Points(NamedTuple):
    """Rows of points: coordinates in the ball, or radius and direction."""

    radius: Tensor | None
    """[n]; None in the ball."""
    coordinates: Tensor
    """[n, dim]: of the ball, or of the direction."""
    c: float

    @classmethod
    def of(cls, points: PointsLike, manifold: Manifold, c: float) -> "Points":
        """Check and split what a caller gives: a table, or radius and direction."""
        check_manifold(manifold, c)
        if isinstance(points, tuple):
            radius, direction = _pair(points, manifold)
            if radius.ndim != 1 or direction.ndim != 2 or len(radius) != len(direction):
                raise ValueError(
                    "points are a radius [n] and a direction [n, dim]; got "
                    f"{tuple(radius.shape)} and {tuple(direction.shape)}"
                )
            return cls(radius, direction, c)
        table = table_of(points, manifold, c)
        if manifold == "ball":
            return cls(None, table, c)
        return cls(table[:, 0], table[:, 1:], c)

    @property
    def device(self) -> torch.device:
        """Where the points are."""
        return self.coordinates.device

    @property
    def dim(self) -> int:
        """Coordinates of a point, or of its direction."""
        return self.coordinates.shape[1]

    @property
    def too_far(self) -> bool:
        """Whether a radius is past `LARGEST`."""
        return self.radius is not None and bool((self.radius > LARGEST).any())  # nan is not

    def __len__(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return len(self.coordinates)

    def at(self, rows: Tensor | slice) -> "Points":
        """Take some of the rows."""
        radius = None if self.radius is None else self.radius[rows]
        return Points(radius, self.coordinates[rows], self.c)

    def double(self) -> "Points":
        """Widen to float64, where differences of stored float32 values are exact."""
        radius = None if self.radius is None else self.radius.double()
        return Points(radius, self.coordinates.double(), self.c)


class Pairs(NamedTuple):
    """Pairs of points: row i[m] of x and row j[m] of y."""

    x: Tensor
    """Table of one side, [n, dim] in the ball, [n, 1 + dim] in the polar model."""
    i: Tensor | None
    """Its rows; None for all in their order."""
    y: Tensor
    """Table of the other side."""
    j: Tensor | None
    """Its rows; None where `i` is."""
    polar: bool
    """Whether the points are of the polar model, else of the ball."""
    c: float
    """Of the ball; 1 in the polar model."""

    @property
    def number(self) -> int:
        """How many pairs there are."""
        return len(self.x if self.i is None else self.i)


class Comparison(NamedTuple):
    """How `ranking_loss` measures and compares B anchors, their positives and K negatives."""

    valid: Tensor | None = None
    """Bool [B, K], which negatives count; None: all."""
    log_weights: Tensor | None = None
    """[1 or B, K], of the softmax; None: 0."""
    margin: Tensor | None = None
    """[B], of the margin loss; None: the loss is the softmax."""
    temperature: float = 1.0
    """Of the softmax."""
    polar: bool = False
    """Whether the points are of the polar model, else of the ball."""
    c: float = 1.0
    """Of the ball; 1 in the polar model."""

    @property
    def transposed(self) -> "Comparison":
        """The same, of matrices with negatives down and anchors across."""
        valid, log_weights = (None if x is None else x.T for x in self[:2])
        return self._replace(valid=valid, log_weights=log_weights)

    def logits(self, distances: Tensor) -> Tensor:
        """Log w − d/T [B, K]."""
        scaled = distances / self.temperature
        return -scaled if self.log_weights is None else self.log_weights - scaled


def table_of(x: Tensor, manifold: Manifold, c: float | Tensor) -> Tensor:
    """Check a table [n, dim] of the ball, or [n, 1 + dim] of radius and direction."""
    check_manifold(manifold, c)
    check_points(x)
    if x.ndim != 2 or (manifold == "polar" and x.shape[1] < 2):
        wanted = "[n, dim]" if manifold == "ball" else "[n, 1 + dim], the radius first"
        raise ValueError(f"a table of manifold={manifold!r} is {wanted}; got {tuple(x.shape)}")
    return x


def check_rows(name: str, rows: Tensor, n: int, *, ndim: int | None = 1, least: int = 0) -> Tensor:
    """Raise ValueError unless these are int64 rows of a table of n: kernels read unchecked."""
    if rows.dtype != torch.int64 or ndim not in (None, rows.ndim):
        wanted = "" if ndim is None else f" with {ndim} dimension(s)"
        raise ValueError(
            f"{name} must be int64{wanted}; got {rows.dtype} of shape {tuple(rows.shape)}"
        )
    if rows.numel() > 0:
        low, high = torch.aminmax(rows)
        if low < least or high >= n:
            worst = int(low if low < least else high)
            raise ValueError(f"{name} has row {worst}; the table's rows are 0 to {n - 1}")
    return rows


def check_manifold(manifold: str, c: float | Tensor) -> None:
    """Raise ValueError unless the manifold is one of both, with a curvature that it can have."""
    if manifold not in ("ball", "polar"):
        raise ValueError(f"manifold must be 'ball' or 'polar'; got {manifold!r}")
    check_curvature(c)
    if manifold == "polar" and (isinstance(c, Tensor) or c != 1):
        raise ValueError(f"the polar model has curvature -1; got c={c}")


def joined(points: PointsLike, manifold: Manifold) -> Tensor:
    """Points as one tensor [..., 1 + dim], the radius first, where they are a pair."""
    if not isinstance(points, tuple):
        return points
    radius, direction = _pair(points, manifold)
    return torch.cat((radius[..., None], direction), dim=-1)


def _pair(points: tuple[Tensor, Tensor], manifold: Manifold) -> tuple[Tensor, Tensor]:
    """Radius and direction, checked."""
    if manifold != "polar":
        raise ValueError("a radius and a direction are points of manifold='polar'")
    radius, direction = points
    check_polar(radius, direction)
    return radius, direction
