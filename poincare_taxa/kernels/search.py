"""`nearest` and `count_nearer`: few queries against millions of rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from poincare_taxa.geometry import ball, polar
from poincare_taxa.kernels.arguments import By, Manifold, Points, PointsLike, check_rows
from poincare_taxa.kernels.backend import Backend, choose
from poincare_taxa.kernels.torch import search as _blocks

__all__ = [
    "Counts",
    "Neighbours",
    "check_targets",
    "checked",
    "checked_skip",
    "count_nearer",
    "is_ancestor",
    "lost_rows",
    "nearest",
    "with_distances",
    "with_lost",
    "without_lost",
]


class Neighbours(NamedTuple):
    """The k nearest rows of each query, nearest first."""

    distance: Tensor
    """Float64 [Q, k]: distance or ancestor score; inf where there are fewer than k candidates."""
    row: Tensor
    """int64 [Q, k]; −1 where there are fewer."""


class Counts(NamedTuple):
    """Where targets stand among all rows, of each query."""

    nearer: Tensor
    """int64 [Q, T]: rows strictly nearer than the target; 0 where there is no target."""
    tied: Tensor
    """int64 [Q, T]: other rows exactly as near."""


@torch.no_grad()
def nearest(
    points: PointsLike,
    queries: PointsLike,
    k: int,
    *,
    manifold: Manifold = "ball",
    c: float = 1.0,
    by: By = "distance",
    skip: Tensor | None = None,
    rows: Tensor | None = None,
    backend: Backend = "auto",
) -> Neighbours:
    """Find the k nearest rows of a table, exactly: no index, no approximation.

    Rows are ranked by a quantity that grows with the distance and needs no logarithm (one pass over
    the table in its order, in float64); the distances of those found are then computed in full.

    Parameters
    ----------
    points
        The table: [n, dim] of the ball, [n, 1 + dim] of the polar model, or (radius, direction).
    queries
        Points in the same form: [Q, …].
    k
        At least 1.
    manifold
        "ball" or "polar".
    c
        Curvature parameter of the ball.
    by
        "distance", or "ancestor": how far a row is from lying between the origin and the query
        (``ancestor_score`` of `geometry`).
    skip
        int64 [Q]: a row of the table that is no candidate (the query itself), −1 for none.
    rows
        int64 [m], the candidates; all rows by default.
    backend
        See `poincare_taxa.kernels`.

    Returns
    -------
    neighbours
        Rows that are no points (nan, infinite, or a negative radius) are never among them, and a
        query that is no point has none. Of rows whose distances differ by rounding alone, either
        may come first.

    Raises
    ------
    ValueError
        If ``k < 1``, shapes or dtypes do not fit, or a row is not in the table.

    Examples
    --------
    >>> table = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.6, 0.0]])
    >>> found = nearest(table, table[:1], 2, skip=torch.tensor([0]))
    >>> found.row, found.distance
    (tensor([[1, 2]]), tensor([[1.0986, 1.3863]], dtype=torch.float64))
    """
    table, asked = (without_lost(part) for part in checked(points, queries, manifold, c))
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    if rows is not None:
        rows = check_rows("rows", rows, len(table))
    skip = checked_skip(skip, table, asked)
    ancestor = is_ancestor(by)
    module = choose(backend, table.device)
    found = None if module is None else module.nearest(table, asked, k, ancestor, skip, rows)
    if found is None:
        found = _blocks.nearest(table, asked, k, ancestor, skip, rows)
    return with_distances(table, asked, found, ancestor)


@torch.no_grad()
def count_nearer(
    points: PointsLike,
    queries: PointsLike,
    targets: Tensor,
    *,
    manifold: Manifold = "ball",
    c: float = 1.0,
    by: By = "distance",
    skip: Tensor | None = None,
    backend: Backend = "auto",
) -> Counts:
    """Count, for each query, the rows that are nearer to it than each of its targets.

    The core of exact mean rank and MAP: nothing of the size of queries × rows is stored.

    Parameters
    ----------
    points, queries, manifold, c, by, backend
        As for `nearest`.
    targets
        int64 [Q, T]: rows of the table, −1 where a query has fewer than T.
    skip
        int64 [Q]: a row that is not counted (the query itself), −1 for none.

    Returns
    -------
    counts
        A target counts for the others, and never for itself. Rows that are no points (nan,
        infinite, or a negative radius) are nowhere nearer; as a target such a row is last with
        every tie against it: all others are nearer and none is tied. So is every target of a query
        that is no point.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or a row is not in the table.

    Notes
    -----
    A tie is equality of what is compared: with numba t = sinh²(d/2) (or its counterpart for the
    score), with torch the distance, both in float64.

    Examples
    --------
    >>> table = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.6, 0.0]])
    >>> count_nearer(table, table[:1], torch.tensor([[1, 3, -1]]), skip=torch.tensor([0]))
    Counts(nearer=tensor([[0, 2, 0]]), tied=tensor([[1, 0, 0]]))
    """
    table, asked = (without_lost(part) for part in checked(points, queries, manifold, c))
    check_targets(targets, table, asked)
    skip = checked_skip(skip, table, asked)
    ancestor = is_ancestor(by)
    module = choose(backend, table.device)
    counts = None
    if module is not None:
        counts = module.count_nearer(table, asked, targets, ancestor, skip)
    if counts is None:
        counts = _blocks.count_nearer(table, asked, targets, ancestor, skip)
    return with_lost(table, asked, targets, skip, *counts)


def with_lost(
    table: Points, asked: Points, targets: Tensor, skip: Tensor, nearer: Tensor, tied: Tensor
) -> Counts:
    """Set counts of lost targets, and of all targets of lost queries: every other row is nearer."""
    lost = lost_rows(asked)[:, None] | lost_rows(table.at(targets.clamp(min=0)))
    if bool(lost.any()):
        lost &= targets >= 0
        others = len(table) - 1 - ((skip >= 0)[:, None] & (skip[:, None] != targets)).long()
        nearer, tied = torch.where(lost, others, nearer), tied.masked_fill(lost, 0)
    return Counts(nearer, tied)


def without_lost(points: Points) -> Points:
    """Set radii to nan that are no radii: infinite or negative ones."""
    r = points.radius
    if r is None:
        return points
    radius = torch.where((r >= 0) & torch.isfinite(r), r, torch.nan)
    return Points(radius, points.coordinates, points.c)


def lost_rows(points: Points) -> Tensor:
    """Which rows are no points: nan, infinite, or of negative radius."""
    # The sum of a row is finite where its coordinates are, unless it overflows: look at the others.
    lost = ~torch.isfinite(points.coordinates.sum(dim=-1))
    if bool(lost.any()):
        lost[lost.clone()] = ~torch.isfinite(points.coordinates[lost]).all(dim=-1)
    r = points.radius
    return lost if r is None else lost | ~(torch.isfinite(r) & (r >= 0))


def checked(
    points: PointsLike, queries: PointsLike, manifold: Manifold, c: float
) -> tuple[Points, Points]:
    """Check a table and queries, and that they have points of one space."""
    table, asked = Points.of(points, manifold, c), Points.of(queries, manifold, c)
    if table.dim != asked.dim:
        raise ValueError(f"queries have {asked.dim} coordinates and the table has {table.dim}")
    return table, asked


def checked_skip(skip: Tensor | None, table: Points, asked: Points) -> Tensor:
    """Check a row for each query, and give one to all where there are none: −1."""
    if skip is None:
        return torch.full((len(asked),), -1, device=table.device)
    check_rows("skip", skip, len(table), least=-1)
    if len(skip) != len(asked):
        raise ValueError(f"{len(asked)} queries need as many rows in skip; got {len(skip)}")
    return skip


def check_targets(targets: Tensor, table: Points, asked: Points) -> None:
    """Raise ValueError unless these are rows of the table for each query, or −1."""
    check_rows("targets", targets, len(table), ndim=2, least=-1)
    if len(targets) != len(asked):
        raise ValueError(f"{len(asked)} queries need as many rows of targets; got {len(targets)}")


def is_ancestor(by: By) -> bool:
    """Whether rows are ranked by the ancestor score; raise ValueError for what is neither."""
    if by not in ("distance", "ancestor"):
        raise ValueError(f"by must be 'distance' or 'ancestor'; got {by!r}")
    return by == "ancestor"


def with_distances(table: Points, queries: Points, found: Tensor, ancestor: bool) -> Neighbours:
    """Sort the rows found for each query [Q, k] by their distance or score; inf for −1."""
    q = Points(
        None if queries.radius is None else queries.radius[:, None],
        queries.coordinates[:, None],
        queries.c,
    ).double()
    v = table.at(found.clamp(min=0)).double() if len(table) > 0 else q
    if q.radius is None or v.radius is None:
        score = ball.ancestor_score if ancestor else ball.dist
        distance = score(q.coordinates, v.coordinates, c=q.c)
    else:
        score = polar.ancestor_score if ancestor else polar.dist
        distance = score(q.radius, q.coordinates, v.radius, v.coordinates)
    distance = torch.where(found >= 0, distance, torch.inf)
    distance, order = distance.sort(dim=1, stable=True)
    return Neighbours(distance, found.gather(1, order))
