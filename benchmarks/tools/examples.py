"""Every example as a script, and as the notebook that readers see: does it run, and how long?"""

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.tables import CHECKOUT, Row

__all__ = ["measure"]

_NOTEBOOK = """
import sys
import jupytext
from nbclient import NotebookClient
NotebookClient(jupytext.read(sys.argv[1]), timeout=600, kernel_name="python3").execute()
"""


def measure(examples: list[Path] | None = None, notebooks: bool = False) -> Iterator[Row]:
    """Run examples one after the other, by default all, and yield what each took, then all of them.

    Raises
    ------
    SystemExit
        If one fails, with its standard error.
    """
    found = sorted((CHECKOUT / "examples").glob("*.py")) if examples is None else examples
    ways = {"script": [], **({"notebook": ["-c", _NOTEBOOK]} if notebooks else {})}
    total = {"s": 0.0, "CPU s": 0.0}
    for way, before in ways.items():
        for example in found:
            took = _run([*before, str(example.resolve())], f"{example.stem}, as a {way}")
            total = {unit: total[unit] + took[unit] for unit in total}
            yield {"example": example.stem, "as": way} | _rounded(took)
    yield {"example": f"all {len(found)}", "as": " and ".join(ways)} | _rounded(total)


def _run(arguments: list[str], what: str) -> dict[str, float]:
    """Run Python in an empty folder; return seconds by the clock and of the processors."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(f"{what} failed\n{done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"s": time.monotonic() - began, "CPU s": spent}


def _rounded(took: dict[str, float]) -> Row:
    return {unit: f"{seconds:.1f}" for unit, seconds in took.items()}
