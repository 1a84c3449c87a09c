"""`load`: vectors of whatever lies at a path."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from poincare_taxa.closure.model import ClosureEmbedding
from poincare_taxa.files.parquet import faults_of_polars, read_parquet
from poincare_taxa.geometry import polar
from poincare_taxa.model import storage
from poincare_taxa.model.model import TaxonEmbedding
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["load"]


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
    suffix = path.suffix.lower()
    if path.is_dir():
        is_dag = "nodes.parquet" in storage.read_meta(path).get("files", {})
        return ClosureEmbedding.load(path) if is_dag else TaxonEmbedding.load(path)
    if suffix in (".txt", ".vec"):
        return _of_word2vec(path, taxonomy)
    if taxonomy is not None:
        raise ValueError(f"{path} has its own taxonomy; taxonomy= is for word2vec text")
    if suffix == ".npz":
        return _of_arrays(path)
    if suffix == ".parquet":
        return _of_frame(path, read_parquet(path))
    if suffix in (".csv", ".tsv"):
        separator = "," if suffix == ".csv" else "\t"
        with faults_of_polars(f"{path} is no table"):
            frame = pl.read_csv(path, separator=separator, infer_schema_length=None)
        return _of_frame(path, frame)
    raise ValueError(
        f"{path} is no folder of an embedding, and none of .parquet .csv .tsv .npz .txt .vec. "
        "Pickles (gensim's .model, PyTorch's .pth) run code when they are read: write gensim's "
        "vectors with model.wv.save_word2vec_format(…), and others as .npz or .csv"
    )


def _of_frame(path: Path, frame: pl.DataFrame) -> TaxonEmbedding:
    """Embedding of a table with the columns of `TaxonEmbedding.to_frame`, or with flat ones."""
    flat = [name for name in frame.columns if name.startswith("direction_")]
    missing = {"id", "parent", "radius"} - set(frame.columns)
    if missing or not (flat or "direction" in frame.columns):
        raise ValueError(
            f"{path} has no columns {sorted(missing) or 'direction_0, direction_1, …'}, which "
            f"TaxonEmbedding.export writes; it has {frame.columns[:12]}"
        )
    taxonomy = Taxonomy.from_frame(frame, source={"path": str(path)})
    vectors = frame.select(flat).to_numpy() if flat else frame["direction"].to_numpy()
    place = np.empty(len(frame), np.int64)
    place[taxonomy.rows(frame["id"].cast(taxonomy.ids.dtype))] = np.arange(len(frame))
    return _model(path, taxonomy, frame["radius"].to_numpy()[place], vectors[place])


def _of_arrays(path: Path) -> TaxonEmbedding:
    with np.load(path, allow_pickle=False) as arrays:
        wanted = {"ids", "parent", "names", "taxon_rank", "taxon_rank_names", "radius", "direction"}
        if missing := wanted - set(arrays.files):
            raise ValueError(f"{path} has no arrays {sorted(missing)}; it has {arrays.files}")
        ids = arrays["ids"]
        ranks = _texts(arrays["taxon_rank_names"])
        taxonomy = Taxonomy.from_parents(
            arrays["parent"],
            ids=pl.Series(_texts(ids) if ids.dtype == np.uint8 else ids),
            names=[name or None for name in _texts(arrays["names"])],
            taxon_ranks=pl.Series(ranks).gather(pl.Series(arrays["taxon_rank"])),
            branch_lengths=arrays["branch_length"] if "branch_length" in arrays.files else None,
            source={"path": str(path)},
        )
        return _model(path, taxonomy, arrays["radius"], arrays["direction"])


def _texts(packed: Any) -> list[str]:
    return bytes(packed).decode().split("\0")


def _of_word2vec(path: Path, taxonomy: Taxonomy | None) -> TaxonEmbedding:
    if taxonomy is None:
        raise ValueError(
            f"word2vec text has no taxonomy: pt.load({str(path)!r}, taxonomy=pt.read(…))"
        )
    with path.open(encoding="utf-8") as stream:
        first = stream.readline().split()
    if len(first) != 2 or not all(text.isdigit() for text in first):
        raise ValueError(f"{path}: line 1 of word2vec text has the numbers of rows and columns")
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
