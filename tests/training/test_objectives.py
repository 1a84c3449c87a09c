"""Objectives: the terms are those of the blocks, row by row, and stages follow the curriculum."""

import pytest
import torch
from support.sampling import TREE, generator

import poincare_taxa as pt
from poincare_taxa.geometry import polar
from poincare_taxa.training.objectives import Objective, Ranking, Stress, Triplets


def points(manifold=None):
    start = pt.PoincareEmbedding(
        len(TREE), 3, initial_radius=2.0, manifold=manifold, generator=generator(1)
    )
    return start.weight


def d(x, a, b):
    """Slow and obvious: one pair."""
    x = x.detach()
    return float(polar.dist(x[a, 0], x[a, 1:], x[b, 0], x[b, 1:]))


class Fixed:
    """Draws what it is told."""

    def __init__(self, rows):
        self.rows = torch.tensor(rows)

    def sample(self, batch_size, *, generator=None):
        return self.rows


PAIRS = [[0, 3], [1, 4], [5, 7]]
NODES = torch.tensor([[10, 5], [9, -1], [3, 2]])


def ranking(loss, anchor="descendant", **options):
    def negatives(pairs, generator):
        return NODES

    negatives.anchor = anchor
    return Ranking(TREE, Fixed(PAIRS), negatives, loss, batch_size=3, steps_per_epoch=1, **options)


@pytest.mark.parametrize("anchor", ["ancestor", "descendant"])
def test_ranking__gives_the_loss_the_distances_of_its_pairs(anchor):
    x, seen = points(), {}

    @pt.blocks.needs("near", "far", "mask")
    def loss(d_pos, d_neg, near, far, mask):
        seen.update(d_pos=d_pos, d_neg=d_neg, near=near, far=far, mask=mask)
        return d_pos.sum()

    terms = ranking(loss, anchor)(x, generator())
    column = 0 if anchor == "ancestor" else 1
    for i, pair in enumerate(PAIRS):
        a = pair[column]
        assert seen["d_pos"][i].item() == pytest.approx(d(x, *pair))
        assert seen["near"][i] == TREE.tree.distance(*pair)
        for k, node in enumerate(NODES[i].tolist()):
            assert seen["mask"][i, k] == (node >= 0)
            if node >= 0:
                assert seen["d_neg"][i, k].item() == pytest.approx(d(x, a, node))
                assert seen["far"][i, k] == TREE.tree.distance(a, node)
    assert terms["ranking"].item() == pytest.approx(sum(d(x, *pair) for pair in PAIRS))


def test_ranking__gives_a_loss_that_declares_nothing_the_distances_alone():
    given = []

    def loss(*distances, **others):
        given.append((len(distances), others))
        return distances[0].mean()

    ranking(loss)(points(), generator())
    assert given == [(2, {})]


@pytest.mark.parametrize("manifold", [pt.Polar(), pt.PoincareBall(c=0.5)], ids=["polar", "ball"])
def test_stress_and_triplets__have_the_gradients_of_geometry(manifold):
    rows = pt.blocks.LCATriplets(TREE)

    def plain(x):
        a, b, c = x[rows.sample(40, generator=generator(2)).T]
        r = [x.manifold.dist0(part) for part in (a, b, c)]
        d = [x.manifold.dist(*two) for two in ((a, b), (a, c), (b, c))]
        return pt.TripletLoss()(torch.stack(d, 1), torch.stack(r, 1))

    x, y = points(manifold), points(manifold)
    Triplets(TREE, rows, pt.TripletLoss(), batch_size=40, steps_per_epoch=1)(x, generator(2))[
        "triplet"
    ].backward()
    plain(y).backward()
    torch.testing.assert_close(x.grad.to_dense(), y.grad, rtol=1e-9, atol=1e-12)

    pairs = pt.blocks.LCAPairs(TREE)
    x, y = points(manifold), points(manifold)
    Stress(TREE, pairs, pt.StressLoss(), batch_size=40, steps_per_epoch=1)(x, generator(2))[
        "stress"
    ].backward()
    u, v = pairs.sample(40, generator=generator(2)).T
    t = torch.from_numpy(TREE.tree.distance(u, v))
    pt.StressLoss()(y.manifold.dist(y[u], y[v]), t).backward()
    torch.testing.assert_close(x.grad.to_dense(), y.grad, rtol=1e-9, atol=1e-12)


