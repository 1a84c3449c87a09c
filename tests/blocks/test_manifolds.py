import copy
import math
import pickle

import geoopt
import pytest
import torch

from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.geometry import ball, convert, polar

MANIFOLDS = {
    "ball": PoincareBall(),
    "ball-c": PoincareBall(c=0.3),
    "polar": Polar(),
}
FLOAT_TYPES = [torch.float32, torch.float64]


@pytest.fixture(params=MANIFOLDS)
def manifold(request):
    return MANIFOLDS[request.param]


@pytest.fixture(params=FLOAT_TYPES, ids=str)
def dtype(request):
    return request.param


def tolerance(dtype):
    """Points below are within radius 3: e^3 eps, and some ten roundings."""
    return 200 * torch.finfo(dtype).eps


def points(manifold, n, dtype, seed=0, radius=2.0):
    generator = torch.Generator().manual_seed(seed)
    v = radius * torch.randn(n, 4, dtype=torch.float64, generator=generator) / 2
    return manifold.from_polar(*(t.to(dtype) for t in polar.expmap0(v)))


def vectors(manifold, x, length=1.0, seed=10):
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(x.shape, dtype=torch.float64, generator=generator).to(x.dtype)
    v = manifold.proju(x, v)
    return v * (length / manifold.norm(x, v, keepdim=True))


# -- geoopt's own checks --------------------------------------------------------------------------


def test_check__accepts_points_and_vectors(manifold, dtype):
    x = points(manifold, 20, dtype)
    v = vectors(manifold, x)
    assert manifold.check_point(x)
    assert manifold.check_point_on_manifold(x, explain=True) == (True, None)
    assert manifold.check_vector(v)
    assert manifold.check_vector_on_tangent(x, v, explain=True) == (True, None)
    manifold.assert_check_point(x)
    manifold.assert_check_point_on_manifold(x)
    manifold.assert_check_vector(v)
    manifold.assert_check_vector_on_tangent(x, v)


def test_check__refuses_what_is_off(manifold, dtype):
    x = points(manifold, 20, dtype)
    x[3] *= 5
    with pytest.raises(ValueError, match=r"exceeds|unit"):
        manifold.assert_check_point_on_manifold(x)
    with pytest.raises(ValueError, match="requires more"):
        manifold.assert_check_point(torch.tensor(1.0, dtype=dtype))


def test_check__polar_names_the_fault():
    manifold = Polar()
    with pytest.raises(ValueError, match=r"negative or nan"):
        manifold.assert_check_point_on_manifold(torch.tensor([-1.0, 0.0, 1.0]))
    with pytest.raises(ValueError, match=r"not unit: .* = 3"):
        manifold.assert_check_point_on_manifold(torch.tensor([1.0, 0.0, 2.0]))
    with pytest.raises(ValueError, match="negative or nan"):
        manifold.assert_check_point_on_manifold(torch.tensor([math.nan, 0.0, 1.0]))
    with pytest.raises(ValueError, match="at least 2 coordinates"):
        manifold.assert_check_point(torch.tensor([1.0]))
    with pytest.raises(ValueError, match=r"du·u = 0\.5"):
        manifold.assert_check_vector_on_tangent(
            torch.tensor([1.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.5])
        )


# -- laws that geoopt tests for every manifold ----------------------------------------------------


def test_projx__lands_on_the_manifold_and_is_idempotent(manifold, dtype):
    x = torch.randn(50, 5, dtype=dtype, generator=torch.Generator().manual_seed(0)) * 3
    once = manifold.projx(x)
    manifold.assert_check_point_on_manifold(once, atol=tolerance(dtype), rtol=0)
    assert torch.equal(manifold.projx(once), once)


def test_proju__lands_on_the_tangent_space_and_is_idempotent(manifold, dtype):
    x = points(manifold, 50, dtype)
    v = torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    once = manifold.proju(x, v)
    manifold.assert_check_vector_on_tangent(x, once, atol=tolerance(dtype), rtol=0)
    assert torch.allclose(manifold.proju(x, once), once, atol=tolerance(dtype))


