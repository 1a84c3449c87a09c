r"""Adam for tables of points: `RowwiseRiemannianAdam` and, for closure mode, `AngularAdam`.

`RowwiseRiemannianAdam` steps plain tensors too, as AdamW, so that a network and its table have one
optimizer.

Embedding tables are wide in rows and narrow in columns, and a batch touches few rows. geoopt's
RiemannianAdam moves all of them (momentum carries rows without a gradient) and parallel-transports
every momentum; its sparse twin corrects the bias of a row's moments by the number of *all* steps.

Notation, per row: f the gradient in an orthonormal frame (`AngularAdam`: in coordinates), split
into parts f_k (radius and direction in `Polar`, the whole in `PoincareBall`); t how often the row
was touched. Both classes have one update of the moments:

.. math:: m \leftarrow \beta_1 m + (1-\beta_1) f, \qquad
          v_k \leftarrow \beta_2 v_k + (1-\beta_2) |f_k|^2,

.. math:: \text{step}_k = -\eta\,\frac{m_k/(1-\beta_1^t)}
                               {\sqrt{v_k/(1-\beta_2^t)} + \epsilon}.

Sources: [KB15] Kingma & Ba 2015, algorithm 1. [BG19] Bécigneul & Ganea 2019, *Riemannian Adaptive
Optimization Methods*, algorithm 1a (one second moment per factor, so that the step does not depend
on the choice of axes). [LH19] Loshchilov & Hutter 2019, *Decoupled Weight Decay Regularization*,
algorithm 2, of the plain tensors.
"""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from poincare_taxa.blocks._sparse import coalesced
from poincare_taxa.blocks.manifolds import PoincareBall, Polar, own_manifold
from poincare_taxa.blocks.riemannian import geoopt

__all__ = ["AngularAdam", "RowwiseRiemannianAdam"]


_INNERMOST = 1e-3
"""Radius at which `AngularAdam` stops points that move inwards: at 0 there are no directions."""


