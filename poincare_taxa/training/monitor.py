"""What a run is watched by: cheap measures on a sample that is drawn once, and their ceiling.

Depth, separation and distances, as `metrics` defines them, on at most a thousand taxa; and whether
any pair is learned: how often a positive is nearer to its anchor than an exact negative, by gap.
The tree itself is measured by the same code; the floor is the measure of the start.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.curriculum import lift
from poincare_taxa.blocks.negatives import UniformNegatives
from poincare_taxa.blocks.pairs import AncestorPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["Monitor"]

_SAMPLE = 1000  # Taxa, and pairs of each gap.
_PARTNERS = 20  # Others of each taxon.
_RANKS = ("phylum", "class", "order", "family")
_GAPS = {"gap 1": (1, 1), "gap 2": (2, 2), "gap 3+": (3, None)}

Rows = NDArray[np.integer]
Distance = Callable[[Rows, Rows], NDArray[Any]]


class Monitor:
    """The sample of a run.

    Attributes
    ----------
    ceiling : dict
        The measures of the tree's own distances; empty for a DAG.
    """

    def __init__(self, source: Taxonomy | ClosurePairs, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._generator = torch.Generator().manual_seed(seed)
        self._tree: TreeIndex | None = None
        self._rows = np.empty(0, np.int64)
        self._groups: dict[str, tuple[Rows, Rows, Rows]] = {}
        self._pairs: dict[str, tuple[Rows, Rows, Rows]] = {}
        self.ceiling: dict[str, float] = {}
        if isinstance(source, ClosurePairs):
            source = source.to("cpu")
            self._ask("pair_accuracy", source, UniformNegatives(source, 1, exclude="positives"))
        else:
            self._sample_tree(source)
            self.ceiling = self._measures(source.depth[self._rows], source.tree_distance)

    def _sample_tree(self, tax: Taxonomy) -> None:
        self._rows = np.sort(self._rng.permutation(len(tax))[:_SAMPLE])
        self._others = samples.uniform_others(len(tax), self._rows, _PARTNERS, self._rng)
        self._depth = tax.depth[self._rows]
        self._edges = tax.tree_distance(self._rows[:, None], self._others)
        groups = taxon_groups(tax)
        names = [name for name in _RANKS if name in groups] or list(groups)[:4]
        for name in names:
            labels = groups[name]
            found = samples.separation_partners(labels, self._rows, _PARTNERS, self._rng)
            if len(found[0]):
                self._groups[name] = found
        self._tree = tree = TreeIndex(tax)
        negatives = UniformNegatives(tree, 1)
        for name, (least, most) in _GAPS.items():
            if tree.max_depth >= least:
                pairs = AncestorPairs(tree, min_gap=least, max_gap=most)
                self._ask(f"pair_accuracy/{name}", pairs, negatives)

    def _ask(self, name: str, pairs: Any, negatives: UniformNegatives) -> None:
        drawn = pairs.sample(_SAMPLE, generator=self._generator)
        negative = negatives(drawn, self._generator)[:, 0]
        drawn, negative = drawn[negative >= 0].numpy(), negative[negative >= 0].numpy()
        if len(drawn):
            self._pairs[name] = drawn[:, 1], drawn[:, 0], negative

    @torch.no_grad()
    def measure(self, points: Any, open_depth: int | None = None) -> dict[str, float]:
        """Measure a table of points; nan where a measure is undefined.

        While a tree is grown level by level, nodes below ``open_depth`` have no place yet: they are
        measured where they will join, at their ancestor on that level.
        """
        table, manifold = points.detach(), points.manifold

        def at(rows: Rows) -> Tensor:
            places = torch.from_numpy(rows)
            if open_depth is not None and self._tree is not None:
                places = lift(places, self._tree, open_depth)
            return table[places.to(table.device)]

        def distance(a: Rows, b: Rows) -> NDArray[Any]:
            return manifold.dist(at(a), at(b)).double().numpy(force=True)

        return self._measures(manifold.dist0(at(self._rows)).numpy(force=True), distance)

    def _measures(self, height: NDArray[Any], distance: Distance) -> dict[str, float]:
        found = {}
        if len(self._rows):
            found["depth_radius"] = metrics.spearman(height, self._depth)
            d = distance(self._rows[:, None], self._others)
            found["spearman"] = metrics.spearman(d.ravel(), self._edges.ravel())
        for name, (queries, within, between) in self._groups.items():
            far, near = distance(queries[:, None], between), distance(queries[:, None], within)
            found[f"separation/{name}"] = float(far.mean() / near.mean()) if near.any() else np.nan
        for name, (anchor, positive, negative) in self._pairs.items():
            nearer = distance(anchor, positive) < distance(anchor, negative)
            found[name] = float(nearer.mean())
        return {name: float(value) for name, value in found.items()}
