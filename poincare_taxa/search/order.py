"""An order in which near points are close together, for points that have none."""

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import Points
from poincare_taxa.kernels.numba.arrays import array
from poincare_taxa.kernels.numba.index import halves_loop

__all__ = ["by_halves"]


def by_halves(points: Points, rows: Tensor) -> Tensor:
    """Sort rows so that each leaf, and each node above, has points that are near to each other.

    The rows are cut in halves, along the coordinate of their directions in which they vary most or
    along their radius where that is larger in hyperbolic space, until a leaf holds them.
    """
    some = points.at(rows).double()
    if some.radius is None:
        norm = torch.linalg.vector_norm(some.coordinates, dim=1)
        direction = some.coordinates / norm.clamp(min=1e-300)[:, None]
        radius = 2 * torch.atanh((norm * some.c**0.5).clamp(max=1 - 1e-16))
    else:
        radius, direction = some.radius, some.coordinates
    order = np.arange(len(rows))
    halves_loop(np.float64)(array(radius), array(direction), order)
    return rows[torch.from_numpy(order)]
