import math

import geoopt
import mpmath
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from oracles import geometry as geometry_oracle
from support.points import directions, dtypes, polar_points, rotations
from support.tolerance import direction_atol, eps, polar_atol, polar_rtol
from torch.utils._python_dispatch import TorchDispatchMode

from poincare_taxa.geometry import ball, convert, polar

FLOAT_TYPES = [torch.float32, torch.float64]


def oracle(r, u, i, j):
    return geometry_oracle.polar_distance(r[i].item(), u[i].tolist(), r[j].item(), u[j].tolist())


def random_points(n, dim, largest, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    r = largest * torch.rand(n, dtype=dtype, generator=generator)
    u = torch.randn(n, dim, dtype=dtype, generator=generator)
    return r, u / u.norm(dim=-1, keepdim=True)


# -- values ---------------------------------------------------------------------------------------


@given(polar_points(2, 1000.0))
def test_dist__agrees_with_mpmath_to_a_few_eps_at_any_radius(points):
    r, u = points
    exact = oracle(r, u, 0, 1)
    error = abs(mpmath.mpf(polar.dist(r[0], u[0], r[1], u[1]).item()) - exact)
    assert error <= polar_rtol(r.dtype) * exact + torch.finfo(r.dtype).tiny


@given(polar_points(2, 1000.0))
def test_ancestor_score__agrees_with_mpmath_to_a_few_eps_at_any_radius(points):
    r, u = points
    exact = oracle(r, u, 0, 1) + mpmath.mpf(r[1].item()) - mpmath.mpf(r[0].item())
    score = polar.ancestor_score(r[0], u[0], r[1], u[1]).item()
    assert score >= 0
    error = abs(mpmath.mpf(score) - exact)
    # the oracle cancels: of its 60 digits, 4 are before the point
    assert error <= 2 * polar_rtol(r.dtype) * exact + 1e-50 + torch.finfo(r.dtype).tiny


@given(polar_points(4, 1000.0))
def test_cdist__agrees_with_dist_at_any_radius(points):
    r, u = points
    paired = polar.dist(r[:, None], u[:, None], r, u)
    error = (polar.cdist(r, u, r, u) - paired).abs()
    assert (error <= polar_atol(r.dtype, paired)).all()


@pytest.mark.parametrize("largest", [1.0, 42.0, 100.0, 349.0, 700.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_all_ancestor_scores__agree_with_ancestor_score(dtype, largest):
    r, u = random_points(40, 3, largest, dtype)
    u[20:] = u[:20]
    paired = polar.ancestor_score(r[:, None], u[:, None], r, u)
    d = polar.dist(r[:, None], u[:, None], r, u)
    error = (polar.all_ancestor_scores(r, u, r, u) - paired).abs()
    assert (error <= polar_atol(dtype, d) + 2 * eps(dtype) * largest).all()


@given(polar_points(2, 1000.0))
def test_dist__is_symmetric_to_the_bit(points):
    (r1, r2), (u1, u2) = points
    assert polar.dist(r1, u1, r2, u2) == polar.dist(r2, u2, r1, u1)


@given(polar_points(1, 1000.0))
def test_dist__is_zero_from_a_point_to_itself(points):
    r, u = points
    assert polar.dist(r, u, r, u) == 0
    assert polar.cdist(r, u, r, u) == 0


@given(polar_points(1, 1000.0), st.floats(0, 1000))
def test_dist__along_a_ray_is_the_difference_of_radii(points, other):
    (r,), (u,) = points
    other = torch.tensor(other, dtype=r.dtype)
    assert polar.dist(r, u, other, u) == (r - other).abs()
    assert polar.ancestor_score(r, u, other, u) == 2 * (other - r).clamp(min=0)


@given(polar_points(1, 1000.0), st.data())
def test_dist__to_the_origin_is_dist0(points, data):
    (r,), (u,) = points
    any_direction = data.draw(directions(len(u), u.dtype))
    assert polar.dist(r, u, torch.zeros_like(r), any_direction) == polar.dist0(r, u)


@given(polar_points(3, 300.0))
def test_dist__satisfies_triangle_inequality(points):
    r, u = points
    d = polar.dist(r[:, None], u[:, None], r, u)
    detour = d[0, 1] + d[1, 2]
    # the three are points of a sphere only to 16 eps: see `directions` in `_stored`
    assert d[0, 2] <= detour * (1 + 2 * polar_rtol(r.dtype)) + 32 * eps(r.dtype)


@given(polar_points(2, 100.0), st.data())
def test_dist__is_invariant_under_exact_rotations_at_any_depth(points, data):
    (r1, r2), u = points
    order = data.draw(st.permutations(range(u.shape[1])))
    signs = torch.tensor(
        data.draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=len(order), max_size=len(order)))
    ).to(u)
    rotated = u[:, order] * signs
    d = polar.dist(r1, u[0], r2, u[1])
    assert (polar.dist(r1, rotated[0], r2, rotated[1]) - d).abs() <= polar_rtol(r1.dtype) * d


@given(polar_points(2, 12.0, dim=4), rotations(4))
def test_dist__is_invariant_under_rotation(points, rotation):
    (r1, r2), u = points
    rotated = (u.double() @ rotation).to(u.dtype)
    change = polar.dist(r1, rotated[0], r2, rotated[1]) - polar.dist(r1, u[0], r2, u[1])
    assert change.abs() <= direction_atol(r1.dtype, min(r1, r2).item(), 4)


def test_dist__keeps_differences_far_below_an_ulp_of_the_large_component():
    # the directions differ only in a component that is 0 in one, and has no square in the other
    for dtype, radius, step in (
        (torch.float32, 80.0, 1e-30),
        (torch.float64, 80.0, 1e-30),
        (torch.float64, 480.0, 1e-200),
    ):
        r = torch.tensor(radius, dtype=dtype)
        u = torch.tensor([1.0, 0.0], dtype=dtype)
        v = torch.tensor([1.0, step], dtype=dtype)
        expected = geometry_oracle.polar_distance(radius, u.tolist(), radius, v.tolist())
        assert expected > 20
        assert polar.dist(r, u, r, v).item() == pytest.approx(float(expected), rel=8 * eps(dtype))
        all_pairs = polar.cdist(r[None], u[None], r[None], v[None]).item()
        assert all_pairs == pytest.approx(float(expected), rel=8 * eps(dtype))


@pytest.mark.parametrize("step", [1e-3, 1e-6, 1e-9, 1e-14])
@pytest.mark.parametrize("radius", [1.0, 8.0])
def test_dist__of_near_points_is_exact_to_a_few_eps_of_itself(radius, step):
    # one step outwards and one sideways; the radial one as float64 stores it
    r = torch.tensor([radius, radius + step], dtype=torch.float64)
    u = torch.tensor([[1.0, 0.0], [1.0, step / math.sinh(radius)]], dtype=torch.float64)
    exact = oracle(r, u, 0, 1)
    assert exact == pytest.approx(2**0.5 * step, rel=0.1)
    error = abs(mpmath.mpf(polar.dist(r[0], u[0], r[1], u[1]).item()) - exact)
    assert error <= polar_rtol(r.dtype) * exact


def test_dist__float32_directions_with_float64_radii_give_float64():
    r, u = random_points(2, 3, 20.0)
    d = polar.dist(r[0], u[0].float(), r[1], u[1].float())
    assert d.dtype == torch.float64
    exact = oracle(r, u.float(), 0, 1)
    # the norm of the difference is the only part computed in float32
    assert d.item() == pytest.approx(float(exact), rel=4 * eps(torch.float32))
    assert polar.cdist(r, u.float(), r, u.float()).dtype == torch.float64


# -- shapes and memory ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "m"), [(1, 1), (17, 1), (41, 401), (3, 70000), (70000, 3), (0, 5), (5, 0)]
)
def test_cdist__shapes(n, m):
    r1, u1 = random_points(n, 3, 10.0)
    r2, u2 = random_points(m, 3, 10.0, seed=1)
    d = polar.cdist(r1, u1, r2, u2)
    assert d.shape == (n, m)
    if n * m:
        i, j = n // 2, m - 1
        assert torch.allclose(d[i, j], polar.dist(r1[i], u1[i], r2[j], u2[j]), rtol=1e-14)


