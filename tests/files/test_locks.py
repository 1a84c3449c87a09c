"""A lock: one holder at a time, told to the second; the end of a process ends it."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from poincare_taxa.files import locks
from poincare_taxa.files.locks import Lock

HOLDER = """
import sys
from pathlib import Path
from poincare_taxa.files.locks import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
lock.release()
"""


@pytest.mark.parametrize("end", ["killed", "released"])
def test_lock__names_its_holder_and_ends_with_it(tmp_path, end):
    path = tmp_path / "run.lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdout is not None
    assert holder.stdin is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BlockingIOError) as error:
        Lock(path)
    assert str(error.value.strerror).startswith(f"{holder.pid} on ")
    if end == "killed":
        holder.send_signal(signal.SIGKILL)
    holder.stdin.close()
    holder.wait()
    holder.stdout.close()
    assert path.exists() == (end == "killed")
    lock = Lock(path)
    assert path.read_text().startswith(f"{os.getpid()} on ")
    lock.release()
    assert not path.exists()
    other = Lock(path)
    lock.release()
    assert path.exists(), "a lock that has ended ends no other"
    other.release()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS])
def test_lock__where_the_file_system_has_none(tmp_path, monkeypatch, code):
    def refuse(*_):
        raise OSError(code, "no locks")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    first, second = Lock(tmp_path / "lock"), Lock(tmp_path / "lock")
    first.release()
    second.release()


def test_lock__ends_where_its_file_cannot_be_removed(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "no")

    path = tmp_path / "lock"
    with monkeypatch.context() as patch:
        patch.setattr(type(path), "unlink", refuse)
        Lock(path).release()
    assert path.exists()
    Lock(path).release()
    assert not path.exists()