def test_egrad2rgrad__represents_the_differential(manifold, dtype):
    x = points(manifold, 50, dtype)
    gradient = torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    v = vectors(manifold, x)
    riemannian = manifold.egrad2rgrad(x, gradient)
    manifold.assert_check_vector_on_tangent(x, riemannian, atol=tolerance(dtype), rtol=1e-5)
    found = manifold.inner(x, riemannian, v)
    expected = (gradient * v).sum(-1)
    scale = gradient.norm(dim=-1) * v.norm(dim=-1)
    assert ((found - expected).abs() <= tolerance(dtype) * scale).all()


def test_inner__is_a_scalar_product(manifold, dtype):
    x = points(manifold, 50, dtype)
    v, w = vectors(manifold, x), vectors(manifold, x, seed=11)
    assert torch.equal(manifold.inner(x, v, w), manifold.inner(x, w, v))
    assert torch.allclose(manifold.inner(x, v), torch.ones(50, dtype=dtype))
    assert torch.allclose(manifold.inner(x, v), manifold.norm(x, v) ** 2)
    both = manifold.inner(x, 2 * v + w, w)
    assert torch.allclose(both, 2 * manifold.inner(x, v, w) + 1, atol=tolerance(dtype))
    assert manifold.inner(x, v, keepdim=True).shape == (50, 1)
    assert manifold.norm(x, v, keepdim=True).shape == (50, 1)


@pytest.mark.parametrize("length", [1e-3, 0.5, 3.0])
def test_expmap__goes_as_far_as_the_vector_is_long(manifold, dtype, length):
    x = points(manifold, 50, dtype)
    y = manifold.expmap(x, vectors(manifold, x, length))
    manifold.assert_check_point_on_manifold(y, atol=tolerance(dtype), rtol=0)
    slack = tolerance(dtype) * math.exp(length)
    assert torch.allclose(manifold.dist(x, y), torch.tensor(length, dtype=dtype), atol=slack)


def test_retr__agrees_with_expmap_to_first_order():
    for manifold in MANIFOLDS.values():
        x = points(manifold, 50, torch.float64)
        v = vectors(manifold, x)
        apart = [
            manifold.dist(manifold.retr(x, t * v), manifold.expmap(x, t * v)).max().item()
            for t in (1e-2, 1e-3)
        ]
        assert apart[1] < apart[0] / 80  # quadratic: 100
        manifold.assert_check_point_on_manifold(manifold.retr(x, 2 * v), atol=1e-12, rtol=0)


def test_logmap__is_inverted_by_expmap(manifold, dtype):
    x, y = points(manifold, 50, dtype), points(manifold, 50, dtype, seed=1)
    v = manifold.logmap(x, y)
    d = manifold.dist(x, y)
    scale = torch.exp(d)
    assert ((manifold.norm(x, v) - d).abs() <= tolerance(dtype) * scale).all()
    assert (manifold.dist(manifold.expmap(x, v), y) <= tolerance(dtype) * scale).all()
    assert torch.equal(manifold.dist2(x, y), d**2)
    assert manifold.dist(x, y, keepdim=True).shape == (50, 1)


def test_transp__keeps_scalar_products(manifold, dtype):
    x, y = points(manifold, 50, dtype), points(manifold, 50, dtype, seed=1)
    v, w = vectors(manifold, x), vectors(manifold, x, seed=11)
    moved_v, moved_w = manifold.transp(x, y, v), manifold.transp(x, y, w)
    manifold.assert_check_vector_on_tangent(y, moved_v, atol=tolerance(dtype), rtol=1e-5)
    change = manifold.inner(y, moved_v, moved_w) - manifold.inner(x, v, w)
    assert (change.abs() <= 4 * tolerance(dtype)).all()