def test_cdist__takes_views():
    r, u = random_points(30, 6, 10.0)
    expected = polar.cdist(r[::2].clone(), u[::2, :3].clone(), r, u[:, 3:].clone())
    assert torch.equal(polar.cdist(r[::2], u[::2, :3], r, u[:, 3:]), expected)


def test_cdist__takes_tensors_without_values_and_transforms_of_torch():
    r, u = random_points(6, 3, 10.0)
    assert polar.cdist(*(t.to("meta") for t in (r[:2], u[:2], r, u))).shape == (2, 6)
    rs, us = r.reshape(3, 2), u.reshape(3, 2, 3)
    found = torch.func.vmap(polar.cdist)(rs, us, rs, us)
    for i in range(3):
        wanted = polar.cdist(rs[i], us[i], rs[i], us[i])
        torch.testing.assert_close(found[i], wanted, rtol=1e-12, atol=1e-12)


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor made while it is active."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return result


def test_cdist__never_makes_an_array_of_all_coordinates_of_all_pairs():
    r, u = random_points(400, 10, 10.0)
    r.requires_grad_()
    u.requires_grad_()
    with LargestTensor() as seen:
        polar.cdist(r, u, r, u).sum().backward()
    assert seen.numel == 400 * 400


# -- gradients ------------------------------------------------------------------------------------


