"""`fit` in several processes, each on a core of its own, beside one process on one core.

Each run is a program of its own, started by torchrun (one process: without it), that first trains a
small taxonomy, so that nothing is compiled or imported while it is timed. Its pairs are those of
each node and its partners, in all passes; its seconds are those of the whole call of `fit`. Runs of
one seed follow each other, so that what disturbs the machine disturbs all alike.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import polars as pl
import torch

from benchmarks.experiments.scores import MEASURES, mean_and_deviation, scores
from benchmarks.tables import Row
from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.run import fit

WARMING = 300
"""Taxa that are trained before."""


def runs(tax: Taxonomy, sizes: list[int], seeds: int, dim: int, queries: int) -> Iterator[Row]:
    """Yield a row for each seed and number of processes; rates are compared with the first's."""
    tax = Taxonomy.from_parents(tax.parent)  # as the programs read it: quality needs no names
    for seed in range(seeds):
        first = None
        for size in sizes:
            run = trained(tax, size, seed, dim)
            rate = run["pairs"] / run["seconds"]
            first = first or rate
            yield {
                "taxa": len(tax),
                "seed": seed,
                "processes": size,
                "cores": run["cores"],
                "s": round(run["seconds"], 2),
                "pairs": run["pairs"],
                "pairs/s": round(rate),
                "× the first": round(rate / first, 3),
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
                **{name: mean_and_deviation(some[name]) for name in ["× the first", *measured]},
            }
        )
    return found


def trained(tax: Taxonomy, size: int, seed: int, dim: int) -> dict[str, Any]:
    """Train in so many processes: seconds of the slowest, pairs of all together, cores, points."""
    with TemporaryDirectory() as folder:
        np.save(Path(folder, "parent.npy"), tax.parent)
        torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m"]
        command = ["-m", *(torchrun if size > 1 else []), __name__, folder, str(seed), str(dim)]
        done = subprocess.run(
            [sys.executable, *command],
            cwd=Path(__file__).parents[2],
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"a run of {size} processes failed:\n{done.stderr[-4000:]}")
        parts = [torch.load(Path(folder, f"{rank}.pt")) for rank in range(size)]
    return {
        "seconds": max(part["seconds"] for part in parts),
        "pairs": parts[0]["pairs"],
        "cores": len({part["core"] for part in parts}),
        "points": parts[0]["points"],
    }


def one_process(folder: Path, seed: int, dim: int) -> None:
    """Train what lies in a folder as one of the processes, and write what it took."""
    cores = sorted(os.sched_getaffinity(0))
    core = cores[int(os.environ.get("LOCAL_RANK", 0)) % len(cores)]
    os.sched_setaffinity(0, {core})
    torch.set_num_threads(1)
    processes = Processes.joined()
    tax = Taxonomy.from_parents(np.load(folder / "parent.npy"))
    fit(synthetic_taxonomy(WARMING), dim=dim, progress=False)
    pairs, partners = 0, LevelStress._partners

    def noted(self: LevelStress, u: torch.Tensor, generator: torch.Generator) -> Any:
        nonlocal pairs
        found = partners(self, u, generator)
        pairs = self.passes * (len(self.tree) - 1) * found[0].shape[1]
        return found

    processes.require_equal(None, "")  # all begin together
    start = time.perf_counter()
    with patch.object(LevelStress, "_partners", noted):
        run = fit(tax, dim=dim, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    points = run.model.radius, run.model.direction
    found = {"seconds": seconds, "pairs": pairs, "core": core, "points": points}
    torch.save(found, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    one_process(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
