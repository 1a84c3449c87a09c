"""A parquet file of nodes in preorder, read a part at a time."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.files.parquet import faults_of_polars

__all__ = ["Source", "mapped_tree"]

_ARRAYS = ("parent", "end", "depth")
_ROWS = 1 << 18  # rows that are read together: a row group, as polars writes them
_COLUMNS = ("id", "parent", "name", "taxon_rank")


class Source:
    """Nodes in preorder: columns ``id``, ``parent`` and optionally ``name``, ``taxon_rank``.

    Raises
    ------
    ValueError
        If a column is missing, there is no row, or the file is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        with faults_of_polars(f"{self.path}: not a readable parquet file: was it cut short?"):
            self._lazy = pl.scan_parquet(self.path, glob=False)
            schema = self._lazy.collect_schema()
            names = schema.names()
            self.rows: int = self._lazy.select(pl.len()).collect().item()
        if missing := {"id", "parent"} - set(names):
            raise ValueError(
                f"{self.path} has no column {', '.join(sorted(missing))}; it has {names}: a file "
                "of nodes in preorder is what pt.read(…).to_frame().write_parquet(…) writes"
            )
        if "branch_length" in names:
            raise ValueError(
                f"{self.path} has branch lengths, and shards count edges: leave the column out"
            )
        if not self.rows:
            raise ValueError(f"{self.path} has no rows: a taxonomy has at least one node")
        self._columns = [name for name in _COLUMNS if name in names]
        self._lazy = self._lazy.with_columns(pl.col("parent").cast(schema["id"]))

    def read(self, start: int, stop: int) -> pl.DataFrame:
        """Read some of the rows."""
        return self._read(self._columns, start, stop)

    def _read(self, columns: list[str], start: int, stop: int) -> pl.DataFrame:
        with faults_of_polars(f"{self.path}: rows {start} to {stop} cannot be read"):
            return self._lazy.select(columns).slice(start, stop - start).collect()

    def write_tree(self, folder: Path) -> None:
        """Write `_ARRAYS`, int32 [n], as npy files to map; ids of one path are kept at a time.

        In preorder the parent of a node is the node before it, or an ancestor of that.

        Raises
        ------
        ValueError
            If the rows are not in preorder, with the first one that is not.
        """
        folder.mkdir(exist_ok=True)
        files = [
            np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.int32, (self.rows,))
            for name in _ARRAYS
        ]
        parent, end, depth = (np.asarray(file) for file in files)
        path: list[object] = []  # ids from the root to the last node,
        place: list[int] = []  # and their rows
        for first in range(0, self.rows, _ROWS):
            part = self._read(["id", "parent"], first, min(first + _ROWS, self.rows))
            pairs = zip(part["id"].to_list(), part["parent"].to_list(), strict=True)
            for row, (node, above) in enumerate(pairs, first):
                if row == 0:
                    above = path[-1] if path else None
                while path and path[-1] != above:
                    path.pop()
                    end[place.pop()] = row
                if row > 0 and not path:
                    raise ValueError(
                        f"{self.path}: row {row} ({node!r}) is not in preorder: its parent "
                        f"{above!r} is no ancestor of the row before it, nor that row. Write the "
                        "file with pt.read(…).to_frame().write_parquet(…), or sort it so"
                    )
                parent[row], depth[row] = place[-1] if place else -1, len(path)
                path.append(node)
                place.append(row)
        end[np.array(place)] = self.rows
        for file in files:
            file.flush()


def mapped_tree(folder: Path) -> tuple[NDArray[np.int32], ...]:
    """Map the arrays that `Source.write_tree` wrote."""
    return tuple(np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS)
