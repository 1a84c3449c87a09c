"""Commands that measure how well embeddings keep a taxonomy."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.clades import ECHINODERMATA, MOLLUSCA, SPIRALIA, ncbi
from benchmarks.clades import clade as part_of_ncbi
from benchmarks.options import ALL_THREADS, Out, Queries, Taxid, Threads

SPLIT = Path("../shared/data/cones_split")
Split = Annotated[Path, typer.Argument(help="Folder of the split: noun.train_0percent.tsv.gz …")]
Only = Annotated[
    list[str] | None,
    typer.Option(help="Jobs that begin so, such as nouns-5; several times for more. Default: all."),
]
KEPT = Path(tempfile.gettempdir(), "poincare-wordnet")


def frontier(queries: Queries = 1000, out: Out = None) -> None:
    """The layout in few dimensions and float32, complete NCBI taxonomy."""
    from benchmarks.quality import layouts
    from benchmarks.tables import collected, publish

    rows = collected(layouts.frontier(ncbi(), queries))
    publish(out, "quality/frontier", rows, layouts.readable(rows))


def complete(threads: Threads = ALL_THREADS, out: Out = None) -> None:
    """Every measure of the layout, complete NCBI taxonomy, every taxon against all."""
    import torch

    from benchmarks.quality import layouts
    from benchmarks.tables import publish

    torch.set_num_threads(threads)
    rows, taken = layouts.complete(ncbi())
    publish(out, "quality/complete", rows, layouts.every_measure(rows))
    publish(out, "quality/complete_cost", [taken])


def confirm(
    clade: Taxid = SPIRALIA,
    threads: Threads = ALL_THREADS,
    out: Out = None,
) -> None:
    """Exact evaluation of a clade through the index: the same values as by scans, to all digits."""
    import torch

    from benchmarks.quality import layouts
    from benchmarks.tables import publish

    torch.set_num_threads(threads)
    publish(out, "quality/confirm", layouts.confirm(part_of_ncbi(clade)))


def ideas(queries: Queries = 200, out: Out = None) -> None:
    """What each idea of the layout buys: its quality without it, complete NCBI taxonomy."""
    from benchmarks.quality import layouts
    from benchmarks.tables import collected, publish

    rows = collected(layouts.ideas(ncbi(), queries))
    publish(out, "quality/ideas", rows, layouts.readable(rows))


def refine(
    queries: Queries = 1000,
    clade: Annotated[
        int | None, typer.Option(help="Taxid of a part.", show_default="all of NCBI")
    ] = None,
    out: Out = None,
) -> None:
    """The same taxa before and after refinement, with the error of the difference."""
    from benchmarks.quality import layouts
    from benchmarks.tables import publish

    rows, summary = layouts.refine(part_of_ncbi(clade), queries)
    suffix = "" if clade is None else f"_{clade}"
    publish(out, f"quality/refine_passes{suffix}", summary)
    publish(out, f"quality/refine{suffix}", rows, layouts.side_by_side_table(rows))


def trees(
    data: Annotated[Path, typer.Argument(help="Folder with files of layouts.TREES.")],
    queries: Queries = 1000,
    out: Out = None,
) -> None:
    """The layout of every tree of a folder of taxonomies, nothing tuned."""
    from benchmarks.quality import layouts
    from benchmarks.tables import collected, publish

    rows = collected(layouts.trees(data, queries))
    publish(out, "quality/trees", rows, layouts.readable(rows))


def phylogenies(
    data: Annotated[Path, typer.Argument(help="Folder with files of phylogenies.TREES.")] = Path(
        "../shared/data"
    ),
    out: Out = None,
) -> None:
    """Branch lengths: the layout's distances beside patristic ones; floor: a layout by edges."""
    from benchmarks.quality import phylogenies as suite
    from benchmarks.tables import collected, publish

    rows = collected(suite.phylogenies(data))
    publish(out, "quality/phylogenies", rows, suite.readable(rows))


def htree(
    theirs: Annotated[
        Path,
        typer.Option(
            help="A folder that has htree: pip install --no-deps --target FOLDER htree treeswift "
            "imageio imageio-ffmpeg",
            show_default=False,
        ),
    ],
    data: Annotated[Path, typer.Argument(help="Folder that has hsdte_trees.")] = Path(
        "../shared/data"
    ),
    out: Out = None,
) -> None:
    """Leaf distances of phylogenies beside htree, at its radius and at the largest."""
    from benchmarks.quality import htree as suite
    from benchmarks.tables import collected, publish

    publish(out, "quality/htree", collected(suite.htree(data, theirs)))


def hsdte(
    data: Annotated[Path, typer.Argument(help="Folder that has hsdte_trees.")] = Path(
        "../shared/data"
    ),
    theirs: Annotated[
        Path | None,
        typer.Option(
            help="A checkout of maxvanspengler/hyperbolic_tree_embeddings, whose requirements are "
            "installed.",
            show_default=False,
        ),
    ] = None,
    out: Out = None,
) -> None:
    """Distances of all pairs in trees embedded by construction, beside HS-DTE at equal radius.

    Without --theirs, its figures are those of the last run that had it.
    """
    from benchmarks.quality import hsdte as suite
    from benchmarks.tables import collected, kept_rows, publish

    earlier = () if theirs is not None else kept_rows(out, "quality/hsdte")
    rows = collected(suite.hsdte(data, theirs, earlier))
    publish(out, "quality/hsdte", rows, suite.readable(rows))


