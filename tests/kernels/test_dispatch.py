"""Kernels and plain torch give the same distances and derivatives, whichever a call goes to."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import mutually_broadcastable_shapes
from support.kernels import check_values, points, value_atol
from torch.autograd import forward_ad

import poincare_taxa as pt
from poincare_taxa import kernels
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.kernels import dispatch

MANIFOLD = {"ball": PoincareBall(), "polar": Polar()}


def geometry(x, y, manifold, c=1.0):
    """The definition."""
    if manifold == "ball":
        return pt.ball.dist(x, y, c=c)
    return pt.polar.dist(x[..., 0], x[..., 1:], y[..., 0], y[..., 1:])


def near(n, manifold, seed=0, dim=3):
    """Points whose second derivatives are no larger than a few hundred: radii from 0.2 to 2."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.nn.functional.normalize(torch.randn(n, dim, generator=generator).double(), dim=1)
    r = 0.2 + 1.8 * torch.rand(n, 1, generator=generator).double()
    return torch.cat((r, u), 1) if manifold == "polar" else torch.tanh(r / 2) * u


def weights(d):
    return torch.linspace(1, 2, d.numel(), dtype=d.dtype).view(d.shape)


def derivatives(function, *inputs):
    """Value, gradients, and gradients of a penalty of these, through distances in a curve."""
    value = function(*inputs)
    first = torch.autograd.grad(value, inputs, weights(value))
    value = function(*inputs)
    slopes = torch.autograd.grad(value.square(), inputs, weights(value), create_graph=True)
    assert all(slope.requires_grad for slope in slopes)
    dense = [slope.to_dense() for slope in slopes]
    second = torch.autograd.grad(dense, inputs, [weights(slope) for slope in dense])
    return [t.detach().to_dense() for t in (value, *first, *slopes, *second)]


def check_derivatives(function, reference, *inputs):
    inputs = [x.detach().requires_grad_() for x in inputs]
    for mine, theirs in zip(
        derivatives(function, *inputs), derivatives(reference, *inputs), strict=True
    ):
        # sums of up to 48 terms of both signs, each with a dozen roundings
        limit = 48 * 32 * torch.finfo(mine.dtype).eps * theirs.abs().max()
        assert (mine - theirs).abs().max() <= limit


# ----------------------------------------------------------- second derivatives of every kernel


@pytest.mark.parametrize(
    "shapes",
    [((7,), (7,)), ((6, 1), (8,)), ((8,), (6, 1)), ((4, 1), (4, 12)), ((), (9,)), ((3, 2), (2,))],
    ids=str,
)
def test_dist__has_two_derivatives_of_any_shapes_that_broadcast(backend, manifold, shapes):
    x, y = (near(math.prod(s), manifold, seed=k).view(*s, -1) for k, s in enumerate(shapes))
    check_derivatives(
        lambda x, y: kernels.dist(x, y, manifold=manifold, backend=backend),
        lambda x, y: geometry(x, y, manifold),
        x,
        y,
    )


def test_cdist__has_two_derivatives(backend, manifold):
    x, y = near(6, manifold), near(8, manifold, seed=1)
    check_derivatives(
        lambda x, y: kernels.cdist(x, y, manifold=manifold, backend=backend),
        lambda x, y: geometry(x[:, None], y, manifold),
        x,
        y,
    )


@pytest.mark.parametrize("sparse", [False, True])
def test_pair_distance__has_two_derivatives(backend, manifold, sparse):
    i, j = torch.randint(4, (2, 4, 6), generator=torch.Generator().manual_seed(1))
    j = j + 4  # coincident points have no second derivative
    settings = {"manifold": manifold, "sparse": sparse, "backend": backend}
    check_derivatives(
        lambda table: kernels.pair_distance(table, i, j[:1], **settings),
        lambda table: geometry(table[i], table[j[:1]], manifold),
        near(9, manifold),
    )


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("loss", ["softmax", "margin"])
def test_ranking_loss__has_two_derivatives(backend, manifold, loss, shared):
    anchor, positive = torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])
    nodes = torch.tensor([6, 7, 8, 9]) if shared else torch.tensor([[6, 7], [8, 9], [7, 8]])

    def plain(table):
        d_pos = geometry(table[anchor], table[positive], manifold)[:, None]
        d_neg = geometry(table[anchor][:, None], table[nodes], manifold)
        if loss == "margin":
            return (d_pos - d_neg + 0.25).clamp(min=0).mean(1)
        return torch.log1p(torch.exp(d_pos - d_neg).sum(1))

    settings = {"loss": loss, "manifold": manifold, "backend": backend}
    if loss == "margin":
        settings["margin"] = 0.25
    check_derivatives(
        lambda table: kernels.ranking_loss(table, anchor, positive, nodes, **settings),
        plain,
        near(10, manifold),
    )


