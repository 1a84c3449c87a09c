"""Shards beside one process, on a small tree: the same vectors and the same values."""

import pytest

from benchmarks.speed import shards


@pytest.mark.slow
def test_runs__have_the_vectors_and_the_values_of_one_process(tmp_path):
    rows = list(shards.runs(400, [2, 1], 3, 50, 2.0, tmp_path))
    assert [(row["processes"], row["process"]) for row in rows] == [(2, 1), (2, 2), (1, 1)]
    for name in ("vectors", *shards.MEASURES):
        assert len({row[name] for row in rows}) == 1, name
    assert all(0.1 < row[f"{step}: GiB"] < 2 for row in rows for step in ("embed", "evaluate"))
    assert not list(tmp_path.iterdir())
    peaks, quality = shards.summary(shards.completed(rows, rows))
    assert len(peaks) == 3
    assert [line.split(" | ")[1] for line in quality.splitlines()[2:]] == [
        "2 processes",
        "1 process",
        "floor",
        "the tree itself",
    ]


@pytest.mark.slow
def test_runs__a_process_that_needs_more_memory_than_its_limit_is_an_error(tmp_path):
    with pytest.raises(RuntimeError, match=r"the limit is 0\.2|failed"):
        list(shards.runs(400, [2], 3, 50, 0.2, tmp_path))
