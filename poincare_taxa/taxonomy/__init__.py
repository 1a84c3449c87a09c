"""The taxonomy as arrays and tables, without torch.

| file | what it holds |
|---|---|
| `taxonomy` | `Taxonomy`: ids, names, ranks, synonyms, old ids of a rooted tree of taxa |
| `columns` | columns of ids, binary search in them, tables of edges turned into tables of nodes |
| `preorder` | preorder, heavy paths and climbing, for trees given as arrays of parents |

`readers` build a `Taxonomy`; every other room takes one.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