def test_transp__follows_the_maps(manifold, dtype):
    x = points(manifold, 50, dtype)
    v, w = vectors(manifold, x, 0.5), vectors(manifold, x, seed=11)
    for walk, walk_transp, follow in (
        (manifold.retr, manifold.retr_transp, manifold.transp_follow_retr),
        (manifold.expmap, manifold.expmap_transp, manifold.transp_follow_expmap),
    ):
        y = walk(x, v)
        expected = manifold.transp(x, y, w)
        end, carried = walk_transp(x, v, w)
        assert torch.equal(end, y)
        assert torch.equal(carried, expected)
        assert torch.equal(follow(x, v, w), expected)


def test_methods__broadcast(manifold):
    x, y = points(manifold, 3, torch.float64)[:, None], points(manifold, 4, torch.float64, seed=1)
    v = vectors(manifold, x)
    assert manifold.dist(x, y).shape == (3, 4)
    assert manifold.logmap(x, y).shape == (3, 4, x.shape[-1])
    assert manifold.transp(x, y, v).shape == (3, 4, x.shape[-1])
    assert torch.allclose(manifold.cdist(x[:, 0], y), manifold.dist(x, y))
    score = manifold.ancestor_score(x, y)
    assert torch.allclose(score, manifold.dist(x, y) + manifold.dist0(y) - manifold.dist0(x))


def test_random_and_origin__are_points_of_the_manifold(manifold, dtype):
    x = manifold.random(100, 5, dtype=dtype, std=2.0)
    assert x.manifold is manifold
    assert x.dtype == dtype
    manifold.assert_check_point_on_manifold(x)
    origin = manifold.origin(4, 5, dtype=dtype)
    manifold.assert_check_point_on_manifold(origin)
    assert (manifold.dist0(origin) == 0).all()
    distance = manifold.dist(origin[:1], x)
    assert torch.allclose(distance, manifold.dist0(x), rtol=1e-4)


def test_to_polar__is_inverted_by_from_polar(manifold, dtype):
    x = points(manifold, 50, dtype)
    assert torch.allclose(manifold.from_polar(*manifold.to_polar(x)), x, atol=tolerance(dtype))


def test_manifold__survives_copy_and_pickle(manifold):
    for other in (copy.deepcopy(manifold), pickle.loads(pickle.dumps(manifold))):
        x, y = points(manifold, 5, torch.float64), points(manifold, 5, torch.float64, seed=1)
        assert torch.equal(other.dist(x, y), manifold.dist(x, y))
        assert repr(other) == repr(manifold)


# -- the frame ------------------------------------------------------------------------------------


def test_frame__lengths_are_hyperbolic(manifold, dtype):
    x = points(manifold, 50, dtype)
    gradient = torch.randn(x.shape, dtype=dtype, generator=torch.Generator().manual_seed(1))
    frame = manifold.frame_gradient(x, gradient)
    riemannian = manifold.egrad2rgrad(x, gradient)
    assert torch.allclose(frame.norm(dim=-1), manifold.norm(x, riemannian), rtol=1e-5)
    step = 1e-3 * frame / frame.norm(dim=-1, keepdim=True)
    moved = manifold.dist(x, manifold.frame_walk(x, step, frame)[0])
    # the walk is right to first order: relative error 1e-3, and the rounding of the points
    assert torch.allclose(moved, torch.full_like(moved, 1e-3), rtol=5e-3, atol=tolerance(dtype))
    parts = manifold.frame_parts(frame)
    assert torch.equal(torch.cat(parts, dim=-1), frame)


def in_frame(manifold, x, v):
    """A tangent vector in the orthonormal frame: what turns an inner product into a dot product."""
    return manifold.frame_gradient(x, metric(manifold, x, v))


def metric(manifold, x, v):
    """Lower the index: the differential whose Riemannian gradient is v."""
    if isinstance(manifold, PoincareBall):
        return manifold.lambda_x(x, keepdim=True) ** 2 * v
    return torch.cat((v[..., :1], x[..., :1].sinh() ** 2 * v[..., 1:]), dim=-1)


