"""What a kill leaves is the old or the new; and the bench of kills notices what it looks for."""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tools import kills

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(not kills.supported(), reason="counts calls of Linux on x86-64")


def trials_of(folder, work):
    """What the kills at all file operations of a work leave."""
    bench = kills.Bench(work, folder)
    return [
        bench.trial(functools.partial(kills.killed_at, operation=k))
        for k in range(bench.operations())
    ]


LIBRARY = """
from benchmarks.tools import kills

bad = []
rows = list(kills.measure(lambda *case: bad.append(case), every=12, moments=1))
assert not bad, bad
assert len(rows) == 11, len(rows)
assert sum(row["killed at"] for row in rows) > 10, rows
"""


def test_kills__in_the_library_leave_the_old_or_the_new():
    """In a fresh process: polars hangs in the child of one whose threads it has started."""
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY], capture_output=True, text=True, cwd=ROOT, timeout=900
    )
    assert done.returncode == 0, done.stderr


# -------------------------------------------------------------------- what the bench notices


def text_of(folder):
    text = (folder / "x").read_text()
    if text not in ("old", "new"):
        raise ValueError(f"half of it: {text!r}")
    return text


def in_place(folder, state):
    (folder / "x").write_text(state)


def renamed(folder, state):
    draft = folder / f"draft-{os.getpid()}"
    draft.write_text(state)
    draft.rename(folder / "x")


def well(folder, state):
    (folder / "draft").write_text(state)
    (folder / "draft").rename(folder / "x")


def removed_first(folder, state):
    (folder / "x").unlink(missing_ok=True)
    well(folder, state)


EXPECTED = {
    in_place: {"old", "broken"},  # it is empty for a moment
    removed_first: {"old", "broken"},
    renamed: {"old", "litter"},  # nobody removes the draft
    well: {"old"},  # killed before each call, the last one too
}


@pytest.mark.parametrize("write", EXPECTED)
def test_trial__tells_what_is_left(tmp_path, write):
    found = trials_of(tmp_path, kills.Work(write, text_of))
    assert {trial.left for trial in found} == EXPECTED[write]


def test_killed_at__counts_calls_that_change_files(tmp_path):
    def work():
        with (tmp_path / "a").open("wb") as stream:
            stream.write(b"x")
            stream.flush()
            os.fsync(stream.fileno())
        (tmp_path / "a").read_bytes()
        (tmp_path / "a").rename(tmp_path / "b")
        (tmp_path / "b").unlink()

    assert kills.killed_at(work, None) == ("open", "write", "fsync", "rename", "unlink")
    assert kills.killed_at(work, 3) == ("open", "write", "fsync", "rename")
    assert (tmp_path / "a").exists(), "the call that it was killed at has no effect"


def test_killed_at__raises_where_the_work_fails_by_itself(tmp_path):
    with pytest.raises(RuntimeError, match="failed by itself"):
        kills.killed_at(lambda: 1 / 0, None)
