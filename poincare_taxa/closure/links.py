r"""Link prediction: whether a model knows pairs of a DAG that it was not trained on.

Three splits are drawn (`split_links`). [GBH18]: 5 % of the pairs that follow by transitivity are
held out to choose a threshold, 5 % to test, and a share of the others is trained on beside all
basic edges, those that do not follow. What is held out then follows from what is trained on, so
that *reachability in the training pairs*, the baseline of every report, knows all of it: this split
measures whether a model reads transitivity. With ``basic=True`` basic edges are held out instead.
These follow from nothing, and reachability knows none of them. With ``inner=True``, as [NK17] §4.2,
any pairs that have neither a root nor a leaf; most of them follow from others.

A pair is scored by distance against a limit of the descendant: :math:`d(a, v) - l(v)`, where the
limit is the distance of the origin (`closure.model.link_score`: the cap of a) or the distance of
the farthest ancestor of v in the closure of the training pairs ("reach"). The limit and the
threshold are chosen by F1 on the validation pairs.

Ranks are *filtered* [BUG13]: the ancestor of a test pair is ranked among all nodes, other than
further known ancestors, as the ancestor of its descendant, and so is the descendant. ([NK17] §4.1
rank one end only, among the nodes that are no ancestor.) Metrics have the names and the definitions
of PyKEEN; ranks are its "realistic" ones, the mean of optimistic and pessimistic, of both sides.
The adjusted index is that of [BFVT20]: 1 is best, 0 is chance.

Sources: [GBH18] Ganea, Bécigneul & Hofmann 2018, *Hyperbolic Entailment Cones for Learning
Hierarchical Embeddings*, §5. [NK17] Nickel & Kiela 2017, *Poincaré Embeddings for Learning
Hierarchical Representations*. [BUG13] Bordes, Usunier, García-Durán, Weston & Yakhnenko 2013,
*Translating Embeddings for Modeling Multi-relational Data*.
[BFVT20] Berrendorf, Faerman, Vermue & Tresp 2020, *On the Ambiguity of Rank-Based Evaluation of
Entity Alignment or Link Prediction Methods*.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.closure.model import ClosureEmbedding, link_score
from poincare_taxa.geometry import polar
from poincare_taxa.processes.digests import digest

__all__ = ["LinkReport", "LinkSplit", "evaluate_links", "split_links"]

Rows = NDArray[np.int64]
Floats = NDArray[np.float64]
_Score = Callable[[Tensor, Tensor], ArrayLike | Tensor]
_HITS = (1, 3, 10)


@dataclass(frozen=True, eq=False)
class LinkSplit:
    """Pairs to train on, to choose a threshold with, and to test; rows (ancestor, descendant)."""

    train: ClosurePairs
    """Pairs to train on. Their closure decides what training may use as a negative."""
    valid: Rows
    """[k, 2]."""
    valid_negatives: Rows
    test: Rows
    test_negatives: Rows

    def __repr__(self) -> str:
        return (
            f"LinkSplit({self.train!r} to train on; {len(self.valid):,} for validation with "
            f"{len(self.valid_negatives):,} negatives, {len(self.test):,} to test with "
            f"{len(self.test_negatives):,})"
        )


@dataclass(frozen=True)
class LinkReport:
    """Result of `evaluate_links`."""

    metrics: dict[str, float]
    """Metrics of the model: ``f1``, ``precision`` and ``recall`` of test pairs and their negatives,
    ``average_precision``, and the filtered ranks."""
    baseline: dict[str, float]
    """The same of reachability in the training pairs."""
    limit: str
    """"cap" or "reach", chosen on the validation pairs; "none" of a score of your own."""
    threshold: float
    """Score up to which a pair is predicted."""
    leaked: int
    """Number of test pairs that training excluded from its negatives beyond what the training pairs
    say (``ignore``), so that it knew of them."""

    def to_frame(self) -> pl.DataFrame:
        """Return a table with the columns ``metric``, ``value`` and ``reachability``."""
        return pl.DataFrame(
            {
                "metric": list(self.metrics),
                "value": list(self.metrics.values()),
                "reachability": [self.baseline[name] for name in self.metrics],
            }
        )

    def __str__(self) -> str:
        lines = [f"{'':32}{'value':>10}{'reachability':>14}"]
        for name, value, base in self.to_frame().rows():
            lines.append(f"{name:32}{value:>10.4g}{base:>14.4g}")
        lines.append(f"limit: {self.limit}, threshold {self.threshold:.4g}, chosen on validation")
        if self.leaked:
            lines.append(
                f"training ignored {self.leaked:,} test pairs as negatives: it knew of them"
            )
        return "\n".join(lines)


def split_links(
    pairs: ClosurePairs,
    share: float = 0.0,
    *,
    basic: bool = False,
    inner: bool = False,
    held_out: float = 0.05,
    negatives: int = 10,
    seed: int = 0,
) -> LinkSplit:
    """Split a closure for link prediction.

    Parameters
    ----------
    pairs
        Pairs of a DAG; their closure is split.
    share
        Share of the pairs that follow by transitivity and are not held out that is trained on; all
        basic edges are. With `basic` or `inner` it must be left out: all other pairs are trained
        on.
    basic
        Whether basic edges are held out, instead of pairs that follow.
    inner
        Whether any pairs are held out whose ancestor is no root and whose descendant is no leaf.
    held_out
        Share of the pairs that can be held out that is held out for validation, and as many for the
        test.
    negatives
        Number of negatives of each held-out pair, even: half have another ancestor and half another
        descendant, drawn among the nodes that make no pair of the closure.
    seed
        Seed of the draws.

    Raises
    ------
    ValueError
        If a number is out of its range, or too few pairs can be held out.
    TaxonomyError
        If the pairs have a cycle.
    """
    if not 0 <= share <= 1 or not 0 < held_out < 0.5 or negatives < 2 or negatives % 2:
        raise ValueError(
            "share lies in [0, 1], held_out in (0, 0.5), negatives are even and at least 2; got "
            f"{share}, {held_out} and {negatives}"
        )
    if basic and inner:
        raise ValueError("held-out pairs are basic edges or any inner pairs: give one of the two")
    if (basic or inner) and share:
        raise ValueError(
            "where basic edges or inner pairs are held out all others are trained on: no share"
        )
    rng = np.random.default_rng(seed)
    closure = pairs.closed() if pairs.weights is None else pairs
    every, n = closure.pairs.cpu().numpy(), closure.num_nodes
    known = np.sort(_keys(every, n))
    if inner:  # No root is a descendant, no leaf an ancestor.
        within = np.isin(every[:, 0], every[:, 1]) & np.isin(every[:, 1], every[:, 0])
        pool, rest = every[within], every[~within]
    else:
        edges = closure.reduced().pairs.cpu().numpy()
        follows = every[~np.isin(_keys(every, n), _keys(edges, n))]
        pool, rest = (edges, follows) if basic else (follows, edges)
    pool = rng.permutation(pool)
    count = round(held_out * len(pool))
    if count < 1:
        raise ValueError(f"{len(pool)} pairs can be held out, and {held_out:.0%} of them is none")
    valid, test, left = pool[:count], pool[count : 2 * count], pool[2 * count :]
    trained = left if basic or inner else left[: round(share * len(left))]
    train = ClosurePairs(
        np.concatenate([rest, trained]), num_nodes=n, names=pairs.names, labels=pairs.labels
    )
    drawn = [_negatives(some, known, n, negatives // 2, rng) for some in (valid, test)]
    return LinkSplit(train, valid, drawn[0], test, drawn[1])


def _negatives(pairs: Rows, known: Rows, n: int, each: int, rng: np.random.Generator) -> Rows:
    """Replace either end of each pair `each` times, by nodes that make no pair of the closure."""
    drawn = np.repeat(np.concatenate([pairs, pairs]), each, axis=0)
    column = np.repeat([0, 1], each * len(pairs))
    at = np.arange(len(drawn))
    for _ in range(1000):
        drawn[at, column[at]] = rng.integers(n, size=len(at))
        bad = np.isin(_keys(drawn[at], n), known) | (drawn[at, 0] == drawn[at, 1])
        at = at[bad]
        if len(at) == 0:
            return drawn
    # A node that is related to nearly all others, such as a root, has no negatives of that kind.
    return np.delete(drawn, at, axis=0)


def evaluate_links(
    model: ClosureEmbedding | tuple[Tensor, Tensor] | _Score,
    split: LinkSplit,
    *,
    ignore: ClosurePairs | Rows | None = None,
    ranked: int = 1000,
    seed: int = 0,
) -> LinkReport:
    """Measure how well points tell held-out pairs from others, beside reachability.

    Parameters
    ----------
    model
        A model of the split's nodes, or their radius [n] and direction [n, dim]; or any score of
        pairs, the lower the likelier: ``(ancestor rows, descendant rows) → numbers``, for rows that
        broadcast with each other.
    split
        As `split_links` draws it, or one of your own.
    ignore
        Pairs that training excluded from its negatives besides the closure of the training pairs,
        as they were given to `fit`. Test pairs among them are counted in the report, because they
        were known.
    ranked
        Number of test pairs whose ends are ranked among all nodes; 0 for none.
    seed
        Seed of their choice.

    Raises
    ------
    ValueError
        If there are not as many points as nodes, or the model says that its training ignored pairs
        and ``ignore`` is not these.

    Examples
    --------
    >>> from poincare_taxa.closure.layout import closure_layout
    >>> pairs = ClosurePairs.from_edges([(v, (v - 1) // 2) for v in range(1, 63)])
    >>> split = split_links(pairs)
    >>> report = evaluate_links(closure_layout(split.train.closed(), 3)[:2], split)
    >>> report.metrics["f1"], report.baseline["f1"]
    (1.0, 1.0)
    """
    n = split.train.num_nodes
    closure = split.train if split.train.is_closed else split.train.closed()
    reachable = np.sort(_keys(closure.pairs.cpu().numpy(), n))
    if isinstance(model, ClosureEmbedding):
        _require_ignored(model, closure, ignore)
        model = model.radius, model.direction
    # 1. The limit and the threshold, by F1 on validation pairs.
    scores = {"none": model} if callable(model) else _scores_of(model, closure)
    valid, is_valid = _joined(split.valid, split.valid_negatives)
    chosen = {name: _threshold(_scored(score, valid), is_valid) for name, score in scores.items()}
    limit = max(chosen, key=lambda name: chosen[name][1])
    threshold = chosen[limit][0]

    # 2. Test pairs, by the model and by reachability.
    def reach(a: Tensor, v: Tensor) -> Tensor:
        ancestor, descendant = torch.broadcast_tensors(a, v)
        keys = (descendant * n + ancestor).numpy()
        place = np.searchsorted(reachable, keys).clip(max=len(reachable) - 1)
        return torch.from_numpy((reachable[place] != keys).astype(np.float64))

    test, is_test = _joined(split.test, split.test_negatives)
    some = np.random.default_rng(seed).permutation(len(split.test))[:ranked]
    filtered = np.unique(np.concatenate([reachable, _keys(split.valid, n), _keys(split.test, n)]))
    found = []
    for score, most in ((scores[limit], threshold), (reach, 0.5)):
        metrics = _classified(_scored(score, test), is_test, most)
        if len(some):
            metrics |= _ranked(score, split.test[some], filtered, n)
        found.append(metrics)
    # 3. What training was told beyond its pairs.
    leaked = 0
    if ignore is not None:
        told = _keys(closure.beyond(ignore).cpu().numpy(), n)
        leaked = int(np.isin(_keys(split.test, n), told).sum())
    return LinkReport(found[0], found[1], limit, threshold, leaked)


def _require_ignored(
    model: ClosureEmbedding, closure: ClosurePairs, ignore: ClosurePairs | Rows | None
) -> None:
    """Refuse a model whose training knew of other pairs than the caller says."""
    known = model.meta.get("settings", {}).get("ignored")
    given = None if ignore is None else digest(closure.beyond(ignore).cpu().unique(dim=0))
    if known is not None and known["sha256"] != given:
        raise ValueError(
            f"training of this model ignored {known['pairs']:,} pairs as negatives, and so knew of "
            "them: pass these as ignore=, so that the report counts the test pairs among them"
        )


def _scores_of(points: tuple[Tensor, Tensor], closure: ClosurePairs) -> dict[str, _Score]:
    """Score pairs of points by distance, against each limit."""
    radius, direction = (part.detach().cpu() for part in points)
    n = closure.num_nodes
    if len(radius) != n:
        raise ValueError(f"{len(radius)} points for {n} nodes: row i must be node i")
    return {
        "cap": lambda a, v: link_score((radius, direction), a, v),
        "reach": _within_reach((radius, direction), closure),
    }


def _within_reach(points: tuple[Tensor, Tensor], closure: ClosurePairs) -> _Score:
    """Score by the distance of the farthest ancestor in the training pairs.

    Nodes without one have the distance of the origin.
    """
    r, u = points[0].double(), points[1].double()
    a, v = closure.pairs.cpu().unbind(1)
    far = torch.zeros_like(r).scatter_reduce_(0, v, polar.dist(r[a], u[a], r[v], u[v]), "amax")
    above = torch.bincount(v, minlength=len(r)) > 0
    limit = torch.where(above, far, r)

    def score(a: Tensor, v: Tensor) -> Tensor:
        a, v = torch.broadcast_tensors(a, v)
        return polar.dist(r[a], u[a], r[v], u[v]) - limit[v]

    return score


def _keys(pairs: Rows, n: int) -> Rows:
    """Pairs as numbers."""
    return pairs[:, 1] * n + pairs[:, 0]


def _joined(pairs: Rows, negatives: Rows) -> tuple[Rows, NDArray[np.bool_]]:
    return np.concatenate([pairs, negatives]), np.arange(len(pairs) + len(negatives)) < len(pairs)


def _scored(score: _Score, pairs: Rows) -> Floats:
    return _numbers(score(*torch.from_numpy(pairs).unbind(1)))


def _numbers(score: ArrayLike | Tensor) -> Floats:
    """Scores as numbers, those that are nan last."""
    found = torch.as_tensor(score).double().numpy(force=True)
    return np.where(np.isnan(found), np.inf, found)


def _last_of_ties(ascending: Floats) -> NDArray[np.bool_]:
    """Mark the last of equal scores: such pairs are predicted together, infinite ones never."""
    return np.append(ascending[1:] > ascending[:-1], True) & (ascending < np.inf)


def _threshold(score: Floats, positive: NDArray[np.bool_]) -> tuple[float, float]:
    """Choose the score up to which pairs are predicted with the best F1; returns both."""
    order = np.argsort(score, kind="stable")
    hits = np.cumsum(positive[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + positive.sum())
    best = int(np.where(_last_of_ties(score[order]), f1, -1).argmax())
    return float(score[order][best]), float(f1[best])


def _classified(score: Floats, positive: NDArray[np.bool_], most: float) -> dict[str, float]:
    predicted = (score <= most) & (score < np.inf)
    hits, number = int((predicted & positive).sum()), int(positive.sum())
    # Average precision: the precision at each score, weighted by the positives that have it.
    order = np.argsort(score, kind="stable")
    last = np.flatnonzero(_last_of_ties(score[order]))
    found = np.cumsum(positive[order])[last]
    average = (np.diff(found, prepend=0) * found / (last + 1)).sum() / number
    return {
        "f1": 2 * hits / (int(predicted.sum()) + number),
        "precision": hits / max(1, int(predicted.sum())),
        "recall": hits / number,
        "average_precision": float(average),
    }


def _ranked(score: _Score, pairs: Rows, known: Rows, n: int) -> dict[str, float]:
    """Rank both ends of pairs among all nodes, filtered."""
    every = torch.arange(n)
    by_ancestor = np.sort(known % n * n + known // n)
    ranks, expected = [], []
    for a, v in pairs.tolist():
        # The ancestor is ranked among those that v is not known to have, then the descendant.
        up = every, torch.tensor(v), known, v, a
        down = torch.tensor(a), every, by_ancestor, a, v
        for ancestor, descendant, relatives, fixed, own in (up, down):
            found = _numbers(score(ancestor, descendant))
            first, stop = np.searchsorted(relatives, [fixed * n, (fixed + 1) * n])
            others = np.ones(n, np.bool_)
            others[relatives[first:stop] - fixed * n] = False
            others[[a, v]] = False
            rival = found[others]
            ranks.append(1 + (rival < found[own]).sum() + (rival == found[own]).sum() / 2)
            expected.append(1 + len(rival) / 2)
    rank = np.array(ranks)
    return {
        "arithmetic_mean_rank": float(rank.mean()),
        "adjusted_arithmetic_mean_rank_index": float(
            1 - (rank.mean() - 1) / max(np.mean(expected) - 1, 1e-12)
        ),
        "inverse_harmonic_mean_rank": float((1 / rank).mean()),
        **{f"hits_at_{k}": float((rank <= k).mean()) for k in _HITS},
    }
