"""Laws of refinement: measured gains only, radii by depth, the start otherwise left alone."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from support.trees import taxonomies

import poincare_taxa as pt
from poincare_taxa.layouts.refinement import Yardstick, _better, _means, count_coincident, refine
from poincare_taxa.layouts.tree import largest_tau, layout_in_layers

DTYPES = st.sampled_from([torch.float32, torch.float64])
TAXONOMIES = taxonomies(min_size=2).map(lambda tax: tax.without_lengths())
MORE_IS_BETTER = ("precision", "ancestor", "ancestor rank", "neighbour")


def broom(handle: int, bristles: int) -> pt.Taxonomy:
    """A chain with leaves at its end and one beside each of its nodes."""
    chain = list(range(-1, handle - 1))
    return pt.Taxonomy.from_parents(chain + list(range(handle)) + [handle - 1] * bristles)


@settings(max_examples=40, deadline=None)
@given(tax=TAXONOMIES, dim=st.integers(2, 5), dtype=DTYPES)
def test_refine__never_worsens_what_it_measures(tax, dim, dtype):
    start = pt.layout(tax, dim, dtype=dtype)
    refined = refine(tax, start, passes=3)
    measured = Yardstick.of(tax.tree, 256, 0)
    before, after = _means(measured(start)), _means(measured(refined))
    for name in before:
        assert after[name] >= before[name] - 1e-12, name


@settings(max_examples=40, deadline=None)
@given(tax=TAXONOMIES, dim=st.integers(2, 5), dtype=DTYPES)
def test_refine__keeps_radius_a_multiple_of_depth_and_directions_unit(tax, dim, dtype):
    refined = refine(tax, pt.layout(tax, dim, dtype=dtype), passes=2)
    tau = refined.info["tau"]
    depth = torch.tensor(tax.depth, dtype=dtype)
    assert torch.equal(refined.radius, tau * depth)
    assert tau <= largest_tau(tax.tree, dtype)
    error = ((refined.direction.double() ** 2).sum(1) - 1).abs().max()
    assert error <= 17 * torch.finfo(dtype).eps  # 16, and the rounding of the sum


@settings(max_examples=30, deadline=None)
@given(tax=TAXONOMIES, dim=st.integers(2, 5), dtype=DTYPES)
def test_refine__only_children_keep_the_bits_of_their_parent(tax, dim, dtype):
    direction = refine(tax, pt.layout(tax, dim, dtype=dtype), passes=2).direction
    only = np.flatnonzero((tax.parent >= 0) & (tax.num_children[tax.parent] == 1))
    assert torch.equal(direction[only], direction[tax.parent[only]])


def test_refine__is_deterministic_by_seed():
    tax = pt.load_sample()
    start = pt.layout(tax, 3)
    first, again = refine(tax, start, passes=2), refine(tax, start, passes=2)
    assert torch.equal(first.direction, again.direction)
    assert first.info == again.info


def test_refine__improves_a_crowded_layout():
    tax = pt.load_sample()
    start = pt.layout(tax, 3)
    refined = refine(tax, start)
    first, kept = refined.info["passes"][0], [p for p in refined.info["passes"] if p["kept"]]
    assert len(kept) > 1
    assert any(kept[-1][name] > first[name] for name in MORE_IS_BETTER)
    before, after = (
        pt.evaluate((p.radius, p.direction), tax, floor_queries=0, only={"neighbour"})
        for p in (start, refined)
    )
    assert after["neighbour MAP"].value > before["neighbour MAP"].value


def test_refine__returns_a_start_that_it_cannot_beat_bit_for_bit():
    tax = pt.Taxonomy.from_parents([-1, 0, 0])
    start = pt.layout(tax, 4)
    refined = refine(tax, start)
    assert torch.equal(refined.radius, start.radius)
    assert torch.equal(refined.direction, start.direction)
    assert len(refined.info["passes"]) == 1  # solved before the first proposal


def test_refine__takes_points_from_elsewhere():
    tax = pt.load_sample()
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(len(tax), 4, generator=generator, dtype=torch.float64)
    direction /= direction.norm(dim=1, keepdim=True)
    radius = torch.tensor(tax.depth, dtype=torch.float64)
    refined = refine(tax, (radius, direction), passes=1)
    start, proposal = refined.info["passes"]
    assert proposal["kept"]
    assert proposal["precision"] > start["precision"]


@pytest.mark.parametrize("name", ["precision", "distortion, uniform", "apart"])
def test_better__refuses_a_gain_that_costs_something(name):
    names = [*MORE_IS_BETTER, "distortion, uniform", "apart"]
    old = {name: np.full(8, 0.5) for name in names}
    gain = old | {"neighbour": np.full(8, 0.6)}
    assert _better(gain, old, old)
    assert not _better(gain | {name: np.full(8, 0.4)}, old, old)
    assert not _better(old | {"distortion, uniform": np.full(8, 0.6)}, old, old)


def test_better__lets_one_taxon_fall_back_but_not_behind_the_start():
    start = {name: np.full(8, 0.5) for name in MORE_IS_BETTER}
    best = start | {"precision": np.full(8, 0.6), "neighbour": np.full(8, 0.6)}
    unlucky = best | {"neighbour": np.full(8, 0.7), "precision": np.array([0.3] + [0.6] * 7)}
    assert _better(unlucky, best, start)
    assert not _better(unlucky, best, best)
    assert not _better(unlucky | {"precision": np.full(8, 0.56)}, best, start)  # All did.


@pytest.mark.filterwarnings("ignore:.* taxa share:UserWarning")
@pytest.mark.parametrize(("dtype", "tau"), [(torch.float32, 0.8), (torch.float64, 1.8)])
def test_layout_in_layers__holds_siblings_apart_where_no_coordinate_serves_all_of_them(dtype, tau):
    tax = broom(24, 60)
    plain, layers = (
        pt.layout(tax, 2, tau=tau, dtype=dtype),
        layout_in_layers(tax.tree, 2, tau, dtype, 0),
    )
    assert count_coincident(tax.tree.parent, plain.direction) == 61
    assert count_coincident(tax.tree.parent, layers.direction) <= 32
    assert layers.info["unresolved"] <= 16


def test_refine__stops_where_precision_ends():
    tax = broom(24, 60)
    start = pt.layout(tax, 2, tau=0.45, dtype=torch.float32)
    refined = refine(tax, start)
    measured = Yardstick.of(tax.tree, 256, 0)
    before, after = _means(measured(start)), _means(measured(refined))
    assert all(after[name] >= before[name] - 1e-12 for name in before)
    assert not all(proposal["kept"] for proposal in refined.info["passes"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"passes": -1}, "passes must be at least 0"),
        ({"queries": 0}, "queries at least 1"),
    ],
)
def test_refine__names_an_argument_out_of_range(arguments, message):
    tax = pt.Taxonomy.from_parents([-1, 0, 0])
    with pytest.raises(ValueError, match=message):
        refine(tax, pt.layout(tax, 3), **arguments)


def test_refine__refuses_points_of_another_taxonomy():
    tax = pt.Taxonomy.from_parents([-1, 0, 0])
    other = pt.layout(pt.Taxonomy.from_parents([-1, 0]), 3)
    with pytest.raises(ValueError, match="3 taxa need a radius of shape"):
        refine(tax, other)


def test_embed__refine_is_recorded_and_a_number_is_the_number_of_passes(tmp_path):
    tax = pt.load_sample()
    model = pt.embed(tax, 3, refine=2)
    assert model.meta["settings"]["refine"] == 2
    assert len(model.meta["layout"]["passes"]) <= 3
    model.save(tmp_path / "model")
    assert {result.status for result in pt.check(tmp_path / "model")} == {"passed"}
    with pytest.raises(ValueError, match="passes must be at least 0"):
        pt.embed(tax, 3, refine=-1)


@settings(max_examples=50, deadline=None)
@given(tax=TAXONOMIES, data=st.data())
def test_count_coincident__counts_siblings_at_the_same_place(tax, data):
    places = data.draw(st.lists(st.integers(0, 2), min_size=len(tax), max_size=len(tax)))
    direction = torch.tensor(places, dtype=torch.float64)[:, None] * torch.ones(3)
    counted = sum(
        any(
            i != j and tax.parent[i] == tax.parent[j] and places[i] == places[j]
            for j in range(len(tax))
        )
        for i in range(len(tax))
    )
    assert count_coincident(tax.tree.parent, direction) == counted


def test_count_coincident__tells_opposite_siblings_apart():
    tax = pt.Taxonomy.from_parents([-1] + [0] * 40)
    points = torch.randn(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points[20:] = -points[:20]
    points[20:, 2] = points[:20, 2]
    assert count_coincident(tax.tree.parent, torch.cat([torch.zeros(1, 3).double(), points])) == 0


def test_refine__names_what_it_does_not_do_with_branch_lengths():
    tax = pt.Taxonomy.from_parents([-1, 0, 0], branch_lengths=[0, 1, 2])
    with pytest.raises(ValueError, match="by edges, and this taxonomy has branch lengths"):
        refine(tax, pt.layout(tax, 3))
    with pytest.raises(ValueError, match="leave refinement out"):
        pt.embed(tax, 3, refine=True)
    refine(tax.without_lengths(), pt.layout(tax.without_lengths(), 3))
