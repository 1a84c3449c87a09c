"""The command ``poincare-taxa``: each subcommand calls a function of the library and prints.

Results are printed to standard output, progress and errors to standard error. Exit status: 0 for
success, 1 for a failed check, 2 for an error in the input or the arguments.

Each command imports the modules that it uses, so that ``--help`` imports none of them.
"""

import json as jsonlib
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from poincare_taxa.files.progress import progress_display

if TYPE_CHECKING:
    import polars as pl

    from poincare_taxa.closure.model import ClosureEmbedding
    from poincare_taxa.model.model import TaxonEmbedding
    from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["app", "main"]

app: typer.Typer = typer.Typer(
    name="poincare-taxa",
    help="Taxonomies as hyperbolic vectors: distance means relatedness, radius means depth.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# Every text is printed as it is: names of taxa and of files may hold brackets and colons.
_out = Console(markup=False, emoji=False)
_err = Console(stderr=True, markup=False, emoji=False)

Source = Annotated[
    str,
    typer.Argument(
        help="'ncbi' (the complete taxonomy, of the extra \\[ncbi]), 'demo' (the shipped sample), "
        "or a file or folder: taxdump, edge list, lineage table, Newick."
    ),
]
Saved = Annotated[Path, typer.Argument(metavar="OUT", help="Folder of a saved embedding.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Taxa = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[TAXA]...",
        help="Ids or names; without any, they are read from standard input, one a line, and the "
        "result is printed as TSV.",
    ),
]
Dtype = Literal["float64", "float32"]
Aim = Literal["neighbours", "distances", "targets"]


def main(args: list[str] | None = None) -> None:
    """Run the command; data and argument errors become one message and exit status 2."""
    for stream in (sys.stdout, sys.stderr):  # where a terminal has no UTF-8, names are escaped
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *place: _print_message("warning", message, "yellow")
        try:
            try:
                app(args)
            finally:
                sys.stdout.flush()
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            with suppress(OSError):  # there may be no room for messages either
                _print_message("error", error, "red")
            _discard_output()
            sys.exit(2)


def _discard_output() -> None:
    """Let Python not write at its end what standard output has refused."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        return
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _print_message(kind: str, message: Warning | Exception | str, style: str) -> None:
    _err.print(f"{kind}: {message}", style=style, highlight=False, soft_wrap=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from poincare_taxa.files.records import library_version

        typer.echo(library_version())
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    pass


@app.command()
def embed(
    source: Source,
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write; an existing embedding is replaced."),
    ],
    dim: Annotated[
        int | None,
        typer.Option(
            help="Number of coordinates of a vector; by default 10, for targets 32.",
            show_default=False,
        ),
    ] = None,
    aim: Annotated[
        Aim,
        typer.Option(
            help="What the vectors are for: order of neighbours, exact distances, or targets of a "
            "network."
        ),
    ] = "neighbours",
    tau: Annotated[
        float | None,
        typer.Option(
            help="Radius per level, or per unit of branch length; by default that of the aim.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[Dtype, typer.Option(help="Dtype of the stored vectors.")] = "float64",
    seed: Annotated[int, typer.Option(help="The same seed gives the same vectors.")] = 0,
    refine: Annotated[
        bool,
        typer.Option(
            help="Better neighbourhoods, larger radii; a minute or two for 2.6 million taxa."
        ),
    ] = False,
    shards: Annotated[
        bool,
        typer.Option(
            "--shards",
            help="Each process of torchrun computes and writes a slice of the rows; SOURCE is a "
            "parquet file of id and parent in preorder.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Embed a taxonomy and save vectors, taxonomy and provenance as a folder."""
    from poincare_taxa.model import storage
    from poincare_taxa.processes.torchrun import number_of_processes

    storage.ensure_writable(out)
    if shards:
        if aim != "neighbours" or tau is not None:
            raise ValueError(
                "shards have the aim neighbours and its tau: leave --aim and --tau out"
            )
        _embed_shards(source, out, 10 if dim is None else dim, dtype, seed, refine, json)
        return
    if number_of_processes() > 1:
        raise ValueError(
            "without --shards every process of torchrun would compute and write the same: leave "
            "torchrun out, or give --shards and a parquet file of id and parent in preorder"
        )
    taxonomy = _read(source)
    model = _embed(taxonomy, dim, dtype, seed, aim=aim, tau=tau, refine=refine)
    with _step(f"save {out}"):
        model.save(out)
    _err.print(repr(model), highlight=False, soft_wrap=True)
    if json:
        _print_json(
            {"path": str(out), "taxa": len(model), "dim": model.dim, **model.meta["settings"]}
        )


@app.command()
def train(
    config: Annotated[
        Path,
        typer.Argument(
            help="TOML file: source (as for embed) or pairs_csv, out, and the arguments of fit."
        ),
    ],
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the run in the file's checkpoint folder.")
    ] = False,
    json: Json = False,
) -> None:
    """Train an embedding, and save it with the history of the run."""
    from poincare_taxa.model import storage
    from poincare_taxa.processes.group import Processes
    from poincare_taxa.training.config import read_config

    settings = read_config(config)
    storage.ensure_writable(settings.out)
    run = settings.run(_read, resume=resume)
    with _step(f"save {settings.out}"):
        settings.save(run)
    if Processes.joined().rank > 0:
        return
    if json:
        _print_json({"path": str(settings.out), "history": run.history.to_dicts()})
        return
    columns = ["epoch", "loss", "depth_radius", "spearman", "pair_accuracy", "seconds"]
    _print_frame(run.history[[0, -1]].select(c for c in columns if c in run.history.columns))


