"""The experiment of traits: nothing of a held-out group reaches its predictions, and R² is R²."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

import poincare_taxa as pt
from benchmarks.experiments import does_it_help as suite
from benchmarks.experiments.taxon_models import Data, methods

METHODS = methods(covariate=False, small=True) | methods(covariate=True, small=True)


@pytest.fixture(scope="module")
def data():
    tax = pt.load_sample().subtree("Lagomorpha")
    rng = np.random.default_rng(0)
    rows = np.flatnonzero(tax.has_rank("species"))
    steps = rng.normal(size=len(tax))
    trait = np.array([steps[above[above >= 0]].sum() for above in tax.tree.lineages(rows)])
    covariate = rng.normal(size=(len(rows), 1))
    return Data(pt.embed(tax), tax.ids.gather(rows), trait + covariate[:, 0], covariate)


@pytest.mark.parametrize("name", METHODS)
def test_method__predictions_do_not_depend_on_traits_of_held_out_groups(data, name):
    groups = suite.groups_of(data, "genus")
    held = np.isin(groups, np.unique(groups)[::3])
    train, test = np.flatnonzero(~held), np.flatnonzero(held)
    found = METHODS[name](data, train, test, groups)
    assert np.isfinite(found).all()
    other = Data(data.model, data.keys, np.where(held, 1e6, data.y), data.covariates)
    np.testing.assert_array_equal(METHODS[name](other, train, test, groups), found)


def test_groups_of__are_clades_and_single_taxa_without_one(data):
    tree, tax = data.tax.tree, data.tax
    for group, row in zip(suite.groups_of(data, "genus"), data.rows, strict=True):
        assert group == row or (tax.taxon_ranks[int(group)] == "genus")
        assert tree.is_ancestor(group, row)


def test_bootstrap__of_all_groups_is_r2_and_draws_are_of_groups():
    rng = np.random.default_rng(0)
    y, groups = rng.normal(size=60), np.repeat(np.arange(20), 3)
    found = np.stack([y + rng.normal(size=60), y, np.full(60, y.mean())])
    scores = suite.bootstrap(y, found[None], groups)
    wanted = [r2_score(y, predictions) for predictions in found]
    np.testing.assert_allclose(scores[:, 0], wanted, rtol=0, atol=1e-12)
    assert (scores[1] == 1).all()
    # The spread of draws is about that of the mean of 20 groups, not of 60 taxa.
    same = suite.bootstrap(np.repeat(y[:20], 3), np.repeat(found[:1, :20], 3, 1)[None], groups)
    alone = suite.bootstrap(y[:20], found[:1, :20][None], np.arange(20))
    np.testing.assert_allclose(same, alone, rtol=1e-9)


def test_load__of_absent_data_says_where_it_would_be(monkeypatch, tmp_path):
    monkeypatch.setattr(suite, "SHARED", tmp_path)
    with pytest.raises(suite.AbsentError, match=r"mammals\.csv\.gz is not there"):
        suite.load(suite.TRAITS[0])


def test_load__shipped_animals_have_a_trait_and_a_covariate():
    data = suite.load(suite.TRAITS[1])
    assert len(data.y) == len(data.covariates) > 400
    np.testing.assert_allclose(data.covariates.std(), 1, rtol=1e-12)


def test_readable__has_a_line_for_each_method_best_first():
    def row(name, rank, value):
        numbers = {f"{key}{end}": value for key in ("R²", "to the tree") for end in ("", " low")}
        high = {"R² high": value, "to the tree high": value}
        return {"trait": "t", "held out": rank, "features → model": name, **numbers, **high}

    rows = [row(name, rank, v) for name, v in (("tree", 0.5), ("b", 0.7)) for rank in ("genus",)]
    table = suite.readable(rows, "t")
    assert [line["features → model"] for line in table] == ["b", "tree"]
    assert table[0]["less the tree, genus"] == "+0.700 (+0.700…+0.700)"
    assert table[1]["less the tree, genus"] == "–"
