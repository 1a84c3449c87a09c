"""`fit` in several processes, each on a core of its own, beside one process on one core.

Each run is a program of its own, started by torchrun (one process: without it), that first trains a
small taxonomy, so that nothing is compiled or imported while it is timed. Its pairs are those of
each node and its partners, in all passes; its seconds are those of the whole call of `fit`. Runs of
one seed follow each other, so that what disturbs the machine disturbs all alike. Seconds of the
processor, of the slowest process, leave out what it waits for; collectives are calls of
`torch.distributed.all_gather`, by which rows travel, and bytes those that a process receives.

The ceiling are processes *apart*: each trains the whole taxonomy at the same time, and exchanges
nothing.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import distributed_c10d

from benchmarks.experiments.scores import MEASURES, mean_and_deviation, scores
from benchmarks.tables import Row
from poincare_taxa.blocks.losses import SoftmaxRankingLoss
from poincare_taxa.blocks.negatives import SharedNegatives
from poincare_taxa.blocks.pairs import AncestorPairs
from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.monitor import Monitor
from poincare_taxa.training.run import fit

COUNTED = ["× the first", "CPU s", "collectives", "MB received"]
WARMING = 300
"""Taxa that are trained before."""

TILE, STEPS = 1024, 20
"""Shared negatives of a batch of pairs, and steps of an epoch."""


def runs(tax: Taxonomy, sizes: list[int], seeds: int, dim: int, queries: int) -> Iterator[Row]:
    """Yield a row for each seed and number of processes; rates are compared with the first's."""
    tax = Taxonomy.from_parents(tax.parent)  # as the programs read it: quality needs no names
    kinds = [(size, apart) for size in sizes for apart in ((False, True) if size > 1 else (False,))]
    for seed in range(seeds):
        first = None
        for size, apart in kinds:
            run = trained(tax, size, seed, dim, apart=apart)
            rate = run["pairs"] * (size if apart else 1) / run["seconds"]
            first = first or rate
            yield {
                "taxa": len(tax),
                "seed": seed,
                "processes": f"{size}, apart" if apart else f"{size}",
                "cores": run["cores"],
                "s": round(run["seconds"], 2),
                "pairs": run["pairs"],
                "pairs/s": round(rate),
                "× the first": round(rate / first, 3),
                "CPU s": round(run["cpu"], 2),
                "collectives": run["collectives"],
                "MB received": round(run["received"] / 1e6, 1),
                **scores(run["points"], tax, queries=queries)[0],
            }


def summary(rows: list[Row]) -> list[Row]:
    """Mean and standard deviation over seeds, for each number of processes."""
    found = []
    for (size, cores), some in pl.DataFrame(rows).group_by(
        "processes", "cores", maintain_order=True
    ):
        measured = [name for name in MEASURES.values() if name in some.columns]
        millions = some["pairs/s"] / 1e6
        found.append(
            {
                "processes": size,
                "cores": cores,
                "million pairs/s": mean_and_deviation(millions),
                **{name: mean_and_deviation(some[name]) for name in [*COUNTED, *measured]},
            }
        )
    return found


def trained(
    tax: Taxonomy,
    size: int,
    seed: int,
    dim: int,
    *,
    recipe: str = "levels",
    batch: int = 1 << 14,
    epochs: int | None = None,
    apart: bool = False,
) -> dict[str, Any]:
    """Train in so many processes, together or apart, all epochs or some.

    Returns seconds and processor seconds of the slowest, calls and bytes of the one that received
    most, pairs of all together, cores, points.
    """
    with TemporaryDirectory() as folder:
        np.save(Path(folder, "parent.npy"), tax.parent)
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m"]
        command = ["-m", *(torchrun if size > 1 else []), __name__, folder]
        done = subprocess.run(
            [sys.executable, *command, json.dumps([seed, dim, recipe, batch, epochs, apart])],
            cwd=Path(__file__).parents[2],
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"a run of {size} processes failed:\n{done.stderr[-4000:]}")
        parts = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(size)]
    summed = "seconds", "cpu", "collectives", "received", "objects", "copied"
    most = {k: max(part[k] for part in parts) for k in summed}
    return parts[0] | most | {"cores": len({part["core"] for part in parts})}