def test_dist__gradients_are_right():
    r1, u1 = random_points(20, 3, 4.0)
    r2, u2 = random_points(20, 3, 4.0, seed=1)
    arguments = [t.requires_grad_() for t in (r1 + 0.1, u1, r2 + 0.1, u2)]
    for function in (polar.dist, polar.ancestor_score):
        assert torch.autograd.gradcheck(function, arguments)
        assert torch.autograd.gradgradcheck(function, arguments)


@pytest.mark.parametrize("function", [polar.dist, polar.ancestor_score])
def test_dist__has_the_same_derivative_forward_and_backward(function):
    r, u = random_points(9, 3, 2.0)
    other = r.flip(0), u.flip(0)
    along = torch.linspace(-1, 1, 9).double()
    _, forward = torch.func.jvp(lambda r: function(r, u, *other), (r,), (along,))
    backward = torch.func.grad(lambda r: function(r, u, *other).sum())(r)
    assert torch.allclose(forward, along * backward, atol=1e-14)


def test_dist__gradients_of_broadcast_arguments_are_right():
    r1, u1 = random_points(4, 3, 4.0)
    r2, u2 = random_points(5, 3, 4.0, seed=1)
    arguments = [t.requires_grad_() for t in (r1[:, None] + 0.1, u1[:, None], r2 + 0.1, u2)]
    assert torch.autograd.gradcheck(polar.dist, arguments)
    one = (r1[0].detach() + 0.1).requires_grad_()  # a radius that all directions share
    assert torch.autograd.gradcheck(polar.dist, (one, *arguments[1:]))
    assert torch.equal(
        polar.dist(one, *arguments[1:]), polar.dist(one.expand(4, 1), *arguments[1:])
    )


@pytest.mark.parametrize("largest", [5.0, 60.0, 500.0])
@pytest.mark.parametrize("function", ["dist", "score"])
def test_cdist__gradients_are_those_of_dist(function, largest):
    paired, all_pairs = {
        "dist": (polar.dist, polar.cdist),
        "score": (polar.ancestor_score, polar.all_ancestor_scores),
    }[function]
    r1, u1 = random_points(300, 3, largest)
    r2, u2 = random_points(400, 3, largest, seed=1)
    u2[:150] = u1[:150]  # on one ray
    r2[:50] = r1[:50]  # coincident
    weight = torch.rand(300, 400, dtype=torch.float64)
    leaves = [t.requires_grad_() for t in (r1, u1, r2, u2)]
    expected = torch.autograd.grad(
        (weight * paired(r1[:, None], u1[:, None], r2, u2)).sum(), leaves
    )
    found = torch.autograd.grad((weight * all_pairs(r1, u1, r2, u2)).sum(), leaves)
    for e, f in zip(expected, found, strict=True):
        assert torch.allclose(f, e, rtol=1e-9, atol=1e-9 * e.abs().max().item())


@given(polar_points(2, 300.0))
def test_dist__gradient_is_finite_and_the_radial_part_a_cosine(points):
    r, u = points
    leaves = [t.clone().requires_grad_() for t in (r[0], u[0], r[1], u[1])]
    gradients = torch.autograd.grad(polar.dist(*leaves), leaves)
    assert all(g.isfinite().all() for g in gradients)
    assert gradients[0].abs() <= 1
    assert gradients[2].abs() <= 1


