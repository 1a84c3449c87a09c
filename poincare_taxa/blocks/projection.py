"""Keep points in their space after each step: the projection hook and its two companions.

Three layers, each usable alone: `project_after_step` on the rows that the optimizer touched,
`project_all` on the whole table (at the end of an epoch), and `clip_gradients` before the step.
Where exact manifolds and a Riemannian optimizer are used, the first two find nothing to do; that
they say so (`moved`) is the point.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.geometry import ball

__all__ = ["ProjectionHandle", "clip_gradients", "project_after_step", "project_all"]

Project = Callable[[Tensor], Tensor]
Tables = torch.nn.Module | Tensor | Iterable[Tensor]


class ProjectionHandle:
    """What `project_after_step` returns: counts, and a way to stop.

    Attributes
    ----------
    steps : int
        Optimizer steps seen.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, tables: list[Tensor], project: Project | None
    ) -> None:
        self.steps = 0
        self._tables = tables
        self._project = project
        # On the device: reading a count there would wait for it at every step.
        self._moved = torch.zeros((), dtype=torch.int64, device=tables[0].device)
        self._touched = torch.zeros_like(self._moved)
        self._hook = optimizer.register_step_post_hook(self._after_step)

    @property
    def moved(self) -> int:
        """How many rows were moved so far; a row counts each time."""
        return int(self._moved)

    @property
    def touched(self) -> int:
        """How many rows were looked at so far."""
        return int(self._touched)

    def remove(self) -> None:
        """Stop projecting; the counts stay."""
        self._hook.remove()

    @torch.no_grad()
    def _after_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        for table in self._tables:
            if table.grad is None:
                continue
            rows = table.grad.coalesce().indices()[0] if table.grad.is_sparse else None
            moved, touched = _project_rows(table, rows, self._project)
            self._moved += moved
            self._touched += touched


def project_after_step(
    optimizer: torch.optim.Optimizer, tables: Tables, *, project: Project | None = None
) -> ProjectionHandle:
    """Project the rows that an optimizer touched, after each of its steps.

    These are the rows of a sparse gradient. With a dense one they are all rows, since momentum
    moves rows that have no gradient; that is as cheap as the dense step itself.

    Parameters
    ----------
    optimizer
        Any torch optimizer; this is a post-hook of its ``step``.
    tables
        Parameters [rows, coordinates] that it steps, or a module, for example a
        `PoincareEmbedding`.
    project
        ``points [k, coordinates] -> points``. By default the ``projx`` of each parameter's
        ``manifold``, and `ball.project` for parameters without one.

    Returns
    -------
    handle
        ``handle.moved`` counts the rows that had left their space; ``handle.remove()`` ends it.

    Raises
    ------
    ValueError
        If there is nothing to project, or the optimizer does not step it.

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
            f"the optimizer does not step the parameters of shape {shapes}: make it with them"
            if listed
            else "there are no parameters to project; give a module, a parameter, or a list of them"
        )
    return ProjectionHandle(optimizer, listed, project)


@torch.no_grad()
def project_all(tables: Tables, *, project: Project | None = None) -> int:
    """Project every row now; returns how many moved. Arguments as of `project_after_step`.

    Examples
    --------
    >>> project_all(torch.tensor([[0.5, 0.0], [3.0, 4.0]]))
    1
    """
    return sum(int(_project_rows(table, None, project)[0]) for table in _listed(tables))


@torch.no_grad()
def clip_gradients(tables: Tables, max_norm: float) -> Tensor:
    """Scale gradients so that their joint norm is at most `max_norm`; returns the norm before.

    As `torch.nn.utils.clip_grad_norm_`, which does not take sparse gradients.

    Parameters
    ----------
    tables
        As of `project_after_step`; those without a gradient are left out.
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
            table.grad = table.grad.coalesce()
            values.append(table.grad.values())
        elif table.grad is not None:
            values.append(table.grad)
    if not values:
        return torch.zeros(())
    norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(v) for v in values]))
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
) -> tuple[Tensor, int]:
    """Project some rows in place, or all; returns how many moved (a tensor), of how many."""
    default: Project = getattr(getattr(table, "manifold", None), "projx", ball.project)
    before = table.detach() if rows is None else table.detach()[rows]
    after = (project or default)(before)
    stayed = (after == before) | before.isnan()  # a nan is no business of a projection
    if rows is None:
        table.copy_(after)
    else:
        table[rows] = after
    return (~stayed.all(-1)).sum(), len(before)
