"""`kernels.cdist` and its gradient against geometry's paired distance in float64."""

import pytest
import torch
from support.kernels import points
from support.tolerance import (
    ball_gradient_atol,
    distance_atol,
    eps,
    polar_atol,
    polar_gradient_rtol,
)

from poincare_taxa import kernels
from poincare_taxa.geometry import ball, polar

RADIUS = {"ball": 6.0, "polar": 30.0}


def spread(x, y, manifold, c=1.0):
    """Every pair as a pair [n, m]."""
    x, y = x[:, None], y[None]
    if manifold == "ball":
        return ball.dist(x, y, c=c)
    return polar.dist(x[..., 0], x[..., 1:], y[..., 0], y[..., 1:])


def value_atol(manifold, dtype, distance, c):
    if manifold == "ball":
        return distance_atol(dtype, RADIUS[manifold], c)
    return polar_atol(dtype, distance.detach())


def check(x, y, manifold, backend, c=1.0):
    x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
    wide = [t.detach().double().requires_grad_() for t in (x, y)]
    found = kernels.cdist(x, y, manifold=manifold, c=c, backend=backend)
    expected = spread(*wide, manifold, c)
    assert found.dtype == x.dtype
    assert found.shape == expected.shape
    atol = sum(value_atol(manifold, dtype, expected, c) for dtype in (x.dtype, torch.float64))
    assert ((found - expected).abs() <= atol).all()
    weight = 1 + torch.arange(expected.numel(), dtype=x.dtype).reshape(expected.shape) % 3
    mine = torch.autograd.grad(found, (x, y), weight)
    for side in (0, 1):
        at = wide[side].detach()
        theirs, parts, limit = torch.zeros_like(at), torch.zeros_like(at), torch.zeros_like(at)
        for other in range(expected.shape[1 - side]):  # a column, or row, at a time
            one = expected.select(1 - side, other)
            by = weight.select(1 - side, other).double()
            (each,) = torch.autograd.grad((by * one).sum(), wide[side], retain_graph=True)
            theirs, parts = theirs + each, parts + each.abs()
            # the radial difference of a polar pair cancels: an error eps, of d
            near = (1 / one.detach().clamp(min=eps(x.dtype)))[:, None]
            limit[:, :1] += 3 * polar_gradient_rtol(x.dtype, RADIUS[manifold]) * (1 + near)
        if manifold == "ball":
            each = ball_gradient_atol(x.dtype, at) + ball_gradient_atol(torch.float64, at)
            limit = 3 * expected.shape[1 - side] * each
        else:
            rtol = polar_gradient_rtol(x.dtype, RADIUS[manifold])
            limit = limit + (rtol + expected.shape[1 - side] * eps(x.dtype)) * parts
        assert mine[side].isfinite().all()
        error = (mine[side].double() - theirs).abs()
        assert (error <= limit).all(), (error / limit).max()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (17, 0), (0, 3), (17, 300), (300, 17)])
def test_cdist__has_the_values_and_gradients_of_its_pairs(backend, manifold, dtype, n, m):
    x = points(n, manifold, dtype, radius=RADIUS[manifold])
    y = points(m, manifold, dtype, seed=1, radius=RADIUS[manifold])
    y[: len(x) : 4] = x[: len(y) : 4]
    if n and m:
        check(x, y, manifold, backend)
    else:
        x.requires_grad_()
        d = kernels.cdist(x, y, manifold=manifold, backend=backend)
        assert d.shape == (n, m)
        assert (torch.autograd.grad(d.sum(), x)[0] == 0).all()


@pytest.mark.parametrize("c", [0.25, 4.0])
def test_cdist__of_any_curvature(backend, c):
    x, y = (points(17, "ball", torch.float64, seed=s, radius=3) / c**0.5 for s in (0, 1))
    check(x, y, "ball", backend, c)


def test_cdist__of_strided_points(backend, manifold):
    x, y = (points(40, manifold, torch.float64, seed=s, radius=6) for s in (0, 1))
    check(x.T.contiguous().T[::2], torch.cat((y, y), 1)[:, : y.shape[1]], manifold, backend)


def test_cdist__is_0_where_points_coincide_with_gradient_0(backend, manifold, dtype):
    x = points(1, manifold, dtype, radius=RADIUS[manifold]).requires_grad_()
    d = kernels.cdist(x, x.detach(), manifold=manifold, backend=backend)
    assert (d == 0).all()
    assert (torch.autograd.grad(d.sum(), x)[0] == 0).all()


def test_cdist__beyond_the_radius_where_exponentials_end(backend):
    x, y = (points(9, "polar", torch.float64, seed=s, radius=900) for s in (0, 1))
    x, y = x.requires_grad_(), y.requires_grad_()
    found = kernels.cdist(x, y, manifold="polar", backend=backend)
    expected = spread(x, y, "polar")
    assert torch.allclose(found, expected, rtol=1e-13)
    pairs = zip(*(torch.autograd.grad(d.sum(), (x, y)) for d in (found, expected)), strict=True)
    for mine, theirs in pairs:
        assert torch.allclose(mine, theirs, rtol=1e-9, atol=1e-9)


def test_cdist__has_the_same_gradient_with_any_number_of_threads(manifold):
    before = torch.get_num_threads()
    for n, m in ((2000, 90), (90, 2000)):
        x = points(n, manifold, torch.float32, radius=6).requires_grad_()
        y = points(m, manifold, torch.float32, seed=1, radius=6).requires_grad_()
        found = []
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                d = kernels.cdist(x, y, manifold=manifold, backend="numba")
                found.append((d, *torch.autograd.grad(d.sum(), (x, y))))
        finally:
            torch.set_num_threads(before)
        assert all(torch.equal(*pair) for pair in zip(*found, strict=True))
