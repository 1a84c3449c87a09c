"""The folder of a saved embedding: writing and reading its files.

``points.safetensors``
    ``radius`` [n] and ``direction`` [n, dim], bit for bit as in memory.
``taxonomy.parquet``
    One row per taxon, in the order of the points; there may be more tables.
``tree.safetensors``
    ``parent``, ``end``, ``depth`` [n]: the tree of that table, as `Tree` has it.
``meta.json``
    Settings and provenance of the vectors, and the SHA-256 of every other file.

A folder of *shards* has, besides ``meta.json`` with a list of them, a folder of its own for each.

What is read is not trusted: types, dtypes, shapes and sizes are verified before anything is
allocated, and whatever does not fit raises ValueError with its file. The functions of this file do
not interpret the values; `poincare_taxa.model.model` and `poincare_taxa.model.checks` do.
``docs/file-format.md`` describes the format for other programs.
"""

import hashlib
import json
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from poincare_taxa.files.atomic import DRAFT, probe, replace_file, replace_folder
from poincare_taxa.files.parquet import faults_of_polars, read_parquet
from poincare_taxa.files.records import as_json
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "FORMAT",
    "FORMAT_VERSION",
    "META",
    "ensure_writable",
    "file_problems",
    "fingerprint",
    "keep_foreign",
    "open_tensors",
    "parse_json",
    "processor",
    "read_meta",
    "read_points",
    "read_table",
    "read_tables",
    "refuse_changed",
    "refuse_dag",
    "save_tensors",
    "shard_folder",
    "taxonomy_of",
    "update_meta",
    "write_folder",
    "write_json",
]

FORMAT = "poincare-taxa embedding"
FORMAT_VERSION = 1
META = "meta.json"
POINTS, TREE = "points.safetensors", "tree.safetensors"
_TREE = ("parent", "end", "depth")
_LARGEST_META = 64 * 2**20  # bytes; a report and the radii of a thousand levels are 0.1 MiB


def processor() -> str:
    """Name the processor, as far as the last bits of results depend on it."""
    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def write_folder(
    path: str | Path,
    points: Mapping[str, Tensor],
    tables: Mapping[str, pl.DataFrame],
    meta: Mapping[str, Any],
    tree: Tree | None = None,
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
    tree
        The tree of the table "taxonomy".

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
        if tree is not None:
            arrays = {name: torch.from_numpy(getattr(tree, name).copy()) for name in _TREE}
            save_tensors(arrays, folder / TREE)
        for key, table in tables.items():
            with _writing(file := folder / f"{key}.parquet"):
                table.write_parquet(file, compression="zstd")
        files = {file.name: fingerprint(file) for file in sorted(folder.iterdir())}
        write_json(
            folder / META,
            {"format": FORMAT, "format_version": FORMAT_VERSION, **meta, "files": files},
        )
        keep_foreign(Path(path), folder)


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
    with _writing(file):
        save_file({key: t.contiguous() for key, t in tensors.items()}, file, metadata)
    file.chmod(mode)  # safetensors makes files that only their owner can read


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn what the writers of other libraries raise on a full disk into `OSError`."""
    try:
        yield
    except (pl.exceptions.PolarsError, SafetensorError) as error:
        raise OSError(f"{file.name} cannot be written ({error}); is the disk full?") from error


def keep_foreign(old: Path, new: Path) -> None:
    """Copy what others put into a saved embedding's folder to the folder that replaces it."""
    if not old.is_dir() or not any(old.iterdir()):
        return
    meta = read_meta(old)
    ours = {META, *meta.get("files", {}), *(one["folder"] for one in meta.get("shards", []))}
    for entry in old.iterdir():
        if entry.name in ours or DRAFT in entry.name or (new / entry.name).exists():
            continue
        if entry.is_dir() and not entry.is_symlink():
            shutil.copytree(entry, new / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, new / entry.name, follow_symlinks=False)


def update_meta(
    path: str | Path, *, files: Mapping[str, Any] | None = None, **changes: Any
) -> None:
    """Set entries of a saved embedding's ``meta.json``; the other files are unchanged.

    Parameters
    ----------
    path
        The folder.
    files
        ``read_meta(path)["files"]`` of before: what the changes are about.
    changes
        The entries.

    Raises
    ------
    OSError
        If the file cannot be written, or another embedding was saved meanwhile.
    """
    path = Path(path)
    # The draft is made first: it goes with its folder if that is replaced.
    with replace_file(path / META) as draft:
        meta = read_meta(path)
        if files is not None and meta.get("files") != files:
            raise OSError(f"{path} was replaced by another embedding meanwhile; do that again")
        write_json(draft, meta | changes)


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
    if file.stat().st_size > _LARGEST_META:
        raise ValueError(f"{file} has more than {_LARGEST_META:,} bytes: is it another file?")
    meta = parse_json(file.read_bytes(), file)
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise ValueError(f"{file} has not the format {FORMAT!r}: is it another program's folder?")
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{file}: format version {version!r}, but this library reads version {FORMAT_VERSION}; "
            "install the version of poincare-taxa that wrote it "
            f"({meta.get('library_version', 'unknown')})"
        )
    for key in ("source", "settings", "layout", "probe"):
        if not isinstance(meta.get(key, {}), dict):
            raise ValueError(f"{file}: {key} must be an object, not {_brief(meta[key])}{_ANEW}")
    if not _are_records(meta.get("files", {})):
        raise ValueError(
            f"{file}: files must list names with bytes and sha256, not "
            f"{_brief(meta['files'])}{_ANEW}"
        )
    shards = meta.get("shards")
    if shards is not None and not _are_shards(shards, meta.get("num_taxa")):
        raise ValueError(f"{file}: shards are no list of consecutive slices of all taxa{_ANEW}")
    return meta


