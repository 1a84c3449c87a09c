"""`fit`: one training loop for any blocks, with a history of measures from the start on.

The loop minimises an *objective* (`objectives`) by moving the table of a `PoincareEmbedding`. The
history holds the measures of the untrained start too: an embedding whose numbers do not rise above
those of its start has learned nothing, however valid its vectors are.
"""

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import polars as pl
import torch

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.curriculum import Curriculum
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall
from poincare_taxa.blocks.regularizers import Regularizer
from poincare_taxa.blocks.schedules import Schedule
from poincare_taxa.closure.layout import nested_start
from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.files.html import html_table
from poincare_taxa.files.records import dtype_name
from poincare_taxa.files.seeds import stream_seed
from poincare_taxa.geometry import ball
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.processes.digests import digest
from poincare_taxa.processes.group import Processes
from poincare_taxa.processes.torchrun import job, restarted
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.checkpoint import Checkpoints
from poincare_taxa.training.defaults import MakeOptimizer, Recipe, recipe
from poincare_taxa.training.early_stopping import EarlyStopping
from poincare_taxa.training.loop import Loop
from poincare_taxa.training.monitor import Monitor
from poincare_taxa.training.objectives import Objective
from poincare_taxa.training.progress import progress_bar
from poincare_taxa.training.provenance import called, described, fingerprint, node_names

__all__ = ["Run", "fit"]

Row = dict[str, Any]
Callback = Callable[[Row, PoincareEmbedding], Mapping[str, float] | None]


Model = TypeVar("Model", bound=TaxonEmbedding | ClosureEmbedding)
_Settings = ParamSpec("_Settings")


