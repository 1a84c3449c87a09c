"""The graph of neighbours against its definition."""

import numpy as np
import pytest
import torch

from poincare_taxa import kernels
from poincare_taxa.layouts.tree import layout
from poincare_taxa.search import SearchIndex, graph, neighbour_graph
from poincare_taxa.testing import synthetic_taxonomy


@pytest.mark.parametrize("n", [1, 4, 300])
def test_neighbour_graph__has_the_nearest_of_each_row(n, monkeypatch):
    monkeypatch.setattr(graph, "_ROWS", 77)
    found = layout(synthetic_taxonomy(n, seed=0), 4)
    points = found.radius, found.direction
    mine = neighbour_graph(SearchIndex(points, manifold="polar"), n, 5)
    assert mine.shape == (n, n)
    assert mine.indices.dtype == mine.indptr.dtype == np.int32
    expected = kernels.nearest(points, points, 5, manifold="polar", skip=torch.arange(n))
    for i in range(n):
        there = expected.row[i] >= 0
        row = slice(mine.indptr[i], mine.indptr[i + 1])
        assert mine.indices[row].tolist() == expected.row[i][there].tolist()
        assert np.array_equal(mine.data[row], expected.distance[i][there])


def test_neighbour_graph__keeps_distances_of_zero():
    same = torch.tensor([[0.5, 0.0], [0.5, 0.0], [0.0, 0.1]])
    mine = neighbour_graph(SearchIndex(same), 3, 1)
    assert mine.nnz == 3
    assert mine.indices[:2].tolist() == [1, 0]
    assert mine.data[:2].tolist() == [0, 0]


def test_neighbour_graph__counts_more_entries_than_int32_holds(monkeypatch):
    class Together:
        def split(self, rows, find):
            return {"column": [], "distance": [], "count": np.array(counts)}

    monkeypatch.setattr(graph.sparse, "csr_array", lambda parts, shape: parts[2])
    index = SearchIndex(torch.zeros(2, 2))
    for last, dtype in ((2**30 - 1, np.int32), (2**30, np.int64)):
        counts = [2**30, last]
        ends = neighbour_graph(index, 2, 1, Together())
        assert ends.dtype == dtype
        assert ends.tolist() == [0, 2**30, 2**30 + last]
