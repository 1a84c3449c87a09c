"""Checks of arguments that the functions of this room share: curvature, dtypes, shapes."""

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor  # pyright: ignore[reportMissingImports]
from torch.autograd import forward_ad

__all__ = ["check_curvature", "check_points", "check_polar", "is_plain"]

_NO_DISPATCH = getattr(Tensor, "__torch_dispatch__", None)
_FLOATS = (torch.float32, torch.float64)


def is_plain(*tensors: Tensor) -> bool:
    """Whether the tensors are numbers in memory and nothing but autograd follows the operations.

    False while ``torch.compile``, ``torch.export`` or ``torch.jit`` traces, under transforms of
    ``torch.func`` and forward-mode differentiation, for batches of gradients, and for tensors that
    replace torch's operations by their own (DTensor, FakeTensor): all these need the operations of
    torch. geoopt's tensors are plain.
    """
    # torch.compile takes the first term for a constant, and traces none of the others
    if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
        return False
    if torch._C._are_functorch_transforms_active() or torch.overrides.has_torch_function(tensors):
        return False
    return all(
        getattr(type(x), "__torch_dispatch__", None) is _NO_DISPATCH
        and forward_ad.unpack_dual(x).tangent is None
        and not is_legacy_batchedtensor(x)  # a gradient of autograd.grad(is_grads_batched=True)
        for x in tensors
    )


def check_curvature(c: float | Tensor) -> None:
    """Raise ValueError unless ``c`` is a positive number, or a tensor that holds one."""
    if isinstance(c, Tensor):
        if c.ndim > 0:
            raise ValueError(f"c must be one number; got a tensor of shape {tuple(c.shape)}")
        if c.is_meta or not is_plain(c):
            return  # its value is not known here
    if not c > 0:
        raise ValueError(f"c must be positive (the sectional curvature is -c); got c={c}")


def check_points(*points: Tensor) -> None:
    """Raise ValueError unless all are float32 or float64 with the same last dimension."""
    for x in points:
        if x.dtype not in _FLOATS:
            raise ValueError(
                f"points must be tensors of float32 or float64; got {type(x).__name__} of "
                f"{x.dtype}. Use torch.as_tensor(x).double()"
            )
        if x.ndim == 0:
            raise ValueError(
                "points need a last dimension of coordinates, [..., dim]; got a scalar"
            )
        if x.shape[-1] != points[0].shape[-1]:
            raise ValueError(
                f"points must have the same number of coordinates; got shapes "
                f"{tuple(points[0].shape)} and {tuple(x.shape)}"
            )


def check_polar(*pairs: Tensor) -> None:
    """Raise ValueError unless the arguments are (radius, direction, radius, direction, …)."""
    radii, directions = pairs[::2], pairs[1::2]
    check_points(*directions)
    for r, u in zip(radii, directions, strict=True):
        if r.dtype not in _FLOATS:
            raise ValueError(
                f"radii must be tensors of float32 or float64; got {type(r).__name__} of "
                f"{r.dtype}. Use torch.as_tensor(r).double()"
            )
        # torch.broadcast_shapes would do, but imports half a second of sympy.
        if any(
            1 not in (m, n) and m != n for m, n in zip(r.shape[::-1], u.shape[-2::-1], strict=False)
        ):
            raise ValueError(
                f"a direction has one more dimension than its radius; got radius "
                f"{tuple(r.shape)} and direction {tuple(u.shape)}"
            )
