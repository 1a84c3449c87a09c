"""The taxonomy as arrays and tables, without torch.

| file | what it holds |
|---|---|
| `taxonomy` | `Taxonomy`: a tree with ids, names, ranks, synonyms and old ids |
| `tree` | `Tree`: the arrays of a rooted tree, and the arithmetic of its rows |
| `lookup` | keys → rows: ids, old ids, names, synonyms, suggestions |
| `edges` | tables of edges turned into tables of nodes, and what makes them no tree |
| `columns` | columns of ids, names and ranks, and binary search in them |
| `preorder` | preorder, heavy paths and climbing, for trees given as arrays of parents |

`readers` build a `Taxonomy`; what people call takes one, and what computes takes its `tree`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
