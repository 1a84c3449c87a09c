r"""What `fit` minimises: blocks put together into named terms of a loss.

Seam: `Objective`. ``(points, generator) -> {name: scalar}`` is called ``steps_per_epoch`` times an
epoch, with ``points`` the table that is trained (a `geoopt.ManifoldParameter` [n, coordinates]);
the loop adds the terms up and reports each. ``begin(epoch, points, generator)`` is called before
each epoch; what it does may depend on the epoch, the points and the generator only, so that a run
can be resumed after any epoch.

| objective | terms | of |
|---|---|---|
| `Ranking` | ranking, regularizer | pairs, negatives, a loss on distances (or on points: cones) |
| `Stress` | stress, regularizer | pairs, a loss on distances and tree distances |
| `Triplets` | triplet, regularizer | triplets, a loss on three distances and radii |
| `level_stress.LevelStress` | stress, root | the recommended recipe: level after level |
"""

import math
from collections.abc import Callable, Sequence, Sized
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from poincare_taxa.blocks.belonging import require_belonging
from poincare_taxa.blocks.cones import EntailmentConeLoss
from poincare_taxa.blocks.curriculum import Curriculum, join_at_parent, lift
from poincare_taxa.blocks.losses import DepthMarginRankingLoss, SoftmaxRankingLoss, needs_of
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.margins import ConstantMargin, DepthMargin
from poincare_taxa.blocks.negatives import (
    Anchored,
    NegativeSampler,
    SharedNegatives,
    Tile,
    column_of,
)
from poincare_taxa.blocks.pairs import LimitedPairs, PairSampler
from poincare_taxa.blocks.regularizers import Regularizer, ScheduledRegularizer
from poincare_taxa.blocks.settings import settings_repr
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.geometry import convert
from poincare_taxa.kernels.distance import pair_distance
from poincare_taxa.kernels.ranking import ranking_loss
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "JOIN_STEP",
    "Objective",
    "Ranking",
    "Shares",
    "Stress",
    "Terms",
    "Triplets",
    "table_distance",
]

Terms = dict[str, Tensor]

JOIN_STEP = 0.3
"""How far from its parent a node joins, as a distance."""

_BATCH = 512
"""Pairs of a step by default."""


class Shares(NamedTuple):
    """What processes move of a table in an epoch, each alone."""

    rows: Sequence[Tensor]
    """Rows of each process, the same lists in all."""
    steps: int
    """After how many steps processes exchange these rows."""


@runtime_checkable
class Objective(Protocol):
    """What fits the seam.

    An objective of your own inherits from this class, has ``steps_per_epoch`` and ``__call__``, and
    overrides what else it needs.
    """

    steps_per_epoch: int
    epochs: int | None = None
    """Number of stages, where it has them: a run has at most as many epochs."""
    open_depth: int | None = None
    """Depth of the deepest nodes that have their place; None where all have."""

    def begin(self, epoch: int, points: Any, generator: torch.Generator, /) -> None:
        """Prepare an epoch, counted from 0."""

    def split(self, rank: int, size: int, /) -> None:
        """Become the objective of one of several processes, over whose terms is averaged.

        An objective that does nothing here draws a batch of its own in each process, from the
        generator that it is given; those of this library divide one batch among the processes.
        """

    def shares(self) -> Shares | None:
        """Rows that the shares of this epoch move, where no row is in the shares of two processes.

        A row-wise optimizer then steps each share in its process. With None, gradients are averaged
        and all processes take the same step.
        """
        return None

    def __call__(self, points: Any, generator: torch.Generator, /) -> Terms:
        """Return scalar terms, to be added up."""
        ...


