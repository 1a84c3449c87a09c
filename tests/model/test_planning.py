"""The planner: predictions of a law that grow with the work, on a machine that is slower or not."""

import json

import pytest

import poincare_taxa as pt
from poincare_taxa import cli
from poincare_taxa.model import planning
from poincare_taxa.model.planning import STEPS, plan, queries_asked
from poincare_taxa.testing import synthetic_taxonomy

ALIKE = dict.fromkeys(STEPS, 1.0)


def test_plan__takes_as_many_times_longer_as_the_calibration():
    usual = {step.name: step for step in plan(10**6, speed=ALIKE)}
    slow = {step.name: step for step in plan(10**6, speed=ALIKE | {"layout": 3.0})}
    assert slow["layout"].seconds == pytest.approx(3 * usual["layout"].seconds)
    assert slow["read"] == usual["read"]
    assert usual["evaluate exactly"].seconds > usual["evaluate"].seconds


def test_plan__grows_with_the_taxa():
    for small, large in zip(plan(10**4, speed=ALIKE), plan(10**7, speed=ALIKE), strict=True):
        assert large.seconds > small.seconds
        assert large.memory > small.memory


def test_plan__counts_the_queries_that_evaluate_takes():
    for taxa in (300, 5001):
        tax = synthetic_taxonomy(taxa)
        report = pt.evaluate(pt.embed(tax, 3), tax, queries=7, only="purity", progress=False)
        assert report.meta["queries"] == queries_asked(taxa, 7)


@pytest.mark.parametrize(("taxa", "queries"), [(0, 10), (10, 0)])
def test_plan__refuses_nothing_to_plan(taxa, queries):
    with pytest.raises(ValueError, match="at least one"):
        plan(taxa, queries=queries, speed=ALIKE)


def test_calibrate__measures_every_step(monkeypatch):
    monkeypatch.setattr(planning, "_CALIBRATED", 500)
    found = planning.calibrate()
    assert found.keys() == set(STEPS)
    assert all(factor > 0 for factor in found.values())


@pytest.mark.parametrize(("source", "taxa"), [("123456", 123_456), ("demo", None)])
def test_command__plans_a_number_or_a_source(source, taxa, capsys, monkeypatch):
    monkeypatch.setattr(planning, "calibrate", lambda: ALIKE)
    with pytest.raises(SystemExit) as exit:
        cli.main(["plan", source, "--json"])
    assert not exit.value.code
    found = json.loads(capsys.readouterr().out)
    assert found["taxa"] == taxa or (taxa is None and found["taxa"] > 1000)
    named = [step["name"] for step in found["steps"]]
    assert named[:2] + named[3:5] == ["read", "layout", "evaluate", "nearest"]