class _TableAdam(torch.optim.Optimizer):
    """Common to both: groups are checked, and each table with a gradient is stepped."""

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, with the same checks as the constructor."""
        # torch's own is wrapped for torch.compile, and the wrapper imports the whole compiler
        inspect.unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)
        try:
            self._check(self.param_groups[-1])
        except ValueError:
            self.param_groups.pop()
            raise

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step; returns what ``closure``, which recomputes the loss, returns."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group([p for p in group["params"] if p.grad is not None], group)
        return loss

    def _step_group(self, tables: list[Any], group: dict[str, Any]) -> None:
        for table in tables:
            self._step_table(table, group)

    def _check(self, group: dict[str, Any]) -> None:
        raise NotImplementedError

    def _step_table(self, table: Any, group: dict[str, Any]) -> None:
        raise NotImplementedError


class RowwiseRiemannianAdam(_TableAdam):
    """Adam in hyperbolic units that touches only the rows with a gradient; AdamW of plain tensors.

    A step of `Polar` changes the radius by at most about ``lr`` and moves the point sideways by at
    most about ``lr``, whatever its radius: the direction's step is divided by sinh r and *added* to
    the stored direction (see `Polar.retr`), so that deep points keep what distinguishes them.
    The first moment is carried along by parallel transport, which matters near the origin: without
    it, momentum is lost at every turn of a direction.

    Parameters
    ----------
    params
        Parameters, or parameter groups with settings of their own. `geoopt.ManifoldParameter`
        tables [rows, coordinates] on `Polar` or a Poincaré ball take row-wise steps: their
        gradients may be dense or sparse, and a row whose gradient is zero in every component is
        not touched. All other tensors, with dense gradients, take the steps of
        `torch.optim.AdamW`, to the bit. Both kinds may be in one group.
    lr
        Length of a step in hyperbolic units, >= 0; of plain tensors, the step size of AdamW.
    betas
        Decay of the moments, in [0, 1).
    eps
        Added to the root of the second moment: gradients well below it move nothing. Far pairs pull
        a deep point sideways by e^{−r} only; that is what it should ignore.
    radius_lr
        Step of the radius in `Polar`, >= 0; 0 keeps radii to the bit, None means ``lr``.
    weight_decay
        Decay of plain tensors, >= 0: each step shrinks them by the factor 1 − lr · weight_decay.
        Points have none, since it would pull them to the root.

    Raises
    ------
    ValueError
        If a number is out of its range, a parameter is on another manifold or no table of points,
        or ``radius_lr`` is given for a manifold without a radius of its own.
    RuntimeError
        In ``step``, if a plain tensor has a sparse gradient.

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

    A network and a table, with one schedule for both:

    >>> encoder = torch.nn.Linear(3, 2)
    >>> groups = [{"params": [x], "lr": 0.1}, {"params": encoder.parameters(), "lr": 1e-3}]
    >>> optimizer = RowwiseRiemannianAdam(groups)
    >>> schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 100)
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        radius_lr: float | None = None,
        weight_decay: float = 0.01,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "radius_lr": radius_lr}
        super().__init__(params, {**defaults, "weight_decay": weight_decay})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:  # saved before there were plain tensors
            group.setdefault("weight_decay", 0.01)

    def _check(self, group: dict[str, Any]) -> None:
        _check_sizes(group, "lr", "eps", "radius_lr", "weight_decay")
        for table in group["params"]:
            if _is_plain(table):
                continue
            try:
                manifold = own_manifold(table.manifold)
            except ValueError as error:
                raise ValueError(
                    "RowwiseRiemannianAdam moves tables on Polar or a Poincaré ball, and plain "
                    f"tensors; got a parameter on {table.manifold} ({error}). geoopt.optim has "
                    "optimizers for every manifold of geoopt"
                ) from error
            if table.ndim != 2:
                raise ValueError(
                    f"parameters must be tables [rows, coordinates]; got {table.ndim}-D"
                )
            if group["radius_lr"] is not None and not isinstance(manifold, Polar):
                raise ValueError(
                    f"radius_lr needs a manifold with a radius (Polar); got {manifold}"
                )

    def _step_group(self, tables: list[Any], group: dict[str, Any]) -> None:
        plain, curved = [], []
        for tensor in tables:
            (plain if _is_plain(tensor) else curved).append(tensor)
        super()._step_group(curved, group)
        if plain:  # adamw of nothing takes as long as the step of a small table
            self._step_plain(plain, group)

    def _step_plain(self, tensors: list[Tensor], group: dict[str, Any]) -> None:
        """Take a step of AdamW [LH19], torch's own."""
        for tensor in tensors:
            if tensor.grad is not None and tensor.grad.is_sparse:
                raise RuntimeError(
                    f"a plain tensor of shape {tuple(tensor.shape)} has a sparse gradient, of "
                    "which AdamW knows no step; make its module with sparse=False"
                )
            if not self.state[tensor]:
                self.state[tensor] = {
                    "step": torch.zeros(()),
                    "exp_avg": torch.zeros_like(tensor),
                    "exp_avg_sq": torch.zeros_like(tensor),
                }
        moments = [
            [self.state[tensor][name] for tensor in tensors]
            for name in ("exp_avg", "exp_avg_sq", "step")
        ]
        gradients: list[Any] = [tensor.grad for tensor in tensors]
        adamw(
            tensors,
            gradients,
            moments[0],
            moments[1],
            [],
            moments[2],
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )

    def _step_table(self, table: Any, group: dict[str, Any]) -> None:
        manifold, state = own_manifold(table.manifold), self.state[table]
        if not state:
            parts = len(manifold.frame_parts(table[:0]))
            state["touched"] = table.new_zeros(len(table), 1)
            state["exp_avg"] = torch.zeros_like(table, memory_format=torch.contiguous_format)
            state["exp_avg_sq"] = table.new_zeros(len(table), parts)
        rates = [group["lr"] if group["radius_lr"] is None else group["radius_lr"], group["lr"]]
        moments = state["touched"], state["exp_avg"], state["exp_avg_sq"]
        if table.device.type == "cpu" and isinstance(manifold, Polar) and table.is_contiguous():
            self._step_compiled(table, rates, moments, group)
        else:
            self._step_tensors(table, rates, moments, group)

    def _step_compiled(
        self, table: Any, rates: list[float], moments: tuple[Tensor, ...], group: dict[str, Any]
    ) -> None:
        from poincare_taxa.kernels.numba.adam import adam_step

        rows, gradient = _touched(table.grad)
        adam_step(table, rows, gradient, moments, *rates, *group["betas"], group["eps"])

    def _step_tensors(
        self, table: Any, rates: list[float], moments: tuple[Tensor, ...], group: dict[str, Any]
    ) -> None:
        rows, gradient = _touched(table.grad)
        moving = (gradient != 0).any(-1)
        rows, gradient = rows[moving], gradient[moving]
        manifold, x = own_manifold(table.manifold), table[rows]
        touched, mean, square = (moment[rows] for moment in moments)
        touched = touched + 1
        frame = manifold.frame_gradient(x, gradient)
        mean, square, ways = _adam(manifold, frame, mean, square, touched, group)
        steps = [-rate * way for rate, way in zip(rates, ways, strict=False)]
        table[rows], mean = manifold.frame_walk(x, torch.cat(steps, dim=-1), mean)
        for moment, value in zip(moments, (touched, mean, square), strict=True):
            moment[rows] = value


