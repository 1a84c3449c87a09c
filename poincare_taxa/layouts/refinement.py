r"""Refinement: the largest radius per level that improves measured neighbourhoods.

The distance of siblings at radius τL is :math:`2τ + 2\log\sin(φ/2)`, where φ is the angle between
their offsets. In a large family the angles are small, and a larger τ compensates for this in all
families at once: the distances of siblings become larger than the distance to their parent, those
of cousins larger than those of siblings, and all come closer to tree distances. The limit of τ is
precision: a larger τ needs more digits per level, and the digits end in some lineages long before
they end in others. There is no formula for this limit, so it is searched for by measuring the
quality of the points:

- A *pass* multiplies τ and computes the directions again (`layout_in_layers`), with two differences
  to `layout`: a coordinate too coarse for a whole code still holds siblings in *layers*, at whole
  multiples of its spacing; and families are a little wider, because a larger τ makes subtrees
  smaller.
- The same taxa are compared with all others before and after. The pass is kept if no measure is
  worse than at the start, no measure is worse than for the best points so far by more than two
  standard errors, and a neighbourhood measure is better than for the best points so far. Otherwise
  the next passes multiply τ by two to four steps at once, because one unlucky taxon should not end
  the search. Where siblings coincide, precision has ended, and the next pass takes half a step.

So no measure gets worse on the taxa compared. Radii stay proportional to depth.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.subjects import Subject, polar_subject
from poincare_taxa.files.progress import open_display
from poincare_taxa.files.seeds import stream
from poincare_taxa.layouts.tree import Layout, largest_tau, layout_in_layers
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "MEASURED",
    "Measures",
    "Yardstick",
    "count_coincident",
    "count_equal",
    "count_equal_siblings",
    "improved",
    "queries_of_yardstick",
    "refine",
    "row_hashes",
]

Measures = dict[str, NDArray[np.float64]]
"""Values of each taxon compared [Q], whose mean should be large; "apart" has a single value."""

_GROWTH = 1.2
"""Factor of τ in one step."""

_AHEAD = 4
"""Most steps that a pass takes at once."""

_SMALLEST = 1.02
"""Factor of τ below which the search ends."""

_NEIGHBOURHOODS = ("precision", "ancestor", "ancestor rank", "neighbour")
"""Measures of which one must improve for a pass to be kept."""

MEASURED = {"precision", "ancestor", "neighbour"}
"""What is measured of each taxon compared."""

_OTHERS = 100
"""Taxa with which each of those compared forms triplets and distortions."""

_HASHED = 1 << 16
"""Rows that are hashed together, which takes three times their memory."""

_TOLERATED = 1e-4
"""Share of taxa that may coincide with a sibling."""


def refine(
    taxonomy: Taxonomy | Tree,
    points: tuple[Tensor, Tensor] | Layout,
    *,
    passes: int = 8,
    queries: int = 256,
    seed: int = 0,
) -> Layout:
    """Improve neighbourhoods by a larger radius per level; no measure taken gets worse.

    Each pass computes all directions again. The first τ and the measures to exceed are those of the
    given points. If no pass exceeds them, the given points are returned bit for bit: trained points
    are kept or replaced, never changed in part. Where all neighbourhoods are perfect at the start,
    nothing is tried; distances nearer to those of the tree are the aim of `distance_layout`.

    Parameters
    ----------
    taxonomy
        A taxonomy or its tree.
    points
        Points to improve: a `Layout`, or radius [n] and direction [n, dim], float64 or float32.
    passes
        Number of passes, at least 0.
    queries
        Number of taxa compared with all taxa before and after each pass, at least 1. The time of a
        pass and the reliability of the comparison grow with it.
    seed
        Seed of the orientation of families and of the choice of taxa compared.

    Returns
    -------
    points
        Radius, direction, and info: that of the points kept, and ``passes``, a list with ``tau``,
        ``kept`` and the measures of the given points and of each pass.

    Raises
    ------
    ValueError
        If the taxonomy has branch lengths, the shapes do not fit it, or `passes` or `queries` is
        out of its range.

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
    tree = tree_of(taxonomy)
    n = len(tree)
    if tree.lengths is not None:
        raise ValueError(
            "refinement improves neighbourhoods by edges, and this taxonomy has branch lengths: "
            "its layout has the largest radius that its directions resolve already, so leave "
            "refinement out; or give taxonomy.without_lengths() to both layout and refine"
        )
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
    tau = _radius_per_level(tree, radius)
    start = Layout(radius, direction, {"tau": tau, **info})
    if tree.max_depth == 0 or tau <= 0 or not passes:
        return start._replace(info={**start.info, "passes": []})
    dim, dtype = direction.shape[1], direction.dtype
    return improved(
        start,
        Yardstick.of(tree, queries, seed),
        lambda tau: layout_in_layers(tree, dim, tau, dtype, seed),
        largest_tau(tree, dtype),
        passes,
        tau,
    )


