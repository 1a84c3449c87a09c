"""Progress of long work: a bar in a terminal or a notebook, a line now and then in a log."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from html import escape
from typing import Any

__all__ = ["Show", "progress_display"]

Show = Callable[[str, int, int], None]
"""What is done, and how much of how much: ``show("epoch 3/50", 3, 50)``."""

_LOG_PAUSE = 30.0
"""Seconds of silence in a log, at least; what is done before leaves no line there."""

_NOTEBOOK_PAUSE = 0.5
"""Seconds between two messages to a notebook; what is done before leaves no bar."""


@contextmanager
def progress_display(wanted: bool | None, *, transient: bool = False) -> Iterator[Show]:
    """Yield a function that shows on standard error how far the work is.

    Parameters
    ----------
    wanted
        False for silence. By default a bar in a terminal or a notebook; elsewhere (a file, a job's
        log) whole lines, the first after half a minute, then fewer and fewer. True is the same,
        with a line at the start and at the end.
    transient
        Whether the bar of a terminal vanishes at the end.
    """
    stream = sys.stderr
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if wanted is False or stream is None:
        yield lambda text, done, total: None
    elif stream.isatty():
        with _terminal(transient) as show:
            yield show
    elif getattr(shell, "kernel", None) is not None:
        with _notebook() as show:
            yield show
    else:
        yield _Paced(_log, _LOG_PAUSE, share=0.25, to_the_end=wanted is True)


@contextmanager
def _terminal(transient: bool) -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=transient) as bar:
        task = bar.add_task("", total=None)
        yield lambda text, done, total: bar.update(
            task, description=text, completed=done, total=total
        )


@contextmanager
def _notebook() -> Iterator[Show]:
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

    yield _Paced(write, _NOTEBOOK_PAUSE)
    # 2. Work that is done needs no bar.
    if handle is not None:
        handle.update({"text/html": "", "text/plain": ""}, raw=True)


def _log(line: str, done: int, total: int) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


class _Paced:
    """Write a line every `pause` seconds at most, or after `share` of the time so far."""

    def __init__(
        self,
        write: Callable[[str, int, int], None],
        pause: float,
        share: float = 0.0,
        to_the_end: bool = False,
    ) -> None:
        self._write, self._pause, self._share, self._to_the_end = write, pause, share, to_the_end
        self._began = time.monotonic()
        self._due = self._began + (0 if to_the_end else pause)
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
