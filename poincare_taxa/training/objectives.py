r"""What `fit` minimises: blocks put together into named terms of a loss.

Seam: ``(points, generator) -> {name: scalar}``, with ``points`` the table that is trained (a
`geoopt.ManifoldParameter` [n, coordinates]) and ``steps_per_epoch`` how often an epoch calls it;
the loop adds the terms up and reports each. An objective with stages has ``begin(epoch, points,
generator)`` too, called before each epoch; what it does may depend on the epoch, the points and the
generator only, so that a run can be resumed after any epoch.

| objective | terms | of |
|---|---|---|
| `Ranking` | ranking, regularizer | pairs, negatives, a loss on distances (or on points: cones) |
| `Stress` | stress, regularizer | pairs, a loss on distances and tree distances |
| `Triplets` | triplet, regularizer | triplets, a loss on three distances and radii |
| `LevelStress` | stress, root | the recommended recipe: one level of the tree after the other |

Sources: [SGR18] Sala, De Sa, Gu & Ré 2018, *Representation Tradeoffs for Hyperbolic Embeddings*.
"""

import inspect
import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from poincare_taxa.blocks._random import below
from poincare_taxa.blocks.cones import EntailmentConeLoss
from poincare_taxa.blocks.curriculum import Curriculum, join_at_parent, lift
from poincare_taxa.blocks.losses import DepthMarginRankingLoss, SoftmaxRankingLoss
from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.margins import ConstantMargin, DepthMargin
from poincare_taxa.blocks.negatives import NegativeSampler, SharedNegatives, Tile, column_of
from poincare_taxa.blocks.pairs import PairSampler
from poincare_taxa.blocks.regularizers import Regularizer
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.geometry import convert
from poincare_taxa.kernels import ranking_loss
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["LevelStress", "Objective", "Ranking", "Stress", "Triplets"]

Terms = dict[str, Tensor]

_BATCH = 512
"""Pairs of a step, unless said."""


@runtime_checkable
class Objective(Protocol):
    """What fits the seam."""

    steps_per_epoch: int

    def __call__(self, points: Any, generator: torch.Generator, /) -> Terms:
        """Return scalar terms, to be added up."""
        ...


