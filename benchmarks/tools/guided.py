"""Inputs of `fuzz` guided by coverage: what reaches new code of the library is changed further.

atheris (libFuzzer) makes bytes, an input is drawn by numbers taken from them, and bytes by which
new branches of the library are reached are kept and changed again. As many inputs drawn by lot are
the floor. One subject at a time is read, in a process of its own; one that hangs or dies is
replaced.
"""

import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from benchmarks.tables import Row
from benchmarks.tools import fuzz
from benchmarks.tools.corpus import Drawn, corpus

KINDS = {"read": b"r", "refused": b"s", "foreign": b"f"}
LONGEST = 512  # bytes that numbers are taken from
SECONDS, MEMORY = 60, 4096  # of one input, by the clock; MiB of the process


# -------------------------------------------------------------------- in a process of its own


def work(name: str, seed: int | None, folder: Path, flags: list[str]) -> None:
    """Read inputs of one subject until libFuzzer ends the process; with a seed, inputs by lot.

    ``folder/outcomes`` gets a byte for each input, and ``folder/found`` those that are neither read
    nor refused, each kind of error once.
    """
    import atheris

    warnings.simplefilter("ignore")
    # numba compiles the bytecode of the kernels, which is left as it is.
    with atheris.instrument_imports(include=["poincare_taxa"], exclude=["poincare_taxa.kernels"]):
        subject = fuzz.subjects()[name]
        for i in range(20):  # what is imported when it is needed first
            _tried(subject, folder / "input", random.Random(i))
    log = os.open(folder / "outcomes", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    known: set[str] = set()
    count = 0

    def one(data: bytes) -> None:
        nonlocal count
        draw = Drawn(data) if seed is None else random.Random(f"{seed}/{name}/{count}")
        count += 1
        outcome = _tried(subject, folder / "input", draw, folder / "found", known)
        os.write(log, KINDS[outcome.kind])

    atheris.Setup([sys.argv[0], *flags], one)
    atheris.Fuzz()


def _tried(
    subject: fuzz.Subject,
    path: Path,
    draw: random.Random,
    keep: Path | None = None,
    known: set[str] | None = None,
) -> fuzz.Outcome:
    """Try an input; keep it where it is bad, and the first one of its error."""
    path.mkdir()
    outcome = fuzz.tried(subject, path, draw)
    if keep is not None and known is not None and outcome.kind not in fuzz.GOOD:
        place = re.findall(r'File ".*", line \d+', outcome.detail)[-1:]
        error = place[0] if place else re.sub(r"\d+", "", outcome.detail)
        if error not in known:
            known.add(error)
            shutil.copytree(path, keep / str(len(known)))
            (keep / f"{len(known)}.txt").write_text(outcome.detail)
    shutil.rmtree(path)
    return outcome


# -------------------------------------------------------------------- all subjects


def measure(
    inputs: int, seed: int, processes: int, report: Callable[[str, str], None]
) -> tuple[list[Row], dict[str, list[bytes]]]:
    """Rows of all subjects, and what their inputs were drawn by that reached new code.

    `report` is called with the subject and the place of each case that is neither read nor refused.
    """
    known, names = corpus(), list(fuzz.subjects())
    share = max(1, inputs // len(names))

    def run(name: str) -> tuple[Row, list[bytes]]:
        with tempfile.TemporaryDirectory(dir=fuzz.memory_disk()) as folder:
            guided, lot = Path(folder, "guided"), Path(folder, "lot")
            counts, edges, kept = _subject(name, share, seed, guided, known.get(name, []), True)
            by_lot = _subject(name, share, seed, lot, [], False)
            row = {
                "what reads": f"`{name}`",
                "inputs": sum(counts.values()),
                **{title: counts[kind] for title, kind in _TITLES.items()},
                "branches, guided": edges,
                "branches, by lot": by_lot[1],
                "kept": len(kept),
            }
            for part in (guided, lot):
                for case in sorted((part / "found").iterdir()):
                    place = Path("fuzzed", f"{part.name}-{name}-{case.name}".replace(" ", "-"))
                    place.parent.mkdir(exist_ok=True)
                    shutil.move(case, place)
                    report(name, str(place))
            return row, kept

    with ThreadPoolExecutor(processes) as pool:
        found = list(pool.map(run, names))
    return [row for row, _ in found], {
        name: kept for name, (_, kept) in zip(names, found, strict=True)
    }


_TITLES = {
    "read": "read",
    "refused": "refused",
    "foreign exceptions": "foreign",
    "hung": "hung",
    "died": "died",
}


def _subject(
    name: str, inputs: int, seed: int, folder: Path, known: list[bytes], guided: bool
) -> tuple[dict[str, int], int, list[bytes]]:
    """Outcomes of so many inputs, branches that they reach, and what the kept ones are drawn by."""
    for part in ("corpus", "found"):
        (folder / part).mkdir(parents=True)
    for i, data in enumerate(known):
        (folder / "corpus" / f"known-{i}").write_bytes(data)
    ended = {"hung": 0, "died": 0}
    log = folder / "outcomes"
    edges = 0
    while (done := _size(log) + sum(ended.values())) < inputs:
        shutil.rmtree(folder / "input", ignore_errors=True)
        flags = [
            f"-runs={inputs - done}",
            f"-seed={seed + 1 + done}",  # 0 would be the time
            f"-max_len={LONGEST}",
            f"-timeout={SECONDS}",
            f"-rss_limit_mb={MEMORY}",
            "-report_slow_units=9999",
            f"-artifact_prefix={folder / 'found'}/",
            *([str(folder / "corpus")] if guided else []),
        ]
        order = [name, "" if guided else str(seed), str(folder), *flags]
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.tools.guided", *order],
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        edges = max([edges, *map(int, re.findall(r"cov: (\d+)", result.stderr))])
        if result.returncode and "cov:" not in result.stderr:
            raise RuntimeError(f"the process that reads {name} has not begun:\n{result.stderr}")
        if result.returncode:
            ended["hung" if "libFuzzer: timeout" in result.stderr else "died"] += 1
            (folder / "found" / f"end-{done}.txt").write_text(result.stderr[-4000:])
    letters = log.read_bytes()
    counts = {kind: letters.count(letter) for kind, letter in KINDS.items()} | ended
    return counts, edges, sorted(file.read_bytes() for file in (folder / "corpus").iterdir())


def _size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


if __name__ == "__main__":
    work(sys.argv[1], int(sys.argv[2]) if sys.argv[2] else None, Path(sys.argv[3]), sys.argv[4:])
