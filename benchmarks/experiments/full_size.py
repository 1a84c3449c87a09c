"""Training at full size: where the time of `fit` goes, and what is learned.

Seconds are the processor's, of all threads. Each part is timed at the function that does it, whole
steps and epochs too; what no part covers is the difference.
"""

import resource
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import torch

import poincare_taxa as pt
from benchmarks.experiments.random_start import MEASURES, measured
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.blocks import optimizers, projection
from poincare_taxa.evaluation import measure
from poincare_taxa.evaluation.subjects import TreeSubject
from poincare_taxa.kernels.numba import stress
from poincare_taxa.training import checkpoint, level_stress, loop, monitor

PARTS: dict[str, list[tuple[Any, str]]] = {
    "a level joins": [(level_stress.LevelStress, "begin")],
    "random numbers": [(level_stress, "random_bits")],
    "partners": [(stress, "level_partners")],
    "stress and its gradient": [(stress, "level_stress")],
    "steps of the optimizer": [(optimizers.RowwiseRiemannianAdam, "_step_table")],
    "norms of gradients": [(loop, "clip_gradients")],
    "projection": [(projection, "_project_rows")],
    "measures": [(monitor.Monitor, "__init__"), (monitor.Monitor, "measure")],
    "points that are not finite": [(loop, "_not_finite")],
    "checkpoints": [(checkpoint.Checkpoints, "save")],
}


@contextmanager
def timed_parts() -> Iterator[Counter[str]]:
    """Count the processor's seconds in each part."""
    seconds: Counter[str] = Counter()

    def watched(part: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.process_time()
            try:
                return function(*args, **kwargs)
            finally:
                seconds[part] += time.process_time() - start

        return call

    with ExitStack() as stack:
        for part, places in PARTS.items():
            for owner, name in places:
                stack.enter_context(patch.object(owner, name, watched(part, getattr(owner, name))))
        yield seconds


def trained(tax: pt.Taxonomy, save: Path | None) -> tuple[pt.TaxonEmbedding, list[Row]]:
    """Train from random points, a checkpoint after each level: the model, and seconds by part."""
    with TemporaryDirectory() as folder, timed_parts() as parts, stopwatch() as elapsed:
        run = pt.fit(tax, dim=10, seed=0, checkpoint=folder)
    model = run.model
    if save is not None:
        model.save(save)
    rows: list[Row] = [{"part": part, "CPU s": seconds} for part, seconds in parts.items()]
    rows.append({"part": "all else", "CPU s": elapsed.cpu - parts.total()})
    rows = sorted(rows, key=lambda row: -row["CPU s"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # Linux counts KiB
    whole: Row = {"part": "fit", "CPU s": elapsed.cpu}
    shown: list[Row] = [whole, *rows]
    for row in shown:
        row |= {"share": f"{row['CPU s'] / elapsed.cpu:.0%}", "CPU s": round(row["CPU s"], 1)}
    whole |= {"s": round(elapsed.wall), "GiB at the peak": round(peak, 1)}
    return model, shown


@contextmanager
def tree_measured_once() -> Iterator[None]:
    """Keep what the tree itself gives for some queries: it is the same for all points."""
    compute, kept = measure.query_statistics, dict[bytes, Any]()

    def remembered(subject: Any, about: Any, queries: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(subject, TreeSubject):
            return compute(subject, about, queries, *args, **kwargs)
        key = queries.tobytes()
        if key not in kept:
            kept[key] = compute(subject, about, queries, *args, **kwargs)
        return kept[key]

    with patch.object(measure, "query_statistics", remembered):
        yield


def quality(model: pt.TaxonEmbedding, queries: int) -> list[Row]:
    """Measures of the trained points beside those of random ones and of the tree."""
    tax = model.taxonomy
    start = pt.PoincareEmbedding(len(tax), 10, generator=torch.Generator().manual_seed(0))
    with tree_measured_once():
        floor, tree = measured(start, tax, queries=queries)
        value, _ = measured(model, tax, queries=queries)
    names = [name for name in MEASURES.values() if name in value]
    return [
        {"measure": name, "random start": floor[name], "trained": value[name], "tree": tree[name]}
        for name in names
    ]
