import itertools
import math

import geoopt
import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles import geometry as geometry_oracle
from support.points import ball_points, curvatures, dtypes, polar_points, rotations
from support.tolerance import distance_atol, eps

from poincare_taxa.geometry import ball, convert

FLOAT_TYPES = [torch.float32, torch.float64]
DEEPEST = {dtype: ball.max_radius(dtype) for dtype in FLOAT_TYPES}


def deepest(x, c=1.0):
    """Largest radius, in units of the curvature radius."""
    return math.sqrt(c) * ball.dist0(x.double(), c=c).max().item()


def random_points(n, dim, radius, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    u = torch.randn(n, dim, dtype=torch.float64, generator=generator)
    u /= u.norm(dim=-1, keepdim=True)
    r = radius * torch.rand(n, dtype=torch.float64, generator=generator)
    return convert.polar_to_ball(r, u, dtype=dtype)


# -- values ---------------------------------------------------------------------------------------


@given(dtypes.flatmap(lambda dtype: ball_points(2, DEEPEST[dtype], dtype)))
def test_dist__agrees_with_mpmath_to_the_conditioning(x):
    exact = geometry_oracle.ball_distance(x[0].tolist(), x[1].tolist())
    error = abs(mpmath.mpf(ball.dist(x[0], x[1]).item()) - exact)
    assert error <= distance_atol(x.dtype, deepest(x))


@given(curvatures.flatmap(lambda c: st.tuples(st.just(c), ball_points(2, 10.0, c=c))))
def test_dist__agrees_with_mpmath_at_any_curvature(case):
    c, x = case
    exact = geometry_oracle.ball_distance(x[0].tolist(), x[1].tolist(), c)
    error = abs(mpmath.mpf(ball.dist(x[0], x[1], c=c).item()) - exact)
    assert error <= distance_atol(x.dtype, deepest(x, c), c)


@pytest.mark.parametrize("dim", [2, 10, 100])
@pytest.mark.parametrize("radius", [1.0, 3.0, 6.0, 10.0])
def test_dist__error_law_holds_over_many_pairs(radius, dim):
    # float64 is exact beside float32
    x, y = (random_points(20000, dim, radius, torch.float32, seed) for seed in (0, 1))
    error = (ball.dist(x, y).double() - ball.dist(x.double(), y.double())).abs()
    assert error.max() <= distance_atol(torch.float32, radius)


def test_dist__does_not_saturate_where_geoopt_does():
    # antipodal points at norm 1 - 1e-5: geoopt 0.5.1 gives 16.811 and no gradient
    x = torch.tensor([1 - 1e-5, 0.0], dtype=torch.float64, requires_grad=True)
    d = ball.dist(x, -x.detach())
    d.backward()
    assert d.item() == pytest.approx(24.412135, abs=1e-6)
    assert x.grad is not None
    assert x.grad[0].item() == pytest.approx(2 / (1 - (1 - 1e-5) ** 2), rel=1e-6)


def test_dist__keeps_near_points_apart_where_arcosh_does_not():
    x = torch.tensor([0.3, 0.0])
    y = torch.tensor([0.3, 1e-4])
    exact = float(geometry_oracle.ball_distance(x.tolist(), y.tolist()))
    assert ball.dist(x, y).item() == pytest.approx(exact, rel=1e-6)
    assert exact == pytest.approx(2e-4 / (1 - 0.3**2), rel=1e-5)
    assert torch.acosh(1 + 2 * (1e-4 / (1 - torch.tensor(0.3) ** 2)) ** 2) == 0


@given(ball_points(2, 12.0))
def test_dist__is_symmetric_to_the_bit_and_zero_at_a_point(x):
    assert ball.dist(x[0], x[1]) == ball.dist(x[1], x[0])
    assert (ball.dist(x, x) == 0).all()
    assert (ball.cdist(x, x).diagonal() == 0).all()


@given(ball_points(3, 12.0))
def test_dist__satisfies_triangle_inequality(x):
    d = ball.cdist(x, x)
    assert d[0, 2] <= d[0, 1] + d[1, 2] + 3 * distance_atol(x.dtype, deepest(x))


@given(ball_points(2, 12.0, dim=4), rotations(4))
def test_dist__is_invariant_under_rotation(x, rotation):
    rotated = ball.project((x.double() @ rotation).to(x.dtype))
    change = (ball.dist(rotated[0], rotated[1]) - ball.dist(x[0], x[1])).abs()
    # the rotation rounds every component once more: half an eps of a norm of at most 1
    assert change <= 3 * distance_atol(x.dtype, deepest(x))


@given(ball_points(3, 5.0))
def test_dist__is_invariant_under_mobius_translation(x):
    a, x, y = x
    moved_x, moved_y = ball.mobius_add(a, x), ball.mobius_add(a, y)
    change = (ball.dist(moved_x, moved_y) - ball.dist(x, y)).abs()
    # radii add; the sum is rounded some six times where the distance formula counts one
    radius = deepest(torch.stack((moved_x, moved_y)))
    assert change <= 6 * distance_atol(x.dtype, max(radius, deepest(torch.stack((a, x, y)))))


@given(ball_points(2, 8.0), curvatures)
def test_dist__scales_with_curvature(x, c):
    scaled = (x.double() / math.sqrt(c)).to(x.dtype)
    change = ball.dist(scaled[0], scaled[1], c=c) - ball.dist(x[0], x[1]) / math.sqrt(c)
    assert change.abs() <= 2 * distance_atol(x.dtype, deepest(x), c)


@given(ball_points(1, 12.0), curvatures)
def test_dist0__is_the_distance_to_the_origin(x, c):
    x = ball.project(x / math.sqrt(c), c=c)
    difference = ball.dist0(x, c=c) - ball.dist(x, torch.zeros_like(x), c=c)
    assert difference.abs() <= distance_atol(x.dtype, deepest(x, c), c)


@given(ball_points(5, 12.0), curvatures)
def test_cdist__agrees_with_dist(x, c):
    x = ball.project(x / math.sqrt(c), c=c)
    paired = ball.dist(x[:, None], x, c=c)
    assert torch.allclose(ball.cdist(x, x, c=c), paired, rtol=8 * eps(x.dtype), atol=0)


@given(ball_points(3, 12.0))
def test_ancestor_score__is_its_definition_paired_and_for_all_pairs(x):
    d, r = ball.dist(x[:, None], x), ball.dist0(x)
    expected = d + r - r[:, None]
    slack = 40 * eps(x.dtype) * (1 + deepest(x))
    assert ((ball.ancestor_score(x[:, None], x) - expected).abs() <= slack).all()
    assert ((ball.all_ancestor_scores(x, x) - expected).abs() <= slack).all()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (17, 1), (41, 401), (0, 5), (5, 0)])
