"""Pairs and triplets of the nodes of a tree, without storing them.

*Ancestor pairs* are rows (ancestor, descendant) of an int64 tensor [..., 2]. NCBI's 2.6 million
taxa have 47 million of them. None is stored: the number of pairs whose descendant has depth d and
whose gap (number of edges) is g is the number of nodes at depth d. So counts per depth determine
the place of the j-th pair, and `TreeIndex.ancestor` finds its ancestor by binary search. These
classes are a torch ``Dataset`` (``len``, indexing by a number or by many) and draw batches on their
device with ``sample``. Order of a dataset: by stratum, then depth of the descendant, then row of
the descendant, then gap.

`LCAPairs` and `LCATriplets` are drawn evenly over the depth of the lowest common ancestor (LCA).
The LCA of two taxa drawn uniformly from a large tree is nearly always close to its root, so that a
loss over uniform pairs hardly ever gets two species of a genus. Here a node u is drawn uniformly,
then a depth j above it, then a node v whose LCA with u has exactly that depth: with a the ancestor
of u at depth j, and b the one at j + 1, v is uniform in the subtree of a without that of b.
"""

import copy
import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.utils.data import Dataset

from poincare_taxa.blocks._random import below, index_tensor, weighted_choice
from poincare_taxa.blocks.settings import settings_repr
from poincare_taxa.blocks.tree_index import TreeIndex, moved
from poincare_taxa.taxonomy.preorder import outside_branch
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "AncestorPairs",
    "LCAPairs",
    "LCATriplets",
    "LimitedPairs",
    "MixedPairs",
    "PairSampler",
    "ParentChildPairs",
    "StratifiedPairs",
]

_NAMED = {"parent": (1, 1), "grandparent": (2, 2), "deeper": (3, None)}
Interval = tuple[int, int | None]


