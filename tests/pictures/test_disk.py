"""Pictures: what is drawn where. Whether they are good to look at, a person must see."""

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from matplotlib.collections import PathCollection
from support.zoo import random_model, trees, zoo

from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.pictures import disk as visualize
from poincare_taxa.pictures.disk import disk_layout, plot_disk
from poincare_taxa.pictures.figures import save_figure
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def points_of(ax) -> np.ndarray:
    (points,) = (c for c in ax.collections if isinstance(c, PathCollection))
    return np.asarray(points.get_offsets())


@pytest.mark.parametrize("dim", [2, 3, 10])
def test_plot_disk__draws_every_taxon_and_edge_inside_the_disk(dim):
    model = random_model(zoo(), dim)
    ax = plot_disk(model)
    assert len(points_of(ax)) == len(model)
    assert (np.linalg.norm(points_of(ax), axis=1) < 1).all()
    (edges,) = (c for c in ax.collections if hasattr(c, "get_segments"))
    segments = np.array(edges.get_segments())
    assert len(segments) == len(model) - 1
    assert (np.linalg.norm(segments, axis=-1) < 1).all()


def test_plot_disk__two_dimensions_keep_their_angles_and_order_of_radii():
    model = random_model(zoo(), 2)
    xy = visualize._positions(model, None)
    radius = torch.linalg.vector_norm(xy, dim=1)
    assert torch.equal(radius.argsort(), model.radius.argsort())
    torch.testing.assert_close(xy / radius[:, None], model.direction, rtol=0, atol=1e-12)


def test_plot_disk__draws_a_taxonomy_by_the_layout_made_for_the_disk():
    tax = zoo()
    drawn, expected = plot_disk(tax), plot_disk(disk_layout(tax))
    np.testing.assert_array_equal(points_of(drawn), points_of(expected))
    assert texts(drawn) == texts(expected)


def test_plot_disk__says_so_where_two_dimensions_leave_no_room():
    tax, around = zoo(), disk_layout(zoo()).direction
    assert not any("one degree" in text for text in texts(plot_disk(random_model(tax, 2))))
    for turn in (0.0, np.pi):  # Where angles begin again, a degree is one as elsewhere.
        angle = turn + 1e-3 * around[:, 0]
        narrow = torch.stack([angle.cos(), angle.sin()], 1)
        model = TaxonEmbedding(tax, disk_layout(tax).radius, narrow)
        said = " ".join(texts(plot_disk(model))).replace("\n", " ")
        assert "100% of the taxa within one degree: plot_disk(model.taxonomy)" in said


def test_plot_disk__a_small_radius_is_drawn_as_it_is():
    model = random_model(zoo(), 2)
    small = TaxonEmbedding(model.taxonomy, model.radius / 10, model.direction)
    torch.testing.assert_close(visualize._positions(small, None), small.ball())


def texts(ax):
    return [text.get_text() for text in ax.texts if text.get_visible()]


def test_plot_disk__names_the_largest_clades_of_a_taxon_rank():
    title, subtitle, *labels = texts(plot_disk(random_model(zoo()), color_by="order"))
    assert set(labels) == {"Primates  6", "Rodentia  3"}
    assert "12 taxa" in title
    assert "order" in subtitle
    assert "3-D" in subtitle


def test_plot_disk__refuses_a_taxon_rank_that_is_not_there():
    with pytest.raises(ValueError, match="tribe"):
        plot_disk(random_model(zoo()), color_by="tribe")


@pytest.mark.parametrize("parent", [[-1], [-1, 0], [-1, 0, 1, 2, 3], [-1] + [0] * 30])
def test_plot_disk__takes_trees_without_names_and_ranks(parent):
    model = embed(Taxonomy.from_parents(parent), dim=2)
    assert len(points_of(plot_disk(model))) == len(model)


def test_plot_disk__draws_into_given_axes_and_an_image_of_what_is_too_much(monkeypatch):
    monkeypatch.setattr(visualize, "_MOST_EDGES", 5)
    monkeypatch.setattr(visualize, "_MOST_POINTS", 5)
    ax = plt.subplots()[1]
    model = random_model(zoo())
    assert plot_disk(model, ax=ax) is ax
    (edges,) = (c for c in ax.collections if hasattr(c, "get_segments"))
    assert len(edges.get_segments()) == 5
    (image,) = ax.images
    shown = np.asarray(image.get_array())
    at = {tuple(row) for row in np.argwhere(shown[..., 3] > 0)}
    pixel = np.floor((visualize._positions(model, None).numpy() + 1) / 2 * visualize._PIXELS)
    assert at == {(row, column) for column, row in pixel.astype(int)}


def test_plot_disk__with_a_focus_has_it_in_the_centre_and_others_by_their_distance():
    model = random_model(zoo(), 5)
    xy = visualize._positions(model, model.taxonomy.rows("Pan"))
    norm = torch.linalg.vector_norm(xy, dim=1)
    apart = model.distance("Pan", list(model))
    assert norm[model.taxonomy.rows("Pan")] == 0
    assert torch.equal(norm.argsort(stable=True), apart.argsort(stable=True))
    assert "seen from Pan" in texts(plot_disk(model, focus="Pan"))[0]


