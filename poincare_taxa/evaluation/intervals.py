r"""Intervals of 95 % for measures over sampled taxa.

Taxa of a genus share their fate: a family that a layout could not resolve is wrong as a whole. So
the unit of all intervals is a *cluster*, the sampled taxa of one genus, and what a measure needs of
it are its sums. Three intervals cover what a report has:

- `share_interval`: means of what lies between 0 and 1 (precision, purity, average precision). A
  bootstrap fails here: of a sample in which all are 1 every resample is 1.
- `bootstrap_interval`: any function of sums (correlations, separation, distortion).
- `rank_interval`: mean ranks, whose mean few taxa may decide. Where they do, the interval has no
  upper end: a sample does not tell how far a tail reaches that it hardly saw.

Sources: [CP34] Clopper & Pearson 1934.  [KG98] Korn & Graubard 1998, *Confidence intervals for
proportions with small expected number of positive counts estimated from survey data* (the interval
of [CP34] with an effective number of observations).  [K65] Kish 1965, §8.2 (that number).
[H15] Hesterberg 2015, *What teachers should know about the bootstrap*, §5.3 (wider percentiles).
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, ndtr, ndtri, stdtrit

__all__ = [
    "bootstrap_interval",
    "rank_interval",
    "share_interval",
    "sums_of_clusters",
]

Floats = NDArray[np.float64]

_TAIL = 0.025  # Probability beyond each end.
_RESAMPLES = 1000  # Of the bootstrap,
_GROUPS = 2000  # and what it draws at most: groups of clusters where there are more.
_DECIDING = 20  # Clusters that must share the variance for a bootstrap of ranks to hold.


def sums_of_clusters(statistics: Floats, clusters: NDArray[np.integer]) -> Floats:
    """Add up the rows of each cluster: [Q, s] and labels [Q] → [clusters, s]."""
    order = np.argsort(clusters, kind="stable")
    labels = clusters[order]
    first = np.flatnonzero(np.append(True, labels[1:] != labels[:-1]))
    return np.add.reduceat(statistics[order], first, axis=0)


def share_interval(sums: Floats) -> tuple[float, float]:
    r"""Interval of Σs / Σw, where each s lies between 0 and w.

    The interval of [CP34] for x = n·p of n trials, with an effective n that is the larger of two:

    1. (Σw)² / Σw²: clusters that stand or fall as a whole, each counted once [K65]. It needs
       nothing to be seen, and among values with mean p none varies more than 0 and 1 do.
    2. p (1 − p) / v with v the variance of p among clusters [KG98], which is larger where values
       vary less than that. To v is added what one more cluster of the usual size at the far end
       would add: of a kind that was not seen yet.

    Parameters
    ----------
    sums
        [clusters, 2]: s and w.

    Examples
    --------
    >>> low, high = share_interval(np.ones((100, 2)))  # 100 of 100
    >>> round(low, 4), high
    (0.9638, 1.0)
    """
    s, w = sums.T
    p = float(np.clip(s.sum() / w.sum(), 0, 1))
    usual = w @ w / w.sum()
    n = whole = w.sum() / usual
    if whole > 1:
        apart, unseen = s - p * w, max(p, 1 - p) * usual
        variance = (apart @ apart + unseen**2) / w.sum() ** 2
        student = ndtri(_TAIL) / stdtrit(whole - 1, _TAIL)  # The variance is an estimate, too.
        n = max(whole, p * (1 - p) / variance * student**2)
    low = betaincinv(n * p, n * (1 - p) + 1, _TAIL) if p > 0 else 0.0
    high = betaincinv(n * p + 1, n * (1 - p), 1 - _TAIL) if p < 1 else 1.0
    return float(low), float(high)


def bootstrap_interval(sums: Floats, value: Callable[[Floats], Floats]) -> tuple[float, float]:
    """Percentiles of a function of sums over clusters drawn again with replacement.

    Percentiles a little outside 2.5 and 97.5 make up for the few clusters [H15]. One cluster alone
    has no interval: nan.

    Parameters
    ----------
    sums
        [clusters, s].
    value
        Sums [..., s] → value [...]; what is not finite is left out.
    """
    drawn = _in_groups(sums)
    n = len(drawn)
    if n < 2:
        return np.nan, np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        resampled = value(_resamples(n) @ drawn)
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) == 0:
        return np.nan, np.nan
    beyond = float(ndtr(np.sqrt(n / (n - 1)) * stdtrit(n - 1, _TAIL)))
    low, high = np.quantile(resampled, [beyond, 1 - beyond])
    return float(low), float(high)


def rank_interval(sums: Floats) -> tuple[float, float]:
    """Interval of Σs / Σw of what has no bound, such as a rank; ∞ above where few decide it.

    (Σe²)² / Σe⁴ of the clusters' deviations e is the number of clusters that decide the variance.
    Where it is below 20 the mean, and the bootstrap, know only the tail that was drawn.
    """
    low, high = bootstrap_interval(sums, lambda total: total[..., 0] / total[..., 1])
    s, w = sums.T
    squares = (s - s.sum() / w.sum() * w) ** 2
    decide = squares.sum() ** 2 >= _DECIDING * (squares @ squares) > 0
    return low, high if decide else np.inf


def _in_groups(sums: Floats) -> Floats:
    """Add up random groups of clusters: the sums vary as much as those of clusters."""
    n = len(sums)
    if n <= _GROUPS:
        return sums
    order = np.random.default_rng(0).permutation(n)
    return np.add.reduceat(sums[order], np.arange(_GROUPS) * n // _GROUPS)


@lru_cache(maxsize=4)
def _resamples(n: int) -> Floats:
    """How often each of n clusters is drawn in each resample: [_RESAMPLES, n]."""
    drawn = np.random.default_rng(0).integers(n, size=(_RESAMPLES, n))
    drawn += n * np.arange(_RESAMPLES)[:, None]
    return np.bincount(drawn.ravel(), minlength=_RESAMPLES * n).reshape(-1, n).astype(np.float64)
