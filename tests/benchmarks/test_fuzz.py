"""Readers and loaders over damaged inputs; and the fuzzer notices what it looks for."""

import itertools
import os
import random
import signal
import time
from collections import Counter
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import tables
from benchmarks.tools import corpus, fuzz, guided

NAMES = list(fuzz.subjects())
EACH = 40


def require(name):
    """Skip a reader that needs a package which is not there."""
    if "from_obo" in name:
        pytest.importorskip("obonet")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_reading__of_damaged_inputs_gives_a_result_or_the_librarys_error(tmp_path, name):
    require(name)
    kinds = []
    for i in range(EACH):
        folder = tmp_path / str(i)
        folder.mkdir()
        draw = random.Random(f"suite/{i}")
        outcome = fuzz.tried(fuzz.subjects()[name], folder, draw)
        assert outcome.kind in fuzz.GOOD, f"{folder}: {outcome.detail}"
        kinds.append(outcome.kind)
    assert set(kinds) == set(fuzz.GOOD), "inputs are neither all sound nor all hopeless"


def test_inputs__are_the_same_in_every_run(tmp_path):
    found = []
    for run in "ab":
        for i in range(len(NAMES)):
            fuzz.kept(i, 3, tmp_path / run / str(i))
        files = sorted((tmp_path / run).rglob("*"))
        found.append({f.relative_to(tmp_path / run): f.is_file() and f.read_bytes() for f in files})
    assert found[0] == found[1]
    assert len(found[0]) > len(NAMES)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_reading__of_kept_inputs_gives_a_result_or_the_librarys_error(tmp_path, name):
    require(name)
    kept = corpus.corpus().get(name)
    if kept is None:
        pytest.skip("none are kept yet: python -m benchmarks fuzz --guided --out .")
    for i, data in enumerate(kept):
        folder = tmp_path / str(i)
        folder.mkdir()
        outcome = fuzz.tried(fuzz.subjects()[name], folder, corpus.Drawn(data))
        assert outcome.kind in fuzz.GOOD, f"{folder}: {outcome.detail}"
    assert kept


# -------------------------------------------------------------------- guidance by coverage


def test_chosen__changes_kept_inputs_every_second_time(monkeypatch):
    kept = {"a": [b"x" * 9]}
    monkeypatch.setattr(fuzz, "corpus", lambda: kept)
    among = dict.fromkeys("ab")
    draws = [fuzz.chosen(0, i, lambda: among) for i in range(40)]
    assert [name for name, _ in draws] == ["a", "b"] * 20
    guided = [isinstance(draw, corpus.Drawn) for _, draw in draws]
    assert guided == [True, False, False, False] * 10
    first = [draw.randbytes(3) for _, draw in draws]
    assert len(set(first[1::2] + first[2::4])) == 30
    assert b"xxx" in first[::4], "they are changes of what is kept"
    assert len(set(first[::4])) > 2


@given(data=st.binary(max_size=40), n=st.integers(1, 2**70))
def test_drawn__takes_numbers_from_bytes_and_then_from_a_stream(data, n):
    draw, again = corpus.Drawn(data), corpus.Drawn(data)
    assert draw.randbytes(len(data)) == data
    assert 0 <= draw.randrange(n) < n
    assert 0 <= draw.random() < 1
    again.randbytes(len(data))
    again.randrange(n)
    again.random()
    assert [draw.random() for _ in range(3)] == [again.random() for _ in range(3)]


def test_corpus__is_written_as_it_is_read(tmp_path):
    kept = {"a": [b"", b"\xff\0", b"x" * 99], "b": []}
    corpus.write_corpus(kept, tmp_path)
    assert corpus.corpus(tmp_path) == kept
    assert corpus.corpus(tmp_path / "none") == {}


def test_tried__keeps_the_first_input_of_each_error(tmp_path):
    known = set()
    for read in (foreign, quick, foreign, silent, refused):
        guided._tried(
            subject(read), tmp_path / "input", random.Random(0), tmp_path / "found", known
        )
    found = {file.name for file in (tmp_path / "found").iterdir()}
    assert found == {"1", "1.txt", "2", "2.txt"}
    assert "TypeError" in (tmp_path / "found" / "1.txt").read_text()
    assert (tmp_path / "found" / "1" / "x").exists()


@pytest.mark.slow
def test_guided__tries_the_inputs_and_keeps_what_reaches_new_code(tmp_path):
    pytest.importorskip("atheris")
    first = guided._subject("read_parents", 60, 0, tmp_path / "first", [], True)
    counts, _, kept = first
    assert counts["read"] + counts["refused"] == sum(counts.values()) == 60
    assert len(kept) > 1
    assert guided._subject("read_parents", 60, 0, tmp_path / "again", [], True) == first


# -------------------------------------------------------------------- what the fuzzer notices


def empty(folder, draw):
    path = folder / "x"
    path.touch()
    return path


def subject(read):
    return fuzz.Subject(empty, read, KeyError)


def quick(path):
    return path


def refused(path):
    raise KeyError("x")


def foreign(path):
    raise TypeError("x")


def silent(path):
    raise KeyError("no name of a file")


EXPECTED = {quick: "read", refused: "refused", foreign: "foreign", silent: "foreign"}


@pytest.mark.parametrize("read", EXPECTED)
def test_tried__tells_what_became_of_an_input(tmp_path, read):
    assert fuzz.tried(subject(read), tmp_path, random.Random(0)).kind == EXPECTED[read]


