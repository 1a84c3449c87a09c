"""Figures of what vectors keep of their tree, and of how a run learned it (extra ``[viz]``)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.geometry import polar
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.pictures.colours import OTHERS, PALETTE
from poincare_taxa.pictures.figures import axes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from poincare_taxa.training.run import Run

__all__ = ["plot_depth_radius", "plot_distances", "plot_separation", "plot_training"]

_INK = "#303030"
_MOST_POINTS = 20_000
_PARTNERS = 20
_NEAR, _FAR = PALETTE[0], PALETTE[1]
_MARKS = "os^Dv<>"
_SHORT = {"depth_radius": "depth–radius", "spearman": "Spearman"}


def plot_depth_radius(model: TaxonEmbedding, *, ax: "Axes | None" = None) -> "Axes":
    """Draw the radius of each taxon over its depth: whether radius means depth.

    Parameters
    ----------
    model
        The embedding. Where its taxonomy has branch lengths, depth is the distance from the root.
    ax
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    ax
        The axes: points (of at most 20,000 taxa), the median of each depth, and the correlation.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    ax = axes_of(ax, 5.5, 4)
    tree, rng = model.taxonomy.tree, np.random.default_rng(0)
    height, radius = tree.height, model.radius.double().numpy(force=True)
    rows = rng.permutation(len(tree))[:_MOST_POINTS]
    spread = 0.0 if tree.lengths is not None else 0.3
    x = height[rows] + rng.uniform(-spread, spread, len(rows))
    ax.scatter(x, radius[rows], s=5, c=_NEAR, alpha=0.3, linewidths=0, rasterized=True)
    if tree.lengths is None:
        _draw_medians(ax, height, radius, tree.max_depth)
    told = metrics.spearman(radius, height.astype(np.float64)) if len(tree) > 1 else np.nan
    unit = "edges from the root" if tree.lengths is None else "branch lengths from the root"
    _finish(ax, f"depth ({unit})", "radius", f"{len(tree):,} taxa: Spearman {told:.3f}")
    return ax


def plot_distances(
    model: TaxonEmbedding, *, taxa: int = 500, seed: int = 0, ax: "Axes | None" = None
) -> "Axes":
    """Draw distances of vectors over those of the tree, coloured by depth of the common ancestor.

    Parameters
    ----------
    model
        The embedding.
    taxa
        Number of taxa that are drawn, each with ten others: near and far relatives are equally
        frequent, as in the report.
    seed
        Of the choice of taxa.
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
        If there is only one taxon, or `taxa` is below 1.
    """
    if len(model) < 2 or taxa < 1:
        raise ValueError(f"distances of pairs need two taxa; got {min(len(model), taxa)}")
    ax = axes_of(ax, 6, 4.2)
    from matplotlib.ticker import MaxNLocator

    tree, rng = model.taxonomy.tree, np.random.default_rng(seed)
    rows = rng.permutation(len(tree))[:taxa]
    others, depth = samples.lca_balanced_others(tree, rows, 10, rng)
    a, b = np.repeat(rows, 10), others.ravel()
    wanted, found = tree.distance(a, b), _distance(model, a, b)
    spread = 0.0 if tree.lengths is not None else 0.3
    points = ax.scatter(
        wanted + rng.uniform(-spread, spread, len(a)),
        found,
        c=depth.ravel(),
        s=6,
        alpha=0.7,
        linewidths=0,
        cmap="viridis",
        rasterized=True,
    )
    if tree.lengths is None:
        _draw_medians(ax, wanted, found, int(wanted.max()))
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # There is no half edge.
    bar = ax.figure.colorbar(points, ax=ax)
    bar.set_label("depth of the common ancestor")
    if bar.solids is not None:
        bar.solids.set(alpha=1)
    unit = "edges" if tree.lengths is None else "branch lengths"
    told = metrics.spearman(found, wanted.astype(np.float64))
    _finish(
        ax, f"tree distance ({unit})", "distance of vectors",
        f"{len(a):,} pairs of {len(tree):,} taxa: Spearman {told:.3f}",
    )  # fmt: skip
    return ax


