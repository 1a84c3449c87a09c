import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import geometry as geometry_oracle
from support.points import curvatures, dtypes, polar_points, rotations
from support.tolerance import direction_atol, distance_atol, eps, polar_rtol

from poincare_taxa.geometry import ball, convert, lorentz, polar

DEEPEST = {torch.float32: 14.0, torch.float64: 33.0}


@st.composite
def lorentz_points(draw, count, largest=None, dim=None, c=1.0):
    dtype = draw(dtypes)
    r, u = draw(polar_points(count, largest or DEEPEST[dtype], dtype, dim))
    return convert.polar_to_lorentz(r.double(), u.double(), c=c).to(dtype)


def deepest(x, c=1.0):
    return math.sqrt(c) * lorentz.dist0(x.double(), c=c).max().item()


# -- values ---------------------------------------------------------------------------------------


@given(curvatures.flatmap(lambda c: st.tuples(st.just(c), lorentz_points(2, c=c))))
def test_dist__agrees_with_mpmath_to_the_conditioning(case):
    c, x = case
    exact = geometry_oracle.lorentz_distance(x[0].tolist(), x[1].tolist(), c)
    error = abs(mpmath.mpf(lorentz.dist(x[0], x[1], c=c).item()) - exact)
    assert error <= distance_atol(x.dtype, deepest(x, c), c)


@pytest.mark.parametrize("turn", [1.0, 20.0])
@pytest.mark.parametrize("gap", [0.0, 1.0])
def test_dist__holds_at_twice_the_radius_where_the_textbook_form_is_lost(gap, turn):
    generator = torch.Generator().manual_seed(0)
    u, w = (torch.randn(5, dtype=torch.float64, generator=generator) for _ in range(2))
    u = torch.stack((u, u + turn * 1e-10 * w))
    r = torch.tensor([22.0, 22.0 + gap], dtype=torch.float64)
    x = convert.polar_to_lorentz(r, u / u.norm(dim=-1, keepdim=True))
    exact = float(geometry_oracle.lorentz_distance(x[0].tolist(), x[1].tolist()))
    textbook = torch.acosh((x[0, 0] * x[1, 0] - x[0, 1:] @ x[1, 1:]).clamp(min=1)).item()
    assert abs(textbook - exact) > 0.05
    slack = distance_atol(torch.float64, 22.0 + gap) if gap else 16 * eps(torch.float64) * exact
    assert lorentz.dist(x[0], x[1]).item() == pytest.approx(exact, abs=slack)
    assert lorentz.cdist(x, x)[0, 1].item() == pytest.approx(exact, abs=distance_atol(x.dtype, 23))


@given(lorentz_points(2))
def test_dist__is_symmetric_and_zero_at_a_point(x):
    d = lorentz.dist(x[0], x[1])
    # equal times: either point may count as the nearer, which is right for both
    assert (lorentz.dist(x[1], x[0]) - d).abs() <= 8 * eps(x.dtype) * (1 + d)
    assert (lorentz.dist(x, x) == 0).all()


@given(lorentz_points(3))
def test_dist__satisfies_triangle_inequality(x):
    d = lorentz.cdist(x, x)
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 3 * distance_atol(x.dtype, deepest(x))


@given(lorentz_points(2, 12.0, dim=4), rotations(4))
def test_dist__is_invariant_under_rotation(x, rotation):
    space = (x[:, 1:].double() @ rotation).to(x.dtype)
    rotated = torch.cat((x[:, :1], space), dim=-1)
    change = lorentz.dist(rotated[0], rotated[1]) - lorentz.dist(x[0], x[1])
    assert change.abs() <= 3 * distance_atol(x.dtype, deepest(x))


@given(lorentz_points(3, 5.0))
def test_translate__is_an_isometry_that_moves_the_origin(points):
    a, x, y = points
    moved = lorentz.translate(a, torch.stack((x, y)))
    change = lorentz.dist(moved[0], moved[1]) - lorentz.dist(x, y)
    reach = max(deepest(moved), deepest(points), deepest(a) + deepest(x), deepest(a) + deepest(y))
    assert change.abs() <= 6 * distance_atol(x.dtype, reach)
    origin = lorentz.project(torch.zeros_like(a))
    assert torch.allclose(lorentz.translate(a, origin), a, rtol=4 * eps(a.dtype))


