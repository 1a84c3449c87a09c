"""Readers and loaders over damaged inputs; and the fuzzer notices what it looks for."""

import itertools
import os
import random
import signal
import time
from functools import cache

import numpy as np
import pytest

from benchmarks.tools import fuzz

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
