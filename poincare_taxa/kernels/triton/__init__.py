"""The kernels for CUDA devices, in Triton; for tests also on the CPU, in its interpreter.

| file | what it has |
|---|---|
| `pairs` | `pairs_forward`, `pairs_backward`: paired points; `scatter`: sums of rows |
| `tiles` | `cdist`, `cdist_backward`: all pairs, and what `ranking` needs of them |
| `ranking` | `ranking_forward`, `ranking_backward`: rows to losses, and back to gradients |
| `search` | `nearest`, `count_nearer`: few queries against all rows |
| `formulas` | one pair: distance, partial derivatives, elementary functions |
| `launch` | how a kernel is started |
"""

from poincare_taxa.kernels.triton.launch import INTERPRETED
from poincare_taxa.kernels.triton.pairs import pairs_backward, pairs_forward, scatter
from poincare_taxa.kernels.triton.ranking import ranking_backward, ranking_forward
from poincare_taxa.kernels.triton.search import count_nearer, nearest
from poincare_taxa.kernels.triton.tiles import cdist, cdist_backward

__all__ = [
    "INTERPRETED",
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
