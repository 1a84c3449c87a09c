"""`evaluate`: one report that says whether vectors mean what their taxonomy says.

The *subjects* that go through the same code are the embedding, its floors (random directions and
one direction, with the same radii) and its ceiling (the tree's own distances). What a measure is,
is in `metrics` and `ranks`; here is which taxa it is taken over, and what stands beside it.

Sources: [NK17] Nickel & Kiela 2017, §4.1 (closure reconstruction).  [S18] Sala et al. 2018, §2
(reconstruction of graph neighbours).
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from poincare_taxa.evaluation import rows as report_rows
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.floors import points_and_floors
from poincare_taxa.evaluation.groups import genera, taxon_groups
from poincare_taxa.evaluation.points import Distance, GivenPoints, read_points
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.report import Report, Row
from poincare_taxa.evaluation.subjects import Subject, TreeSubject
from poincare_taxa.files.progress import progress_display
from poincare_taxa.files.records import library_version
from poincare_taxa.files.seeds import stream
from poincare_taxa.processes.digests import digest
from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

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
_AGAINST_ALL = {"precision", "purity", "ancestor", "closure", "neighbour"}
_EXACT = 5000  # Taxa up to which every one is a query.
_COMPARED = 16  # Rows between which distances are compared between processes.
_TIMED, _STRETCHES = 1024, 4  # Queries whose time says how long all will take; as so many slices.


def evaluate(
    model: Any,
    taxonomy: Taxonomy | Tree | None = None,
    *,
    queries: int = 1000,
    seed: int = 0,
    exact: bool | None = None,
    k: int = 10,
    taxon_ranks: Sequence[str] | None = None,
    only: Collection[str] | None = None,
    floor_queries: int = 100,
    manifold: str | Distance = "ball",
    c: float = 1.0,
    device: torch.device | str | None = None,
    progress: bool | None = None,
    processes: bool = False,
) -> Report:
    """Measure how well vectors agree with a taxonomy, beside their floor and their ceiling.

    ``docs/report.md`` explains every line of the report.

    Parameters
    ----------
    model
        A `TaxonEmbedding`; or anything with ``radius`` [n] and ``direction`` [n, dim]; or the two
        as a tuple; or someone else's vectors [n, dim], points of the Poincaré ball or of another
        `manifold`. Row i is node i; vectors that come with keys are put there: ``{id: vector}``, a
        table of polars or pandas with ids and a column for each coordinate, or gensim's
        ``KeyedVectors``. A row that is nan or infinite, or whose radius is negative, is *lost*: it
        is counted in the report, and is last wherever taxa are ranked, with every tie against it.
        So is a taxon without a vector; where fewer than half have one, this is an error.
    taxonomy
        Needed where the model does not carry one. Of a `Tree`, which has no ranks, groups are the
        clades at a depth.
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
        Taxon ranks to judge groups by; see `groups.taxon_groups`.
    only
        Parts to measure, of: radius, precision, purity, ancestor, closure, neighbour, correlation,
        distortion, separation, ball. Leaving parts out changes nothing in the others.
    floor_queries
        Number of the queries that the floor is measured with; 0 leaves it out.
    manifold
        The space of vectors: "ball"; "polar", the radius first [n, 1 + dim]; "lorentz"
        [n, 1 + dim]; "euclidean"; or a function of two tensors [..., dim] that broadcasts and
        returns distances, or a manifold of geoopt. Of a function the radius is the distance from
        the root's point.
    c
        Curvature parameter of the ball or the Lorentz model that points lie in. No measure depends
        on the scale.
    device
        Where the points are searched; by default where they are. All else runs on the CPU.
    progress
        Whether to show how far it is: by default a bar in a terminal or a notebook after two
        seconds, else (in a log) a line now and then. True shows it from the start on. False is
        silence.
    processes
        Whether the processes of ``torchrun``, or of the program's process group, share the queries.
        All of them make this call, and each has the whole report, with the values of one process to
        the last digit. Of a program that is alone it changes nothing.

    Returns
    -------
    report

    Raises
    ------
    ValueError
        If there is no taxonomy, the number of vectors is not the number of taxa, a row is finite
        but no point of the space (a norm of 1 or more, a direction that is no unit vector, a row
        beside the hyperboloid), which guesses the space it is of; or an argument is not one of
        those above.
    RuntimeError
        If processes that share the queries have other vectors, taxonomies or settings.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1, 1])
    >>> at = torch.tensor([[0.0, 0.0], [0.5, 0.0], [-0.5, 0.0], [0.8, 0.1], [0.8, -0.1]])
    >>> report = evaluate(at, tax, only={"ancestor"})
    >>> report["ancestor MAP"].value
    1.0
    """
    together = Processes.joined() if processes else Processes()
    progress = False if together.rank > 0 else progress
    parts = _check_parts(only)
    _check_numbers(queries, k, floor_queries)
    tau = _scale(model)
    taxonomy, points = read_points(model, taxonomy, manifold, c)
    tree, clock, rows = taxonomy.tree, Clock(), list[Row]()
    ranks = None if taxon_ranks is None else list(taxon_ranks)
    settings = queries, seed, exact, k, sorted(parts), floor_queries, ranks, points.manifold, c
    _require_same(together, points, tree, settings)
    subjects = _subjects(points, tree, seed, device, floors=floor_queries > 0)
    every = len(tree) <= max(_EXACT, queries) if exact is None else exact
    asked = stream(seed, "queries").permutation(len(tree))[: None if every else queries]
    sampled = asked[: max(queries, _EXACT)]
    with clock("groups"):
        judged = parts & {"purity", "separation"}
        groups = taxon_groups(taxonomy, taxon_ranks) if judged else {}
        clusters = genera(taxonomy)

    if "radius" in parts:
        with clock("radius"):
            rows += report_rows.radius_rows(tree, points)
    if parts & _AGAINST_ALL:
        query_taxa = QueryTaxa(tree, groups, k, parts & _AGAINST_ALL)
        on_cpu = torch.device(device or points.vectors.device).type == "cpu"
        threads = torch.get_num_threads() if on_cpu else 1
        if len(asked) > len(sampled) and progress is not False:
            measure = partial(query_statistics, subjects["value"], query_taxa, threads=threads)
            _announce(measure, len(tree), queries, threads, together.size)
        taken = dict.fromkeys(subjects, asked[:floor_queries])
        taken |= {"value": asked, "ceiling": sampled}
        measured = _against_all(subjects, query_taxa, taken, clock, progress, threads, together)
        rows += report_rows.query_rows(measured, k, parts, query_taxa.groups, taken, clusters)
    if parts & {"correlation", "distortion"} and len(tree) > 1:
        with clock("pairs"):
            rows += report_rows.pair_rows(tree, subjects, sampled, seed, parts, clusters, tau)
    if "separation" in parts and len(tree) > 1:
        with clock("separation"):
            rows += report_rows.separation_rows(subjects, groups, sampled, seed, clusters)
    if "ball" in parts:
        rows += report_rows.ball_rows(points)
    meta = _described(tree, points) | {
        "queries": len(asked),
        "exact": len(asked) == len(tree),
        "floor_queries": min(floor_queries, len(asked)),
        "k": k,
        "seed": seed,
        "parts": [part for part in _PARTS if part in parts],
        "remarks": _remarks(tree, parts, groups, taxon_ranks, points),
        "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
    }
    return Report(tuple(rows), meta)


def _subjects(
    points: GivenPoints,
    tree: Tree,
    seed: int,
    device: torch.device | str | None,
    *,
    floors: bool,
) -> dict[str, Subject]:
    """Embedding, ceiling and floors, in the order in which they are measured."""
    found = points_and_floors(points, seed, device, tree.depth)
    value = {"value": found.pop("value"), "ceiling": TreeSubject(tree)}
    return value | (found if floors else {})


def _against_all(
    subjects: dict[str, Subject],
    query_taxa: QueryTaxa,
    queries: Mapping[str, NDArray[np.integer]],
    clock: Clock,
    progress: bool | None,
    threads: int,
    together: Processes,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Measure the queries of each subject against all taxa: subject → statistic → [Q]."""
    titles = {"value": "embedding", "ceiling": "tree"}
    with progress_display(progress, transient=True) as show:
        return {
            name: together.split(
                queries[name],
                partial(
                    query_statistics,
                    subject,
                    query_taxa,
                    clock=clock,
                    advance=partial(show, f"queries: {titles.get(name, name)}"),
                    threads=threads,
                ),
            )
            for name, subject in subjects.items()
        }


