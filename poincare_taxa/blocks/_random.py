"""Parts of the samplers: uniform integers, integer weights, weighted orders, checked indices."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch import distributed as dist

from poincare_taxa.processes.group import own_generator

__all__ = [
    "Order",
    "below",
    "index_tensor",
    "integer_weights",
    "random_bits",
    "tensor_of",
    "weighted_choice",
]

_TOTAL = 2**40
"""Sum of weights once they are integers. A weight of the mean size, among a million, is rounded to
one part in a million; and (number of nodes) · (sum of weights) fits in 63 bits up to 8 million."""


def below(limit: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw a uniform integer in [0, limit) for each element of an int64 tensor; 0 where limit is 0.

    It is the remainder of 63 random bits. Probabilities differ by less than limit / 2^63, which
    for the pairs of the largest taxonomies is 10^-11.
    """
    return random_bits(limit.shape, generator, limit.device) % limit.clamp(min=1)


def random_bits(
    shape: Sequence[int], generator: torch.Generator | None, device: torch.device
) -> Tensor:
    """Draw 63 random bits for each element, int64; without a generator, other ones in each process.

    Processes that train together begin with one seed, and should not draw one batch twice.
    """
    own = _own(generator, device)
    return torch.randint(2**63 - 1, tuple(shape), generator=own, device=device)


def weighted_choice(shares: Tensor, count: int, generator: torch.Generator | None) -> Tensor:
    """Draw places of shares with replacement, each by its share; in processes as `random_bits`."""
    own = _own(generator, shares.device)
    return torch.multinomial(shares, count, True, generator=own)


def _own(generator: torch.Generator | None, device: torch.device) -> torch.Generator | None:
    """Return a generator as it is; without one, among processes, one of this process's own."""
    if generator is not None:
        return generator
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        return None
    return own_generator(None, dist.get_rank(), device)


def integer_weights(weights: Tensor) -> Tensor:
    """Scale weights to integers that sum to about 2^40; a positive weight is at least one unit.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or all are zero.
    """
    weights = weights.to(torch.float64)
    bad = ~(weights.isfinite() & (weights >= 0))
    if bad.any():
        i = int(bad.nonzero()[0])
        raise ValueError(f"weights must be finite and at least 0; weight {i} is {weights[i]:g}")
    if not (weights > 0).any():
        raise ValueError("all weights are zero: give one of them a value above 0")
    scaled = weights / weights.max()
    units = (scaled * (_TOTAL / scaled.sum())).round().to(torch.int64)
    return torch.where(weights > 0, units.clamp(min=1), 0)


class Order(NamedTuple):
    """Rows in some order with their cumulative weight; one uniform integer draws a row."""

    rows: Tensor | None
    """The order, rows [n]; None for 0, 1, … n − 1."""
    cumulative: Tensor | None
    """Weight of the first 0, 1, … n of them, int64 [n + 1]; None where each weighs 1."""

    @classmethod
    def weighted(cls, rows: Tensor | None, units: Tensor | None) -> "Order":
        """Make an order with weights: integers [n], by row, or None for equal ones."""
        if units is None:
            return cls(rows, None)
        along = units if rows is None else units[rows]
        return cls(rows, torch.cat((units.new_zeros(1), along.cumsum(0))))

    def mass(self, start: Tensor, stop: Tensor) -> Tensor:
        """Weight of the places from start to before stop."""
        if self.cumulative is None:
            return stop - start
        return self.cumulative[stop] - self.cumulative[start]

    def at(self, start: Tensor, m: Tensor) -> Tensor:
        """Row at which the weight from place start on exceeds m; any row if it never does."""
        place = start + m
        if self.cumulative is not None:
            beyond = self.cumulative[start] + m
            place = torch.searchsorted(self.cumulative, beyond, right=True) - 1
        return place if self.rows is None else self.rows[place.clamp(max=len(self.rows) - 1)]

    def to(self, device: torch.device | str) -> "Order":
        """Copy to a device."""
        return Order(*(None if tensor is None else tensor.to(device) for tensor in self))


def index_tensor(index: object, size: int, device: torch.device) -> Tensor:
    """Convert an index or a sequence of indices to int64; negative ones count from the end.

    Raises
    ------
    IndexError
        If one is out of range.
    """
    places = torch.as_tensor(index, dtype=torch.int64, device=device)
    if places.numel() and not (-size <= int(places.min()) and int(places.max()) < size):
        raise IndexError(
            f"index out of range: {size} pairs have the indices 0 to {size - 1}, and negative ones "
            f"from the end; got {int(places.min())}…{int(places.max())}"
        )
    return torch.where(places < 0, places + size, places)


def tensor_of(values: ArrayLike | Tensor) -> Tensor:
    """Copy numbers into a tensor; a tensor is returned as it is."""
    # torch takes no negative strides, such as those of edges[:, ::-1]; a copy has none
    return values if isinstance(values, Tensor) else torch.from_numpy(np.array(values, order="C"))
