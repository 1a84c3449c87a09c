"""Lineage tables: one line per taxon (or genome) with the names of all its ancestors."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from poincare_taxa.readers.edges import headed_table
from poincare_taxa.readers.text import Text, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_lineages"]

# Headings that are recognised as taxon ranks, from the root downwards.
_RANK_HEADINGS = (
    "domain superkingdom realm subrealm kingdom subkingdom superphylum phylum division subphylum"
    " superclass class subclass infraclass cohort superorder order suborder infraorder parvorder"
    " superfamily family subfamily supertribe tribe subtribe genus subgenus section species"
    " subspecies strain"
)
RANKS: list[str] = [*_RANK_HEADINGS.split()]
# Prefixes of names in GTDB, Greengenes, SILVA and QIIME: "d__Bacteria;p__Bacillota;…".
_PREFIXES = {
    "d": "domain",
    "r": "realm",
    "k": "kingdom",
    "p": "phylum",
    "c": "class",
    "o": "order",
    "f": "family",
    "g": "genus",
    "s": "species",
    "t": "strain",
}
_HEADINGS = ["lineage", "taxonomy", "gtdb_taxonomy", "classification", "taxon"]
PREFIXED = re.compile(r"^[a-z]{1,2}__")


def read_lineages(
    path: str | Path,
    *,
    ranks: Sequence[str] | Mapping[str, str] | None = None,
    column: str | int | None = None,
    missing: Sequence[str] = ("", "NA"),
    root: str = "root",
) -> Taxonomy:
    """Read a table with a whole lineage on every line.

    Either one column has the lineage as text (``d__Bacteria;p__Bacillota;…`` as in GTDB, or plain
    names between semicolons), or each taxon rank has a column. A node is a distinct path of names;
    a missing name leaves its level out. Other columns, such as the accession of a genome, are not
    read, and lines with equal lineages are one node.

    Parameters
    ----------
    path
        TSV or CSV, with or without a header, gzipped or not.
    ranks
        For a table of ranks: the headings of the columns, root first, or a mapping from heading to
        taxon rank; by default the headings that are usual taxon ranks, in their usual order. For
        lineage strings: the taxon rank of each position; by default that of prefixes such as
        ``g__``, and "no rank" without a prefix.
    column
        Heading or position (from 0) of the column of lineage strings; by default the column with
        semicolons.
    missing
        Texts that mean a missing name; a prefix alone (``s__``) means it always.
    root
        Name of the root that is put above the topmost taxa where there are several.

    Returns
    -------
    taxonomy
        An id is the name as written (``g__Escherichia``) or, where several nodes have this name,
        the whole path of names with semicolons between; names are without prefix.

    Raises
    ------
    TaxonomyError
        If the file is no such table; the message names file, line and likely cause.
    ValueError
        If `ranks` or `column` names a column that does not exist.
    """
    text = Text.load(path)
    levels, taxon_ranks = _names_by_level(text, ranks, column)
    levels = [_blanked(level.str.strip_chars(), missing) for level in levels]
    source = provenance(path, "lineages")
    try:
        return Taxonomy.from_frame(_nodes(levels, taxon_ranks, root), source=source)
    except TaxonomyError as error:
        raise text.error(str(error)) from error


def _names_by_level(
    text: Text, ranks: Sequence[str] | Mapping[str, str] | None, column: str | int | None
) -> tuple[list[pl.Series], list[str | None]]:
    """Return the names at each level, root first, and each level's taxon rank (None: by prefix)."""
    # 1. A table with a column for each rank.
    table, header = headed_table(text, [*(ranks or RANKS), column, *_HEADINGS], least=1)
    headings = table.columns
    if column is None and header:
        known = [heading for heading in headings if heading.lower() in RANKS]
        columns = list(ranks or sorted(known, key=lambda heading: RANKS.index(heading.lower())))
        if columns and set(columns) <= set(headings):
            named = ranks if isinstance(ranks, Mapping) else {h: h.lower() for h in columns}
            return [table[h] for h in columns], [named[h] for h in columns]
        if ranks and set(columns) & set(headings):
            raise ValueError(
                f"no column {sorted(set(columns) - set(headings))}; there are {headings}"
            )
    # 2. Otherwise one column of lineage strings.
    lineages = _lineage_column(text, table, column).str.split(";")
    depth = int(lineages.list.len().max() or 0)  # pyright: ignore
    if ranks and len(ranks) != depth:
        raise text.error(
            f"lineages have up to {depth} names, but {len(ranks)} ranks were given; give one for "
            "each place"
        )
    levels = [lineages.list.get(place, null_on_oob=True) for place in range(depth)]
    return levels, list(ranks) if ranks else [None] * depth


