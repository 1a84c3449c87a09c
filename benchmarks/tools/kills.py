"""SIGKILL at every file operation, and at random moments: what is left is the old or the new.

A child process does the work under ``ptrace``, which stops it at every call of the system, those of
polars and of safetensors included. Calls that change files are counted, and the process is killed
as it enters the one with a given number. Then another process reads what is left as a user would,
does the work again, and looks for files that nobody removes.
"""

import ctypes
import hashlib
import importlib
import io
import os
import pickle
import platform
import random
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.tables import Row, commit
from benchmarks.tools import damage, fuzz

# Calls of Linux on x86-64 that change files: by a path, and by an open file (their first argument).
_BY_PATH = {
    76: "truncate", 82: "rename", 83: "mkdir", 84: "rmdir", 85: "creat", 86: "link", 87: "unlink",
    88: "symlink", 90: "chmod", 132: "utime", 235: "utimes", 258: "mkdirat", 261: "futimesat",
    263: "unlinkat", 264: "renameat", 265: "linkat", 266: "symlinkat", 268: "fchmodat",
    280: "utimensat", 316: "renameat2",
}  # fmt: skip
_BY_FILE = {
    1: "write", 18: "pwrite64", 20: "writev", 74: "fsync", 75: "fdatasync", 77: "ftruncate",
    91: "fchmod", 285: "fallocate", 296: "pwritev", 328: "pwritev2",
}  # fmt: skip
_BY_TARGET = {40: ("sendfile", 0), 326: ("copy_file_range", 2)}  # place of the file written to
_OPEN = {2: 1, 257: 2}  # open and openat: the place of the flags

_TRACEME, _SYSCALL, _SETOPTIONS, _INFO = 0, 24, 0x4200, 0x420E
_OPTIONS = 1 | 1 << 3 | 1 << 20  # marked stops at calls; threads too; the end of all with us
_ALL_THREADS = 0x40000000


class _Call(ctypes.Structure):
    """A stop at a call of the system, as ``PTRACE_GET_SYSCALL_INFO`` describes it."""

    _fields_ = (
        ("op", ctypes.c_uint8),
        ("arch", ctypes.c_uint32),
        ("where", ctypes.c_uint64 * 2),
        ("number", ctypes.c_uint64),
        ("arguments", ctypes.c_uint64 * 6),
    )


class Work(NamedTuple):
    """What is killed, and how what it leaves is read."""

    write: Callable[[Path, str], object]
    """Write the "old" or the "new" state below a folder, over what is there."""
    read: Callable[[Path], object]
    """What a user has, every check passed: different for the old and the new."""


class Trial(NamedTuple):
    """What one kill left."""

    left: str
    """"old", "new", "broken", or "litter" (the target is well, but files stay beside it)."""
    detail: str = ""


def supported() -> bool:
    """Whether this machine has the calls that are counted."""
    return sys.platform == "linux" and platform.machine() == "x86_64"


# -------------------------------------------------------------------- processes


def in_child(function: Callable[[], Any]) -> Any:
    """Return what a function returns in a process of its own.

    Raises
    ------
    RuntimeError
        If it raises there; with its traceback.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            answer = True, function()
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    well, found = pickle.loads(data) if data else (False, "it died")
    if not well:
        raise RuntimeError(found)
    return found


def _started(function: Callable[[], object], *, traced: bool) -> int:
    """Start a function in a process; return its number."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        if traced:
            _ptrace(_TRACEME)
            os.kill(os.getpid(), signal.SIGSTOP)
        function()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def killed_at(function: Callable[[], object], operation: int | None) -> tuple[str, ...]:
    """Run a function in a process that is killed as it begins a file operation, from 0 on.

    Returns
    -------
    operations
        The file operations that it began, the last one without effect where it was killed.

    Raises
    ------
    RuntimeError
        If it fails by itself.
    """
    child = _started(function, traced=True)
    os.waitpid(child, 0)
    _ptrace(_SETOPTIONS, child, 0, _OPTIONS)
    _ptrace(_SYSCALL, child)
    begun: list[str] = []
    while True:
        thread, status = os.waitpid(-1, _ALL_THREADS)
        if os.WIFSTOPPED(status):
            how = os.WSTOPSIG(status)
            if how == signal.SIGTRAP | 0x80 and (name := _file_operation(thread)):
                begun.append(name)
                if len(begun) - 1 == operation:
                    os.kill(child, signal.SIGKILL)
            ours = how in (signal.SIGTRAP, signal.SIGTRAP | 0x80, signal.SIGSTOP)
            _ptrace(_SYSCALL, thread, 0, 0 if ours else how)
        elif thread == child:
            break
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the work failed by itself (exit status {code})")
    return tuple(begun)


