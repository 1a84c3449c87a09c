"""`evaluate`: one report that says whether vectors mean what their taxonomy says.

Three *subjects* go through the same code: the embedding, its floor (random directions with the same
radii) and its ceiling (the tree's own distances). What a measure is, is in `metrics`; here is which
taxa it is taken over, what stands beside it, and how 1,000 queries against 2.6 million taxa take a
minute: a block of queries at a time, each thread with rows of its own.

Sources: [NK17] Nickel & Kiela 2017, §4.1 (closure reconstruction).  [S18] Sala et al. 2018, §2
(reconstruction of graph neighbours).
"""

import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, TaskID

from poincare_taxa.evaluation import metrics
from poincare_taxa.evaluation import rows as _sections
from poincare_taxa.evaluation._scan import Points
from poincare_taxa.evaluation.rank_counts import scan_all, suits
from poincare_taxa.evaluation.report import Report, Row
from poincare_taxa.evaluation.subjects import Clock, Embedding, QueryTaxa, Tree, scan
from poincare_taxa.files.records import dtype_name, library_version
from poincare_taxa.files.seeds import stream
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["Report", "evaluate"]

_PARTS = (
    "radius",
    "precision",
    "purity",
    "ancestor",
    "closure",
    "neighbour",
    "correlation",
    "distortion",
    "separation",
    "ball",
)
_SCANNED = {"precision", "purity", "ancestor", "closure", "neighbour"}
_EXACT = 5000  # Taxa up to which every one is a query.
_TIMED = 256  # Queries whose time says how long all will take.

Scan = Callable[..., dict[str, NDArray[np.float64]]]
"""(query taxa, rows, clock, advance) -> statistics."""


