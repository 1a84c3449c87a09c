r"""Is an embedding any good: each measure as a function of arrays, usable without the rest.

Every function takes *scores* or *distances* and does not care where they come from, so the tree's
own distances go through the same code as an embedding's: that is the ceiling of a report.

Notation: q query, v candidate, d distance, t tree distance, m sampled others of a query. A
distance is infinite where one of the two taxa is lost (its row is no point).

Sources: [S62] Somers 1962.  [S18] Sala et al. 2018, §2 (distortion).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "Distortion",
    "average_ranks",
    "distortion",
    "pearson",
    "radius_explained_by_depth",
    "spearman",
    "spearman_of_ranks",
    "spread",
    "triplet_order",
]

Floats = NDArray[np.float64]
Rows = NDArray[np.integer]


# -------------------------------------------------------------------- correlation


def pearson(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of an embedding's quantity x with the tree's quantity y.

    nan where `y` is constant: there is nothing to explain. 0 where only `x` is: it explains
    nothing. Where x is nan a taxon is lost: it counts as if it stood in the opposite place, as far
    from the mean of x as y is from its own, in standard deviations.
    """
    a, b = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if len(b) == 0 or b.min() == b.max():
        return np.nan
    lost = np.isnan(a)
    sound = a[~lost]
    constant = len(sound) == 0 or sound.min() == sound.max()
    if constant and not lost.any():
        return 0.0
    b = b - b.mean()
    if lost.any():
        z = b / np.sqrt(b @ b / len(b))
        a = np.where(lost, -z, 0.0 if constant else (a - sound.mean()) / sound.std())
    a = a - a.mean()
    return float(np.clip(a @ b / np.sqrt((a @ a) * (b @ b)), -1, 1))  # Exactly 1 where a is b.


def average_ranks(values: ArrayLike) -> Floats:
    """Ranks from 1; equal values share the mean of theirs. All nan where a value is nan.

    As ``scipy.stats.rankdata``, whose import takes half a second.
    """
    x = np.asarray(values)
    if np.isnan(x).any():
        return np.full(x.shape, np.nan)
    _, place, count = np.unique(x, return_inverse=True, return_counts=True)
    return (count.cumsum() - (count - 1) / 2)[place.reshape(x.shape)]


def spearman(x: ArrayLike, y: ArrayLike) -> float:
    """Pearson correlation of the ranks, tied values sharing the mean of theirs; x as there."""
    return spearman_of_ranks(x, average_ranks(y))


def spearman_of_ranks(x: ArrayLike, ranks: Floats) -> float:
    """`spearman` of x with a quantity whose ranks are known, which is half of the work."""
    found = np.array(x, np.float64)
    sound = ~np.isnan(found)
    found[sound] = average_ranks(found[sound])
    return pearson(found, ranks)


def radius_explained_by_depth(radius: ArrayLike, depth: Rows) -> float:
    """Share of the variance of the radius that lies between depths, in [0, 1] (η²).

    1: the radius is a function of depth, and its correlation with depth is planted, not learned.
    nan where the radius is constant, but for a few roundings of its dtype: nothing is explained.
    """
    given = np.asarray(radius)
    r = given.astype(np.float64)
    rounding = np.finfo(given.dtype if given.dtype.kind == "f" else np.float64).eps
    if len(r) == 0 or np.ptp(r) <= 8 * rounding * np.abs(r).max():
        return np.nan
    r -= r.mean()
    total = r @ r
    count = np.bincount(depth)
    mean = np.bincount(depth, r) / np.maximum(count, 1)
    within = r - mean[depth]
    return float(1 - within @ within / total)


def triplet_order(distance: Floats, tree: Rows) -> tuple[Floats, Floats]:
    """Order of two others by distance from the query: whether embedding and tree agree on it.

    Somers' D of the embedding given the tree [S62], per query: (agreeing − contradicting) /
    (comparable) pairs of others. Pairs that the tree ties are left out, since either order is
    right; pairs that only the embedding ties count as neither. So the tree itself scores 1, a
    constant embedding 0, and random order 0 in the mean. A pair in which a taxon is lost counts as
    contradicting.

    Parameters
    ----------
    distance, tree
        [Q, m]: embedding's and tree's distance from each query to its m others.

    Returns
    -------
    agreement, comparable
        [Q] each: the numerator and the denominator.
    """
    agreement, comparable = np.zeros(len(tree)), np.zeros(len(tree))
    lost = np.isinf(distance)
    some_lost = lost.any()
    for shift in range(1, tree.shape[1]):
        expected = np.sign(tree[:, shift:] - tree[:, :-shift])
        nearer, farther = distance[:, :-shift], distance[:, shift:]
        given = (farther > nearer).astype(np.int8) - (farther < nearer)
        if some_lost:
            given = np.where(lost[:, :-shift] | lost[:, shift:], -expected, given)
        agreement += (expected * given).sum(1)
        comparable += np.abs(expected).sum(1)
    return agreement, comparable


# -------------------------------------------------------------------- distances


class Distortion(NamedTuple):
    """How far distances are from proportional to the tree's.

    Attributes
    ----------
    each : float64 [m]
        |d / (scale · t) − 1| of each pair; nan where the tree's distance is 0.
    scale
        Embedding distance that stands for one edge (or unit of branch length): the one that makes
        the mean least.
    """

    each: Floats
    scale: float


def distortion(distance: ArrayLike, tree: ArrayLike) -> Distortion:
    """Relative error of distances after the best common scale [S18, §2, with the scale left free].

    The best scale minimises the mean of |d / (s·t) − 1|. As a function of 1/s that is
    Σ x |1/s − 1/x| with x = d/t, so s is the median of x weighted by x.

    Parameters
    ----------
    distance, tree
        [m]: distances of pairs. Infinite distances are infinitely distorted and do not enter the
        scale; pairs at the distance 0 in the tree, on branches of length 0, have no distortion.

    Examples
    --------
    >>> distortion([2.0, 4.0, 7.0], [1, 2, 3]).scale
    2.0
    """
    t = np.asarray(tree, np.float64)
    x = np.asarray(distance, np.float64) / np.where(t > 0, t, np.nan)
    ratios = np.sort(x[np.isfinite(x) & (x > 0)])
    if len(ratios) == 0:
        return Distortion(np.where(x > 0, np.inf, np.where(x == 0, 1.0, np.nan)), np.nan)
    weight = np.cumsum(ratios)
    scale = float(ratios[np.searchsorted(weight, weight[-1] / 2)])
    return Distortion(np.abs(x / scale - 1), scale)


def spread(distance: ArrayLike, tree: ArrayLike) -> float:
    """Largest expansion times largest contraction of distances, which no scale changes [S18, §2].

    The largest d / t over the smallest, at least 1; infinite where a taxon is lost, or two taxa
    that are apart in the tree have one point; nan where the tree has all taxa at one place.

    Examples
    --------
    >>> spread([2.0, 4.0, 7.0, 0.1], [1, 2, 2, 0])
    1.75
    """
    d, t = np.asarray(distance, np.float64), np.asarray(tree, np.float64)
    x = d[t > 0] / t[t > 0]
    if len(x) == 0:
        return np.nan
    least, largest = float(x.min()), float(x.max())
    return largest / least if least > 0 and np.isfinite(largest) else np.inf
