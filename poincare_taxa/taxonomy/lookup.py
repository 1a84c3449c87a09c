"""Keys → rows: ids, old ids that were merged or deleted, names, synonyms, and suggestions."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.columns import Index, Key

__all__ = ["Lookup", "MergedTaxonWarning", "Status"]


class MergedTaxonWarning(UserWarning):
    """Warning that an old id was replaced by the taxon that it was merged into."""


@dataclass(frozen=True)
class Status:
    """State of an id in a taxonomy.

    Attributes
    ----------
    state
        "active", "merged", "deleted" or "unknown". An id merged into a taxon that is not in the
        taxonomy is unknown.
    node
        Row of the taxon; None where the id is deleted or unknown.
    into
        Id of the taxon that an old id was merged into, also where the taxonomy lacks that taxon.
    """

    state: Literal["active", "merged", "deleted", "unknown"]
    node: int | None = None
    into: Key | None = None

    def __str__(self) -> str:
        if self.into is None:
            return self.state
        if self.state == "merged":
            return f"merged into {self.into}"
        return f"unknown (merged into {self.into}, which is not in this taxonomy)"


@dataclass(frozen=True, eq=False)
class Lookup:
    """Columns by which taxa are found; the index of each is built when it is first used.

    Attributes
    ----------
    ids, names
        [n], as in `Taxonomy`.
    synonyms, merged, deleted
        As in `Taxonomy`.
    """

    ids: pl.Series
    names: pl.Series
    synonyms: pl.DataFrame | None
    merged: pl.DataFrame | None
    deleted: pl.Series | None

    def status(self, id: Key) -> Status:
        """Return the state of an id: active, merged, deleted or unknown."""
        key = columns.as_id(id, self.ids.dtype)
        if key is None:
            return Status("unknown")
        row = columns.find_one(self._id_index, key)
        if row is not None:
            return Status("active", row)
        # Follow merges over several releases, and stop at an id that was seen before.
        into, seen = key, set()
        while into not in seen and (step := columns.find_one(self._merged_index, into)) is not None:
            seen.add(into)
            assert self.merged is not None
            into = self.merged["new_id"][step]
        if into != key:
            row = columns.find_one(self._id_index, into)
            return Status("unknown" if row is None else "merged", row, into)
        deleted = columns.find_one(self._deleted_index, key) is not None
        return Status("deleted" if deleted else "unknown")

    def rows_of_ids(self, ids: pl.Series | Sequence[Key] | NDArray[Any]) -> NDArray[np.int64]:
        """Rows of active ids, int64 [k]; -1 for all others."""
        return columns.find(self._id_index, columns.id_column(ids, self.ids.dtype))

    def rows_of_name(self, name: str) -> NDArray[np.integer]:
        """Rows with this scientific name, else rows with this synonym."""
        rows = (self.names == name).arg_true()  # Needs no index: 8 ms for 2.6 million names.
        if len(rows) == 0 and self.synonyms is not None:
            rows = self.synonyms.filter(pl.col("name") == name)["node"].unique().sort()
        return rows.to_numpy()

    def suggestions(self, name: str) -> str:
        """Part of a message: up to three names that resemble an unknown one."""
        # Compare only with names of about the same length and the same beginning or end.
        names = pl.concat(
            [self.names] if self.synonyms is None else [self.names, self.synonyms["name"]]
        )
        lower = name.lower()
        alike = names.filter(
            names.str.len_chars().cast(pl.Int64).is_between(len(name) - 3, len(name) + 3)
            & (
                names.str.to_lowercase().str.starts_with(lower[:3])
                | names.str.to_lowercase().str.ends_with(lower[-4:])
            )
        ).unique()
        spelt = {candidate.lower(): candidate for candidate in sorted(alike)}
        close = difflib.get_close_matches(lower, spelt, n=3, cutoff=0.75)
        if close:
            return f"; did you mean {' or '.join(repr(spelt[c]) for c in close)}?"
        return "; is it of another taxonomy, or of a newer release of this one?"

    def homonyms(self, name: str, rows: NDArray[np.integer], describe: Callable[[int], str]) -> str:
        """Message that lists the taxa of one name, each with its description."""
        return "\n".join(
            [
                f"{name!r} names {len(rows)} taxa; choose one by its id:",
                *(f"  {self.ids[int(row)]}: {describe(int(row))}" for row in rows[:10]),
                *([f"  … and {len(rows) - 10} more"] if len(rows) > 10 else []),
            ]
        )

    @cached_property
    def _id_index(self) -> Index:
        return columns.sort(self.ids)

    @cached_property
    def _merged_index(self) -> Index:
        return columns.sort(self.ids.clear() if self.merged is None else self.merged["old_id"])

    @cached_property
    def _deleted_index(self) -> Index:
        return columns.sort(self.ids.clear() if self.deleted is None else self.deleted)
