"""The kernels as compiled loops for the CPU, on tensors: one stretch of work for each thread.

| file | what it has |
|---|---|
| `pairs` | `pairs_forward`, `pairs_backward`: paired points; `scatter`: sums of rows |
| `matrix` | `cdist`, `cdist_backward`: all pairs |
| `ranking` | `ranking_forward`, `ranking_backward`: rows to losses, and back to gradients |
| `search` | `nearest`, `count_nearer`: few queries against all rows |
| `adam` | `adam_step`: the step of an optimizer on rows of a polar table |
| `tiles`, `elementary` | what their loops share: points as columns; exponential and logarithm |
| `arrays`, `compile` | tensors as arrays; decorators, the cache of machine code, threads |
"""

from poincare_taxa.kernels.numba.adam import adam_step
from poincare_taxa.kernels.numba.matrix import cdist, cdist_backward
from poincare_taxa.kernels.numba.pairs import pairs_backward, pairs_forward, scatter
from poincare_taxa.kernels.numba.ranking import ranking_backward, ranking_forward
from poincare_taxa.kernels.numba.search import count_nearer, nearest

__all__ = [
    "adam_step",
    "cdist",
    "cdist_backward",
    "count_nearer",
    "nearest",
    "pairs_backward",
    "pairs_forward",
    "ranking_backward",
    "ranking_forward",
    "scatter",
]
