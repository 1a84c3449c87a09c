"""Blocks are printed as what they are, with their settings."""

from functools import partial

import pytest
import torch
from support.zoo import zoo

import poincare_taxa as pt
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.taxonomy.taxonomy import Taxonomy

TAX = zoo()
DAG = pt.ClosurePairs([[0, 1], [1, 2], [0, 2]])

# Two of each that differ in one setting.
BLOCKS = [
    (partial(pt.AncestorPairs, TAX), {"max_gap": 2}, {"max_gap": 3}),
    (partial(pt.StratifiedPairs, TAX), {"shares": {1: 0.5, 2: 0.5}}, {"shares": {1: 0.5, 3: 0.5}}),
    (partial(pt.MixedPairs, [pt.AncestorPairs(TAX)]), {"shares": [1]}, {"shares": [2]}),
    (pt.blocks.LCAPairs, {"taxonomy": TAX}, {"taxonomy": Taxonomy.from_parents([-1, 0])}),
    (pt.blocks.LCATriplets, {"taxonomy": TAX}, {"taxonomy": Taxonomy.from_parents([-1, 0, 1, 1])}),
    (partial(pt.ClosurePairs, [[0, 1], [0, 2]]), {}, {"weights": [1.0, 2.0]}),
    (partial(pt.UniformNegatives, TAX), {"num_negatives": 5}, {"num_negatives": 6}),
    (partial(pt.SameDepthNegatives, TAX, 5), {"anchor": "ancestor"}, {"anchor": "descendant"}),
    (partial(pt.CousinNegatives, TAX, 5), {"levels": 1}, {"levels": 2}),
    (partial(pt.SharedNegatives, TAX, 5), {"weights": None}, {"weights": [1.0] * len(TAX)}),
    (
        pt.MixedNegatives,
        {"samplers": [pt.UniformNegatives(TAX, 5)]},
        {"samplers": [pt.UniformNegatives(TAX, 6)]},
    ),
    (pt.DepthMarginRankingLoss, {"margin": pt.TreeMargin(1.0)}, {"margin": pt.TreeMargin(2.0)}),
    (pt.SoftmaxRankingLoss, {"reduction": "mean"}, {"reduction": "sum"}),
    (pt.StressLoss, {"tau": 1.0}, {"tau": 2.0}),
    (pt.TripletLoss, {"temperature": 1.0}, {"temperature": 2.0}),
    (pt.EntailmentConeLoss, {"aperture": 0.1}, {"aperture": 0.2}),
    (pt.DepthMargin, {"slope": 0.1}, {"slope": 0.2}),
    (pt.NormRegularizer, {"target": pt.LinearRadius(1.0)}, {"target": pt.LinearRadius(2.0)}),
    (pt.blocks.Cosine, {"period": 5}, {"period": 6}),
    (pt.PoincareBall, {"c": 1.0}, {"c": 2.0}),
    (
        partial(pt.PoincareEmbedding, 5, 3),
        {"manifold": pt.Polar()},
        {"manifold": pt.PoincareBall()},
    ),
    (partial(pt.TaxonHead, TAX, 8), {"geometry": "linear"}, {"geometry": "hyperbolic"}),
    (pt.blocks.TreeIndex, {"taxonomy": TAX}, {"taxonomy": Taxonomy.from_parents([-1, 0])}),
    (pt.EarlyStopping, {"metric": "loss"}, {"metric": "spearman"}),
    (partial(pt.training.LevelStress, TAX), {"tau": 1.0}, {"tau": 2.0}),
    (partial(ClosureSoftmax, DAG), {"temperature": 1.0}, {"temperature": 2.0}),
    (
        partial(pt.training.Ranking, TAX, pt.AncestorPairs(TAX), pt.UniformNegatives(TAX, 5)),
        {"loss": pt.SoftmaxRankingLoss()},
        {"loss": pt.SoftmaxRankingLoss(reduction="sum")},
    ),
]


def name_of(make):
    return getattr(make, "func", make).__name__


@pytest.mark.parametrize(("make", "one", "other"), BLOCKS, ids=[name_of(b[0]) for b in BLOCKS])
def test_repr__is_the_class_with_its_settings(make, one, other):
    shown = repr(make(**one))
    assert shown.startswith(name_of(make))
    assert " at 0x" not in shown
    assert shown == repr(make(**one))
    assert shown != repr(make(**other))
    assert len(shown) < 1000


def test_repr__of_a_projection_has_its_counts():
    x = torch.nn.Parameter(torch.zeros(3, 2))
    optimizer = torch.optim.SGD([x], lr=1.0)
    handle = pt.project_after_step(optimizer, x)
    x.grad = torch.tensor([[-2.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    optimizer.step()
    assert repr(handle) == "ProjectionHandle(1 of 3 rows brought back in 1 steps)"
