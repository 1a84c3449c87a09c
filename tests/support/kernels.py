"""Points, references and limits that the tests of every kernel share."""

import pytest
import torch
from support.tolerance import (
    ball_gradient_atol,
    distance_atol,
    polar_atol,
    polar_gradient_rtol,
)

from poincare_taxa.geometry import ball, convert, polar

MANIFOLDS = ("ball", "polar")
DTYPES = (torch.float32, torch.float64)
BACKENDS = ("torch", "numba", "triton")
# Radius of the farthest points: the polar model's shall be beyond any ball's.
RADIUS = {("ball", torch.float32): 12.0, ("ball", torch.float64): 28.0}


def largest_radius(manifold, dtype):
    return RADIUS.get((manifold, dtype), 30.0)


def available(backend):
    """Skip what is not installed, and Triton where it would need a device."""
    if backend == "triton":
        triton = pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
        if not triton.knobs.runtime.interpret:
            pytest.skip("on the CPU Triton runs in its interpreter alone (TRITON_INTERPRET=1)")
    return backend


def points(n, manifold, dtype, dim=10, seed=0, radius=None):
    """Points at all radii up to the largest; some near each other, some at the origin."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    u[1::3] = u[::3][: len(u[1::3])] + 1e-3 * u[1::3]
    u = torch.nn.functional.normalize(u, dim=1)
    radius = largest_radius(manifold, dtype) if radius is None else radius
    r = radius * torch.rand(n, generator=generator, dtype=torch.float64)
    r[::7] = radius
    r[5::11] = 0
    if manifold == "ball":
        return convert.polar_to_ball(r, u, dtype=dtype)
    return torch.cat((r[:, None], u), dim=1).to(dtype)


def reference(x, y, manifold, *, pairwise=False, score=False, c=1.0):
    """Distances by `geometry`, in float64, of the coordinates as stored."""
    x, y = x.double(), y.double()
    if manifold == "ball":
        paired, every = (
            (ball.ancestor_score, ball.all_ancestor_scores) if score else (ball.dist, ball.cdist)
        )
        return (every if pairwise else paired)(x, y, c=c)
    paired, every = (
        (polar.ancestor_score, polar.all_ancestor_scores) if score else (polar.dist, polar.cdist)
    )
    return (every if pairwise else paired)(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:])


def value_atol(manifold, dtype, distance):
    """Of a distance in this dtype, and of the float64 one that it is compared with."""
    if manifold == "polar":
        return polar_atol(dtype, distance) + polar_atol(torch.float64, distance)
    radius = largest_radius(manifold, dtype)
    return distance_atol(dtype, radius) + distance_atol(torch.float64, radius)


def check_values(found, expected, manifold, dtype):
    assert found.dtype == dtype
    assert found.shape == expected.shape
    error = (found.double() - expected).abs()
    assert (error <= value_atol(manifold, dtype, expected)).all(), error.max()


def check_gradients(found, expected, x, manifold, dtype, weight=1.0):
    """Rows of gradients of distances, each times a weight."""
    assert found.shape == expected.shape
    assert found.isfinite().all()
    error = (found.double() - expected).abs()
    if manifold == "ball":
        limit = ball_gradient_atol(dtype, x) + ball_gradient_atol(torch.float64, x)
    else:
        rtol = polar_gradient_rtol(dtype, largest_radius(manifold, dtype))
        limit = rtol * torch.cat((torch.ones(len(x), 1), expected[:, 1:].abs()), dim=1)
    limit = limit * weight
    assert (error <= limit).all(), (error / limit).max()


def gradients(distance, arguments):
    """Gradient of the weighted sum: the weights tell the pairs apart."""
    weight = 1 + torch.arange(distance.numel(), dtype=distance.dtype).reshape(distance.shape) % 3
    return torch.autograd.grad((weight * distance).sum(), arguments)
