"""Every reader, and what reads saved files, over damaged and hostile inputs.

Input i of a seed is the same in every run: ``--only i`` writes it to a folder and shows what it
gives. A worker process reads one input after the other under a bound of its memory; one that stops
answering, or dies, is counted and replaced. What reads must read, or refuse with its own kind of
error and the name of the file in the message.
"""

import multiprocessing
import os
import platform
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import psutil

from benchmarks.tables import CHECKOUT, Row, commit
from benchmarks.tools import damage

GOOD = ("read", "refused")
PATIENCE = 5.0  # seconds of the processor for one input
MEMORY = 2 * 2**30  # bytes above what a worker holds before its first input
INPUTS = CHECKOUT / "tests" / "readers" / "inputs"
FIXTURES = CHECKOUT / "tests" / "fixtures"
NODES = b"1\t|\t1\t|\tno rank\t|\n10\t|\t1\t|\tgenus\t|\n11\t|\t10\t|\tspecies\t|\n"
NAMES = b"1\t|\troot\t|\t\t|\tscientific name\t|\n11\t|\ta b\t|\t\t|\tscientific name\t|\n"
PARENTS = b"-1\n0\n0\n1\n"


class Outcome(NamedTuple):
    """What one input gave."""

    kind: str
    """"read", "refused", "foreign" (an exception of another kind), "hung" or "died"."""
    detail: str = ""
    seconds: float = 0.0
    memory: int = 0
    """Bytes by which the largest memory of the process grew."""


class Subject(NamedTuple):
    """What is tried: it writes an input below a folder, and reads it."""

    write: Callable[[Path, random.Random], Path]
    read: Callable[[Path], object]
    refusal: type[Exception]


# -------------------------------------------------------------------- inputs


@cache
def texts() -> list[bytes]:
    """Contents of the example files of the readers."""
    files = sorted(file for file in INPUTS.iterdir() if file.suffix != ".md")
    return [file.read_bytes() for file in files] + [NODES, NAMES, PARENTS]


@cache
def of_kind(*suffixes: str) -> list[bytes]:
    return [f.read_bytes() for f in sorted(INPUTS.iterdir()) if f.suffix in suffixes]


def text(name: str, *seeds: bytes) -> Callable[[Path, random.Random], Path]:
    """Write a damaged text: one of the seeds, or of all examples."""

    def write(folder: Path, draw: random.Random) -> Path:
        data = damage.damaged(draw.choice(seeds or texts()), draw, texts())
        path = folder / name
        path.write_bytes(damage.zipped(data) if name.endswith(".gz") else data)
        return path

    return write


def archive(folder: Path, draw: random.Random) -> Path:
    """Write a taxdump with a damaged table, or in a damaged archive."""
    tables = {"nodes.dmp": NODES, "names.dmp": NAMES, "merged.dmp": b"5\t|\t11\t|\n"}
    tables["delnodes.dmp"] = b"6\t|\n"
    inside = draw.random() < 0.5
    if inside:
        name = draw.choice(sorted(tables))
        tables[name] = damage.damaged(tables[name], draw, texts())
    kind = draw.choice(["zip", "tar", "tar.gz", "tar.bz2", "tar.xz"])
    data = damage.packed(tables, kind)
    path = folder / f"dump.{kind}"
    path.write_bytes(data if inside else damage.damaged(data, draw, texts()))
    return path


def parquet(folder: Path, draw: random.Random) -> Path:
    """Write a table of edges that is hostile, or damaged on its way."""
    table = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "parent": [None, 1, 1, 2],
            "name": ["a", None, "c", "d"],
            "rank": ["x", "y", "y", "y"],
            "length": [0.5, 1.0, 2.0, None],
        }
    )
    path = folder / "edges.parquet"
    kind = draw.randrange(3)
    for _ in range(kind):
        table = damage.hostile_table(table, draw) if table.width else table
    table.write_parquet(path)
    if kind == 0:
        path.write_bytes(damage.damaged(path.read_bytes(), draw))
    return path


def embedding(folder: Path, draw: random.Random) -> Path:
    saved = sorted((FIXTURES / "embeddings").iterdir())
    damage.hostile_folder(saved, folder / "saved", draw)
    return folder / "saved"


def checkpoint(folder: Path, draw: random.Random) -> Path:
    files = sorted((FIXTURES / "runs").rglob("*.safetensors"))
    data = draw.choice(files).read_bytes()
    change = draw.choice([damage.damaged, damage.hostile_tensors])
    path = folder / "epoch-000001.safetensors"
    path.write_bytes(change(data, draw))
    return path


