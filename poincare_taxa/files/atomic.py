"""Files and folders that are written whole or not at all.

What is new is written into a *draft*, a hidden folder beside its place, forced to the disk, and
renamed. A reader, or a process that is killed at any moment, finds what was there before or what is
new, never half of it. The name of a draft holds the host and the process that made it: what a
killed process left is removed by the next one that writes to the same place, and the drafts of live
processes, and files of others, are left alone.
"""

import ctypes
import errno
import os
import random
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

__all__ = ["DRAFT", "mend", "probe", "read_whole", "replace_file", "replace_folder"]

Result = TypeVar("Result")
DRAFT = ".draft-"
"""Part of the name of every draft."""
_PATIENCE = 30.0  # seconds in which a folder that other processes replace is read again
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yield the path of a draft to write, which becomes the file upon leaving the block.

    The draft has the name of the file. The folder is made if there is none. After an exception the
    draft is removed and the file is what it was before.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "new folder" / "note.txt"
    >>> with replace_file(path) as draft:
    ...     _ = draft.write_text("whole")
    >>> path.read_text(), [file.name for file in path.parent.iterdir()]
    ('whole', ['note.txt'])
    """
    path = Path(path)
    with _draft_beside(path) as folder:
        draft = folder / path.name
        yield draft
        _force_to_disk(draft)
        draft.replace(path)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder to fill, which becomes the folder upon leaving the block.

    After an exception the draft is removed and the folder is what it was before. Where the system
    can exchange two folders in one step (Linux), there is no moment without one; elsewhere a
    process that is killed between two renames leaves the old folder beside its place, and the next
    `mend` or `replace_folder` puts it back.
    """
    path = Path(path).resolve()
    with _draft_beside(path) as folder:
        draft = folder / "new"
        draft.mkdir()
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                _force_to_disk(file)
        if not path.exists():
            try:
                draft.rename(path)
                return
            except OSError:  # another process may have made one meanwhile
                if not path.exists():
                    raise
        if not _exchange(draft, path):
            path.rename(folder / "old")
            draft.rename(path)


def read_whole(path: str | Path, read: Callable[[], Result]) -> Result:
    """Return what `read` reads of a folder, all of it from before or from after a replacement.

    `read` is called again where the folder was replaced meanwhile, for half a minute.
    """
    mend(path)
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        before = _identity(path)
        try:
            result = read()
        except (OSError, ValueError):
            if _identity(path) == before:
                raise
        else:
            if _identity(path) == before:
                return result
        time.sleep(random.uniform(0, 0.05))
    raise OSError(f"{path} is replaced again and again while it is read; try again later")


def mend(path: str | Path) -> None:
    """Remove the drafts of killed processes beside a path, and put back what one of them moved."""
    path = Path(path).resolve()
    if not path.parent.is_dir():
        return
    for folder in path.parent.glob(f".{_escaped(path.name)}{DRAFT}*"):
        host, process = folder.name.rsplit(DRAFT, 1)[1].rsplit("-", 2)[:2]
        if host != _host() or _is_alive(int(process)):
            continue
        _discard(folder, path)


def probe(path: str | Path) -> None:
    """Make a draft beside a path and remove it, which fails where nothing can be written.

    What a killed process left there is removed by the next that writes, as other drafts are.

    Raises
    ------
    OSError
        If no folder can be made there.
    """
    with _draft_beside(Path(path)):
        pass


@contextmanager
def _draft_beside(path: Path) -> Iterator[Path]:
    """Make a hidden folder beside a path, and remove it in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mend(path)
    name = f".{path.name}{DRAFT}{_host()}-{os.getpid()}-{uuid.uuid4().hex}"
    folder = path.with_name(name)
    folder.mkdir()
    try:
        yield folder
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(f"{path} cannot be written ({error.strerror}); it is as before") from error
    finally:
        _discard(folder, path)


def _discard(folder: Path, path: Path) -> None:
    """Remove a draft; put back what was moved there to make room, unless it was replaced."""
    if not path.exists() and (folder / "old").exists():
        (folder / "old").rename(path)
    shutil.rmtree(folder, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Exchange two folders in one step; return whether the system can."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    return rename(_HERE, os.fsencode(first), _HERE, os.fsencode(second), _EXCHANGE) == 0


def _identity(path: str | Path) -> tuple[int, int, int] | None:
    """Return what changes when a folder, or a file directly in it, is replaced."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _host() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname())


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _escaped(name: str) -> str:
    """Write a name as a pattern that matches it alone."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _force_to_disk(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
