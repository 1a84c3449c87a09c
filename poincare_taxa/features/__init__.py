"""What a model of yours takes: columns of numbers for taxa, and matrices of the taxonomy itself.

| file | what it holds |
|---|---|
| `transformer` | `TaxonFeatures`: a transformer of scikit-learn (extra ``[sklearn]``) |
| `landmarks` | taxa that span others, and coordinates by them, from the vectors alone |
| `ancestors` | `ancestor_matrix`: the sparse baseline, exact, from the tree |
| `neighbours` | weights of the nearest taxa, by whole levels of equal distance |

A user calls them, after `model.embed`; ``docs/does-it-help.md`` says when they are worth it.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