@cache
def exports() -> dict[str, bytes]:
    """Files of an embedding, as `TaxonEmbedding.export` writes them, by ending."""
    import poincare_taxa as pt

    model = pt.embed(_exported(), dim=2)
    with tempfile.TemporaryDirectory() as folder:
        found = {}
        for kind in ("csv", "tsv", "npz", "parquet", "vec"):
            path = Path(folder) / f"x.{kind}"
            model.export(path)
            found[kind] = path.read_bytes()
    return found


@cache
def _exported() -> Any:
    import poincare_taxa as pt

    return pt.Taxonomy.from_parents([-1, 0, 0, 1, 1], names=["a", "b", "c", "d", None])


def export(folder: Path, draw: random.Random) -> Path:
    """Write an export that is damaged, or whose table or arrays are hostile."""
    kind = draw.choice(sorted(exports()))
    path, data = folder / f"x.{kind}", exports()[kind]
    path.write_bytes(data)
    if kind == "parquet" and draw.random() < 0.8:
        damage.hostile_table(pl.read_parquet(path), draw).write_parquet(path)
    elif kind == "npz" and draw.random() < 0.8:
        path.write_bytes(damage.hostile_arrays(data, draw))
    else:
        path.write_bytes(damage.damaged(data, draw, texts()))
    return path


# -------------------------------------------------------------------- what reads them


def _read_checkpoint(path: Path) -> object:
    from poincare_taxa.training.checkpoint import Checkpoints

    return Checkpoints(path.parent).load(1)


def _load(path: Path) -> object:
    import poincare_taxa as pt

    return pt.load(path, taxonomy=_exported() if path.suffix == ".vec" else None)


def _check(path: Path) -> object:
    import poincare_taxa as pt

    failed = [result for result in pt.check(path) if result.status == "failed"]
    if failed:
        raise ValueError(f"{path.name}: {failed[0].detail}")
    return failed


@cache
def subjects() -> dict[str, Subject]:
    """Return what is tried, by name."""
    import poincare_taxa as pt
    from poincare_taxa.taxonomy.taxonomy import TaxonomyError

    newick, nexus = of_kind(".nwk"), of_kind(".nex")
    readers = {
        "read": (text("x.txt"), pt.read),
        "read (gzip)": (text("x.txt.gz"), pt.read),
        "read_edges": (text("x.tsv"), pt.readers.read_edges),
        "read_edges (parquet)": (parquet, pt.readers.read_edges),
        "read_parents": (text("x.txt", PARENTS), pt.readers.read_parents),
        "read_lineages": (text("x.tsv"), pt.readers.read_lineages),
        "read_newick": (text("x.nwk", *newick, *nexus), pt.readers.read_newick),
        "read_ncbi": (archive, pt.readers.read_ncbi),
    }
    saved = {
        "TaxonEmbedding.load": (embedding, lambda path: pt.TaxonEmbedding.load(path, verify=True)),
        "ClosureEmbedding.load": (embedding, pt.ClosureEmbedding.load),
        "load": (export, _load),
        "check": (embedding, _check),
        "Checkpoints.load": (checkpoint, _read_checkpoint),
    }
    return {name: Subject(*parts, TaxonomyError) for name, parts in readers.items()} | {
        name: Subject(*parts, ValueError) for name, parts in saved.items()
    }


Subjects = Callable[[], dict[str, Subject]]


def chosen(seed: int, i: int, among: Subjects = subjects) -> tuple[str, random.Random]:
    """Name of the subject of input i, and the numbers that its input is made of."""
    names = list(among())
    return names[i % len(names)], random.Random(f"{seed}/{i}")


def tried(subject: Subject, folder: Path, draw: random.Random) -> Outcome:
    """Write an input, read it, and return what became of it."""
    path = subject.write(folder, draw)
    before = _peak()
    start = time.process_time()
    kind, detail = "read", ""
    try:
        subject.read(path)
    except subject.refusal as error:
        kind, detail = "refused", str(error)
        if path.name not in detail:
            kind, detail = "foreign", f"a message without the file: {detail}"
    except FileNotFoundError as error:  # a file of the folder was removed
        kind, detail = "refused", str(error)
    except BaseException as error:  # a panic of polars is no Exception
        kind, detail = "foreign", "".join(traceback.format_exception(error))
    return Outcome(kind, detail, time.process_time() - start, _peak() - before)


