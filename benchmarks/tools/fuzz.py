"""Every reader, and what reads saved files, over damaged and hostile inputs.

Input i of a seed is the same in every run: ``--only i`` writes it to a folder and shows what it
gives. A worker process reads one input after the other under a bound of its memory; one that stops
answering, or dies, is counted and replaced. What reads must read, or refuse with its own kind of
error and the name of the file in the message.
"""

import gc
import multiprocessing
import os
import platform
import random
import resource
import shutil
import tempfile
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
from benchmarks.tools.corpus import Drawn, corpus

GOOD = ("read", "refused")
PATIENCE = 5.0  # seconds of the processor for one input
MEMORY = 2 * 2**30  # bytes above what a worker holds before its first input
_ENVIRONMENT = threading.Lock()
INPUTS = CHECKOUT / "tests" / "readers" / "inputs"
FIXTURES = CHECKOUT / "tests" / "fixtures"
SUPPORT = CHECKOUT / "tests" / "support"
NODES = b"1\t|\t1\t|\tno rank\t|\n10\t|\t1\t|\tgenus\t|\n11\t|\t10\t|\tspecies\t|\n"
NAMES = b"1\t|\troot\t|\t\t|\tscientific name\t|\n11\t|\ta b\t|\t\t|\tscientific name\t|\n"
PARENTS = b"-1\n0\n0\n1\n"
PAIRS = b"id1,id2,weight\ndog,mammal,1\nmammal,animal,2\ndog,animal,1\n"
RUN = b"""source = "tree.tsv"
out = "run"
dim = 5
epochs = 3
subtree = "b"
lr_schedule = {class = "Cosine", period = 50}

[pairs]
class = "MixedPairs"
shares = [0.5, 0.5]
sources = [{class = "ParentChildPairs"}, {class = "StratifiedPairs", shares = {"2-" = 1.0}}]
"""


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
        if name.endswith(".gz"):
            data = damage.zipped(data)
            data = data if draw.random() < 0.8 else damage.damaged(data, draw)
        path = folder / name
        path.write_bytes(data)
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


@cache
def embeddings() -> list[dict[str, bytes]]:
    """Files of each saved embedding of the fixtures, by name."""
    folders = sorted((FIXTURES / "embeddings").iterdir())
    return [{file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders]


def embedding(folder: Path, draw: random.Random) -> Path:
    damage.hostile_folder(embeddings(), folder / "saved", draw)
    return folder / "saved"


@cache
def checkpoints() -> list[bytes]:
    return [file.read_bytes() for file in sorted((FIXTURES / "runs").rglob("*.safetensors"))]


def checkpoint(folder: Path, draw: random.Random) -> Path:
    data = draw.choice(checkpoints())
    change = draw.choice([damage.damaged, damage.hostile_tensors])
    path = folder / "epoch-000001.safetensors"
    path.write_bytes(change(data, draw))
    return path


@cache
def exports() -> dict[str, bytes]:
    """Files of an embedding, as `TaxonEmbedding.export` writes them, by ending."""
    import poincare_taxa as pt

    model = pt.embed(_exported(), dim=2)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
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
    from poincare_taxa.training.config import read_config

    ontologies = [file.read_bytes() for file in sorted(SUPPORT.glob("*.obo"))]
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
        "ClosurePairs.read_csv": (text("x.csv", PAIRS), pt.ClosurePairs.read_csv),
        "ClosurePairs.from_obo": (text("x.obo", *ontologies), pt.ClosurePairs.from_obo),
        "ClosurePairs.from_obo (gzip)": (text("x.obo.gz", *ontologies), pt.ClosurePairs.from_obo),
    }
    saved = {
        "TaxonEmbedding.load": (embedding, lambda path: pt.TaxonEmbedding.load(path, verify=True)),
        "ClosureEmbedding.load": (embedding, pt.ClosureEmbedding.load),
        "load": (export, _load),
        "check": (embedding, _check),
        "Checkpoints.load": (checkpoint, _read_checkpoint),
        "read_config": (text("run.toml", RUN), read_config),
    }
    return {name: Subject(*parts, TaxonomyError) for name, parts in readers.items()} | {
        name: Subject(*parts, ValueError) for name, parts in saved.items()
    }


