"""The path of a newcomer, as the pages print it: install, embed, page, figure, notebook.

The lines are those of the pages' blocks, in one shell, so that a folder and an environment that a
line enters are those of the next. Two things are put in their place, and printed: the address of
the project, which is not published yet, by this checkout (its last commit); and, where the index
of PyTorch does not answer, that index by the one that pip is configured with, and the release of
torch by that of ``constraints.txt``.
"""

import os
import platform
import shlex
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import NamedTuple

from benchmarks.options import ALL_THREADS
from benchmarks.tables import CHECKOUT, Row, commit
from benchmarks.tools.code_blocks import code_blocks

__all__ = ["Step", "circumstances", "follow", "path"]

_INSTALLATION = ("On a CPU", "The first seven minutes")
_COMPLETE = "The complete NCBI taxonomy"
_INDEX = " --index-url https://download.pytorch.org/whl/cpu"


class Step(NamedTuple):
    """A line of a page, and what the shell is given."""

    shown: str
    command: str


def path(complete: bool = False) -> list[Step]:
    """List the steps: two blocks of the installation page, and the Python of the README."""
    page = code_blocks((CHECKOUT / "docs" / "installation.md").read_text())
    readme = code_blocks((CHECKOUT / "README.md").read_text())
    lines = [
        line
        for heading in _INSTALLATION
        for block in page
        if block.heading == heading
        for line in block.code.splitlines()
    ]
    steps = [Step(line, line) for line in lines]
    for block in readme:
        if block.language == "python":
            steps.append(Step("the README's Python", f"python -c {shlex.quote(block.code)}"))
        elif complete and block.heading == _COMPLETE:
            steps += [Step(line, line) for line in block.code.splitlines()]
    return steps


def _here(command: str, torch_index: bool) -> str:
    """Put what is published nowhere yet, or not to be had here, in the place of what is printed."""
    command = command.replace("REPOSITORY", f"{shlex.quote(f'file://{CHECKOUT}')} poincare_taxa")
    if _INDEX in command and not torch_index:
        pins = (CHECKOUT / "constraints.txt").read_text().splitlines()
        torch = next(pin for pin in pins if pin.startswith("torch=="))
        command = command.replace(_INDEX, "").replace("install torch", f"install {torch}")
    return command


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10):
            return True
    except OSError:
        return False


# Number of the step, clock, and the processors' seconds: of the shell, and of what it has run.
_MARK = "mark() { { echo $1 $EPOCHREALTIME; times; } >&3; }"


def follow(steps: list[Step], folder: Path | None = None) -> list[Row]:
    """Run the steps in one shell, in an empty folder, and return what each took.

    Raises
    ------
    SystemExit
        If a step fails; those behind it are not run.
    """
    torch_index = _answers(_INDEX.split()[-1] + "/torch/")
    with tempfile.TemporaryDirectory() as temporary:
        work, marks = folder or Path(temporary, "work"), Path(temporary, "marks")
        work.mkdir(parents=True, exist_ok=True)
        if any(work.iterdir()):
            raise SystemExit(f"{work} is not empty: a newcomer begins with nothing")
        script = ["set -euo pipefail", _MARK, f"exec 3>{shlex.quote(str(marks))}"]
        for number, step in enumerate(steps):
            command = _here(step.command, torch_index)
            if command != step.command:
                print(f"here `{step.shown}` is `{command}`", flush=True)
            script += [f"mark {number}", f"echo {shlex.quote(f'$ {step.shown}')}", command]
        script.append(f"mark {len(steps)}")
        done = subprocess.run(["bash", "-c", "\n".join(script)], cwd=work, env=_bare())
        words = marks.read_text().split()
        reached = [words[i : i + 6] for i in range(0, len(words), 6)]
    if done.returncode:
        raise SystemExit(f"failed: {steps[int(reached[-1][0])].shown}")
    return _rows(steps, reached)


def _bare() -> dict[str, str]:
    """Environment variables without those of an active Python environment."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    active = os.environ.get("VIRTUAL_ENV")
    folders = os.environ["PATH"].split(os.pathsep)
    own = {str(Path(active) / "bin")} if active else set()
    return kept | {
        "PATH": os.pathsep.join(folder for folder in folders if folder not in own),
        "PIP_NO_CACHE_DIR": "1",  # a newcomer has downloaded nothing
        "MPLBACKEND": "Agg",
    }


def _rows(steps: list[Step], reached: list[list[str]]) -> list[Row]:
    """What each step took: by the clock, and of the processors."""
    clock = [float(mark[1]) for mark in reached]
    spent = [sum(map(_seconds, mark[2:])) for mark in reached]
    rows = [
        _row(f"`{step.shown}`", clock[i + 1] - clock[i], spent[i + 1] - spent[i])
        for i, step in enumerate(steps)
    ]
    return [*rows, _row("**all**", clock[-1] - clock[0], spent[-1] - spent[0])]


def _row(step: str, clock: float, spent: float) -> Row:
    return {"step": step, "s": f"{clock:.0f}", "CPU s": f"{spent:.0f}"}


def _seconds(text: str) -> float:
    """Seconds of a time such as 1m2.345s."""
    minutes, seconds = text.rstrip("s").split("m")
    return 60 * float(minutes) + float(seconds)


def circumstances() -> str:
    """Say where the times were taken, and what they may be at most."""
    return (
        f"{ALL_THREADS} cores, commit {commit()}, Python {platform.python_version()}, without pip's"
        " cache. *CPU s* is the time of the processors, which other work does not lengthen."
    )
