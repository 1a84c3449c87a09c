"""Arguments in, rows out: each command measures one suite and writes its JSON lines."""

import os
import subprocess
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks.measure import Machine, Rows, load, measure_limits
from benchmarks.speed import distances, jobs, scaling, search, steps, train_step
from benchmarks.tools import report

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
Threads = Annotated[int, typer.Option(help="Of the CPU.")]
Seconds = Annotated[float, typer.Option(help="Of measuring, per implementation and row.")]
Patience = Annotated[float, typer.Option(help="Seconds; what takes longer once is left out.")]
Tiny = Annotated[bool, typer.Option(help="Only the smallest sizes: does the suite still run?")]
Out = Annotated[Path | None, typer.Option(help="Folder, instead of results/<device>/.")]
Dims = Annotated[list[int], typer.Option("--dim", help="May be given several times.")]

ALL_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
PAIRS = [10**exponent for exponent in range(3, 9)]
COORDINATES = 10**7
EXACT = [10**4, 3 * 10**4, 10**5, 2_600_000]
DTYPES = (torch.float32, torch.float64)
AUTOMATIC = "auto"
SIZES = [10**3, 3 * 10**3, 10**4, 3 * 10**4, 6 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7]


@app.callback()
def suites() -> None:
    """Each command measures one suite, prints its rows and writes them as JSON lines."""


def machine_of(device: str, threads: int) -> Machine:
    if device == AUTOMATIC:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Machine.of(device, threads)


@app.command()
def distance(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS or 1,
    seconds: Seconds = 1.0,
    patience: Patience = 5.0,
    tiny: Tiny = False,
    out: Out = None,
    sizes: Annotated[list[int], typer.Option("--pairs", help="At 10 dimensions.")] = PAIRS,
    dims: Dims = [2, 64, 256],  # noqa: B006
) -> None:
    """Paired and all pairs, forward and backward, beside geoopt and HypLL."""
    machine = machine_of(device, threads)
    rows = Rows("distance", machine)
    limits = measure_limits(machine, megabytes=8 if tiny else 512)
    for task in distance_tasks([100], []) if tiny else distance_tasks(sizes, dims):
        distances.measure(task, rows, limits, seconds=seconds, patience=patience)
        rows.write(out)


def distance_tasks(sizes: list[int], dims: list[int]) -> list[distances.Task]:
    """All sizes at 10 dimensions; other dimensions with the coordinates of a million pairs."""
    ten = [(10, pairs) for pairs in sizes]
    wide = [(dim, COORDINATES // dim) for dim in dims]
    kinds = list(product(("paired", "all pairs"), (False, True), DTYPES))
    return [
        distances.Task(*kind, dim, pairs, manifold)
        for manifold, cases in (("ball", ten), ("polar", ten), ("ball", wide))
        for (dim, pairs), kind in product(cases, kinds)
    ]


@app.command(name="steps")
def steps_of_a_run(
    threads: Threads = ALL_THREADS or 1,
    sizes: Annotated[list[int], typer.Option("--size", help="Taxa.")] = [10**4, 10**5, 10**6],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="Runs of each step at least.", min=1)] = 3,
    seconds: Seconds = 1.0,
    patience: Patience = 3.0,
    out: Out = None,
) -> None:
    """Reading, layout, refinement and evaluation of synthetic taxonomies, on the CPU."""
    rows = Rows("steps", machine_of("cpu", threads))
    for taxa in sizes:
        steps.measure(taxa, rows, rounds=rounds, seconds=seconds, patience=patience)
        rows.write(out)


@app.command(name="search")
def searches(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS or 1,
    sizes: Annotated[list[int], typer.Option("--size", help="Taxa.")] = [10**5, 2_600_000],  # noqa: B006
    queries: Annotated[list[int], typer.Option(help="At once; 0: every taxon.")] = [1, 100, 0],  # noqa: B006
    seconds: Seconds = 1.0,
    patience: Patience = 10.0,
    out: Out = None,
) -> None:
    """Nearest rows, and ranks of all ancestors: with every taxon as a query, exact evaluation."""
    rows = Rows("search", machine_of(device, threads))
    for taxa, dtype in product(sizes, DTYPES):
        search.measure(taxa, queries, rows, dtype=dtype, seconds=seconds, patience=patience)
        rows.write(out)