def _require_same(
    together: Processes, points: GivenPoints, tree: Tree, settings: Sequence[object]
) -> None:
    """Raise RuntimeError unless processes that share queries have the same vectors and settings.

    A distance function is compared by what it returns for a few rows.
    """
    if together.size > 1:
        some = points.vectors[:_COMPARED]
        apart = () if points.distance is None else [points.distance(some[:, None], some[None])]
        together.require_equal(
            (digest(points.vectors, points.radius, *apart), tree.fingerprint, settings),
            "the processes evaluate other vectors, taxonomies or settings: all that share the "
            "queries must call evaluate(processes=True) alike",
        )


def _described(tree: Tree, points: GivenPoints) -> dict[str, Any]:
    """Describe what was evaluated, for the title of a report."""
    coordinates = points.vectors if points.direction is None else points.direction
    return {
        "taxa": len(tree),
        "max_depth": tree.max_depth,
        "dim": coordinates.shape[1],
        "dtype": points.dtype,
        "manifold": points.manifold,
        "versions": {"poincare_taxa": library_version(), "torch": torch.__version__},
    }


def _scale(model: Any) -> float | None:
    """τ of a layout, or of a model made of one; None where there is none."""
    info = getattr(model, "info", None) or getattr(model, "meta", {}).get("layout")
    tau = info.get("tau") if isinstance(info, Mapping) else None
    return float(tau) if isinstance(tau, int | float) and tau > 0 else None


