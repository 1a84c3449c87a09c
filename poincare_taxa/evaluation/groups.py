"""Groups of taxa to judge by: the members of a taxon rank, or the clades at a depth.

A *label* is the row of the group's top taxon, -1 for a taxon in no group.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy.columns import NO_RANK
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["genera", "purity_of_chance", "taxon_groups"]

Rows = NDArray[np.integer]


def taxon_groups(
    taxonomy: Taxonomy, names: Sequence[str] | None = None, *, smallest: int = 10
) -> dict[str, NDArray[np.int32]]:
    """Classes to judge by: for each taxon rank, the group that every taxon belongs to.

    Parameters
    ----------
    taxonomy
        Where it has no ranks, the clades at the first depths that divide it are used instead.
    names
        Taxon ranks, or "depth 1", "depth 2", …; by default those that divide at least half of all
        taxa into two or more groups of `smallest` or more, and do not nest in themselves as
        "clade" does: from the root down, at most eight.

    Returns
    -------
    labels
        Name → int32 [n]: row of the nearest self-or-ancestor that has the rank, -1 where none has.

    Raises
    ------
    ValueError
        If a name is not a taxon rank of this taxonomy.
    """
    known = taxonomy.taxon_ranks.unique().cast(pl.String).to_list()
    if names is None:
        names = _dividing_ranks(taxonomy, smallest) or _dividing_depths(taxonomy, smallest)
    groups = {}
    for name in names:
        kind, _, level = name.partition(" ")
        if kind == "depth" and level.isdigit():
            groups[name] = _ancestor_at_depth(taxonomy, int(level))
        elif name in known:
            groups[name] = taxonomy.tree.nearest_marked(taxonomy.has_rank(name))
        else:
            raise ValueError(
                f"no taxon has the rank {name!r}; there are {', '.join(sorted(known))}"
                " (and 'depth 1', 'depth 2', …)"
            )
    return groups


def _dividing_ranks(taxonomy: Taxonomy, smallest: int) -> list[str]:
    tops = pl.DataFrame({"rank": taxonomy.taxon_ranks, "row": np.arange(len(taxonomy))})
    found = []
    for (name,), table in tops.filter(pl.col("rank") != NO_RANK).group_by("rank"):
        rows = table["row"].sort().to_numpy()
        nested = rows[1:] < np.maximum.accumulate(taxonomy.tree.end[rows])[:-1]
        sizes = taxonomy.tree.subtree_size[rows]
        if nested.sum() <= 0.01 * len(rows) and _divides(sizes, len(taxonomy), smallest):
            found.append((taxonomy.tree.depth[rows].mean(), str(name)))
    return [name for _, name in sorted(found)][:8]


def _dividing_depths(taxonomy: Taxonomy, smallest: int) -> list[str]:
    large = taxonomy.tree.subtree_size >= smallest
    clades = np.bincount(taxonomy.tree.depth[large])
    covered = np.bincount(taxonomy.tree.depth[large], taxonomy.tree.subtree_size[large])
    divides = (clades >= 2) & (covered >= len(taxonomy) / 2)
    return [f"depth {depth}" for depth in np.flatnonzero(divides)[:4]]


def _divides(sizes: NDArray[np.int32], n: int, smallest: int) -> bool:
    large = sizes[sizes >= smallest]
    return len(large) >= 2 and bool(large.sum() >= n / 2)


def _ancestor_at_depth(taxonomy: Taxonomy, depth: int) -> NDArray[np.int32]:
    # In preorder, the last node of this depth met so far is the ancestor of all that is deeper.
    rows = np.arange(len(taxonomy), dtype=np.int32)
    last = np.maximum.accumulate(np.where(taxonomy.tree.depth == depth, rows, -1))
    return np.where(taxonomy.tree.depth >= depth, last, -1).astype(np.int32)


def genera(taxonomy: Taxonomy) -> NDArray[np.int32]:
    """Which taxa share their fate, for intervals: those of one genus [n].

    A label is the row of the genus. A taxon in no genus is alone, and so is each of a genus that
    holds more than a tenth of all taxa: fewer than ten of those would tell nothing.
    """
    alone = np.arange(len(taxonomy), dtype=np.int32)
    is_genus = (taxonomy.taxon_ranks.cast(pl.String) == "genus").to_numpy()
    genus = taxonomy.tree.nearest_marked(is_genus)
    size = np.bincount(genus[genus >= 0], minlength=len(taxonomy))
    return np.where((genus < 0) | (10 * size[genus] > len(taxonomy)), alone, genus)


def purity_of_chance(labels: Rows) -> float:
    """Purity expected of random neighbours, in the mean over the taxa that have a label."""
    labelled = labels[labels >= 0]
    size = np.bincount(labelled).astype(np.float64) if len(labelled) else np.zeros(1)
    return float(size @ (size - 1) / max(1, len(labelled) * (len(labels) - 1)))
