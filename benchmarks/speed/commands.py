"""Commands that measure time and memory."""

import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.clades import MOLLUSCA
from benchmarks.options import (
    ALL_THREADS,
    AUTOMATIC,
    Device,
    Out,
    Patience,
    Queries,
    Seconds,
    Seeds,
    Sizes,
    Taxid,
    Threads,
    Tiny,
)

if TYPE_CHECKING:
    from benchmarks.measure import Machine
    from benchmarks.speed.distances import Task

PAIRS = [10**exponent for exponent in range(3, 9)]
COORDINATES = 10**7
STEPS = [10**4, 10**5, 10**6]
SEARCHED = [10**5, 2_600_000]
EXACT = [10**4, 3 * 10**4, 10**5, 2_600_000]
SCALING = [10**3, 3 * 10**3, 10**4, 3 * 10**4, 6 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7]


def machine_of(device: str, threads: int) -> "Machine":
    """The device of a run; "auto" is a GPU where there is one."""
    import torch

    from benchmarks.measure import Machine

    if device == AUTOMATIC:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Machine.of(device, threads)


def distance(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS,
    seconds: Seconds = 1.0,
    patience: Patience = 5.0,
    tiny: Tiny = False,
    out: Out = None,
    sizes: Annotated[list[int], typer.Option("--pairs", help="At 10 dimensions.")] = PAIRS,
    dims: Annotated[list[int], typer.Option("--dim", help="May be given several times.")] = [  # noqa: B006
        2,
        64,
        256,
    ],
) -> None:
    """Paired and all pairs, forward and backward, beside geoopt and HypLL."""
    from benchmarks.measure import Rows, measure_limits
    from benchmarks.speed import distances

    machine = machine_of(device, threads)
    rows = Rows("distance", machine)
    limits = measure_limits(machine, megabytes=8 if tiny else 512)
    for task in distance_tasks([100], []) if tiny else distance_tasks(sizes, dims):
        distances.measure(task, rows, limits, seconds=seconds, patience=patience)
    rows.publish(out)


