"""Pictures of embeddings in the Poincaré disk, with matplotlib (extra ``[viz]``).

A picture is a projection. In two dimensions the angle of a point is that of its direction. In more
dimensions it is the angle of the direction's deviation from the mean direction, in the plane of the
largest variance (principal components): this plane shows the first branches of the tree and hides
the later ones. All radii are multiplied by one factor, so that the outermost taxa are not drawn on
the rim. Edges are geodesics between the points as drawn.

`disk_layout` is an embedding made for the disk, to draw a taxonomy rather than its vectors.

Source: [Sar11] Sarkar 2011, *Low distortion Delaunay embedding of trees in hyperbolic plane*.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.files.atomic import replace_file
from poincare_taxa.geometry import ball, convert
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["disk_layout", "plot_disk", "save_figure"]

Floats = NDArray[np.float64]

# Dark and light colours in turn, so that neighbours in the list differ in grey too.
_COLORS = [
    *("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b"),
    *("#e377c2", "#17becf", "#bcbd22", "#393b79", "#e6ab02", "#637939"),
]
_OTHERS = "#b8b8b8"
_OUTERMOST = 4.0  # Largest radius of a taxon as drawn: norm 0.964.
_MOST_EDGES = 50_000  # Taxa beyond which edges are left out.
_MOST_POINTS = 300_000  # Taxa beyond which only every k-th is drawn.
_PIECES = 12  # Straight pieces of a geodesic.
_LABEL_HEIGHT = 0.085  # Smallest vertical distance of two labels.


def plot_disk(
    model: TaxonEmbedding | ClosureEmbedding,
    *,
    color_by: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw an embedding in the Poincaré disk: taxa, edges, and the names of the largest clades.

    Parameters
    ----------
    model
        The embedding. More than two dimensions are projected (see the module). Of the nodes of a
        DAG, those without descendants are drawn at the rim, and the twelve nodes with most
        descendants are named.
    color_by
        Taxon rank whose clades are coloured, such as "order", or "depth 2"; by default the rank
        nearest to the root that has five clades or more. The twelve largest clades get a label.
    ax
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    ax
        The axes.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the taxonomy has no such rank, the model has one dimension, or it is that of a DAG
        and `color_by` is given or its pairs are not kept.

    Notes
    -----
    With more than 50,000 taxa edges are left out; with more than 300,000 only every k-th taxon is
    drawn.
    """
    _require_matplotlib()
    if isinstance(model, ClosureEmbedding):
        if color_by is not None:
            raise ValueError("nodes of a DAG have no ranks: leave color_by out")
        return _plot_dag(model, ax)
    from matplotlib.collections import LineCollection

    # 1. Colours and coordinates.
    color_by, clades, largest = _clades(model, color_by)
    color = np.full(len(model), len(largest))
    for place, clade in enumerate(largest):
        color[clades == clade] = place
    palette = np.array([*_COLORS[: len(largest)], _OTHERS])
    xy = _positions(model.radius, model.direction)

    # 2. The disk and the edges.
    ax = _disk(ax)
    if len(model) <= _MOST_EDGES:
        parent = torch.from_numpy(model.taxonomy.tree.parent[1:].astype(np.int64))
        edges = _geodesics(xy[parent], xy[1:]).numpy()
        ax.add_collection(
            LineCollection(
                list(edges), colors=palette[color[1:]], linewidths=0.35, alpha=0.6, zorder=1
            )
        )
    # 3. The taxa, those of the largest clades last and so on top, and the labels.
    shown = np.argsort(-color, kind="stable")[:: -(-len(model) // _MOST_POINTS)]
    size = np.clip(6e4 / len(model), 0.3, 30)
    ax.scatter(*xy[shown].numpy().T, s=size, c=palette[color[shown]], linewidths=0, zorder=2)
    ax.text(-1.64, 1.17, _title(model, color_by), fontsize=12, va="top")
    _label(ax, model, xy, clades, largest)
    return ax


def _disk(ax: "Axes | None") -> "Axes":
    """Draw the disk itself, with room for labels on both sides."""
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle

    if ax is None:
        ax = plt.subplots(figsize=(12, 8.5), layout="constrained")[1]
    ax.set_aspect("equal")
    ax.set_axis_off()
    ax.add_patch(Circle((0, 0), 1, facecolor="#fbfbfb", edgecolor="#505050", linewidth=0.8))
    ax.set_xlim(-1.66, 1.66)
    ax.set_ylim(-1.17, 1.17)
    return ax


def _plot_dag(model: ClosureEmbedding, ax: "Axes | None") -> "Axes":
    """Draw the nodes of a DAG, its direct edges and the names of its largest nodes."""
    from matplotlib.collections import LineCollection

    if model.pairs is None:
        raise ValueError("the model has no pairs to draw: ClosureEmbedding(…, pairs=pairs)")
    # 1. Leaves have radius 160, hundreds of times that of others: they go to the rim.
    n = len(model)
    below = np.bincount(model.pairs.pairs[:, 0].numpy(force=True), minlength=n)
    leaf = torch.from_numpy(below == 0)
    radius = model.radius.double().clone()
    outermost = radius[~leaf].max().clamp(min=1e-9)
    radius = torch.where(leaf, _OUTERMOST, (radius * (0.8 * _OUTERMOST / outermost)))
    xy = _positions(radius.clamp(max=_OUTERMOST), model.direction)
    # 2. Direct edges, nodes, and labels of the nodes with most descendants.
    ax = _disk(ax)
    if n <= _MOST_EDGES:
        ends = model.pairs.reduced().pairs.cpu()
        edges = _geodesics(xy[ends[:, 0]], xy[ends[:, 1]]).numpy()
        lines = LineCollection(list(edges), colors=_OTHERS, linewidths=0.5, zorder=1)
        ax.add_collection(lines)
    shown = np.argsort(-below, kind="stable")[:: -(-n // _MOST_POINTS)]
    largest = shown[: len(_COLORS)]
    color = np.full(n, _OTHERS, object)
    color[largest] = _COLORS[: len(largest)]
    size = np.clip(2e4 / n, 0.5, 60)
    ax.scatter(*xy[shown].numpy().T, s=size, c=list(color[shown]), linewidths=0, zorder=2)
    texts = model.names if model.labels is None else model.labels
    named = [f"{texts[int(i)] or model.names[int(i)]}  {below[i]:,}" for i in largest]
    _label_beside(ax, xy[torch.from_numpy(largest)].numpy(), named)
    view = "" if model.dim == 2 else f",\n{model.dim}-D seen in the plane of most variance"
    title = f"{n:,} nodes of a DAG in the Poincaré disk{view},\nwith numbers of descendants"
    ax.text(-1.64, 1.17, title, fontsize=12, va="top")
    return ax


def _label_beside(ax: "Axes", at: Floats, texts: list[str]) -> None:
    """Write texts beside the disk with lines to their points, without overlap."""
    for side in (-1, 1):
        here = [i for i in range(len(texts)) if (at[i, 0] < 0) == (side < 0)]
        here.sort(key=lambda i: at[i, 1])
        heights = _apart(np.array([1.08 * at[i, 1] for i in here]), _LABEL_HEIGHT)
        for i, height in zip(here, heights, strict=True):
            ax.annotate(
                texts[i],
                xy=tuple(at[i]),
                xytext=(side * 1.14, height),
                ha="left" if side > 0 else "right",
                va="center",
                color=_COLORS[i],
                fontsize=10.5,
                fontweight="bold",
                arrowprops={
                    "arrowstyle": "-",
                    "color": _COLORS[i],
                    "linewidth": 0.7,
                    "relpos": (0.0 if side > 0 else 1.0, 0.5),
                },
            )


def disk_layout(taxonomy: Taxonomy) -> TaxonEmbedding:
    """Compute a two-dimensional embedding for pictures, [Sar11] with arcs by number of leaves.

    Every clade has an arc of the circle in proportion to its leaves. Its root is in the middle of
    the arc, at a radius one larger than its parent's. This is no substitute for `embed`: distances
    are not proportional to tree distances.

    Parameters
    ----------
    taxonomy
        The taxonomy.

    Returns
    -------
    model
        An embedding in two dimensions, float64.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 0, 0])
    >>> disk_layout(tax).direction[1:].round(decimals=3).tolist()
    [[0.707, 0.707], [-0.707, 0.707], [-0.707, -0.707], [0.707, -0.707]]
    """
    # Leaves before each row; in preorder the leaves of a clade are adjacent.
    tree = taxonomy.tree
    before = np.cumsum(np.append(0, tree.num_children == 0))
    # Middle of each clade's leaves, as a share of the circle.
    middle = (before[:-1] + before[tree.end]) / (2 * before[-1])
    angle = torch.from_numpy(2 * np.pi * middle)
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    radius = torch.from_numpy(tree.depth.astype(np.float64))
    return TaxonEmbedding(taxonomy, radius, direction)


def save_figure(ax: "Axes", path: str | Path) -> None:
    """Write the figure of `ax` as a picture in the format of the ending of `path`.

    Parameters
    ----------
    ax
        Axes of the figure, as `plot_disk` returns them.
    path
        The file, such as ``disk.png``, ``.svg`` or ``.pdf``; its folder is created if necessary.
    """
    from matplotlib.figure import Figure

    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    with replace_file(path) as draft:
        figure.savefig(draft, dpi=150)


def _require_matplotlib() -> None:
    """Raise ImportError with the command that installs matplotlib."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ImportError("pictures need matplotlib: pip install 'poincare-taxa[viz]'") from None


def _positions(radius: Tensor, direction: Tensor) -> Tensor:
    """Disk coordinates [n, 2] as drawn, of radii [n] and directions [n, dim]."""
    u, dim = direction.double(), direction.shape[1]
    if dim < 2:
        raise ValueError("a disk needs two dimensions; the model has one: embed with dim=2 or more")
    if dim > 2:  # Principal components; eigenvalues are in ascending order.
        u = u - u.mean(0)
        u = u @ torch.linalg.eigh(u.T @ u).eigenvectors[:, [-1, -2]]
        u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True).clamp(min=1e-300)
    r = radius.double()
    return convert.polar_to_ball(r * (_OUTERMOST / r.max().clamp(min=_OUTERMOST)), u)


def _geodesics(x: Tensor, y: Tensor) -> Tensor:
    """Points on the geodesics from x to y [m, 2]: [m, pieces + 1, 2].

    x ⊕ t ⊗ (−x ⊕ y) for t in [0, 1], [GBH18] Ganea, Bécigneul & Hofmann 2018, eq. 11.
    """
    step = ball.logmap0(ball.mobius_add(-x, y))
    t = torch.linspace(0, 1, _PIECES + 1, dtype=x.dtype)[:, None]
    return ball.mobius_add(x[:, None], ball.expmap0(t * step[:, None]))


def _clades(
    model: TaxonEmbedding, color_by: str | None
) -> tuple[str, NDArray[np.int32], NDArray[np.int64]]:
    """Choose the clades to colour.

    Returns
    -------
    color_by
        The taxon rank, or "" where the taxonomy has none.
    clades
        Row of each taxon's clade, int32 [n]; -1 where it has none.
    largest
        Rows of the largest clades, largest first.
    """
    groups = taxon_groups(model.taxonomy, None if color_by is None else [color_by])
    if not groups:
        return "", np.full(len(model), -1, np.int32), np.empty(0, np.int64)
    # By default the rank nearest to the root with five clades or more.
    several = [name for name, of in groups.items() if len(np.unique(of[of >= 0])) >= 5]
    name = (several or list(groups))[0]
    count = np.bincount(groups[name][groups[name] >= 0])
    largest = np.argsort(-count, kind="stable")[: len(_COLORS)]
    return name, groups[name], largest[count[largest] > 0]


def _label(
    ax: "Axes",
    model: TaxonEmbedding,
    xy: Tensor,
    clades: NDArray[np.int32],
    largest: NDArray[np.int64],
) -> None:
    """Write the names of clades beside the disk, each on the clade's side, without overlap."""
    # 1. The point of the rim nearest to each clade's mean.
    rim = []
    for clade in largest:
        middle = xy[torch.from_numpy(clades == clade)].mean(0)
        rim.append((middle / torch.linalg.vector_norm(middle).clamp(min=1e-300)).numpy())
    # 2. Its name and number of taxa.
    tax = model.taxonomy
    texts = [
        f"{tax.names[int(clade)] or tax.ids[int(clade)]}  {np.count_nonzero(clades == clade):,}"
        for clade in largest
    ]
    _label_beside(ax, np.array(rim).reshape(-1, 2), texts)


def _apart(wanted: Floats, gap: float) -> Floats:
    """Ascending heights within ±1.1 whose differences are at least `gap`, close to those wanted.

    After subtraction of i·gap from the i-th height the condition is that heights do not descend,
    which is isotonic regression (least squares).
    """
    from scipy.optimize import isotonic_regression

    if len(wanted) == 0:
        return wanted
    steps = gap * np.arange(len(wanted))
    return isotonic_regression(wanted - steps).x.clip(-1.1, 1.1 - steps[-1]) + steps


def _title(model: TaxonEmbedding, color_by: str) -> str:
    """Title with the root, the number of taxa, the projection and the meaning of colours."""
    root = model.taxonomy.names[0] or model.taxonomy.ids[0]
    view = "" if model.dim == 2 else f",\n{model.dim}-D seen in the plane of most variance"
    colors = f",\ncoloured by {color_by} (with number of taxa)" if color_by else ""
    return f"{root}: {len(model):,} taxa in the Poincaré disk{view}{colors}"