@pytest.mark.parametrize("gap", [1e-12, 1 / 16, 3.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_dist__gradient_on_a_ray_at_large_radius_has_no_turn(dtype, gap):
    r = torch.tensor([300.0 - gap, 300.0], dtype=dtype, requires_grad=True)
    u = torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=dtype, requires_grad=True)
    for d in (polar.dist(r[0], u[0], r[1], u[1]), polar.cdist(r[:1], u[:1], r[1:], u[1:])):
        by_r, by_u = torch.autograd.grad(d.sum(), (r, u))
        # cdist knows a gap of 1e-12 to 1e-4 of itself
        expected = [-1.0, 1.0] if r[0] < r[1] else [0.0, 0.0]
        assert by_r.tolist() == pytest.approx(expected, abs=1e-3)
        assert (by_u == 0).all()


@pytest.mark.parametrize("radius", [0.0, 1e-30, 1.0, 100.0, 300.0])
@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_dist__gradient_at_coincident_points_is_zero(dtype, radius):
    r = torch.full((2,), radius, dtype=dtype, requires_grad=True)
    u = torch.tensor([[0.6, 0.8], [0.6, 0.8]], dtype=dtype, requires_grad=True)
    for d in (polar.dist(r[0], u[0], r[1], u[1]), polar.cdist(r[:1], u[:1], r[1:], u[1:])):
        gradients = torch.autograd.grad(d.sum(), (r, u))
        assert all((g == 0).all() for g in gradients)


def test_dist__gradient_at_the_origin_is_minus_the_cosine():
    r = torch.tensor([0.0, 2.0], dtype=torch.float64, requires_grad=True)
    for cosine in (-1.0, -0.5, 0.0, 0.5, 1.0):
        u = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
        (gradient,) = torch.autograd.grad(polar.dist(r[0], u[0], r[1], u[1]), r)
        assert gradient[0].item() == pytest.approx(-cosine, abs=1e-14)
        assert gradient[1].item() == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
@pytest.mark.parametrize("radius", [30.0, 100.0, 300.0])
def test_dist__gradient_at_large_radius_pulls_along_the_geodesic(dtype, radius):
    # two points whose geodesic turns near the origin: moving either outwards moves it away at
    # speed 1, and turning one by dα changes d = r₁ + r₂ + 2 log sin(α/2) by cot(α/2) dα
    u = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=dtype, requires_grad=True)
    r = torch.full((2,), radius, dtype=dtype, requires_grad=True)
    by_r, by_u = torch.autograd.grad(polar.dist(r[0], u[0], r[1], u[1]), (r, u))
    assert by_r.tolist() == pytest.approx([1.0, 1.0], rel=1e-4)
    tangent = torch.tensor([0.0, -1.0], dtype=dtype)  # away from the other
    assert (by_u[0] @ tangent).item() == pytest.approx(1.0, rel=1e-3)


def test_dist__gradient_of_float32_directions_closer_than_its_range_is_finite():
    u = torch.tensor([[1.0, 0.0], [1.0, 1e-38]], requires_grad=True)
    r = torch.tensor([300.0, 300.0], requires_grad=True)
    for d in (polar.dist(r[0], u[0], r[1], u[1]), polar.cdist(r[:1], u[:1], r[1:], u[1:])):
        assert torch.autograd.grad(d.sum(), u)[0].isfinite().all()


def test_cdist__can_be_differentiated_twice():
    r1, u1 = random_points(2, 2, 4.0)
    r2, u2 = random_points(3, 2, 4.0, seed=1)
    arguments = [(r1 + 0.1).requires_grad_(), u1.requires_grad_(), r2 + 0.1, u2.requires_grad_()]
    assert torch.autograd.gradcheck(polar.cdist, arguments)
    assert torch.autograd.gradgradcheck(polar.cdist, arguments)
    assert torch.autograd.gradgradcheck(polar.all_ancestor_scores, arguments)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_dist__compiles_without_a_graph_break():
    r, u = random_points(6, 3, 5.0)
    compiled = torch.compile(polar.dist, backend="eager", fullgraph=True)
    assert torch.equal(compiled(r, u, r.flip(0), u.flip(0)), polar.dist(r, u, r.flip(0), u.flip(0)))


# -- maps -----------------------------------------------------------------------------------------


@given(polar_points(1, 100.0))
def test_expmap0__inverts_logmap0(points):
    r, u = points
    r_back, u_back = polar.expmap0(polar.logmap0(r, u))
    assert ((r_back - r).abs() <= 8 * eps(r.dtype) * r).all()
    if r > 1e-15:
        assert ((u_back - u).abs() <= 8 * eps(r.dtype)).all()


@given(polar_points(3, 8.0))
def test_translate__is_an_isometry_that_moves_the_origin(points):
    (r, *rest), (u, *directions_) = points
    r2, u2 = torch.stack(rest), torch.stack(directions_)
    moved_r, moved_u = polar.translate(r, u, r2, u2)
    before = polar.dist(r2[0], u2[0], r2[1], u2[1])
    after = polar.dist(moved_r[0], moved_u[0], moved_r[1], moved_u[1])
    # directions come back rounded to (1 + r₁ + r₂) eps, and count e^r at the new radius
    slack = direction_atol(r.dtype, moved_r.max().item(), u.shape[-1])
    assert (after - before).abs() <= slack * (1 + 2 * max(points[0]).item())
    origin = torch.zeros_like(r)
    at_r, at_u = polar.translate(r, u, origin, u2[0])
    assert polar.dist(at_r, at_u, r, u) <= direction_atol(r.dtype, r.item(), u.shape[-1])