@pytest.mark.parametrize("radius", [0.05, 2.0])
def test_frame_walk__carries_vectors_by_parallel_transport(manifold, radius):
    x = points(manifold, 50, torch.float64, radius=radius)
    v, w = vectors(manifold, x), vectors(manifold, x, seed=11)
    frame_v, frame_w = in_frame(manifold, x, v), in_frame(manifold, x, w)
    apart = []
    for t in (1e-2, 1e-3):
        y, carried = manifold.frame_walk(x, t * frame_v, frame_w)
        assert torch.equal(y, manifold.retr(x, t * v)) or torch.allclose(y, manifold.retr(x, t * v))
        assert torch.allclose(carried.norm(dim=-1), frame_w.norm(dim=-1))
        expected = in_frame(manifold, y, manifold.transp(x, y, w))
        apart.append((carried - expected).abs().max().item())
    # the walk is not the geodesic: what they enclose turns the vector by its area
    assert apart[0] < 1e-4
    assert apart[1] < apart[0] / 80 or apart[1] < 1e-13


def test_frame_walk__of_polar_carries_vectors_through_the_origin():
    manifold = Polar()
    x = torch.tensor([[0.1, 0.0, 1.0]], dtype=torch.float64)
    vector = torch.tensor([[1.0, 2.0, 0.0]], dtype=torch.float64)
    step = torch.tensor([[-0.3, 0.0, 0.0]], dtype=torch.float64)
    y, carried = manifold.frame_walk(x, step, vector)
    assert torch.allclose(y, torch.tensor([[0.2, 0.0, -1.0]], dtype=torch.float64))
    # outwards is now the other way; sideways is as it was
    assert carried.tolist() == [[-1.0, 2.0, 0.0]]


def test_polar__component_inner_has_one_value_per_part():
    manifold = Polar()
    x = points(manifold, 5, torch.float64)
    v = vectors(manifold, x)
    parts = manifold.component_inner(x, v)
    assert parts.shape == x.shape
    assert torch.equal(parts[:, 0], v[:, 0] ** 2)
    assert (parts[:, 1:] == parts[:, 1:2]).all()
    assert torch.allclose(parts[:, 0] + parts[:, 1], manifold.inner(x, v))


@pytest.mark.parametrize("radius", [50.0, 100.0, 300.0])
def test_polar__steps_at_large_radius_keep_fine_structure(radius):
    manifold = Polar()
    fine = math.exp(-radius)
    nearly_one = 1 + 4 * torch.finfo(torch.float64).eps  # |u|² is 8 eps off: a stored direction
    x = [[radius, nearly_one, fine, 0.0], [radius, nearly_one, 3 * fine, 0.0]]
    x = torch.tensor(x, dtype=torch.float64)
    step = torch.tensor([[0.5, 0.0, 0.0, 0.25]], dtype=torch.float64)
    moved, carried = manifold.frame_walk(x, step.expand(2, 4), step.expand(2, 4))
    assert torch.equal(moved[:, 1:3], x[:, 1:3])
    assert moved[:, 0].tolist() == [radius + 0.5] * 2
    assert torch.allclose(moved[:, 3], torch.tensor(0.5 * fine, dtype=torch.float64), rtol=1e-12)
    # 0.25 sideways at large radius turns the frame by 0.25
    cos, sin = math.cos(0.25), math.sin(0.25)
    expected = [0.5 * cos + 0.25 * sin, 0.0, 0.0, 0.25 * cos - 0.5 * sin]
    assert torch.allclose(carried, torch.tensor(expected, dtype=torch.float64), atol=1e-15)


def test_polar__a_step_past_the_origin_comes_out_on_the_other_side():
    x = torch.tensor([[0.1, 0.0, 1.0]], dtype=torch.float64)
    moved = Polar().retr(x, torch.tensor([[-0.3, 0.0, 0.0]], dtype=torch.float64))
    assert torch.allclose(moved, torch.tensor([[0.2, 0.0, -1.0]], dtype=torch.float64))