def test_ranking__puts_what_is_no_negative_at_infinity_for_a_loss_without_mask():
    x = points()
    with_mask = ranking(pt.SoftmaxRankingLoss())(x, generator())["ranking"]

    def plain(d_pos, d_neg):
        return torch.log1p((d_pos[:, None] - d_neg).exp().sum(1)).mean()

    without = ranking(plain)(x, generator())["ranking"]
    assert without.item() == pytest.approx(with_mask.item())
    without.backward()
    assert x.grad.coalesce().values().isfinite().all()


@pytest.mark.parametrize("sparse", [True, False])
def test_ranking__moves_the_rows_of_the_batch_only(sparse):
    x = points()
    terms = ranking(pt.SoftmaxRankingLoss(), sparse=sparse)(x, generator())
    terms["ranking"].backward()
    assert x.grad.is_sparse == sparse
    moved = set((x.grad.to_dense() != 0).any(1).nonzero()[:, 0].tolist())
    assert moved <= {3, 4, 7, 0, 1, 5, 10, 9, 2}
    assert 6 not in moved
    assert 8 not in moved


def test_ranking__a_tile_is_the_same_as_its_nodes_for_every_pair():
    x, pairs = points(), pt.AncestorPairs(TREE)
    tile = pt.SharedNegatives(TREE, None)

    def spread(rows, generator):
        return tile(rows, generator)

    both = [
        Ranking(TREE, pairs, negatives, pt.SoftmaxRankingLoss(), batch_size=4)(x, generator(3))
        for negatives in (tile, spread)
    ]
    assert both[0]["ranking"].item() == pytest.approx(both[1]["ranking"].item(), rel=1e-9)


class OtherSoftmax(pt.SoftmaxRankingLoss):
    """Computes the same, and is not known to."""


class OtherMargin(pt.DepthMarginRankingLoss):
    """As well."""


@pytest.mark.parametrize("manifold", [pt.Polar(), pt.PoincareBall(c=0.5)], ids=["polar", "ball"])
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(
    "margin", [None, pt.ConstantMargin(0.7), pt.DepthMargin(0.1, 0.6)], ids=str
)
def test_ranking__fused_loss_is_the_loss_of_the_distances(manifold, shared, margin):
    names = (pt.SoftmaxRankingLoss, OtherSoftmax)
    losses = [loss() for loss in names]
    if margin is not None:
        losses = [loss(margin) for loss in (pt.DepthMarginRankingLoss, OtherMargin)]
    regularizer = pt.NormRegularizer(pt.LinearRadius(0.5), weight=0.1)
    weights = torch.arange(1.0, len(TREE) + 1)
    sampler = pt.SharedNegatives if shared else pt.UniformNegatives
    found = []
    for loss in losses:
        x = points(manifold)
        objective = Ranking(
            TREE,
            pt.AncestorPairs(TREE),
            sampler(TREE, 5, weights=weights),
            loss,
            regularizer=regularizer,
            batch_size=9,
        )
        assert (objective._fused(manifold, *torch.zeros(2, 1).long(), None) is not None) == (
            type(loss) in (pt.SoftmaxRankingLoss, pt.DepthMarginRankingLoss)
        )
        terms = objective(x, generator(3))
        sum(terms.values()).backward()
        found.append((terms, x.grad.to_dense()))
    (mine, by_me), (theirs, by_them) = found
    assert mine.keys() == theirs.keys() == {"ranking", "regularizer"}
    for name, term in mine.items():
        assert term.item() == pytest.approx(theirs[name].item(), rel=1e-8)
    assert torch.allclose(by_me, by_them, rtol=1e-8, atol=1e-10)


def test_ranking__a_softmax_over_a_tile_estimates_the_full_one():
    x, rows = points(), Fixed(PAIRS)
    loss = pt.SoftmaxRankingLoss(reduction="none")
    uneven = torch.arange(1.0, len(TREE) + 1)

    def odds(number, weights=None, times=1):
        """Negatives against the positive, exp(loss) - 1, in the mean over tiles: [pairs]."""
        tile = pt.SharedNegatives(TREE, number, weights=weights)
        objective = Ranking(TREE, rows, tile, loss, batch_size=3, steps_per_epoch=1)
        g = generator(5)
        found = torch.stack([objective(x, g)["ranking"].detach() for _ in range(times)]).expm1()
        return found.mean(0), found.std(0, correction=0) / times**0.5

    full, _ = odds(None)
    for weights in (None, uneven):
        mean, error = odds(4, weights, 500)
        assert ((mean - full).abs() < 5 * error).all()
        large, _ = odds(200_000, weights)
        # five standard errors, were all the sum due to the node of the smallest weight, 1 / 66
        torch.testing.assert_close(large, full, rtol=5 * (66 / 200_000) ** 0.5, atol=0)


