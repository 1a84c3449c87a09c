r"""Places in a list sorted by score, and what ties do to them.

Low scores are near. All that a measure needs of the candidates are counts: how many are *nearer*
than a target (a strictly lower score), and how many others are *tied* with it (the same score).
Where the counts come from does not matter here. Ties are never broken by the order in memory:
every quantity is its mean over all ways to break them at random, so scores that are all equal are
worth exactly what chance is worth. The best and the worst way are available too.

Sources: [MN08] McSherry & Najork 2008, *Computing information retrieval performance measures
efficiently in the presence of tied scores*, §2.5 (mean of the average precision over the orders of
a tied group).  [NK17] Nickel & Kiela 2017, §4.1 (relevant items are ranked among irrelevant ones).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma

__all__ = ["Places", "RankStatistics", "rank_statistics", "share"]

Floats = NDArray[np.float64]
Integers = NDArray[np.integer]


class Places(NamedTuple):
    """Candidates for the k nearest places of each query."""

    sure: Integers
    """[Q], nearer than the k-th nearest: they have a place however ties are broken."""
    tied: Integers
    """[Q], as near as the k-th nearest: they draw lots for the places left."""


def share(some: Places, everyone: Places, k: int) -> Floats:
    """Share of the k places that some of the candidates hold, in the mean over the lots: [Q].

    The ``k − everyone.sure`` places left fall on each of those tied with the same probability. A
    place for which there is no candidate belongs to nobody.

    Examples
    --------
    Of two places one is sure, and three candidates, two of ours, are tied for the other.

    >>> one, two, three = np.array([1]), np.array([2]), np.array([3])
    >>> share(Places(one, two), Places(one, three), 2).round(4).tolist()
    [0.8333]
    """
    drawn = (k - everyone.sure) * some.tied / np.maximum(everyone.tied, 1)
    return (some.sure + drawn) / k


class RankStatistics(NamedTuple):
    """Where the targets of each query stand; nan where a query has none."""

    average_precision: Floats
    """[Q], in the mean over all ways to break ties."""
    unlucky: Floats
    """[Q], the average precision if every tie fell against."""
    lucky: Floats
    """[Q], the average precision if every tie fell in favour."""
    rank_sum: Floats
    """[Q], of the ranks of the targets, each among the candidates that are no targets, from 1; in
    the mean over all ways to break ties."""
    targets: Floats
    """[Q], number of targets."""


def rank_statistics(nearer: Integers, tied: Integers, there: NDArray[np.bool_]) -> RankStatistics:
    r"""Average precision and ranks of targets from counts of candidates.

    Parameters
    ----------
    nearer, tied
        Of each target [Q, T]: the other candidates with a strictly lower score, and those with
        exactly the same score. Other targets are candidates too. A target that has lost its score
        is last with every tie against it: all other candidates are nearer.
    there
        Which entries are targets [Q, T]; the others fill the rows of queries that have fewer.

    Notes
    -----
    Average precision is the mean, over the targets in order, of (how many targets up to here) /
    (how many candidates up to here). Where p targets are among m tied candidates, behind P targets
    and R candidates in all, place j of the m holds a target with probability p/m, and then
    (j − 1)(p − 1)/(m − 1) more before it in the mean; so the group adds [MN08]

    .. math:: \frac pm \sum_{j=1}^{m} \frac{P + 1 + (j-1)\frac{p-1}{m-1}}{R + j}
          = \frac pm \Bigl[(P+1)\,h + \frac{p-1}{m-1}\bigl(m - (R+1)\,h\bigr)\Bigr],
          \qquad h = \sum_{j=1}^m \frac1{R+j}.

    Examples
    --------
    One query with scores 1, 2, 2, 3; the targets are one of the tied candidates and the last.

    >>> found = rank_statistics(np.array([[1, 3]]), np.array([[1, 0]]), np.array([[True, True]]))
    >>> found.rank_sum.tolist(), found.average_precision.round(4).tolist()
    ([5.5], [0.4583])
    """
    # Targets in order, nearest first; entries that are no targets go last.
    order = np.argsort(np.where(there, nearer, np.iinfo(np.int64).max), axis=1, kind="stable")
    nearer, tied = (np.take_along_axis(a, order, 1) for a in (nearer, tied))
    there = np.take_along_axis(there, order, 1)
    # Targets of a query with equal scores have equal counts, and no others do: of two targets with
    # different scores, the one with the lower score is itself nearer than the other.
    place = np.broadcast_to(np.arange(nearer.shape[1]), nearer.shape)
    fresh = np.ones(nearer.shape, bool)
    fresh[:, 1:] = (nearer[:, 1:] != nearer[:, :-1]) | ~there[:, 1:]
    # P: targets with a lower score (<) are the ones placed before the first of this score.
    P = np.maximum.accumulate(np.where(fresh, place, 0), axis=1)
    # p: targets with this score (=), from its first place to its last.
    last = np.where(np.roll(fresh, -1, axis=1), place, nearer.shape[1])
    last[:, -1:] = place[:, -1:]
    p = np.minimum.accumulate(last[:, ::-1], axis=1)[:, ::-1] - P + 1
    # m: candidates with this score (=), the target itself included. Lost targets are tied with
    # nobody, but share the last places among themselves.
    m = np.maximum(tied + 1, p)
    # R: candidates with a lower score (<), which are those with a score up to this one (≤) but m.
    R = nearer + tied + 1 - m
    # Candidates that are no targets: with a lower score (<), and with this score (=).
    before, others = R - P, m - p

    # One place needs no difference of digammas, whose rounding would be all that is left of it.
    h = 1 / (R + 1)
    several = (m > 1) & there
    h[several] = digamma((R + m)[several] + 1) - digamma(R[several] + 1)
    slope = (p - 1) / np.maximum(m - 1, 1)
    # What the group adds is shared equally by its p targets.
    precision = ((P + 1) * h + slope * (m - (R + 1) * h)) / m
    count = there.sum(axis=1)

    def mean(values: Floats) -> Floats:
        # In order, so that the room left empty beside other queries changes no bit of a sum.
        sums = np.cumsum(np.where(there, values, 0), axis=1)
        total = sums[:, -1] if sums.shape[1] else count
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    return RankStatistics(
        average_precision=mean(precision),
        # Against: all ties (=) that are no targets come before the first target of the score.
        unlucky=mean((place + 1) / (place + 1 + before + others)),
        # In favour: only those with a lower score (<) do.
        lucky=mean((place + 1) / (place + 1 + before)),
        # Half of the others of a tie come before a target in the mean.
        rank_sum=mean(1 + before + others / 2) * count,
        targets=np.where(count > 0, count, np.nan),
    )
