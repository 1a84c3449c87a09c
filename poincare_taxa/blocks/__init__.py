"""Pieces for a training loop of your own, each usable alone.

| file | what it holds |
|---|---|
| `manifolds`, `embedding` | `PoincareBall`, `Polar` for geoopt; `PoincareEmbedding`, an nn.Module |
| `optimizers`, `projection` | row-wise Riemannian Adam; keeping points inside after each step |
| `pairs`, `closure_pairs` | what to train on: pairs and triplets of a tree; pairs of a DAG |
| `negatives` | exact negatives, for each pair or shared by a batch |
| `losses`, `cones`, `margins`, `regularizers` | what to minimise |
| `curriculum`, `schedules` | what changes during training |
| `tree_index` | the tree as tensors |

Losses take distances, samplers return rows: nothing here knows a training loop.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
