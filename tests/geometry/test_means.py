"""Geodesics, midpoints and means: laws, and sums of the hyperboloid with hundreds of digits."""

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from oracles import geometry as geometry_oracle
from support.points import ball_points, curvatures, polar_points, rotations
from support.tolerance import distance_atol, eps

from poincare_taxa.geometry import ball, convert, lorentz, means, polar

F64 = torch.float64
LARGEST = {torch.float32: 40.0, F64: 300.0}
shares = st.floats(0, 1)


@st.composite
def deep_points(draw, count):
    dtype = draw(st.sampled_from(list(LARGEST)))
    return draw(polar_points(count, LARGEST[dtype], dtype))


@st.composite
def weighted(draw, points):
    r, u = draw(points)
    weights = draw(st.lists(st.floats(1e-3, 1e3), min_size=len(r), max_size=len(r)))
    return r, u, torch.tensor(weights, dtype=r.dtype)


def beside(r, u, at):
    """How far from where it belongs a point at radius `at` may be.

    Exponents are sums of numbers up to r, a few eps of which are lost; a stored direction is eps
    apart from the next, and the direction of a point between others is a new one as far out as
    their rays are together.
    """
    alike = (u == u[:1]).all(-1).all()
    product = (r[:, None] + r - polar.cdist(r.double(), u.double(), r.double(), u.double())) / 2
    together = 0.0 if alike else min(at, product.max().item())
    dim = u.shape[-1]
    return eps(r.dtype) * (32 * (1 + r.max().item()) + (dim + 16) * math.exp(min(together, 700)))


# -- geodesics ------------------------------------------------------------------------------------


@given(deep_points(2), shares)
def test_geodesic__divides_the_distance_at_any_radius(points, t):
    r, u = points
    middle = polar.geodesic(r[0], u[0], r[1], u[1], t)
    d = polar.dist(r[0], u[0], r[1], u[1])
    slack = 2 * beside(r, u, middle[0].item())
    assert (polar.dist(r[0], u[0], *middle) - t * d).abs() <= slack
    assert (polar.dist(*middle, r[1], u[1]) - (1 - t) * d).abs() <= slack
    assert polar.dist(*polar.geodesic(r[1], u[1], r[0], u[0], 1 - t), *middle) <= slack


@given(deep_points(2))
def test_geodesic__begins_and_ends_at_its_ends(points):
    r, u = points
    for t in (0, 1):
        radius, direction = polar.geodesic(r[0], u[0], r[1], u[1], t)
        assert (radius - r[t]).abs() <= 32 * eps(r.dtype) * (1 + r.max())
        assert torch.equal(direction, u[t]) or radius <= eps(r.dtype) * (1 + r.max())


def test_geodesic__keeps_differences_far_below_an_ulp_of_the_large_component():
    r = torch.tensor(80.0, dtype=F64)
    u, v = torch.tensor([1.0, 0.0], dtype=F64), torch.tensor([1.0, 1e-30], dtype=F64)
    middle = polar.geodesic(r, u, r, v, 0.5)
    assert middle[1][1].item() == pytest.approx(0.5e-30, rel=1e-12)
    d = polar.dist(r, u, r, v)
    assert polar.dist(r, u, *middle).item() == pytest.approx(d.item() / 2, rel=1e-13)


@given(ball_points(2, 14.0, dtype=F64), curvatures, shares)
def test_geodesic__is_the_same_in_all_models(x, c, t):
    x = x / math.sqrt(c)
    expected = convert.polar_to_ball(
        *polar.geodesic(*convert.ball_to_polar(x[0], c=c), *convert.ball_to_polar(x[1], c=c), t),
        c=c,
    )
    reach = math.sqrt(c) * ball.dist0(x, c=c).max().item()
    slack = 4 * distance_atol(F64, reach, c)
    assert ball.dist(ball.geodesic(x[0], x[1], t, c=c), expected, c=c) <= slack
    y = convert.ball_to_lorentz(x, c=c)
    there = convert.lorentz_to_ball(lorentz.geodesic(y[0], y[1], t, c=c), c=c)
    assert ball.dist(there, expected, c=c) <= slack


def test_geodesic__goes_on_beyond_its_end():
    r, u = torch.tensor([1.0, 2.0], dtype=F64), torch.tensor([0.0, 1.0], dtype=F64)
    assert polar.geodesic(r[0], u, r[1], u, 3.0)[0].item() == pytest.approx(4.0, rel=1e-14)


# -- midpoints ------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(weighted(deep_points(5)))
def test_midpoint__is_the_sum_on_the_hyperboloid_at_any_radius(case):
    r, u, weights = case
    radius, direction = polar.midpoint(r, u, weights)
    exact = geometry_oracle.midpoint(r.tolist(), u.tolist(), weights.tolist())
    error = geometry_oracle.polar_distance(radius.item(), direction.tolist(), *exact)
    # the oracle's direction has the length 1, and stored ones to an ulp
    ulp = eps(r.dtype) * math.exp(min(exact[0], 700))
    assert error <= 8 * (beside(r, u, float(exact[0])) + ulp)


