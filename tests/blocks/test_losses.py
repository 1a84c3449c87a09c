"""Losses, recomputed pair by pair with loops, and their laws."""

import copy
import math
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks.cones import EntailmentConeLoss, cone_energy, entailment_cone_loss
from poincare_taxa.blocks.losses import (
    DepthMarginRankingLoss,
    SoftmaxRankingLoss,
    StressLoss,
    TripletLoss,
    margin_ranking_loss,
    softmax_ranking_loss,
    stress_loss,
    triplet_loss,
)
from poincare_taxa.blocks.margins import ConstantMargin, TreeMargin

DTYPE = torch.float64


@st.composite
def batches(draw, with_mask=True):
    """d_pos [b], d_neg [b, k], mask [b, k] (or None), margin [b, k]."""
    b, k = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    d_pos = 5 * torch.rand(b, generator=g, dtype=DTYPE)
    d_neg = 5 * torch.rand(b, k, generator=g, dtype=DTYPE)
    mask = torch.rand(b, k, generator=g) < draw(st.sampled_from([0.0, 0.5, 0.9]))
    margin = torch.rand(b, k, generator=g, dtype=DTYPE) - 0.3
    return d_pos, d_neg, (mask if with_mask and draw(st.booleans()) else None), margin


def valid(mask, i, k):
    return range(k) if mask is None else [j for j in range(k) if mask[i, j]]


def reduced(losses, counted, reduction):
    if reduction == "none":
        return torch.tensor(losses, dtype=DTYPE)
    return torch.tensor(sum(losses) / (max(counted, 1) if reduction == "mean" else 1), dtype=DTYPE)


@given(batches(), st.sampled_from(["mean", "sum", "none"]))
def test_margin_ranking__is_the_mean_hinge_over_valid_negatives(batch, reduction):
    d_pos, d_neg, mask, margin = batch
    losses, counted = [], 0
    for i in range(len(d_pos)):
        ks = valid(mask, i, d_neg.shape[1])
        hinges = [max(0.0, float(d_pos[i] - d_neg[i, k] + margin[i, k])) for k in ks]
        losses.append(sum(hinges) / len(hinges) if hinges else 0.0)
        counted += bool(hinges)
    loss = margin_ranking_loss(d_pos, d_neg, margin, mask=mask, reduction=reduction)
    torch.testing.assert_close(loss, reduced(losses, counted, reduction))


@given(batches(), st.sampled_from(["mean", "sum", "none"]), st.booleans())
def test_softmax_ranking__is_the_cross_entropy_of_the_positive(batch, reduction, weighted):
    d_pos, d_neg, mask, log_weights = batch
    losses, counted = [], 0
    for i in range(len(d_pos)):
        ks = valid(mask, i, d_neg.shape[1])
        positive = math.exp(-d_pos[i])
        weights = [math.exp(log_weights[i, k]) if weighted else 1.0 for k in ks]
        terms = [w * math.exp(-d_neg[i, k]) for w, k in zip(weights, ks, strict=True)]
        losses.append(-math.log(positive / (positive + sum(terms))))
        counted += bool(terms)
    loss = softmax_ranking_loss(
        d_pos, d_neg, mask=mask, log_weights=log_weights if weighted else None, reduction=reduction
    )
    torch.testing.assert_close(loss, reduced(losses, counted, reduction))


@given(batches(with_mask=False), st.floats(0.1, 3), st.booleans())
def test_stress__is_the_squared_relative_error(batch, tau, weighted):
    d, _, _, _ = batch
    t = torch.arange(1, len(d) + 1)
    weight = torch.arange(1, len(d) + 1, dtype=DTYPE) if weighted else None
    errors = [(float(d[i]) / (tau * (i + 1)) - 1) ** 2 for i in range(len(d))]
    weights = [i + 1 if weighted else 1 for i in range(len(d))]
    weighted_errors = [w * e for w, e in zip(weights, errors, strict=True)]
    none = stress_loss(d, t, tau=tau, weight=weight, reduction="none")
    torch.testing.assert_close(none, torch.tensor(weighted_errors, dtype=DTYPE))
    mean = stress_loss(d, t, tau=tau, weight=weight)
    assert float(mean) == pytest.approx(sum(weighted_errors) / sum(weights))
    total = stress_loss(d, t, tau=tau, weight=weight, reduction="sum")
    assert float(total) == pytest.approx(sum(weighted_errors))


