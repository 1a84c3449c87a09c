"""What the experiments measure of a trained embedding: values, and those of the tree itself."""

from collections.abc import Mapping
from typing import Any

import polars as pl

import poincare_taxa as pt
from benchmarks.tables import Row

PARTS = {"radius", "precision", "ancestor", "correlation", "separation"}
MEASURES = {
    "depth–radius Spearman": "depth–radius",
    "precision@10": "precision@10",
    "ancestor MAP": "ancestor MAP",
    "Spearman": "Spearman",
    "separation/class": "class",
    "separation/order": "order",
    "separation/family": "family",
}
"""Rows of a report, and what the tables call them; separation of taxon ranks."""


def scores(
    points: Any,
    tax: pt.Taxonomy,
    *,
    measures: Mapping[str, str] = MEASURES,
    queries: int = 300,
    c: float = 1.0,
) -> tuple[Row, Row]:
    """Value of every measure that the taxonomy has, and the tree's own."""
    report = pt.evaluate(
        points, tax, queries=queries, exact=False, only=PARTS, floor_queries=0, progress=False, c=c
    )
    found = {label: report[key] for key, label in measures.items() if key in report}
    value = {label: round(row.value, 4) for label, row in found.items()}
    tree = {label: round(row.ceiling.value, 4) for label, row in found.items() if row.ceiling}
    return value, tree


def mean_and_deviation(values: pl.Series) -> str:
    """Mean ± standard deviation of what is there."""
    values = values.drop_nulls()
    if len(values) == 0:
        return "–"
    return f"{values.mean():.3f}" + ("" if len(values) == 1 else f" ± {values.std():.3f}")
