"""Trees as Newick text, in pieces."""

import re
from collections.abc import Iterator

import numpy as np
import polars as pl
from numpy.typing import NDArray

__all__ = ["newick"]

_PLAIN = re.compile(r"[A-Za-z0-9.+-]+")  # What every reader takes for a label without quotes.


def newick(
    parent: NDArray[np.int32], labels: pl.Series, lengths: NDArray[np.float64] | None
) -> Iterator[str]:
    """Pieces of the Newick text of a tree in preorder, with a label and a length for each node."""
    open_: list[int] = []

    def close() -> str:
        row = open_.pop()
        label = labels[row]
        if not _PLAIN.fullmatch(label):
            label = "'" + label.replace("'", "''") + "'"
        if lengths is not None and lengths[row] == lengths[row]:
            label += f":{float(lengths[row])!r}"
        return label

    for row, above in enumerate(parent.tolist()):
        # 1. Nodes that are complete: all below the parent of this one.
        first = above == row - 1
        while open_ and open_[-1] != above:
            yield close()
            if open_[-1] != above:
                yield ")"
        # 2. A list of children begins, or goes on.
        if row:
            yield "(" if first else ","
        open_.append(row)
    while open_:
        yield close()
        if open_:
            yield ")"
    yield ";\n"
