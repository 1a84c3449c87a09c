"""A tree of millions in shards: time and peak memory of each process, beside one process.

Every run is a program of its own, whose processes are started by torchrun (one process, which has
the whole table: without it). Peaks are those of resident memory, of the files that are mapped too;
they are reset between the steps.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.tables import Row
from poincare_taxa.processes.group import Processes

MEASURES = ("precision@10", "ancestor MAP", "neighbour MAP", "Spearman", "mean distortion")
PARTS = {"precision", "ancestor", "neighbour", "correlation", "distortion"}


def runs(n: int, sizes: list[int], dim: int, queries: int, folder: Path | None) -> Iterator[Row]:
    """Yield a row for each process of each number of processes."""
    with TemporaryDirectory(dir=folder) as made:
        source = Path(made, "tree.parquet")
        inside("write", str(n), str(source))
        for size in sizes:
            yield from rows_of(Path(made), source, size, dim, queries)


def rows_of(folder: Path, source: Path, size: int, dim: int, queries: int) -> Iterator[Row]:
    """Embed and evaluate in so many processes."""
    out = folder / f"{size}"
    launcher = ("torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m")
    start = time.perf_counter()
    inside("embed", str(source), str(out), str(dim), str(queries), launcher=launcher * (size > 1))
    seconds = time.perf_counter() - start
    found = [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(size)]
    vectors = vectors_of(out)
    for rank, process in enumerate(found):
        yield {
            "processes": size,
            "process": rank + 1,
            **process.pop("steps"),
            **process,
            "s, all": round(seconds),
            "vectors": vectors,
        }


def inside(*arguments: str, launcher: tuple[str, ...] = ()) -> None:
    """Run a step in processes of its own."""
    done = subprocess.run(
        [sys.executable, *(("-m", *launcher) if launcher else ("-m",)), __name__, *arguments],
        cwd=Path(__file__).parents[2],
        env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)} failed:\n{done.stderr[-4000:]}")


def vectors_of(out: Path) -> str:
    """Hash of all vectors, read shard by shard."""
    from poincare_taxa.model import storage

    found, meta = hashlib.sha256(), storage.read_meta(out)
    for shard in meta.get("shards", [{"folder": ".", "above": []}]):
        points = storage.read_points(out / shard["folder"])
        direction = points["direction"][len(shard["above"]) :]
        for some in direction.split(1 << 18):
            found.update(some.contiguous().numpy().data)
    return found.hexdigest()[:12]


def gibibytes(field: str) -> float:
    """Return a number of this process's status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return round(int(line.split()[1]) / 2**20, 2)
    raise RuntimeError(f"this system's /proc/self/status has no {field}")


def measured(name: str, step: Callable[[], Any], steps: dict[str, Any]) -> Any:
    """Run a step; note its peak of memory and its CPU seconds."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak is reset
    start = time.process_time()
    result = step()
    steps[f"{name}: GiB"] = gibibytes("VmHWM")
    steps[f"{name}: CPU s"] = round(time.process_time() - start)
    return result


def embed_and_evaluate(source: Path, out: Path, dim: int, queries: int) -> None:
    """Embed and evaluate as one of the processes, and write what it took."""
    import polars as pl

    import poincare_taxa as pt

    torch.set_num_threads(1)
    processes, steps = Processes.joined(), {}
    if processes.size > 1:
        measured("embed", lambda: pt.embed_shards(source, out, dim, refine=True), steps)
        report = measured(
            "evaluate", lambda: pt.evaluate_shards(out, queries=queries, only=PARTS), steps
        )
    else:

        def embed() -> None:
            pt.embed(pt.Taxonomy.from_frame(pl.read_parquet(source)), dim, refine=True).save(out)

        measured("embed", embed, steps)
        settings = {"queries": queries, "exact": False, "floor_queries": 0, "progress": False}
        report = measured(
            "evaluate", lambda: pt.evaluate(pt.load(out), only=PARTS, **settings), steps
        )
    found = {name: round(report[name].value, 6) for name in MEASURES if name in report}
    Path(f"{out}-{processes.rank}.json").write_text(json.dumps({"steps": steps, **found}))


def write(n: int, source: Path) -> None:
    """Write a synthetic tree."""
    from poincare_taxa.testing import synthetic_taxonomy

    synthetic_taxonomy(n).to_frame().write_parquet(source)


if __name__ == "__main__":
    task, *rest = sys.argv[1:]
    if task == "write":
        write(int(rest[0]), Path(rest[1]))
    else:
        embed_and_evaluate(Path(rest[0]), Path(rest[1]), int(rest[2]), int(rest[3]))
