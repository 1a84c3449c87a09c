"""Embeddings: vectors with their taxonomy, saved and loaded as folders.

| file | what it holds |
|---|---|
| `model` | `embed` and `TaxonEmbedding`: queries, views, saving and loading |
| `missing` | what a key that leads to no taxon gives |
| `migration` | new taxa placed, and other releases followed, without moving old vectors |
| `points` | points of one's own in other coordinates, as queries |
| `storage` | the folder format: safetensors, parquet, JSON, written atomically |
| `exports` | vectors written for other tools: tables, word2vec, AnnData, the Hub |
| `checks` | `check`: verifies a saved embedding |
| `planning` | time and memory of a taxonomy of any size, before it is embedded |

`training.fit` returns one of these; the command line and `pictures` read them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
