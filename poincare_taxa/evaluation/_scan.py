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
_FACTS = 5  # Of a point beside its coordinates: lost or not, r, a, a/2, f.


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
        # One row for each thing that a distance needs to know of a point, coordinates last.
        self._table = torch.empty(_FACTS + u.shape[1], len(r), dtype=torch.float64)
        lost, at, shrunk, half, spread, *_ = self._table
        lost.copy_(torch.where(valid, 0, torch.inf))
        at.copy_(torch.where(valid, r, 0))
        torch.exp(-at, out=shrunk)
        torch.div(shrunk, 2, out=half)
        spread.copy_(torch.expm1(-2 * at).neg_())
        self._table[_FACTS:] = u.T
        self._table[_FACTS:, ~valid] = 0
        self._some_lost = not bool(valid.all())
        self._vast = bool((at > _LARGEST).any())
        self.radius = at.numpy()
        self.valid = valid.numpy()

    @property
    def dim(self) -> int:
        """Number of coordinates of a direction."""
        return len(self._table) - _FACTS

    @property
    def direction(self) -> Tensor:
        """Directions [n, dim], float64; 0 for points that are not valid."""
        return self._table[_FACTS:].T

    def __len__(self) -> int:
        return self._table.shape[1]

    def rows(self, queries: NDArray[np.integer], out: NDArray[np.float64]) -> NDArray[np.float64]:
        """Write the distance from each query to every point to `out` [Q, n], on this thread."""
        asked = self._table[:, torch.as_tensor(queries), None]
        rows = torch.from_numpy(out)
        width = max(1, _TILE // max(1, len(queries)))
        for start in range(0, len(self), width):
            tile = slice(start, min(start + width, len(self)))
            rows[:, tile] = self._distance(asked, self._table[:, tile])
        return out

    def pairs(self, first: NDArray[np.integer], second: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distance of paired rows; broadcasts."""
        i, j = np.broadcast_arrays(first, second)
        flat_i, flat_j = torch.from_numpy(i.ravel().copy()), torch.from_numpy(j.ravel().copy())
        out = torch.empty(len(flat_i), dtype=torch.float64)
        for start in range(0, len(out), _TILE):
            block = slice(start, start + _TILE)
            out[block] = self._distance(
                self._table[:, flat_i[block]], self._table[:, flat_j[block]]
            )
        return out.numpy().reshape(i.shape)

    def square(self, rows: NDArray[np.integer]) -> NDArray[np.float64]:
        """Distance of all pairs of some rows: [m, m]."""
        some = self._table[:, torch.as_tensor(rows)]
        out = torch.empty(len(rows), len(rows), dtype=torch.float64)
        height = max(1, _TILE // max(1, len(rows)))
        for start in range(0, len(rows), height):
            block = slice(start, start + height)
            out[block] = self._distance(some[:, block, None], some)
        return out.numpy()

    def _distance(self, q: Tensor, v: Tensor) -> Tensor:
        """Distance of columns of the table that broadcast."""
        if self._vast:
            u_q, u_v = q[_FACTS:].movedim(0, -1), v[_FACTS:].movedim(0, -1)
            return polar.dist(q[1], u_q, v[1], u_v) + (q[0] + v[0])
        (lost_q, r_q, a_q, half_q, f_q, x_q, *rest_q) = q
        (lost_v, r_v, a_v, half_v, f_v, x_v, *rest_v) = v
        step = x_v - x_q
        b = step * step
        for x_q, x_v in zip(rest_q, rest_v, strict=True):
            torch.sub(x_v, x_q, out=step)
            b.addcmul_(step, step)
        b *= torch.mul(f_v, f_q / 16, out=step)
        torch.sub(half_v, half_q, out=step)
        b.addcmul_(step, step)
        torch.mul(half_v, 4 * half_q, out=step).add_(b)
        d = _sqrt_(step).add_(_sqrt_(b))
        d /= torch.maximum(a_v, a_q, out=b)
        d.clamp_(min=1)  # Which it is but for rounding: d is at least the difference of the radii.
        np.log(d.numpy(), out=d.numpy())
        d *= 2
        d += torch.sub(r_v, r_q, out=b).abs_()
        if self._some_lost:
            d += torch.add(lost_q, lost_v, out=b)
        return d


def _sqrt_(x: Tensor) -> Tensor:
    np.sqrt(x.numpy(), out=x.numpy())
    return x
