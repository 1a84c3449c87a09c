"""`embed`, and `TaxonEmbedding`: vectors, their taxonomy and provenance; queries; files.

A point is stored in polar coordinates of hyperbolic space of curvature -1: its *radius*, the
distance from the origin, and its *direction*, a unit vector. Ball and tangent coordinates are
computed from these.
"""

import datetime
import platform
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from poincare_taxa import kernels
from poincare_taxa.evaluation.calibration import CALIBRATION_PAIRS, Calibration, calibrate
from poincare_taxa.files.atomic import read_whole
from poincare_taxa.files.extras import import_extra
from poincare_taxa.files.html import html_sheet
from poincare_taxa.files.progress import progress_display
from poincare_taxa.files.records import dtype_name, library_version
from poincare_taxa.geometry import convert, polar
from poincare_taxa.model import checks, exports, storage
from poincare_taxa.model.missing import Missing, known_rows
from poincare_taxa.model.points import Coordinates, polar_of
from poincare_taxa.processes.digests import digest
from poincare_taxa.processes.group import Processes
from poincare_taxa.search.index import SearchIndex
from poincare_taxa.taxonomy.columns import Key
from poincare_taxa.taxonomy.lookup import MAX_CELLS, Keys, check_cells, check_paired
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    import pandas as pd

    from poincare_taxa.model.migration import Migration

__all__ = ["TaxonEmbedding", "embed", "join_shards", "origin"]


Queries = Tensor | tuple[Tensor, Tensor]
"""Rows of a table (int64), or radius and direction of points."""
_DIMS = {"neighbours": 10, "distances": 10, "targets": 32}
"""Default number of coordinates for each aim."""
_TARGET_TAU = 0.1
"""Radius per level of targets."""
_PROBES = 64
"""Pairs of taxa whose distance is stored beside the vectors, to test readers with."""


def embed(
    taxonomy: Taxonomy,
    dim: int | None = None,
    *,
    tau: float | None = None,
    aim: Literal["neighbours", "distances", "targets"] = "neighbours",
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
    refine: bool | int = False,
    progress: bool | None = None,
) -> "TaxonEmbedding":
    """Compute a vector for every taxon: distance means relatedness and radius means depth.

    Parameters
    ----------
    taxonomy
        The taxonomy to embed.
    dim
        Number of coordinates of a vector, at least 2; by default 10, for targets 32.
    tau
        Radius per level, > 0; by default that of the aim. For neighbours it is 0.85 + 3 / (dim - 1)
        or what the dtype resolves (`layouts.layout`); for distances the largest that the dtype
        resolves; for targets 0.1. Where the taxonomy has branch lengths it is per unit of length,
        and that of targets 0.1 over their mean.
    aim
        What the vectors are for. "neighbours": to be compared with each other, at radii large
        enough for the largest families. "distances": all distances are as near to those of the
        tree, times τ, as the dtype holds (`layouts.distance_layout`); the points are beyond the
        radius that a view in the ball resolves, unless τ is given. "targets": to be the fixed
        targets of a network, at radii that its outputs reach (``docs/blocks/heads.md`` has figures
        of these, and of `TaxonHead`, which learns its targets and is much better).
    dtype
        Dtype of the stored vectors, ``torch.float64`` or ``torch.float32``. Few dimensions, deep
        trees and float32 limit the accuracy; ``docs/numerics.md`` has the limits.
    seed
        The same taxonomy, settings and seed give the same vectors.
    refine
        Whether to improve neighbourhoods after the layout (`layouts.refine`); a number is the
        number of passes. On 2.6 million taxa this takes a minute or two, and the layout seconds.
        The default is False because refinement increases radii: in polar coordinates this improves
        the vectors, but more taxa are clipped to the rim of a float64 *ball* view, at radius 28;
        and because the same taxonomy and seed give the vectors that they always gave.
    progress
        Whether to show how far it is: by default a bar in a terminal or a notebook after two
        seconds, else (in a log) a line now and then. True shows it from the start on. False is
        silence.

    Returns
    -------
    model
        The embedding, with its settings in ``meta``.

    Raises
    ------
    ValueError
        If `dim`, `tau`, `aim` or `dtype` is not one of those above, `refine` is negative, or
        vectors of another aim than neighbours are to be refined.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
    >>> model = embed(tax, dim=3)
    >>> model.nearest("lion", k=1)["id"].to_list()
    ['cats']
    """
    # Imported here: a saved embedding is opened, and searched, without them.
    from poincare_taxa.layouts.distances import distance_layout
    from poincare_taxa.layouts.refinement import refine as refined
    from poincare_taxa.layouts.tree import layout

    if aim not in _DIMS:
        raise ValueError(f"aim is 'neighbours', 'distances' or 'targets'; got {aim!r}")
    if aim != "neighbours" and refine:
        raise ValueError(
            f"refinement is for neighbours, and changes radii, which those of {aim} are not to "
            "have; leave refine out"
        )
    chosen = {} if aim == "neighbours" and tau is None else {"aim": aim, "tau": tau}
    dim = _DIMS[aim] if dim is None else dim
    if aim == "targets" and tau is None:
        tau = _TARGET_TAU / taxonomy.tree.mean_edge
    compute = distance_layout if aim == "distances" else layout
    with progress_display(progress, transient=True):
        points = compute(taxonomy, dim, tau=tau, dtype=dtype, seed=seed)
        if refine is True:
            points = refined(taxonomy, points, seed=seed)
        elif refine:
            points = refined(taxonomy, points, passes=refine, seed=seed)
    first_of_level = np.unique(taxonomy.tree.depth, return_index=True)[1]
    settings = {
        "method": "refined layout" if refine else "layout",
        "dim": dim,
        "dtype": dtype_name(dtype),
        "seed": seed,
        "refine": refine,
        **chosen,
    }
    if not points.info.get("lengths"):  # Else a level has no radius.
        settings["target_radius"] = points.radius[first_of_level].tolist()
    meta = {"settings": settings, "layout": dict(points.info), **origin()}
    return TaxonEmbedding(taxonomy, points.radius, points.direction, meta)


