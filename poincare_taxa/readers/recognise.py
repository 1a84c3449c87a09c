"""Recognise the format of a file by its name and content, and read it."""

import gzip
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from poincare_taxa.readers.edges import kind_of, read_edges, read_parents, separator_of
from poincare_taxa.readers.lineages import PREFIXED, RANKS, read_lineages
from poincare_taxa.readers.ncbi import read_ncbi
from poincare_taxa.readers.newick import read_newick
from poincare_taxa.readers.text import Text
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["read"]

_ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".zip", ".dmp")
_NEWICK = (".nwk", ".newick", ".nw", ".tre", ".tree")
_HEAD = 65_536  # Number of bytes by which a format is recognised.


def read(path: str | Path) -> Taxonomy:
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
        return reader(path)
    except TaxonomyError as error:
        message = f"{error}\n(read() chose {reader.__name__} for it; the others have options)"
        raise TaxonomyError(message, row=error.row) from error


def _reader(path: Path) -> Callable[[Path], Taxonomy]:
    """Choose the reader of a path, by its name where this is clear."""
    name = path.name.lower()
    if path.is_dir() or name.endswith(_ARCHIVES):
        return read_ncbi
    head = _head(path)
    if zipfile.is_zipfile(path) or head[257:262] == b"ustar":
        return read_ncbi
    if name.removesuffix(".gz").endswith(_NEWICK):
        return read_newick
    if name.endswith(".parquet"):
        return read_edges
    return _reader_of_text(Text.of(str(path), head))


def _reader_of_text(text: Text) -> Callable[[Path], Taxonomy]:
    """Choose the reader of a text by its first two lines."""
    first, *further = text.first_lines(2)
    if first[0] in "([":
        return read_newick
    cells = first.strip().split(separator_of(first))
    if {"child", "parent"} <= {kind_of(cell) for cell in cells}:
        return read_edges
    if len(cells) == 1 and first.strip().lstrip("-").isdigit():
        return read_parents
    if sum(cell.strip().lower() in RANKS for cell in cells) >= 2:
        return read_lineages
    # Lineage strings have prefixes, or more semicolons within a cell than an edge list has.
    cells += further[0].strip().split(separator_of(further[0])) if further else []
    if any(PREFIXED.match(cell) or cell.count(";") >= 2 for cell in cells):
        return read_lineages
    return read_edges


def _head(path: Path) -> bytes:
    """First bytes of a file, decompressed."""
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            return file.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return Text.load(path).data  # Raises an error that describes the damage.