class _Batches(Objective):
    """Common to the objectives that draw batches: how many, and which rows of the table."""

    tree: TreeIndex | None
    batch_size: int
    steps_per_epoch: int

    def __init__(
        self,
        tree: Taxonomy | Tree | TreeIndex | None,
        pairs: Any,
        loss: Callable[..., Tensor],
        *,
        regularizer: Regularizer | None = None,
        curriculum: Curriculum | None = None,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        sparse: bool = True,
    ) -> None:
        self.tree = None if tree is None else TreeIndex.of(tree)
        self.pairs = pairs
        self.loss = loss
        self.regularizer = regularizer
        self.curriculum = curriculum
        self.sparse = sparse
        if self.tree is not None:
            require_belonging(self.tree, {"pairs": pairs})
        if self.tree is None and (regularizer or curriculum):
            raise ValueError(
                "a regularizer and a curriculum ask for depths, and a DAG has none: give a "
                "taxonomy, or leave them out"
            )
        if curriculum and not isinstance(pairs, LimitedPairs):
            raise ValueError(
                f"{type(pairs).__name__} has no limits for a curriculum to set; AncestorPairs and "
                "its kin have"
            )
        size = len(pairs) if isinstance(pairs, Sized) else None
        if batch_size is None:
            batch_size = _BATCH if size is None else min(_BATCH, size)
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        if size is not None and batch_size > size:
            raise ValueError(
                f"batch_size {batch_size} is larger than the data, {size} pairs; use at most {size}"
            )
        if steps_per_epoch is None:
            if size is None:
                raise ValueError(f"{type(pairs).__name__} has no end: say steps_per_epoch")
            steps_per_epoch = math.ceil(size / batch_size)
        if steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch must be at least 1; got {steps_per_epoch}")
        self.batch_size, self.steps_per_epoch = batch_size, steps_per_epoch
        self._regularizer = regularizer
        self._here: Any = pairs
        self._share, self._factor = batch_size, 1.0
        self.open_depth = None

    __repr__ = settings_repr

    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Enter the stage of an epoch; nodes of levels that open join at their parents' places."""
        if isinstance(self.regularizer, ScheduledRegularizer):
            self._regularizer = self.regularizer.at(epoch)
        if self.curriculum is None or self.tree is None:
            return
        now, deepest = self.curriculum.at(epoch), self.tree.max_depth
        before = self.curriculum.at(epoch - 1).max_depth if epoch else 0
        if before is not None and (epoch or now.max_depth is not None):
            for level in range(before + 1, min(now.max_depth or deepest, deepest) + 1):
                join_at_parent(points, self.tree, level, step=JOIN_STEP, generator=generator)
        self._here, self.open_depth = self.pairs.limit(**now._asdict()), now.max_depth

    def split(self, rank: int, size: int) -> None:
        """Divide the pairs of a batch among processes."""
        share = self.batch_size // size + (rank < self.batch_size % size)
        self._factor = size * share / self.batch_size
        self._share = max(share, 1)  # without one of its own, a pair that weighs nothing

    def _shared(self, terms: Terms) -> Terms:
        """Weigh the terms of this process, whose share may be larger by one than others'."""
        return terms if self._factor == 1 else {k: self._factor * x for k, x in terms.items()}

    def _sample(self, generator: torch.Generator) -> Tensor:
        return self._here.sample(self._share, generator=generator)

    def _rows(self, points: Tensor, rows: Tensor) -> Tensor:
        return torch.nn.functional.embedding(rows, points, sparse=self.sparse)

    def _distance(self, points: Any, a: Tensor, b: Tensor) -> Tensor:
        return table_distance(points, a, b, sparse=self.sparse)

    def _penalty(self, points: Any, rows: Tensor) -> Terms:
        """Term of the regularizer, over the nodes of the batch."""
        if self._regularizer is None or self.tree is None:
            return {}
        radius = points.manifold.dist0(self._rows(points, rows))
        return {"regularizer": self._regularizer(radius, self.tree.depth[rows])}


