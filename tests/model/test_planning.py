"""The planner: a law that recovers what made its data, and predictions that are sums of terms."""

import inspect
import json

import pytest

from poincare_taxa import cli
from poincare_taxa.layouts.refinement import refine
from poincare_taxa.model import planning
from poincare_taxa.model.planning import EXACTLY, STEPS, Work, fit_law, plan, predict

SIZES = [1000, 10_000, 100_000, 1_000_000]
ALIKE = dict.fromkeys(STEPS, 1.0)


def measurements(seconds, memory, passes=(0,)):
    return [
        {
            "step": step,
            **work._asdict(),
            "seconds": seconds(*work),
            "memory": memory(work.taxa),
        }
        for step in (*STEPS, EXACTLY)
        for work in (Work(n, q, p) for n in SIZES for q in (100, 1000) for p in passes)
    ]


def test_fit_law__finds_the_costs_it_was_given():
    rows = measurements(lambda n, q, p: 0.2 + 3e-6 * n, lambda n: 1e8 + 500.0 * n)
    fitted = fit_law([row for row in rows if row["step"] != "refine"] + REFINED)
    for step in set(STEPS) - {"refine"}:
        assert predict(fitted, step, "seconds", Work(10**7, 1000)) == pytest.approx(30.2, rel=1e-6)
        assert predict(fitted, step, "memory", Work(10**7, 1000)) == pytest.approx(5.1e9, rel=1e-6)


def refining(n, q, p):
    """Seconds of p layouts and p + 1 measurements of q queries."""
    return 0.5 + p * 2e-6 * n + (p + 1) * q * (1e-3 + 4e-9 * n)


REFINED = [
    row for row in measurements(refining, lambda n: 1e8, (0, 1, 2)) if row["step"] == "refine"
]


def test_fit_law__tells_passes_from_taxa_and_queries():
    rows = measurements(refining, lambda n: 1e8, (0, 1, 2))
    work = Work(3_000_000, 256, 8)
    assert predict(fit_law(rows), "refine", "seconds", work) == pytest.approx(refining(*work))


def test_fit_law__tells_queries_from_taxa():
    rows = measurements(lambda n, q, p: 0.1 + 1e-6 * n + 4e-9 * n * q, lambda n: 1e8)
    found = predict(fit_law(rows), "evaluate", "seconds", Work(2_000_000, 2_000_000))
    assert found == pytest.approx(0.1 + 2 + 16_000, rel=1e-6)


def test_fit_law__finds_that_exact_evaluation_grows_with_the_square():
    rows = measurements(lambda n, q, p: 3 + 1e-6 * n + 2e-8 * n * n, lambda n: 1e8)
    found = predict(fit_law(rows), EXACTLY, "seconds", Work(2_000_000, 2_000_000))
    assert found == pytest.approx(3 + 2 + 80_000, rel=1e-6)


def test_plan__counts_the_passes_that_refine_makes():
    defaults = inspect.signature(refine).parameters
    assert defaults["passes"].default == planning._PASSES
    assert defaults["queries"].default == planning._YARDSTICK


def test_plan__takes_as_many_times_longer_as_the_calibration():
    usual = {step.name: step for step in plan(10**6, speed=ALIKE)}
    slow = {step.name: step for step in plan(10**6, speed=ALIKE | {"layout": 3.0})}
    assert slow["layout"].seconds == pytest.approx(3 * usual["layout"].seconds)
    assert slow["read"] == usual["read"]
    assert usual["evaluate exactly"].seconds > 100 * usual["evaluate"].seconds


def test_plan__grows_with_the_taxa():
    for small, large in zip(plan(10**4, speed=ALIKE), plan(10**7, speed=ALIKE), strict=True):
        assert large.seconds > small.seconds
        assert large.memory > small.memory


@pytest.mark.parametrize(("taxa", "queries"), [(0, 10), (10, 0)])
def test_plan__refuses_nothing_to_plan(taxa, queries):
    with pytest.raises(ValueError, match="at least one"):
        plan(taxa, queries=queries, speed=ALIKE)


def test_calibrate__measures_every_step(monkeypatch):
    monkeypatch.setattr(planning, "_CALIBRATED", 500)
    monkeypatch.setattr(planning, "_ASKED", 10)
    found = planning.calibrate()
    assert found.keys() == set(STEPS)
    assert all(factor > 0 for factor in found.values())


def test_slope__is_that_of_a_power():
    assert planning.slope(SIZES, [2 * n**1.3 for n in SIZES]) == pytest.approx(1.3)


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
