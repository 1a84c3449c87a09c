"""Text files, compressed or not, and error messages with the line at fault."""

import csv
import gzip
import hashlib
import io
import re
import zlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.files.parquet import faults_of_polars, unpacked_limit
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER = {
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"PK\x03\x04": "a zip archive; unpack it, or read a taxdump with read_ncbi",
    b"PAR1": "a parquet file; give it the ending .parquet",
    b"{": "JSON; write its nodes as a table with columns id, parent_id, name, rank",
    b"<!DOCTYPE html": "a web page (HTML); did the download fail?",
    b"<html": "a web page (HTML); did the download fail?",
    b"<": "XML (PhyloXML, NeXML, OWL?); export the tree as Newick, or its nodes as a table",
    b">": "FASTA; write the names of its headers as a table of lineages, without sequences",
    b"#mega": "a MEGA alignment; export its tree as Newick",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save the sheet as CSV (UTF-8)",
    b"SQLite format 3": "an SQLite database; export the nodes as a table",
    b"\x89HDF": "an HDF5 file (BIOM?); export the lineages as a table (biom convert --to-tsv)",
    b"BZh": "compressed with bzip2; use gzip or unpack it",
    b"\xfd7zXZ": "compressed with xz; use gzip or unpack it",
    b"(\xb5/\xfd": "compressed with zstd; use gzip or unpack it",
    _GZIP: "compressed twice; unpack it once",
    **dict.fromkeys((b"x\x01", b"x\x9c", b"x\xda"), "compressed with zlib; unpack it"),
}

# Beginnings that have several forms, behind comments of these languages.
_COMMENT = rb"(?:\s|//[^\n]*\n|/\*[^*]*\*/|![^\n]*\n)*"
_OTHER_FORMS = {
    rb"(?i:(strict\s+)?(di)?graph\b[^\[\n;,\t]*\{)": "a DOT graph; write its edges as a table"
    " child, parent",
    rb"graph\s*\[": "a GML graph; read it with networkx (read_gml) and Taxonomy.from_networkx",
    rb"format-version:|\[Term\]": "an OBO file; write its is_a lines as a table child, parent",
    rb"\[\s*([\[{\"]|-?\d+\s*,)": _OTHER[b"{"],
}
_WIDEST = 10_000  # columns of a table
_BLANK = b" \t,;|"  # A line of nothing but these is blank: spreadsheets write such rows.
_MAYBE_BLANK = np.zeros(256, np.bool_)
_MAYBE_BLANK[np.frombuffer(_BLANK, np.uint8)] = True
_SEP_LINE = re.compile(rb"(?i)\"?sep=([\t -~])\"?\n")


def provenance(path: str | Path, form: str) -> dict[str, Any]:
    """Return the entries of `Taxonomy.source` for a file: format, path, hash."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"format": form, "path": str(path), "sha256": digest}


def errors_of(name: str | Path) -> AbstractContextManager[None]:
    """Turn errors of polars into `TaxonomyError` that names the file."""
    return faults_of_polars(
        f"{name}: this cannot be read as a table; is it damaged?", TaxonomyError
    )


def contents(path: str | Path) -> bytes:
    """Read a file, and decompress it if it is gzip; see `Text.load` for errors."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise type(error)(
            f"{path} cannot be read ({error.strerror}): is the path right?"
        ) from error
    return _unpacked(Path(path), data) if data.startswith(_GZIP) else data


def _unpacked(path: Path, data: bytes) -> bytes:
    """Contents of a gzip file."""
    limit = unpacked_limit(path)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise TaxonomyError(
            f"{path}: broken gzip ({error}); was it cut short on its way here?"
        ) from error
    if len(text) > limit:
        raise TaxonomyError(
            f"{path}: unpacks to more than {limit / 2**20:,.0f} MiB, the most that is read "
            "of a compressed file of this size; unpack it yourself if that is meant"
        )
    return text


