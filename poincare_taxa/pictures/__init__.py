"""Pictures of embeddings, and figures of what they keep; all return axes of matplotlib.

| file | what it holds |
|---|---|
| `disk` | `plot_disk`, the Poincaré disk, and `disk_layout`, an embedding made for it |
| `dags` | the disk of a DAG |
| `curves` | figures of depth, distances, separation, and of a training |
| `neighbourhoods` | UMAP with the hyperbolic metric |
| `figures` | axes to draw into, and files |
| `colours` | colours of taxa: by clade, by numbers, by categories |
| `view` | places in the disk: arcs around any taxon, geodesics |
| `labels` | title, names and legend, placed by their measured sizes |

Its functions take a `TaxonEmbedding` (`plot_training` a `Run`); only the command line calls them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