def numerics(out: Out = None) -> None:
    """Relative error of distances in each coordinate system and dtype."""
    from benchmarks.quality import numerics as suite
    from benchmarks.tables import markdown, pages, write_page

    rows = suite.measure()
    table = markdown(suite.readable(rows))
    print(table)
    if out is not None:
        write_page(out, "numerics", table)
        suite.draw_errors(rows, pages(out) / "numerics_errors.svg")
        suite.draw_steps(pages(out) / "numerics_steps.svg")


def intervals(
    samples: Annotated[int, typer.Option(help="Of each kind.", min=1)] = 1000, out: Out = None
) -> None:
    """How often the intervals of a report hold the truth, by simulation."""
    from benchmarks.quality import coverage
    from benchmarks.tables import publish

    shares, ranks = list(coverage.shares(samples)), list(coverage.ranks(samples))
    publish(out, "quality/intervals", shares, coverage.table(shares))
    publish(out, "quality/interval_ranks", ranks)


def wordnet(
    data: Annotated[
        str,
        typer.Argument(help="Folder with mammal_closure.csv.gz and noun_closure.csv.gz; or ncbi."),
    ],
    jobs: Annotated[
        list[str] | None, typer.Argument(help="Such as nouns-5 or nouns-5-training.")
    ] = None,
    keep: Annotated[Path, typer.Option(help="Folder for the points.")] = KEPT,
    out: Out = None,
) -> None:
    """Closure MAP and mean rank by plain distance, of WordNet or of all of NCBI in 2-D.

    Rows of other jobs stay as an earlier run left them.
    """
    from benchmarks.quality import wordnet as suite
    from benchmarks.tables import collected, kept_rows, publish

    new = (
        [suite.ncbi()] if data == "ncbi" else collected(suite.measure(Path(data), jobs or [], keep))
    )
    rows = suite.completed(new, kept_rows(out, "wordnet"))
    publish(out, "wordnet", rows, suite.readable(rows))


def links(data: Split = SPLIT, only: Only = None, out: Out = None) -> None:
    """Link prediction in WordNet, with reachability in the training pairs beside it.

    Rows of other jobs stay as an earlier run left them.
    """
    from benchmarks.quality import links as suite
    from benchmarks.tables import collected, kept_rows, publish

    new = collected(suite.measure(data, only or []))
    rows = suite.completed(new, kept_rows(out, "quality/links"))
    publish(out, "quality/links", rows, suite.readable(rows))


def cones(data: Split = SPLIT, only: Only = None, out: Out = None) -> None:
    """Entailment cones on the same pairs: from a layout, from random points, as published.

    Rows of other jobs stay as an earlier run left them.
    """
    from benchmarks.quality import cones as suite
    from benchmarks.tables import collected, kept_rows, publish

    new = collected(suite.measure(data, only or []))
    rows = suite.completed(new, kept_rows(out, "quality/cones"))
    publish(out, "quality/cones", rows, suite.readable(rows))


def hypernyms(
    data: Annotated[Path, typer.Argument(help="Folder with noun_direct_edges.tsv.gz.")] = Path(
        "../shared/data/wordnet30_nouns"
    ),
    queries: Queries = 10_000,
    out: Out = None,
) -> None:
    """MAP of the neighbours of WordNet's nouns in the hypernym graph, by plain distance."""
    from benchmarks.quality import hypernyms as suite
    from benchmarks.tables import collected, publish

    rows = collected(suite.measure(data, queries))
    publish(out, "quality/hypernyms", rows, suite.readable(rows))


def is_a(
    data: Annotated[Path, typer.Argument(help="Folder with noun_closure.csv.gz.")] = Path(
        "../shared/data/wordnet30_nouns"
    ),
    keep: Annotated[Path, typer.Option(help="Folder for the points of training.")] = KEPT,
    out: Out = None,
) -> None:
    """How far the probabilities of is_a can be trusted: complete NCBI taxonomy, WordNet's nouns."""
    from benchmarks.quality import is_a as suite
    from benchmarks.tables import publish

    found = list(suite.measure(data, keep))
    publish(out, "quality/is_a", [row for row, _ in found])
    publish(out, "quality/is_a_bins", [one for _, bins in found for one in bins])


def page_layout(taxid: Taxid = ECHINODERMATA, out: Out = None) -> None:
    """What the layout of the page keeps of the tree in two dimensions, beside `embed`."""
    from benchmarks.quality import page_layout as suite
    from benchmarks.tables import collected, publish

    publish(out, "page_layout", collected(suite.measure(part_of_ncbi(taxid))))


def placement(
    data: Annotated[Path, typer.Argument(help="Folder that has ncbi_2013_stree.")] = Path(
        "../shared/data"
    ),
    taxid: Taxid = MOLLUSCA,
    out: Out = None,
) -> None:
    """New taxa and new releases: placed points beside copies of the parents', and embedded afresh.

    Mammals first; the clade is a larger example. Without the data no release is migrated.
    """
    import poincare_taxa as pt
    from benchmarks.quality import placement as suite
    from benchmarks.tables import collected, publish

    mammals = pt.load_sample()
    publish(out, "quality/one_more", collected(suite.one_more(mammals)))
    rows = collected(suite.by_neighbours(mammals))
    publish(out, "quality/placement_neighbours", rows, suite.readable_neighbours(rows))
    rows = collected(suite.placement(mammals, part_of_ncbi(taxid)))
    publish(out, "quality/placement", rows, suite.readable(rows))
    if rows := collected(suite.releases(data)):
        publish(out, "quality/migration", rows, suite.readable_releases(rows))


COMMANDS = (
    frontier,
    complete,
    confirm,
    ideas,
    refine,
    trees,
    phylogenies,
    htree,
    hsdte,
    intervals,
    numerics,
    wordnet,
    links,
    cones,
    hypernyms,
    is_a,
    page_layout,
    placement,
)
