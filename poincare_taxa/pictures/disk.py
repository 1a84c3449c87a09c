"""Pictures of embeddings in the Poincaré disk, with matplotlib (extra ``[viz]``).

A model of two dimensions is drawn as it is. One of more dimensions is drawn by its own layout in
the plane: the radius of a taxon is that of its vector, and its angle comes from the taxonomy
(`view`), because no projection to a plane keeps more than the first few branches apart. With a
*focus* the radius is the distance from that taxon, as its vector has it. What the picture keeps of
the distances between vectors stands in its title. All radii are multiplied by one factor, so that
the outermost taxa are not drawn on the rim. Edges are geodesics between the points as drawn.

`disk_layout` is an embedding made for the disk, to draw a taxonomy rather than its vectors.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.geometry import ball, polar
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.pictures.colours import OTHERS, Colours, Values, colours, label_of
from poincare_taxa.pictures.dags import draw_dag
from poincare_taxa.pictures.figures import axes_of
from poincare_taxa.pictures.view import arcs, drawn, geodesics, placed
from poincare_taxa.taxonomy.columns import Key
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["disk_layout", "draw_taxa", "names_of", "plot_disk"]

Floats = NDArray[np.float64]

_MOST_EDGES = 30_000  # Edges that are drawn: those of the largest clades.
_MOST_POINTS = 100_000  # Taxa beyond which an image takes the place of a mark for each.
_PIXELS = 1600  # Of a side of this image.
_COMPARED = 200  # Taxa whose distances say how true a picture is.
_MOST_RINGS = 200  # Marked taxa beyond which no ring is drawn around each.


def plot_disk(
    model: TaxonEmbedding | ClosureEmbedding | Taxonomy,
    *,
    color_by: str | None = None,
    values: Values | None = None,
    colors: Mapping[Any, Any] | str | None = None,
    focus: Key | None = None,
    highlight: Keys | None = None,
    labels: int | Keys = 12,
    size: float | ArrayLike | None = None,
    title: str | None = None,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw an embedding in the Poincaré disk: taxa, edges, and the names of the largest clades.

    Parameters
    ----------
    model
        The embedding. One of more than two dimensions is drawn by its radii and the taxonomy's
        order (see the module), and the title says so. A taxonomy is drawn by `disk_layout`. Of the
        nodes of a DAG (`dags`), those without descendants are drawn at the rim, and the nodes with
        most descendants are named.
    color_by
        Taxon rank whose clades are coloured, such as "order", or "depth 2"; by default the rank
        nearest to the root, or of a large clade in the focus, that has five clades or more.
    values
        Numbers (explained by a colour bar) or categories (by a legend) to colour taxa by instead:
        ``{key: value}``, a pandas column with keys as its index, or a value for each taxon in the
        order of the vectors. Taxa without a value are grey.
    colors
        Your own colours: ``{"Primates": "tab:red", …}`` of clades or of categories; of numbers the
        name of a colour map of matplotlib ("viridis" by default).
    focus
        Id or name of the taxon in the centre; by default the root is there. Distances of the
        others from the centre are those from this taxon.
    highlight
        Ids or names of taxa that are drawn on top of all others with a ring, their lineages with a
        dark line, and named; all else is pale.
    labels
        How many of the largest clades are named beside the disk, or which taxa are (keys). Names
        that the axes have no room for are left out, the smallest clades first.
    size
        Area of a point in points of typography squared; one number, or one for each taxon.
    title
        Title in place of the one that names the root and the number of taxa; "" for none.
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
        If the taxonomy has no such rank, there is not a value or size for every taxon, or arguments
        exclude each other; or the model is that of a DAG, and options are given or its pairs are
        not kept.
    TaxonomyError
        If a key leads to no taxon.

    Notes
    -----
    Of large taxonomies only the edges to the 30,000 largest clades are drawn. More than 100,000
    taxa become an image, in which a pixel has the mean colour of its taxa and is the stronger the
    more there are. In vector formats the points are pixels from 10,000 taxa on.
    """
    if isinstance(model, ClosureEmbedding):
        options = (color_by, values, colors, focus, highlight, size, title)
        given = [option for option in options if option is not None]
        if given or not isinstance(labels, int) or labels != 12:
            raise ValueError("the picture of a DAG has no options: its nodes have no ranks")
        return draw_dag(model, ax)
    if isinstance(model, Taxonomy):
        model = disk_layout(model)
    ax = axes_of(ax, 9, 7)
    from matplotlib.patches import Circle

    from poincare_taxa.pictures.labels import Frame

    # 1. Colours and coordinates.
    tax = model.taxonomy
    centre = None if focus is None else _one_row(tax, focus)
    most = labels if isinstance(labels, int) and not isinstance(labels, bool) else 12
    painted = colours(tax, color_by, values, colors, most=most, focus=centre or 0)
    xy = _positions(model, centre)
    marked = np.empty(0, np.int64) if highlight is None else np.atleast_1d(tax.rows(highlight))
    # 2. The disk, the edges, the taxa.
    ax.set_axis_off()
    ax.add_patch(Circle((0, 0), 1, facecolor="#fcfcfc", edgecolor="#606060", linewidth=0.7))
    fade = 0.3 if len(marked) else 1.0
    _draw_edges(ax, model, xy, painted, fade)
    draw_taxa(ax, xy, painted, size, fade)
    _draw_highlight(ax, model, xy, painted, marked)
    # 3. Title, names, legend.
    named = names_of(tax, xy, painted, labels, marked, centre)
    says = _subtitle(model, painted, xy, centre)
    Frame(
        ax,
        _title(tax, centre) if title is None else title,
        says if title is None else "",
        named,
        {f"{name}  {count:,}": color for name, (color, count) in painted.legend.items()},
        painted.scale,
        getattr(values, "name", None) or "",
    )
    return ax


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
    angle = torch.from_numpy(2 * np.pi * arcs(taxonomy.tree))
    direction = torch.stack([angle.cos(), angle.sin()], dim=1)
    radius = torch.from_numpy(taxonomy.tree.depth.astype(np.float64))
    return TaxonEmbedding(taxonomy, radius, direction, {"settings": {"method": "disk_layout"}})


