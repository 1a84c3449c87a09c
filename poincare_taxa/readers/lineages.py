"""Lineage tables: one line per taxon (or genome) with the names of all its ancestors."""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from poincare_taxa.files.progress import open_display
from poincare_taxa.readers.headings import RANKS, headed_table, kinds_of, names_edges
from poincare_taxa.readers.text import Text, errors_of, provenance
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["PREFIXED", "SINTAX", "is_lineage_each", "read_lineages"]

_SEVEN = ["domain", "phylum", "class", "order", "family", "genus", "species"]
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
    "sk": "superkingdom",
    # SILVA's taxonomy as QIIME 1 writes it
    **{f"D_{i}": rank for i, rank in enumerate(_SEVEN)},
}
_HEADINGS = ["lineage", "taxonomy", "gtdb_taxonomy", "classification", "taxon"]
PREFIXED = re.compile(r"^([a-z]{1,2}|D_\d+)__")
# What classifiers write behind a name, mothur "Bacteria(100)", "Bacteria:0.98", or between names,
# BLCA "phylum:Bacillota;98.5".
_NUMBER = r"\d+(\.\d+)?([eE][-+]?\d+)?%?"
_CONFIDENCES = [
    rf"\s*\({_NUMBER}\)$",
    rf"\s*\[{_NUMBER}\]$",
    r":[01](\.\d+)?$",
    r"\s+\d+(\.\d+)?%$",
]
_SCORE = rf"^{_NUMBER}$"
_RANK_PREFIX = r"^(" + "|".join(RANKS) + r"):"
_MISSING = (
    r"^([a-z]{1,2}|D_\d+)__$"
    r"|(?i)^(.*_)?unclassified$|^([a-z]{1,2}__)?(unassigned|unidentified|unknown)$|^no blast hit$"
)
# Forms of lineages without semicolons: MetaPhlAn "k__Bacteria|p__Bacillota", SINTAX
# "d:Bacteria(1.0),p:Bacillota(0.9)".
_BARS = r"^[a-z]{1,2}__[^;|]*\|\s*[a-z]{1,2}__"
SINTAX = re.compile(r"^(tax=)?[a-z]:[^;,]*(,[a-z]:|\([\d.]+\)$)")
_DEEPEST = 1000  # names of a lineage; the whole tree of life has 233 levels


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
        levels = [_blanked(level, missing) for level in levels]
        by_prefix = [_rank_by_prefix(level) for level in levels]
        taxon_ranks = [given or found for given, found in zip(taxon_ranks, by_prefix, strict=True)]
        levels = [_blanked(level.str.replace(_RANK_PREFIX, ""), missing) for level in levels]
    source = provenance(path, "lineages")
    open_display()(f"{path} · tree", 1, 2)
    try:
        with errors_of(path):
            return Taxonomy.from_frame(_nodes(levels, taxon_ranks, root), source=source)
    except TaxonomyError as error:
        raise text.error(str(error)) from error


def _names_by_level(
    text: Text, ranks: Sequence[str] | Mapping[str, str] | None, column: str | int | None
) -> tuple[list[pl.Series], list[str | None]]:
    """Return the names at each level, root first, and each level's taxon rank (None: by prefix)."""
    expected = [*(ranks or RANKS), column, *_HEADINGS]
    table, header, _ = headed_table(text, expected, least=1, lines=is_lineage_each(text))
    if header and column is None and not _lineage_columns(table):
        levels = _rank_columns(text, table, ranks)
        if levels is not None:
            return levels
    lineages = _semicolons(_lineage_column(text, table, header, column)).str.split(";")
    depth = int(lineages.list.len().max() or 0)  # pyright: ignore
    if depth > _DEEPEST or 16 * depth * len(lineages) > max(100 * len(text.data), 64 * 2**20):
        raise text.error(
            f"a lineage has {depth:,} names, which no taxonomy has; is a line end missing?",
            line=text.line_of_row(int(lineages.list.len().arg_max() or 0)),
        )
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
    _warn_of_others(text, table, known)
    chosen = [headings[place] for place in known]
    return [table[heading] for heading in chosen], [heading.lower() for heading in chosen]


def _warn_of_others(text: Text, table: pl.DataFrame, known: list[int]) -> None:
    """Warn about columns that may hold names of taxa and are no rank columns."""
    headings = table.columns
    last = headings[known[-1]].lower()
    others = [
        heading
        for place, heading in enumerate(headings)
        if place not in known
        and (
            re.fullmatch(r"(?i)(no rank|clade|series|.*\b(group|clade|series))\s?\d*", heading)
            or (kinds_of(headings)[place] == "name" and RANKS.index(last) < RANKS.index("species"))
        )
    ]
    if others:
        warnings.warn(
            f"{text.name}: the columns {others} are left out; name all rank columns with ranks= if "
            "they have names of taxa",
            stacklevel=6,
        )


def _from_the_root(levels: list[pl.Series]) -> list[pl.Series]:
    """Remove "root" where lineages begin with it."""
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