def killed_after(function: Callable[[], object], seconds: float) -> bool:
    """Run a function in a process that is killed after a time; return whether it was."""
    child = _started(function, traced=False)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status) == -signal.SIGKILL


def _ptrace(request: int, process: int = 0, address: int = 0, data: int = 0) -> int:
    call = ctypes.CDLL(None, use_errno=True).ptrace
    call.argtypes, call.restype = [ctypes.c_long] * 4, ctypes.c_long
    return call(request, process, address, data)  # of a thread that ended: no harm


def _file_operation(thread: int) -> str | None:
    """Name of the file operation that a stopped thread enters, or None."""
    call = _Call()
    if _ptrace(_INFO, thread, ctypes.sizeof(call), ctypes.addressof(call)) <= 0 or call.op != 1:
        return None  # it leaves a call
    number = call.number
    if number in _BY_PATH:
        return _BY_PATH[number]
    if number in _OPEN:
        changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
        return "open" if call.arguments[_OPEN[number]] & changing else None
    name, place = _BY_TARGET.get(number, (_BY_FILE.get(number), 0))
    return name if name and _is_regular(thread, call.arguments[place]) else None


def _is_regular(thread: int, file: int) -> bool:
    """Whether an open file of a thread is one on a disk: no pipe, no socket."""
    try:
        return stat.S_ISREG(Path(f"/proc/{thread}/fd/{file}").stat().st_mode)
    except OSError:
        return False


# -------------------------------------------------------------------- what is killed


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _points(model: Any) -> str:
    """Digest of the names and points of an embedding."""
    names = "\n".join(map(str, model.taxonomy.ids)).encode()
    return _digest(names, model.radius.numpy().tobytes(), model.direction.numpy().tobytes())


def _saved(path: Path) -> str:
    """Digest of a saved embedding that passes every check."""
    import poincare_taxa as pt

    model = pt.TaxonEmbedding.load(path, verify=True)
    if failed := [result for result in pt.check(path) if result.status == "failed"]:
        raise ValueError(f"{failed[0].name}: {failed[0].detail}")
    return _points(model)


def _latest(folder: Path) -> tuple[int, str]:
    """Return the number and the digest of the latest checkpoint; each that is there is read."""
    from poincare_taxa.training.checkpoint import Checkpoints

    found = Checkpoints(folder)
    loaded = [found.load(epoch) for epoch in found.epochs()]
    tensors = sorted(loaded[-1].tensors.items())
    return found.epochs()[-1], _digest(*(x.contiguous().numpy().tobytes() for _, x in tensors))


def _page(path: Path) -> str:
    """Digest of a page with its last line."""
    text = path.read_text(encoding="utf-8")
    if not text.rstrip().endswith("</html>"):
        raise ValueError(f"{path} has no end")
    return _digest(text.encode())


def prepare(inputs: Path) -> None:
    """Write what is saved, and what the server of downloads has: two releases of a taxonomy."""
    import poincare_taxa as pt
    from poincare_taxa.testing import synthetic_taxonomy, write_taxdump

    old = synthetic_taxonomy(60, seed=0)
    new = old.prune(old.ids[::2])
    for state, tax in (("old", old), ("new", new)):
        pt.embed(tax, dim=3).save(inputs / state / "saved")
        write_taxdump(tax, inputs / state / "dump")
        files = sorted((inputs / state / "dump").iterdir())
        data = damage.packed({file.name: file.read_bytes() for file in files}, "tar.gz")
        (inputs / state / "new_taxdump").mkdir()
        (inputs / state / "new_taxdump" / "new_taxdump.tar.gz").write_bytes(data)
        digest = hashlib.md5(data).hexdigest()
        (inputs / state / "new_taxdump" / "new_taxdump.tar.gz.md5").write_text(f"{digest}  x\n")
        archived = inputs / state / "taxdump_archive"
        archived.mkdir()
        data = damage.packed({file.name: file.read_bytes() for file in files}, "zip")
        (archived / "new_taxdump_2024-09-01.zip").write_bytes(data)


