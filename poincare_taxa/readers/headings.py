"""Headings of tables: whether a table has them, and the kind of column that each stands for."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import polars as pl

from poincare_taxa.readers.text import Text
from poincare_taxa.taxonomy.columns import NO_PARENT

__all__ = [
    "RANKS",
    "Headed",
    "headed_table",
    "kinds_of",
    "names_edges",
    "partner_of",
    "separator_of",
]

# What the columns are called in the wild, in lower case without spaces, dots and underscores: NCBI
# and taxonkit tables, Open Tree's interim format, Darwin Core, Catalogue of Life, WoRMS, GBIF,
# ITIS, BOLD, tables of edges as graph programs write them, this library.
_KINDS = {
    "child": (
        "child childid id taxid uid taxonid nodeid node ncbitaxid aphiaid taxonkey usagekey tsn "
        "taxonomyid source sourceid from hyponym hyponymid subclass son v1 id1"
    ),
    "parent": (
        "parent parentid parentnameusage parentnameusageid parenttaxid parentuid parenttaxonid "
        "parentnodeid parentaphiaid parentkey parentusagekey parentncbitaxid parentname "
        "parenttaxon highertaxon highertaxonid target targetid to hypernym hypernymid superclass "
        "father v2 id2"
    ),
    "name": "name scientificname taxonname taxname sciname completename taxon label",
    "taxon_rank": "rank taxonrank taxrank taxonomicrank",
    "branch_length": "branchlength length",
    "accepted": (
        "accepted acceptedid acceptednameusage acceptednameusageid acceptedtaxonid acceptedname "
        "acceptednameid validaphiaid validid acceptedkey acceptedtaxonkey"
    ),
    "status": "taxonomicstatus status taxonstatus nameusage",
}
_KIND_OF = {heading: kind for kind, headings in _KINDS.items() for heading in headings.split()}
# Headings that are taxon ranks, from the top down.
_RANKS = """
    empire domain superkingdom supergroup realm subrealm kingdom subkingdom infrakingdom superphylum
    superdivision phylum division subphylum subdivision infraphylum superclass class subclass
    infraclass cohort superorder order suborder infraorder parvorder superfamily family subfamily
    supertribe tribe subtribe genus subgenus section species subspecies variety varietas subvariety
    forma serogroup serotype biotype strain isolate
"""
RANKS: list[str] = [*_RANKS.split()]
_BAR = "\t|\t"
_NUMBER = r"^-?\d+(\.\d*)?([eE][-+]?\d+)?$"


class Headed(NamedTuple):
    """A table of text with headings."""

    table: pl.DataFrame
    named: bool
    """Whether the headings come from the file; else they are the positions "0", "1", …"""
    first: int
    """Rows of the text above the first row of the table: 1 where the first line is the heading."""


def separator_of(text: Text) -> str:
    """Guess what separates the fields of a text's first line; a tab where nothing does."""
    if text.declared_separator:
        return text.declared_separator
    line = text.first_lines(1)[0]
    for separator in (_BAR, "\t", ",", ";", "|"):
        if separator in line:
            return separator
    return " " if re.search(r"\S +\S", line) else "\t"


def _plain(heading: str) -> str:
    """Bring a heading into the form that `kinds_of` compares: ``dwc:taxonID`` → taxonid.

    Letters in lower case, without a prefix before a colon, spaces, dots and underscores.
    """
    return re.sub(r"[\W_]", "", heading.split(":")[-1].lower())


def kinds_of(headings: Sequence[str | None]) -> list[str | None]:
    """Return the kind of column that each heading stands for: child, parent, name, … or None.

    Beside words that are known, "parent" before another heading stands for its parents, and
    "accepted" before or behind it the taxon that a synonym belongs to: ``tid, parent_tid,
    tid_accepted``.

    Examples
    --------
    >>> kinds_of(["tid", "parent_tid", "tid_accepted", "remark"])
    ['child', 'parent', 'accepted', None]
    """
    words = ["" if heading is None else _plain(heading) for heading in headings]
    kinds = [_KIND_OF.get(word) for word in words]
    for place, word in enumerate(words):
        about = re.sub(r"^(parent|accepted)|accepted$", "", word)
        if kinds[place] is not None or about in ("", word) or about not in words:
            continue
        is_parent = word.startswith("parent")
        kinds[place] = "parent" if is_parent else "accepted"
        partner = words.index(about)
        if is_parent and kinds[partner] is None and "child" not in kinds:
            kinds[partner] = "child"
    return kinds


def names_edges(headings: Sequence[str | None]) -> bool:
    """Whether headings stand for taxa and for their parents."""
    kinds = kinds_of(headings)
    return "parent" in kinds and ("child" in kinds or "name" in kinds)


def partner_of(headings: Sequence[str], parent: int) -> int | None:
    """Place of the heading that a heading of parents corresponds to: taxid, parent_taxid."""
    wanted = _plain(headings[parent]).removeprefix("parent").removeprefix("higher")
    wanted = {"nameusage": "taxonid", "nameusageid": "taxonid"}.get(wanted, wanted)
    words = [_plain(heading) for heading in headings]
    return words.index(wanted) if wanted in words else None


