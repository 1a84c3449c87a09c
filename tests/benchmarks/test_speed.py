"""The benchmark suite runs, times nothing that is wrong, and its rows say what they are."""

import sys
from functools import partial

import polars as pl
import pytest
import torch

import poincare_taxa as pt
from benchmarks.measure import (
    Limits,
    Machine,
    Rows,
    Times,
    WrongAnswerError,
    load,
    peak_memory,
    side_by_side,
)
from benchmarks.speed import (
    commands,
    distances,
    exports,
    indexes,
    jobs,
    neighbours,
    scaling,
    search,
    steps,
    train_step,
)
from benchmarks.speed.distances import Task, check, measure, plain
from benchmarks.tools import report
from poincare_taxa.layouts.refinement import refine
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model import planning
from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

CPU = Machine(torch.device("cpu"), 1)
LIMITS = Limits(1e9, {torch.float32: 1e9, torch.float64: 1e9})
EAGER = {name: make for name, make in distances.IMPLEMENTATIONS.items() if "compile" not in name}
TASKS = [
    Task(kind, backward, dtype, 3, 50, manifold)
    for manifold in ("ball", "polar")
    for kind in ("paired", "all pairs")
    for backward in (False, True)
    for dtype in (torch.float32, torch.float64)
]


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_distances__every_implementation_here_is_right_and_timed(task):
    rows = Rows("distance", CPU)
    times = measure(task, rows, LIMITS, implementations=EAGER, seconds=0.01)
    asked = EAGER.keys() - (distances.OTHERS if task.manifold == "polar" else set())
    assert {row["implementation"] for row in rows.kept} == asked
    assert {distances.BASELINE[task.manifold], "kernels, torch"} <= times.keys()
    for row in rows.kept:
        assert row["status"] == "measured" or row["status"].startswith("not here: ")
    timed = next(row for row in rows.kept if row["implementation"] == "kernels, torch")
    assert timed["seconds_20"] <= timed["seconds"] <= timed["seconds_80"]
    if timed["implementation"] == distances.BASELINE[task.manifold]:
        assert timed["against"] is None
    else:
        assert timed["against"] > 0
    known = {"device", "driver", "versions", "commit", "load", "bytes", "flops", "peak_bytes"}
    assert known <= set(timed)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_distances__blocks_cover_the_task(task, monkeypatch):
    monkeypatch.setattr(distances, "BLOCK", {"cpu": 30})
    monkeypatch.setattr(distances, "HELD", 60)
    count, height = task.blocks(CPU)
    n, m = task.shape
    assert count * height >= n > (count - 1) * height
    assert height * task.columns * (1 if task.kind == "paired" else m) <= 30 or height == 1
    assert count > 1
    asked = []

    def watched(task, machine):
        distance = distances.plain(task, machine)
        return lambda x, y: asked.append(len(x)) or distance(x, y)

    rows = Rows("distance", CPU)
    measure(task, rows, LIMITS, implementations={"watched": watched}, seconds=0)
    assert rows.kept[0]["status"] == "measured"
    timed = asked[1:]  # after the call that was checked
    assert timed == [height] * len(timed)
    assert len(timed) % count == 0


