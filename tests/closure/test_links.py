"""Link prediction: splits, scores, ranks, and reachability beside them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import poincare_taxa as pt
from poincare_taxa.closure.links import LinkSplit, _classified, _ranked, _threshold
from poincare_taxa.closure.model import link_score

TREE = pt.ClosurePairs.from_edges([(v, (v - 1) // 2) for v in range(1, 127)])


def as_set(pairs):
    return {tuple(pair) for pair in np.asarray(pairs).tolist()}


@given(st.sampled_from([0.0, 0.3, 1.0]), st.booleans(), st.integers(0, 5))
@hypothesis_settings(max_examples=10, deadline=None)
def test_split__parts_are_disjoint_and_of_their_kind(share, basic, seed):
    closure, edges = as_set(TREE.pairs), as_set(TREE.reduced().pairs)
    split = pt.split_links(TREE, 0 if basic else share, basic=basic, seed=seed)
    train, valid, test = (as_set(p) for p in (split.train.pairs, split.valid, split.test))
    assert not train & valid
    assert not train & test
    assert not valid & test
    assert valid | test <= (edges if basic else closure - edges)
    assert len(valid) == len(test) == round(0.05 * len(edges if basic else closure - edges))
    if basic:
        assert train == closure - valid - test
        assert split.train.is_closed  # so that reachability knows nothing of what is held out
    else:
        assert edges <= train
        assert as_set(split.train.closed().pairs) == closure
        left = closure - edges - valid - test
        assert len(train - edges) == round(share * len(left))
    for negatives, positives in (
        (split.valid_negatives, split.valid),
        (split.test_negatives, split.test),
    ):
        assert not as_set(negatives) & closure
        assert (negatives[:, 0] != negatives[:, 1]).all()
        assert 0.8 * 10 * len(positives) <= len(negatives) <= 10 * len(positives)


def test_split__of_inner_pairs_has_no_roots_and_no_leaves():
    """Nodes of a complete binary tree: 0 is the root, those from 63 on are leaves."""
    split = pt.split_links(TREE, inner=True, held_out=0.1)
    closure = as_set(TREE.pairs)
    inner = {(a, v) for a, v in closure if a > 0 and v < 63}
    held = as_set(split.valid) | as_set(split.test)
    assert held <= inner
    assert len(split.valid) == len(split.test) == round(0.1 * len(inner))
    assert as_set(split.train.pairs) == closure - held
    assert repr(split).startswith("LinkSplit(ClosurePairs(")
    for options in ({"basic": True}, {"share": 0.5}):
        with pytest.raises(ValueError, match="inner pairs"):
            pt.split_links(TREE, inner=True, **options)


def test_scores__may_be_numpy_and_lost_ones_predict_nothing():
    split = pt.split_links(TREE)
    number = np.random.default_rng(0).random((127, 127))
    found = [
        pt.evaluate_links(score, split, ranked=5)
        for score in (
            lambda a, v: number[np.asarray(a), np.asarray(v)],
            lambda a, v: torch.from_numpy(number)[a, v],
        )
    ]
    assert found[0] == found[1]
    lost = pt.evaluate_links(lambda a, v: torch.full_like(a + v, torch.nan, dtype=float), split)
    assert lost.metrics["f1"] == lost.metrics["recall"] == lost.metrics["average_precision"] == 0


def test_reachability__knows_what_follows_and_no_basic_edge():
    points = pt.closure_layout(TREE, 2)[:2]
    for basic in (False, True):
        report = pt.evaluate_links(points, pt.split_links(TREE, basic=basic))
        assert report.baseline["f1"] == (0 if basic else 1)
        assert report.baseline["recall"] == (0 if basic else 1)
    assert "reachability" in str(report)
    assert report.to_frame().columns == ["metric", "value", "reachability"]


def test_a_layout__of_the_training_pairs_predicts_what_follows():
    split = pt.split_links(TREE)
    report = pt.evaluate_links(pt.closure_layout(split.train.closed(), 2)[:2], split)
    assert report.metrics["f1"] == 1
    assert report.metrics["hits_at_10"] == 1
    # Points at random know nothing.
    generator = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(
        torch.randn(127, 3, generator=generator, dtype=torch.float64)
    )
    assert pt.evaluate_links((torch.ones(127).double(), direction), split).metrics["f1"] < 0.7


def test_ignore__of_test_pairs_is_reported():
    split = pt.split_links(TREE, basic=True)
    points = pt.closure_layout(split.train, 2)[:2]
    assert pt.evaluate_links(points, split, ignore=split.train).leaked == 0
    report = pt.evaluate_links(points, split, ignore=TREE)
    assert report.leaked == len(split.test)
    assert f"ignored {len(split.test)} test pairs" in str(report)


def test_a_model_whose_training_ignored_pairs__is_measured_with_these():
    split = pt.split_links(TREE, basic=True)
    run = pt.fit(split.train, dim=3, ignore=split.test, progress=False)
    count = len(split.test)
    assert run.ignored == count
    assert f"{count} pairs ignored as negatives" in repr(run)
    assert pt.evaluate_links(run.model, split, ignore=split.test[::-1], ranked=0).leaked == count
    for ignore in (None, split.valid):
        with pytest.raises(ValueError, match=f"ignored {count} pairs as negatives"):
            pt.evaluate_links(run.model, split, ignore=ignore)
    # What follows from the training pairs is no news.
    assert pt.fit(split.train, dim=3, ignore=split.train, progress=False).ignored == 0


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=12))
@hypothesis_settings(deadline=None)
def test_threshold__has_the_best_f1_of_all(items):
    score = np.array([s for s, _ in items], float)
    positive = np.array([p for _, p in items])
    if not positive.any():
        positive[0] = True
    at, best = _threshold(score, positive)
    every = [_classified(score, positive, t)["f1"] for t in np.unique(score)]
    assert best == pytest.approx(max(every))
    assert _classified(score, positive, at)["f1"] == pytest.approx(best)


def test_ranks__are_filtered_and_share_ties():
    table = torch.tensor([[9.0, 9, 9, 9], [1, 9, 9, 9], [1, 1, 9, 9], [0, 2, 1, 9]])  # [v, a]

    def score(a, v):
        a, v = torch.broadcast_tensors(a, v)
        return table[v, a]

    # Of node 3: 0 is nearer but known; 2 has the score 1, 1 the score 2. Of ancestor 1: 2 has 1.
    known = np.sort(np.array([3 * 4 + 0, 3 * 4 + 1]))
    found = _ranked(score, np.array([[1, 3]]), known, 4)
    assert found["arithmetic_mean_rank"] == pytest.approx((2 + 2) / 2)
    assert found["inverse_harmonic_mean_rank"] == pytest.approx(0.5)
    assert (found["hits_at_1"], found["hits_at_3"]) == (0, 1)
    table[:] = 1.0  # all tied: the middle place
    found = _ranked(score, np.array([[1, 3]]), known, 4)
    assert found["arithmetic_mean_rank"] == pytest.approx((1.5 + 2) / 2)
    assert found["adjusted_arithmetic_mean_rank_index"] == pytest.approx(0)


def test_a_score_of_ones_own__is_measured_as_that_of_points():
    split = pt.split_links(TREE)
    points = pt.closure_layout(split.train.closed(), 2)[:2]
    whole = pt.evaluate_links(points, split)
    own = pt.evaluate_links(lambda a, v: link_score(points, a, v), split)
    assert own.limit == "none"
    assert whole.limit == "cap"
    assert (own.metrics, own.threshold) == (whole.metrics, whole.threshold)


def test_faults__are_named():
    with pytest.raises(ValueError, match="share lies in"):
        pt.split_links(TREE, 1.5)
    with pytest.raises(ValueError, match="no share"):
        pt.split_links(TREE, 0.5, basic=True)
    with pytest.raises(ValueError, match="of them is none"):
        pt.split_links(pt.ClosurePairs([(0, 1), (1, 2)]))
    split = pt.split_links(TREE)
    assert isinstance(split, LinkSplit)
    with pytest.raises(ValueError, match="3 points for 127 nodes"):
        pt.evaluate_links((torch.ones(3), torch.ones(3, 2)), split)
