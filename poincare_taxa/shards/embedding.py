"""`embed_shards`: vectors of a taxonomy that no process has as a whole."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from poincare_taxa.files.atomic import replace_folder
from poincare_taxa.files.records import dtype_name
from poincare_taxa.layouts.tree import Layout
from poincare_taxa.model import storage
from poincare_taxa.model.model import TaxonEmbedding, origin
from poincare_taxa.processes.group import Processes
from poincare_taxa.shards.directions import SliceLayout
from poincare_taxa.shards.slices import (
    ScatteredTree,
    Slice,
    children_of,
    cuts,
    local_tree,
    rows_above,
)
from poincare_taxa.shards.source import Source, mapped_tree
from poincare_taxa.taxonomy.edges import check_unique
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["embed_shards"]

_PASSES = 8


def embed_shards(
    source: str | Path,
    out: str | Path,
    dim: int = 10,
    *,
    tau: float | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    refine: bool | int = False,
) -> dict[str, Any]:
    """Compute and save a vector for every taxon, in as many slices as there are processes.

    All processes of ``torchrun`` make this call. The vectors are those of `embed` in one process,
    bit for bit, refined or not; each process has those of its slice, and writes them as a shard.
    `pt.load` reads the folder where it fits into one process, and each of its shards alone: a shard
    is the folder of an embedding, of the taxa of a slice and the ancestors of the first one.

    Parameters
    ----------
    source
        A parquet file with a row for each taxon in preorder: columns ``id``, ``parent`` (an id;
        null at the root) and optionally ``name``, ``taxon_rank``. ``tax.to_frame()`` has these, and
        a saved embedding as ``taxonomy.parquet``. All processes read it, a part at a time.
    out
        The folder, which all processes write to. An embedding that is there is replaced, in one
        step.
    dim, tau, dtype, seed, refine
        As for `embed`.

    Returns
    -------
    layout
        ``tau``, ``unresolved`` and, if refined, ``passes``, as in ``meta["layout"]`` of `embed`.

    Raises
    ------
    ValueError
        If rows are not in preorder, a column is missing, an id occurs twice in a slice (twice in
        the file: when all shards are loaded), there are fewer taxa than processes, or `dim`, `tau`
        or `dtype` is out of its range.
    FileExistsError
        If there is something else than an embedding at `out`.

    Examples
    --------
    >>> from poincare_taxa.closure.loading import load
    >>> folder = getfixture("tmp_path")
    >>> tax = Taxonomy.from_edges([("cats", "all"), ("dogs", "all"), ("lion", "cats")])
    >>> tax.to_frame().write_parquet(folder / "tax.parquet")
    >>> _ = embed_shards(folder / "tax.parquet", folder / "saved", dim=3)
    >>> load(folder / "saved").nearest("lion", k=1)["id"].to_list()
    ['cats']
    """
    if refine < 0:
        raise ValueError(f"refine is a number of passes, at least 0; got {refine}")
    together = Processes.joined()
    together.once(lambda: storage.ensure_writable(out))
    nodes = Source(source)
    with ExitStack() as stack:
        draft = together.once(lambda: stack.enter_context(replace_folder(out)))
        scratch = draft.parent / "tree"  # it goes with the draft
        together.once(lambda: nodes.write_tree(scratch))
        # 1. The slice of this process, and the families that cuts go through.
        part, above, shared, size = _own_slice(scratch, together)
        # 2. Layout and refinement.
        layouts = SliceLayout(ScatteredTree(part, together), shared, size, dim, dtype, seed)
        del size
        passes = _PASSES if refine is True else int(refine)
        points = layouts.refined(tau, passes) if refine else layouts.layout(tau)
        # 3. The shard.
        settings = {
            "method": "refined layout" if refine else "layout",
            "dim": dim,
            "dtype": dtype_name(dtype),
            "seed": seed,
            "refine": refine,
            **({} if tau is None else {"aim": "neighbours", "tau": tau}),
        }
        meta = {"settings": settings, "layout": points.info, **origin()}
        name = f"shard-{together.rank + 1:05d}-of-{together.size:05d}"
        shard = {"folder": name, "start": part.start, "stop": part.stop, "above": above}
        shards = together.each(
            lambda: _save_shard(draft / name, nodes, scratch, shard, points, part.rows, meta)
        )
        # 4. The list of all.
        together.once(lambda: _save_list(Path(out), draft, meta, nodes, layouts, shards))
        together.once(stack.close)
    return points.info


def _own_slice(
    scratch: Path, together: Processes
) -> tuple[Slice, list[int], NDArray[np.integer], NDArray[np.integer]]:
    """Cut the tree, which is unmapped again, and take the slice of this process.

    Returns
    -------
    part
        The slice, with all families that a cut goes through.
    above
        Rows of the ancestors of its first row.
    shared
        Ascending rows of the parents of these families.
    size
        Size of the whole subtree of each row of the slice.
    """
    arrays = mapped_tree(scratch)
    parent, end, _ = arrays
    bounds = cuts(parent, end, together.size)
    start, stop = bounds[together.rank : together.rank + 2]
    above = [rows_above(parent, row) for row in bounds[:-1]]
    shared = np.unique(np.concatenate([np.array(rows, np.int64) for rows in above]))
    families = np.union1d(shared, children_of(parent, shared))
    rows = np.union1d(families, np.arange(start, stop))
    part = Slice(rows, local_tree(arrays, rows), start, stop)
    return part, above[together.rank], shared, end[rows] - rows


def _save_shard(
    folder: Path,
    nodes: Source,
    scratch: Path,
    shard: dict[str, Any],
    points: Layout,
    known: NDArray[np.integer],
    meta: dict[str, Any],
) -> dict[str, Any]:
    """Save the rows of a slice, and the ancestors of its first one, as an embedding."""
    start, stop, above = shard["start"], shard["stop"], shard["above"]
    rows = np.concatenate((np.array(above, np.int64), np.arange(start, stop)))
    parts = [*(nodes.read(row, row + 1) for row in above), nodes.read(start, stop)]
    frame = pl.concat(parts, how="vertical_relaxed")
    if "name" not in frame.columns:
        frame = frame.with_columns(pl.lit(None, pl.String).alias("name"))
    check_unique(frame["id"])
    about = {"format": "parquet", "path": str(nodes.path)}
    taxonomy = Taxonomy.from_rows(local_tree(mapped_tree(scratch), rows), frame, source=about)
    at = torch.from_numpy(np.searchsorted(known, rows))
    settings = {**meta["settings"], "method": "slice of a layout"}
    model = TaxonEmbedding(
        taxonomy, points.radius[at], points.direction[at], {**meta, "settings": settings}
    )
    model.save(folder)
    return {**shard, "sha256": storage.fingerprint(folder / storage.META)["sha256"]}


def _save_list(
    out: Path,
    draft: Path,
    meta: dict[str, Any],
    nodes: Source,
    layouts: SliceLayout,
    shards: list[dict[str, Any]],
) -> None:
    """Write ``meta.json`` of all shards."""
    depths = torch.arange(layouts.tree.max_depth + 1, dtype=layouts.dtype)
    radii = (meta["layout"]["tau"] * depths).tolist()
    about = {
        "format": storage.FORMAT,
        "format_version": storage.FORMAT_VERSION,
        **meta,
        "settings": {**meta["settings"], "target_radius": radii},
        "num_taxa": nodes.rows,
        "dim": layouts.dim,
        "dtype": dtype_name(layouts.dtype),
        "source": {"format": "parquet", "path": str(nodes.path)},
        "shards": shards,
    }
    storage.write_json(draft / storage.META, about)
    storage.keep_foreign(out, draft)