class Ranking(_Batches):
    """Each positive nearer to its anchor than the negatives drawn for it.

    Parameters
    ----------
    tree
        For losses that ask for tree distances, regularizers and curricula; None for a DAG.
    pairs
        What draws positives: rows [batch, 2], (ancestor, descendant).
    negatives
        What draws negatives. Its ``anchor``, "descendant" where it does not say, is the endpoint
        that stays. The tile of a `SharedNegatives` is gathered once for the whole batch.
    loss
        Called with the distances ``(d_pos, d_neg)`` and what it `needs`: of ``near``, ``far`` (tree
        distances), ``mask`` (which negatives are valid) and ``log_weights`` (those of the tile; 0
        for negatives drawn for each pair). A function without the decorator `losses.needs` gets the
        distances alone. A loss that does not need the mask finds what is no negative at distance
        inf. An `EntailmentConeLoss` is called with points.
    regularizer
        Acts on the two ends of the pairs of the batch.
    curriculum
        Limits of the pairs by epoch. Where it grows down the tree, levels join at their parents'
        places, and deeper negatives stand for their ancestor on the deepest open level.
    batch_size
        Pairs of a step; by default 512, or all where there are fewer.
    steps_per_epoch
        By default as many as there are batches in ``pairs``.
    sparse
        Whether gradients are sparse; only some optimizers take them.

    Raises
    ------
    ValueError
        If a number is out of its range, the batch is larger than the data, or something asks for
        depths where there is no tree.

    Examples
    --------
    >>> import geoopt, poincare_taxa as pt
    >>> from poincare_taxa.blocks.manifolds import Polar
    >>> tax = pt.Taxonomy.from_parents([-1, 0, 0, 1, 1])
    >>> objective = Ranking(
    ...     tax, pt.AncestorPairs(tax), pt.UniformNegatives(tax, 2), pt.SoftmaxRankingLoss(),
    ...     batch_size=3,
    ... )
    >>> objective.steps_per_epoch
    2
    >>> points = pt.PoincareEmbedding(len(tax), 2).weight
    >>> list(objective(points, torch.Generator()))
    ['ranking']
    """

    def __init__(
        self,
        tree: Taxonomy | Tree | TreeIndex | None,
        pairs: PairSampler,
        negatives: NegativeSampler | SharedNegatives,
        loss: Callable[..., Tensor],
        **options: Any,
    ) -> None:
        super().__init__(tree, pairs, loss, **options)
        self.negatives = negatives
        if self.tree is not None:
            require_belonging(self.tree, {"negatives": negatives})
        self._anchor = column_of(
            negatives.anchor if isinstance(negatives, Anchored) else "descendant"
        )
        self._needs = needs_of(loss)
        if self.tree is None and {"near", "far"} & set(self._needs):
            raise ValueError(
                "this loss needs tree distances, and a DAG has none: use SoftmaxRankingLoss, or a "
                "loss of your own"
            )
        if isinstance(loss, EntailmentConeLoss) and column_of(loss.anchor) != self._anchor:
            raise ValueError("negatives and loss have different anchors; give both the same")

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of one batch."""
        pairs = self._sample(generator)
        anchor, positive = pairs[:, self._anchor], pairs[:, 1 - self._anchor]
        negatives = self._negatives(pairs, generator)
        if isinstance(self.loss, EntailmentConeLoss):
            ranking = self._cones(points, anchor, positive, negatives)
        elif (settings := self._fused(points.manifold, anchor, positive, negatives)) is not None:
            ranking = self._by_kernel(points, anchor, positive, negatives, settings)
        else:
            ranking = self._distances(points, anchor, positive, negatives)
        penalty = self._penalty(points, torch.cat((anchor, positive)))
        return self._shared({"ranking": ranking, **penalty})

    def _negatives(self, pairs: Tensor, generator: torch.Generator) -> Tile:
        """Rows [k] of a tile, or [batch, k] drawn for each pair, with weight 1."""
        if isinstance(self.negatives, SharedNegatives):
            drawn = self.negatives.tile(pairs, generator)
        else:
            nodes = self.negatives(pairs, generator)
            drawn = Tile(nodes.clamp(min=0), nodes >= 0, torch.zeros((), device=nodes.device))
        if self.open_depth is not None and self.tree is not None:
            drawn = drawn._replace(nodes=lift(drawn.nodes, self.tree, self.open_depth))
        return drawn

    def _fused(
        self, manifold: Any, anchor: Tensor, positive: Tensor, negatives: Tile
    ) -> dict[str, Any] | None:
        """Find settings with which `kernels.ranking_loss` is this loss; None if it is another."""
        settings = _kernel_manifold(manifold)
        loss: Any = self.loss
        if settings is None:
            return None
        if loss == SoftmaxRankingLoss():
            return settings | {"loss": "softmax"}
        if type(loss) is not DepthMarginRankingLoss or loss.reduction != "mean":
            return None
        margin = loss.margin
        if type(margin) is ConstantMargin:
            return settings | {"loss": "margin", "margin": margin.margin}
        if type(margin) is DepthMargin and self.tree is not None:
            near = self.tree.distance(anchor, positive).double()
            return settings | {"loss": "margin", "margin": margin(near)[:, 0]}
        return None

    def _by_kernel(
        self,
        points: Any,
        anchor: Tensor,
        positive: Tensor,
        negatives: Tile,
        settings: dict[str, Any],
    ) -> Tensor:
        """Mean over the pairs that have a negative, without the distances in between."""
        nodes, mask, log_weights = negatives
        if settings["loss"] == "softmax" and log_weights.ndim > 0:
            settings = settings | {"log_weights": log_weights}
        losses = ranking_loss(
            points, anchor, positive, nodes, valid=mask, sparse=self.sparse, **settings
        )
        return losses.sum() / mask.any(1).sum().clamp(min=1)

    def _distances(self, points: Any, anchor: Tensor, positive: Tensor, negatives: Tile) -> Tensor:
        """Compute the loss of distances, with what else it needs."""
        nodes, mask, log_weights = negatives
        d_pos = self._distance(points, anchor, positive)
        if nodes.ndim == 1:
            d_neg = points.manifold.cdist(self._rows(points, anchor), self._rows(points, nodes))
        else:
            every = anchor.repeat_interleave(nodes.shape[1])
            d_neg = self._distance(points, every, nodes.flatten()).view(nodes.shape)
        if "mask" not in self._needs:
            d_neg = d_neg.masked_fill(~mask, torch.inf)
        offered = {"mask": mask, "log_weights": log_weights.to(d_neg.dtype)}
        if self.tree is not None and {"near", "far"} & set(self._needs):
            offered["near"] = self.tree.distance(anchor, positive)
            offered["far"] = self.tree.distance(anchor[:, None], nodes)
        return self.loss(d_pos, d_neg, **{name: offered[name] for name in self._needs})

    def _cones(self, points: Any, anchor: Tensor, positive: Tensor, negatives: Tile) -> Tensor:
        """Energies of cones, of points in the ball."""

        def at(rows: Tensor) -> Tensor:
            return convert.polar_to_ball(*points.manifold.to_polar(self._rows(points, rows)))

        nodes = negatives.nodes
        ancestor, descendant = (anchor, positive) if self._anchor == 0 else (positive, anchor)
        drawn = at(nodes.expand(len(anchor), -1) if nodes.ndim == 1 else nodes)
        return self.loss(at(ancestor), at(descendant), drawn, mask=negatives.mask)


class Stress(_Batches):
    """Distances proportional to tree distances, over pairs that `LCAPairs` draws.

    Parameters
    ----------
    tree
        The tree.
    pairs
        What draws pairs of rows [batch, 2].
    loss
        Called with distances and tree distances; `StressLoss` is one.
    regularizer, curriculum, batch_size, steps_per_epoch, sparse
        As of `Ranking`.

    Raises
    ------
    ValueError
        As `Ranking`.
    """

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of one batch."""
        assert self.tree is not None
        rows = self._sample(generator).T.flatten()
        u, v = rows.chunk(2)
        stress = self.loss(self._distance(points, u, v), self.tree.distance(u, v))
        return self._shared({"stress": stress, **self._penalty(points, rows)})


