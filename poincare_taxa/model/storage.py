"""The folder of a saved embedding: writing and reading its files.

``points.safetensors``
    ``radius`` [n] and ``direction`` [n, dim], bit for bit as in memory.
``taxonomy.parquet``
    One row per taxon, in the order of the points; there may be more tables.
``meta.json``
    Settings and provenance of the vectors, and the SHA-256 of every other file.

The functions of this file do not interpret the values; `poincare_taxa.model.model` and
`poincare_taxa.model.checks` do. ``docs/file-format.md`` describes the format for other programs.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from poincare_taxa.files.atomic import DRAFT, replace_file, replace_folder
from poincare_taxa.files.records import as_json

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "ensure_writable",
    "file_problems",
    "read_meta",
    "read_points",
    "read_table",
    "refuse_dag",
    "save_tensors",
    "update_meta",
    "write_folder",
]

FORMAT = "poincare-taxa embedding"
FORMAT_VERSION = 1
META = "meta.json"
POINTS = "points.safetensors"


def write_folder(
    path: str | Path,
    points: Mapping[str, Tensor],
    tables: Mapping[str, pl.DataFrame],
    meta: Mapping[str, Any],
) -> None:
    """Write an embedding's folder in one atomic step.

    Parameters
    ----------
    path
        The folder. An embedding at this path is replaced; other files in its folder stay.
    points
        The tensors of ``points.safetensors``.
    tables
        Tables by name; each is written to ``<name>.parquet``.
    meta
        Entries of ``meta.json`` besides the format, its version and the files' hashes.

    Raises
    ------
    FileExistsError
        If there is something else than an embedding at `path`.
    OSError
        If the files cannot be written; `path` is then unchanged.
    """
    ensure_writable(path)
    with replace_folder(path) as folder:
        save_tensors(points, folder / POINTS)
        for key, table in tables.items():
            _write_table(table, folder / f"{key}.parquet")
        files = {file.name: _fingerprint(file) for file in sorted(folder.iterdir())}
        _write_json(
            folder / META,
            {"format": FORMAT, "format_version": FORMAT_VERSION, **meta, "files": files},
        )
        _keep_foreign(Path(path), folder)


def save_tensors(
    tensors: Mapping[str, Tensor], file: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors as safetensors, with the permissions of other files.

    Raises
    ------
    OSError
        If the file cannot be written.
    """
    file.touch()
    mode = file.stat().st_mode
    try:
        save_file({key: t.contiguous() for key, t in tensors.items()}, file, metadata)
    except SafetensorError as error:
        raise OSError(f"{file} cannot be written ({error}); is the disk full?") from error
    file.chmod(mode)  # safetensors makes files that only their owner can read


def _write_table(table: pl.DataFrame, file: Path) -> None:
    try:
        table.write_parquet(file, compression="zstd")
    except pl.exceptions.PolarsError as error:
        raise OSError(f"{file} cannot be written ({error}); is the disk full?") from error


def _keep_foreign(old: Path, new: Path) -> None:
    """Copy what others put into a saved embedding's folder to the folder that replaces it."""
    if not old.is_dir() or not any(old.iterdir()):
        return
    ours = {META, *read_meta(old).get("files", {})}
    for entry in old.iterdir():
        if entry.name in ours or DRAFT in entry.name or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)


def update_meta(path: str | Path, **changes: Any) -> None:
    """Set entries of a saved embedding's ``meta.json``; the other files are unchanged."""
    path = Path(path)
    meta = read_meta(path) | changes
    with replace_file(path / META) as draft:
        _write_json(draft, meta)


def read_meta(path: str | Path) -> dict[str, Any]:
    """Read ``meta.json``.

    Raises
    ------
    FileNotFoundError
        If `path` is not the folder of an embedding.
    ValueError
        If the file is damaged, or of a format that this version of the library cannot read.
    """
    path = Path(path)
    file = path / META
    if not file.is_file():
        what = "is not a folder" if not path.is_dir() else f"has no {META}"
        raise FileNotFoundError(
            f"{path} {what}: not a saved embedding "
            f"(make one with `poincare-taxa embed SOURCE -o {path}`)"
        )
    try:
        meta = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON ({error}): was it edited or cut short?") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"{file} has not the format {FORMAT!r}: is it another program's folder?")
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version {version!r}, but this library reads version {FORMAT_VERSION}; "
            "install the version of poincare-taxa that wrote it "
            f"({meta.get('library_version', 'unknown')})"
        )
    return meta


def refuse_dag(path: str | Path, meta: Mapping[str, Any]) -> None:
    """Raise an error for the folder of a `ClosureEmbedding`, which has no taxonomy.

    Raises
    ------
    ValueError
        If `meta` lists the table of names of a `ClosureEmbedding`.
    """
    if "nodes.parquet" in (meta.get("files") or {}):
        raise ValueError(
            f"{path} holds the points of a DAG, which have no taxonomy: in Python, load it with "
            "ClosureEmbedding.load"
        )


def file_problems(path: str | Path, meta: Mapping[str, Any]) -> list[str]:
    """Compare the files with the sizes and hashes that ``meta.json`` records.

    Returns
    -------
    problems
        One sentence for each file that is missing or differs.
    """
    recorded = meta.get("files")
    if not isinstance(recorded, dict) or POINTS not in recorded:
        return [f"{META} records no file hashes"]
    problems = []
    for name, expected in recorded.items():
        file = Path(path) / name
        if not file.is_file():
            problems.append(f"{name} is missing")
            continue
        found = _fingerprint(file)
        if found["bytes"] != expected.get("bytes"):
            problems.append(
                f"{name} has {found['bytes']} bytes, {expected.get('bytes')} were written"
            )
        elif found["sha256"] != expected.get("sha256"):
            problems.append(f"{name} was changed after it was written (its SHA-256 differs)")
    return problems


def read_points(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors, bit for bit.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or is not a safetensors file.
    """
    file = Path(path) / POINTS
    try:
        return load_file(file)
    except SafetensorError as error:
        raise ValueError(
            f"{file} is not a readable safetensors file ({error}): was it cut short?"
        ) from None


def read_table(path: str | Path, key: str) -> pl.DataFrame:
    """Read the table ``<key>.parquet``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or is not a parquet file.
    """
    file = Path(path) / f"{key}.parquet"
    try:
        return pl.read_parquet(file, glob=False)
    except pl.exceptions.ComputeError as error:
        raise ValueError(
            f"{file} is not a readable parquet file ({error}): was it cut short?"
        ) from None


def ensure_writable(path: str | Path) -> None:
    """Raise an error if saving at a path would fail or destroy other files.

    Commands call it before their work, so that no result is lost.

    Raises
    ------
    FileExistsError
        If `path` is a file, or a folder with files that are no embedding.
    OSError
        If the folder of `path` cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        if any(path.iterdir()) and not _is_embedding(path):
            raise FileExistsError(
                f"{path} holds files that are not an embedding; name a new folder"
            )
    elif path.exists():
        raise FileExistsError(f"{path} is a file; an embedding is a folder: name a new one")
    beside = next(folder for folder in path.resolve().parents if folder.exists())
    try:
        tempfile.TemporaryDirectory(prefix=".probe-", dir=beside).cleanup()
    except OSError as error:
        raise OSError(
            f"{path} cannot be written ({beside}: {error.strerror}): name a folder in a place that "
            "can"
        ) from error


def _is_embedding(path: Path) -> bool:
    """Whether a folder has a readable ``meta.json`` of an embedding."""
    try:
        read_meta(path)
    except (OSError, ValueError):
        return False
    return True


def _fingerprint(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(as_json(content), indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")
