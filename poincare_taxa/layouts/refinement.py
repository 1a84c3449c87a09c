r"""Refinement: as much radius per level as floating point can bear, found by measuring.

Siblings at radius τL stand :math:`2τ + 2\log\sin(φ/2)` apart, where φ is the angle between their
offsets. What a large family lacks in angle, a larger τ makes up for, everywhere at once: siblings
move out past their parent, cousins out past the siblings, and distances come closer to the tree's.
What ends this is precision, which a larger τ spends faster, and it ends in one lineage long before
it does in another. No formula says where; so this is a search, and its yardstick is the quality of
the points themselves:

- a *pass* multiplies τ and lays the directions out anew, with two things that `layout` alone does
  without: coordinates too coarse for a whole code still hold siblings in *rows*, a whole number of
  their spacings apart; and families are a little wider, for at a larger τ subtrees take less room;
- the same taxa are compared with all others before and after. The pass is kept if no measure is
  worse than at the start, none worse than so far by more than two standard errors, and a
  neighbourhood is better than so far. Else the next ones take two to four steps at once, for a
  single taxon out of luck should not end the climb, or, where precision has ended, half a step.

So no measure gets worse on the taxa compared. Radii stay proportional to depth.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.evaluation import metrics
from poincare_taxa.evaluation._scan import Points
from poincare_taxa.evaluation.rank_counts import scan_all, suits
from poincare_taxa.evaluation.subjects import Clock, Embedding, QueryTaxa, scan
from poincare_taxa.files.seeds import stream
from poincare_taxa.layouts.tree import Layout, in_rows, largest_tau
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["refine"]

Measures = dict[str, NDArray[np.float64]]
"""Of each taxon [Q], the larger the better in the mean; for "apart" a single number."""

_GROWTH = 1.2
_AHEAD = 4
_SMALLEST = 1.02  # A step that is not worth the time it takes.
_NEIGHBOURHOODS = ("precision", "ancestor", "ancestor rank", "neighbour")
_OTHERS = 100
_TOLERATED = 1e-4
"""Share of taxa that may stand exactly where a sibling stands, as long as every measure gains."""


def refine(
    taxonomy: Taxonomy,
    points: tuple[Tensor, Tensor] | Layout,
    *,
    passes: int = 8,
    queries: int = 256,
    seed: int = 0,
) -> Layout:
    """Improve neighbourhoods, without worsening anything measured on the way.

    Directions are laid out anew, at a larger radius per level. The start is the yardstick: it gives
    the first τ and the measures that a pass must beat, and where none does, it is returned, bit for
    bit. So a trained start is kept or replaced, never blended.

    Parameters
    ----------
    taxonomy
        The tree.
    points
        Where to start: a `Layout`, or radius [n] and direction [n, dim] from elsewhere, float64 or
        float32.
    passes
        Proposals to make, at least 0.
    queries
        Taxa compared with all taxa before and after each pass, at least 1: what a pass costs, and
        what "not worse" rests on.
    seed
        Of the layout's orientation of families and of the taxa compared.

    Returns
    -------
    points
        Radius, direction, and info: that of the start or the layout kept, and ``passes``, a list
        with ``tau``, ``kept`` and the measures of each proposal, the start first.

    Raises
    ------
    ValueError
        If the shapes do not fit the taxonomy, or `passes` or `queries` is out of its range.

    Examples
    --------
    >>> from poincare_taxa.layouts.tree import layout
    >>> tax = Taxonomy.from_parents([-1] + [0] * 40)
    >>> start = layout(tax, dim=3)
    >>> refined = refine(tax, start)
    >>> bool(refined.radius.max() >= start.radius.max())
    True
    """
    radius, direction, *_ = points
    n = len(taxonomy)
    if radius.shape != (n,) or direction.ndim != 2 or len(direction) != n:
        raise ValueError(
            f"{n} taxa need a radius of shape [{n}] and a direction of shape [{n}, dim]; "
            f"got {list(radius.shape)} and {list(direction.shape)}"
        )
    if passes < 0 or queries < 1:
        raise ValueError(
            f"passes must be at least 0 and queries at least 1; got {passes} and {queries}"
        )
    info = points.info if isinstance(points, Layout) else {}
    tau = _radius_per_level(taxonomy, radius)
    best = Layout(radius, direction, {"tau": tau, **info})
    history = []
    if taxonomy.max_depth > 0 and tau > 0 and passes:
        yardstick = _Yardstick(taxonomy, queries, seed)
        at_start = reached = yardstick(best)
        history.append({"tau": tau, "kept": True, **_means(reached)})
        growth, ahead, largest = _GROWTH, 1, largest_tau(taxonomy, direction.dtype)
        for _ in range(passes):
            tau = min(best.info["tau"] * growth**ahead, largest)
            if growth < _SMALLEST or _solved(reached) or tau <= best.info["tau"]:
                break
            if any(one["tau"] == tau for one in history):  # At the largest radius already.
                growth = growth**0.5
                continue
            proposal = in_rows(taxonomy, direction.shape[1], tau, direction.dtype, seed)
            measures = yardstick(proposal)
            kept = _better(measures, reached, at_start)
            history.append({"tau": tau, "kept": kept, **_means(measures)})
            ended = measures["apart"] < reached["apart"]
            if kept:
                best, reached, ahead = proposal, measures, 1
            elif growth == _GROWTH and ahead < _AHEAD and tau < largest and not ended:
                ahead += 1
            else:
                growth, ahead = growth**0.5, 1
    return best._replace(info={**best.info, "passes": history})


def _radius_per_level(taxonomy: Taxonomy, radius: Tensor) -> float:
    """τ of the best fit radius = τ · depth."""
    depth = torch.tensor(taxonomy.depth, dtype=torch.float64)
    return float(radius.double() @ depth / (depth @ depth).clamp(min=1))


class _Yardstick:
    """Measures of points over the same taxa every time."""

    def __init__(self, taxonomy: Taxonomy, queries: int, seed: int) -> None:
        rng = stream(seed, "refinement")
        self.queries = rng.permutation(len(taxonomy))[:queries]
        self.asked = QueryTaxa(taxonomy, {}, 10, {"precision", "ancestor", "neighbour"})
        q = self.queries[:, None]
        uniform = metrics.uniform_others(len(taxonomy), self.queries, _OTHERS, rng)
        balanced, _ = metrics.lca_balanced_others(taxonomy, self.queries, _OTHERS, rng)
        self.others = {
            kind: (others, np.maximum(taxonomy.tree_distance(q, others), 1))
            for kind, others in (("uniform", uniform), ("balanced", balanced))
        }

    def __call__(self, points: Layout) -> Measures:
        at = Points(points.radius, points.direction)
        subject, nobody = Embedding(at), lambda done, total: None
        taxonomy = self.asked.taxonomy
        together = _together(taxonomy, points.direction)
        if suits(at):
            found = scan_all(at, self.asked, self.queries, Clock(), nobody, torch.device("cpu"))
        else:
            found = scan(subject, self.asked, self.queries, Clock(), nobody)
        measures = {
            "apart": np.array([-max(0.0, together - _TOLERATED * len(taxonomy))]),
            "precision": _each(found["precision"]),
            "ancestor": _each(found["ancestor AP"]),
            "ancestor rank": -_each(found["ancestor ranks"]),
            "neighbour": _each(found["neighbour AP"]),
        }
        for kind, (others, tree) in self.others.items():
            distance = subject.pairs(self.queries[:, None], others)
            agreement, comparable = metrics.triplet_order(distance, tree)
            measures[f"order, {kind}"] = agreement / max(comparable.mean(), 1 / len(tree))
            measures[f"distortion, {kind}"] = -metrics.distortion(distance, tree).each.mean(1)
        return measures


def _together(taxonomy: Taxonomy, direction: Tensor) -> int:
    """Count the taxa that stand exactly where a sibling stands."""
    rows = direction.numpy(force=True) + 0.0  # -0 is 0
    bits = rows.view(f"u{rows.itemsize}").astype(np.uint64)
    weight = stream(0, "hash").integers(0, 2**63, direction.shape[1], np.uint64) | np.uint64(1)
    with np.errstate(over="ignore"):
        mixed = (bits ^ bits >> np.uint64(32)) * weight  # Else two flipped signs cancel.
        key = (mixed ^ mixed >> np.uint64(29)).sum(axis=1, dtype=np.uint64)
    order = np.lexsort((key, taxonomy.parent))
    key, parent = key[order], taxonomy.parent[order]
    same = (key[1:] == key[:-1]) & (parent[1:] == parent[:-1])
    return int(np.count_nonzero(np.append(same, False) | np.append(False, same)))


def _each(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make the mean over all that over what is not nan; 0 where nothing could be asked."""
    share = np.count_nonzero(~np.isnan(column)) / len(column)
    return np.nan_to_num(column) / max(share, 1 / len(column))


def _means(measures: Measures) -> dict[str, float]:
    return {name: float(each.mean()) for name, each in measures.items()}


def _solved(measures: Measures) -> bool:
    return all(measures[name].mean() == 1 for name in ("precision", "ancestor", "neighbour"))


def _better(new: Measures, old: Measures, start: Measures) -> bool:
    """Whether nothing is worse and a neighbourhood is better.

    Not worse than at the start but for rounding of the sums; and not than so far by more than two
    standard errors of the difference, a mean over the same taxa.
    """
    rounding = 1e-12
    since_start = {name: new[name].mean() - start[name].mean() for name in new}
    lately = {name: new[name] - old[name] for name in new}
    error = {name: each.std() / max(len(each) - 1, 1) ** 0.5 for name, each in lately.items()}
    return (
        all(gain >= -rounding for gain in since_start.values())
        and all(each.mean() >= -2 * error[name] - rounding for name, each in lately.items())
        and any(lately[name].mean() > rounding for name in _NEIGHBOURHOODS)
    )
