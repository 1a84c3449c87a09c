"""Named members of a folder, a tar or a zip archive, read without writing to disk."""

import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from poincare_taxa.taxonomy.taxonomy import TaxonomyError

_EARLIEST = "1990"  # Reproducibly built archives have the dates 1970 or 1980, which mean nothing.


def read_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str | None]]:
    """Yield (file name, bytes, date) of the wanted files in a folder or archive, in its order.

    Members in sub-folders are included. The date is that of the archive's entry, as YYYY-MM-DD;
    None for a folder.

    Raises
    ------
    TaxonomyError
        If the path is no archive, is cut short, has a wanted file twice, or has members that are
        links or whose path leads outside of the archive.
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
            if found == wanted:  # The rest of a compressed stream may be large.
                return
    except (tarfile.ReadError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        why = str(error).splitlines()[0].rstrip(":")
        raise TaxonomyError(
            f"{path}: not a tar, tar.gz or zip archive, or one that was cut short ({why})"
        ) from error


def _tar_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str]]:
    with tarfile.open(path, "r:*") as archive:
        for member in archive:
            if not (member.isfile() or member.isdir()):
                raise _unsafe(path, member.name, "is a link or device")
            name = _safe_name(path, member.name)
            if member.isfile() and name in wanted:
                stream = archive.extractfile(member)
                assert stream is not None
                yield name, stream.read(), _date(datetime.fromtimestamp(member.mtime, UTC))


def _zip_members(path: Path, wanted: set[str]) -> Iterator[tuple[str, bytes, str]]:
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            if stat.S_ISLNK(member.external_attr >> 16):
                raise _unsafe(path, member.filename, "is a link")
            name = _safe_name(path, member.filename)
            if name in wanted and not member.is_dir():
                yield name, archive.read(member), _date(datetime(*member.date_time, tzinfo=UTC))


def _safe_name(path: Path, member: str) -> str:
    """File name of a member whose path stays inside the archive."""
    parts = PurePosixPath(member.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts:
        raise _unsafe(path, member, "leads outside of the archive")
    return parts.name


def _unsafe(path: Path, member: str, why: str) -> TaxonomyError:
    return TaxonomyError(f"{path}: member {member!r} {why}; no taxdump has that, so it is refused")


def _date(time: datetime) -> str:
    return time.date().isoformat()
