"""Files and folders that are written whole or not at all.

What is new is written to a *draft* beside its place, forced to the disk, and renamed. A reader, or
a process that is killed at any moment, finds what was there before or what is new, never half of
it. The draft's name begins with a dot and keeps the ending of the file, by which some writers
choose a format.
"""

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["replace_file", "replace_folder"]


@contextmanager
def replace_file(path: str | Path) -> Iterator[Path]:
    """Yield the path of a draft to write, which becomes the file upon leaving the block.

    The folder is made if there is none. After an exception the draft is removed and the file is
    what it was before.

    Examples
    --------
    >>> path = getfixture("tmp_path") / "new folder" / "note.txt"
    >>> with replace_file(path) as draft:
    ...     _ = draft.write_text("whole")
    >>> path.read_text(), [file.name for file in path.parent.iterdir()]
    ('whole', ['note.txt'])
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _beside(path, "")
    try:
        yield draft
        _force_to_disk(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def replace_folder(path: str | Path) -> Iterator[Path]:
    """Yield a new folder to fill, which becomes the folder upon leaving the block.

    After an exception the draft is removed and the folder is what it was before. A process that is
    killed in the moment between the two renames leaves the old folder beside its place, under a
    name that ends in ``.old-<digits>``.
    """
    path = Path(path).resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, old = _beside(path, "new-"), _beside(path, "old-")
    draft.mkdir()
    try:
        yield draft
        for file in draft.rglob("*"):
            if file.is_file():
                _force_to_disk(file)
        # A folder that is not empty cannot be renamed over: the old one steps aside first.
        if path.exists():
            path.rename(old)
        try:
            draft.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _beside(path: Path, kind: str) -> Path:
    """Hidden path of the same ending in the same folder, which no other writer uses."""
    stem, ending = (path.stem, path.suffix) if not kind else (path.name, "")
    return path.with_name(f".{stem}.{kind}{uuid.uuid4().hex}{ending}")


def _force_to_disk(file: Path) -> None:
    with file.open("rb+") as stream:
        os.fsync(stream.fileno())
