"""Searches of a whole table: the nearest rows of queries, and the ranks of their ancestors.

The points are layouts of synthetic taxonomies, in polar coordinates. All pairs of queries and rows
are compared, whatever the implementation: an item is one of these distances.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import poincare_taxa as pt
from benchmarks.measure import (
    LeftOutError,
    Rows,
    WrongAnswerError,
    expected_seconds,
    peak_memory,
    refuse_interpreter,
    side_by_side,
    timing,
)
from poincare_taxa import kernels
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.tree import layout
from poincare_taxa.testing import synthetic_taxonomy

K, DIM = 10, 10
CHECKED = 8
"""Queries whose answers are compared with those of plain float64 distances to every row."""

ROUNDING = 1e-9
BACKENDS = ("torch", "numba", "triton")

Points = tuple[Tensor, Tensor]


def measure(
    taxa: int,
    queries: list[int],
    rows: Rows,
    *,
    dtype: torch.dtype = torch.float64,
    seconds: float = 1.0,
    patience: float = 10.0,
) -> None:
    """Add rows for each number of queries; 0 stands for every row of the table."""
    taxonomy = synthetic_taxonomy(taxa)
    at = rows.machine.device
    radius, direction, _ = layout(taxonomy, DIM, dtype=dtype)
    points = radius.to(at), direction.to(at)
    order = np.random.default_rng(0).permutation(taxa)
    for number in queries:
        asked = order[: number or taxa]
        above = ancestors(taxonomy, asked).to(at)
        chosen = torch.from_numpy(asked).to(at)
        for task, search, check in (
            (f"nearest, k = {K}", nearest, check_nearest),
            ("ranks of all ancestors", count, partial(check_count, above=above)),
        ):
            _measure_task(
                task,
                {
                    f"kernels, {name}": partial(search, points, chosen, above, name)
                    for name in BACKENDS
                },
                partial(check, points, chosen),
                {"taxa": taxa, "queries": number or taxa, "dim": DIM, "dtype": dtype_name(dtype)},
                rows,
                seconds,
                patience,
            )


def _measure_task(
    task: str,
    implementations: dict[str, Callable[[], Any]],
    check: Callable[[Any], None],
    about: dict[str, Any],
    rows: Rows,
    seconds: float,
    patience: float,
) -> None:
    items = about["taxa"] * about["queries"]
    calls, peaks = {}, {}
    for name, call in implementations.items():
        row = {"task": task, "implementation": name, **about, "items": items}
        alike = {"task": task, "implementation": name, "dtype": about["dtype"]}
        with rows.unless_refused(row, ImportError, ValueError):
            wait = expected_seconds(rows, alike, items)
            if wait > patience:
                raise LeftOutError(f"a call would take about {wait:.0f} s")
            with peak_memory(rows.machine) as peak:
                found = call()
            check(found)
            calls[name], peaks[name] = call, peak.bytes
    times = side_by_side(calls, rows.machine, seconds=seconds) if calls else {}
    for name, each in times.items():
        row = {"task": task, "implementation": name, **about, "items": items}
        rows.add(**row, **timing(each, items), peak_bytes=peaks[name])


# -------------------------------------------------------------------- what is searched


def ancestors(taxonomy: pt.Taxonomy, nodes: np.ndarray) -> Tensor:
    """Rows of the ancestors of each node, parent first, −1 beyond the root: [Q, largest depth]."""
    levels = [taxonomy.parent[nodes]]
    while (levels[-1] >= 0).any():
        above = levels[-1]
        levels.append(np.where(above >= 0, taxonomy.parent[np.maximum(above, 0)], -1))
    return torch.from_numpy(np.stack(levels, axis=1).astype(np.int64))


def nearest(points: Points, asked: Tensor, above: Tensor, backend: Any) -> kernels.Neighbours:
    refuse_interpreter(backend)
    queries = points[0][asked], points[1][asked]
    return kernels.nearest(points, queries, K, manifold="polar", skip=asked, backend=backend)


def count(points: Points, asked: Tensor, above: Tensor, backend: Any) -> kernels.Counts:
    refuse_interpreter(backend)
    queries = points[0][asked], points[1][asked]
    return kernels.count_nearer(
        points, queries, above, manifold="polar", skip=asked, backend=backend
    )


# -------------------------------------------------------------------- right or refused


def check_nearest(points: Points, asked: Tensor, found: kernels.Neighbours) -> None:
    """Refuse distances that are not the lowest of all, and rows that are not as far as said."""
    for place, q in enumerate(asked[:CHECKED].tolist()):
        distance = _distances(points, q)
        right = distance.sort().values[:K]
        for got in (found.distance[place], distance[found.row[place]]):
            if not torch.allclose(got, right, rtol=1e-9, atol=ROUNDING):
                raise WrongAnswerError(f"query {q}: {got.tolist()}, not {right.tolist()}")


def check_count(points: Points, asked: Tensor, found: kernels.Counts, *, above: Tensor) -> None:
    """Refuse numbers of nearer rows that plain distances do not allow."""
    for place, q in enumerate(asked[:CHECKED].tolist()):
        distance = _distances(points, q)
        there = above[place] >= 0
        at = distance[above[place][there], None]
        low = (distance < at - ROUNDING).sum(1)
        high = (distance < at + ROUNDING).sum(1)
        nearer = found.nearer[place][there]
        if not ((low <= nearer) & (nearer <= high)).all():
            raise WrongAnswerError(f"query {q}: {nearer.tolist()}, not {low.tolist()}")


def _distances(points: Points, q: int) -> Tensor:
    """From a row to all others, float64; inf to itself."""
    radius, direction = (part.double() for part in points)
    distance = polar.dist(radius[[q]], direction[[q]], radius, direction)
    distance[q] = torch.inf
    return distance
