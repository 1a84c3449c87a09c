"""The layout of the page as points: what web/src/tree.ts computes relative to the view.

A point of the disk is enough for `evaluate`: clades of two million taxa have arcs of 1e-8, far
above what an angle in float64 resolves.
"""

from collections.abc import Iterator

import numpy as np
import torch

import poincare_taxa as pt
from benchmarks.quality.layouts import MEASURES, PARTS
from benchmarks.tables import Row

OPENING, LEAST, FILL, LEAF_OPENING = 2.2, 0.3, 0.96, 0.9
NARROW = 2 * np.arctan(np.exp(-LEAST) * np.tan(OPENING / 2))


def points(tax: pt.Taxonomy, power: float = 1.0) -> pt.TaxonEmbedding:
    """Where the page draws each taxon while the root is in the centre."""
    tree, n = tax.tree, len(tax)
    is_leaf = tree.num_children == 0
    before = np.concatenate([[0], np.cumsum(is_leaf)])
    leaves = before[tree.end] - before[:-1]
    weight = leaves.astype(np.float64) ** power
    # Weights of the siblings before each row, and of all children of its parent.
    order = np.argsort(tree.parent[1:], kind="stable") + 1
    sums = np.cumsum(weight[order])
    total = np.bincount(tree.parent[1:], weight[1:], n)
    start = np.zeros(n)
    start[order] = sums - weight[order]
    first = np.full(n, np.inf)
    np.minimum.at(first, tree.parent[1:], start[1:])
    opening = np.full(n, OPENING)
    opening[0] = np.pi
    # A frame is z ↦ (a z + b) / (b̄ z + ā), as in web/src/mobius.ts.
    a, b = np.ones(n, complex), np.zeros(n, complex)
    for depth in range(1, tree.max_depth + 1):
        rows = np.flatnonzero(tree.depth == depth)
        above = tree.parent[rows]
        share = weight[rows] / total[above]
        half = opening[above] * FILL * share
        wide = half > NARROW
        opening[rows[wide]] = 2 * np.arctan(np.exp(LEAST) * np.tan(half[wide] / 2))
        at = (start[rows] - first[above]) / total[above] + share / 2
        direction = opening[above] * (2 * at - 1)
        spans = np.where(is_leaf[rows], LEAF_OPENING, OPENING)
        length = np.maximum(LEAST, np.log(np.tan(spans / 2) / np.tan(half / 2)))
        turn = np.exp(0.5j * direction)
        cosh, sinh = np.cosh(length / 2), np.sinh(length / 2)
        a[rows] = a[above] * turn * cosh + b[above] * np.conj(turn * sinh)
        b[rows] = a[above] * turn * sinh + b[above] * np.conj(turn * cosh)
    angle = torch.from_numpy(np.angle(b) + np.angle(a))
    radius = torch.from_numpy(2 * np.arcsinh(np.abs(b)))
    return pt.TaxonEmbedding(tax, radius, torch.stack([angle.cos(), angle.sin()], dim=1))


def measure(tax: pt.Taxonomy) -> Iterator[Row]:
    """Evaluate the layout of the page and, beside it, an embedding in ten dimensions."""
    subjects = {
        "page, by number of taxa": points(tax),
        "page, evenly": points(tax, 0),
        "embed, 10 dimensions": pt.embed(tax, dim=10),
    }
    for name, model in subjects.items():
        report = pt.evaluate(model, only=list(PARTS))
        row: Row = {"points": name, "dim": model.dim}
        for key in MEASURES:
            floor = report[key].floor
            beside = "" if floor is None else f" ({floor.value:.4f})"
            row[key] = f"{report[key].value:.4f}{beside}"
        yield row
