"""Readers and loaders over damaged inputs; and the fuzzer notices what it looks for."""

import itertools
import os
import random
import signal
import time
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tools import fuzz, guided

NAMES = list(fuzz.subjects())
EACH = 40


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_reading__of_damaged_inputs_gives_a_result_or_the_librarys_error(tmp_path, name):
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
    kept = guided.corpus().get(name)
    if kept is None:
        pytest.skip("none are kept yet: python -m benchmarks fuzz --guided --out .")
    for i, data in enumerate(kept):
        folder = tmp_path / str(i)
        folder.mkdir()
        outcome = fuzz.tried(fuzz.subjects()[name], folder, guided.Drawn(data))
        assert outcome.kind in fuzz.GOOD, f"{folder}: {outcome.detail}"
    assert kept


# -------------------------------------------------------------------- guidance by coverage


@given(data=st.binary(max_size=40), n=st.integers(1, 2**70))
def test_drawn__takes_numbers_from_bytes_and_then_from_a_stream(data, n):
    draw, again = guided.Drawn(data), guided.Drawn(data)
    assert draw.randbytes(len(data)) == data
    assert 0 <= draw.randrange(n) < n
    assert 0 <= draw.random() < 1
    again.randbytes(len(data))
    again.randrange(n)
    again.random()
    assert [draw.random() for _ in range(3)] == [again.random() for _ in range(3)]


def test_corpus__is_written_as_it_is_read(tmp_path):
    kept = {"a": [b"", b"\xff\0", b"x" * 99], "b": []}
    guided.write_corpus(kept, tmp_path)
    assert guided.corpus(tmp_path) == kept
    assert guided.corpus(tmp_path / "none") == {}


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
        "dies": later(lambda: os.kill(os.getpid(), signal.SIGKILL)),
        "quick": subject(quick),
    }


def test_outcomes__go_on_behind_what_hangs_dies_and_fills_the_memory():
    found = dict(fuzz.outcomes(range(4), 0, faulty, patience=1.0))
    assert [found[i].kind for i in range(4)] == ["foreign", "hung", "died", "read"]
    assert "MemoryError" in found[0].detail
