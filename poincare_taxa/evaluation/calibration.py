"""Scores turned into probabilities, and how far probabilities can be trusted.

Sources: [ABERS55] Ayer, Brunk, Ewing, Reid & Silverman 1955, *An Empirical Distribution Function
for Sampling with Incomplete Information* (isotonic regression); [ZE02] Zadrozny & Elkan 2002,
*Transforming Classifier Scores into Accurate Multiclass Probability Estimates* (its use for
calibration); [GPSW17] Guo, Pleiss, Sun & Weinberger 2017, *On Calibration of Modern Neural
Networks*, eq. 3 (expected calibration error).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

__all__ = ["CALIBRATION_PAIRS", "Calibration", "Reliability", "calibrate", "reliability"]

CALIBRATION_PAIRS = 20_000
"""Positives, and as many negatives, that a model draws to calibrate its scores."""


@dataclass(frozen=True)
class Calibration:
    """Probability as a function of a score: falls from knot to knot, constant beyond the ends.

    Attributes
    ----------
    score, probability
        Knots, by ascending score.
    """

    score: tuple[float, ...]
    probability: tuple[float, ...]

    def __call__(self, score: ArrayLike) -> NDArray[np.float64]:
        """Return the probability of each score; that of nan is nan."""
        return np.interp(np.asarray(score, np.float64), self.score, self.probability)


def calibrate(score: ArrayLike, positive: ArrayLike) -> Calibration:
    """Fit probabilities that fall as the score rises: isotonic regression [ABERS55], [ZE02].

    Of n pairs no probability is below 1 / (n + 2) or above (n + 1) / (n + 2): what never occurred
    among n may still occur.

    Parameters
    ----------
    score
        Low for positives [n]; scores that are nan or infinite are left out.
    positive
        Which are positives, bool [n].

    Raises
    ------
    ValueError
        If no score is finite.

    Examples
    --------
    >>> found = calibrate([0.0, 1.0, 2.0, 3.0], [True, False, True, False])
    >>> found([-1.0, 0.0, 1.0, 1.5, 3.0]).round(3).tolist()
    [0.833, 0.833, 0.5, 0.5, 0.167]
    """
    from scipy.optimize import isotonic_regression  # a third of a second, once

    score, positive = np.asarray(score, np.float64), np.asarray(positive, np.float64)
    finite = np.isfinite(score)
    if not finite.any():
        raise ValueError("no pair has a finite score to calibrate by: no point is a point")
    # 1. One value for equal scores, then the best falling sequence of values.
    values, place, count = np.unique(score[finite], return_inverse=True, return_counts=True)
    share = np.bincount(place, positive[finite]) / count
    fitted = isotonic_regression(share, weights=count, increasing=False)
    # 2. Each block of equal values has two knots, its ends.
    first, last = fitted.blocks[:-1], fitted.blocks[1:] - 1
    ends = np.unique(np.concatenate([first, last]))
    least = 1 / (finite.sum() + 2)
    probability = np.clip(fitted.x[ends], least, 1 - least)
    return Calibration(tuple(values[ends].tolist()), tuple(probability.tolist()))


@dataclass(frozen=True)
class Reliability:
    """How far probabilities can be trusted, on pairs that they were not calibrated on.

    Attributes
    ----------
    bins : DataFrame
        Columns ``probability`` (mean of the bin), ``share`` (of positives) and ``pairs``, for each
        of the equal bins of [0, 1] that has pairs.
    calibration_error : float
        Mean of abs(probability − share) over pairs, by bins [GPSW17, eq. 3].
    brier : float
        Mean squared error; that of the constant share of positives p is p (1 − p).
    auc : float
        How often a positive has the higher probability of a positive and a negative; a tie is half.
    """

    bins: pl.DataFrame
    calibration_error: float
    brier: float
    auc: float


def reliability(probability: ArrayLike, positive: ArrayLike, bins: int = 10) -> Reliability:
    """Compare probabilities with what is so.

    Parameters
    ----------
    probability, positive
        In [0, 1] and bool, [n]; both kinds must occur.
    bins
        Number of bins of equal width.

    Raises
    ------
    ValueError
        If there are only positives or only negatives, or a probability is outside [0, 1] or nan.

    Examples
    --------
    >>> found = reliability([0.1, 0.1, 0.8, 0.8], [False, False, True, False])
    >>> round(found.calibration_error, 3), round(found.brier, 3), round(found.auc, 3)
    (0.2, 0.175, 0.833)
    """
    p, true = np.asarray(probability, np.float64), np.asarray(positive, np.bool_)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError("probabilities are in [0, 1]; one of these is outside, or nan")
    if true.all() or not true.any():
        raise ValueError("both positives and negatives are needed to judge probabilities")
    table = (
        pl.DataFrame({"probability": p, "share": true.astype(float)})
        .group_by(pl.Series("bin", np.minimum((p * bins).astype(int), bins - 1)))
        .agg(pl.col("probability", "share").mean(), pl.len().alias("pairs"))
        .sort("bin")
        .drop("bin")
    )
    gap = (table["probability"] - table["share"]).abs() * table["pairs"]
    negatives = np.sort(p[~true])
    below = np.searchsorted(negatives, p[true], "left") + np.searchsorted(
        negatives, p[true], "right"
    )
    return Reliability(
        table,
        calibration_error=float(gap.sum()) / len(p),
        brier=float(np.mean((p - true) ** 2)),
        auc=float(below.mean()) / 2 / len(negatives),
    )
