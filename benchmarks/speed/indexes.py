"""The exact index beside a scan of the table: neighbours, the graph of all, and rank counts.

The embedding is the layout of a taxonomy in ten dimensions. Every figure of the index is of answers
that a scan confirms: the same rows for some hundred queries, and the same counts. What would take
hours for every taxon is measured on blocks of consecutive queries by lot, and multiplied.
"""

import math
import time
from collections.abc import Callable, Iterator
from unittest.mock import patch

import numpy as np
import psutil
import torch
from torch import Tensor

from benchmarks.speed.scaling import slope
from benchmarks.tables import Row
from poincare_taxa import kernels
from poincare_taxa.kernels.arguments import Points
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.search import nodes
from poincare_taxa.search.graph import neighbour_graph
from poincare_taxa.search.index import SearchIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy

_CONFIRMED = 100
_BLOCK = 128


class WrongNeighboursError(Exception):
    """The index found what a scan did not."""


def embedding(taxonomy: Taxonomy) -> TaxonEmbedding:
    """Lay a taxonomy out in ten dimensions."""
    points = layout(taxonomy, 10)
    return TaxonEmbedding(taxonomy, points.radius, points.direction)


def measure(model: TaxonEmbedding, *, threads: int, graph: bool) -> Iterator[Row]:
    """Time the index of a model, and scans for the same queries."""
    points, tree = (model.radius, model.direction), model.taxonomy.tree
    n, generator = len(model), np.random.default_rng(0)
    about = {"taxa": n, "dtype": str(model.dtype).removeprefix("torch."), "threads": threads}
    SearchIndex((points[0][:9999], points[1][:9999]), manifold="polar").build()  # compile
    depth = torch.tensor(tree.depth, dtype=torch.int64)
    index = SearchIndex(points, manifold="polar", ordered=True, depth=depth)
    seconds, _ = timed(index.build)
    yield about | {
        "what": "build", "s": seconds, "bytes a row": index.nbytes / n,
        "leaves opened": index.opened_share,
    }  # fmt: skip

    def scan(rows: Tensor) -> kernels.Neighbours:
        some = points[0][rows], points[1][rows]
        return kernels.nearest(points, some, 10, manifold="polar", skip=rows)

    # One query at a time.
    rows = torch.from_numpy(generator.choice(n, min(n, 2000), replace=False))
    for i in rows[:20]:
        if not index.nearest(i[None], 10).row.equal(scan(i[None]).row):
            raise WrongNeighboursError(f"row {int(i)}")
    each = [timed(lambda i=i: index.nearest(i[None], 10))[0] for i in rows]
    scans = [timed(lambda i=i: scan(i[None]))[0] for i in rows[:20]]
    yield about | {
        "what": "one query", "s": float(np.median(each)), "p99 s": float(np.quantile(each, 0.99)),
        "scan s": float(np.median(scans)),
    }  # fmt: skip

    each = in_the_loop(points, rows)
    cpu = [timed(lambda i=i: scan(i[None]), time.process_time)[0] for i in rows[:20]]
    yield about | {
        "what": "one query, CPU of the loop", "s": float(np.median(each)),
        "p99 s": float(np.quantile(each, 0.99)), "scan s": float(np.median(cpu)),
    }  # fmt: skip

    # Consecutive queries, by blocks.
    starts = generator.permutation(max(1, n // _BLOCK))[:20] * _BLOCK
    blocks = [torch.arange(start, min(start + _BLOCK, n)) for start in starts]
    confirm(blocks, lambda rows: index.nearest(rows, 10).row, lambda rows: scan(rows).row)
    many = [torch.arange(s, min(s + 2**14, n)) for s in (0, n // 2)]
    mine = sum(timed(lambda rows=rows: index.nearest(rows, 10))[0] for rows in many)
    theirs = timed(lambda: scan(blocks[0]))[0] / len(blocks[0])
    done = sum(len(rows) for rows in many)
    yield about | {"what": "a query of 16,384", "s": mine / done, "scan s": theirs}
    if graph:
        seconds, found = timed(lambda: neighbour_graph(index, n, 10))
        memory = psutil.Process().memory_info().rss / 2**30
        yield about | {"what": "graph of all", "s": seconds, "GiB": memory, "entries": found.nnz}

    # Ranks of all ancestors.
    parent = torch.from_numpy(tree.parent.astype(np.int64))
    for by in ("distance", "ancestor"):

        def counts(rows: Tensor, by: kernels.By = by) -> Tensor:
            return torch.cat(index.count_nearer(rows, ancestors(parent, rows), by=by))

        def counts_of_scan(rows: Tensor, by: kernels.By = by) -> Tensor:
            targets, some = ancestors(parent, rows), (points[0][rows], points[1][rows])
            return torch.cat(
                kernels.count_nearer(points, some, targets, manifold="polar", by=by, skip=rows)
            )

        mine = confirm(blocks, counts, counts_of_scan)
        theirs = timed(lambda f=counts_of_scan: f(blocks[0]))[0] / len(blocks[0])
        yield about | {"what": f"ranks of ancestors by {by}", "s": mine, "scan s": theirs}


def in_the_loop(points: tuple[Tensor, Tensor], rows: Tensor) -> list[float]:
    """CPU seconds of each search in the compiled loop alone, on one thread."""
    table = Points.of(points, "polar", 1.0)
    index = nodes.Nodes.build(table, None)
    seconds = []

    def one_by_one(part: Callable[[int, int], None], count: int, *_: object) -> None:
        for i in range(count):
            start = time.thread_time()
            part(i, i + 1)
            seconds.append(time.thread_time() - start)

    with patch.object(nodes, "in_threads", one_by_one):
        index.nearest(table.at(rows), 10, False, rows, rows)
    return seconds


def ancestors(parent: Tensor, rows: Tensor) -> Tensor:
    """All ancestors of rows, the nearest first, −1 where there are no more: [Q, deepest]."""
    above = [parent[rows]]
    while bool((above[-1] >= 0).any()):
        above.append(torch.where(above[-1] >= 0, parent[above[-1].clamp(min=0)], -1))
    return torch.stack(above, dim=1)


def confirm(
    blocks: list[Tensor], mine: Callable[[Tensor], Tensor], scan: Callable[[Tensor], Tensor]
) -> float:
    """Seconds a query of some blocks; the first of them must be what a scan finds."""
    if not mine(blocks[0]).equal(scan(blocks[0])):
        raise WrongNeighboursError(f"rows {blocks[0][0]} to {blocks[0][-1]}")
    seconds = sum(timed(lambda rows=rows: mine(rows))[0] for rows in blocks)
    return seconds / sum(len(rows) for rows in blocks)


def significant(value: object) -> object:
    """Keep three digits of a measured number."""
    return float(f"{value:.3g}") if isinstance(value, float) else value


def slopes(rows: list[Row], *, least: int = 10**4) -> list[Row]:
    """Exponents of n that fit the seconds of each task, from some size on."""
    found = []
    for what in dict.fromkeys(row["what"] for row in rows):
        alike = [row for row in rows if row["what"] == what and row["taxa"] >= least]
        fitted = slope([row["taxa"] for row in alike], [row["s"] for row in alike])
        if not math.isnan(fitted):
            found.append({"what": what, "s ∝ n^": fitted})
    return found


def timed(
    function: Callable[[], object], clock: Callable[[], float] | None = None
) -> tuple[float, object]:
    """Seconds of a call; on one thread those of the processor, which leave out waiting."""
    if clock is None:
        clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    result = function()
    return clock() - start, result