class Triplets(_Batches):
    """Which two of three nodes have the deepest common ancestor, over `LCATriplets`.

    Parameters
    ----------
    tree
        The tree.
    pairs
        What draws triplets of rows [batch, 3]: anchor, near, far.
    loss
        Called with distances and radii [batch, 3]; `TripletLoss` is one.
    regularizer, curriculum, batch_size, steps_per_epoch, sparse
        As of `Ranking`.

    Raises
    ------
    ValueError
        As `Ranking`.
    """

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of one batch."""
        rows = self._sample(generator).T.flatten()
        anchor, near, far = rows.chunk(3)
        firsts, seconds = torch.cat((anchor, anchor, near)), torch.cat((near, far, far))
        d = self._distance(points, firsts, seconds).view(3, -1).T
        r = points.manifold.dist0(self._rows(points, rows)).view(3, -1).T
        return self._shared({"triplet": self.loss(d, r), **self._penalty(points, rows)})


def table_distance(points: Any, a: Tensor, b: Tensor, *, sparse: bool = False) -> Tensor:
    """Distance of rows a and b of a table, by a fused kernel where the manifold has one."""
    about = _kernel_manifold(points.manifold)
    if about is None:
        x, y = (torch.nn.functional.embedding(rows, points, sparse=sparse) for rows in (a, b))
        return points.manifold.dist(x, y)
    return pair_distance(points, a, b, sparse=sparse, **about)


def _kernel_manifold(manifold: Any) -> dict[str, Any] | None:
    """Return a manifold as arguments of `kernels`; None where they have no such one."""
    if isinstance(manifold, PoincareBall):
        return {"manifold": "ball", "c": float(manifold.c)}
    return {"manifold": "polar"} if isinstance(manifold, Polar) else None