@given(st.integers(0, 2**31), st.booleans(), st.floats(0.1, 3))
def test_triplet__is_the_cross_entropy_of_the_deepest_lca(seed, with_radii, temperature):
    g = torch.Generator().manual_seed(seed)
    d, r = 5 * torch.rand(2, 4, 3, generator=g, dtype=DTYPE)
    r = r if with_radii else None
    losses = []
    for i in range(4):
        pairs = [(0, 1), (0, 2), (1, 2)]
        radii = [0.0, 0.0, 0.0] if r is None else r[i].tolist()
        lca = [(radii[x] + radii[y] - float(d[i, k])) / 2 for k, (x, y) in enumerate(pairs)]
        terms = [math.exp(g / temperature) for g in lca]
        losses.append(-math.log(terms[0] / sum(terms)))
    loss = triplet_loss(d, r, temperature=temperature, reduction="none")
    torch.testing.assert_close(loss, torch.tensor(losses, dtype=DTYPE))


def test_triplet__is_small_where_the_tree_agrees_and_large_where_it_does_not():
    # anchor and near meet at radius 8, far meets both at radius 1; all lie at radius 10
    r = torch.full((1, 3), 10.0)
    right = torch.tensor([[4.0, 18.0, 18.0]])
    assert float(triplet_loss(right, r)) < 0.01
    assert float(triplet_loss(right[:, [1, 0, 2]], r)) > 5


def angle_of_the_paper(x, y):
    """Ξ(x, y) as [GBH18, eq. 28] writes it, and ψ(x) as eq. 26 does (K = 0.1)."""
    xx, yy, xy = float(x @ x), float(y @ y), float(x @ y)
    chord = math.sqrt(float((x - y) @ (x - y)))
    cosine = (xy * (1 + xx) - xx * (1 + yy)) / (
        math.sqrt(xx) * chord * math.sqrt(1 + xx * yy - 2 * xy)
    )
    return math.acos(max(-1, min(1, cosine))), math.asin(0.1 * (1 - xx) / math.sqrt(xx))


@st.composite
def points_in_cones(draw, count):
    """Points of the ball outside the inner radius, none near another."""
    dim = draw(st.integers(2, 4))
    g = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    direction = torch.randn(count, dim, generator=g, dtype=DTYPE)
    direction /= direction.norm(dim=1, keepdim=True)
    return direction * (0.2 + 0.75 * torch.rand(count, 1, generator=g, dtype=DTYPE))


@given(points_in_cones(2))
def test_cone_energy__is_that_of_the_paper(points):
    x, y = points
    angle, half = angle_of_the_paper(x, y)
    # arccos loses half of the digits near 0 and π
    assert float(cone_energy(x, y)) == pytest.approx(max(0.0, angle - half), abs=1e-6)


@given(points_in_cones(2), st.floats(0.05, 0.5))
def test_cone_energy__is_transitive_along_rays_and_zero_for_the_point_itself(points, share):
    x, y = points
    outwards = x * (1 - share * (1 - x.norm())) / x.norm()
    assert float(cone_energy(x, x)) == 0
    if outwards.norm() > x.norm():
        assert float(cone_energy(x, outwards)) == 0
        assert float(cone_energy(outwards, x)) > 3  # straight back
        if float(cone_energy(outwards, y)) == 0:  # nested cones: [GBH18, §4, property 4]
            assert float(cone_energy(x, y)) == 0


def test_entailment_cone_loss__takes_negatives_that_the_batch_shares():
    shared = CONE[:1, None].flip(2) * torch.tensor([1.0, -1.0])
    for anchor in ("ancestor", "descendant"):
        one = entailment_cone_loss(CONE, CONE, shared, anchor=anchor, margin=4.0)
        each = entailment_cone_loss(CONE, CONE, shared.expand(2, -1, -1), anchor=anchor, margin=4.0)
        assert float(one) == float(each) > 0


