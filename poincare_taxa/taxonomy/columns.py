"""Columns of ids, names and ranks, and the search for values in them."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

NO_RANK = "no rank"
# Words, in lower case, that stand for "there is none" where a table gives a parent.
NO_PARENT = frozenset(
    ["", "-", "--", "-1", ".", "?", "\\n", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null"]
) | {"none", "nil"}
Key = int | str


class TaxonomyError(ValueError):
    """The data do not describe a taxonomy, or a taxon is not in it.

    Attributes
    ----------
    row
        Row of the input table at fault, counted from 0; None where no single row is.
    """

    __module__ = "poincare_taxa.taxonomy"  # where users find it

    def __init__(self, message: str, *, row: int | None = None) -> None:
        super().__init__(message)
        self.row = row


# -------------------------------------------------------------------- columns


class Column(pl.Series):
    """A column that is indexed by integers of numpy too, as ``ids[tree.parent[row]]``."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(int(key) if isinstance(key, np.integer) else key)


def id_column(ids: Any, dtype: pl.DataType | None = None) -> pl.Series:
    """Convert ids to Int64 where all are whole numbers, else to String; or to the given `dtype`."""
    column = whole_numbers(as_series(ids)).alias("id")
    if dtype is None:
        dtype = pl.Int64() if column.dtype.is_integer() else pl.String()
    cast = column.cast(dtype, strict=False)
    if cast.null_count() or (dtype == pl.String and (cast == "").any()):
        row = int((is_blank(column) | cast.is_null().to_numpy()).argmax())
        raise TaxonomyError(f"row {row}: {column[row]!r} is not an id ({dtype})", row=row)
    return cast


def parent_column(parents: pl.Series, ids: pl.Series) -> pl.Series:
    """Convert ids of parents to the dtype of `ids`; null where there is none, or no id."""
    column = parents.cast(ids.dtype, strict=False)
    return column.set(column == "", None) if ids.dtype == pl.String else column


def without_none_words(parents: pl.Series, ids: pl.Series) -> pl.Series:
    """Replace words for "none" that are no id by null, and whole decimals by integers.

    The number −1 is such a word: positions of parents are written so.
    """
    if parents.dtype.is_float():
        parents = whole_numbers(parents.fill_nan(None))
    if parents.dtype.is_signed_integer() and ids.dtype.is_integer():
        none = (parents == -1).fill_null(False)
        return parents.set(none, None) if none.any() and -1 not in ids else parents
    if parents.dtype != pl.String:
        return parents
    words = parents.str.to_lowercase().is_in(list(NO_PARENT)).fill_null(False)
    if words.any():
        used = parents.filter(words).unique()
        known = used.filter(used.is_in(ids.cast(pl.String).implode()))
        parents = parents.set(words & ~parents.is_in(known.implode()).fill_null(False), None)
    if ids.dtype.is_integer():  # pandas writes 1.0 for 1 in a column that has a gap
        parents = parents.str.replace(r"^(-?\d+)\.0*$", "$1")
    return parents


def whole_numbers(column: pl.Series) -> pl.Series:
    """Convert decimals to integers where all are whole; return other columns as they are."""
    if column.dtype.is_float() and bool((column == column.floor()).all()):
        return column.cast(pl.Int64, strict=False)
    return column


def length_column(lengths: Any) -> pl.Series:
    """Make a column of numbers, null where a word says that there is none.

    Raises
    ------
    TaxonomyError
        If a value is no number.
    """
    column = pl.Series(lengths, strict=False) if isinstance(lengths, list | tuple) else lengths
    numbers = column.cast(pl.Float64, strict=False)
    lost = numbers.is_null() & column.is_not_null()
    if column.dtype == pl.String:
        lost &= ~column.str.to_lowercase().is_in(list(NO_PARENT))
    if lost.any():
        row = int(lost.arg_max() or 0)
        raise TaxonomyError(f"{column[row]!r} is not a branch length", row=row)
    return numbers


def as_frame(table: Any) -> pl.DataFrame:
    """Convert a table of polars or pandas to one of polars.

    Raises
    ------
    ValueError
        If it is neither.
    TaxonomyError
        If two columns have one name.
    """
    if isinstance(table, pl.DataFrame):
        return table
    if isinstance(table, pl.LazyFrame):
        return table.collect()
    if type(table).__module__.partition(".")[0] != "pandas":
        raise ValueError(f"a table is a polars or pandas frame; got {type(table).__name__}")
    if repeated := [str(name) for name in table.columns[table.columns.duplicated()]]:
        raise TaxonomyError(f"several columns are called {repeated[0]!r}; name each differently")
    return pl.DataFrame({str(name): as_series(table[name]) for name in table.columns})


