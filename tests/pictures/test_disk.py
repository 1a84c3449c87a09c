"""Pictures: what is drawn where. Whether they are good to look at, a person must see."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection
from support.zoo import random_model, trees, zoo

from poincare_taxa.geometry import ball
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.pictures import disk as visualize
from poincare_taxa.pictures.disk import disk_layout, plot_disk, save_figure
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
    xy = visualize._positions(model.radius, model.direction)
    radius = torch.linalg.vector_norm(xy, dim=1)
    assert torch.equal(radius.argsort(), model.radius.argsort())
    torch.testing.assert_close(xy / radius[:, None], model.direction, rtol=0, atol=1e-12)


def test_plot_disk__a_small_radius_is_drawn_as_it_is():
    model = random_model(zoo(), 2)
    small = TaxonEmbedding(model.taxonomy, model.radius / 10, model.direction)
    torch.testing.assert_close(visualize._positions(small.radius, small.direction), small.ball())


def test_geodesics__lie_between_their_ends():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(20, 2, generator=generator, dtype=torch.float64) * 0.7 for _ in range(2))
    path = visualize._geodesics(x, y)
    torch.testing.assert_close(path[:, 0], x)
    torch.testing.assert_close(path[:, -1], y)
    through = ball.dist(x[:, None], path) + ball.dist(path, y[:, None])
    torch.testing.assert_close(through, ball.dist(x, y)[:, None].expand_as(through))


def test_plot_disk__names_the_largest_clades_of_a_taxon_rank():
    title, *labels = (t.get_text() for t in plot_disk(random_model(zoo()), color_by="order").texts)
    assert set(labels) == {"Primates  6", "Rodentia  3"}
    assert "12 taxa" in title
    assert "order" in title


def test_plot_disk__refuses_a_taxon_rank_that_is_not_there():
    with pytest.raises(ValueError, match="tribe"):
        plot_disk(random_model(zoo()), color_by="tribe")


def test_plot_disk__needs_two_dimensions():
    with pytest.raises(ValueError, match="two dimensions"):
        plot_disk(random_model(zoo(), 1))


@pytest.mark.parametrize("parent", [[-1], [-1, 0], [-1, 0, 1, 2, 3], [-1] + [0] * 30])
def test_plot_disk__takes_trees_without_names_and_ranks(parent):
    model = embed(Taxonomy.from_parents(parent), dim=2)
    assert len(points_of(plot_disk(model))) == len(model)


def test_plot_disk__draws_into_given_axes_and_thins_what_is_too_much(monkeypatch):
    monkeypatch.setattr(visualize, "_MOST_EDGES", 5)
    monkeypatch.setattr(visualize, "_MOST_POINTS", 5)
    ax = plt.subplots()[1]
    assert plot_disk(random_model(zoo()), ax=ax) is ax
    assert len(points_of(ax)) <= 5
    assert not [c for c in ax.collections if hasattr(c, "get_segments")]


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


@given(st.lists(st.floats(-1, 1), min_size=0, max_size=12))
def test_apart__labels_keep_their_order_and_do_not_overlap(wanted):
    gap = 0.085
    heights = visualize._apart(np.sort(wanted), gap)
    assert (np.diff(heights) > gap - 1e-9).all()
    assert (np.abs(heights) <= 1.1 + 1e-9).all()
    if (np.diff(np.sort(wanted)) > gap).all():
        np.testing.assert_allclose(heights, np.sort(wanted), atol=1e-9)


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_save_figure__writes_the_format_of_the_ending(tmp_path, ending):
    save_figure(plot_disk(random_model(zoo())), tmp_path / "new" / f"zoo.{ending}")
    assert (tmp_path / "new" / f"zoo.{ending}").stat().st_size > 1000
