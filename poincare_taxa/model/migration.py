"""Embeddings of a taxonomy that changes: new taxa are placed, and releases followed."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.files.records import library_version
from poincare_taxa.geometry import polar
from poincare_taxa.taxonomy.columns import Key
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.releases import rows_before
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError
from poincare_taxa.taxonomy.tree import Tree

if TYPE_CHECKING:
    from poincare_taxa.layouts.placement import Placement
    from poincare_taxa.model.model import TaxonEmbedding

__all__ = ["Migration", "common_parents", "migrated", "with_new_taxa"]

Rows = NDArray[np.integer]

_STATES = ("kept", "carried", "moved", "inserted", "placed")
"""Names of the states of `layouts.placement`, in the order of their numbers."""

_CHANGES = ("moved", "carried", "placed", "inserted", "removed")

_CLEARLY = 0.02
"""Difference of precision above which a fresh embedding is advised."""


@dataclass(frozen=True, repr=False)
class Migration:
    """An embedding of a new release, and what became of the vectors of the old one.

    `print` shows the summary.

    Attributes
    ----------
    model : TaxonEmbedding
        The vectors of the new release.
    changes : pl.DataFrame
        One row for each taxon that has not its old vector bit for bit. ``change`` is an Enum:

        ========  =============================================================================
        moved     the top of a subtree that moved as a whole, to another parent
        carried   below such a top, ``top``: all distances within the subtree are as they were
        placed    new, beside its siblings
        inserted  new, between taxa that did not move
        removed   no longer there; its vector is gone
        ========  =============================================================================

        ``id``, ``name``, ``taxon_rank`` describe the taxon, ``distance`` is the hyperbolic distance
        from its old vector to its new one.
    summary : dict
        Numbers of taxa by change, and ``kept``; ``unresolved``, how many of them share a sibling's
        direction; ``median distance`` and ``largest distance`` of those that moved; if it was
        measured, ``precision@10`` of a sample, and what it is ``afresh``; and ``advice``.
    """

    model: "TaxonEmbedding"
    changes: pl.DataFrame
    summary: dict[str, Any]

    def __repr__(self) -> str:
        lines = [repr(self.model)]
        lines += [
            f"{key:18} {value:,}" if isinstance(value, int) else f"{key:18} {value:.4g}"
            for key, value in self.summary.items()
            if not isinstance(value, str)
        ]
        return "\n".join([*lines, self.summary["advice"]])


def migrated(
    model: "TaxonEmbedding", new: Taxonomy, queries: int = 200, seed: int = 0
) -> Migration:
    """Return an embedding of another release; see `TaxonEmbedding.migrate`."""
    old = model.taxonomy
    source = rows_before(new, old)
    found, tau = _placed(model, new, source, seed)
    state = found.state
    count = dict(zip(_STATES, np.bincount(state, minlength=len(_STATES)).tolist(), strict=True))
    changes = _changes(model, new, source, found)
    far = changes["distance"].drop_nulls()
    summary: dict[str, Any] = {
        "kept": count["kept"],
        **{key: count.get(key, 0) for key in _CHANGES[:-1]},
        "removed": int(changes["change"].eq("removed").sum()),
        "unresolved": found.unresolved,
        "median distance": float(far.median() or 0.0),  # type: ignore[arg-type]
        "largest distance": float(far.max() or 0.0),  # type: ignore[arg-type]
    }
    summary |= _advice(model, new, found, tau, queries, seed)
    result = _successor(model, new, found, {"step": "migrate", **summary})
    return Migration(result, changes, summary)


def with_new_taxa(
    model: "TaxonEmbedding",
    taxa: Keys | None,
    parent: Keys | None,
    neighbours: Any,
    weights: Any,
    about: dict[str, Any],
    seed: int,
) -> "TaxonEmbedding":
    """Return an embedding with new taxa; see `TaxonEmbedding.place`. `about` has their columns."""
    if (parent is None) == (neighbours is None):
        raise ValueError("give either the parent of each new taxon, or its neighbours")
    if weights is not None and neighbours is None:
        raise ValueError("weights are those of neighbours; a parent has none")
    # 1. One parent or list of neighbours for each new taxon.
    given: list[Any] | None = None if taxa is None else _as_list(taxa)
    if neighbours is not None:
        lists, weights = _neighbours(neighbours, weights, many=_is_many(taxa))
        wanted: list[Any] = lists
    else:
        wanted = _as_list(parent)
        if len(wanted) == 1 and given is not None:
            wanted *= len(given)
    if given is not None and len(given) != len(wanted):
        what = "parents" if neighbours is None else "lists of neighbours"
        raise ValueError(f"{len(given)} new taxa have {len(wanted)} {what}; give one for each")
    # 2. Their ids, and the places of their parents: rows, and after those the new taxa.
    tax = model.taxonomy
    ids, names = _new_ids(tax, given, len(wanted))
    if neighbours is not None:
        above = common_parents(tax, wanted, weights)
    else:
        place = {str(key): len(tax) + i for column in (names, ids) for i, key in enumerate(column)}
        known = [key for key in wanted if str(key) not in place]
        at = tax.rows(known[0] if len(known) == 1 else known) if known else []
        rows = iter(np.atleast_1d(at).tolist())
        found = [place[key] if (key := str(k)) in place else next(rows) for k in wanted]
        above = np.array(found, np.int64)
    new = _extended(tax, ids, names, above, about)
    # 3. Points: all taxa of the model stay where they are.
    points, _ = _placed(model, new, rows_before(new, tax), seed)
    return _successor(model, new, points, {"step": "place", "placed": len(ids)})


def common_parents(tax: Taxonomy, neighbours: list[Any], weights: list[Any] | None) -> Rows:
    """Return a row for each list of neighbours: the parent of a taxon that is near them.

    It is the lowest taxon below which more than half of the weight of the neighbours is: the one
    with the least weighted sum of tree distances to their parents.

    Parameters
    ----------
    tax
        The taxonomy.
    neighbours
        Keys of k neighbours of each new taxon, k may differ.
    weights
        As many weights, at least 0; by default all are equal.

    Raises
    ------
    ValueError
        If a taxon has no neighbours, or weights that do not fit, are negative, or all 0.
    """
    size = np.array([len(some) for some in neighbours], np.int64)
    if (size == 0).any():
        raise ValueError(f"new taxon {int(size.argmin())} has no neighbours; give its parent")
    rows = np.atleast_1d(tax.rows([key for some in neighbours for key in some]))
    owner = np.repeat(np.arange(len(size)), size)
    weight = np.ones(len(rows))
    if weights is not None:
        theirs = [np.asarray(some, np.float64).ravel() for some in weights]
        fits = [len(some) for some in theirs] == size.tolist()
        if not fits or any(not (w >= 0).all() or not 0 < w.sum() < np.inf for w in theirs):
            raise ValueError(
                "weights are numbers of at least 0, not all 0, one for each neighbour of each taxon"
            )
        weight = np.concatenate(theirs)
    # 1. Weight below each taxon: a neighbour counts for its parent and all taxa above that.
    above = tax.tree.lineages(np.maximum(tax.tree.parent[rows], 0))
    place, step = np.nonzero(above >= 0)
    pair = owner[place] * len(tax) + above[place, step]
    pairs, at = np.unique(pair, return_inverse=True)
    below = np.bincount(at, weight[place])
    # 2. The lowest one with the most of it. The root has all of it.
    of, row = pairs // len(tax), pairs % len(tax)
    total = np.bincount(owner, weight)
    most = below > total[of] / 2 * (1 + 1e-12)
    of, row = of[most], row[most]
    lowest = np.lexsort((tax.tree.depth[row], of))
    return row[lowest][np.flatnonzero(np.diff(of[lowest], append=len(size)))]


# -------------------------------------------------------------------- what is given


def _is_many(keys: Any) -> bool:
    return isinstance(keys, Iterable) and not isinstance(keys, str)


def _as_list(keys: Any) -> list[Any]:
    if not _is_many(keys):
        return [keys]
    return keys.tolist() if hasattr(keys, "tolist") else list(keys)


def _neighbours(neighbours: Any, weights: Any, many: bool) -> tuple[list[Any], list[Any] | None]:
    """Return a list of neighbours, and of weights, for each new taxon."""
    lists = _as_list(neighbours)
    nested = many or any(_is_many(some) for some in lists)
    if not nested:
        return [lists], None if weights is None else [_as_list(weights)]
    found = [_as_list(some) for some in lists]
    if weights is None:
        return found, None
    if len(weights) != len(found):
        raise ValueError(f"{len(found)} lists of neighbours have {len(weights)} lists of weights")
    return found, [_as_list(some) for some in weights]


def _new_ids(tax: Taxonomy, given: list[Any] | None, k: int) -> tuple[list[Key], list[str | None]]:
    """Ids and names of new taxa: what is no id of the taxonomy's kind is a name."""
    numbers = tax.ids.dtype.is_integer()
    if given is not None:
        found = tax.resolve(given)
        if len(taken := found.filter(pl.col("status") != "unknown")):
            key, status = taken["key"][0], taken["status"][0]
            raise TaxonomyError(
                f"{key} is {'in the taxonomy already' if status == 'active' else status}; new taxa "
                "need new ids or names"
            )
        texts = found["key"].to_list()
        if len(set(texts)) != len(texts):
            raise TaxonomyError("a new taxon is given twice")
        if not numbers:
            return texts, [None] * k
        as_ids = [int(text) if text.lstrip("-").isdigit() else None for text in texts]
    else:
        as_ids = [None] * k
    columns = [tax.ids, tax.deleted, None if tax.merged is None else tax.merged["old_id"]]
    if not numbers:
        first = 1
        while any(f"new {i}" in tax for i in range(first, first + k)):
            first += k
        return [f"new {i}" for i in range(first, first + k)], [None] * k
    used = [int(c.max() or 0) for c in columns if c is not None]  # type: ignore[arg-type]
    unused = iter(range(max([0, *used, *(i for i in as_ids if i is not None)]) + 1, 2**62))
    names = [
        None if given is None or i is not None else str(given[at]) for at, i in enumerate(as_ids)
    ]
    return [next(unused) if i is None else i for i in as_ids], names


