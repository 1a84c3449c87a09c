"""Sparse gradients of tables."""

import torch
from torch import Tensor

__all__ = ["coalesced"]


def coalesced(gradient: Tensor) -> Tensor:
    """Coalesce a sparse gradient [rows, coordinates]; without sorting where its rows ascend.

    torch forgets that a gradient was coalesced when it becomes the ``grad`` of a parameter.
    """
    if gradient.is_coalesced():
        return gradient
    rows, values = gradient._indices(), gradient._values()
    if not bool((rows[0].diff() > 0).all()):
        return gradient.coalesce()
    return torch.sparse_coo_tensor(
        rows, values, gradient.shape, check_invariants=False, is_coalesced=True
    )
