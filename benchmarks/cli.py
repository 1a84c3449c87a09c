"""Arguments in, rows out: each command measures one suite and writes its JSON lines."""

import os
import sys
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

import torch
import typer

from benchmarks import distances, jobs, report, scaling
from benchmarks.measure import Machine, Rows, measure_limits

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

Device = Annotated[str, typer.Option(help="cpu, cuda or cuda:1.")]
Threads = Annotated[int, typer.Option(help="Of the CPU.")]
Seconds = Annotated[float, typer.Option(help="Of measuring, per implementation and row.")]
Tiny = Annotated[bool, typer.Option(help="Only the smallest sizes: does the suite still run?")]
Out = Annotated[Path | None, typer.Option(help="Folder, instead of results/<device>/.")]
Dims = Annotated[list[int], typer.Option("--dim", help="May be given several times.")]

ALL_THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
DTYPES = (torch.float32, torch.float64)
AUTOMATIC = "auto"
SIZES = [10**3, 3 * 10**3, 10**4, 3 * 10**4, 10**5, 3 * 10**5, 10**6, 3 * 10**6, 10**7]


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
    tiny: Tiny = False,
    out: Out = None,
    dims: Dims = [2, 10, 64, 256],  # noqa: B006
) -> None:
    """Paired and all pairs, forward and backward, beside geoopt and HypLL."""
    machine = machine_of(device, threads)
    rows = Rows("distance", machine)
    limits = measure_limits(machine, megabytes=8 if tiny else 512)
    for task in distance_tasks(machine, dims, tiny):
        distances.measure(task, rows, limits, seconds=seconds)
    rows.write(out)


def distance_tasks(machine: Machine, dims: list[int], tiny: bool) -> list[distances.Task]:
    """All sizes at 10 dimensions, all dimensions at a million pairs."""
    exponents = [2] if tiny else [3, 4, 5, 6, 7] + [8] * (machine.device.type == "cuda")
    cases = [(10, 10**exponent) for exponent in exponents]
    if not tiny:
        cases += [(dim, 10**6) for dim in dims if dim != 10]
    return [
        distances.Task(kind, backward, dtype, dim, pairs)
        for (dim, pairs), kind, backward, dtype in product(
            cases, ("paired", "all pairs"), (False, True), DTYPES
        )
    ]


@app.command(name="scaling")
def scaling_law(
    threads: Threads = ALL_THREADS or 1,
    sizes: Annotated[list[int], typer.Option("--size", help="Taxa.")] = SIZES,
    queries: Annotated[int, typer.Option(help="Of the evaluation.")] = 1000,
    repeats: Annotated[int, typer.Option(help="Runs of each size; the fastest counts.")] = 1,
    law: Annotated[Path, typer.Option(help="Where the fitted law goes.")] = scaling.LAW,
    out: Out = None,
) -> None:
    """Time and memory against the number of taxa; fits the law of `poincare-taxa plan`."""
    machine = machine_of("cpu", threads)
    rows = Rows("scaling", machine)
    for n in sizes:
        scaling.measure(n, rows, queries=queries, repeats=repeats)
        rows.write(out)
    scaling.report(rows.kept, scaling.write_law(rows.kept, machine, law)["law"])


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
    jobs.measure(found, rows, taxa=taxa, epochs=epochs)
    rows.write(out)
