"""Leaf distances of phylogenies beside htree, a library of Tabaghi and others.

htree embeds the leaves of a tree by their distances: by a spectral factorization, or optimised by
gradients for all pairs of leaves. It has a curvature of its own, so that its radius is given in
units of that, as ours. It is not a dependency; the reader gives a folder that has it. All points
are measured by the same float64 functions, over all pairs of leaves.
"""

import contextlib
import importlib
import io
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import poincare_taxa as pt
from benchmarks.measure import stopwatch
from benchmarks.quality.phylogenies import AIMS, DIM, TREES, pairs_of
from benchmarks.tables import Row
from poincare_taxa.evaluation import metrics
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.distances import distance_layout
from poincare_taxa.layouts.tree import layout

KINDS: dict[str, dict[str, Any]] = {"htree": {}, "htree, optimised": {"precise_opt": True}}
"""Options of its `Tree.embed`; all others are its defaults."""


def quality(tax: pt.Taxonomy, radius: torch.Tensor, direction: torch.Tensor) -> Row:
    """Radius and distances of all pairs of leaves, whose points are at their rows."""
    first, second = pairs_of("leaves", tax.tree)
    true = tax.tree.distance(first, second)
    first, second = first[true > 0], second[true > 0]
    radius, direction = radius.double(), direction.double()
    found = polar.dist(radius[first], direction[first], radius[second], direction[second]).numpy()
    true = true[true > 0]
    measured = {
        "radius": float(radius[tax.tree.leaf_rows.copy()].max()),
        "Spearman": metrics.spearman(found, true),
        "mean distortion": float(metrics.distortion(found, true).each.mean()),
        "expansion × contraction": metrics.spread(found, true),
    }
    return {key: float(f"{value:.4g}") for key, value in measured.items()}


def theirs(tax: pt.Taxonomy, options: dict[str, Any], code: Path) -> tuple[float, Row]:
    """Points of htree, and CPU seconds; rows that are no leaves have none."""
    newick, collections = _library(code)
    torch.manual_seed(0)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.chdir(folder),  # It writes its points, wanted or not, below where it runs.
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        tree = collections.Tree("tree", newick.read_tree_newick(tax.to_newick(labels="id")))
        with stopwatch() as elapsed:
            points = tree.embed(dim=DIM, geometry="hyperbolic", **options).points
    x = points.detach().double().T[:, 1:]  # The hyperboloid's first coordinate follows.
    rows = torch.from_numpy(tax.rows(tree.terminal_names()))
    radius, direction = torch.zeros(len(tax)), torch.zeros(len(tax), DIM, dtype=torch.float64)
    radius = radius.double().index_copy(0, rows, torch.asinh(x.norm(dim=1)))
    direction[rows] = x / x.norm(dim=1, keepdim=True)
    return elapsed.cpu, quality(tax, radius, direction)


def _library(code: Path) -> tuple[Any, Any]:
    """Import treeswift and htree from a folder."""
    if str(code) not in sys.path:
        sys.path.append(str(code))
    pictures = importlib.import_module("matplotlib")
    pictures.use("Agg")
    maps: Any = importlib.import_module("matplotlib.cm")
    if not hasattr(maps, "get_cmap"):  # htree 4.1 imports a name that matplotlib 3.9 removed.
        maps.get_cmap = pictures.colormaps.get_cmap
    return importlib.import_module("treeswift"), importlib.import_module("htree.tree_collections")


def htree(data: Path, code: Path) -> Iterator[Row]:
    """Theirs, then ours at the radius of their optimised points and at the largest radius."""
    for name, (file, read) in TREES.items():
        if not name.endswith("leaves"):
            continue
        if not (data / file).exists():
            print(f"{name}: skipped, {file} is not in {data}")
            continue
        tax = read(data / file)

        def row(points: str, cpu: float, found: Row, name: str = name, tax: Any = tax) -> Row:
            about = {"tree": name, "pairs": len(pairs_of(name, tax.tree)[0]), "points": points}
            return {**about, "CPU seconds": round(cpu, 2), **found}

        radius = 0.0
        for kind, options in KINDS.items():
            cpu, found = theirs(tax, options, code)
            radius = found["radius"]
            yield row(kind, cpu, found)
        for most in (radius, None):
            for aim in AIMS:
                compute = distance_layout if aim == "distances" else layout
                tau = None if most is None else most / float(tax.tree.height.max())
                with stopwatch() as elapsed:
                    points = compute(tax, DIM, tau=tau)
                measured = quality(tax, points.radius, points.direction)
                yield row(f"ours, {aim}", elapsed.cpu, measured)