def test_polar__gradients_at_the_origin_are_radial():
    manifold = Polar()
    x = manifold.origin(1, 3, dtype=torch.float64)
    gradient = torch.tensor([[2.0, 3.0, 4.0]], dtype=torch.float64)
    for convert_gradient in (manifold.egrad2rgrad, manifold.frame_gradient):
        assert convert_gradient(x, gradient).tolist() == [[2.0, 0.0, 0.0]]
    moved, _ = manifold.frame_walk(x, torch.ones_like(x), torch.ones_like(x))
    assert torch.equal(moved[:, 1:], x[:, 1:])


# -- the ball's own promises ----------------------------------------------------------------------


def test_ball__curvature_is_exact_in_every_dtype():
    manifold = PoincareBall(c=1.0)
    assert manifold.c == 1
    assert manifold.double().c == 1
    assert manifold.float().c == 1
    assert PoincareBall(c=0.1).float().c.item() == 0.1
    assert geoopt.PoincareBall(c=1.0).double().c != 1  # why
    assert not list(manifold.parameters())
    with pytest.raises(ValueError, match="c must be positive"):
        PoincareBall(c=-1.0)


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_ball__every_method_projects_at_our_rim(dtype):
    manifold = PoincareBall()
    limit = ball.max_norm(dtype)
    x = torch.tensor([limit * (1 - 1e-6 if dtype == torch.float32 else 1), 0.0], dtype=dtype)
    x = ball.project(x)
    y = torch.tensor([1e-3, 0.0], dtype=dtype)
    far = torch.tensor([50.0, 0.0], dtype=dtype)
    two = torch.tensor(2.0, dtype=dtype)
    for result in (
        manifold.mobius_sub(x, -y),
        manifold.mobius_add(x, y),
        manifold.mobius_coadd(x, y),
        manifold.mobius_cosub(x, -y),
        manifold.mobius_scalar_mul(two * 20, x / 2),
        manifold.mobius_matvec(torch.eye(2, dtype=dtype) * 50, x / 2),
        manifold.mobius_pointwise_mul(far, x / 2),
        manifold.mobius_fn_apply(lambda v: v * 50, x / 2),
        manifold.geodesic_unit(two * 20, y, far),
        manifold.expmap(y, far),
        manifold.expmap0(far),
        manifold.retr(y, far),
        manifold.projx(far),
    ):
        norm = result.norm(dim=-1)
        assert norm <= limit
        # geoopt's own rim is at 1 - 4e-3 and 1 - 1e-5; 16.8 is where its artanh ends
        assert ball.dist0(result) > (6.3 if dtype == torch.float32 else 12.3)


def test_ball__exponential_maps_are_those_that_geoopt_calls_and_never_unprojected():
    manifold = PoincareBall()
    x, y = points(manifold, 7, torch.float64), points(manifold, 7, torch.float64, seed=1)
    u, v = manifold.logmap(x, y), manifold.logmap(x, y).flip(0)
    moved, carried = manifold.expmap_transp(x, u, v)  # geoopt's, which passes project
    assert torch.equal(moved, manifold.expmap(x, u))
    assert torch.equal(carried, manifold.transp(x, moved, v))
    assert torch.equal(manifold.transp_follow_expmap(x, u, v), carried)
    with pytest.raises(ValueError, match=r"project=False: .* leave project out"):
        manifold.expmap(x, u, project=False)
    with pytest.raises(ValueError, match="project=False"):
        manifold.expmap0(u, project=False)


def test_ball__takes_another_dimension_than_the_last():
    manifold = PoincareBall()
    x, y = points(manifold, 7, torch.float64), points(manifold, 7, torch.float64, seed=1)
    assert torch.equal(manifold.dist(x.T, y.T, dim=0), manifold.dist(x, y))
    assert torch.equal(manifold.dist(x.T, y.T, dim=0, keepdim=True)[0], manifold.dist(x, y))
    assert torch.equal(manifold.projx(3 * x.T, dim=0), manifold.projx(3 * x).T)
    assert torch.equal(manifold.logmap(x.T, y.T, dim=0), manifold.logmap(x, y).T)
    assert torch.equal(manifold.dist0(x.T, dim=0, keepdim=True)[0], manifold.dist0(x))