def as_series(values: Any) -> pl.Series:
    """Make a column of whole numbers if all values are whole or missing, else of text.

    Missing are None, nan and the NA of pandas.
    """
    if isinstance(values, pl.Series):
        return values
    if type(values).__module__.partition(".")[0] == "pandas":
        values = values.astype(object).where(values.notna(), None).tolist()
    elif hasattr(values, "__array__"):  # tensors too, whose elements are no numbers
        values = np.asarray(values)
    if not isinstance(values, np.ndarray) or values.dtype == object:
        values = [None if isinstance(v, float) and np.isnan(v) else v for v in values]
        whole = all(v is None or _is_whole(v) for v in values)
        if not whole:
            values = [None if v is None else str(v) for v in values]
            return pl.Series(values, dtype=pl.String)
        return pl.Series([None if v is None else int(v) for v in values], dtype=pl.Int64)
    column = pl.Series(values)
    return column.fill_nan(None) if column.dtype.is_float() else column


def _is_whole(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    return isinstance(value, int | np.integer) or (
        isinstance(value, float | np.floating) and float(value).is_integer()
    )


def string_column(name: str, values: Any, n: int) -> pl.Series:
    """Make a column of text for n nodes, null where empty; all null where `values` is None."""
    if values is None:
        return pl.Series(name, [None], dtype=pl.String).new_from_index(0, n)
    column = pl.Series(name, values).cast(pl.String)
    return column.set(column == "", None) if (column == "").any() else column


def rank_column(values: Any, n: int) -> pl.Series:
    """Convert taxon ranks to an Enum of those that occur, in order of appearance.

    An Enum whose categories all occur is kept as it is.
    """
    if isinstance(values, pl.Series) and isinstance(values.dtype, pl.Enum):
        known = set(values.dtype.categories)
        if set(values.unique()) == known and "" not in known:  # such a column already
            return values.alias("taxon_rank")
    column = string_column("taxon_rank", values, n).fill_null(NO_RANK)
    return column.cast(pl.Enum(column.unique(maintain_order=True)))


def is_blank(column: pl.Series) -> NDArray[np.bool_]:
    """Mask of the rows in which a column is null or empty."""
    blank = column.is_null()
    return (blank | (column == "") if column.dtype == pl.String else blank).to_numpy()


def as_id(key: Key, dtype: pl.DataType) -> Key | None:
    """Convert a key to an id of that type; None where this is impossible."""
    if dtype == pl.String:
        return str(key)
    number = int(key) if not isinstance(key, str) or re.fullmatch(r"-?\d{1,18}", key) else None
    return number if number is not None and abs(number) < 2**63 else None


def label(key: Key, name: str | None) -> str:
    """Name of a taxon in messages: its id and, where it has another, its scientific name."""
    return f"{key}" if name is None or name == str(key) else f"{key} {name!r}"


def and_more(count: int) -> str:
    """End of a shortened list: how many entries were left out."""
    return f", and {count} more" if count > 0 else ""


# -------------------------------------------------------------------- finding values


@dataclass(frozen=True)
class Index:
    """Where the values of a column are: a table by value, or the sorted values."""

    rows: NDArray[np.integer]
    """Row of the numbers 0, 1, 2 …, −1 for those that are absent; or of each sorted value."""
    values: pl.Series | None
    """The sorted values, without nulls; None of a table by value."""


_SPARSE = 8  # a table by value has at most so many entries for each value


def sort(column: pl.Series) -> Index:
    """Prepare the search for values of a column; of equal values any one is found."""
    if column.dtype.is_integer() and (table := _by_value(column)) is not None:
        return Index(table, None)
    order = column.arg_sort(nulls_last=True).head(len(column) - column.null_count())
    return Index(order.to_numpy(), column.gather(order))


def count_distinct(column: pl.Series) -> int:
    """Count the distinct values of a column without nulls."""
    table = _by_value(column) if column.dtype.is_integer() else None
    return column.n_unique() if table is None else int((table >= 0).sum())


def _by_value(numbers: pl.Series) -> NDArray[np.int32] | None:
    """Row of each number from 0 to the largest, −1 for none; None where that is too long."""
    n = len(numbers)
    if n == 0 or numbers.has_nulls():
        return None
    values = numbers.to_numpy()
    if values.min() < 0 or values.max() >= _SPARSE * n:
        return None
    table = np.full(int(values.max()) + 1, -1, np.int32)
    table[values] = np.arange(n, dtype=np.int32)
    return table


def find(index: Index, wanted: pl.Series) -> NDArray[np.int64]:
    """Row of each wanted value in a column of unique values, int64 [k]; -1 for absent values."""
    if len(index.rows) == 0:
        return np.full(len(wanted), -1, np.int64)
    if index.values is None:
        numbers = wanted.fill_null(-1).to_numpy()
        known = (numbers >= 0) & (numbers < len(index.rows))
        return np.where(known, index.rows[np.where(known, numbers, 0)], -1).astype(np.int64)
    if wanted.dtype == pl.String:
        place = index.values.search_sorted(wanted.fill_null("")).to_numpy()
    else:
        place = np.searchsorted(index.values.to_numpy(), wanted.fill_null(-1).to_numpy())
    place = np.minimum(place, len(index.values) - 1)
    same = (index.values.gather(pl.Series(place)) == wanted).fill_null(False).to_numpy()
    return np.where(same, index.rows[place].astype(np.int64), -1)
