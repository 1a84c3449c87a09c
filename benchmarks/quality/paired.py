"""Two embeddings of one taxonomy, measured over the same taxa, with the error of the difference.

A report says how well one embedding does; the intervals of two reports overlap long before their
difference is chance, for easy taxa are easy for both. Here the statistics that a report is made of
are taken of both and resampled together.
"""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray

import poincare_taxa as pt
from poincare_taxa.evaluation import rows as report_rows
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.evaluation.intervals import _resamples  # pyright: ignore[reportPrivateUsage]
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.subjects import Subject, TreeSubject, polar_subject
from poincare_taxa.files.seeds import stream

__all__ = ["Comparison"]

Floats = NDArray[np.float64]
Row = dict[str, Any]


class Comparison:
    """What is asked of both embeddings, and the tree's own answers."""

    def __init__(self, tax: pt.Taxonomy, queries: int, ranks: list[str], seed: int = 0) -> None:
        self.tax, self.seed = tax, seed
        self.asked = stream(seed, "queries").permutation(len(tax))[:queries]
        self.groups = taxon_groups(tax, ranks)
        self.parts = {"precision", "purity", "ancestor", "neighbour"}
        self.query_taxa = QueryTaxa(tax.tree, self.groups, 10, self.parts)
        self.tree = self._measured(TreeSubject(tax.tree), self.asked)

    def __call__(self, before: pt.layouts.Layout, after: pt.layouts.Layout) -> list[Row]:
        """Return a row for each measure: its values, gain, and the standard error of the gain."""
        rng = torch.Generator().manual_seed(self.seed)
        random = torch.randn(before.direction.shape, generator=rng, dtype=torch.float64)
        random /= torch.linalg.vector_norm(random, dim=1, keepdim=True)
        subjects: dict[str, Subject] = {
            "value": polar_subject(before.radius, before.direction),
            "after": polar_subject(after.radius, after.direction),
            "floor": polar_subject(before.radius, random),
            "ceiling": TreeSubject(self.tax.tree),
        }
        measured = {"ceiling": self.tree}
        for name in ("value", "after", "floor"):
            few = max(1, len(self.asked) // 30) if name == "floor" else None
            measured[name] = self._measured(subjects[name], self.asked[:few])
        with patch.multiple(report_rows, _row=_paired_row, _beside=_plain_row):
            alone = np.arange(len(self.tax))
            queries = dict.fromkeys(subjects, self.asked)
            rows: Any = report_rows.query_rows(
                measured, 10, self.parts, self.groups, queries, alone
            )
            about = subjects, self.asked, self.seed
            rows += report_rows.pair_rows(
                self.tax.tree, *about, {"correlation", "distortion"}, alone
            )
            rows += report_rows.separation_rows(subjects, self.groups, self.asked, self.seed, alone)
        return rows

    def _measured(self, subject: Subject, asked: NDArray[np.int64]) -> dict[str, Floats]:
        return query_statistics(subject, self.query_taxa, asked, Clock(), lambda done, total: None)


def _paired_row(
    group: str,
    metric: str,
    statistics: dict[str, Floats],
    value: Callable[[Floats], Floats],
    *,
    at: str = "",
    **_: object,
) -> Row:
    """Compare a function of sums over taxa, resampling the taxa of both at once."""
    told = np.any([np.any(statistics[name] != 0, axis=1) for name in ("value", "after")], axis=0)
    drawn = _resamples(int(told.sum()))
    values = {name: float(value(table.sum(0))) for name, table in statistics.items()}
    both = [value(drawn @ statistics[name][told]) for name in ("value", "after")]
    tree = statistics["ceiling"]
    aim = value(drawn @ tree[told]) if len(tree) == len(told) else values["ceiling"]
    error = np.nanstd(np.abs(both[0] - aim) - np.abs(both[1] - aim))
    return {"metric": metric, "at": at, **values, "gain": _gain(values), "error": float(error)}


def _plain_row(group: str, metric: str, estimates: dict[str, Any], *, at: str, **_: object) -> Row:
    """Compare a measure that is no function of sums: without an error."""
    values = {name: estimate.value for name, estimate in estimates.items()}
    return {"metric": metric, "at": at, **values, "gain": _gain(values), "error": None}


def _gain(values: dict[str, float]) -> float:
    """By how much the second comes nearer to the tree's own value."""
    aim = values["ceiling"]
    return abs(values["value"] - aim) - abs(values["after"] - aim)