def evaluate(
    model: Any,
    taxonomy: Taxonomy | None = None,
    *,
    queries: int = 1000,
    seed: int = 0,
    exact: bool | None = None,
    k: int = 10,
    taxon_ranks: Sequence[str] | None = None,
    only: Collection[str] | None = None,
    floor_queries: int = 100,
    c: float = 1.0,
    device: torch.device | str | None = None,
    progress: bool | None = None,
) -> Report:
    """Measure how well vectors agree with a taxonomy, beside their floor and their ceiling.

    ``docs/report.md`` explains every line of the report.

    Parameters
    ----------
    model
        A `TaxonEmbedding`; or anything with ``radius`` [n] and ``direction`` [n, dim]; or the two
        as a tuple; or points of the Poincaré ball [n, dim]: someone else's vectors. Row i is
        node i.
    taxonomy
        Needed where the model does not carry one.
    queries
        Number of taxa, drawn uniformly, that are compared with all taxa.
    seed
        Of everything drawn. The same seed draws the same taxa for every model of a taxonomy.
    exact
        Whether every taxon is a query of the measures that rank all taxa; by default where there
        are at most 5,000. Of a larger taxonomy, first a few queries are timed and the time that
        all will take is printed to standard error (unless `progress` is False); the ceiling, and
        the measures of sampled pairs, then take the larger of `queries` and 5,000.
    k
        Neighbours of precision and purity.
    taxon_ranks
        Taxon ranks to judge groups by; see `metrics.taxon_groups`.
    only
        Parts to measure, of: radius, precision, purity, ancestor, closure, neighbour, correlation,
        distortion, separation, ball. Leaving parts out changes nothing in the others.
    floor_queries
        Number of the queries that the floor is measured with; 0 leaves it out.
    c
        Curvature parameter of the ball that points lie in. No measure depends on the scale.
    device
        Where all taxa are queries of more than 5,000, the searches run there; by default where the
        points are. All else runs on the CPU.
    progress
        Whether to draw a progress bar; by default where standard error is a terminal.

    Returns
    -------
    report

    Raises
    ------
    ValueError
        If there is no taxonomy, the number of vectors is not the number of taxa, or an argument is
        not one of those above.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1, 1])
    >>> at = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.8, 0.1], [0.8, -0.1]])
    >>> report = evaluate(at, tax, only={"ancestor"})
    >>> report["ancestor MAP"].value
    1.0
    """
    parts = _check_parts(only)
    taxonomy, points, facts = _read_points(model, taxonomy, c)
    here: torch.device = facts["device"] if device is None else torch.device(device)
    n = len(taxonomy)
    if queries < 1 or k < 1 or floor_queries < 0:
        raise ValueError(
            "queries and k must be at least 1, floor_queries at least 0; "
            f"got {queries}, {k}, {floor_queries}"
        )
    if exact is None:
        exact = n <= max(_EXACT, queries)
    asked = stream(seed, "queries").permutation(n)[: n if exact else queries]
    sampled = asked[: max(queries, _EXACT)]

    subjects: dict[str, Embedding | Tree] = {
        "value": Embedding(points),
        "ceiling": Tree(taxonomy),
    }
    if floor_queries:
        generator = torch.Generator().manual_seed(seed)
        subjects["floor"] = Embedding(_random_directions(points, generator))
    clock = Clock()
    remarks = []
    groups = {}
    if parts & {"purity", "separation"}:
        with clock("groups"):
            groups = metrics.taxon_groups(taxonomy, taxon_ranks)
        if not taxon_ranks and any(name.startswith("depth") for name in groups):
            remarks.append("no taxon rank divides these taxa: groups are the clades at a depth")
    if not points.valid.all():
        remarks.append(
            f"{np.count_nonzero(~points.valid):,} rows are no points (not finite, or outside the "
            "ball): each counts as infinitely far from everything"
        )

    rows: list[Row] = []
    if "radius" in parts:
        with clock("radius"):
            rows += _sections.radius_rows(taxonomy, points)
    if parts & _SCANNED:
        query_taxa = QueryTaxa(taxonomy, groups if "purity" in parts else {}, k, parts & _SCANNED)
        scans: dict[str, Scan] = {name: partial(scan, each) for name, each in subjects.items()}
        if len(asked) > len(sampled):
            if suits(points):
                scans["value"] = partial(scan_all, points, device=here)
            if progress is not False:
                _announce(query_taxa, scans["value"], asked, queries)
        taken = {"value": asked, "ceiling": sampled, "floor": asked[:floor_queries]}
        with _progress_bar(progress) as advance:
            scanned = {
                name: each(query_taxa, taken[name], clock, partial(advance, name))
                for name, each in scans.items()
            }
        rows += _sections.scanned_rows(query_taxa, scanned)
    if parts & {"correlation", "distortion"} and n > 1:
        with clock("pairs"):
            rows += _sections.pair_rows(taxonomy, subjects, sampled, seed, parts)
    if "separation" in parts and n > 1:
        with clock("separation"):
            rows += _sections.separation_rows(taxonomy, subjects, groups, sampled, seed)
    if "ball" in parts:
        with clock("ball"):
            rows += _sections.ball_rows(points, facts)
    meta = {
        "taxa": n,
        "max_depth": taxonomy.max_depth,
        "dim": facts["dim"],
        "dtype": facts["dtype"],
        "queries": len(asked),
        "exact": len(asked) == n,
        "floor_queries": min(floor_queries, len(asked)),
        "k": k,
        "seed": seed,
        "parts": [part for part in _PARTS if part in parts],
        "remarks": remarks,
        "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
        "thread_seconds": {name: round(s, 3) for name, s in clock.thread_seconds.items()},
        "versions": {"poincare_taxa": library_version(), "torch": torch.__version__},
    }
    return Report(tuple(rows), meta)


# -------------------------------------------------------------------- arguments


def _check_parts(only: Collection[str] | None) -> set[str]:
    if isinstance(only, str):
        only = {only}
    parts = set(_PARTS if only is None else only)
    unknown = parts - set(_PARTS)
    if unknown:
        raise ValueError(f"no part {sorted(unknown)} in a report; there are {', '.join(_PARTS)}")
    return parts