def test_distances__the_interpreter_of_triton_is_not_timed(monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    rows, triton = Rows("distance", CPU), {"triton": EAGER["kernels, triton"]}
    assert measure(TASKS[0], rows, LIMITS, implementations=triton) == {}
    assert rows.kept[0]["status"].startswith("not here: Triton's interpreter")


def test_distances__no_task_is_measured_twice():
    tasks = commands.distance_tasks([1_000, 1_000_000], [10, 64])
    assert len(set(tasks)) == len(tasks)
    assert {(task.dim, task.pairs) for task in tasks} == {
        (10, 1_000), (10, 1_000_000), (64, 156_250)
    }  # fmt: skip


def test_distances__what_took_too_long_with_fewer_pairs_is_left_out():
    rows = Rows("distance", CPU)
    tasks = [Task("paired", False, torch.float64, 3, pairs) for pairs in (50, 500, 5000)]
    for task, patience in zip(tasks, (1, 0, 0), strict=True):
        named = {"plain torch": distances.plain}
        measure(task, rows, LIMITS, implementations=named, seconds=0, patience=patience)
    assert [row["status"][:8] for row in rows.kept] == ["measured", "left out", "left out"]


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
    wrong = {"scaled": off_by(plain, lambda d: 1.01 * d)}
    wrong["shape"] = off_by(plain, lambda d: d[:-1])
    wrong["nan"] = off_by(plain, lambda d: d * torch.nan)
    wrong["last"] = off_by(
        plain, lambda d: torch.cat((d.flatten()[:-1], d.new_zeros(1))).view_as(d)
    )
    if task.backward:
        wrong["gradient"] = off_by(plain, _WrongGradient.apply)
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


def test_rows__a_second_measurement_replaces_the_first_and_no_other(tmp_path):
    first, second = Rows("any", CPU), Rows("any", CPU)
    for task in ("a", "b"):
        first.add(task=task, status="not here: old")
    second.add(task="b", status="not here: new")
    first.publish(tmp_path)
    kept = second.publish(tmp_path)
    assert kept == load(CPU.folder(tmp_path) / "any.jsonl")
    assert [(row["task"], row["status"][-3:]) for row in kept] == [("a", "old"), ("b", "new")]


def test_scaling__measures_fits_and_reports(tmp_path, monkeypatch):
    rows = Rows("scaling", CPU)
    scaling.measure(60, rows)  # In a process of its own; the others here, which is quicker.
    monkeypatch.setattr(scaling, "_answer", lambda kind, *given: scaling.ANSWERS[kind](*given))
    monkeypatch.setattr(planning, "_CALIBRATED", 500)
    scaling.measure(120, rows)
    kept = rows.publish(tmp_path)
    assert [row["step"] for row in kept] == 2 * list(planning.STEPS)
    found = scaling.fitted_law(kept, CPU)
    assert found["law"].keys() == found["calibration"].keys() == set(planning.STEPS)
    scaling.report(kept, found["law"])


def test_steps__are_right_and_timed():
    rows = Rows("steps", CPU)
    steps.measure(200, rows, rounds=1, seconds=0)
    assert {row["status"] for row in rows.kept} == {"measured"}
    assert {row["task"].split(",")[0] for row in rows.kept} == {
        "reading",
        "layout",
        "refinement",
        "evaluation",
    }


def test_exact_evaluation__is_that_of_every_row_and_what_is_wrong_is_refused():
    tax = synthetic_taxonomy(300)
    points = layout(tax)[:2]
    right = pt.evaluate(points, tax, only=steps.PARTS, progress=False)
    steps.compare(right, right)
    wrong = (points[0], points[1].flip(0))
    with pytest.raises(WrongAnswerError, match="by the scan of each query"):
        steps.compare(pt.evaluate(wrong, tax, only=steps.PARTS, progress=False), right)


def test_exact_evaluation__is_timed_or_left_out(monkeypatch):
    monkeypatch.setattr(steps, "SMALL", 200)
    rows = Rows("exact", CPU)
    for taxa in (300, 10**8):
        steps.measure_exact(rows, taxa)
    assert [row["status"][:8] for row in rows.kept] == ["measured", "left out"]


@pytest.mark.slow
def test_exact_evaluation__searches_find_what_rows_of_distances_say():
    steps.check_exact(torch.device("cpu"))  # Beyond 5,000 taxa it searches.


def test_search__finds_what_sorting_finds_and_is_timed():
    rows = Rows("search", CPU)
    for dtype in (torch.float32, torch.float64):
        search.measure(200, [3, 0], rows, dtype=dtype, seconds=0)
    kinds = {row["status"].split(":")[0] for row in rows.kept}
    assert kinds <= {"measured", "not here"}
    assert [row["queries"] for row in rows.kept if row["status"] == "measured"].count(200) >= 4


def test_search__what_is_wrong_is_refused():
    tax = synthetic_taxonomy(200)
    points, asked = layout(tax)[:2], torch.arange(5, 20)
    above = search.ancestors(tax, asked.numpy())
    assert above[3][above[3] >= 0].tolist() == tax.tree.ancestors(8).tolist()
    near = search.nearest(points, asked, above, "torch")
    search.check_nearest(points, asked, near)
    for wrong in (
        near._replace(distance=near.distance * 1.001),
        near._replace(row=near.row.flip(1)),
    ):
        with pytest.raises(WrongAnswerError, match="query 5"):
            search.check_nearest(points, asked, wrong)
    counts = search.count(points, asked, above, "torch")
    search.check_count(points, asked, counts, above=above)
    with pytest.raises(WrongAnswerError, match="query 5"):
        search.check_count(points, asked, counts._replace(nearer=counts.nearer + 20), above=above)


def test_steps__what_is_wrong_is_refused(tmp_path):
    tax = synthetic_taxonomy(300)
    write_taxdump(tax, tmp_path)
    read = steps.read_lines(tmp_path)
    steps._reading_check(tax)(read)
    with pytest.raises(WrongAnswerError, match="not the one written"):
        steps._reading_check(tax)(read.with_columns(pl.col("parent").shift(1)))
    points = layout(tax)
    steps.check_layout(tax, points)
    shuffled = points._replace(direction=points.direction.flip(0))
    with pytest.raises(WrongAnswerError, match="off the tree's"):
        steps.check_layout(tax, shuffled)
    with pytest.raises(WrongAnswerError, match="radii"):
        steps.check_layout(tax, points._replace(radius=points.radius + 1))
    refined = refine(tax, points, passes=1, queries=20)
    worse = [dict(one) for one in refined.info["passes"]]
    worse.append(worse[-1] | {"precision": worse[-1]["precision"] - 0.1})
    steps.check_refinement(tax, refined)
    with pytest.raises(WrongAnswerError, match="precision went from"):
        steps.check_refinement(tax, refined._replace(info=refined.info | {"passes": worse}))
    told = pt.evaluate(points[:2], tax, queries=50, exact=False, progress=False)
    steps.check_evaluation(tax, points, told, 50)
    with pytest.raises(WrongAnswerError, match="mean rank is"):
        steps.check_evaluation(tax, shuffled, told, 50)


@pytest.mark.parametrize("manifold", ["ball", "polar"])
@pytest.mark.parametrize("shared", [True, False])
def test_gradients__are_right_and_timed_and_what_is_wrong_is_refused(manifold, shared):
    rows = Rows("step", CPU)
    about = {"taxa": 300, "pairs": 20, "shared": shared}
    train_step.measure_gradient(rows, manifold, torch.float64, seconds=0, **about)
    assert {row["status"].split(":")[0] for row in rows.kept} <= {"measured", "not here"}
    assert [row["implementation"] for row in rows.kept if row["status"] == "measured"]
    batch = train_step.batch_of(CPU, manifold, torch.float64, **about)
    loss, gradient = train_step.by_kernels(manifold, "torch", batch)
    train_step.check((loss, gradient), batch, manifold)
    with pytest.raises(WrongAnswerError, match="loss is off"):
        train_step.check((loss * 1.01, gradient), batch, manifold)
    with pytest.raises(WrongAnswerError, match="gradient is off"):
        train_step.check((loss, gradient * 1.01), batch, manifold)


def test_training_step__learns_and_is_timed():
    rows = Rows("step", CPU)
    train_step.measure_step(rows, taxa=300, pairs=50, seconds=0)
    assert rows.kept[0]["status"] == "measured"
    with pytest.raises(WrongAnswerError, match="the loss went from"):
        train_step.ensure_learned(torch.ones(30))


def test_all__has_every_suite_and_the_tests_of_a_gpu(tmp_path):
    suites = commands.suites(CPU, True, tmp_path)
    assert suites.keys() == {"distance", "search", "exact", "step", "training", "steps"}
    assert suites.keys() < {command.__name__ for command in commands.COMMANDS}
    for arguments in suites.values():
        assert arguments[arguments.index("--out") + 1] == str(tmp_path)
    on_gpu = commands.suites(Machine(torch.device("cuda:1"), 1), False, None)
    assert on_gpu["tests"] == ["pytest", "-q", "-m", "gpu"]
    assert "cuda:1" in on_gpu["search"]
    assert not any("--out" in arguments for arguments in on_gpu.values())


def test_report__has_every_suite_and_says_where_we_lose(tmp_path):
    for suite in ("distance", "search", "steps", "training", "scaling"):
        Rows(suite, CPU).publish(tmp_path)
    rows = Rows("distance", CPU)
    for task in TASKS[:2]:
        for pairs in (50, 500):
            task = Task(task.kind, task.backward, task.dtype, 10, pairs)
            measure(task, rows, LIMITS, implementations=EAGER, seconds=0)
    ours = [row for row in rows.kept if row["implementation"] == report.USERS]
    for row in ours:
        if row["status"] == "measured":
            row["items_per_second"] = 1e-3  # Lost to everyone.
    rows.publish(tmp_path)
    (folder,) = report.devices(tmp_path)
    page = report.write(folder, tmp_path).read_text()
    lost = page.split("Where we lose")[1]
    assert lost.count("| paired, forward | float32 | 10 |") == 2
    assert "Steps of a run" not in page  # A suite without rows has no section.
    assert (tmp_path / "docs" / "tables" / f"benchmarks-{folder.name}-distance.svg").exists()
    for table in page.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


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
    expected = {(v, a) for v in range(100) for a in tax.tree.ancestors(v).tolist()}
    found = jobs.closure(tax).tolist()
    assert len(found) == len(expected)
    assert set(map(tuple, found)) == expected


def test_nearest_ancestors__of_a_tree_are_the_parents():
    tax = synthetic_taxonomy(100)
    found = jobs.nearest_ancestors(jobs.synthetic(100))
    assert found[:, 1].tolist() == list(range(1, 100))
    sizes = tax.subtree_size[found[:, 0].numpy()]
    assert (sizes == tax.subtree_size[tax.parent[1:]]).all()


def test_neighbours__exact_searches_are_right_and_a_missing_package_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)  # as if it were not installed
    model = indexes.embedding(synthetic_taxonomy(500, seed=1))
    rows = list(neighbours.measure(model, queries=20, machine=CPU, patience=60.0))
    assert len(rows) == len(neighbours.IMPLEMENTATIONS)
    by_name = {row["index"]: row for row in rows}
    for name in ("full scan", "SearchIndex", "scikit-learn's BallTree"):
        assert by_name[name].get("precision@10", 1.0) == 1.0, name
        assert "note" in by_name[name] or by_name[name]["of many, ms"] > 0
    assert "note" not in by_name["SearchIndex"]
    assert by_name["FAISS, exact"]["note"] == "not installed (faiss)"


