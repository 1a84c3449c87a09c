"""Keys → rows: ids, old ids that were merged or deleted, names, synonyms, and suggestions."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.columns import Index, Key

__all__ = ["Keys", "Lookup", "MergedTaxonWarning", "Status", "key_list"]

Keys = Key | Sequence[Key] | NDArray[Any] | pl.Series
STATES = ["active", "merged", "deleted", "unknown", "homonym"]
_ACTIVE, _MERGED, _DELETED, _UNKNOWN, _HOMONYM = range(5)
_MOST_RELEASES = 1000  # merges that are followed from one old id


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


def key_list(keys: Any) -> tuple[list[Key], bool]:
    """Return keys as a list, and whether they were one key.

    Parameters
    ----------
    keys
        An id or a name, or many: a list, or a column or array of numpy, polars, pandas or torch.

    Raises
    ------
    TypeError
        If a key is neither an int nor a str: a bool, None, a float, bytes, a slice.
    """
    if isinstance(keys, slice | bytes | dict):
        raise TypeError(f"a key is an id (int or str) or a name; got a {type(keys).__name__}")
    if not isinstance(keys, int | str | float | type(None)) and hasattr(keys, "tolist"):
        keys = keys.tolist()  # arrays and columns of numpy, torch and pandas; 0-d ones become one
    elif isinstance(keys, pl.Series):
        keys = keys.to_list()
    single = isinstance(keys, str) or not isinstance(keys, Iterable)
    listed: list[Any] = [keys] if single else list(cast(Iterable[Any], keys))
    for key in listed:
        if isinstance(key, bool) or not isinstance(key, int | str | np.integer):
            raise TypeError(
                f"a key is an id (int or str) or a name; got {key!r}, a {type(key).__name__}"
            )
    return listed, single


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

    def resolve(self, keys: Sequence[Key]) -> tuple[pl.Series, NDArray[np.int64]]:
        """Find what many keys lead to, all at once.

        Returns
        -------
        status
            Enum [k] of `STATES`: an id that is active, merged or deleted, a name of one taxon
            (active) or of several (homonym), or unknown.
        row
            int64 [k]; -1 where there is none.
        """
        texts = pl.Series([str(key) for key in keys], dtype=pl.String)
        ids = texts
        if self.ids.dtype != pl.String:
            ids = texts.set(~texts.str.contains(r"^-?\d{1,18}$"), None).cast(pl.Int64)
        # 1. Active ids.
        row = columns.find(self._id_index, ids)
        state = np.where(row >= 0, _ACTIVE, _UNKNOWN)
        # 2. Old ids: follow merges over several releases.
        left = np.flatnonzero((row < 0) & ids.is_not_null().to_numpy())
        at = ids.gather(pl.Series(left))
        merged = np.zeros(len(left), np.bool_)
        for _ in range(_MOST_RELEASES):
            step = columns.find(self._merged_index, at)
            moved = step >= 0
            if self.merged is None or not moved.any():
                break
            into = self.merged["new_id"].gather(pl.Series(np.where(moved, step, 0)))
            at, merged = into.zip_with(pl.Series(moved), at), merged | moved
        found = np.where(merged, columns.find(self._id_index, at), -1)
        row[left] = found
        state[left[found >= 0]] = _MERGED
        # 3. Deleted ids.
        left = left[~merged]
        deleted = columns.find(self._deleted_index, ids.gather(pl.Series(left))) >= 0
        state[left[deleted]] = _DELETED
        # 4. Names, of keys that are text.
        is_text = np.array([isinstance(key, str) for key in keys], np.bool_)
        left = np.flatnonzero((state == _UNKNOWN) & is_text)
        named, count = self._rows_of_names(texts.gather(pl.Series(left)))
        row[left] = np.where(count == 1, named, -1)
        state[left] = np.where(count == 1, _ACTIVE, np.where(count > 1, _HOMONYM, _UNKNOWN))
        return pl.Series("status", np.array(STATES)[state]).cast(pl.Enum(STATES)), row

    def _rows_of_names(self, wanted: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return a row of each name and how many have it, by scientific names, else by synonyms."""
        row, count = np.full(len(wanted), -1, np.int64), np.zeros(len(wanted), np.int64)
        if len(wanted) == 0:
            return row, count
        tables = [pl.DataFrame({"name": self.names}).with_row_index("node")]
        tables += [] if self.synonyms is None else [self.synonyms.select("node", "name")]
        for table in tables:
            known = table.filter(pl.col("name").is_in(wanted.implode())).unique(["name", "node"])
            groups = known.group_by("name").agg(pl.col("node").min(), pl.len())
            place = columns.find(columns.sort(groups["name"]), wanted)
            here = (place >= 0) & (count == 0)
            row[here] = groups["node"].to_numpy()[place[here]]
            count[here] = groups["len"].to_numpy()[place[here]]
        return row, count

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
