"""Cheap measures of a table on a sample that is drawn once, taken after each epoch.

Depth, separation and distances, as `metrics` defines them, on at most a thousand taxa; and how
often a positive is nearer to its anchor than an exact negative, by gap. The measures of the tree's
own distances, by the same code, are the ceiling; those of the start are the floor.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.curriculum import lift
from poincare_taxa.blocks.negatives import UniformNegatives
from poincare_taxa.blocks.pairs import AncestorPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.evaluation import metrics, samples
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.processes.group import Processes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.objectives import table_distance

__all__ = ["Monitor"]

_SAMPLE = 1000  # Taxa, and pairs of each gap.
_PARTNERS = 20  # Others of each taxon.
_RANKS = ("phylum", "class", "order", "family")
_GAPS = {"gap 1": (1, 1), "gap 2": (2, 2), "gap 3+": (3, None)}

Rows = NDArray[np.integer]


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
        self._a = self._b = self._rows
        if isinstance(source, ClosurePairs):
            source = source.to("cpu")
            self._draw("pair_accuracy", source, UniformNegatives(source, 1, exclude="positives"))
        else:
            self._sample_tree(source)
        # All pairs that are measured, one after the other, so that one call finds their distances.
        blocks = [np.broadcast_arrays(*block) for block in self._blocks()]
        if blocks:
            self._a, self._b = (
                np.concatenate([block[side].ravel() for block in blocks]).astype(np.int64)
                for side in (0, 1)
            )
        self._shapes = [block[0].shape for block in blocks]
        # Nodes that are measured, each once, and which of them all pairs and rows are.
        sides = self._a, self._b, self._rows
        listed = np.bincount(np.concatenate(sides)) > 0
        self._nodes, places = listed.nonzero()[0], listed.cumsum() - 1
        self._places = [places[rows] for rows in sides]
        if not isinstance(source, ClosurePairs):
            height = source.tree.height[self._rows]
            distances = source.tree.distance(self._a, self._b)
            # What the tree says of rows and of the first pairs, ranked once.
            uniform = distances[: self._others.size]
            self._ranks = metrics.average_ranks(height), metrics.average_ranks(uniform)
            self.ceiling = self._measures(height, distances)

    def _sample_tree(self, tax: Taxonomy) -> None:
        self._rows = np.sort(self._rng.permutation(len(tax))[:_SAMPLE])
        self._others = samples.uniform_others(len(tax), self._rows, _PARTNERS, self._rng)
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
                self._draw(f"pair_accuracy/{name}", pairs, negatives)

    def _draw(self, name: str, pairs: Any, negatives: UniformNegatives) -> None:
        drawn = pairs.sample(_SAMPLE, generator=self._generator)
        negative = negatives(drawn, self._generator)[:, 0]
        drawn, negative = drawn[negative >= 0].numpy(), negative[negative >= 0].numpy()
        if len(drawn):
            self._pairs[name] = drawn[:, 1], drawn[:, 0], negative

    @torch.no_grad()
    def measure(
        self, points: Any, open_depth: int | None = None, processes: Processes | None = None
    ) -> dict[str, float]:
        """Measure a table of points; nan where a measure is undefined.

        ``processes``, which have equal tables, share the pairs; each has the result of one.

        While a tree is grown level by level, nodes below ``open_depth`` have no place yet: they are
        measured where they will join, at their ancestor on that level.
        """
        nodes = torch.from_numpy(self._nodes)
        if open_depth is not None and self._tree is not None:
            nodes = lift(nodes, self._tree, open_depth)
        processes = processes or Processes()

        def share(pairs: torch.Tensor) -> torch.Tensor:
            return pairs.tensor_split(processes.size)[processes.rank]

        first, second, rows = (torch.from_numpy(at) for at in self._places)
        a, b, rows = (nodes[at].to(points.device) for at in (share(first), share(second), rows))
        d = torch.empty(len(self._a), dtype=points.dtype, device=points.device)
        share(d).copy_(table_distance(points, a, b))
        processes.exchange([d], torch.arange(len(d)).tensor_split(processes.size))
        height = points.manifold.dist0(points.detach()[rows])
        return self._measures(height.numpy(force=True), d.double().numpy(force=True))

    def _blocks(self) -> Iterator[tuple[Rows, Rows]]:
        """Pairs of rows, in the order in which `_measures` takes their distances."""
        if len(self._rows):
            yield self._rows[:, None], self._others
        for queries, within, between in self._groups.values():
            yield queries[:, None], between
            yield queries[:, None], within
        for anchor, positive, negative in self._pairs.values():
            yield anchor, positive
            yield anchor, negative

    def _measures(self, height: NDArray[Any], distances: NDArray[Any]) -> dict[str, float]:
        sizes = [math.prod(shape) for shape in self._shapes]
        parts = np.split(distances, np.cumsum(sizes)[:-1]) if sizes else []
        blocks = iter(
            [part.reshape(shape) for part, shape in zip(parts, self._shapes, strict=True)]
        )
        found = {}
        if len(self._rows):
            of_height, of_distance = self._ranks
            found["depth_radius"] = metrics.spearman_of_ranks(height, of_height)
            found["spearman"] = metrics.spearman_of_ranks(next(blocks).ravel(), of_distance)
        for name in self._groups:
            far, near = next(blocks), next(blocks)
            found[f"separation/{name}"] = float(far.mean() / near.mean()) if near.any() else np.nan
        for name in self._pairs:
            found[name] = float((next(blocks) < next(blocks)).mean())
        return {name: float(value) for name, value in found.items()}
