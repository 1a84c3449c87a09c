"""`TaxonEmbedding`: what a user keeps. Vectors, their taxonomy and provenance; queries; files.

A point is kept in polar coordinates of hyperbolic space of curvature -1: its *radius*, the distance
from the origin, and its *direction*, a unit vector. Ball and tangent coordinates are views.
"""

import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.files.records import dtype_name, library_version
from poincare_taxa.geometry import convert, polar
from poincare_taxa.layouts.refinement import refine as refined
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model import storage
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["TaxonEmbedding", "embed"]

Key = int | str
Keys = Key | Sequence[Key] | pl.Series | NDArray[Any]

_PROBES = 64


def embed(
    taxonomy: Taxonomy,
    dim: int = 10,
    *,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    refine: bool | int = False,
) -> "TaxonEmbedding":
    """Give every taxon a vector such that distance means relatedness and radius means depth.

    Parameters
    ----------
    taxonomy
        What to embed.
    dim
        Coordinates of a vector, at least 2.
    dtype
        Of the stored vectors, ``torch.float64`` or ``torch.float32``. Few dimensions, deep trees
        and float32 leave less room; ``docs/numerics.md`` says how much.
    seed
        The same taxonomy, settings and seed give the same vectors.
    refine
        Whether to improve neighbourhoods after the layout (`layouts.refine`); a
        number is the number of passes. A minute or two where the layout takes seconds, on 2.6
        million taxa. Off by default because it takes radii further out: polar coordinates gain,
        but more taxa end at the rim of a float64 *ball* view, which holds radius 28.

    Returns
    -------
    model

    Raises
    ------
    ValueError
        If `dim` or `dtype` is not one of those above, or `refine` is negative.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
    >>> model = embed(tax, dim=3)
    >>> model.nearest("lion", k=1)["id"].to_list()
    ['cats']
    """
    points = layout(taxonomy, dim, dtype=dtype, seed=seed)
    if refine is True:
        points = refined(taxonomy, points, seed=seed)
    elif refine:
        points = refined(taxonomy, points, passes=refine, seed=seed)
    first_of_level = np.unique(taxonomy.depth, return_index=True)[1]
    settings = {
        "method": "refined layout" if refine else "layout",
        "dim": dim,
        "dtype": dtype_name(dtype),
        "seed": seed,
        "refine": refine,
        "target_radius": points.radius[first_of_level].tolist(),
    }
    meta = {"settings": settings, "layout": dict(points.info), **_origin()}
    return TaxonEmbedding(taxonomy, points.radius, points.direction, meta)


