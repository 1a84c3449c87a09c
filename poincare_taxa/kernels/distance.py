"""`dist`, `pair_distance` and `cdist`: distances with their gradients, as users call them.

`dispatch` says when a kernel computes them and when plain torch. Each kernel is a rule of
`geometry.derivatives`: a backward pass that will be differentiated again (``create_graph``), or is
of a batch of gradients, goes through `geometry`.
"""

import math
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from poincare_taxa.geometry import ball, polar
from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.geometry.derivatives import by_rule
from poincare_taxa.kernels.arguments import (
    Manifold,
    Pairs,
    PointsLike,
    check_manifold,
    check_rows,
    joined,
    table_of,
)
from poincare_taxa.kernels.backend import Backend
from poincare_taxa.kernels.dispatch import kernels_for, raised, table_gradient

__all__ = ["cdist", "dist", "pair_distance"]


def dist(
    x: PointsLike,
    y: PointsLike,
    *,
    manifold: Manifold = "ball",
    c: float | Tensor = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Geodesic distance of paired points: ``geometry.ball.dist`` or ``geometry.polar.dist``.

    Parameters
    ----------
    x, y
        Points [..., dim] of the ball; [..., 1 + dim], the radius first, of the polar model, or
        tuples of a radius [...] and a direction [..., dim]. The leading dimensions broadcast:
        ``dist(x[:, None], y)`` is `cdist`, and computed as such.
    manifold
        "ball" or "polar".
    c
        Curvature parameter of the ball. A scalar tensor that requires a gradient gets it, by plain
        torch.
    backend
        See `poincare_taxa.kernels`.

    Returns
    -------
    distance
        [...], in the dtype of the points. Under autocast, half-precision points count as float32.

    Raises
    ------
    ValueError
        If dtypes or numbers of coordinates do not fit, or a backend that was asked for by name
        cannot take these points.
    RuntimeError
        If the leading dimensions do not broadcast.
    ModuleNotFoundError
        If a backend was asked for by name and is not installed.

    Examples
    --------
    >>> dist(torch.tensor([0.0, 0.0]), torch.tensor([0.5, 0.0]))
    tensor(1.0986)
    >>> radius_first = torch.tensor([[1.0, 0.0, 1.0], [2.0, 0.0, -1.0]])
    >>> dist(radius_first[0], radius_first[1], manifold="polar")
    tensor(3.)
    """
    check_manifold(manifold, c)
    x, y = (raised(joined(points, manifold)) for points in (x, y))
    shape = _shape_of_pairs(x, y, manifold)
    module = None if shape is None else kernels_for(backend, x, y, math.prod(shape), c)
    if shape is None or module is None:
        return _plain(x, y, manifold, c)
    sides = _outer(x, y) if x.shape != y.shape else None
    if sides is not None:
        return by_rule(_Matrix(module, manifold, float(c)), *sides).view(shape)
    return by_rule(_Pairs(module, manifold, float(c)), x, y)


def pair_distance(
    table: Tensor,
    i: Tensor,
    j: Tensor,
    *,
    manifold: Manifold = "ball",
    c: float | Tensor = 1.0,
    sparse: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Distance of rows i and j of a table, without gathering them first.

    Parameters
    ----------
    table
        [n, dim] in the ball, [n, 1 + dim] in the polar model.
    i, j
        Rows, int64 [...]; the shapes broadcast.
    manifold, c, backend
        As for `dist`.
    sparse
        Whether the gradient of the table is sparse (only the rows of the pairs are stored, one
        entry for each mention), as that of ``torch.nn.Embedding(sparse=True)``.

    Returns
    -------
    distance
        [...]; its gradient is the same whatever the number of threads.

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
    table = raised(table)
    table_of(table, manifold, c)
    if is_plain(table, i, j):
        for name, rows in (("i", i), ("j", j)):
            check_rows(name, rows, len(table), ndim=None)
    if i.shape != j.shape:
        i, j = torch.broadcast_tensors(i, j)
    module = kernels_for(backend, table, table, i.numel(), c)
    if module is None:
        return _plain_rows(table, i, j, manifold, c, sparse)
    rule = _TablePairs(module, manifold, float(c), sparse)
    return by_rule(rule, table, i.reshape(-1), j.reshape(-1)).view(i.shape)


def cdist(
    x: PointsLike,
    y: PointsLike,
    *,
    manifold: Manifold = "ball",
    c: float | Tensor = 1.0,
    backend: Backend = "auto",
) -> Tensor:
    """Distance of every point of ``x`` [n, …] to every point of ``y`` [m, …]: [n, m].

    Arguments and errors as `dist`; in the ball, batches [..., n, dim] and [..., m, dim] as well.
    Where the matrix is only a step on the way, the fused reductions `nearest` and `count_nearer` do
    without it.

    Examples
    --------
    >>> x = torch.tensor([[0.0, 0.0], [0.5, 0.0]])
    >>> cdist(x, x)
    tensor([[0.0000, 1.0986],
            [1.0986, 0.0000]])
    """
    check_manifold(manifold, c)
    x, y = (raised(joined(points, manifold)) for points in (x, y))
    module = None
    if x.ndim == y.ndim == 2 and _fit(x, y, manifold):
        module = kernels_for(backend, x, y, len(x) * len(y), c)
    if module is not None:
        return by_rule(_Matrix(module, manifold, float(c)), x, y)
    if manifold == "ball":
        return ball.cdist(x, y, c=c)
    return polar.cdist(x[..., 0], x[..., 1:], y[..., 0], y[..., 1:])


def _fit(x: Tensor, y: Tensor, manifold: Manifold) -> bool:
    """Whether these are points of one space; where not, geometry says what is wrong."""
    least = 2 if manifold == "polar" else 1
    return x.ndim > 0 and y.ndim > 0 and x.shape[-1] == y.shape[-1] >= least


def _shape_of_pairs(x: Tensor, y: Tensor, manifold: Manifold) -> tuple[int, ...] | None:
    """Leading shape of the pairs; None where points do not fit, and geometry says why."""
    if not _fit(x, y, manifold):
        return None
    if x.shape == y.shape:
        return x.shape[:-1]
    try:
        return torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
    except RuntimeError:
        return None


def _outer(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    """Both sets as tables, whose matrix of distances the pairs are; None where they are none.

    So it is where the dimensions in which one set has several points lie before all those of the
    other: [n, 1] and [m], or the other way round.
    """
    dims = max(x.ndim, y.ndim) - 1
    first, second = ((1,) * (dims + 1 - t.ndim) + t.shape[:-1] for t in (x, y))
    of_x, of_y = ([k for k in range(dims) if shape[k] != 1] for shape in (first, second))
    if not of_x or not of_y:
        return None
    if of_x[-1] < of_y[0]:
        return _flat(x), _flat(y)
    return (_flat(y), _flat(x)) if of_y[-1] < of_x[0] else None


def _flat(x: Tensor) -> Tensor:
    """Points as a table."""
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])


def _rows_of(x: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """Which row of its table a point of each pair is; None where the table has all in order."""
    if x.shape[:-1] == shape:
        return None
    leading = x.shape[:-1]
    rows = torch.arange(math.prod(leading), device=x.device)
    return rows.view(leading).expand(shape).reshape(-1)


def _as_pairs(x: Tensor, y: Tensor, shape: tuple[int, ...], manifold: Manifold, c: float) -> Pairs:
    """Pairs of a shape to which both sides broadcast."""
    i, j = _rows_of(x, shape), _rows_of(y, shape)
    if i is not None or j is not None:
        every = torch.arange(math.prod(shape), device=x.device)
        i, j = (every if rows is None else rows for rows in (i, j))
    return Pairs(_flat(x), i, _flat(y), j, manifold == "polar", c)


class _Pairs(NamedTuple):
    """Rule of the distance of paired points, whose leading dimensions broadcast."""

    module: ModuleType
    manifold: Manifold
    c: float

    def value(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[()]]:
        shape = torch.broadcast_shapes(x.shape[:-1], y.shape[:-1])
        pairs = _as_pairs(x, y, shape, self.manifold, self.c)
        return self.module.pairs_forward(pairs).view(shape), ()

    def gradient(self, grad: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        pairs = _as_pairs(x, y, grad.shape, self.manifold, self.c)
        both = self.module.pairs_backward(pairs, grad.reshape(-1))
        return tuple(
            by.view(*grad.shape, of.shape[-1]).sum_to_size(of.shape)
            for by, of in zip(both, (x, y), strict=True)
        )

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        return _plain(x, y, self.manifold, self.c)


class _Matrix(NamedTuple):
    """Rule of the distance of every row of one table and every row of another."""

    module: ModuleType
    manifold: Manifold
    c: float

    def value(self, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[()]]:
        return self.module.cdist(x, y, self.manifold == "polar", self.c), ()

    def gradient(self, grad: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        return self.module.cdist_backward(x, y, self.manifold == "polar", self.c, grad)

    def plain(self, x: Tensor, y: Tensor) -> Tensor:
        """All distances as pairs: what has a second derivative takes memory [n, m, dim]."""
        return _plain(x[:, None], y, self.manifold, self.c)


class _TablePairs(NamedTuple):
    """Rule of the distance of rows of one table."""

    module: ModuleType
    manifold: Manifold
    c: float
    sparse: bool

    def value(self, table: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, tuple[()]]:
        pairs = Pairs(table, i, table, j, self.manifold == "polar", self.c)
        return self.module.pairs_forward(pairs), ()

    def gradient(
        self, grad: Tensor, table: Tensor, i: Tensor, j: Tensor
    ) -> tuple[Tensor, None, None]:
        pairs = Pairs(table, i, table, j, self.manifold == "polar", self.c)
        both = self.module.pairs_backward(pairs, grad)
        rows, values = torch.cat((i, j)), torch.cat(both)
        return table_gradient(self.module, rows, values, table, self.sparse), None, None

    def plain(self, table: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return _plain_rows(table, i, j, self.manifold, self.c, self.sparse)


def _plain(x: Tensor, y: Tensor, manifold: Manifold, c: float | Tensor) -> Tensor:
    """Distance of paired points by geometry."""
    if manifold == "ball":
        return ball.dist(x, y, c=c)
    return polar.dist(x[..., 0], x[..., 1:], y[..., 0], y[..., 1:])


def _plain_rows(
    table: Tensor, i: Tensor, j: Tensor, manifold: Manifold, c: float | Tensor, sparse: bool
) -> Tensor:
    """Distance of rows of a table by geometry."""
    x = torch.nn.functional.embedding(i, table, sparse=sparse)
    y = torch.nn.functional.embedding(j, table, sparse=sparse)
    return _plain(x, y, manifold, c)