def one_process(
    folder: Path, seed: int, dim: int, recipe: str, batch: int, epochs: int | None, apart: bool
) -> None:
    """Train what lies in a folder as one of the processes, and write what it took."""
    cores = sorted(os.sched_getaffinity(0))
    core = cores[int(os.environ.get("LOCAL_RANK", 0)) % len(cores)]
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    processes = Processes.joined()
    tax = Taxonomy.from_parents(np.load(folder / "parent.npy"))
    small = synthetic_taxonomy(WARMING)
    fit(small, dim=dim, progress=False, **options(recipe, small, 64, 2))
    pairs, partners = 0, LevelStress._partners

    def noted(self: LevelStress, u: Tensor, generator: torch.Generator) -> Any:
        nonlocal pairs
        found = partners(self, u, generator)
        trained = self.tree.level_start[self.open_depth + 1] - 1
        pairs = self.passes * int(trained) * found[0].shape[1]
        return found

    chosen = options(recipe, tax, batch, epochs)
    processes.require_equal(None, "")  # all begin together
    start, cpu = time.perf_counter(), time.process_time()
    joined = Processes() if apart else processes
    with (
        patch.object(Processes, "joined", lambda: joined),
        patch.object(LevelStress, "_partners", noted),
        counted() as counts,
    ):
        run = fit(tax, dim=dim, seed=seed, progress=False, **chosen)
    found = {"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}
    steps, epochs = run.history["steps"].sum(), len(run.history) - 1
    found |= {"pairs": pairs or steps * batch * TILE, "steps": steps, "epochs": epochs}
    found |= {"collectives": counts["calls"], "received": counts["bytes"], "core": core}
    found |= {name: counts[name] for name in ("objects", "copied")}
    torch.save(
        found | {"points": (run.model.radius, run.model.direction)}, folder / f"{processes.rank}.pt"
    )


def options(recipe: str, tax: Taxonomy, batch: int, epochs: int | None) -> dict[str, Any]:
    """Options of `fit` for a recipe: "levels", the recommended one, or "pairs"."""
    if recipe == "levels":
        return {"batch_size": batch, "epochs": epochs}
    return {
        "pairs": AncestorPairs(tax),
        "negatives": SharedNegatives(tax, TILE),
        "loss": SoftmaxRankingLoss(),
        "batch_size": batch,
        "steps_per_epoch": STEPS,
        "epochs": epochs,
    }


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Count calls of `torch.distributed.all_gather` in a block, and the bytes received by them.

    Objects (lengths, norms, checksums, which torch gathers by a call of its own), measured
    distances, and the table that the first process sends at the start are counted apart.
    """
    counts: Counter[str] = Counter()
    gather, broadcast, measure = dist.all_gather, dist.broadcast, Monitor.measure

    def all_gather(received: list[Tensor], sent: Tensor, *args: Any, **options: Any) -> Any:
        counts["calls"] += 1
        counts["bytes"] += sum(one.nbytes for one in received) - sent.nbytes
        return gather(received, sent, *args, **options)

    def of_objects(received: list[Tensor], sent: Tensor, *args: Any, **options: Any) -> Any:
        counts["objects"] += sum(one.nbytes for one in received) - sent.nbytes
        return gather(received, sent, *args, **options)

    def measured(*args: Any, **options: Any) -> Any:
        with patch.object(dist, "all_gather", of_objects):
            return measure(*args, **options)

    def copied(tensor: Tensor, *args: Any, **options: Any) -> Any:
        counts["copied"] += tensor.nbytes
        return broadcast(tensor, *args, **options)

    with (
        patch.object(dist, "all_gather", all_gather),
        patch.object(distributed_c10d, "all_gather", of_objects),
        patch.object(dist, "broadcast", copied),
        patch.object(Monitor, "measure", measured),
    ):
        yield counts


if __name__ == "__main__":
    one_process(Path(sys.argv[1]), *json.loads(sys.argv[2]))
