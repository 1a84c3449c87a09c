"""Laws of the layout whose aim is distances."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.trees import random_phylogeny, taxonomies

from poincare_taxa.evaluation import metrics
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.codes import (
    even_code,
    extent,
    root_code,
    sparse_code,
    tight_code,
    wide_code,
)
from poincare_taxa.layouts.distances import distance_layout
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.taxonomy import Taxonomy

pytestmark = pytest.mark.filterwarnings("ignore:.* share their siblings' direction")
DTYPES = [torch.float64, torch.float32]


def balanced(arity, levels):
    n = sum(arity**i for i in range(levels + 1))
    return Taxonomy.from_parents([-1, *((i - 1) // arity for i in range(1, n))])


def distances(points):
    r, u = points.radius.double(), points.direction.double()
    return polar.cdist(r, u, r, u).numpy()


def quality(points, tree):
    """Mean distortion at the best scale, and expansion × contraction, of all pairs."""
    i, j = np.triu_indices(len(tree), 1)
    found, true = distances(points)[i, j], tree.distance(i, j)
    return metrics.distortion(found, true).each.mean(), metrics.spread(found, true)


@pytest.mark.parametrize("dtype", DTYPES)
@given(tax=taxonomies(min_size=2), dim=st.integers(2, 12), seed=st.integers(0, 9))
def test_distance_layout__radius_is_τ_times_the_distance_from_the_root_and_a_shift(
    dtype, tax, dim, seed
):
    if tax.tree.height.max() == 0:
        return
    points = distance_layout(tax, dim, dtype=dtype, seed=seed)
    shift, height = points.info["shift"], torch.tensor(tax.tree.height, dtype=torch.float64)
    assert points.radius.dtype == points.direction.dtype == dtype
    assert points.radius[0] == 0 <= shift
    expected = points.info["tau"] * height[1:] + shift
    assert torch.allclose(points.radius[1:].double(), expected, rtol=1e-6)
    length = points.direction.double().norm(dim=1)
    assert (length - 1).abs().max() <= 16 * torch.finfo(dtype).eps
    again = distance_layout(tax, dim, dtype=dtype, seed=seed)
    assert torch.equal(again.direction, points.direction)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("arity", "levels"), [(2, 6), (3, 4), (5, 3)])
def test_distance_layout__all_distances_but_those_along_an_edge_are_the_trees(dtype, arity, levels):
    tree = balanced(arity, levels).tree
    tau = 5.0 if dtype == torch.float64 else 3.0
    points = distance_layout(tree, 8, tau=tau, dtype=dtype)
    rows = np.arange(len(tree))
    true, found = tree.distance(rows[:, None], rows), distances(points)
    # An edge is longer by log(1 + 0.7²) / τ at most; terms of the order e^-τ are left out.
    excess = found / np.maximum(tau * true, 1) - 1
    assert excess[true > 0].max() < np.log1p(0.49) / tau + np.exp(-tau)
    assert excess[true > 0].min() > -4 * np.exp(-tau)
    related = tree.is_ancestor(rows[:, None], rows) | tree.is_ancestor(rows, rows[:, None])
    if arity > 2:  # The root's simplex; two children are on opposite sides, and their distance 2τ.
        assert points.info["shift"] == pytest.approx(-np.log(np.sqrt((1 + 1 / (arity - 1)) / 2)))
    assert np.abs(excess[~related]).max() < 4 * np.exp(-tau)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tax", [balanced(3, 5), balanced(12, 2), random_phylogeny(300, 1)])
def test_distance_layout__is_nearer_to_the_tree_than_the_layout_for_neighbours(dtype, tax):
    tau = (36 if dtype == torch.float64 else 16) / float(tax.tree.height.max())
    plain = quality(layout(tax, 8, tau=tau, dtype=dtype), tax.tree)
    aimed = quality(distance_layout(tax, 8, tau=0.98 * tau, dtype=dtype), tax.tree)
    assert aimed[0] < plain[0]
    if tax.branch_lengths is None:
        assert aimed[1] < plain[1]
    largest = distance_layout(tax, 8, dtype=dtype)
    assert largest.info["unresolved"] == 0
    assert quality(largest, tax.tree)[0] < aimed[0]


def test_distance_layout__measures_a_sample_of_a_large_tree():
    tax = balanced(3, 7)  # 3,280 nodes
    points = distance_layout(tax, 10, tau=4.0)
    assert points.info["growth"] == 1  # Larger or smaller families are worse.
    assert quality(points, tax.tree)[0] < 0.01


def test_distance_layout__a_root_of_many_children_and_one_of_a_single_one():
    for tax in (balanced(1, 3), balanced(300, 1), balanced(90, 2)):
        points = distance_layout(tax, 5)
        assert points.info["unresolved"] == 0
        assert metrics.spread(*(x[0, 1:] for x in (distances(points), distances(points)))) == 1
        assert quality(points, tax.tree)[1] < 2


def test_distance_layout__refuses_what_the_layout_refuses():
    tax = Taxonomy.from_parents([-1, 0, 0])
    for options, message in [
        ({"dim": 1}, "dim must be at least 2"),
        ({"dtype": torch.float16}, "dtype must be"),
        ({"tau": 1e4}, "tau must be in"),
    ]:
        with pytest.raises(ValueError, match=message):
            distance_layout(tax, **{"dim": 3, **options})
    with pytest.warns(UserWarning, match="2-D|2 coordinates"):
        distance_layout(balanced(40, 2), 2, tau=40.0, dtype=torch.float32)


@given(k=st.integers(1, 64), m=st.integers(2, 9))
def test_wide_code__is_no_wider_than_the_tight_one_and_separated(k, m):
    code = wide_code(k, m)
    assert extent(code) <= extent(tight_code(k, m)) * (1 + 1e-12)
    gaps = np.linalg.norm(code[:, None] - code, axis=-1)[~np.eye(k, dtype=bool)]
    assert k == 1 or gaps.min() > 1 - 1e-9


@given(k=st.integers(1, 40), m=st.integers(1, 9), centred=st.booleans())
def test_even_code__is_a_sparse_code_whose_points_are_equally_far(k, m, centred):
    code, sparse = even_code(k, m, centred), sparse_code(k, m, centred)
    assert code.shape == (k, m)
    assert extent(code) == pytest.approx(extent(sparse))
    assert np.count_nonzero(code) == np.count_nonzero(sparse)
    assert not centred or (code[0] == 0).all() or m == 1
    around = code[1:] if centred else code
    if 1 < len(around) <= 2 * m and m > 2:
        gaps = np.linalg.norm(around[:, None] - around, axis=-1)[~np.eye(len(around), dtype=bool)]
        nearest = np.sqrt(2) if centred else 1
        # Two opposite points for each one beyond the number of axes.
        assert (gaps > 1.01 * nearest).sum() == 2 * max(len(around) - m, 0)
        assert gaps.min() == pytest.approx(nearest)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("arity", "levels"), [(4, 4), (5, 4), (7, 3)])
def test_distance_layout__at_the_largest_radius_only_edges_differ_from_the_tree(
    dtype, arity, levels
):
    tree = balanced(arity, levels).tree
    points = distance_layout(tree, 10, dtype=dtype)
    rows = np.arange(len(tree))
    true, found = tree.distance(rows[:, None], rows), distances(points)
    related = tree.is_ancestor(rows[:, None], rows) | tree.is_ancestor(rows, rows[:, None])
    tau = points.info["tau"]
    assert tau * levels > (300 if dtype == torch.float64 else 70)
    # Sparse codes have the extent √.5, a little more than the largest: siblings are nearer by
    # 2 log(.7 / √.5), and coordinates hold an offset to 1 part in 8.
    near = 2 * np.log(0.7 / np.sqrt(0.5)) - 2 * np.log1p(1 / 8)
    error = found - tau * true
    assert error[~related].min() > near
    assert error[~related].max() < 2 * np.log1p(1 / 8)
    assert error[related].max() < np.log1p(0.49) + 2 * np.log1p(1 / 8)


@given(k=st.integers(1, 64), d=st.integers(2, 9))
def test_root_code__are_unit_vectors_as_far_apart_as_a_simplex_or_axes(k, d):
    code = root_code(k, d)
    assert np.allclose(np.linalg.norm(code, axis=1), 1)
    if 1 < k <= 2 * d:
        cosine = (code @ code.T)[~np.eye(k, dtype=bool)]
        assert cosine.max() <= (-1 / (k - 1) if k <= d + 1 else 0) + 1e-9 or d == 2
