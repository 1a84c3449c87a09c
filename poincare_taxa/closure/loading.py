"""`load`: vectors of whatever lies at a path."""

import errno
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import polars as pl
import torch

from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.files.parquet import faults_of_polars, read_parquet, unpacked_limit
from poincare_taxa.geometry import polar
from poincare_taxa.model import storage
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["load"]

_WIDEST = 10_000  # columns of a text


def load(
    path: str | Path, *, taxonomy: Taxonomy | None = None
) -> TaxonEmbedding | ClosureEmbedding:
    """Load vectors from a saved folder, or from a file that `TaxonEmbedding.export` wrote.

    Parameters
    ----------
    path
        The folder of an embedding, also one of the Hugging Face Hub (``snapshot_download``), or a
        ``.parquet``, ``.csv``, ``.tsv`` or ``.npz`` file, or word2vec text (``.txt``, ``.vec``) of
        tangent vectors by id or name. Pickles are not read.
    taxonomy
        The taxonomy of word2vec text, which has none; each of its taxa needs a vector.

    Returns
    -------
    model
        A `ClosureEmbedding` where the folder is that of a DAG.

    Raises
    ------
    FileNotFoundError
        If there is nothing.
    ValueError
        If it is no embedding, is damaged, or lacks taxa.

    Examples
    --------
    >>> from poincare_taxa.model.model import embed
    >>> path = getfixture("tmp_path") / "cats.csv"
    >>> tax = Taxonomy.from_edges([("lion", "cats"), ("lynx", "cats")])
    >>> embed(tax, dim=3).export(path)
    >>> load(path).distance("lion", "lynx") == embed(tax, dim=3).distance("lion", "lynx")
    True
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is nothing at {path}: is the path right?")
    if path.is_dir():
        is_dag = "nodes.parquet" in storage.read_meta(path).get("files", {})
        return ClosureEmbedding.load(path) if is_dag else TaxonEmbedding.load(path)
    with _faults(path):
        return _of_file(path, taxonomy)


def _of_file(path: Path, taxonomy: Taxonomy | None) -> TaxonEmbedding:
    suffix = path.suffix.lower()
    if suffix in (".txt", ".vec"):
        return _of_word2vec(path, taxonomy)
    if taxonomy is not None:
        raise ValueError(f"{path} has its own taxonomy; taxonomy= is for word2vec text")
    if suffix == ".npz":
        return _of_arrays(path)
    if suffix == ".parquet":
        frame = read_parquet(path, arrays=True)
        schema = pl.scan_parquet(path, glob=False).collect_schema()
        if isinstance(schema.get("direction"), pl.List):
            raise ValueError(
                f"{path}: column 'direction' has lists, whose size is not known before they are "
                'read. Write arrays, in polars pl.col("direction").list.to_array(dim), or columns '
                "direction_0, direction_1, …"
            )
        return _of_frame(path, frame)
    if suffix in (".csv", ".tsv"):
        separator = "," if suffix == ".csv" else "\t"
        _refuse_wide(path, _first_line(path).count(separator) + 1)
        return _of_frame(path, pl.read_csv(path, separator=separator, infer_schema_length=None))
    raise ValueError(
        f"{path} is no folder of an embedding, and none of .parquet .csv .tsv .npz .txt .vec. "
        "Pickles (gensim's .model, PyTorch's .pth) run code when they are read: write gensim's "
        "vectors with model.wv.save_word2vec_format(…), and others as .npz or .csv"
    )


@contextmanager
def _faults(path: Path) -> Iterator[None]:
    """Turn what is raised about the contents of a file into `ValueError` with its name."""
    damaged = "was it cut short, damaged, or written by another program?"
    try:
        with faults_of_polars(f"{path} cannot be read: {damaged}"):
            yield
    except ValueError as error:
        if str(path) in str(error):
            raise
        raise ValueError(f"{path}: {error}") from error
    except (BadZipFile, zlib.error, LZMAError, EOFError, KeyError, struct.error) as error:
        raise ValueError(f"{path} cannot be read ({error}): {damaged}") from error
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file, that an archive announces
            raise
        raise ValueError(f"{path} cannot be read ({error}): {damaged}") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in another way
        raise ValueError(f"{path} cannot be unpacked ({error})") from error
    except MemoryError as error:
        raise ValueError(f"{path} announces more than memory holds: {damaged}") from error


def _first_line(path: Path) -> str:
    """First line of a text that is not compressed: polars unpacks such files without a limit."""
    with path.open("rb") as stream:
        line = stream.readline()
    if line.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"x\x01", b"x^", b"x\x9c", b"x\xda")):
        raise ValueError(f"{path} is compressed: unpack it")
    return line.decode()


def _refuse_wide(path: Path, columns: int) -> None:
    if columns > _WIDEST:
        raise ValueError(f"{path} has {columns:,} columns, and at most {_WIDEST:,} are read")


def _of_frame(path: Path, frame: pl.DataFrame) -> TaxonEmbedding:
    """Embedding of a table with the columns of `TaxonEmbedding.to_frame`, or with flat ones."""
    flat = [name for name in frame.columns if name.startswith("direction_")]
    missing = {"id", "parent", "radius"} - set(frame.columns)
    if missing or not (flat or "direction" in frame.columns):
        raise ValueError(
            f"{path} has no columns {sorted(missing) or 'direction_0, direction_1, …'}, which "
            f"TaxonEmbedding.export writes; it has {frame.columns[:12]}"
        )
    columns = ["radius", *(flat or ["direction"])]
    frame = frame.with_columns(_numbers(path, frame[name]) for name in columns)
    taxonomy = Taxonomy.from_frame(frame, source={"path": str(path)})
    vectors = frame.select(flat).to_numpy() if flat else frame["direction"].to_numpy()
    place = np.empty(len(frame), np.int64)
    place[taxonomy.rows(frame["id"].cast(taxonomy.ids.dtype))] = np.arange(len(frame))
    return _model(path, taxonomy, frame["radius"].to_numpy()[place], vectors[place])


def _numbers(path: Path, column: pl.Series) -> pl.Series:
    """Column of floats, or of arrays of them; what else has numbers is made one."""
    array = column.name == "direction" and isinstance(column.dtype, pl.Array)
    numbers = column.explode() if array else column
    if not numbers.dtype.is_numeric():
        raise ValueError(
            f"{path}: column {column.name!r} has {column.dtype}, and must have numbers"
        )
    if numbers.has_nulls():
        raise ValueError(f"{path}: column {column.name!r} has empty cells, and must have numbers")
    if numbers.dtype.is_float():
        return column
    return column.cast(pl.Array(pl.Float64, column.dtype.shape) if array else pl.Float64)  # pyright: ignore[reportAttributeAccessIssue]


_ARRAYS = {
    "ids": ("iu", 1), "parent": ("iu", 1), "names": ("u", 1), "taxon_rank": ("iu", 1),
    "taxon_rank_names": ("u", 1), "radius": ("f", 1), "direction": ("f", 2),
}  # fmt: skip
"""Arrays of an npz file: kinds of their dtypes, and number of their axes."""


def _of_arrays(path: Path) -> TaxonEmbedding:
    arrays = _unpacked_arrays(path)
    ids, ranks = arrays["ids"], _texts(arrays["taxon_rank_names"])
    taxonomy = Taxonomy.from_parents(
        arrays["parent"],
        ids=pl.Series(_texts(ids) if ids.dtype == np.uint8 else ids),
        names=[name or None for name in _texts(arrays["names"])],
        taxon_ranks=pl.Series(ranks).gather(pl.Series(arrays["taxon_rank"])),
        branch_lengths=arrays.get("branch_length"),
        source={"path": str(path)},
    )
    return _model(path, taxonomy, arrays["radius"], arrays["direction"])


def _unpacked_arrays(path: Path) -> dict[str, Any]:
    """Read the arrays of an npz file, after a look at their sizes; pickles are refused."""
    limit = unpacked_limit(path)
    with ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > limit:
        raise ValueError(
            f"{path} unpacks to {size / 2**20:,.0f} MiB, and at most {limit / 2**20:,.0f} MiB are "
            "read of a file of this size; write it without compression if that is meant"
        )
    with np.load(path, allow_pickle=False) as stored:
        if missing := _ARRAYS.keys() - set(stored.files):
            raise ValueError(f"{path} has no arrays {sorted(missing)}; it has {stored.files}")
        kinds = _ARRAYS | ({"branch_length": ("f", 1)} if "branch_length" in stored.files else {})
        arrays = {name: stored[name] for name in kinds}
    for name, (kind, axes) in kinds.items():
        array = arrays[name]
        if array.dtype.kind not in kind or array.ndim != axes:
            raise ValueError(f"{path}: array {name!r} has {array.dtype}, shape {array.shape}")
    return arrays


def _texts(packed: Any) -> list[str]:
    return bytes(packed).decode().split("\0")


def _of_word2vec(path: Path, taxonomy: Taxonomy | None) -> TaxonEmbedding:
    if taxonomy is None:
        raise ValueError(
            f"word2vec text has no taxonomy: pt.load({str(path)!r}, taxonomy=pt.read(…))"
        )
    first = _first_line(path).split()
    if len(first) != 2 or not all(text.isdecimal() for text in first):
        raise ValueError(f"{path}: line 1 of word2vec text has the numbers of rows and columns")
    _refuse_wide(path, int(first[1]))
    names = [str(i) for i in range(int(first[1]))]
    with faults_of_polars(f"{path} is no word2vec text of {first[1]} numbers a row"):
        frame = pl.read_csv(
            path,
            separator=" ",
            has_header=False,
            skip_rows=1,
            quote_char=None,
            schema={"key": pl.String, **dict.fromkeys(names, pl.Float64)},
        )
    if len(frame) != int(first[0]):
        raise ValueError(
            f"{path}: {first[0]} rows are announced, and there are {len(frame)}: was the file cut "
            "short?"
        )
    if (nameless := frame["key"].is_null()).any():
        raise ValueError(f"{path}:{int(nameless.arg_max() or 0) + 2}: a row has no key before it")
    place = np.full(len(taxonomy), -1)
    rows = taxonomy.rows(frame["key"], missing=-1)
    place[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
    if (place < 0).any():
        absent = taxonomy.ids[int((place < 0).argmax())]
        raise ValueError(
            f"{path} has no vector of {int((place < 0).sum())} taxa, such as {absent}: prune the "
            "taxonomy to those that it has (tax.prune)"
        )
    vectors = torch.from_numpy(frame[:, 1:].to_numpy()[place].astype(np.float64))
    radius, direction = polar.expmap0(vectors)
    return _model(path, taxonomy, radius.numpy(), direction.numpy())


def _model(path: Path, taxonomy: Taxonomy, radius: Any, direction: Any) -> TaxonEmbedding:
    try:
        return TaxonEmbedding(
            taxonomy, _tensor(radius), _tensor(direction), {"loaded_from": str(path)}
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _tensor(array: Any) -> torch.Tensor:
    return torch.from_numpy(np.array(array))
