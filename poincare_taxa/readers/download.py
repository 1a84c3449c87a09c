"""Download a dump of the NCBI taxonomy: the only part of the library that touches the network."""

import datetime
import hashlib
import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poincare_taxa.files.atomic import mend, replace_file

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
        is downloaded once; or None for the latest, whose published MD5 is fetched at every call,
        and which is downloaded again when that has changed.
    sha256
        SHA-256 of the file, which is then verified by this alone. Without it, the latest dump is
        verified by the MD5 that NCBI publishes, and an archived one by the checksums of its zip.
    cache_dir
        Where to keep it; ``$XDG_CACHE_HOME/poincare_taxa``, or ``~/.cache/poincare_taxa``.
    base_url
        Where the folders ``new_taxdump`` and ``taxdump_archive`` are.
    progress
        Called with the bytes received so far and the total (None if the server does not send it).

    Returns
    -------
    path
        An archive that `read_ncbi` reads.

    Raises
    ------
    ValueError
        If the date is not YYYY-MM-DD.
    OSError
        If the server cannot be reached or does not have the file, if the transfer breaks off, or
        if the file does not have the checksum. Nothing is left behind.
    """
    if date is None:
        url = f"{base_url}/new_taxdump/new_taxdump.tar.gz"
        known = f"md5:{_published_md5(f'{url}.md5')}" if sha256 is None else None
    else:
        try:
            day = datetime.date.fromisoformat(str(date)).isoformat()
        except ValueError:
            raise ValueError(f"date must be YYYY-MM-DD, such as 2024-09-01; got {date!r}") from None
        url = f"{base_url}/taxdump_archive/new_taxdump_{day}.zip"
        known = None
    if sha256 is not None:
        known = f"sha256:{sha256.lower()}"

    path = _cache_dir(cache_dir) / url.rsplit("/", 1)[1]
    mend(path)  # what a killed process left
    if path.is_file() and (known is None or _other_hash(path, known) is None):
        return path
    with replace_file(path) as draft:
        _receive(url, draft, progress)
        wrong = _damage_of_zip(draft) if known is None else _other_hash(draft, known)
        if wrong is not None:
            raise OSError(
                f"{url}: {wrong}. Nothing was kept. Try again: the file may just have changed"
            )
    return path


def _cache_dir(given: str | Path | None) -> Path:
    if given is not None:
        return Path(given)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "poincare_taxa"


def _published_md5(url: str) -> str:
    content = io.BytesIO()
    _receive(url, content, None)
    words = content.getvalue().decode(errors="replace").split()
    if not words or len(words[0]) != 32:
        raise OSError(
            f"{url}: expected an MD5 sum, got {' '.join(words)[:60]!r}; is a proxy answering?"
        )
    return words[0].lower()


def _other_hash(path: Path, known: str) -> str | None:
    """Describe how the hash of a file differs from the known one, such as "md5:0123…"."""
    kind, expected = known.split(":")
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, kind).hexdigest()
    if found == expected:
        return None
    return f"{kind.upper()} hash of the file differs: expected {expected} but got {found}"


def _damage_of_zip(path: Path) -> str | None:
    """Describe what is wrong with a zip archive, by the checksums inside it."""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except zipfile.BadZipFile as error:
        return f"it is no whole zip archive ({error})"
    return f"its member {broken} is damaged" if broken else None


class _Received:
    """Number of bytes received, with the methods of a progress bar that pooch calls."""

    def __init__(self, progress: Progress | None) -> None:
        self.total, self.count, self.progress = 0, 0, progress

    def update(self, count: int) -> None:
        self.count += count  # whole chunks: the last one counts more than it holds
        if self.progress is not None and count:
            self.progress(min(self.count, self.total or self.count), self.total or None)

    def reset(self) -> None:
        self.count = 0

    def close(self) -> None:
        pass


def _receive(url: str, target: Path | io.BytesIO, progress: Progress | None) -> None:
    """Write what a server sends to a file, completely, or raise an error with the reason."""
    import pooch
    import requests

    bar: Any = _Received(progress)
    as_it_is = {"Accept-Encoding": "identity"}  # archives must not be unpacked on the way
    get = pooch.HTTPDownloader(bar, _CHUNK, timeout=_TIMEOUT, headers=as_it_is)
    try:
        get(url, str(target) if isinstance(target, Path) else target, None)
    except requests.HTTPError as error:
        answer: Any = error.response
        code, reason = answer.status_code, answer.reason
        hint = "; dumps of the first of each month are archived" if code == 404 else ""
        raise OSError(f"{url}: the server answered {code} {reason}{hint}") from error
    except requests.RequestException as error:
        raise OSError(
            f"{url}: the transfer broke off ({error}); nothing was kept, try again"
        ) from error
