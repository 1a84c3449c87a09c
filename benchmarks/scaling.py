"""The scaling law: every step on synthetic taxonomies of growing size, each in its own process."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import torch

from benchmarks.measure import Machine, Rows
from benchmarks.tables import commit
from poincare_taxa import planning
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

LAW = Path(planning.__file__).parent / "data" / "law.json"


MANY = 10**6
"""Taxa beyond which an evaluation asks a quarter of the queries: its time is linear in them."""


def measure(n: int, rows: Rows, *, queries: int = 1000, repeats: int = 1) -> None:
    """Add a row for each step: the fastest of some runs, the largest memory."""
    if n > MANY:
        queries //= 4
    with TemporaryDirectory() as folder:
        write_taxdump(synthetic_taxonomy(n), folder)
        runs = [_in_a_process(folder, queries, rows.machine) for _ in range(repeats)]
    for step in planning.STEPS:
        seconds = min(run[step][0] for run in runs)
        rows.add(
            task=step,
            step=step,
            implementation="poincare_taxa",
            taxa=n,
            queries=planning.queries_asked(n, queries),
            memory=max(run[step][1] for run in runs),
            status="measured",
            seconds=seconds,
            items_per_second=n / seconds,
            items=n,
        )


def _in_a_process(folder: str, queries: int, machine: Machine) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "benchmarks.scaling", folder, str(queries)]
    command.append(str(machine.threads))
    root = Path(__file__).parents[1]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=root)
    return json.loads(done.stdout)


def write_law(rows: list[dict[str, Any]], machine: Machine, path: Path = LAW) -> dict[str, Any]:
    """Fit the law that the planner ships."""
    fitted = planning.fit_law(rows)
    about = {"machine": machine.name, "commit": commit(), "law": fitted}
    path.write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return about


def errors(rows: list[dict[str, Any]], fitted: planning.Law) -> list[dict[str, Any]]:
    """Relative error of the law at each measured point; and from a fit without that size."""
    table = []
    for row in rows:
        name, taxa, asked = row["step"], row["taxa"], row["queries"]
        without = planning.fit_law([other for other in rows if other["taxa"] != taxa])
        line: dict[str, Any] = {"step": name, "taxa": taxa}
        for what in ("seconds", "memory"):
            line[what] = row[what]
            line[f"{what} error"] = (
                planning.predict(fitted, name, what, taxa, asked) / row[what] - 1
            )
            held = planning.predict(without, name, what, taxa, asked) / row[what] - 1
            line[f"{what} error, held out"] = held
        table.append(line)
    return table


def slopes(rows: list[dict[str, Any]], *, least: int = 30_000) -> dict[str, dict[str, float]]:
    """Fit log–log slopes of each step from some size on, where fixed costs no longer count."""
    found = {}
    for step in planning.STEPS:
        large = [row for row in rows if row["step"] == step and row["taxa"] >= least]
        taxa = [row["taxa"] for row in large]
        found[step] = {
            what: planning.slope(taxa, [row[what] for row in large])
            for what in ("seconds", "memory")
        }
    return found


def report(rows: list[dict[str, Any]], fitted: planning.Law) -> None:
    """Print the slopes of the upper half of the sizes, and the errors of the law."""
    sizes = sorted({row["taxa"] for row in rows})
    for step, found in slopes(rows, least=sizes[len(sizes) // 2]).items():
        print(f"{step:10} time ∝ n^{found['seconds']:.2f}, memory ∝ n^{found['memory']:.2f}")
    for line in errors(rows, fitted):
        text = f"{line['step']:10} {line['taxa']:>10,}"
        for what in ("seconds", "memory"):
            off, held = line[f"{what} error"], line[f"{what} error, held out"]
            text += f"  {what} {off:+5.0%} (held out {held:+5.0%})"
        print(text)


# -------------------------------------------------------------------- one size, one process


class _Memory:
    """The most that this process held during each step."""

    def __init__(self) -> None:
        self.peak: dict[str, int] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        process, stop = psutil.Process(), threading.Event()
        self.peak[step] = process.memory_info().rss

        def watch() -> None:
            while not stop.wait(2e-3):
                self.peak[step] = max(self.peak[step], process.memory_info().rss)

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _main(folder: str, queries: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    memory = _Memory()
    seconds = planning.measure_steps(folder, queries=int(queries), around=memory)
    print(json.dumps({step: [seconds[step], memory.peak[step]] for step in seconds}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
