"""Progress of long work: a bar in a terminal or a notebook, a line now and then in a log."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from html import escape
from typing import Any

__all__ = ["Show", "open_display", "progress_display"]

Show = Callable[[str, int, int], None]
"""What is done, and how much of how much: ``show("epoch 3/50", 3, 50)``."""

_QUIET = 2.0
"""Seconds before a bar appears; what is done before leaves none."""

_LOG_PAUSE = 30.0
"""Seconds of silence in a log, at least; what is done before leaves no line there."""

_NOTEBOOK_PAUSE = 0.5
"""Seconds between two messages to a notebook."""


def _silent(text: str, done: int, total: int) -> None:
    """Show nothing."""


_open: ContextVar[Show | None] = ContextVar("_open", default=None)


def open_display() -> Show:
    """Return the function of the `progress_display` that is open; a silent one where none is.

    So the steps of a long computation report how far they are, and its caller decides whether this
    is shown.
    """
    return _open.get() or _silent


@contextmanager
def progress_display(wanted: bool | None, *, transient: bool = False) -> Iterator[Show]:
    """Yield a function that shows on standard error how far the work is.

    Parameters
    ----------
    wanted
        False for silence. By default a bar in a terminal or a notebook, after two seconds;
        elsewhere (a file, a job's log) whole lines, the first after half a minute, then fewer and
        fewer. True is the same from the start on, and the last line of a log is that of the end.
    transient
        Whether the bar of a terminal vanishes at the end.

    Notes
    -----
    Inside of another display that one is used, so that there is one bar at a time.
    """
    outer = _open.get()
    if outer is not None and wanted is not False:
        yield outer
        return
    with _chosen(wanted, transient) as show:
        before = _open.set(show)
        try:
            yield show
        finally:
            _open.reset(before)


@contextmanager
def _chosen(wanted: bool | None, transient: bool) -> Iterator[Show]:
    """Yield the function for where standard error leads."""
    stream, at_once = sys.stderr, wanted is True
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if wanted is False or stream is None:
        yield _silent
    elif stream.isatty():
        with _terminal(transient, at_once) as show:
            yield show
    elif getattr(shell, "kernel", None) is not None:
        with _notebook(at_once) as show:
            yield show
    else:
        first = 0 if at_once else _LOG_PAUSE
        yield _Paced(_log, first, _LOG_PAUSE, share=0.25, to_the_end=at_once)


@contextmanager
def _terminal(transient: bool, at_once: bool) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    bar = Progress(
        SpinnerColumn(finished_text=" "),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
    )
    task = bar.add_task("", total=None)
    # A step may take long without a word, so that a clock of its own starts the bar.
    clock = threading.Timer(_QUIET, bar.start)
    clock.daemon = True
    if at_once:
        bar.start()
    else:
        clock.start()
    try:
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total
        )
    finally:
        clock.cancel()
        if not at_once:
            clock.join()
        if bar.live.is_started:
            bar.stop()


@contextmanager
def _notebook(at_once: bool) -> Iterator[Show]:
    from IPython.display import display

    # 1. One place of the output, made when there is something to show; the last state replaces
    #    the one before it, which needs no widgets and is kept by a saved notebook.
    handle: Any = None

    def write(line: str, done: int, total: int) -> None:
        nonlocal handle
        html = f'<progress value="{done}" max="{total}"></progress> {escape(line)}'
        state = {"text/html": html, "text/plain": line}
        if handle is None:
            handle = display(state, raw=True, display_id=True)
        else:
            handle.update(state, raw=True)

    yield _Paced(write, 0 if at_once else _QUIET, _NOTEBOOK_PAUSE)
    # 2. Work that is done needs no bar.
    if handle is not None:
        handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _log(line: str, done: int, total: int) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


class _Paced:
    """Write a line after `first` seconds, then every `pause` seconds at most.

    Or after `share` of the time so far, where that is longer.
    """

    def __init__(
        self,
        write: Callable[[str, int, int], None],
        first: float,
        pause: float,
        share: float = 0.0,
        to_the_end: bool = False,
    ) -> None:
        self._write, self._pause, self._share, self._to_the_end = write, pause, share, to_the_end
        self._began = time.monotonic()
        self._due = self._began + first
        self._base = (self._began, 0)  # when this piece of work was seen first, and how far it was
        self._last = sys.maxsize

    def __call__(self, text: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < self._last:  # another piece of work, with a speed of its own
            self._base = now, done
        self._last = done
        if now < self._due and not (self._to_the_end and done >= total):
            return
        self._due = now + max(self._pause, self._share * (now - self._began))
        parts = [text, f"{done / max(total, 1):.0%}", f"after {_clock(now - self._began)}"]
        since, base = self._base
        if base < done < total:
            left = (now - since) / (done - base) * (total - done)
            parts.append(f"about {_clock(left)} left")
        self._write(" · ".join(parts), done, total)


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