@dataclass(frozen=True, eq=False, repr=False)
class TaxonEmbedding:
    """A vector for every taxon, with the taxonomy and the provenance of both.

    A *key* is an id of the taxonomy, or a name (`Taxonomy`): ``model["9606"]``,
    ``model[9606]`` and ``model["Homo sapiens"]`` are the same vector.

    Parameters
    ----------
    taxonomy
        Row i of the vectors belongs to node i.
    radius
        Float32 or float64 [n]: hyperbolic distance from the origin, at least 0.
    direction
        Unit vectors [n, dim] of the same dtype. They are stored as given and never normalised
        again: the difference of near directions is below an ulp of their largest coordinate. Arrays
        and lists are copied into tensors.
    meta
        Settings and provenance, values that JSON can hold. They are saved as ``meta.json``.

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
        for name in ("radius", "direction"):
            if not isinstance(given := getattr(self, name), Tensor):
                object.__setattr__(self, name, torch.from_numpy(np.array(given, order="C")))
        n, r, u = len(self.taxonomy), self.radius, self.direction
        if r.ndim != 1 or u.ndim != 2 or not len(r) == len(u) == n:
            raise ValueError(
                f"{n} taxa need a radius of shape [{n}] and a direction of shape [{n}, dim]; "
                f"got {list(r.shape)} and {list(u.shape)}"
            )
        if r.dtype != u.dtype or r.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                "radius and direction must both be float32 or both float64; got "
                f"{dtype_name(r.dtype)} and {dtype_name(u.dtype)}. Convert both, for example by "
                "torch.as_tensor(x).double()"
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
        """Return the number of taxa."""
        return len(self.radius)

    def __repr__(self) -> str:
        root = self.taxonomy.names[0] or self.taxonomy.ids[0]
        return (
            f"TaxonEmbedding({len(self):,} taxa below {root!r}, dim={self.dim}, "
            f"{dtype_name(self.dtype)}, radius up to {self.radius.max():.1f})"
        )

    def _repr_html_(self) -> str:
        """Return what a notebook shows: size, space, settings."""
        kept = ("method", "seed", "refine", "epochs", "aim", "tau")
        settings = self.meta.get("settings", {})
        entries = {
            "taxa": f"{len(self):,} below {self.taxonomy.names[0] or self.taxonomy.ids[0]}",
            "space": f"hyperbolic, {self.dim} dimensions, {dtype_name(self.dtype)}",
            "radius": f"up to {self.radius.max():.1f}",
        } | {key: settings[key] for key in kept if settings.get(key) is not None}
        return html_sheet("TaxonEmbedding", entries)

    # ---------------------------------------------------------------- vectors

    def __getitem__(self, keys: Keys) -> Tensor:
        """Tangent vectors at the origin, radius times direction: [dim], or [k, dim] for many keys.

        Their Euclidean length is the radius, so unlike ball coordinates they are not concentrated
        at a rim. ``ball.expmap0(model[key] / 2)`` is the point in the ball, whose metric at the
        origin is 4. For distances use `distance`, which computes them from the stored radius and
        direction in full precision. As features of a model of yours take
        ``pt.TaxonFeatures(model)``: these coordinates hold the lower ranks in digits that a linear
        model cannot use, and that standardising or float32 removes.
        """
        rows, single = self._rows(keys)
        vectors = self.radius[rows, None] * self.direction[rows]
        return vectors[0] if single else vectors

    def __contains__(self, key: object) -> bool:
        """Whether a key leads to a taxon: an id, also a merged one, or an unambiguous name."""
        return key in self.taxonomy

    def __iter__(self) -> Iterator[Key]:
        """Ids in the order of the vectors."""
        return iter(self.taxonomy)

    def __sklearn_clone__(self) -> "TaxonEmbedding":
        """Return itself: clones of an estimator of scikit-learn share its vectors."""
        return self

    def get(self, key: Key, default: Any = None) -> Any:
        """Return ``model[key]`` where the key leads to a taxon, else a default."""
        return self[key] if key in self.taxonomy else default

    def vectors(
        self,
        keys: Keys,
        missing: Missing = "raise",
        *,
        lineages: Taxonomy | None = None,
    ) -> Tensor:
        """Tangent vectors of many taxa, some of which may be missing: [k, dim]; see ``model[key]``.

        Parameters
        ----------
        keys
            Ids or names.
        missing
            What a key that leads to no taxon gives: an error, a row of nan, no row, or the vector
            of its nearest ancestor that is here.
        lineages
            Another release of the taxonomy, in which the ancestors of missing keys are looked up,
            for "ancestor". A key without a lineage there is an error, as is every missing key
            without `lineages`.

        Raises
        ------
        TaxonomyError
            If keys are missing and `missing` is "raise", or "ancestor" and they have no ancestor
            here that is known.
        ValueError
            If `missing` is none of the four, or `lineages` are given for another one.
        """
        rows = known_rows(self.taxonomy, keys, missing, lineages)
        if missing == "drop":
            rows = rows[rows >= 0]
        vectors = self.radius[rows, None] * self.direction[rows]
        vectors[torch.from_numpy(rows < 0)] = torch.nan
        return vectors

    def tangent(self, dtype: torch.dtype | None = None) -> Tensor:
        """Tangent vectors of all taxa at the origin, [n, dim]; see ``model[key]``.

        Parameters
        ----------
        dtype
            Dtype of the result; by default the stored one.

        Warns
        -----
        UserWarning
            With the number of taxa that coincide with another one in this view, and not as stored.
        """
        return self._distinct((self.radius[:, None] * self.direction).to(dtype or self.dtype))

    def _distinct(self, view: Tensor) -> Tensor:
        """Warn of the taxa that coincide in a view [n, dim]; returns the view."""
        from poincare_taxa.layouts.refinement import count_equal

        equal = count_equal(view)
        if equal:
            equal -= count_equal(torch.column_stack((self.radius, self.direction)))
        if equal > 0:
            warnings.warn(
                f"{equal:,} of {len(self):,} taxa have the coordinates of another taxon in this "
                f"view in {dtype_name(view.dtype)}: a model cannot tell them apart. The radius and "
                "direction of the model do"
                + ("" if view.dtype == torch.float64 else ", and dtype=torch.float64 may"),
                UserWarning,
                stacklevel=3,
            )
        return view

    def ball(self, dtype: torch.dtype | None = None) -> Tensor:
        """Points of all taxa in the Poincaré ball of curvature -1, [n, dim], strictly inside.

        Parameters
        ----------
        dtype
            Dtype of the result; by default the stored one. Points beyond
            ``ball.max_radius(dtype)`` (12.2 in float32, 28.3 in float64) are projected to this
            radius, which shortens their distances.

        Warns
        -----
        UserWarning
            As `tangent`.
        """
        return self._distinct(convert.polar_to_ball(self.radius, self.direction, dtype=dtype))

    def to_frame(self, keys: Keys | None = None) -> pl.DataFrame:
        """Return a table, one row per taxon in the order of the vectors, or of `keys`.

        Columns ``id``, ``parent``, ``name``, ``taxon_rank``, ``depth``, ``radius``, ``direction``
        (an array of `dim` numbers). For pandas, see `to_pandas`.
        """
        rows = np.arange(len(self)) if keys is None else self._rows(keys)[0]
        return self.taxonomy.to_frame(keys).with_columns(
            pl.Series("depth", self.taxonomy.tree.depth[rows]),
            pl.Series("radius", self.radius[rows].numpy(force=True)),
            pl.Series("direction", self.direction[rows].numpy(force=True)),
        )

    def to_pandas(self, keys: Keys | None = None) -> "pd.DataFrame":
        """`to_frame` as a table of pandas, by id, with a column for each coordinate."""
        import pandas as pd

        frame = self.to_frame(keys)
        names = [f"direction_{i}" for i in range(self.dim)]
        flat = pd.DataFrame(frame["direction"].to_numpy(), columns=pd.Index(names))
        plain = {c: frame[c].to_list() for c in frame.columns if c != "direction"}
        return pd.concat([pd.DataFrame(plain), flat], axis=1).set_index("id")

    def prune(self, keys: Keys) -> "TaxonEmbedding":
        """Return the embedding of some taxa and their ancestors, with the same vectors.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
        >>> list(embed(tax, dim=3).prune("lion"))
        ['root', 'cats', 'lion']
        """
        rows = self.taxonomy.rows_above(keys)
        return replace(
            self,
            taxonomy=self.taxonomy.at_rows(rows),
            radius=self.radius[rows],
            direction=self.direction[rows],
        )

    def export(self, path: str | Path) -> None:
        """Write a file for another tool, whose format is the suffix; see `save` for a folder.

        | suffix | what it is |
        |---|---|
        | ``.csv``, ``.tsv``, ``.parquet`` | a table with a column for each coordinate |
        | ``.npz`` | arrays of numpy; texts are UTF-8 with zeros between |
        | ``.txt``, ``.vec`` | word2vec text, as gensim reads it: ids and tangent vectors |
        | ``.h5ad`` | `to_anndata` |
        | ``.nwk`` | the tree, as Newick |

        ``pt.load`` reads all but the last two again.

        Warns
        -----
        CosineWarning
            Of word2vec text: how many neighbours cosine similarity loses.

        Raises
        ------
        ValueError
            If the suffix is none of these, or ids with spaces do not fit word2vec text.
        OSError
            If the file cannot be written.
        """
        exports.export(self, path)

    def to_anndata(self, k: int = 15) -> Any:
        """Return an ``anndata.AnnData`` with taxa as observations, for scanpy; needs anndata.

        Tangent vectors are in ``obsm["X_poincare"]``, the graph of the k nearest taxa where scanpy
        looks for it: ``obsp["distances"]``, ``obsp["connectivities"]`` (exp(−d/σ), σ the mean
        distance of a taxon's neighbours) and ``uns["neighbors"]``. For taxa as variables, take
        ``.T``, or `annotate`.
        """
        return exports.anndata_of(self, k)

    def annotate(self, adata: Any) -> None:
        """Set ``varm["X_poincare"]`` of an AnnData whose variables are taxa: tangent vectors.

        ``adata.var_names`` are ids or names; a variable that is no taxon here gets a row of nan.
        ``var["poincare_radius"]`` is the radius.
        """
        vectors = self.vectors(list(adata.var_names), missing="nan").numpy(force=True)
        adata.varm["X_poincare"] = vectors
        adata.var["poincare_radius"] = np.linalg.norm(vectors, axis=1)

    def to_skbio(self, keys: Keys) -> Any:
        """Distances between taxa as a ``skbio.DistanceMatrix``, by ids as text; needs scikit-bio.

        For the tree, see `Taxonomy.to_skbio`.
        """
        rows = self._rows(keys)[0]
        distance = polar.cdist(*self._points(rows), *self._points(rows)).numpy(force=True)
        ids = self.taxonomy.ids.gather(pl.Series(rows)).cast(pl.String).to_list()
        return import_extra("skbio", "bio").DistanceMatrix((distance + distance.T) / 2, ids)

    def push_to_hub(self, repo_id: str, *, licence: str = "other", **options: Any) -> str:
        """Upload to the Hugging Face Hub with a model card, and return the address; needs network.

        The card has the origin of the taxonomy (format, hash, date), the settings of the vectors,
        the licence and, where ``poincare-taxa evaluate --save`` or ``model.meta["report"]`` stored
        one, the report with floors and ceilings. ``pt.load(snapshot_download(repo_id))`` loads it.

        Parameters
        ----------
        repo_id
            "user/name".
        licence
            Identifier of the licence of the taxonomy, such as "cc0-1.0".
        options
            ``token``, and those of ``huggingface_hub.create_repo``, such as ``private``.
        """
        return exports.push(self, repo_id, licence, **options)

    # ---------------------------------------------------------------- queries

    def distance(self, a: Keys, b: Keys) -> float | Tensor:
        """Hyperbolic distance between taxa.

        Parameters
        ----------
        a, b
            A key, or many. One key is paired with each of many; many keys are paired with as many.
            For all pairs, see `kernels.cdist`.

        Returns
        -------
        distance
            A float for two keys, else a float64 tensor.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        """
        rows_a, rows_b = self.taxonomy.rows(a), self.taxonomy.rows(b)
        check_paired(
            rows_a,
            rows_b,
            "pt.kernels.cdist((r[i], u[i]), (r[j], u[j]), manifold='polar') with model.radius, "
            "model.direction and i = model.taxonomy.rows(a)",
        )
        distance = polar.dist(*self._points(rows_a), *self._points(rows_b))
        return distance.item() if distance.ndim == 0 else distance

    def ancestor_score(self, a: Keys, b: Keys) -> float | Tensor:
        """Score that is about 0 where b is an ancestor of a: ``d(a, b) + r_b − r_a``.

        Else it is about twice the length of the part of the path to b that is not shared, see
        `geometry.polar.ancestor_score`. Keys, result and errors are those of `distance`.
        """
        rows_a, rows_b = self.taxonomy.rows(a), self.taxonomy.rows(b)
        check_paired(rows_a, rows_b, "a loop over the keys of b")
        score = polar.ancestor_score(*self._points(rows_a), *self._points(rows_b))
        return score.item() if score.ndim == 0 else score

    def is_a(self, a: Keys, b: Keys) -> float | Tensor:
        """Probability that b is an ancestor of a, according to the vectors.

        It is a probability and no bool: compare it with 0.5. `Taxonomy.is_ancestor` is the truth
        that the vectors were made of. The first call calibrates: of pairs drawn from the taxonomy,
        half of them ancestors and half of them descendants, siblings and cousins, the share of
        ancestors is fitted as a falling function of `ancestor_score`. So in another mixture of
        pairs, with 1 % ancestors for example, the same score deserves a lower probability. The
        draw has a fixed seed: the same model returns the same numbers.

        Parameters
        ----------
        a, b
            A key, or many; one key is paired with each of many, many keys with as many.

        Returns
        -------
        probability
            A float for two keys, else a float64 tensor. Every taxon is itself: ``is_a(a, a)`` is
            the probability at score 0.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If the taxonomy is one single taxon.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "mammal"), ("dog", "mammal"), ("tabby", "cat")])
        >>> model = embed(tax)
        >>> [p > 0.5 for p in model.is_a("tabby", ["cat", "mammal", "dog"]).tolist()]
        [True, True, False]
        """
        score = self.ancestor_score(a, b)
        probability = self._calibration(score)
        return float(probability) if isinstance(score, float) else torch.from_numpy(probability)

    @cached_property
    def _calibration(self) -> Calibration:
        from poincare_taxa.evaluation import ancestry  # scipy takes a tenth of a second

        kin = ancestry.kinship_of_tree(self.taxonomy.tree)
        pairs, kind = ancestry.balanced_pairs(kin, CALIBRATION_PAIRS, np.random.default_rng(0))
        score = polar.ancestor_score(*self._points(pairs[:, 0]), *self._points(pairs[:, 1]))
        return calibrate(score.numpy(force=True), kind == 0)

    def mean(self, keys: Keys, weights: ArrayLike | Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fréchet mean of taxa, such as those of a sample, as a point for ``nearest(point=…)``.

        Parameters
        ----------
        keys
            Ids or names.
        weights
            A weight of at least 0 for each taxon, such as its abundance: [k]. A table [s, k] of s
            samples gives s means.

        Returns
        -------
        radius, direction
            Float64, [] and [dim], or [s] and [s, dim]: the point whose weighted sum of squared
            distances to the taxa is least (`polar.mean`).

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If there is no key, or weights do not fit, are negative, or all 0 in a sample.

        Examples
        --------
        >>> ids = ["root", "cats", "dogs", "lion", "lynx"]
        >>> model = embed(Taxonomy.from_parents([-1, 0, 0, 1, 1], ids=ids), dim=3)
        >>> model.nearest(point=model.mean(["lion", "lynx"]), k=1)["id"].to_list()
        ['cats']
        """
        radius, direction = self._points(self._rows(keys)[0])
        if weights is None:
            return polar.mean(radius, direction)
        table = torch.as_tensor(weights, dtype=torch.float64, device=radius.device)
        if table.ndim not in (1, 2) or table.shape[-1] != len(radius):
            raise ValueError(
                f"weights of {len(radius)} taxa have shape [{len(radius)}], those of s samples "
                f"[s, {len(radius)}]; got {list(table.shape)}"
            )
        if table.ndim == 1:
            return polar.mean(radius, direction, table)
        # Each sample by itself: most of a table of abundances is 0.
        means = []
        for number, sample in enumerate(table):
            there = sample != 0
            try:
                means.append(polar.mean(radius[there], direction[there], sample[there]))
            except ValueError as error:
                raise ValueError(f"sample {number}: {error}") from None
        return torch.stack([r for r, _ in means]), torch.stack([u for _, u in means])

    def distance_matrix(
        self, keys: Keys, others: Keys | None = None, *, max_cells: int = MAX_CELLS
    ) -> NDArray[np.float64]:
        """Hyperbolic distance of every taxon to every other one: float64 [k, m].

        An array, for what takes ``metric="precomputed"``: neighbours and clustering of
        scikit-learn, UMAP. The nearest of *all* taxa are `neighbour_graph`, which takes k distances
        a taxon; taxa that are about equally near are counted as one level by
        `features.neighbour_weights`.

        Parameters
        ----------
        keys
            The taxa of the rows.
        others
            Those of the columns; by default the same, and then the matrix is symmetric with a
            diagonal of 0.
        max_cells
            Largest number of cells that is not an error, since memory is 8 bytes a cell.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If the matrix has more than `max_cells` cells.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
        >>> embed(tax, dim=3).distance_matrix(["lion", "dogs"], ["cats"]).shape
        (2, 1)
        """
        rows = self._rows(keys)[0]
        columns = rows if others is None else self._rows(others)[0]
        way_out = "model.neighbour_graph(k) is the sparse matrix of the k nearest"
        check_cells(len(rows), len(columns), 8, max_cells, way_out)
        found = kernels.cdist(self._points(rows), self._points(columns), manifold="polar")
        return found.numpy(force=True)

    def nearest(
        self,
        keys: Keys | None = None,
        k: int = 10,
        taxon_rank: str | None = None,
        *,
        within: Key | None = None,
        among: Keys | NDArray[np.bool_] | Tensor | None = None,
        point: Any = None,
        coordinates: Coordinates = "ball",
        processes: bool = False,
    ) -> pl.DataFrame:
        """Taxa nearest to a taxon, or to a point of one's own, by an exact search.

        Parameters
        ----------
        keys
            A key, or many; a taxon is not its own neighbour.
        k
            Number of neighbours of each taxon.
        taxon_rank
            Rank of the neighbours, such as "genus"; by default any.
        within
            Key of a taxon: neighbours are this taxon and its descendants.
        among
            Keys of the taxa that may be neighbours, or a bool for each row of the vectors. Many
            queries of one call share the index of these taxa.
        point
            Instead of keys: a point [dim], or several [q, dim], of curvature −1. Points of the
            Lorentz model have 1 + dim coordinates, as have polar ones, the radius first. A tuple of
            radius and direction, such as `mean` returns, is polar.
        coordinates
            Of `point`: "ball"; "tangent", as ``model[key]``; "polar" or "lorentz". Polar ones keep
            full precision at every radius.
        processes
            Whether the processes of ``torchrun``, or of the program's process group, share many
            keys or points. All of them make this call, and each has all neighbours.

        Returns
        -------
        neighbours
            Columns ``id``, ``name``, ``taxon_rank``, ``distance`` (hyperbolic) and
            ``tree_distance`` (edges of the taxonomy, or the branch lengths between the two where it
            has them; not for points), nearest first; for many keys
            the first column is ``query``, the id of the taxon whose neighbour the row is, and for
            many points the number of the point, from 0.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If `k` is below 1, no taxon has this rank, or none is left by `taxon_rank`, `within` and
            `among` together; if not exactly one of `keys` and `point` is given, or `point` is no
            point in these coordinates.
        TypeError
            If `keys` are no keys: floats are given as `point`.
        RuntimeError
            If processes that share the search have other vectors, or search for others.
        """
        _at_least_one(k)
        index, stretch = self._candidates(taxon_rank, within, among)
        if (keys is None) == (point is None):
            raise ValueError("give keys, or point=… with coordinates=…, and not both")
        if keys is None:
            radius, direction, single = polar_of(point, coordinates, self.dim)
            queries = np.arange(len(radius))
            asked = radius, direction
        else:
            queries, single = self._rows(keys)
            asked = torch.from_numpy(queries)
        rows = None if among is None else digest(self._mask_or_rows(among))
        alike = k, stretch, taxon_rank, rows
        together = self._together(
            processes, alike, *(asked if isinstance(asked, tuple) else (asked,))
        )

        def search(some: NDArray[np.integer]) -> dict[str, NDArray[Any]]:
            at = torch.from_numpy(some)
            part = asked[at] if isinstance(asked, Tensor) else (asked[0][at], asked[1][at])
            return dict(
                zip(("row", "distance"), _best(index, "distance", part, k, stretch), strict=True)
            )

        found, distance = together.split(np.arange(len(queries)), search).values()
        query = np.broadcast_to(queries[:, None], found.shape)
        others = np.isfinite(distance)
        query, found, distance = query[others], found[others], distance[others]
        columns = [*self._describe(found), pl.Series("distance", distance)]
        named = pl.Series("query", query)
        if keys is not None:
            columns.append(pl.Series("tree_distance", self.taxonomy.tree.distance(query, found)))
            named = self.taxonomy.ids[named].alias("query")
        return pl.DataFrame(columns if single else [named, *columns])

    def ancestors(
        self, key: Key, k: int | None = None, taxon_rank: str | None = None
    ) -> pl.DataFrame:
        """Taxa with the lowest ancestor scores: the ancestors of a taxon according to its vector.

        ``polar.ancestor_score`` is about 0 for a taxon v on the path from the origin to this taxon,
        else about twice the length of the part of the path to v that is not shared. The column
        ``is_ancestor`` marks the taxa that are ancestors in the taxonomy too
        (``model.taxonomy.ancestors``).

        Parameters
        ----------
        key
            An id or a name.
        k
            Number of taxa; by default the number of the taxon's ancestors, of this rank if one is
            given.
        taxon_rank
            Rank of the taxa, such as "family"; by default any.

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
            If `k` is below 1, or no taxon has this rank.
        """
        row = self.taxonomy.rows(key)
        if not isinstance(row, int):
            raise TypeError(f"ancestors are those of one taxon; got {len(row)} keys")
        index, stretch = self._candidates(taxon_rank, None, None)
        if k is None:
            above = self.taxonomy.tree.ancestors(row)
            ranks = self.taxonomy.taxon_ranks[pl.Series(above)]
            k = len(above) if taxon_rank is None else int((ranks == taxon_rank).sum())
        else:
            _at_least_one(k)
        found, score = _best(index, "ancestor", torch.tensor([row]), k, stretch)
        others = np.isfinite(score)
        found, score = found[others], score[others]
        inwards = np.argsort(-self.radius.numpy(force=True)[found], kind="stable")
        found, score = found[inwards], score[inwards]
        is_ancestor = pl.Series("is_ancestor", self.taxonomy.tree.is_ancestor(found, row))
        return pl.DataFrame([*self._describe(found), pl.Series("score", score), is_ancestor])

    def _rows(self, keys: Keys) -> tuple[NDArray[np.int64], bool]:
        """Rows of one or many keys, and whether it was a single key."""
        rows = self.taxonomy.rows(keys)
        return np.atleast_1d(np.asarray(rows, np.int64)), isinstance(rows, int)

    def _points(self, rows: Any) -> tuple[Tensor, Tensor]:
        """Radius and direction of rows in float64, where differences of stored values are exact."""
        return self.radius[rows].double(), self.direction[rows].double()

    def neighbour_graph(self, k: int = 10, *, processes: bool = False) -> Any:
        """Distances of the k nearest taxa of every taxon, as a sparse matrix: float64 [n, n].

        Row i has the neighbours of the i-th taxon (``model.taxonomy.ids[i]``), nearest first, as
        scikit-learn (``metric="precomputed"``), scanpy and UMAP take them. The graph is directed: a
        taxon need not be among the neighbours of its own neighbour. Memory: 12 k bytes a taxon
        besides the index of 8 (dim + 3).

        With ``processes=True``, the processes of ``torchrun`` or of the program's process group,
        all of which make this call, share the taxa; each has the whole graph.

        Raises
        ------
        ValueError
            If `k` is below 1.
        RuntimeError
            If processes that share the taxa have other vectors.
        """
        from poincare_taxa.search.graph import neighbour_graph  # scipy takes a tenth of a second

        index = self._indexes(None)
        index.build()
        return neighbour_graph(index, len(self), _at_least_one(k), self._together(processes, k))

    def _together(self, processes: bool, settings: object, *asked: Tensor) -> Processes:
        """Return the processes that share a search; RuntimeError where they do not search alike."""
        together = Processes.joined() if processes else Processes()
        if together.size > 1:
            together.require_equal(
                (digest(self.radius, self.direction, *asked), settings),
                "the processes search other vectors, or for other neighbours: all that share a "
                "search must make the same call with processes=True",
            )
        return together

    def _indexes(self, taxon_rank: str | None) -> SearchIndex:
        """Return the index of the taxa of a rank, or of all taxa; it is kept for the next search.

        It has nodes once so many searches have come that building them pays.
        """
        kept: dict[str | None, SearchIndex] = self.__dict__.setdefault("_kept", {})
        if taxon_rank not in kept:
            rows = None
            if taxon_rank is not None:
                rows = torch.from_numpy(np.flatnonzero(self.taxonomy.has_rank(taxon_rank)))
            points = self.radius.cpu(), self.direction.cpu()
            index = SearchIndex(points, manifold="polar", rows=rows, ordered=True)
            return kept.setdefault(taxon_rank, index)  # another thread may have been first
        return kept[taxon_rank]

    def _candidates(
        self,
        taxon_rank: str | None,
        within: Key | None,
        among: Keys | NDArray[np.bool_] | Tensor | None,
    ) -> tuple[SearchIndex, tuple[int, int] | None]:
        """Return the index of the taxa that three filters leave, and the rows that count of it."""
        index, stretch, tax = self._indexes(taxon_rank), None, self.taxonomy
        if within is not None:
            top = tax.rows(within)
            if not isinstance(top, int):
                raise TypeError(f"within is one taxon; got {len(top)} keys")
            stretch = top, int(tax.tree.end[top])
        if among is not None:
            rows = self._mask_or_rows(among)
            if taxon_rank is not None:
                rows = rows[tax.has_rank(taxon_rank)[rows]]
            points = self.radius.cpu(), self.direction.cpu()
            some = torch.from_numpy(rows)
            index = SearchIndex(points, manifold="polar", rows=some, ordered=True)
        if index.count(stretch) == 0:
            given = {"taxon_rank": taxon_rank, "within": within, "among": among}
            raise ValueError(
                "no taxon is left to be a neighbour by "
                f"{' and '.join(key for key, value in given.items() if value is not None)}; leave "
                "one of them out"
            )
        return index, stretch

    def _mask_or_rows(self, among: Keys | NDArray[np.bool_] | Tensor) -> NDArray[np.int64]:
        """Ascending rows of a bool for each row, or of keys."""
        mask = among.numpy(force=True) if isinstance(among, Tensor) else among
        mask = mask.to_numpy() if isinstance(mask, pl.Series) and mask.dtype == pl.Boolean else mask
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
            return np.unique(np.atleast_1d(self.taxonomy.rows(mask)))
        if mask.shape != (len(self),):
            raise ValueError(
                f"among has {list(mask.shape)} bools; it takes one for each of {len(self):,} taxa, "
                "or keys"
            )
        return np.flatnonzero(mask)

    def _describe(self, rows: NDArray[np.int64]) -> list[pl.Series]:
        """Id, name and taxon rank of rows."""
        tax, at = self.taxonomy, pl.Series(rows, dtype=pl.Int64)
        parts = {"id": tax.ids, "name": tax.names, "taxon_rank": tax.taxon_ranks}
        return [column[at].alias(name) for name, column in parts.items()]

    # ---------------------------------------------------------------- new taxa

    def place(
        self,
        taxa: Keys | None = None,
        *,
        parent: Keys | None = None,
        neighbours: Any = None,
        weights: Any = None,
        names: Any = None,
        taxon_ranks: Any = None,
        branch_lengths: Any = None,
        seed: int = 0,
    ) -> "TaxonEmbedding":
        """Return the embedding with new taxa in it; all old vectors are the same bit for bit.

        Parameters
        ----------
        taxa
            Ids of the new taxa, one or many. Where ids are numbers, what is none is a name, and
            gets an id that is not used. By default all get such ids.
        parent
            The parent of each new taxon, or of all of them. It may be one of the new taxa.
        neighbours
            Instead of the parent: taxa that the new one is near, such as the best hits of its
            sequence; a list of such lists for many new taxa. It becomes a child of the lowest taxon
            below which more than half of their weight is.
        weights
            Weights of the neighbours, at least 0, such as their similarities; by default equal.
        names, taxon_ranks, branch_lengths
            Of each new taxon, a list for many. A branch length that is not given is missing
            (`Tree.height`).
        seed
            Seed of the orientation of new families.

        Returns
        -------
        model
            A new embedding, in whose taxonomy the new taxa are the last children of their parents.
            Their vectors keep clear of those of their siblings (`layouts.placement`), at the radius
            of their level. ``meta["history"]`` records the step.

        Raises
        ------
        TaxonomyError
            If a new taxon is there already, or a parent or neighbour is not.
        ValueError
            If not exactly one of `parent` and `neighbours` is given, numbers do not fit together,
            or a radius exceeds the largest one of the dtype.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
        >>> model = embed(tax, dim=3)
        >>> larger = model.place(["foxes", "red fox"], parent=["dogs", "foxes"])
        >>> larger.taxonomy.lineage("red fox"), bool((larger["lion"] == model["lion"]).all())
        ('root; dogs; foxes; red fox', True)
        >>> model.place("lynx", neighbours=["lion"]).taxonomy.lineage("lynx")
        'root; cats; lynx'
        """
        from poincare_taxa.model.migration import with_new_taxa

        about = {"names": names, "taxon_ranks": taxon_ranks, "branch_lengths": branch_lengths}
        return with_new_taxa(self, taxa, parent, neighbours, weights, about, seed)

    def migrate(self, taxonomy: Taxonomy, *, queries: int = 200, seed: int = 0) -> "Migration":
        """Return the embedding of another release of the taxonomy, with a report of what moved.

        A taxon stays if its nearest ancestor that is in both releases is the same in both: its
        vector is then the same bit for bit. Any other taxon moves to its new parent, and all that
        is below it moves along by an isometry, so that no distance within the subtree changes. New
        taxa are placed beside their siblings, or between taxa that stay. A taxon whose id was
        merged into a new one is the same taxon; one that was merged into another is gone.

        Parameters
        ----------
        taxonomy
            The other release, with ids of the same kind and the same root.
        queries
            Number of taxa, half of them new or moved, whose 10 nearest are compared with those of a
            fresh layout at the same radius per level, for the advice. 0 measures nothing.
        seed
            Seed of orientations, of the fresh layout and of the choice of taxa.

        Returns
        -------
        migration
            ``model``, the embedding; ``changes``, a table with the distance that each taxon moved;
            and ``summary``, which `print` shows. ``model.meta["history"]`` records the step.

        Raises
        ------
        TaxonomyError
            If the releases have ids of two kinds, no taxon in common, or different roots.
        ValueError
            If a radius exceeds the largest one of the dtype.

        Examples
        --------
        >>> old = Taxonomy.from_edges([("cats", "all"), ("dogs", "all"), ("lion", "cats")])
        >>> new = Taxonomy.from_edges([("cats", "all"), ("dogs", "all"), ("lion", "dogs")])
        >>> embed(old, dim=3).migrate(new).changes.select("change", "id").rows()
        [('moved', 'lion')]
        """
        from poincare_taxa.model.migration import migrated

        return migrated(self, taxonomy, queries, seed)

    # ---------------------------------------------------------------- files

    def save(self, path: str | Path) -> None:
        """Save as a folder in one atomic step; an embedding at `path` is replaced.

        ``docs/file-format.md`` describes the files. The vectors are stored bit for bit.

        Raises
        ------
        FileExistsError
            If there is something else than an embedding at `path`.
        """
        tax = self.taxonomy
        frame = tax.to_frame()
        if tax.tree.lengths is not None:
            frame = frame.with_columns(pl.Series("branch_length", tax.tree.lengths))
        tables = {"taxonomy": frame, "synonyms": tax.synonyms, "merged": tax.merged}
        tables["deleted"] = None if tax.deleted is None else tax.deleted.alias("id").to_frame()
        about = {
            **origin(),
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
            tax.tree,
        )

    @classmethod
    def load(cls, path: str | Path, *, verify: bool = False) -> "TaxonEmbedding":
        """Load a saved embedding, bit for bit.

        Sizes, hashes, headers and shapes of the files are compared with each other.

        Parameters
        ----------
        path
            The folder.
        verify
            Whether to verify each row too, for files of an unknown origin: finite radii, unit
            directions, points inside the ball. `check` has a report of more than that.

        Raises
        ------
        FileNotFoundError
            If `path` is not the folder of an embedding.
        ValueError
            If a file is missing, was changed since it was written, or does not fit the others, or
            if `path` is the folder of a `ClosureEmbedding`.
        """
        model = read_whole(path, lambda: cls._read(path, verify))
        if verify and (fault := checks.first_fault(model.radius, model.direction)):
            row, problem = fault
            raise ValueError(
                f"{path}: row {row} (id {model.taxonomy.ids[row]}) {problem}; the vectors were "
                "damaged before they were saved: compute them again"
            )
        return model

    @classmethod
    def _read(cls, path: str | Path, verify: bool) -> "TaxonEmbedding":
        meta = storage.read_meta(path)
        if "shards" in meta:
            joined = join_shards(Path(path), meta["shards"], verify=verify)
            about = {key: value for key, value in meta.items() if key not in _WRITTEN_BY_SAVE}
            return replace(joined, meta=about)
        storage.refuse_dag(path, meta)
        storage.refuse_changed(path, meta, verify=verify)
        points = storage.read_points(path)
        tables = storage.read_tables(path, meta)
        taxonomy = storage.taxonomy_of(path, tables, meta, verify=verify)
        about = {key: value for key, value in meta.items() if key not in _WRITTEN_BY_SAVE}
        found = {"num_taxa": len(taxonomy), "dim": points["direction"].shape[1]}
        try:
            for key, value in found.items():
                if meta.get(key, value) != value:
                    raise ValueError(f"meta.json has {key} {meta[key]!r}, the files {value}")
            return cls(taxonomy, points["radius"], points["direction"], about)
        except ValueError as error:
            raise ValueError(f"{path}: {error}; are the files of different embeddings?") from error

    def _probe(self) -> dict[str, Any]:
        """Distances of some pairs of taxa, with which other readers can test their computation."""
        generator = np.random.default_rng(0)
        a, b = generator.integers(len(self), size=(2, _PROBES))
        ids, distance = self.taxonomy.ids, polar.dist(*self._points(a), *self._points(b))
        return {
            "a": ids.gather(pl.Series(a)).to_list(),
            "b": ids.gather(pl.Series(b)).to_list(),
            "distance": distance.tolist(),
        }


