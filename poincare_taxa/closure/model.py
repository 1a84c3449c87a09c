"""`ClosureEmbedding`: the points of a DAG with the names of its nodes, to query and to save.

It is for a DAG what `TaxonEmbedding` is for a tree. Points are polar coordinates and leaves have
radius 160, which the ball cannot hold.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.files.atomic import read_whole
from poincare_taxa.geometry import polar
from poincare_taxa.model import storage
from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

__all__ = ["ClosureEmbedding"]


@dataclass(frozen=True, eq=False)
class ClosureEmbedding:
    """A point for every node of a DAG.

    Parameters
    ----------
    names
        Names of the nodes [n], each name once.
    radius, direction
        Points in polar coordinates, [n] and [n, dim].
    meta
        Settings and provenance, in types that JSON can hold.

    Raises
    ------
    ValueError
        If there are not as many points as names, or two nodes have one name.

    Examples
    --------
    >>> from poincare_taxa.blocks.closure_pairs import ClosurePairs
    >>> from poincare_taxa.closure.layout import closure_layout
    >>> names = ["animal", "dog", "pug", "cat"]
    >>> pairs = ClosurePairs([(0, 1), (1, 2), (0, 2), (0, 3)], names=names)
    >>> model = ClosureEmbedding(pairs.names, *closure_layout(pairs, 2)[:2])
    >>> model.nearest("pug", k=2)["name"].sort().to_list()
    ['animal', 'dog']
    """

    names: pl.Series
    radius: Tensor
    direction: Tensor
    meta: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        n = len(self.names)
        if self.radius.shape != (n,) or self.direction.ndim != 2 or len(self.direction) != n:
            raise ValueError(
                f"{n} names need a radius [{n}] and a direction [{n}, dim]; got "
                f"{list(self.radius.shape)} and {list(self.direction.shape)}"
            )
        if self.names.n_unique() < n:
            raise ValueError(
                f"two nodes have the name {self.names.filter(self.names.is_duplicated())[0]!r}: "
                "names identify nodes, so make them differ"
            )

    def __len__(self) -> int:
        return len(self.names)

    def rows(self, names: Any) -> Any:
        """Rows of nodes: an int for one name, int64 [k] for a list or a column of names.

        Raises
        ------
        TaxonomyError
            If there is no such node.
        """
        single = isinstance(names, str) or not isinstance(names, Iterable)
        wanted = pl.Series([names] if single else names).cast(self.names.dtype, strict=False)
        found = columns.find(self._index, wanted)
        if (found < 0).any():
            name = names if single else list(names)[int(np.argmin(found))]
            raise TaxonomyError(
                f"no node has the name {name!r}; there are {len(self):,}, such as {self.names[0]!r}"
            )
        return int(found[0]) if single else found

    @cached_property
    def _index(self) -> columns.Index:
        return columns.sort(self.names)

    def distance(self, a: Hashable, b: Hashable) -> float:
        """Hyperbolic distance between two nodes."""
        i, j = self.rows(a), self.rows(b)
        points = self.radius.double(), self.direction.double()
        return polar.dist(points[0][i], points[1][i], points[0][j], points[1][j]).item()

    def nearest(self, name: Hashable, k: int = 10) -> pl.DataFrame:
        """Nodes nearest to a node, nearest first; these are its ancestors if the ranking is right.

        Returns
        -------
        neighbours
            Columns ``name`` and ``distance``; `k` rows, or fewer if there are fewer other nodes.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}")
        row = torch.tensor([self.rows(name)])
        points = self.radius, self.direction
        query = self.radius[row], self.direction[row]
        k = min(k, len(self) - 1)
        if k == 0:
            return pl.DataFrame({"name": self.names.clear(), "distance": []})
        found = kernels.nearest(points, query, k, manifold="polar", skip=row)
        return pl.DataFrame(
            {
                "name": self.names.gather(found.row[0].tolist()),
                "distance": found.distance[0].numpy(),
            }
        )

    def save(self, path: str | Path) -> None:
        """Save the points, bit for bit, and the names as a folder, either completely or not at all.

        Raises
        ------
        FileExistsError
            If `path` exists and is no embedding.
        """
        storage.write_folder(
            path,
            {"radius": self.radius, "direction": self.direction},
            {"nodes": self.names.alias("name").to_frame()},
            self.meta,
        )

    @classmethod
    def load(cls, path: str | Path) -> "ClosureEmbedding":
        """Load a folder that `save` wrote, bit for bit.

        Raises
        ------
        FileNotFoundError
            If `path` is not the folder of an embedding.
        ValueError
            If it is that of a taxonomy, or a file is missing or was changed after `save`.
        """
        return read_whole(path, lambda: cls._read(path))

    @classmethod
    def _read(cls, path: str | Path) -> "ClosureEmbedding":
        meta = storage.read_meta(path)
        storage.refuse_changed(path, meta)
        if "nodes.parquet" not in meta["files"]:
            raise ValueError(f"{path} holds a taxonomy: load it with TaxonEmbedding.load")
        points = storage.read_points(path)
        names = storage.read_table(path, "nodes")["name"]
        about = {key: meta[key] for key in meta if key not in ("format", "format_version", "files")}
        try:
            return cls(names, points["radius"], points["direction"], about)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; are the files of different embeddings?") from error
