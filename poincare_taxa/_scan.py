r"""Distances from a few queries to millions of points, in float64, as fast as the memory allows.

With a = e^{−r} and f = 1 − a², the law of haversines (equation 1 of `geometry.polar`) becomes

.. math:: b = \tfrac14(a_q - a_v)^2 + \tfrac1{16} f_q f_v |u_q - u_v|^2, \qquad
          d = |r_q - r_v| + 2\log\frac{\sqrt b + \sqrt{b + a_q a_v}}{\max(a_q, a_v)},

in which all that costs an exponential belongs to one point and is computed once. Symmetric to the
last bit, 0 where points coincide, absolute error below 8 eps (1 + r_q + r_v): enough to rank by.
For a relative error, and where a² underflows, there is `geometry.polar`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.geometry import polar

__all__ = ["Points"]

# Elements of a tile: its buffers stay in a core's second-level cache. Callers bring their own
# threads, so no operation may start a team of them: torch adds and multiplies fewer than 32,768
# elements on the calling thread, but roots and logarithms only up to 2,048; numpy always does.
_TILE = 32_000
_LARGEST = 350.0  # Radius up to which a² is a normal number.


class Points:
    """Points in polar coordinates, kept one coordinate after the other.

    Parameters
    ----------
    radius
        Float [n].
    direction
        Float [n, dim].

    Attributes
    ----------
    radius : float64 [n]
        0 for points that are not `valid`.
    valid : bool [n]
        Whether radius and direction are finite and the radius at least 0. A point that is not valid
        is infinitely far from every point, itself included.
    """

    def __init__(self, radius: Tensor, direction: Tensor) -> None:
        r = radius.detach().to("cpu", torch.float64)
        u = direction.detach().to("cpu", torch.float64)
        valid = torch.isfinite(r) & (r >= 0) & torch.isfinite(u).all(dim=1)
        self._coordinates = u.T.contiguous()
        self._invalid = torch.nonzero(~valid)[:, 0]
        self._coordinates[:, self._invalid] = 0
        self._radius = torch.where(valid, r, 0)
        self._shrunk = torch.exp(-self._radius)
        self._half = self._shrunk / 2
        self._spread = -torch.expm1(-2 * self._radius)
        self._vast = bool((self._radius > _LARGEST).any())
        self.radius = self._radius.numpy()
        self.valid = valid.numpy()

    @property
    def dim(self) -> int:
        """Number of coordinates of a direction."""
        return len(self._coordinates)

    def __len__(self) -> int:
        return len(self._radius)

    def rows(self, queries: NDArray[np.integer], out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write the distance from each query to every point to `out` [Q, n], on this thread."""
        asked = torch.as_tensor(queries, dtype=torch.int64)
        rows = torch.from_numpy(out)
        width = max(1, _TILE // max(1, len(asked)))
        for start in range(0, len(self), width):
            tile = slice(start, min(start + width, len(self)))
            rows[:, tile] = self._distance(asked[:, None], tile)
        return out

    def pairs(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distance of paired rows; broadcasts."""
        i, j = np.broadcast_arrays(first, second)
        flat_i, flat_j = torch.from_numpy(i.ravel().copy()), torch.from_numpy(j.ravel().copy())
        out = torch.empty(len(flat_i), dtype=torch.float64)
        for start in range(0, len(out), _TILE):
            block = slice(start, start + _TILE)
            out[block] = self._distance(flat_i[block], flat_j[block])
        return out.numpy().reshape(i.shape)

    def square(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distance of all pairs of some rows: [m, m]."""
        at = torch.as_tensor(rows)
        radius = torch.where(torch.from_numpy(self.valid)[at], self._radius[at], torch.nan)
        some = Points(radius, self._coordinates[:, at].T)
        out = np.empty((len(at), len(at)))
        for start in range(0, len(at), 8):
            block = np.arange(start, min(start + 8, len(at)))
            some.rows(block, out[block[0] : block[-1] + 1])
        return out

    def _distance(self, q: Tensor, v: Tensor | slice) -> Tensor:
        if self._vast:
            return self._distance_at_any_radius(q, v)
        first = self._coordinates[0]
        step = first[v] - first[q]
        b = step * step
        for coordinate in self._coordinates[1:]:
            torch.sub(coordinate[v], coordinate[q], out=step)
            b.addcmul_(step, step)
        b *= torch.mul(self._spread[v], self._spread[q] / 16, out=step)
        torch.sub(self._half[v], self._half[q], out=step)
        b.addcmul_(step, step)
        torch.mul(self._half[v], 4 * self._half[q], out=step).add_(b)
        d = _sqrt_(step).add_(_sqrt_(b))
        d /= torch.maximum(self._shrunk[v], self._shrunk[q], out=b)
        d.clamp_(min=1)  # Which it is but for rounding: d is at least the difference of the radii.
        np.log(d.numpy(), out=d.numpy())
        d *= 2
        d += torch.sub(self._radius[v], self._radius[q], out=b).abs_()
        return self._lost_ones_far(d, q, v)

    def _distance_at_any_radius(self, q: Tensor, v: Tensor | slice) -> Tensor:
        at = self._coordinates.T
        d = polar.dist(self._radius[q], at[q], self._radius[v], at[v])
        return self._lost_ones_far(d, q, v)

    def _lost_ones_far(self, d: Tensor, q: Tensor, v: Tensor | slice) -> Tensor:
        if len(self._invalid):
            valid = torch.from_numpy(self.valid)
            d.masked_fill_(~(valid[q] & valid[v]), torch.inf)
        return d


def _sqrt_(x: Tensor) -> Tensor:
    np.sqrt(x.numpy(), out=x.numpy())
    return x