def test_cone_energy__opens_inside_the_inner_radius():
    origin, near, y = torch.zeros(2), torch.tensor([0.05, 0.0]), torch.tensor([[0.5, 0.6]])
    assert float(cone_energy(origin, y)) == 0
    assert float(cone_energy(near, y)) == 0
    assert float(cone_energy(near, -y)) > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cone_energy__has_finite_gradients_where_the_angle_is_0_or_pi(dtype):
    x = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.5, 0.0], [0.5, 0.0], [0.01, 0.0]], dtype=dtype)
    y = torch.tensor([[0.5, 0.1], [0.5, 0.0], [0.9, 0.0], [-0.9, 0.0], [0.0, 0.9]], dtype=dtype)
    x.requires_grad_(), y.requires_grad_()
    cone_energy(x, y).sum().backward()
    assert x.grad.isfinite().all()
    assert y.grad.isfinite().all()


@pytest.mark.parametrize("anchor", ["ancestor", "descendant"])
@given(points=points_in_cones(3 * 5), masked=st.booleans(), seed=st.integers(0, 99))
def test_entailment_cone_loss__sums_over_pairs_and_valid_negatives(points, anchor, masked, seed):
    a, v, n = points[:3], points[3:6], points[6:15].reshape(3, 3, -1)
    mask = torch.rand(3, 3, generator=torch.Generator().manual_seed(seed)) < 0.5
    losses = []
    for i in range(3):
        loss = float(cone_energy(a[i], v[i], aperture=0.2))
        for k in valid(mask if masked else None, i, 3):
            pair = (a[i], n[i, k]) if anchor == "ancestor" else (n[i, k], v[i])
            loss += max(0.0, 0.3 - float(cone_energy(*pair, aperture=0.2)))
        losses.append(loss)
    options = {"anchor": anchor, "aperture": 0.2, "margin": 0.3}
    loss = EntailmentConeLoss(**options)(a, v, n, mask=mask if masked else None)
    assert float(loss) == pytest.approx(sum(losses) / 3, abs=1e-9)


@given(batches(), st.permutations(range(4)))
def test_ranking_losses__do_not_depend_on_the_order_of_negatives(batch, order):
    d_pos, d_neg, mask, margin = batch
    order = [k for k in order if k < d_neg.shape[1]]
    shuffled = None if mask is None else mask[:, order]
    torch.testing.assert_close(
        margin_ranking_loss(d_pos, d_neg, margin, mask=mask),
        margin_ranking_loss(d_pos, d_neg[:, order], margin[:, order], mask=shuffled),
    )
    torch.testing.assert_close(
        softmax_ranking_loss(d_pos, d_neg, mask=mask),
        softmax_ranking_loss(d_pos, d_neg[:, order], mask=shuffled),
    )


@given(batches(), st.floats(0.01, 2))
def test_ranking_losses__are_nonnegative_and_grow_with_the_positive_distance(batch, further):
    d_pos, d_neg, mask, margin = batch
    for loss in (
        lambda d: margin_ranking_loss(d, d_neg, margin, mask=mask),
        lambda d: softmax_ranking_loss(d, d_neg, mask=mask),
    ):
        assert 0 <= float(loss(d_pos)) <= float(loss(d_pos + further)) + 1e-12


@given(batches(with_mask=False))
def test_margin_ranking__is_zero_once_separated(batch):
    d_pos, _, _, margin = batch
    assert float(margin_ranking_loss(d_pos, d_pos[:, None] + margin, margin)) < 1e-12


@given(st.integers(0, 99), st.floats(0.1, 3))
def test_tree_margin__is_satisfied_by_the_tree_metric_and_by_no_other_scale(seed, tau):
    g = torch.Generator().manual_seed(seed)
    near = torch.randint(1, 5, (6,), generator=g)
    far = near[:, None] + torch.randint(1, 9, (6, 3), generator=g)
    loss = DepthMarginRankingLoss(margin=TreeMargin(tau))
    assert float(loss(tau * near, tau * far, near, far)) == pytest.approx(0, abs=1e-5)
    assert float(loss(0.9 * tau * near, 0.9 * tau * far, near, far)) > 0.01 * tau


