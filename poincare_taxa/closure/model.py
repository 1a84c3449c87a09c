"""`ClosureEmbedding`: the points of a DAG with its nodes and pairs, to query and to save.

It is for a DAG what `TaxonEmbedding` is for a tree. Points are polar coordinates and leaves have
radius 160, which the ball cannot hold.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.evaluation import ancestry
from poincare_taxa.evaluation.calibration import CALIBRATION_PAIRS, Calibration, calibrate
from poincare_taxa.files.atomic import read_whole
from poincare_taxa.files.parquet import faults_of_polars
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import polar
from poincare_taxa.model import storage
from poincare_taxa.taxonomy.columns import Key
from poincare_taxa.taxonomy.lookup import Keys, Lookup, check_paired
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

__all__ = ["ClosureEmbedding", "link_score"]


def link_score(points: tuple[Tensor, Tensor], ancestor: Tensor, descendant: Tensor) -> Tensor:
    """d(ancestor, descendant) − d(origin, descendant): below 0 in the ancestor's cap; float64.

    Caps are those of `closure.layout`. For one descendant the order of ancestors is that of their
    distances; the difference compares pairs of different descendants too.

    Parameters
    ----------
    points
        Radius [n] and direction [n, dim].
    ancestor, descendant
        Rows that broadcast with each other.
    """
    (r, u), (a, v) = points, torch.broadcast_tensors(ancestor, descendant)
    below = r[v].double()
    return polar.dist(r[a].double(), u[a].double(), below, u[v].double()) - below


@dataclass(frozen=True, eq=False, repr=False)
class ClosureEmbedding:
    """A point for every node of a DAG.

    A *key* is a name, or a label that one node has: ``model["GO:0006915"]`` and
    ``model["apoptotic process"]`` are the same vector.

    Parameters
    ----------
    names
        Names of the nodes [n], each name once.
    radius, direction
        Points in polar coordinates, [n] and [n, dim].
    meta
        Settings and provenance, in types that JSON can hold.
    pairs
        The DAG, if it is kept: its pairs and labels.

    Raises
    ------
    ValueError
        If there are not as many points as names, or two nodes have one name.

    Examples
    --------
    >>> from poincare_taxa.closure.layout import closure_layout
    >>> pairs = ClosurePairs.from_edges([("dog", "animal"), ("pug", "dog"), ("cat", "animal")])
    >>> model = ClosureEmbedding(pairs.names, *closure_layout(pairs, 2)[:2], pairs=pairs)
    >>> model.ancestors("pug")["name"].to_list()
    ['dog', 'animal']
    >>> "wolf" in model
    False
    """

    names: pl.Series
    radius: Tensor
    direction: Tensor
    meta: dict[str, Any] = field(default_factory=dict)
    pairs: ClosurePairs | None = None

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
        if self.pairs is not None and self.pairs.num_nodes != n:
            raise ValueError(f"{n} names for pairs of {self.pairs.num_nodes} nodes")

    # ---------------------------------------------------------------- what it is

    @property
    def dim(self) -> int:
        """Number of coordinates of a direction."""
        return self.direction.shape[1]

    @property
    def labels(self) -> pl.Series | None:
        """Texts for readers [n], where the pairs have them."""
        return None if self.pairs is None else self.pairs.labels

    def __len__(self) -> int:
        """Return the number of nodes."""
        return len(self.names)

    def __repr__(self) -> str:
        pairs = "" if self.pairs is None else f"{len(self.pairs):,} pairs, "
        return (
            f"ClosureEmbedding({len(self):,} nodes, {pairs}dim={self.dim}, "
            f"{dtype_name(self.direction.dtype)})"
        )

    def __getitem__(self, keys: Keys) -> Tensor:
        """Tangent vectors at the origin, radius times direction: [dim], or [k, dim] for many."""
        rows = self.rows(keys)
        radius = self.radius[rows]
        return (radius if radius.ndim == 0 else radius[:, None]) * self.direction[rows]

    def __contains__(self, key: object) -> bool:
        """Whether a key leads to a node."""
        try:
            return bool(self._lookup.resolve(key).row.min() >= 0)
        except TypeError:
            return False

    def __iter__(self) -> Iterator[Key]:
        """Names in the order of the points."""
        return iter(self.names)

    def get(self, key: Key, default: Any = None) -> Any:
        """Return ``model[key]`` where the key leads to a node, else a default."""
        return self[key] if key in self else default  # noqa: SIM401

    def rows(self, names: Any) -> Any:
        """Rows of nodes: an int for one key, int64 [k] for many.

        Raises
        ------
        TaxonomyError
            If there is no such node, with names that resemble it, or several have the label.
        """
        found = self._lookup.resolve(names)
        if (found.row < 0).any():
            i = int(np.argmin(found.row))
            key = str(found.keys.values[i])
            if found.status[i] == "homonym":
                rows = self._lookup._named(key)
                same = self.names.gather(pl.Series(rows[:5])).to_list()
                raise TaxonomyError(f"{len(rows)} nodes have the label {key!r}: {same}; give one")
            raise TaxonomyError(
                f"no node has the name {found.keys.shown(i)}; there are {len(self):,}, such as "
                f"{self.names[0]!r}{self._suggestions(key)}"
            )
        return int(found.row[0]) if found.keys.single else found.row

    def _suggestions(self, key: str) -> str:
        found = self._lookup.suggestions(key)
        return found if "did you mean" in found else ""

    @cached_property
    def _lookup(self) -> Lookup:
        """Search by name, then by label."""
        texts = self.names.cast(pl.String)
        synonyms = pl.DataFrame({"node": np.arange(len(self)), "name": texts})
        labels = texts if self.labels is None else self.labels
        return Lookup(self.names, labels, synonyms, None, None)

    def to_frame(self, keys: Keys | None = None) -> pl.DataFrame:
        """Return a table, one row per node in the order of the points, or of `keys`.

        Columns ``name``, ``label`` where there are labels, ``radius`` and ``direction`` (an array
        of `dim` numbers).
        """
        rows = np.arange(len(self)) if keys is None else np.atleast_1d(self.rows(keys))
        return pl.DataFrame(
            [
                *self._describe(rows),
                pl.Series("radius", self.radius[rows].numpy(force=True)),
                pl.Series("direction", self.direction[rows].numpy(force=True)),
            ]
        )

    def _describe(self, rows: NDArray[np.int64]) -> list[pl.Series]:
        at = pl.Series(rows, dtype=pl.Int64)
        columns = {"name": self.names, "label": self.labels}
        return [c.gather(at).alias(name) for name, c in columns.items() if c is not None]

    # ---------------------------------------------------------------- queries

    def distance(self, a: Keys, b: Keys) -> float | Tensor:
        """Hyperbolic distance of nodes: a float for two keys, a tensor for one and many or many."""
        i, j = self.rows(a), self.rows(b)
        check_paired(i, j, "pt.kernels.cdist of model.radius and model.direction")
        r, u = self.radius.double(), self.direction.double()
        found = polar.dist(r[i], u[i], r[j], u[j])
        return found.item() if found.ndim == 0 else found

    def ancestor_score(self, a: Keys, b: Keys) -> float | Tensor:
        """`link_score` of b as an ancestor of a: below 0 where a is in the cap of b.

        Keys and result are those of `distance`.
        """
        i, j = self.rows(a), self.rows(b)
        check_paired(i, j, "link_score of rows that broadcast")
        score = self._score(i, j)
        return score.item() if score.ndim == 0 else score

    def _score(self, i: Any, j: Any) -> Tensor:
        return link_score((self.radius, self.direction), torch.as_tensor(j), torch.as_tensor(i))

    def is_ancestor(self, a: Keys, v: Keys) -> Any:
        """Whether node a is v or an ancestor of v in the pairs: bool, or [k] for many keys.

        Raises
        ------
        TaxonomyError
            If there is no such node.
        ValueError
            If the model has no pairs.
        """
        i, j = self.rows(a), self.rows(v)
        check_paired(i, j, "rows that broadcast")
        if self.pairs is None:
            raise ValueError("the model has no pairs; give them: ClosureEmbedding(…, pairs=pairs)")
        found = self._listed(np.asarray(i), np.asarray(j)) | np.equal(i, j)
        return bool(found) if found.ndim == 0 else found

    def is_a(self, a: Keys, b: Keys) -> float | Tensor:
        """Probability that b is an ancestor of a, or a itself, according to the points.

        As `TaxonEmbedding.is_a`: calibrated by the first call on pairs of the closure of
        ``model.pairs``, half of them ancestors.

        Raises
        ------
        TaxonomyError
            If there is no such node, or the pairs have a cycle.
        ValueError
            If the model has no pairs.
        """
        score = self.ancestor_score(a, b)
        probability = self._calibration(score)
        return float(probability) if isinstance(score, float) else torch.from_numpy(probability)

    @cached_property
    def _calibration(self) -> Calibration:
        if self.pairs is None:
            raise ValueError(
                "the model has no pairs to calibrate probabilities by: give them as "
                "ClosureEmbedding(…, pairs=pairs); model.ancestor_score needs none"
            )
        self.pairs.require_acyclic()
        # Weights have no part in which pairs follow from others.
        pairs = ClosurePairs(self.pairs.pairs.cpu(), num_nodes=len(self)).closed()
        kin = ancestry.kinship_of_closure(pairs.matrix)
        drawn, kind = ancestry.balanced_pairs(kin, CALIBRATION_PAIRS, np.random.default_rng(0))
        return calibrate(self._score(drawn[:, 0], drawn[:, 1]).numpy(force=True), kind == 0)

    def nearest(self, keys: Keys, k: int = 10) -> pl.DataFrame:
        """Nodes nearest to a node, nearest first; these are its ancestors if the ranking is right.

        Returns
        -------
        neighbours
            Columns ``name``, ``label`` where there are labels, ``distance`` and, where the pairs
            are kept, ``is_ancestor``; `k` rows a node, or fewer if there are fewer other nodes. For
            many keys the first column is ``query``, the name of the node.

        Raises
        ------
        TaxonomyError
            If there is no such node.
        ValueError
            If `k` is below 1.
        """
        _at_least_one(k)
        rows = self.rows(keys)
        query = np.atleast_1d(rows)
        k = min(k, len(self) - 1)
        found, distance = np.empty((len(query), 0), np.int64), np.empty((len(query), 0))
        if k > 0:
            points, at = (self.radius, self.direction), torch.from_numpy(query)
            nearest = kernels.nearest(
                points, (self.radius[at], self.direction[at]), k, manifold="polar", skip=at
            )
            found, distance = nearest.row.numpy(force=True), nearest.distance.numpy(force=True)
        query = np.repeat(query, k)
        table = pl.DataFrame(
            [*self._describe(found.ravel()), pl.Series("distance", distance.ravel())]
        )
        table = self._compared(table, found.ravel(), query, "is_ancestor")
        if isinstance(rows, int):
            return table
        return table.insert_column(0, self.names.gather(pl.Series(query)).alias("query"))

    def ancestors(self, key: Key, k: int | None = None) -> pl.DataFrame:
        """Nodes with the lowest `link_score` above a node: its ancestors according to its point.

        Parameters
        ----------
        key
            A name or label.
        k
            Number of nodes; by default the number of ancestors in the pairs.

        Returns
        -------
        ancestors
            Columns ``name``, ``label`` where there are labels, ``score`` (below 0: in the cap of
            that node) and, where the pairs are kept, ``is_ancestor``; from the outermost to the
            root.

        Raises
        ------
        TaxonomyError
            If there is no such node.
        ValueError
            If `k` is below 1, or it is left out and the model has no pairs.
        """
        return self._related(key, k, up=True)

    def descendants(self, key: Key, k: int | None = None) -> pl.DataFrame:
        """Nodes with the lowest `link_score` below a node, as `ancestors`; lowest first."""
        return self._related(key, k, up=False)

    def _related(self, key: Key, k: int | None, *, up: bool) -> pl.DataFrame:
        row = self.rows(key)
        if not isinstance(row, int):
            raise TypeError(f"relatives are those of one node; got {len(row)} keys")
        if k is None:
            if self.pairs is None:
                raise ValueError("the model has no pairs that count the relatives: give k")
            k = int((self.pairs.pairs[:, int(up)] == row).sum())
        else:
            _at_least_one(k)
        others = torch.arange(len(self))
        others = others[others != row]
        here = torch.tensor(row)
        ends = (others, here) if up else (here, others)
        score = link_score((self.radius.cpu(), self.direction.cpu()), *ends)
        order = torch.sort(score, stable=True).indices[:k]
        found, score = others[order], score[order]
        if up:
            inwards = torch.argsort(-self.radius.cpu()[found], stable=True)
            found, score = found[inwards], score[inwards]
        rows = found.numpy()
        table = pl.DataFrame([*self._describe(rows), pl.Series("score", score.numpy())])
        at = np.full(len(rows), row)
        ends = (rows, at) if up else (at, rows)
        return self._compared(table, *ends, "is_ancestor" if up else "is_descendant")

    def _compared(
        self, table: pl.DataFrame, ancestor: NDArray[Any], descendant: NDArray[Any], name: str
    ) -> pl.DataFrame:
        """Add a column: whether the pair (ancestor, descendant) of each row is one of the DAG."""
        if self.pairs is None:
            return table
        return table.with_columns(pl.Series(name, self._listed(ancestor, descendant)))

    def _listed(self, ancestor: NDArray[Any], descendant: NDArray[Any]) -> NDArray[np.bool_]:
        return np.isin(descendant * len(self) + ancestor, self._pair_keys)

    @cached_property
    def _pair_keys(self) -> NDArray[np.int64]:
        assert self.pairs is not None
        ancestor, descendant = self.pairs.pairs.cpu().numpy().T
        return np.sort(descendant * len(self) + ancestor)

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> None:
        """Save points, bit for bit, names and pairs as a folder, either completely or not at all.

        Raises
        ------
        FileExistsError
            If `path` exists and is no embedding.
        """
        tables = {"nodes": pl.DataFrame(self._describe(np.arange(len(self))))}
        if self.pairs is not None:
            ends = self.pairs.pairs.cpu().numpy().astype(np.uint32).T
            tables["pairs"] = pl.DataFrame(dict(zip(("ancestor", "descendant"), ends, strict=True)))
        points = {"radius": self.radius, "direction": self.direction}
        about = {
            **self.meta,
            "num_nodes": len(self),
            "dim": self.dim,
            "dtype": dtype_name(self.direction.dtype),
        }
        storage.write_folder(path, points, tables, about)

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
        nodes = storage.read_table(path, "nodes")
        about = {key: meta[key] for key in meta if key not in _WRITTEN_BY_SAVE}
        try:
            names, pairs = nodes["name"], None
            if "pairs.parquet" in meta["files"]:
                table = storage.read_table(path, "pairs").select("ancestor", "descendant")
                labels = nodes["label"] if "label" in nodes.columns else None
                with faults_of_polars("pairs.parquet has values that are no rows"):
                    ends = table.cast(pl.Int64).to_numpy()
                pairs = ClosurePairs(torch.from_numpy(ends.copy()), names=names, labels=labels)
            return cls(names, points["radius"], points["direction"], about, pairs)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; are the files of different embeddings?") from error


_WRITTEN_BY_SAVE = frozenset(["format", "format_version", "num_nodes", "dim", "dtype", "files"])


def _at_least_one(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