def is_lineage_each(text: Text) -> bool:
    """Whether lines are lineages and nothing else: ``Bacteria;Bacillota;Bacilli``.

    Names between semicolons alone may also be fields of a table. They are a lineage if they have
    prefixes, if a semicolon ends the line, or if two lines begin with the same two names.
    """
    lines = text.first_lines(20)
    if any("\t" in line or "," in line or '"' in line for line in lines):
        return False
    fields = [line.strip().rstrip(";").split(";") for line in lines]
    if sum(len(names) > 1 for names in fields) <= len(fields) / 2 or names_edges(fields[0]):
        return False
    if sum(name.lower() in RANKS for name in fields[0]) > 1:
        return False
    if all(PREFIXED.match(names[0]) for names in fields):
        return True
    ended = all(line.rstrip().endswith(";") for line in lines) and len(fields[0]) > 2
    begins = [tuple(names[:2]) for names in fields if len(names) > 2]
    return ended or len(set(begins)) < len(begins)


def _semicolons(lineages: pl.Series) -> pl.Series:
    """Convert lineages of other forms to names between semicolons."""
    if lineages.str.contains(_BARS).any():
        return lineages.str.replace_all("|", ";", literal=True)
    if lineages.str.contains(SINTAX.pattern).any():
        prefixed = lineages.str.replace("^tax=", "").str.replace_all(r"(^|,)([a-z]):", "$1${2}__")
        return prefixed.str.replace_all(",", ";", literal=True)
    return lineages


def _blanked(names: pl.Series, missing: Sequence[str]) -> pl.Series:
    """Remove scores and confidences that classifiers add; null where a name is missing."""
    names = names.str.strip_chars()
    for confidence in _CONFIDENCES:  # of most names; one name may end so by itself
        if _share(names, confidence) > 0.5:
            names = names.str.replace(confidence, "")
    if _share(names, PREFIXED.pattern) > 0.5:  # GTDB-Tk has "Unclassified Bacteria" among them
        names = names.set(names.str.contains(r"(?i)^unclassified\b").fill_null(False), None)
    absent = names.is_in(list(missing)) | names.str.contains(_MISSING)
    return names.set(absent.fill_null(True), None)


def _lineage_columns(table: pl.DataFrame) -> list[str]:
    """Columns that hold lineages: names between semicolons, in more than half of the rows."""
    return [heading for heading in table.columns if _share_of_lineages(table[heading]) > 0.5]


def _lineage_column(
    text: Text, table: pl.DataFrame, header: bool, column: str | int | None
) -> pl.Series:
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
            f"{'' if found else ', and no headings are taxon ranks'}; choose one with column=, or "
            "name the rank columns with ranks="
        )
    lineages = table[found[0]]
    if header or table.width == 1 or not _heads_lineages(lineages):
        return lineages
    # The first line is an unknown heading, or a taxon without ancestors: other columns decide.
    others = [table[name] for name in table.columns if name != found[0]]
    if any(_heads_lineages(other) or _heads_codes(other) for other in others):
        return lineages[1:]
    raise text.error(
        f"{lineages[0]!r} may be a heading or a taxon; for a heading pass column={lineages[0]!r}, "
        f"for a taxon write {lineages[0]!r} with a semicolon behind it",
        line=text.line_of_row(0),
    )


def _heads_lineages(column: pl.Series) -> bool:
    """Whether all but the first value of a column are lineages."""
    return _share_of_lineages(column[:1]) == 0 and _share_of_lineages(column[1:]) == 1


def _heads_codes(column: pl.Series) -> bool:
    """Whether all but the first value of a column have digits."""
    return _share(column[:1], r"\d") == 0 and _share(column[1:], r"\d") == 1


def _share_of_lineages(column: pl.Series) -> float:
    """Share of the values of a column that are lineages."""
    return _share(column, rf";|{_BARS}|{SINTAX.pattern}|{PREFIXED.pattern}")


def _share(column: pl.Series, pattern: str) -> float:
    """Share of the values of a column that match a pattern."""
    present = column.drop_nulls()
    return float(present.str.contains(pattern).sum()) / max(len(present), 1)


def _nodes(levels: list[pl.Series], taxon_ranks: list[str | None], root: str) -> pl.DataFrame:
    """Make a table of nodes, one for each distinct path of names from the root."""
    if not any(level.count() for level in levels):
        raise TaxonomyError(
            "there is no name in any lineage; is column= or ranks= the right one, or missing= too "
            "wide?"
        )
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
    if nodes["above"].null_count() > 1:
        top = pl.DataFrame({"path": [root], "label": [root]})
        nodes = pl.concat([top, nodes.with_columns(nodes["above"].fill_null(root))], how="diagonal")
    # 3. Ids are names where these are unique, else paths.
    prefix = nodes["label"].str.extract(PREFIXED.pattern)
    ids = pl.when(pl.col("label").is_unique()).then("label").otherwise("path")
    return nodes.select(
        ids.alias("id"),
        pl.col("above").replace(pl.col("path"), ids).alias("parent"),
        pl.col("label").str.replace(PREFIXED.pattern, "").alias("name"),
        pl.coalesce("taxon_rank", prefix.replace_strict(_PREFIXES, default=None)),
    )
