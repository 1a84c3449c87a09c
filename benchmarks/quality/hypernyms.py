"""MAP of the neighbours of WordNet's nouns in the hypernym graph, by plain distance.

The neighbours of a noun are its direct hypernyms and hyponyms: 84,427 edges of 82,115 nouns, of
which 2,213 have several hypernyms. Points are those of the spanning tree in which each noun has its
first hypernym. Queries are drawn from the nouns and ranked among all of them. The precision of a
neighbour is the share of neighbours among all nouns at most as far, so that ties count against the
points; MAP has its standard error beside it.

Beside them stand the distance of the spanning tree itself, with all of its ties against it, and a
floor: random directions at the radii of the layout.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

import poincare_taxa as pt
from benchmarks.tables import Row
from poincare_taxa.kernels import count_nearer
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.taxonomy.tree import Tree

FILE = "noun_direct_edges.tsv.gz"
DIMS = (2, 3, 5, 10)
_AT_ONCE = 1_000_000  # Counts of neighbours in memory.

Neighbours = list[NDArray[np.int64]]
"""Rows of the neighbours of each row."""


def graph(path: Path) -> tuple[pt.Taxonomy, Neighbours]:
    """Read the spanning tree, and the neighbours of each of its rows in the whole graph."""
    tax = pt.read_edges(path, multi_parent="first")
    edges = pl.read_csv(path, separator="\t", quote_char=None)
    edge = np.stack([tax.rows(edges[column]) for column in ("id", "parent_id")], axis=1)
    both = np.unique(np.concatenate((edge, edge[:, ::-1])), axis=0)
    ends = np.cumsum(np.bincount(both[:, 0], minlength=len(tax)))
    return tax, np.split(both[:, 1], ends[:-1])


def average_precision(at: NDArray[np.int64], within: NDArray[np.int64]) -> float:
    """Mean precision at each neighbour.

    `at` orders the neighbours by distance, equal where they are equally far; `within` is the number
    of all nouns at most as far.
    """
    return float((np.searchsorted(np.sort(at), at, side="right") / within).mean())


def of_points(
    points: Layout, neighbours: Neighbours, queries: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision of the neighbours of some rows by the distance of points, in any order."""
    (radius, direction, *_), found = points, []
    # Rows with about as many neighbours together, because counts are a rectangle.
    queries = queries[np.argsort([len(neighbours[row]) for row in queries])]
    while len(queries):
        most = len(neighbours[queries[-1]])
        queries, here = np.split(queries, [-max(1, _AT_ONCE // most)])
        targets = np.full((len(here), most), -1)
        for line, row in zip(targets, here, strict=True):
            line[: len(neighbours[row])] = neighbours[row]
        rows = torch.from_numpy(here)
        nearer, tied = count_nearer(
            (radius, direction),
            (radius[rows], direction[rows]),
            torch.from_numpy(targets),
            manifold="polar",
            skip=rows,
        )
        found += [
            average_precision(at[given], (at + equal + 1)[given])
            for at, equal, given in zip(nearer.numpy(), tied.numpy(), targets >= 0, strict=True)
        ]
    return np.array(found)


def of_tree(tree: Tree, neighbours: Neighbours, queries: NDArray[np.int64]) -> NDArray[np.float64]:
    """Average precision of the neighbours of some rows by the distance of the spanning tree."""
    found, every = np.ones(len(queries)), np.arange(len(tree))
    for place, row in enumerate(queries):
        at = tree.distance(row, neighbours[row])
        if (at > 1).any():  # Else all of them are the neighbours in the tree.
            within = np.cumsum(np.bincount(tree.distance(row, every))) - 1
            found[place] = average_precision(at, within[at])
    return found


def measure(data: Path, queries: int) -> Iterator[Row]:
    """Yield the tree, then the floor, the layout and its refinement in each dimension."""
    tax, neighbours = graph(data / FILE)
    some = np.random.default_rng(0).permutation(len(tax))[:queries]
    yield {
        "points": "the spanning tree's distance",
        "dim": None,
        "τ": None,
        **_mean(of_tree(tax.tree, neighbours, some)),
    }
    for dim in DIMS:
        start = pt.layout(tax, dim)
        generator = torch.Generator().manual_seed(0)
        random = torch.randn(start.direction.shape, generator=generator, dtype=torch.float64)
        for name, points in (
            ("floor", start._replace(direction=random / random.norm(dim=1, keepdim=True))),
            ("layout", start),
            ("layout, refined", pt.refine(tax, start)),
        ):
            found = _mean(of_points(points, neighbours, some))
            yield {"points": name, "dim": dim, "τ": round(points.info["tau"], 3), **found}


def _mean(found: NDArray[np.float64]) -> Row:
    return {
        "queries": len(found),
        "MAP": round(float(found.mean()), 4),
        "error": round(float(found.std() / len(found) ** 0.5), 4),
    }


def readable(rows: list[Row]) -> list[Row]:
    """The standard error behind the mean."""
    return [
        {key: "" if value is None else value for key, value in row.items() if key != "error"}
        | {"MAP": f"{row['MAP']} ± {row['error']}"}
        for row in rows
    ]