def _one_row(tax: Taxonomy, key: Key) -> int:
    row = tax.rows(key)
    if not isinstance(row, int):
        raise TypeError(f"the focus is one taxon; got {len(row)} keys")
    return row


def _scale(ax: "Axes") -> float:
    """Size of the axes as a share of those of a figure of its own, at most 1."""
    box = ax.get_window_extent()
    return float(np.clip(min(box.width, box.height) / ax.figure.dpi / 7, 0.1, 1))


def _sizes(size: float | ArrayLike | None, n: int, scale: float) -> Floats | float:
    if size is None:
        return float(np.clip(4e4 / n, 0.4, 24)) * scale**2
    sizes = np.asarray(size, np.float64)
    if sizes.shape not in ((), (n,)):
        raise ValueError(f"sizes of {len(sizes):,} points for {n:,} taxa: give one for each")
    return sizes if sizes.ndim else float(sizes)


# -------------------------------------------------------------------- where


def _positions(model: TaxonEmbedding, centre: int | None) -> Tensor:
    """Disk coordinates [n, 2] as drawn."""
    radius, direction = model.radius.double().cpu(), model.direction.double().cpu()
    tree = model.taxonomy.tree
    if centre is not None:
        apart = polar.dist(radius[centre], direction[centre], radius, direction)
        apart[centre] = 0
        return placed(apart, torch.from_numpy(arcs(tree, centre)))
    if model.dim == 2:
        return drawn(radius, direction)
    return placed(radius, torch.from_numpy(arcs(tree)))


