"""Lengths and directions."""

import pytest
import torch

from poincare_taxa.geometry.numerics import pairwise_norm, renormalised


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_renormalised__leaves_directions_whose_square_is_off_by_16_eps(dtype):
    eps = torch.finfo(dtype).eps
    off = torch.tensor([-8, -1, 0, 1, 8, -8.5, 9], dtype=dtype) * eps  # of the square: twice that
    u = torch.stack((torch.zeros_like(off), 1 + off), dim=1)
    expected = u.clone()
    expected[-2:, 1] = 1
    assert torch.equal(renormalised(u), expected)


def test_pairwise_norm__of_batches_has_gradients_too():
    x, y = torch.randn(2, 3, 4, 2, generator=torch.Generator().manual_seed(0)).double()
    x.requires_grad_()
    found = torch.func.vmap(pairwise_norm)(x, y)
    apart = x[:, :, None] - y[:, None]
    torch.testing.assert_close(found, apart.norm(dim=-1))
    (mine,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(mine, (apart / apart.norm(dim=-1, keepdim=True)).sum(2))
