"""Points of one's own as queries: the same neighbours in every coordinate system."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa import kernels
from poincare_taxa.geometry import convert
from poincare_taxa.model.model import embed
from poincare_taxa.model.points import polar_of
from poincare_taxa.readers import load_sample

TAX = load_sample("mammals").subtree("Felidae")


def given_in(coordinates, radius, direction):
    """Points in each of the coordinates that `nearest` takes."""
    return {
        "ball": lambda: convert.polar_to_ball(radius, direction),
        "tangent": lambda: radius[:, None] * direction,
        "polar": lambda: (radius, direction),
        "lorentz": lambda: convert.polar_to_lorentz(radius, direction),
    }[coordinates]()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("coordinates", ["ball", "tangent", "polar", "lorentz"])
def test_nearest__of_the_point_of_a_taxon_is_the_taxon(coordinates, dtype):
    model = embed(TAX, dim=4, dtype=dtype)
    rows = TAX.rows(["Felidae", "Panthera", "Felis"])
    points = given_in(coordinates, model.radius[rows].double(), model.direction[rows].double())
    found = model.nearest(point=points, coordinates=coordinates, k=1)
    assert found["query"].to_list() == [0, 1, 2]
    assert found["id"].to_list() == [TAX.ids[int(row)] for row in rows]
    assert found["distance"].to_numpy() == pytest.approx(0, abs=1e-4)
    assert found.columns == ["query", "id", "name", "taxon_rank", "distance"]


@given(taxonomies(min_size=4), st.integers(0, 2**32 - 1))
def test_nearest__of_points_are_the_neighbours_of_the_taxa_there_but_for_themselves(tax, seed):
    model = embed(tax, dim=3)
    row = np.random.default_rng(seed).integers(len(tax))
    point = model.radius[row], model.direction[row]
    found = model.nearest(point=point, coordinates="polar", k=len(tax))
    assert sorted(found["id"], key=str) == sorted(tax.ids, key=str)
    mine = model.nearest(tax.ids[row], k=len(tax))
    others = found.filter(found["id"] != tax.ids[row])
    assert others["distance"].to_list() == mine["distance"].to_list()


def test_nearest__of_one_point_has_no_query_column_and_keeps_the_rank():
    model = embed(TAX, dim=3)
    origin = np.zeros(3)
    assert model.nearest(point=origin, k=1)["id"].to_list() == [TAX.ids[0]]
    found = model.nearest(point=origin.tolist(), taxon_rank="genus", k=2)
    assert set(found["taxon_rank"]) == {"genus"}
    table = torch.cat((model.radius[:2, None], model.direction[:2]), dim=1)
    assert model.nearest(point=table, coordinates="polar", k=1)["query"].to_list() == [0, 1]


@pytest.mark.parametrize(
    ("point", "coordinates", "why"),
    [
        ([0.5, 0.0], "ball", r"shape \[3\], several have \[q, 3\]; got \[2\]"),
        ([0.5, 0.0, 0.0], "lorentz", r"shape \[4\]"),
        ([1.5, 0.0, 0.0], "ball", "outside the ball; tangent vectors, .* coordinates='tangent'"),
        ([[0.0, 0.0, 0.0], [0.0, np.nan, 0.0]], "tangent", "point 1 is not finite"),
        ([1.0, 0.5, 0.0, 0.0], "polar", "not a radius of at least 0, followed by a unit vector"),
        ([-1.0, 1.0, 0.0, 0.0], "polar", "not a radius of at least 0"),
        ([2.0, 0.0, 0.0, 0.0], "lorentz", "not on the hyperboloid"),
        ([-1.0, 0.0, 0.0, 0.0], "lorentz", "not on the hyperboloid"),
        ([0.0, 0.0, 0.0], "klein", "coordinates are 'ball'"),
    ],
)
def test_points__that_are_none_of_the_space_are_refused(point, coordinates, why):
    with pytest.raises(ValueError, match=why):
        polar_of(point, coordinates, 3)


def test_nearest__takes_floats_as_points_only():
    model = embed(TAX, dim=3)
    for floats in (np.zeros(3), torch.zeros(2, 3), [0.1, 0.2, 0.3], 0.5):
        with pytest.raises(TypeError, match=r"a key is an id .*nearest\(point=…\)"):
            model.nearest(floats)
    with pytest.raises(ValueError, match="give keys, or point"):
        model.nearest()
    with pytest.raises(ValueError, match="give keys, or point"):
        model.nearest(TAX.ids[0], point=np.zeros(3))


def test_distance__of_all_pairs_is_as_its_message_advises():
    model = embed(TAX, dim=3)
    a, b = TAX.ids[:2].to_list(), TAX.ids[:3].to_list()
    with pytest.raises(ValueError, match="2 and 3 keys make no pairs"):
        model.distance(a, b)
    r, u, i, j = model.radius, model.direction, TAX.rows(a), TAX.rows(b)
    found = kernels.cdist((r[i], u[i]), (r[j], u[j]), manifold="polar")
    expected = [[model.distance(one, other) for other in b] for one in a]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
