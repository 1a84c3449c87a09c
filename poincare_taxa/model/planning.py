"""Time and memory that a taxonomy of a given size takes on this machine.

The *law* says how the cost of each step grows with the number of taxa: a fit to measurements from a
thousand to ten million taxa (``python -m benchmarks scaling``), kept in ``data/law.json``. Time on
this machine is the law's, times the ratio of what a small taxonomy takes here and took there.
"""

import json
import math
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch

from poincare_taxa import readers
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.layouts import codes
from poincare_taxa.layouts.refinement import refine
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

__all__ = [
    "EXACTLY",
    "SEARCHES",
    "STEPS",
    "Law",
    "Step",
    "Work",
    "calibrate",
    "calibration",
    "forget_codes",
    "plan",
    "predict",
    "queries_asked",
    "take_steps",
    "terms",
]

STEPS = ("read", "layout", "refine", "evaluate", "nearest")
EXACTLY = "evaluate exactly"
SEARCHES = 15
"""Searches of the step "nearest", whose cost is that of one."""
_WARMING, _CALIBRATED = 100, 10_000  # Taxa of the calibration.
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
    """Size of a step."""

    taxa: int
    queries: int = 1
    """Taxa compared with all: by an evaluation, and by each of refinement's measurements."""
    passes: int = 0
    """Layouts that refinement proposes, each measured; so is its start."""


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
        Result of `calibrate`: how many times longer than on the law's machine each step takes
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
    law: Law = _shipped()["law"]

    def step(name: str, title: str, work: Work, like: str | None = None) -> Step:
        seconds = predict(law, name, "seconds", work) * slower[like or name]
        return Step(title, seconds, predict(law, name, "memory", work))

    usual: Any = refine.__kwdefaults__
    return [
        step("read", "read", Work(taxa)),
        step("layout", "layout", Work(taxa)),
        step("refine", "refine, at most", Work(taxa, min(taxa, usual["queries"]), usual["passes"])),
        step("evaluate", "evaluate", Work(taxa, queries_asked(taxa, queries))),
        step("nearest", "nearest", Work(taxa)),
        step(EXACTLY, EXACTLY, Work(taxa, taxa), like="evaluate"),
    ]


def queries_asked(taxa: int, queries: int) -> int:
    """Return the number of queries of `evaluate`, which takes every taxon of a small taxonomy."""
    return taxa if taxa <= max(5000, queries) else queries


# -------------------------------------------------------------------- this machine


def calibrate() -> dict[str, float]:
    """Measure how many times longer than on the law's machine each step takes on this one."""
    here, there = calibration(), _shipped()["calibration"]
    return {name: here[name] / there[name] for name in STEPS}


def calibration(clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Take a small taxonomy through all steps: seconds of each, by a clock."""
    seconds: dict[str, float] = {}

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        start = clock()
        yield
        seconds[name] = clock() - start

    for taxa in (_WARMING, _CALIBRATED):  # The first imports and loads what is no step's cost.
        with TemporaryDirectory() as folder:
            write_taxdump(synthetic_taxonomy(taxa), folder)
            parts = ("precision", "purity", "ancestor", "neighbour")
            take_steps(folder, timed, queries=100, passes=1, compared=32, parts=parts)
    return seconds | {"nearest": seconds["nearest"] / SEARCHES}


def take_steps(
    folder: str | Path,
    around: Callable[[str], AbstractContextManager[Any]],
    *,
    queries: int,
    passes: int,
    compared: int,
    parts: Collection[str] | None = None,
) -> tuple[TaxonEmbedding, int]:
    """Take all of `STEPS` on a taxdump, each inside a context of its own that measures it.

    Parameters
    ----------
    folder
        The taxdump.
    around
        Called with the name of a step: the context.
    queries, parts
        Of the evaluation.
    passes, compared
        Of the refinement: its passes at most, and its queries.

    Returns
    -------
    model
        The embedding that was evaluated.
    proposed
        Number of layouts that the refinement proposed.
    """
    with around("read"):
        taxonomy = readers.read(folder)
    forget_codes()
    with around("layout"):
        model = embed(taxonomy)
    start = Layout(model.radius, model.direction, {})
    with around("refine"):
        refined = refine(taxonomy, start, passes=passes, queries=compared)
    with around("evaluate"):
        evaluate(model, queries=queries, only=parts, progress=False)
    taxon = taxonomy.ids[-1]
    model.nearest(taxon)  # The first search by an id builds its index.
    with around("nearest"):
        for _ in range(SEARCHES):
            model.nearest(taxon)
    return model, max(0, len(refined.info["passes"]) - 1)


def forget_codes() -> None:
    """Make the next layout pay for the codes of its families, as the first one does."""
    for made in (codes.tight_code, codes.sparse_code, codes._optimised):
        made.cache_clear()


# -------------------------------------------------------------------- the law


def terms(name: str, what: str, work: Work) -> list[float]:
    """Return the terms of the cost of a step, which is a sum of multiples of them."""
    n, queries, passes = work
    measured = queries * (passes + 1)
    if what == "memory":
        # Rows of distances that threads hold, a gigabyte at most.
        rows = min(2.0**30, 64.0 * n * torch.get_num_threads())
        return [1.0, n, rows] if name in ("refine", "evaluate", EXACTLY) else [1.0, n]
    # Codes are made once for each size of family, of which a tree has about as many as √n; and the
    # larger the tree, the further apart in memory a taxon and its parent.
    size = [float(n), math.sqrt(n), n**1.5]
    # Distances from queries to all taxa, and those whose points come from main memory.
    scan = [float(measured) * n, measured * max(0.0, n - _CACHED)]
    if name == "refine":
        return [1.0, *(passes * term for term in size), measured, *scan]
    if name == "evaluate":
        return [1.0, n, measured, *scan]
    if name == EXACTLY:
        return [1.0, n, n**1.5]  # neighbouring queries share what an index opens
    return [1.0, *size]


def predict(law: Law, name: str, what: str, work: Work) -> float:
    """Cost of a step by a law, in seconds or bytes."""
    return float(np.dot(law[name][what], terms(name, what, work)))


@cache
def _shipped() -> dict[str, Any]:
    text = resources.files("poincare_taxa").joinpath("data/law.json").read_text(encoding="utf-8")
    return json.loads(text)
