"""The sections of a report: which sums a measure is a function of, for every subject alike.

Every section takes `clusters`, the labels of taxa that share their fate (`groups.genera`): with
them `intervals` computes how sure a value is.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import expit

from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.evaluation.groups import purity_of_chance
from poincare_taxa.evaluation.intervals import rank_interval, share_interval
from poincare_taxa.evaluation.points import GivenPoints
from poincare_taxa.evaluation.report import Estimate, Row
from poincare_taxa.evaluation.subjects import Subject
from poincare_taxa.files.records import dtype_name
from poincare_taxa.files.seeds import stream
from poincare_taxa.geometry import ball
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["ball_rows", "pair_rows", "query_rows", "radius_rows", "separation_rows"]

Subjects = Mapping[str, Subject]
Floats = NDArray[np.float64]
Rows = NDArray[np.integer]
Array = NDArray[Any]
Interval = Callable[[Floats], tuple[float, float]]

_OTHERS = 100  # Others sampled for each query, of each kind.
_ALL_PAIRS = 1000  # Taxa up to which the distortion of all pairs is computed, too.
_PARTNERS = 20  # Taxa sampled within, and as many outside, the group of each query.


def _row(
    group: str,
    metric: str,
    statistics: dict[str, Floats],
    value: Callable[[Floats], Floats],
    *,
    clusters: Mapping[str, Rows],
    interval: Interval | None = None,
    **rest: Any,
) -> Row:
    """Build a row from the statistics of each subject, and the clusters of its queries."""
    estimates = {
        subject: Estimate.of(table, value, clusters=clusters[subject], interval=interval)
        for subject, table in statistics.items()
    }
    if np.isinf(estimates["value"].high):
        # With a chance of .05 none of a kind of taxa is drawn that is this share of all.
        share = 1 - 0.05 ** (1 / estimates["value"].count)
        rest["note"] = f"tail not seen: {share:.1%} of all taxa"
    return _beside(group, metric, estimates, **rest)


def _beside(
    group: str,
    metric: str,
    estimates: dict[str, Estimate],
    *,
    low_is_good: bool = False,
    **rest: Any,
) -> Row:
    """Put a value beside the tree's, and beside the better one of the floors."""
    floors = {name: e for name, e in estimates.items() if name not in ("value", "ceiling")}
    sign = -1 if low_is_good else 1
    # Of equal ones the first; what is undefined is the worst.
    best = max(
        floors, key=lambda name: np.nan_to_num(sign * floors[name].value, nan=-np.inf), default=""
    )
    return Row(
        group,
        metric,
        estimates["value"],
        floor=floors.get(best),
        floor_of=best,
        ceiling=estimates.get("ceiling"),
        **rest,
    )


