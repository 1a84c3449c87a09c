"""What `evaluate` returns: every value beside its floor and its ceiling, to print or to keep."""

import io
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from poincare_taxa.evaluation.intervals import bootstrap_interval, sums_of_clusters
from poincare_taxa.files.html import html_table
from poincare_taxa.files.records import as_json

__all__ = ["Estimate", "Report", "Row"]

_WIDTH = 140  # Of the printed table.
_HEADINGS = ("value", "95 % interval", "floor", "tree", "÷ tree")
_RAY = "†"  # Behind a floor of points in one direction.


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval.

    Attributes
    ----------
    value
        nan where it is undefined (a tree too small to ask the question).
    low, high
        See `intervals`; nan where there is none, `high` infinite where the tail was not seen.
    count
        Number of taxa (or groups) it is taken over.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    count: int = 0

    @classmethod
    def of(
        cls,
        statistics: NDArray[np.float64],
        value: Callable[[NDArray[np.float64]], NDArray[np.float64]],
        *,
        clusters: NDArray[np.integer] | None = None,
        interval: Callable[[NDArray[np.float64]], tuple[float, float]] | None = None,
    ) -> "Estimate":
        """Estimate a function of sums over taxa.

        Parameters
        ----------
        statistics
            [Q, s]: what each query taxon adds to the sums; a row of zeros where it says nothing.
        value
            Sums [..., s] → value [...]; a value that is not finite becomes nan.
        clusters
            [Q], labels of taxa that share their fate; by default each taxon stands alone.
        interval
            Sums of each cluster → ends of the interval; `bootstrap_interval` by default.
        """
        told = np.any(statistics != 0, axis=1)
        count = int(told.sum())
        with np.errstate(invalid="ignore", divide="ignore"):
            exact = float(value(statistics[told].sum(0)))
        if count == 0 or not np.isfinite(exact):
            return cls(math.nan, count=count)
        labels = np.arange(count) if clusters is None else clusters[told]
        sums = sums_of_clusters(statistics[told], labels)
        low, high = bootstrap_interval(sums, value) if interval is None else interval(sums)
        return cls(exact, low, high, count)


@dataclass(frozen=True)
class Row:
    """One line of a report.

    Attributes
    ----------
    group
        Heading under which it is printed.
    metric
        Name of the measure.
    at
        Taxon rank, depth or level it holds for; empty where it holds for all.
    estimate
        The embedding's value.
    floor
        The better value of two sets of points that know the radii and nothing else.
    floor_of
        Which of them it is: "random directions" or "one direction"; empty where both are equal by
        definition.
    ceiling
        The value of the tree's own distances.
    note
        What a reader must know to read the value.
    detail
        Left out of the printed table; kept in `Report.to_dict` and `Report.to_frame`.
    """

    group: str
    metric: str
    estimate: Estimate
    at: str = ""
    floor: Estimate | None = None
    floor_of: str = ""
    ceiling: Estimate | None = None
    note: str = ""
    detail: bool = False

    @property
    def key(self) -> str:
        """``metric`` or ``metric/at``: what ``report[...]`` is asked for."""
        return f"{self.metric}/{self.at}" if self.at else self.metric

    @property
    def value(self) -> float:
        """The embedding's value."""
        return self.estimate.value

    @property
    def ratio(self) -> float:
        """Embedding over tree; nan where the tree's value is 0 or undefined."""
        tree = self.ceiling.value if self.ceiling else math.nan
        return self.value / tree if tree else math.nan


