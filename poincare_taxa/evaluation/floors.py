"""What points stand beside: two sets of points that know their radii and nothing else.

*Random directions* know no relative; but a radius alone orders taxa by depth, and where a tree is
deep or its families are alike, depth alone finds relatives. Points in *one direction* earn all that
it earns: on a ray from the origin the distance of two points is the difference of their radii, in
every space. The better of the two is the floor of a measure.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.evaluation.points import GivenPoints
from poincare_taxa.evaluation.subjects import (
    DistanceSubject,
    Nearest,
    Relatives,
    Subject,
    polar_subject,
)
from poincare_taxa.kernels import By

__all__ = ["RaySubject", "points_and_floors"]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]

_BITS = 40  # Of a radius, that are compared: sums and differences of such numbers are exact.
_FARTHER = 1 << (_BITS + 3)  # Than any point of the ray is from another.
_TIED = 2560  # Taxa tied for the last places that are looked at; of more, a random choice.


def points_and_floors(
    points: GivenPoints,
    seed: int,
    device: torch.device | str | None = None,
    depth: Rows | None = None,
) -> dict[str, Subject]:
    """Points as a subject, "value", and their floors by name; of taxa at a depth [n].

    Where a space has no directions, the first floor has the vectors of other taxa.
    """
    here = points.vectors.device if device is None else device
    generator = torch.Generator().manual_seed(seed)
    height, valid = points.radius.numpy(force=True), points.valid.numpy(force=True)

    def measured(vectors: Tensor, height: Floats, valid: NDArray[np.bool_]) -> DistanceSubject:
        assert points.distance is not None
        return DistanceSubject((vectors.double().to(here),), points.distance, height, valid)

    ray = RaySubject(height, valid)
    if points.direction is None:
        dealt = torch.randperm(len(valid), generator=generator).numpy()
        shuffled = measured(points.vectors[torch.from_numpy(dealt)], height[dealt], valid[dealt])
        value = measured(points.vectors, height, valid)
        return {"value": value, "shuffled vectors": shuffled, "one direction": ray}
    random = torch.randn(points.direction.shape, generator=generator, dtype=torch.float64)
    random /= torch.linalg.vector_norm(random, dim=1, keepdim=True)
    radius = points.radius.cpu()
    if points.distance is None:
        value = polar_subject(points.radius, points.direction, here, depth)
        floor = polar_subject(radius, random, here)
    else:
        value = measured(points.vectors, height, valid)
        floor = measured(radius[:, None] * random, height, valid)
    return {"value": value, "random directions": floor, "one direction": ray}


class RaySubject:
    """Points in one direction: the distance of two is the difference of their radii.

    Neighbours and counts are looked up among the sorted radii, so that a query costs no pass over
    all taxa. Of more than 2,560 taxa that are tied for the last places a random choice of as many
    stands for all, which changes no expected value.

    Parameters
    ----------
    height
        [n], radii.
    valid
        [n], False where a taxon is lost.
    """

    valid: NDArray[np.bool_]

    def __init__(self, height: Floats, valid: NDArray[np.bool_]) -> None:
        self.height = height
        self.valid = valid & np.isfinite(height)
        rows = np.flatnonzero(self.valid)
        self._grid = 2.0**_BITS / (np.abs(height[rows]).max(initial=0) or 1)
        self._place = np.zeros(len(height), np.int64)
        self._place[rows] = np.rint(height[rows] * self._grid)
        # Rows by place; those at one place in random order, so that some of them stand for all.
        order = np.lexsort((np.random.default_rng(0).random(len(rows)), self._place[rows]))
        self._rows, self._sorted = rows[order], self._place[rows[order]]
        self._rank = np.zeros(len(height), np.int64)
        self._rank[self._rows] = np.arange(len(rows))

    def nearest(self, queries: Rows, k: int, relatives: Relatives) -> Nearest:
        """See `Subject`."""
        result = Nearest.nobody(len(queries), relatives)
        left = np.flatnonzero(self.valid[queries])
        if len(left) == 0:
            return result
        some, n = queries[left], len(self._rows)
        at, rank = self._place[some], self._rank[some]
        # 1. The k nearest of a query are among the k before it and the k after it.
        steps = np.concatenate([np.arange(-k, 0), np.arange(1, k + 1)])
        near = rank[:, None] + steps
        gap = np.abs(self._sorted[near.clip(0, n - 1)] - at[:, None])
        gap[(near < 0) | (near >= n)] = _FARTHER
        edge = np.partition(gap, k - 1, axis=1)[:, k - 1]
        # 2. All that are nearer than the k-th of them, fewer than k; the query is among them.
        first = self._upto(at - edge)
        inside = first[:, None] + np.arange(k)
        inside = np.where(inside < self._before(at + edge)[:, None], inside, n)
        # 3. All that are as near, on either side; or some of them, evenly taken.
        low, high = self._before(at - edge), self._before(at + edge)
        before = self._upto(at - edge) - low
        tied = before + np.where(edge > 0, self._upto(at + edge) - high, 0)
        step = np.maximum(tied, _TIED) / _TIED
        place = np.arange(min(int(tied.max()), _TIED))
        place = np.minimum((place + 0.5) * step[:, None], tied[:, None]).astype(np.int64)
        at_edge = np.where(
            place < before[:, None], low[:, None] + place, (high - before)[:, None] + place
        )
        at_edge = np.where(place < tied[:, None], at_edge, n)
        chosen = np.concatenate([inside, at_edge], axis=1)
        rows = self._rows[chosen.clip(max=n - 1)]
        distance = np.abs(self._place[rows] - at[:, None]).astype(np.float64)
        distance[(chosen == n) | (rows == some[:, None])] = np.inf
        result.put(left, Nearest.among(some, rows, distance, k, relatives.at(left)))
        return result

    def count_nearer(self, queries: Rows, targets: Rows, by: By) -> tuple[Rows, Rows]:
        """See `Subject`."""
        at, to = self._place[queries][:, None], self._place[np.maximum(targets, 0)]
        # The query is among those counted; so is the target, where it counts as tied with itself.
        if by == "ancestor":  # the score is twice what a taxon lies beyond the query
            far = to > at
            nearer = np.where(far, self._before(to) - 1, 0)
            tied = np.where(far, self._at(to) - 1, self._upto(at) - 2)
        else:
            gap = np.abs(to - at)
            nearer = np.maximum(self._before(at + gap) - self._upto(at - gap) - 1, 0)
            both = self._at(at + gap) + self._at(at - gap) - 1
            tied = np.where(gap > 0, both, self._at(at) - 2)
        lost = ~(self.valid[queries][:, None] & self.valid[targets])
        nearer, tied = np.where(lost, len(self.valid) - 2, nearer), np.where(lost, 0, tied)
        return np.where(targets >= 0, nearer, 0), np.where(targets >= 0, tied, 0)

    def pairs(self, first: Rows, second: Rows) -> Floats:
        """See `Subject`."""
        found = np.abs(self._place[first] - self._place[second]) / self._grid
        return np.where(self.valid[first] & self.valid[second], found, np.inf)

    def _before(self, place: Rows) -> Rows:
        return np.searchsorted(self._sorted, place, "left")

    def _upto(self, place: Rows) -> Rows:
        return np.searchsorted(self._sorted, place, "right")

    def _at(self, place: Rows) -> Rows:
        return self._upto(place) - self._before(place)