@dataclass(frozen=True, eq=False, repr=False)
class Run(Generic[Model]):
    """What `fit` returns.

    Attributes
    ----------
    embedding
        The trained table; with `EarlyStopping`, that of the best epoch.
    history
        A row per epoch. Row 0 is the start: its measures are the untrained floor. Columns: `fit`.
    model
        The points with their taxonomy and provenance, to query and to save; of a DAG, with the
        names of its nodes.
    ceiling
        The measures of the tree's own distances.
    best_epoch
        Epoch that ``embedding`` is of.
    ignored
        Number of pairs beyond the closure of the source that were no negatives (``ignore``). If a
        test holds some of them, training knew of these.
    """

    embedding: PoincareEmbedding
    history: pl.DataFrame
    model: Model  # TaxonEmbedding of a Taxonomy, ClosureEmbedding of ClosurePairs
    ceiling: dict[str, float]
    best_epoch: int
    ignored: int = 0

    def __repr__(self) -> str:
        ignored = f"{self.ignored:,} pairs ignored as negatives, " if self.ignored else ""
        return (
            f"Run({len(self.history) - 1} epochs, best {self.best_epoch}, {ignored}{self.model!r})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: measures at the start and at the end, and the ceiling."""
        start, end = self.history.row(0, named=True), self.history.row(self.best_epoch, named=True)
        names = [name for name in end if name in self.ceiling or name == "loss"]
        cells = [
            [name, *(_shown(of.get(name)) for of in (start, end, self.ceiling))] for name in names
        ]
        headings = ["", "start", f"epoch {self.best_epoch}", "the tree itself"]
        return html_table(repr(self), headings, [("", cells)])


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


class _Fit(Protocol[_Settings]):
    """Type of `fit`: its result has the model of its source."""

    @overload
    def __call__(
        self, source: Taxonomy, *args: _Settings.args, **settings: _Settings.kwargs
    ) -> Run[TaxonEmbedding]: ...
    @overload
    def __call__(
        self, source: ClosurePairs, *args: _Settings.args, **settings: _Settings.kwargs
    ) -> Run[ClosureEmbedding]: ...


def _by_source(
    function: Callable[Concatenate[Taxonomy | ClosurePairs, _Settings], Run[Any]],
) -> _Fit[_Settings]:
    return cast("_Fit[_Settings]", function)


@_by_source
def fit(
    source: Taxonomy | ClosurePairs,
    embedding: PoincareEmbedding | None = None,
    *,
    dim: int | None = None,
    seed: int = 0,
    objective: Objective | None = None,
    pairs: Any = None,
    negatives: Any = None,
    loss: Any = None,
    regularizer: Regularizer | None = None,
    curriculum: Curriculum | None = None,
    ignore: Any = None,
    optimizer: MakeOptimizer | None = None,
    lr: float | None = None,
    lr_schedule: Schedule | Callable[[float], float] | None = None,
    max_grad_norm: float | None = None,
    project: bool = True,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    batch_size: int | None = None,
    callback: Callback | Sequence[Callback] | None = None,
    early_stopping: EarlyStopping | None = None,
    checkpoint: str | Path | None = None,
    keep_last: int = 2,
    resume: bool = False,
    progress: bool | None = None,
    device: torch.device | str | None = None,
) -> Run[Any]:
    """Train an embedding.

    By default a taxonomy is trained from random points by the recommended recipe, one level after
    the other (`objectives.LevelStress`; an epoch is a level), and pairs of a DAG from points near
    their parents by the full softmax (`poincare_taxa.closure.ClosureSoftmax`). Passing any of
    ``pairs``, ``negatives``, ``loss``, ``regularizer`` and ``curriculum`` replaces the recommended
    recipe by a loss of your own; blocks not passed get defaults. ``objective`` replaces them all.

    Parameters
    ----------
    source
        What to embed: a taxonomy, or the pairs of a DAG.
    embedding
        Where to start; it is trained in place. By default random points near the origin, in polar
        coordinates.
    dim
        Dimension of the space where there is no ``embedding``, at least 2; 10 by default.
    seed
        The same source, settings and seed give the same points, on one machine with one number of
        threads.
    objective
        ``(points, generator) -> {name: scalar}``; see `objectives`.
    pairs
        What draws positives (`AncestorPairs` by default), for `StressLoss` pairs (`LCAPairs`), for
        `TripletLoss` triplets (`LCATriplets`); several sources with shares: `MixedPairs`.
    negatives
        What draws negatives; by default 50 `UniformNegatives`.
    loss
        As `objectives.Ranking` calls it, a `StressLoss`, a `TripletLoss` or an
        `EntailmentConeLoss`; by default `DepthMarginRankingLoss` with a `TreeMargin`, and
        `SoftmaxRankingLoss` for a DAG.
    regularizer
        ``(radius, depth) -> scalar``; its ``at(epoch)`` is used if it has one.
    curriculum
        Limits of the pairs by epoch.
    ignore
        Pairs of a DAG that are never negatives: rows [k, 2], (ancestor, descendant), or
        `ClosurePairs`, besides those of ``source`` and what follows from them, which never are.
        The run and its model say how many there were: training knows of them, so that a score of
        held-out pairs among them is no measure of generalisation (`evaluate_links`).
    optimizer
        ``(params) -> Optimizer``, for example ``partial(torch.optim.Adam, lr=0.01)``. By default
        `RowwiseRiemannianAdam` of ``lr``.
    lr
        Step of the default optimizer, in units of distance, > 0.
    lr_schedule
        Factor of the step size: [(epoch, factor), …], or a callable of the epoch (2.5 is the middle
        of the third) such as `schedules.Cosine`. Ten epochs of burn-in are [(0, 0.1), (10, 1.0)].
    max_grad_norm
        Greatest norm of the gradient of a step; see `clip_gradients`. Not clipped by default.
    project
        Whether rows that left their space are put back, after each step and at the end of an epoch.
    epochs
        How many, at least 1: 20 by default; in the recommended recipe the levels of the tree.
    steps_per_epoch, batch_size
        Of the objectives that draw batches. By default 512 pairs (all, where there are fewer), as
        often as they fit in the data.
        In the recommended recipe ``batch_size`` is how many nodes of a level move at once.
    callback
        ``(row, embedding) -> columns``, or several: called with the row of the history and the
        table at the start (epoch 0) and after each epoch. What it returns, if anything, is added
        to the row and is in the rows of the callbacks after it. For example a measure of your own,
        or `poincare_taxa.training.TensorBoard`.
    early_stopping
        Keep the best epoch by a column of the history, and perhaps stop.
    checkpoint
        Folder for a checkpoint after each epoch.
    keep_last
        How many checkpoints stay, besides the best.
    resume
        Go on from the latest checkpoint; from the start where there is none. A run that was killed
        and is resumed ends with the same bits as one that was not.
    progress
        Whether to show how far it is: by default a bar in a terminal or a notebook after two
        seconds, else (in a log) a line now and then. True shows it from the start on. False is
        silence.
    device
        Where to train; that of the embedding by default.

    Returns
    -------
    run

    Notes
    -----
    Columns of the history, after ``epoch`` and ``steps`` (of that epoch):

    - ``loss``, ``loss/<term>``, and ``share/<term>`` of the loss where there are several terms:
      means over the steps. ``share/regularizer`` near 1 means that little else is learned.
    - ``lr``: step size at the end of the epoch.
    - ``gradient_norm``, ``gradient_norm_max``: of the steps, before clipping.
    - ``projected``: share of the rows looked at that had left their space; ``at_clip``: share of
      all rows at the rim of the ball, where distances saturate (polar coordinates have no rim).
    - On a sample: ``depth_radius`` (Spearman of radius and depth), ``spearman`` (of distances and
      tree distances), ``separation/<rank>``, and ``pair_accuracy/gap 1``, ``gap 2``, ``gap 3+``:
      how often an ancestor so many edges above is nearer than an unrelated node. 0.5 is chance.
    - ``seconds``.

    Raises
    ------
    TypeError
        If ``source`` is neither a taxonomy nor pairs.
    ValueError
        If an argument is out of its range or does not fit the others, the start is not finite, the
        device cannot be used, or a checkpoint belongs to another run.
    FloatingPointError
        If a loss or a gradient is not finite; the message names rows. Checkpoints stay.
    OSError
        If checkpoints cannot be written.

    Warns
    -----
    UserWarning
        If radius does not tell depth, or groups do not stand apart, any better than at the start.

    Examples
    --------
    >>> run = fit(Taxonomy.from_parents([-1, 0, 0, 1, 1, 2, 2]), dim=3)
    >>> run.history["epoch"].to_list()
    [0, 1, 2]
    >>> bool(run.model.radius[[2, 3]].min() > run.model.radius[[1, 4]].max())
    True
    """
    names, processes = node_names(source), Processes.joined()
    device = processes.device(device)
    blocks = {"pairs": pairs, "negatives": negatives, "loss": loss}
    blocks |= {"regularizer": regularizer, "curriculum": curriculum}
    sizes = {"steps_per_epoch": steps_per_epoch, "batch_size": batch_size}
    own = [objective, steps_per_epoch, *blocks.values()]
    start: Callable[..., Layout] | None = None
    if isinstance(objective, ClosureSoftmax):
        start = objective.start
    elif isinstance(source, ClosurePairs) and all(block is None for block in own):
        start = partial(nested_start, source)
    embedding = _start(source, names, embedding, dim, seed, start, device)
    plan = recipe(source, embedding, objective, blocks, sizes, optimizer, lr, ignore)
    ignored = _ignored(plan.objective)
    chosen = {"epochs": epochs, "lr_schedule": lr_schedule}
    plan = replace(plan, **{name: value for name, value in chosen.items() if value is not None})
    monitor, weight = Monitor(source, seed), embedding.weight
    loop = Loop(
        points=weight,
        names=names,
        recipe=plan,
        generator=torch.Generator(weight.device).manual_seed(stream_seed(seed, "batches")),
        measure=lambda: _measures(monitor, plan.objective, weight, processes),
        watch=lambda row: _called_back(callback, row, embedding),
        max_grad_norm=max_grad_norm,
        project=project,
        stopping=early_stopping,
        settings=_settings(source, embedding, plan, seed) | ignored,
        processes=processes,
    )
    bar = progress_bar(False if processes.rank else progress, plan.epochs)
    with _entered(checkpoint, keep_last, loop, resume) as folder, bar as show:
        loop.run(folder, show)
    if processes.rank == 0:
        _warn_of_floors(loop.history, monitor.ceiling)
    model = _model(source, names, embedding, loop, monitor)
    return Run(
        embedding,
        _table(loop.history),
        model,
        monitor.ceiling,
        loop.best_epoch,
        ignored["ignored"]["pairs"] if ignored else 0,
    )


def _start(
    source: Taxonomy | ClosurePairs,
    names: pl.Series,
    embedding: PoincareEmbedding | None,
    dim: int | None,
    seed: int,
    start: Callable[..., Layout] | None,
    device: torch.device | str | None,
) -> PoincareEmbedding:
    """Check the start that was given, or make one, and move it to the device.

    One that is made has random points, or for the full softmax of a DAG points near their parents.
    """
    if embedding is None and start is not None:
        layout = start(10 if dim is None else dim, seed=seed)
        embedding = PoincareEmbedding.from_pretrained(layout.radius, layout.direction)
    elif embedding is None:
        generator = torch.Generator().manual_seed(seed)
        embedding = PoincareEmbedding(len(names), 10 if dim is None else dim, generator=generator)
    else:
        _require_fitting(embedding, dim, names)
    if isinstance(source, Taxonomy):
        if embedding.tree_fingerprint not in (None, source.tree.fingerprint):
            raise ValueError(
                "the embedding is of another tree of as many nodes: its rows are other taxa; begin "
                "with PoincareEmbedding.from_layout of this taxonomy, or without an embedding"
            )
        embedding.tree_fingerprint = source.tree.fingerprint
        embedding.taxonomy = source
    try:
        return embedding if device is None else embedding.to(device)
    except (RuntimeError, AssertionError) as error:  # what torch says depends on how it was built
        why = str(error).splitlines()[0]
        raise ValueError(f"device {str(device)!r} cannot be used ({why}); 'cpu' can") from error


def _require_fitting(embedding: PoincareEmbedding, dim: int | None, names: pl.Series) -> None:
    """Refuse a start of another dimension or size, or with rows that are not finite."""
    if dim not in (None, embedding.embedding_dim):
        raise ValueError(
            f"dim is {dim}, but the embedding has {embedding.embedding_dim}; leave dim out"
        )
    if embedding.num_embeddings != len(names):
        raise ValueError(
            f"the embedding has {embedding.num_embeddings:,} rows for {len(names):,} nodes: row i "
            "must be node i"
        )
    bad = (~embedding.weight.detach().isfinite().all(-1)).nonzero()[:, 0]
    if len(bad):
        raise ValueError(
            f"the start is not finite in {called(bad, names)}; did an earlier training diverge?"
        )


def _settings(
    source: Taxonomy | ClosurePairs, embedding: PoincareEmbedding, plan: Recipe, seed: int
) -> dict[str, Any]:
    """Describe what is trained and how; the loop adds its own settings."""
    weight = embedding.weight
    return {
        "method": "fit",
        "source": fingerprint(source),
        "dim": embedding.embedding_dim,
        "manifold": repr(weight.manifold),
        "dtype": dtype_name(weight.dtype),
        "device": weight.device.type,
        "epochs": plan.epochs,
        "objective": described(plan.objective),
        "lr_schedule": described(plan.lr_schedule),
        "seed": seed,
    }


def _ignored(objective: Any) -> dict[str, Any]:
    """Describe the pairs that the blocks of a run keep from being negatives, if there are any."""
    negatives = getattr(objective, "negatives", objective)
    found = [getattr(one, "ignored", None) for one in getattr(negatives, "samplers", [negatives])]
    rows = [one for one in found if one is not None and len(one)]
    if not rows:
        return {}
    together = torch.cat(rows).cpu().unique(dim=0)
    return {"ignored": {"pairs": len(together), "sha256": digest(together)}}


def _measures(
    monitor: Monitor, objective: Any, points: Any, processes: Processes
) -> dict[str, float]:
    found = monitor.measure(points, objective.open_depth, processes)
    return found | {"at_clip": _at_clip(points)}


@torch.no_grad()
def _called_back(
    callback: Callback | Sequence[Callback] | None, row: Row, embedding: PoincareEmbedding
) -> Row:
    """Columns that the callbacks add to a row."""
    added: Row = {}
    for one in (callback,) if callable(callback) else callback or ():
        columns = one(row | added, embedding) or {}
        added |= {name: float(value) for name, value in columns.items()}
    return added


@contextmanager
def _entered(
    path: str | Path | None, keep_last: int, loop: Loop, resume: bool
) -> Iterator[Checkpoints | None]:
    """Begin a run in its folder, or go on with the one that is there; the folder is held."""
    if path is None:
        if resume:
            raise ValueError("resume needs the folder of the run: checkpoint=…")
        yield None
        return
    folder, once = Checkpoints(path, keep_last=keep_last), loop.processes.once
    once(folder.hold)
    try:
        epochs = once(folder.epochs)
        if epochs and not (resume or once(lambda: _is_this_job(folder, epochs[-1]))):
            raise ValueError(
                f"{folder.path} holds checkpoints of a run (up to epoch {epochs[-1]}): "
                "resume=True, or --resume, goes on with it; for a new run name another folder"
            )
        if epochs:
            loop.restore(folder, epochs[-1])
        yield folder
    finally:
        folder.release()


def _is_this_job(folder: Checkpoints, epoch: int) -> bool:
    """Whether a checkpoint is of the torchrun that has started this process anew."""
    return restarted() and folder.load(epoch).state.get("job") == job()


def _table(history: list[Row]) -> pl.DataFrame:
    """History with the columns of the last row first, then those that only others have."""
    columns = dict.fromkeys(name for row in (history[-1], *history) for name in row)
    return pl.DataFrame(history, infer_schema_length=None).select(*columns)


def _model(
    source: Taxonomy | ClosurePairs,
    names: pl.Series,
    embedding: PoincareEmbedding,
    loop: Loop,
    monitor: Monitor,
) -> TaxonEmbedding | ClosureEmbedding:
    """Copy the points into what a user keeps, with the provenance of the run."""
    points = embedding.radius.detach().cpu().clone(), embedding.direction.detach().cpu().clone()
    if isinstance(source, ClosurePairs):
        return ClosureEmbedding(names, *points, {"settings": loop.settings}, source.to("cpu"))
    training = {
        "floor": _measured(loop.history[0], monitor),
        "end": _measured(loop.history[loop.best_epoch], monitor),
        "ceiling": monitor.ceiling,
    }
    return TaxonEmbedding(source, *points, {"settings": loop.settings, "training": training})


def _measured(row: Mapping[str, Any], monitor: Monitor) -> dict[str, float]:
    return {name: row[name] for name in monitor.ceiling if name in row}


def _at_clip(points: Any) -> float:
    """Share of the rows at the rim of the ball, where a projection leaves them."""
    if not isinstance(points.manifold, PoincareBall):
        return 0.0
    rim = points.manifold.dist0(points.detach())
    limit = ball.max_radius(points.dtype, c=float(points.manifold.c))
    return (rim >= limit * 0.999).double().mean().item()


_LEAST = 0.1  # Share of the way from floor to ceiling below which nothing was learned.


def _warn_of_floors(history: list[dict[str, Any]], ceiling: Mapping[str, float]) -> None:
    """Warn where depth or separation stayed where they were before training, or fell."""
    floor, end = history[0], history[-1]
    said = {"depth_radius": "radius tells nothing of depth"}
    said |= {k: f"groups of one {k.partition('/')[2]} do not stand apart" for k in ceiling}
    for name, top in ceiling.items():
        if name != "depth_radius" and not name.startswith("separation/"):
            continue
        low, value = floor.get(name, math.nan), end.get(name, math.nan)
        room = top - low
        if not math.isfinite(low + value + top) or len(history) < 2:
            continue
        if value < low - max(_LEAST * room, 0.05 * abs(top)):
            problem = "less than before training: training undid what the start had"
        elif room > 0.1 * abs(top) and value < low + _LEAST * room:
            problem = f"as before training: {said[name]}"
        else:
            continue
        warnings.warn(
            f"{name} is {value:.3f} after {end['epoch']} epochs, {problem} "
            f"(start {low:.3f}, the tree itself {top:.3f})",
            UserWarning,
            stacklevel=3,
        )