def test_gradgradcheck(backend, manifold):
    x, y = near(3, manifold).requires_grad_(), near(3, manifold, seed=1).requires_grad_()
    for function in (kernels.dist, kernels.cdist):
        assert torch.autograd.gradgradcheck(
            lambda x, y, f=function: f(x, y, manifold=manifold, backend=backend), (x, y)
        )


def test_gradient__of_points_that_depend_on_each_other_counts_each_path_once(backend, manifold):
    def twice(function):
        x = near(5, manifold).requires_grad_()
        y = x.flip(0)
        d = function(x, y)
        return torch.autograd.grad(d.square().sum(), x, create_graph=True)[0]

    found = twice(lambda x, y: kernels.dist(x, y, manifold=manifold, backend=backend))
    assert torch.allclose(found, twice(lambda x, y: geometry(x, y, manifold)), rtol=1e-12)


# --------------------------------------------------------------- where torch follows operations


CALLS = {
    "dist": lambda x, y, manifold: pt.dist(x, y, manifold=manifold),
    "cdist": lambda x, y, manifold: pt.cdist(x, y, manifold=manifold),
    "manifold": lambda x, y, manifold: MANIFOLD[manifold].dist(x[:, None], y),
}
PLAIN = {
    "dist": geometry,
    "cdist": lambda x, y, manifold: geometry(x[:, None], y, manifold),
    "manifold": lambda x, y, manifold: geometry(x[:, None], y, manifold),
}


def tangent_of(function, x):
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(function(forward_ad.make_dual(x, torch.ones_like(x)))).tangent


TRANSFORMS = {
    "vmap": lambda f, x: torch.vmap(f)(torch.stack((x, x.flip(0)))),
    "grad": lambda f, x: torch.func.grad(lambda x: (f(x) * weights(f(x))).sum())(x),
    "jvp": lambda f, x: torch.func.jvp(f, (x,), (torch.ones_like(x),))[1],
    "hessian": lambda f, x: torch.func.hessian(lambda x: f(x).square().sum())(x),
    "batched gradients": lambda f, x: torch.autograd.functional.jacobian(f, x, vectorize=True),
    "hessian by autograd": lambda f, x: torch.autograd.functional.hessian(lambda x: f(x).sum(), x),
    "dual numbers": tangent_of,
}


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("call", CALLS)
def test_transforms__of_torch_see_torch_operations(monkeypatch, manifold, call, transform):
    monkeypatch.setattr(dispatch, "_FEWEST", 1)
    x, y = near(4, manifold), near(4, manifold, seed=1)
    found = TRANSFORMS[transform](lambda x: CALLS[call](x, y, manifold), x)
    expected = TRANSFORMS[transform](lambda x: PLAIN[call](x, y, manifold), x)
    assert torch.allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # by torch