def _blanked(names: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Replace missing names, and prefixes without a name, by null."""
    absent = names.is_in(list(missing)) | names.str.contains(r"^[a-z]{1,2}__$")
    return names.set(absent.fill_null(True), None)


def _lineage_column(text: Text, table: pl.DataFrame, column: str | int | None) -> pl.Series:
    """Return the column of lineage strings: the given one, or the only one with semicolons."""
    if column is None:
        found = [h for h in table.columns if _share_of_lineages(table[h]) > 0.5]
    elif isinstance(column, int):
        found = table.columns[column : column + 1]
    else:
        found = [column] if column in table.columns else []
    if column is not None and not found:
        raise ValueError(f"column={column!r} is no column; there are {table.columns}")
    if len(found) != 1:
        raise text.error(
            f"{len(found)} of the columns {table.columns} hold lineages (names between semicolons),"
            " and no headings are taxon ranks; say which with column=, or name the rank columns"
            " with ranks="
        )
    lineages = table[found[0]]
    if ";" not in (lineages[0] or "") and _share_of_lineages(lineages[1:]) == 1:
        return lineages[1:]  # The first line is an unknown heading.
    return lineages


def _share_of_lineages(column: pl.Series) -> float:
    """Share of the values of a column with a semicolon."""
    present = column.drop_nulls()
    return float(present.str.contains(";").sum()) / max(len(present), 1)


def _nodes(levels: list[pl.Series], taxon_ranks: list[str | None], root: str) -> pl.DataFrame:
    """Make a table of nodes, one for each distinct path of names from the root."""
    # 1. From level to level: the path to each name, and the path to the nearest name above it.
    path = above = pl.Series([None], dtype=pl.String).new_from_index(0, len(levels[0]))
    tables = []
    for level, taxon_rank in zip(levels, taxon_ranks, strict=True):
        path = pl.select(pl.concat_str(path, level.fill_null(""), separator=";", ignore_nulls=True))
        path = path.to_series()
        table = pl.DataFrame({"path": path, "above": above, "label": level})
        tables.append(
            table.filter(level.is_not_null())
            .unique("path", keep="first", maintain_order=True)
            .with_columns(taxon_rank=pl.lit(taxon_rank, pl.String))
        )
        above = path.zip_with(level.is_not_null(), above)
    # 2. One root above all, where there are several topmost taxa.
    nodes = pl.concat(tables)
    if len(nodes) == 0:
        raise TaxonomyError(
            "there is no name in any lineage; is column= or ranks= the right one, or missing= too "
            "wide?"
        )
    if nodes["above"].null_count() > 1:
        top = pl.DataFrame({"path": [root], "label": [root]})
        nodes = pl.concat([top, nodes.with_columns(nodes["above"].fill_null(root))], how="diagonal")
    # 3. Ids are names where these are unique, else paths.
    prefix = nodes["label"].str.extract(r"^([a-z]{1,2})__")
    ids = pl.when(pl.col("label").is_unique()).then("label").otherwise("path")
    return nodes.select(
        ids.alias("id"),
        pl.col("above").replace(pl.col("path"), ids).alias("parent"),
        pl.col("label").str.replace(PREFIXED.pattern, "").alias("name"),
        pl.coalesce("taxon_rank", prefix.replace_strict(_PREFIXES, default=None)),
    )