def works(inputs: Path, server: str) -> dict[str, Work]:
    """Return what is killed, by name.

    Parameters
    ----------
    inputs
        Folder of what `prepare` made.
    server
        Address that serves the dumps of the new release.
    """
    import poincare_taxa as pt

    def model(state: str) -> pt.TaxonEmbedding:
        return pt.TaxonEmbedding.load(inputs / state / "saved")

    def save(folder: Path, state: str) -> None:
        model(state).save(folder / "saved")

    def note(folder: Path, state: str) -> None:
        from poincare_taxa.model import storage

        if not (folder / "saved").exists():
            save(folder, "old")
        storage.update_meta(folder / "saved", note=state)

    def noted(folder: Path) -> object:
        from poincare_taxa.model import storage

        return _saved(folder / "saved"), storage.read_meta(folder / "saved")["note"]

    def checkpoint(folder: Path, state: str) -> None:
        import torch

        from poincare_taxa.training.checkpoint import Checkpoints

        run = Checkpoints(folder / "run")
        run.hold()  # as a run does: what a killed one left is removed
        for epoch in (1, 2) if state == "old" else (3,):
            points = torch.full((60, 4), float(epoch))
            run.save(epoch, {"points": points}, {"epoch": epoch})
        run.release()

    def export(name: str) -> Work:
        def write(folder: Path, state: str) -> None:
            model(state).export(folder / name)

        def read(folder: Path) -> object:
            if name.endswith(".nwk"):
                return pt.read(folder / name).ids.to_list()
            return _points(pt.load(folder / name))

        return Work(write, read)

    def migrate(folder: Path, state: str) -> None:
        from poincare_taxa.cli import app

        if state == "old":
            return save(folder, "old")
        release, out = str(inputs / "new" / "dump"), str(folder / "saved")
        command = ["migrate", str(inputs / "old" / "saved"), release, "-o", out, "--queries", "0"]
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            app(command, standalone_mode=False)
        return None

    def page(folder: Path, state: str) -> None:
        pt.explore(model(state), folder / "tree.html")

    def download(folder: Path, state: str) -> None:
        path = pt.readers.download_ncbi(base_url=server, cache_dir=folder)
        if state == "old":
            path.write_bytes((inputs / "old" / "new_taxdump" / "new_taxdump.tar.gz").read_bytes())

    def archived(folder: Path, state: str) -> None:
        if state == "new":
            pt.readers.download_ncbi("2024-09-01", base_url=server, cache_dir=folder)

    def downloaded(folder: Path) -> object:
        found = [pt.read_ncbi(file).ids.to_list() for file in folder.glob("new_taxdump*")]
        if len(found) > 1:
            raise ValueError(f"{folder} has {len(found)} dumps")
        return found

    return {
        "model.save": Work(save, lambda folder: _saved(folder / "saved")),
        "evaluate --save": Work(note, noted),
        "Checkpoints.save": Work(checkpoint, lambda folder: _latest(folder / "run")),
        "model.export npz": export("vectors.npz"),
        "model.export csv": export("vectors.csv"),
        "model.export parquet": export("vectors.parquet"),
        "model.export Newick": export("tree.nwk"),
        "migrate": Work(migrate, lambda folder: _saved(folder / "saved")),
        "explore": Work(page, lambda folder: _page(folder / "tree.html")),
        "download_ncbi, latest": Work(download, downloaded),
        "download_ncbi, of a day": Work(archived, downloaded),
    }