@given(polar_points(2, 300.0))
@example((torch.tensor([299.75, 300.0]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])))
def test_translate__back_puts_the_place_itself_on_the_origin(points):
    (r, other), (u, v) = points
    seen_r, seen_u = polar.translate(r, -u, r, u)
    assert seen_r == 0
    assert torch.equal(seen_u, -u)
    seen_r, seen_u = polar.translate(r, -u, other, v)
    assert seen_r == polar.dist(r, u, other, v)
    assert (seen_u.square().sum() - 1).abs() <= 8 * eps(r.dtype)


def test_translate__sees_siblings_of_a_deep_parent_at_their_angle():
    # at radius 30 a child 1 further out, turned by the angle a right angle has at the parent
    parent_r, parent_u = torch.tensor(30.0).double(), torch.tensor([1.0, 0.0]).double()
    step = 2e-13
    child_r, child_u = (
        torch.tensor([31.0, 31.0]).double(),
        torch.tensor([[1.0, step], [1.0, -step]]).double(),
    )
    r, u = polar.translate(parent_r, -parent_u, child_r, child_u)
    angle = torch.arccos((u[0] @ u[1]).clamp(-1, 1))
    # the law of cosines in the triangle of the two children and the parent, to 60 digits
    side = geometry_oracle.polar_distance(31.0, child_u[0].tolist(), 31.0, child_u[1].tolist())
    arm = geometry_oracle.polar_distance(31.0, child_u[0].tolist(), 30.0, parent_u.tolist())
    cosine = (mpmath.cosh(arm) ** 2 - mpmath.cosh(side)) / mpmath.sinh(arm) ** 2
    assert angle.item() == pytest.approx(float(mpmath.acos(cosine)), rel=1e-9)
    assert r.tolist() == pytest.approx([float(arm)] * 2, rel=1e-14)


def tangents(r, u, length, seed):
    """A random tangent vector of this length at every point."""
    generator = torch.Generator().manual_seed(seed)
    dr = torch.randn(r.shape, dtype=r.dtype, generator=generator)
    across = torch.randn(u.shape, dtype=u.dtype, generator=generator)
    across -= (across * u).sum(-1, keepdim=True) * u
    size = length / torch.sqrt(dr**2 + across.square().sum(-1))
    return size * dr, size[..., None] * across / r.sinh()[..., None]


def length_of(r, dr, du):
    return torch.sqrt(dr**2 + (r.sinh()[..., None] * du).square().sum(-1))


@pytest.mark.parametrize("largest", [0.1, 3.0, 30.0, 300.0])
@pytest.mark.parametrize("length", [1e-9, 0.1, 1.0, 20.0])
def test_expmap__goes_as_far_as_the_vector_is_long(largest, length):
    r, u = random_points(200, 4, largest)
    dr, du = tangents(r, u, length, seed=1)
    end_r, end_u = polar.expmap(r, u, dr, du)
    d = polar.dist(r, u, end_r, end_u)
    # where the way passes near the origin the end is turned by rounding errors of sinh: e^length
    slack = 64 * eps(r.dtype) * (length + math.exp(length))
    # a turn below an ulp of the large components is rounded: |δu| sinh r
    turn_lost = 4 * eps(r.dtype) * torch.exp(torch.minimum(r, end_r))
    assert ((d - length).abs() <= slack + turn_lost).all()


@pytest.mark.parametrize("largest", [0.1, 3.0, 12.0])
def test_expmap__inverts_logmap(largest):
    r1, u1 = random_points(300, 4, largest)
    r2, u2 = random_points(300, 4, largest, seed=1)
    dr, du = polar.logmap(r1, u1, r2, u2)
    d = polar.dist(r1, u1, r2, u2)
    assert torch.allclose(length_of(r1, dr, du), d, rtol=1e-10)
    assert (du * u1).sum(-1).abs().max() <= 1e-12 * du.norm(dim=-1).max()
    end_r, end_u = polar.expmap(r1, u1, dr, du)
    # directions of a step are known to eps, and count e^(r₁ + d) at its end
    slack = 64 * eps(r1.dtype) * torch.exp(r1 + d)
    assert (polar.dist(end_r, end_u, r2, u2) <= slack).all()


