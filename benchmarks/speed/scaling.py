"""The scaling law: every step on synthetic taxonomies of growing size, each in its own process."""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from benchmarks.measure import Machine, Rows, Times, resident_peak, timing
from benchmarks.tables import commit
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.model import planning
from poincare_taxa.model.planning import EXACTLY, Law, Work
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

STEPS = (*planning.STEPS, EXACTLY)
LAW = Path("poincare_taxa", "data", "law.json")
"""Of the fitted law, in a checkout."""

PASSES = 2
"""Of the refinement: its law is of each pass, and synthetic trees are often done after two."""


EXACT = range(5001, 400_001)
"""Taxa of which every one is asked too: up to 5,000 it always is."""


def asked(n: int) -> dict[str, int | bool]:
    """Queries of the evaluation and of the refinement: fewer where each takes long."""
    few = n > 10**5
    return {"queries": 100 if few else 1000, "compared": 64 if few else 256, "exactly": n in EXACT}


def measure(n: int, rows: Rows, *, repeats: int = 1) -> None:
    """Add a row for each step: the median of some runs, the largest memory."""
    with TemporaryDirectory() as folder:
        write_taxdump(synthetic_taxonomy(n), folder)
        runs = [_in_a_process(folder, asked(n), rows.machine) for _ in range(repeats)]
    for step in runs[0]:
        times = Times([run[step]["seconds"] for run in runs])
        work = Work(*runs[0][step]["work"])
        rows.add(
            task=step,
            step=step,
            implementation="poincare_taxa",
            **work._asdict(),
            memory=max(run[step]["memory"] for run in runs),
            items=n,
            **timing(times, n),
        )


def _in_a_process(folder: str, asked: dict[str, int | bool], machine: Machine) -> dict[str, Any]:
    return _answer("steps", folder, json.dumps(asked), str(machine.threads))


def calibration(machine: Machine, *, repeats: int) -> dict[str, float]:
    """Seconds of the planner's calibration, medians over fresh processes."""
    runs = [_answer("calibration", str(machine.threads)) for _ in range(repeats)]
    return {step: Times([run[step] for run in runs]).median for step in planning.STEPS}


def _answer(*arguments: str) -> dict[str, Any]:
    """Run this module in a process of its own: nothing is kept from the size before.

    The last argument is the number of threads.
    """
    command = [sys.executable, "-m", "benchmarks.speed.scaling", *arguments]
    root = Path(__file__).parents[2]
    environment = os.environ | {"POLARS_MAX_THREADS": arguments[-1]}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=root, env=environment
    )
    return json.loads(done.stdout)


def fitted_law(rows: list[dict[str, Any]], machine: Machine, *, repeats: int = 1) -> dict[str, Any]:
    """Fit the law that the planner ships, and take the small steps that it is calibrated with."""
    return {
        "machine": machine.name,
        "commit": commit(),
        "calibration": calibration(machine, repeats=repeats),
        "law": fit_law(rows),
    }


def fit_law(measured: Sequence[dict[str, Any]]) -> Law:
    """Fit a law: the non-negative coefficients with the least squared relative errors.

    Of the steps that were measured.

    Parameters
    ----------
    measured
        Each with ``step``, ``taxa``, ``queries``, ``passes``, ``seconds`` and ``memory``.
    """
    found: Law = {}
    for name in STEPS:
        rows = [row for row in measured if row["step"] == name]
        if not rows:
            continue
        found[name] = {}
        works = [Work(row["taxa"], row["queries"], row["passes"]) for row in rows]
        for what in ("seconds", "memory"):
            size = np.array([row[what] for row in rows], np.float64)
            terms = np.array([planning.terms(name, what, work) for work in works])
            scale = np.maximum(terms.max(axis=0), 1)
            solution, _ = nnls(terms / scale / size[:, None], np.ones(len(rows)))
            found[name][what] = (solution / scale).tolist()
    return found


def slope(taxa: Sequence[int], cost: Sequence[float]) -> float:
    """Exponent of the power law that fits a cost best: the slope of its log–log plot."""
    x, y = np.log(taxa), np.log(cost)
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else math.nan