@app.command()
def evaluate(
    saved: Saved,
    queries: Annotated[
        int,
        typer.Option(
            help="Number of taxa compared with all others; with up to 5,000 taxa, all are.", min=1
        ),
    ] = 1000,
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Compare every taxon; the expected time is printed first."),
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of the choice of taxa.")] = 0,
    save: Annotated[
        bool, typer.Option("--save", help="Store the report in OUT/meta.json.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure an embedding, and print every value with its floor and ceiling."""
    from poincare_taxa.evaluation.measure import evaluate as measure
    from poincare_taxa.model import storage
    from poincare_taxa.processes.group import Processes

    meta = storage.read_meta(saved)
    files = meta.get("files")
    if "shards" in meta and Processes.joined().size > 1:
        from poincare_taxa.shards.evaluation import evaluate_shards

        if exact:
            raise ValueError("shards are evaluated by a sample of taxa: leave --exact out")
        report = evaluate_shards(saved, queries=queries, seed=seed)
    else:
        model = _load(saved)
        report = measure(model, queries=queries, seed=seed, exact=exact or None, processes=True)
    if Processes.joined().rank > 0:
        return
    if save:
        storage.update_meta(saved, files=files, report=report.to_dict())
    if json:
        _print_json(report.to_dict())
    else:
        typer.echo(report)


@app.command()
def plan(
    source: Annotated[
        str, typer.Argument(help="A number of taxa, or a taxonomy as for embed, which is read.")
    ],
    queries: Annotated[
        int, typer.Option(help="Number of taxa that an evaluation compares.", min=1)
    ] = 1000,
    json: Json = False,
) -> None:
    """Predict time and memory of a taxonomy on this machine, in 10 dimensions of float64."""
    taxa = int(source) if source.isdigit() and not Path(source).exists() else len(_read(source))
    with _step("calibrate"):
        from poincare_taxa.model.planning import plan as predict

        steps = predict(taxa, queries=queries)
    if json:
        _print_json({"taxa": taxa, "steps": [vars(step) for step in steps]})
        return
    table = Table(f"{taxa:,} taxa", "time", "memory", box=None, pad_edge=False)
    for step in steps:
        table.add_row(step.name, _span(step.seconds), f"{step.memory / 2**30:.2f} GiB")
    _out.print(table)


@app.command()
def check(
    saved: Saved,
    reproduce: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Verify too that this source (as for `embed`) still gives the same vectors.",
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Verify a saved embedding and its taxonomy; exit status 1 if a check fails."""
    from poincare_taxa.model.checks import check as verify

    results = verify(saved, reproduce=None if reproduce is None else _read(reproduce))
    if json:
        _print_json([result.to_dict() for result in results])
    else:
        table = Table(box=None, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        marks = {"passed": ("✓", "green"), "failed": ("✗", "red"), "skipped": ("–", "yellow")}
        for result in results:
            table.add_row(Text(*marks[result.status]), result.name, result.detail)
        _out.print(table)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


@app.command()
def nearest(
    saved: Saved,
    taxa: Taxa = None,
    k: Annotated[int, typer.Option("-k", help="Number of neighbours.", min=1)] = 10,
    taxon_rank: Annotated[
        str | None, typer.Option(help="Rank of the neighbours, e.g. genus.")
    ] = None,
    within: Annotated[
        str | None, typer.Option(help="Id or name of a clade that has the neighbours.")
    ] = None,
    json: Json = False,
) -> None:
    """List the taxa nearest to a taxon, or to each of many."""
    keys, piped = (taxa, False) if taxa else (_lines(), True)
    one = keys[0] if taxa and len(taxa) == 1 else keys
    if (dag := _load_dag(saved)) is not None:
        if taxon_rank is not None or within is not None:
            raise ValueError("nodes of a DAG have no ranks and no clades: leave the options out")
        _print_found(dag.nearest(one, k=k), piped, json)
        return
    found = _load(saved).nearest(one, k=k, taxon_rank=taxon_rank, within=within)
    _print_found(found, piped, json)


@app.command()
def diff(
    old: Annotated[str, typer.Argument(help="A release of a taxonomy: a SOURCE, as for embed.")],
    new: Annotated[str, typer.Argument(help="A later release.")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File for all changes, tab-separated.")
    ] = None,
    json: Json = False,
) -> None:
    """Count the taxa that were added, removed, merged, moved, renamed and given another rank."""
    from poincare_taxa.files.atomic import replace_file
    from poincare_taxa.taxonomy.releases import CHANGES
    from poincare_taxa.taxonomy.releases import diff as compare

    releases = _read(old), _read(new)
    with _step("compare"):
        changes = compare(*releases)
    if out is not None:
        with _step(f"write {out}"), replace_file(out) as draft:
            changes.write_csv(draft, separator="\t")
    found = dict(changes["change"].value_counts().iter_rows())
    count = {change: found.get(change, 0) for change in CHANGES}
    if json:
        _print_json({"old": len(releases[0]), "new": len(releases[1]), **count})
        return
    table = Table("change", "taxa", "for example", box=None, pad_edge=False)
    for change, number in count.items():
        shown = changes.filter(change=change).head(3)["id", "name"].rows()
        labels = [str(key) if name is None else f"{name} ({key})" for key, name in shown]
        table.add_row(change, f"{number:,}", ", ".join(labels))
    _out.print(table)


@app.command()
def migrate(
    saved: Saved,
    new: Annotated[
        str, typer.Argument(help="Another release of its taxonomy: a SOURCE, as for embed.")
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to write; an existing embedding is replaced."),
    ],
    changes: Annotated[
        Path | None,
        typer.Option(help="File for all taxa whose vectors changed, tab-separated."),
    ] = None,
    queries: Annotated[
        int, typer.Option(help="Taxa by which a fresh embedding is compared; 0: none.", min=0)
    ] = 200,
    json: Json = False,
) -> None:
    """Follow another release: taxa that did not move keep their vectors, new ones are placed."""
    from poincare_taxa.files.atomic import replace_file
    from poincare_taxa.model import storage

    storage.ensure_writable(out)
    model = _load(saved)
    taxonomy = _read(new)
    with _step("migrate"):
        migration = model.migrate(taxonomy, queries=queries)
    if changes is not None:
        with _step(f"write {changes}"), replace_file(changes) as draft:
            migration.changes.write_csv(draft, separator="\t")
    with _step(f"save {out}"):
        migration.model.save(out)
    if json:
        _print_json({"path": str(out), "taxa": len(migration.model), **migration.summary})
    else:
        typer.echo(migration)


@app.command()
def info(saved: Saved, json: Json = False) -> None:
    """Print what a saved embedding is, from its meta.json; nothing else is read."""
    from poincare_taxa.model import storage

    meta = storage.read_meta(saved)
    if json:
        _print_json({key: meta[key] for key in meta if key != "probe"})
        return
    settings = {
        key: value for key, value in meta.get("settings", {}).items() if key != "target_radius"
    }
    parts = {
        "": {
            key: meta.get(key)
            for key in ("num_taxa", "num_nodes", "dim", "dtype", "created", "library_version")
        },
        "source: ": meta.get("source", {}),
        "settings: ": settings,
        "shard: ": {
            shard["folder"]: f"rows {shard['start']:,} to {shard['stop'] - 1:,}"
            for shard in meta.get("shards", [])
        },
        "file: ": {
            name: f"{file['bytes']:,} bytes" for name, file in meta.get("files", {}).items()
        },
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    for prefix, entries in parts.items():
        for key, value in entries.items():
            if value is not None:
                table.add_row(f"{prefix}{key}", str(value))
    _out.print(table)


@app.command()
def distance(saved: Saved, taxa: Taxa = None, json: Json = False) -> None:
    """Print the distances of pairs of taxa: hyperbolic, and those of the taxonomy.

    Standard input has two taxa a line, separated by a tab; arguments are taken two by two.
    """
    a, b, piped = _pairs(taxa)
    model = _load_dag(saved) or _load(saved)
    import polars as pl
    import torch

    from poincare_taxa.closure.model import ClosureEmbedding

    apart = torch.atleast_1d(torch.as_tensor(model.distance(a, b)))
    frame = pl.DataFrame({"a": a, "b": b, "distance": apart.numpy(force=True)})
    if not isinstance(model, ClosureEmbedding):
        edges = model.taxonomy.tree_distance(a, b)
        frame = frame.with_columns(edges.alias("tree_distance"))
    _print_found(frame, piped, json)


@app.command("is-a")
def is_a(saved: Saved, taxa: Taxa = None, json: Json = False) -> None:
    """Print the probability that the second taxon of a pair is an ancestor of the first.

    By the vectors, beside the truth of the taxonomy or DAG. Pairs are given as to `distance`.
    """
    a, b, piped = _pairs(taxa)
    model = _load_dag(saved) or _load(saved)
    import polars as pl
    import torch

    from poincare_taxa.closure.model import ClosureEmbedding

    probability = torch.atleast_1d(torch.as_tensor(model.is_a(a, b))).numpy()
    tree = model if isinstance(model, ClosureEmbedding) else model.taxonomy
    truth = tree.is_ancestor(b, a)
    frame = pl.DataFrame({"a": a, "b": b, "probability": probability})
    _print_found(frame.with_columns(pl.Series("is_ancestor", truth)), piped, json)


@app.command()
def lineage(saved: Saved, taxa: Taxa = None, json: Json = False) -> None:
    """Print the lineages of taxa, from the root down."""
    keys, piped = (taxa, False) if taxa else (_lines(), True)
    tax = _load(saved).taxonomy
    frame = tax.to_frame(keys).drop("parent")
    lineages = tax.lineage(keys).alias("lineage")
    _print_found(frame.with_columns(lineages), piped, json)


@app.command()
def ancestors(
    saved: Saved,
    taxa: Taxa = None,
    by_vector: Annotated[
        bool,
        typer.Option("--by-vector", help="The ancestors according to the vectors, with scores."),
    ] = False,
    json: Json = False,
) -> None:
    """List the ancestors of taxa, from the parent up to the root."""
    import polars as pl

    keys, piped = (taxa, False) if taxa else (_lines(), True)
    if (dag := _load_dag(saved)) is not None:  # a DAG has no lineage: always by the points
        names = [dag.names[int(row)] for row in dag.rows(keys)]
        found = [dag.ancestors(name).select(pl.lit(name).alias("query"), "*") for name in names]
        _print_found(pl.concat(found), piped, json)
        return
    model = _load(saved)
    tax = model.taxonomy
    queries = tax.to_frame(keys)["id"]
    if by_vector:
        found = [
            model.ancestors(key).select(pl.lit(key).alias("query"), pl.all()) for key in queries
        ]
        frame = pl.concat(found) if found else pl.DataFrame()
    else:
        lists = pl.DataFrame({"query": queries, "id": tax.ancestors(keys)})
        flat = lists.explode("id").drop_nulls("id")
        frame = flat.with_columns(tax.to_frame(flat["id"]).select("name", "taxon_rank"))
    _print_found(frame, piped, json)


@app.command()
def export(
    saved: Saved,
    out: Annotated[
        Path,
        typer.Argument(
            help="File to write: .csv .tsv .parquet .npz .txt (word2vec) .h5ad (AnnData) .nwk."
        ),
    ],
    json: Json = False,
) -> None:
    """Write a saved embedding for another tool; the suffix of the file is the format."""
    from poincare_taxa.model.exports import SUFFIXES

    if out.suffix.lower() not in SUFFIXES:
        raise ValueError(f"the suffix of {out} is none of {' '.join(SUFFIXES)}")
    model = _load(saved)
    with _step(f"export {out}"):
        model.export(out)
    if json:
        _print_json({"path": str(out), "taxa": len(model), "bytes": out.stat().st_size})


@app.command()
def plot(
    saved: Saved,
    picture: Annotated[
        Path | None, typer.Option("--out", "-o", help="PNG, SVG or PDF; OUT.png by default.")
    ] = None,
    color_by: Annotated[
        str | None,
        typer.Option(
            help="Taxon rank whose clades are coloured; by default the first with five or more."
        ),
    ] = None,
    focus: Annotated[
        str | None, typer.Option(help="Id or name of the taxon in the centre of the disk.")
    ] = None,
    highlight: Annotated[
        list[str] | None,
        typer.Option(help="Id or name of a taxon to mark in the disk; may be given many times."),
    ] = None,
    kind: Annotated[
        Literal["disk", "depth-radius", "distances", "separation", "umap"],
        typer.Option(help="What to draw."),
    ] = "disk",
    tree: Annotated[
        bool,
        typer.Option("--tree", help="Draw the taxonomy instead of the vectors."),
    ] = False,
    json: Json = False,
) -> None:
    """Draw an embedding in the Poincaré disk, or what its vectors keep of the taxonomy."""
    given = {"color_by": color_by, "focus": focus, "highlight": highlight}
    given = {name: value for name, value in given.items() if value is not None}
    takes = {"disk": set(given) | {"tree"}, "umap": {"color_by"}}.get(kind, set())
    extra = (set(given) | ({"tree"} if tree else set())) - takes
    if extra:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in sorted(extra))
        raise ValueError(f"{options} is of no use to --kind {kind}; leave it out")
    from poincare_taxa import pictures

    picture = picture or saved.with_name(f"{saved.name}.png")
    if (dag := _load_dag(saved)) is not None:
        if tree or given or kind != "disk":
            raise ValueError("a DAG has no tree to draw and no ranks: leave the options out")
        with _step(f"draw {picture}"):
            pictures.save_figure(pictures.plot_disk(dag), picture)
        if json:
            _print_json({"path": str(picture), "kind": kind, "nodes": len(dag)})
        return
    model = _load(saved)
    plots = {"disk": pictures.plot_disk, "umap": pictures.plot_umap}
    plots["depth-radius"] = pictures.plot_depth_radius
    plots["distances"] = pictures.plot_distances
    plots["separation"] = pictures.plot_separation
    with _step(f"draw {picture}"):
        drawn = pictures.disk_layout(model.taxonomy) if tree else model
        pictures.save_figure(plots[kind](drawn, **given), picture)
    if json:
        _print_json({"path": str(picture), "kind": kind, "taxa": len(model)})


@app.command()
def explore(
    saved: Annotated[
        str,
        typer.Argument(
            metavar="OUT", help="Folder of a saved embedding, or a SOURCE as for embed."
        ),
    ],
    page: Annotated[
        Path, typer.Option("--out", "-o", help="HTML file to write.", show_default=True)
    ] = Path("tree.html"),
    color_by: Annotated[
        str | None, typer.Option(help="Taxon rank whose largest clades are coloured.")
    ] = None,
    highlight: Annotated[
        list[str] | None,
        typer.Option(help="Id or name of a taxon to highlight; may be given several times."),
    ] = None,
    highlight_file: Annotated[
        Path | None, typer.Option(help="File of ids or names to highlight, one a line.")
    ] = None,
    json: Json = False,
) -> None:
    """Write the tree as one HTML file to fly through; it needs no server and no network."""
    from poincare_taxa.page.html import explore as build

    keys = list(highlight or [])
    if highlight_file is not None:
        lines = highlight_file.read_text(encoding="utf-8").splitlines()
        keys += [line.strip() for line in lines if line.strip()]
    is_saved = (Path(saved) / "meta.json").is_file()
    tax = _load(Path(saved)).taxonomy if is_saved else _read(saved)
    with _step(f"write {page}"):
        build(tax, page, color_by=color_by, highlight=keys or None)
    if json:
        _print_json({"path": str(page), "taxa": len(tax), "bytes": page.stat().st_size})


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write.")] = Path("demo"),
    json: Json = False,
) -> None:
    """Embed the shipped sample, print its report, draw it."""
    from poincare_taxa.evaluation.measure import evaluate as measure
    from poincare_taxa.files.atomic import replace_file
    from poincare_taxa.pictures import disk_layout, plot_disk, save_figure

    taxonomy = _read("demo")
    model = _embed(taxonomy, 10, "float64", 0)
    report = measure(model)
    model.meta["report"] = report.to_dict()
    with _step(f"save {out / 'embedding'}"):
        model.save(out / "embedding")
    try:
        with _step(f"draw {out / 'mammals.png'}"):
            save_figure(plot_disk(disk_layout(taxonomy)), out / "mammals.png")
    except ImportError as error:
        _err.print(f"no picture: {error}", highlight=False)
    with replace_file(out / "report.txt") as draft:
        draft.write_text(f"{report}\n", encoding="utf-8")
    if json:
        _print_json({"path": str(out), "taxa": len(model), "report": report.to_dict()})
        return
    typer.echo(report)
    typer.echo("\nThe genera nearest to Homo sapiens:\n")
    _print_frame(model.nearest("Homo sapiens", k=8, taxon_rank="genus"))


@app.command()
def download(
    what: Annotated[Literal["ncbi"], typer.Argument(help="Which taxonomy.")],
    date: Annotated[
        str | None,
        typer.Option(help="YYYY-MM-01: a dump of the archive; by default the latest dump."),
    ] = None,
    sha256: Annotated[str | None, typer.Option(help="Expected SHA-256 of the file.")] = None,
    to: Annotated[
        Path | None, typer.Option(help="Folder for the file; by default the user's cache.")
    ] = None,
    json: Json = False,
) -> None:
    """Fetch a taxonomy dump and print its path; the only command that uses the network."""
    from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

    from poincare_taxa.readers.download import download_ncbi

    with Progress(
        *Progress.get_default_columns(), DownloadColumn(), TransferSpeedColumn(), console=_err
    ) as bar:
        task = bar.add_task(what, total=None)
        path = download_ncbi(
            date,
            sha256=sha256,
            cache_dir=to,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if json:
        _print_json({"path": str(path)})
    else:
        typer.echo(path)


# -------------------------------------------------------------------- shared steps


def _read(source: str) -> "Taxonomy":
    """Read a taxonomy by the argument SOURCE."""
    from poincare_taxa import readers

    with _step(f"read {source}"):
        if source == "ncbi":
            return readers.read_ncbi()
        if source == "demo":
            return readers.load_sample()
        if not Path(source).exists():
            raise FileNotFoundError(
                f"{source} is neither 'ncbi' nor 'demo' nor a file or folder: is the path right?"
            )
        return readers.read(source)


def _embed(
    taxonomy: "Taxonomy", dim: int | None, dtype: Dtype, seed: int, **options: Any
) -> "TaxonEmbedding":
    with _step(f"embed {len(taxonomy):,} taxa"):
        import torch

        from poincare_taxa.model.model import embed

        return embed(taxonomy, dim, dtype=getattr(torch, dtype), seed=seed, **options)


def _embed_shards(
    source: str, out: Path, dim: int, dtype: Dtype, seed: int, refine: bool, json: bool
) -> None:
    import torch

    from poincare_taxa.processes.group import Processes
    from poincare_taxa.shards.embedding import embed_shards

    processes = Processes.joined()
    with _step(f"embed {source} in shards") if processes.rank == 0 else nullcontext():
        layout = embed_shards(
            source, out, dim, dtype=getattr(torch, dtype), seed=seed, refine=refine
        )
    if json and processes.rank == 0:
        _print_json({"path": str(out), "shards": processes.size, "dim": dim, **layout})


def _load(saved: Path) -> "TaxonEmbedding":
    with _step(f"load {saved}"):
        from poincare_taxa.model.model import TaxonEmbedding

        return TaxonEmbedding.load(saved)


def _load_dag(saved: Path) -> "ClosureEmbedding | None":
    """Load the points of a DAG; None for the folder of anything else."""
    from poincare_taxa.model import storage

    if "nodes.parquet" not in storage.read_meta(saved).get("files", {}):
        return None
    with _step(f"load {saved}"):
        from poincare_taxa.closure.model import ClosureEmbedding

        return ClosureEmbedding.load(saved)


@contextmanager
def _step(what: str) -> Iterator[None]:
    """Show the name of a step while it runs, then the time that it took."""
    start = time.perf_counter()
    with progress_display(None, transient=True) as show:
        show(what, 0, 1)
        yield
    _err.print(f"{what}: {time.perf_counter() - start:.1f} s", highlight=False, soft_wrap=True)


def _span(seconds: float) -> str:
    """Time in seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _lines() -> list[str]:
    """Lines of standard input that are not blank."""
    if sys.stdin is None or sys.stdin.isatty():
        raise ValueError("no taxa: give ids or names, or send them to standard input, one a line")
    lines = [line.rstrip("\r\n") for line in sys.stdin]
    found = [line for line in lines if line.strip()]
    if not found:
        raise ValueError("no taxa: there are no lines in standard input")
    return found


def _pairs(taxa: list[str] | None) -> tuple[list[str], list[str], bool]:
    """First and second taxa of pairs, and whether they come from standard input."""
    pairs = _two_by_two(taxa) if taxa else [line.split("\t") for line in _lines()]
    for number, pair in enumerate(pairs, start=1):
        if len(pair) != 2:
            raise ValueError(f"line {number} has {len(pair)} taxa; give two, with a tab between")
    a, b = ([pair[i].strip() for pair in pairs] for i in (0, 1))
    return a, b, not taxa


def _two_by_two(taxa: list[str]) -> list[list[str]]:
    if len(taxa) % 2:
        raise ValueError(f"distances are those of pairs of taxa; got {len(taxa)}")
    return [taxa[i : i + 2] for i in range(0, len(taxa), 2)]


def _print_found(frame: "pl.DataFrame", piped: bool, json: bool) -> None:
    """Print a table as JSON, as TSV where taxa came from standard input, else for a reader."""
    if json:
        _print_json(frame.to_dicts())
    elif piped:
        typer.echo(frame.write_csv(separator="\t"), nl=False)
    else:
        _print_frame(frame)


def _print_json(value: Any) -> None:
    typer.echo(jsonlib.dumps(value, indent=2, ensure_ascii=False))


def _print_frame(frame: "pl.DataFrame") -> None:
    table = Table(*frame.columns, box=None, pad_edge=False)
    for row in frame.iter_rows():
        table.add_row(*(f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row))
    _out.print(table)
