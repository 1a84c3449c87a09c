"""`kernels.ranking_loss` against the losses and geometry, in float64, through autograd."""

import math
import os
import subprocess
import sys

import pytest
import torch
from support.kernels import points
from support.tolerance import ball_gradient_atol, distance_atol, polar_atol, polar_gradient_rtol

from poincare_taxa import kernels
from poincare_taxa.blocks import losses
from poincare_taxa.geometry import ball, polar

RADIUS = {"ball": 6.0, "polar": 30.0}  # float32 balls hold no more than 12, and gradients less


def distances(table, manifold, c, i, j):
    x, y = table[i], table[j]
    if manifold == "ball":
        return ball.dist(x, y, c=c)
    return polar.dist(x[..., 0], x[..., 1:], y[..., 0], y[..., 1:])


def reference(table, anchor, positive, negatives, manifold, c=1.0, **settings):
    """The two losses of `losses`, of distances pair by pair."""
    own = negatives.expand(len(anchor), -1) if negatives.ndim == 1 else negatives
    near = distances(table, manifold, c, anchor, positive)
    far = distances(table, manifold, c, anchor[:, None].expand(own.shape), own)
    mask, t = settings.get("valid"), settings.get("temperature", 1.0)
    if settings["loss"] == "softmax":
        return losses.softmax_ranking_loss(
            near / t,
            far / t,
            mask=mask,
            log_weights=settings.get("log_weights"),
            reduction="none",
        )
    margin = torch.as_tensor(settings.get("margin", 0.2), dtype=torch.float64)
    margin = margin[:, None] if margin.ndim else margin
    return losses.margin_ranking_loss(near, far, margin, mask=mask, reduction="none")


def batch(n, b, k, shared, seed=0):
    """Anchors, positives, negatives; some coincide, as rows or as anchor and negative."""
    generator = torch.Generator().manual_seed(seed)
    anchor, positive = torch.randint(n, (2, b), generator=generator)
    negatives = torch.randint(n, (k,) if shared else (b, k), generator=generator)
    if not shared and k:
        negatives[::3, 0] = anchor[::3]
    positive[1::5] = anchor[1::5]
    valid = torch.rand(b, k, generator=generator) < 0.7
    valid[2::4] = False
    return anchor, positive, negatives, valid


def limits(table, manifold, dtype, rows, parts, weight):
    """Bounds of the errors: of a loss, and of each entry of the gradient.

    A loss has the error of two distances, and so have the shares of a softmax, relatively. Of a
    gradient, `parts` is the sum of the magnitudes that were added up.
    """
    radius, eps = RADIUS[manifold], torch.finfo(dtype).eps
    if manifold == "ball":
        error = distance_atol(dtype, radius) + distance_atol(torch.float64, radius)
        each = ball_gradient_atol(dtype, table) + ball_gradient_atol(torch.float64, table)
        relative = 0.0
    else:
        far = torch.tensor(2 * radius)
        error = polar_atol(dtype, far).item() + polar_atol(torch.float64, far).item()
        each = torch.zeros(len(table), 1)
        relative = polar_gradient_rtol(dtype, radius)
    times = torch.bincount(rows, minlength=len(table))[:, None]
    of_loss = 2 * weight * error + 3e-9  # softplus is rounded to its argument from 20 on
    shares = 4 * weight * error + relative + (times + 8) * eps + 3e-9
    return of_loss, weight * times * each + shares * parts + 1e-12


SETTINGS = [
    {"loss": "softmax"},
    {"loss": "softmax", "temperature": 0.5},
    {"loss": "margin"},
    {"loss": "margin", "margin": 1.5},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("b", "k"), [(1, 1), (17, 5), (9, 301), (3, 0), (0, 4)])
def test_ranking_loss__is_the_loss_of_the_distances(
    backend, manifold, dtype, b, k, shared, settings
):
    table = points(61, manifold, dtype, radius=RADIUS[manifold]).requires_grad_()
    anchor, positive, negatives, valid = batch(61, b, k, shared)
    generator = torch.Generator().manual_seed(5)
    if settings["loss"] == "softmax" and k % 2:
        shape = (k,) if b % 3 else (b, k)
        settings = settings | {"log_weights": torch.randn(shape, generator=generator)}
    settings = settings | {"valid": valid}
    found = kernels.ranking_loss(
        table, anchor, positive, negatives, **settings, manifold=manifold, backend=backend
    )
    wide = table.detach().double().requires_grad_()
    if k == 0:
        assert (found == 0).all()
        assert (torch.autograd.grad(found.sum(), table)[0] == 0).all()
        return
    expected = reference(wide, anchor, positive, negatives, manifold, **settings)
    assert found.dtype == dtype
    assert found.shape == (b,)
    weight = 1 + torch.arange(b, dtype=torch.float64) % 3
    (mine,) = torch.autograd.grad((weight.to(dtype) * found).sum(), table)
    (theirs,) = torch.autograd.grad((weight * expected).sum(), wide)
    parts = torch.zeros_like(theirs)
    for one in range(b):  # what is added up, without what cancels between pairs
        (each,) = torch.autograd.grad(
            reference(
                wide,
                anchor[one : one + 1],
                positive[one : one + 1],
                negatives if shared else negatives[one : one + 1],
                manifold,
                **{
                    name: value[one : one + 1]
                    if isinstance(value, torch.Tensor) and value.shape[:1] == (b,) != (k,)
                    else value
                    for name, value in settings.items()
                },
            ).sum(),
            wide,
        )
        parts += weight[one] * each.abs()
    if manifold == "polar":
        parts[:, 0] += 3 * torch.bincount(anchor, minlength=61)
    lists = negatives.flatten() if not shared else negatives.repeat(b)
    rows = torch.cat((anchor, positive, lists))
    of_loss, of_gradient = limits(
        wide.detach(), manifold, dtype, rows, parts, 1 / settings.get("temperature", 1.0)
    )
    assert (
        (found.detach().double() - expected.detach()).abs().max().item() <= of_loss if b else True
    )
    assert mine.isfinite().all()
    error = (mine.double() - theirs).abs()
    assert (error <= 3 * of_gradient).all(), (error / of_gradient).max()