def test_ranking__negatives_of_each_pair_have_no_weights():
    seen = []

    @pt.blocks.needs("log_weights")
    def loss(d_pos, d_neg, log_weights):
        seen.append(log_weights)
        return d_pos.mean()

    ranking(loss)(points(), generator())
    assert (seen[0] == 0).all()


def test_regularizer__acts_on_the_ends_of_the_pairs_with_the_weight_of_the_epoch():
    x = points()
    schedule = [(0, 0.5), (3, 2.0)]
    objective = ranking(pt.SoftmaxRankingLoss(), regularizer=pt.NormRegularizer(weight=schedule))
    rows = torch.tensor(PAIRS).flatten()
    error = (x.detach()[rows, 0] - torch.tensor(TREE.depth)[rows]).square().mean().item()
    for epoch, weight in ((0, 0.5), (2, 0.5), (3, 2.0)):
        objective.begin(epoch, x, generator())
        found = objective(x, generator())["regularizer"].item()
        assert found == pytest.approx(weight * error)


def test_stress_and_triplets__are_their_losses_of_the_rows_drawn():
    x = points()
    rows = Fixed(PAIRS)
    stress = Stress(TREE, rows, pt.StressLoss(tau=0.7), batch_size=3, steps_per_epoch=1)
    expected = sum((d(x, *p) / (0.7 * TREE.tree.distance(*p)) - 1) ** 2 for p in PAIRS) / 3
    assert stress(x, generator())["stress"].item() == pytest.approx(expected)
    three = Fixed([[3, 4, 7], [9, 8, 10]])
    triplets = Triplets(
        TREE, three, lambda d, r: (d[:, 1] + r[:, 2]).sum(), batch_size=2, steps_per_epoch=1
    )
    expected = d(x, 3, 7) + d(x, 9, 10) + float(x.detach()[[7, 10], 0].sum())
    assert triplets(x, generator())["triplet"].item() == pytest.approx(expected)


def test_curriculum__opens_levels_at_their_parents_and_lifts_negatives():
    x, deepest = points(), int(TREE.max_depth)
    seen = []

    @pt.blocks.needs("far")
    def loss(d_pos, d_neg, far):
        seen.append(far.max().item())
        return d_pos.mean()

    objective = Ranking(
        TREE, pt.AncestorPairs(TREE), pt.UniformNegatives(TREE, 9), loss,
        curriculum=pt.Curriculum(max_depth=[(0, 1), (1, None)]), batch_size=4,
    )  # fmt: skip
    objective.begin(0, x, generator())
    assert objective.open_depth == 1
    objective(x, generator())
    assert max(seen) <= 2
    before = x.detach().clone()
    objective.begin(1, x, generator())
    assert objective.open_depth is None
    joined = torch.tensor(TREE.depth > 1)
    assert torch.equal(x.detach()[~joined], before[~joined])
    assert not (x.detach()[joined] == before[joined]).all(1).any()
    for node in joined.nonzero()[:, 0].tolist():
        steps = [d(x, node, TREE.parent[node])]
        assert max(steps) == pytest.approx(0.3, rel=1e-6)
    assert deepest > 1


def test_objectives__fit_their_seam():
    assert isinstance(ranking(pt.SoftmaxRankingLoss()), Objective)
    assert isinstance(pt.closure.ClosureSoftmax(pt.ClosurePairs([[0, 1]])), Objective)
    assert not isinstance(lambda points, generator: {}, Objective)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ranking(pt.EntailmentConeLoss(), "ancestor"), "different anchors"),
        (
            lambda: Ranking(
                None, pt.ClosurePairs([[0, 1]]), lambda p, g: p, pt.SoftmaxRankingLoss(),
                batch_size=1, regularizer=pt.NormRegularizer(),
            ),
            "a DAG has none",
        ),
        (lambda: Stress(TREE, pt.blocks.LCAPairs(TREE), pt.StressLoss()), "say steps_per_epoch"),
        (
            lambda: Stress(
                TREE, pt.blocks.LCAPairs(TREE), pt.StressLoss(),
                curriculum=pt.Curriculum.top_down(3, TREE),
            ),
            "LCAPairs has no limits for a curriculum",
        ),
        (
            lambda: Stress(TREE, pt.blocks.LCAPairs(TREE), pt.StressLoss(), batch_size=0),
            "batch_size must be at least 1",
        ),
    ],
)  # fmt: skip
def test_objectives__refuse_arguments_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()
