"""Edge lists: one line per node with its parent, as text in several formats or as parquet."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.readers.headings import Headed, headed_table, kind_of, plain
from poincare_taxa.readers.text import Text, errors_of, provenance, read_parquet
from poincare_taxa.taxonomy.columns import whole_numbers, without_none_words
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_edges", "read_parents"]

_SYNONYM = r"(?i)synonym|misapplied|unaccepted|not accepted|invalid"  # of a taxonomic status
_URL = r"^https?://\S+/(\d+)/?$"
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
    text = None
    if Path(path).suffix == ".parquet":
        table = Headed(read_parquet(path), True, 0)
    else:
        text = Text.load(path)
        table = headed_table(text, {child, parent})
    with errors_of(path):
        columns = _choose(table, child, parent)
        synonym = _is_synonym(columns)
    taxa = np.flatnonzero(~synonym)
    try:
        with errors_of(path):
            tax = Taxonomy.from_edges(
                columns.filter(pl.Series(~synonym)).drop("accepted", "status", strict=False),
                root=root,
                undirected=undirected,
                multi_parent=multi_parent,
                source=provenance(path, "edge list"),
            )
    except TaxonomyError as error:
        if text is None:
            raise TaxonomyError(f"{path}: {error}") from error
        row = None if error.row is None else int(taxa[error.row])
        raise text.error_in_row(TaxonomyError(str(error), row=row), above=table.first) from error
    return _with_synonyms(tax, columns.filter(pl.Series(synonym)), str(path))


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


def _choose(headed: Headed, child: Column | None, parent: Column | None) -> pl.DataFrame:
    """Columns as `Taxonomy.from_edges` wants them, with ``accepted`` and ``status`` if there."""
    table = headed.table
    kinds = [kind_of(heading) if headed.named else None for heading in table.columns]
    # Row names come first and have no heading: unless headings say it, edges stand behind them.
    row_names = int(headed.named and table.columns[0] == "" and table.width > 2)
    at_parent = _place(table, kinds, "parent", parent, 1 + row_names)
    at_child = _place(table, kinds, "child", child, row_names)
    if child is None and "parent" in kinds:
        at_child = _partner(table, kinds, at_parent, at_child)
    if at_child == at_parent:
        raise ValueError(
            f"child and parent are both column {table.columns[at_child]!r}; say which is"
            f" which of {table.columns}"
        )
    places = {"child": at_child, "parent": at_parent}
    for kind in ("name", "taxon_rank", "branch_length", "accepted", "status"):
        if kind in kinds and kinds.index(kind) not in places.values():
            places[kind] = kinds.index(kind)
    edges = table.select(table.to_series(at).alias(kind) for kind, at in places.items())
    return _typed(edges)


def _place(
    table: pl.DataFrame, kinds: list[str | None], kind: str, column: Column | None, default: int
) -> int:
    """Place of a column: where the caller says, else where its heading is, else `default`."""
    if column is None:
        return kinds.index(kind) if kind in kinds else default
    if isinstance(column, int) and 0 <= column < table.width:
        return column
    if column in table.columns:
        return table.columns.index(str(column))
    raise ValueError(f"{kind}={column!r} is no column; there are {table.columns}")


def _partner(table: pl.DataFrame, kinds: list[str | None], parent: int, default: int) -> int:
    """Place of the ids that a column of parents refers to.

    Of ``id, taxid, parent_taxid`` it is ``taxid``: the headings correspond, and ``id`` is a number
    of the row.
    """
    wanted = plain(table.columns[parent]).removeprefix("parent")
    wanted = {"nameusage": "taxonid", "nameusageid": "taxonid"}.get(wanted, wanted)
    for place, heading in enumerate(table.columns):
        if kinds[place] == "child" and plain(heading) == wanted:
            return place
    return default


def _typed(edges: pl.DataFrame) -> pl.DataFrame:
    """Ids as integers where all are, URLs as the numbers that they end with."""
    ids = [name for name in ("child", "parent", "accepted") if name in edges.columns]
    child = edges["child"]
    for name in ids:
        if edges[name].dtype == pl.String and edges[name].str.contains(r"^https?://").any():
            found = edges[name].str.extract(_URL)
            if found.null_count() == edges[name].null_count():
                edges = edges.with_columns(found.alias(name))
    edges = edges.with_columns(
        without_none_words(edges[name], child).alias(name) for name in ids[1:]
    )
    # "007" is another id than "7", so such a column stays text.
    whole = r"^(0|-?[1-9]\d{0,17})(\.0*)?$"
    if all(
        edges[name].dtype == pl.String and edges[name].drop_nulls().str.contains(whole).all()
        for name in ids
    ):
        number = pl.col(*ids).str.replace(r"\.0*$", "").cast(pl.Int64)
        return edges.with_columns(number)
    return edges.with_columns(whole_numbers(edges[name]).alias(name) for name in ids)


# -------------------------------------------------------------------- rows that are no taxa


def _is_synonym(edges: pl.DataFrame) -> NDArray[np.bool_]:
    """Rows of a checklist that are names of another taxon.

    Their status says so, or they have an accepted taxon that is not themselves.
    """
    synonym = np.zeros(len(edges), np.bool_)
    if "status" in edges.columns and edges["status"].dtype == pl.String:
        synonym |= edges["status"].str.contains(_SYNONYM).fill_null(False).to_numpy()
    if "accepted" in edges.columns:
        other = edges["accepted"].cast(pl.String) != edges["child"].cast(pl.String)
        synonym |= other.fill_null(False).to_numpy()
    return synonym


def _with_synonyms(tax: Taxonomy, rows: pl.DataFrame, path: str) -> Taxonomy:
    """Give taxa the names of the rows that are their synonyms."""
    if len(rows) == 0:
        return tax
    # Some checklists give the accepted taxon of a synonym as its parent.
    accepted = rows["accepted"] if "accepted" in rows.columns else rows["parent"]
    accepted = accepted.zip_with(accepted.is_not_null(), rows["parent"])
    into = tax.rows_of_ids(accepted.fill_null(rows["child"]))
    names = rows["name" if "name" in rows.columns else "child"].cast(pl.String)
    kept = (into >= 0) & names.is_not_null().to_numpy()
    if lost := int((~kept).sum()):
        warnings.warn(
            f"{path}: {lost} of {len(rows)} synonyms are left out, since they have no name or "
            "their accepted taxon is not in the file",
            stacklevel=3,
        )
    synonyms = pl.DataFrame({"name": names, "node": into}).filter(pl.Series(kept))
    name_class = pl.lit("synonym").cast(pl.Categorical).alias("name_class")
    return replace(tax, synonyms=synonyms.with_columns(name_class))
