"""A file that one process at a time holds, until it ends, however it ends."""

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl: Any = None

__all__ = ["Lock"]

_HELD = {errno.EAGAIN, errno.EACCES}


class Lock:
    """A file, made and locked; the system ends the lock of a process that was killed.

    Where a file system or a system has no such locks, nothing is locked.

    Raises
    ------
    BlockingIOError
        If another holds the file; ``strerror`` is its number and host.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "lock"
    >>> first = Lock(path)
    >>> Lock(path)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    BlockingIOError: ...
    >>> first.release()
    >>> path.exists()
    False
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        while not self._taken():
            pass  # its holder has removed the file meanwhile

    def _taken(self) -> bool:
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(self._file, self._path):
                os.close(self._file)
                return False
            os.truncate(self._file, 0)
            os.write(self._file, f"{os.getpid()} on {socket.gethostname()}".encode())
        except OSError as error:
            holder = os.read(self._file, 256).decode(errors="replace")
            os.close(self._file)
            if error.errno in _HELD:
                raise BlockingIOError(error.errno, holder or "unknown") from None
            if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF):
                raise
            self._file = -1
        return True

    def release(self) -> None:
        """Remove the file and end the lock."""
        if self._file >= 0:
            with contextlib.suppress(OSError):  # a folder that can no longer be written
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = -1


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is still the one of a path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False
