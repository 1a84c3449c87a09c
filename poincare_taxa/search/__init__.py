"""Exact neighbours of millions of points: an index over subtrees.

| file | what it has |
|---|---|
| `index` | `SearchIndex`: which order, when to scan instead; the search |
| `graph` | `neighbour_graph`: the neighbours of all points, as a sparse matrix |
| `near` | neighbours of one point, without compiled loops |
| `nodes` | leaves and nodes as arrays, built and searched by the loops of `kernels.numba.index` |
| `order` | an order for points that stand in none |

The scans of `kernels` need no index: few queries, points on a GPU, points that change.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
