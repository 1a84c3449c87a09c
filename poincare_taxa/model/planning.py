"""What will it cost? Time and memory of a taxonomy of a given size, on this machine.

The *law* says how the cost of each step grows with the number of taxa: a fit to measurements from a
thousand to ten million taxa (``python -m benchmarks scaling``), kept in ``data/law.json``. Time on
this machine is the law's, times how much slower than the law's machine it takes a small taxonomy
through the same steps.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from importlib import resources
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.optimize import nnls

from poincare_taxa import readers
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.layouts import codes
from poincare_taxa.layouts.refinement import refine
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.model.model import embed
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

__all__ = [
    "EXACTLY",
    "STEPS",
    "Law",
    "Step",
    "Taken",
    "Work",
    "calibrate",
    "calibration",
    "fit_law",
    "forget_codes",
    "law",
    "measure_steps",
    "plan",
    "predict",
    "queries_asked",
    "slope",
]

STEPS = ("read", "layout", "refine", "evaluate", "nearest")
EXACTLY = "evaluate exactly"
_WARMING, _CALIBRATED = 100, 10_000  # Taxa of the calibration,
_ASKED, _COMPARED = 100, 32  # and the queries of its evaluation and of its refinement.
_CALIBRATING = ("precision", "purity", "ancestor", "neighbour")
_PASSES, _YARDSTICK = 8, 256  # The defaults of `refine`.
_CACHED = 1e5  # Taxa whose coordinates a core's own share of the caches holds.


@dataclass(frozen=True)
class Step:
    """Predicted cost of one step.

    Attributes
    ----------
    name
        One of `STEPS`; "refine, at most", for a search that may end before its last pass; or
        "evaluate exactly", with every taxon as a query.
    seconds
        Wall-clock time.
    memory
        Bytes that the process holds at its peak.
    """

    name: str
    seconds: float
    memory: float


class Work(NamedTuple):
    """What a step has to do."""

    taxa: int
    queries: int = 1
    """Taxa compared with all: by an evaluation, and by each of refinement's measurements."""
    passes: int = 0
    """Layouts that refinement proposes, each measured; so is its start."""


class Taken(NamedTuple):
    """A step that was taken."""

    work: Work
    seconds: float


Law = dict[str, dict[str, list[float]]]
"""Step → "seconds" and "memory" → coefficients of the terms of that step."""


def plan(taxa: int, *, queries: int = 1000, speed: dict[str, float] | None = None) -> list[Step]:
    """Predict what a taxonomy costs, in 10 dimensions of float64.

    Parameters
    ----------
    taxa
        Number of taxa.
    queries
        Of the evaluation.
    speed
        What `calibrate` returned: how many times longer than on the law's machine each step takes
        here. By default it is measured now, in about two seconds.

    Returns
    -------
    steps
        Reading a taxdump, the layout, its refinement (the time of all passes: it ends sooner where
        nothing gets better), evaluating, one search for nearest taxa, evaluating exactly.

    Raises
    ------
    ValueError
        If there is not at least one taxon and one query.

    Examples
    --------
    >>> steps = plan(2_609_295, speed=dict.fromkeys(STEPS, 1.0))
    >>> [step.name for step in steps]
    ['read', 'layout', 'refine, at most', 'evaluate', 'nearest', 'evaluate exactly']
    """
    if taxa < 1 or queries < 1:
        raise ValueError(f"a plan needs at least one taxon and one query; got {taxa}, {queries}")
    slower = calibrate() if speed is None else speed
    fitted = law()

    def step(name: str, title: str, work: Work, like: str | None = None) -> Step:
        seconds = predict(fitted, name, "seconds", work) * slower[like or name]
        return Step(title, seconds, predict(fitted, name, "memory", work))

    sampled = step("evaluate", "evaluate", Work(taxa, queries_asked(taxa, queries)))
    exactly = step(EXACTLY, EXACTLY, Work(taxa, taxa), like="evaluate")
    # Every taxon was asked of small trees alone, which do not show what the points take.
    exactly = replace(exactly, memory=max(exactly.memory, sampled.memory))
    return [
        step("read", "read", Work(taxa)),
        step("layout", "layout", Work(taxa)),
        step("refine", "refine, at most", Work(taxa, min(taxa, _YARDSTICK), _PASSES)),
        sampled,
        step("nearest", "nearest", Work(taxa)),
        exactly,
    ]


def queries_asked(taxa: int, queries: int) -> int:
    """Return how many queries `evaluate` asks: it takes every taxon of a small taxonomy."""
    return taxa if taxa <= max(5000, queries) else queries


def calibrate() -> dict[str, float]:
    """Measure how many times longer than on the law's machine each step takes on this one."""
    here, there = calibration(), _shipped()["calibration"]
    return {name: here[name] / there[name] for name in STEPS}


