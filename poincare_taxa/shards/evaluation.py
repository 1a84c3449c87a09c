"""`evaluate_shards`: neighbours and ranks among points of which each process has a slice.

The statistics are those of `evaluation`, by the same code. All processes take the same queries;
each searches among its own points, and counts are added up. The points that queries are compared
with, their ancestors and children, are known to all.
"""

from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.evaluation import rows as report_rows
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.report import Report
from poincare_taxa.evaluation.subjects import Nearest, Relatives, TreeSubject
from poincare_taxa.files.progress import progress_display
from poincare_taxa.files.records import dtype_name, library_version
from poincare_taxa.files.seeds import stream
from poincare_taxa.kernels.arguments import By, Points
from poincare_taxa.kernels.search import with_distances
from poincare_taxa.model import storage
from poincare_taxa.model.model import TaxonEmbedding, join_shards
from poincare_taxa.processes.group import Processes
from poincare_taxa.search.index import SearchIndex
from poincare_taxa.shards.slices import Column, ScatteredTree, Slice

__all__ = ["ScatteredPoints", "ScatteredQueries", "evaluate_shards"]

Rows = NDArray[np.integer]
_PARTS = ("precision", "ancestor", "closure", "neighbour", "correlation", "distortion")
_PAIRS = {"correlation", "distortion"}
_WIDER = (160, 2560)  # Neighbours searched for where the last places are tied, as in `subjects`,
_TIMES = 16  # and then so many times as many.


class _Truth(TreeSubject):
    """The distances of a scattered tree."""

    def __init__(self, tree: ScatteredTree) -> None:
        self.tree: Any = tree
        self._lengths: Any = tree

    def _members(self, top: Any, depth: Any, queries: Any, name: str, labels: Any) -> Rows:
        return self.tree.members(top, depth)


class ScatteredQueries(QueryTaxa):
    """What is measured of each query, of a scattered tree."""

    def __init__(self, tree: ScatteredTree, k: int, parts: set[str]) -> None:
        self.tree: Any = tree
        self.truth = _Truth(tree)
        self.groups = {}
        self.k, self.parts = k, parts

    def _children(self, rows: Any) -> Rows:
        return (self._below(rows) >= 0).sum(1)

    def _below(self, rows: Any) -> Rows:
        none = np.full((len(rows), 0), -1)
        return self.tree.children(rows) if "neighbour" in self.parts else none