@runtime_checkable
class PairSampler(Protocol):
    """Any object that draws positive pairs."""

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return pairs [batch_size, 2]: (ancestor, descendant)."""
        ...


@runtime_checkable
class LimitedPairs(Protocol):
    """Pairs of which a curriculum can hold some back."""

    def limit(self, *, max_gap: int | None = None, max_depth: int | None = None) -> Any:
        """Keep the pairs up to a gap and up to a depth of the descendant."""
        ...


class AncestorPairs(Dataset[Tensor]):
    """All (ancestor, descendant) pairs of a tree, or those with a gap between two numbers of edges.

    Parameters
    ----------
    taxonomy
        The tree.
    min_gap, max_gap
        Fewest and most edges between the two, at least 1; None means no limit.

    Attributes
    ----------
    tree : TreeIndex
        The tree as tensors, to be shared with other blocks.
    num_nodes : int
        Number of its nodes.
    shares : dict
        Share of each stratum (least, most); only one here.

    Raises
    ------
    ValueError
        If there are no such pairs.

    Examples
    --------
    >>> pairs = AncestorPairs(Taxonomy.from_parents([-1, 0, 1, 1]))
    >>> len(pairs)
    5
    >>> pairs[[0, 1, 2]]
    tensor([[0, 1],
            [1, 2],
            [0, 2]])
    >>> pairs.sample(4).shape
    torch.Size([4, 2])
    """

    num_nodes: int
    shares: dict[Interval, float]

    def __init__(
        self, taxonomy: Taxonomy | Tree | TreeIndex, *, min_gap: int = 1, max_gap: int | None = None
    ) -> None:
        gaps = _interval((min_gap, max_gap), "gap")
        self._stratify(TreeIndex.of(taxonomy), {gaps: 1.0}, "gap")

    def _stratify(
        self, tree: TreeIndex, shares: Mapping[Interval, float], by: Literal["gap", "depth"]
    ) -> None:
        """Divide each stratum into blocks: descendants at one depth, with a range of gaps."""
        depth = torch.arange(1, tree.max_depth + 1)
        blocks = []
        for stratum, interval in enumerate(shares):
            least, most = interval[0], tree.max_depth if interval[1] is None else interval[1]
            if by == "gap":
                there, low, high = depth, torch.full_like(depth, least), depth.clamp(max=most)
            else:
                there = depth[(depth >= least) & (depth <= most)]
                low, high = torch.ones_like(there), there
            block = torch.stack((torch.full_like(there, stratum), there, low, high - low + 1), 1)
            blocks.append(block[block[:, 3] > 0])
            if len(blocks[-1]) == 0:
                raise ValueError(
                    f"there are no pairs with {by} {_shown(interval)}: the taxonomy is "
                    f"{tree.max_depth} levels deep"
                )
        self.tree = tree
        self.num_nodes = len(tree)
        self.shares = dict(shares)
        self._shares = torch.tensor(list(shares.values()), dtype=torch.float64, device=tree.device)
        self._keep(torch.cat(blocks))

    def _keep(self, blocks: Tensor) -> None:
        start = self.tree.level_start.cpu()
        size = (start[blocks[:, 1] + 1] - start[blocks[:, 1]]) * blocks[:, 3]
        end = size.cumsum(0)
        total = torch.zeros(len(self._shares), dtype=torch.int64).index_add_(0, blocks[:, 0], size)
        self._length = int(end[-1])
        self._blocks, self._end, self._size, self._total, self._first = (
            t.to(self.tree.device) for t in (blocks, end, size, total, total.cumsum(0) - total)
        )

    def limit(self, *, max_gap: int | None = None, max_depth: int | None = None) -> Self:
        """Keep the pairs up to a gap and up to a depth of the descendant; shares of strata stay.

        The share of a stratum without any pair left goes to the others, in proportion.

        Raises
        ------
        ValueError
            If no pair is left.
        """
        stratum, depth, low, count = self._blocks.cpu().unbind(1)
        if max_gap is not None:
            count = torch.minimum(count, max_gap - low + 1)
        keep = count > 0 if max_depth is None else (count > 0) & (depth <= max_depth)
        if not keep.any():
            raise _EmptyError(max_gap, max_depth)
        fewer = copy.copy(self)
        left, stratum = stratum[keep].unique(return_inverse=True)
        fewer._shares = self._shares[left.to(self._shares.device)]
        fewer._keep(torch.stack((stratum, depth[keep], low[keep], count[keep]), 1))
        return fewer

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    __repr__ = settings_repr

    def __len__(self) -> int:
        """Return the number of pairs."""
        return self._length

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Tensor:
        """Pair [2] at an index, or pairs [k, 2] at many.

        So a DataLoader can load batches: ``DataLoader(pairs,
        sampler=BatchSampler(RandomSampler(pairs), 512, False), batch_size=None)``.
        """
        return self._at(index_tensor(index, len(self), self.tree.device))

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw pairs with replacement: a stratum by its share, and a pair of it uniformly.

        Parameters
        ----------
        batch_size
            Number of pairs, at least 1.
        generator
            Generator on the device of the pairs; torch's global one by default, and among processes
            (`torch.distributed`) a stream of each one's own from it.

        Returns
        -------
        pairs
            [batch_size, 2], int64: (ancestor, descendant).
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if len(self._shares) == 1:
            return self._at(below(self._total.expand(batch_size), generator))
        stratum = weighted_choice(self._shares, batch_size, generator)
        return self._at(self._first[stratum] + below(self._total[stratum], generator))

    def _at(self, j: Tensor) -> Tensor:
        # The block of each index, and the place of its descendant in level order.
        block = torch.searchsorted(self._end, j, right=True)
        _, depth, low, count = self._blocks[block].unbind(-1)
        within = j - (self._end - self._size)[block]
        place = self.tree.level_start[depth] + within // count
        descendant = self.tree.level_order[place]
        ancestor = self.tree.ancestor(descendant, depth - low - within % count)
        return torch.stack((ancestor, descendant), dim=-1)


class ParentChildPairs(AncestorPairs):
    """The edges of a tree: (parent, child).

    Raises
    ------
    ValueError
        If the tree is a single node.

    Examples
    --------
    >>> ParentChildPairs(Taxonomy.from_parents([-1, 0, 1]))[[0, 1]]
    tensor([[0, 1],
            [1, 2]])
    """

    def __init__(self, taxonomy: Taxonomy | Tree | TreeIndex) -> None:
        super().__init__(taxonomy, max_gap=1)


class StratifiedPairs(AncestorPairs):
    """Ancestor pairs in strata, each with its own share of a sample.

    Parameters
    ----------
    taxonomy
        The tree.
    shares
        Share of each stratum, positive, in any unit. A stratum is a number, or an interval (least,
        most) with None for no limit; by gap also "parent" (1), "grandparent" (2) and "deeper" (3
        and more). As a dataset the strata follow each other and every pair occurs once: shares
        apply to `sample` only.
    by
        "gap", the number of edges, or "depth", the depth of the descendant.

    Raises
    ------
    ValueError
        If there are no strata, one is empty, two overlap, or a share is not positive.

    Examples
    --------
    Ten parents, ten grandparents and eighty others in a hundred:

    >>> tax = Taxonomy.from_parents([-1, 0, 1, 2, 3])
    >>> pairs = StratifiedPairs(tax, {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8})
    >>> len(pairs)
    10

    Every depth as often as any other:

    >>> pairs = StratifiedPairs(tax, {d: 1 for d in range(1, 5)}, by="depth")
    >>> len(pairs)
    10
    """

    def __init__(
        self,
        taxonomy: Taxonomy | Tree | TreeIndex,
        shares: Mapping[Any, float],
        *,
        by: Literal["gap", "depth"] = "gap",
    ) -> None:
        if by not in ("gap", "depth"):
            raise ValueError(f"by must be 'gap' or 'depth'; got {by!r}")
        strata = {_interval(key, by): share for key, share in shares.items()}
        ordered = sorted(strata, key=lambda interval: interval[0])
        for low, high in pairwise(ordered):
            if low[1] is None or low[1] >= high[0]:
                raise ValueError(
                    f"strata {_shown(low)} and {_shown(high)} overlap; a pair belongs to one only"
                )
        if not shares or len(strata) < len(shares) or not all(s > 0 for s in shares.values()):
            raise ValueError(f"shares must be positive, one for each stratum; got {dict(shares)}")
        self._stratify(TreeIndex.of(taxonomy), strata, by)


class MixedPairs(Dataset[Tensor]):
    """Pairs of several sources, each with its own share of a sample.

    ``MixedPairs([ParentChildPairs(tax), AncestorPairs(tax)], [0.5, 0.5])`` draws edges half of the
    time. As a dataset the sources follow each other, and a pair that two of them hold occurs twice.

    Parameters
    ----------
    sources
        At least one of `AncestorPairs` (or a subclass), `ClosurePairs` and other mixtures; all of
        the same nodes.
    shares
        Share of each source, positive, in any unit.

    Raises
    ------
    ValueError
        If there are no sources, they are of different numbers of nodes, or shares are not positive,
        one for each.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 1, 2])
    >>> pairs = MixedPairs([ParentChildPairs(tax), AncestorPairs(tax)], [0.5, 0.5])
    >>> len(pairs), pairs[-1].tolist()
    (9, [0, 3])
    >>> pairs.sample(4).shape
    torch.Size([4, 2])
    """

    sources: list[Any]
    shares: list[float]
    num_nodes: Any

    def __init__(self, sources: Sequence[Any], shares: Sequence[float]) -> None:
        self.sources, self.shares = list(sources), [float(share) for share in shares]
        if not self.sources or len(self.shares) != len(self.sources):
            raise ValueError(
                f"{len(self.shares)} shares for {len(self.sources)} sources of pairs; give at "
                "least one source, and a share for each"
            )
        if not all(0 < share < math.inf for share in self.shares):
            raise ValueError(f"shares must be positive; got {self.shares}")
        nodes = sorted({source.num_nodes for source in self.sources})
        if len(nodes) > 1:
            raise ValueError(
                f"the sources are of different nodes: {nodes}; make them from the same taxonomy"
            )
        self.num_nodes = nodes[0]
        self._share = torch.tensor(self.shares, dtype=torch.float64)
        self._share = self._share.to(self.sources[0][0].device)

    def limit(self, *, max_gap: int | None = None, max_depth: int | None = None) -> Self:
        """Limit every source; the share of one without pairs goes to the others, in proportion.

        Raises
        ------
        ValueError
            If nothing is left, or a source has no limits (`ClosurePairs`).
        """
        left, shares = [], []
        for source, share in zip(self.sources, self.shares, strict=True):
            if not isinstance(source, LimitedPairs):
                raise ValueError(
                    f"{type(source).__name__} has no depths and so no limits: leave it or the "
                    "curriculum out"
                )
            try:
                left.append(source.limit(max_gap=max_gap, max_depth=max_depth))
            except _EmptyError:
                continue
            shares.append(share)
        if not left:
            raise _EmptyError(max_gap, max_depth)
        return type(self)(left, shares)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return type(self)([source.to(device) for source in self.sources], self.shares)

    __repr__ = settings_repr

    def __len__(self) -> int:
        """Return the number of pairs."""
        return sum(map(len, self.sources))

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Tensor:
        """Pair [2] at an index, or pairs [k, 2] at many."""
        j = index_tensor(index, len(self), self._share.device)
        found = j.new_empty(*j.shape, 2)
        start = 0
        for source in self.sources:
            here = (start <= j) & (j < start + len(source))
            found[here] = source[j[here] - start]
            start += len(source)
        return found

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw pairs with replacement: a source by its share, then a pair of it by its ``sample``.

        Arguments and result are those of `AncestorPairs.sample`.
        """
        drawn = torch.stack([s.sample(batch_size, generator=generator) for s in self.sources])
        which = weighted_choice(self._share, batch_size, generator)
        return drawn[which, torch.arange(batch_size, device=drawn.device)]