def distance_tasks(sizes: list[int], dims: list[int]) -> list["Task"]:
    """All sizes at 10 dimensions; other dimensions with the coordinates of a million pairs."""
    import torch

    from benchmarks.speed.distances import Task

    ten = [(10, pairs) for pairs in sizes]
    wide = [(dim, COORDINATES // dim) for dim in dims]
    dtypes = (torch.float32, torch.float64)
    kinds = list(product(("paired", "all pairs"), (False, True), dtypes))
    tasks = (
        Task(*kind, dim, pairs, manifold)
        for manifold, cases in (("ball", ten), ("polar", ten), ("ball", wide))
        for (dim, pairs), kind in product(cases, kinds)
    )
    return list(dict.fromkeys(tasks))  # Each once: 10 may be among the dimensions.


def search(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS,
    sizes: Sizes = SEARCHED,
    queries: Annotated[list[int], typer.Option(help="At once; 0: every taxon.")] = [1, 100, 0],  # noqa: B006
    seconds: Seconds = 1.0,
    patience: Patience = 10.0,
    out: Out = None,
) -> None:
    """Nearest rows, and ranks of all ancestors: with every taxon as a query, exact evaluation."""
    import torch

    from benchmarks.measure import Rows
    from benchmarks.speed import search as suite

    rows = Rows("search", machine_of(device, threads))
    for taxa, dtype in product(sizes, (torch.float32, torch.float64)):
        suite.measure(taxa, queries, rows, dtype=dtype, seconds=seconds, patience=patience)
    rows.publish(out)


def index(
    sizes: Annotated[
        list[int], typer.Option("--size", help="Taxa, by a synthetic taxonomy; 0: NCBI's, offline.")
    ] = [10**3, 10**4, 10**5, 10**6, 10**7, 0],  # noqa: B006
    saved: Annotated[
        Path | None,
        typer.Option("--embedding", help="Measure this saved embedding, not layouts of sizes."),
    ] = None,
    threads: Threads = ALL_THREADS,
    graph: Annotated[bool, typer.Option(help="The neighbours of every taxon too.")] = False,
    out: Out = None,
) -> None:
    """The exact index beside scans: one query, many, all neighbours, ranks of ancestors; slopes."""
    from benchmarks.speed import indexes
    from benchmarks.tables import collected, publish
    from poincare_taxa import TaxonEmbedding, read_ncbi
    from poincare_taxa.testing import synthetic_taxonomy

    machine_of("cpu", threads)
    rows = []
    if saved is not None:
        model = TaxonEmbedding.load(saved)
        rows += collected(indexes.measure(model, threads=threads, graph=graph))
        sizes = []
    for size in sizes:
        model = indexes.embedding(read_ncbi() if size == 0 else synthetic_taxonomy(size))
        rows += collected(indexes.measure(model, threads=threads, graph=graph))
    rows += indexes.slopes(rows)
    name = "search_index" if saved is None else f"search_index_{saved.name}"
    publish(out, name, [{k: indexes.significant(v) for k, v in row.items()} for row in rows])


def neighbours(
    taxids: Annotated[
        list[int], typer.Option("--taxid", help="Roots of clades, in the NCBI taxonomy.")
    ] = [7586, 6447, 2697495],  # noqa: B006
    queries: Annotated[int, typer.Option(help="Taxa that are searched for.", min=2)] = 1000,
    threads: Threads = 1,
    patience: Annotated[float, typer.Option(help="Seconds to build a metric tree.")] = 120.0,
    out: Out = None,
) -> None:
    """The exact index beside usearch, scikit-learn, FAISS and hnswlib: time and precision."""
    from benchmarks.clades import clade
    from benchmarks.speed import indexes
    from benchmarks.speed import neighbours as suite
    from benchmarks.tables import collected, publish

    machine = machine_of("cpu", threads)
    rows = []
    for taxid in taxids:
        model = indexes.embedding(clade(taxid))
        rows += collected(suite.measure(model, queries=queries, machine=machine, patience=patience))
    publish(
        out, "neighbours", [{k: indexes.significant(v) for k, v in row.items()} for row in rows]
    )


def exact(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS,
    sizes: Sizes = EXACT,
    patience: Patience = 300.0,
    out: Out = None,
) -> None:
    """Evaluation with every taxon as a query."""
    from benchmarks.measure import Rows
    from benchmarks.speed import steps as suite

    rows = Rows("exact", machine_of(device, threads))
    for taxa in sizes:
        suite.measure_exact(rows, taxa, patience=patience)
    rows.publish(out)


def step(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS,
    taxa: Annotated[int, typer.Option(help="Rows of the table.")] = 10**6,
    pairs: Annotated[
        list[int] | None, typer.Option(help="Of a batch.", show_default="4096; more on a GPU")
    ] = None,
    seconds: Seconds = 1.0,
    out: Out = None,
) -> None:
    """The gradient of a ranking loss beside geoopt's, and whole steps of training."""
    import torch

    from benchmarks.measure import Rows
    from benchmarks.speed import train_step

    machine = machine_of(device, threads)
    rows = Rows("step", machine)
    dtypes = (torch.float32, torch.float64)
    for number in pairs or ([4096] if machine.device.type == "cpu" else [4096, 2**17, 2**20]):
        # Of larger batches only whole steps: libraries that store all distances would not fit.
        kinds = product(("ball", "polar"), dtypes, (True, False)) if number <= 2**17 else ()
        for manifold, dtype, shared in kinds:
            train_step.measure_gradient(
                rows, manifold, dtype, taxa=taxa, pairs=number, shared=shared, seconds=seconds
            )
        train_step.measure_step(rows, taxa=taxa, pairs=number, seconds=seconds)
    rows.publish(out)


def steps(
    threads: Threads = ALL_THREADS,
    sizes: Sizes = STEPS,
    rounds: Annotated[int, typer.Option(help="Runs of each step at least.", min=1)] = 3,
    seconds: Seconds = 1.0,
    patience: Patience = 3.0,
    out: Out = None,
) -> None:
    """Reading, layout, refinement and evaluation of synthetic taxonomies, on the CPU."""
    from benchmarks.measure import Rows
    from benchmarks.speed import steps as suite

    rows = Rows("steps", machine_of("cpu", threads))
    for taxa in sizes:
        suite.measure(taxa, rows, rounds=rounds, seconds=seconds, patience=patience)
    rows.publish(out)


def training(
    facebook: Annotated[
        Path | None, typer.Option(help="Your checkout of facebookresearch/poincare-embeddings.")
    ] = None,
    facebook_python: Annotated[
        Path,
        typer.Option(
            help="The Python that its extensions were built for.", show_default="this one"
        ),
    ] = Path(sys.executable),
    taxa: Annotated[int, typer.Option(help="Of the synthetic taxonomy.")] = 1000,
    closure: Annotated[
        list[Path], typer.Option(help="Pairs too, as `ClosurePairs.read_csv` reads them.")
    ] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(help="Of each job, at least 2.", min=2)] = 2,
    out: Out = None,
) -> None:
    """Pairs per second of whole training jobs, one thread each, beside other programs."""
    from benchmarks.measure import Rows
    from benchmarks.speed import jobs

    rows = Rows("training", machine_of("cpu", 1))
    found: dict[str, jobs.Job] = {
        "facebookresearch": partial(jobs.facebook, checkout=facebook, python=facebook_python),
        "gensim": jobs.gensim,
        "poincare_taxa, negatives per pair": jobs.this_library,
        "poincare_taxa, shared negatives": partial(jobs.this_library, shared=True),
    }
    jobs.measure(found, rows, taxa=taxa, epochs=epochs, closures=closure)
    rows.publish(out)


def scaling(
    threads: Threads = ALL_THREADS,
    sizes: Sizes = SCALING,
    repeats: Annotated[int, typer.Option(help="Runs of each size; the median counts.")] = 3,
    out: Out = None,
) -> None:
    """Time and memory against the number of taxa; fits the law of `poincare-taxa plan`.

    With --out FOLDER the law is fitted to the rows of other sizes there too, and written to
    poincare_taxa/data/law.json.
    """
    import json

    from benchmarks.measure import Rows
    from benchmarks.speed import scaling as suite
    from benchmarks.tables import write_text

    machine = machine_of("cpu", threads)
    rows = Rows("scaling", machine)
    for n in sizes:
        suite.measure(n, rows, repeats=repeats)
    known = rows.publish(out)
    law = suite.fitted_law(known, machine, repeats=repeats)
    suite.report(known, law["law"])
    if out is not None:
        write_text(out / suite.LAW, json.dumps(law, indent=1) + "\n")


def blocks(out: Out = None) -> None:
    """Milliseconds of every block: samplers, losses, margins, regularizers, projection …"""
    from benchmarks.speed import blocks as suite
    from benchmarks.tables import markdown, write_page, write_rows

    found = dict(suite.measure())
    for page, rows in found.items():
        print(markdown(rows))
        if out is not None:
            write_page(out, f"cost_{page}", markdown(rows))
    if out is not None:
        write_rows(
            out, "blocks", [{"page": page} | row for page, rows in found.items() for row in rows]
        )


def optimizers(
    rows: Annotated[int, typer.Option(help="Of the large table.")] = 2_600_000, out: Out = None
) -> None:
    """The row-wise optimizer beside geoopt's: time of a step, stress of a small tree."""
    from benchmarks.speed import optimizers as suite
    from benchmarks.tables import publish

    publish(out, "optimizers", suite.measure(rows))


def samplers(
    closures: Annotated[
        list[Path] | None,
        typer.Argument(help="Pairs too, as `ClosurePairs.read_csv` reads them."),
    ] = None,
    out: Out = None,
) -> None:
    """Rates of drawing pairs and negatives from the complete NCBI taxonomy, on one core."""
    from benchmarks.speed import samplers as suite
    from benchmarks.tables import collected, publish

    publish(out, "samplers", collected(suite.measure(closures or [])))


Other = Annotated[Path, typer.Argument(help="The other checkout, the first in each pair.")]
Runs = Annotated[int, typer.Option(help="Of each, after one that is not counted.", min=1)]


def lookup(
    keys: Annotated[int, typer.Option(help="Looked up at once.")] = 5000,
    missing: Annotated[int, typer.Option(help="Of these, ids that are no taxa.")] = 148,
    runs: Annotated[int, typer.Option(help="Of each call, after the first.", min=1)] = 5,
) -> None:
    """Keys looked up in the complete NCBI taxonomy, some of which are missing."""
    from benchmarks.speed import lookup as suite
    from benchmarks.tables import markdown

    print(markdown(suite.measure(keys, missing, runs)))


def startup(other: Other, runs: Runs = 3) -> None:
    """Importing the library and a first fit, beside another checkout."""
    from benchmarks.speed import beside
    from benchmarks.tables import markdown

    print(markdown(beside.startup(other, runs)))


def opening(
    saved: Annotated[
        Path | None,
        typer.Argument(help="A saved embedding; by default NCBI's, offline, saved for this run."),
    ] = None,
    runs: Runs = 3,
    out: Out = None,
) -> None:
    """Opening an embedding, first and later searches, the command line beside `import torch`."""
    import tempfile

    from benchmarks.speed import opening as suite
    from benchmarks.tables import publish
    from poincare_taxa import embed, read_ncbi

    with tempfile.TemporaryDirectory() as folder:
        if saved is None:
            saved = Path(folder) / "ncbi"
            embed(read_ncbi()).save(saved)
        publish(out, "opening", suite.measure(saved, runs))


def page(
    sizes: Annotated[
        list[int], typer.Option("--size", help="Taxa, about; may be given several times.")
    ] = [10_000, 100_000, 2_600_000],  # noqa: B006
    gpu: Annotated[bool, typer.Option("--gpu", help="Let the browser use a GPU.")] = False,
    out: Out = None,
) -> None:
    """The page of the tree in headless Chromium: size, first picture, search, frames."""
    from benchmarks.speed import page as suite
    from benchmarks.tables import collected, publish

    publish(out, "page", collected(suite.measure(sizes, gpu)))


def exports(
    saved: Annotated[
        Path | None,
        typer.Argument(help="A saved embedding; by default NCBI's, offline, saved for this run."),
    ] = None,
    out: Out = None,
) -> None:
    """Exports of an embedding: time, size, and memory beyond that of the embedding."""
    import tempfile

    from benchmarks.speed import exports as suite
    from benchmarks.tables import publish
    from poincare_taxa import embed, read_ncbi

    with tempfile.TemporaryDirectory() as folder:
        if saved is None:
            saved = Path(folder) / "ncbi"
            embed(read_ncbi()).save(saved)
        publish(out, "exports", suite.measure(saved))


def fit(
    other: Other,
    clade: Annotated[Path, typer.Argument(help="Parquet table, as `Taxonomy.to_frame` makes it.")],
    runs: Runs = 3,
) -> None:
    """The recommended recipe on a clade, its time and its quality, beside another checkout."""
    from benchmarks.speed import beside
    from benchmarks.tables import markdown

    print(markdown(beside.fit(other, clade, runs)))


def reading(other: Other, runs: Runs = 3) -> None:
    """Reading a taxdump, the offline package and a million edges, beside another checkout."""
    from benchmarks.speed import beside
    from benchmarks.tables import markdown

    print(markdown(beside.reading(other, runs)))


def all_(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS,
    tiny: Tiny = False,
    out: Out = None,
) -> None:
    """Run the suites of `report`, one after another, and the report; on a GPU its tests first.

    A suite that fails does not keep the others from running: the exit status tells.
    """
    from benchmarks.tables import CHECKOUT

    machine = machine_of(device, threads)
    failed = [
        name for name, arguments in suites(machine, tiny, out).items() if not succeeds(arguments)
    ]
    if out is not None:
        from benchmarks.tools import report

        report.write(machine.folder(out), out)
    if failed:
        print(f"failed: {', '.join(failed)}; run them alone from {CHECKOUT}", file=sys.stderr)
        raise typer.Exit(1)


def suites(machine: "Machine", tiny: bool, out: Path | None) -> dict[str, list[str]]:
    """What `all` runs, each in a process of its own: what one leaves behind slows no other down."""
    on = ["--device", str(machine.device), "--threads", str(machine.threads)]
    small = {
        "distance": ["--tiny"],
        "search": ["--size", "300"],
        "exact": ["--size", "6000"],
        "step": ["--taxa", "300", "--pairs", "20"],
        "training": ["--taxa", "100"],
        "steps": ["--size", "300"],
    }
    on_gpu = machine.device.type == "cuda"
    whole = {
        "search": ["--queries", "1", "--queries", "1000", "--queries", "0", "--patience", "400"]
    }
    where = dict.fromkeys(("distance", "search", "exact", "step"), on)
    where |= {"training": [], "steps": on[2:]}
    write = [] if out is None else ["--out", str(out.resolve())]
    found = {
        name: [
            *("benchmarks", name, *where[name], *write),
            *(small[name] if tiny else whole.get(name, []) if on_gpu else []),
        ]
        for name in where
    }
    tests = {"tests": ["pytest", "-q", "-m", "gpu"]} if on_gpu else {}
    return tests | found


def torchrun(
    clade: Taxid = MOLLUSCA,
    processes: Annotated[
        list[int] | None,
        typer.Option(help="How many; may be given several times.", show_default="1, 2, 4"),
    ] = None,
    seeds: Seeds = 3,
    dim: Annotated[int, typer.Option(help="Coordinates of a direction.")] = 10,
    queries: Queries = 1000,
    out: Out = None,
) -> None:
    """Pairs per second and quality of `fit` in processes, each on a core of its own."""
    from benchmarks.clades import clade as part_of_ncbi
    from benchmarks.speed import processes as suite
    from benchmarks.tables import collected, publish

    sizes = processes or [1, 2, 4]
    rows = collected(suite.runs(part_of_ncbi(clade), sizes, seeds, dim, queries))
    publish(out, "torchrun", rows, suite.summary(rows))


def shards(
    size: Annotated[int, typer.Option(help="Nodes of the synthetic tree.")] = 10_000_000,
    processes: Annotated[
        list[int] | None,
        typer.Option(help="How many; may be given several times.", show_default="4, 1"),
    ] = None,
    dim: Annotated[int, typer.Option(help="Coordinates of a direction.")] = 10,
    queries: Queries = 1000,
    limit: Annotated[float, typer.Option(help="Memory of each process of several, in GiB.")] = 2.0,
    folder: Annotated[
        Path | None, typer.Option(help="Where the tree and the shards are kept meanwhile.")
    ] = None,
    out: Out = None,
) -> None:
    """Peak memory of processes that embed, refine and evaluate a tree in shards, one core each."""
    from benchmarks.speed import shards as suite
    from benchmarks.tables import collected, kept_rows, publish

    new = collected(suite.runs(size, processes or [4, 1], dim, queries, limit, folder))
    rows = suite.completed(new, kept_rows(out, "shards"))
    publish(out, "shards", rows, *suite.summary(rows))


def scale(
    taxa: Annotated[
        list[int], typer.Option("--taxa", help="Of the trees that are replayed, ascending.")
    ] = [10**5, 10**6, 10**7],  # noqa: B006
    measured: Annotated[int, typer.Option(help="Taxa of the runs of 1, 2 and 4 processes.")] = (
        50_000
    ),
    shards: Annotated[
        list[int], typer.Option(help="Nodes of the trees that are embedded in shards.")
    ] = [10**6, 3 * 10**6],  # noqa: B006
    out: Out = None,
) -> None:
    """Bytes between processes: counted in 1, 2 and 4, replayed for more, and what bounds them."""
    from benchmarks.speed import scale as suite
    from benchmarks.tables import collected, publish

    sizes, batches, further = [8, 64], [1 << 14, 1 << 17, 1 << 20], [10**8, 10**9]
    checks = collected(suite.checked([1, 2, 4], measured, 4096))
    costs = suite.costs(checks)
    publish(out, "scale_checks", checks)
    rows = collected(suite.replayed(taxa, sizes, batches, 3))
    publish(out, "scale", rows, list(suite.shown(rows, further)))
    limits = list(suite.limits(rows, costs))
    publish(out, "scale_limits", limits, suite.bounds(limits))
    publish(out, "scale_memory", list(suite.memory([10**7, *further], sizes)))
    peaks = collected(suite.memory_of_shards(shards, [2, 4]))
    more = [(10**7, 4), *((n, size) for n in further for size in sizes)]
    publish(out, "scale_shards", peaks, suite.forecast(peaks, more))


def succeeds(arguments: list[str]) -> bool:
    """Run a module in a process of its own."""
    print("python -m", *arguments, flush=True)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[2]).returncode == 0


COMMANDS = (
    distance,
    search,
    index,
    neighbours,
    exact,
    step,
    steps,
    training,
    torchrun,
    shards,
    scale,
    scaling,
    blocks,
    optimizers,
    samplers,
    lookup,
    startup,
    opening,
    page,
    exports,
    fit,
    reading,
    all_,
)
