"""Text files, compressed or not, and error messages with the line at fault."""

import gzip
import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy.taxonomy import TaxonomyError

_GZIP = b"\x1f\x8b"
_UTF8_MARK = b"\xef\xbb\xbf"
_OTHER = {
    b"\xff\xfe": "UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "UTF-16 text; save it as UTF-8",
    b"PK\x03\x04": "a zip archive; unpack it, or read a taxdump with read_ncbi",
    b"PAR1": "a parquet file; give it the ending .parquet",
    b"{": "JSON; write its nodes as a table with columns id, parent_id, name, rank",
    b"BZh": "compressed with bzip2; use gzip or unpack it",
    b"\xfd7zXZ": "compressed with xz; use gzip or unpack it",
    b"(\xb5/\xfd": "compressed with zstd; use gzip or unpack it",
}


def provenance(path: str | Path, form: str) -> dict[str, Any]:
    """Return the entries of `Taxonomy.source` for a file: format, path, hash."""
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"format": form, "path": str(path), "sha256": digest}


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
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise type(error)(
                f"{path} cannot be read ({error.strerror}): is the path right?"
            ) from error
        if data.startswith(_GZIP):
            try:
                data = gzip.decompress(data)
            except (OSError, EOFError, zlib.error) as error:
                raise TaxonomyError(
                    f"{path}: broken gzip ({error}); was it cut short on its way here?"
                ) from error
        return cls.of(str(path), data)

    @classmethod
    def of(cls, name: str, data: bytes) -> "Text":
        """Check the bytes of a file, and remove a byte-order mark; see `load` for errors."""
        data = data.removeprefix(_UTF8_MARK)
        for magic, what in _OTHER.items():
            if data.startswith(magic):
                raise TaxonomyError(f"{name}: this is {what}")
        if data[257:262] == b"ustar":
            raise TaxonomyError(f"{name}: this is a tar archive; read_ncbi reads taxdumps in those")
        if not data[:10_000].strip() and not data.strip():
            raise TaxonomyError(f"{name}: the file is empty; was a download cut short?")
        return cls(name, data)

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

    def error_in_row(self, error: TaxonomyError, *, header: bool = False) -> TaxonomyError:
        """Convert an error with a row of `table` to one with this file's name and the line."""
        if error.row is None:
            return self.error(str(error))
        return self.error(str(error), line=self.line_of_row(error.row + header))

    def line_of_row(self, row: int) -> int:
        """Line, counted from 1, of a row of `table`."""
        return int(self._rows[0][row]) + 1

    def first_lines(self, count: int) -> list[str]:
        """Return up to `count` lines, at least one, that are neither blank nor comments."""
        lines, start, end = self._rows
        if len(lines) == 0:
            raise self.error("nothing but comments (lines with # in front) and blank lines")
        spans = zip(start[:count], end[:count], strict=True)
        return [self.data[i:j].decode(errors="replace").rstrip("\r") for i, j in spans]

    def table(self, separator: str, *, quotes: bool = False) -> pl.DataFrame:
        """Split lines into columns of text, null where empty; blank and comment lines are left out.

        Raises
        ------
        TaxonomyError
            If lines differ in their number of fields, or are not UTF-8.
        """
        quotes = quotes and b'"' in self.data
        if not quotes:
            self._refuse_ragged(separator)
        data, (lines, start, end) = self.data, self._rows
        if len(lines) != lines[-1] + 1:
            data = b"\n".join(data[i:j] for i, j in zip(start, end, strict=True))
        try:
            return pl.read_csv(
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

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Number (from 0), start and end of each line that is neither blank nor a comment."""
        text = np.frombuffer(self.data, np.uint8)
        end = np.flatnonzero(text == ord("\n"))
        if not self.data.endswith(b"\n"):
            end = np.append(end, len(text))
        start = np.concatenate([[0], end[:-1] + 1])
        first = text[np.minimum(start, len(text) - 1)]
        content = (start < end) & (first != ord("#")) & ~((first == ord("\r")) & (end == start + 1))
        return np.flatnonzero(content), start[content], end[content]

    def _refuse_ragged(self, separator: str) -> None:
        """Raise TaxonomyError if a line has another number of fields than most lines."""
        lines, start, end = self._rows
        at = np.flatnonzero(np.frombuffer(self.data, np.uint8) == ord(separator))
        fields = 1 + np.searchsorted(at, end) - np.searchsorted(at, start)
        usual = int(np.bincount(fields).argmax())
        odd = np.flatnonzero(fields != usual)
        if len(odd):
            found = int(fields[odd[0]])
            why = "was the line cut short?" if found < usual else "is there a separator in a name?"
            raise self.error(
                f"{found} fields between {separator!r}, where most lines have {usual}; {why}",
                line=int(lines[odd[0]]) + 1,
            )