def improved(
    best: Layout,
    yardstick: Callable[[Layout], Measures],
    propose: Callable[[float], Layout],
    largest: float,
    passes: int,
    first: float | None = None,
) -> Layout:
    """Search for the largest τ, of at most a given one, whose layout the yardstick finds better.

    The points given are the best so far; their τ is `first`, or as they say. Two layouts are in
    memory at most, where the caller keeps none.
    """
    at_start = reached = yardstick(best)
    first = best.info["tau"] if first is None else first
    history = [{"tau": first, "kept": True, **_means(reached)}]
    growth, ahead = _GROWTH, 1
    for _ in range(passes):
        # 1. The next τ: `ahead` steps beyond the best one, within the largest radius.
        tau = min(best.info["tau"] * growth**ahead, largest)
        if growth < _SMALLEST or _solved(reached) or tau <= best.info["tau"]:
            break
        if any(one["tau"] == tau for one in history):  # The largest τ has been tried already.
            growth = growth**0.5
            continue
        # 2. Compute the layout of this τ and compare it.
        proposal = propose(tau)
        measures = yardstick(proposal)
        kept = _better(measures, reached, at_start)
        history.append({"tau": tau, "kept": kept, **_means(measures)})
        # 3. After a kept pass take one step; after an unlucky one, one more at once; where
        #    siblings coincide, half a step.
        precision_ended = measures["apart"] < reached["apart"]
        if kept:
            best, reached, ahead = proposal, measures, 1
        elif growth == _GROWTH and ahead < _AHEAD and tau < largest and not precision_ended:
            ahead += 1
        else:
            growth, ahead = growth**0.5, 1
        del proposal
    return best._replace(info={**best.info, "passes": history})


def _radius_per_level(tree: Tree, radius: Tensor) -> float:
    """τ of the least-squares fit radius = τ · depth."""
    depth = torch.tensor(tree.depth, dtype=torch.float64)
    return float(radius.double() @ depth / (depth @ depth).clamp(min=1))


class Yardstick:
    """Measures of points, over the same taxa at every call.

    Parameters
    ----------
    asked
        What is measured of each query.
    queries
        The taxa that are compared with all others.
    rng
        Source of the taxa that form triplets and distortions with them.
    """

    def __init__(self, asked: QueryTaxa, queries: NDArray[Any], rng: np.random.Generator) -> None:
        self.asked, self.tree, self.queries = asked, asked.tree, queries
        tree, q = asked.tree, queries[:, None]
        uniform = samples.uniform_others(len(tree), queries, _OTHERS, rng)
        balanced, _ = samples.lca_balanced_others(tree, queries, _OTHERS, rng)
        self.others = {
            kind: (others, np.maximum(tree.distance(q, others), 1))
            for kind, others in (("uniform", uniform), ("balanced", balanced))
        }

    @classmethod
    def of(cls, tree: Tree, queries: int, seed: int) -> "Yardstick":
        """Choose taxa of a tree."""
        chosen, rng = queries_of_yardstick(len(tree), queries, seed)
        return cls(QueryTaxa(tree, {}, 10, MEASURED), chosen, rng)

    def subject(self, points: Layout) -> Subject:
        """Return the points as what is measured."""
        return polar_subject(points.radius, points.direction)

    def coincident(self, points: Layout) -> int:
        """Count the taxa whose direction is that of a sibling."""
        return count_coincident(self.tree.parent, points.direction)

    def __call__(self, points: Layout) -> Measures:
        """Measure points."""
        coincident, subject = self.coincident(points), self.subject(points)
        advance = partial(open_display(), f"refinement · {points.info['tau']:.3g} per level")
        found = query_statistics(subject, self.asked, self.queries, Clock(), advance)
        measures = {
            "apart": np.array([-max(0.0, coincident - _TOLERATED * len(self.tree))]),
            "precision": _each(found["precision"]),
            "ancestor": _each(found["ancestor AP"]),
            "ancestor rank": -_each(found["ancestor ranks"]),
            "neighbour": _each(found["neighbour AP"]),
        }
        for kind, (others, edges) in self.others.items():
            distance = subject.pairs(self.queries[:, None], others)
            agreement, comparable = metrics.triplet_order(distance, edges)
            measures[f"order, {kind}"] = agreement / max(comparable.mean(), 1 / len(edges))
            measures[f"distortion, {kind}"] = -metrics.distortion(distance, edges).each.mean(1)
        return measures