def test_cdist__shapes(n, m):
    assert ball.cdist(torch.zeros(n, 3), torch.zeros(m, 3)).shape == (n, m)


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [1.0, 0.3])
def test_gradients__are_right(c):
    x, y = (random_points(10, 3, 4.0, seed=seed).requires_grad_() for seed in (0, 1))
    assert torch.autograd.gradcheck(lambda x, y: ball.dist(x, y, c=c), (x, y))
    assert torch.autograd.gradgradcheck(lambda x, y: ball.dist(x, y, c=c), (x, y))
    assert torch.autograd.gradcheck(lambda x, y: ball.cdist(x, y, c=c), (x, y))
    assert torch.autograd.gradcheck(lambda x: ball.dist0(x, c=c), x)
    assert torch.autograd.gradcheck(lambda x: ball.logmap0(x, c=c), x)
    assert torch.autograd.gradcheck(lambda x: ball.expmap0(x, c=c), x)
    assert torch.autograd.gradcheck(lambda x, y: ball.mobius_add(x, y, c=c), (x, y))


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("norm", [0.0, 1e-20, 0.5, "max", "last", 1.0])
def test_gradients__are_finite_at_coincident_points_the_origin_and_the_rim(dtype, norm):
    norm = {"max": ball.max_norm(dtype), "last": 1 - eps(dtype) / 2}.get(norm, norm)
    x = torch.tensor([norm, 0.0, 0.0], dtype=dtype, requires_grad=True)
    for other in (x.detach().clone(), -x.detach(), torch.zeros(3, dtype=dtype)):
        for d in (ball.dist(x, other), ball.cdist(x[None], other[None])):
            (gradient,) = torch.autograd.grad(d.sum(), x)
            assert d.isfinite().all()
            assert gradient.isfinite().all()
            if torch.equal(x, other):
                assert (gradient == 0).all()
    for function in (ball.dist0, ball.expmap0, ball.logmap0, ball.project):
        assert torch.autograd.grad(function(x).sum(), x)[0].isfinite().all()