@pytest.mark.parametrize("call", CALLS)
def test_compile__makes_one_graph(monkeypatch, manifold, call):
    monkeypatch.setattr(dispatch, "_FEWEST", 1)
    torch._dynamo.reset()
    x, y = near(4, manifold).requires_grad_(), near(4, manifold, seed=1)

    def function(x, y):
        return CALLS[call](x, y, manifold)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    found, expected = compiled(x, y), PLAIN[call](x, y, manifold)
    assert torch.allclose(found, expected, rtol=1e-12)
    mine, theirs = (torch.autograd.grad(d.sum(), x)[0] for d in (found, expected))
    assert torch.allclose(mine, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("call", CALLS)
def test_tensors__without_numbers_have_distances_without_numbers(manifold, call):
    from torch._subclasses.fake_tensor import FakeTensorMode

    x, y = near(40, manifold), near(40, manifold, seed=1)
    shape = CALLS[call](x, y, manifold).shape
    assert CALLS[call](x.to("meta"), y.to("meta"), manifold).shape == shape
    with FakeTensorMode() as mode:
        fake = CALLS[call](mode.from_tensor(x), mode.from_tensor(y), manifold)
    assert fake.shape == shape


def test_autocast__raises_half_precision_to_float32(manifold):
    x, y = (near(40, manifold, seed=s).bfloat16() for s in (0, 1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = pt.dist(x, y, manifold=manifold)
    assert torch.equal(found, pt.dist(x.float(), y.float(), manifold=manifold))
    with pytest.raises(ValueError, match=r"torch\.bfloat16\. Use"):
        pt.dist(x, y, manifold=manifold)


def test_curvature__that_is_a_tensor_gets_its_gradient(backend):
    x, y = near(40, "ball"), near(40, "ball", seed=1)
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    for function in (pt.dist, pt.cdist):
        assert torch.autograd.gradcheck(lambda c, f=function: f(x, y, c=c), c)
        assert torch.equal(function(x, y, c=c.detach()), function(x, y, c=0.7))
    if backend != "torch":
        with pytest.raises(ValueError, match="the curvature needs a gradient"):
            pt.dist(x, y, c=c, backend=backend)
    with pytest.raises(ValueError, match="c must be positive"):
        pt.dist(x, y, c=-c)
    with pytest.raises(ValueError, match="one number"):
        pt.dist(x, y, c=c.expand(3))


# ------------------------------------------------------------------------------------- the rule


def test_small_calls__are_plain_torch_and_large_ones_a_kernel(monkeypatch, manifold):
    pytest.importorskip("numba")
    taken = []
    monkeypatch.setattr(dispatch, "choose", lambda backend, device: taken.append(backend))
    x = near(dispatch._FEWEST, manifold)
    pt.dist(x[1:], x[1:], manifold=manifold)
    assert taken == []
    pt.dist(x, x, manifold=manifold)
    MANIFOLD[manifold].dist(x[:1], x)
    MANIFOLD[manifold].cdist(x[:8], x[:8])
    assert taken == ["auto"] * 3


def test_points__of_mixed_dtypes_are_promoted_as_by_geometry():
    x, y = near(40, "ball"), near(40, "ball", seed=1).float()
    assert torch.equal(pt.dist(x, y), pt.ball.dist(x, y))


@pytest.mark.parametrize("n", [2, 40])
@pytest.mark.parametrize("function", [pt.dist, pt.ball.dist])
def test_errors__are_those_of_geometry_at_any_size(function, n):
    x = torch.zeros(n, 3)
    with pytest.raises(ValueError, match=rf"\({n}, 3\) and \({n}, 4\)"):
        function(x, torch.zeros(n, 4))
    with pytest.raises(ValueError, match="last dimension"):
        function(torch.tensor(1.0), x)
    with pytest.raises(ValueError, match=r"got Tensor of torch\.int64"):
        function(x, x.long())
    with pytest.raises(ValueError, match="c must be positive"):
        function(x, x, c=0.0)
    with pytest.raises(RuntimeError, match="must match the size of tensor b"):
        function(x, torch.zeros(n + 1, 3))


# ------------------------------------------------------------------------------------- laws


@given(st.data())
def test_dist__of_any_shapes_is_that_of_geometry(data):
    manifold = data.draw(st.sampled_from(["ball", "polar"]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64]))
    shapes = data.draw(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=5))
    sides = [
        points(math.prod(shape), manifold, dtype, dim=3, seed=seed).view(*shape, -1)
        for seed, shape in enumerate(shapes.input_shapes)
    ]
    found = pt.dist(*sides, manifold=manifold, backend="numba")
    expected = geometry(*(x.double() for x in sides), manifold)
    check_values(found, expected, manifold, dtype)


@given(st.integers(0, 2**31))
def test_dist__is_a_metric(seed):
    for manifold in ("ball", "polar"):
        for dtype in (torch.float32, torch.float64):
            x, y, z = (points(40, manifold, dtype, seed=seed + k) for k in range(3))
            y[::4] = x[::4]
            xy, yx, yz, xz = (
                pt.dist(*pair, manifold=manifold) for pair in ((x, y), (y, x), (y, z), (x, z))
            )
            assert (pt.dist(x, x, manifold=manifold) == 0).all()
            assert torch.equal(xy, yx)
            slack = sum(value_atol(manifold, dtype, d.double()) for d in (xy, yz, xz))
            assert (xz.double() <= xy.double() + yz.double() + slack).all()


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # Triton's interpreter
@pytest.mark.parametrize("c", [1.0, 0.3])
def test_dist__at_the_rim_and_of_no_numbers_is_that_of_geometry(backend, dtype, c):
    """Up to the first number beyond the rim; nan and inf."""
    eps = torch.finfo(dtype).eps
    odd = [0.0, 0.5, 1 - 1e-3, 1 - eps, 1 - eps / 2, 1.0, 1 + eps, math.inf, math.nan]
    norm = torch.tensor(odd, dtype=dtype) / c**0.5
    x = torch.zeros(len(odd), 3, dtype=dtype)
    x[:, 0] = norm
    turned = x.roll(1, dims=1)
    for first, second in ((x[:, None], turned), (x[:, None], x), (x[:, None], -x)):
        found = kernels.dist(first, second, c=c, backend=backend)
        every = kernels.dist(*torch.broadcast_tensors(first, second), c=c, backend=backend)
        expected = pt.ball.dist(first, second, c=c)
        for mine in (found, every):
            assert torch.equal(mine.isnan(), expected.isnan())
            # the gap of a rim point is one eps, and its rounding as large: a factor 2, log 2
            assert (mine - expected).nan_to_num().abs().max() <= 4 * math.log(2) / c**0.5
            inside = (norm * c**0.5 < 0.99).outer(norm * c**0.5 < 0.99)
            assert torch.allclose(mine[inside], expected[inside], rtol=64 * eps, atol=64 * eps)
