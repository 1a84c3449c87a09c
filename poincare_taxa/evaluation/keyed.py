"""Vectors that come with the ids of their taxa: each is put into the row of its taxon."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from poincare_taxa.taxonomy.columns import and_more
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["as_tensor", "place_by_id"]

_IDS = ("id", "key", "taxid", "tax_id", "taxon_id", "taxon", "name")
"""Columns of a table that may hold ids; of several, the first of these."""


def place_by_id(model: Any, taxonomy: Taxonomy) -> tuple[Any, tuple[str, ...]]:
    """Put vectors with ids into the order of a taxonomy; return anything else as it is.

    Parameters
    ----------
    model
        ``{id: vector}``, a table of polars or pandas with a column of ids (or an index of them),
        gensim's `KeyedVectors`, or something else.
    taxonomy
        Keys are its ids, names or synonyms; merged ids are followed.

    Returns
    -------
    vectors
        [n, dim], with a row of nan for each taxon that has none; of a table with columns ``radius``
        and ``direction`` these two, as a tuple.
    notes
        How many taxa have no vector and how many keys are no taxa, with the first few.

    Raises
    ------
    ValueError
        If fewer than half of the taxa have a vector, or one taxon has several.
    """
    keyed = _keys_and_vectors(model)
    if keyed is None:
        return model, ()
    keys, vectors = keyed
    found = taxonomy.resolve(keys)
    row = np.full(len(keys), -1)
    known = found["id"].is_not_null().to_numpy()
    row[known] = taxonomy.rows(found["id"].filter(pl.Series(known)))
    # An old id counts only where the taxon has no vector by its own id.
    old = (found["status"] == "merged").to_numpy() & known
    row[old & np.isin(row, row[known & ~old])] = -1
    placed = np.flatnonzero(row >= 0)
    taxa, count = np.unique(row[placed], return_counts=True)
    if len(count) and count.max() > 1:
        twice = int(taxa[count.argmax()])
        these = [keys[i] for i in placed if row[i] == twice]
        raise ValueError(f"taxon {taxonomy.ids[twice]!r} has {len(these)} vectors: {these[:5]}")
    without = np.setdiff1d(np.arange(len(taxonomy)), taxa)
    strange = [keys[i] for i in np.flatnonzero(row < 0)]
    missing = (
        f"{len(without):,} of {len(taxonomy):,} taxa have no vector "
        f"({_few(taxonomy.ids.gather(pl.Series(without[:5])).to_list(), len(without))})"
    )
    unknown = f"{len(strange):,} of {len(keys):,} keys are no taxa here ({_few(strange)})"
    if 2 * len(taxa) < len(taxonomy):
        raise ValueError(
            f"{missing}; {unknown if strange else 'every key is a taxon'}. Is it the taxonomy of "
            "these vectors? Of a part, take tax.subtree(id); fewer than half is not evaluated"
        )
    notes = [f"{missing}: they are lost rows"] * bool(len(without)) + [unknown] * bool(strange)
    chosen, order = torch.from_numpy(row[placed]), torch.from_numpy(placed)

    def in_order(values: Tensor) -> Tensor:
        out = values.new_full((len(taxonomy), *values.shape[1:]), torch.nan)
        out[chosen] = values[order]
        return out

    if isinstance(vectors, tuple):
        return tuple(map(in_order, vectors)), tuple(notes)
    return in_order(vectors), tuple(notes)


def as_tensor(values: Any) -> Tensor:
    """Return numbers of any kind as a tensor of floats without a gradient."""
    if isinstance(values, np.ndarray) and not values.flags.writeable:
        values = values.copy()  # torch shares memory, and warns where that is read-only.
    tensor = torch.as_tensor(values).detach()
    return tensor if tensor.is_floating_point() else tensor.double()


def _few(keys: list[Any], total: int | None = None) -> str:
    total = len(keys) if total is None else total
    return ", ".join(map(repr, keys[:5])) + and_more(total - len(keys[:5]))


def _keys_and_vectors(model: Any) -> tuple[list[Any], Any] | None:
    """Keys and their vectors, or None where there are no keys."""
    if isinstance(model, Mapping):
        rows = [as_tensor(vector) for vector in model.values()]
        if len({row.shape for row in rows}) > 1 or any(row.ndim != 1 for row in rows):
            shapes = sorted({tuple(row.shape) for row in rows})
            raise ValueError(f"vectors of {{id: vector}} have one shape [dim]; got {shapes}")
        return list(model), torch.stack(rows) if rows else torch.empty(0, 1)
    if hasattr(model, "key_to_index") and hasattr(model, "vectors"):  # gensim's KeyedVectors
        order = np.fromiter(model.key_to_index.values(), np.int64, len(model.key_to_index))
        return list(model.key_to_index), as_tensor(np.asarray(model.vectors)[order])
    if type(model).__module__.partition(".")[0] == "pandas":
        model = _as_polars(model)
    return _of_table(model) if isinstance(model, pl.DataFrame) else None


def _as_polars(frame: Any) -> pl.DataFrame:
    """Columns of a table of pandas; its index has the ids where it is no mere numbering."""
    columns = {str(name): frame[name] for name in frame.columns}
    if type(frame.index).__name__ != "RangeIndex":
        columns = {"id": frame.index} | columns
    return pl.DataFrame(
        {
            name: column.to_numpy() if column.dtype.kind in "fiu" else column.tolist()
            for name, column in columns.items()
        },
        strict=False,
    )


def _of_table(table: pl.DataFrame) -> tuple[list[Any], Any]:
    lower = {column.lower(): column for column in reversed(table.columns)}
    ids = next((lower[name] for name in _IDS if name in lower), None)
    if ids is None:
        raise ValueError(
            f"no column of ids among {table.columns[:8]}: name it 'id', or give the vectors alone, "
            "[n, dim], in the order of the taxonomy"
        )
    keys = table[ids].to_list()
    if {"radius", "direction"} <= set(table.columns):
        return keys, (_numbers(table["radius"]), _numbers(table["direction"]))
    nested = [c for c, kind in table.schema.items() if isinstance(kind, pl.List | pl.Array)]
    if len(nested) == 1:
        return keys, _numbers(table[nested[0]])
    floats = [c for c, kind in table.schema.items() if kind.is_float() and c != ids]
    if not floats:
        raise ValueError(
            f"no columns of decimals among {table.columns[:8]}: which are the vectors?"
        )
    return keys, as_tensor(table.select(floats).to_numpy())


def _numbers(column: pl.Series) -> Tensor:
    if isinstance(column.dtype, pl.List):
        lengths = column.list.len().unique().to_list()
        if len(lengths) != 1:
            raise ValueError(
                f"vectors in {column.name!r} have {lengths} coordinates, not as many each"
            )
        column = column.list.to_array(lengths[0])
    return as_tensor(column.to_numpy())
