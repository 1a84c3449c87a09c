"""Recognise the format of a file by its name and content, and read it."""

import gzip
import re
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from poincare_taxa.files.progress import progress_display
from poincare_taxa.readers.edges import read_edges, read_parents
from poincare_taxa.readers.headings import RANKS, names_edges, separator_of
from poincare_taxa.readers.lineages import PREFIXED, SINTAX, is_lineage_each, read_lineages
from poincare_taxa.readers.ncbi import TABLES, read_ncbi
from poincare_taxa.readers.newick import read_newick
from poincare_taxa.readers.text import Text
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read"]

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".dmp")
_SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_NEWICK = (".nwk", ".newick", ".nw", ".tre", ".tree")
_DUMP_PART = (".dmp.gz", ".dmp.bz2", ".dmp.xz")
_HEAD = 65_536  # bytes that are looked at
_KREPORT = re.compile(r"\s*\d+\.\d+\t\d+\t\d+\t(\d+\t\d+\t)?[UDKPCOFGSR-]\d*\t\d+\t")


def read(path: str | Path, *, progress: bool | None = None) -> Taxonomy:
    """Read a taxonomy from a path, recognising its format.

    Folders, archives and ``.dmp`` files are NCBI taxdumps; ``.nwk`` and similar files, and texts
    that begin with a bracket, are Newick; a single column of numbers is a parent array; a text with
    a header of taxon ranks, or with lineage strings, is a lineage table; any other file is an edge
    list. ``source["format"]`` of the result is the format that was recognised.

    Parameters
    ----------
    path
        File or folder. The readers of the single formats have options: `read_ncbi`, `read_newick`,
        `read_parents`, `read_lineages`, `read_edges`.
    progress
        Whether to show how far it is: by default a bar in a terminal or a notebook after two
        seconds, else (in a log) a line now and then. True shows it from the start on. False is
        silence.

    Raises
    ------
    TaxonomyError
        As the reader of the format; the message names this reader.
    FileNotFoundError
        If there is no file or folder at the path.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is no file or folder: is the path right?")
    reader = _reader(path)
    try:
        with progress_display(progress, transient=True) as show:
            show(f"{path} · text", 0, 2)
            return reader(path)
    except TaxonomyError as error:
        message = f"{error}\n(read() chose {reader.__name__} for it; the others have options)"
        raise TaxonomyError(message, row=error.row) from error


def _reader(path: Path) -> Callable[[Path], Taxonomy]:
    """Choose the reader of a path, by its name where this is clear."""
    name = path.name.lower()
    if name.endswith(_SHEETS):
        raise TaxonomyError(f"{path} is a spreadsheet; save the sheet as CSV (UTF-8) and read that")
    if name.endswith(".dmp") and name not in TABLES and not path.is_dir():
        raise TaxonomyError(
            f"{path} is one table of a taxdump; read the folder that holds nodes.dmp and names.dmp"
        )
    if path.is_dir() or name.endswith(_ARCHIVES):
        return read_ncbi
    if name.endswith(_DUMP_PART):
        raise TaxonomyError(
            f"{path} is one compressed table of a taxdump; unpack nodes.dmp and names.dmp into one "
            "folder and read that, or read the whole archive"
        )
    head = _head(path)
    if zipfile.is_zipfile(path) or head[257:262] == b"ustar":
        return read_ncbi
    if name.removesuffix(".gz").endswith(_NEWICK):
        return read_newick
    if name.endswith(".parquet"):
        return read_edges
    return _reader_of_text(_beginning(path, head))


def _beginning(path: Path, head: bytes) -> Text:
    """Text of the head of a file; of the whole file where that may cut its first two rows."""
    if len(head) == _HEAD:
        try:
            text = Text.of(str(path), head)
            if len(text.first_lines(3)) == 3:
                return text
        except TaxonomyError:  # nothing but comments and blank lines so far
            pass
        return Text.load(path)
    return Text.of(str(path), head)


def _reader_of_text(text: Text) -> Callable[[Path], Taxonomy]:
    if text.is_nexus:
        return read_newick
    first, *further = text.first_lines(2)
    if first[0] in "([":
        return read_newick
    separator = separator_of(text)
    cells = [cell.strip(' "') for cell in first.strip().split(separator)]
    _refuse_known_tables(text, cells)
    if names_edges(cells):
        return read_edges
    if len(cells) == 1 and first.strip().lstrip("-").isdigit():
        return read_parents
    if sum(cell.lower() in RANKS for cell in cells) >= 2:
        return read_lineages
    if is_lineage_each(text):
        return read_lineages
    # Lineage strings: prefixes, or more semicolons inside a cell than an edge list would have.
    cells += further[0].strip().split(separator) if further else []
    if any(PREFIXED.match(cell) or cell.count(";") >= 2 or SINTAX.match(cell) for cell in cells):
        return read_lineages
    # One semicolon: two names of a lineage, unless they are ids of rows, such as two parents.
    names = {name for cell in cells if ";" in cell for name in cell.split(";")}
    ids = {line.split(separator)[0] for line in text.first_lines(1000)}
    return read_lineages if names and not names & ids else read_edges


def _refuse_known_tables(text: Text, cells: list[str]) -> None:
    """Raise for tables that would be read as something else."""
    if len(cells) in (6, 8) and _KREPORT.match("\t".join(cells)):
        raise text.error(
            "this is a Kraken report, which has counts and no parents; read the taxonomy of its "
            "database (nodes.dmp and names.dmp) with read_ncbi"
        )
    if {"Taxid", "Tax name"} <= set(cells):
        found = {cell: rank for cell in cells if (rank := _summary_rank(cell)) is not None}
        advice = (
            f"read its rank columns with read_lineages(path, ranks={found})"
            if found
            else 'it has no rank columns, such as "Phylum name"'
        )
        raise text.error(f"this is a taxonomy summary of ncbi-datasets; {advice}")


def _summary_rank(heading: str) -> str | None:
    """Taxon rank that a heading such as "Phylum name" gives the names of."""
    rank = heading.removesuffix(" name").lower()
    return rank if heading.endswith(" name") and rank in RANKS else None


def _head(path: Path) -> bytes:
    """First bytes of a file, decompressed."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            return file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return Text.load(path).data  # Raises an error that describes the damage.
