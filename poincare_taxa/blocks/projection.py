"""Projection of points that have left their space, and clipping of gradients.

Three functions, each usable alone: `project_after_step` projects the rows that the optimizer
changed, `project_all` the whole table (at the end of an epoch), and `clip_gradients` limits the
gradients before the step. `ProjectionHandle.moved` counts corrections; with an exact manifold and a
Riemannian optimizer it stays 0.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.blocks._sparse import coalesced
from poincare_taxa.blocks.manifolds import Polar
from poincare_taxa.geometry import ball

__all__ = ["ProjectionHandle", "clip_gradients", "project_after_step", "project_all"]

Project = Callable[[Tensor], Tensor]
Tables = torch.nn.Module | Tensor | Iterable[Tensor]


class ProjectionHandle:
    """Result of `project_after_step`: counts, and `remove`, which ends the projection.

    Attributes
    ----------
    steps : int
        Number of optimizer steps so far.
    touched : int
        Number of rows projected so far, whether or not that changed them.
    """

    steps: int
    touched: int

    def __init__(
        self, optimizer: torch.optim.Optimizer, tables: list[Tensor], project: Project | None
    ) -> None:
        self.steps = 0
        self._tables = tables
        self._project = project
        # A tensor where the rows are: reading a number from a device at every step would wait.
        self._moved: Tensor | int = 0
        self.touched = 0
        self._hook = optimizer.register_step_post_hook(self._after_step)

    def __repr__(self) -> str:
        counts = f"{self.moved:,} of {self.touched:,} rows brought back"
        return f"ProjectionHandle({counts} in {self.steps:,} steps)"

    @property
    def moved(self) -> int:
        """Number of corrections so far; a row counts each time."""
        return int(self._moved)

    def remove(self) -> None:
        """End the projection; the counts remain."""
        self._hook.remove()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        for table in self._tables:
            if table.grad is None:
                continue
            rows = coalesced(table.grad).indices()[0] if table.grad.is_sparse else None
            moved, touched = _project_rows(table, rows, self._project)
            self._moved += moved
            self.touched += touched


def project_after_step(
    optimizer: torch.optim.Optimizer, tables: Tables, *, project: Project | None = None
) -> ProjectionHandle:
    """Project the rows that an optimizer changed, after each of its steps.

    These are the rows of a sparse gradient. With a dense one they are all rows, since momentum
    changes rows that have no gradient; the cost is that of the dense step itself.

    Parameters
    ----------
    optimizer
        Any torch optimizer; this is a post-hook of its ``step``.
    tables
        Parameters [rows, coordinates] of the optimizer, or a module, for example a
        `PoincareEmbedding`.
    project
        ``points [k, coordinates] -> points``. By default the ``projx`` of each parameter's
        ``manifold``, and `ball.project` for parameters without one.

    Returns
    -------
    handle
        ``handle.moved`` counts the rows that had left their space; ``handle.remove()`` ends the
        projection.

    Raises
    ------
    ValueError
        If there are no parameters, or some that are not the optimizer's.

    Examples
    --------
    >>> points = torch.nn.Parameter(torch.tensor([[0.5, 0.0], [0.9, 0.0]]))
    >>> optimizer = torch.optim.SGD([points], lr=0.3)
    >>> handle = project_after_step(optimizer, points)
    >>> (-points[:, 0].sum()).backward()
    >>> optimizer.step()
    >>> points.detach().norm(dim=1), handle.moved
    (tensor([0.8000, 1.0000]), 1)
    """
    listed = _listed(tables)
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    strangers = [table for table in listed if id(table) not in stepped]
    if not listed or strangers:
        shapes = [tuple(table.shape) for table in strangers]
        raise ValueError(
            f"the optimizer does not have the parameters of shape {shapes}: make it with them"
            if listed
            else "there are no parameters to project; give a module, a parameter, or a list of them"
        )
    return ProjectionHandle(optimizer, listed, project)


@torch.no_grad()
def project_all(tables: Tables, *, project: Project | None = None) -> int:
    """Project every row now and count the rows that changed; arguments as in `project_after_step`.

    Examples
    --------
    >>> project_all(torch.tensor([[0.5, 0.0], [3.0, 4.0]]))
    1
    """
    return sum(int(_project_rows(table, None, project)[0]) for table in _listed(tables))


@torch.no_grad()
def clip_gradients(tables: Tables, max_norm: float) -> Tensor:
    """Scale gradients so that their joint norm is at most `max_norm`; returns the norm before.

    `torch.nn.utils.clip_grad_norm_` does the same, but not for sparse gradients.

    Parameters
    ----------
    tables
        As in `project_after_step`; those without a gradient are left out.
    max_norm
        Greatest Euclidean norm of all gradients together, > 0; taxembed clips at 1.

    Returns
    -------
    norm
        Scalar tensor; not finite where a gradient is not (then nothing is scaled).

    Raises
    ------
    ValueError
        If ``max_norm <= 0``.

    Examples
    --------
    >>> points = torch.nn.Parameter(torch.zeros(2, 2))
    >>> (3 * points[0, 0] + 4 * points[1, 1]).backward()
    >>> clip_gradients(points, 1.0), points.grad
    (tensor(5.), tensor([[0.6000, 0.0000],
            [0.0000, 0.8000]]))
    """
    if not max_norm > 0:
        raise ValueError(f"max_norm must be positive; got {max_norm}")
    values = []
    for table in _listed(tables):
        if table.grad is not None and table.grad.is_sparse:
            table.grad = coalesced(table.grad)
            values.append(table.grad.values())
        elif table.grad is not None:
            values.append(table.grad)
    if not values:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(v) for v in values]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if max_norm == math.inf:
        return norm
    scale = torch.where(norm.isfinite(), (max_norm / norm).clamp(max=1), 1)
    for value in values:
        value.mul_(scale)
    return norm


def _listed(tables: Tables) -> list[Tensor]:
    if isinstance(tables, torch.nn.Module):
        return list(tables.parameters())
    return [tables] if isinstance(tables, Tensor) else list(tables)


def _project_rows(
    table: Tensor, rows: Tensor | None, project: Project | None
) -> tuple[Tensor | int, int]:
    """Project some rows in place, or all; returns the number changed and projected."""
    manifold: Any = getattr(table, "manifold", None)
    looked_at = len(table) if rows is None else len(rows)
    default: Project = getattr(manifold, "projx", ball.project)
    known = project is None and isinstance(manifold, Polar) and table.is_contiguous()
    if known and table.device.type == "cpu":
        from poincare_taxa.kernels.numba.adam import left_space

        rows = left_space(table, rows)  # few: without a copy of all others
        if len(rows) == 0:
            return 0, looked_at
    before = table.detach() if rows is None else table.detach()[rows]
    after = (project or default)(before)
    stayed = (after == before) | before.isnan()  # a projection does not mend nan
    if rows is None:
        table.copy_(after)
    else:
        table[rows] = after
    return (~stayed.all(-1)).sum(), looked_at
