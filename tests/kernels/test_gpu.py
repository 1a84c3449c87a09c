"""What of the Triton kernels only a device, or tiles of its size, can show."""

import math

import pytest
import torch
from support.kernels import (
    available,
    check_gradients,
    check_values,
    gradients,
    points,
    reference,
)

from poincare_taxa import kernels


@pytest.fixture
def device():
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
    return "cuda"


def test_tiles__of_a_device_s_size_give_what_large_ones_give(monkeypatch, manifold):
    """Interpreted, a tile holds all there is; here several are summed, in several stretches."""
    available("triton")
    from poincare_taxa.kernels.triton import tiles

    x, y = (points(n, manifold, torch.float64, seed=n, radius=6) for n in (3, 71))
    generator = torch.Generator().manual_seed(2)
    anchor, positive = torch.randint(71, (2, 3), generator=generator)
    lists = anchor, positive, torch.arange(1, 71)
    valid = torch.rand(3, 70, generator=generator) < 0.8
    weights = torch.randn(70, generator=generator)

    def everything():
        a, b = x.clone().requires_grad_(), y.clone().requires_grad_()
        d = kernels.cdist(a, b, manifold=manifold, backend="triton")
        about = {"valid": valid, "manifold": manifold, "backend": "triton"}
        soft = kernels.ranking_loss(b, *lists, log_weights=weights, **about)
        hard = kernels.ranking_loss(b, *lists, loss="margin", margin=2.0, **about)
        return [d, *gradients(d, (a, b)), soft, *gradients(soft, b), hard, *gradients(hard, b)]

    large = everything()
    monkeypatch.setattr(tiles, "_few", lambda x: 16)
    for small, whole in zip(everything(), large, strict=True):
        scale = whole.detach().abs().amax(0)  # sums of up to 71 terms, in another order
        assert ((small - whole).abs() <= 71 * torch.finfo(small.dtype).eps * scale).all()


# -------------------------------------------------------------------- on a device


@pytest.mark.gpu
@pytest.mark.parametrize(("m", "dim"), [(1, 10), (1_000_003, 10), (65_537, 2), (10_007, 256)])
def test_dist__on_a_device_agrees_with_geometry(device, manifold, dtype, m, dim):
    x, y = points(m, manifold, dtype, dim=dim), points(m, manifold, dtype, dim=dim, seed=1)
    y[2::5] = x[2::5]
    x, y = x.to(device).requires_grad_(), y.to(device).requires_grad_()
    d = kernels.dist(x, y, manifold=manifold, backend="triton")
    found = gradients(d, (x, y))
    wide = [t.detach().cpu().double().requires_grad_() for t in (x, y)]
    expected = reference(*wide, manifold)
    check_values(d.detach().cpu(), expected.detach(), manifold, dtype)
    for mine, theirs, at in zip(found, gradients(expected, wide), wide, strict=True):
        check_gradients(mine.cpu(), theirs, at.detach(), manifold, dtype, weight=3)


@pytest.mark.gpu
def test_pair_distance__on_a_device_is_dist_of_the_rows(device, manifold, dtype):
    table = points(5003, manifold, dtype).to(device)
    i, j = torch.randint(5003, (2, 300_001), device=device)
    d = kernels.pair_distance(table, i, j, manifold=manifold, backend="triton")
    rows = kernels.dist(table[i], table[j], manifold=manifold, backend="triton")
    assert torch.equal(d, rows)


@pytest.mark.gpu
@pytest.mark.parametrize("dim", [2, 10, 64])
def test_cdist__on_a_device_agrees_with_geometry(device, manifold, dtype, dim):
    x, y = points(1001, manifold, dtype, dim=dim), points(2003, manifold, dtype, dim=dim, seed=1)
    d = kernels.cdist(x.to(device), y.to(device), manifold=manifold, backend="triton")
    check_values(d.cpu(), reference(x, y, manifold, pairwise=True), manifold, dtype)