@dataclass(frozen=True, repr=False)
class Report:
    """How good an embedding is. ``print(report)``, ``report["precision@10"].value``, `to_dict`.

    Attributes
    ----------
    rows
        The measures, in printing order.
    meta
        What was evaluated and how: taxa, dimension, queries, seed, versions, seconds by part.
    """

    rows: tuple[Row, ...]
    meta: dict[str, Any] = field(default_factory=dict)

    def __getitem__(self, key: str) -> Row:
        """Return a measure by its key, such as ``"ancestor MAP"`` or ``"separation/genus"``."""
        for row in self.rows:
            if row.key == key:
                return row
        raise KeyError(f"no measure {key!r} in this report; there are {list(self)}")

    def __iter__(self) -> Iterator[str]:
        """Iterate over the keys of the measures."""
        return (row.key for row in self.rows)

    def __len__(self) -> int:
        """Return the number of measures."""
        return len(self.rows)

    def __contains__(self, key: object) -> bool:
        """Return whether there is a measure with this key."""
        return any(row.key == key for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has; a value that is undefined is None."""
        rows = [{"key": row.key, **asdict(row), "ratio": row.ratio} for row in self.rows]
        return as_json({"meta": self.meta, "rows": rows})

    def to_frame(self) -> pl.DataFrame:
        """One row per measure; the columns are the fields of `Row`, estimates by their values."""

        def values(estimates: list[Estimate | None]) -> list[float | None]:
            return [None if e is None else e.value for e in estimates]

        rows = self.rows
        return pl.DataFrame(
            {
                "group": [row.group for row in rows],
                "metric": [row.metric for row in rows],
                "at": [row.at for row in rows],
                "value": [row.value for row in rows],
                "low": [row.estimate.low for row in rows],
                "high": [row.estimate.high for row in rows],
                "count": [row.estimate.count for row in rows],
                "floor": pl.Series(values([row.floor for row in rows]), dtype=pl.Float64),
                "floor_of": [row.floor_of for row in rows],
                "ceiling": pl.Series(values([row.ceiling for row in rows]), dtype=pl.Float64),
                "ratio": [row.ratio for row in rows],
                "note": [row.note for row in rows],
            }
        ).fill_nan(None)

    def __str__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=_WIDTH, color_system=None).print(self)
        return "\n".join(line.rstrip() for line in text.getvalue().splitlines())

    __repr__ = __str__  # What a terminal shows of `pt.evaluate(model)`.

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the printed table."""
        sections = [(heading, list(cells)) for heading, cells in self._sections()]
        return html_table(_title(self.meta), ["", *_HEADINGS, ""], sections, _footer(self.meta))

    def _sections(self) -> Iterator[tuple[str, Iterator[tuple[str, ...]]]]:
        """Headings, each with the cells of its rows as they are printed."""
        shown = [row for row in self.rows if not row.detail]
        for heading, rows in groupby(shown, key=lambda row: row.group):
            yield heading, map(_cells, rows)

    def __rich__(self) -> Group:
        table = _table()
        table.add_row("", *_HEADINGS, style="dim")
        parts: list[RenderableType] = [Text(_title(self.meta), "bold"), Text(), table]
        for heading, rows in self._sections():
            table = _table()
            parts += [Text(heading, "bold"), table]
            for cells in rows:
                table.add_row(*map(Text, cells))  # A text is no markup, whatever a taxon is called.
        return Group(*parts, Text(), Text(_footer(self.meta), "dim"))


def _table() -> Table:
    """One table per heading, all of the same columns."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(width=44, no_wrap=True)
    for width in (9, 17, 9, 9, 7):
        table.add_column(width=width, justify="right", no_wrap=True)
    table.add_column(style="dim")
    return table


def _cells(row: Row) -> tuple[str, ...]:
    """Cells of a row as they are printed."""
    floor, tree = row.floor, row.ceiling
    return (
        f"  {row.metric}" + (f" · {row.at}" if row.at else ""),
        _number(row.value),
        _interval(row.estimate),
        _number(floor.value) + (_RAY if row.floor_of == "one direction" else " ") if floor else "",
        _number(tree.value) if tree else "",
        f"{row.ratio:.3f}" if tree and tree.value != 1 and np.isfinite(row.ratio) else "",
        row.note,
    )


def _title(meta: dict[str, Any]) -> str:
    asked = "every taxon" if meta.get("exact") else f"{meta.get('queries', 0):,} query taxa"
    return (
        f"{meta.get('taxa', 0):,} taxa, {meta.get('dim', 0)}-D {meta.get('dtype', '')}"
        f" ({meta.get('manifold', 'polar')}); "
        f"{asked} against all (seed {meta.get('seed', 0)})"
    )


def _footer(meta: dict[str, Any]) -> str:
    lines = [
        f"floor: the better of random directions and one direction ({_RAY}), with the same radii "
        f"({meta.get('floor_queries', 0):,} queries against all)",
        "tree: the tree's own distances, through the same code",
    ]
    lines += [f"note: {remark}" for remark in meta.get("remarks", [])]
    seconds = meta.get("seconds", {})
    if seconds:
        lines.append(f"{sum(seconds.values()):.1f} s")
    return "\n".join(lines)


def _number(value: float) -> str:
    """Format four decimals; more where they would round up to a 1 that is not reached."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if abs(value - round(value)) < 1e-12:
        return f"{round(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    if abs(value) < 5e-4:
        return f"{value:.1e}"
    digits = 4 if abs(value) < 10 else 2
    while round(value, digits) == 1 and digits < 7:
        digits += 1
    return f"{value:.{digits}f}"


def _interval(estimate: Estimate) -> str:
    if math.isnan(estimate.low):
        return ""
    high = round(estimate.high, 5)  # An upper end that is rounded up to 1 promises nothing.
    return f"{_number(estimate.low)} … {_number(high)}"