class ScatteredPoints:
    """Points, of which each process has those of its slice, as a `Subject` by rows of the whole.

    Parameters
    ----------
    tree
        The tree.
    radius, direction
        Points of the slice's rows.
    queries
        Rows that will be queries: these, their ancestors and their children may be targets.
    """

    height: NDArray[np.float64]
    valid: NDArray[np.bool_]

    def __init__(
        self, tree: ScatteredTree, radius: Tensor, direction: Tensor, queries: Rows
    ) -> None:
        self.tree, self.radius, self.direction = tree, radius, direction
        self.height, self.valid = np.empty(0), np.empty(0, np.bool_)
        # 1. What all processes know.
        named = np.concatenate((tree.lineages(queries).ravel(), tree.children(queries).ravel()))
        self._shared = np.unique(np.append(named[named >= 0], queries))
        points = self._points(self._shared)
        self._index_of_shared = SearchIndex(points, manifold="polar", ordered=True)
        # 2. These, and the points of the slice between them.
        part = tree.part
        low, high = np.searchsorted(self._shared, (part.start, part.stop)).tolist()
        own = part.rows[part.own]
        self._rows = np.concatenate((self._shared[:low], own, self._shared[high:]))
        mine = slice(low, low + len(own))
        table = (
            torch.empty(len(self._rows), dtype=torch.float64),
            torch.empty(len(self._rows), points.shape[1] - 1, dtype=torch.float64),
        )
        for values, shared, of_slice in zip(
            table, (points[:, 0], points[:, 1:]), (radius, direction), strict=True
        ):
            values[:low], values[mine.stop :] = shared[:low], shared[high:]
            values[mine] = of_slice[part.own]
        # Two tensors: of one, every search would copy the directions.
        self._index = SearchIndex(table, manifold="polar", ordered=True)

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """See `Subject`."""
        result = Nearest.nobody(len(queries), relatives)
        left, width = np.arange(len(queries)), k + 1
        while len(left):
            distance, rows = self._nearest_of_all(queries[left], width)
            done = (distance[:, -1] > distance[:, k - 1]) | np.isinf(distance[:, k - 1])
            at = left[done]
            chosen = queries[at], rows[done], distance[done], k, relatives.at(at)
            result.put(at, Nearest.among(*chosen))
            left = left[~done]
            width = next((wider for wider in _WIDER if wider > width), _TIMES * width)
        return result

    def _nearest_of_all(self, queries: Rows, width: int) -> tuple[NDArray[np.float64], Rows]:
        """Distances and rows of the nearest [Q, width], nearest first; infinite where none is."""

        def mine() -> Rows:
            at = torch.from_numpy(np.searchsorted(self._rows, queries))
            place = self._index.nearest(at, min(width, len(self._rows))).row.numpy()
            return np.where(place >= 0, self._rows[place], -1)

        # 1. Rows that any process found; what all know is found by each, and counts once.
        rows = np.sort(np.concatenate(self.tree.together.each(mine), axis=1), axis=1)
        rows[:, 1:][rows[:, 1:] == rows[:, :-1]] = -1
        once = np.unique(np.append(np.maximum(rows, 0), queries))
        points = self._points(once)
        at = torch.from_numpy(np.searchsorted(once, queries))
        place = torch.from_numpy(np.where(rows >= 0, np.searchsorted(once, rows), -1))
        # 2. The nearest of these, by what a search compares, which is not rounded to a distance.
        counts = kernels.count_nearer(points, points[at], place, manifold="polar", skip=at)
        nearer = counts.nearer.masked_fill(place < 0, len(once))
        place = place.gather(1, nearer.argsort(dim=1, stable=True)[:, :width])
        # 3. Their distances, in one tensor: the last digit of what torch computes depends on the
        #    place of a number in its tensor.
        place = torch.nn.functional.pad(place, (0, width - place.shape[1]), value=-1)
        table = Points.of(points, "polar", 1.0)
        found = with_distances(table, table.at(at), place, False)
        return found.distance.numpy(), once[found.row.numpy()]

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """See `Subject`."""

        def counts(index: SearchIndex, rows: Rows) -> Rows:
            at = torch.from_numpy(np.searchsorted(rows, queries))
            place = np.where(targets >= 0, np.searchsorted(rows, targets), -1)
            return np.stack(
                [some.numpy() for some in index.count_nearer(at, torch.from_numpy(place), by=by)]
            )

        found = self.tree.together.each(lambda: counts(self._index, self._rows))
        # What all know was counted by each, and counts once.
        again = counts(self._index_of_shared, self._shared)
        nearer, tied = np.sum(found, axis=0) - (len(found) - 1) * again
        return nearer, tied

    def pairs(self, first: Rows, second: Rows) -> NDArray[np.float64]:
        """See `Subject`."""
        first, second = np.broadcast_arrays(first, second)
        rows = np.unique((first, second))
        table = self._points(rows)
        i, j = (torch.from_numpy(np.searchsorted(rows, some.ravel())) for some in (first, second))
        return kernels.pair_distance(table, i, j, manifold="polar").numpy().reshape(first.shape)

    def _points(self, rows: Rows) -> Tensor:
        """Points of rows of all processes, the radius first."""

        def values(at: Rows) -> NDArray[np.float64]:
            radius, direction = self.radius[at].double(), self.direction[at].double()
            return torch.cat((radius[:, None], direction), dim=1).numpy()

        return torch.from_numpy(self.tree.from_owners(rows, values))