class AngularAdam(_TableAdam):
    """Adam whose steps in `Polar` are of one length in radius and of one *angle* in direction.

    As `RowwiseRiemannianAdam`, without the division by sinh r: a point at radius 10 turns as far as
    one at radius 1. That is what lets whole clades change places; with ``lr`` falling to 0, deep
    nodes settle last. Every row moves at every step, by its momentum where it has no gradient.

    Parameters
    ----------
    params
        `geoopt.ManifoldParameter` tables on `Polar`, or groups of them; dense gradients.
    lr
        Step of the direction in radians, at least 0.
    radius_ratio
        Step of the radius, in units of distance, as a multiple of ``lr``, at least 0.
    betas
        Decay of the moments, in [0, 1).
    eps
        Added to the root of the second moment.

    Raises
    ------
    ValueError
        If a number is out of its range, or a parameter is not on `Polar`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-12,
        radius_ratio: float = 1.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "radius_ratio": radius_ratio}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        _check_sizes(group, "lr", "eps", "radius_ratio")
        for table in group["params"]:
            if not isinstance(manifold := _manifold_of(table), Polar):
                raise ValueError(f"AngularAdam moves points of Polar; got some of {manifold}")

    def _step_table(self, table: Any, group: dict[str, Any]) -> None:
        x, manifold, state = table.detach().as_subclass(Tensor), table.manifold, self.state[table]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(x)
            state["exp_avg_sq"] = x.new_zeros(len(x), 2)
        state["step"] += 1
        moments = state["exp_avg"], state["exp_avg_sq"], state["step"]
        gradient = manifold.proju(x, table.grad)
        mean, square, (outward, turn) = _adam(manifold, gradient, *moments, group)
        x[:, :1].sub_(group["radius_ratio"] * group["lr"] * outward).clamp_(min=_INNERMOST)
        x[:, 1:].sub_(turn.mul_(group["lr"]))
        x[:, 1:] /= torch.linalg.vector_norm(x[:, 1:], dim=1, keepdim=True)
        state["exp_avg"] = manifold.proju(x, mean)
        state["exp_avg_sq"] = square


def _adam(
    manifold: Polar | PoincareBall,
    gradient: Tensor,
    mean: Tensor,
    square: Tensor,
    t: Tensor | int,
    group: dict[str, Any],
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Moments after a gradient, and the parts of the step of length about 1, uphill [KB15]."""
    beta1, beta2 = group["betas"]
    squares = [part.square().sum(-1, keepdim=True) for part in manifold.frame_parts(gradient)]
    mean = torch.lerp(mean, gradient, 1 - beta1)
    square = torch.lerp(square, torch.cat(squares, dim=-1), 1 - beta2)
    size = ((square / (1 - beta2**t)).sqrt_() + group["eps"]) * (1 - beta1**t)
    parts = manifold.frame_parts(mean)
    return mean, square, [part / size[:, k : k + 1] for k, part in enumerate(parts)]


def _touched(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Rows that may have a gradient, ascending, and their gradients [rows, coordinates]."""
    if gradient.is_sparse:
        gradient = coalesced(gradient)
        return gradient.indices()[0], gradient.values()
    rows = (gradient != 0).any(-1).nonzero()[:, 0]
    return rows, gradient[rows]


def _is_plain(parameter: Any) -> bool:
    """Whether a parameter is on no manifold, or on the flat one."""
    return isinstance(_manifold_of(parameter), geoopt.Euclidean | None)


def _manifold_of(table: Any) -> geoopt.Manifold | None:
    """Manifold of a parameter; None of a plain tensor."""
    return table.manifold if isinstance(table, geoopt.ManifoldParameter) else None


def _check_sizes(group: dict[str, Any], *names: str) -> None:
    """Raise ValueError unless these numbers are at least 0 (or None) and betas in [0, 1)."""
    for name in names:
        if group[name] is not None and not group[name] >= 0:
            raise ValueError(f"{name} must be at least 0; got {group[name]}")
    if not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"betas must be in [0, 1); got {group['betas']}")
