"""The graph of nearest neighbours, as scikit-learn, scanpy and UMAP take it."""

from typing import Any

import numpy as np
import torch
from scipy import sparse

from poincare_taxa.search.index import SearchIndex

__all__ = ["neighbour_graph"]

_ROWS = 2**14  # of queries at once: their neighbours are all that is held besides the graph


def neighbour_graph(index: SearchIndex, rows: int, k: int) -> Any:
    """Distances of the k nearest neighbours of rows 0 to ``rows``: float64 [rows, rows].

    Each row has its neighbours, nearest first, as explicit entries, also where the distance is 0;
    never itself. Where there are fewer than k other candidates it has fewer. The graph is directed:
    a taxon need not be among the neighbours of its own neighbour.
    """
    columns, distances, counts = [], [], [np.zeros(1, np.int64)]
    for start in range(0, rows, _ROWS):
        found = index.nearest(torch.arange(start, min(start + _ROWS, rows)), k)
        there = found.row >= 0
        columns.append(found.row[there].to(torch.int32).numpy())
        distances.append(found.distance[there].numpy())
        counts.append(there.sum(dim=1).numpy())
    ends = np.concatenate(counts).cumsum()
    if ends[-1] < 2**31:
        ends = ends.astype(np.int32)  # scipy needs one dtype for both
    parts = (np.concatenate([np.empty(0, t), *x]) for x, t in ((distances, "f8"), (columns, "i4")))
    return sparse.csr_array((*parts, ends), shape=(rows, rows))