@pytest.mark.gpu
def test_cdist__on_a_device_has_the_gradient_of_paired_distances(device, manifold, dtype):
    """Of points at radius 6, where the rounding of a norm weighs e^6-fold."""
    x, y = (points(n, manifold, dtype, seed=n, radius=6) for n in (801, 1203))
    x, y = (t.to(device).requires_grad_() for t in (x, y))
    runs = []
    for _ in range(2):
        d = kernels.cdist(x, y, manifold=manifold, backend="triton")
        runs.append(gradients(d, (x, y)))
    assert all(torch.equal(*pair) for pair in zip(*runs, strict=True))  # no order of programs
    every = torch.cartesian_prod(torch.arange(801), torch.arange(1203)).to(device).T
    sides = [t.detach()[at].requires_grad_() for t, at in zip((x, y), every, strict=True)]
    d = kernels.dist(*sides, manifold=manifold, backend="triton").view(801, 1203)
    for mine, terms, at in zip(runs[0], gradients(d, sides), every, strict=True):
        theirs = torch.zeros_like(mine).index_add_(0, at, terms)
        size = torch.zeros_like(mine).index_add_(0, at, terms.abs())
        rtol = (1203 + 8 * math.exp(6)) * torch.finfo(dtype).eps
        assert ((mine - theirs).abs() <= rtol * size).all()


@pytest.mark.gpu
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("loss", ["softmax", "margin"])
def test_ranking_loss__on_a_device_is_that_of_the_cpu(device, manifold, dtype, loss, shared):
    table = points(3001, manifold, dtype, radius=6)
    generator = torch.Generator().manual_seed(3)
    anchor, positive = torch.randint(3001, (2, 700), generator=generator)
    size = (1003,) if shared else (700, 53)
    negatives = torch.randint(3001, size, generator=generator)
    valid = torch.rand(700, size[-1], generator=generator) < 0.9
    results = []
    for at, wide in ((device, dtype), ("cpu", torch.float64)):
        mine = table.to(at, wide).requires_grad_()
        rows = [t.to(at) for t in (anchor, positive, negatives)]
        found = kernels.ranking_loss(
            mine, *rows, loss=loss, valid=valid.to(at), manifold=manifold, sparse=shared
        )
        (slope,) = torch.autograd.grad(found.sum(), mine)
        results.append([t.detach().to("cpu", torch.float64) for t in (found, slope.to_dense())])
    for mine, theirs in zip(*results, strict=True):
        limit = 3000 * torch.finfo(dtype).eps * theirs.abs().amax(0).clamp(min=1)
        assert ((mine - theirs).abs() <= limit).all()


@pytest.mark.gpu
@pytest.mark.parametrize("by", ["distance", "ancestor"])
def test_searches__on_a_device_agree_with_torch(device, manifold, dtype, by):
    """Past the number of rows at which a program takes several tiles, with ties."""
    table = points(200_003, manifold, dtype, radius=None if manifold == "polar" else 6)
    table[150_000::7] = table[: len(table[150_000::7])].clone()
    table = table.to(device)
    rows = torch.arange(0, 200_003, 1999, device=device)
    settings = {"manifold": manifold, "by": by, "skip": rows}
    found, expected = (
        kernels.nearest(table, table[rows], 10, backend=backend, **settings)
        for backend in ("triton", "torch")
    )
    assert torch.allclose(found.distance, expected.distance, rtol=1e-9, atol=1e-9)
    targets = torch.randint(200_003, (len(rows), 40), device=device)
    counts = kernels.count_nearer(table, table[rows], targets, backend="triton", **settings)
    for q, row in enumerate(rows.tolist()):
        equal = (table[targets[q]][:, None] == table).all(2)
        equal[:, row] = False
        target_is_query = targets[q] == row
        assert (counts.tied[q] >= equal.sum(1) - 1)[~target_is_query].all()
    scores = reference(table[rows], table, manifold, pairwise=True, score=by == "ancestor")
    scores[torch.arange(len(rows), device=device), rows] = torch.inf
    level = scores.gather(1, targets)
    slack = 1e-6 * (1 + level)
    for bound, sign in ((counts.nearer, -1), (counts.nearer + counts.tied + 1, 1)):
        ranks = torch.searchsorted(scores.sort(1).values, level + sign * slack)
        assert ((bound - ranks) * sign <= 0)[targets != rows[:, None]].all()
