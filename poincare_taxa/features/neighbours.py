"""Weights of the nearest taxa: all that are as near as the k-th, equally."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse

__all__ = ["neighbour_weights"]


def neighbour_weights(distance: ArrayLike, k: int, *, tolerance: float = 0.0) -> sparse.csr_array:
    """Weights of the k nearest candidates and of those that are as near as the k-th: [q, m].

    Taxa of a taxonomy come in levels: all genera of a family are equally far from one another. "The
    k nearest" then depend on the order of the rows; here every candidate of the level counts. A
    product with values is the mean of the neighbours: ``weights @ y`` predicts numbers, and with
    one column for each class (0 and 1), probabilities of classes.

    Parameters
    ----------
    distance
        [q, m], such as ``tax.distance_matrix(keys, others)`` or `TaxonEmbedding.distance_matrix`,
        where the others are the taxa with values.
    k
        Least number of neighbours, from 1 to m.
    tolerance
        How much farther than the k-th a candidate may be. Distances of a tree have exact levels;
        those of vectors have about equal ones, a part of the radius of an edge apart.

    Returns
    -------
    weights
        Each row sums to 1; the neighbours of a row have equal weights.

    Raises
    ------
    ValueError
        If the distances are no matrix of numbers, `k` is not in 1…m, or `tolerance` is negative.

    Examples
    --------
    >>> neighbour_weights([[1, 2, 2, 5]], k=2).toarray().round(2)
    array([[0.33, 0.33, 0.33, 0.  ]])
    """
    d = np.asarray(distance)
    if d.ndim != 2 or np.isnan(d).any():
        raise ValueError(f"distance is a matrix [q, m] without nan; got shape {list(d.shape)}")
    if not 1 <= k <= d.shape[1]:
        raise ValueError(f"k must be from 1 to {d.shape[1]}, the number of candidates; got {k}")
    if not tolerance >= 0:
        raise ValueError(f"tolerance must be at least 0; got {tolerance}")
    farthest = np.partition(d, k - 1, axis=1)[:, k - 1 : k] + tolerance
    near = sparse.csr_array(d <= farthest, dtype=np.float64)
    counts = np.diff(near.indptr)
    near.data /= np.repeat(counts, counts)
    return near
