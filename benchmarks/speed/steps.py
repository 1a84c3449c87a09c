"""Steps of a run: reading, layout, refinement, evaluation; each has to be right before it is timed.

On synthetic taxonomies, written and read as a taxdump. What right means, is known on its own: the
table that was written, the tree's own distances, ranks counted one query at a time.
"""

import math
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch

import poincare_taxa as pt
from benchmarks.measure import (
    LeftOutError,
    Machine,
    Rows,
    WrongAnswerError,
    expected_seconds,
    peak_memory,
    side_by_side,
    timing,
)
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.refinement import refine
from poincare_taxa.layouts.tree import Layout, layout
from poincare_taxa.model import planning
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

QUERIES = 100
PAIRS = 10_000
DISTORTED = 0.1
"""Of the layout: mean relative error of distances, as multiples of the tree's. Layouts have .01 to
.06, and .4 to 1.5 once their directions are shuffled."""
ROUNDING = 1e-9
"""Of distances, which are up to 100 here: the difference below which either may be the nearer."""


class Step(NamedTuple):
    """Something to time, and a check of what it returns."""

    task: str
    implementation: str
    do: Callable[[], Any]
    check: Callable[[Any], None]
    about: dict[str, Any]


def steps(taxonomy: pt.Taxonomy, folder: Path, machine: Machine) -> list[Step]:
    """All steps on a taxonomy whose taxdump is in a folder."""
    n = len(taxonomy)
    read = _reading_check(taxonomy)
    found = [
        Step(
            "reading", "poincare_taxa", lambda: pt.read(folder), lambda tax: read(_table(tax)), {}
        ),
        Step("reading", "plain Python, a loop over lines", lambda: read_lines(folder), read, {}),
    ]
    for dim, dtype in ((10, torch.float64), (10, torch.float32), (5, torch.float64)):
        about = {"dim": dim, "dtype": dtype_name(dtype)}
        found.append(
            Step(
                "layout",
                "poincare_taxa",
                lambda dim=dim, dtype=dtype: fresh_layout(taxonomy, dim, dtype),
                lambda points: check_layout(taxonomy, points),
                about,
            )
        )
    start = layout(taxonomy)
    about = {"dim": 10, "dtype": "float64"}
    found.append(
        Step(
            "refinement, 2 passes of 256 queries",
            "poincare_taxa",
            lambda: refine(taxonomy, start, passes=2),
            lambda points: check_refinement(taxonomy, points),
            about,
        )
    )
    model = (start.radius, start.direction)
    found.append(
        Step(
            f"evaluation, {QUERIES} queries",
            "poincare_taxa",
            lambda: pt.evaluate(model, taxonomy, queries=QUERIES, exact=False, progress=False),
            lambda report: check_evaluation(taxonomy, start, report, min(n, QUERIES)),
            about | {"queries": QUERIES},
        )
    )
    return found


def measure(
    taxa: int, rows: Rows, *, rounds: int = 3, seconds: float = 1.0, patience: float = 60.0
) -> None:
    """Add a row for each step at a size."""
    taxonomy = synthetic_taxonomy(taxa)
    with TemporaryDirectory() as folder:
        write_taxdump(taxonomy, folder)
        for step in steps(taxonomy, Path(folder), rows.machine):
            measure_step(step, taxa, rows, rounds=rounds, seconds=seconds, patience=patience)


def measure_step(
    step: Step, taxa: int, rows: Rows, *, rounds: int, seconds: float, patience: float
) -> None:
    about = {"task": step.task, "implementation": step.implementation, **step.about}
    sized = about | {"taxa": taxa, "items": taxa}
    before = [row for row in rows.kept if about.items() <= row.items()]
    with rows.unless_refused(sized):
        if before and not before[-1].get("seconds", math.inf) <= patience:
            raise LeftOutError(f"{before[-1]['taxa']:,} taxa took long enough")
        with peak_memory(rows.machine) as peak:
            step.check(step.do())
        times = side_by_side({"": step.do}, rows.machine, seconds=seconds, rounds=rounds)[""]
        rows.add(**sized, **timing(times, taxa), peak_bytes=peak.bytes)


# -------------------------------------------------------------------- reading


def read_lines(folder: Path) -> pl.DataFrame:
    """Read a taxdump as most scripts do: split each line, fill dictionaries."""
    parent, rank, name = {}, {}, {}
    with (folder / "nodes.dmp").open(encoding="utf-8") as lines:
        for line in lines:
            node, above, taxon_rank = line.split("\t|\t", 3)[:3]
            parent[int(node)], rank[int(node)] = int(above), taxon_rank
    with (folder / "names.dmp").open(encoding="utf-8") as lines:
        for line in lines:
            node, text, _, kind = line.rstrip("\t|\n").split("\t|\t")
            if kind == "scientific name":
                name[int(node)] = text
    ids = list(parent)
    columns = [parent.values(), (name[i] for i in ids), rank.values()]
    return _sorted(pl.DataFrame({"id": ids} | dict(zip(_COLUMNS, map(list, columns), strict=True))))


_COLUMNS = ("parent", "name", "taxon_rank")


def _table(taxonomy: pt.Taxonomy) -> pl.DataFrame:
    frame = taxonomy.to_frame().with_columns(pl.col("parent").fill_null(pl.col("id")))
    return _sorted(frame.select("id", *_COLUMNS))


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("taxon_rank").cast(pl.String)).sort("id")


def _reading_check(taxonomy: pt.Taxonomy) -> Callable[[pl.DataFrame], None]:
    written = _table(taxonomy)

    def check(read: pl.DataFrame) -> None:
        if not read.equals(written):
            raise WrongAnswerError("the table read is not the one written")

    return check