def _extended(
    tax: Taxonomy, ids: list[Key], names: list[str | None], above: Rows, about: dict[str, Any]
) -> Taxonomy:
    """Return a taxonomy with further taxa, below rows or below each other."""
    k = len(ids)
    given: dict[str, list[Any]] = {}
    for what, values in about.items():
        given[what] = [None] * k if values is None else _as_list(values)
        if len(given[what]) != k:
            raise ValueError(f"{k} new taxa have {len(given[what])} {what}; give one for each")
    names = [own or name for own, name in zip(given["names"], names, strict=True)]
    lengths = tax.tree.lengths
    if lengths is not None:
        theirs = [np.nan if value is None else float(value) for value in given["branch_lengths"]]
        lengths = np.concatenate([lengths, theirs])
    elif about["branch_lengths"] is not None:
        raise ValueError("the taxonomy has no branch lengths, so new taxa have none")
    ranks = pl.Series(given["taxon_ranks"], dtype=pl.String)
    return Taxonomy.from_parents(
        np.concatenate([tax.tree.parent, above]),
        ids=pl.concat([tax.ids, pl.Series(ids, dtype=tax.ids.dtype)]),
        names=pl.concat([tax.names, pl.Series(names, dtype=pl.String)]),
        taxon_ranks=pl.concat([tax.taxon_ranks.cast(pl.String), ranks]),
        branch_lengths=lengths,
        synonyms=tax.synonyms,
        merged=tax.merged,
        deleted=tax.deleted,
        source={**tax.source, "placed": tax.source.get("placed", 0) + k},
    )


