"""Closure mode: points of a DAG whose nearest, by plain distance, are their ancestors.

| file | what it holds |
|---|---|
| `layout` | points without training: nested families of a spanning tree |
| `queries` | the leaves that must find their ancestors, equal ones merged |
| `softmax` | the full softmax over all nodes, and steps of one angle |
| `refinement` | an exact search, one node at a time, after layout or training |
| `ranking` | exact MAP and mean rank of ancestors |
| `links` | link prediction: splits, thresholds, filtered ranks, reachability beside them |
| `model` | `ClosureEmbedding`: the points of a DAG with its names |
| `loading` | `pt.load`: vectors of whatever lies at a path, of a taxonomy or of a DAG |

`training.fit` of `ClosurePairs` uses all of it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
