"""The graph of nearest neighbours, as scikit-learn, scanpy and UMAP take it."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse

from poincare_taxa.processes.group import Processes
from poincare_taxa.search.index import SearchIndex

__all__ = ["neighbour_graph"]

_ROWS = 2**14  # of queries at once: their neighbours are all that is held besides the graph


def neighbour_graph(
    index: SearchIndex, rows: int, k: int, together: Processes | None = None
) -> Any:
    """Distances of the k nearest neighbours of rows 0 to ``rows``: float64 [rows, rows].

    Each row has its neighbours, nearest first, as explicit entries, also where the distance is 0;
    never itself. Where there are fewer than k other candidates it has fewer. The graph is directed:
    a taxon need not be among the neighbours of its own neighbour. Processes that work together
    share the rows.
    """
    together = together or Processes()
    found = together.split(np.arange(rows), lambda some: _neighbours(index, some, k))
    ends = np.concatenate([np.zeros(1, np.int64), found["count"]]).cumsum()
    if ends[-1] < 2**31:
        ends = ends.astype(np.int32)  # scipy needs one dtype for both
    return sparse.csr_array((found["distance"], found["column"], ends), shape=(rows, rows))


def _neighbours(index: SearchIndex, rows: NDArray[np.integer], k: int) -> dict[str, NDArray[Any]]:
    """Neighbours of rows, one after the other, their distances, and how many each row has."""
    columns, distances, counts = [np.empty(0, "i4")], [np.empty(0, "f8")], [np.empty(0, "i8")]
    for start in range(0, len(rows), _ROWS):
        found = index.nearest(torch.from_numpy(rows[start : start + _ROWS]), k)
        there = found.row >= 0
        columns.append(found.row[there].to(torch.int32).numpy())
        distances.append(found.distance[there].numpy())
        counts.append(there.sum(dim=1).numpy())
    parts = {"column": columns, "distance": distances, "count": counts}
    return {name: np.concatenate(part) for name, part in parts.items()}
