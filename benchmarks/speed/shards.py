"""A tree of millions in shards: time and peak memory of each process, beside one process.

Every run is a program of its own, whose processes are started by torchrun (one process, which has
the whole table: without it). Peaks are those of resident memory, with the libraries and the files
that are mapped; they are reset between the steps. A process of several gets no more memory than a
limit (``RLIMIT_DATA``), and a peak beyond it is an error.
"""

import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.tables import Row, markdown
from poincare_taxa.processes.group import Processes

MEASURES = ("precision@10", "ancestor MAP", "neighbour MAP", "Spearman", "mean distortion")
PARTS = {"precision", "ancestor", "neighbour", "correlation", "distortion"}
STEPS = ("embed", "evaluate")


def runs(
    n: int, sizes: list[int], dim: int, queries: int, limit: float, folder: Path | None
) -> Iterator[Row]:
    """Yield a row for each process of each number of processes."""
    with TemporaryDirectory(dir=folder) as made:
        source = Path(made, "tree.parquet")
        inside("write", str(n), str(source))
        for size in sizes:
            most = limit if size > 1 else float("inf")
            for row in rows_of(Path(made), source, size, dim, queries, most):
                yield {"nodes": n, **row}


def completed(rows: list[Row], earlier: list[Row]) -> list[Row]:
    """Rows of a run, and those of earlier ones, of other trees and other numbers of processes."""
    run = {(row["nodes"], row["processes"]) for row in rows}
    kept = [row for row in earlier if (row["nodes"], row["processes"]) not in run]
    return sorted(kept + rows, key=lambda row: (-row["nodes"], -row["processes"], row["process"]))


def summary(rows: list[Row]) -> tuple[list[Row], str]:
    """Tables of peaks and of quality, the second one as text."""
    peaks = [
        {
            "nodes": f"{row['nodes']:,}",
            "processes": row["processes"],
            "process": row["process"],
            **{f"{step}, peak GiB": f"{row[f'{step}: GiB']:.2f}" for step in STEPS},
            **{f"{step}, CPU s": row[f"{step}: CPU s"] for step in STEPS},
        }
        for row in rows
    ]
    quality: dict[tuple[int, str], Row] = {}  # the floor and the tree are those of all
    first = [row for row in rows if row["process"] == 1]
    for prefix, of in (("", None), ("floor ", "floor"), ("tree ", "the tree itself")):
        for row in first:
            values = [row.get(f"{prefix}{name}") for name in MEASURES]
            if None not in values:
                count = row["processes"]
                of_row = of or (f"{count} processes" if count > 1 else "1 process")
                quality[row["nodes"], of_row] = {
                    "nodes": f"{row['nodes']:,}",
                    "of": of_row,
                    **{n: f"{value:.4f}" for n, value in zip(MEASURES, values, strict=True)},
                    "hash of vectors": "" if prefix else row["vectors"],
                }
    in_order = sorted(quality.items(), key=lambda item: -item[0][0])
    return peaks, markdown([row for _, row in in_order])


def rows_of(
    folder: Path, source: Path, size: int, dim: int, queries: int, limit: float
) -> Iterator[Row]:
    """Embed and evaluate in so many processes."""
    out = folder / f"{size}"
    launcher = ("torch.distributed.run", "--standalone", f"--nproc-per-node={size}", "-m")
    start = time.perf_counter()
    settings = [str(dim), str(queries), str(limit)]
    inside("embed", str(source), str(out), *settings, launcher=launcher * (size > 1))
    seconds = time.perf_counter() - start
    found = [json.loads(Path(f"{out}-{rank}.json").read_text()) for rank in range(size)]
    vectors = vectors_of(out)
    for rank, process in enumerate(found):
        peak = max(process["steps"][f"{step}: GiB"] for step in STEPS)
        if peak > limit:
            raise RuntimeError(f"process {rank + 1} had a peak of {peak} GiB; the limit is {limit}")
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


def embed_and_evaluate(source: Path, out: Path, dim: int, queries: int, limit: float) -> None:
    """Embed and evaluate as one of the processes, and write what it took."""
    if limit < float("inf"):
        most = int(limit * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
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
        settings = {"queries": queries, "exact": False, "progress": False}
        report = measured(
            "evaluate", lambda: pt.evaluate(pt.load(out), only=PARTS, **settings), steps
        )
    found: Row = {}
    for name in MEASURES:
        row = report[name]
        found[name] = round(row.value, 6)
        for prefix, other in (("tree", row.ceiling), ("floor", row.floor)):
            found[f"{prefix} {name}"] = None if other is None else round(other.value, 6)
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
        embed_and_evaluate(Path(rest[0]), Path(rest[1]), int(rest[2]), int(rest[3]), float(rest[4]))
