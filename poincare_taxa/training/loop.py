"""The loop of `fit`: epochs, steps, the history, and the state that a checkpoint holds."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Self

import polars as pl
import torch
from torch import Tensor

from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam
from poincare_taxa.blocks.projection import clip_gradients, project_after_step, project_all
from poincare_taxa.files.records import as_json
from poincare_taxa.processes.digests import digest
from poincare_taxa.processes.group import Processes
from poincare_taxa.processes.torchrun import job
from poincare_taxa.training.checkpoint import Checkpoint, Checkpoints
from poincare_taxa.training.defaults import Recipe
from poincare_taxa.training.early_stopping import EarlyStopping
from poincare_taxa.training.objectives import Shares
from poincare_taxa.training.provenance import called, described, translated

__all__ = ["Loop"]

_ADVICE = "a smaller lr or max_grad_norm may help; checkpoints of the epochs before are kept"

Row = dict[str, Any]


@dataclass(eq=False)
class _Steps:
    """What the steps of an epoch had: sums of terms, norms of gradients, rows projected."""

    sums: dict[str, float] = field(default_factory=dict)
    norms: list[float] = field(default_factory=list)
    moved: int = 0
    touched: int = 0
    failed: FloatingPointError | None = None
    table: str = ""  # SHA-256 of the points after the epoch, where others have to have the same

    def add(self, terms: dict[str, float], norm: float) -> None:
        """Add those of a step."""
        self.norms.append(norm)
        for name, term in terms.items():
            self.sums[name] = self.sums.get(name, 0.0) + term

    @classmethod
    def joined(cls, parts: list[Self]) -> Self:
        """Those of processes that moved rows of their own.

        Terms are averaged; gradients of rows that differ have the root of the sum of squares.
        """
        return cls(
            {name: sum(part.sums[name] for part in parts) / len(parts) for name in parts[0].sums},
            [math.hypot(*step) for step in zip(*(part.norms for part in parts), strict=True)],
            sum(part.moved for part in parts),
            sum(part.touched for part in parts),
        )


@dataclass(eq=False)
class Loop:
    """A run. Its state between epochs: the table, the optimizer, the generator, the history.

    Attributes
    ----------
    points
        The table.
    names
        What its rows are called.
    recipe
        Objective, optimizer, number of epochs, schedule of the step size.
    generator
        Randomness of the batches.
    measure
        Returns measures of the table, which are columns of the history; all processes call it.
    watch
        Called with each new row of the history; returns columns to add.
    max_grad_norm, project, stopping
        As in `fit`.
    settings
        What the run is known by, with those of the loop itself; a checkpoint of other settings is
        refused.
    processes
        Those that train together.
    """

    points: Any
    names: pl.Series
    recipe: Recipe
    generator: torch.Generator
    measure: Callable[[], dict[str, float]]
    watch: Callable[[Row], Row]
    max_grad_norm: float | None
    project: bool
    stopping: EarlyStopping | None
    settings: dict[str, Any]
    processes: Processes

    def __post_init__(self) -> None:
        if self.max_grad_norm is not None and not self.max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive; got {self.max_grad_norm}")
        self.optimizer: torch.optim.Optimizer = self.recipe.optimizer([self.points])
        self.settings = {
            **self.settings,
            "max_grad_norm": self.max_grad_norm,
            "project": self.project,
            "early_stopping": described(self.stopping),
            "optimizer": [type(self.optimizer).__name__, described(self.optimizer.defaults)],
        }
        if self.processes.size > 1:
            self.recipe.objective.split(self.processes.rank, self.processes.size)
        self.processes.require_equal(
            self.settings, "the processes have other sources or settings: call fit alike in all"
        )
        self.history: list[Row] = []
        self.best: tuple[int, Tensor | None] | None = None
        # By row: the process that alone has its moments, or -1; None where all have all.
        self._owner: Tensor | None = None
        self._base_lr = [group["lr"] for group in self.optimizer.param_groups]
        self._projection = project_after_step(self.optimizer, self.points) if self.project else None

    @property
    def best_epoch(self) -> int:
        """Epoch whose points the run ends with."""
        return self.history[-1]["epoch"] if self.best is None else self.best[0]

    def run(
        self,
        folder: Checkpoints | None,
        show: Callable[[list[Row]], None],
    ) -> None:
        """Train the epochs that are left, then return to the best one."""
        self.processes.copy_first(self.points)
        if not self.history:
            self._measured({"epoch": 0, "steps": 0}, lambda: 0.0)
        show(self.history)
        try:
            while self.history[-1]["epoch"] < self.recipe.epochs and not self._exhausted():
                began = time.perf_counter()
                row = self._epoch(self.history[-1]["epoch"])
                self._measured(row, lambda began=began: time.perf_counter() - began)
                if folder is not None:
                    self._exchange_moments()
                    self.processes.once(lambda folder=folder: self._save(folder))
                show(self.history)
        finally:
            if self._projection is not None:
                self._projection.remove()
        if self.best is not None and self.best[0] != self.history[-1]["epoch"]:
            with torch.no_grad():
                self.points.copy_(self._best_points(folder))

    def _measured(self, row: Row, seconds: Callable[[], float]) -> None:
        """Add measures and what callbacks return to a row, and remember it."""
        measures = self.measure()

        def complete() -> Row:
            measured = row | measures | {"seconds": seconds()}
            return measured | self.watch(measured)

        self._remember(self.processes.once(complete))

    def _save(self, folder: Checkpoints) -> None:
        keep = [] if self.best is None else [self.best[0]]
        folder.save(self.history[-1]["epoch"], self._tensors(), self._state(), keep=keep)

    # ---------------------------------------------------------------- an epoch

    def _epoch(self, epoch: int) -> Row:
        objective = self.recipe.objective
        objective.begin(epoch, self.points, self.generator)
        generator, steps = self.processes.generator(self.generator), objective.steps_per_epoch
        shares = self._shares()
        self._hand_over(shares)
        did = self._steps(epoch, generator, shares)
        if self.project:
            project_all(self.points)
        did = self._of_all(epoch, did, apart=shares is not None)
        row: Row = {"epoch": epoch + 1, "steps": steps}
        row |= _losses({name: total / steps for name, total in did.sums.items()})
        norm = torch.tensor(did.norms, dtype=torch.float64)
        row["lr"] = self.optimizer.param_groups[0]["lr"]
        row["gradient_norm"], row["gradient_norm_max"] = norm.mean().item(), norm.max().item()
        if self._projection is not None:
            row["projected"] = did.moved / max(did.touched, 1)
        return row

    def _of_all(self, epoch: int, did: _Steps, *, apart: bool) -> _Steps:
        """Return what the steps of all processes had, by one exchange.

        Raises the first error of a process in all of them, and one where tables are not equal.
        """
        did.failed = did.failed or self._spoiled(epoch)
        did.table = digest(self.points) if self.processes.size > 1 else ""
        parts = self.processes.values_of_all(did)
        for part in parts:
            if part.failed is not None:
                raise part.failed
        if any(part.table != did.table for part in parts):
            raise RuntimeError(
                f"the tables of {len(parts)} processes are not equal after epoch {epoch + 1}: an "
                "objective whose begin() draws from another generator than the one that it is "
                "given, or machines that round differently?"
            )
        return _Steps.joined(parts) if apart else did

    def _shares(self) -> Shares | None:
        """Rows that each process steps alone; None where all take the same step."""
        row_wise = isinstance(self.optimizer, RowwiseRiemannianAdam)
        if self.processes.size == 1 or not row_wise or self.max_grad_norm is not None:
            return None  # the norm is that of all gradients together
        return self.recipe.objective.shares()

    def _steps(self, epoch: int, generator: torch.Generator, shares: Shares | None) -> "_Steps":
        """Take the steps of an epoch, apart where processes move rows of their own."""
        objective, watch, did = self.recipe.objective, self._projection, _Steps()
        steps, apart = objective.steps_per_epoch, shares is not None
        before = (watch.moved, watch.touched) if watch else (0, 0)
        for step in range(steps):
            if did.failed is None:  # else only the exchanges for which others wait
                try:
                    did.add(*self._step(epoch, step, epoch + step / steps, generator, apart))
                except FloatingPointError as error:
                    if not apart:
                        raise
                    did.failed = error
            if shares is not None and ((step + 1) % shares.steps == 0 or step + 1 == steps):
                self.processes.exchange([self.points], shares.rows)
        if watch is not None:
            did.moved, did.touched = watch.moved - before[0], watch.touched - before[1]
        return did

    def _step(
        self, epoch: int, step: int, at: float, generator: torch.Generator, apart: bool
    ) -> tuple[dict[str, float], float]:
        """Take a step, alone or with all processes; the loss's terms, the norm of the gradient."""
        factor = self.recipe.lr_factor(at)
        for group, base in zip(self.optimizer.param_groups, self._base_lr, strict=True):
            group["lr"] = base * factor
        self.points.grad = None
        terms = self.recipe.objective(self.points, generator)
        total = reduce(torch.add, terms.values())
        total.backward(torch.full_like(total, 1 / self.processes.size))  # the mean of processes
        terms = {name: term.detach() for name, term in terms.items()}
        if not apart:
            terms = self.processes.average(self.points, terms)
        norm = clip_gradients(self.points, self.max_grad_norm or math.inf).item()
        numbers = torch.stack([term.reshape(()) for term in terms.values()]).tolist()
        values = dict(zip(terms, numbers, strict=True))
        if not (math.isfinite(sum(numbers)) and math.isfinite(norm)):
            raise self._diagnosis(f"epoch {epoch + 1}, step {step + 1}", values)
        self.optimizer.step()
        return values, norm

    def _moments(self) -> dict[str, Tensor]:
        """Moments of the optimizer that have a row for each of the points."""
        return {
            name: value
            for moments in self.optimizer.state.values()
            for name, value in moments.items()
            if isinstance(value, Tensor) and value.shape[:1] == self.points.shape[:1]
        }

    def _hand_over(self, shares: Shares | None) -> None:
        """Exchange moments of rows whose owner alone has them, if another process needs them.

        That is so where the shares of an epoch give a row to another process, or none have shares.
        """
        owned = [] if shares is None else shares.rows
        if self._owner is not None:
            was = [self._owner[rows] for rows in owned]
            given = any(bool(((of >= 0) & (of != rank)).any()) for rank, of in enumerate(was))
            if shares is None or given:
                self._exchange_moments()
        if shares is None:
            return
        if self._owner is None:
            size, device = len(self.points), self.points.device
            self._owner = torch.full((size,), -1, dtype=torch.int32, device=device)
        for rank, rows in enumerate(owned):
            self._owner[rows] = rank

    def _exchange_moments(self) -> None:
        """Give all processes the moments of rows that one has stepped alone."""
        if self._owner is not None:
            size = range(self.processes.size)
            owned = [(self._owner == rank).nonzero()[:, 0] for rank in size]
            self.processes.exchange(self._moments().values(), owned)
            self._owner = None

    def _spoiled(self, epoch: int) -> FloatingPointError | None:
        """Tell of points or moments that are not finite, before a checkpoint has them."""
        tables = {"points": self.points.detach()}
        tables |= {f"moments ({name})": value for name, value in self._moments().items()}
        for name, value in tables.items():
            if len(bad := _not_finite(value)):
                return FloatingPointError(
                    f"after epoch {epoch + 1} {name} are not finite, in "
                    f"{called(bad, self.names)}; {_ADVICE}"
                )
        return None

    def _diagnosis(self, when: str, terms: dict[str, float]) -> FloatingPointError:
        """Say what is not finite, and in which rows."""
        rows, where = _not_finite(self.points.detach()), "points"
        gradient: Any = self.points.grad
        if not len(rows) and gradient is not None:
            where = "gradients"
            if gradient.is_sparse:
                gradient = gradient.coalesce()
                rows = gradient.indices()[0][_not_finite(gradient.values())]
            else:
                rows = _not_finite(gradient)
        culprits = f"{where} are not finite in {called(rows, self.names)}; " if len(rows) else ""
        values = ", ".join(f"{name} {value:.3g}" for name, value in terms.items())
        return FloatingPointError(
            f"{when}: the loss or its gradient is not finite ({values}); {culprits}{_ADVICE}"
        )

    # ---------------------------------------------------------------- best

    def _remember(self, row: Row) -> None:
        """Append a row; its points are the best so far if its metric says so."""
        self.history.append(row)
        if self.stopping is None:
            return
        metric, epoch = self.stopping.metric, row["epoch"]
        if epoch < 2:
            self.stopping.require(row | self.history[0], begun=epoch > 0)
        best = math.nan if self.best is None else self.history[self.best[0]][metric]
        if self.stopping.better(row.get(metric, math.nan), best):
            self.best = epoch, self.points.detach().clone()

    def _exhausted(self) -> bool:
        if self.stopping is None or self.stopping.patience is None:
            return False
        best = 0 if self.best is None else self.best[0]
        return self.history[-1]["epoch"] - best >= self.stopping.patience

    def _best_points(self, folder: Checkpoints | None) -> Tensor:
        assert self.best is not None
        epoch, points = self.best
        if points is None:  # of an epoch before the run was resumed
            assert folder is not None
            points = self.processes.once(lambda: folder.load(epoch).tensors["points"])
        return points

    # ---------------------------------------------------------------- checkpoints

    def _tensors(self) -> dict[str, Tensor]:
        """All tensors of the state."""
        tensors = {"points": self.points, "generator": self.generator.get_state()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                if isinstance(value, Tensor):
                    tensors[f"optimizer.{index}.{name}"] = value
        return {name: tensor.detach().as_subclass(Tensor) for name, tensor in tensors.items()}

    def _state(self) -> dict[str, Any]:
        """Everything else."""
        state = self.optimizer.state_dict()
        numbers = {
            str(index): {k: v for k, v in moments.items() if not isinstance(v, Tensor)}
            for index, moments in state["state"].items()
        }
        return {
            "settings": self.settings,
            "history": as_json(self.history),
            "optimizer": {"state": numbers, "param_groups": state["param_groups"]},
            "job": job(),
        }

    def restore(self, folder: Checkpoints, epoch: int) -> None:
        """Go back to the state after an epoch.

        Raises
        ------
        ValueError
            If the checkpoint cannot be read, or is of a run with another source or other settings.
        """
        checkpoint = self.processes.once(lambda: folder.load(epoch))
        try:
            self._restore(checkpoint, folder, epoch)
        except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
            raise ValueError(
                f"{folder.path}: the checkpoint of epoch {epoch} is no state of this run "
                f"({type(error).__name__}: {error}). Delete it, and the run resumes from the one "
                "before"
            ) from error

    def _restore(self, checkpoint: Checkpoint, folder: Checkpoints, epoch: int) -> None:
        tensors, state = checkpoint
        self._compare(translated(state["settings"], self.settings), folder)
        moments: dict[int, Row] = {
            int(index): dict(numbers) for index, numbers in state["optimizer"]["state"].items()
        }
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, key = rest.partition(".")
                moments.setdefault(int(index), {})[key] = tensor
        groups = [
            {key: tuple(value) if key == "betas" else value for key, value in group.items()}
            for group in state["optimizer"]["param_groups"]
        ]
        points, now = tensors["points"], self.points
        if (points.shape, points.dtype) != (now.shape, now.dtype):
            raise TypeError(f"points {list(points.shape)} of {points.dtype}")
        with torch.no_grad():
            self.points.copy_(points)
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        self.generator.set_state(tensors["generator"])
        for row in state["history"]:
            self._remember({key: math.nan if v is None else v for key, v in row.items()})
        if self.best is not None and self.best[0] != epoch:
            self.best = self.best[0], None

    def _compare(self, settings: dict[str, Any], folder: Checkpoints) -> None:
        """Refuse a checkpoint of another run; more epochs are welcome."""
        was, now = settings["source"], self.settings["source"]
        if was != now:
            raise ValueError(
                f"{folder.path} holds checkpoints of another source: {was['nodes']:,} nodes "
                f"({was['sha256'][:8]}), these are {now['nodes']:,} ({now['sha256'][:8]}); name "
                "another folder"
            )
        for key in sorted(set(settings) | set(self.settings)):
            was, now = settings.get(key), self.settings.get(key)
            if was != now and key != "epochs":
                raise ValueError(
                    f"{folder.path} holds checkpoints of another run: {key} was {was!r}, now it is "
                    f"{now!r}; give the same settings, or name another folder"
                )


def _losses(means: dict[str, float]) -> Row:
    """Loss, its terms and their shares; only the loss where there is one term."""
    loss = sum(means.values())
    row: Row = {"loss": loss}
    if len(means) > 1:
        row |= {f"loss/{name}": value for name, value in means.items()}
        row |= {f"share/{name}": value / loss if loss else 0.0 for name, value in means.items()}
    return row


def _not_finite(rows: Tensor) -> Tensor:
    """Rows of a table with a number that is not finite."""
    if rows.sum().isfinite():  # then all are: one pass, and no table of answers
        return torch.zeros(0, dtype=torch.int64, device=rows.device)
    return (~rows.isfinite().all(-1)).nonzero()[:, 0]