@dataclass(frozen=True)
class Text:
    """The bytes of a text file, and its name in messages."""

    name: str
    data: bytes

    @classmethod
    def load(cls, path: str | Path) -> "Text":
        """Read a file, and decompress it if it is gzip.

        Raises
        ------
        TaxonomyError
            If the file is empty, not text, or damaged gzip.
        OSError
            If the file cannot be read; FileNotFoundError if it does not exist.
        """
        return cls.of(str(path), contents(path))

    @classmethod
    def of(cls, name: str, data: bytes) -> "Text":
        """Check the bytes of a file, and remove a byte-order mark; see `load` for errors."""
        data = data.removeprefix(_UTF8_MARK)
        top = data[:200].lstrip()
        for magic, what in _OTHER.items():
            if top.startswith(magic):
                raise TaxonomyError(f"{name}: this is {what}")
        for form, what in _OTHER_FORMS.items():
            if re.match(_COMMENT + form, data[:10_000]):
                raise TaxonomyError(f"{name}: this is {what}")
        if data[257:262] == b"ustar":
            raise TaxonomyError(f"{name}: this is a tar archive; read_ncbi reads taxdumps in those")
        if not data or data.isspace():
            raise TaxonomyError(f"{name}: the file is empty; was a download cut short?")
        if b"\0" in data[:10_000]:
            raise TaxonomyError(f"{name}: this is no text but binary data (a Kraken k2d database?)")
        if b"\r" in data:  # Windows ends lines with CR LF, old Macintoshes with CR
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        return cls(name, data)

    @property
    def is_nexus(self) -> bool:
        """Whether the text is a NEXUS file."""
        return re.match(rb"\s*#NEXUS", self.data, re.IGNORECASE) is not None

    def decode(self) -> str:
        """Return the text as a string.

        Raises
        ------
        TaxonomyError
            If the text is not UTF-8; with the line.
        """
        try:
            return self.data.decode()
        except UnicodeDecodeError as error:
            byte = self.data[error.start]
            raise self.error(
                f"byte {byte:#04x} is not UTF-8; is the file in Latin-1?"
                " (iconv -f latin1 -t utf8 converts it)",
                line=1 + self.data.count(b"\n", 0, error.start),
            ) from error

    def error(self, message: str, *, line: int | None = None) -> TaxonomyError:
        """Make an error with the name of this file and a line, counted from 1."""
        place = self.name if line is None else f"{self.name}:{line}"
        return TaxonomyError(f"{place}: {message}")

    def error_in_row(self, error: TaxonomyError, *, above: int = 0) -> TaxonomyError:
        """Make an error of a table name this file, and the line of its row.

        `above` is the number of rows of the text above the first row of the table.
        """
        if error.row is None:
            return self.error(str(error))
        return self.error(str(error), line=self.line_of_row(error.row + above))

    def line_of_row(self, row: int) -> int:
        """Line, counted from 1, of a row of `table`."""
        return int(self._rows[0][row]) + 1

    def first_lines(self, count: int) -> list[str]:
        """Return up to `count` lines, at least one, that are neither blank nor comments."""
        lines, start, end = self._rows
        if len(lines) == 0:
            raise self.error("nothing but comments (lines with # in front) and blank lines")
        spans = zip(start[:count], end[:count], strict=True)
        return [self.data[i:j].decode(errors="replace") for i, j in spans]

    def comment_above(self) -> str | None:
        """Text of the comment that stands directly above the first row, without its ``#``."""
        lines = self._rows[0]
        if len(lines) == 0 or lines[0] == 0:
            return None
        above = self.data[: self._rows[1][0]].splitlines()[-1].strip()
        return above.decode(errors="replace").lstrip("# ") if above.startswith(b"#") else None

    @property
    def declared_separator(self) -> str | None:
        """Separator that a first line ``sep=;`` declares, as Excel writes it."""
        declared = _SEP_LINE.match(self.data)
        return declared[1].decode() if declared else None

    @property
    def has_noise(self) -> bool:
        """Whether there are blank lines or comments."""
        return len(self._rows[0]) != self._num_lines

    @property
    def content(self) -> bytes:
        """Lines that are neither blank nor comments."""
        if not self.has_noise:
            return self.data
        return b"\n".join(self.data[i:j] for i, j in zip(*self._rows[1:], strict=True))

    def table(self, separator: str, *, quotes: bool = False) -> pl.DataFrame:
        """Split lines into columns of text, null where empty; blank and comment lines are left out.

        Spaces around fields are removed. Where the first line lacks one field, either each other
        line ends with a separator, which is removed, or the first line lacks the heading of row
        names, and gets an empty one.

        Parameters
        ----------
        separator
            One character.
        quotes
            Whether a field may stand in double quotes; else quotes belong to the text, unless
            whole fields of the first two lines stand in them.

        Raises
        ------
        TaxonomyError
            If lines differ in their number of fields, or are not UTF-8.
        """
        top = self.first_lines(2)
        data = self.content
        if separator == " " and b"  " in data:  # several spaces count as one
            data = re.sub(rb"(?m)^ +| +$", b"", re.sub(rb" +", b" ", data))
        if all(_in_single_quotes(line, separator) for line in top) and b'"' not in data:
            data, quotes = data.replace(b"'", b'"'), True
            top = [line.replace("'", '"') for line in top]
        quotes = b'"' in data and (quotes or any(_is_quoted(line, separator) for line in top))
        if quotes:
            data = data.replace(b'\\"', b'""')  # R escapes quotes with a backslash
        else:
            self._refuse_ragged(separator)
        widths = [len(_fields(line, separator, quotes=quotes)) for line in top]
        if max(widths) > _WIDEST:
            raise self.error(
                f"{max(widths):,} fields between {separator!r}, and a table has at most "
                f"{_WIDEST:,}; is a line end missing?",
                line=self.line_of_row(widths.index(max(widths))),
            )
        mark = separator.encode()
        if widths[-1] == widths[0] + 1 and self._ends_with(separator):
            data = data.replace(b"\n", mark + b"\n", 1)  # a separator ends every other line
        elif widths[-1] == widths[0] + 1:
            data = mark + data  # the heading of row names is missing
        try:
            table = pl.read_csv(
                data,
                has_header=False,
                separator=separator,
                quote_char='"' if quotes else None,
                infer_schema=False,
            )
        except pl.exceptions.PolarsError as error:
            self.decode()
            why = str(error).splitlines()[0]
            raise self.error(f"not a table with {separator!r} between fields: {why}") from error
        return self._tidied(table, quotes)

    def _tidied(self, table: pl.DataFrame, quotes: bool) -> pl.DataFrame:
        """Remove spaces around fields, and a last column that holds nothing."""
        if b" " in self.data or not self.data.isascii():
            # the no-break space is the one that word processors and web pages write
            table = table.with_columns(pl.all().str.strip_chars(" \u00a0"))
        if quotes:
            table = table.with_columns(
                pl.when(pl.col(name) != "").then(pl.col(name)) for name in table.columns
            )
        last = table.to_series(-1)
        return table[:, :-1] if table.width > 1 and last.null_count() == len(last) else table

    def _ends_with(self, separator: str) -> bool:
        """Whether every row but the first ends with a separator."""
        text = np.frombuffer(self.data, np.uint8)
        return bool((text[self._rows[2][1:] - 1] == ord(separator)).all())

    @cached_property
    def _num_lines(self) -> int:
        return self.data.count(b"\n") + (not self.data.endswith(b"\n"))

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Number (from 0), start and end of each line that is neither blank nor a comment."""
        text = np.frombuffer(self.data, np.uint8)
        end = np.flatnonzero(text == ord("\n"))
        if not self.data.endswith(b"\n"):
            end = np.append(end, len(text))
        start = np.concatenate([[0], end[:-1] + 1])
        first = text[np.minimum(start, len(text) - 1)]
        content = (start < end) & (first != ord("#"))
        # A line that begins with a space or a separator may be blank, or an indented comment.
        for i in np.flatnonzero(content & _MAYBE_BLANK[first]):
            line = self.data[start[i] : end[i]]
            content[i] = line.strip(_BLANK) != b"" and not line.lstrip(b" \t").startswith(b"#")
        if self.declared_separator:
            content[0] = False
        return np.flatnonzero(content), start[content], end[content]

    def _refuse_ragged(self, separator: str) -> None:
        """Raise where a line has not as many fields as most; the first may lack one."""
        if separator == " " and b"  " in self.data:
            return  # polars counts them
        lines, start, end = self._rows
        at = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord(separator))
        fields = 1 + np.searchsorted(at, end) - np.searchsorted(at, start)
        usual = int(np.bincount(fields).argmax())
        odd = np.flatnonzero(fields != usual)
        if len(odd) == 1 and odd[0] == 0 and fields[0] == usual - 1:
            return
        if len(odd):
            found = int(fields[odd[0]])
            why = "was the line cut short?" if found < usual else "is there a separator in a name?"
            raise self.error(
                f"{found} fields between {separator!r}, where most lines have {usual}; {why}",
                line=int(lines[odd[0]]) + 1,
            )


def _is_quoted(line: str, separator: str) -> bool:
    """Whether a line has fields in double quotes, and no quotes but those around whole fields."""
    marked = [field for field in line.split(separator) if '"' in field]
    if separator == " ":  # A quoted field may be split by the spaces that it holds.
        return line.count('"') % 2 == 0 and any(field.startswith('"') for field in marked)
    return bool(marked) and all(len(f) > 1 and f[0] == f[-1] == '"' for f in marked)


def _in_single_quotes(line: str, separator: str) -> bool:
    """Whether all fields of a line, at least two, stand in single quotes."""
    fields = line.strip().split(separator)
    return len(fields) > 1 and all(len(f) > 1 and f[0] == f[-1] == "'" for f in fields)


def _fields(line: str, separator: str, *, quotes: bool) -> list[str]:
    """Split one line into its fields."""
    if not quotes:
        return line.split(separator)
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error:  # a field without end: polars will name the fault
        return [line]
