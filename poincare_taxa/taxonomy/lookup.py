"""Keys → rows: ids, old ids that were merged or deleted, names, synonyms, and suggestions."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.columns import Index, Key

__all__ = [
    "Found",
    "KeyColumn",
    "Keys",
    "Lookup",
    "MergedTaxonWarning",
    "check_cells",
    "check_paired",
]

Keys = Key | Sequence[Key] | NDArray[Any] | pl.Series
MAX_CELLS = 10**8
"""Cells of a matrix of distances that need no second thought: 0.8 GB of float64."""
STATES = ["active", "merged", "deleted", "unknown", "homonym"]
OTHER_RELEASE = "; is it of another taxonomy, or of a newer release of this one?"
_ACTIVE, _MERGED, _DELETED, _UNKNOWN, _HOMONYM = range(5)
_WHOLE = re.compile(r"-?\d{1,18}")
_MANY_SCANS = 50  # of all names for one, from which sorting their hashes has paid
_MOST_RELEASES = 1000  # merges that are followed from one old id


class MergedTaxonWarning(UserWarning):
    """Warning that an old id was replaced by the taxon that it was merged into."""


@dataclass(frozen=True)
class KeyColumn:
    """Keys of any kind as a column.

    Attributes
    ----------
    values : pl.Series [k]
        Int64 where all keys are integers of that size, else String.
    is_text : bool [k]
        Which keys were given as text: an integer is an id, and text an id or a name.
    single : bool
        Whether one key was given rather than many.
    """

    values: pl.Series
    is_text: NDArray[np.bool_]
    single: bool

    @classmethod
    def of(cls, keys: Any) -> "KeyColumn":
        """Read keys.

        Parameters
        ----------
        keys
            An id or a name, or many: a list, or a column or array of numpy, polars, pandas or
            torch.

        Raises
        ------
        TypeError
            If a key is neither an int nor a str: a bool, None, a float, bytes, a slice.
        """
        if isinstance(keys, slice | bytes | dict) or hasattr(keys, "columns"):
            raise TypeError(f"a key is an id (int or str) or a name; got a {type(keys).__name__}")
        if isinstance(keys, np.ndarray) and keys.ndim == 1 and keys.dtype.kind in "iu":
            keys = pl.Series(keys)
        if isinstance(keys, pl.Series):
            if keys.dtype.is_integer() and not keys.has_nulls():
                values = keys.cast(pl.String if keys.dtype == pl.UInt64 else pl.Int64)
                return cls(values, np.zeros(len(keys), np.bool_), False)
            keys = keys.to_list()
        elif not isinstance(keys, int | str | float | type(None)) and hasattr(keys, "tolist"):
            keys = keys.tolist()  # arrays and columns of torch, pandas, numpy; 0-d ones become one
        single = isinstance(keys, str) or not isinstance(keys, Iterable)
        listed: list[Any] = [keys] if single else list(cast(Iterable[Any], keys))
        kinds = {kind: _kind(kind) for kind in set(map(type, listed))}
        if None in kinds.values():
            wrong = next(key for key in listed if kinds[type(key)] is None)
            is_point = isinstance(wrong, float | np.floating | list | np.ndarray)
            advice = " (points are searched by TaxonEmbedding.nearest(point=…))" if is_point else ""
            raise TypeError(
                f"a key is an id (int or str) or a name; got {wrong!r}, a {type(wrong).__name__}"
                f"{advice}"
            )
        is_text = np.fromiter((kinds[type(key)] is str for key in listed), np.bool_, len(listed))
        try:
            if kinds and not is_text.any():
                return cls(pl.Series(map(int, listed), dtype=pl.Int64), is_text, single)
        except (OverflowError, TypeError):
            pass  # An integer of more than 64 bits: no id, so that its digits are enough.
        return cls(pl.Series(map(str, listed), dtype=pl.String), is_text, single)

    def __len__(self) -> int:
        return len(self.values)

    def shown(self, i: int) -> str:
        """Key i as in a message: text in quotes."""
        value = self.values[int(i)]
        return repr(value) if self.is_text[i] else str(value)


def _kind(kind: type) -> type | None:
    """Return int or str for a type of keys, None for another type."""
    if issubclass(kind, bool):
        return None
    return str if issubclass(kind, str) else int if issubclass(kind, int | np.integer) else None


def check_paired(a: int | NDArray[Any], b: int | NDArray[Any], all_pairs: str) -> None:
    """Raise ValueError unless rows are one and many, or as many; `all_pairs` is what computes all.

    The rows of one key are an int, as those of `Taxonomy.rows`.
    """
    if not isinstance(a, int) and not isinstance(b, int) and len(a) != len(b):
        raise ValueError(
            f"{len(a)} and {len(b)} keys make no pairs: give one key and many, or many and as many "
            f"(for all pairs: {all_pairs})"
        )


def check_cells(k: int, m: int, bytes_each: int, max_cells: int, instead: str) -> None:
    """Raise ValueError if a matrix [k, m] has more cells than allowed; `instead` is a way out."""
    if k * m > max_cells:
        raise ValueError(
            f"{k:,} × {m:,} distances are {k * m * bytes_each / 1e9:,.1f} GB, and "
            f"max_cells={max_cells:,} allows {max_cells * bytes_each / 1e9:,.1f} GB: compute some "
            f"rows at a time, with all taxa as others=…; {instead}; or give a larger max_cells"
        )


@dataclass(frozen=True)
class Found:
    """What keys lead to.

    Attributes
    ----------
    keys : KeyColumn
        The keys.
    status : pl.Series [k]
        Enum of `STATES`: an id that is active, merged or deleted, a name of one taxon (active) or
        of several (homonym), or unknown.
    row : int64 [k]
        Row of the taxon; -1 where there is none.
    into : pl.Series [k]
        Id that an old id was merged into, also where that is no taxon here; else null.
    """

    keys: KeyColumn
    status: pl.Series
    row: NDArray[np.int64]
    into: pl.Series


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

    def resolve(self, keys: Any) -> Found:
        """Find what keys lead to, all at once.

        Raises
        ------
        TypeError
            As `KeyColumn.of`.
        """
        keys = KeyColumn.of(keys)
        ids = keys.values
        if self.ids.dtype == pl.String:
            ids = ids.cast(pl.String)
        elif ids.dtype == pl.String:
            ids = ids.set(~ids.str.contains(f"^{_WHOLE.pattern}$"), None).cast(pl.Int64)
        # 1. Active ids, and old ones that were merged.
        row, merged, into = self.follow(ids)
        state = np.where(row < 0, _UNKNOWN, np.where(merged, _MERGED, _ACTIVE))
        # 2. Deleted ids.
        left = np.flatnonzero((row < 0) & ~merged & ids.is_not_null().to_numpy())
        deleted = columns.find(self._deleted_index, ids.gather(pl.Series(left))) >= 0
        state[left[deleted]] = _DELETED
        # 3. Names, of keys that are text.
        left = np.flatnonzero((state == _UNKNOWN) & keys.is_text)
        named, count = self._rows_of_names(keys.values.gather(pl.Series(left)))
        row[left] = np.where(count == 1, named, row[left])
        state[left] = np.where(count == 1, _ACTIVE, np.where(count > 1, _HOMONYM, _UNKNOWN))
        status = pl.Series("status", np.array(STATES)[state]).cast(pl.Enum(STATES))
        return Found(keys, status, row, into)

    def row_of_one(self, key: Any) -> int | None:
        """Row of one active id or unambiguous name, in microseconds; None: see `resolve`."""
        if type(key) not in (int, str) or not self.ids.dtype.is_integer():
            return None
        if isinstance(key, int) or _WHOLE.fullmatch(key):
            rows = self._id_index.rows if self._id_index.values is None else ()
            row = rows[int(key)] if 0 <= int(key) < len(rows) else -1
            return int(row) if row >= 0 else None
        rows = self._named(key)
        return int(rows[0]) if len(rows) == 1 else None

    def follow(self, ids: pl.Series) -> tuple[NDArray[np.int64], NDArray[np.bool_], pl.Series]:
        """Rows of ids, following merges over several releases.

        Parameters
        ----------
        ids
            Of the type of `ids` here.

        Returns
        -------
        row, merged, into
            Row of each id, -1 where there is none; whether the id is an old one that was merged;
            and the id that it was merged into, else null, also where that is no taxon here.
        """
        row = columns.find(self._id_index, ids)
        merged, into = np.zeros(len(ids), np.bool_), self.ids.clear(len(ids))
        left = np.flatnonzero((row < 0) & ids.is_not_null().to_numpy())
        if self.merged is None or len(left) == 0:
            return row, merged, into
        at, moved = ids.gather(pl.Series(left)), np.zeros(len(left), np.bool_)
        for _ in range(_MOST_RELEASES):
            step = columns.find(self._merged_index, at)
            if not (step >= 0).any():
                break
            target = self.merged["new_id"].gather(pl.Series(np.maximum(step, 0)))
            at, moved = target.zip_with(pl.Series(step >= 0), at), moved | (step >= 0)
        merged[left] = moved
        row[left] = np.where(moved, columns.find(self._id_index, at), -1)
        return row, merged, into.scatter(left[moved], at.filter(pl.Series(moved)))

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

    def _named(self, name: str) -> NDArray[np.integer]:
        """Rows with this scientific name, else rows with this synonym."""
        if len(self._scanned) < _MANY_SCANS:
            self._scanned.append(name)
            rows = (self.names == name).arg_true().to_numpy()
        else:
            hashes, order = self._hashed
            wanted = pl.Series([name]).hash().to_numpy()[0]  # uint64, as they are
            first, stop = (np.searchsorted(hashes, wanted, side) for side in ("left", "right"))
            rows = np.sort(order[first:stop])
            rows = rows[(self.names[pl.Series(rows)] == name).fill_null(False).to_numpy()]
        if len(rows) == 0 and self.synonyms is not None:
            rows = self.synonyms.filter(pl.col("name") == name)["node"].unique().sort().to_numpy()
        return rows

    @cached_property
    def _scanned(self) -> list[str]:
        """Names for which all names were scanned."""
        return []

    @cached_property
    def _hashed(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """Sorted hashes of the names, and the row of each."""
        hashes = self.names.hash().to_numpy()
        order = np.argsort(hashes)
        return hashes[order], order

    def suggestions(self, name: str) -> str:
        """Part of a message: up to three names that resemble an unknown one."""
        # Compare only with names of about the same length and the same beginning or end.
        names = pl.concat(
            [self.names] if self.synonyms is None else [self.names, self.synonyms["name"]]
        )
        lengths = names.str.len_chars().cast(pl.Int64)
        names = names.filter(lengths.is_between(len(name) - 3, len(name) + 3))
        lower, lowered = name.lower(), names.str.to_lowercase()
        alike = names.filter(
            lowered.str.starts_with(lower[:3]) | lowered.str.ends_with(lower[-4:])
        ).unique()
        spelt = {candidate.lower(): candidate for candidate in sorted(alike)}
        close = difflib.get_close_matches(lower, spelt, n=3, cutoff=0.75)
        if close:
            return f"; did you mean {' or '.join(repr(spelt[c]) for c in close)}?"
        return OTHER_RELEASE

    def homonyms(self, name: str, describe: Callable[[int], str]) -> str:
        """Message that lists the taxa of one name, each with its description."""
        rows = self._named(name)
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
        assert self.merged is not None
        return columns.sort(self.merged["old_id"])

    @cached_property
    def _deleted_index(self) -> Index:
        return columns.sort(self.ids.clear() if self.deleted is None else self.deleted)
