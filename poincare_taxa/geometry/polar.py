r"""Hyperbolic space of curvature -1 in polar coordinates, as functions of tensors.

A point is a radius ``r >= 0`` (hyperbolic distance from the origin, of any size) and a direction
``u`` (a unit vector). Precision is limited by angles, not by radii. A direction is a *stored*
vector whose length is 1 to a few ulp. No distance normalises it again: two directions that agree in
their large components may differ in the small ones by far less than an ulp of 1, and the direct
subtraction ``u1 - u2`` keeps that difference.

Every distance is computed by the hyperbolic law of haversines, a sum of positive terms,

.. math:: \sinh^2\tfrac{d}{2} = \sinh^2\tfrac{r_1-r_2}{2}
          + \sinh r_1\,\sinh r_2\,\tfrac{|u_1-u_2|^2}{4},   \qquad (1)

which is the law of cosines cosh d = cosh r₁ cosh r₂ − sinh r₁ sinh r₂ cos α ([R19] theorem 3.5.3)
with cosh x = 1 + 2 sinh²(x/2) and |u₁−u₂|² = 2 − 2 cos α.

Source: [R19] Ratcliffe, *Foundations of Hyperbolic Manifolds*, 3rd ed. 2019.
"""

from torch import Tensor

from poincare_taxa.geometry.arguments import check_points, check_polar, is_plain
from poincare_taxa.geometry.derivatives import by_rule
from poincare_taxa.geometry.means import geodesic, mean, midpoint
from poincare_taxa.geometry.numerics import renormalised, unit
from poincare_taxa.geometry.polar_distance import (
    AllPairs,
    all_half_chords,
    busemann_of,
    paired,
    spread,
)
from poincare_taxa.geometry.polar_maps import expmap, logmap, translate, transport

__all__ = [
    "all_ancestor_scores",
    "ancestor_score",
    "busemann",
    "cdist",
    "dist",
    "dist0",
    "expmap",
    "expmap0",
    "geodesic",
    "logmap",
    "logmap0",
    "mean",
    "midpoint",
    "project",
    "translate",
    "transport",
]


