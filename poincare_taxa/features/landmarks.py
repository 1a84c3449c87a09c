r"""Taxa that span others, and coordinates of points by them, from radii and directions alone.

Two taxa share the way from the root to their lowest common ancestor. Its length is the kernel of
Brownian motion along the tree, and points of hyperbolic space have it as the Gromov product,

.. math:: k(x, y) = \tfrac12\,(r_x + r_y - d(x, y)),

which is positive definite, since hyperbolic distances are of negative type ([FH74]). *Landmarks*
are chosen by Cholesky decomposition of this kernel with pivots: the next landmark is the point of
which the ones before explain least ([FS01]). Every other point then has two kinds of coordinates:

- *shared depth* with each landmark's direction ξ, :math:`\tfrac12\,(r_x - B_\xi(x))`, with the
  Busemann function of ``geometry.polar``: about the radius of the lowest common ancestor, and the
  whole radius where a taxon is on the landmark's ray;
- *kernel* coordinates, the rows of the Cholesky factor, whose scalar products are the kernel as far
  as the landmarks explain it.

The vectors themselves are no such features: of a direction, differences between taxa deep in the
tree are about :math:`e^{-r}`, and vanish in a linear model.

Sources: [FH74] Faraut & Harzallah 1974, *Distances hilbertiennes invariantes sur un espace
homogène*; [FS01] Fine & Scheinberg 2001, *Efficient SVM training using low-rank
kernel representations*.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from poincare_taxa.geometry import polar
from poincare_taxa.kernels.distance import cdist

__all__ = ["Landmarks", "choose_landmarks", "kernel_coordinates", "shared_depth"]

Floats = NDArray[np.float64]

_ROWS = 2**9  # of points at once: a block of them and 256 landmarks fits the cache
_EXPLAINED = 1e-9  # Part of the largest radius: what rounding leaves of a point in the span.


@dataclass(frozen=True, eq=False)
class Landmarks:
    """Points that span others.

    Attributes
    ----------
    place : int64 [m]
        Places among the points that they were chosen from, the first chosen first.
    radius, direction : Tensor
        The points, float64 [m] and [m, dim].
    factor : float64 [m, m]
        Lower triangular: ``factor @ factor.T`` is their kernel.
    """

    place: NDArray[np.int64]
    radius: Tensor
    direction: Tensor
    factor: Floats


def choose_landmarks(radius: Tensor, direction: Tensor, num: int) -> Landmarks:
    """Choose landmarks among n points by Cholesky decomposition of their kernel with pivots.

    Parameters
    ----------
    radius, direction
        Points [n] and [n, dim], at least one. Memory is 8 n `num` bytes.
    num
        Number of landmarks, at least 1. There are fewer where fewer points explain all of the
        kernel, such as those of a few different taxa.

    Returns
    -------
    landmarks
        At least one, even of points that are all at the origin.
    """
    points = radius.double(), direction.double()
    left = points[0].numpy(force=True).copy()  # What the landmarks so far do not explain of k(x, x)
    least, most = _EXPLAINED * left.max(), min(num, len(left))
    factor, place, roots = np.zeros((most, len(left))), [], []
    for step in range(most):
        # 1. The point that is explained least; none is left where all are in the span.
        pivot = int(left.argmax())
        if left[pivot] <= least and place:
            break
        place.append(pivot)
        # 2. Its column of the kernel, less what is explained, gives the next column of the factor.
        at = slice(pivot, pivot + 1)
        gromov = _kernel(points, (points[0][at], points[1][at]))[:, 0]
        roots.append(np.sqrt(left[pivot]) if left[pivot] > 0 else 1.0)  # 1 where all are at 0
        column = factor[step]
        np.subtract(gromov, factor[:step, pivot] @ factor[:step], out=column)
        column /= roots[step]
        # 3. Nothing of the landmarks is left: rounding must not choose one again.
        left -= column * column
        left[place] = 0
    chosen = np.array(place)
    lower = np.tril(factor[: len(chosen), chosen].T)
    np.fill_diagonal(lower, roots)
    return Landmarks(chosen, points[0][chosen], points[1][chosen], lower)


def shared_depth(radius: Tensor, direction: Tensor, landmarks: Landmarks) -> Floats:
    """Radius at which the rays to points and to landmarks separate: [n, m], float64."""
    found = np.empty((len(radius), len(landmarks.place)))
    for rows in _blocks(len(radius)):
        r, u = radius[rows].double(), direction[rows].double()
        found[rows] = (r[:, None] - polar.busemann(r, u, landmarks.direction)).numpy(force=True)
    return np.multiply(found, 0.5, out=found)


def kernel_coordinates(radius: Tensor, direction: Tensor, landmarks: Landmarks) -> Floats:
    """Coordinates [n, m] whose scalar products are the kernel that the landmarks explain."""
    found = np.empty((len(radius), len(landmarks.place)))
    for rows in _blocks(len(radius)):
        points = radius[rows].double(), direction[rows].double()
        kernel = _kernel(points, (landmarks.radius, landmarks.direction))
        found[rows] = linalg.solve_triangular(landmarks.factor, kernel.T, lower=True).T
    return found


def _kernel(x: tuple[Tensor, Tensor], y: tuple[Tensor, Tensor]) -> Floats:
    """Gromov products of points [n] and [m]: [n, m]."""
    apart = cdist(x, y, manifold="polar")
    return ((x[0][:, None] + y[0] - apart) / 2).numpy(force=True)


def _blocks(n: int) -> list[slice]:
    return [slice(start, start + _ROWS) for start in range(0, n, _ROWS)]