def _fidelity(model: TaxonEmbedding, xy: Tensor) -> float:
    """Spearman of distances as drawn and of the vectors, over LCA-balanced pairs of a sample."""
    rng, tree = np.random.default_rng(0), model.taxonomy.tree
    rows = rng.permutation(len(tree))[:_COMPARED]
    others = samples.lca_balanced_others(tree, rows, 10, rng)[0]
    a, b = torch.from_numpy(np.repeat(rows, 10)), torch.from_numpy(others.ravel())
    r, u = model.radius.double().cpu(), model.direction.double().cpu()
    vectors = polar.dist(r[a], u[a], r[b], u[b])
    return metrics.spearman(ball.dist(xy[a], xy[b]).numpy(), vectors.numpy())


def _within_one_degree(model: TaxonEmbedding) -> float:
    """Share of the taxa in that degree of the circle which has most of them."""
    x, y = model.direction.double().numpy(force=True).T
    degree = np.rint(np.degrees(np.arctan2(y, x))).astype(np.int64) % 360
    return np.bincount(degree).max() / len(model)


# -------------------------------------------------------------------- what is drawn


def _draw_edges(
    ax: "Axes", model: TaxonEmbedding, xy: Tensor, painted: Colours, fade: float
) -> None:
    """Draw the edges to the largest clades, each in the colour of its lower end."""
    from matplotlib.collections import LineCollection

    tree = model.taxonomy.tree
    rows = np.arange(1, len(tree))
    if len(rows) > _MOST_EDGES:
        largest = np.argpartition(-tree.subtree_size[1:], _MOST_EDGES)[:_MOST_EDGES]
        rows = np.sort(largest + 1)
    ends = torch.from_numpy(rows), torch.from_numpy(tree.parent[rows].astype(np.int64))
    paths = geodesics(xy[ends[1]], xy[ends[0]]).numpy()
    width = float(np.clip(60 / np.sqrt(len(tree)) * _scale(ax), 0.2, 0.9))
    edge_color = painted.of_taxon[rows]
    if painted.scale is not None or painted.legend:
        from matplotlib.colors import to_rgba

        edge_color = to_rgba(OTHERS)
    ax.add_collection(
        LineCollection(
            list(paths),
            colors=edge_color,
            linewidths=width,
            alpha=0.55 * fade,
            zorder=1,
            rasterized=len(rows) > 10_000,
        )
    )


def draw_taxa(
    ax: "Axes", xy: Tensor, painted: Colours, size: float | ArrayLike | None, fade: float
) -> None:
    """Draw a mark for each taxon at points of the unit disk [n, 2], or of very many an image.

    Raises
    ------
    ValueError
        If there is not a size for every taxon.
    """
    size = _sizes(size, len(xy), _scale(ax))
    if len(xy) > _MOST_POINTS and not isinstance(size, np.ndarray):
        ax.imshow(
            _density(xy.numpy(), painted.of_taxon, fade),
            extent=(-1, 1, -1, 1),
            origin="lower",
            interpolation="nearest",
            aspect="auto",
            zorder=2,
        )
        return
    order = np.argsort(painted.on_top, kind="stable")
    ax.scatter(
        *xy[torch.from_numpy(order)].numpy().T,
        s=size[order] if isinstance(size, np.ndarray) else size,
        c=painted.of_taxon[order],
        linewidths=0,
        alpha=fade,
        zorder=2,
        rasterized=len(xy) > 10_000,
    )


def _density(xy: Floats, rgba: Floats, fade: float) -> Floats:
    """Image [pixels, pixels, 4]: the mean colour of the taxa of a pixel, opaque by their number."""
    column, row = np.clip(((xy + 1) / 2 * _PIXELS).astype(np.int64), 0, _PIXELS - 1).T
    place = row * _PIXELS + column
    count = np.bincount(place, minlength=_PIXELS**2)
    image = np.zeros((_PIXELS**2, 4))
    for channel in range(3):
        total = np.bincount(place, rgba[:, channel], minlength=_PIXELS**2)
        image[:, channel] = total / np.maximum(count, 1)
    strength = 0.5 + 0.5 * np.log1p(count) / np.log1p(count.max())
    image[:, 3] = np.where(count > 0, fade * strength, 0)
    return image.reshape(_PIXELS, _PIXELS, 4)