def later(what):
    """Do something from the second call on: the first one is not counted."""
    calls = itertools.count()
    return subject(lambda path: what() if next(calls) else None)


@cache
def faulty():
    return {
        "memory": later(lambda: np.ones(8 * fuzz.MEMORY, np.uint8)),
        "hangs": later(lambda: time.sleep(10**6)),
        "computes": later(lambda: sum(itertools.repeat(1))),
        "dies": later(lambda: os.kill(os.getpid(), signal.SIGKILL)),
        "quick": subject(quick),
    }


def test_outcomes__go_on_behind_what_hangs_dies_and_fills_the_memory(tmp_path, monkeypatch):
    environment = dict(os.environ)
    monkeypatch.setattr(fuzz, "memory_disk", lambda: str(tmp_path))
    found = dict(fuzz.outcomes(range(5), 0, faulty, patience=1.0))
    assert os.environ == environment
    assert list(tmp_path.iterdir()) == []
    assert [found[i].kind for i in range(5)] == ["foreign", "hung", "hung", "died", "read"]
    assert "MemoryError" in found[0].detail


@pytest.mark.parametrize(
    ("status", "seconds", "answers"),
    [
        ("running", 0.0, True),
        ("sleeping", 0.01, True),
        ("sleeping", 0.0, False),
        ("running", 9, False),
    ],
)
def test_answers__are_waited_for_while_a_worker_has_no_processor(
    monkeypatch, status, seconds, answers
):
    polls = itertools.count()
    pipe = SimpleNamespace(poll=lambda *_: next(polls) == 100)
    used = itertools.count(0, seconds)
    worker = SimpleNamespace(status=lambda: status, cpu_times=lambda: (next(used), 0.0, 0.0))
    monkeypatch.setattr(fuzz.psutil, "Process", lambda _: worker)
    assert fuzz._answers(pipe, 0, 5.0) is answers


# -------------------------------------------------------------------- runs in parts


counts = st.integers(0, 10**6)
tallies = st.builds(
    fuzz.Tally,
    st.dictionaries(st.sampled_from((*fuzz.KINDS, "guided")), counts).map(Counter),
    st.floats(0, 1e6),
    st.floats(0, 1e3),
    counts,
)


@given(tally=tallies)
def test_tally__is_the_same_in_a_file_of_results(tmp_path_factory, tally):
    row = {"seed": 3, "versions": "Python 3", "commit": "12e4567", "reader": "read"}
    row |= tally.as_row()
    out = tmp_path_factory.mktemp("out")
    tables.write_rows(out, "fuzz", [row])
    (found,) = map(fuzz.from_text, tables.kept_rows(out, "fuzz", as_text=True))
    assert found == row
    assert fuzz.Tally.of_row(found) == fuzz.Tally() + tally


@pytest.fixture
def few(monkeypatch):
    """Two readers, one of which reads no odd input."""

    def measure(inputs, seed, processes, report):
        found = {name: fuzz.Tally() for name in few}
        for i in inputs:
            outcome = fuzz.Outcome("refused" if i % 4 == 1 else "read", "", i / 8, i)
            found["ab"[i % 2]].add(outcome, i % 3 == 0)
        return found

    few = dict.fromkeys("ab")
    monkeypatch.setattr(fuzz, "subjects", lambda: few)
    monkeypatch.setattr(fuzz, "measure", measure)
    monkeypatch.setattr(fuzz, "SHARE", 5)


def test_parts__of_stopped_runs_add_up_to_one_run(few, monkeypatch):
    def run(rows, inputs, seed=0):
        found = list(fuzz.parts(rows, inputs, seed, 1, lambda *bad: None))
        assert len(found) == -(-(inputs - done(rows, seed)) // 10)
        return found[-1] if found else rows

    def done(rows, seed):
        return sum(fuzz.Tally.of_row(row).inputs() for row in rows if row["seed"] == seed)

    at_once = run([], 47)
    stopped = run([], 7)
    assert stopped == run(stopped, 7) == run(stopped, 5)
    assert run(stopped, 47) == at_once
    assert [row["inputs"] for row in fuzz.table(at_once)] == [24, 23]
    assert [row["refused"] for row in fuzz.table(at_once)] == [0, 12]
    assert [row["slowest (CPU s)"] for row in fuzz.table(at_once)] == ["5.75", "5.62"]

    monkeypatch.setattr(fuzz, "commit", lambda: "later")  # what was tried before stays
    both = run(run(stopped, 47), 11, seed=1)
    assert fuzz.table(run(stopped, 47)) == fuzz.table(at_once)
    assert len(both) == 6
    first, second, third = fuzz.circumstances(both).splitlines()
    assert first.startswith("7 inputs of seed 0 on ")
    assert first.endswith("; 3 of them changed from kept ones.")
    assert second.startswith("40 inputs of seed 0 on commit later, Python ")
    assert third.startswith("11 inputs of seed 1 on commit later, Python ")


def test_measure__tries_each_input_once_in_any_number_of_processes(monkeypatch):
    def outcomes(inputs, seed):
        return [(i, fuzz.Outcome("died" if i == 17 else "read")) for i in inputs]

    bad = []
    monkeypatch.setattr(fuzz, "outcomes", outcomes)
    for processes in (1, 3):
        found = fuzz.measure(range(5, 50), 0, processes, lambda *case: bad.append(case[0]))
        assert sum(tally.inputs() for tally in found.values()) == 45
        assert sum((tally.counts for tally in found.values()), Counter())["died"] == 1
    assert bad == [17, 17]