@pytest.mark.parametrize("outward", [-3.0, -0.5, 0.0, 0.5])  # the first passes the origin
@pytest.mark.parametrize("radius", [0.3, 2.0])
def test_expmap_and_logmap__have_derivatives_on_the_ray_and_at_the_start(radius, outward):
    r, u = torch.tensor([radius]).double(), torch.tensor([[0.0, 1.0, 0.0]]).double()

    def end(dr, du):
        return polar.expmap(r, u, dr, du - (du * u).sum(-1, keepdim=True) * u)

    def start(r2, u2):
        return polar.logmap(r, u, r2, u2 / u2.norm(dim=-1, keepdim=True))

    step = torch.tensor([outward]).double(), torch.zeros(1, 3).double()
    assert torch.autograd.gradcheck(end, [x.requires_grad_() for x in step])
    point = [x.detach().requires_grad_() for x in end(*step)]
    if outward > -radius:  # the geodesic through the origin turns at once, if the end does
        assert torch.autograd.gradcheck(start, point)


def test_expmap__agrees_with_the_ball():
    r, u = random_points(100, 3, 3.0)
    dr, du = tangents(r, u, 1.5, seed=1)
    end = convert.polar_to_ball(*polar.expmap(r, u, dr, du))
    x = convert.polar_to_ball(r, u)
    step = dr[:, None] * u + r.sinh()[:, None] * du  # length 1.5, the frame of the ball
    v = step * ball.conformal_gap(x)[:, None] / 2
    assert torch.allclose(end, ball.expmap(x, v), atol=1e-13)


@pytest.mark.parametrize("angle", [1e-8, 1e-5, 1e-3, 1.5, 3.14159])
def test_expmap__ends_at_the_radius_of_the_law_of_cosines(angle):
    """Nearly outward too, where 1 − cos of the angle has few digits."""
    step = math.cos(angle), [0, math.sin(angle) / math.sinh(1)]  # of length 1
    r, u, dr, du = (torch.tensor(x, dtype=torch.float64) for x in (1, [1, 0], *step))
    end, _ = polar.expmap(r, u, dr, du)
    with mpmath.workdps(50):
        turned = mpmath.cosh(1) ** 2 + mpmath.sinh(1) ** 2 * mpmath.cos(angle)
        assert abs(mpmath.acosh(turned) - end.item()) <= 8 * eps(r.dtype)


def test_expmap__a_short_step_of_a_deep_point_keeps_its_fine_structure():
    r = torch.tensor([50.0, 50.0]).double()
    u = torch.tensor([[1.0, 1e-20, 0.0], [1.0, 3e-20, 0.0]]).double()
    step = torch.tensor([[0.0, 0.0, 1e-21]]).double()
    end_r, end_u = polar.expmap(r, u, torch.zeros(2).double(), step.expand(2, 3))
    assert torch.equal(end_u[:, :2], u[:, :2])
    assert torch.allclose(end_u[:, 2], step[0, 2], rtol=1e-12)
    # both step sideways as one: they move by arsinh of the same chord
    expected = polar.dist(r, u, end_r, end_u)
    assert expected.tolist() == pytest.approx([(r[0].sinh() * 1e-21).item()] * 2, rel=1e-3)


def test_expmap__through_the_origin_comes_out_on_the_other_side():
    r, u = torch.tensor(2.0).double(), torch.tensor([0.6, 0.8], dtype=torch.float64)
    zero = torch.zeros(2).double()
    end_r, end_u = polar.expmap(r, u, torch.tensor(-5.0).double(), zero)
    assert end_r == 3
    assert torch.allclose(end_u, -u, rtol=8 * eps(u.dtype))
    end_r, end_u = polar.expmap(r, u, torch.tensor(-2.0).double(), zero)
    assert end_r == 0
    assert torch.equal(end_u, u)
    end_r, end_u = polar.expmap(torch.zeros_like(r), u, torch.tensor(2.0).double(), zero)
    assert end_r == 2
    assert torch.equal(end_u, u)


def test_expmap__almost_through_the_origin_misses_it_by_the_right_angle():
    # 30 units inwards from radius 20, 1e-9 rad off: cos β is -1 to the last bit, 1 + cos β is not 0
    r, u = torch.tensor(20.0).double(), torch.tensor([1.0, 0.0]).double()
    dr, sideways = -30 * mpmath.cos(mpmath.mpf(1e-9)), 30 * mpmath.sin(mpmath.mpf(1e-9))
    du = torch.tensor([0.0, float(sideways / mpmath.sinh(20))], dtype=torch.float64)
    end_r, end_u = polar.expmap(r, u, torch.tensor(float(dr)).double(), du)
    # the law of haversines with s² = (1 + cos β)/2 = sin²(1e-9 / 2)
    s = mpmath.sin(mpmath.mpf(1e-9) / 2)
    height = mpmath.sinh(5) ** 2 + mpmath.sinh(20) * mpmath.sinh(30) * s**2
    exact = 2 * mpmath.asinh(mpmath.sqrt(height))
    assert exact > 10.05
    assert end_r.item() == pytest.approx(float(exact), rel=1e-14)
    turn = mpmath.asin(mpmath.sinh(30) * mpmath.sin(mpmath.mpf(1e-9)) / mpmath.sinh(exact))
    assert end_u[1].item() == pytest.approx(float(mpmath.sin(turn)), rel=1e-12)
    assert end_u[0] < -0.8


