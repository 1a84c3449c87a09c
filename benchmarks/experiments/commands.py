"""Commands that repeat experiments with training."""

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.clades import ECHINODERMATA, MOLLUSCA, clade
from benchmarks.options import ALL_THREADS, Out, Queries, Seeds, Taxid, Threads


def ablation(
    seeds: Seeds = 3,
    taxid: Taxid = ECHINODERMATA,
    only: Annotated[str, typer.Option(help="Changes that have this in their name.")] = "",
    out: Out = None,
) -> None:
    """Change one thing at a time in a recipe that failed and in a repaired one.

    With --only the rows of other changes stay as an earlier run left them.
    """
    from benchmarks.experiments import why_it_failed
    from benchmarks.tables import kept_rows, publish

    one_thread()
    kept = kept_rows(out, "why_it_failed") if only else []
    rows = why_it_failed.ablation(clade(taxid), seeds, only, kept)
    publish(out, "why_it_failed", rows, why_it_failed.means(rows))


def ablation_losses(seeds: Seeds = 3, taxid: Taxid = ECHINODERMATA, out: Out = None) -> None:
    """The repaired recipe with other losses."""
    from benchmarks.experiments import why_it_failed
    from benchmarks.tables import collected, publish

    one_thread()
    rows = collected(why_it_failed.losses(clade(taxid), seeds))
    publish(out, "losses", rows, why_it_failed.means(rows))


def ablation_large(seeds: Seeds = 3, taxid: Taxid = MOLLUSCA, out: Out = None) -> None:
    """Both recipes as they are, on a larger clade."""
    from benchmarks.experiments import why_it_failed
    from benchmarks.tables import collected, publish

    one_thread()
    rows = collected(why_it_failed.large(clade(taxid), seeds))
    publish(out, "why_it_failed_large", rows, why_it_failed.means(rows))


def ablation_plots(out: Out = None) -> None:
    """Pictures of the last ablation, and its rows for the page of each block."""
    from benchmarks.experiments import why_it_failed
    from benchmarks.tables import kept_rows, markdown, write_page

    rows = kept_rows(out, "why_it_failed")
    if not rows:
        raise typer.BadParameter(
            f"{out} has no rows of an ablation: run that with this --out first"
        )
    for page, table in why_it_failed.block_tables(rows).items():
        print(markdown(table))
        if out is not None:
            write_page(out, page, markdown(table))
    if out is not None:
        why_it_failed.draw(rows, out / "docs")


def controls(seeds: Seeds = 3, taxid: Taxid = ECHINODERMATA, out: Out = None) -> None:
    """Controls of the recommended recipe: flat space, a shuffled tree, no training."""
    from benchmarks.experiments import controls as suite
    from benchmarks.tables import publish

    one_thread()
    rows = suite.runs(clade(taxid), seeds)
    publish(out, "controls", rows, suite.means(rows))


def random_start(
    taxids: Annotated[
        list[int] | None, typer.Argument(help="Roots of clades.", show_default="three")
    ] = None,
    seeds: Seeds = 3,
    queries: Queries = 300,
    dim: Annotated[int, typer.Option(help="Coordinates of a direction.")] = 10,
    root_weight: Annotated[
        list[float] | None, typer.Option(help="Compare weights of the root instead.")
    ] = None,
    table: Annotated[bool, typer.Option("--table", help="Only the table, of kept rows.")] = False,
    out: Out = None,
) -> None:
    """The recommended recipe from several random starts, beside floor and ceiling."""
    from benchmarks.experiments import random_start as suite
    from benchmarks.tables import collected, kept_rows, publish

    one_thread()
    name = "root_weight" if root_weight else "random_start"
    if table:
        rows = kept_rows(out, name, as_text=True)
    elif root_weight:
        rows = collected(
            suite.weights(taxids or suite.CLADES[:2], root_weight, seeds, queries, dim)
        )
    else:
        rows = collected(suite.starts(taxids or suite.CLADES, seeds, queries, dim))
    publish(out, name, rows, suite.readable(rows))


def full_size(
    taxid: Annotated[int, typer.Option(help="Root of a clade; 1 is that of all taxa.")] = 1,
    threads: Threads = ALL_THREADS,
    queries: Queries = 5000,
    save: Annotated[Path | None, typer.Option(help="Keep the embedding there.")] = None,
    out: Out = None,
) -> None:
    """Training of the complete taxonomy from random points: where the time goes, and how good."""
    from benchmarks.experiments import full_size as suite
    from benchmarks.measure import Machine
    from benchmarks.tables import publish

    Machine.of("cpu", threads)
    model, parts = suite.trained(clade(taxid), save)
    publish(out, "full_size", parts)
    publish(out, "full_size_quality", suite.quality(model, queries))


def does_it_help(
    partitions: Annotated[int, typer.Option(help="Of the groups, each into five folds.")] = 3,
    only: Annotated[str, typer.Option(help="Traits that have this in their name.")] = "",
    jobs: Annotated[int, typer.Option(help="Processes, each with one thread.")] = 2,
    out: Out = None,
) -> None:
    """Traits predicted from taxa: vectors beside exact models of the tree and other baselines.

    With --only the rows of other traits stay as an earlier run left them.
    """
    from benchmarks.experiments import does_it_help as suite
    from benchmarks.tables import kept_rows, markdown, write_page, write_rows

    one_thread()
    rows = kept_rows(out, "does_it_help") if only else []
    for trait in suite.TRAITS:
        if only not in trait.name:
            continue
        try:
            found = list(suite.measure(trait, partitions, jobs))
        except suite.AbsentError as error:
            print(f"{trait.name} is left out: {error}")
            continue
        rows = [row for row in rows if row["trait"] != trait.name] + found
        table = markdown(suite.readable(rows, trait.name))
        print(f"{trait.name}, {found[0]['taxa']:,} taxa\n\n{table}\n", flush=True)
        if out is not None:
            write_page(out, f"help_{trait.page}", table)
    if out is not None and rows:
        write_rows(out, "does_it_help", rows)


def head(
    seeds: Seeds = 3,
    noise: Annotated[
        list[float] | None, typer.Option(help="Of an output.", show_default="0.8 1.0 1.3")
    ] = None,
    out: Out = None,
) -> None:
    """Heads over taxa behind a simulated encoder: seen species, mistakes, unseen species."""
    from benchmarks.experiments import head as suite
    from benchmarks.tables import collected, publish

    one_thread()
    noises = noise or [0.8, 1.0, 1.3]
    middle = noises[len(noises) // 2]
    publish(out, "head_settings", collected(suite.settings(middle)))
    publish(out, "heads", collected(suite.compared(suite.METHODS, noises, seeds)))
    publish(out, "head_targets", collected(suite.compared(suite.TARGETS, [middle], seeds)))


def one_thread() -> None:
    """Compute as all figures of the documentation were computed."""
    from benchmarks.measure import Machine

    Machine.of("cpu", 1)


COMMANDS = (
    ablation,
    ablation_losses,
    ablation_large,
    ablation_plots,
    controls,
    random_start,
    full_size,
    does_it_help,
    head,
)
