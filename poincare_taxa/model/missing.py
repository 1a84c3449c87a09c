"""Keys that lead to no taxon: an error, a mark, or the nearest ancestor that is here."""

from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy.columns import and_more
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

__all__ = ["Missing", "known_rows"]

Missing = Literal["raise", "nan", "drop", "ancestor"]


def known_rows(
    taxonomy: Taxonomy, keys: Keys, missing: Missing, lineages: Taxonomy | None = None
) -> NDArray[np.int64]:
    """Rows of keys, int64 [k]; −1 where a key leads to no taxon and `missing` allows it.

    Arguments and errors are those of `TaxonEmbedding.vectors`.
    """
    if missing not in ("raise", "nan", "drop", "ancestor"):
        raise ValueError(f"missing is 'raise', 'nan', 'drop' or 'ancestor'; got {missing!r}")
    if lineages is not None and missing != "ancestor":
        raise ValueError("lineages=<another release> is for missing='ancestor'")
    rows = np.atleast_1d(taxonomy.rows(keys, missing="raise" if missing == "raise" else -1))
    absent = rows < 0
    if missing == "ancestor" and absent.any():
        wanted = taxonomy.resolve(keys)["key"].filter(pl.Series(absent))
        rows[absent] = _ancestors_here(taxonomy, wanted, lineages)
    return rows


def _ancestors_here(
    taxonomy: Taxonomy, keys: pl.Series, lineages: Taxonomy | None
) -> NDArray[np.int64]:
    """Rows of the nearest self-or-ancestors, in another release, that are in this one."""
    found = np.full(len(keys), -1)
    there = np.full(0, -1) if lineages is None else lineages.rows(keys, missing=-1)
    if lineages is not None and (there >= 0).any():
        # 1. Lineages of the keys that the other release has, itself first: [k, longest].
        known = np.flatnonzero(there >= 0)
        above = lineages.tree.lineages(there[known])
        # 2. Rows of their ids here, each id looked up once; the first that is here counts.
        other, place = np.unique(above, return_inverse=True)
        here = taxonomy.rows(lineages.ids.gather(pl.Series(other).clip(0)), missing=-1)
        here = np.where(other < 0, -1, here)[place].reshape(above.shape)
        found[known] = here[np.arange(len(here)), (here >= 0).argmax(axis=1)]
    lost = keys.filter(pl.Series(found < 0))
    if len(lost):
        where = "; lineages=<a release> has some" if lineages is None else " by the other release"
        raise TaxonomyError(
            f"{len(lost)} of {len(keys)} missing keys have no ancestor here{where}: "
            f"{', '.join(map(repr, lost[:5]))}{and_more(len(lost) - 5)}"
        )
    return found
