"""The command line: each command is in ``commands.py`` of its folder, with its options and help.

A command imports what it runs when it runs, so that help needs neither torch nor this library.
"""

import typer

from benchmarks.experiments import commands as experiments
from benchmarks.quality import commands as quality
from benchmarks.speed import commands as speed
from benchmarks.tools import commands as tools

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def measurements() -> None:
    """What this library costs and what it is worth, measured.

    Every command prints what it finds. With --out FOLDER it also writes, once, when the run is
    complete: rows to benchmarks/results/ and tables to docs/tables/ below that folder, so that
    --out . renews those of the checkout.
    """


for group in (speed, quality, experiments, tools):
    panel = group.__name__.split(".")[1].capitalize()
    for command in group.COMMANDS:
        name = command.__name__.rstrip("_").replace("_", "-")
        app.command(name=name, rich_help_panel=panel)(command)