@given(ball_points(4, 14.0, dtype=F64), curvatures)
def test_midpoint__is_the_same_in_all_models(x, c):
    x = x / math.sqrt(c)
    weights = torch.arange(1.0, 5.0, dtype=F64)
    expected = convert.polar_to_ball(*polar.midpoint(*convert.ball_to_polar(x, c=c), weights), c=c)
    slack = 8 * distance_atol(F64, math.sqrt(c) * ball.dist0(x, c=c).max().item(), c)
    assert ball.dist(ball.midpoint(x, weights, c=c), expected, c=c) <= slack
    y = lorentz.midpoint(convert.ball_to_lorentz(x, c=c), weights, c=c)
    assert ball.dist(convert.lorentz_to_ball(y, c=c), expected, c=c) <= slack


# -- means ----------------------------------------------------------------------------------------


def spread(r, u, weights, at):
    return (weights * polar.dist(r, u, *at).square()).sum() / weights.sum()


@settings(max_examples=40)
@given(weighted(deep_points(5)), st.integers(0, 4), shares)
def test_mean__has_the_least_sum_of_squared_distances(case, towards, t):
    r, u, weights = case
    at = polar.mean(r, u, weights)
    gap = beside(r, u, at[0].item())
    assume(gap < 1)
    other = polar.geodesic(*at, r[towards], u[towards], t)
    d = polar.dist(r, u, *at).max()
    rounding = 64 * eps(r.dtype) * (1 + d) ** 2 + (1 + d) * (64 * gap) ** 2
    least = spread(r, u, weights, at)
    assert least <= spread(r, u, weights, other) + rounding
    assert least <= spread(r, u, weights, polar.midpoint(r, u, weights)) + rounding


@settings(max_examples=40)
@given(st.lists(st.floats(0, 300), min_size=1, max_size=9), st.data())
def test_mean__on_a_ray_is_the_mean_of_radii(radii, data):
    weights = data.draw(st.lists(st.floats(1e-3, 1e3), min_size=len(radii), max_size=len(radii)))
    r, w = torch.tensor(radii, dtype=F64), torch.tensor(weights, dtype=F64)
    u = torch.tensor([0.6, -0.8], dtype=F64).expand(len(r), 2)
    radius, direction = polar.mean(r, u, w)
    assert radius.item() == pytest.approx((w * r).sum().item() / w.sum().item(), abs=2e-11)
    assert polar.dist(radius, direction, radius, u[0]) <= 2e-11


def test_mean__far_out_on_the_ray_of_a_point_has_its_direction():
    """Of opposite points; at radius 60 the next direction is e^60 eps away."""
    angle = torch.arange(8, dtype=F64)
    u = torch.stack([angle.cos(), angle.sin()], dim=-1)
    r, weights = torch.full((8, 2), 100.0, dtype=F64), torch.tensor([4.0, 1.0], dtype=F64)
    mean = polar.mean(r, torch.stack([u, -u], dim=-2), weights)
    assert (polar.dist(*mean, torch.full((8,), 60.0, dtype=F64), u) <= 1e-11).all()


@settings(max_examples=40)
@given(ball_points(4, 4.0, dtype=F64, dim=3), ball_points(1, 4.0, dtype=F64, dim=3), rotations(3))
def test_mean__moves_with_an_isometry(x, a, rotation):
    weights = torch.arange(1.0, 5.0, dtype=F64)

    def moved(x):
        return ball.mobius_add(a[0], x @ rotation)

    slack = 64 * distance_atol(F64, 12.0)
    for function in (ball.mean, ball.midpoint):
        d = ball.dist(function(moved(x), weights), moved(function(x, weights)))
        assert d <= slack


@settings(max_examples=15)
@given(weighted(deep_points(4)), st.data())
def test_mean__turns_with_exact_rotations_at_any_radius(case, data):
    r, u, weights = case
    order = data.draw(st.permutations(range(u.shape[1])))
    radius, direction = polar.mean(r, u, weights)
    again, turned = polar.mean(r, u[:, order], weights)
    gap = beside(r, u, radius.item())
    assume(gap < 1)
    d = polar.dist(r, u, radius, direction).max().item()
    assert polar.dist(again, turned, radius, direction[list(order)]) <= 1e3 * (1 + d) * gap


@settings(max_examples=40)
@given(ball_points(4, 10.0, dtype=F64), curvatures)
def test_mean__is_the_same_in_all_models(x, c):
    x = x / math.sqrt(c)
    expected = convert.polar_to_ball(*polar.mean(*convert.ball_to_polar(x, c=c)), c=c)
    slack = 64 * distance_atol(F64, math.sqrt(c) * ball.dist0(x, c=c).max().item(), c)
    assert ball.dist(ball.mean(x, c=c), expected, c=c) <= slack
    y = lorentz.mean(convert.ball_to_lorentz(x, c=c), c=c)
    assert ball.dist(convert.lorentz_to_ball(y, c=c), expected, c=c) <= slack


