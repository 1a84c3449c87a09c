"""A map of neighbourhoods: UMAP of hyperbolic distances (extra ``[umap]``)."""

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from poincare_taxa.files.extras import import_extra
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.pictures.colours import Values, colours
from poincare_taxa.pictures.disk import draw_taxa, names_of
from poincare_taxa.pictures.figures import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_umap", "umap_coordinates"]


def umap_coordinates(
    model: TaxonEmbedding, *, k: int = 15, seed: int = 0, **settings: Any
) -> NDArray[np.float64]:
    """Compute coordinates of a map in which neighbours by the hyperbolic metric are near: [n, 2].

    The neighbours are exact, from `TaxonEmbedding.neighbour_graph`; UMAP itself never computes a
    distance of vectors.

    Parameters
    ----------
    model
        The embedding, of at least four taxa.
    k
        Number of neighbours of a taxon; more of them show more of the whole and less of the parts.
    seed
        Of UMAP.
    settings
        Other settings of ``umap.UMAP``, such as ``min_dist=0.1``.

    Raises
    ------
    ImportError
        If umap-learn is not installed.
    ValueError
        If there are fewer than four taxa, or `k` is below 2.
    """
    umap = import_extra("umap", "umap")
    n = len(model)
    if n < 4 or k < 2:
        raise ValueError(f"UMAP needs four taxa and k of 2 or more; got {n} taxa and k={k}")
    k = min(k, n - 1)
    graph = model.neighbour_graph(k)
    rows = np.arange(n)[:, None]
    # UMAP counts a taxon as its own first neighbour.
    neighbours = np.hstack([rows, graph.indices.reshape(n, k)]).astype(np.int64)
    apart = np.hstack([np.zeros((n, 1)), graph.data.reshape(n, k)]).astype(np.float32)
    settings = {"init": "spectral" if n > 3 * k else "random", "n_jobs": 1} | settings
    with warnings.catch_warnings():  # That new points cannot be placed, and the like.
        warnings.simplefilter("ignore", UserWarning)
        reducer = umap.UMAP(
            n_neighbors=k + 1,
            precomputed_knn=(neighbours, apart),
            force_approximation_algorithm=True,
            random_state=seed,
            **settings,
        )
        start = (model.radius[:, None] * model.direction).numpy(force=True)
        return np.asarray(reducer.fit_transform(start), np.float64)


def plot_umap(
    model: TaxonEmbedding,
    *,
    color_by: str | None = None,
    values: Values | None = None,
    colors: Mapping[Any, Any] | str | None = None,
    labels: int = 12,
    k: int = 15,
    seed: int = 0,
    ax: "Axes | None" = None,
    **settings: Any,
) -> "Axes":
    """Draw a UMAP of the vectors, with their hyperbolic metric.

    Near points are neighbours. Distances between groups, and the sizes of groups, mean nothing.

    Parameters
    ----------
    model
        The embedding, of at least four taxa.
    color_by, values, colors, labels
        As in `plot_disk`.
    k, seed, settings
        As in `umap_coordinates`.
    ax
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    ax
        The axes.

    Raises
    ------
    ImportError
        If matplotlib or umap-learn is not installed.
    ValueError
        As `plot_disk` and `umap_coordinates`.
    """
    ax = axes_of(ax, 9, 7)
    from poincare_taxa.pictures.labels import Frame

    tax = model.taxonomy
    painted = colours(tax, color_by, values, colors, most=labels)
    xy = umap_coordinates(model, k=k, seed=seed, **settings)
    xy -= (xy.min(0) + xy.max(0)) / 2
    xy = torch.from_numpy(xy / max(float(np.linalg.norm(xy, axis=1).max()), 1e-300))
    ax.set_axis_off()
    draw_taxa(ax, xy, painted, None, 1.0)
    no_taxa = np.empty(0, np.int64)
    Frame(
        ax,
        f"{tax.names[0] or tax.ids[0]}: UMAP of {len(tax):,} taxa",
        "; ".join(filter(None, [painted.what, f"{k} nearest by the hyperbolic metric"])),
        names_of(tax, xy, painted, labels, no_taxa, None, on_rim=False),
        {f"{name}  {count:,}": color for name, (color, count) in painted.legend.items()},
        painted.scale,
        getattr(values, "name", None) or "",
    )
    return ax