def dist(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> Tensor:
    r"""Geodesic distance between paired points.

    Equation (1) of this module, arranged so that no term overflows at any radius.

    Parameters
    ----------
    r1, r2
        Radii [...], at least 0; the batch dimensions broadcast.
    u1, u2
        Directions [..., dim], of length 1 to a few ulp.

    Returns
    -------
    distance
        [...], in the widest dtype of the arguments.

    Raises
    ------
    ValueError
        If a tensor is not float32 or float64, or shapes do not fit.

    Notes
    -----
    Relative error below 8 eps (measured 2.5) for the stored coordinates, at any radius. The
    gradient is finite everywhere; where the points coincide it is the subgradient 0, and so is the
    second derivative, which does not exist there. The gradient with respect to ``u`` is that of (1)
    in the ambient space, not projected to the sphere.

    Examples
    --------
    The distance of two points on one ray is the difference of their radii; on opposite rays, the
    sum.

    >>> import torch
    >>> r, u = torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    >>> dist(r[0], u[0], r[1], u[1]), dist(r[0], u[0], r[1], -u[1])
    (tensor(1.), tensor(3.))
    """
    check_polar(r1, u1, r2, u2)
    return paired(r1, u1, r2, u2)


def cdist(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor) -> Tensor:
    """Geodesic distance of every point of one set to every point of another.

    Memory is that of the result: neither forward nor backward allocates an array [n, m, dim]; a
    second derivative does.

    Parameters
    ----------
    r1, r2
        Radii [n] and [m].
    u1, u2
        Directions [n, dim] and [m, dim].

    Returns
    -------
    distance
        [n, m], in the widest dtype of the arguments.

    Raises
    ------
    ValueError
        If a tensor is not float32 or float64, or shapes do not fit.

    Notes
    -----
    Absolute error below 8 eps (1 + distance); 0 where points coincide. The gradient is that of
    `dist`.

    Examples
    --------
    >>> import torch
    >>> r, u = torch.tensor([1.0, 2.0]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    >>> cdist(r, u, r, u)
    tensor([[0., 3.],
            [3., 0.]])
    """
    return _all_pairs(r1, u1, r2, u2, score=False)


def dist0(r: Tensor, u: Tensor) -> Tensor:
    """Distance to the origin [...]: the radius itself.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> import torch
    >>> dist0(torch.tensor(3.0), torch.tensor([0.0, 1.0]))
    tensor(3.)
    """
    check_polar(r, u)
    return r


def ancestor_score(r_u: Tensor, u: Tensor, r_v: Tensor, v: Tensor) -> Tensor:
    r"""Detour of the path from the origin to ``u`` by ``v``: small where v is an ancestor of u.

    .. math:: s(u, v) = d(u, v) + d(0, v) - d(0, u)

    In a tree metric this is 2(r_v − r_LCA): 0 for an ancestor, 2(r_v − r_u) for a descendant.

    Parameters
    ----------
    r_u, u
        Radius [...] and direction [..., dim] of the node whose ancestors are to have low scores.
    r_v, v
        Radius and direction of the candidates.

    Returns
    -------
    score
        [...], at least 0.

    Raises
    ------
    ValueError
        As `dist`.

    Notes
    -----
    The definition subtracts large numbers; the form used here does not. Its relative error is below
    8 eps, and the score of an ancestor on the same ray is exactly 0.

    Examples
    --------
    >>> import torch
    >>> r, u = torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
    >>> ancestor_score(r[1], u[1], r[0], u[0]), ancestor_score(r[0], u[0], r[1], u[1])
    (tensor(0.), tensor(4.))
    """
    check_polar(r_u, u, r_v, v)
    return paired(r_u, u, r_v, v, score=True)


def all_ancestor_scores(r_u: Tensor, u: Tensor, r_v: Tensor, v: Tensor) -> Tensor:
    """`ancestor_score` of every candidate ``v`` for every ``u``: [n, m].

    Arguments, memory and errors are those of `cdist`; the absolute error is below
    8 eps (1 + distance).

    Examples
    --------
    >>> import torch
    >>> r, u = torch.tensor([1.0, 3.0]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    >>> all_ancestor_scores(r, u, r, u)
    tensor([[0., 6.],
            [2., 0.]])
    """
    return _all_pairs(r_u, u, r_v, v, score=True)


def busemann(r: Tensor, u: Tensor, ideal: Tensor) -> Tensor:
    r"""Busemann function of every point, for every ideal point: [n, m].

    .. math:: B_\xi(r, u) = \lim_{t \to \infty} d\bigl((r, u), (t, \xi)\bigr) - t
              = \log\bigl(e^{-r} + 2 \sinh r\,\tfrac{|u-\xi|^2}{4}\bigr),

    a distance from infinity, 0 at the origin. (r − B) / 2 is the radius at which the rays towards u
    and ξ separate: in the metric of a tree, the depth of what the two have in common.

    Parameters
    ----------
    r, u
        Radii [n] and directions [n, dim].
    ideal
        Directions of ideal points, [m, dim].

    Returns
    -------
    values
        [n, m], between −r and r. Memory is that of the result.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> import torch
    >>> r, u = torch.tensor([2.0, 2.0]), torch.tensor([[0.0, 1.0], [0.0, -1.0]])
    >>> busemann(r, u, u[:1])
    tensor([[-2.],
            [ 2.]])
    """
    check_polar(r, u)
    check_points(u, ideal)
    if not (r.ndim == 1 and u.ndim == ideal.ndim == 2):
        raise ValueError(
            "points are radii [n] and directions [n, dim], and ideal points directions [m, dim]; "
            f"got {tuple(r.shape)}, {tuple(u.shape)}, {tuple(ideal.shape)}"
        )
    return busemann_of(r[:, None], all_half_chords(u, ideal))


def expmap0(v: Tensor) -> tuple[Tensor, Tensor]:
    """Exponential map at the origin of ``v`` [..., dim]: radius |v| [...], direction v/|v|.

    ``v`` is given in an orthonormal frame at the origin, as in `lorentz.expmap0`; in the ball's
    coordinates the same vector is half as long. The direction of 0 is the first basis vector.

    Raises
    ------
    ValueError
        If ``v`` is not float32 or float64.

    Examples
    --------
    >>> import torch
    >>> expmap0(torch.tensor([0.0, 3.0]))
    (tensor(3.), tensor([0., 1.]))
    """
    check_points(v)
    return unit(v)


def logmap0(r: Tensor, u: Tensor) -> Tensor:
    """Inverse of `expmap0`: the tangent vector r·u [..., dim].

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> import torch
    >>> logmap0(torch.tensor(3.0), torch.tensor([0.0, 1.0]))
    tensor([0., 3.])
    """
    check_polar(r, u)
    return r[..., None] * u


def project(r: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """Raise radii to at least 0 and normalise directions; valid values are returned bit for bit.

    A direction is valid while ``| |u|² − 1 | <= 16 eps``: normalising it again would change its
    small components, which hold the difference to its neighbours. A zero direction becomes the
    first basis vector. The function is idempotent.

    Raises
    ------
    ValueError
        As `dist`.

    Examples
    --------
    >>> import torch
    >>> project(torch.tensor(-1.0), torch.tensor([0.0, 2.0]))
    (tensor(0.), tensor([0., 1.]))
    """
    check_polar(r, u)
    return r.clamp(min=0), renormalised(u)


def _all_pairs(r1: Tensor, u1: Tensor, r2: Tensor, u2: Tensor, *, score: bool) -> Tensor:
    """Check shapes, then compute distances (or, with ``score``, ancestor scores) [n, m]."""
    check_polar(r1, u1, r2, u2)
    if not (r1.ndim == r2.ndim == 1 and u1.ndim == u2.ndim == 2):
        raise ValueError(
            f"all pairs take radii [n], [m] and directions [n, dim], [m, dim]; got "
            f"{tuple(r1.shape)}, {tuple(u1.shape)}, {tuple(r2.shape)}, {tuple(u2.shape)}"
        )
    arguments = r1, u1, r2, u2
    if r1.is_meta or not is_plain(*arguments):
        return spread(*arguments, score)
    return by_rule(AllPairs(score), *arguments)
