"""Commands that count, draw and compile, or that write files of this repository."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.options import Out

PACKAGE = Path(__file__).parents[2] / "poincare_taxa"


def report(out: Out = None) -> None:
    """Tables and plots of docs/benchmarks.md, from the rows of all devices.

    With --out FOLDER from the rows there; without it the pages are printed, of the checkout's rows.
    """
    from benchmarks.tables import CHECKOUT
    from benchmarks.tools import report as suite

    for folder in suite.devices(out or CHECKOUT):
        if out is None:
            print(suite.page(folder, None))
        else:
            print(suite.write(folder, out))


def aot(
    quick: Annotated[bool, typer.Option("--quick", help="Each kernel once.")] = False,
    out: Out = None,
) -> None:
    """Registers, shared memory and spills of every Triton kernel, compiled without a GPU."""
    from benchmarks.tables import collected, markdown, write_page, write_rows
    from benchmarks.tools import aot as suite

    if quick and out is not None:
        raise typer.BadParameter("--quick compiles a part, which is not written: leave out --out")
    found = collected(suite.measure(quick=quick))
    if out is not None:
        write_rows(out, "aot", found)
        write_page(out, "aot", markdown(suite.page(found)))


def sample(
    traits: Annotated[
        Path | None, typer.Option(help="File of AnimalTraits, for the sample animals.")
    ] = None,
    out: Out = None,
) -> None:
    """The shipped samples: the NCBI clade Mammalia, and animals with traits."""
    from benchmarks.tools import make_sample

    make_sample.make(out, traits)


def taxdump(folder: Annotated[Path, typer.Argument(help="Where the files go.")]) -> None:
    """Write the complete NCBI taxonomy as a full-size taxdump."""
    from benchmarks.tools import make_taxdump

    make_taxdump.make(folder)


def lines(
    package: Annotated[
        Path, typer.Argument(help="Folder of a package.", show_default="the library")
    ] = PACKAGE,
) -> None:
    """Lines of a package by room: code, docstrings, comments, blank lines."""
    from benchmarks.tables import markdown
    from benchmarks.tools import count_lines

    print(markdown(count_lines.table(package)))


def imports(out: Out = None) -> None:
    """Check the imports of the library for circles, and draw those between rooms."""
    from benchmarks.tables import markdown, pages, write_text
    from benchmarks.tools import import_graph

    files = import_graph.files()
    rooms = import_graph.rooms(files)
    for graph in (rooms, files):
        if circle := import_graph.circle(graph):
            sys.exit(f"a circle: {import_graph.described(circle)}")
    level = import_graph.levels(rooms)
    print(
        markdown(
            [
                {"level": level[room], "room": room, "imports": ", ".join(sorted(rooms[room]))}
                for room in sorted(rooms, key=lambda room: (-level[room], room))
            ]
        )
    )
    print(f"no circle between {len(rooms)} rooms, nor between {len(files)} files")
    if out is not None:
        write_text(pages(out) / "rooms.svg", import_graph.picture(rooms) + "\n")


def figures(
    data: Annotated[Path, typer.Option(help="Folder of data that are not shipped.")] = Path(
        "../shared/data"
    ),
    only: Annotated[str, typer.Option(help="Commands that begin so.")] = "",
    out: Out = None,
) -> None:
    """Every table of the documentation and its command; with --out FOLDER those that fit are made.

    That is what two cores do in about an hour each, from shipped data or those of the folder. Each
    command says whether its tables are the same as before; times always differ.
    """
    from benchmarks.tables import collected, markdown
    from benchmarks.tools import figures as suite

    if out is None:
        print(markdown(suite.listed(data)))
        return
    chosen = tuple(figure for figure in suite.FIGURES if figure.command.startswith(only))
    rows = collected(suite.made(data.resolve(), out.resolve(), chosen))
    print(markdown(rows))
    if any(row["result"].startswith("failed") for row in rows):
        raise typer.Exit(1)


def lock(out: Out = None) -> None:
    """Exact versions of all that is installed, as the published figures were made with.

    With --out FOLDER they are written to benchmarks/lock.txt there.
    """
    from benchmarks.tables import write_text
    from benchmarks.tools import lock as suite

    text = suite.text()
    print(text, end="")
    if out is not None:
        write_text(out / suite.FILE, text)


def examples(
    notebooks: Annotated[
        bool, typer.Option("--notebooks", help="Each as a notebook too, as the documentation does.")
    ] = False,
) -> None:
    """Run every example; the time of each, and of all."""
    from benchmarks.tables import collected
    from benchmarks.tools import examples as suite

    collected(suite.measure(notebooks=notebooks))


def newcomer(
    folder: Annotated[
        Path | None,
        typer.Argument(help="An empty folder to work in, which is kept.", show_default="temporary"),
    ] = None,
    complete: Annotated[
        bool, typer.Option("--complete", help="The README's complete NCBI taxonomy too.")
    ] = False,
    out: Out = None,
) -> None:
    """What the installation page and the README say, line by line, with the time of each."""
    from benchmarks.tables import publish
    from benchmarks.tools import newcomer as suite

    rows = suite.follow(suite.path(complete), folder)
    publish(out, "newcomer", rows, below=suite.circumstances())


def fuzz(
    inputs: Annotated[int, typer.Option(help="How many.", min=1)] = 100_000,
    seed: Annotated[int, typer.Option(help="Of the inputs.")] = 0,
    processes: Annotated[int, typer.Option(help="That read at the same time.", min=1)] = 2,
    only: Annotated[
        int | None, typer.Option(help="Write this one to ./fuzzed and show what it gives.")
    ] = None,
    guided: Annotated[
        bool,
        typer.Option("--guided", help="Change what reaches new code; bad ones go to ./fuzzed."),
    ] = False,
    out: Out = None,
) -> None:
    """Every reader, and what reads saved files, over damaged and hostile inputs.

    With --out FOLDER rows are written after each part: a run that was stopped goes on, a larger one
    completes a smaller one, and the table has the sums of all runs, of each seed and each commit.
    """
    from benchmarks.tables import kept_rows, publish, write_rows
    from benchmarks.tools import fuzz as suite

    if only is not None:
        name, outcome = suite.kept(only, seed, Path("fuzzed") / f"{seed}-{only}")
        print(f"{name}: {outcome.kind}\n{outcome.detail}")
        return
    if guided:
        _guided(inputs, seed, processes, out)
        return
    bad: list[int] = []

    def show(i: int, name: str, outcome: suite.Outcome) -> None:
        bad.append(i)
        print(f"--only {i} --seed {seed}: {name} {outcome.kind}\n{outcome.detail}", flush=True)

    rows = [suite.from_text(row) for row in kept_rows(out, "fuzz", as_text=True)] if out else []
    for so_far in suite.parts(rows, inputs, seed, processes, show):
        rows = so_far
        print(suite.circumstances(rows), flush=True)
        if out is not None:
            write_rows(out, "fuzz", rows)
    publish(out, "fuzz", rows, suite.table(rows), below=suite.circumstances(rows))
    if bad:
        raise typer.Exit(1)


def _guided(inputs: int, seed: int, processes: int, out: Path | None) -> None:
    from benchmarks.tables import commit, publish
    from benchmarks.tools import corpus, fuzz, guided

    bad: list[str] = []

    def show(name: str, place: str) -> None:
        bad.append(place)
        print(f"{name}: {place}", flush=True)

    rows, kept = guided.measure(inputs, seed, processes, show)
    below = f"Seed {seed}, on commit {commit()}, {fuzz.versions()}."
    publish(out, "fuzz_guided", rows, below=below)
    if out is not None:
        corpus.write_corpus(kept, out)
    if bad:
        raise typer.Exit(1)


def kills(
    works: Annotated[
        list[str] | None, typer.Argument(help="What to kill, such as explore; by default all.")
    ] = None,
    every: Annotated[
        int, typer.Option(help="Kill at each file operation (1), at every second (2), …", min=1)
    ] = 1,
    moments: Annotated[int, typer.Option(help="Random ones for each work.", min=0)] = 20,
    seed: Annotated[int, typer.Option(help="Of the random moments.")] = 0,
    out: Out = None,
) -> None:
    """SIGKILL at every file operation of what writes files, and at random moments.

    With --out FOLDER rows of the works that were not chosen are those of earlier runs.
    """
    from benchmarks.tables import collected, kept_rows, publish
    from benchmarks.tools import kills as suite

    bad: list[str] = []

    def show(name: str, moment: str, trial: suite.Trial) -> None:
        bad.append(name)
        print(f"{name}, {moment}: {trial.left}\n{trial.detail}", flush=True)

    options = {"names": works or (), "every": every, "moments": moments, "seed": seed}
    rows = collected(suite.measure(show, **options))
    if works and out is not None:
        new = {row["what is killed"] for row in rows}
        rows += [row for row in kept_rows(out, "kills") if row["what is killed"] not in new]
    shown = [{key: value for key, value in row.items() if key != "commit"} for row in rows]
    publish(out, "kills", rows, shown, below=suite.circumstances(rows, seed))
    if bad:
        raise typer.Exit(1)


def soak(
    minutes: Annotated[float, typer.Option(help="How long.", min=0)] = 120,
    taxa: Annotated[int, typer.Option(help="Of each round.", min=20)] = 300,
    out: Out = None,
) -> None:
    """Train, checkpoint, evaluate, save, load, again and again: slopes of memory and open files."""
    from benchmarks.tables import collected, publish
    from benchmarks.tools import soak as suite

    rows = collected(suite.measure(minutes, taxa))
    publish(out, "soak", rows, suite.slopes(rows), below=suite.circumstances(rows, taxa))


def mutate(
    changes: Annotated[int, typer.Option(help="How many.", min=1)] = 1500,
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    minutes: Annotated[
        float, typer.Option(help="When to stop; the table then has what ran.", min=0)
    ] = float("inf"),
    survivors: Annotated[
        bool, typer.Option("--survivors", help="Try those again that no test noticed.")
    ] = False,
    out: Out = None,
) -> None:
    """Small changes of the library's code, one at a time: do the tests notice?

    With --out FOLDER rows are written as they come, and those that are there are not made again:
    a run that was stopped goes on, and a larger one completes a smaller one.
    """
    from benchmarks.tables import kept_rows, publish, write_rows
    from benchmarks.tools import mutate as suite

    end = time.monotonic() + 60 * minutes
    sample = {change.key: change for change in suite.sample(changes, seed)}
    known = {row["key"]: row for row in kept_rows(out, "mutate", as_text=True)} if out else {}
    rows = {key: known[key] for key in sample if key in known}
    again = suite.survived(rows.values()) if survivors else ()
    for key in [*again, *(key for key in sample if key not in rows and not survivors)]:
        if time.monotonic() > end:
            break
        rows[key] = row = suite.judged(sample[key])
        what = f"{row['file']}:{row['line']} {row['before']} -> {row['after']}"
        print(f"{len(rows)} · {row['outcome']} · {what}", flush=True)
        if out is not None:
            write_rows(out, "mutate", list(rows.values()))
    found = list(rows.values())
    publish(out, "mutate", found, suite.table(found), below=suite.circumstances(found, seed))


COMMANDS = (
    *(report, figures, lock, examples, aot, sample, taxdump, lines, imports, newcomer),
    *(fuzz, kills, soak, mutate),
)