@pytest.mark.parametrize("loss", [margin_ranking_loss, softmax_ranking_loss])
def test_ranking_losses__of_a_batch_without_valid_negatives_are_zero_with_zero_gradient(loss):
    d_pos = torch.ones(2, requires_grad=True)
    d_neg = torch.ones(2, 3, requires_grad=True)
    with torch.autograd.set_detect_anomaly(True):  # no nan on the way either
        value = loss(d_pos, d_neg, mask=torch.zeros(2, 3, dtype=torch.bool))
        value.backward()
    assert float(value.detach()) == 0
    assert (d_pos.grad == 0).all()
    assert (d_neg.grad == 0).all()


@given(batches())
def test_ranking_losses__have_correct_gradients(batch):
    d_pos, d_neg, mask, log_weights = batch
    d_pos.requires_grad_(), d_neg.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda p, n: softmax_ranking_loss(p, n, mask=mask, log_weights=log_weights), (d_pos, d_neg)
    )


def test_classes__are_the_functions_with_their_settings():
    d_pos, d_neg = torch.tensor([1.0, 2.0]), torch.tensor([[1.5], [1.0]])
    near, far = torch.tensor([1, 2]), torch.tensor([[2], [3]])
    mask = torch.tensor([[True], [False]])
    assert DepthMarginRankingLoss(ConstantMargin(0.7))(
        d_pos, d_neg, near, far, mask=mask
    ) == margin_ranking_loss(d_pos, d_neg, 0.7, mask=mask)
    assert DepthMarginRankingLoss(lambda near, far: 0.1 * far, reduction="sum")(
        d_pos, d_neg, near, far
    ) == margin_ranking_loss(d_pos, d_neg, 0.1 * far, reduction="sum")
    assert SoftmaxRankingLoss(reduction="sum")(d_pos, d_neg) == softmax_ranking_loss(
        d_pos, d_neg, reduction="sum"
    )
    assert StressLoss(tau=2.0)(d_pos, near) == stress_loss(d_pos, near, tau=2.0)
    d = torch.tensor([[1.0, 2.0, 3.0]])
    assert TripletLoss(temperature=0.5)(d, d) == triplet_loss(d, d, temperature=0.5)


@pytest.mark.parametrize(
    "loss",
    [
        DepthMarginRankingLoss(TreeMargin(0.5)),
        SoftmaxRankingLoss(),
        StressLoss(2.0),
        TripletLoss(0.1),
        EntailmentConeLoss(aperture=0.2),
    ],
)
def test_classes__are_values(loss):
    assert pickle.loads(pickle.dumps(loss)) == copy.deepcopy(loss) == loss
    with pytest.raises(AttributeError):
        loss.reduction = "sum"


ONE, ROW = torch.ones(2), torch.ones(2, 3)
CONE = torch.full((2, 2), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: margin_ranking_loss(ONE, ONE), r"got \(2,\) and \(2,\)"),
        (lambda: margin_ranking_loss(ONE, ROW[:1]), r"got \(2,\) and \(1, 3\)"),
        (lambda: softmax_ranking_loss(ROW, ROW), "positives are"),
        (lambda: softmax_ranking_loss(ONE, ROW, mask=ROW[:, :1] > 0), r"mask \(2, 1\) does not"),
        (lambda: margin_ranking_loss(ONE, ROW, reduction="avg"), "reduction must be"),
        (lambda: stress_loss(ONE, ROW), "one shape"),
        (lambda: stress_loss(ONE, ONE, tau=0), "tau must be positive; got 0"),
        (lambda: triplet_loss(ROW[:, :2]), r"\[batch, 3\]; got \[\(2, 2\)\]"),
        (lambda: triplet_loss(ROW, ONE), r"\(2, 3\), \(2,\)"),
        (lambda: triplet_loss(ROW, temperature=0), "temperature must be positive"),
        (lambda: cone_energy(ONE, ONE, aperture=0), "aperture must be positive"),
        (lambda: entailment_cone_loss(CONE, CONE, CONE[:, None], anchor="root"), "anchor must be"),
        (lambda: entailment_cone_loss(CONE, CONE, CONE), r"got \(2, 2\) and \(2, 2\)"),
    ],
)
def test_losses__refuse_with_advice(call, message):
    with pytest.raises(ValueError, match=message):
        call()
