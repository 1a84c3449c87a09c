"""Lineage tables: one line per taxon (or genome) with the names of all its ancestors."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from poincare_taxa.readers.headings import RANKS, headed_table
from poincare_taxa.readers.text import Text, errors_of, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read_lineages"]

# GTDB, Greengenes, SILVA and QIIME write "d__Bacteria;p__Bacillota;…".
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
# What classifiers write beside a name: mothur "Bacteria(100)", BLCA "phylum:Bacillota;98.5".
_CONFIDENCE = r"\s*\(\d+(\.\d+)?%?\)$"
_SCORE = r"^\d+(\.\d+)?%?$"
_RANK_PREFIX = r"^(" + "|".join(RANKS) + r"):"
_MISSING = r"^[a-z]{1,2}__$|(?i)^(.*_)?unclassified$|^unassigned$"


def read_lineages(
    path: str | Path,
    *,
    ranks: Sequence[str] | Mapping[str, str] | None = None,
    column: str | int | None = None,
    missing: Sequence[str] = ("", "NA", "nan", "None", "NULL"),
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
        What stands for a missing name. A bare prefix (``s__``), ``unclassified`` and ``unassigned``
        always do.
    root
        Name of the root that is put above the topmost taxa where there are several; a lineage that
        begins with ``root`` begins there.

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
    with errors_of(path):
        levels, taxon_ranks = _names_by_level(text, ranks, column)
        by_prefix = [_rank_by_prefix(level) for level in levels]
        taxon_ranks = [given or found for given, found in zip(taxon_ranks, by_prefix, strict=True)]
        levels = [_blanked(level.str.replace(_RANK_PREFIX, ""), missing) for level in levels]
    source = provenance(path, "lineages")
    try:
        with errors_of(path):
            return Taxonomy.from_frame(_nodes(levels, taxon_ranks, root), source=source)
    except TaxonomyError as error:
        raise text.error(str(error)) from error


def _names_by_level(
    text: Text, ranks: Sequence[str] | Mapping[str, str] | None, column: str | int | None
) -> tuple[list[pl.Series], list[str | None]]:
    """Return the names at each level, root first, and each level's taxon rank (None: by prefix)."""
    table, header, _ = headed_table(text, [*(ranks or RANKS), column, *_HEADINGS], least=1)
    if header and column is None and not _lineage_columns(table):
        levels = _rank_columns(text, table, ranks)
        if levels is not None:
            return levels
    lineages = _lineage_column(text, table, column).str.split(";")
    depth = int(lineages.list.len().max() or 0)  # pyright: ignore
    levels = [lineages.list.get(place, null_on_oob=True) for place in range(depth)]
    levels = [level.str.strip_chars() for level in levels]
    # Scores between the names have places of their own, which are left out.
    scores = [bool(level.drop_nulls().str.contains(_SCORE).all()) for level in levels]
    levels = [level for level, score in zip(levels, scores, strict=True) if not score]
    if ranks and len(ranks) != len(levels):
        raise text.error(
            f"lineages have up to {len(levels)} names, but {len(ranks)} ranks were given; give one "
            "for each place"
        )
    return _from_the_root(levels), list(ranks) if ranks else [None] * len(levels)


def _rank_columns(
    text: Text, table: pl.DataFrame, ranks: Sequence[str] | Mapping[str, str] | None
) -> tuple[list[pl.Series], list[str | None]] | None:
    """Columns that are taxon ranks, from the top down; None where there are none.

    Columns of unknown headings between those of known ranks are ranks too where the known ones
    come in order; else they are left out with a warning.
    """
    headings = table.columns
    if ranks:
        if set(ranks) <= set(headings):
            named = ranks if isinstance(ranks, Mapping) else {h: h.lower() for h in ranks}
            return [table[h] for h in ranks], [named[h] for h in ranks]
        if set(ranks) & set(headings):
            lost = sorted(set(ranks) - set(headings))
            raise ValueError(f"no column {lost}; there are {headings}")
        return None
    known = [place for place, heading in enumerate(headings) if heading.lower() in RANKS]
    if not known:
        return None
    order = [RANKS.index(headings[place].lower()) for place in known]
    between = [
        place
        for place in range(known[0], known[-1])
        if place not in known and not table[headings[place]].drop_nulls().str.contains(_SCORE).all()
    ]
    if between and order == sorted(order):
        known = sorted([*known, *between])
    else:
        known = [known[i] for i in np.argsort(order, kind="stable")]
        if between:
            warnings.warn(
                f"{text.name}: the columns {[headings[place] for place in between]} are no taxon "
                "ranks that are known here and are left out; name all rank columns with ranks=",
                stacklevel=5,
            )
    chosen = [headings[place] for place in known]
    return [table[heading] for heading in chosen], [heading.lower() for heading in chosen]


def _from_the_root(levels: list[pl.Series]) -> list[pl.Series]:
    """Let lineages that begin with "root" begin below it."""
    if not levels:
        return levels
    at_root = levels[0].str.to_lowercase().str.contains(r"^(r__)?root(\(\d+(\.\d+)?\))?$")
    at_root = at_root.fill_null(False)
    if not at_root.any():
        return levels
    nothing = levels[0].clear().extend_constant(None, len(levels[0]))
    return [
        level.zip_with(~at_root, below)
        for level, below in zip(levels, [*levels[1:], nothing], strict=True)
    ]


def _rank_by_prefix(level: pl.Series) -> str | None:
    """Taxon rank of a level whose names all begin with it: ``phylum:Bacillota``."""
    found = level.drop_nulls().str.extract(_RANK_PREFIX)
    return found[0] if len(found) and found.n_unique() == 1 else None


def _blanked(names: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Names without what classifiers add to them; null where one is missing."""
    names = names.str.strip_chars().str.replace(_CONFIDENCE, "")
    absent = names.is_in(list(missing)) | names.str.contains(_MISSING)
    return names.set(absent.fill_null(True), None)


def _lineage_columns(table: pl.DataFrame) -> list[str]:
    """Columns that hold lineages: names between semicolons, in more than half of the rows."""
    return [heading for heading in table.columns if _share_of_lineages(table[heading]) > 0.5]


def _lineage_column(text: Text, table: pl.DataFrame, column: str | int | None) -> pl.Series:
    """Return the column of lineage strings: the given one, or the only one with semicolons."""
    if column is None:
        found = _lineage_columns(table)
    elif isinstance(column, int):
        found = table.columns[column : column + 1]
    else:
        found = [column] if column in table.columns else []
    if column is not None and not found:
        raise ValueError(f"column={column!r} is no column; there are {table.columns}")
    if len(found) != 1:
        raise text.error(
            f"{len(found)} of the columns {table.columns} hold lineages (names between semicolons)"
            f"{'' if found else ', and no headings are taxon ranks'}; say which with column=, or "
            "name the rank columns with ranks="
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
        # A semicolon in a name is marked, or two paths could be one text.
        step = level.fill_null("").str.replace_all(";", "\\;", literal=True)
        path = pl.select(pl.concat_str(path, step, separator=";", ignore_nulls=True))
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
