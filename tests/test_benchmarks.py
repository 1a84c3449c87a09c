"""The benchmark suite runs, times nothing that is wrong, and its rows say what they are."""

import json
from functools import partial

import pytest
import torch

from benchmarks import distances, jobs, report, scaling
from benchmarks.distances import Task, check, geoopt_eager, measure
from benchmarks.measure import (
    Limits,
    Machine,
    Rows,
    Times,
    WrongAnswerError,
    peak_memory,
    side_by_side,
)
from poincare_taxa import planning
from poincare_taxa.testing import synthetic_taxonomy

CPU = Machine(torch.device("cpu"), 1)
LIMITS = Limits(1e9, {torch.float32: 1e9, torch.float64: 1e9})
EAGER = {name: make for name, make in distances.IMPLEMENTATIONS.items() if "compile" not in name}
TASKS = [
    Task(kind, backward, dtype, 3, 50)
    for kind in ("paired", "all pairs")
    for backward in (False, True)
    for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_distances__every_implementation_here_is_right_and_timed(task):
    rows = Rows("distance", CPU)
    times = measure(task, rows, LIMITS, implementations=EAGER, seconds=0.01)
    assert {"geoopt, eager", "geometry"} <= times.keys()
    assert {row["implementation"] for row in rows.kept} == EAGER.keys()
    for row in rows.kept:
        assert row["status"] == "measured" or row["status"].startswith("not here: ")
    timed = next(row for row in rows.kept if row["implementation"] == "geometry")
    assert timed["seconds_20"] <= timed["seconds"] <= timed["seconds_80"]
    assert timed["against"] > 0
    assert {"device", "driver", "versions", "commit", "bytes", "flops", "peak_bytes"} <= set(timed)


def off_by(make, change):
    return lambda task, machine: lambda x, y: change(make(task, machine)(x, y))


class _WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, d):
        return d.clone()

    @staticmethod
    def backward(ctx, grad):
        return 1.01 * grad


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_distances__what_is_wrong_is_refused_and_not_timed(task):
    wrong = {"scaled": off_by(geoopt_eager, lambda d: 1.01 * d)}
    wrong["shape"] = off_by(geoopt_eager, lambda d: d[:-1])
    wrong["nan"] = off_by(geoopt_eager, lambda d: d * torch.nan)
    if task.backward:
        wrong["gradient"] = off_by(geoopt_eager, _WrongGradient.apply)
    if task.backward:
        del wrong["shape"]  # autograd itself refuses it
    rows = Rows("distance", CPU)
    times = measure(task, rows, LIMITS, implementations=wrong, seconds=0.01)
    assert times == {}
    assert len(rows.kept) == len(wrong)
    for row in rows.kept:
        assert row["status"].startswith("refused: ")
        assert "seconds" not in row


def test_check__lets_rounding_pass_and_no_more():
    right = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert check([right * (1 + 1e-9)], [right], torch.float64) < 1e-8
    with pytest.raises(WrongAnswerError, match="distance is off by"):
        check([right * (1 + 1e-7)], [right], torch.float64)


def test_reference__is_the_radius_from_the_origin():
    x = torch.tensor([[0.0, 0.5]])
    assert distances.reference(x, 0 * x).item() == pytest.approx(torch.tensor(3.0).log().item())


def test_times__are_taken_in_turns():
    order = []
    side_by_side({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, CPU, seconds=0)
    assert "".join(order).count("ab") >= 2
    assert Times([3.0, 1.0, 2.0]).median == 2


def test_peak_memory__sees_what_is_gone_afterwards():
    with peak_memory(CPU) as peak:
        torch.ones(30_000_000).sum()
    assert peak.bytes == pytest.approx(1.2e8, rel=0.3)


def test_scaling__measures_fits_and_reports(tmp_path, monkeypatch):
    rows = Rows("scaling", CPU)
    for n in (60, 120):
        scaling.measure(n, rows, queries=10)
    kept = [json.loads(line) for line in rows.write(tmp_path).read_text().splitlines()]
    assert [row["step"] for row in kept] == 2 * list(planning.STEPS)
    found = scaling.write_law(kept, CPU, tmp_path / "law.json")
    assert found["law"].keys() == set(planning.STEPS)
    assert json.loads((tmp_path / "law.json").read_text()) == found
    scaling.report(kept, found["law"])
    monkeypatch.setattr("benchmarks.tables.PAGES", tmp_path)
    monkeypatch.setattr(report, "PAGES", tmp_path)
    measure(TASKS[0], wide := Rows("distance", CPU), LIMITS, implementations=EAGER, seconds=0.01)
    for row in wide.kept:
        row["dim"] = 10
    wide.write(tmp_path)
    assert len(report.write(tmp_path)) == 2
    assert len(list(tmp_path.glob("*.md"))) == len(list(tmp_path.glob("*.svg"))) == 2


def test_jobs__count_only_if_they_learned():
    rows = Rows("training", CPU)

    def stalled(taxonomy, epochs):
        jobs._ensure_learned([1.0, 1.0])
        return 1.0

    mine = partial(jobs.this_library, batch=64)
    jobs.measure({"mine": mine, "stalled": stalled}, rows, taxa=200, epochs=2)
    assert [row["status"][:8] for row in rows.kept] == ["measured", "refused:"]
    assert "seconds" not in rows.kept[1]


def test_closure__is_every_ancestor_of_every_node():
    tax = synthetic_taxonomy(100)
    expected = {(v, a) for v in range(100) for a in tax.ancestors(v).tolist()}
    found = jobs.closure(tax).tolist()
    assert len(found) == len(expected)
    assert set(map(tuple, found)) == expected