@dataclass(frozen=True, eq=False, repr=False)
class TaxonEmbedding:
    """A vector for every taxon, with the taxonomy and the provenance of both.

    A *key* is an id of the taxonomy, or a name (`Taxonomy.node`): ``model["9606"]``,
    ``model[9606]`` and ``model["Homo sapiens"]`` are the same vector.

    Parameters
    ----------
    taxonomy
        Row i of the vectors belongs to node i.
    radius
        Float32 or float64 [n]: hyperbolic distance from the origin, at least 0.
    direction
        [n, dim], of the same dtype: unit vectors. They are kept as given, never normalised again:
        the difference between near directions lies below an ulp of their largest coordinate.
    meta
        Settings and provenance; what JSON can hold. Saved as ``meta.json``.

    Raises
    ------
    ValueError
        If the shapes, the dtypes or the number of taxa do not fit together.
    """

    taxonomy: Taxonomy
    radius: Tensor
    direction: Tensor
    meta: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        n, r, u = len(self.taxonomy), self.radius, self.direction
        if r.ndim != 1 or u.ndim != 2 or not len(r) == len(u) == n:
            raise ValueError(
                f"{n} taxa need a radius of shape [{n}] and a direction of shape [{n}, dim]; "
                f"got {list(r.shape)} and {list(u.shape)}"
            )
        if r.dtype != u.dtype or r.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                "radius and direction must be tensors, both float32 or both float64; got "
                f"{r.dtype} and {u.dtype} (of an array: torch.from_numpy)"
            )

    # ---------------------------------------------------------------- what it is

    @property
    def dim(self) -> int:
        """Number of coordinates of a vector."""
        return self.direction.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the stored vectors."""
        return self.direction.dtype

    def __len__(self) -> int:
        return len(self.radius)

    def __repr__(self) -> str:
        root = self.taxonomy.names[0] or self.taxonomy.ids[0]
        return (
            f"TaxonEmbedding({len(self):,} taxa below {root!r}, dim={self.dim}, "
            f"{dtype_name(self.dtype)}, radius up to {self.radius.max():.1f})"
        )

    # ---------------------------------------------------------------- vectors

    def __getitem__(self, keys: Keys) -> Tensor:
        """Tangent vectors at the origin, radius times direction: [dim], or [k, dim] for many keys.

        Their Euclidean length is the radius, so they do not crowd at a rim as ball coordinates do:
        use them as features. ``ball.expmap0(model[key] / 2)`` is the point in the ball, whose
        metric at the origin is 4. For distances ask `distance`: it works on the stored radius and
        direction and loses nothing.
        """
        rows, single = self._rows(keys)
        vectors = self.radius[rows, None] * self.direction[rows]
        return vectors[0] if single else vectors

    def tangent(self) -> Tensor:
        """All vectors as ``model[key]`` gives them, [n, dim]."""
        return self.radius[:, None] * self.direction

    def ball(self, dtype: torch.dtype | None = None) -> Tensor:
        """All points in the Poincaré ball of curvature -1, [n, dim], strictly inside.

        Parameters
        ----------
        dtype
            The stored dtype where not given. Points beyond ``ball.max_radius(dtype)`` (12.2 in
            float32, 28.3 in float64) are pulled in to it, and their distances with them.
        """
        return convert.polar_to_ball(self.radius, self.direction, dtype=dtype)

    def to_frame(self) -> pl.DataFrame:
        """Return a table, one row per taxon in the order of the vectors.

        Columns ``id``, ``parent``, ``name``, ``taxon_rank``, ``depth``, ``radius``, ``direction``
        (an array of `dim` numbers).
        """
        return self.taxonomy.to_frame().with_columns(
            pl.Series("depth", self.taxonomy.depth),
            pl.Series("radius", self.radius.numpy(force=True)),
            pl.Series("direction", self.direction.numpy(force=True)),
        )

    # ---------------------------------------------------------------- queries

    def distance(self, a: Keys, b: Keys) -> float | Tensor:
        """Hyperbolic distance between taxa.

        Parameters
        ----------
        a, b
            A key, or many. One with many gives the distance to each; many with as many are paired.

        Returns
        -------
        distance
            A float for two keys, else a float64 tensor.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        """
        (rows_a, single_a), (rows_b, single_b) = self._rows(a), self._rows(b)
        distance = polar.dist(*self._points(rows_a), *self._points(rows_b))
        return distance.item() if single_a and single_b else distance

    def nearest(self, keys: Keys, k: int = 10, taxon_rank: str | None = None) -> pl.DataFrame:
        """Taxa nearest to a taxon: an exact search of all.

        Parameters
        ----------
        keys
            A key, or many; the taxon itself is left out.
        k
            How many to return for each.
        taxon_rank
            Search only the taxa of this rank, such as "genus".

        Returns
        -------
        neighbours
            Columns ``id``, ``name``, ``taxon_rank``, ``distance`` (hyperbolic) and
            ``tree_distance`` (edges of the taxonomy), nearest first; for many keys, ``query``, the
            id that was asked for, comes before them.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If `k` is below 1, or no taxon has this rank.
        """
        _at_least_one(k)
        rows, single = self._rows(keys)
        found, distance = self._best("distance", rows, k, self._having(taxon_rank))
        query = np.broadcast_to(rows[:, None], found.shape)
        others = np.isfinite(distance)
        query, found, distance = query[others], found[others], distance[others]
        frame = self._describe(found).with_columns(
            pl.Series("distance", distance),
            pl.Series("tree_distance", self.taxonomy.tree_distance(query, found)),
        )
        if single:
            return frame
        return frame.select(self.taxonomy.ids.gather(pl.Series(query)).alias("query"), pl.all())

    def ancestors(self, key: Key, k: int | None = None) -> pl.DataFrame:
        """Taxa that the vectors take for ancestors of a taxon.

        This reads ancestry off the embedding, by ``polar.ancestor_score``: about 0 where v lies on
        the way from the origin to the taxon, else about twice the length by which the way to v
        leaves it. The ancestors themselves are ``model.taxonomy.ancestors``; the column
        ``is_ancestor`` tells them from mistakes.

        Parameters
        ----------
        key
            An id or a name.
        k
            How many to return; as many as the taxon has ancestors where not given.

        Returns
        -------
        ancestors
            Columns ``id``, ``name``, ``taxon_rank``, ``score``, ``is_ancestor``, from the outermost
            to the root.

        Raises
        ------
        TaxonomyError
            If the key is unknown, deleted or ambiguous.
        ValueError
            If `k` is below 1.
        """
        node = self.taxonomy.node(key)
        k = int(self.taxonomy.depth[node]) if k is None else _at_least_one(k)
        found, score = self._best("ancestor", np.array([node]), k, None)
        others = np.isfinite(score)
        found, score = found[others], score[others]
        inwards = np.argsort(-self.radius.numpy(force=True)[found], kind="stable")
        found, score = found[inwards], score[inwards]
        return self._describe(found).with_columns(
            pl.Series("score", score),
            pl.Series("is_ancestor", self.taxonomy.is_ancestor(found, node)),
        )

    def _rows(self, keys: Keys) -> tuple[NDArray[np.int64], bool]:
        """Rows of one or many keys, and whether it was one."""
        if isinstance(keys, int | str | np.integer):
            return np.array([self.taxonomy.node(keys)]), True
        try:
            return self.taxonomy.nodes(keys), False
        except TaxonomyError:  # not all are ids: names among them, or an error that names the key
            return np.array([self.taxonomy.node(key) for key in keys]), False

    def _points(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Radius and direction of rows in float64, where differences of stored values are exact."""
        return self.radius[rows].double(), self.direction[rows].double()

    def _having(self, taxon_rank: str | None) -> Tensor | None:
        """Rows of a taxon rank; None for all rows."""
        if taxon_rank is None:
            return None
        ranks = self.taxonomy.taxon_ranks.cast(pl.String)
        rows = np.flatnonzero((ranks == taxon_rank).to_numpy())
        if len(rows) == 0:
            known = ", ".join(ranks.unique().sort())
            raise ValueError(f"no taxon has the rank {taxon_rank!r}; the ranks here are: {known}")
        return torch.from_numpy(rows)

    def _best(
        self,
        by: kernels.By,
        nodes: NDArray[np.int64],
        k: int,
        candidates: Tensor | None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Rows and scores, [q, k], of the k candidates that score lowest for each node.

        The node itself is none of them; where there are fewer than k, scores are inf.
        """
        n = len(self) if candidates is None else len(candidates)
        asked = torch.from_numpy(nodes)
        found = kernels.nearest(
            (self.radius, self.direction),
            (self.radius[asked], self.direction[asked]),
            max(1, min(k, n)),
            manifold="polar",
            by=by,
            skip=asked,
            rows=candidates,
        )
        return found.row[:, :k].numpy(), found.distance[:, :k].numpy()

    def _describe(self, rows: NDArray[np.int64]) -> pl.DataFrame:
        tax, at = self.taxonomy, pl.Series(rows, dtype=pl.Int64)
        return pl.DataFrame(
            {
                "id": tax.ids.gather(at),
                "name": tax.names.gather(at),
                "taxon_rank": tax.taxon_ranks.gather(at),
            }
        )

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> None:
        """Save as a folder, whole or not at all; an embedding that lies at `path` is replaced.

        ``docs/file-format.md`` describes the files. The vectors are stored bit for bit.

        Raises
        ------
        FileExistsError
            If something else than an embedding lies at `path`.
        """
        tax = self.taxonomy
        frame = tax.to_frame()
        if tax.branch_lengths is not None:
            frame = frame.with_columns(pl.Series("branch_length", tax.branch_lengths))
        tables = {"taxonomy": frame, "synonyms": tax.synonyms, "merged": tax.merged}
        tables["deleted"] = None if tax.deleted is None else tax.deleted.alias("id").to_frame()
        about = {
            **_origin(),
            **self.meta,
            "num_taxa": len(self),
            "dim": self.dim,
            "dtype": dtype_name(self.dtype),
            "source": tax.source,
            "probe": self._probe(),
        }
        storage.write_folder(
            path,
            {"radius": self.radius, "direction": self.direction},
            {key: table for key, table in tables.items() if table is not None},
            about,
        )

    @classmethod
    def load(cls, path: str | Path) -> "TaxonEmbedding":
        """Load what `save` wrote, bit for bit.

        Raises
        ------
        FileNotFoundError
            If `path` is not the folder of an embedding.
        ValueError
            If a file is missing, was changed since it was written, or does not fit the others, or
            if it is the folder of a `ClosureEmbedding`.
        """
        meta = storage.read_meta(path)
        storage.refuse_dag(path, meta)
        problems = storage.file_problems(path, meta)
        if problems:
            raise ValueError(
                f"{path}: {'; '.join(problems)} (save the embedding again, or copy it anew)"
            )
        tables = {
            key: storage.read_table(path, key)
            for key in ("taxonomy", "synonyms", "merged", "deleted")
            if f"{key}.parquet" in meta["files"]
        }
        frame = tables["taxonomy"]
        taxonomy = Taxonomy.from_frame(
            frame,
            synonyms=tables.get("synonyms"),
            merged=tables.get("merged"),
            deleted=tables["deleted"]["id"] if "deleted" in tables else None,
            source=meta["source"],
        )
        if not taxonomy.ids.equals(frame["id"]):
            raise ValueError(
                f"{path}: the rows of taxonomy.parquet are not in preorder; was it sorted after it "
                "was written? Copy the embedding anew"
            )
        points = storage.read_points(path)
        about = {key: value for key, value in meta.items() if key not in _WRITTEN_BY_SAVE}
        return cls(taxonomy, points["radius"], points["direction"], about)

    def _probe(self) -> dict[str, Any]:
        """Distances between some taxa, for readers to test their own computation with."""
        generator = np.random.default_rng(0)
        a, b = generator.integers(len(self), size=(2, _PROBES))
        ids, distance = self.taxonomy.ids, polar.dist(*self._points(a), *self._points(b))
        return {
            "a": ids.gather(pl.Series(a)).to_list(),
            "b": ids.gather(pl.Series(b)).to_list(),
            "distance": distance.tolist(),
        }


_WRITTEN_BY_SAVE = frozenset(
    ["format", "format_version", "num_taxa", "dim", "dtype", "source", "probe", "files"]
)


def _at_least_one(k: int) -> int:
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    return k


def _origin() -> dict[str, Any]:
    """When and with what an embedding is made."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "library_version": library_version(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "polars": pl.__version__,
        },
    }
