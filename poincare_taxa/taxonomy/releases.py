"""What changed between two releases of a taxonomy."""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy.columns import NO_RANK, label
from poincare_taxa.taxonomy.lookup import Lookup
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["CHANGES", "diff", "rows_before", "rows_in"]

CHANGES = ("removed", "merged", "added", "moved", "renamed", "reranked")


def diff(old: Taxonomy, new: Taxonomy) -> pl.DataFrame:
    """Return what changed from one release of a taxonomy to another.

    A taxon is the same in both releases if it has the same id. Old ids that `new` lists as merged
    lead to the taxon that they were merged into, so a taxon whose parent was merged did not move.

    Parameters
    ----------
    old, new
        Two releases whose ids are of one kind.

    Returns
    -------
    changes
        One row per change, so a taxon that was moved and renamed has two. ``change`` is an Enum:

        ========  ==================================  =================  =================
        change    meaning                             old                new
        ========  ==================================  =================  =================
        removed   the id is gone                      id of its parent   null
        merged    the id leads to another taxon       the id             id of that taxon
        added     `old` has no such id                null               id of its parent
        moved     another parent                      id of the parent   id of the parent
        renamed   another scientific name             name               name
        reranked  another taxon rank                  taxon rank         taxon rank
        ========  ==================================  =================  =================

        Names are compared only where both releases have names, ranks only where both have ranks.

        ``id``, ``name``, ``taxon_rank`` describe the taxon: in `old` if it was removed or merged,
        else in `new`. ``old`` and ``new`` are text. Rows are in the order of the table above, then
        in that of the taxonomy.

    Raises
    ------
    TaxonomyError
        If the ids of one release are integers and those of the other text, or no id is in both.

    Examples
    --------
    >>> old = Taxonomy.from_edges([("cat", "mammals"), ("crow", "mammals"), ("tabby", "cat")])
    >>> new = Taxonomy.from_edges([("cat", "mammals"), ("tabby", "mammals"), ("dog", "mammals")])
    >>> diff(old, new).select("change", "id", "old", "new").rows()[1:]
    [('added', 'dog', None, 'mammals'), ('moved', 'tabby', 'cat', 'mammals')]
    """
    at, was_merged = rows_in(new, old)
    kept = np.flatnonzero((at >= 0) & ~was_merged)
    here = at[kept]
    old_parents, new_parents = (tax.to_frame()["parent"] for tax in (old, new))

    # 1. Old ids that are gone, those that were merged, and new ids.
    gone, merged = np.flatnonzero(at < 0), np.flatnonzero(was_merged)
    is_old = np.zeros(len(new), np.bool_)
    is_old[here] = True
    added = np.flatnonzero(~is_old)
    parts = [
        _part("removed", old, gone, (old_parents, gone), None),
        _part("merged", old, merged, (old.ids, merged), (new.ids, at[merged])),
        _part("added", new, added, None, (new_parents, added)),
    ]

    # 2. Another parent: -2 stands for the parent of a root, -1 for a parent that is gone.
    parent = old.tree.parent[kept]
    expected = np.where(parent < 0, -2, at[parent])
    found = np.where(new.tree.parent[here] < 0, -2, new.tree.parent[here])
    moved = expected != found
    parts.append(
        _part("moved", new, here[moved], (old_parents, kept[moved]), (new_parents, here[moved]))
    )

    # 3. Another name, another rank.
    for change, before, after, no_value in (
        ("renamed", old.names, new.names, None),
        ("reranked", old.taxon_ranks, new.taxon_ranks, NO_RANK),
    ):
        if any(column.eq_missing(no_value).all() for column in (before, after)):
            continue  # A release does not give this.
        differs = _text(before, kept).ne_missing(_text(after, here)).to_numpy()
        rows = here[differs]
        parts.append(_part(change, new, rows, (before, kept[differs]), (after, rows)))
    return pl.concat(parts)


def rows_in(new: Taxonomy, old: Taxonomy) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Row in a release of each taxon of an older one, and whether its id was merged.

    The row is -1 where the id is gone.

    Raises
    ------
    TaxonomyError
        As `diff`.
    """
    if old.ids.dtype != new.ids.dtype:
        raise TaxonomyError(
            f"ids are {old.ids.dtype} in the old release and {new.ids.dtype} in the new one, so no "
            "taxon is the same in both: read them with ids of one kind"
        )
    lookup = Lookup(new.ids, new.names, None, new.merged, None)
    row, merged, _ = lookup.follow(old.ids)
    if row.max() < 0:
        raise TaxonomyError(
            f"no id of the old release ({old.ids[0]}, …) is one of the new ({new.ids[0]}, …): are "
            "these releases of one taxonomy?"
        )
    return row, merged & (row >= 0)


def rows_before(new: Taxonomy, old: Taxonomy) -> NDArray[np.int64]:
    """Row in an older release of each taxon of a new one, int64 [n]; −1 where it is new.

    A taxon with a new id is the largest one of those that were merged into it. No two taxa have the
    same row. A root whose id is new is the old root, if that is gone.

    Raises
    ------
    TaxonomyError
        As `diff`, and if the roots of the releases are different taxa.
    """
    at, merged = rows_in(new, old)
    before = np.full(len(new), -1)
    same = np.flatnonzero((at >= 0) & ~merged)
    before[at[same]] = same
    renumbered = np.flatnonzero(merged)
    renumbered = renumbered[before[at[renumbered]] < 0]
    # Of several, the last that is assigned counts: the one with the largest subtree.
    renumbered = renumbered[np.argsort(old.tree.subtree_size[renumbered], kind="stable")]
    before[at[renumbered]] = renumbered
    if before[0] < 0 and at[0] < 0:
        before[0] = 0
    if before[0] != 0:
        theirs, ours = (label(tax.ids[0], tax.names[0]) for tax in (old, new))
        raise TaxonomyError(
            f"the root of the old release, {theirs}, is not that of the new one, {ours}: take the "
            "same part of both (tax.subtree(key))"
        )
    return before


def _part(
    change: str,
    tax: Taxonomy,
    rows: NDArray[np.integer],
    before: tuple[pl.Series, NDArray[np.integer]] | None,
    after: tuple[pl.Series, NDArray[np.integer]] | None,
) -> pl.DataFrame:
    """Rows of the table for one kind of change; `before` and `after` are a column and its rows."""
    at = pl.Series(rows)
    none = pl.Series([None], dtype=pl.String).new_from_index(0, len(rows))
    return pl.DataFrame(
        {
            "change": pl.Series([change], dtype=pl.Enum(CHANGES)).new_from_index(0, len(rows)),
            "id": tax.ids.gather(at),
            "name": tax.names.gather(at),
            "taxon_rank": _text(tax.taxon_ranks, rows),
            "old": none if before is None else _text(*before),
            "new": none if after is None else _text(*after),
        }
    )


def _text(column: pl.Series, rows: NDArray[np.integer]) -> pl.Series:
    return column.gather(pl.Series(rows)).cast(pl.String)
