"""Second derivatives where a norm is 0: at the origin, and where points coincide."""

import pytest
import torch

from poincare_taxa import kernels
from poincare_taxa.geometry import ball, convert, lorentz, numerics, polar
from poincare_taxa.geometry.derivatives import by_rule


def in_ball(n, seed):
    generator = torch.Generator().manual_seed(seed)
    return 0.3 * (2 * torch.rand(n, 3, generator=generator).double() - 1)


def radius_first(x):
    r, u = convert.ball_to_polar(x)
    return torch.cat((r[:, None], u), 1)


DISTANCES = {
    "ball": (lambda x: x, ball.dist),
    "ball, all pairs": (lambda x: x, lambda x, y: ball.cdist(x, y).diagonal()),
    "ball, kernel": (lambda x: x, lambda x, y: kernels.dist(x, y, backend="numba")),
    "lorentz": (convert.ball_to_lorentz, lorentz.dist),
    "polar": (
        radius_first,
        lambda x, y: polar.dist(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:]),
    ),
    "polar, all pairs": (
        radius_first,
        lambda x, y: polar.cdist(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:]).diagonal(),
    ),
    "polar, kernel": (
        radius_first,
        lambda x, y: kernels.dist(x, y, manifold="polar", backend="numba"),
    ),
}


def penalty_gradient(distance, x, y):
    """Gradient of the squared gradient of distances: what a gradient penalty needs."""
    x, y = x.clone().requires_grad_(), y.clone().requires_grad_()
    slopes = torch.autograd.grad(distance(x, y).sum(), (x, y), create_graph=True)
    return torch.autograd.grad(sum(slope.square().sum() for slope in slopes), (x, y))


@pytest.mark.parametrize("name", DISTANCES)
def test_distance__of_coincident_points_adds_nothing_to_second_derivatives(name):
    made, distance = DISTANCES[name]
    x, y = made(in_ball(5, 0)), made(in_ball(5, 1))
    expected = penalty_gradient(distance, x[1:], y[1:])
    y[0] = x[0]
    for mine, theirs in zip(penalty_gradient(distance, x, y), expected, strict=True):
        assert torch.equal(mine[0], torch.zeros_like(mine[0]))
        assert torch.allclose(mine[1:], theirs, rtol=1e-12, atol=0)


SMOOTH = {
    "dist": ball.dist,
    "cdist": ball.cdist,
    "mobius_add": ball.mobius_add,
    "expmap": lambda x, y: ball.expmap(x, y),
    "logmap": ball.logmap,
    "conformal_gap": lambda x, y: ball.conformal_gap(x) * ball.conformal_gap(y),
    "maps of the origin": lambda x, y: ball.logmap0(x + y) + ball.expmap0(x),
    "ball_to_lorentz": lambda x, y: convert.ball_to_lorentz(x) * y.sum(),
    "kernel": lambda x, y: kernels.dist(x, y, backend="numba"),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_ball__has_the_right_two_derivatives_at_the_origin(name):
    x, y = in_ball(3, 2), in_ball(3, 3)
    x[0] = 0
    inputs = x.requires_grad_(), y.requires_grad_()
    assert torch.autograd.gradcheck(SMOOTH[name], inputs)
    assert torch.autograd.gradgradcheck(SMOOTH[name], inputs)


MAPS = {
    "ball.expmap0": ball.expmap0,
    "ball.logmap0": ball.logmap0,
    "lorentz.expmap0": lambda v: lorentz.expmap0(v)[1:],
    "lorentz.logmap0": lambda v: lorentz.logmap0(torch.cat((torch.ones_like(v[:1]), v))),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", MAPS)
def test_maps_of_the_origin__have_small_second_derivatives_at_any_distance_near_it(name, dtype):
    """They are odd and analytic: second derivatives go to 0 with the distance."""
    v = torch.tensor([0.6, -0.8, 0.3], dtype=dtype)
    eps = torch.finfo(dtype).eps
    for power in torch.linspace(0.3, 3, 10).tolist():
        for k in range(3):
            second = torch.autograd.functional.hessian(
                lambda x, k=k: MAPS[name](x)[k], eps**power * v
            )
            assert second.abs().max() <= 8 * eps ** min(power, 0.5)


def test_conformal_gap__has_the_derivative_of_its_curvature():
    x = in_ball(3, 4).requires_grad_()
    c = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, c: ball.conformal_gap(x, c=c), (x, c))


@pytest.mark.parametrize("function", [numerics.length, numerics.norm])
def test_length__has_no_derivatives_at_0(function):
    x = in_ball(2, 5)
    x[0] = 0
    x.requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(slope.sum(), x)
    assert torch.equal(slope[0], torch.zeros(3).double())
    assert torch.equal(second[0], torch.zeros(3).double())
    assert torch.allclose(slope[1], x[1] / torch.linalg.vector_norm(x[1]))


@pytest.mark.parametrize("name", DISTANCES)
def test_distance__has_the_gradients_of_a_batch_that_it_has_one_by_one(name):
    made, distance = DISTANCES[name]
    x, y = made(in_ball(3, 6)).requires_grad_(), made(in_ball(3, 7)).requires_grad_()
    d = distance(x, y)
    ones = torch.eye(3).double()
    batch = torch.autograd.grad(d, (x, y), ones, retain_graph=True, is_grads_batched=True)
    singly = [torch.autograd.grad(d, (x, y), one, retain_graph=True) for one in ones]
    for found, wanted in zip(batch, zip(*singly, strict=True), strict=True):
        torch.testing.assert_close(found, torch.stack(wanted))


def test_conformal_gap__has_no_slope_at_the_rim_and_beyond():
    x = torch.tensor([[0.6, 0.0], [1.0, 0.0], [0.0, 1.5]], requires_grad=True)
    (slope,) = torch.autograd.grad(ball.conformal_gap(x).sum(), x)
    torch.testing.assert_close(slope, torch.tensor([[-1.2, 0], [0, 0], [0, 0]]))


class Square:
    """x² by a rule, or by its plain twin above 1."""

    def value(self, x):
        return None if x.max() > 1 else (x * x, (2 * x,))

    def gradient(self, grad, x, twice):
        return (grad * twice,)

    def plain(self, x):
        return x.square()


@pytest.mark.parametrize("x", [0.5, 3.0])
def test_by_rule__uses_the_gradient_of_the_rule_and_the_second_of_its_twin(x):
    x = torch.tensor([x], requires_grad=True)
    assert not by_rule(Square(), x.detach()).requires_grad
    (slope,) = torch.autograd.grad(by_rule(Square(), x), x)
    assert torch.equal(slope, 2 * x)
    (slope,) = torch.autograd.grad(by_rule(Square(), x), x, create_graph=True)
    assert torch.autograd.grad(slope, x)[0].item() == 2


class FirstRow:
    """The squares of the first row of a table, of which the twin has a sparse gradient."""

    def value(self, table):
        return table[:1].square(), ()

    def gradient(self, grad, table):
        return (torch.nn.functional.pad(2 * grad * table[:1], (0, 0, 0, len(table) - 1)),)

    def plain(self, table):
        return torch.nn.functional.embedding(torch.tensor([0]), table, sparse=True).square()


def test_by_rule__has_two_derivatives_where_the_first_is_sparse():
    table = torch.ones(3, 2, requires_grad=True)
    (slope,) = torch.autograd.grad(by_rule(FirstRow(), table).sum(), table, create_graph=True)
    assert slope.is_sparse
    (second,) = torch.autograd.grad(slope.to_dense().sum(), table)
    assert second.to_dense().tolist() == [[2, 2], [0, 0], [0, 0]]