# -------------------------------------------------------------------- points


def _placed(
    model: "TaxonEmbedding", new: Taxonomy, source: Rows, seed: int
) -> tuple["Placement", float]:
    """Points of the taxa of another release, and the radius of a level."""
    from poincare_taxa.layouts.placement import place

    old, tree = _measured(model, model.taxonomy), _measured(model, new)
    made = model.meta.get("layout", {})
    tau = _radius_per_edge(old, model.radius, made.get("tau"))
    found = place(
        tree,
        old,
        source,
        (model.radius, model.direction),
        tau,
        layered="passes" in made,
        seed=seed,
    )
    return found, tau


def _measured(model: "TaxonEmbedding", taxonomy: Taxonomy) -> Tree:
    """Return the tree by whose distances the model was made: with branch lengths, or without."""
    made = model.meta.get("layout")
    by_edges = model.taxonomy.tree.lengths is None or (made and not made.get("lengths"))
    if not by_edges and taxonomy.tree.lengths is None:
        raise TaxonomyError(
            "the embedding follows branch lengths, and the new release has none: read it with "
            "lengths, or embed it afresh"
        )
    return taxonomy.tree.topology if by_edges else taxonomy.tree


def _radius_per_edge(tree: Tree, radius: Tensor, recorded: Any) -> float:
    """τ as it is recorded, if most radii are τ times the height; else by least squares."""
    height = torch.tensor(tree.height, dtype=torch.float64)
    if isinstance(recorded, float) and recorded > 0:
        off = (radius.double() - recorded * height).abs()
        if bool((off <= 1e-5 * (1 + radius.double())).double().mean() > 0.5):
            return recorded
    fitted = float(radius.double() @ height / (height @ height).clamp(min=1e-300))
    return fitted if fitted > 0 else 1.0


