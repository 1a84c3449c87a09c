"""What will it cost? Time and memory of a taxonomy of a given size, on this machine.

The *law* says how the cost of each step grows with the number of taxa: a fit to measurements from a
thousand to millions of taxa (``python -m benchmarks scaling``), kept in ``data/law.json``. Time on
this machine is the law's, times how much slower than the law a small taxonomy takes here.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy.optimize import nnls

from poincare_taxa import readers
from poincare_taxa.evaluation import evaluate
from poincare_taxa.model import embed
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

__all__ = [
    "STEPS",
    "Law",
    "Step",
    "calibrate",
    "fit_law",
    "law",
    "measure_steps",
    "plan",
    "predict",
    "queries_asked",
    "slope",
]

STEPS = ("read", "embed", "evaluate", "nearest")
_CALIBRATED = 30_000  # Taxa of the calibration,
_ASKED = 1000  # and the queries of its evaluation: where the law is measured too.
_SIZES_OCCUR = 5e5  # Taxa at which half of the family sizes have.


@dataclass(frozen=True)
class Step:
    """Predicted cost of one step.

    Attributes
    ----------
    name
        One of `STEPS`; or "evaluate exactly", with every taxon as a query.
    seconds
        Wall-clock time.
    memory
        Bytes that the process holds at its peak.
    """

    name: str
    seconds: float
    memory: float


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
        What `calibrate` returned: how many times longer than by the law each step takes here. By
        default it is measured now, in a few seconds.

    Returns
    -------
    steps
        Reading a taxdump, embedding, evaluating, one search for nearest taxa, evaluating exactly.

    Raises
    ------
    ValueError
        If there is not at least one taxon and one query.

    Examples
    --------
    >>> steps = plan(2_609_295, speed=dict.fromkeys(STEPS, 1.0))
    >>> [step.name for step in steps]
    ['read', 'embed', 'evaluate', 'nearest', 'evaluate exactly']
    """
    if taxa < 1 or queries < 1:
        raise ValueError(f"a plan needs at least one taxon and one query; got {taxa}, {queries}")
    slower = calibrate() if speed is None else speed
    fitted = law()

    def step(name: str, asked: int, title: str | None = None) -> Step:
        seconds = predict(fitted, name, "seconds", taxa, asked) * slower[name]
        return Step(title or name, seconds, predict(fitted, name, "memory", taxa, asked))

    asked = queries_asked(taxa, queries)
    return [*(step(name, asked) for name in STEPS), step("evaluate", taxa, "evaluate exactly")]


def queries_asked(taxa: int, queries: int) -> int:
    """Return how many queries `evaluate` asks: it takes every taxon of a small taxonomy."""
    return taxa if taxa <= max(5000, queries) else queries


def calibrate() -> dict[str, float]:
    """Measure how many times longer than by the law each step takes on this machine."""
    fitted = law()
    with TemporaryDirectory() as folder:
        write_taxdump(synthetic_taxonomy(_CALIBRATED), folder)
        # Once: codes that are made are kept, and a second round would find them.
        seconds = measure_steps(folder, queries=_ASKED)
    return {
        name: seconds[name] / predict(fitted, name, "seconds", _CALIBRATED, _ASKED)
        for name in STEPS
    }


def measure_steps(
    folder: str | Path,
    *,
    queries: int = 1000,
    around: Callable[[str], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, float]:
    """Take all steps on a taxdump: seconds of each.

    Parameters
    ----------
    folder
        The taxdump.
    queries
        Of the evaluation.
    around
        Called with the name of a step: a context to take it in.
    """
    seconds: dict[str, float] = {}

    def take(name: str, do: Callable[[], Any]) -> Any:
        with around(name):
            start = time.perf_counter()
            result = do()
            seconds[name] = time.perf_counter() - start
            return result

    taxonomy = take("read", lambda: readers.read(folder))
    model = take("embed", lambda: embed(taxonomy))
    take("evaluate", lambda: evaluate(model, queries=queries, progress=False))
    taxon = int(taxonomy.ids[-1])
    model.nearest(taxon)  # The first search by an id builds its index.
    take("nearest", lambda: model.nearest(taxon))
    return seconds


# -------------------------------------------------------------------- the law


def _terms(name: str, what: str, taxa: int, asked: int) -> list[float]:
    """Return what the cost of a step is a sum of multiples of."""
    terms = [1.0, float(taxa)]
    if name == "embed" and what == "seconds":
        # A code is made once for each size of family; in a large tree most sizes have occurred.
        terms.append(taxa / (1 + taxa / _SIZES_OCCUR))
    if name == "evaluate":
        if what == "seconds":
            terms += [asked, float(taxa) * asked]
        else:
            # Rows of distances that threads hold, a gigabyte at most.
            terms.append(min(2.0**30, 64.0 * taxa * torch.get_num_threads()))
    return terms


def predict(fitted: Law, name: str, what: str, taxa: int, asked: int) -> float:
    """Cost of a step by a law, in seconds or bytes."""
    return float(np.dot(fitted[name][what], _terms(name, what, taxa, asked)))


def fit_law(measured: Sequence[dict[str, Any]]) -> Law:
    """Fit a law: the non-negative coefficients with the least squared relative errors.

    Parameters
    ----------
    measured
        Each with ``step``, ``taxa``, ``queries``, ``seconds`` and ``memory``.
    """
    found: Law = {}
    for name in STEPS:
        rows = [row for row in measured if row["step"] == name]
        found[name] = {}
        for what in ("seconds", "memory"):
            size = np.array([row[what] for row in rows], np.float64)
            terms = np.array([_terms(name, what, row["taxa"], row["queries"]) for row in rows])
            scale = terms.max(axis=0)
            solution, _ = nnls(terms / scale / size[:, None], np.ones(len(rows)))
            found[name][what] = (solution / scale).tolist()
    return found


@cache
def law() -> Law:
    """Return the law that the library ships."""
    text = resources.files("poincare_taxa").joinpath("data/law.json").read_text(encoding="utf-8")
    return json.loads(text)["law"]


def slope(taxa: Sequence[int], cost: Sequence[float]) -> float:
    """Exponent of the power law that fits a cost best: the slope of its log–log plot."""
    x, y = np.log(taxa), np.log(cost)
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else math.nan
