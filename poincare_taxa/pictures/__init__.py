"""Pictures of embeddings.

| file | what it holds |
|---|---|
| `disk` | the Poincaré disk, as a matplotlib figure |

Its functions take a `TaxonEmbedding`; only the command line calls them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