def plot_separation(
    model: TaxonEmbedding,
    *,
    taxon_ranks: Sequence[str] | None = None,
    taxa: int = 1000,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw distances within the groups of each taxon rank beside those to other groups.

    Below the name of a rank stands its separation, mean distance between groups over that within,
    and that of the tree's own distances: the ceiling.

    Parameters
    ----------
    model
        The embedding.
    taxon_ranks
        Ranks, or "depth 1", "depth 2", …; by default those of a report.
    taxa
        Number of taxa that are drawn, each with 20 of its group and 20 of others.
    seed
        Of the choice of taxa.
    ax
        Axes to draw into; by default those of a new figure.

    Returns
    -------
    ax
        The axes: a dot is the median, a bar the middle half, a line from 5 % to 95 %.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the taxonomy has no such rank, or no rank has two groups.
    """
    tax, rng = model.taxonomy, np.random.default_rng(seed)
    rows = rng.permutation(len(tax))[:taxa]
    drawn = {
        name: found
        for name, labels in taxon_groups(tax, taxon_ranks).items()
        if len((found := samples.separation_partners(labels, rows, _PARTNERS, rng))[0])
    }
    if not drawn:
        raise ValueError("no rank has two groups of two taxa or more: there is nothing to separate")
    ax = axes_of(ax, 6, 1.2 + 0.6 * len(drawn))
    told = []
    for place, (name, (queries, *partners)) in enumerate(drawn.items()):
        means, of_tree = [], []
        for side, others, color in zip((-0.17, 0.17), partners, (_NEAR, _FAR), strict=True):
            a, b = np.repeat(queries, _PARTNERS), others.ravel()
            apart = _distance(model, a, b)
            means.append(apart.mean())
            of_tree.append(tax.tree.distance(a, b).mean())
            ends = np.percentile(apart, [5, 25, 50, 75, 95])
            ax.hlines(place + side, ends[0], ends[4], colors=color, linewidth=1.2)
            ax.hlines(place + side, ends[1], ends[3], colors=color, linewidth=6)
            ax.plot(ends[2], place + side, "o", color="white", markersize=3.5)
        ratios = [far / near if near else np.nan for near, far in (means, of_tree)]
        told.append(f"{name}\n{ratios[0]:.2f} (tree {ratios[1]:.2f})")
    names = ("within a group", "to other groups")
    handles = [
        ax.hlines([], [], [], colors=color, linewidth=6, label=label)
        for color, label in zip((_NEAR, _FAR), names, strict=True)
    ]
    # The legend has the room above the first rank.
    ax.legend(handles=handles, frameon=False, loc="upper center", ncols=2, fontsize="small",
              borderaxespad=0.1, columnspacing=1, handlelength=1.2)  # fmt: skip
    ax.set_yticks(range(len(drawn)), told, fontsize="small")
    ax.set_ylim(len(drawn) - 0.5, -0.5 - 0.13 * (len(drawn) + 1))
    ax.set_xlim(left=0)
    _finish(ax, "distance of vectors", "", "separation (between / within)", grid="x")
    return ax


def plot_training(
    run: "Run[Any] | pl.DataFrame",
    columns: Sequence[str] | None = None,
    *,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw loss and measures of a run over its epochs, with their floor and ceiling.

    Parameters
    ----------
    run
        What `fit` returned, or its history alone, which has no ceiling.
    columns
        Measures of the history; by default correlations and accuracies, those between 0 and 1.
    ax
        Axes to draw into; by default those of a new figure. The loss has axes of its own on the
        right, on a logarithmic scale where it falls to less than a tenth.

    Returns
    -------
    ax
        The axes of the measures: a dotted line is the untrained start (the floor), a dashed one
        the tree itself (the ceiling).

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    ValueError
        If the history has no such column.
    """
    history = run if isinstance(run, pl.DataFrame) else run.history
    ceiling = {} if isinstance(run, pl.DataFrame) else run.ceiling
    if columns is None:
        known = ("depth_radius", "spearman")
        columns = [c for c in history.columns if c in known or c.startswith("pair_accuracy")]
    missing = [c for c in columns if c not in history.columns]
    if missing:
        raise ValueError(f"no column {missing} in this history; it has {history.columns}")
    ax = axes_of(ax, 7, 4.2)
    from matplotlib.ticker import MaxNLocator

    epoch = history["epoch"].to_numpy()
    for i, name in enumerate(columns):
        color, values = PALETTE[i % len(PALETTE)], history[name].cast(pl.Float64).to_numpy()
        start, end = values[0], values[-1]
        short = _SHORT.get(name, name.replace("pair_accuracy/", "pairs, "))
        label = f"{short}: {start:.2f} → {end:.2f}"
        if name in ceiling:
            label += f" (tree {ceiling[name]:.2f})"
            ax.axhline(ceiling[name], color=color, linestyle="--", linewidth=0.8, alpha=0.7)
        ax.axhline(start, color=color, linestyle=":", linewidth=0.9, alpha=0.8)
        mark = _MARKS[i % len(_MARKS)]
        ax.plot(epoch, values, f"{mark}-", color=color, markersize=3.5, linewidth=1.4, label=label)
    room = 0.03 + 0.08 * len(columns)  # For the legend, below the curves.
    if "loss" in history.columns:
        _draw_loss(ax, epoch, history["loss"].cast(pl.Float64).to_numpy(), room)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    _finish(ax, "epoch", "measure", "dotted: the start; dashed: the tree itself")
    low, high = ax.get_ylim()
    ax.set_yticks([tick for tick in ax.get_yticks() if low <= tick <= high])
    ax.set_ylim(low - room * (high - low), high)
    ax.legend(loc="lower right", fontsize="x-small", framealpha=0.85, edgecolor="none",
              borderaxespad=0.1, handlelength=1.4, labelspacing=0.3)  # fmt: skip
    return ax


def _draw_loss(ax: Any, epoch: NDArray[Any], loss: NDArray[np.float64], room: float) -> None:
    right = ax.twinx()
    right.plot(epoch, loss, color="#808080", linewidth=3, alpha=0.45)
    right.set_ylabel("loss (grey)", color="#606060")
    right.tick_params(colors="#606060", which="both")
    if np.nanmin(loss) > 0 and np.nanmax(loss) > 10 * np.nanmin(loss):
        right.set_yscale("log")
    to_scale, back = right.transScale.transform, right.transScale.inverted().transform
    low, high = to_scale([(0, y) for y in right.get_ylim()])[:, 1]
    right.set_yticks([tick for tick in right.get_yticks() if back((0, low))[1] <= tick])
    right.set_ylim(back((0, low - room * (high - low)))[1], back((0, high))[1])
    right.spines[["top", "left"]].set_visible(False)
    ax.set_zorder(right.get_zorder() + 1)  # Measures lie over the loss.
    ax.patch.set_visible(False)


def _draw_medians(ax: Any, x: NDArray[Any], y: NDArray[np.float64], last: int) -> None:
    """Median at each whole number, and what lies between 5 % and 95 %."""
    places = [i for i in range(last + 1) if (x == i).any()]
    ends = np.array([np.percentile(y[x == i], [5, 50, 95]) for i in places])
    ax.vlines(places, ends[:, 0], ends[:, 2], colors=_INK, linewidth=1)
    ax.plot(places, ends[:, 1], "o", color="white", markeredgecolor=_INK, markersize=4)


def _distance(model: TaxonEmbedding, a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float64]:
    r, u = model.radius.double(), model.direction.double()
    a_rows, b_rows = torch.from_numpy(a.astype(np.int64)), torch.from_numpy(b.astype(np.int64))
    return polar.dist(r[a_rows], u[a_rows], r[b_rows], u[b_rows]).numpy(force=True)


def _finish(ax: Any, x: str, y: str, title: str, grid: Literal["x", "y"] = "y") -> None:
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_title(title, loc="left", fontsize="small", color=_INK)
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis=grid, color=OTHERS, linewidth=0.4, alpha=0.6)
    ax.set_axisbelow(True)
