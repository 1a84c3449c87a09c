"""Points for every taxon without training.

| file | what it holds |
|---|---|
| `tree` | `layout`: radius from depth, directions from separated codes, one step a level |
| `distances` | `distance_layout`: the same with the distances of the tree as its aim |
| `codes` | separated points around a parent, for the children of a node |
| `placement` | points of new taxa beside those that stay; moved subtrees, by isometries |
| `refinement` | `refine`: the largest radius per level that improves measured neighbourhoods |

`model.embed` calls them; `blocks.PoincareEmbedding` can start from them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
