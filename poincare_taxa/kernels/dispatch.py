"""What all calls share: whether one goes to a kernel or to plain torch; gradients of a table."""

from types import ModuleType

import torch
from torch import Tensor

from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.kernels.backend import Backend, choose

__all__ = ["kernels_for", "raised", "table_gradient"]

# A kernel wins at every size once it is there. numba, one thread of a Xeon, `dist` of 10-D float32
# points beside `geometry`, microseconds forward / forward and backward:
#
#     pairs      1          100        1,000      10,000       100,000
#     plain     127 / 544   99 / 563  203 / 410  558 / 2,595  8,667 / 38,266
#     kernel     47 / 153   45 / 162   71 / 126  212 /   745  2,602 /  8,459
#
# (least gain from 2 to 256 dimensions: 1.2 / 1.4). But numba itself takes half a second to import,
# and its loops a second or two where they were never compiled: a handful of distances, of which a
# call saves 0.1 ms at best, do not wait for that.
_FEWEST = 32

_FLOATS = (torch.float32, torch.float64)
_HALVES = (torch.float16, torch.bfloat16)


def raised(x: Tensor) -> Tensor:
    """Points as they are, or as float32 where half-precision ones come from under autocast."""
    if x.dtype in _HALVES and torch.is_autocast_enabled(x.device.type):
        return x.float()
    return x


def kernels_for(
    backend: Backend, x: Tensor, y: Tensor, pairs: int, c: float | Tensor
) -> ModuleType | None:
    """Return the module that computes distances of some pairs of x and y; None for plain torch.

    Raises
    ------
    ValueError
        If a backend was asked for by name and cannot take these points.
    ModuleNotFoundError
        If it is not installed.
    """
    if backend == "torch" or (backend == "auto" and pairs < _FEWEST):
        return None
    obstacle = _obstacle(x, y, c)
    if obstacle is None:
        return choose(backend, x.device)
    if backend == "auto" or choose(backend, x.device) is None:
        return None
    raise ValueError(
        f"backend={backend!r} cannot take these points: {obstacle}. Use 'auto', which computes "
        "them in plain torch"
    )


def table_gradient(
    module: ModuleType,
    rows: Tensor,
    values: Tensor,
    table: Tensor,
    sparse: bool,
    *,
    once: bool = False,
) -> Tensor:
    """Gradient of a table, from what is added to rows; `once`: each row once, ascending."""
    if sparse:
        return torch.sparse_coo_tensor(
            rows[None], values, table.shape, check_invariants=False, is_coalesced=once
        )
    gradient = torch.zeros_like(table, memory_format=torch.contiguous_format)
    module.scatter(rows, values, gradient)
    return gradient


def _obstacle(x: Tensor, y: Tensor, c: float | Tensor) -> str | None:
    """Name what of the arguments no kernel takes; None where there is nothing."""
    if not (is_plain(x, y, c) if isinstance(c, Tensor) else is_plain(x, y)):
        return "they are traced, transformed by torch.func, or no plain tensors"
    if torch._C._len_torch_dispatch_stack() > 0:
        return "a dispatch mode of torch follows the operations"
    if isinstance(c, Tensor) and c.requires_grad:
        return "the curvature needs a gradient"
    if x.dtype != y.dtype or x.device != y.device or x.dtype not in _FLOATS:
        return (
            f"both need one device and one dtype, float32 or float64; got {x.dtype} on {x.device} "
            f"and {y.dtype} on {y.device}"
        )
    if x.layout != torch.strided or y.layout != torch.strided or x.is_neg() or y.is_neg():
        return f"they are views of negatives, or stored as {x.layout} and {y.layout}"
    return None