# -------------------------------------------------------------------- layout and refinement


def fresh_layout(taxonomy: pt.Taxonomy, dim: int, dtype: torch.dtype) -> Layout:
    """Lay out with no code kept from before, as the first call does."""
    planning.forget_codes()
    return layout(taxonomy, dim, dtype=dtype)


def check_layout(taxonomy: pt.Taxonomy, points: Layout, allowed: float = DISTORTED) -> None:
    """Refuse radii that are not proportional to depth, and distances not near the tree's."""
    tau = points.info["tau"]
    depth = torch.tensor(taxonomy.depth).to(points.radius.dtype)
    if not torch.equal(points.radius, tau * depth):
        raise WrongAnswerError("radii are not τ times the depth")
    rng = np.random.default_rng(0)
    u, v = rng.integers(len(taxonomy), size=(2, PAIRS))
    tree = torch.from_numpy(taxonomy.tree.distance(u, v)).double()
    r, x = points.radius.double(), points.direction.double()
    distance = polar.dist(r[u], x[u], r[v], x[v])
    apart = tree > 0
    ratio = distance[apart] / tree[apart] / tau
    error = float((ratio / ratio.median() - 1).abs().mean())
    if not error <= allowed:
        raise WrongAnswerError(f"distances are off the tree's by {error:.2g} on average")


def check_refinement(taxonomy: pt.Taxonomy, points: Layout) -> None:
    """Refuse what is no layout, and what is kept though something measured is worse than before."""
    check_layout(taxonomy, points)
    start, *_, last = [one for one in points.info["passes"] if one["kept"]] * 2
    for name in start.keys() - {"tau", "kept"}:
        if last[name] < start[name] - ROUNDING:
            raise WrongAnswerError(f"{name} went from {start[name]} to {last[name]}")


# -------------------------------------------------------------------- evaluation


def check_evaluation(
    taxonomy: pt.Taxonomy, points: Layout, report: pt.evaluation.Report, queries: int
) -> None:
    """Refuse mean ranks of ancestors that counting, one query after another, does not give.

    Distances that differ by rounding alone may come in either order: counting gives two bounds.
    """
    asked = np.random.default_rng([0, *b"queries"]).permutation(len(taxonomy))[:queries]
    r, u = points.radius, points.direction
    for name, score in (("closure", polar.dist), ("ancestor", polar.ancestor_score)):
        low = high = pairs = 0
        for q in asked.tolist():
            above = torch.tensor(taxonomy.tree.ancestors(q))
            s = score(r[[q]], u[[q]], r, u)
            others = torch.ones(len(s), dtype=torch.bool)
            others[above] = others[q] = False
            for a in above.tolist():
                low += 1 + int((s[others] < s[a] - ROUNDING).sum())
                high += 1 + int((s[others] < s[a] + ROUNDING).sum())
            pairs += len(above)
        told = report[f"{name} mean rank"].value
        if not low / pairs - 1e-9 <= told <= high / pairs + 1e-9:
            raise WrongAnswerError(
                f"{name} mean rank is {told}, by counting {low / pairs} to {high / pairs}"
            )


SMALL = 6000
"""Taxa of the exact evaluation that is compared with one by sampling all of them."""


def measure_exact(rows: Rows, taxa: int, *, patience: float = 300.0) -> None:
    """Add a row of an evaluation whose queries are all taxa, on the device of the rows."""
    device = rows.machine.device
    about = {"task": "evaluation, every taxon", "implementation": "poincare_taxa", "dim": 10}
    # Scans of a GPU read all taxa for each; through the index of the CPU, a query costs about the
    # same at every size.
    items = taxa if device.type == "cpu" else taxa**2
    sized = about | {"dtype": "float64", "taxa": taxa, "queries": taxa, "items": items}
    wait = expected_seconds(rows, about, items)
    with rows.unless_refused(sized):
        if wait > patience:
            raise LeftOutError(f"a run would take about {wait:.0f} s")
        check_exact(device)
        taxonomy = synthetic_taxonomy(taxa)
        radius, direction, _ = layout(taxonomy)
        points = radius.to(device), direction.to(device)

        def evaluate() -> pt.evaluation.Report:
            return pt.evaluate(points, taxonomy, exact=True, device=device, progress=False)

        with peak_memory(rows.machine) as peak:
            times = side_by_side({"": evaluate}, rows.machine, seconds=0, rounds=1)[""]
        rows.add(**sized, **timing(times, items), peak_bytes=peak.bytes)


def check_exact(device: torch.device) -> None:
    """Refuse values that are not those of an evaluation that samples every taxon."""
    taxonomy = synthetic_taxonomy(SMALL)
    radius, direction, _ = layout(taxonomy)
    points = radius.to(device), direction.to(device)
    settings: dict[str, Any] = {"only": PARTS, "floor_queries": 0, "progress": False}
    sampled = pt.evaluate(points, taxonomy, queries=SMALL, exact=False, **settings)
    exact = pt.evaluate(points, taxonomy, exact=True, device=device, **settings)
    compare(exact, sampled)


PARTS = {"precision", "ancestor", "neighbour"}


def compare(exact: pt.evaluation.Report, sampled: pt.evaluation.Report) -> None:
    for name in ("precision@10", "ancestor MAP", "ancestor mean rank", "neighbour MAP"):
        one, other = exact[name].value, sampled[name].value
        if not abs(one - other) <= 1e-3 * abs(other):
            raise WrongAnswerError(f"{name} is {one}, by the scan of each query {other}")
