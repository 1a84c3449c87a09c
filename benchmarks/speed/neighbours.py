"""The exact index beside approximate ones and a metric tree, on the layout of one clade.

Each finds the ten nearest taxa of the same queries. *Precision* counts a neighbour that is found if
it is no farther than the tenth nearest of a scan, so that any choice among tied ones is right. Two
groups stand beside each other: indexes that compute the hyperbolic distance itself, by a metric
that is compiled here, and those that know flat distances only and get exported coordinates.
Packages that are not installed have a row that says so; "usearch 16/128" has 16 links a point and
visits 128 to add or to find one.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numba import cfunc, njit, types
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.measure import LeftOutError, Machine
from benchmarks.tables import Row
from poincare_taxa import kernels
from poincare_taxa.geometry import convert
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.search.index import SearchIndex

K = 10
_AS_NEAR = 1e-5  # in distance: some implementations compute in float32
_SAMPLE = 2000  # rows of which a metric tree is built first, to see how long it takes

Array = NDArray[Any]
Search = Callable[[Array], Array]
"""Rows of queries [Q] to rows of their neighbours [Q, K + 1 or K]; the query may be among them."""


@dataclass(frozen=True)
class Points:
    """The table that all search: float64 [n] and [n, dim]."""

    radius: Tensor
    direction: Tensor
    machine: Machine
    patience: float

    @property
    def threads(self) -> int:
        return self.machine.threads

    @property
    def polar(self) -> tuple[Tensor, Tensor]:
        return self.radius, self.direction

    def exported(self, coordinates: str) -> Array:
        """Coordinates as people export them, float32 as their indexes take them."""
        exports = {
            "ball": convert.polar_to_ball,
            "Lorentz": convert.polar_to_lorentz,
            "tangent": lambda r, u: r[:, None] * u,
        }
        return exports[coordinates](*self.polar).numpy().astype(np.float32)


# -------------------------------------------------------------------- hyperbolic distance


def scan(points: Points) -> Search:
    """Read all rows, by the kernels."""

    def search(rows: Array) -> Array:
        at = torch.from_numpy(rows)
        some = points.radius[at], points.direction[at]
        return kernels.nearest(points.polar, some, K, manifold="polar", skip=at).row.numpy()

    return search


def exact_index(points: Points) -> Search:
    """Search through the index of this library."""
    index = SearchIndex(points.polar, manifold="polar", ordered=True)
    index.build()
    return lambda rows: index.nearest(torch.from_numpy(rows), K).row.numpy()


def usearch(points: Points, *, connectivity: int, expansion: int) -> Search:
    """HNSW in float64 with the hyperbolic distance as machine code."""
    from usearch.compiled import MetricKind, MetricSignature
    from usearch.index import CompiledMetric, Index

    dim = points.direction.shape[1]
    pointer = types.CPointer(types.float64)

    @cfunc(types.float32(pointer, pointer))
    def squared_sinh(x: Any, y: Any) -> Any:
        """sinh²(d/2), which orders as d does, of rows (e^{r/2}, e^{−r/2}, sinh(r)/2, direction)."""
        h = 0.5 * (x[0] * y[1] - x[1] * y[0])
        apart = 0.0
        for k in range(3, dim + 3):
            apart += (x[k] - y[k]) * (x[k] - y[k])
        return np.float32(h * h + x[2] * y[2] * apart)

    grown = (0.5 * points.radius).exp()
    facts = [grown, 1 / grown, 0.5 * points.radius.sinh()]
    table = torch.cat((torch.stack(facts, dim=1), points.direction), dim=1).numpy()
    address: Any = squared_sinh.address
    metric = CompiledMetric(address, MetricKind.L2sq, MetricSignature.ArrayArray)
    sizes: dict[str, Any] = {"connectivity": connectivity, "expansion_search": expansion}
    index = Index(ndim=dim + 3, dtype="f64", metric=metric, expansion_add=expansion, **sizes)
    index.add(np.arange(len(table)), table, threads=points.threads)

    def search(rows: Array) -> Array:
        assert squared_sinh  # stays in memory: the index has only its address
        found = index.search(table[rows], K + 1, threads=points.threads).keys
        return np.asarray(found, np.int64).reshape(len(rows), -1)

    return search


@njit
def _distance(x: Any, y: Any) -> float:
    """Distance of rows (radius, direction); directions are normalised, since means have others."""
    one, other = 0.0, 0.0
    for k in range(1, len(x)):
        one += x[k] * x[k]
        other += y[k] * y[k]
    one, other = math.sqrt(one) or 1.0, math.sqrt(other) or 1.0
    apart = 0.0
    for k in range(1, len(x)):
        step = x[k] / one - y[k] / other
        apart += step * step
    h = math.sinh(0.5 * (x[0] - y[0]))
    return 2 * math.asinh(math.sqrt(h * h + 0.25 * math.sinh(x[0]) * math.sinh(y[0]) * apart))


def ball_tree(points: Points) -> Search:
    """Search scikit-learn's BallTree with the compiled distance as a metric of one's own."""
    from sklearn.neighbors import BallTree

    table = torch.cat((points.radius[:, None], points.direction), dim=1).numpy()
    _distance(table[0], table[1])
    start = points.machine.clock()
    BallTree(table[:_SAMPLE], metric=_distance)
    scale = len(table) * math.log(len(table)) / (_SAMPLE * math.log(_SAMPLE))
    seconds = scale * (points.machine.clock() - start)
    if seconds > points.patience:
        raise LeftOutError(f"to build it takes about {seconds:.0f} s")
    tree = BallTree(table, metric=_distance)
    return lambda rows: tree.query(table[rows], K + 1, return_distance=False)


# -------------------------------------------------------------------- exported coordinates


def faiss_scan(points: Points, *, coordinates: str, inner: bool = False) -> Search:
    """Scan exported coordinates exactly, by flat distance or the Lorentz product.

    The largest inner product with (−x₀, x) has the nearest point of the hyperboloid: in exact
    arithmetic, the answer is right.
    """
    import faiss

    faiss.omp_set_num_threads(points.threads)
    table = points.exported(coordinates)
    index: Any = (faiss.IndexFlatIP if inner else faiss.IndexFlatL2)(table.shape[1])
    index.add(table)
    sign = np.ones(table.shape[1], np.float32)
    sign[0] = -1 if inner else 1
    return lambda rows: index.search(table[rows] * sign, K + 1)[1]


def hnswlib(points: Points, *, coordinates: str) -> Search:
    """HNSW over exported coordinates by flat distance."""
    import hnswlib as package

    table = points.exported(coordinates)
    index = package.Index(space="l2", dim=table.shape[1])
    index.init_index(max_elements=len(table), ef_construction=200, M=16)
    index.set_num_threads(points.threads)
    index.add_items(table, np.arange(len(table)))
    index.set_ef(100)
    return lambda rows: index.knn_query(table[rows], K + 1)[0].astype(np.int64)


# -------------------------------------------------------------------- rows

HYPERBOLIC = "hyperbolic"
PRODUCT = partial(faiss_scan, coordinates="Lorentz", inner=True)
IMPLEMENTATIONS: list[tuple[str, str, Callable[[Points], Search]]] = [
    ("full scan", HYPERBOLIC, scan),
    ("SearchIndex", HYPERBOLIC, exact_index),
    ("usearch 16/128", HYPERBOLIC, partial(usearch, connectivity=16, expansion=128)),
    ("usearch 64/256", HYPERBOLIC, partial(usearch, connectivity=64, expansion=256)),
    ("scikit-learn's BallTree", HYPERBOLIC, ball_tree),
    ("FAISS, exact", "Euclidean, ball", partial(faiss_scan, coordinates="ball")),
    ("FAISS, exact", "Euclidean, Lorentz", partial(faiss_scan, coordinates="Lorentz")),
    ("FAISS, exact", "Euclidean, tangent", partial(faiss_scan, coordinates="tangent")),
    ("FAISS, exact", "inner product, Lorentz", PRODUCT),
    ("hnswlib", "Euclidean, ball", partial(hnswlib, coordinates="ball")),
    ("hnswlib", "Euclidean, Lorentz", partial(hnswlib, coordinates="Lorentz")),
    ("hnswlib", "Euclidean, tangent", partial(hnswlib, coordinates="tangent")),
]


def measure(
    model: TaxonEmbedding, *, queries: int, machine: Machine, patience: float
) -> Iterator[Row]:
    """Build every index, search one query at a time and all at once, and count what is right."""
    points = Points(model.radius.double(), model.direction.double(), machine, patience)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(model), min(queries, len(model)), replace=False))
    at = torch.from_numpy(rows)
    some = points.radius[at], points.direction[at]
    edge = kernels.nearest(points.polar, some, K, manifold="polar", skip=at).distance[:, -1]
    few = points.radius[:9999], points.direction[:9999]
    SearchIndex(few, manifold="polar").build()  # compiles the loops
    for name, distance, build in IMPLEMENTATIONS:
        about: Row = {"taxa": len(model), "index": name, "distance": distance}
        try:
            began = machine.clock()
            search = build(points)
            about["build, s"] = machine.clock() - began
        except ImportError as error:
            yield about | {"note": f"not installed ({error.name})"}
            continue
        except LeftOutError as error:
            yield about | {"note": f"left out: {error}"}
            continue
        yield about | searched(search, points, rows, edge)


def searched(search: Search, points: Points, rows: Array, edge: Tensor) -> Row:
    """Milliseconds of a query alone, the median, and of one among all; and the precision."""
    clock = points.machine.clock
    search(rows[:2])
    each = []
    for row in rows[:100]:
        began = clock()
        search(row[None])
        each.append(clock() - began)
    began = clock()
    found = search(rows)
    many = (clock() - began) / len(rows)
    return {
        "one query, ms": 1e3 * float(np.median(each)),
        "of many, ms": 1e3 * many,
        f"precision@{K}": precision(points, torch.from_numpy(rows), torch.from_numpy(found), edge),
    }


def precision(points: Points, rows: Tensor, found: Tensor, edge: Tensor) -> float:
    """Share of K neighbours that are no farther than the K-th nearest."""
    at = rows[:, None].expand_as(found)
    there = (found >= 0) & (found != at)
    pairs = at.reshape(-1), found.clamp(min=0).reshape(-1)
    table = torch.cat((points.radius[:, None], points.direction), dim=1)
    apart = kernels.pair_distance(table, *pairs, manifold="polar").reshape(found.shape)
    near = there & (apart <= edge[:, None] + _AS_NEAR)
    first = there.cumsum(dim=1) <= K  # the query itself is among K + 1, or the last is one too many
    return float((near & first).sum(dim=1).double().mean()) / K