def queries_of_yardstick(
    n: int, queries: int, seed: int
) -> tuple[NDArray[np.int64], np.random.Generator]:
    """Draw the taxa that are compared, and return the source of what is drawn next."""
    rng = stream(seed, "refinement")
    return rng.permutation(n)[:queries], rng


def count_coincident(parent: NDArray[np.int32], direction: Tensor) -> int:
    """Count the rows whose direction equals that of a sibling, by a 64-bit hash of directions."""
    return count_equal_siblings(parent, row_hashes(direction))


def count_equal_siblings(parent: NDArray[np.int32], key: NDArray[np.uint64]) -> int:
    """Count the rows whose key equals that of a sibling."""
    # Sort siblings by their key: equal ones become adjacent.
    order = np.lexsort((key, parent))
    key, parent = key[order], parent[order]
    return _in_runs((key[1:] == key[:-1]) & (parent[1:] == parent[:-1]))


def count_equal(points: Tensor) -> int:
    """Count the rows [n, dim] that equal another row, by a 64-bit hash of rows."""
    key = np.sort(row_hashes(points))
    return _in_runs(key[1:] == key[:-1])


def _in_runs(same: NDArray[np.bool_]) -> int:
    """Count the members of runs, where `same` marks neighbours that are equal."""
    return int(np.count_nonzero(np.append(same, False) | np.append(False, same)))


def row_hashes(points: Tensor) -> NDArray[np.uint64]:
    """Hash each row: the sum of its coordinates' bits, mixed, times random odd numbers."""
    weight = stream(0, "hash").integers(0, 2**63, points.shape[1], np.uint64) | np.uint64(1)
    found = np.empty(len(points), np.uint64)
    for start in range(0, len(points), _HASHED):
        some = slice(start, start + _HASHED)
        rows = points[some].numpy(force=True) + 0.0  # -0 becomes 0
        bits = rows.view(f"u{rows.itemsize}").astype(np.uint64)
        with np.errstate(over="ignore"):
            mixed = (bits ^ bits >> np.uint64(32)) * weight  # Else two changed signs would cancel.
            found[some] = (mixed ^ mixed >> np.uint64(29)).sum(axis=1, dtype=np.uint64)
    return found


def _each(column: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rescale values so that their mean is that of the defined ones; nan becomes 0."""
    share = np.count_nonzero(~np.isnan(column)) / len(column)
    return np.nan_to_num(column) / max(share, 1 / len(column))


def _means(measures: Measures) -> dict[str, float]:
    """Mean of each measure."""
    return {name: float(each.mean()) for name, each in measures.items()}


def _solved(measures: Measures) -> bool:
    """Whether all neighbourhoods are perfect, so that no pass can improve them."""
    return all(measures[name].mean() == 1 for name in ("precision", "ancestor", "neighbour"))


def _better(new: Measures, old: Measures, start: Measures) -> bool:
    """Whether no measure is worse and a neighbourhood measure is better.

    A measure is worse if it is below that of the start by more than rounding of the sums, or below
    the old one by more than two standard errors of the mean difference over the same taxa.
    """
    rounding = 1e-12
    since_start = {name: new[name].mean() - start[name].mean() for name in new}
    gain = {name: new[name] - old[name] for name in new}
    error = {name: each.std() / max(len(each) - 1, 1) ** 0.5 for name, each in gain.items()}
    return (
        all(total >= -rounding for total in since_start.values())
        and all(each.mean() >= -2 * error[name] - rounding for name, each in gain.items())
        and any(gain[name].mean() > rounding for name in _NEIGHBOURHOODS)
    )