class _Batches:
    """Common to the objectives that draw batches: how many, and which rows of the table."""

    def __init__(
        self,
        tree: Taxonomy | TreeIndex | None,
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
        if self.tree is None and (regularizer or curriculum):
            raise ValueError(
                "a regularizer and a curriculum ask for depths, and a DAG has none: give a "
                "taxonomy, or leave them out"
            )
        if curriculum and not hasattr(pairs, "limit"):
            raise ValueError(
                f"{type(pairs).__name__} has no limits for a curriculum to set; AncestorPairs and "
                "its kin have"
            )
        size = len(pairs) if hasattr(pairs, "__len__") else None
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
        self._here, self._regularizer = pairs, regularizer
        self.open_depth: int | None = None

    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Enter the stage of an epoch; nodes of levels that open join at their parents' places."""
        if self.regularizer is not None and hasattr(self.regularizer, "at"):
            self._regularizer = self.regularizer.at(epoch)  # pyright: ignore
        if self.curriculum is None or self.tree is None:
            return
        now, deepest = self.curriculum.at(epoch), self.tree.max_depth
        before = self.curriculum.at(epoch - 1).max_depth if epoch else 0
        if before is not None and (epoch or now.max_depth is not None):
            for level in range(before + 1, min(now.max_depth or deepest, deepest) + 1):
                join_at_parent(points, self.tree, level, step=_JOIN, generator=generator)
        self._here, self.open_depth = self.pairs.limit(**now._asdict()), now.max_depth

    def _sample(self, generator: torch.Generator) -> Tensor:
        return self._here.sample(self.batch_size, generator=generator)

    def _rows(self, points: Tensor, rows: Tensor) -> Tensor:
        return torch.nn.functional.embedding(rows, points, sparse=self.sparse)

    def _penalty(self, points: Any, x: Tensor, rows: Tensor) -> Terms:
        """Term of the regularizer, over the nodes of the batch."""
        if self._regularizer is None or self.tree is None:
            return {}
        radius = points.manifold.dist0(x)
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
        Called with the distances ``(d_pos, d_neg)`` and, of ``near``, ``far`` (tree distances),
        ``mask`` (which negatives are valid) and ``log_weights`` (those of the tile; 0 for negatives
        drawn for each pair), those that its signature names; without the mask, a negative that is
        none is at distance inf. An `EntailmentConeLoss` is called with points.
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
        tree: Taxonomy | TreeIndex | None,
        pairs: PairSampler,
        negatives: NegativeSampler | SharedNegatives,
        loss: Callable[..., Tensor],
        **options: Any,
    ) -> None:
        super().__init__(tree, pairs, loss, **options)
        self.negatives = negatives
        self._anchor = column_of(getattr(negatives, "anchor", "descendant"))
        self._asked = set(inspect.signature(loss).parameters)
        if self.tree is None and self._asked & {"near", "far"}:
            raise ValueError(
                "this loss asks for tree distances, and a DAG has none: take SoftmaxRankingLoss, "
                "or a ConstantMargin"
            )
        if isinstance(loss, EntailmentConeLoss) and column_of(loss.anchor) != self._anchor:
            raise ValueError("negatives and loss have different anchors; give both the same")

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of one batch."""
        pairs = self._sample(generator)
        anchor, positive = pairs[:, self._anchor], pairs[:, 1 - self._anchor]
        negatives = self._negatives(pairs, generator)
        settings = self._fused(points.manifold, anchor, positive)
        if settings is not None:
            ranking = self._by_kernel(points, anchor, positive, negatives, settings)
            rows = torch.cat((anchor, positive))
            ends = points[:0] if self._regularizer is None else self._rows(points, rows)
            return {"ranking": ranking, **self._penalty(points, ends, rows)}
        nodes = negatives.nodes
        rows = torch.cat((anchor, positive, nodes.flatten()))
        x = self._rows(points, rows)
        a, p, n = x.tensor_split([len(pairs), 2 * len(pairs)])
        n, ends = n.view(*nodes.shape, -1), 2 * len(pairs)
        if isinstance(self.loss, EntailmentConeLoss):
            ranking = self._cones(points.manifold, a, p, n, negatives.mask)
        else:
            ranking = self._distances(points.manifold, anchor, positive, negatives, (a, p, n))
        return {"ranking": ranking, **self._penalty(points, x[:ends], rows[:ends])}

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

    def _fused(self, manifold: Any, anchor: Tensor, positive: Tensor) -> dict[str, Any] | None:
        """Find settings with which `kernels.ranking_loss` is this loss; None if it is another."""
        settings: dict[str, Any] = {"manifold": "polar"}
        if isinstance(manifold, PoincareBall):
            settings = {"manifold": "ball", "c": float(manifold.c)}
        elif not isinstance(manifold, Polar):
            return None
        loss: Any = self.loss
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

    def _distances(
        self,
        manifold: Any,
        anchor: Tensor,
        positive: Tensor,
        negatives: Tile,
        points: tuple[Tensor, Tensor, Tensor],
    ) -> Tensor:
        (a, p, n), (nodes, mask, log_weights) = points, negatives
        d_neg = manifold.cdist(a, n) if nodes.ndim == 1 else manifold.dist(a[:, None], n)
        offer = {"mask": mask, "log_weights": log_weights.to(d_neg.dtype)}
        if "mask" not in self._asked:
            d_neg = d_neg.masked_fill(~mask, torch.inf)
        if self.tree is not None:
            if "near" in self._asked:
                offer["near"] = self.tree.distance(anchor, positive)
            if "far" in self._asked:
                offer["far"] = self.tree.distance(anchor[:, None], nodes)
        asked = {name: value for name, value in offer.items() if name in self._asked}
        return self.loss(manifold.dist(a, p), d_neg, **asked)

    def _cones(self, manifold: Any, a: Tensor, p: Tensor, n: Tensor, mask: Tensor) -> Tensor:
        n = n if n.ndim == 3 else n.expand(len(a), -1, -1)
        a, p, n = (convert.polar_to_ball(*manifold.to_polar(x)) for x in (a, p, n))
        ancestor, descendant = (a, p) if self._anchor == 0 else (p, a)
        return self.loss(ancestor, descendant, n, mask=mask)


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
        x = self._rows(points, rows)
        (a, b), (u, v) = x.chunk(2), rows.chunk(2)
        stress = self.loss(points.manifold.dist(a, b), self.tree.distance(u, v))
        return {"stress": stress, **self._penalty(points, x, rows)}


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
        x = self._rows(points, rows)
        dist, three = points.manifold.dist, x.chunk(3)
        anchor, near, far = three
        d = torch.stack((dist(anchor, near), dist(anchor, far), dist(near, far)), dim=1)
        r = torch.stack([points.manifold.dist0(part) for part in three], dim=1)
        return {"triplet": self.loss(d, r), **self._penalty(points, x, rows)}


_JOIN = 0.3
"""How far from its parent a node joins."""

_DEEPEST = {torch.float64: 34.0, torch.float32: 14.0}
"""Radius beyond which directions do not tell siblings apart: -ln of the dtype's spacing, less a
tenth of the angle between siblings."""


class LevelStress:
    r"""The recommended recipe from a random start: one level of the tree after the other.

    Trained all at once from random points, neighbourhoods are learned and the globe is not: by the
    time that a genus has found its shape, it is too heavy to travel to its family. Here an epoch is
    a level: it joins at its parents' places when all above it is done, and then only it moves. The
    loss of a node u, over the partners v that a step draws for it, at tree distance t, is

    .. math:: \sum_v w_v \left(\frac{d(u, v)}{\tau} - t(u, v)\right)^2,
              \qquad w_v = t^{-2},\ \text{and } w_{root} = w

    the relative stress of [SGR18, §4] over its ancestors, siblings and cousins, and the absolute
    one of its distance to the root. Without the second term, edges bend: a child stands beside its
    parent rather than behind it, near pairs are right and far pairs too short by a tenth.

    No coordinate is given a target. But the root stays where its random start put it, about 0.01
    from the origin, so its term fixes a radius of about τL all the same; its share of the loss is
    in the history. ``root_weight=0`` trains without.

    Parameters
    ----------
    tree
        The tree, at least one level deep.
    tau
        Distance per edge, > 0.
    root_weight
        Weight of the distance to the root, at least 0.
    passes
        How often every node of a level moves, at least 1.
    batch_size
        Nodes that move in one step, neighbours of each other; a level has as many steps for each
        pass as it has batches.

    Attributes
    ----------
    steps_per_epoch : int
        Of the level that is open.

    Raises
    ------
    ValueError
        If an argument is out of its range.
    """

    def __init__(
        self,
        tree: Taxonomy | TreeIndex,
        *,
        tau: float,
        root_weight: float = 8.0,
        passes: int = 50,
        batch_size: int = 1 << 14,
    ) -> None:
        self.tree = TreeIndex.of(tree)
        if not tau > 0 or not root_weight >= 0 or passes < 1 or batch_size < 1:
            raise ValueError(
                "tau must be positive, root_weight at least 0, passes and batch_size at least 1; "
                f"got {tau}, {root_weight}, {passes} and {batch_size}"
            )
        if self.tree.max_depth < 1:
            raise ValueError(
                "a taxonomy of one taxon has no levels to learn; is it the clade that you mean?"
            )
        self.tau, self.root_weight = tau, root_weight
        self.passes, self.batch_size = passes, batch_size
        self.epochs = self.tree.max_depth
        self.open_depth: int | None = None
        self._open_level(1)

    @staticmethod
    def deepest(dtype: torch.dtype) -> float:
        """Largest radius at which directions of this dtype still tell siblings apart."""
        return _DEEPEST[dtype]

    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Let the next level join."""
        self.open_depth = epoch + 1
        self._open_level(epoch + 1)
        join_at_parent(points, self.tree, self._level, step=_JOIN, generator=generator)

    def _open_level(self, level: int) -> None:
        start, stop = self.tree.level_start[level : level + 2].tolist()
        self._level = level
        self._batches = self.tree.level_order[start:stop].split(self.batch_size)
        self.steps_per_epoch = self.passes * len(self._batches)
        self._step = 0

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of the next batch of the level, per node."""
        u = self._batches[self._step % len(self._batches)]
        self._step += 1
        v = self._partners(u, generator)
        x = torch.nn.functional.embedding(u, points, sparse=True)
        fixed, manifold = points.detach(), points.manifold
        t = self.tree.distance(u[:, None], v)
        # one's own sibling may be oneself: such a pair weighs nothing
        weight = torch.where(t == 0, 0.0, t.clamp(min=1).to(x.dtype) ** -2)
        error = manifold.dist(x[:, None], fixed[v]) / self.tau - t
        to_root = manifold.dist(x, fixed[0]) / self.tau - self._level
        return {
            "stress": (weight * error.square()).sum() / len(u),
            "root": self.root_weight * to_root.square().mean(),
        }

    def _partners(self, u: Tensor, generator: torch.Generator) -> Tensor:
        """Partners [len(u), 17] of nodes of the level, none below it.

        The three nearest ancestors (the root more than once on the first levels); six nodes of the
        level under the same parent; four under one of the three nearest ancestors, and four under
        any ancestor, each at any depth between that ancestor and the level.
        """
        tree, level = self.tree, self._level

        def under(gap: Tensor, depth: Tensor) -> Tensor:
            ancestor = tree.ancestor(u[:, None], level - gap)
            first, end = tree.stretch(ancestor, depth)
            return tree.level_order[first + below(end - first, generator)]

        def full(columns: int, value: int) -> Tensor:
            return torch.full((len(u), columns), value, device=u.device)

        gap = torch.arange(1, 4, device=u.device).clamp(max=level).expand(len(u), -1)
        ancestors = tree.ancestor(u[:, None], level - gap)
        siblings = under(full(6, 1), full(6, level))
        highest = torch.cat((full(4, min(3, level)), full(4, level)), dim=1)
        gap = 1 + below(highest, generator)
        return torch.cat((ancestors, siblings, under(gap, level - below(gap, generator))), dim=1)
