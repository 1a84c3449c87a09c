"""Closure MAP and mean rank against the definition, one node at a time."""

import numpy as np
import pytest
import torch
from oracles import metrics as oracle
from support.realdata import real_data

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.layout import closure_layout
from poincare_taxa.closure.ranking import rank_ancestors
from poincare_taxa.evaluation.ranks import rank_statistics
from poincare_taxa.geometry import polar


def slowly(pairs, radius, direction):
    d = polar.cdist(radius, direction, radius, direction).numpy()
    ancestor, descendant = pairs.pairs.numpy().T
    found = []
    for v in np.unique(descendant).tolist():
        nearer, tied = oracle.counts(d[v], ancestor[descendant == v], v)
        there = np.ones((1, len(nearer)), bool)
        found.append(rank_statistics(np.array([nearer]), np.array([tied]), there))
    mean_rank = sum(float(ranks.rank_sum[0]) for ranks in found) / len(pairs)
    return [float(ranks.average_precision[0]) for ranks in found], mean_rank


@pytest.mark.filterwarnings("ignore:.*follow from these:UserWarning")  # any pairs can be ranked
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("grid", [False, True])
def test_ranking__is_the_definition_with_and_without_ties(seed, grid):
    rng = np.random.default_rng(seed)
    upper = np.argwhere(np.triu(rng.random((30, 30)) < 0.3, 1))
    pairs = ClosurePairs(rng.permutation(upper), num_nodes=31)
    generator = torch.Generator().manual_seed(seed)
    radius = torch.rand(31, generator=generator, dtype=torch.float64) + 0.5
    angle = torch.rand(31, generator=generator, dtype=torch.float64) * 6
    if grid:  # a quarter turn and one radius: distances tie exactly
        radius, angle = torch.ones(31, dtype=torch.float64), (angle * 4 / 6).floor()
        direction = torch.eye(4, dtype=torch.float64)[angle.long()]
    else:
        direction = torch.stack((angle.cos(), angle.sin()), 1)
    average, mean_rank = slowly(pairs, radius, direction)
    found = rank_ancestors(pairs, radius, direction)
    np.testing.assert_allclose(found.average_precision, average, rtol=1e-12)
    assert found.mean_rank == pytest.approx(mean_rank, rel=1e-12)
    assert found.mean_average_precision == pytest.approx(np.mean(average), rel=1e-12)
    assert (found.nodes == np.unique(upper[:, 1])).all()


@pytest.mark.parametrize("damage", [torch.nan, torch.inf, -1.0])
def test_ranking__lost_points_have_the_worst_place(damage):
    """All lost: each ancestor comes after all nodes that are none; some lost: no node gains."""
    pairs = ClosurePairs([(0, 1), (1, 2), (0, 2), (0, 3), (0, 4), (3, 4)])
    radius, direction, _ = closure_layout(pairs)
    found = rank_ancestors(pairs, torch.full_like(radius, damage), direction)
    # One ancestor among four candidates is fourth; two are third and fourth.
    assert found.average_precision == pytest.approx([1 / 4, (1 / 3 + 2 / 4) / 2] * 2)
    assert found.mean_rank == pytest.approx((2 * 4 + 4 * 3) / 6)
    for node in range(5):
        hurt = radius.clone()
        hurt[node] = damage
        some = rank_ancestors(pairs, hurt, direction)
        assert some.mean_average_precision < 1
        assert some.mean_rank > 1
        assert (some.average_precision <= 1).all()
        if node:
            assert some.average_precision[node - 1] == found.average_precision[node - 1]


def test_ranking__refuses_points_of_other_nodes():
    with pytest.raises(ValueError, match="2 points for 3 nodes"):
        rank_ancestors(ClosurePairs([(0, 1), (1, 2)]), torch.zeros(2), torch.ones(2, 1))


def test_wordnet_mammals__rank_nearly_perfectly_in_two_dimensions():
    pairs = ClosurePairs.read_csv(real_data("wordnet30_nouns/mammal_closure.csv.gz"))
    radius, direction, _ = closure_layout(pairs)
    found = rank_ancestors(pairs, radius, direction)
    assert found.mean_average_precision > 0.998
    average, mean_rank = slowly(pairs, radius, direction)
    assert found.mean_average_precision == pytest.approx(np.mean(average), rel=1e-9)
    assert found.mean_rank == pytest.approx(mean_rank, rel=1e-9)
