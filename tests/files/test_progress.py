"""Progress: bars in terminals and notebooks, whole lines now and then in logs."""

import importlib.util
import io
import sys
import threading
import time
import types

import pytest

from poincare_taxa.files import progress
from poincare_taxa.files.progress import open_display, progress_display


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands still until it is moved."""
    clock = types.SimpleNamespace(now=1000.0)
    monkeypatch.setattr(progress, "_LOG_PAUSE", 30.0)  # conftest has silence
    monkeypatch.setattr(progress, "time", types.SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def work(clock, show, seconds, steps=1000, text="work"):
    for step in range(1, steps + 1):
        clock.now += seconds / steps
        show(text, step, steps)


def test_log__of_short_work_is_empty(clock, capsys):
    with progress_display(None) as show:
        work(clock, show, progress._LOG_PAUSE - 1)
    assert capsys.readouterr().err == ""


def test_log__begins_after_half_a_minute(clock, monkeypatch, capsys):
    spec = importlib.util.find_spec(progress.__name__)
    fresh = importlib.util.module_from_spec(spec)  # of that which was imported conftest has silence
    spec.loader.exec_module(fresh)
    monkeypatch.setattr(fresh, "time", progress.time)
    with fresh.progress_display(None) as show:
        for seconds in (29, 1):
            work(clock, show, seconds, steps=1)
    assert capsys.readouterr().err == "work · 100% · after 0:00:30\n"


def test_log__has_whole_lines_that_become_rare(clock, capsys):
    with progress_display(None) as show:
        work(clock, show, 10 * 3600, steps=5000)
    shown = capsys.readouterr().err
    assert "\r" not in shown
    assert "\x1b" not in shown
    lines = shown.splitlines()
    assert 10 < len(lines) < 50
    halfway = next(line for line in lines if int(line.split(" · ")[1].rstrip("%")) >= 50)
    _, share, spent, left = halfway.split(" · ")
    done = int(share.rstrip("%")) / 100
    hours, minutes, _ = spent.removeprefix("after ").split(":")
    assert int(hours) + int(minutes) / 60 == pytest.approx(10 * done, abs=0.1)
    hours, minutes, _ = left.removeprefix("about ").removesuffix(" left").split(":")
    assert int(hours) + int(minutes) / 60 == pytest.approx(10 * (1 - done), abs=0.1)


def test_log__time_left_is_that_of_the_present_piece(clock, capsys):
    with progress_display(None) as show:
        work(clock, show, 1000, text="slow")
        show("fast", 0, 10)
        capsys.readouterr()
        clock.now += 1000
        show("fast", 5, 10)
        clock.now += 1000
        show("fast", 5, 10)  # no step forward, and no other piece
    assert capsys.readouterr().err.splitlines() == [
        "fast · 50% · after 0:33:20 · about 0:16:40 left",
        "fast · 50% · after 0:50:00 · about 0:33:20 left",
    ]


def test_log__that_was_asked_for_has_the_start_and_the_end(clock, capsys):
    with progress_display(True) as show:
        show("begin", 0, 2)
        show("middle", 1, 2)
        show("end", 2, 2)
    assert [line.split(" · ")[0] for line in capsys.readouterr().err.splitlines()] == [
        "begin",
        "end",
    ]


def test_silence__is_silent_in_a_terminal_too(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_display(False) as show:
        show("work", 1, 2)
    assert sys.stderr.getvalue() == ""


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_without_a_terminal__nothing_fails(monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    with progress_display(None) as show:
        show("work", 1, 1)


def in_a_terminal(monkeypatch):
    """Standard error of a terminal, from here on in a test."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    return sys.stderr


def test_terminal__has_a_bar_with_text_as_it_is(monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    with progress_display(True) as show:
        show("epoch [bold]1", 1, 2)
    assert "epoch [bold]1" in terminal.getvalue()
    assert "━" in terminal.getvalue()


def test_terminal__has_no_bar_of_short_work(monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "_QUIET", 1e6)
    with progress_display(None) as show:
        show("short", 1, 2)
        clocks = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
        assert [clock.daemon for clock in clocks] == [True], "an exit waits for no bar"
    assert terminal.getvalue() == ""


def test_terminal__has_a_bar_of_a_long_step_without_a_word(monkeypatch):
    terminal = in_a_terminal(monkeypatch)
    monkeypatch.setattr(progress, "_QUIET", 0.0)
    with progress_display(None) as show:
        show("one long step", 0, 2)
        deadline = time.monotonic() + 60
        while "one long step" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "one long step" in terminal.getvalue()


def test_display__inside_of_another_one_is_that_one(capsys):
    open_display()("nobody looks", 0, 1)
    with progress_display(True) as outer:
        assert open_display() is outer
        with progress_display(None) as inner, progress_display(True) as innermost:
            assert inner is innermost is outer
        with progress_display(False):
            open_display()("silence", 1, 1)
        assert open_display() is outer
    with progress_display(False), progress_display(None) as show:
        show("silence too", 1, 1)
    open_display()("nobody looks", 1, 1)
    assert capsys.readouterr().err == ""


def test_notebook__has_one_bar_that_goes_away(clock, monkeypatch):
    states = []

    class Handle:
        def update(self, state, raw):
            assert raw
            states.append(state)

    def display(state, raw, display_id):
        assert not states, "one place of the output"
        assert raw
        assert display_id, "without one, display returns nothing that could be updated"
        states.append(state)
        return Handle()

    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(
        sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell, display=None)
    )
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    with progress_display(None) as show:
        work(clock, show, 1.9, text="<b>short</b>")
        assert states == []
        work(clock, show, 60, text="<b>long</b>")
        assert 20 < len(states) <= 121
        assert "<progress" in states[0]["text/html"]
        assert "&lt;b&gt;long" in states[0]["text/html"]
    assert states[-1] == {"text/html": "", "text/plain": ""}
