"""Edge lists: one line per node with its parent, as text in several formats or as parquet."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import polars as pl

from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_edges", "read_parents"]

# Headings of each kind of column, in lower case without spaces, dots and underscores, in tables of
# NCBI and taxonkit, Open Tree's interim format, Darwin Core, Catalogue of Life and this library.
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
    """Read a table with one line per node: the node and its parent.

    Fields are separated by tabs, commas, semicolons, spaces or tab-bar-tab (Open Tree's interim
    format), or the file is parquet; text may be gzipped. The first line is a header if it names the
    two columns (``id`` or ``child``, ``parent_id`` …; letter case and underscores do not matter) or
    if it has text where all other lines have numbers. Columns of names, ranks and branch lengths
    are recognised by their headings.

    Parameters
    ----------
    path
        The file.
    child, parent
        Heading or position (from 0) of the two columns; by default they are recognised by their
        headings, and are the first two columns where there are none.
    root, undirected, multi_parent
        As in `Taxonomy.from_edges`: `root` keeps a node and its descendants, or joins several trees
        below a new node; `undirected` edges are directed away from `root`;
        ``multi_parent="first"`` makes a tree of a DAG.

    Raises
    ------
    TaxonomyError
        If the file is no such table; the message names file, line and likely cause.
    ValueError
        If `child` or `parent` is no column.
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
        If the lines are no such numbers or no tree; the message names file, line and likely cause.
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
    """Guess the separator between the fields of a line; a tab if there is only one field."""
    for separator in (_BAR, "\t", ",", ";", "|"):
        if separator in line:
            return separator
    return " " if re.search(r"\S \S", line) else "\t"


def kind_of(heading: str) -> str | None:
    """Kind of a column by its heading: a key of `_NAMES`, or None."""
    plain = re.sub(r"[\W_]", "", heading.split(":")[-1].lower())
    plain = plain.replace("parentnameusage", "parent")
    return next((kind for kind, names in _NAMES.items() if plain in names), None)


def headed_table(
    text: Text, expected: Iterable[Any] = (), *, least: int = 2
) -> tuple[pl.DataFrame, bool]:
    """Split a text into columns of text; also return whether it has a header.

    The first line is a header if it has one of the `expected` headings, or headings of a child and
    a parent, or text in a column of numbers. Without a header, columns are named by their
    positions, from "0".

    Raises
    ------
    TaxonomyError
        If there are fewer than `least` columns, or nothing below a header.
    """
    first = text.first_lines(1)[0]
    if first.startswith("("):
        raise text.error("this looks like a Newick tree; read_newick reads those")
    separator = separator_of(first)
    if separator == _BAR:
        table = text.table("\t")[:, ::2]
        if table.to_series(-1).is_null().all():
            table = table[:, :-1]  # the empty field after the final bar
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
    """Whether the first line is a header; see `headed_table`."""
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
    """Select and rename columns for `Taxonomy.from_edges`; ids become numbers where all are."""
    kinds = [kind_of(heading) if header else None for heading in table.columns]

    def place(kind: str, column: Column | None, default: int) -> int:
        if column is None:
            return kinds.index(kind) if kind in kinds else default
        if isinstance(column, int) and 0 <= column < table.width:
            return column
        if column in table.columns:
            return table.columns.index(str(column))
        raise ValueError(f"{kind}={column!r} is no column; there are {table.columns}")

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
    whole = r"^(0|-?[1-9]\d{0,17})$"  # Not "007", which is another id than "7".
    ends = edges["child"], edges["parent"]
    if all(end.dtype == pl.String and end.drop_nulls().str.contains(whole).all() for end in ends):
        edges = edges.with_columns(pl.col("child", "parent").cast(pl.Int64))
    return edges
