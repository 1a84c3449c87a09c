"""Processes beside one process, on a small tree: the same pairs, the quality of both, the bytes."""

import pytest

from benchmarks.speed import processes
from poincare_taxa.testing import synthetic_taxonomy


@pytest.mark.slow
def test_runs__compute_the_same_pairs_in_any_number_of_processes():
    tax = synthetic_taxonomy(60, seed=1)
    rows = list(processes.runs(tax, [1, 2], 1, 3, 30))
    # Passes over all but the root, each time with 18 partners.
    assert rows[0]["pairs"] == rows[1]["pairs"] >= 50 * 18 * (len(tax) - 1)
    assert rows[0]["pairs"] % (18 * (len(tax) - 1)) == 0
    assert [row["processes"] for row in rows] == [1, 2]
    assert rows[0]["× the first"] == 1
    assert all(row["s"] > 0 and row["Spearman"] > 0.8 for row in rows)
    shown = processes.summary(rows)
    assert [row["processes"] for row in shown] == [1, 2]
    assert shown[0]["× the first"] == "1.000"
    assert (rows[0]["collectives"], rows[0]["MB received"]) == (0, 0)
    assert rows[1]["collectives"] > 0
