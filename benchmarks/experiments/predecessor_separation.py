"""Separation as the predecessor ``taxembed`` (March 2026) computed it, in two ways.

Both are mean distance between groups over mean distance within, with this library's exact distances
in place of ones that lost most of their digits at the rim of the ball:

- its training log took all pairs of 2,000 sampled taxa, so that pairs within large groups dominate;
- its analysis script pooled pairs of groups of ten or more.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.experiments.scores import MEASURES
from benchmarks.tables import Row
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.evaluation.subjects import Subject, polar_subject
from poincare_taxa.files.seeds import stream
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = [
    "PairSample",
    "analysis_script",
    "pooled_pairs",
    "predecessor_separations",
    "separation",
    "training_log",
]

SAMPLE = 2000  # The predecessor's number.

Rows = NDArray[np.integer]


def predecessor_separations(points: Any, taxonomy: Taxonomy, seed: int = 0) -> Row:
    """Both separations of points with a radius and a direction, for the ranks of the tables."""
    subject, found = polar_subject(points.radius, points.direction), {}
    for name, labels in taxon_groups(taxonomy).items():
        if f"separation/{name}" in MEASURES:
            log = training_log(subject, labels, seed)
            script = analysis_script(subject, taxonomy, labels, seed)
            found[f"{name}, training log"] = round(log, 4)
            found[f"{name}, analysis script"] = round(script, 4)
    return found


def training_log(subject: Subject, labels: Rows, seed: int) -> float:
    """Separation of all pairs of sampled taxa that have a group."""
    labelled = np.flatnonzero(labels >= 0)
    if len(labelled) > SAMPLE:
        labelled = stream(seed, "training log").choice(labelled, SAMPLE, replace=False)
    rows = np.sort(labelled)
    return separation(subject.pairs(rows[:, None], rows), labels[rows])


def analysis_script(subject: Subject, taxonomy: Taxonomy, labels: Rows, seed: int) -> float:
    """Separation of the pairs that `pooled_pairs` draws; nan where either kind is missing."""
    order = taxonomy.ids.arg_sort().to_numpy()
    pairs = pooled_pairs(labels, order, stream(seed, "analysis script"))
    distance = subject.pairs(pairs.first, pairs.second)
    between, within = distance[~pairs.within], distance[pairs.within]
    if len(between) == 0 or len(within) == 0 or not np.isfinite(distance).all():
        return np.nan
    return float(between.mean() / within.mean())


def separation(distance: NDArray[np.number], labels: Rows) -> float:
    """Mean distance between groups over mean distance within, all pairs of a sample.

    Over ordered pairs with different labels, and with equal ones (the diagonal left out). nan where
    either kind is missing, or where a distance is infinite: a lost taxon does not stand apart.

    Parameters
    ----------
    distance
        [m, m], symmetric.
    labels
        [m].
    """
    same = np.asarray(labels)[:, None] == np.asarray(labels)
    between = distance[~same]
    np.fill_diagonal(same, False)
    within = distance[same]
    if len(within) == 0 or len(between) == 0 or not np.isfinite(distance).all():
        return np.nan
    return float(between.mean() / (within.mean() + 1e-8))


class PairSample(NamedTuple):
    """Pairs of rows, the group that drew each, and whether it lies within that group."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    group: NDArray[np.int64]
    within: NDArray[np.bool_]


def pooled_pairs(
    labels: Rows, order: Rows, rng: np.random.Generator, *, groups: int = 200
) -> PairSample:
    """Draw the pairs of the analysis script, whose separation pools all groups.

    Groups of 10 or more; at most 100 members of each, at random without replacement. Within: member
    i with the 19 after it. Between: a group with each of the next 9, as many random pairs as the
    smaller of 100 and the product of their sizes. Separation is mean between / mean within.

    Parameters
    ----------
    labels
        [n], -1 for none.
    order
        The rows as the script lists them, by ascending id: which group is "next" depends on it.
    rng
        The script is unseeded; this is not.
    groups
        Where there are more groups, this many of them, at random, play the first part.

    Returns
    -------
    pairs
        Rows `first`, `second`; `group` counts from 0; `within`.
    """
    listed = np.asarray(order)[np.asarray(labels)[order] >= 0]
    label = np.asarray(labels)[listed]
    by_label = np.argsort(label, kind="stable")
    starts = np.flatnonzero(np.diff(label[by_label], prepend=-1))
    stops = np.append(starts[1:], len(label))
    large = stops - starts >= 10
    starts, stops = starts[large], stops[large]
    first_seen = np.argsort(by_label[starts])
    starts, stops = starts[first_seen], stops[first_seen]

    members: dict[int, NDArray[np.int64]] = {}

    def drawn(i: int) -> NDArray[np.int64]:
        if i not in members:
            places = by_label[starts[i] : stops[i]]
            if len(places) > 100:
                places = rng.choice(places, 100, replace=False)
            members[i] = listed[places].astype(np.int64)
        return members[i]

    chosen = np.arange(len(starts))
    if len(chosen) > groups:
        chosen = np.sort(rng.choice(chosen, groups, replace=False))
    blocks = []
    for number, i in enumerate(chosen.tolist()):
        own = drawn(i)
        a, b = np.triu_indices(len(own), 1)
        close = b - a < 20
        blocks.append((own[a[close]], own[b[close]], number, True))
        for j in range(i + 1, min(i + 10, len(starts))):
            other = drawn(j)
            count = min(100, len(own) * len(other))
            blocks.append((rng.choice(own, count), rng.choice(other, count), number, False))
    nothing = np.empty(0, np.int64)
    size = [len(block[0]) for block in blocks]
    return PairSample(
        np.concatenate([nothing, *(block[0] for block in blocks)]),
        np.concatenate([nothing, *(block[1] for block in blocks)]),
        np.repeat(np.array([block[2] for block in blocks], np.int64), size),
        np.repeat(np.array([block[3] for block in blocks], np.bool_), size),
    )
