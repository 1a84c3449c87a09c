"""Figures of what vectors keep of their tree: the numbers in them, and where they are drawn."""

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
import torch
from matplotlib.colors import to_rgba
from support.zoo import random_model, zoo

from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.pictures.curves import (
    plot_depth_radius,
    plot_distances,
    plot_separation,
    plot_training,
)
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.run import fit

BUSHY = Taxonomy.from_parents([-1, *((i - 1) // 3 for i in range(1, 121))])
LONG = Taxonomy.from_parents([-1, 0, 0, 1, 1], branch_lengths=[0, 0.5, 1.5, 0.25, 2])


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def points_of(ax):
    return np.asarray(ax.collections[0].get_offsets())


def test_depth_radius__has_a_point_for_each_taxon_and_the_medians_of_depths():
    model = random_model(BUSHY)
    ax = plot_depth_radius(model)
    at = points_of(ax)
    np.testing.assert_allclose(np.sort(at[:, 1]), model.radius.sort().values)
    medians = ax.lines[0].get_xydata()
    for depth, median in medians:
        of_depth = model.radius.numpy()[BUSHY.tree.depth == depth]
        np.testing.assert_allclose(median, np.median(of_depth))
        assert set(np.round(at[np.isin(at[:, 1], of_depth), 0])) == {depth}
    report = evaluate(model, only={"radius"}, floor_queries=0)
    told = next(row.value for row in report.rows if row.key == "depth–radius Spearman")
    assert ax.get_title("left").endswith(f"{told:.3f}")


def test_distances__of_a_layout_rise_with_those_of_the_tree():
    model = embed(BUSHY, dim=10)
    ax = plot_distances(model, taxa=50)
    at, depth = points_of(ax), ax.collections[0].get_array()
    assert at.shape == (500, 2)
    apart = np.asarray(model.distance_matrix(list(model)))
    assert set(np.round(at[:, 1], 6)) <= set(np.round(apart, 6).ravel())
    assert set(depth) <= set(range(BUSHY.max_depth + 1))
    assert float(ax.get_title("left").split()[-1]) > 0.9
    assert (
        plot_distances(embed(LONG, dim=3), taxa=4).get_xlabel() == "tree distance (branch lengths)"
    )


def test_separation__is_that_of_the_report():
    model = random_model(BUSHY)
    ax = plot_separation(model, taxa=len(BUSHY))
    report = evaluate(model, only={"separation"}, floor_queries=0)
    names = [label.get_text() for label in ax.get_yticklabels()]
    assert [name.split("\n")[0] for name in names] == ["depth 1", "depth 2"]
    for name in names:
        rank, told = name.split("\n")
        row = next(row for row in report.rows if row.at == rank)
        value, tree = told.replace("(tree ", "").rstrip(")").split()
        # Both are means over 20 random partners of 120 taxa.
        assert float(value) == pytest.approx(row.value, abs=0.05)
        assert float(tree) == pytest.approx(row.ceiling.value, abs=0.1)


def test_training__has_floor_ceiling_and_all_epochs():
    run = fit(BUSHY, dim=3, epochs=3)
    ax = plot_training(run)
    curves = {line.get_label().split(":")[0]: line for line in ax.lines if ":" in line.get_label()}
    assert {"depth–radius", "Spearman"} < set(curves)
    curve = curves["Spearman"]
    np.testing.assert_array_equal(curve.get_ydata(), run.history["spearman"].to_numpy())
    flat = [
        (line.get_linestyle(), line.get_ydata()[0])
        for line in ax.lines
        if line.get_color() == curve.get_color() and line is not curve
    ]
    assert sorted(flat) == [("--", run.ceiling["spearman"]), (":", run.history["spearman"][0])]
    (right,) = (other for other in ax.figure.axes if other is not ax)
    np.testing.assert_array_equal(right.lines[0].get_ydata()[1:], run.history["loss"][1:])


@pytest.mark.parametrize("last", [0.9, 1e-4], ids=["linear", "logarithmic"])
def test_training__the_legend_lies_below_measures_and_loss(last):
    loss = [None, 1.4, 1.9, 1.2, last]
    history = pl.DataFrame({"epoch": range(5), "loss": loss, "spearman": [0.0, 0.2, 0.4, 0.8, 0.9]})
    ax = plot_training(history)
    ax.figure.canvas.draw()
    (right,) = (other for other in ax.figure.axes if other is not ax)
    assert right.get_yscale() == ("log" if last < 0.1 else "linear")
    legend = ax.get_legend().get_window_extent()
    for axes in (ax, right):
        line = axes.lines[-1]
        lowest = axes.transData.transform(np.array(line.get_xydata()))[:, 1]
        assert np.nanmin(lowest) > legend.y1


def test_training__of_a_history_alone_has_chosen_columns_and_no_ceiling():
    history = pl.DataFrame({"epoch": [0, 1], "mine": [0.5, 0.7]})
    ax = plot_training(history, ["mine"])
    assert len(ax.lines) == 2
    with pytest.raises(ValueError, match=r"no column \['yours'\]"):
        plot_training(history, ["yours"])


def test_figures__refuse_what_they_cannot_draw():
    one = embed(Taxonomy.from_parents([-1]), dim=2)
    with pytest.raises(ValueError, match="two taxa"):
        plot_distances(one)
    with pytest.raises(ValueError, match="nothing to separate"):
        plot_separation(one)
    assert plot_depth_radius(one)


@pytest.mark.parametrize("plot", [plot_depth_radius, plot_distances, plot_separation])
def test_figures__draw_into_given_axes_without_touching_others(plot):
    figure, (left, right) = plt.subplots(1, 2)
    assert plot(random_model(BUSHY), ax=left) is left
    assert not right.collections
    figure.canvas.draw()


def test_umap__keeps_neighbours_of_the_hyperbolic_metric_near():
    pytest.importorskip("umap", reason="umap-learn is not installed")
    from poincare_taxa.pictures.neighbourhoods import plot_umap, umap_coordinates

    parent = [-1, *[0] * 3, *(1 + i % 3 for i in range(90))]
    model = embed(Taxonomy.from_parents(parent), dim=5)
    # Three directions, so that a clade is a neighbourhood.
    top = np.array([0, 1, 2, 3, *(1 + i % 3 for i in range(90))])
    near = TaxonEmbedding(
        model.taxonomy,
        model.radius,
        torch.nn.functional.normalize(model.direction[top] + 0.01 * model.direction, dim=1),
    )
    xy = umap_coordinates(near, k=10)
    clade = np.repeat(np.arange(3), 30)
    members = xy[4:][np.argsort((np.arange(90) % 3), kind="stable")]
    apart = np.linalg.norm(members[:, None] - members[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    nearest = clade[apart.argsort(1)[:, :5]]
    assert (nearest == clade[:, None]).mean() > 0.95
    ax = plot_umap(near, k=10, colors={1: "red"})
    assert to_rgba("red") in {tuple(c) for c in ax.collections[0].get_facecolors()}
    with pytest.raises(ValueError, match="four taxa"):
        umap_coordinates(random_model(zoo()).prune("Aves"))