def _remarks(
    tree: Tree,
    parts: set[str],
    groups: dict[str, NDArray[np.int32]],
    taxon_ranks: Sequence[str] | None,
    points: GivenPoints,
) -> list[str]:
    """Note what a reader of the report must know."""
    remarks = []
    if tree.lengths is not None and parts & _AGAINST_ALL:
        remarks.append(
            "the tree has branch lengths: radius, correlation, distortion and separation follow "
            "them, while nearest taxa, ancestors and depths count edges"
        )
    if not taxon_ranks and any(name.startswith("depth") for name in groups):
        remarks.append("no taxon rank divides these taxa: groups are the clades at a depth")
    lost = int((~points.valid).sum())
    if lost:
        remarks.append(
            f"{lost:,} rows are no points (not finite, or a negative radius): each is last "
            "wherever taxa are ranked, with every tie against it"
        )
    return remarks + list(points.notes)


# -------------------------------------------------------------------- arguments


def _check_parts(only: Collection[str] | None) -> set[str]:
    if isinstance(only, str):
        only = {only}
    parts = set(_PARTS if only is None else only)
    unknown = parts - set(_PARTS)
    if unknown:
        raise ValueError(f"no part {sorted(unknown)} in a report; there are {', '.join(_PARTS)}")
    return parts


def _check_numbers(queries: int, k: int, floor_queries: int) -> None:
    if queries < 1 or k < 1 or floor_queries < 0:
        raise ValueError(
            "queries and k must be at least 1, floor_queries at least 0; "
            f"got {queries}, {k}, {floor_queries}"
        )


def _announce(
    measure: Callable[..., Any], n: int, queries: int, threads: int, processes: int
) -> None:
    """Print how long every one of n queries will take, from the time of some.

    Neighbouring queries share their work, so these are slices of the taxa. What is only done once,
    such as an index, is done before.
    """
    size = min(_TIMED * threads // _STRETCHES, n)
    starts = np.linspace(0, n - size, 2 * _STRETCHES + 1).astype(np.int64)[1::2]
    some = (starts[:, None] + np.arange(size)).ravel()
    measure(some, Clock(), lambda done, total: None)
    start = time.perf_counter()
    measure(some, Clock(), lambda done, total: None)
    each = (time.perf_counter() - start) / len(some)
    hours = n * each / 3600 / processes
    span = f"{hours:.1f} hours" if hours >= 1 else f"{60 * hours:.0f} minutes"
    Console(stderr=True, soft_wrap=True, highlight=False).print(
        f"exact evaluation: {n:,} queries will take about {span} on {threads} thread(s)"
        f"{f' of each of {processes} processes' if processes > 1 else ''}; "
        f"a sample of {queries:,} estimates the same values"
    )