_ANEW = ": was it edited? Save the embedding again, or copy it anew"


def parse_json(text: bytes | str, file: Path) -> Any:
    """Return the value of a JSON text of a file.

    Raises
    ------
    ValueError
        If it is no JSON, or nested a thousand times.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not JSON ({error}): was it edited or cut short?") from None


def _brief(value: Any) -> str:
    text = repr(value) if not isinstance(value, list | dict) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}…"


def _are_shards(shards: Any, n: Any) -> bool:
    """Whether a value lists the folders of consecutive slices of n rows, and their ancestors."""
    if (
        not isinstance(shards, list)
        or not shards
        or not all(
            isinstance(one, dict)
            and isinstance(one.get("folder"), str)
            and re.fullmatch(r"[\w-][\w.-]{0,200}", one["folder"], re.ASCII)
            and type(one.get("start")) is int
            and type(one.get("stop")) is int
            and one["start"] < one["stop"]
            and isinstance(one.get("above"), list)
            and all(type(row) is int and 0 <= row < one["start"] for row in one["above"])
            and isinstance(one.get("sha256"), str)
            for one in shards
        )
    ):
        return False
    bounds = [0, *(one["stop"] for one in shards)]
    return bounds[-1] == n and bounds[:-1] == [one["start"] for one in shards]


def shard_folder(path: Path, shard: Mapping[str, Any]) -> Path:
    """Return the folder of a shard; its own ``meta.json`` has the hashes of its files.

    Raises
    ------
    ValueError
        If it is missing, or another one than that which was written.
    """
    folder = path / shard["folder"]
    if not (folder / META).is_file():
        raise ValueError(f"{path}: {folder.name} is missing; copy the embedding anew")
    if fingerprint(folder / META)["sha256"] != shard["sha256"]:
        raise ValueError(
            f"{path}: {folder.name} is not the shard that was written here; copy the embedding anew"
        )
    return folder


def _are_records(files: Any) -> bool:
    """Whether a value has plain file names, each with a size and a hash."""
    return isinstance(files, dict) and all(
        re.fullmatch(r"[\w-][\w.-]{0,200}", name, re.ASCII)  # a file of this folder
        and isinstance(record, dict)
        and type(record.get("bytes")) is int
        and isinstance(record.get("sha256"), str)
        for name, record in files.items()
    )


def refuse_dag(path: str | Path, meta: Mapping[str, Any]) -> None:
    """Raise an error for the folder of a `ClosureEmbedding`, which has no taxonomy.

    Raises
    ------
    ValueError
        If `meta` lists the table of names of a `ClosureEmbedding`.
    """
    if "nodes.parquet" in (meta.get("files") or {}):
        raise ValueError(
            f"{path} holds the points of a DAG, which have no taxonomy: load it with "
            "ClosureEmbedding.load (in Python, or pt.load)"
        )


def read_tables(path: str | Path, meta: Mapping[str, Any]) -> dict[str, pl.DataFrame]:
    """Read the tables of a taxonomy by name, "taxonomy" and those that there are besides.

    Raises
    ------
    FileNotFoundError, ValueError
        As `read_table`.
    """
    return {
        key: read_table(path, key)
        for key in ("taxonomy", "synonyms", "merged", "deleted")
        if key == "taxonomy" or f"{key}.parquet" in meta.get("files", {})
    }


def taxonomy_of(
    path: str | Path,
    tables: Mapping[str, pl.DataFrame],
    meta: Mapping[str, Any],
    *,
    verify: bool = True,
) -> Taxonomy:
    """Build the taxonomy of the tables and its tree.

    The tree is that of ``tree.safetensors`` where there is one. To `verify`, and where there is
    none, it is computed from the parents of the table, whose rows must be in preorder.

    Raises
    ------
    ValueError
        If the tables are no taxonomy, or not that of the tree; the message names the path.
    """
    frame = tables["taxonomy"]
    tree = read_tree(path) if TREE in meta.get("files", {}) else None
    others = {
        "synonyms": tables.get("synonyms"),
        "merged": tables.get("merged"),
        "deleted": tables["deleted"]["id"] if "deleted" in tables else None,
        "source": meta.get("source", {}),
    }
    try:
        with faults_of_polars("the tables do not fit together"):
            if tree is not None and not verify:
                return Taxonomy.from_rows(tree, frame, **others)
            taxonomy = Taxonomy.from_frame(frame, **others)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error} (were the tables edited? Save the embedding again, or copy it anew)"
        ) from error
    moved = (taxonomy.ids != frame["id"].cast(taxonomy.ids.dtype)).to_numpy()
    if moved.any():
        row = int(moved.argmax())
        raise ValueError(
            f"{path}: the rows of taxonomy.parquet are not in preorder from row {row} "
            f"(id {frame['id'][row]}) on; was it sorted after it was written? Copy the embedding "
            "anew"
        )
    if tree is not None and not all(
        np.array_equal(getattr(tree, name), getattr(taxonomy.tree, name)) for name in _TREE
    ):
        raise ValueError(
            f"{path}: {TREE} is not the tree of taxonomy.parquet; are they of different "
            "embeddings? Save the embedding again, or copy it anew"
        )
    return taxonomy


def read_tree(path: str | Path) -> Tree:
    """Map the arrays of a tree.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, is not a safetensors file, or its header announces something else.
    """
    file = Path(path) / TREE
    with open_tensors(file) as stream:
        found = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118
        about = {name: (part.get_dtype(), part.get_shape()) for name, part in found.items()}
        kind, shape = about.get("parent", ("", []))
        fits = kind == "I32" and len(shape) == 1 and shape[0] > 0
        if not fits or any(about.get(name) != (kind, shape) for name in _TREE):
            raise ValueError(
                f"{file} has {about}, where {', '.join(_TREE)} are all I32 [n]: did another "
                "program write it?"
            )
        return Tree(*(stream.get_tensor(name).numpy() for name in _TREE))


def file_problems(
    path: str | Path, meta: Mapping[str, Any], *, unread: frozenset[str] = frozenset()
) -> list[str]:
    """Compare the files with the sizes and hashes that ``meta.json`` records.

    Of `unread` files only the sizes are compared.

    Returns
    -------
    problems
        One sentence for each file that is missing or differs.
    """
    recorded = meta.get("files", {})
    if POINTS not in recorded:
        return [f"{META} records no file hashes"]
    problems = []
    for name, expected in recorded.items():
        file = Path(path) / name
        if not file.is_file():
            problems.append(f"{name} is missing")
        elif (size := file.stat().st_size) != expected["bytes"]:
            problems.append(f"{name} has {size} bytes, {expected['bytes']} were written")
        elif name not in unread and fingerprint(file)["sha256"] != expected["sha256"]:
            problems.append(f"{name} was changed after it was written (its SHA-256 differs)")
    return problems


def refuse_changed(path: str | Path, meta: Mapping[str, Any], *, verify: bool = True) -> None:
    """Raise an error if files are missing, or are not those that ``meta.json`` records.

    The points are read, to compute their hash, only to `verify`; their size is always compared.

    Raises
    ------
    ValueError
        With the `file_problems`.
    """
    if problems := file_problems(path, meta, unread=frozenset(() if verify else [POINTS])):
        raise ValueError(
            f"{path}: {'; '.join(problems)} (save the embedding again, or copy it anew)"
        )


def read_points(path: str | Path) -> dict[str, Tensor]:
    """Read ``radius`` [n] and ``direction`` [n, dim], bit for bit.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, is not a safetensors file, or its header announces something else.
    """
    file = Path(path) / POINTS
    with open_tensors(file) as stream:
        found = {name: stream.get_slice(name) for name in stream.keys()}  # noqa: SIM118
        about = {name: (part.get_dtype(), part.get_shape()) for name, part in found.items()}
        if missing := {"radius", "direction"} - about.keys():
            raise ValueError(f"{file} has no {', '.join(sorted(missing))}; it has {sorted(about)}")
        (r_type, r_shape), (u_type, u_shape) = about["radius"], about["direction"]
        if r_type != u_type or r_type not in ("F32", "F64"):
            raise ValueError(
                f"{file} has a radius of {r_type} and a direction of {u_type}, where both are F32 "
                "or both F64: did another program write it?"
            )
        if len(r_shape) != 1 or len(u_shape) != 2 or r_shape[0] != u_shape[0]:
            raise ValueError(
                f"{file} has a radius {r_shape} and a direction {u_shape}, not [n] and [n, dim]: "
                "are they of different embeddings?"
            )
        return {name: stream.get_tensor(name) for name in ("radius", "direction")}


@contextmanager
def open_tensors(file: Path, advice: str = "") -> Iterator[Any]:
    """Open a safetensors file; what is wrong with it, also while it is read, raises ValueError.

    The message ends with the advice.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing or is not a safetensors file.
    """
    try:
        with safe_open(file, framework="pt") as stream:
            yield stream
    except (SafetensorError, KeyError, AttributeError, RuntimeError) as error:
        raise ValueError(
            f"{file} is damaged ({error}), no readable safetensors file: was it cut short?{advice}"
        ) from None


def _is_key(dtype: pl.DataType) -> bool:
    return dtype.is_integer() or dtype in (pl.String, pl.Null)


def _is_text(dtype: pl.DataType) -> bool:
    return dtype in (pl.String, pl.Categorical, pl.Enum, pl.Null)


_COLUMNS: dict[str, dict[str, Callable[[pl.DataType], bool]]] = {
    "taxonomy": {"id": _is_key, "parent": _is_key, "name": _is_text, "taxon_rank": _is_text},
    "synonyms": {
        "name": _is_text,
        "node": lambda dtype: dtype.is_integer(),
        "name_class": _is_text,
    },
    "merged": {"old_id": _is_key, "new_id": _is_key},
    "deleted": {"id": _is_key},
    "nodes": {"name": lambda dtype: _is_key(dtype) or _is_text(dtype)},
    "pairs": {end: lambda dtype: dtype.is_integer() for end in ("ancestor", "descendant")},
}


def read_table(path: str | Path, key: str) -> pl.DataFrame:
    """Read the table ``<key>.parquet``.

    Raises
    ------
    FileNotFoundError, ValueError
        If the file is missing, is not a parquet file, or has not the columns of this table.
    """
    file = Path(path) / f"{key}.parquet"
    table = read_parquet(file)
    for name, fits in _COLUMNS[key].items():
        if name not in table.columns:
            raise ValueError(f"{file} has no column {name}; it has {table.columns}")
        if not fits(table[name].dtype):
            raise ValueError(
                f"{file}: the column {name} is {table[name].dtype}, which it cannot be: did "
                "another program write it?"
            )
    return table


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
        probe(beside / path.name)
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


def fingerprint(file: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return {"bytes": file.stat().st_size, "sha256": digest}


def write_json(file: Path, content: Mapping[str, Any]) -> None:
    """Write JSON."""
    text = json.dumps(as_json(content), indent=2, ensure_ascii=False, allow_nan=False)
    file.write_text(text + "\n", encoding="utf-8")