def _peak() -> int:
    """Most bytes that this process held in memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# -------------------------------------------------------------------- processes


def _work(pipe: Connection, among: Subjects, seed: int, inputs: list[int], memory: int) -> None:
    """Try inputs and send the outcome of each; in a process of its own."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # messages of polars' panics
    with tempfile.TemporaryDirectory(dir=memory_disk()) as folder:
        for subject in among().values():  # what is imported and compiled once
            path = Path(folder) / "first"
            path.mkdir()
            tried(subject, path, random.Random(0))
            shutil.rmtree(path)
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
        pipe.send(None)
        for i in inputs:
            name, draw = chosen(seed, i, among)
            path = Path(folder) / "input"
            path.mkdir()
            pipe.send(tried(among()[name], path, draw))
            shutil.rmtree(path)


def memory_disk() -> str | None:
    """Folder in memory, or None for the usual place of temporary files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def outcomes(
    inputs: Iterable[int],
    seed: int,
    among: Subjects = subjects,
    patience: float = PATIENCE,
    memory: int = MEMORY,
) -> Iterator[tuple[int, Outcome]]:
    """Yield the outcome of each input, tried in a process that is replaced if it dies or hangs."""
    left = list(inputs)
    context = multiprocessing.get_context("spawn")
    while left:
        ours, theirs = context.Pipe()
        worker = context.Process(
            target=_work, args=(theirs, among, seed, left, memory), daemon=True
        )
        worker.start()
        theirs.close()
        try:
            ours.recv()  # it has begun
            while left:
                if not _answers(ours, worker.pid, patience):
                    yield left.pop(0), Outcome("hung", seconds=patience)
                    break
                yield left[0], ours.recv()
                del left[0]
        except EOFError:
            worker.join()
            if left:
                yield left.pop(0), Outcome("died", f"exit status {worker.exitcode}")
        finally:
            worker.kill()
            worker.join()


def _answers(pipe: Connection, process: int | None, patience: float) -> bool:
    """Wait until a worker has sent something, has used its time, or waits for ten times that."""
    watched = psutil.Process(process)
    start = sum(watched.cpu_times()[:2])
    for _ in range(40):
        if pipe.poll(patience / 4):
            return True
        if sum(watched.cpu_times()[:2]) > start + patience:
            break
    return pipe.poll()


@dataclass
class Tally:
    """Outcomes of one subject."""

    counts: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome) -> None:
        self.counts[outcome.kind] = self.counts.get(outcome.kind, 0) + 1
        self.seconds = max(self.seconds, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)

    def __add__(self, other: "Tally") -> "Tally":
        kinds = self.counts | other.counts
        counts = {k: self.counts.get(k, 0) + other.counts.get(k, 0) for k in kinds}
        largest = max(self.seconds, other.seconds), max(self.memory, other.memory)
        return Tally(counts, *largest)

    def row(self, name: str) -> Row:
        get = self.counts.get
        return {
            "what reads": f"`{name}`",
            "inputs": sum(self.counts.values()),
            "read": get("read", 0),
            "refused": get("refused", 0),
            "foreign exceptions": get("foreign", 0),
            "hung": get("hung", 0),
            "died": get("died", 0),
            "slowest (CPU s)": f"{self.seconds:.2f}",
            "peak memory (MiB)": f"{self.memory / 2**20:.0f}",
        }


def measure(
    inputs: int, seed: int, processes: int, report: Callable[[int, str, Outcome], None]
) -> list[Row]:
    """Try inputs 0, 1, …; `report` is called with each that is neither read nor refused."""

    def share(first: int) -> dict[str, Tally]:
        tallies = {name: Tally() for name in subjects()}
        for i, outcome in outcomes(range(first, inputs, processes), seed):
            name, _ = chosen(seed, i)
            tallies[name].add(outcome)
            if outcome.kind not in GOOD:
                report(i, name, outcome)
        return tallies

    with ThreadPoolExecutor(processes) as pool:
        shares = list(pool.map(share, range(processes)))
    return [sum((part[name] for part in shares), Tally()).row(name) for name in subjects()]


def kept(i: int, seed: int, folder: Path) -> tuple[str, Outcome]:
    """Write input i to a folder and try it there; return the subject's name and the outcome."""
    name, draw = chosen(seed, i)
    folder.mkdir(parents=True)
    return name, tried(subjects()[name], folder, draw)


def circumstances(inputs: int, seed: int) -> str:
    """Sentence about a run: inputs, commit, versions."""
    versions = {name: version(name) for name in ("polars", "numpy", "torch", "safetensors")}
    return (
        f"{inputs:,} inputs of seed {seed} on commit {commit()}, Python "
        f"{platform.python_version()}, "
        + ", ".join(f"{name} {number}" for name, number in versions.items())
        + "."
    )