class LCAPairs:
    """Draws pairs of nodes stratified by the depth of their LCA; for `StressLoss`.

    Every unordered pair of nodes can occur. The first node is never the root; the second may be an
    ancestor of the first.

    Parameters
    ----------
    taxonomy
        The tree.

    Raises
    ------
    ValueError
        If the tree is a single node.

    Examples
    --------
    >>> pairs = LCAPairs(Taxonomy.from_parents([-1, 0, 1, 1])).sample(3)
    >>> pairs.shape
    torch.Size([3, 2])
    """

    tree: TreeIndex

    def __init__(self, taxonomy: Taxonomy | Tree | TreeIndex) -> None:
        self.tree = TreeIndex.of(taxonomy)
        _require_depth(self.tree, 1, "a pair needs two nodes")

    __repr__ = settings_repr

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return pairs of rows [batch_size, 2], drawn with replacement."""
        u = _draw_at_or_below(self.tree, 1, batch_size, generator)
        v = _draw_by_lca(self.tree, u, below(self.tree.depth[u], generator), generator)
        return torch.stack((u, v), dim=-1)


class LCATriplets:
    """Draws (anchor, near, far): the LCA of anchor and near is deeper than that of anchor and far.

    The two depths are a uniform choice of two among those above the anchor. For `TripletLoss`.

    Parameters
    ----------
    taxonomy
        The tree.

    Raises
    ------
    ValueError
        If the tree is less than two levels deep: then all LCAs are the root.

    Examples
    --------
    >>> triplets = LCATriplets(Taxonomy.from_parents([-1, 0, 1, 1])).sample(3)
    >>> triplets.shape
    torch.Size([3, 3])
    """

    tree: TreeIndex

    def __init__(self, taxonomy: Taxonomy | Tree | TreeIndex) -> None:
        self.tree = TreeIndex.of(taxonomy)
        _require_depth(self.tree, 2, "LCAs of different depths need two levels")

    __repr__ = settings_repr

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return triplets of rows [batch_size, 3], drawn with replacement."""
        u = _draw_at_or_below(self.tree, 2, batch_size, generator)
        depth = self.tree.depth[u]
        one, other = below(depth, generator), below(depth - 1, generator)
        other = other + (other >= one)  # a uniform choice among the other depths
        near = _draw_by_lca(self.tree, u, torch.maximum(one, other), generator)
        far = _draw_by_lca(self.tree, u, torch.minimum(one, other), generator)
        return torch.stack((u, near, far), dim=-1)


