"""Every function of the room refuses what is no point and what is no curvature."""

import inspect

import pytest
import torch

from poincare_taxa.geometry import ball, convert, lorentz, polar
from poincare_taxa.geometry.arguments import check_curvature, is_plain

R, U = torch.tensor([1.0, 2.0]), torch.eye(2)
BALL, LORENTZ = convert.polar_to_ball(R, U), convert.polar_to_lorentz(R, U)
V = torch.zeros(2, 2)
NAMES = {
    "one": "dist0 logmap0 project midpoint mean",
    "tangent": "expmap0",
    "two": "dist cdist ancestor_score all_ancestor_scores logmap translate mobius_add",
    "moved": "expmap",
    "carried": "transport",
    "along": "geodesic",
}


def cases():
    """Each function with arguments that it takes."""
    spaces = ((polar, (R, U), (R, V)), (ball, (BALL,), (V,)), (lorentz, (LORENTZ,), (V,)))
    for space, point, tangent in spaces:
        arguments = {
            "one": point,
            "tangent": (V,),
            "two": point * 2,
            "moved": point + tangent,
            "carried": point * 2 + tangent,
            "along": (*point, *point, 0.5),
        }
        for kind, names in NAMES.items():
            for name in names.split():
                if hasattr(space, name):
                    yield getattr(space, name), arguments[kind]
    yield polar.busemann, (R, U, U)
    yield ball.conformal_gap, (BALL,)
    yield convert.polar_to_ball, (R, U)
    yield convert.polar_to_lorentz, (R, U)
    for function, point in (
        *((convert.ball_to_polar, BALL), (convert.ball_to_lorentz, BALL)),
        *((convert.lorentz_to_polar, LORENTZ), (convert.lorentz_to_ball, LORENTZ)),
    ):
        yield function, (point,)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [pytest.param(*case, id=f"{case[0].__module__[-5:]}.{case[0].__name__}") for case in cases()],
)
def test_functions__refuse_tensors_of_integers_scalars_and_no_curvature(function, arguments):
    function(*arguments)
    for i, x in enumerate(arguments):
        if isinstance(x, torch.Tensor):
            wrong = (*arguments[:i], x.long(), *arguments[i + 1 :])
            with pytest.raises(ValueError, match="float32 or float64"):
                function(*wrong)
            if x.ndim > 1:
                wrong = (*arguments[:i], torch.tensor(1.0), *arguments[i + 1 :])
                with pytest.raises(ValueError, match=r"last dimension|one more dimension"):
                    function(*wrong)
    if "c" in inspect.signature(function).parameters:
        for c in (0.0, -1.0, torch.nan):
            with pytest.raises(ValueError, match="c must be positive"):
                function(*arguments, c=c)


def test_curvature__of_a_tensor_is_one_number_whose_value_may_not_be_known():
    check_curvature(torch.tensor(2.0))
    check_curvature(torch.tensor(-1.0, device="meta"))
    with pytest.raises(ValueError, match=r"one number; got a tensor of shape \(1,\)"):
        check_curvature(torch.ones(1))
    with pytest.raises(ValueError, match="c must be positive"):
        check_curvature(torch.tensor(0.0))


def test_is_plain__is_false_where_transforms_follow():
    found = []

    def f(x):
        found.append(is_plain(x))
        return x.sum()

    x = torch.ones(3, requires_grad=True)
    f(x)
    torch.func.vmap(f)(torch.ones(2, 3))
    torch.func.grad(f)(x.detach())
    torch.func.jvp(f, (x.detach(),), (x.detach(),))
    torch.jit.trace(f, x.detach(), check_trace=False)
    with torch.autograd.forward_ad.dual_level():
        f(torch.autograd.forward_ad.make_dual(x.detach(), torch.ones(3)))
    assert found == [True, False, False, False, False, False]
    y = torch.ones(3, requires_grad=True)
    z = y.clone()
    z.register_hook(lambda grad: found.append(is_plain(grad)))
    torch.autograd.grad(z, y, torch.eye(3), is_grads_batched=True)
    assert found[-1] is False
