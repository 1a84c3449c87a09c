"""The ball and the polar model as geoopt manifolds, for ManifoldParameter and its optimizers.

Both hold points of the space of `poincare_taxa.geometry` and share, beyond geoopt's interface,
``cdist``, ``pair_distance``, ``dist0``, ``ancestor_score``, ``to_polar`` and ``from_polar``, and
the *frame* methods that `poincare_taxa.blocks.optimizers.RowwiseRiemannianAdam` steps by:
components of a vector in an orthonormal frame at the point, whose Euclidean length is the
hyperbolic one.

Source: [BG19] Bécigneul & Ganea 2019, *Riemannian Adaptive Optimization Methods* (one second moment
per factor of a product manifold).
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.blocks.riemannian import geoopt, size2shape
from poincare_taxa.geometry import ball, convert, polar
from poincare_taxa.geometry.arguments import check_curvature
from poincare_taxa.geometry.numerics import renormalised, unit
from poincare_taxa.geometry.polar_maps import divided, finite_sinh
from poincare_taxa.kernels import distance as kernels

__all__ = ["PoincareBall", "Polar", "own_manifold"]


class PoincareBall(geoopt.PoincareBall):
    """The Poincaré ball with this library's rim, distance and maps.

    geoopt 0.5.1 clips float32 points at radius 6.2, its distance saturates at 16.8 with gradient 0,
    and a ball converted to float64 keeps a curvature of 1 − 3.8e-8. Here points reach
    `geometry.ball.max_norm` (radius 12.2 in float32, 28.3 in float64), distances are those of
    `geometry.ball`, and the curvature is a plain number, exact in every dtype (and not learnable).

    Parameters
    ----------
    c
        Curvature parameter, c > 0; sectional curvature is −c.

    Raises
    ------
    ValueError
        If ``c <= 0``.

    Examples
    --------
    >>> manifold = PoincareBall()
    >>> x = geoopt.ManifoldParameter(torch.tensor([0.5, 0.0]), manifold=manifold)
    >>> manifold.dist0(x)
    tensor(1.0986, grad_fn=<DivBackward0>)
    """

    def __init__(self, c: float = 1.0) -> None:
        check_curvature(c)
        # Without the constructors that make the curvature a parameter behind a softplus.
        torch.nn.Module.__init__(self)
        self._curvature = float(c)

    @property
    def c(self) -> Tensor:
        """Curvature parameter, a float64 scalar."""
        return torch.tensor(self._curvature, dtype=torch.float64)

    def extra_repr(self) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Text of the curvature for ``repr``."""
        return f"c={self._curvature:g}"

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Geodesic distance of `geometry.ball.dist`, fused; see `kernels.dist`."""
        if dim != -1:
            x, y = x.movedim(dim, -1), y.movedim(dim, -1)
        d = kernels.dist(x, y, c=self._curvature)
        return d.unsqueeze(dim) if keepdim else d

    def dist2(self, x: Tensor, y: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Square of the distance."""
        return self.dist(x, y, keepdim=keepdim, dim=dim).square()

    def dist0(self, x: Tensor, *, dim: int = -1, keepdim: bool = False) -> Tensor:
        """Radius; see `geometry.ball.dist0`."""
        d = ball.dist0(x.movedim(dim, -1), c=self._curvature)
        return d.unsqueeze(dim) if keepdim else d

    def cdist(self, x: Tensor, y: Tensor) -> Tensor:
        """All distances between [n, dim] and [m, dim]; see `kernels.cdist`."""
        return kernels.cdist(x, y, c=self._curvature)

    def pair_distance(self, table: Tensor, i: Tensor, j: Tensor, *, sparse: bool = False) -> Tensor:
        """Distance of rows i and j of a table, not gathered; see `kernels.pair_distance`."""
        return kernels.pair_distance(table, i, j, c=self._curvature, sparse=sparse)

    def ancestor_score(self, x: Tensor, y: Tensor) -> Tensor:
        """Small where y is an ancestor of x; see `geometry.ball.ancestor_score`."""
        return ball.ancestor_score(x, y, c=self._curvature)

    def to_polar(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Radius [...] (in units of 1/√c) and direction [..., dim]."""
        return convert.ball_to_polar(x, c=self._curvature)

    def from_polar(self, r: Tensor, u: Tensor) -> Tensor:
        """Points with these polar coordinates, clipped at the rim."""
        return convert.polar_to_ball(r, u, c=self._curvature)

    def projx(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Pull points back inside the rim; see `geometry.ball.project`."""
        return ball.project(x.movedim(dim, -1), c=self._curvature).movedim(-1, dim)

    def retr(self, x: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Retraction of first order: x + u, projected."""
        return self.projx(x + u, dim=dim)

    def expmap(self, x: Tensor, u: Tensor, *, project: bool = True, dim: int = -1) -> Tensor:
        """Move along the geodesic; see `geometry.ball.expmap`. ``project=False`` is refused."""
        _refuse_unprojected(project)
        return ball.expmap(x.movedim(dim, -1), u.movedim(dim, -1), c=self._curvature).movedim(
            -1, dim
        )

    def expmap0(self, u: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Move from the origin; see `geometry.ball.expmap0`. ``project=False`` is refused."""
        _refuse_unprojected(project)
        return ball.expmap0(u.movedim(dim, -1), c=self._curvature).movedim(-1, dim)

    def logmap(self, x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
        """Inverse of `expmap`."""
        return ball.logmap(x.movedim(dim, -1), y.movedim(dim, -1), c=self._curvature).movedim(
            -1, dim
        )

    def logmap0(self, x: Tensor, *, dim: int = -1) -> Tensor:
        """Inverse of `expmap0`."""
        return ball.logmap0(x.movedim(dim, -1), c=self._curvature).movedim(-1, dim)

    def mobius_add(self, x: Tensor, y: Tensor, *, dim: int = -1, project: bool = True) -> Tensor:
        """Möbius addition; see `geometry.ball.mobius_add`."""
        z = ball.mobius_add(x.movedim(dim, -1), y.movedim(dim, -1), c=self._curvature)
        return (ball.project(z, c=self._curvature) if project else z).movedim(-1, dim)

    def transp(self, x: Tensor, y: Tensor, v: Tensor, *, dim: int = -1) -> Tensor:
        """Parallel transport; see `geometry.ball.transport`."""
        x, y, v = (t.movedim(dim, -1) for t in (x, y, v))
        return ball.transport(x, y, v, c=self._curvature).movedim(-1, dim)

    def lambda_x(self, x: Tensor, *, dim: int = -1, keepdim: bool = False) -> Tensor:
        """Conformal factor 2/(1 − c|x|²)."""
        factor = 2 / ball.conformal_gap(x.movedim(dim, -1), c=self._curvature)
        return factor.unsqueeze(dim) if keepdim else factor

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False, dim: int = -1
    ) -> Tensor:
        """Riemannian inner product λ² u·v of tangent vectors at x."""
        factor = self.lambda_x(x, dim=dim, keepdim=keepdim)
        return factor.square() * (u * (u if v is None else v)).sum(dim, keepdim=keepdim)

    def norm(self, x: Tensor, u: Tensor, *, keepdim: bool = False, dim: int = -1) -> Tensor:
        """Riemannian length λ|u| of tangent vectors at x."""
        factor = self.lambda_x(x, dim=dim, keepdim=keepdim)
        return factor * torch.linalg.vector_norm(u, dim=dim, keepdim=keepdim)

    def egrad2rgrad(self, x: Tensor, u: Tensor, *, dim: int = -1) -> Tensor:
        """Riemannian gradient u/λ²."""
        return u / self.lambda_x(x, dim=dim, keepdim=True).square()

    def random_normal(
        self,
        *size: Any,
        mean: float | Tensor = 0.0,
        std: float | Tensor = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> geoopt.ManifoldTensor:
        """Points expmap0(v) with v normal, of length about ``std``."""
        shape = size2shape(*size)
        self._assert_check_shape(shape, "x")
        v = torch.randn(shape, dtype=dtype, device=device) * std / shape[-1] ** 0.5 + mean
        return geoopt.ManifoldTensor(self.expmap0(v), manifold=self)  # pyright: ignore[reportCallIssue]

    random = random_normal

    def frame_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Riemannian gradient in the orthonormal frame: u/λ."""
        return gradient / self.lambda_x(x, keepdim=True)

    def frame_walk(self, x: Tensor, step: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Move by a step given in the orthonormal frame, x + step/λ, and transport a vector."""
        y = self.retr(x, step / self.lambda_x(x, keepdim=True))
        stretch = self.lambda_x(y, keepdim=True) / self.lambda_x(x, keepdim=True)
        return y, stretch * self.transp(x, y, carried)

    def frame_parts(self, vector: Tensor) -> list[Tensor]:
        """Split a vector of the frame into the parts that share one second moment: the whole."""
        return [vector]

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5, dim: int = -1
    ) -> tuple[bool, str | None]:
        if torch.allclose(x, self.projx(x, dim=dim), atol=atol, rtol=rtol):
            return True, None
        limit = ball.max_norm(x.dtype, c=self._curvature)
        largest = torch.linalg.vector_norm(x, dim=dim).max().item()
        return False, f"norm {largest:.9g} exceeds {limit:.9g}, the largest kept in {x.dtype}"


def _refuse_unprojected(project: bool) -> None:
    """Refuse an argument that geoopt's own methods pass on, and pass as True."""
    if not project:
        raise ValueError(
            "project=False: exponential maps always end inside the rim of the dtype here, since a "
            "point beyond it has no distances; leave project out"
        )


def _projected_here(name: str) -> Callable[..., Tensor]:
    """Wrap a method of geoopt's ball so that it projects at this library's rim."""
    method = getattr(geoopt.PoincareBall, name)

    def projected(
        self: PoincareBall, *args: Any, project: bool = True, dim: int = -1, **kwargs: Any
    ) -> Tensor:
        result = method(self, *args, project=False, dim=dim, **kwargs)
        return self.projx(result, dim=dim) if project else result

    projected.__name__ = name
    projected.__doc__ = method.__doc__ or f"As geoopt's {name}, projected at this library's rim."
    return projected


for _name in (
    "geodesic_unit",
    "mobius_coadd",
    "mobius_cosub",
    "mobius_fn_apply",
    "mobius_fn_apply_chain",
    "mobius_matvec",
    "mobius_pointwise_mul",
    "mobius_scalar_mul",
    "mobius_sub",
    "weighted_midpoint",
):
    setattr(PoincareBall, _name, _projected_here(_name))


class Polar(geoopt.Manifold):
    """Hyperbolic space of curvature −1 as points (radius, direction) [..., 1 + dim].

    The metric is the warped product dr² + sinh² r |du|², du ⟂ u. Radii have no limit and cost no
    precision, and a short turn is *added* to the stored direction, which is renormalised only when
    its length is off by more than a few eps: that is what keeps deep siblings apart (see
    `poincare_taxa.geometry.polar`). At the origin the chart is singular: vectors there are radial.

    geoopt's adaptive optimizers get one second moment for the radius and one for the direction
    ([BG19]), through `component_inner`.

    Examples
    --------
    >>> manifold = Polar()
    >>> x = geoopt.ManifoldParameter(torch.tensor([1.0, 0.0, 1.0]), manifold=manifold)
    >>> manifold.dist(x, torch.tensor([2.0, 0.0, -1.0]))
    tensor(3., grad_fn=<HaversinesBackward>)
    """

    name = "Polar"
    ndim = 1
    reversible = False

    @staticmethod
    def split(x: Tensor) -> tuple[Tensor, Tensor]:
        """Radius [...] and direction [..., dim] of points (or the two parts of a vector)."""
        return x[..., 0], x[..., 1:]

    @staticmethod
    def join(r: Tensor, u: Tensor) -> Tensor:
        """Inverse of `split`."""
        return torch.cat((r[..., None].to(u.dtype), u), dim=-1)

    def dist(self, x: Tensor, y: Tensor, *, keepdim: bool = False) -> Tensor:
        """Geodesic distance of `geometry.polar.dist`, fused; see `kernels.dist`."""
        d = kernels.dist(x, y, manifold="polar")
        return d[..., None] if keepdim else d

    def dist0(self, x: Tensor, *, keepdim: bool = False) -> Tensor:
        """Radius."""
        return x[..., :1] if keepdim else x[..., 0]

    def cdist(self, x: Tensor, y: Tensor) -> Tensor:
        """All distances between [n, 1 + dim] and [m, 1 + dim]; see `kernels.cdist`."""
        return kernels.cdist(x, y, manifold="polar")

    def pair_distance(self, table: Tensor, i: Tensor, j: Tensor, *, sparse: bool = False) -> Tensor:
        """Distance of rows i and j of a table, not gathered; see `kernels.pair_distance`."""
        return kernels.pair_distance(table, i, j, manifold="polar", sparse=sparse)

    def ancestor_score(self, x: Tensor, y: Tensor) -> Tensor:
        """Small where y is an ancestor of x; see `geometry.polar.ancestor_score`."""
        return polar.ancestor_score(*self.split(x), *self.split(y))

    def to_polar(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Radius [...] and direction [..., dim]: `split`."""
        return self.split(x)

    def from_polar(self, r: Tensor, u: Tensor) -> Tensor:
        """Points with these polar coordinates: `join`."""
        return self.join(r, u)

    def projx(self, x: Tensor) -> Tensor:
        """Radius at least 0, direction unit; see `geometry.polar.project`."""
        return self.join(*polar.project(*self.split(x)))

    def proju(self, x: Tensor, u: Tensor) -> Tensor:
        """Remove the part of du along the direction."""
        direction = x[..., 1:]
        du = u[..., 1:]
        across = du - (du * direction).sum(-1, keepdim=True) * direction
        return torch.cat((u[..., :1].expand(*across.shape[:-1], 1), across), dim=-1)

    def retr(self, x: Tensor, u: Tensor) -> Tensor:
        """Retraction of first order: r + dr and u + du; past the origin, on the other side."""
        r, direction = self.split(x + u)
        past = (r < 0)[..., None]
        return self.join(r.abs(), renormalised(torch.where(past, -direction, direction)))

    def expmap(self, x: Tensor, u: Tensor) -> Tensor:
        """Move along the geodesic; see `geometry.polar.expmap`."""
        return self.join(*polar.expmap(*self.split(x), *self.split(u)))

    def logmap(self, x: Tensor, y: Tensor) -> Tensor:
        """Inverse of `expmap`; see `geometry.polar.logmap`."""
        return self.join(*polar.logmap(*self.split(x), *self.split(y)))

    def transp(self, x: Tensor, y: Tensor, v: Tensor) -> Tensor:
        """Parallel transport; see `geometry.polar.transport`."""
        return self.join(*polar.transport(*self.split(x), *self.split(y), *self.split(v)))

    def inner(
        self, x: Tensor, u: Tensor, v: Tensor | None = None, *, keepdim: bool = False
    ) -> Tensor:
        """Riemannian inner product dr·dr' + sinh² r du·du'."""
        parts = self.component_inner(x, u, v)
        total = parts[..., :1] + parts[..., 1:2]
        return total if keepdim else total[..., 0]

    def component_inner(self, x: Tensor, u: Tensor, v: Tensor | None = None) -> Tensor:
        """Inner product of the radial parts, then, in every other place, of the directions' parts.

        What geoopt's adaptive optimizers keep as second moment [..., 1 + dim].
        """
        v = u if v is None else v
        s = finite_sinh(x[..., :1])
        angular = ((s * u[..., 1:]) * (s * v[..., 1:])).sum(-1, keepdim=True)
        radial = (u[..., :1] * v[..., :1]).expand_as(angular)
        return torch.cat((radial, angular.expand(*angular.shape[:-1], x.shape[-1] - 1)), dim=-1)

    def egrad2rgrad(self, x: Tensor, u: Tensor) -> Tensor:
        """Riemannian gradient (∂r, P∂u / sinh² r), P the projection across the direction."""
        frame = self.frame_gradient(x, u)
        return torch.cat((frame[..., :1], divided(frame[..., 1:], finite_sinh(x[..., :1]))), dim=-1)

    def random_normal(
        self,
        *size: Any,
        std: float | Tensor = 1.0,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> geoopt.ManifoldTensor:
        """Points expmap0(v) with v normal, of length about ``std``; ``size`` ends in 1 + dim."""
        shape = size2shape(*size)
        self._assert_check_shape(shape, "x")
        dim = shape[-1] - 1
        v = torch.randn(*shape[:-1], dim, dtype=dtype, device=device)
        x = self.join(*polar.expmap0(v * std / dim**0.5))
        return geoopt.ManifoldTensor(x, manifold=self)  # pyright: ignore[reportCallIssue]

    random = random_normal

    def origin(
        self,
        *size: Any,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
        seed: int | None = 42,
    ) -> geoopt.ManifoldTensor:
        """Return origins, whose direction is the first basis vector; ``seed`` is not needed."""
        x = torch.zeros(size2shape(*size), dtype=dtype, device=device)
        x[..., 1] = 1
        return geoopt.ManifoldTensor(x, manifold=self)  # pyright: ignore[reportCallIssue]

    def frame_gradient(self, x: Tensor, gradient: Tensor) -> Tensor:
        """Riemannian gradient in the orthonormal frame: (∂r, P∂u / sinh r)."""
        tangent = self.proju(x, gradient)
        return torch.cat(
            (tangent[..., :1], divided(tangent[..., 1:], finite_sinh(x[..., :1]))), dim=-1
        )

    def frame_walk(self, x: Tensor, step: Tensor, carried: Tensor) -> tuple[Tensor, Tensor]:
        """Move by a step given in the orthonormal frame, and transport a vector.

        The path is that of `retr`: a turn by θ at radius r, then a way along the ray. Parallel
        transport along such an arc turns the frame by θ cosh r, which is about the length of a
        short step at large r, and θ near the origin, where the vector keeps its direction in flat
        space.
        """
        r, u = x[..., :1], x[..., 1:]
        sideways, across = unit(step[..., 1:])
        sideways = sideways[..., None]
        slope = divided(sideways, finite_sinh(x[..., :1]))
        y = self.retr(x, torch.cat((step[..., :1], slope * across), dim=-1))

        # The turn of the direction, and that of the frame.
        turn = torch.atan(slope)
        frame_turn = divided(sideways, torch.tanh(r)) * torch.where(slope > 0, turn / slope, 1)
        # The transported vector: its part in the plane of the turn rotates, the rest stays.
        radial, angular = carried[..., :1], carried[..., 1:]
        along = (angular * across).sum(-1, keepdim=True)
        cos, sin = torch.cos(frame_turn), torch.sin(frame_turn)
        outwards = radial * cos + along * sin
        onward = (along * cos - radial * sin) * (torch.cos(turn) * across - torch.sin(turn) * u)
        past_origin = r + step[..., :1] < 0
        return y, torch.cat(
            (torch.where(past_origin, -outwards, outwards), angular - along * across + onward), -1
        )

    def frame_parts(self, vector: Tensor) -> list[Tensor]:
        """Split a vector of the frame into the parts that share one second moment."""
        return [vector[..., :1], vector[..., 1:]]

    def _check_shape(self, shape: Any, name: str) -> tuple[bool, str | None]:
        ok, reason = super()._check_shape(shape, name)  # pyright: ignore[reportGeneralTypeIssues]
        if ok and shape[-1] < 2:
            return False, f"'{name}' needs a radius and a direction: at least 2 coordinates"
        return ok, reason

    def _check_point_on_manifold(
        self, x: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        r, u = self.split(x)
        if not (r >= -atol).all():
            return False, f"radius {r.min().item():g} is negative or nan"
        excess = (u.square().sum(-1) - 1).abs().max().item() if u.numel() else 0.0
        if not excess <= 2 * (atol + rtol):
            return False, f"a direction is not unit: | |u|² - 1 | = {excess:g}"
        return True, None

    def _check_vector_on_tangent(
        self, x: Tensor, u: Tensor, *, atol: float = 1e-5, rtol: float = 1e-5
    ) -> tuple[bool, str | None]:
        along = (x[..., 1:] * u[..., 1:]).sum(-1).abs()
        if (along <= atol + rtol * torch.linalg.vector_norm(u[..., 1:], dim=-1)).all():
            return True, None
        return False, f"du is not across the direction: du·u = {along.max().item():g}"


def own_manifold(manifold: geoopt.Manifold | None) -> Polar | PoincareBall:
    """Return a manifold of this library as it is, and geoopt's ball as the `PoincareBall` like it.

    Raises
    ------
    ValueError
        If it is none of these, or a ball whose curvature is trained.
    """
    if isinstance(manifold, Polar | PoincareBall):
        return manifold
    if not isinstance(manifold, geoopt.PoincareBall):
        raise ValueError(f"manifold must be Polar or PoincareBall; got {manifold!r}")
    if manifold.isp_c.requires_grad:
        raise ValueError(
            "geoopt's ball has a curvature that is trained, which a PoincareBall here has not; "
            "make it with learnable=False, and train a factor of the distances instead"
        )
    # geoopt keeps c in float32 behind a softplus: six digits of it are what was given.
    return PoincareBall(float(f"{manifold.c.item():.6g}"))
