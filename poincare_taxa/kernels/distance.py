"""`dist`, `pair_distance` and `cdist`: distances with their gradients."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from poincare_taxa.geometry import ball, polar
from poincare_taxa.kernels.arguments import Manifold, check_rows, table_of
from poincare_taxa.kernels.backend import Backend, choose

__all__ = ["cdist", "dist", "pair_distance"]


def dist(
    x: Tensor, y: Tensor, *, manifold: Manifold = "ball", c: float = 1.0, backend: Backend = "auto"
) -> Tensor:
    """Geodesic distance of paired points: ``geometry.ball.dist`` or ``geometry.polar.dist``.

    Parameters
    ----------
    x, y
        Tables of as many points: [m, dim] in the ball, [m, 1 + dim] in the polar model.
    manifold
        "ball" or "polar".
    c
        Curvature parameter of the ball.
    backend
        See `poincare_taxa.kernels`.

    Returns
    -------
    distance
        [m], in the dtype of the points.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit.
    ModuleNotFoundError
        If a backend was asked for by name and is not installed.

    Examples
    --------
    >>> dist(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.5, 0.0]]))
    tensor([1.0986])
    """
    _check_tables(x, y, manifold, c)
    if len(x) != len(y):
        raise ValueError(f"paired points are as many of each; got {len(x)} and {len(y)}")
    module = choose(backend, x.device)
    if module is None:
        return _by_geometry(x, y, manifold, c)
    return _Pairs.apply(x, y, module, manifold == "polar", c)


def pair_distance(
    table: Tensor,
    i: Tensor,
    j: Tensor,
    *,
    manifold: Manifold = "ball",
    c: float = 1.0,
    sparse: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Distance of rows i[m] and j[m] of a table, without gathering them first.

    Parameters
    ----------
    table
        [n, dim] in the ball, [n, 1 + dim] in the polar model.
    i, j
        int64 [m].
    manifold, c, backend
        As for `dist`.
    sparse
        Whether the gradient of the table is sparse (only the rows asked for are stored, one entry
        for each mention), as that of ``torch.nn.Embedding(sparse=True)``.

    Returns
    -------
    distance
        [m]; its gradient is the same whatever the number of threads.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, or a row is not in the table.
    ModuleNotFoundError
        As `dist`.

    Examples
    --------
    >>> table = torch.tensor([[0.0, 0.0], [0.5, 0.0]], requires_grad=True)
    >>> d = pair_distance(table, torch.tensor([0, 0]), torch.tensor([0, 1]))
    >>> d.sum().backward()
    >>> d.detach(), table.grad
    (tensor([0.0000, 1.0986]), tensor([[-2.0000,  0.0000],
            [ 2.6667,  0.0000]]))
    """
    table_of(table, manifold, c)
    for name, rows in (("i", i), ("j", j)):
        check_rows(name, rows, len(table))
    if len(i) != len(j):
        raise ValueError(f"i and j are rows of as many pairs; got {len(i)} and {len(j)}")
    module = choose(backend, table.device)
    if module is None:
        x = torch.nn.functional.embedding(i, table, sparse=sparse)
        y = torch.nn.functional.embedding(j, table, sparse=sparse)
        return _by_geometry(x, y, manifold, c)
    return _TablePairs.apply(table, i, j, module, manifold == "polar", c, sparse)


def cdist(
    x: Tensor, y: Tensor, *, manifold: Manifold = "ball", c: float = 1.0, backend: Backend = "auto"
) -> Tensor:
    """Distance of every point of ``x`` [n, …] to every point of ``y`` [m, …]: [n, m].

    Arguments and errors as `dist`. Where the matrix is only a step on the way, the fused reductions
    `nearest` and `count_nearer` do without it.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    >>> cdist(x, x)
    tensor([[0.0000, 1.0986],
            [1.0986, 0.0000]])
    """
    _check_tables(x, y, manifold, c)
    module = choose(backend, x.device)
    if module is not None:
        return _Matrix.apply(x, y, module, manifold == "polar", c)
    if manifold == "ball":
        return ball.cdist(x, y, c=c)
    return polar.cdist(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:])


class _Pairs(torch.autograd.Function):
    """Distance of each row of one table and the same row of another."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, module: ModuleType, polar: bool, c: float
    ) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.settings = module, polar, c
        return module.pairs_forward(x, None, y, None, polar, c)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        module, polar, c = ctx.settings
        x, y = ctx.saved_tensors
        return *module.pairs_backward(x, None, y, None, polar, c, grad), None, None, None


class _Matrix(torch.autograd.Function):
    """Distance of every row of one table and every row of another."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, y: Tensor, module: ModuleType, polar: bool, c: float
    ) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.settings = module, polar, c
        return module.cdist(x, y, polar, c)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        module, polar, c = ctx.settings
        return *module.cdist_backward(*ctx.saved_tensors, polar, c, grad), None, None, None


class _TablePairs(torch.autograd.Function):
    """Distance of rows of one table."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        i: Tensor,
        j: Tensor,
        module: ModuleType,
        polar: bool,
        c: float,
        sparse: bool,
    ) -> Tensor:
        ctx.save_for_backward(table, i, j)
        ctx.settings = module, polar, c, sparse
        return module.pairs_forward(table, i, table, j, polar, c)

    @staticmethod
    @once_differentiable
    def backward(  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx: Any, grad: Tensor
    ) -> tuple[Tensor | None, ...]:
        module, polar, c, sparse = ctx.settings
        table, i, j = ctx.saved_tensors
        values = torch.cat(module.pairs_backward(table, i, table, j, polar, c, grad))
        rows = torch.cat((i, j))
        if sparse:
            gradient = torch.sparse_coo_tensor(
                rows[None], values, table.shape, check_invariants=False
            )
        else:
            gradient = torch.zeros_like(table, memory_format=torch.contiguous_format)
            module.scatter(rows, values, gradient)
        return gradient, None, None, None, None, None, None


def _by_geometry(x: Tensor, y: Tensor, manifold: Manifold, c: float) -> Tensor:
    if manifold == "ball":
        return ball.dist(x, y, c=c)
    return polar.dist(x[:, 0], x[:, 1:], y[:, 0], y[:, 1:])


def _check_tables(x: Tensor, y: Tensor, manifold: Manifold, c: float) -> None:
    for table in (x, y):
        table_of(table, manifold, c)
    if x.shape[1] != y.shape[1] or x.dtype != y.dtype or x.device != y.device:
        raise ValueError(
            "both sets of points need the same coordinates, dtype and device; got "
            f"{tuple(x.shape)} {x.dtype} {x.device} and {tuple(y.shape)} {y.dtype} {y.device}"
        )
