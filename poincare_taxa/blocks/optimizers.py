r"""Riemannian Adam, one row at a time, in the orthonormal frame of each point.

Embedding tables are wide in rows and narrow in columns, and a batch touches few rows. geoopt's
RiemannianAdam moves all of them (momentum carries rows without a gradient) and parallel-transports
every momentum; its sparse twin corrects the bias of a row's moments by the number of *all* steps.

Notation, per touched row: f the gradient in the frame, split into parts f_k (radius and direction
in `Polar`, the whole in `PoincareBall`); t how often the row was touched.

.. math:: m \leftarrow \beta_1 m + (1-\beta_1) f, \qquad
          v_k \leftarrow \beta_2 v_k + (1-\beta_2) |f_k|^2,

.. math:: \text{step}_k = -\eta\,\frac{m_k/(1-\beta_1^t)}
                               {\sqrt{v_k/(1-\beta_2^t)} + \epsilon}.

Sources: [KB15] Kingma & Ba 2015, algorithm 1. [BG19] Bécigneul & Ganea 2019, *Riemannian Adaptive
Optimization Methods*, algorithm 1a (one second moment per factor, so that the step does not depend
on the choice of axes).
"""

from collections.abc import Callable, Iterable
from typing import Any, cast

import torch
from torch import Tensor

from poincare_taxa.blocks.manifolds import Polar
from poincare_taxa.kernels.backend import choose

__all__ = ["RowwiseRiemannianAdam"]


class RowwiseRiemannianAdam(torch.optim.Optimizer):
    """Adam in hyperbolic units that touches only the rows with a gradient.

    A step of `Polar` changes the radius by at most about ``lr`` and moves the point sideways by at
    most about ``lr``, whatever its radius: the direction's step is divided by sinh r and *added* to
    the stored direction (see `Polar.retr`), so that deep points keep what distinguishes them.
    The first moment is carried along by parallel transport, which matters near the origin: without
    it, momentum is lost at every turn of a direction.

    Parameters
    ----------
    params
        `geoopt.ManifoldParameter` tables [rows, coordinates] on `Polar` or `PoincareBall`, or
        parameter groups of them. Gradients may be dense or sparse; a row whose gradient is zero in
        every component is not touched.
    lr
        Length of a step in hyperbolic units, >= 0.
    betas
        Decay of the moments, in [0, 1).
    eps
        Added to the root of the second moment: gradients well below it move nothing. Far pairs pull
        a deep point sideways by e^{−r} only; that is what it should ignore.
    radius_lr
        Step of the radius in `Polar`, >= 0; 0 keeps radii to the bit, None means ``lr``.

    Raises
    ------
    ValueError
        If a number is out of its range, a parameter is not a table on one of the two manifolds, or
        ``radius_lr`` is given for a manifold without a radius of its own.

    Notes
    -----
    Compared with geoopt on one core (``python -m benchmarks optimizers``), a step that changes
    20,000 of 2.6 million rows takes 14 ms, with its sparse Adam 39 ms and 1.6 times the state, with
    its dense one 12 s. The stress of a small tree after 600 steps, each at its best step size, is
    0.061, 0.072 and 0.237 (0.99 at the start).

    Examples
    --------
    The first step moves the radius by lr, against the gradient.

    >>> import geoopt
    >>> from poincare_taxa.blocks.manifolds import Polar
    >>> x = geoopt.ManifoldParameter(torch.tensor([[1.0, 0.0, 1.0]]), manifold=Polar())
    >>> x[0, 0].backward()
    >>> RowwiseRiemannianAdam([x], lr=0.25).step()
    >>> x.detach()
    tensor([[0.7500, 0.0000, 1.0000]])
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        radius_lr: float | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "radius_lr": radius_lr}
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the same checks as the constructor."""
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step; returns what ``closure``, which recomputes the loss, returns."""
        return step_tables(self, closure, self._step_rows)

    def _step_rows(self, table: Any, group: dict[str, Any]) -> None:
        rows, gradient = _touched(table.grad)
        manifold = table.manifold
        state = self.state[table]
        if not state:
            parts = len(manifold.frame_parts(table[:0]))
            state["touched"] = table.new_zeros(len(table), 1)
            state["exp_avg"] = torch.zeros_like(table, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = table.new_zeros(len(table), parts)

        beta1, beta2 = group["betas"]
        rates = [group["lr"], group["lr"]]
        if group["radius_lr"] is not None:
            rates[0] = group["radius_lr"]
        kernels: Any = choose("auto", table.device)
        if hasattr(kernels, "adam_step") and isinstance(manifold, Polar) and table.is_contiguous():
            moments = state["touched"], state["exp_avg"], state["exp_avg_sq"]
            kernels.adam_step(table, rows, gradient, moments, *rates, beta1, beta2, group["eps"])
            return

        x = table[rows]
        t = state["touched"][rows] + 1
        frame = manifold.frame_gradient(x, gradient)
        squares = [part.square().sum(-1, keepdim=True) for part in manifold.frame_parts(frame)]
        mean = torch.lerp(state["exp_avg"][rows], frame, 1 - beta1)
        square = torch.lerp(state["exp_avg_sq"][rows], torch.cat(squares, dim=-1), 1 - beta2)

        size = (square / (1 - beta2**t)).sqrt() + group["eps"]
        steps = [
            -rate * part / ((1 - beta1**t) * size[:, k : k + 1])
            for k, (part, rate) in enumerate(zip(manifold.frame_parts(mean), rates, strict=False))
        ]
        moved, mean = manifold.frame_walk(x, torch.cat(steps, dim=-1), mean)

        table[rows] = moved
        state["touched"][rows] = t
        state["exp_avg"][rows] = mean
        state["exp_avg_sq"][rows] = square


def _touched(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows with a gradient, and their gradients [rows, coordinates]."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        rows, values = gradient.indices()[0], gradient.values()
        moving = (values != 0).any(-1)
        return rows[moving], values[moving]
    rows = (gradient != 0).any(-1).nonzero()[:, 0]
    return rows, gradient[rows]


def step_tables(
    optimizer: torch.optim.Optimizer,
    closure: Callable[[], float] | None,
    step: Callable[[Any, dict[str, Any]], None],
) -> float | None:
    """Step every table that has a gradient, with its group; returns what ``closure`` returns."""
    loss = None
    if closure is not None:
        with torch.enable_grad():
            loss = closure()
    for group in optimizer.param_groups:
        for table in group["params"]:
            if table.grad is not None:
                step(table, group)
    return loss


def _check(group: dict[str, Any]) -> None:
    for name in ("lr", "eps", "radius_lr"):
        value = group[name]
        if value is not None and not value >= 0:
            raise ValueError(f"{name} must be at least 0; got {value}")
    if not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"betas must be in [0, 1); got {group['betas']}")
    for table in cast(list[Any], group["params"]):
        manifold: Any = getattr(table, "manifold", None)
        if not hasattr(manifold, "frame_gradient"):
            raise ValueError(
                "RowwiseRiemannianAdam moves parameters on Polar or PoincareBall of this library; "
                f"got one on {manifold}. For plain tensors use torch.optim.Adam or SparseAdam"
            )
        if table.ndim != 2:
            raise ValueError(f"parameters must be tables [rows, coordinates]; got {table.ndim}-D")
        if group["radius_lr"] is not None and len(manifold.frame_parts(table[:0])) == 1:
            raise ValueError(f"radius_lr needs a manifold with a radius (Polar); got {manifold}")
