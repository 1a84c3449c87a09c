"""The taxonomy as arrays and tables, without torch.

| file | what it holds |
|---|---|
| `taxonomy` | `Taxonomy`: a tree with ids, names, ranks, synonyms and old ids |
| `tree` | `Tree`: the arrays of a rooted tree, and the arithmetic of its rows |
| `releases` | `diff`: what changed from one release to another, and which taxa are the same |
| `lookup` | keys → rows: ids, old ids, names, synonyms, suggestions |
| `edges` | tables of edges converted to tables of nodes; errors of tables that are no tree |
| `columns` | columns of ids, names and ranks, and binary search in them |
| `levels` | members of subtrees counted by depth, and lineages of many nodes |
| `preorder` | preorder, heavy paths and nearest marked ancestors, from arrays of parents |
| `writing` | trees as Newick text |

`readers` build a `Taxonomy`. Public functions take a `Taxonomy`; computations take its `tree`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