def test_maps__are_the_identity_near_the_origin_with_gradient_one():
    for function in (ball.expmap0, ball.logmap0):
        x = torch.tensor([0.0, 1e-30], requires_grad=True)
        y = function(x)
        assert torch.equal(y, x)
        assert torch.autograd.grad(y.sum(), x)[0].tolist() == [1.0, 1.0]


# -- maps -----------------------------------------------------------------------------------------


@given(ball_points(1, 12.0), curvatures)
def test_expmap0__inverts_logmap0(x, c):
    x = ball.project(x / math.sqrt(c), c=c)
    back = ball.expmap0(ball.logmap0(x, c=c), c=c)
    # x = tanh(r/2) forgets what dist0 magnified: only rounding is left
    assert ((back - x).abs() <= 8 * eps(x.dtype) / math.sqrt(c)).all()


@given(polar_points(1, 12.0), curvatures)
def test_expmap0__reaches_twice_the_length(points, c):
    r, u = points
    x = ball.expmap0(r[:, None] / (2 * math.sqrt(c)) * u, c=c)
    change = ball.dist0(x, c=c) * math.sqrt(c) - r
    assert change.abs() <= 2 * distance_atol(r.dtype, r.item()) + 16 * eps(r.dtype) * r


@given(ball_points(2, 5.0), curvatures)
def test_expmap__inverts_logmap_and_goes_as_far_as_it_says(x, c):
    x, y = x / math.sqrt(c)
    v = ball.logmap(x, y, c=c)
    d = ball.dist(x, y, c=c)
    # -x + y, seen from x, is rounded at radius d
    radius = max(deepest(torch.stack((x, y)), c), math.sqrt(c) * d.item())
    length = 2 * v.norm() / ball.conformal_gap(x, c=c)
    slack = 6 * distance_atol(x.dtype, radius, c)
    assert (length - d).abs() <= slack
    assert ball.dist(ball.expmap(x, v, c=c), y, c=c) <= 4 * slack


@given(ball_points(2, 8.0))
def test_mobius_add__agrees_with_the_printed_formula(points):
    x, y = points.double()
    dot, x2, y2 = x @ y, x @ x, y @ y
    printed = ((1 + 2 * dot + y2) * x + (1 - x2) * y) / (1 + 2 * dot + x2 * y2)
    # the printed denominator cancels: its error is eps over it
    slack = 32 * eps(torch.float64) / (1 + 2 * dot + x2 * y2)
    assert ((ball.mobius_add(x, y) - printed).abs() <= slack).all()


@given(dtypes.flatmap(lambda dtype: ball_points(1, DEEPEST[dtype], dtype)))
def test_mobius_add__of_a_point_and_its_negative_is_exactly_zero(x):
    assert (ball.mobius_add(-x, x) == 0).all()


def tangent_length(x, v, c=1.0):
    return 2 * v.norm(dim=-1) / ball.conformal_gap(x, c=c)


def cosine(v, w):
    return (v * w).sum(-1) / (v.norm(dim=-1) * w.norm(dim=-1))


