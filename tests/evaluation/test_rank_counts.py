"""Every taxon as a query: the searches say what rows of distances say."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trees import taxonomies

import poincare_taxa as pt
from poincare_taxa.evaluation import measure as evaluation
from poincare_taxa.evaluation import metrics
from poincare_taxa.evaluation import rank_counts as _exact
from poincare_taxa.evaluation._scan import Points
from poincare_taxa.evaluation.ranks import Ranks, nearest
from poincare_taxa.evaluation.subjects import Clock, Embedding, QueryTaxa, _ranked, scan
from poincare_taxa.testing import synthetic_taxonomy

PARTS = {"precision", "purity", "ancestor", "closure", "neighbour"}


class Rounded(Embedding):
    """Distances that differ by rounding alone tie."""

    def rows(self, queries, out):
        return super().rows(queries, out).round(9, out=out)


def both(taxonomy, points, k=10, parts=PARTS, subject=Embedding):
    groups = metrics.taxon_groups(taxonomy, None) if "purity" in parts else {}
    query_taxa = QueryTaxa(taxonomy, groups, k, parts)
    asked = np.random.default_rng(0).permutation(len(taxonomy))
    told = []
    slow = scan(subject(points), query_taxa, asked, Clock(), lambda *seen: None)
    fast = _exact.scan_all(
        points,
        query_taxa,
        asked,
        Clock(),
        lambda done, total: told.append((done, total)),
        torch.device("cpu"),
    )
    assert told[-1] == (len(asked), len(asked))
    assert slow.keys() == fast.keys()
    return slow, fast


def random_points(n, dim=5):
    generator = torch.Generator().manual_seed(1)
    u = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    r = 9 * torch.rand(n, generator=generator, dtype=torch.float64)
    return r, torch.nn.functional.normalize(u, dim=1)


@pytest.mark.parametrize(
    "parts",
    [PARTS, {"neighbour"}, {"closure"}, {"precision"}],
    ids=lambda parts: "+".join(sorted(parts)),
)
@pytest.mark.parametrize("wider", [(160, 2560), (20,), (12,)])
@pytest.mark.parametrize("places", [600, 40])
def test_scan_all__has_the_statistics_of_scan(places, parts, wider, monkeypatch):
    """Of points that are all different, and of many at few places, which tie: also for too long."""
    monkeypatch.setattr(_exact, "_WIDER", wider)
    taxonomy = synthetic_taxonomy(600)
    radius, direction = random_points(places)
    where = torch.arange(600) % places
    slow, fast = both(taxonomy, Points(radius[where], direction[where]), parts=parts)
    for name, values in slow.items():
        assert np.allclose(fast[name], values, rtol=1e-9, equal_nan=True), name
    if "precision" in parts:
        assert (np.nanmean(slow["by lot"]) > 0.2) == (places < 600)


def test_scan_all__asks_for_more_neighbours_than_there_are():
    taxonomy = synthetic_taxonomy(100)
    radius, direction = random_points(5)
    where = torch.arange(100) % 5
    slow, fast = both(taxonomy, Points(radius[where], direction[where]))
    for name, values in slow.items():
        assert np.allclose(fast[name], values, rtol=1e-9, equal_nan=True), name


def test_scan_all__of_a_layout_breaks_ties_one_way_or_another():
    """Siblings of a layout are equally far but for rounding, which these two round differently."""
    taxonomy = synthetic_taxonomy(600)
    radius, direction, _ = pt.layout(taxonomy, 10)
    slow, fast = both(taxonomy, Points(radius, direction), subject=Rounded)
    for part in ("closure", "neighbour"):
        found = fast[f"{part} AP"]
        assert (found >= slow[f"{part} AP, unlucky"] - 1e-9)[~np.isnan(found)].all()
        assert (found <= slow[f"{part} AP, lucky"] + 1e-9)[~np.isnan(found)].all()
    assert np.nanmean(fast["precision"]) == pytest.approx(np.nanmean(slow["precision"]), rel=0.01)
    assert np.nanmean(fast["ancestor AP"]) > 0.98


@given(taxonomies(min_size=2, max_size=40), st.integers(1, 12))
@settings(deadline=None, max_examples=60)
def test_tree_neighbours__counts_what_distances_to_all_say(taxonomy, k):
    k = min(k, len(taxonomy) - 1)
    rows = np.arange(len(taxonomy))
    edge, nearer, tied = _exact.TreeNeighbours(taxonomy).edge(rows, k)
    for q in rows:
        distance = metrics.tree_distances(taxonomy, q)
        true = nearest(distance, k, skip=q)
        others = np.delete(distance, q)
        assert edge[q] == true.edge
        assert nearer[q] == (others < true.edge).sum()
        assert tied[q] == (others == true.edge).sum()


@given(st.lists(st.integers(0, 6), min_size=2, max_size=30), st.data())
@settings(deadline=None, max_examples=100)
def test_rank_statistics__are_those_of_ranks(scores, data):
    scores = np.array(scores)
    number = data.draw(st.integers(0, len(scores) - 1))
    relevant = 1 + np.random.default_rng(number).permutation(len(scores) - 1)[:number]
    others = np.delete(scores, 0)
    nearer = np.array([[(others < scores[v]).sum() for v in relevant] + [0, 0]])
    tied = np.array([[(others == scores[v]).sum() - 1 for v in relevant] + [0, 0]])
    there = np.array([[True] * number + [False, False]])
    found = _exact.rank_statistics("x", nearer, tied, there)
    expected = _ranked("x", Ranks.of(scores, relevant, skip=0))
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name][0] == pytest.approx(value, rel=1e-9, nan_ok=True), name


def test_evaluate__exact_of_many_taxa_is_what_rows_of_distances_say(monkeypatch, capsys):
    taxonomy = synthetic_taxonomy(500)
    radius, direction = random_points(500)
    monkeypatch.setattr(evaluation, "_EXACT", 100)
    reports, called = [], []
    original = evaluation.scan_all
    monkeypatch.setattr(
        evaluation, "scan_all", lambda *a, **k: called.append(k) or original(*a, **k)
    )
    for fast in (True, False):
        if not fast:
            monkeypatch.setattr(evaluation, "suits", lambda points: False)
        reports.append(
            pt.evaluate((radius, direction), taxonomy, queries=100, exact=True, only=PARTS)
        )
    assert "will take about" in capsys.readouterr().err
    assert {str(k["device"]) for k in called} == {"cpu"}
    for mine, theirs in zip(reports[0].rows, reports[1].rows, strict=True):
        assert mine.metric == theirs.metric
        assert mine.estimate.value == pytest.approx(theirs.estimate.value, rel=1e-9, nan_ok=True)


def test_evaluate__points_that_are_none_are_evaluated_row_by_row():
    radius, direction, _ = pt.layout(synthetic_taxonomy(50), 5)
    assert _exact.suits(Points(radius, direction))
    radius[7] = torch.nan
    assert not _exact.suits(Points(radius, direction))
    radius[7] = 400
    assert not _exact.suits(Points(radius, direction))