Subjects = Callable[[], dict[str, Subject]]


def chosen(seed: int, i: int, among: Subjects = subjects) -> tuple[str, random.Random]:
    """Name of the subject of input i, and the numbers that its input is made of.

    Every second input of a subject is drawn by numbers that lead to new code (`fuzz --guided`), and
    that are changed here; all are drawn by lot where none are kept.
    """
    names = list(among())
    name, draw = names[i % len(names)], random.Random(f"{seed}/{i}")
    kept = corpus().get(name)
    if not kept or i // len(names) % 2:
        return name, draw
    return name, Drawn(damage.damaged(draw.choice(kept), draw, kept))


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


def _work(
    pipe: Connection, among: Subjects, seed: int, inputs: list[int], memory: int, folder: Path
) -> None:
    """Try inputs and send the outcome of each; in a process of its own."""
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # messages of polars' panics
    for subject in among().values():  # what is imported and compiled once
        _tried_in(folder / "first", subject, random.Random(0))
    gc.freeze()  # modules are not looked through again and again
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + memory, held + memory))
    pipe.send(None)
    for i in inputs:
        name, draw = chosen(seed, i, among)
        pipe.send(_tried_in(folder / "input", among()[name], draw))


def _tried_in(path: Path, subject: Subject, draw: random.Random) -> Outcome:
    """Try an input in a folder that is made for it, and removed."""
    path.mkdir()
    outcome = tried(subject, path, draw)
    shutil.rmtree(path)
    return outcome


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
        place = tempfile.TemporaryDirectory(dir=memory_disk())
        order = (theirs, among, seed, left, memory, Path(place.name))
        worker = context.Process(target=_work, args=order, daemon=True)
        with _one_thread():
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
            place.cleanup()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Let processes that are started here compute in one thread: inputs are small."""
    with _ENVIRONMENT:  # one at a time: another would start a process without any
        before = dict(os.environ)
        os.environ |= dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS"), "1")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ |= before


def _answers(pipe: Connection, process: int | None, patience: float) -> bool:
    """Wait until a worker has sent something, has used its time, or sleeps for ten times that.

    One that waits for a processor does not sleep: a busy machine hangs nothing.
    """
    if pipe.poll(patience / 4):
        return True
    watched = psutil.Process(process)
    start = used = sum(watched.cpu_times()[:2])
    idle = 0
    while idle < 40 and used <= start + patience:
        if pipe.poll(patience / 4):
            return True
        before, used = used, sum(watched.cpu_times()[:2])
        asleep = watched.status() == psutil.STATUS_SLEEPING and used == before
        idle = idle + 1 if asleep else 0
    return pipe.poll()


# -------------------------------------------------------------------- many inputs, in parts

SHARE = 1000  # inputs of each subject in a part of a run
KINDS = ("read", "refused", "foreign", "hung", "died")
Report = Callable[[int, str, Outcome], None]


@dataclass
class Tally:
    """Outcomes of one subject."""

    counts: Counter[str] = field(default_factory=Counter)
    """Inputs by what they gave, and those "guided"."""
    seconds: float = 0.0
    slowest: float = 0.0
    memory: int = 0

    def add(self, outcome: Outcome, guided: bool) -> None:
        self.counts.update([outcome.kind, "guided"] if guided else [outcome.kind])
        self.seconds += outcome.seconds
        self.slowest = max(self.slowest, outcome.seconds)
        self.memory = max(self.memory, outcome.memory)

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            self.counts + other.counts,
            self.seconds + other.seconds,
            max(self.slowest, other.slowest),
            max(self.memory, other.memory),
        )

    def inputs(self) -> int:
        return sum(self.counts[kind] for kind in KINDS)

    def as_row(self) -> Row:
        """Numbers of a row of results."""
        counts = {kind: self.counts[kind] for kind in (*KINDS, "guided")}
        return counts | {"seconds": self.seconds, "slowest": self.slowest, "memory": self.memory}

    @classmethod
    def of_row(cls, row: Row) -> "Tally":
        counts = Counter({kind: row[kind] for kind in (*KINDS, "guided")})
        return cls(counts, row["seconds"], row["slowest"], row["memory"])

    def shown(self) -> Row:
        """Numbers of a row of the table."""
        return {
            "inputs": self.inputs(),
            "read": self.counts["read"],
            "refused": self.counts["refused"],
            "foreign exceptions": self.counts["foreign"],
            "hung": self.counts["hung"],
            "died": self.counts["died"],
            "mean (CPU ms)": f"{1000 * self.seconds / max(self.inputs(), 1):.1f}",
            "slowest (CPU s)": f"{self.slowest:.2f}",
            "peak memory (MiB)": f"{self.memory / 2**20:.0f}",
        }


def measure(inputs: range, seed: int, processes: int, report: Report) -> dict[str, Tally]:
    """Try inputs; `report` is called with each that is neither read nor refused."""

    def share(first: int) -> dict[str, Tally]:
        tallies = {name: Tally() for name in subjects()}
        for i, outcome in outcomes(inputs[first::processes], seed):
            name, draw = chosen(seed, i)
            tallies[name].add(outcome, isinstance(draw, Drawn))
            if outcome.kind not in GOOD:
                report(i, name, outcome)
        return tallies

    with ThreadPoolExecutor(processes) as pool:
        shares = list(pool.map(share, range(processes)))
    return {name: sum((part[name] for part in shares), Tally()) for name in subjects()}


def parts(
    rows: list[Row], inputs: int, seed: int, processes: int, report: Report
) -> Iterator[list[Row]]:
    """Yield the rows after each part, until so many inputs of the seed were tried.

    The first inputs of the seed are those of the given rows, which an earlier run has made.
    """
    here = {"seed": seed, "versions": versions(), "commit": commit()}
    done = sum(Tally.of_row(row).inputs() for row in rows if row["seed"] == seed)
    while done < inputs:
        part = range(done, min(inputs, done + SHARE * len(subjects())))
        for name, tally in measure(part, seed, processes, report).items():
            key = here | {"reader": name}
            same = [row for row in rows if row.items() >= key.items()]
            rows = [row for row in rows if row not in same]
            rows.append(key | sum(map(Tally.of_row, same), tally).as_row())
        done = part.stop
        yield rows


def from_text(row: Mapping[str, str]) -> Row:
    """Take a row from a file of results; the name of a commit may look like a number."""
    texts, floats = ("versions", "commit", "reader"), ("seconds", "slowest")
    return {
        key: value if key in texts else float(value) if key in floats else int(value)
        for key, value in row.items()
    }


def table(rows: list[Row]) -> list[Row]:
    """Sums of the rows of each reader."""
    tallies: dict[str, Tally] = {}
    for row in rows:
        tallies[row["reader"]] = tallies.get(row["reader"], Tally()) + Tally.of_row(row)
    return [{"what reads": f"`{name}`"} | tally.shown() for name, tally in tallies.items()]


def kept(i: int, seed: int, folder: Path) -> tuple[str, Outcome]:
    """Write input i to a folder and try it there; return the subject's name and the outcome."""
    name, draw = chosen(seed, i)
    folder.mkdir(parents=True)
    return name, tried(subjects()[name], folder, draw)


def circumstances(rows: list[Row]) -> str:
    """Sentences about runs: inputs by seed, commit and versions."""
    runs: dict[tuple[int, str, str], Tally] = {}
    for row in rows:
        run = row["seed"], row["commit"], row["versions"]
        runs[run] = runs.get(run, Tally()) + Tally.of_row(row)
    lines = []
    for (seed, made_by, with_what), tally in runs.items():
        text = f"{tally.inputs():,} inputs of seed {seed} on commit {made_by}, {with_what}"
        guided = tally.counts["guided"]
        lines.append(text + (f"; {guided:,} of them changed from kept ones." if guided else "."))
    return "\n".join(lines)


def versions() -> str:
    """Names and versions of what reads here."""
    names = ("polars", "numpy", "torch", "safetensors")
    python = f"Python {platform.python_version()}"
    return ", ".join([python, *(f"{name} {version(name)}" for name in names)])
