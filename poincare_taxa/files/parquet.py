"""Reading of parquet files that may be damaged or hostile: one kind of error, bounded memory."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import polars as pl

__all__ = ["faults_of_polars", "read_parquet", "unpacked_limit"]


def unpacked_limit(path: str | Path) -> int:
    """Bytes that are read at most of a compressed file: 100 times its size, and at least 64 MiB.

    Taxonomies compress to between a quarter and a thirtieth; files made to fill a memory do to a
    thousandth.
    """
    return max(100 * Path(path).stat().st_size, 64 * 2**20)


@contextmanager
def faults_of_polars(message: str, kind: type[ValueError] = ValueError) -> Iterator[None]:
    """Turn errors of polars, its panics included, into a `kind` with a message in front."""
    try:
        yield
    except (pl.exceptions.PolarsError, OverflowError, UnicodeError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise kind(f"{message} ({why})") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # which is no Exception
            raise
        raise kind(f"{message} (polars cannot decode it)") from error


def read_parquet(
    path: str | Path, kind: type[ValueError] = ValueError, *, arrays: bool = False
) -> pl.DataFrame:
    """Read the columns of a parquet file, without lists and structs, which no taxonomy has.

    With `arrays` also those of arrays of one size, as points have them.

    Raises
    ------
    ValueError
        If the file is damaged, is something else, or unpacks to more than `unpacked_limit` allows;
        of the given `kind`.
    OSError
        If the file cannot be read.
    """
    limit = unpacked_limit(path)
    advice = "not a readable parquet file: was it cut short or damaged?"
    with faults_of_polars(f"{path}: {advice}", kind):
        lazy = pl.scan_parquet(path, glob=False)  # a name with brackets is a name
        schema = lazy.collect_schema()
        lazy = lazy.select(
            name
            for name, dtype in schema.items()
            if not dtype.is_nested() or (arrays and isinstance(dtype, pl.Array))
        )
        # 1. Rows, by the footer alone: a few bytes may stand for billions of equal rows.
        rows = lazy.select(pl.len()).collect().item()
        size = 8 * rows * sum(map(_width, lazy.collect_schema().dtypes()))
        # 2. Texts, which a column of references may repeat without storing them again.
        if size <= limit:
            table = lazy.collect()
            texts = [column for column in table if column.dtype == pl.String]
            size = sum(int(column.str.len_bytes().sum()) for column in texts)
            if size <= limit:
                return table
    raise kind(
        f"{path}: unpacks to more than {limit / 2**20:,.0f} MiB, the most that is read of a file "
        "of this size; write it without compression if that is meant"
    )


def _width(dtype: pl.DataType) -> int:
    """How many values a cell has."""
    return math.prod(dtype.shape) if isinstance(dtype, pl.Array) else 1
