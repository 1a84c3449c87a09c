"""The hook projects what a step moved out, counts it, and leaves the rest to the bit."""

import geoopt
import pytest
import torch

from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.projection import clip_gradients, project_after_step, project_all
from poincare_taxa.geometry import ball

LIMIT = ball.max_norm(torch.float32)


def table(rows=6, dim=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(rows, dim, generator=generator)
    return torch.nn.Parameter(0.9 * points / points.norm(dim=1, keepdim=True))


def push_outwards(points, rows):
    """A loss whose descent moves some rows away from the origin."""
    return -points[rows].norm(dim=1).sum()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_hook__keeps_every_row_inside_with_a_plain_optimizer(momentum):
    points = table()
    optimizer = torch.optim.SGD([points], lr=0.05, momentum=momentum)
    handle = project_after_step(optimizer, points)
    for step in range(10):
        optimizer.zero_grad()
        push_outwards(points, [0, 1] if step < 5 else [2]).backward()
        optimizer.step()
        assert points.detach().norm(dim=1).max() <= LIMIT
    assert handle.steps == 10
    assert handle.touched == 60
    assert handle.moved > 0


def test_hook__counts_exactly_the_rows_that_left():
    points = table()
    before = points.detach().clone()
    optimizer = torch.optim.SGD([points], lr=1.0)
    handle = project_after_step(optimizer, points)
    push_outwards(points, [1, 4]).backward()
    optimizer.step()
    assert handle.moved == 2
    rest = [0, 2, 3, 5]
    assert torch.equal(points.detach()[rest], before[rest])
    torch.testing.assert_close(
        points.detach()[[1, 4]] / LIMIT, before[[1, 4]] / 0.9, rtol=1e-5, atol=0
    )


def test_hook__looks_only_at_the_rows_of_a_sparse_gradient():
    embedding = torch.nn.Embedding(6, 3, sparse=True)
    with torch.no_grad():
        embedding.weight[:] = table()
        embedding.weight[5] = 7.0  # outside, and not of this batch
    optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.5)
    handle = project_after_step(optimizer, embedding)
    push_outwards(embedding(torch.tensor([2, 3, 2])), slice(None)).backward()
    optimizer.step()
    assert (handle.touched, handle.moved) == (2, 2)
    assert embedding.weight.detach()[[2, 3]].norm(dim=1).max() <= LIMIT
    assert (embedding.weight.detach()[5] == 7.0).all()
    assert project_all(embedding) == 1
    assert project_all(embedding) == 0


def test_hook__uses_the_manifold_of_the_parameter():
    embedding = PoincareEmbedding(5, 3, sparse=True)
    optimizer = torch.optim.SparseAdam(embedding.parameters(), lr=0.3)  # knows no manifold
    handle = project_after_step(optimizer, embedding)
    for _ in range(3):
        optimizer.zero_grad()
        embedding.dist(torch.tensor([0, 1]), torch.tensor([2, 3])).sum().backward()
        optimizer.step()
        embedding.manifold.assert_check_point_on_manifold(embedding.weight.detach())
    assert handle.moved > 0


def test_hook__finds_nothing_to_do_behind_a_riemannian_optimizer():
    embedding = PoincareEmbedding(5, 3, manifold=PoincareBall(), initial_radius=2.0)
    optimizer = geoopt.optim.RiemannianAdam(embedding.parameters(), lr=0.3)
    handle = project_after_step(optimizer, embedding)
    for _ in range(5):
        optimizer.zero_grad()
        (-embedding.dist(torch.tensor([0, 1]), torch.tensor([2, 3]))).sum().backward()
        optimizer.step()
    assert handle.touched == 25
    assert handle.moved == 0


def test_hook__takes_any_projection_and_stops_when_removed():
    points = table()
    optimizer = torch.optim.SGD([points], lr=0.0)
    handle = project_after_step(optimizer, [points], project=lambda x: x.clamp(max=0.1))
    push_outwards(points, [0]).backward()
    optimizer.step()
    assert points.detach().max() <= 0.1
    with torch.no_grad():
        points[:] = 5.0
    handle.remove()
    optimizer.step()
    assert (points.detach() == 5.0).all()
    assert handle.steps == 1