def headed_table(
    text: Text, expected: Iterable[Any] = (), *, least: int = 2, lines: bool = False
) -> Headed:
    """Split a text into columns of text under their headings.

    The first line is a heading if `_is_heading` finds evidence in it, and so is a comment directly
    above it that has a field for each column and names them.

    Parameters
    ----------
    text
        The text.
    expected
        Headings (str) or places (int) of columns that the caller looks for.
    least
        Number of columns that are needed.
    lines
        Whether each line is one field.

    Raises
    ------
    TaxonomyError
        Where there are fewer columns, or nothing below a heading.
    """
    first = text.first_lines(1)[0]
    if first.startswith("("):
        raise text.error("this looks like a Newick tree; read_newick reads those")
    separator = "\t" if lines else separator_of(text)
    table = _split(text, separator)
    if table.width < least:
        raise text.error(
            f"one column, {first[:60]!r}, where at least {least} are needed; fields are separated"
            " by tab, comma, semicolon or space",
            line=text.line_of_row(0),
        )
    expected = [name for name in expected if name is not None]
    comment = text.comment_above()
    if comment is not None:
        cells = [cell.strip() for cell in comment.removesuffix("\t|").split(separator)]
        if len(cells) == table.width and _names_columns(table, cells, expected):
            return Headed(_renamed(table, cells), True, 0)
    cells = list(table.row(0))
    if not _is_heading(table, cells, expected, least):
        return Headed(table, False, 0)
    if len(table) == 1:
        raise text.error("a header, and nothing below it; was the file cut short?")
    return Headed(_renamed(table[1:], cells), True, 1)


def _split(text: Text, separator: str) -> pl.DataFrame:
    if separator == _BAR:
        table = text.table("\t")[:, ::2]
        if table.to_series(-1).is_null().all():
            table = table[:, :-1]  # that holds nothing, as in other tables
    else:
        table = text.table(separator, quotes=separator in ",;")
    return table.rename({old: str(i) for i, old in enumerate(table.columns)})


def _renamed(table: pl.DataFrame, cells: Sequence[str | None]) -> pl.DataFrame:
    """Put headings over columns; an empty or a repeated one gets its place."""
    names = ["" if cell is None else cell for cell in cells]
    unique = [name if names.index(name) == i else f"{name} ({i})" for i, name in enumerate(names)]
    return table.rename(dict(zip(table.columns, unique, strict=True)))


def _names_columns(table: pl.DataFrame, cells: Sequence[str | None], expected: list[Any]) -> bool:
    """Whether cells name columns by words that can only be headings."""
    if names_edges(cells):
        return True
    words = {name.lower() for name in expected if isinstance(name, str)}
    for name, cell in zip(table.columns, cells, strict=True):
        if cell is None or cell.lower() not in words:
            continue
        # A rank word is a heading unless it stands in a column of rank words.
        below = table[name][1:].drop_nulls().str.to_lowercase()
        if cell.lower() not in RANKS or len(below) == 0 or not below.is_in(RANKS).all():
            return True
    return False


def _is_heading(
    table: pl.DataFrame, cells: Sequence[str | None], expected: list[Any], least: int
) -> bool:
    """Whether the first row of a table is its heading.

    It is one if it names columns, or if a cell of it is unlike all that stand below: text above
    numbers, or a word without digits above ids that all have some. Only columns of ids count as
    evidence, an empty or NA cell never does, and a cell that is an id below shows that the row is
    data.
    """
    if _names_columns(table, cells, expected):
        return True
    places = [place for place in expected if isinstance(place, int) and place < table.width]
    columns = table.columns if least == 1 else table.columns[:2]
    columns = list(dict.fromkeys([*columns, *(table.columns[place] for place in places)]))
    below = table[1:].select(columns)
    if any(
        cell is not None and (below == cell).select(pl.any_horizontal(pl.all().any())).item()
        for name, cell in zip(table.columns, cells, strict=True)
        if name in columns
    ):
        return False
    words = [
        name
        for name, cell in zip(table.columns, cells, strict=True)
        if name in columns and cell and cell.lower() not in NO_PARENT
    ]
    numbers = [_all_match(below[name], _NUMBER) for name in words]
    texts = [not re.match(_NUMBER, cell) for name in words if (cell := cells[int(name)])]
    if any(number and text for number, text in zip(numbers, texts, strict=True)):
        return True
    coded = [
        _all_match(below[name], r"\d") and not re.search(r"\d", cells[int(name)] or "")
        for name in words
    ]
    return least > 1 and len(below) > 1 and len(coded) == len(columns) and all(coded)


def _all_match(column: pl.Series, pattern: str) -> bool:
    """Whether all values that are not missing match; False if all are missing."""
    there = column.drop_nulls()
    there = there.filter(~there.str.to_lowercase().is_in(list(NO_PARENT)))
    return len(there) > 0 and bool(there.str.contains(pattern).all())