def test_ball__agrees_with_geoopt_where_geoopt_is_right():
    ours = PoincareBall(c=0.7)
    theirs = geoopt.PoincareBall(c=torch.tensor(0.7, dtype=torch.float64))
    x, y = points(ours, 20, torch.float64), points(ours, 20, torch.float64, seed=1)
    v = vectors(ours, x)
    for name, arguments in {
        "dist": (x, y), "dist0": (x,), "expmap": (x, v), "logmap": (x, y), "transp": (x, y, v),
        "egrad2rgrad": (x, v), "mobius_add": (x, y), "lambda_x": (x,),
        "expmap0": (v,), "logmap0": (x,), "norm": (x, v), "mobius_scalar_mul": (x[0, 0], y),
    }.items():  # fmt: skip
        found, expected = getattr(ours, name)(*arguments), getattr(theirs, name)(*arguments)
        assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9), name
    together = torch.stack((x, y))
    assert torch.allclose(ours.weighted_midpoint(together), theirs.weighted_midpoint(together))


# -- geoopt's optimizers --------------------------------------------------------------------------


def optimizers(points):
    yield geoopt.optim.RiemannianSGD([points], lr=0.1)
    yield geoopt.optim.RiemannianSGD([points], lr=0.03, momentum=0.5, stabilize=10)
    yield geoopt.optim.RiemannianAdam([points], lr=0.1, betas=(0.5, 0.5), stabilize=10)


@pytest.mark.parametrize("which", [0, 1, 2])
def test_optimizers__bring_points_to_their_targets(manifold, dtype, which):
    targets = points(manifold, 20, dtype, seed=1)
    x = geoopt.ManifoldParameter(points(manifold, 20, dtype), manifold=manifold)
    optimizer = list(optimizers(x))[which]
    for step in range(300):
        if step % 60 == 59:
            optimizer.param_groups[0]["lr"] /= 2
        optimizer.zero_grad()
        manifold.dist2(x, targets).sum().backward()
        optimizer.step()
    manifold.assert_check_point_on_manifold(x.detach(), atol=tolerance(dtype), rtol=0)
    assert manifold.dist(x, targets).max() < 1e-2


@pytest.mark.parametrize("dtype", FLOAT_TYPES)
def test_optimizers__push_the_ball_out_to_our_rim_and_no_further(dtype):
    manifold = PoincareBall()
    for which in (0, 2):
        x = geoopt.ManifoldParameter(torch.tensor([[0.1, 0.2]], dtype=dtype), manifold=manifold)
        optimizer = list(optimizers(x))[which]
        for _ in range(450):
            optimizer.zero_grad()
            (-manifold.dist0(x)).sum().backward()
            optimizer.step()
        assert manifold.dist0(x).item() == pytest.approx(ball.max_radius(dtype), rel=1e-2)
        assert x.norm() <= ball.max_norm(dtype)


def test_optimizers__push_polar_points_out_without_end():
    x = geoopt.ManifoldParameter(
        torch.tensor([[0.1, 0.6, 0.8]], dtype=torch.float64), manifold=Polar()
    )
    optimizer = geoopt.optim.RiemannianAdam([x], lr=0.5)
    for _ in range(200):
        optimizer.zero_grad()
        (-x[:, 0]).sum().backward()
        optimizer.step()
    assert x[0, 0].item() == pytest.approx(100.1, rel=1e-6)
    assert x[0, 1:].tolist() == [0.6, 0.8]


def test_manifolds__share_one_distance():
    r, u = Polar().to_polar(points(Polar(), 20, torch.float64))
    d = polar.cdist(r, u, r, u)
    for manifold in MANIFOLDS.values():
        x = manifold.from_polar(r, u)
        scale = math.sqrt(manifold.c.item()) if isinstance(manifold, PoincareBall) else 1.0
        assert torch.allclose(scale * manifold.cdist(x, x), d, atol=1e-12)
        back = convert.ball_to_polar(x, c=scale**2) if x.shape[1] == 4 else manifold.to_polar(x)
        assert torch.allclose(back[0], r)