def test_neighbours__what_is_found_counts_once_and_the_query_never():
    line = torch.tensor([[float(r), 1.0, 0.0] for r in range(1, 30)], dtype=torch.float64)
    points = neighbours.Points(line[:, 0], line[:, 1:], CPU, 0.0)
    rows, edge = torch.tensor([0]), torch.tensor([10.0], dtype=torch.float64)
    right = torch.arange(11)[None]  # the query, and the ten nearest
    assert neighbours.precision(points, rows, right, edge) == 1.0
    assert neighbours.precision(points, rows, right[:, 1:], edge) == 1.0
    assert neighbours.precision(points, rows, right + 1, edge) == 1.0  # one too many, and the last
    assert neighbours.precision(points, rows, torch.arange(10, 20)[None], edge) == 0.1
    assert neighbours.precision(points, rows, torch.full((1, 10), -1), edge) == 0.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_exports__have_a_row_for_each_format_with_its_size(tmp_path):
    pt.embed(synthetic_taxonomy(300, seed=0), dim=3).save(tmp_path / "saved")
    rows = exports.measure(tmp_path / "saved")
    assert [row["format"] for row in rows] == list(exports.FORMATS)
    assert all(float(row["file MB"]) > 0 and row["taxa"] == "300" for row in rows)
    assert [bool(row.get("of 10 nearest, cosine finds")) for row in rows].count(True) == 1
