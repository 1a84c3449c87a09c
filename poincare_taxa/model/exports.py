"""Vectors written for other tools: tables, word2vec text, AnnData, scikit-bio, Hugging Face.

Large files are written in pieces of `PIECE` rows. `closure.loading` reads the tables,
the arrays and the folders again, bit for bit.
"""

import json
import tempfile
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from polars.io.plugins import register_io_source

from poincare_taxa.files.atomic import replace_file
from poincare_taxa.files.extras import import_extra
from poincare_taxa.geometry import polar

if TYPE_CHECKING:
    from poincare_taxa.model.model import TaxonEmbedding

__all__ = [
    "SUFFIXES",
    "CosineWarning",
    "anndata_of",
    "export",
    "model_card",
    "neighbour_overlap",
    "push",
]

PIECE = 2**16
"""Rows of a piece."""
SUFFIXES = (".csv", ".tsv", ".parquet", ".npz", ".txt", ".vec", ".nwk", ".h5ad")
_SAMPLE = 1000  # taxa by which a loss is measured


class CosineWarning(UserWarning):
    """Warning that cosine similarity of exported vectors loses neighbours, and how many."""


def export(model: "TaxonEmbedding", path: str | Path) -> None:
    """Write an embedding for another tool; see `TaxonEmbedding.export`.

    Raises
    ------
    ValueError
        If the suffix is unknown, or ids do not fit the format.
    OSError
        If the file cannot be written.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"the suffix of {path} is none of {' '.join(SUFFIXES)} (a folder for this library and "
            "others: model.save; for Hugging Face: model.push_to_hub)"
        )
    if suffix == ".nwk":
        model.taxonomy.to_newick(path)
        return
    anndata = anndata_of(model) if suffix == ".h5ad" else None
    with replace_file(path) as draft:
        if suffix in (".csv", ".tsv"):
            _write_rows(_flat(model), draft, separator="," if suffix == ".csv" else "\t")
        elif suffix == ".parquet":
            _write_parquet(model, draft)
        elif suffix == ".npz":
            _write_arrays(model, draft)
        elif anndata is not None:
            anndata.write_h5ad(draft)
        else:
            _write_word2vec(model, draft)


# -------------------------------------------------------------------- tables


def _flat(model: "TaxonEmbedding") -> Iterator[pl.DataFrame]:
    """Pieces of the table of an embedding, with a column for each coordinate."""
    tax, tree = model.taxonomy, model.taxonomy.tree
    for first in range(0, len(model), PIECE):
        rows = slice(first, first + PIECE)
        above = tree.parent[rows]
        table = pl.DataFrame(
            {
                "id": tax.ids[rows],
                "parent": tax.ids.gather(pl.Series(above).set(pl.Series(above < 0), None)),
                "name": tax.names[rows],
                "taxon_rank": tax.taxon_ranks[rows],
                "depth": tree.depth[rows],
                "radius": model.radius[rows].numpy(force=True),
            }
        )
        if tree.lengths is not None:
            table = table.with_columns(pl.Series("branch_length", tree.lengths[rows]))
        vectors = pl.DataFrame(
            model.direction[rows].numpy(force=True),
            schema=[f"direction_{i}" for i in range(model.dim)],
        )
        yield table.hstack(vectors)


def _write_rows(pieces: Iterator[pl.DataFrame], file: Path, separator: str) -> None:
    with file.open("wb") as stream:
        for number, piece in enumerate(pieces):
            piece.write_csv(stream, separator=separator, include_header=number == 0)


def _write_parquet(model: "TaxonEmbedding", file: Path) -> None:
    """Write row groups as they come: polars takes the next piece when it has written one."""

    def pieces(columns: Any, *_: Any) -> Iterator[pl.DataFrame]:
        return (piece if columns is None else piece.select(columns) for piece in _flat(model))

    table = register_io_source(pieces, schema=next(_flat(model)).schema)
    table.sink_parquet(file, compression="zstd", row_group_size=PIECE, engine="streaming")


def _write_arrays(model: "TaxonEmbedding", file: Path) -> None:
    """Write the arrays of a table without objects: names are one UTF-8 text with zeros between."""
    tax, tree = model.taxonomy, model.taxonomy.tree
    ranks = tax.taxon_ranks.unique(maintain_order=True).cast(pl.String)
    arrays: dict[str, Any] = {
        "ids": tax.ids,
        "parent": tree.parent,
        "names": tax.names,
        "taxon_rank": tax.taxon_ranks.cast(pl.Enum(ranks)).to_physical(),
        "taxon_rank_names": ranks,
        "depth": tree.depth,
        "radius": model.radius.numpy(force=True),
        "direction": model.direction.numpy(force=True),
    }
    if tree.lengths is not None:
        arrays["branch_length"] = tree.lengths
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            # 1. Shape, with the bytes of texts counted: a zero between two.
            text = isinstance(array, pl.Series) and array.dtype == pl.String
            size = int(array.str.len_bytes().sum()) + len(array) - 1 if text else len(array)
            dtype = np.dtype(np.uint8) if text else np.asarray(array[:1]).dtype
            head = {"descr": dtype.str, "fortran_order": False, "shape": (size, *array.shape[1:])}
            # 2. Bytes, a piece at a time; a member made so has no time of day.
            member = zipfile.ZipInfo(f"{name}.npy")
            with archive.open(member, "w", force_zip64=True) as stream:
                np.lib.format.write_array_header_1_0(stream, head)
                for first in range(0, len(array), PIECE):
                    piece = array[first : first + PIECE]
                    if text:
                        stream.write(b"\0" if first else b"")
                        piece = piece.fill_null("").str.replace_all("\0", " ", literal=True)
                        stream.write("\0".join(piece).encode())
                    else:
                        stream.write(np.ascontiguousarray(piece).data)


# -------------------------------------------------------------------- word2vec


def neighbour_overlap(model: "TaxonEmbedding", k: int = 10) -> float:
    """Share of the k nearest taxa that cosine similarity of tangent vectors finds too.

    Measured among a thousand taxa drawn at random; 1 where it loses nothing.
    """
    n = len(model)
    rows = np.sort(np.random.default_rng(0).choice(n, min(n, _SAMPLE), replace=False))
    k = min(k, len(rows) - 1)
    if k < 1:
        return 1.0
    r, u = model.radius[rows].double(), model.direction[rows].double()
    distance, cosine = polar.cdist(r, u, r, u), u @ u.T
    distance.fill_diagonal_(float("inf"))
    cosine.fill_diagonal_(-float("inf"))
    near = distance.topk(k, largest=False).indices
    found = cosine.topk(k).indices
    return (near[:, :, None] == found[:, None, :]).any(-1).double().mean().item()


def _write_word2vec(model: "TaxonEmbedding", file: Path) -> None:
    ids = model.taxonomy.ids.cast(pl.String)
    if ids.str.contains(r"\s").any():
        raise ValueError(
            "word2vec text separates by spaces, and ids here have some: export .csv, .npz or "
            ".parquet"
        )
    share = neighbour_overlap(model)
    warnings.warn(
        "word2vec text holds tangent vectors, whose cosine similarity is not the distance: of 10 "
        f"nearest taxa it finds {10 * share:.1f} (of a thousand taxa here). Depth is lost: use "
        "model.nearest, or Euclidean distance of a few levels",
        CosineWarning,
        stacklevel=4,
    )
    with file.open("wb") as stream:
        stream.write(f"{len(model)} {model.dim}\n".encode())
        for first in range(0, len(model), PIECE):
            rows = slice(first, first + PIECE)
            vectors = model.radius[rows, None] * model.direction[rows]
            table = pl.DataFrame({"id": ids[rows]}).hstack(pl.DataFrame(vectors.numpy(force=True)))
            table.write_csv(stream, separator=" ", include_header=False, quote_style="never")


# -------------------------------------------------------------------- AnnData


def anndata_of(model: "TaxonEmbedding", k: int = 15) -> Any:
    """AnnData with taxa as observations; see `TaxonEmbedding.to_anndata`."""
    anndata = import_extra("anndata", "bio")
    import pandas as pd  # a dependency of anndata
    from scipy import sparse  # Imported here: searches do not need it.

    tax = model.taxonomy
    table = {
        "name": tax.names.fill_null("").to_list(),
        "taxon_rank": tax.taxon_ranks.cast(pl.String).to_list(),
        "depth": tax.tree.depth,
        "radius": model.radius.numpy(force=True),
    }
    obs = pd.DataFrame(table, index=pd.Index(tax.ids.cast(pl.String).to_list(), name="id"))
    made = anndata.AnnData(obs=obs)
    made.obsm["X_poincare"] = model.tangent().numpy(force=True)
    distances = sparse.csr_matrix(model.neighbour_graph(k))
    made.obsp["distances"] = distances
    made.obsp["connectivities"] = _connectivities(distances)
    made.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"n_neighbors": k, "method": "poincare", "metric": "hyperbolic"},
    }
    return made


def _connectivities(distances: Any) -> Any:
    """Weights exp(−d/σ) in [0, 1], σ the mean distance of a taxon's neighbours; symmetric."""
    from scipy import sparse

    row = np.repeat(np.arange(distances.shape[0]), np.diff(distances.indptr))
    count = np.maximum(np.diff(distances.indptr), 1)
    scale = np.bincount(row, distances.data, distances.shape[0]) / count
    weight = np.exp(-distances.data / np.where(scale > 0, scale, 1)[row])
    one_way = sparse.csr_matrix((weight, distances.indices, distances.indptr), distances.shape)
    return one_way.maximum(one_way.T).tocsr()