def _successor(
    model: "TaxonEmbedding", new: Taxonomy, found: "Placement", step: dict[str, Any]
) -> "TaxonEmbedding":
    """Return the embedding of placed points; its provenance continues that of the model."""
    meta = {key: value for key, value in model.meta.items() if key != "report"}
    settings = dict(meta.get("settings", {}))
    settings.pop("target_radius", None)
    before = {
        "created": meta.get("created"),
        "library_version": meta.get("library_version"),
        "method": settings.get("method"),
        "num_taxa": len(model),
        "tree": model.taxonomy.tree.fingerprint,
        "source": model.taxonomy.source,
    }
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    meta["history"] = [*meta.get("history", []), {**step, "from": before, "created": now}]
    meta |= {"created": now, "library_version": library_version()}
    meta["settings"] = {**settings, "method": "migrated"}
    device = model.radius.device
    radius, direction = found.radius.to(device), found.direction.to(device)
    return replace(model, taxonomy=new, radius=radius, direction=direction, meta=meta)


# -------------------------------------------------------------------- the report


def _changes(
    model: "TaxonEmbedding", new: Taxonomy, source: Rows, found: "Placement"
) -> pl.DataFrame:
    """Table of the taxa that have not their old vectors, by kind and then by row."""
    old, names = model.taxonomy, np.array(_STATES)[found.state]
    top = found.top
    gone = np.ones(len(old), np.bool_)
    gone[source[source >= 0]] = False
    parts = []
    for change in _CHANGES:
        tax, rows = (old, np.flatnonzero(gone)) if change == "removed" else (
            new, np.flatnonzero(names == change)
        )  # fmt: skip
        at = pl.Series(rows)
        moves = change in ("moved", "carried")
        distance = pl.Series([None], dtype=pl.Float64).new_from_index(0, len(rows))
        if moves:
            before = (part[source[rows]].cpu().double() for part in (model.radius, model.direction))
            after = (part[rows].double() for part in (found.radius, found.direction))
            distance = pl.Series(polar.dist(*before, *after).numpy(force=True))
        tops = new.ids.gather(pl.Series(top[rows] if moves else rows[:0]))
        parts.append(
            pl.DataFrame(
                {
                    "change": pl.Series([change], dtype=pl.Enum(_CHANGES)).new_from_index(
                        0, len(rows)
                    ),
                    "id": tax.ids.gather(at),
                    "name": tax.names.gather(at),
                    "taxon_rank": tax.taxon_ranks.gather(at).cast(pl.String),
                    "top": tops if moves else tops.extend_constant(None, len(rows)),
                    "distance": distance,
                }
            )
        )
    return pl.concat(parts)


def _advice(
    model: "TaxonEmbedding",
    new: Taxonomy,
    found: "Placement",
    tau: float,
    queries: int,
    seed: int,
) -> dict[str, Any]:
    """Precision of a sample of taxa, half of them new or moved, and that of a fresh layout."""
    if queries < 1 or len(new) < 3:
        return {"advice": "Not measured: queries=… compares with a fresh embedding."}
    from poincare_taxa.evaluation.clock import Clock
    from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
    from poincare_taxa.evaluation.subjects import polar_subject
    from poincare_taxa.files.seeds import stream
    from poincare_taxa.layouts.tree import largest_tau, layout, layout_in_layers

    # 1. Taxa that kept their vectors, and the others, each weighted by their number.
    tree, rng = _measured(model, new), stream(seed, "migration")
    kept = found.state == 0
    parts = [rng.permutation(np.flatnonzero(some))[: -(-queries // 2)] for some in (kept, ~kept)]
    rows = np.concatenate(parts)
    weight = np.concatenate(
        [np.full(len(part), some.mean() / max(len(part), 1)) for part, some in
         zip(parts, (kept, ~kept), strict=True)]
    )  # fmt: skip
    # 2. The same taxa afresh, at the same radius of a level where the dtype has room for it.
    tau = min(tau, largest_tau(tree, model.dtype))
    settings = {"dim": model.dim, "tau": tau, "dtype": model.dtype, "seed": seed}
    if "passes" in model.meta.get("layout", {}):
        fresh = layout_in_layers(tree, **settings)
    else:
        fresh = layout(tree, **settings)
    asked = QueryTaxa(tree, {}, 10, {"precision"})
    here, afresh = (
        query_statistics(
            polar_subject(points.radius, points.direction), asked, rows, Clock(), lambda *_: None
        )["precision"]
        for points in (found, fresh)
    )
    gain = afresh - here
    loss = float(weight @ gain)
    error = float(np.sqrt(weight**2 @ (gain - loss) ** 2))
    summary = {"precision@10": float(weight @ here), "afresh": float(weight @ afresh)}
    if loss > max(_CLEARLY, 2 * error):
        advice = "A fresh embedding would be clearly better."
    elif found.unresolved > len(new) / 1000:
        advice = "Some taxa are not separated: more dimensions or float64, embedded afresh."
    else:
        advice = "A fresh embedding would not be clearly better."
    return {**summary, "advice": advice}
