r"""Fused distance kernels: what `geometry` defines, without intermediate arrays.

| function | what it fuses |
|---|---|
| `dist`, `pair_distance` | paired distance (of rows gathered from a table), forward and backward |
| `cdist` | all distances between two sets, forward and backward |
| `ranking_loss` | the inner part of a training step: gather, distances, loss, gradients of rows |
| `nearest` | exact search: the k nearest of millions of rows |
| `count_nearer` | rank counting: how many rows are nearer than a target, and how many tie |

Points are tables: [n, dim] in the ball of curvature −c; [n, 1 + dim], the radius first, in the
polar model (as `manifolds.Polar` holds them). Searches also take (radius, direction).

``backend="auto"`` chooses the fastest that is installed: numba's compiled loops on the CPU
(``pip install 'poincare-taxa[fast]'``), Triton's kernels on a CUDA device (``[gpu]``), else plain
torch. A backend asked for by name runs or raises. ``docs/kernels.md`` says what each does.
"""

from poincare_taxa.kernels._backend import Backend
from poincare_taxa.kernels._distance import cdist, dist, pair_distance
from poincare_taxa.kernels._points import By, Manifold
from poincare_taxa.kernels._search import Counts, Neighbours, count_nearer, nearest
from poincare_taxa.kernels._training import RankingKind, ranking_loss

__all__ = [
    "Backend",
    "By",
    "Counts",
    "Manifold",
    "Neighbours",
    "RankingKind",
    "cdist",
    "count_nearer",
    "dist",
    "nearest",
    "pair_distance",
    "ranking_loss",
]
