"""The scripts of the experiments run on a tiny tree, and their rows say what they are."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
import typer

import poincare_taxa as pt
from benchmarks import tables
from benchmarks.experiments import commands, controls, full_size, random_start, why_it_failed
from benchmarks.experiments.scores import scores
from poincare_taxa.evaluation import measure
from poincare_taxa.evaluation.subjects import TreeSubject
from poincare_taxa.testing import synthetic_taxonomy

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TAX = pt.load_sample().subtree("Lagomorpha")
SMALL = {"batch_size": 32, "num_negatives": 3, "epochs_of_data": 1.0}


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (why_it_failed.OLD, why_it_failed.OLD_CHANGES),
        (why_it_failed.REPAIRED, why_it_failed.REPAIRED_CHANGES),
        (why_it_failed.REPAIRED, why_it_failed.LOSSES),
    ],
    ids=["old", "repaired", "losses"],
)
def test_ablation__changes_are_settings_that_differ_from_the_base(base, changes):
    for name, settings in changes.items():
        if settings:
            assert replace(base, **settings) != base, name


@pytest.mark.parametrize("base", [why_it_failed.OLD, why_it_failed.REPAIRED], ids=["old", "new"])
def test_ablation__a_run_measures_everything(base):
    found = why_it_failed.one_run(TAX, lambda: why_it_failed.train(TAX, replace(base, **SMALL), 0))
    assert {"depth–radius", "precision@10", "ancestor MAP", "accuracy, parent"} <= found.keys()
    rows = [{"from": "a", "change": "b", "seed": seed, **found} for seed in (0, 1)]
    (line,) = why_it_failed.means(rows)
    assert line["precision@10"] == f"{found['precision@10']:.3f} ± 0.000"


def test_ablation_plots__without_an_ablation_say_what_to_run(tmp_path):
    with pytest.raises(typer.BadParameter, match="no rows of an ablation: run that"):
        commands.ablation_plots(out=tmp_path)


def test_ablation__of_some_changes_keeps_the_other_rows(tmp_path, monkeypatch):
    runs, count = [("a", "x", None), ("a", "y", None)], itertools.count()
    monkeypatch.setattr(commands, "clade", lambda taxid: TAX)
    monkeypatch.setattr(why_it_failed, "all_runs", lambda tax, seed: runs)
    monkeypatch.setattr(why_it_failed, "references", lambda tax, seed: [])
    ones = {f"accuracy, {name}": 1.0 for name in why_it_failed.GAPS}
    monkeypatch.setattr(why_it_failed, "one_run", lambda tax, run: {"loss": next(count), **ones})
    for commit, only in (("first", ""), ("second", "y")):
        monkeypatch.setattr(tables, "commit", lambda commit=commit: commit)
        commands.ablation(seeds=2, only=only, out=tmp_path)
    kept = tables.kept_rows(tmp_path, "why_it_failed")
    found = {(r["change"], r["seed"]): (r["loss"], r["commit"]) for r in kept}
    assert found == {
        ("x", 0): (0, "first"),
        ("y", 0): (4, "second"),
        ("x", 1): (2, "first"),
        ("y", 1): (5, "second"),
    }


def test_references__floor_is_chance_and_ceiling_is_one():
    floor, tree = why_it_failed.references(TAX, 0)
    assert 0.4 < floor["accuracy, deeper"] < 0.6
    assert tree["precision@10"] == tree["ancestor MAP"] == 1


@pytest.mark.parametrize("within_depth", [False, True])
def test_shuffled__has_the_shape_and_other_labels_in_their_places(within_depth):
    place = controls.permutation(TAX, 0, within_depth=within_depth)
    other = controls.shuffled(TAX, place)
    np.testing.assert_array_equal(other.parent, TAX.parent)
    np.testing.assert_array_equal(other.rows(TAX.ids.to_list()), place)
    assert np.array_equal(TAX.depth[place], TAX.depth) == within_depth


def test_euclidean__the_ball_is_flat_to_a_millionth():
    tax = synthetic_taxonomy(60, seed=0)
    points = controls.euclidean(tax, 0, 0.2)
    d = pt.ball.cdist(points, points, c=controls.CURVATURE)
    torch.testing.assert_close(d, 2 * torch.cdist(points, points), rtol=1e-5, atol=1e-5)
    value, _ = scores(points, tax, c=controls.CURVATURE)
    assert value["Spearman"] > 0.5


def test_full_size__measures_the_tree_once(monkeypatch):
    of_tree, compute = [], measure.query_statistics

    def counted(subject, *args, **kwargs):
        of_tree.append(isinstance(subject, TreeSubject))
        return compute(subject, *args, **kwargs)

    monkeypatch.setattr(measure, "query_statistics", counted)
    model = pt.embed(TAX, dim=10)
    rows = {row["measure"]: row for row in full_size.quality(model, 20)}
    assert sorted(of_tree) == [False, False, True]
    value, tree = random_start.measured(model, TAX, queries=20)
    assert {name: row["trained"] for name, row in rows.items()} == value
    assert {name: rows[name]["tree"] for name in tree} == tree
