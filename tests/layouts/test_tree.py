"""Laws of the constructive layout."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr
from support.trees import phylogenies, random_phylogeny, taxonomies

from poincare_taxa.evaluation import metrics
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.tree import layout
from poincare_taxa.readers import load_sample
from poincare_taxa.taxonomy.taxonomy import Taxonomy

# float32 in two dimensions is soon full; what that costs is said, and tested on its own.
pytestmark = pytest.mark.filterwarnings("ignore:.* share their siblings' direction")

DTYPES = [torch.float64, torch.float32]
BY_EDGES = taxonomies(min_size=2).map(lambda tax: tax.without_lengths())


def comb(levels):
    """A path with a leaf at every node: a tree that branches on every level."""
    parent = [-1]
    spine = 0
    for _ in range(levels):
        parent += [spine, spine]
        spine = len(parent) - 1
    return Taxonomy.from_parents(parent)


def random_tree(n, seed):
    rng = np.random.default_rng(seed)
    return Taxonomy.from_parents([-1, *(int(rng.integers(0, i)) for i in range(1, n))])


def balanced(arity, levels):
    n = sum(arity**i for i in range(levels + 1))
    return Taxonomy.from_parents([-1, *((i - 1) // arity for i in range(1, n))])


@pytest.mark.parametrize("dtype", DTYPES)
@given(tax=BY_EDGES, dim=st.integers(2, 12), seed=st.integers(0, 9))
def test_layout__radius_is_a_strictly_increasing_function_of_depth(dtype, tax, dim, seed):
    points = layout(tax, dim, dtype=dtype, seed=seed)
    radius, depth = points.radius.numpy(), tax.depth
    assert radius.dtype == points.direction.numpy().dtype
    per_level = [np.unique(radius[depth == d]) for d in range(tax.max_depth + 1)]
    assert all(len(values) == 1 for values in per_level)
    assert per_level[0] == 0
    assert (np.diff(np.concatenate(per_level)) > 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(tax=taxonomies(), dim=st.integers(2, 12), seed=st.integers(0, 9))
def test_layout__directions_are_unit_vectors(dtype, tax, dim, seed):
    direction = layout(tax, dim, dtype=dtype, seed=seed).direction.double()
    # 16 eps is where an addition is replaced by a normalised turn, at every one of ≤ 40 levels.
    assert ((direction**2).sum(1) - 1).abs().max() <= 17 * torch.finfo(dtype).eps


@given(tax=BY_EDGES, dim=st.integers(3, 10))
def test_layout__every_node_has_a_place_of_its_own(tax, dim):
    points = layout(tax, dim)
    assert points.info["unresolved"] == 0
    d = polar.cdist(points.radius, points.direction, points.radius, points.direction)
    assert (d + torch.eye(len(tax))).min() > 0.01


@given(tax=BY_EDGES, dim=st.integers(4, 10))
def test_layout__ranks_the_ancestors_of_every_node_first(tax, dim):
    points = layout(tax, dim)
    nodes = np.arange(len(tax))
    score = polar.all_ancestor_scores(
        points.radius, points.direction, points.radius, points.direction
    ).numpy()
    for v in nodes:
        above = np.isin(nodes, tax.tree.ancestors(v))
        others = ~above & (nodes != v)
        if above.any() and others.any():
            assert score[v, above].max() < score[v, others].min()


def test_layout__only_children_keep_their_parents_direction_bit_for_bit():
    tax = Taxonomy.from_parents([-1, 0, 0, 1, 3, 4, 2])
    direction = layout(tax, 6).direction
    for v in range(1, len(tax)):
        if tax.num_children[tax.parent[v]] == 1:
            assert torch.equal(direction[v], direction[tax.parent[v]])


@pytest.mark.parametrize("dtype", DTYPES)
def test_layout__same_seed_same_bits_other_seed_other_vectors(dtype):
    tax = random_tree(500, 1)
    first, again, other = (layout(tax, 5, dtype=dtype, seed=s).direction for s in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("dim", [3, 5, 10])
@pytest.mark.parametrize("dtype", DTYPES)
def test_layout__distance_follows_tree_distance(dim, dtype):
    tax = random_tree(800, 2)
    points = layout(tax, dim, dtype=dtype)
    nodes = np.arange(len(tax))
    tree = tax.tree.distance(nodes[:, None], nodes[None, :])
    distance = polar.cdist(points.radius, points.direction, points.radius, points.direction)
    off = ~np.eye(len(tax), dtype=bool)
    assert spearmanr(distance.numpy()[off], tree[off])[0] > 0.98


def test_layout__a_full_tree_is_embedded_with_small_distortion():
    tax = balanced(3, 6)
    points = layout(tax, 10)
    rng = np.random.default_rng(0)
    u, v = rng.integers(0, len(tax), (2, 4000))
    u, v = u[u != v], v[u != v]
    distance = polar.dist(
        points.radius[u], points.direction[u], points.radius[v], points.direction[v]
    )
    ratio = distance.numpy() / (points.info["tau"] * tax.tree.distance(u, v))
    assert 0.75 < ratio.min() <= ratio.max() < 1.35


@pytest.mark.parametrize(
    ("dtype", "dim", "levels"), [(torch.float64, 4, 130), (torch.float32, 10, 70)]
)
def test_layout__resolves_more_levels_than_one_mantissa_holds(dtype, dim, levels):
    """τ per level over all levels is far more than ln(1/eps); no two siblings coincide."""
    points = layout(comb(levels), dim, dtype=dtype)
    span = points.info["tau"] * levels
    assert span > 2 * -np.log(torch.finfo(dtype).eps)
    assert points.info["unresolved"] == 0


def random_deep_tree(n):
    """About n / 6 levels, branching everywhere."""
    rng = np.random.default_rng(0)
    return Taxonomy.from_parents([-1, *(int(max(0, i - rng.integers(1, 12))) for i in range(1, n))])


@pytest.mark.parametrize(
    ("n", "dim", "tau", "message"),
    [
        (300, 2, 1.5, "share their siblings' direction"),
        (3000, 4, None, "nearest neighbours will be less accurate"),
    ],
)
def test_layout__says_so_where_a_tree_is_too_deep_and_stays_finite(n, dim, tau, message):
    tax = random_deep_tree(n)
    with pytest.warns(UserWarning, match=message):
        points = layout(tax, dim, tau=tau, dtype=torch.float32)
    assert torch.isfinite(points.direction).all()
    assert (torch.diff(points.radius[torch.from_numpy(np.argsort(tax.depth))]) >= 0).all()


def test_layout__takes_a_path_of_many_levels():
    n = 20_000
    with pytest.warns(UserWarning, match="20000 levels|19999 levels"):
        points = layout(Taxonomy.from_parents(np.arange(-1, n - 1)), 3)
    assert (torch.diff(points.radius) > 0).all()
    assert (points.direction == points.direction[0]).all()


def test_layout__takes_a_star_and_a_single_node():
    star = layout(Taxonomy.from_parents([-1] + [0] * 3000), 10)
    assert len(torch.unique(star.direction[1:], dim=0)) == 3000
    one = layout(Taxonomy.from_parents([-1]), 3)
    assert one.radius.tolist() == [0.0]
    assert one.direction.norm(dim=1).tolist() == [1.0]


def test_layout__of_the_sample_uses_the_given_tau():
    tax = load_sample("mammals")
    points = layout(tax, 10, tau=0.5)
    assert points.info == {"tau": 0.5, "unresolved": 0}
    np.testing.assert_allclose(points.radius.numpy(), 0.5 * tax.depth)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 1}, "dim must be at least 2, got 1"),
        ({"dtype": torch.float16}, r"dtype must be torch\.float64 or torch\.float32"),
        ({"tau": 0.0}, r"tau must be in \(0, 80\] for a tree 4 levels deep .* got 0\.0"),
        ({"tau": 81.0}, r"got 81\.0"),
    ],
)
def test_layout__names_a_bad_argument(options, message):
    with pytest.raises(ValueError, match=message):
        layout(comb(4), **options)


def test_layout__of_a_tree_is_that_of_its_taxonomy():
    tax = load_sample()
    for mine, theirs in zip(layout(tax.tree, 4)[:2], layout(tax, 4)[:2], strict=True):
        assert mine.equal(theirs)


# -------------------------------------------------------------------- branch lengths


@given(phylogenies(), st.integers(2, 6), st.sampled_from(DTYPES))
def test_lengths__radius_is_tau_times_the_distance_from_the_root(tax, dim, dtype):
    if tax.tree.height.max() == 0:
        with pytest.raises(ValueError, match="all branch lengths are 0"):
            layout(tax, dim, dtype=dtype)
        return
    points = layout(tax, dim, dtype=dtype)
    assert points.info["lengths"] is True
    tau = points.info["tau"]
    assert torch.equal(points.radius, tau * torch.tensor(tax.tree.height, dtype=dtype))
    assert points.radius.max() <= {torch.float64: 320, torch.float32: 80}[dtype] * (1 + 1e-6)
    error = ((points.direction.double() ** 2).sum(1) - 1).abs().max()
    assert error <= 17 * torch.finfo(dtype).eps
    # On an edge of length 0 a leaf is at its parent's point, as it is in the tree.
    same = np.flatnonzero((np.diff(tax.tree.height, prepend=-1) == 0) & (tax.num_children == 0))
    same = same[tax.tree.height[same] == tax.tree.height[tax.parent[same]]]
    assert torch.equal(points.direction[same], points.direction[tax.parent[same]])


@given(phylogenies(), st.integers(-20, 20))
def test_lengths__a_unit_changes_tau_and_nothing_else(tax, power):
    if tax.tree.height.max() == 0:
        return
    scaled = Taxonomy.from_parents(tax.parent, branch_lengths=2.0**power * tax.branch_lengths)
    points, again = layout(tax, 4), layout(scaled, 4)
    assert again.info["tau"] == points.info["tau"] / 2.0**power
    assert torch.equal(again.radius, points.radius)
    assert torch.equal(again.direction, points.direction)


@given(taxonomies(min_size=2))
def test_lengths__without_them_the_layout_counts_edges(tax):
    points, edges = layout(tax.without_lengths(), 3), layout(Taxonomy.from_parents(tax.parent), 3)
    assert torch.equal(points.radius, edges.radius)
    assert torch.equal(points.direction, edges.direction)
    assert points.info == edges.info
    assert "lengths" not in points.info


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("dtype", "mean", "worst"), [(torch.float64, 0.005, 2.5), (torch.float32, 0.02, 8.0)]
)
def test_lengths__distances_of_leaves_are_patristic(seed, dtype, mean, worst):
    """A tenth of the edges is nearly 0; a layout by edges is far from all this."""
    tax = random_phylogeny(200, seed)
    leaves = tax.tree.leaf_rows.copy()
    i, j = np.triu_indices(len(leaves), 1)
    true = tax.tree.distance(leaves[i], leaves[j])

    def measured(points):
        radius, direction = points.radius[leaves].double(), points.direction[leaves].double()
        d = polar.cdist(radius, direction, radius, direction).numpy()[i, j]
        return metrics.distortion(d, true).each.mean(), metrics.spread(d, true)

    found, by_edges = (
        measured(layout(one, 10, dtype=dtype)) for one in (tax, tax.without_lengths())
    )
    assert found[0] < mean < 0.1 < by_edges[0]
    assert found[1] < worst < 50 < by_edges[1]


def test_lengths__the_largest_tau_is_that_of_the_height():
    tax = Taxonomy.from_parents([-1, 0, 0, 1], branch_lengths=[0, 2, 0.5, 2])
    with pytest.raises(ValueError, match=r"\(0, 80\] for a tree of height 4 by branch lengths"):
        layout(tax, 3, tau=81.0)
    assert layout(tax, 3, tau=9.0).radius.tolist() == [0, 18, 36, 4.5]