def _require_depth(tree: TreeIndex, least: int, why: str) -> None:
    if tree.max_depth < least:
        raise ValueError(f"the taxonomy is {tree.max_depth} levels deep; {why}")


def _draw_at_or_below(
    tree: TreeIndex, depth: int, count: int, generator: torch.Generator | None
) -> Tensor:
    """Draw nodes at this depth or deeper, uniformly."""
    if count < 1:
        raise ValueError(f"batch_size must be at least 1; got {count}")
    start = tree.level_start[depth]
    return tree.level_order[start + below((len(tree) - start).expand(count), generator)]


def _draw_by_lca(
    tree: TreeIndex, u: Tensor, depth: Tensor, generator: torch.Generator | None
) -> Tensor:
    """Draw a node for each u whose LCA with u has the given depth, less than that of u."""
    top, branch = tree.ancestor(u, depth), tree.ancestor(u, depth + 1)
    stop = tree.end[branch]
    step = below(tree.end[top] - top - (stop - branch), generator)
    return outside_branch(top, branch, stop, step)


class _EmptyError(ValueError):
    """No pair is within the limits."""

    def __init__(self, max_gap: int | None, max_depth: int | None) -> None:
        super().__init__(
            f"no pairs are left with max_gap={max_gap}, max_depth={max_depth}: raise these limits"
        )


def _interval(key: str | int | Interval, by: str) -> Interval:
    if by == "gap" and isinstance(key, str) and key in _NAMED:
        return _NAMED[key]
    if isinstance(key, int):
        key = (key, key)
    if isinstance(key, tuple) and len(key) == 2 and key[0] >= 1:
        return key
    names = f", one of {sorted(_NAMED)}" if by == "gap" else ""
    raise ValueError(f"a stratum is a number ≥ 1, an interval (least, most){names}; got {key!r}")


def _shown(interval: Interval) -> str:
    least, most = interval
    return f"{least}" if least == most else f"{least}…{'' if most is None else most}"
