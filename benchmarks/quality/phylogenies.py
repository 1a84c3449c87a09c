"""Phylogenies: how well the layout keeps branch lengths, beside a layout that counts edges.

Every pair of leaves of a small tree, pairs of all nodes of a large one. Trees given as undirected
edges are rooted at their centre, since distances do not depend on the root and precision does.
"""

import gzip
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray

import poincare_taxa as pt
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.evaluation import metrics
from poincare_taxa.files.records import dtype_name
from poincare_taxa.layouts.distances import distance_layout
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.taxonomy.tree import Tree

PAIRS = 200_000
DIM = 10
AIMS = ("neighbours", "distances")


def centred(path: Path) -> pt.Taxonomy:
    """Read undirected edges u, v, weight, and root the tree at the node of least eccentricity."""
    graph = nx.Graph()
    with gzip.open(path, "rt") as lines:
        next(lines)  # headings
        for line in lines:
            u, v, weight = line.split()
            graph.add_edge(int(u), int(v), length=float(weight))
    return pt.Taxonomy.from_networkx(graph, root=min(graph)).reroot()


TREES: dict[str, tuple[str, Callable[[Path], pt.Taxonomy]]] = {
    "WoL, 10,575 genomes": ("newick_wol/tree.nwk.gz", pt.read_newick),
    "vascular plants": ("newick_plants_gbotb/GBOTB.extended.nwk.gz", pt.read_newick),
    "carnivora, leaves": ("hsdte_trees/carnivora.tsv.gz", centred),
    "lichen, leaves": ("hsdte_trees/lichen.tsv.gz", centred),
    "weevils, leaves": ("hsdte_trees/weevils.tsv.gz", centred),
}


def pairs_of(name: str, tree: Tree) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs of leaves, or many random pairs of different nodes."""
    if name.endswith("leaves"):
        first, second = np.triu_indices(len(tree.leaf_rows), 1)
        return tree.leaf_rows[first], tree.leaf_rows[second]
    first, second = np.random.default_rng(0).integers(0, len(tree), (2, PAIRS))
    return first[first != second], second[first != second]


def quality(points: Layout, first: NDArray[np.int64], second: NDArray[np.int64], tree: Tree) -> Row:
    """Correlation and distortion of the distances of pairs."""
    radius, direction = points.radius.double(), points.direction.double()
    found = pt.polar.dist(radius[first], direction[first], radius[second], direction[second])
    distance, true = found.numpy(), tree.distance(first, second)
    apart = true > 0
    distance, true, tau = distance[apart], true[apart], points.info["tau"]
    return {
        "Spearman": metrics.spearman(distance, true),
        "mean distortion": float(metrics.distortion(distance, true).each.mean()),
        "mean distortion at τ": float(np.abs(distance / (tau * true) - 1).mean()),
        "expansion × contraction": metrics.spread(distance, true),
    }


def measure(name: str, tax: pt.Taxonomy, dtype: torch.dtype, aim: str) -> Row:
    """One tree, with the defaults of an aim."""
    compute = distance_layout if aim == "distances" else pt.layout
    first, second = pairs_of(name, tax.tree)
    with stopwatch() as elapsed:
        points = compute(tax, DIM, dtype=dtype)
    found = quality(points, first, second, tax.tree)
    # The floor: the same layout, which does not know lengths; its τ is per edge.
    edges = pt.layout(tax.without_lengths(), DIM, dtype=dtype)
    floor = quality(edges, first, second, tax.tree)
    del floor["mean distortion at τ"]
    return {
        "tree": name,
        "nodes": len(tax),
        "levels": tax.max_depth,
        "dtype": dtype_name(dtype),
        "aim": aim,
        "radius": round(float(points.radius.max()), 1),
        "unresolved": points.info["unresolved"],
        "CPU seconds": round(elapsed.cpu, 2),
        **{key: float(f"{value:.4g}") for key, value in found.items()},
        **{f"floor {key}": float(f"{value:.4g}") for key, value in floor.items()},
    }


def phylogenies(data: Path) -> Iterator[Row]:
    """Every tree that is in a folder of data; those that are not are named."""
    for name, (file, read) in TREES.items():
        if not (data / file).exists():
            print(f"{name}: skipped, {file} is not in {data}")
            continue
        tax = read(data / file)
        for dtype in (torch.float64, torch.float32):
            with warnings.catch_warnings():
                warnings.simplefilter("always")
                yield from (measure(name, tax, dtype, aim) for aim in AIMS)


def readable(rows: list[Row]) -> list[Row]:
    """Put the floor of each value behind it, in brackets."""
    return [
        {
            key: value if (floor := row.get(f"floor {key}")) is None else f"{value:g} ({floor:g})"
            for key, value in row.items()
            if not key.startswith("floor ")
        }
        for row in rows
    ]