def test_ranking_loss__keeps_all_digits_of_a_margin(backend, manifold):
    table = torch.tensor([[0.5, 0.0, 1.0]] * 2, dtype=torch.float64)
    one, other = torch.tensor([0]), torch.tensor([1])
    settings = {"loss": "margin", "manifold": manifold, "backend": backend}
    for given, margin in ((None, 0.2), (0.1, 0.1), (torch.tensor(0.1, dtype=torch.float64), 0.1)):
        loss = kernels.ranking_loss(
            table[:, :2] if manifold == "ball" else table, one, other, one, margin=given, **settings
        )
        assert loss.tolist() == [margin]


@pytest.mark.parametrize("shared", [True, False])
def test_ranking_loss__takes_a_margin_for_each_anchor(backend, shared):
    table = points(61, "polar", torch.float64).requires_grad_()
    anchor, positive, negatives, valid = batch(61, 17, 23, shared)
    margin = torch.linspace(-3, 9, 17, dtype=torch.float64)
    settings = {"loss": "margin", "margin": margin, "valid": valid}
    found = kernels.ranking_loss(
        table, anchor, positive, negatives, **settings, manifold="polar", backend=backend
    )
    expected = reference(table, anchor, positive, negatives, "polar", **settings)
    assert torch.allclose(found, expected, rtol=1e-13, atol=1e-11)
    pair = [torch.autograd.grad(loss.sum(), table)[0] for loss in (found, expected)]
    assert torch.allclose(*pair, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_ranking_loss__scales_with_the_curvature(backend, dtype, settings):
    """Points and distances of the ball of curvature −4 are half as long."""
    table = points(61, "ball", dtype, radius=3)
    anchor, positive, negatives, _ = batch(61, 17, 23, True)
    halved = settings | {
        name: value / 2
        for name, value in ({"temperature": 1.0} | settings).items()
        if name == "margin" or (name == "temperature" and settings["loss"] == "softmax")
    }
    if settings["loss"] == "margin":
        halved["margin"] = settings.get("margin", 0.2) / 2
    rows = (anchor, positive, negatives)
    whole = kernels.ranking_loss(table, *rows, **settings, backend=backend)
    half = kernels.ranking_loss(table / 2, *rows, **halved, c=4.0, backend=backend)
    times = 1 if settings["loss"] == "softmax" else 2
    assert torch.allclose(times * half, whole, rtol=0, atol=8 * distance_atol(dtype, 3))


def test_ranking_loss__has_the_same_gradient_with_any_number_of_threads(manifold):
    table = points(500, manifold, torch.float32, radius=6).requires_grad_()
    before = torch.get_num_threads()
    for b, k, shared in ((4000, 60, True), (60, 4000, True), (4000, 60, False)):
        anchor, positive, negatives, valid = batch(500, b, k, shared)
        found = []
        try:
            for threads in (1, 3):
                torch.set_num_threads(threads)
                loss = kernels.ranking_loss(
                    table, anchor, positive, negatives, valid=valid, manifold=manifold
                )
                found.append((loss.detach(), torch.autograd.grad(loss.sum(), table)[0]))
        finally:
            torch.set_num_threads(before)
        assert torch.equal(found[0][0], found[1][0])
        assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("shared", [True, False])
def test_ranking_loss__sparse_gradient_is_the_dense_one(backend, manifold, shared):
    table = points(97, manifold, torch.float64, radius=6).requires_grad_()
    anchor, positive, negatives, valid = batch(60, 40, 9, shared)  # rows from 60 on: untouched
    (dense, sparse) = (
        torch.autograd.grad(
            kernels.ranking_loss(
                table,
                anchor,
                positive,
                negatives,
                valid=valid,
                manifold=manifold,
                sparse=sparse,
                backend=backend,
            ).sum(),
            table,
        )[0]
        for sparse in (False, True)
    )
    assert sparse.is_sparse
    assert torch.allclose(sparse.to_dense(), dense, rtol=1e-12, atol=1e-12)
    assert sparse.coalesce().indices().max() < 60
    if backend == "numba":
        assert sparse.is_coalesced()
        assert torch.equal(sparse.indices(), sparse.detach().clone().coalesce().indices())


def test_ranking_loss__of_a_strided_table(backend, manifold):
    wide = points(40, manifold, torch.float64, radius=6)
    beside = torch.cat((wide, wide), dim=1)[:, : wide.shape[1]]
    anchor, positive, negatives, valid = batch(40, 17, 9, True)
    found = [
        kernels.ranking_loss(
            table,
            anchor,
            torch.stack((positive, positive), 1)[:, 0],
            negatives.repeat_interleave(2)[::2],
            valid=valid.T.contiguous().T,
            manifold=manifold,
            backend=backend,
        )
        for table in (wide, beside, wide.T.contiguous().T)
    ]
    assert torch.equal(found[0], found[1])
    assert torch.allclose(found[0], found[2], rtol=1e-14)


def test_ranking_loss__beyond_the_radius_where_exponentials_end(backend):
    table = points(40, "polar", torch.float64, radius=900).requires_grad_()
    anchor, positive, negatives, valid = batch(40, 17, 9, True)
    found = kernels.ranking_loss(
        table, anchor, positive, negatives, valid=valid, manifold="polar", backend=backend
    )
    expected = reference(table, anchor, positive, negatives, "polar", loss="softmax", valid=valid)
    assert torch.allclose(found, expected, rtol=1e-12, atol=3e-9)
    pair = [torch.autograd.grad(loss.sum(), table)[0] for loss in (found, expected)]
    assert torch.allclose(*pair, rtol=1e-9, atol=1e-8)


def test_ranking_loss__of_what_is_no_point_is_nan(backend, manifold):
    table = points(40, manifold, torch.float64, radius=6)
    table[7, -1] = torch.nan
    row, other = torch.tensor([7]), torch.tensor([3])
    for loss in ("softmax", "margin"):
        for rows in ((row, other, other), (other, row, other), (other, other, row)):
            found = kernels.ranking_loss(
                table, *rows, loss=loss, manifold=manifold, backend=backend
            )
            assert found.isnan().all()


def test_ranking_loss__survives_small_temperatures(backend):
    """At T = 0.01, e^{−d/T} of most pairs is no number that float64 has."""
    table = points(61, "polar", torch.float64)
    anchor, positive, negatives, _ = batch(61, 17, 23, True)
    settings = {"loss": "softmax", "temperature": 0.01}
    found = kernels.ranking_loss(
        table, anchor, positive, negatives, **settings, manifold="polar", backend=backend
    )
    expected = reference(table, anchor, positive, negatives, "polar", **settings)
    assert found.max() > 1000
    assert torch.allclose(found, expected, rtol=1e-11, atol=3e-9)


def test_ranking_loss__refuses_what_does_not_fit(backend):
    x = points(5, "ball", torch.float64)
    one, two = torch.tensor([0, 1]), torch.tensor([[2, 3], [3, 4]])

    def call(**changes):
        settings = {"table": x, "anchor": one, "positive": one, "negatives": two} | changes
        return kernels.ranking_loss(**settings, backend=backend)

    assert math.isfinite(call().sum())
    for changes, message in (
        ({"positive": one[:1]}, "number of anchors"),
        ({"negatives": two[:1]}, "number of anchors"),
        ({"negatives": two + 9}, "row 13"),
        ({"valid": torch.ones(2, 2)}, "bool"),
        ({"valid": torch.ones(2, 3, dtype=torch.bool)}, r"\[2, 2\]"),
        ({"log_weights": torch.ones(3)}, "log_weights are"),
        ({"loss": "hinge"}, "'softmax' or 'margin'"),
        ({"margin": 0.2}, "belongs to loss='margin'"),
        ({"temperature": 0.0}, "must be positive"),
        ({"loss": "margin", "temperature": 0.5}, "belong to loss='softmax'"),
        ({"loss": "margin", "margin": torch.ones(3)}, "margin is a number"),
    ):
        with pytest.raises(ValueError, match=message):
            call(**changes)


GRADIENT = """
import torch
from poincare_taxa import kernels

x = torch.randn(700, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
table = (0.9 * x / (1 + x.norm(dim=1, keepdim=True))).requires_grad_()
rows = torch.arange(700).reshape(7, 100)
loss = kernels.ranking_loss(table, rows[0], rows[1], rows[2], backend="numba").sum()
loss.backward()
print(loss.item().hex(), table.grad.numpy().tobytes().hex())
"""


def test_ranking_loss__has_the_bits_of_its_first_run_in_later_ones(tmp_path):
    """Whether the code was just compiled or kept by another process: a resumed run needs it."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, later = (
        subprocess.run(
            [sys.executable, "-c", GRADIENT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for _ in range(2)
    )
    assert any(tmp_path.rglob("*.nbi"))
    assert first == later
