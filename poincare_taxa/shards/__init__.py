"""Tables larger than one process: each process of ``torchrun`` has a slice of the rows.

| file | what it holds |
|---|---|
| `embedding` | `embed_shards`: a file of millions of nodes → a folder of shards |
| `evaluation` | `evaluate_shards`: the report of such a folder, counted by all processes together |
| `source` | parquet files that are read a part at a time |
| `slices` | where rows are cut; a tree whose entries are looked up where they are |
| `orientation` | the random numbers of some families of a level, without those of the others |
| `directions` | the layout and the refinement of a slice, with the bits of one process |

Each shard is the folder of an embedding by itself; `model.TaxonEmbedding.load` reads it, and joins
all of them where they fit.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
