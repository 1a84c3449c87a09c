"""Processes beside one process, on a small tree: the same pairs, the quality of both, the bytes."""

import math

import pytest
import torch

from benchmarks.speed import processes, scale
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.testing import synthetic_taxonomy


@pytest.mark.slow
def test_runs__compute_the_same_pairs_in_any_number_of_processes():
    tax = synthetic_taxonomy(60, seed=1)
    rows = list(processes.runs(tax, [1, 2], 1, 3, 30))
    # Passes over all but the root, each time with 18 partners.
    assert rows[0]["pairs"] == rows[1]["pairs"] == rows[2]["pairs"] >= 50 * 18 * (len(tax) - 1)
    assert rows[0]["pairs"] % (18 * (len(tax) - 1)) == 0
    assert [row["processes"] for row in rows] == ["1", "2", "2, apart"]
    assert rows[0]["× the first"] == 1
    # Apart, two do twice the work, with the result of one.
    assert rows[2]["pairs/s"] == pytest.approx(2 * rows[2]["pairs"] / rows[2]["s"], rel=0.05)
    assert rows[2]["Spearman"] == rows[0]["Spearman"] != rows[1]["Spearman"]
    assert all(row["s"] > 0 and row["Spearman"] > 0.8 for row in rows)
    shown = processes.summary(rows)
    assert [row["processes"] for row in shown] == ["1", "2", "2, apart"]
    assert shown[0]["× the first"] == "1.000"
    assert (rows[0]["collectives"], rows[0]["MB received"]) == (0, 0)
    assert rows[1]["collectives"] > 0 == rows[2]["collectives"]


@pytest.mark.slow
def test_simulator__has_the_bytes_that_a_run_receives():
    rows = list(scale.checked([1, 2], 200, 16))
    assert [row["processes"] for row in rows] == [1, 2, 1, 2]
    for row in rows:
        assert row["collectives"] == row["simulated collectives"]
        assert row["bytes received"] == row["simulated bytes"]
        assert (row["bytes received"] > 0) == (row["of objects"] > 0) == (row["processes"] > 1)
        assert row["bytes at the start"] == 200 * scale.row_bytes()[0] * (row["processes"] > 1)
        assert row["CPU s"] > 0


@pytest.fixture(scope="module")
def tree():
    return TreeIndex(synthetic_taxonomy(2000))


def test_replays__of_one_process_receive_nothing(tree):
    assert scale.levels(tree, 50, 1, 512)["received"] == 0
    assert scale.pairs(tree, 1, 512, 2)["received"] == 0
    for row in (
        *scale.levels_of_slices(tree, 50, 1, [512]),
        scale.pairs_of_slices(tree, 1, 512, 2),
    ):
        assert (row["received"], row["balance"]) == (0, 1)


def test_levels__send_every_row_once_in_an_interval(tree):
    row, moments = scale.row_bytes()
    assert row == 8 * 11
    assert moments == 8 * (1 + 11 + 2)
    # Each level is a batch, and 50 passes are 2 intervals.
    found = scale.levels(tree, 50, 2, 1 << 20)
    half = sum(math.ceil(n / 2) for n in tree.level_start.diff()[1:].tolist())
    assert found["received"] == half * 2 * row
    assert found["collectives"] == tree.max_depth * 2
    assert found["steps"] == tree.max_depth * 50


def test_slices__fetch_what_their_batches_need_from_others(tree):
    whole = scale.levels(tree, 50, 8, 512)
    slices, once = scale.levels_of_slices(tree, 50, 8, [512, 1 << 20])
    bounds, own, top = scale._slice(tree, 8)
    rows = torch.arange(len(tree))
    outside = ~own(rows) & (tree.depth > top)
    assert scale._remote(tree, rows, own, top) == int(outside.sum())
    assert own(rows).nonzero()[:, 0].tolist() == list(range(*bounds[3:5].tolist()))
    held = [int((tree.depth <= depth).sum()) for depth in (top, top + 1)]
    assert held[0] <= scale.TOP * len(tree) < held[1]
    assert 0 < slices["received"] == once["received"]
    assert slices["balance"] <= 1
    assert (once["steps"], slices["steps"] > once["steps"]) == (50 * (tree.max_depth - top), False)
    assert whole["pairs"] == slices["pairs"] == 50 * 18 * (len(tree) - 1)


def replays(n):
    """Bytes of a step grow with the square root of the nodes."""
    kind = {"recipe": "pairs", "table": "whole", "processes": 8, "batch": 2}
    return kind | {"taxa": n, "received": 30 * n**0.5, "pairs": 3 * 2 * scale.TILE, "balance": 1.0}


def test_law__is_the_power_that_two_replays_have():
    rows = [replays(n) for n in (10**4, 10**6, 10**8)]
    assert scale.step_bytes(rows[0]) == pytest.approx(1000)
    assert scale.law(rows[0], rows[1], 10**8) == pytest.approx(scale.step_bytes(rows[2]))
    (found,) = scale.shown(rows, [10**10])
    assert found["law / replay"] == "1.00"
    assert found["law, 1e+10"] == "1,000"


def test_costs__are_of_a_pair_and_of_a_step():
    checks = [
        {
            "recipe": what,
            "processes": size,
            "steps": 30,
            "million pairs": 2.0,
            "CPU s": 30 * 0.01 + 2e6 / size * 1e-6,
        }
        for what in scale.KERNELS
        for size in (1, 2, 4)
    ]
    for pair, step in scale.costs(checks).values():
        assert (pair, step) == pytest.approx((1e-6, 0.01))
    assert [row["CPU s, law"] for row in checks] == [f"{row['CPU s']:.2f}" for row in checks]


def test_forecast__finds_the_bytes_of_a_node():
    def peak(n, size):
        return {
            "nodes": n,
            "processes": size,
            "embed: GiB": 0.25 + (12 * n + 500 * n / size) / 2**30,
        }

    rows = [peak(n, size) for n in (1 << 18, 1 << 20) for size in (2, 4)]
    found = scale.forecast(rows, [(1 << 24, 8)])
    assert [row["embed: GiB, law"] for row in found[:4]] == [
        f"{row['embed: GiB']:.2f}" for row in rows
    ]
    assert found[4]["embed: GiB, law"] == f"{peak(1 << 24, 8)['embed: GiB']:.2f}"


def test_tables__are_of_the_replays():
    rows = list(scale.replayed([500, 1000, 2000], [2, 8, 64], [128, 512], 1))
    assert len(rows) == 3 * 3 * 2 * 4
    shown = list(scale.shown(rows, [10**9]))
    assert len(shown) == 3 * 2 * 4
    assert all("nan" not in row.values() for row in shown)
    limits = list(scale.limits(rows, {"levels": (1e-6, 1e-3), "pairs": (1e-7, 0.0)}))
    assert len(limits) == len(scale.MACHINES) * 2 * 4
    assert len(scale.bounds(limits)) == len(scale.MACHINES) * 4
    for row in limits:
        assert 0 < float(row["speed-up"]) <= row["processes"]
    (row,) = scale.memory([10**9], [8])
    assert row["whole, GB"] > row["8 slices, GB"] > row["whole, GB"] / 8
