"""Schedules, and growing down the tree."""

import geoopt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.sampling import TREE, ancestors, descendants, generator
from support.trees import taxonomies

from poincare_taxa.blocks.curriculum import Curriculum, balanced_depths, join_at_parent, lift
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.negatives import UniformNegatives
from poincare_taxa.blocks.pairs import AncestorPairs, StratifiedPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.geometry import ball, convert
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@given(taxonomies(min_size=2), st.integers(1, 60))
def test_curricula__open_up_and_end_with_everything(tax, epochs):
    for curriculum in (Curriculum.progressive(epochs, tax), Curriculum.top_down(epochs, tax)):
        limits = [min(s or 99 for s in curriculum.at(epoch)) for epoch in range(epochs)]
        assert limits == sorted(limits)
        assert curriculum.at(epochs - 1) == (None, None)
        for epoch in range(epochs):  # every stage leaves pairs to train on
            assert len(AncestorPairs(tax).limit(**curriculum.at(epoch)._asdict())) > 0


def test_progressive__gives_the_stated_shares_of_the_epochs():
    path = Taxonomy.from_parents(range(-1, 40))
    gaps = [Curriculum.progressive(100, path).at(epoch).max_gap for epoch in range(100)]
    assert gaps == [1] * 20 + [10] * 20 + [20] * 20 + [None] * 40


def test_top_down__opens_one_level_after_the_other():
    path = Taxonomy.from_parents(range(-1, 6))
    depths = [Curriculum.top_down(18, path).at(epoch).max_depth for epoch in range(18)]
    assert depths == [d for d in (1, 2, 3, 4, 5) for _ in range(2)] + [None] * 8


def test_curriculum__takes_schedules_as_data_and_refuses_others():
    curriculum = Curriculum(max_gap=[(0, 1), (20, 3), (50, None)])
    assert [curriculum.at(e).max_gap for e in (0, 19, 20, 50)] == [1, 1, 3, None]
    with pytest.raises(ValueError, match="ascending epochs"):
        Curriculum(max_depth=[(3, 1)])


def test_balanced_depths__draw_every_depth_equally_often():
    pairs = StratifiedPairs(TREE, balanced_depths(TREE), by="depth").sample(
        9000, generator=generator()
    )
    counts = torch.bincount(torch.tensor(TREE.depth)[pairs[:, 1]])
    assert counts.tolist() == pytest.approx([0, 3000, 3000, 3000], abs=200)


@given(taxonomies(min_size=2), st.integers(0, 5), st.integers(0, 99))
def test_lift__gives_ancestors_at_most_so_deep_and_never_a_relative(tax, depth, seed):
    tree = TreeIndex(tax)
    every = torch.arange(-1, len(tax))
    for node, lifted in zip(every.tolist(), lift(every, tree, depth).tolist(), strict=True):
        if node >= 0:
            assert lifted in ancestors(tax, node) | {node}
            assert tax.depth[lifted] == min(tax.depth[node], depth)
        else:
            assert lifted == -1
    if depth == 0:
        return
    pairs = AncestorPairs(tree).limit(max_depth=depth).sample(20, generator=generator(seed))
    negatives = lift(UniformNegatives(tree, 4)(pairs, generator(seed)), tree, depth)
    for (_, v), row in zip(pairs.tolist(), negatives.tolist(), strict=True):
        assert not (ancestors(tax, v) | descendants(tax, v) | {v}) & set(row)


@pytest.mark.parametrize(
    "manifold", [Polar(), PoincareBall(), PoincareBall(0.25), PoincareBall(4.0), PoincareBall(1e-8)]
)
@given(tax=taxonomies(min_size=2, max_size=15), seed=st.integers(0, 99), step=st.floats(1e-3, 2.0))
def test_join_at_parent__places_children_a_step_from_their_parents(manifold, tax, seed, step):
    embedding = PoincareEmbedding(
        len(tax), 3, manifold=manifold, initial_radius=2.0, generator=generator(seed)
    )
    depth = 1 + seed % tax.max_depth
    before = embedding.weight.detach().clone()
    joined = join_at_parent(
        embedding.weight, TreeIndex(tax), depth, step=step, generator=generator(seed)
    )
    assert joined.tolist() == [v for v in range(len(tax)) if tax.depth[v] == depth]
    parents = torch.tensor(tax.parent)[joined]
    distance = embedding.dist(joined, parents).detach()
    torch.testing.assert_close(distance, torch.full_like(distance, step), rtol=1e-6, atol=1e-9)
    rest = [v for v in range(len(tax)) if tax.depth[v] != depth]
    assert torch.equal(embedding.weight.detach()[rest], before[rest])


def test_join_at_parent__spreads_the_children_of_a_root_at_the_origin():
    star = TreeIndex(Taxonomy.from_parents([-1] + [0] * 500))
    embedding = PoincareEmbedding(501, 2)
    with torch.no_grad():
        embedding.weight[0, 0] = 0.0  # the radius
    for points, to_polar in (
        (torch.zeros(501, 2), convert.ball_to_polar),
        (embedding.weight, embedding.manifold.to_polar),
    ):
        join_at_parent(points, star, 1, step=0.5, generator=generator())
        radius, around = to_polar(points.detach()[1:])
        torch.testing.assert_close(radius, torch.full_like(radius, 0.5), rtol=1e-6, atol=0)
        # the mean of 500 unit vectors, and how far their second moments are from even
        assert float(around.mean(0).norm()) < 0.15
        assert float((around.T @ around / 500 - torch.eye(2) / 2).abs().max()) < 0.1


def test_join_at_parent__works_on_a_plain_table_in_the_ball():
    tree = TreeIndex(TREE)
    points = torch.nn.Parameter(0.3 * torch.rand(len(TREE), 4, generator=generator()).double())
    for depth in (1, 2, 3):
        join_at_parent(points, tree, depth, step=0.25, generator=generator(depth))
    nodes = torch.arange(1, len(TREE))
    distance = ball.dist(points.detach()[nodes], points.detach()[tree.parent[nodes]])
    torch.testing.assert_close(distance, torch.full_like(distance, 0.25), rtol=1e-9, atol=0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, t: join_at_parent(p, t, 0), "depth must be in 1…3; got 0"),
        (lambda p, t: join_at_parent(p, t, 4), "depth must be in 1…3; got 4"),
        (lambda p, t: join_at_parent(p, t, 1, step=0), "step must be positive; got 0"),
        (lambda p, t: join_at_parent(p[1:], t, 1), "10 points for 11 nodes"),
    ],
)
def test_join_at_parent__refuses_with_advice(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.zeros(len(TREE), 2), TreeIndex(TREE))


def test_join_at_parent__refuses_a_manifold_without_polar_coordinates():
    points = geoopt.ManifoldParameter(torch.zeros(len(TREE), 3), manifold=geoopt.Euclidean())
    with pytest.raises(ValueError, match="no to_polar"):
        join_at_parent(points, TreeIndex(TREE), 1)