# -------------------------------------------------------------------- trials


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    """Serve the files of a folder on this machine; yield the address."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
    with subprocess.Popen(command, cwd=folder, **pipes) as server:
        try:
            port = server.stdout.readline().split("port ")[1].split()[0]  # type: ignore[union-attr]
            yield f"http://127.0.0.1:{port}"
        finally:
            server.kill()


def _listing(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


class Bench:
    """A work with the folder that it begins in, and what it should leave."""

    def __init__(self, work: Work, folder: Path) -> None:
        self._work, self._folder = work, folder
        self._old, new = folder / "old", folder / "new"
        self.states, self._names, self.seconds, modules = in_child(lambda: self._references(new))
        for name in modules:  # once here, not in each child
            with suppress(Exception):
                importlib.import_module(name)
        if self.states["old"] == self.states["new"]:
            raise RuntimeError("the old and the new are the same")

    def _references(self, new: Path) -> tuple[dict[str, object], list[str], float, list[str]]:
        states, before = {}, set(sys.modules)
        self._old.mkdir(parents=True)
        self._work.write(self._old, "old")
        states["old"] = self._work.read(self._old)
        shutil.copytree(self._old, new)
        start = time.monotonic()
        self._work.write(new, "new")
        seconds = time.monotonic() - start
        states["new"] = self._work.read(new)
        return states, _listing(new), seconds, sorted(sys.modules.keys() - before)

    def operations(self) -> int:
        """How many file operations the work has."""
        with self._copy() as folder:
            return len(killed_at(lambda: self._work.write(folder, "new"), None))

    def trial(self, kill: Callable[[Callable[[], object]], object]) -> Trial:
        """Let the work be killed, and judge what it left."""
        with self._copy() as folder:
            kill(lambda: self._work.write(folder, "new"))
            try:
                return Trial(*in_child(lambda: self._judged(folder)))
            except RuntimeError as error:
                return Trial("broken", str(error))

    def _judged(self, folder: Path) -> tuple[str, str]:
        found = self._work.read(folder)
        left = [state for state, value in self.states.items() if value == found]
        if not left:
            return "broken", f"neither the old nor the new: {found}"
        self._work.write(folder, "new")
        if self._work.read(folder) != self.states["new"]:
            return "broken", "the work, done again, gives something else"
        if more := sorted(set(_listing(folder)) - set(self._names)):
            return "litter", f"files stay for ever: {more}"
        return left[0], ""

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        folder = self._folder / "trial"
        shutil.copytree(self._old, folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder)


def measure(
    report: Callable[[str, str, Trial], None],
    *,
    names: Collection[str] = (),
    every: int = 1,
    moments: int = 20,
    seed: int = 0,
) -> Iterator[Row]:
    """Kill each work at its file operations, and at random moments; yield a row of each.

    Parameters
    ----------
    report
        Called with the name of the work, the moment, and what was left, where that is neither the
        old nor the new.
    names
        Of the works; all of them by default.
    every
        1 for each file operation, 2 for every second.
    moments
        How many random ones.
    seed
        Of the moments, and of the first file operation where `every` is above 1.
    """
    if not supported():
        raise OSError("calls of the system are counted on Linux and x86-64 only")
    commit()  # that of the beginning, whatever is edited meanwhile
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=fuzz.memory_disk()) as place:
        root = Path(place)
        in_child(lambda: prepare(root))
        with _served(root / "new") as server:
            chosen = works(root, server)
            if unknown := set(names) - chosen.keys():
                raise ValueError(f"{sorted(unknown)}: there are {sorted(chosen)}")
            chosen = {name: work for name, work in chosen.items() if not names or name in names}
            for i, (name, work) in enumerate(chosen.items()):
                bench = Bench(work, root / "bench" / str(i))
                yield _row(name, bench, report, every, moments, draw)


def _row(
    name: str,
    bench: Bench,
    report: Callable[[str, str, Trial], None],
    every: int,
    moments: int,
    draw: random.Random,
) -> Row:
    count = bench.operations()
    at = range(draw.randrange(every), count, every)
    tally = Counter[str]()

    def judge(moment: str, kill: Callable[[Callable[[], object]], object]) -> None:
        trial = bench.trial(kill)
        tally[trial.left] += 1
        if trial.left not in ("old", "new"):
            report(name, moment, trial)

    for k in at:
        judge(f"file operation {k} of {count}", lambda work, k=k: killed_at(work, k))
    for _ in range(moments):
        seconds = draw.uniform(0, bench.seconds)
        judge(f"after {seconds:.3f} s", lambda work, s=seconds: killed_after(work, s))
    return {
        "what is killed": f"`{name}`",
        "file operations": count,
        "killed at": len(at),
        "at random moments": moments,
        "old is left": tally["old"],
        "new is left": tally["new"],
        "broken": tally["broken"],
        "litter": tally["litter"],
    }


def circumstances(rows: list[Row], seed: int) -> str:
    """Sentence about a run."""
    trials = sum(row["killed at"] + row["at random moments"] for row in rows)
    return (
        f"{trials:,} kills, random moments of seed {seed}, on commit {commit()}, Python "
        f"{platform.python_version()}, Linux {platform.release().split('-')[0]}."
    )
