"""Trees embedded by construction: distances beside those of HS-DTE, at equal radius.

The trees of van Spengler & Mettes 2025 (*Low-distortion and GPU-compatible tree embeddings in
hyperbolic space*, ICML), rooted at their centre, and full trees; all pairs of nodes. Trees and
their code are not part of this repository: the reader gives folders of both, and their code runs as
it is, on the same tree, with the same τ times height. All points are measured by the same float64
functions.
"""

import contextlib
import importlib
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from numpy.typing import NDArray

import poincare_taxa as pt
from benchmarks.quality.phylogenies import centred
from benchmarks.tables import Row
from poincare_taxa.evaluation import metrics
from poincare_taxa.files.records import dtype_name
from poincare_taxa.layouts.distances import distance_layout

FILES = ("mosses", "weevils", "diseases", "cs_phd")
FULL = {"3^5": (3, 5), "5^4": (5, 4), "2^8": (2, 8), "7^3": (7, 3)}
RADII = {torch.float64: 36.0, torch.float32: 16.0}
"""Radius beyond which points of a ball round to its rim: 1 - norm is 4 or 2 eps there."""
DIMS = (8, 10, 20)


def trees(data: Path) -> Iterator[tuple[str, pt.Taxonomy]]:
    """Every tree; those that are not in the folder of data are named."""
    for name in FILES:
        path = data / "hsdte_trees" / f"{name}.tsv.gz"
        if path.exists():
            yield name, centred(path)
        else:
            print(f"{name}: skipped, {path} does not exist")
    for name, (arity, levels) in FULL.items():
        n = sum(arity**i for i in range(levels + 1))
        yield name, pt.Taxonomy.from_parents([-1, *((i - 1) // arity for i in range(1, n))])


def quality(distance: NDArray[np.float64], tax: pt.Taxonomy) -> Row:
    """Distortion of all pairs, and MAP of neighbours in the tree, with ties against them."""
    tree = tax.tree
    rows = np.arange(len(tree))
    true = tree.distance(rows[:, None], rows)
    i, j = np.triu_indices(len(tree), 1)
    lost = not np.isfinite(distance).all()
    near = np.zeros(true.shape, np.bool_)
    near[rows[1:], tree.parent[1:]] = near[tree.parent[1:], rows[1:]] = True
    return {
        "average": np.nan if lost else metrics.distortion(distance[i, j], true[i, j]).each.mean(),
        "worst": np.inf if lost else metrics.spread(distance[i, j], true[i, j]),
        "MAP": np.mean(
            [_average_precision(*query) for query in zip(distance, near, rows, strict=True)]
        ),
    }


def _average_precision(distance: NDArray[np.float64], near: NDArray[np.bool_], row: int) -> float:
    others = np.delete(np.nan_to_num(distance, nan=np.inf), row)
    relevant = np.delete(near, row)
    at = np.sort(others[relevant])
    found, all_found = (np.searchsorted(values, at, "right") for values in (at, np.sort(others)))
    return float((found / all_found).mean())


def ours(tax: pt.Taxonomy, dim: int, dtype: torch.dtype, radius: float | None) -> Row:
    """Points of `distance_layout` up to a radius, else up to the largest one."""
    tau = None
    if radius is not None:
        tau = radius / float(tax.tree.height.max())
        shift = distance_layout(tax, dim, tau=tau, dtype=dtype).info["shift"]
        tau *= 1 - shift / radius  # The shift is part of the radius.
    points = distance_layout(tax, dim, tau=tau, dtype=dtype)
    r, u = points.radius.double(), points.direction.double()
    return {"radius": float(r.max()), **quality(pt.polar.cdist(r, u, r, u).numpy(), tax)}


def theirs(tax: pt.Taxonomy, dim: int, dtype: torch.dtype, radius: float, code: Path) -> Row:
    """Points of their construction, whose code is in a folder of the reader's."""
    construct = _construction(code)
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(tax)))
    lengths = np.diff(tax.tree.height[np.stack([tax.tree.parent[1:], np.arange(1, len(tax))])].T)
    for row, length in enumerate(lengths[:, 0].tolist(), 1):
        weight = {} if tax.branch_lengths is None else {"weight": length}
        graph.add_edge(int(tax.tree.parent[row]), row, **weight)
    with contextlib.redirect_stdout(io.StringIO()):
        points, *_ = construct.embed_tree(
            graph, "", "", dim, radius / float(tax.tree.height.max()), root=0, dtype=dtype
        )
    x = points.detach().double()
    r = 2 * torch.atanh(x.norm(dim=1))
    return {"radius": float(r.max()), **quality(pt.ball.dist(x[:, None], x[None]).numpy(), tax)}


def _construction(code: Path) -> Any:
    """Import the file of their repository that embeds a tree, without pictures and measures."""
    if str(code) not in sys.path:
        sys.path.insert(0, str(code))
    importlib.import_module("matplotlib").use("Agg")
    package = "tree_embeddings.embeddings.constructive_method"
    construct = importlib.import_module(f"{package}.constructive_tree_embeddings_w_floats")

    class NoPicture:
        def __getattr__(self, name: str) -> Any:
            return lambda *arguments, **options: self

        def __getitem__(self, index: int) -> Any:
            return self

        collections = property(lambda self: self)

    construct.plt = construct.sn = construct.pd = NoPicture()
    construct.distortion = lambda **given: (torch.ones(2, 2), torch.ones(2, 2))
    construct.mean_average_precision = lambda **given: torch.ones(())
    return construct


def hsdte(data: Path, code: Path | None, earlier: Iterable[Row] = ()) -> Iterator[Row]:
    """One row a tree, dimension and dtype: ours, theirs, ours at any radius.

    Theirs are computed where there is code, else they are those of rows of an earlier run.
    """
    known = {_cell(row): row for row in earlier}
    torch.manual_seed(0)  # Their code keeps the points of a sphere that it drew once.
    for name, tax in trees(data):
        for dim in DIMS:
            for dtype, radius in RADII.items():
                found = {"ours": ours(tax, dim, dtype, radius)}
                if code is not None:
                    found["theirs"] = theirs(tax, dim, dtype, radius, code)
                elif kept := _theirs_of(known.get((name, dim, dtype_name(dtype)), {})):
                    found["theirs"] = kept
                found["ours, largest radius"] = ours(tax, dim, dtype, None)
                yield {
                    "tree": name,
                    "nodes": len(tax),
                    "dim": dim,
                    "dtype": dtype_name(dtype),
                    **{
                        f"{key}: {measure}": float(f"{value:.4g}")
                        for key, row in found.items()
                        for measure, value in row.items()
                    },
                }


def _cell(row: Row) -> tuple[str, int, str]:
    return row["tree"], row["dim"], row["dtype"]


def _theirs_of(row: Row) -> Row:
    start = "theirs: "
    return {key.removeprefix(start): row[key] for key in row if key.startswith(start)}


def readable(rows: list[Row]) -> list[Row]:
    """Ours beside theirs in each column; the largest radius after them."""
    table = []
    for row in rows:
        line = {key: row[key] for key in ("tree", "nodes", "dim", "dtype")}
        for measure in ("radius", "average", "worst", "MAP"):
            both = [
                row[f"{who}: {measure}"] for who in ("ours", "theirs") if f"{who}: {measure}" in row
            ]
            line[f"{measure}, ours / HS-DTE"] = " / ".join(f"{value:.4g}" for value in both)
        largest = "ours, largest radius"
        for measure in ("radius", "average", "worst"):
            line[f"{measure}, largest radius"] = f"{row[f'{largest}: {measure}']:.4g}"
        if "theirs: average" in row:
            times = row["theirs: average"] / row[f"{largest}: average"]
            line["HS-DTE's average / that"] = f"{times:.0f}"
        table.append(line)
    return table