@pytest.mark.parametrize("largest", [0.1, 3.0, 12.0])
def test_transport__keeps_lengths_angles_and_the_geodesic(largest):
    r1, u1 = random_points(300, 4, largest)
    r2, u2 = random_points(300, 4, largest, seed=1)
    v, w = tangents(r1, u1, 1.0, seed=2), tangents(r1, u1, 1.0, seed=3)
    (vr, vu), (wr, wu) = (polar.transport(r1, u1, r2, u2, *t) for t in (v, w))

    def inner(r, v, w):
        return v[0] * w[0] + r.sinh() ** 2 * (v[1] * w[1]).sum(-1)

    # angles at the ends are known to eps·e^r of the nearer end
    slack = 64 * eps(r1.dtype) * torch.exp(torch.minimum(r1, r2))
    assert ((inner(r2, (vr, vu), (wr, wu)) - inner(r1, v, w)).abs() <= slack).all()
    assert ((length_of(r2, vr, vu) - 1).abs() <= slack).all()
    assert ((vu * u2).sum(-1) * r2.sinh()).abs().max() <= 64 * eps(r1.dtype)
    # the way there, carried along, is minus the way back
    there = polar.logmap(r1, u1, r2, u2)
    back = polar.logmap(r2, u2, r1, u1)
    carried = polar.transport(r1, u1, r2, u2, *there)
    assert torch.allclose(carried[0], -back[0], atol=1e-6)
    assert torch.allclose(r2.sinh()[:, None] * carried[1], -r2.sinh()[:, None] * back[1], atol=1e-6)


def test_transport__agrees_with_the_ball():
    r1, u1 = random_points(50, 3, 3.0)
    r2, u2 = random_points(50, 3, 3.0, seed=1)
    dr, du = tangents(r1, u1, 1.0, seed=2)
    moved_r, moved_u = polar.transport(r1, u1, r2, u2, dr, du)
    x, y = convert.polar_to_ball(r1, u1), convert.polar_to_ball(r2, u2)
    step = (dr[:, None] * u1 + r1.sinh()[:, None] * du) * ball.conformal_gap(x)[:, None] / 2
    expected = geoopt.PoincareBall(c=torch.tensor(1.0, dtype=torch.float64)).transp(x, y, step)
    found = moved_r[:, None] * u2 + r2.sinh()[:, None] * moved_u
    assert torch.allclose(found * ball.conformal_gap(y)[:, None] / 2, expected, atol=1e-12)


def test_transport__along_a_ray_keeps_the_frame():
    r, u = torch.tensor([1.0, 200.0]).double(), torch.tensor([0.6, 0.8], dtype=torch.float64)
    du = torch.tensor([0.8, -0.6], dtype=torch.float64)
    dr, moved = polar.transport(r[0], u, r[1], u, torch.tensor(3.0).double(), du)
    assert dr == 3
    assert torch.allclose(moved * r[1].sinh(), du * r[0].sinh(), rtol=1e-14)
    start, end = (r[0].clone().requires_grad_() for _ in range(2))
    same = polar.transport(start, u, end, u, torch.tensor(3.0).double(), du)
    assert same[0] == 3
    assert torch.allclose(same[1], du, rtol=1e-14)
    same[1][0].backward()  # of sinh start / sinh end · du
    assert torch.allclose(torch.stack((start.grad, -end.grad)), du[0] / r[0].tanh(), rtol=1e-14)


def test_maps__gradients_are_right():
    r1, u1 = random_points(4, 3, 2.0)
    r2, u2 = random_points(4, 3, 2.0, seed=1)
    dr, du = tangents(r1 + 0.5, u1, 1.0, seed=2)
    points = [t.requires_grad_() for t in (r1 + 0.5, u1, r2 + 0.5, u2)]
    vector = [t.requires_grad_() for t in (dr, du)]
    assert torch.autograd.gradcheck(polar.translate, points)
    assert torch.autograd.gradcheck(polar.logmap, points)
    assert torch.autograd.gradcheck(polar.transport, points + vector)

    def walk(r, dr, du):  # the tangent space only: expmap renormalises what leaves the sphere
        return polar.expmap(r, u, dr, du - (du * u).sum(-1, keepdim=True) * u)

    u = u1.detach()
    assert torch.autograd.gradcheck(walk, [points[0], *vector])


