"""Named members of a folder, a tar or a zip archive, read without writing to disk."""

import errno
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from poincare_taxa.files.parquet import unpacked_limit
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

_EARLIEST = "1990"  # Reproducibly built archives have the dates 1970 or 1980, which mean nothing.
_BROKEN = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(struct.error, ValueError, OverflowError, NotImplementedError, RuntimeError),
)


def read_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield (file name, bytes, date) of the wanted files in a folder or archive, in its order.

    Members in sub-folders are included. The date is that of the archive's entry, as YYYY-MM-DD;
    None for a folder.

    Raises
    ------
    TaxonomyError
        If the path is no archive, is cut short, encrypted or packed by an unknown method, has a
        wanted file twice, or has members that are links, whose path leads outside of the archive,
        or that unpack to more than `files.parquet.unpacked_limit` allows.
    """
    if path.is_dir():
        for name in sorted(wanted):
            if (path / name).is_file():
                yield name, (path / name).read_bytes(), None
        return
    found: set[str] = set()
    try:
        members = _zip_members if zipfile.is_zipfile(path) else _tar_members
        for name, data, date in members(path, wanted):
            if name in found:
                raise TaxonomyError(
                    f"{path}: holds {name} twice; unpack it and name the folder that is meant"
                )
            found.add(name)
            yield name, data, date if date and date > _EARLIEST else None
    except TaxonomyError:
        raise
    except OSError as error:
        if error.errno not in (None, errno.EINVAL):  # A fault of the disk, not of the data.
            raise
        raise _broken(path, error) from error
    except _BROKEN as error:
        raise _broken(path, error) from error


def _broken(path: Path, error: Exception) -> TaxonomyError:
    why = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
    return TaxonomyError(
        f"{path}: not a tar, tar.gz or zip archive, or one that was cut short or encrypted"
        f" ({why}); fetch it again"
    )


def _tar_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str | None]]:
    limit = unpacked_limit(path)
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise _unsafe(path, member.name, "is a link or device")
            name = _safe_name(path, member.name)
            if member.isfile() and name in wanted:
                _refuse_large(path, member.name, member.size, limit)
                stream = archive.extractfile(member)
                assert stream is not None
                yield name, stream.read(), _date(member.mtime)
        # The checksum is at the end of a compressed stream: read the rest to verify it.
        assert archive.fileobj is not None
        while archive.fileobj.read(1 << 20):
            pass


def _zip_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str | None]]:
    limit = unpacked_limit(path)
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(path, member.filename, "is a link")
            name = _safe_name(path, member.filename)
            if name in wanted and not member.is_dir():
                _refuse_large(path, member.filename, member.file_size, limit)
                yield name, archive.read(member), _date(member.date_time)


def _refuse_large(path: Path, member: str, size: int, limit: int) -> None:
    if size > limit:
        raise TaxonomyError(
            f"{path}: member {member!r} unpacks to {size / 2**20:,.0f} MiB, and at most "
            f"{limit / 2**20:,.0f} MiB are read of an archive of this size; unpack it yourself if "
            "that is meant"
        )


def _safe_name(path: Path, member: str) -> str:
    """File name of a member whose path stays inside the archive."""
    parts = PurePosixPath(member.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise _unsafe(path, member, "leads outside of the archive")
    return parts.name


def _unsafe(path: Path, member: str, why: str) -> TaxonomyError:
    return TaxonomyError(f"{path}: member {member!r} {why}; no taxdump has that, so it is refused")


def _date(time: float | tuple[int, ...]) -> str | None:
    """Return the date of an entry as YYYY-MM-DD; None where there is no such date."""
    try:
        if isinstance(time, tuple):
            return datetime(*time[:3], tzinfo=UTC).date().isoformat()
        return datetime.fromtimestamp(time, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return None