@pytest.mark.parametrize("c", [1.0, 0.3])
def test_transport__agrees_with_geoopt_inside(c):
    x, y = (random_points(50, 3, 3.0, seed=seed) / math.sqrt(c) for seed in (0, 1))
    v = torch.randn(50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    geoopt_ball = geoopt.PoincareBall(c=torch.tensor(c, dtype=torch.float64))
    found = ball.transport(x, y, v, c=c)
    assert torch.allclose(found, geoopt_ball.transp(x, y, v), atol=1e-11)
    assert torch.autograd.gradcheck(
        lambda v: ball.transport(x[:3], y[:3], v, c=c), v[:3].clone().requires_grad_()
    )


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_transport__keeps_lengths_and_angles_up_to_the_rim(dtype):
    x = random_points(400, 3, DEEPEST[dtype], dtype)
    y = random_points(400, 3, DEEPEST[dtype], dtype, seed=1)
    y[:100] = ball.project(x[:100] * (1 + 4 * eps(dtype)))
    generator = torch.Generator().manual_seed(2)
    v, w = (torch.randn(400, 3, dtype=dtype, generator=generator) for _ in range(2))
    moved_v, moved_w = ball.transport(x, y, v), ball.transport(x, y, w)
    ratio = tangent_length(y, moved_v) / tangent_length(x, v)
    assert ((ratio - 1).abs() <= 64 * eps(dtype)).all()
    change = cosine(moved_v, moved_w) - cosine(v, w)
    assert (change.abs() <= 64 * eps(dtype)).all()


# -- the ball's invariants ------------------------------------------------------------------------


@given(dtypes, st.integers(1, 300), st.integers(0, 2**31), curvatures)
def test_project__keeps_the_inside_moves_the_rest_inside_and_is_idempotent(dtype, dim, seed, c):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(64, dim, dtype=torch.float64, generator=generator)
    size = torch.rand(64, 1, dtype=torch.float64, generator=generator)
    norm = torch.cat([1 - 10 ** (-16 * size[:32]), 10 ** (6 * size[32:])])
    x = (x / x.norm(dim=-1, keepdim=True) * norm / math.sqrt(c)).to(dtype)
    once = ball.project(x, c=c)
    limit = ball.max_norm(dtype, c=c)
    assert (once.norm(dim=-1) <= limit).all()
    assert (once.double().norm(dim=-1) < 1 / math.sqrt(c)).all()
    inside = x.norm(dim=-1) <= limit
    assert torch.equal(once[inside], x[inside])
    assert torch.equal(ball.project(once, c=c), once)
    # the direction stays, and nothing is pulled further in than needed
    assert (once.norm(dim=-1)[~inside] >= limit * (1 - 16 * eps(dtype))).all()


@given(dtypes.flatmap(lambda dtype: polar_points(3, 1000.0, dtype)), curvatures)
def test_invariant__every_map_ends_strictly_inside(points, c):
    r, u = points
    limit = ball.max_norm(r.dtype, c=c)
    for x in (
        convert.polar_to_ball(r, u, c=c),
        ball.expmap0(r[:, None] * u, c=c),
        ball.expmap(ball.project(u, c=c), r[:, None] * u.flip(0), c=c),
        ball.expmap(ball.project(u, c=c), r[:, None] * u, c=c),
    ):
        assert x.isfinite().all()
        assert (x.norm(dim=-1) <= limit).all()
        assert (x.double().norm(dim=-1) * math.sqrt(c) < 1).all()
        assert ball.dist(x[0], x[1], c=c).isfinite()


def test_max_radius__is_the_radius_of_max_norm():
    for dtype in FLOAT_TYPES:
        x = torch.tensor([ball.max_norm(dtype, c=2.0)], dtype=torch.float64)
        assert ball.dist0(x, c=2.0).item() == pytest.approx(ball.max_radius(dtype, c=2.0), rel=1e-4)


def test_conformal_gap__in_one_dimension_is_right_at_any_curvature():
    for c in (1e-40, 1.0, 1e30):  # at the first |x|² is beyond float32
        gap = ball.conformal_gap(torch.tensor([0.3 / math.sqrt(c)]), c=c)
        torch.testing.assert_close(gap, torch.tensor(0.91))


# -- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan])
@pytest.mark.parametrize(
    "function",
    [ball.dist, ball.cdist, ball.mobius_add, ball.expmap, ball.logmap, ball.ancestor_score],
)
def test_ball__refuses_a_curvature_that_is_not_hyperbolic(function, c):
    x = torch.zeros(2, 3)
    with pytest.raises(ValueError, match="c must be positive"):
        function(x, x, c=c)


@pytest.mark.parametrize("function", [ball.dist0, ball.expmap0, ball.logmap0, ball.project])
def test_ball__refuses_wrong_tensors(function):
    with pytest.raises(ValueError, match=r"float32 or float64; got Tensor of torch\.int64"):
        function(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="c must be positive"):
        function(torch.zeros(2, 3), c=0.0)
    with pytest.raises(ValueError, match="last dimension"):
        function(torch.tensor(1.0))


def test_ball__refuses_points_of_different_dimension():
    for function, dim in itertools.product((ball.dist, ball.mobius_add), (1, 4)):
        with pytest.raises(ValueError, match=rf"\(2, 3\) and \(2, {dim}\)"):
            function(torch.zeros(2, 3), torch.zeros(2, dim))
    with pytest.raises(ValueError, match="float16"):
        ball.max_norm(torch.float16)
