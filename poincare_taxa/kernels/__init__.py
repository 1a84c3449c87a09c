"""Fused distance kernels: what `geometry` defines, without intermediate arrays.

| file | what it fuses |
|---|---|
| `distance` | `dist`, `pair_distance`: paired distances (of rows of a table); `cdist`: all pairs |
| `ranking` | `ranking_loss`, the inner part of a training step, from rows to gradients |
| `search` | `nearest`: exact search of millions of rows; `count_nearer`: exact rank counts |
| `dispatch` | when a call goes to a kernel and when to plain torch |
| `arguments`, `counts`, `backend` | what implementations share; the choice of one |
| `numba/`, `triton/`, `torch/` | the implementations: compiled for CPUs, for CUDA devices, plain |

Points are tables: [n, dim] in the ball of curvature −c; [n, 1 + dim], the radius first, in the
polar model (as `blocks.Polar` holds them). Searches also take (radius, direction).

``backend="auto"`` chooses the fastest: numba's compiled loops on the CPU, Triton's kernels on a
CUDA device where that is installed (``pip install 'poincare-taxa[gpu]'``), else plain torch.
A backend chosen by name runs or raises. ``docs/kernels.md`` describes each.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
