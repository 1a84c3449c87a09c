"""Pieces for a training loop of your own, each usable alone.

| file | what it holds |
|---|---|
| `manifolds`, `embedding` | `PoincareBall`, `Polar` for geoopt; `PoincareEmbedding` |
| `optimizers`, `projection` | row-wise Riemannian Adam; keeping points inside after each step |
| `pairs`, `closure_pairs` | samples: pairs and triplets of a tree; pairs of a DAG |
| `negatives` | exact negatives, for each pair or shared by a batch |
| `losses`, `cones`, `margins`, `regularizers` | terms of the loss |
| `heads`, `targets` | `TaxonHead`, from an encoder to taxa; soft labels, losses of several levels |
| `curriculum`, `schedules` | settings that change during training |
| `riemannian` | geoopt, imported in one place |
| `belonging` | whether blocks are made of the tree that is trained |
| `settings` | how blocks are printed |
| `tree_index` | the tree as tensors |

Losses take distances, samplers return rows. Nothing here depends on a training loop.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
