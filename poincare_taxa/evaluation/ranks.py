r"""Places in a list sorted by score, and what ties do to them.

Low scores are near. A *score* array holds one number per candidate; the query itself is left out by
its index (``skip``). Ties are never broken by the order in memory: every quantity is its mean over
all ways to break them at random, so scores that are all equal are worth exactly what chance is
worth. The best and the worst way are available too.

Notation: for a score that some relevant candidate has, ``found`` relevant and ``tied`` other
candidates have exactly this score, and ``before`` others have a lower one.

Sources: [MN08] McSherry & Najork 2008, *Computing information retrieval performance measures
efficiently in the presence of tied scores*, §2.5 (mean of the average precision over the orders of
a tied group).  [NK17] Nickel & Kiela 2017, §4.1 (relevant items are ranked among irrelevant ones).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

__all__ = ["Nearest", "Ranks", "nearest"]

_GROUP = 1024  # Scores of which only the lowest is looked at first.


@dataclass(frozen=True)
class Nearest:
    """The k nearest candidates, the last places drawn by lot among those tied for them.

    Attributes
    ----------
    k : int
        Number of places.
    sure : int64 [≤ k]
        Candidates that have a place however ties are broken.
    tied : int64 [m]
        Candidates that compete for the ``k − len(sure)`` places left: more than there are places,
        or none.
    edge
        The k-th lowest score.
    """

    k: int
    sure: NDArray[np.int64]
    tied: NDArray[np.int64]
    edge: float

    @property
    def by_lot(self) -> float:
        """Share of the k places that are drawn by lot, in [0, 1]; nan if k is 0."""
        return (self.k - len(self.sure)) / self.k if self.k else np.nan

    def mean(self, value: Callable[[NDArray[np.int64]], NDArray[Any]]) -> float:
        """Mean of a function of rows over the k places and over the lots; nan if k is 0."""
        if self.k == 0:
            return np.nan
        total = float(value(self.sure).sum())
        if len(self.tied):
            total += (self.k - len(self.sure)) * float(value(self.tied).mean())
        return total / self.k


def nearest(scores: NDArray[np.number], k: int, *, skip: int) -> Nearest:
    """Find the k lowest scores.

    Parameters
    ----------
    scores
        [n], without NaN (give a candidate that cannot be ranked the score infinity).
    k
        At least 1; where there are fewer than k candidates, all are returned.
    skip
        The index that is no candidate: the query.

    Returns
    -------
    nearest

    Examples
    --------
    One candidate is nearest; three are tied for the second place.

    >>> found = nearest(np.array([0, 5, 1, 2, 2, 2]), 2, skip=0)
    >>> found.sure, found.tied, found.by_lot
    (array([2]), array([3, 4, 5]), 0.5)
    """
    k = min(k, len(scores) - 1)
    if k < 1:
        nobody = np.empty(0, np.int64)
        return Nearest(0, nobody, nobody, np.nan)
    rows = np.flatnonzero(scores <= _bound(scores, k + 1))  # k + 1: one of them may be `skip`
    rows = rows[rows != skip]
    values = scores[rows]
    edge = np.partition(values, k - 1)[k - 1]
    upto = rows[values <= edge]
    if len(upto) == k:
        return Nearest(k, upto, upto[:0], float(edge))
    return Nearest(k, rows[values < edge], rows[values == edge], float(edge))


def _bound(scores: NDArray[np.number], k: int) -> np.number:
    """Return, cheaply, a number that at least k scores do not exceed: one in each of k groups."""
    whole = len(scores) // _GROUP * _GROUP
    if whole < k * _GROUP:
        return scores.max()
    return np.partition(scores[:whole].reshape(-1, _GROUP).min(axis=1), k - 1)[k - 1]


@dataclass(frozen=True)
class Ranks:
    """Where the relevant candidates of one query stand: one entry per distinct score of theirs.

    Attributes
    ----------
    found : int64 [m]
        Relevant candidates at this score.
    before : int64 [m]
        Irrelevant candidates at lower scores.
    tied : int64 [m]
        Irrelevant candidates at exactly this score.
    """

    found: NDArray[np.int64]
    before: NDArray[np.int64]
    tied: NDArray[np.int64]

    @classmethod
    def of(cls, scores: NDArray[np.number], relevant: NDArray[np.integer], *, skip: int) -> "Ranks":
        """Rank the relevant candidates among all.

        Parameters
        ----------
        scores
            [n], without NaN.
        relevant
            Indices of the relevant candidates, without `skip`; all others are irrelevant.
        skip
            The index that is no candidate: the query.

        Examples
        --------
        >>> Ranks.of(np.array([9, 1, 2, 2, 3]), np.array([2, 4]), skip=0)
        Ranks(found=array([1, 1]), before=array([1, 2]), tied=array([1, 0]))
        """
        levels, found = np.unique(scores[relevant], return_counts=True)
        if len(levels) == 0:
            return cls(found, found, found)
        near = np.sort(scores[scores <= levels[-1]])
        lower = np.searchsorted(near, levels, "left") - (scores[skip] < levels)
        upto = np.searchsorted(near, levels, "right") - (scores[skip] <= levels)
        before = lower - (np.cumsum(found) - found)
        return cls(found, before, upto - lower - found)

    @property
    def count(self) -> int:
        """Number of relevant candidates."""
        return int(self.found.sum())

    @property
    def optimistic(self) -> float:
        """Sum of the ranks, each among the irrelevant, from 1, if every tie fell in favour."""
        return float(self.found @ (1 + self.before))

    @property
    def realistic(self) -> float:
        """Mean of that sum over all ways to break ties; halfway between best and worst."""
        return float(self.found @ (1 + self.before + self.tied / 2))

    @property
    def pessimistic(self) -> float:
        """Sum of the ranks if every tie fell against."""
        return float(self.found @ (1 + self.before + self.tied))

    @property
    def average_precision(self) -> float:
        r"""Average precision, in the mean over all ways to break ties; nan if nothing is relevant.

        Average precision is the mean, over the relevant candidates in order, of (how many relevant
        ones up to here) / (how many candidates up to here). Where p relevant ones are among m tied
        candidates, behind P relevant and R candidates in all, place j of the m holds a relevant one
        with probability p/m, and then (j − 1)(p − 1)/(m − 1) more before it in the mean; so the
        group adds [MN08]

        .. math:: \frac pm \sum_{j=1}^{m} \frac{P + 1 + (j-1)\frac{p-1}{m-1}}{R + j}
              = \frac pm \Bigl[(P+1)\,h + \frac{p-1}{m-1}\bigl(m - (R+1)\,h\bigr)\Bigr],
              \qquad h = \sum_{j=1}^m \frac1{R+j}.
        """
        if len(self.found) == 0:
            return np.nan
        p, m = self.found, self.found + self.tied
        P = np.cumsum(p) - p
        R = P + self.before
        # One place needs no difference of digammas, whose rounding would be all that is left of it.
        h = np.where(m == 1, 1 / (R + 1), digamma(R + m + 1) - digamma(R + 1))
        slope = (p - 1) / np.maximum(m - 1, 1)
        return float((p / m * ((P + 1) * h + slope * (m - (R + 1) * h))).sum() / p.sum())

    @property
    def average_precision_bounds(self) -> tuple[float, float]:
        """Average precision if every tie fell against, and if every tie fell in favour."""
        p = self.count
        if p == 0:
            return np.nan, np.nan
        place = 1 + np.arange(p)
        before = np.repeat(self.before, self.found)
        tied = np.repeat(self.tied, self.found)
        worst = np.mean(place / (place + before + tied))
        return float(worst), float(np.mean(place / (place + before)))