def _ratio(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def _ratio_of_ratios(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1] / (sums[..., 2] / sums[..., 3])


def _told(column: Floats) -> Floats:
    """Sum and count of what is not nan: [Q, 2]."""
    return np.stack([np.nan_to_num(column), ~np.isnan(column)], axis=1)


def _mean(column: Floats) -> float:
    told = column[~np.isnan(column)]
    return float(told.mean()) if len(told) else np.nan


def query_rows(
    measured: dict[str, dict[str, Floats]],
    k: int,
    parts: set[str],
    groups: dict[str, NDArray[np.int32]],
    queries: Mapping[str, Rows],
    clusters: Rows,
) -> list[Row]:
    """Measures that compare each query with all taxa, from the statistics of each subject."""
    found = measured["value"]
    labels = {subject: clusters[queries[subject]] for subject in measured}
    sampled = len(queries["value"]) < len(clusters)
    rows = []

    def add(group: str, metric: str, column: str, **rest: Any) -> None:
        """Add a mean of shares, which lie between 0 and 1."""
        statistics = {subject: _told(columns[column]) for subject, columns in measured.items()}
        rest = {"clusters": labels, "interval": share_interval} | rest
        rows.append(_row(group, metric, statistics, _ratio, **rest))

    if "precision" in parts:
        group = f"the {k} nearest taxa"
        add(group, f"precision@{k}", "precision", note="tie-aware")
        add(group, f"plain precision@{k}", "plain", note="the tree's own is the tie ceiling")
        by_lot = {"note": "places that ties compete for", "low_is_good": True}
        add(group, f"drawn by lot@{k}", "by lot", **by_lot)
    if "purity" in parts:
        group = f"share of the {k} nearest that are of the same group"
        for name, label in groups.items():
            column = f"purity {name}"
            chance = purity_of_chance(label)
            lift = _mean(found[column]) / chance if chance else np.nan
            add(group, f"purity@{k}", column, at=name, note=f"chance {chance:.2g}, lift {lift:.3g}")
    for part, group in (
        ("ancestor", "ancestors, ranked by d(q,v) + d(0,v) − d(0,q)"),
        ("neighbour", "parent and children, ranked by d"),
        (
            "closure",
            "ancestors, ranked by d alone (in the tree, a sibling is nearer than the root)",
        ),
    ):
        if part not in parts:
            continue
        low, high = (_mean(found[f"{part} AP, {luck}"]) for luck in ("unlucky", "lucky"))
        ties = f"ties: {low:.3g} … {high:.3g}" if high - low > 1e-4 else ""
        add(group, f"{part} MAP", f"{part} AP", note=ties)
        if part != "neighbour":
            sums = {
                subject: np.nan_to_num(
                    np.stack([columns[f"{part} ranks"], columns[f"{part} count"]], axis=1)
                )
                for subject, columns in measured.items()
            }
            rest: dict[str, Any] = {"clusters": labels, "low_is_good": True}
            rest["interval"] = rank_interval if sampled else None
            rows.append(_row(group, f"{part} mean rank", sums, _ratio, **rest))
    return rows


# -------------------------------------------------------------------- radius and ball


def radius_rows(tree: Tree, points: GivenPoints) -> list[Row]:
    """How well the radius follows the depth. A lost taxon stands in the opposite place.

    Correlations are those with the distance from the root, where there are branch lengths.
    """
    radius, depth = points.radius.numpy(force=True), tree.height
    known = ~np.isnan(radius)
    if known.any() and np.ptp(radius[known]) <= 8 * points.rounding:
        radius = np.where(known, radius[known].mean(), np.nan)  # constant, but for rounding
    explained = metrics.radius_explained_by_depth(radius[known], tree.depth[known])
    planted = "by construction" if explained > 1 - 1e-9 else ""
    order = metrics.spearman(radius, depth)
    group = "depth and radius (the floor has the same radii)"

    def row(metric: str, value: float, tree: float | None, note: str = "") -> Row:
        estimate = Estimate(value, count=len(radius))
        ceiling = None if tree is None else Estimate(tree, count=len(radius))
        return Row(group, metric, estimate, floor=estimate, ceiling=ceiling, note=note)

    rows = [
        row("depth–radius Pearson", metrics.pearson(radius, depth), 1.0, planted),
        row("depth–radius Spearman", order, 1.0, planted),
    ]
    if points.rim is not None:
        # Pearson with 1 − norm, which float64 resolves where the norm is 1 for all deep taxa.
        rim = 2 * expit(-radius)
        rows += [
            row("depth–norm Pearson", metrics.pearson(-rim, depth), None, planted),
            row("depth–norm Spearman", order, 1.0, "the norm grows with the radius"),
        ]
    note = "η²; 1 = planted, not learned"
    return [*rows, row("radius explained by depth", explained, 1.0, note)]


def ball_rows(points: GivenPoints) -> list[Row]:
    """Describe what points of hyperbolic space become in the ball; of others, count the lost."""
    n, lost = len(points.radius), int((~points.valid).sum())

    def row(metric: str, value: float, note: str = "") -> Row:
        group = "the vectors" if points.rim is None else "the ball"
        return Row(group, metric, Estimate(value, count=n), note=note)

    rows = [row("lost rows", lost, "not finite, or a negative radius")]
    if points.rim is None:
        return rows
    rim = points.rim[torch.isfinite(points.rim)]
    least = float(rim.min()) if len(rim) else np.nan
    rows.insert(0, row("max norm", 1 - least, f"1 − {least:.2g}"))
    for dtype in (torch.float32, torch.float64):
        name = dtype_name(dtype)
        # A projected row lies within a few ulp of the largest norm, on either side.
        clip = 1 - ball.max_norm(dtype) + 4 * torch.finfo(dtype).eps
        clipped = int((rim <= clip).sum())
        rows.append(
            row(f"rows at the clip of a {name} ball", clipped, "polar radii are not clipped")
        )
    if points.direction_error is not None:
        error = points.direction_error
        rows.append(row("direction norm error", error, "largest | |u| − 1 |"))
    return rows


# -------------------------------------------------------------------- sampled pairs


def pair_rows(
    tree: Tree,
    subjects: Subjects,
    asked: Rows,
    seed: int,
    parts: set[str],
    clusters: Rows,
    tau: float | None = None,
) -> list[Row]:
    """Distance against tree distance, of sampled pairs; with τ, at that scale too.

    Distortion is of all pairs besides, where every taxon of a small taxonomy is a query.
    """
    q = asked[:, None]
    uniform = samples.uniform_others(len(tree), asked, _OTHERS, stream(seed, "uniform others"))
    balanced, lca_depth = samples.lca_balanced_others(
        tree, asked, _OTHERS, stream(seed, "balanced others")
    )
    edges = {
        "": tree.distance(q, uniform),
        "LCA-balanced": tree.depth[q] + tree.depth[balanced] - 2 * lca_depth
        if tree.lengths is None
        else tree.distance(q, balanced),
    }
    others = {"": uniform, "LCA-balanced": balanced}
    distance = {
        kind: {
            name: edges[kind] if name == "ceiling" else subject.pairs(q, others[kind])
            for name, subject in subjects.items()
        }
        for kind in others
    }
    labels = dict.fromkeys(subjects, clusters[asked])
    rows = []
    if "correlation" in parts:
        for kind in others:
            rows += _correlation_rows(distance[kind], edges[kind], kind, labels)
        pairs = distance["LCA-balanced"], edges["LCA-balanced"], lca_depth
        rows += _stratified_rows(*pairs, labels)
    if "distortion" in parts:
        for kind in others:
            rows += _distortion_rows(distance[kind], edges[kind], kind, labels, tau)
        if len(asked) == len(tree) <= _ALL_PAIRS:
            every = (q + 1 + np.arange(len(tree) - 1)) % len(tree)
            true = tree.distance(q, every)
            found = {
                name: true if name == "ceiling" else subject.pairs(q, every)
                for name, subject in subjects.items()
            }
            rows += _distortion_rows(found, true, "all pairs", labels, tau)
    return rows


_CORRELATION = "distance against tree distance, 100 others of each query"


def _correlation_rows(
    distance: dict[str, Any], tree: Rows, kind: str, clusters: Mapping[str, Rows]
) -> list[Row]:
    everything = np.ones_like(tree, np.bool_)
    moments = {name: _rank_moments(d, tree, everything) for name, d in distance.items()}
    order = {name: np.stack(metrics.triplet_order(d, tree), 1) for name, d in distance.items()}
    rest: dict[str, Any] = {"at": kind, "clusters": clusters}
    return [
        _row(_CORRELATION, "Spearman", moments, _correlation, **rest),
        _row(_CORRELATION, "triplet order", order, _ratio, note="Somers' D per query", **rest),
    ]


def _stratified_rows(
    distance: dict[str, Any], tree: Rows, lca_depth: Rows, clusters: Mapping[str, Rows]
) -> list[Row]:
    """Spearman within each depth of the common ancestor, and the mean over depths."""
    count = np.bincount(lca_depth.ravel())
    levels = np.flatnonzero(count >= max(30, 0.01 * tree.size)).tolist()
    levels = [level for level in levels if len(np.unique(tree[lca_depth == level])) > 1]
    if not levels:
        return []
    moments = {
        name: np.stack([_rank_moments(d, tree, lca_depth == level) for level in levels], axis=1)
        for name, d in distance.items()
    }
    metric = "Spearman within LCA depth"
    flat = {name: m.reshape(len(m), -1) for name, m in moments.items()}

    def mean_over_levels(sums: Floats) -> Floats:
        each = _correlation(sums.reshape(*sums.shape[:-1], len(levels), 6))
        return np.nansum(each, axis=-1) / np.count_nonzero(~np.isnan(each), axis=-1)

    note = "what the radius alone decides"
    return [_row(_CORRELATION, metric, flat, mean_over_levels, clusters=clusters, note=note)] + [
        _row(
            _CORRELATION,
            metric,
            {name: m[:, i] for name, m in moments.items()},
            _correlation,
            clusters=clusters,
            at=str(level),
            detail=True,
        )
        for i, level in enumerate(levels)
    ]


def _rank_moments(distance: NDArray[np.number], tree: Rows, chosen: NDArray[np.bool_]) -> Floats:
    """Sum 1, x, y, x², y², xy of the chosen pairs' ranks per query: what Spearman follows from.

    A bootstrap over them resamples queries but keeps the ranks of the whole sample.
    """
    x, y = np.zeros(tree.shape), np.zeros(tree.shape)
    lost = chosen & np.isinf(distance)
    for out, values, some in ((x, distance, chosen & ~lost), (y, tree, chosen)):
        ranks = metrics.average_ranks(values[some])
        out[some] = 2 * ranks / (len(ranks) + 1) - 1  # In (−1, 1), with mean 0.
    x[lost] = -y[lost]  # A lost taxon gets the worst place, wherever the tree has it.
    terms = (chosen, x, y, x * x, y * y, x * y)
    return np.stack([term.sum(axis=1) for term in terms], axis=1).astype(np.float64)


def _correlation(sums: Floats) -> Floats:
    """Pearson from moments; 0 where only x is constant, nan where y is."""
    count, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = x / count, y / count
        var_x, var_y = xx / count - x * x, yy / count - y * y
        value = np.clip((xy / count - x * y) / np.sqrt(var_x * var_y), -1, 1)
    constant = 1e-12
    return np.where(var_y > constant, np.where(var_x > constant, value, 0.0), np.nan)


def _distortion_rows(
    distance: dict[str, Any],
    tree: Array,
    kind: str,
    clusters: Mapping[str, Rows],
    tau: float | None,
) -> list[Row]:
    group = "distortion: | d / (scale × tree distance) − 1 |"
    each, scale = {}, np.nan
    for name, d in distance.items():
        found = metrics.distortion(d, tree)
        each[name] = found.each
        scale = found.scale if name == "value" else scale
    told = tree > 0
    if not told.any():
        return []  # All taxa are at one place in the tree.
    sums = {
        name: np.stack([np.where(told, e, 0).sum(1), told.sum(1)], 1) for name, e in each.items()
    }

    def row(metric: str, value: Callable[[str], float], **rest: Any) -> Row:
        estimates = {name: Estimate(value(name), count=len(tree)) for name in each}
        return _beside(group, metric, estimates, at=kind, low_is_good=True, **rest)

    def p99(name: str) -> float:
        return float(np.quantile(each[name][told], 0.99, method="higher"))

    rest: dict[str, Any] = {"at": kind, "clusters": clusters, "low_is_good": True}
    unit = "per edge" if tree.dtype.kind == "i" else "per unit of branch length"
    note = f"scale {scale:.4g} {unit}"
    nominal = []
    if tau is not None:
        # At a scale that is given, not the best one; floors are at their own best one.
        error = np.where(told, np.abs(distance["value"] / (tau * np.where(told, tree, 1)) - 1), 0)
        at_tau = {**sums, "value": np.stack([error.sum(1), told.sum(1)], 1)}
        about = f"scale {tau:.4g} {unit}: τ of the layout"
        nominal = [_row(group, "mean distortion at τ", at_tau, _ratio, note=about, **rest)]
    return [
        _row(group, "mean distortion", sums, _ratio, note=note, **rest),
        *nominal,
        row("p99 distortion", p99),
        row("worst distortion", lambda name: float(each[name][told].max())),
        row(
            "expansion × contraction",
            lambda name: metrics.spread(distance[name], tree),
            note="of the worst pairs",
        ),
    ]


# -------------------------------------------------------------------- separation


def separation_rows(
    subjects: Subjects,
    groups: dict[str, NDArray[np.int32]],
    asked: Rows,
    seed: int,
    clusters: Rows,
) -> list[Row]:
    """Mean distance between groups over mean distance within, of sampled pairs."""
    group = "separation: mean distance between groups / within"
    rows = []
    for name, labels in groups.items():
        rng = stream(seed, f"separation {name}")
        q, within, between = samples.separation_partners(labels, asked, _PARTNERS, rng)
        sums = {subject: _partner_sums(s, q, within, between) for subject, s in subjects.items()}
        labels_of = dict.fromkeys(subjects, clusters[q])
        rows.append(_row(group, "separation", sums, _ratio_of_ratios, at=name, clusters=labels_of))
    return rows


def _partner_sums(subject: Subject, q: Rows, within: Rows, between: Rows) -> Floats:
    far, near = subject.pairs(q[:, None], between), subject.pairs(q[:, None], within)
    count = np.full(len(q), within.shape[1])
    return np.stack([far.sum(1), count, near.sum(1), count], axis=1).astype(np.float64)