@given(lorentz_points(4), curvatures)
def test_cdist__agrees_with_dist(x, c):
    paired = lorentz.dist(x[:, None], x, c=c)
    slack = distance_atol(x.dtype, deepest(x, c), c)
    assert ((lorentz.cdist(x, x, c=c) - paired).abs() <= slack).all()


@given(lorentz_points(3))
def test_ancestor_score__is_its_definition_paired_and_for_all_pairs(x):
    d, r = lorentz.dist(x[:, None], x), lorentz.dist0(x)
    expected = d + r - r[:, None]
    slack = distance_atol(x.dtype, deepest(x))
    assert ((lorentz.ancestor_score(x[:, None], x) - expected).abs() <= slack).all()
    assert ((lorentz.all_ancestor_scores(x, x) - expected).abs() <= slack).all()


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1.0, 0.3])
def test_gradients__are_right(c):
    generator = torch.Generator().manual_seed(0)
    v, w = (torch.randn(8, 3, dtype=torch.float64, generator=generator) for _ in range(2))
    v[0] = 0
    x, y = (lorentz.expmap0(t, c=c).requires_grad_() for t in (v, w))
    assert torch.autograd.gradcheck(lambda x, y: lorentz.dist(x, y, c=c), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: lorentz.cdist(x, y, c=c), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: lorentz.translate(x, y, c=c), (x, y))
    assert torch.autograd.gradcheck(lambda v: lorentz.expmap0(v, c=c), w.requires_grad_())
    assert torch.autograd.gradcheck(lambda x: lorentz.logmap0(x, c=c), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("radius", [0.0, 1e-20, 1.0, 40.0, 80.0])
def test_gradients__are_finite_at_coincident_points_the_origin_and_far_out(dtype, radius):
    x = lorentz.expmap0(torch.tensor([radius, 0.0], dtype=dtype)).requires_grad_()
    flipped = x.detach() * torch.tensor([1.0, -1.0, 1.0], dtype=dtype)
    origin = lorentz.project(torch.zeros(3, dtype=dtype))
    for other in (x.detach().clone(), flipped, origin):
        d = lorentz.dist(x, other)
        (gradient,) = torch.autograd.grad(d, x)
        assert d.isfinite()
        assert gradient.isfinite().all()
        if torch.equal(x, other):
            assert (gradient == 0).all()
    for function in (lorentz.dist0, lorentz.logmap0, lorentz.project):
        assert torch.autograd.grad(function(x).sum(), x)[0].isfinite().all()


# -- maps -----------------------------------------------------------------------------------------


@given(lorentz_points(1), curvatures)
def test_expmap0__inverts_logmap0(x, c):
    x = lorentz.project(x, c=c)
    back = lorentz.expmap0(lorentz.logmap0(x, c=c), c=c)
    # sinh magnifies the rounding of r by r coth r
    slack = 8 * eps(x.dtype) * (1 + deepest(x, c))
    assert torch.allclose(back, x, rtol=slack, atol=0)


@given(lorentz_points(1, 80.0), curvatures)
def test_project__gives_points_of_the_hyperboloid_and_is_idempotent(x, c):
    once = lorentz.project(x, c=c)
    space = once[..., 1:].double().norm(dim=-1)
    time = torch.sqrt(space**2 + 1 / c)
    assert torch.allclose(once[..., 0].double(), time, rtol=4 * eps(x.dtype))
    assert torch.equal(once[..., 1:], x[..., 1:])
    assert torch.equal(lorentz.project(once, c=c), once)


# -- the models agree -----------------------------------------------------------------------------


@given(polar_points(2, 12.0), curvatures)
def test_models__agree_on_distance(points, c):
    r, u = points
    d = polar.dist(r[0], u[0], r[1], u[1]) / math.sqrt(c)
    slack = 2 * distance_atol(r.dtype, r.max().item(), c) + 2 * direction_atol(
        r.dtype, r.max().item(), 2
    ) / math.sqrt(c)
    x = convert.polar_to_ball(r, u, c=c)
    assert (ball.dist(x[0], x[1], c=c) - d).abs() <= slack
    y = convert.polar_to_lorentz(r, u, c=c)
    assert (lorentz.dist(y[0], y[1], c=c) - d).abs() <= slack
    z = convert.ball_to_lorentz(x, c=c)
    assert (lorentz.dist(z[0], z[1], c=c) - d).abs() <= 2 * slack


@given(polar_points(1, 12.0), curvatures)
def test_convert__round_trips_through_the_ball(points, c):
    r, u = points
    x = convert.polar_to_ball(r, u, c=c)
    back_r, back_u = convert.ball_to_polar(x, c=c)
    assert (back_r - r).abs() <= distance_atol(r.dtype, r.item()) + polar_rtol(r.dtype) * r
    if r > 0:
        assert ((back_u - u).abs() <= polar_rtol(r.dtype)).all()
    again = convert.lorentz_to_ball(convert.ball_to_lorentz(x, c=c), c=c)
    assert ((again - x).abs() <= polar_rtol(r.dtype) / math.sqrt(c)).all()


@given(polar_points(1, 80.0), curvatures)
def test_convert__round_trips_through_lorentz_at_large_radius(points, c):
    r, u = points
    back_r, back_u = convert.lorentz_to_polar(convert.polar_to_lorentz(r, u, c=c), c=c)
    assert (back_r - r).abs() <= 4 * polar_rtol(r.dtype) * r
    if r > 0:
        assert ((back_u - u).abs() <= polar_rtol(r.dtype)).all()


def test_convert__origin_has_the_first_basis_vector_as_direction():
    for r, u in (
        convert.ball_to_polar(torch.zeros(2, 3)),
        convert.lorentz_to_polar(lorentz.project(torch.zeros(2, 4))),
        polar.expmap0(torch.zeros(2, 3)),
    ):
        assert r.tolist() == [0.0, 0.0]
        assert u.tolist() == [[1.0, 0.0, 0.0]] * 2


def test_polar_to_ball__projects_in_the_dtype_that_is_asked_for():
    r, u = torch.tensor([0.5, 30.0]).double(), torch.tensor([[0.6, 0.8]] * 2).double()
    assert convert.polar_to_ball(r, u).dtype == torch.float64
    x = convert.polar_to_ball(r, u, dtype=torch.float32)
    assert x.dtype == torch.float32
    assert x.equal(ball.project(x))
    assert torch.allclose(x[0], convert.polar_to_ball(r, u)[0].float())


def test_convert__gradients_are_right():
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(5, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    r, u = (t.detach().requires_grad_() for t in polar.expmap0(v))
    assert torch.autograd.gradcheck(convert.polar_to_ball, (r, u))
    assert torch.autograd.gradcheck(convert.polar_to_lorentz, (r, u))
    x = convert.polar_to_ball(r, u).detach().requires_grad_()
    assert torch.autograd.gradcheck(convert.ball_to_polar, (x,))
    assert torch.autograd.gradcheck(convert.ball_to_lorentz, (x,))
    assert torch.autograd.gradcheck(polar.expmap0, (v,))


# -- bad arguments --------------------------------------------------------------------------------


def test_lorentz_and_convert__refuse_wrong_arguments():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="c must be positive"):
        lorentz.dist(x, x, c=-1.0)
    with pytest.raises(ValueError, match=r"torch\.int64"):
        lorentz.project(x.long())
    with pytest.raises(ValueError, match=r"\(2, 3\) and \(2, 2\)"):
        lorentz.cdist(x, x[:, :2])
    for function in (convert.polar_to_ball, convert.polar_to_lorentz):
        with pytest.raises(ValueError, match="c must be positive"):
            function(x[:, 0], x, c=0.0)
        with pytest.raises(ValueError, match="one more dimension"):
            function(torch.ones(5), x)
    for function in (convert.ball_to_polar, convert.ball_to_lorentz, convert.lorentz_to_ball):
        with pytest.raises(ValueError, match="c must be positive"):
            function(x, c=0.0)