def errors(rows: list[dict[str, Any]], fitted: Law) -> list[dict[str, Any]]:
    """Law and measurement of each row, and the law of a fit without its size."""
    table = []
    for row in rows:
        name, work = row["step"], Work(row["taxa"], row["queries"], row["passes"])
        without = fit_law([other for other in rows if other["taxa"] != work.taxa])
        line: dict[str, Any] = {"step": name, **work._asdict()}
        for what in ("seconds", "memory"):
            line[what] = row[what]
            for kind, a_law in (("law", fitted), ("law, held out", without)):
                known = name in a_law
                predicted = planning.predict(a_law, name, what, work) if known else math.nan
                line[f"{what}, {kind}"] = predicted
                line[f"{what}, {kind}, error"] = predicted / row[what] - 1
        table.append(line)
    return table


def slopes(rows: list[dict[str, Any]], *, least: int = 10**5) -> dict[str, dict[str, float]]:
    """Fit log–log slopes of each step from some size on, where fixed costs no longer count.

    Of steps that ask queries, over the sizes that were asked as many as the largest.
    """
    found = {}
    for step in STEPS:
        mine = [row for row in rows if row["step"] == step and row["taxa"] >= least]
        last = max(mine, key=lambda row: row["taxa"], default={})
        alike = [row for row in mine if _asked(row) == _asked(last)]
        taxa = [row["taxa"] for row in alike]
        found[step] = {
            what: slope(taxa, [row[what] for row in alike]) for what in ("seconds", "memory")
        }
    return found


def _asked(row: dict[str, Any]) -> tuple[int, int]:
    return row["queries"], row["passes"]


def report(rows: list[dict[str, Any]], fitted: Law) -> None:
    """Print the slopes of the upper half of the sizes, and the errors of the law."""
    sizes = sorted({row["taxa"] for row in rows})
    for step, found in slopes(rows, least=sizes[len(sizes) // 2]).items():
        print(f"{step:10} time ∝ n^{found['seconds']:.2f}, memory ∝ n^{found['memory']:.2f}")
    for line in errors(rows, fitted):
        text = f"{line['step']:10} {line['taxa']:>10,}"
        for what in ("seconds", "memory"):
            off, held = (line[f"{what}, {kind}, error"] for kind in ("law", "law, held out"))
            text += f"  {what} {off:+5.0%} (held out {held:+5.0%})"
        print(text)


# -------------------------------------------------------------------- one size, one process


class _Cost:
    """Seconds of each step by a clock, and the most memory that this process held during it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.seconds: dict[str, float] = {}
        self.peak: dict[str, int] = {}

    @contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        with resident_peak() as held:
            start = self.clock()
            yield
            self.seconds[step] = self.clock() - start
        self.peak[step] = held.bytes


def _clock(threads: str) -> Callable[[], float]:
    """Seconds of the processor on one thread, so that others at work count less; else the clock."""
    torch.set_num_threads(int(threads))
    return time.process_time if threads == "1" else time.perf_counter


def _steps(folder: str, asked: str, threads: str) -> dict[str, Any]:
    cost, given = _Cost(_clock(threads)), json.loads(asked)
    exactly, queries, compared = given["exactly"], given["queries"], given["compared"]
    model, proposed = planning.take_steps(
        folder, cost, queries=queries, passes=PASSES, compared=compared
    )
    n = len(model)
    cost.seconds["nearest"] /= planning.SEARCHES
    work = dict.fromkeys(planning.STEPS, Work(n))
    work["refine"] = Work(n, min(n, compared), proposed)
    work["evaluate"] = Work(n, planning.queries_asked(n, queries))
    if exactly:
        with cost(EXACTLY):
            evaluate(model, exact=True, progress=False)
        work[EXACTLY] = Work(n, n)
    return {
        step: {"work": work[step], "seconds": cost.seconds[step], "memory": cost.peak[step]}
        for step in work
    }


def _calibration(threads: str) -> dict[str, float]:
    return planning.calibration(_clock(threads))


ANSWERS = {"steps": _steps, "calibration": _calibration}

if __name__ == "__main__":
    print(json.dumps(ANSWERS[sys.argv[1]](*sys.argv[2:])))
