"""Download a dump of the NCBI taxonomy: the only part of the library that touches the network."""

import datetime
import hashlib
import os
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from http.client import HTTPException, HTTPResponse
from pathlib import Path

__all__ = ["download_ncbi"]

NCBI = "https://ftp.ncbi.nlm.nih.gov/pub/taxonomy"
Progress = Callable[[int, int | None], None]
_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


def download_ncbi(
    date: str | datetime.date | None = None,
    *,
    sha256: str | None = None,
    cache_dir: str | Path | None = None,
    base_url: str = NCBI,
    progress: Progress | None = None,
) -> Path:
    """Download a taxdump from NCBI, unless it lies in the cache already.

    The file appears in the cache whole and verified, or not at all.

    Parameters
    ----------
    date
        Day of an archived dump, "YYYY-MM-DD" (NCBI keeps that of the first of each month), which
        is downloaded once; or None for the latest, whose checksum is asked for at every call, and
        which is downloaded again when that has changed.
    sha256
        What the file must be. NCBI publishes an MD5 for the latest dump alone, which is always
        verified; archived ones are verified by their length, by the checksums inside the zip, and
        by this, if given.
    cache_dir
        Where to keep it; ``$XDG_CACHE_HOME/poincare_taxa``, or ``~/.cache/poincare_taxa``.
    base_url
        Where the folders ``new_taxdump`` and ``taxdump_archive`` are.
    progress
        Called with the bytes received so far and the total (None if the server does not say).

    Returns
    -------
    path
        An archive that `read_ncbi` reads.

    Raises
    ------
    ValueError
        If the date is none.
    OSError
        If the server cannot be reached or does not have the file, if the transfer breaks off, or
        if the file is not what the checksum says. Nothing is left behind.
    """
    folder = _cache_dir(cache_dir)
    if date is None:
        url = f"{base_url}/new_taxdump/new_taxdump.tar.gz"
        expected = {"md5": _published_md5(f"{url}.md5")}
    else:
        try:
            day = datetime.date.fromisoformat(str(date)).isoformat()
        except ValueError:
            raise ValueError(f"date must be YYYY-MM-DD, such as 2024-09-01; got {date!r}") from None
        url = f"{base_url}/taxdump_archive/new_taxdump_{day}.zip"
        expected = {}
    if sha256 is not None:
        expected["sha256"] = sha256.lower()
    path = folder / url.rsplit("/", 1)[1]
    if path.is_file() and not (expected and _mismatch(path, expected)):
        return path
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=folder)
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            _receive(url, file.write, progress)
            file.flush()
            os.fsync(file.fileno())
        if wrong := _mismatch(part, expected):
            raise OSError(f"{url}: {wrong}; nothing was kept. Try again: it may just have changed")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _cache_dir(given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "poincare_taxa"


def _published_md5(url: str) -> str:
    parts: list[bytes] = []
    _receive(url, parts.append, None)
    words = b"".join(parts).decode(errors="replace").split()
    if not words or len(words[0]) != 32:
        raise OSError(
            f"{url}: expected an MD5 sum, got {' '.join(words)[:60]!r}; is a proxy answering?"
        )
    return words[0].lower()


def _mismatch(path: Path, expected: dict[str, str]) -> str | None:
    """Tell what is wrong with a file: a checksum, or what a zip says of its members."""
    for algorithm, digest in expected.items():
        with path.open("rb") as file:
            found = hashlib.file_digest(file, algorithm).hexdigest()
        if found != digest:
            return f"its {algorithm} is {found}, not {digest}"
    if not expected:
        try:
            with zipfile.ZipFile(path) as archive:
                broken = archive.testzip()
        except zipfile.BadZipFile as error:
            return f"it is no whole zip archive ({error})"
        return f"its member {broken} is damaged" if broken else None
    return None


def _receive(url: str, write: Callable[[bytes], object], progress: Progress | None) -> None:
    received = 0
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT) as response:
            assert isinstance(response, HTTPResponse)
            length = response.headers.get("Content-Length")
            total = int(length) if length else None
            while chunk := response.read(_CHUNK):
                write(chunk)
                received += len(chunk)
                if progress is not None:
                    progress(received, total)
    except urllib.error.HTTPError as error:
        hint = "; dumps of the first of each month are archived" if error.code == 404 else ""
        raise OSError(f"{url}: the server says {error.code} {error.reason}{hint}") from error
    except (HTTPException, urllib.error.URLError, TimeoutError, ConnectionError) as error:
        raise OSError(
            f"{url}: the transfer broke off ({error}); nothing was kept, try again"
        ) from error
    if total is not None and received != total:
        raise OSError(f"{url}: got {received} of {total} bytes; nothing was kept, try again")
