"""Edge lists: a line per node with its parent, in any of the forms in which such tables come."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_edges", "read_parents"]

# What the columns are called in the wild, in lower case without spaces, dots and underscores: NCBI
# and taxonkit tables, Open Tree's interim format, Darwin Core, Catalogue of Life, this library.
_NAMES = {
    "child": ["child", "childid", "id", "taxid", "uid", "taxonid", "nodeid", "node", "ncbitaxid"],
    "parent": ["parent", "parentid", "parenttaxid", "parentuid", "parenttaxonid", "parentnodeid"],
    "name": ["name", "scientificname", "taxonname", "label"],
    "taxon_rank": ["rank", "taxonrank"],
    "branch_length": ["branchlength", "length"],
}
_BAR = "\t|\t"
Column = str | int


def read_edges(
    path: str | Path,
    *,
    child: Column | None = None,
    parent: Column | None = None,
    root: int | str | None = None,
    undirected: bool = False,
    multi_parent: Literal["error", "first"] = "error",
) -> Taxonomy:
    """Read a table with a line per node: the node and its parent.

    TSV, CSV, semicolons, spaces, Open Tree's interim format (tab-bar-tab) or parquet; text may be
    gzipped. With or without a header: the first line is one if it names the columns (``id`` or
    ``child``, ``parent_id`` …; letter case and underscores do not matter) or if it alone has text
    where ids are numbers. Columns of names, ranks and branch lengths are taken by their headings.

    Parameters
    ----------
    path
        The file.
    child, parent
        Heading or place (from 0) of the two columns, where the headings do not say, or where there
        are none and they are not the first two.
    root, undirected, multi_parent
        As in `Taxonomy.from_edges`: `root` keeps what is below a node, or joins several trees under
        a new one; `undirected` edges are hung from `root`; ``multi_parent="first"`` makes a tree of
        a DAG.

    Raises
    ------
    TaxonomyError
        Naming file, line and likely cause.
    """
    text, header = None, True
    if Path(path).suffix == ".parquet":
        table = pl.read_parquet(path)
    else:
        text = Text.load(path)
        table, header = headed_table(text, {child, parent})
    try:
        return Taxonomy.from_edges(
            _choose(table, child, parent, header),
            root=root,
            undirected=undirected,
            multi_parent=multi_parent,
            source=provenance(path, "edge list"),
        )
    except TaxonomyError as error:
        if text is None:
            raise TaxonomyError(f"{path}: {error}") from error
        raise text.error_in_row(error, header=header) from error


def read_parents(path: str | Path) -> Taxonomy:
    """Read a text with one number per line: the parent of node 0, of node 1, …; -1 at the root.

    Ids are the line numbers, from 0. The text may be gzipped.

    Raises
    ------
    TaxonomyError
        Naming file, line and likely cause.
    """
    text = Text.load(path)
    numbers = text.table("\t").to_series().cast(pl.Int64, strict=False)
    if numbers.null_count():
        row = int(numbers.is_null().arg_max() or 0)
        raise text.error(
            "expected the number of a node, or -1 at the root", line=text.line_of_row(row)
        )
    try:
        return Taxonomy.from_parents(numbers.to_numpy(), source=provenance(path, "parents"))
    except TaxonomyError as error:
        raise text.error_in_row(error) from error


def separator_of(line: str) -> str:
    """Guess what separates the fields of a line; a tab where nothing does."""
    for separator in (_BAR, "\t", ",", ";", "|"):
        if separator in line:
            return separator
    return " " if re.search(r"\S \S", line) else "\t"


def kind_of(heading: str) -> str | None:
    """Tell what a heading announces: child, parent, name, taxon_rank, branch_length or nothing."""
    plain = re.sub(r"[\W_]", "", heading.split(":")[-1].lower())
    plain = plain.replace("parentnameusage", "parent")
    return next((kind for kind, names in _NAMES.items() if plain in names), None)


def headed_table(
    text: Text, expected: Iterable[Any] = (), *, least: int = 2
) -> tuple[pl.DataFrame, bool]:
    """Split a text into columns of text under their headings, and tell whether it has any.

    The first line is a header if it has one of the `expected` headings, or names a child and its
    parent, or alone is no number in a column of numbers. Without a header, the headings are the
    places of the columns, from "0".
    """
    first = text.first_lines(1)[0]
    if first.startswith("("):
        raise text.error("this looks like a Newick tree; read_newick reads those")
    separator = separator_of(first)
    if separator == _BAR:
        table = text.table("\t")[:, ::2]
        if table.to_series(-1).is_null().all():
            table = table[:, :-1]  # behind the final bar
    else:
        table = text.table(separator, quotes=separator in ",;")
    table = table.rename({old: str(i) for i, old in enumerate(table.columns)})
    if table.width < least:
        raise text.error(
            f"one column, {first[:60]!r}, where at least {least} are needed; fields are separated"
            " by tab, comma, semicolon or space",
            line=text.line_of_row(0),
        )
    headings = [str(cell) for cell in table.row(0)]
    if not _is_header(table, headings, expected):
        return table, False
    if len(table) == 1:
        raise text.error("a header, and nothing below it; was the file cut short?")
    unique = [h if headings.index(h) == i else f"{h} ({i})" for i, h in enumerate(headings)]
    return table[1:].rename(dict(zip(table.columns, unique, strict=True))), True


def _is_header(table: pl.DataFrame, headings: list[str], expected: Iterable[Any]) -> bool:
    named = {heading.lower() for heading in expected if isinstance(heading, str)}
    known = named & {heading.lower() for heading in headings}
    if known or {"child", "parent"} <= {kind_of(heading) for heading in headings}:
        return True
    numeric = table[1:].select(pl.all().str.contains(r"^-?\d+$").all() & (pl.len() > 0)).row(0)
    return any(
        below and not heading.lstrip("-").isdigit()
        for below, heading in zip(numeric, headings, strict=True)
    )


def _choose(
    table: pl.DataFrame, child: Column | None, parent: Column | None, header: bool
) -> pl.DataFrame:
    """Columns as `Taxonomy.from_edges` wants them."""
    kinds = [kind_of(heading) if header else None for heading in table.columns]

    def place(kind: str, asked: Column | None, default: int) -> int:
        if asked is None:
            return kinds.index(kind) if kind in kinds else default
        if isinstance(asked, int) and 0 <= asked < table.width:
            return asked
        if asked in table.columns:
            return table.columns.index(str(asked))
        raise ValueError(f"{kind}={asked!r} is no column; there are {table.columns}")

    places = {"child": place("child", child, 0), "parent": place("parent", parent, 1)}
    if places["child"] == places["parent"]:
        raise ValueError(
            f"child and parent are both column {table.columns[places['child']]!r}; say which is"
            f" which of {table.columns}"
        )
    for kind in ("name", "taxon_rank", "branch_length"):
        if kind in kinds and kinds.index(kind) not in places.values():
            places[kind] = kinds.index(kind)
    edges = table.select(table.to_series(at).alias(kind) for kind, at in places.items())
    whole = r"^(0|-?[1-9]\d{0,17})$"  # not "007", which is another id than "7"
    ends = edges["child"], edges["parent"]
    if all(end.dtype == pl.String and end.drop_nulls().str.contains(whole).all() for end in ends):
        edges = edges.with_columns(pl.col("child", "parent").cast(pl.Int64))
    return edges
