"""Options that several commands have."""

import os
from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="Write what a complete run found below this folder; . renews the checkout's results. "
        "Without it nothing is written.",
        show_default=False,
    ),
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1; auto: a GPU if there is one.")]
Threads = Annotated[int, typer.Option(help="Of the CPU.", min=1)]
Seconds = Annotated[float, typer.Option(help="Of measuring, per implementation and row.")]
Patience = Annotated[float, typer.Option(help="Seconds; what takes longer once is left out.")]
Tiny = Annotated[bool, typer.Option("--tiny", help="Only the smallest sizes: does it still run?")]
Sizes = Annotated[list[int], typer.Option("--size", help="Taxa; may be given several times.")]
Queries = Annotated[int, typer.Option(help="Taxa compared with all taxa.")]
Seeds = Annotated[int, typer.Option(help="How many seeds.", min=1)]
Taxid = Annotated[int, typer.Option(help="Root of the clade, in the NCBI taxonomy.")]

AUTOMATIC = "auto"
ALL_THREADS = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
) or 1