def test_hook__skips_parameters_without_a_gradient_and_leaves_nan_to_others():
    points, idle = table(), table(seed=1)
    with torch.no_grad():
        points[0] = float("nan")
        idle[0] = 9.0
    optimizer = torch.optim.SGD([points, idle], lr=0.0)
    handle = project_after_step(optimizer, [points, idle])
    points[1].sum().backward()
    optimizer.step()
    assert (handle.touched, handle.moved) == (6, 0)
    assert (idle.detach()[0] == 9.0).all()
    assert points.detach()[0].isnan().all()


def test_hook__refuses_parameters_that_the_optimizer_does_not_step():
    points, other = table(), table()
    optimizer = torch.optim.SGD([points], lr=0.1)
    with pytest.raises(ValueError, match=r"does not have the parameters of shape \[\(6, 3\)\]"):
        project_after_step(optimizer, [points, other])
    with pytest.raises(ValueError, match="no parameters to project"):
        project_after_step(optimizer, [])


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip__scales_dense_gradients_as_torch_does(max_norm):
    ours, theirs = [table(), table(seed=1)], [table(), table(seed=1)]
    for a, b in (ours, theirs):
        (a.square().sum() + 3 * b.sum()).backward()
    norm = clip_gradients(ours, max_norm)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm)
    torch.testing.assert_close(norm, expected)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip__scales_sparse_gradients_as_if_they_were_dense(max_norm):
    gradients = []
    for sparse in (True, False):
        embedding = torch.nn.Embedding(6, 3, sparse=sparse, _weight=table().detach())
        embedding(torch.tensor([1, 1, 4])).square().sum().backward()
        norm = clip_gradients(embedding, max_norm)
        gradient = embedding.weight.grad
        gradients.append((norm, gradient.to_dense() if sparse else gradient))
    torch.testing.assert_close(gradients[0], gradients[1])


def test_clip__passes_on_what_is_not_finite_and_what_is_absent():
    points = table()
    assert float(clip_gradients(points, 1.0)) == 0
    points.grad = torch.full_like(points, float("nan"))
    assert clip_gradients(points, 1.0).isnan()
    points.grad = torch.zeros_like(points)
    assert float(clip_gradients(points, 1.0)) == 0
    assert (points.grad == 0).all()
    with pytest.raises(ValueError, match="max_norm must be positive; got 0"):
        clip_gradients(points, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("some", [True, False])
def test_projection__of_a_polar_table_moves_what_the_formula_moves(dtype, some):
    generator = torch.Generator().manual_seed(0)
    points = PoincareEmbedding(200, 10, dtype=dtype, initial_radius=3.0, generator=generator).weight
    eps = torch.finfo(dtype).eps
    with torch.no_grad():
        points[::7, 0] *= -1
        points[3::11, 1:] *= 1 + 4 * eps  # within what is left as it is
        points[5::11, 1:] *= 1 + 20 * eps
        points[6, 1:] = 0.0
        points[8] = float("nan")
        points[9, 0] = float("nan")
    before = points.detach().as_subclass(torch.Tensor).clone()
    after = Polar().projx(before)
    changed = ((after != before) & ~before.isnan()).any(-1)
    if some:
        rows = torch.arange(0, 200, 3)
        optimizer = torch.optim.SGD([points], lr=0.0)
        handle = project_after_step(optimizer, points)
        nothing = torch.zeros(len(rows), 11, dtype=dtype)
        points.grad = torch.sparse_coo_tensor(
            rows[None], nothing, points.shape, check_invariants=True
        )
        optimizer.step()
        assert (handle.touched, handle.moved) == (len(rows), int(changed[rows].sum()))
        expected = before.clone()
        expected[rows] = after[rows]
    else:
        assert project_all(points) == int(changed.sum())
        expected = after
    found = points.detach().as_subclass(torch.Tensor)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)