# -------------------------------------------------------------------- Hugging Face


def model_card(model: "TaxonEmbedding", repo_id: str, licence: str) -> str:
    """Text of a model card: origin, settings, licence, the report with floors and ceilings."""
    tax, meta = model.taxonomy, model.meta
    head = {
        "license": licence,
        "library_name": "poincare-taxa",
        "tags": ["biology", "taxonomy", "hyperbolic", "embeddings"],
    }
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    lines += [f"# {repo_id.split('/')[-1]}", ""]
    lines += [
        f"{len(model):,} taxa below {tax.names[0] or tax.ids[0]} as points of hyperbolic space "
        f"in {model.dim} dimensions: distance means relatedness, radius means depth.",
        "",
        "```python",
        "import poincare_taxa as pt",
        "from huggingface_hub import snapshot_download",
        "",
        f'model = pt.load(snapshot_download("{repo_id}"))',
        "```",
        "",
        "## Origin",
        "",
        "| | |",
        "|---|---|",
    ]
    known = {**tax.source, **{f"vectors: {k}": v for k, v in meta.get("settings", {}).items()}}
    lines += [f"| {key} | {_cell(value)} |" for key, value in known.items()]
    lines += [f"| {key} | {meta[key]} |" for key in ("created", "library_version") if key in meta]
    lines += [f"| licence | {licence} |", "", "## Report", ""]
    rows = meta.get("report", {}).get("rows", [])
    if not rows:
        lines.append("None is stored; `poincare-taxa evaluate FOLDER --save` makes one.")
    else:
        lines += ["| measure | value | floor | ceiling |", "|---|---|---|---|"]
        for row in rows:
            cells = (row.get(name) for name in ("value", "floor", "ceiling"))
            label = " ".join(str(row[name]) for name in ("key", "group", "at") if row.get(name))
            lines.append(f"| {_cell(label)} | {' | '.join(map(_cell, cells))} |")
        lines += ["", "The floor is what vectors without the tree reach; the ceiling, the tree."]
    return "\n".join([*lines, ""])


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = "–" if value is None else str(value)
    text = text if len(text) <= 80 else f"{text[:79]}…"
    return text.replace("|", "\\|").replace("\n", " ")


def push(model: "TaxonEmbedding", repo_id: str, licence: str, **options: Any) -> str:
    """Upload a folder with its model card; see `TaxonEmbedding.push_to_hub`."""
    hub = import_extra("huggingface_hub", "hub")
    hub.utils.validate_repo_id(repo_id)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "embedding"
        model.save(folder)
        card = model_card(model, repo_id, licence)
        (folder / "README.md").write_text(card, encoding="utf-8")
        api = hub.HfApi(token=options.pop("token", None))
        api.create_repo(repo_id, exist_ok=True, **options)
        return str(api.upload_folder(repo_id=repo_id, folder_path=folder))