@given(dtypes, st.integers(1, 200), st.integers(0, 2**31))
def test_project__makes_points_valid_and_keeps_valid_ones_to_the_bit(dtype, dim, seed):
    generator = torch.Generator().manual_seed(seed)
    r = torch.randn(50, dtype=dtype, generator=generator) * 100
    u = torch.randn(50, dim, dtype=dtype, generator=generator)
    u[0] = 0
    once_r, once_u = polar.project(r, u)
    assert (once_r >= 0).all()
    assert ((once_u.double().square().sum(-1) - 1).abs() <= 16 * eps(dtype)).all()
    twice_r, twice_u = polar.project(once_r, once_u)
    assert torch.equal(once_r, twice_r)
    assert torch.equal(once_u, twice_u)
    off = once_u * (1 + 100 * eps(dtype))
    back = polar.project(once_r, off)[1]
    assert ((back.double().square().sum(-1) - 1).abs() <= 16 * eps(dtype)).all()
    nudged = once_u.clone()
    nudged[:, 0] *= 1 + 2 * eps(dtype)
    assert torch.equal(polar.project(once_r, nudged)[1], nudged)


# -- Busemann function ----------------------------------------------------------------------------


@given(polar_points(3, 1000.0))
def test_busemann__agrees_with_mpmath_at_any_radius(points):
    r, u = points
    found = polar.busemann(r, u, u[:2])
    for i in range(3):
        for j in range(2):
            exact = geometry_oracle.busemann(r[i].item(), u[i].tolist(), u[j].tolist())
            assert abs(found[i, j].item() - float(exact)) <= 8 * eps(r.dtype) * (1 + r[i].item())


@given(polar_points(2, 100.0, dtype=torch.float64))
def test_busemann__is_the_limit_of_distances_less_the_way_to_the_far_point(points):
    r, u = points
    far = torch.full((2,), 400.0, dtype=torch.float64)  # e^-600 from the limit
    limit = polar.cdist(r, u, far, u) - far
    error = (polar.busemann(r, u, u) - limit).abs()
    assert (error <= 2 * polar_atol(torch.float64, far + r[:, None])).all()


def test_busemann__has_derivatives():
    r, u = random_points(5, 3, 2.0)
    ideal = random_points(4, 3, 2.0, seed=1)[1]
    points = [t.requires_grad_() for t in (r + 0.5, u, ideal)]
    assert torch.autograd.gradcheck(polar.busemann, points)
    on_the_ray = polar.busemann(points[0], points[1], points[1])
    (gradient,) = torch.autograd.grad(on_the_ray.diagonal().sum(), points[0])
    assert torch.equal(gradient, torch.full_like(gradient, -1))


def test_busemann__says_which_shapes_it_takes():
    r, u = random_points(3, 2, 1.0)
    for arguments in [(r[0], u[0], u), (r, u, u[0])]:
        with pytest.raises(ValueError, match=r"ideal points directions \[m, dim\]"):
            polar.busemann(*arguments)
    with pytest.raises(ValueError, match=r"\(3, 2\) and \(3, 1\)"):
        polar.busemann(r, u, u[:, :1])


# -- bad arguments --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.ones(2).int(), torch.ones(2, 3)) * 2, "radii must be .* torch.int32"),
        ((torch.ones(2), torch.ones(2, 3).int()) * 2, "points must be .* torch.int32"),
        ((torch.ones(2), torch.ones(2, 3), torch.ones(2), torch.ones(2, 4)), r"3\) and \(2, 4\)"),
        ((torch.ones(5), torch.ones(2, 3)) * 2, r"got radius \(5,\) and direction \(2, 3\)"),
        ((torch.ones(2), torch.tensor(1.0)) * 2, "need a last dimension"),
    ],
)
@pytest.mark.parametrize(
    "function", [polar.dist, polar.cdist, polar.ancestor_score, polar.translate]
)
def test_polar__refuses_wrong_arguments(function, arguments, message):
    with pytest.raises(ValueError, match=message):
        function(*arguments)


def test_cdist__says_which_shapes_it_takes():
    r, u = random_points(3, 2, 1.0)
    for wrong in ((r[0], u[0]), (r[None], u), (r, u[None])):
        with pytest.raises(ValueError, match=r"radii \[n\], \[m\]"):
            polar.cdist(*wrong, r, u)