def _draw_highlight(
    ax: "Axes", model: TaxonEmbedding, xy: Tensor, painted: Colours, marked: NDArray[np.int64]
) -> None:
    """Draw the lineages of marked taxa as dark lines, and the taxa with rings."""
    from matplotlib.collections import LineCollection

    if not len(marked):
        return
    tree = model.taxonomy.tree
    above = np.unique(tree.lineages(marked))
    above = torch.from_numpy(above[above > 0])
    parent = torch.from_numpy(tree.parent[above.numpy()].astype(np.int64))
    paths = geodesics(xy[parent], xy[above]).numpy()
    wide = 1.0 if len(marked) <= _MOST_RINGS else 0.4
    ax.add_collection(
        LineCollection(list(paths), colors="#404040", linewidths=wide, alpha=0.8, zorder=2.5)
    )
    ax.scatter(
        *xy[torch.from_numpy(marked)].numpy().T,
        s=28 if len(marked) <= _MOST_RINGS else 7,
        c=painted.of_taxon[marked],
        edgecolors="#101010",
        linewidths=0.8 if len(marked) <= _MOST_RINGS else 0.3,
        zorder=3,
    )


# -------------------------------------------------------------------- what is written


def names_of(
    tax: Taxonomy,
    xy: Tensor,
    painted: Colours,
    labels: int | Keys,
    marked: NDArray[np.int64],
    centre: int | None,
    *,
    on_rim: bool = True,
) -> list[Any]:
    """Names to write: the focus, marked taxa, taxa that were chosen, then the largest clades.

    Lines lead to the taxa, and of clades to the rim, or to a taxon in their middle.
    """
    from poincare_taxa.pictures.labels import Name

    points = xy.numpy()
    rows = [] if len(marked) > _MOST_RINGS else marked.tolist()
    if centre is not None:
        rows.insert(0, centre)
    if not isinstance(labels, int):
        rows += np.atleast_1d(tax.rows(labels)).tolist()
    found = [
        Name(label_of(tax, row), points[row], "#303030" if row == centre else painted.of_taxon[row])
        for row in dict.fromkeys(rows)
    ]
    if isinstance(labels, int):
        for row, count in list(painted.clades.items())[:labels]:
            if row in rows:
                continue
            members = points[painted.in_clade == row]
            at = members.mean(0)
            if on_rim:
                at = at / max(float(np.linalg.norm(at)), 1e-300)
            else:
                at = members[np.linalg.norm(members - np.median(members, 0), axis=1).argmin()]
            found.append(Name(label_of(tax, row), at, painted.of_taxon[row], f"{count:,}"))
    return found


def _title(tax: Taxonomy, centre: int | None) -> str:
    root = f"{label_of(tax, 0)}: {len(tax):,} taxa"
    return root if centre is None else f"{root}, seen from {label_of(tax, centre)}"


def _subtitle(model: TaxonEmbedding, painted: Colours, xy: Tensor, centre: int | None) -> str:
    """Describe colours, radii and angles, and how true the picture is to the vectors."""
    made = model.meta.get("settings", {}).get("method") == "disk_layout"
    parts = [painted.what] if painted.what else []
    if centre is not None:
        parts.append("radius: distance from the centre" + ("" if made else f" in {model.dim}-D"))
    elif model.dim != 2:
        parts.append(f"radius: that of the {model.dim}-D vectors")
    elif (share := _within_one_degree(model)) > 0.5:
        parts.append(
            f"{share:.0%} of the taxa within one degree: plot_disk(model.taxonomy) has more room"
        )
    if (centre is not None or model.dim != 2) and not made:
        parts.append("angle: the taxonomy")
        if len(model) > 2:
            parts.append(
                f"distances as drawn and of the vectors: Spearman {_fidelity(model, xy):.2f}"
            )
    return "; ".join(parts)
