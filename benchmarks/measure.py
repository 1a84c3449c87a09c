"""How everything here is measured: right answers first, then rounds side by side.

A *row* is one measurement with all that is needed to judge it: what ran, on what, how long (median
and the 20 and 80 % quantiles of the rounds), the bytes and operations that the task needs at least,
which share of this device's own measured limits that is, the peak memory, and the versions.
"""

import gc
import json
import os
import platform
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks.tables import commit, results, write_text

PACKAGES = ("torch", "numpy", "geoopt", "numba", "triton", "hypll", "gensim")


class WrongAnswerError(Exception):
    """What an implementation returned is not the float64 reference: it is not timed."""


class UnavailableError(Exception):
    """An implementation cannot run here; the message says why."""


class LeftOutError(Exception):
    """An implementation would take too long; the message says how long."""


def refuse_interpreter(backend: str) -> None:
    """Refuse what would be timed in Triton's interpreter, whose time says nothing of a GPU."""
    if backend == "triton" and os.environ.get("TRITON_INTERPRET") == "1":
        raise UnavailableError("Triton's interpreter is not timed: unset TRITON_INTERPRET")


@dataclass(frozen=True)
class Machine:
    """Where the rows are measured: a device, and how many threads the CPU may use."""

    device: torch.device
    threads: int

    @classmethod
    def of(cls, device: str, threads: int) -> "Machine":
        torch.set_num_threads(threads)
        try:
            import numba

            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
        except ImportError:
            pass
        return cls(torch.device(device), threads)

    @property
    def name(self) -> str:
        if self.device.type == "cuda":
            return torch.cuda.get_device_name(self.device)
        return f"{_processor()}, {self.threads} thread{'s' * (self.threads > 1)}"

    def folder(self, root: Path) -> Path:
        """Where this machine's rows are kept, below a folder that is laid out as a checkout."""
        return results(root) / re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def facts(self) -> dict[str, Any]:
        cuda = self.device.type == "cuda"
        return {
            "device": self.name,
            "driver": _driver() if cuda else platform.release(),
            "memory_bytes": self.memory,
            "threads": self.threads,
            # Of the last minute, these threads included: more says that others were at work too.
            "load": round(os.getloadavg()[0], 2),
            "versions": versions() | ({"cuda": torch.version.cuda} if cuda else {}),
            "commit": commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
        }

    @property
    def memory(self) -> int:
        """Bytes that a benchmark may fill."""
        if self.device.type == "cuda":
            return torch.cuda.mem_get_info(self.device)[1]
        return psutil.virtual_memory().total

    def clock(self) -> float:
        """Seconds by the clock; on one thread those of the processor, which leave out waiting."""
        if self.device.type == "cpu" and self.threads == 1:
            return time.process_time()
        return time.perf_counter()

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", cpuinfo.read_text()) if cpuinfo.exists() else None
    name = found[1] if found else platform.processor() or platform.machine()
    return re.sub(r"\((R|TM)\)| CPU| @.*", "", name)


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.split()[0]


@cache
def versions() -> dict[str, str | None]:
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


# -------------------------------------------------------------------- time


@dataclass(frozen=True)
class Times:
    """Seconds of one call, one number per round."""

    rounds: list[float]

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.rounds, q))

    @property
    def median(self) -> float:
        return self.quantile(0.5)


LONG = 40.0
"""Seconds after which no further round begins."""


def side_by_side(
    functions: dict[str, Callable[[], object]],
    machine: Machine,
    *,
    seconds: float = 1.0,
    rounds: int = 5,
) -> dict[str, Times]:
    """Time functions in turns, so that a busy moment of the machine hits all of them.

    At least `rounds` rounds (fewer where these take longer than `LONG`), then more until each
    function had about `seconds`; each turn repeats a short function until it lasts 2 ms. A turn
    begins with a call that is not timed, where that takes less than a second: caches that others
    filled, and memory that a virtual machine gave back to its host meanwhile, are not its cost.
    Functions should have been called before.
    """
    found: dict[str, list[float]] = {name: [] for name in functions}
    repeats, warmed = {}, {}
    start = time.perf_counter()
    for name, function in functions.items():
        once = _timed(function, 1, machine)
        repeats[name] = max(1, round(2e-3 / max(once, 1e-9)))
        warmed[name] = once < 1
        if repeats[name] == 1:
            found[name].append(once)
    while True:
        spent, done = time.perf_counter() - start, min(map(len, found.values()))
        enough = done >= rounds and (spent > seconds * len(functions) or done >= 1000)
        if enough or (spent > LONG and done > 0):
            return {name: Times(each) for name, each in found.items()}
        for name, function in functions.items():
            if warmed[name]:
                function()
            found[name].append(_timed(function, repeats[name], machine))


def _timed(function: Callable[[], object], repeats: int, machine: Machine) -> float:
    machine.synchronize()
    start = machine.clock()
    for _ in range(repeats):
        function()
    machine.synchronize()
    return (machine.clock() - start) / repeats


@dataclass
class Elapsed:
    """Seconds of a block: by the clock, and of the processor."""

    wall: float = 0.0
    cpu: float = 0.0


@contextmanager
def stopwatch() -> Iterator[Elapsed]:
    """Time one run of a block that is too long, or has too much around it, for rounds."""
    elapsed = Elapsed()
    wall, cpu = time.perf_counter(), time.process_time()
    yield elapsed
    elapsed.wall, elapsed.cpu = time.perf_counter() - wall, time.process_time() - cpu


# -------------------------------------------------------------------- memory


@dataclass
class Peak:
    bytes: int = 0


