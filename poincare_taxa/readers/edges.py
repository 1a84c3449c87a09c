"""Edge lists: one line per node with its parent, as text in several formats or as parquet."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.files.parquet import read_parquet
from poincare_taxa.files.progress import open_display
from poincare_taxa.readers.headings import Headed, headed_table, kinds_of, partner_of
from poincare_taxa.readers.text import Text, errors_of, provenance
from poincare_taxa.taxonomy.columns import (
    and_more,
    find,
    id_column,
    sort,
    whole_numbers,
    without_none_words,
)
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_edges", "read_parents"]

_SYNONYM = r"(?i)synonym|misapplied|unaccepted|not accepted|invalid"  # of a taxonomic status
_MOST_STEPS = 20  # synonyms of synonyms that are followed
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
        table = Headed(read_parquet(path, TaxonomyError), True, 0)
    else:
        text = Text.load(path)
        table = headed_table(text, {child, parent})
    taxa = np.zeros(0, np.int64)
    try:
        with errors_of(path):
            columns = _choose(table, child, parent)
            synonym = _is_synonym(columns)
            open_display()(f"{path} · tree", 1, 2)
            taxa, synonyms = np.flatnonzero(~synonym), _synonyms(columns.filter(pl.Series(synonym)))
            tax = Taxonomy.from_edges(
                _below_accepted(columns.filter(pl.Series(~synonym)), synonyms),
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
    return _with_synonyms(tax, synonyms, str(path))


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
    """Return the columns that `Taxonomy.from_edges` takes, and ``accepted`` and ``status``."""
    table = headed.table
    kinds: list[str | None] = [None] * table.width
    if headed.named:
        kinds = kinds_of(table.columns)
    # A first column without a heading holds row names, and the edges are in the next two columns.
    row_names = int(headed.named and table.columns[0] == "" and table.width > 2)
    at_parent = _place(table, kinds, "parent", parent, 1 + row_names)
    at_child = _place(table, kinds, "child", child, row_names)
    if child is None and "parent" in kinds:
        at_child = _with_parents(table, kinds, at_parent, at_child)
    if at_child == at_parent and child is None and parent is None:
        raise TaxonomyError(
            f"of the columns {table.columns} only {table.columns[at_child]!r} holds ids of nodes; "
            "name the two columns with child= and parent="
        )
    if at_child == at_parent:
        raise ValueError(
            f"child and parent are both column {table.columns[at_child]!r}; name two"
            f" different columns of {table.columns}"
        )
    places = {"child": at_child, "parent": at_parent}
    for kind in ("name", "taxon_rank", "branch_length", "accepted", "status"):
        if kind in kinds and kinds.index(kind) not in places.values():
            places[kind] = kinds.index(kind)
    edges = table.select(table.to_series(at).alias(kind) for kind, at in places.items())
    if "accepted" in places and _is_yes_or_no(edges["accepted"]):
        yes = edges["accepted"].cast(pl.String).str.contains(r"(?i)^[ty1]")
        status = pl.Series("status", ["unaccepted", "accepted"]).gather(yes.cast(pl.UInt32))
        edges = edges.drop("accepted").with_columns(status)
    return _typed(edges)


def _is_yes_or_no(column: pl.Series) -> bool:
    """Whether all values of a column are true or false."""
    there = column.drop_nulls()
    if column.dtype != pl.String:
        return column.dtype == pl.Boolean
    return len(there) > 0 and bool(there.str.contains(r"(?i)^(true|false|t|f|yes|no|y|n)$").all())


def _place(
    table: pl.DataFrame, kinds: list[str | None], kind: str, column: Column | None, default: int
) -> int:
    """Place of a column: the one that the caller gives, that of its heading, or `default`."""
    if column is None:
        if kind in kinds:
            return kinds.index(kind)
        if kind == "parent" and kinds[default] is not None:
            raise TaxonomyError(
                f"no heading stands for the parent of each taxon; there are {table.columns}: name "
                "the columns with child= and parent= (read_lineages reads tables of rank columns)"
            )
        return default
    if isinstance(column, int) and 0 <= column < table.width:
        return column
    if column in table.columns:
        return table.columns.index(str(column))
    raise ValueError(f"{kind}={column!r} is no column; there are {table.columns}")


def _with_parents(table: pl.DataFrame, kinds: list[str | None], parent: int, default: int) -> int:
    """Place of the ids of the taxa whose parents are known.

    Of ``id, taxid, parent_taxid`` it is ``taxid``: the headings correspond, and ``id`` is a number
    of the row. Without a column of ids the names are the ids.
    """
    partner = partner_of(table.columns, parent)
    if partner is not None and kinds[partner] == "child":
        return partner
    if "child" in kinds or "name" not in kinds:
        return default
    return kinds.index("name")


def _is_plain(numbers: pl.Series, texts: pl.Series) -> bool:
    """Whether texts are numbers without a leading zero or plus: "007" is another id than "7".

    Either makes a text longer than its number, so lengths tell, sooner than the texts themselves.
    """
    if texts.dtype != pl.String or numbers.null_count() != texts.null_count():
        return False
    value = numbers.drop_nulls().to_numpy()
    size = np.abs(value)
    digits = len(value) + int((value < 0).sum())
    for power in range(1, len(str(size.max(initial=0)))):
        digits += int((size >= 10**power).sum())
    return digits == texts.str.len_bytes().sum()


def _typed(edges: pl.DataFrame) -> pl.DataFrame:
    """Replace references by URL or name by ids; make ids integers where all are whole numbers."""
    ids = [name for name in ("child", "parent", "accepted") if name in edges.columns]
    if not {"name", "accepted"} & set(edges.columns):  # a million numbers take no other way
        numbers = edges.with_columns(pl.col(ids).cast(pl.Int64, strict=False))
        if all(_is_plain(numbers[name], edges[name]) for name in ids):
            return numbers
    edges = _without_urls(edges, ids)
    child = edges["child"]
    edges = edges.with_columns(
        without_none_words(edges[name], child).alias(name) for name in ids[1:]
    )
    edges = edges.with_columns(_ids_of_names(edges, name).alias(name) for name in ids[1:])
    # "007" is another id than "7", so such a column stays text.
    whole = r"^(0|-?[1-9]\d{0,17})(\.0*)?$"
    if all(
        edges[name].dtype == pl.String and edges[name].drop_nulls().str.contains(whole).all()
        for name in ids
    ):
        number = pl.col(*ids).str.replace(r"\.0*$", "").cast(pl.Int64)
        return edges.with_columns(number)
    return edges.with_columns(whole_numbers(edges[name]).alias(name) for name in ids)


def _without_urls(edges: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """Replace URLs by the numbers that they end with, or by the ids of other rows."""
    for name in ids:
        if edges[name].dtype != pl.String or not edges[name].str.contains(r"^https?://").any():
            continue
        found = edges[name].str.extract(_URL)
        if found.null_count() > edges[name].null_count() and name != "child":
            last = edges[name].str.extract(r"([^/=#]+)/?$")
            found = last.set(~last.is_in(edges["child"].cast(pl.String).implode()), None)
        if found.null_count() == edges[name].null_count():
            edges = edges.with_columns(found.alias(name))
    return edges


def _ids_of_names(edges: pl.DataFrame, column: str) -> pl.Series:
    """Replace names of taxa by their ids, in a column that has names and no ids."""
    values = edges[column]
    there = values.drop_nulls()
    if "name" not in edges.columns or len(there) == 0:
        return values
    if there.dtype == edges["child"].dtype and there[0] in edges["child"]:
        return values
    child, there = edges["child"].cast(pl.String), there.cast(pl.String)
    if there.is_in(child.implode()).any():
        return values
    named = pl.DataFrame([child, edges["name"].cast(pl.String)]).filter(
        ~pl.Series(_is_synonym(edges.drop("accepted", strict=False)))
    )
    named = named.drop_nulls().filter(pl.col("name").is_in(there.implode()))
    if len(named) == 0:
        return values
    if repeated := named["name"].filter(named["name"].is_duplicated()).unique().sort().to_list():
        raise TaxonomyError(
            f"the column of the {column} taxon has names, but {repeated[0]!r} is the name of "
            f"several taxa{and_more(len(repeated) - 1)}; use their ids"
        )
    return values.cast(pl.String).replace(named["name"], named["child"])


# -------------------------------------------------------------------- rows that are no taxa


def _is_synonym(edges: pl.DataFrame) -> NDArray[np.bool_]:
    """Rows of a checklist that are names of another taxon.

    Either the column ``status`` marks them, or their accepted taxon is another one.
    """
    synonym = np.zeros(len(edges), np.bool_)
    if "status" in edges.columns and edges["status"].dtype == pl.String:
        synonym |= edges["status"].str.contains(_SYNONYM).fill_null(False).to_numpy()
    if "accepted" in edges.columns:
        accepted, child = edges["accepted"].cast(pl.String), edges["child"].cast(pl.String)
        none = accepted.is_in(["0", "-1"]) & ~accepted.is_in(child.implode())
        synonym |= ((accepted != child) & ~none).fill_null(False).to_numpy()
    return synonym


def _synonyms(rows: pl.DataFrame) -> pl.DataFrame:
    """Make a table of synonyms: ``child``, ``name`` and ``into``, the id of the accepted taxon."""
    if "accepted" in rows.columns:
        into = rows["accepted"]
    else:  # Catalogue of Life gives the accepted taxon of a synonym as its parent.
        is_name = rows["status"].str.contains(r"(?i)synonym|misapplied") if len(rows) else None
        into = rows["parent"] if is_name is None else rows["parent"].set(~is_name, None)
    name = rows["name" if "name" in rows.columns else "child"].cast(pl.String).alias("name")
    table = pl.DataFrame([rows["child"], name, into.alias("into")])
    known = table.drop_nulls("into").unique("child", keep="first")
    for _ in range(_MOST_STEPS):  # synonyms of synonyms
        if not table["into"].is_in(known["child"].implode()).any():
            break
        table = table.with_columns(table["into"].replace(known["child"], known["into"]))
    return table


def _below_accepted(taxa: pl.DataFrame, synonyms: pl.DataFrame) -> pl.DataFrame:
    """Replace parents that are synonyms by the accepted taxa."""
    known = synonyms.drop_nulls("into").unique("child", keep="first")
    if len(known):
        taxa = taxa.with_columns(taxa["parent"].replace(known["child"], known["into"]))
    return taxa.drop("accepted", "status", strict=False)


def _with_synonyms(tax: Taxonomy, synonyms: pl.DataFrame, path: str) -> Taxonomy:
    """Add the names of rows that are synonyms to their accepted taxa."""
    if len(synonyms) == 0:
        return tax
    into = id_column(synonyms["into"].fill_null(synonyms["child"]), tax.ids.dtype)
    rows = find(sort(tax.ids), into)
    kept = (rows >= 0) & synonyms["name"].is_not_null().to_numpy()
    if lost := int((~kept).sum()):
        warnings.warn(
            f"{path}: {lost} of {len(synonyms)} synonyms are left out, since they have no name or "
            "their accepted taxon is not in the file",
            stacklevel=3,
        )
    table = pl.DataFrame({"name": synonyms["name"], "node": rows}).filter(pl.Series(kept))
    name_class = pl.lit("synonym").cast(pl.Categorical).alias("name_class")
    return replace(tax, synonyms=table.with_columns(name_class))