def calibration(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Take a small taxonomy through all steps: seconds of each, by a clock."""
    taken: dict[str, Taken] = {}
    for taxa in (_WARMING, _CALIBRATED):  # What is imported and loaded once is no step's cost.
        with TemporaryDirectory() as folder:
            write_taxdump(synthetic_taxonomy(taxa), folder)
            taken = measure_steps(
                folder,
                queries=_ASKED,
                passes=1,
                compared=_COMPARED,
                parts=_CALIBRATING,
                clock=clock,
            )
    return {name: one.seconds for name, one in taken.items()}


def measure_steps(
    folder: str | Path,
    *,
    queries: int = 1000,
    passes: int = _PASSES,
    compared: int = _YARDSTICK,
    parts: Collection[str] | None = None,
    exactly: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    around: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Taken]:
    """Take all steps on a taxdump: what each had to do, and its seconds.

    Parameters
    ----------
    folder
        The taxdump.
    queries
        Of the evaluation.
    passes, compared
        Of the refinement: its passes at most, and its queries.
    parts
        Of the evaluation; all by default.
    exactly
        Whether to evaluate with every taxon as a query too, which takes n² distances.
    clock
        Called before and after a step: seconds since any moment.
    around
        Called with the name of a step: a context to take it in.
    """
    found: dict[str, Taken] = {}

    def take(name: str, do: Callable[[], Any], work: Callable[[Any], Work]) -> Any:
        with around(name):
            start = clock()
            result = do()
            seconds = clock() - start
        found[name] = Taken(work(result), seconds)
        return result

    taxonomy = take("read", lambda: readers.read(folder), lambda read: Work(len(read)))
    n = len(taxonomy)
    forget_codes()
    model = take("layout", lambda: embed(taxonomy), lambda model: Work(n))
    start = Layout(model.radius, model.direction, {})

    def proposals(points: Layout) -> Work:
        return Work(n, min(n, compared), max(0, len(points.info["passes"]) - 1))

    take("refine", lambda: refine(taxonomy, start, passes=passes, queries=compared), proposals)
    asked = Work(n, queries_asked(n, queries))
    take(
        "evaluate",
        lambda: evaluate(model, queries=queries, only=parts, progress=False),
        lambda _: asked,
    )
    taxon = int(taxonomy.ids[-1])
    model.nearest(taxon)  # The first search by an id builds its index.

    def search() -> float:
        start = clock()
        model.nearest(taxon)
        return clock() - start

    with around("nearest"):
        found["nearest"] = Taken(Work(n), median(search() for _ in range(15)))
    if exactly:
        every = Work(n, n)
        take(EXACTLY, lambda: evaluate(model, exact=True, progress=False), lambda _: every)
    return found


def forget_codes() -> None:
    """Make the next layout pay for the codes of its families, as the first one does."""
    for made in (codes.tight_code, codes.sparse_code, codes._optimised):
        made.cache_clear()


# -------------------------------------------------------------------- the law


def _terms(name: str, what: str, work: Work) -> list[float]:
    """Return what the cost of a step is a sum of multiples of."""
    n, queries, passes = work
    measured = queries * (passes + 1)
    if what == "memory":
        # Rows of distances that threads hold, a gigabyte at most.
        rows = min(2.0**30, 64.0 * n * torch.get_num_threads())
        return [1.0, n, rows] if name in ("refine", "evaluate", EXACTLY) else [1.0, n]
    # Codes are made once for each size of family, of which a tree has about as many as √n; and the
    # larger the tree, the further apart in memory a taxon and its parent.
    size = [float(n), math.sqrt(n), n**1.5]
    if name == "refine":
        return [1.0, *(passes * term for term in size), measured, *_scan(n, measured)]
    if name == "evaluate":
        return [1.0, n, measured, *_scan(n, measured)]
    if name == EXACTLY:
        return [1.0, n, float(n) * n]
    return [1.0, *size]


def _scan(n: int, queries: int) -> list[float]:
    """Distances from queries to all taxa, and those whose points come from main memory."""
    return [float(queries) * n, queries * max(0.0, n - _CACHED)]


def predict(fitted: Law, name: str, what: str, work: Work) -> float:
    """Cost of a step by a law, in seconds or bytes."""
    return float(np.dot(fitted[name][what], _terms(name, what, work)))


def fit_law(measured: Sequence[dict[str, Any]]) -> Law:
    """Fit a law: the non-negative coefficients with the least squared relative errors.

    Of the steps that were measured.

    Parameters
    ----------
    measured
        Each with ``step``, ``taxa``, ``queries``, ``passes``, ``seconds`` and ``memory``.
    """
    found: Law = {}
    for name in (*STEPS, EXACTLY):
        rows = [row for row in measured if row["step"] == name]
        if not rows:
            continue
        found[name] = {}
        for what in ("seconds", "memory"):
            size = np.array([row[what] for row in rows], np.float64)
            terms = np.array(
                [
                    _terms(name, what, Work(row["taxa"], row["queries"], row["passes"]))
                    for row in rows
                ]
            )
            scale = np.maximum(terms.max(axis=0), 1)
            solution, _ = nnls(terms / scale / size[:, None], np.ones(len(rows)))
            found[name][what] = (solution / scale).tolist()
    return found


def law() -> Law:
    """Return the law that the library ships."""
    return _shipped()["law"]


@cache
def _shipped() -> dict[str, Any]:
    text = resources.files("poincare_taxa").joinpath("data/law.json").read_text(encoding="utf-8")
    return json.loads(text)


def slope(taxa: Sequence[int], cost: Sequence[float]) -> float:
    """Exponent of the power law that fits a cost best: the slope of its log–log plot."""
    x, y = np.log(taxa), np.log(cost)
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else math.nan