def test_mean__of_many_sets_is_the_mean_of_each():
    generator = torch.Generator().manual_seed(0)
    u = torch.randn(6, 7, 3, dtype=F64, generator=generator)
    u /= u.norm(dim=-1, keepdim=True)
    r = 300 * torch.rand(6, 7, dtype=F64, generator=generator)
    r[0] = 1.0
    weights = torch.rand(6, 7, dtype=F64, generator=generator)
    for function in (polar.mean, polar.midpoint):
        together = function(r, u, weights)
        for i in range(6):
            one = function(r[i], u[i], weights[i])
            assert polar.dist(*one, together[0][i], together[1][i]) < 1e-8


def test_mean__weights_of_zero_leave_points_out():
    r, u = torch.tensor([1.0, 2.0, 9.0]), torch.eye(3)
    weights = torch.tensor([1.0, 2.0, 0.0])
    nothing = torch.tensor([0.0, 1.0, 0.0, 2.0])  # also where the first two that meet weigh nothing
    for function in (polar.mean, polar.midpoint):
        every = function(r, u, weights)
        assert polar.dist(*function(r[:2], u[:2], weights[:2]), *every) < 1e-5
        r4, u4 = r[[2, 0, 2, 1]].requires_grad_(), u[[2, 0, 2, 1]]
        some = function(r4, u4, nothing)
        assert polar.dist(*function(r[:2], u[:2], weights[:2]), *some) < 1e-5
        some[0].backward()
        assert r4.grad.isfinite().all()
        assert r4.grad[[0, 2]].abs().max() < 1e-6


def test_mean__warns_where_a_tolerance_is_out_of_reach():
    r, u = torch.tensor([1.0, 2.0, 3.0]), torch.eye(3)
    with pytest.warns(RuntimeWarning, match="larger tolerance"):
        polar.mean(r, u, tolerance=1e-12)
    coarse, fine = polar.mean(r, u, tolerance=0.5), polar.mean(r.double(), u.double())
    assert polar.dist(coarse[0].double(), coarse[1].double(), *fine) <= 0.5


# -- gradients ------------------------------------------------------------------------------------


def samples(k=6, origin=True):
    generator = torch.Generator().manual_seed(0)
    x = ball.expmap0(torch.randn(k, 3, dtype=F64, generator=generator))
    if origin:
        x[0] = 0
    return x.requires_grad_(), torch.rand(k, dtype=F64, generator=generator).requires_grad_()


@pytest.mark.parametrize("function", [ball.mean, ball.midpoint])
def test_gradients__of_the_ball_are_right_at_the_origin_too(function):
    x, weights = samples()
    assert torch.autograd.gradcheck(function, (x, weights))
    assert torch.autograd.gradcheck(lambda x: function(x[:1]), (x,))
    pair = torch.stack((x[1], -x[1])).detach().requires_grad_()
    assert torch.autograd.gradcheck(function, (pair,))


@pytest.mark.parametrize("function", [lorentz.mean, lorentz.midpoint])
def test_gradients__of_the_hyperboloid_are_right(function):
    x, weights = samples()
    y = convert.ball_to_lorentz(x).detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda y, w: function(lorentz.project(y), w), (y, weights))


@pytest.mark.parametrize("function", [polar.mean, polar.midpoint])
@pytest.mark.parametrize("radius", [3.0, 60.0])
def test_gradients__of_polar_are_right(function, radius):
    x, weights = samples(4, origin=False)
    r, u = convert.ball_to_polar(x.detach())
    r = (radius * r).requires_grad_()

    def of(r, u, weights):
        return function(r, u / u.norm(dim=-1, keepdim=True), weights)

    assert torch.autograd.gradcheck(of, (r, u.requires_grad_(), weights))


def test_gradients__of_geodesics_are_right():
    x, _ = samples()
    x, y = x[0].detach().requires_grad_(), x[1].detach().requires_grad_()
    t = torch.tensor(0.3, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(ball.geodesic, (x, y, t))
    same = y.detach().clone()
    assert torch.autograd.gradcheck(lambda y: ball.geodesic(y, same, 0.3), (y,))

    def through_lorentz(x, y, t):
        return lorentz.geodesic(convert.ball_to_lorentz(x), convert.ball_to_lorentz(y), t)

    assert torch.autograd.gradcheck(through_lorentz, (x, y, t))

    def through_polar(x, y, t):
        return polar.geodesic(*convert.ball_to_polar(x), *convert.ball_to_polar(y), t)

    assert torch.autograd.gradcheck(through_polar, (y, (-y.flip(0)).detach().requires_grad_(), t))


# -- bad arguments --------------------------------------------------------------------------------


def test_means__refuse_wrong_arguments():
    r, u = torch.ones(3), torch.eye(3)
    for function in (means.mean, means.midpoint):
        with pytest.raises(ValueError, match="at least 0"):
            function(r, u, -torch.ones(3))
        with pytest.raises(ValueError, match="not all 0"):
            function(r, u, torch.zeros(3))
        with pytest.raises(ValueError, match=r"\(2,\) do not fit"):
            function(r, u, torch.ones(2))
        with pytest.raises(ValueError, match="k points"):
            function(r[:0], u[:0])
    with pytest.raises(ValueError, match="c must be positive"):
        ball.mean(u / 2, c=0.0)