@app.command(name="step")
def training_step(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS or 1,
    taxa: Annotated[int, typer.Option(help="Rows of the table.")] = 10**6,
    pairs: Annotated[list[int] | None, typer.Option(help="Of a batch.")] = None,
    seconds: Seconds = 1.0,
    out: Out = None,
) -> None:
    """The gradient of a ranking loss beside geoopt's, and whole steps of training."""
    machine = machine_of(device, threads)
    rows = Rows("step", machine)
    for number in pairs or ([4096] if machine.device.type == "cpu" else [4096, 2**17, 2**20]):
        # Of larger batches only whole steps: libraries that store all distances would not fit.
        kinds = product(("ball", "polar"), DTYPES, (True, False)) if number <= 2**17 else ()
        for manifold, dtype, shared in kinds:
            train_step.measure_gradient(
                rows, manifold, dtype, taxa=taxa, pairs=number, shared=shared, seconds=seconds
            )
        train_step.measure_step(rows, taxa=taxa, pairs=number, seconds=seconds)
        rows.write(out)


@app.command(name="exact")
def exact_evaluation(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS or 1,
    sizes: Annotated[list[int], typer.Option("--size", help="Taxa.")] = EXACT,
    patience: Patience = 300.0,
    out: Out = None,
) -> None:
    """Evaluation with every taxon as a query."""
    rows = Rows("exact", machine_of(device, threads))
    for taxa in sizes:
        steps.measure_exact(rows, taxa, patience=patience)
        rows.write(out)


@app.command(name="scaling")
def scaling_law(
    threads: Threads = ALL_THREADS or 1,
    sizes: Annotated[list[int], typer.Option("--size", help="Taxa; none: only the law.")] = SIZES,
    repeats: Annotated[int, typer.Option(help="Runs of each size; the median counts.")] = 3,
    law: Annotated[Path, typer.Option(help="Where the fitted law goes.")] = scaling.LAW,
    out: Out = None,
) -> None:
    """Time and memory against the number of taxa; fits the law of `poincare-taxa plan`.

    Sizes that are not asked for keep the rows that they have.
    """
    machine = machine_of("cpu", threads)
    rows = Rows("scaling", machine)
    for n in sizes:
        scaling.measure(n, rows, repeats=repeats)
        rows.write(out)
    known = load(rows.write(out))
    scaling.report(known, scaling.write_law(known, machine, law, repeats=repeats)["law"])


@app.command(name="report")
def report_of_all() -> None:
    """Write the tables and plots of docs/benchmarks.md from all rows under results/."""
    for folder in report.devices():
        report.write(folder)


@app.command()
def training(
    facebook: Annotated[
        Path | None, typer.Option(help="Your checkout of facebookresearch/poincare-embeddings.")
    ] = None,
    facebook_python: Annotated[
        Path, typer.Option(help="The Python that its extensions were built for.")
    ] = Path(sys.executable),
    taxa: Annotated[int, typer.Option(help="Of the synthetic taxonomy.")] = 1000,
    closure: Annotated[
        list[Path], typer.Option(help="Pairs too, as `ClosurePairs.read_csv` reads them.")
    ] = [],  # noqa: B006
    epochs: Annotated[int, typer.Option(help="Of each job, at least 2.", min=2)] = 2,
    out: Out = None,
) -> None:
    """Pairs per second of whole training jobs, one thread each."""
    rows = Rows("training", machine_of("cpu", 1))
    found: dict[str, jobs.Job] = {
        "facebookresearch": partial(jobs.facebook, checkout=facebook, python=facebook_python),
        "gensim": jobs.gensim,
        "poincare_taxa, negatives per pair": jobs.this_library,
        "poincare_taxa, shared negatives": partial(jobs.this_library, shared=True),
    }
    jobs.measure(found, rows, taxa=taxa, epochs=epochs, closures=closure)
    rows.write(out)


@app.command(name="all")
def everything(
    device: Device = AUTOMATIC,
    threads: Threads = ALL_THREADS or 1,
    tiny: Tiny = False,
    out: Out = None,
) -> None:
    """Run every suite, one after another, and the report; on a GPU its tests first.

    A suite that fails does not keep the others from running: the exit status tells.
    """
    machine = machine_of(device, threads)
    folder = out or machine.folder
    failed = [
        name for name, command in commands(machine, tiny, folder).items() if not succeeds(command)
    ]
    report.write(folder, folder if out else report.PAGES)
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
        raise typer.Exit(1)


def commands(machine: Machine, tiny: bool, folder: Path) -> dict[str, list[str]]:
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
    suites = {
        name: [
            *("benchmarks", name, *where[name], "--out", str(folder)),
            *(small[name] if tiny else whole.get(name, []) if on_gpu else []),
        ]
        for name in where
    }
    tests = {"tests": ["pytest", "-q", "-m", "gpu"]} if on_gpu else {}
    return tests | suites


def succeeds(arguments: list[str]) -> bool:
    print("python -m", *arguments, flush=True)
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, check=False, cwd=Path(__file__).parents[1]).returncode == 0
