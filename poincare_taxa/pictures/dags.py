"""The disk of a DAG: nodes, direct edges, and the names of the nodes with most descendants.

More than two dimensions are projected: the angle of a node is that of its direction's deviation
from the mean direction, in the plane of the largest variance (principal components). Nodes without
descendants have radius 160, hundreds of times that of others: they are drawn at the rim.
"""

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.pictures.colours import OTHERS, PALETTE
from poincare_taxa.pictures.figures import axes_of
from poincare_taxa.pictures.view import OUTERMOST, drawn, geodesics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_dag"]

_NAMED = 12  # Nodes that are named.
_MOST_EDGES = 50_000  # Nodes beyond which edges are left out.
_MOST_POINTS = 300_000  # Nodes beyond which only every k-th is drawn.


def draw_dag(model: ClosureEmbedding, ax: "Axes | None") -> "Axes":
    """Draw a model of a DAG; returns the axes.

    Raises
    ------
    ValueError
        If the model has no pairs, or one dimension.
    """
    if model.pairs is None:
        raise ValueError("the model has no pairs to draw: ClosureEmbedding(…, pairs=pairs)")
    n = len(model)
    below = np.bincount(model.pairs.pairs[:, 0].numpy(force=True), minlength=n)
    xy = _positions(model, torch.from_numpy(below == 0))
    ax = axes_of(ax, 9, 7)
    from matplotlib.collections import LineCollection
    from matplotlib.patches import Circle

    from poincare_taxa.pictures.labels import Frame, Name

    # 1. The disk and the direct edges.
    ax.set_axis_off()
    ax.add_patch(Circle((0, 0), 1, facecolor="#fcfcfc", edgecolor="#606060", linewidth=0.7))
    if n <= _MOST_EDGES:
        ends = model.pairs.reduced().pairs.cpu()
        edges = geodesics(xy[ends[:, 0]], xy[ends[:, 1]]).numpy()
        ax.add_collection(LineCollection(list(edges), colors=OTHERS, linewidths=0.5, zorder=1))
    # 2. The nodes, those with most descendants on top.
    shown = np.argsort(-below, kind="stable")[:: -(-n // _MOST_POINTS)]
    largest = shown[:_NAMED]
    color = np.full(n, OTHERS, object)
    color[largest] = [*PALETTE, *[OTHERS] * _NAMED][: len(largest)]
    order = shown[::-1]
    size = np.clip(2e4 / n, 0.5, 60)
    ax.scatter(
        *xy[torch.from_numpy(order.copy())].numpy().T,
        s=size, c=list(color[order]), linewidths=0, zorder=2, rasterized=n > 10_000,
    )  # fmt: skip
    # 3. Their names.
    texts = model.names if model.labels is None else model.labels
    names = [
        Name(texts[i] or model.names[i], xy[i].numpy(), color[i], f"{below[i]:,}")
        for i in map(int, largest)
    ]
    view = "" if model.dim == 2 else f"{model.dim}-D seen in the plane of most variance; "
    Frame(ax, f"{n:,} nodes of a DAG", f"{view}with numbers of descendants", names)
    return ax


def _positions(model: ClosureEmbedding, leaf: Tensor) -> Tensor:
    """Disk coordinates [n, 2] as drawn."""
    u = model.direction.double().cpu()
    if model.dim < 2:
        raise ValueError("a disk needs two dimensions; the model has one: embed with dim=2 or more")
    if model.dim > 2:  # Principal components; eigenvalues are in ascending order.
        u = u - u.mean(0)
        u = u @ torch.linalg.eigh(u.T @ u).eigenvectors[:, [-1, -2]]
        u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp(min=1e-300)
    radius = model.radius.double().cpu()
    inner = radius[~leaf]
    outermost = float(inner.max()) if len(inner) else 1.0
    scaled = radius * (0.8 * OUTERMOST / max(outermost, 1e-9))
    return drawn(torch.where(leaf, OUTERMOST, scaled).clamp(max=OUTERMOST), u)
