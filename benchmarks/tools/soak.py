"""Train, checkpoint, evaluate, save and load, again and again: do memory and open files grow?

One round is what a user's service does: a run with checkpoints, killed half-way by an exception and
resumed, an evaluation, a save over the embedding of the round before, a load of it, neighbours, an
export. Memory is the resident set of the process, files are the entries of ``/proc/self/fd``.
"""

import gc
import os
import platform
import resource
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.tables import Row, commit

WARM = 0.25  # share of the rounds before slopes are taken: caches fill, allocators settle


class _StoppedError(Exception):
    """A run is ended in its middle."""


def one_round(folder: Path, seed: int, n: int) -> None:
    """Do everything once, over what the round before left."""
    import poincare_taxa as pt
    from poincare_taxa.testing import synthetic_taxonomy

    tax = synthetic_taxonomy(n, seed=seed)

    def stop(row: dict[str, float], _: object) -> None:
        if row["epoch"] == 2:
            raise _StoppedError

    options = {
        "dim": 5, "pairs": pt.AncestorPairs(tax), "epochs": 4, "steps_per_epoch": 20,
        "batch_size": 64, "seed": seed, "progress": False,
        "checkpoint": folder / f"run-{seed % 2}",
    }  # fmt: skip
    for old in (folder / f"run-{seed % 2}").glob("*"):
        old.unlink()
    try:
        pt.fit(tax, **options, callback=stop)
    except _StoppedError:
        model = pt.fit(tax, **options, resume=True).model
    else:
        raise RuntimeError("the run was not stopped")
    pt.evaluate(model, queries=50)
    model.save(folder / "saved")
    loaded = pt.TaxonEmbedding.load(folder / "saved", verify=True)
    loaded.nearest(loaded.taxonomy.ids[n // 2], k=5)
    loaded.export(folder / "vectors.npz")


def _resident() -> int:
    """Bytes of memory that this process holds now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208  one is that of the listing


def measure(minutes: float, n: int) -> Iterator[Row]:
    """Do rounds for a time; yield a row of each."""
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(action="ignore"):
        i = 0
        while time.monotonic() < end:
            one_round(Path(folder), i, n)
            gc.collect()
            i += 1
            yield {
                "round": i,
                "minutes": round(minutes - (end - time.monotonic()) / 60, 2),
                "CPU (s)": round(time.process_time(), 1),
                "memory (MiB)": round(_resident() / 2**20, 2),
                "open files": _open_files(),
                "files on disk": sum(1 for _ in Path(folder).rglob("*")),
            }


def slopes(rows: list[Row]) -> list[Row]:
    """First and last value of each quantity, and its slope by least squares after the warm-up."""
    found = []
    after = rows[int(WARM * len(rows)) :]
    at = np.array([row["round"] for row in after], dtype=float)
    for name in ("memory (MiB)", "open files", "files on disk"):
        values = np.array([row[name] for row in after], dtype=float)
        slope, error = _slope(at, values)
        found.append(
            {
                "quantity": name,
                "after round 1": rows[0][name],
                f"after round {after[0]['round']}": after[0][name],
                f"after round {rows[-1]['round']}": rows[-1][name],
                "largest": max(row[name] for row in rows),
                "slope a round": f"{slope:+.4f} ± {error:.4f}",
            }
        )
    return found


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of a line by least squares, and its standard error."""
    if len(x) < 3:
        return float("nan"), float("nan")
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return slope, float(np.sqrt(rest @ rest / (len(x) - 2) / (x @ x)))


def circumstances(rows: list[Row], n: int) -> str:
    """Sentence about a run."""
    last = rows[-1]
    return (
        f"{last['round']:,} rounds of {n} taxa in {last['minutes']:.0f} minutes "
        f"({last['CPU (s)']:.0f} s of CPU time, one thread) on commit {commit()}, Python "
        f"{platform.python_version()}; slopes are taken after the first quarter of the rounds."
    )