def test_plot_disk__with_a_focus_is_no_wedge():
    model = disk_layout(Taxonomy.from_parents([-1, *(i // 2 for i in range(1022))]))
    for focus in (0, 1, 20, 1000):
        xy = plot_disk(model, focus=focus).collections[-1].get_offsets()
        turn = np.sort(np.arctan2(xy[:, 1], xy[:, 0]))
        assert np.diff(turn).max() < np.pi / 2


def test_plot_disk__rings_and_names_what_is_highlighted():
    model = random_model(zoo())
    ax = plot_disk(model, highlight=["Homo sapiens", 10090])
    rings = ax.collections[-1].get_offsets()
    at = visualize._positions(model, None)[model.taxonomy.rows(["Homo sapiens", 10090])]
    np.testing.assert_array_equal(rings, at)
    assert {"Homo sapiens", "Mus musculus"} <= set(texts(ax))


def test_plot_disk__takes_labels_sizes_and_a_title():
    model = random_model(zoo())
    ax = plot_disk(model, labels=["Aves"], size=range(12), title="A zoo")
    assert texts(ax) == ["A zoo", "Aves"]
    assert sorted(ax.collections[-1].get_sizes()) == list(range(12))
    assert texts(plot_disk(model, labels=0, title="")) == []
    with pytest.raises(ValueError, match="3 points for 12"):
        plot_disk(model, size=[1, 2, 3])
    with pytest.raises(TypeError, match="one taxon"):
        plot_disk(model, focus=["Pan", "Homo"])


def boxes(ax):
    """Boxes of all visible texts of axes, in pixels, as they are drawn."""
    renderer = ax.figure.canvas.get_renderer()
    found = [text for text in ax.texts if text.get_visible() and text.get_text()]
    return [text.get_window_extent(renderer) for text in found]


LONG = "Candidatus Very long name of a bacterium that nobody has ever cultivated, strain "


def crowded() -> TaxonEmbedding:
    """Twelve large clades with long names, in all directions."""
    parent = [-1] + [0] * 12 + [1 + i % 12 for i in range(400)]
    names = ["A root with a long name", *(f"{LONG}{i}" for i in range(12)), *["x"] * 400]
    ranks = ["no rank"] + ["order"] * 12 + ["species"] * 400
    return random_model(Taxonomy.from_parents(parent, names=names, taxon_ranks=ranks))


@pytest.mark.parametrize("figsize", [(1.5, 1.5), (3, 6), (6, 2), (4, 4), (9, 7), (16, 10)])
@pytest.mark.parametrize("kind", ["clades", "numbers", "categories"])
def test_plot_disk__texts_neither_collide_nor_leave_the_axes(figsize, kind):
    model = crowded()
    given = {
        "clades": {"highlight": list(model)[20:30], "focus": 5},
        "numbers": {"values": pl.Series("a quantity of something, in kg", range(len(model)))},
        "categories": {"values": [f"{LONG}{i % 9}" for i in range(len(model))]},
    }[kind]
    figure, axes = plt.subplots(1, 2, figsize=figsize, squeeze=False, layout="constrained")
    for ax in axes.flat:
        plot_disk(model, ax=ax, **given)
    for size in (figsize, tuple(1.4 * side for side in figsize)):
        figure.set_size_inches(size)
        figure.canvas.draw()
        for ax in axes.flat:
            found, frame = boxes(ax), ax.get_window_extent()
            assert found
            for box in found:
                assert box.x0 >= frame.x0 - 1
                assert box.x1 <= frame.x1 + 1
                assert box.y0 >= frame.y0 - 1
                assert box.y1 <= frame.y1 + 1
            for i, one in enumerate(found):
                assert not any(one.shrunk(0.98, 0.9).overlaps(other) for other in found[:i])


def test_plot_disk__the_disk_is_a_circle_beside_the_texts():
    ax = plot_disk(crowded())
    ax.figure.canvas.draw()
    corners = ax.transData.transform([(-1, -1), (1, 1)])
    wide, high = corners[1] - corners[0]
    np.testing.assert_allclose(wide, high, rtol=1e-6)
    circle = ax.patches[0].get_window_extent()
    assert all(
        not box.overlaps(circle.shrunk(0.98, 0.98)) or box.x0 > circle.x1 or box.x1 < circle.x0
        for box in boxes(ax)
    )


@given(trees())
def test_disk_layout__nests_arcs_in_proportion_to_leaves(tax):
    model = disk_layout(tax)
    assert model.radius.tolist() == tax.depth.tolist()
    angle = torch.atan2(model.direction[:, 1], model.direction[:, 0]).numpy() % (2 * np.pi)
    leaves = [node for node in range(len(tax)) if tax.num_children[node] == 0]
    for node in range(len(tax)):
        mine = [i for i, leaf in enumerate(leaves) if tax.tree.is_ancestor(node, leaf)]
        middle = (mine[0] + mine[-1] + 1) / 2
        np.testing.assert_allclose(angle[node], 2 * np.pi * middle / len(leaves), atol=1e-9)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_save_figure__writes_the_format_of_the_ending(tmp_path, ending):
    save_figure(plot_disk(random_model(zoo())), tmp_path / "new" / f"zoo.{ending}")
    assert (tmp_path / "new" / f"zoo.{ending}").stat().st_size > 1000