@contextmanager
def peak_memory(machine: Machine) -> Iterator[Peak]:
    """Measure by how much memory grows: the allocator's peak on a GPU, else the resident set's."""
    peak = Peak()
    gc.collect()
    if machine.device.type == "cuda":
        machine.synchronize()
        before = torch.cuda.memory_allocated(machine.device)
        torch.cuda.reset_peak_memory_stats(machine.device)
        yield peak
        machine.synchronize()
        peak.bytes = torch.cuda.max_memory_allocated(machine.device) - before
        return
    before = psutil.Process().memory_info().rss
    with resident_peak() as held:
        yield peak
    peak.bytes = held.bytes - before


@contextmanager
def resident_peak() -> Iterator[Peak]:
    """Measure the most that this process holds in main memory at once."""
    process, stop = psutil.Process(), threading.Event()
    peak = Peak(process.memory_info().rss)

    def watch() -> None:
        while not stop.wait(1e-3):
            peak.bytes = max(peak.bytes, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()
        peak.bytes = max(peak.bytes, process.memory_info().rss)


# -------------------------------------------------------------------- what a task needs


@dataclass(frozen=True)
class Cost:
    """The least that one item needs: memory traffic, arithmetic, roots and logarithms."""

    bytes: float
    flops: float
    special: float


@dataclass(frozen=True)
class Limits:
    """What this device reaches: bytes copied (read and written), special functions per second."""

    copy: float
    special: dict[torch.dtype, float]

    def share(self, cost: Cost, dtype: torch.dtype, items_per_second: float) -> dict[str, float]:
        return {
            "of_copy_bandwidth": cost.bytes * items_per_second / self.copy,
            "of_special_limit": cost.special * items_per_second / self.special[dtype],
        }


def measure_limits(machine: Machine, *, megabytes: int = 512) -> Limits:
    """Copy a large tensor; take logarithms of a small one."""
    large = torch.rand(megabytes * 2**18, dtype=torch.float32, device=machine.device)
    target = torch.empty_like(large)
    functions: dict[str, Callable[[], object]] = {"copy": lambda: target.copy_(large)}
    on_gpu = machine.device.type == "cuda"
    # On a CPU what lies in the caches of all cores; on a GPU enough for all of its processors,
    # where a chain of logarithms in registers would need a kernel: take log of what is in cache.
    size = 2**22 if on_gpu else 2**14 * machine.threads
    for dtype in (torch.float32, torch.float64):
        x = torch.rand(size, dtype=dtype, device=machine.device) + 1
        y = torch.empty_like(x)
        functions[str(dtype)] = lambda x=x, y=y: torch.log(x, out=y)
    times = side_by_side(functions, machine)
    special = {
        dtype: size / times[str(dtype)].quantile(0.2) for dtype in (torch.float32, torch.float64)
    }
    return Limits(2 * large.numel() * 4 / times["copy"].quantile(0.2), special)


# -------------------------------------------------------------------- rows


SUBJECT = ("task", "implementation", "dtype", "dim", "items", "taxa", "queries")
"""What a row is about: a second measurement of the same replaces the first."""


@dataclass
class Rows:
    """Rows of one suite: printed as they come, kept as one JSON object a line."""

    suite: str
    machine: Machine
    kept: list[dict[str, Any]] = field(default_factory=list)

    def add(self, **row: Any) -> None:
        self.kept.append({"suite": self.suite} | row | self.machine.facts)
        print(_one_line(row), flush=True)

    @contextmanager
    def unless_refused(
        self, about: dict[str, Any], *unavailable: type[Exception]
    ) -> Iterator[None]:
        """Add a row that says why something has no time, where a block raises that reason.

        Of `unavailable` errors the reason is that an implementation cannot run here.
        """
        try:
            yield
        except WrongAnswerError as error:
            self.add(**about, status=f"refused: {error}")
        except LeftOutError as error:
            self.add(**about, status=f"left out: {error}")
        except (UnavailableError, *unavailable) as error:
            self.add(**about, status=f"not here: {error}")
        except (MemoryError, torch.OutOfMemoryError):
            self.add(**about, status="out of memory")

    def publish(self, out: Path | None) -> list[dict[str, Any]]:
        """Return the rows of a complete run with the others of the suite in a folder, if given.

        There they replace those about the same, and the file is written.
        """
        if out is None:
            return self.kept
        path = self.machine.folder(out) / f"{self.suite}.jsonl"
        rows = {tuple(map(row.get, SUBJECT)): row for row in [*load(path), *self.kept]}
        write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows.values()))
        return list(rows.values())


def load(path: Path) -> list[dict[str, Any]]:
    """Rows of a file; none where there is no file."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def expected_seconds(rows: Rows, about: dict[str, Any], items: int) -> float:
    """What a call would take at the rate last measured of the same: 0 if there is none."""
    rates = [
        row["items_per_second"]
        for row in rows.kept
        if about.items() <= row.items() and "items_per_second" in row
    ]
    return items / rates[-1] if rates else 0.0


def timing(times: Times, items: int) -> dict[str, Any]:
    """Fields of a row that a measurement fills."""
    return {
        "status": "measured",
        "seconds": times.median,
        "seconds_20": times.quantile(0.2),
        "seconds_80": times.quantile(0.8),
        "rounds": len(times.rounds),
        "items_per_second": items / times.median,
    }


def _one_line(row: dict[str, Any]) -> str:
    what = [str(row[k]) for k in SUBJECT if k in row]
    text = f"{' · '.join(what):84}"
    if row["status"] != "measured":
        return f"{text} {row['status']}"
    text += f" {1e3 * row['seconds']:10.3f} ms {row['items_per_second']:10.3g}/s"
    for key, name in (("of_copy_bandwidth", "copy"), ("against", "×")):
        if row.get(key) is not None:
            text += f" {row[key]:6.0%} {name}" if name == "copy" else f" {row[key]:6.2f}{name}"
    return text