_WRITTEN_BY_SAVE = frozenset(
    ["format", "format_version", "num_taxa", "dim", "dtype", "source", "probe", "files", "shards"]
)


def join_shards(
    path: Path, shards: Sequence[Mapping[str, Any]], *, verify: bool = False
) -> TaxonEmbedding:
    """Load consecutive shards of a folder as one embedding: their rows, and ancestors of these.

    Parameters
    ----------
    path
        The folder.
    shards
        Some of the entries ``shards`` of its ``meta.json``.
    verify
        As for `TaxonEmbedding.load`.

    Raises
    ------
    ValueError
        If a shard is missing, damaged, or not that which was written.
    """
    parts: list[TaxonEmbedding] = []
    for shard in shards:
        part = TaxonEmbedding.load(storage.shard_folder(path, shard), verify=verify)
        if len(part) != len(shard["above"]) + shard["stop"] - shard["start"]:
            raise ValueError(f"{path}: {shard['folder']} has {len(part):,} taxa, others were saved")
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    # Ancestors of the first row of a shard are in the shards before it too.
    skip = [0, *(len(shard["above"]) for shard in shards[1:])]
    frames = [
        part.taxonomy.to_frame()[first:].with_columns(pl.col("taxon_rank").cast(pl.String))
        for part, first in zip(parts, skip, strict=True)
    ]
    radius, direction = (
        torch.cat([getattr(part, name)[first:] for part, first in zip(parts, skip, strict=True)])
        for name in ("radius", "direction")
    )
    try:
        taxonomy = Taxonomy.from_frame(pl.concat(frames), source=parts[0].taxonomy.source)
    except (ValueError, pl.exceptions.PolarsError) as error:
        raise ValueError(f"{path}: shards do not fit together ({error})") from error
    return TaxonEmbedding(taxonomy, radius, direction, parts[0].meta)


def _best(
    index: SearchIndex, by: kernels.By, queries: Queries, k: int, stretch: tuple[int, int] | None
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Rows and scores, [q, k], of the k taxa with the lowest scores for each query.

    Queries are points, or rows, which are no candidates themselves; places without a candidate
    have the score inf.
    """
    found = index.nearest(queries, max(1, min(k, index.count(stretch))), by=by, within=stretch)
    return found.row[:, :k].numpy(), found.distance[:, :k].numpy()


def _at_least_one(k: int) -> int:
    """Return k, or raise ValueError if it is below 1."""
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    return k


def origin() -> dict[str, Any]:
    """Time of creation, and versions of this library and of those it computes with."""
    return {
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "library_version": library_version(),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "polars": pl.__version__,
            "processor": storage.processor(),
        },
    }