def _read_points(
    model: Any, taxonomy: Taxonomy | None, c: float
) -> tuple[Taxonomy, Points, dict[str, Any]]:
    """Points, and what is to be said of them as they were given."""
    if taxonomy is None:
        taxonomy = getattr(model, "taxonomy", None)
    if taxonomy is None:
        raise ValueError("these vectors come without a taxonomy: evaluate(vectors, taxonomy)")
    if hasattr(model, "radius") and hasattr(model, "direction"):
        model = model.radius, model.direction
    first = model[0] if isinstance(model, tuple) else model
    where = first.device if isinstance(first, torch.Tensor) else torch.device("cpu")
    if isinstance(model, tuple):
        radius, direction = given = [_tensor(part) for part in model]
        if radius.ndim != 1 or direction.ndim != 2 or len(radius) != len(direction):
            raise ValueError(
                "polar coordinates are a radius [n] and a direction [n, dim]; "
                f"got {list(radius.shape)} and {list(direction.shape)}"
            )
        rim = 2 / (radius.double().exp() + 1)  # 1 − tanh(r/2), without the cancellation
        length = torch.linalg.vector_norm(direction.double(), dim=1)
        facts = {"direction_error": (length - 1).abs(), "outside": 0}
    else:
        x = _tensor(model)
        if x.ndim != 2:
            raise ValueError(f"points of the ball have shape [n, dim]; got {list(x.shape)}")
        wide = x.double() * c**0.5
        norm = torch.linalg.vector_norm(wide, dim=1)
        rim = 1 - norm
        radius = torch.log1p(2 * norm / rim)  # 2 artanh; nan or infinite outside
        direction = wide / norm.clamp(min=torch.finfo(torch.float64).tiny)[:, None]
        facts = {"outside": int((norm >= 1).sum())}
        given = [x]
    facts = {**facts, "device": where}
    if len(radius) != len(taxonomy):
        raise ValueError(
            f"{len(radius):,} vectors, but the taxonomy has {len(taxonomy):,} taxa: row i must be "
            "the vector of node i (node i is the i-th in preorder, not the i-th smallest id)"
        )
    finite = torch.stack([part.reshape(len(radius), -1).isfinite().all(1) for part in given])
    facts |= {
        "dim": direction.shape[1],
        "dtype": dtype_name(given[-1].dtype),
        "not_finite": int((~finite.all(0)).sum()),
        "rim": rim,
    }
    return taxonomy, Points(radius, direction), facts


def _tensor(values: Any) -> torch.Tensor:
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch shares memory, and warns where that is read-only.
    return torch.as_tensor(values).detach().cpu()


def _random_directions(points: Points, generator: torch.Generator) -> Points:
    shape = len(points), points.dim
    direction = torch.randn(shape, generator=generator, dtype=torch.float64)
    direction /= torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return Points(torch.from_numpy(np.where(points.valid, points.radius, np.nan)), direction)


def _announce(query_taxa: QueryTaxa, scan: Scan, asked: NDArray[np.integer], queries: int) -> None:
    """Print how long all queries will take, from the time of the first."""
    threads = torch.get_num_threads()
    first, clock = asked[:_TIMED], Clock()
    scan(query_taxa, first[:1], Clock(), lambda done, total: None)  # compiles
    scan(query_taxa, first, clock, lambda done, total: None)
    each = clock.seconds["scan"] / len(first)
    hours = len(asked) * each / 3600
    span = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"exact evaluation: {len(asked):,} queries will take about {span} on {threads} thread(s); "
        f"a sample of {queries:,} takes {queries * each:.0f} s and estimates the same values"
    )


@contextmanager
def _progress_bar(wanted: bool | None) -> Iterator[Callable[[str, int, int], None]]:
    shown = sys.stderr.isatty() if wanted is None else wanted
    console = Console(stderr=True, force_terminal=wanted)
    with Progress(console=console, transient=True, disable=not shown) as bar:
        tasks: dict[str, TaskID] = {}
        titles = {"value": "embedding", "ceiling": "tree", "floor": "floor"}

        def advance(subject: str, done: int, total: int) -> None:
            if subject not in tasks:
                tasks[subject] = bar.add_task(f"queries: {titles[subject]}", total=total)
            bar.update(tasks[subject], completed=done)

        yield advance