def evaluate_shards(
    path: str | Path,
    *,
    queries: int = 1000,
    seed: int = 0,
    k: int = 10,
    only: Collection[str] | None = None,
    progress: bool | None = None,
) -> Report:
    """Measure a folder of shards; each process of ``torchrun`` reads its share of them.

    The values, ceilings and intervals are those that `evaluate` has in one process, to the last
    digit. There is no floor.

    Parameters
    ----------
    path
        A folder that `embed_shards` wrote.
    queries, seed, k
        As for `evaluate`; every taxon is a query where there are no more.
    only
        Parts to measure, of: precision, ancestor, closure, neighbour, correlation, distortion.
    progress
        As for `evaluate`.

    Returns
    -------
    report
        In every process.

    Raises
    ------
    ValueError
        If `path` has no shards, or fewer than there are processes, or they are damaged; or an
        argument is not one of those above.
    """
    together = Processes.joined()
    parts = set(_PARTS if only is None else only)
    if unknown := parts - set(_PARTS):
        raise ValueError(f"no part {sorted(unknown)} of shards; there are {', '.join(_PARTS)}")
    if queries < 1 or k < 1:
        raise ValueError(f"queries and k must be at least 1; got {queries}, {k}")
    meta = together.once(lambda: storage.read_meta(path))
    model, part = _own_shards(Path(path), meta, together)
    tree, clock = ScatteredTree(part, together), Clock()
    n = len(tree)
    asked = together.once(lambda: stream(seed, "queries").permutation(n)[:queries])
    subjects: Any = {
        "value": ScatteredPoints(tree, model.radius, model.direction, asked),
        "ceiling": _Truth(tree),
    }
    clusters: Any = _genera(model, tree, asked)
    rows = []
    if parts - _PAIRS:
        query_taxa = ScatteredQueries(tree, k, parts - _PAIRS)
        measured = {}
        with progress_display(False if together.rank else progress, transient=True) as show:
            for name, subject in subjects.items():
                advance = partial(show, f"queries: {name}")
                measured[name] = query_statistics(subject, query_taxa, asked, clock, advance)
        taken = dict.fromkeys(subjects, asked)
        rows += report_rows.query_rows(measured, k, parts - _PAIRS, {}, taken, clusters)
    if parts & _PAIRS and n > 1:
        tau = meta.get("layout", {}).get("tau")
        scattered: Any = tree
        rows += report_rows.pair_rows(scattered, subjects, asked, seed, parts, clusters, tau)
    about = {
        "taxa": n,
        "max_depth": tree.max_depth,
        "dim": model.dim,
        "dtype": dtype_name(model.dtype),
        "manifold": "polar",
        "versions": {"poincare_taxa": library_version(), "torch": torch.__version__},
        "queries": len(asked),
        "exact": len(asked) == n,
        "floor_queries": 0,
        "k": k,
        "seed": seed,
        "parts": [name for name in _PARTS if name in parts],
        "remarks": [],
        "seconds": {name: round(seconds, 3) for name, seconds in clock.seconds.items()},
    }
    return Report(tuple(rows), about)


def _own_shards(
    path: Path, meta: dict[str, Any], together: Processes
) -> tuple[TaxonEmbedding, Slice]:
    """Load the consecutive shards of this process, as one slice."""
    shards = meta.get("shards", [])
    if len(shards) < together.size:
        raise ValueError(
            f"{path} has {len(shards)} shards for {together.size} processes: run as many or fewer"
            + ("" if shards else ", on a folder that embed_shards (embed --shards) has written")
        )

    def load() -> tuple[TaxonEmbedding, Slice]:
        mine = [
            shards[i] for i in np.array_split(np.arange(len(shards)), together.size)[together.rank]
        ]
        start, stop, above = mine[0]["start"], mine[-1]["stop"], mine[0]["above"]
        model = join_shards(path, mine)
        rows = np.concatenate((np.array(above, np.int64), np.arange(start, stop)))
        return model, Slice(rows, model.taxonomy.tree, start, stop)

    found: list[tuple[TaxonEmbedding, Slice]] = []
    together.each(lambda: found.append(load()))  # an error of one is that of all
    return found[0]


def _genera(model: TaxonEmbedding, tree: ScatteredTree, asked: Rows) -> Column:
    """Labels of taxa that share their fate, as `evaluation.groups.genera`, for the queries."""
    part, tax = tree.part, model.taxonomy
    genus = tax.tree.nearest_marked((tax.taxon_ranks == "genus").to_numpy())
    label = np.where(genus >= 0, part.rows[genus], -1)
    rows = np.sort(asked)
    found = tree.from_owners(rows, lambda at: label[at])
    once = np.unique(found)

    def sizes() -> Rows:
        place = np.minimum(np.searchsorted(once, label[part.own]), len(once) - 1)
        return np.bincount(place[once[place] == label[part.own]], minlength=len(once))

    size = np.sum(tree.together.each(sizes), axis=0)
    is_large = 10 * size[np.searchsorted(once, found)] > len(tree)
    found = np.where((found < 0) | is_large, rows, found)
    return Column(len(tree), lambda some: found[np.searchsorted(rows, some)])
