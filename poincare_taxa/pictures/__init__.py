"""What a user looks at.

| file | what it holds |
|---|---|
| `disk` | the Poincaré disk, as a matplotlib figure |

It reads a `TaxonEmbedding`; nothing in the library depends on it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
