"""Points for every taxon without training.

| file | what it holds |
|---|---|
| `tree` | `layout`: radius from depth, directions from separated codes, one step a level |
| `codes` | separated directions for the children of a node |
| `refinement` | `refine`: more radius per level and wider families, as far as measures allow |

`model.embed` calls them; `blocks.PoincareEmbedding` can start from them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
