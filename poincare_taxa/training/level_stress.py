r"""`LevelStress`, the recommended recipe from a random start: one level after the other.

Source: [SGR18] Sala, De Sa, Gu & Ré 2018, *Representation Tradeoffs for Hyperbolic Embeddings*.
"""

import math
from typing import Any

import torch
from torch import Tensor

from poincare_taxa.blocks._random import random_bits
from poincare_taxa.blocks.curriculum import join_at_parent
from poincare_taxa.blocks.manifolds import Polar
from poincare_taxa.blocks.settings import settings_repr
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree
from poincare_taxa.training.objectives import JOIN_STEP, Objective, Shares, Terms

__all__ = ["LevelStress"]

_DEEPEST = {torch.float64: 34.0, torch.float32: 14.0}
"""Radius beyond which directions do not tell siblings apart: -ln of the dtype's spacing, less a
tenth of the angle between siblings."""

_ANCESTORS, _SIBLINGS = 3, 6
_NEAR_COUSINS, _FAR_COUSINS = 4, 4
"""Partners of a node: see `LevelStress._partners`."""

_PASSES_APART = 25
"""How many passes processes take before they exchange rows. Of 18 partners, 10 are ancestors and
siblings, and of the cousins of a level few are on it and in another process."""


class LevelStress(Objective):
    r"""Stress of the nodes of one level at a time, against partners that have their places.

    Trained all at once from random points, neighbourhoods are learned and the globe is not: by the
    time that a genus has found its shape, it is too heavy to travel to its family. Here an epoch is
    a level: it joins at its parents' places when all above it is done, and then only it moves. The
    loss of a node u, over the partners v that a step draws for it, at tree distance t, is

    .. math:: \sum_v w_v \left(\frac{d(u, v)}{\tau} - t(u, v)\right)^2,
              \qquad w_v = t^{-2},\ \text{and } w_{root} = w

    the relative stress of [SGR18, §4] over its ancestors, siblings and cousins, and the absolute
    one of its distance to the root. Without the second term, edges bend: a child stands beside its
    parent rather than behind it, near pairs are right and far pairs too short by a tenth.

    Of a tree with branch lengths, t is a sum of them, in units of their mean, and relative errors
    of partners nearer than 0.3, as embedded, are relative to that, so that edges near zero do not
    outweigh all others. Levels are those of edges.

    No coordinate is given a target. But the root stays where its random start put it, about 0.01
    from the origin, so its term fixes a radius of about τL all the same; its share of the loss is
    in the history. ``root_weight=0`` trains without.

    Parameters
    ----------
    tree
        The tree, at least one level deep.
    tau
        Distance per edge, or per unit of branch length, > 0.
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

    tree: TreeIndex
    tau: float
    root_weight: float
    passes: int
    batch_size: int
    epochs: int | None
    steps_per_epoch: int

    def __init__(
        self,
        tree: Taxonomy | Tree | TreeIndex,
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
        # Distances are in edges, or in mean branch lengths.
        self._unit = self.tree.mean_edge
        weighted = self.tree.height.is_floating_point()
        self._least = JOIN_STEP / (tau * self._unit) if weighted else 0.0
        self._height = self.tree.height.double()
        self.passes, self.batch_size = passes, batch_size
        self.epochs = self.tree.max_depth
        self.open_depth = None
        self._rank, self._size = 0, 1
        self._open_level(1)

    __repr__ = settings_repr

    def split(self, rank: int, size: int) -> None:
        """Divide the nodes of a batch among processes: a node is moved by one of them.

        The nodes of a level that other processes move are exchanged every 25 passes. In between
        they stand where they were: of a node's partners, these are some of its cousins.
        """
        self._rank, self._size = rank, size
        self._open_level(self._level)

    def shares(self) -> Shares:
        """Nodes of the open level that each process moves."""
        parts = zip(*self._parts, strict=True)
        return Shares([torch.cat(part) for part in parts], _PASSES_APART * len(self._batches))

    @staticmethod
    def deepest(dtype: torch.dtype) -> float:
        """Largest radius at which directions of this dtype still tell siblings apart."""
        return _DEEPEST[dtype]

    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Let the next level join."""
        self.open_depth = epoch + 1
        self._open_level(epoch + 1)
        join_at_parent(points, self.tree, self._level, step=JOIN_STEP, generator=generator)

    def _open_level(self, level: int) -> None:
        start, stop = self.tree.level_start[level : level + 2].tolist()
        self._level = level
        self._batches = self.tree.level_order[start:stop].split(self.batch_size)
        self._parts = [batch.tensor_split(self._size) for batch in self._batches]
        highest = [min(_ANCESTORS, level)] * _NEAR_COUSINS + [level] * _FAR_COUSINS
        self._highest = torch.tensor(highest, device=self.tree.level_order.device)
        self.steps_per_epoch = self.passes * len(self._batches)
        self._step = 0

    def __call__(self, points: Any, generator: torch.Generator) -> Terms:
        """Return the terms of the next batch of the level, per node."""
        place = self._step % len(self._batches)
        batch, share = self._batches[place], self._parts[place][self._rank]
        self._step += 1
        # A process without a node of its own takes one that weighs nothing.
        u = share if len(share) else batch[:1]
        partners, edges = self._partners(u, generator)
        # Means are over a process's part of the batch; shares may differ by one from it.
        count = len(batch) / self._size if len(share) else math.inf
        settings = self.tau * self._unit, self.root_weight, self._least, count
        edges = edges.double() / self._unit
        if points.device.type == "cpu" and isinstance(points.manifold, Polar):
            stress, root = _FusedStress.apply(points, u, partners, edges, *settings)  # pyright: ignore[reportGeneralTypeIssues]
        else:
            x = torch.nn.functional.embedding(u, points, sparse=True)
            stress, root = _stress(x, points, points.manifold, partners, edges, *settings)
        return {"stress": stress, "root": root}

    def _partners(self, u: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Partners of nodes of the level, none below it, and their tree distances: [len(u), 18].

        The three nearest ancestors (the root more than once on the first levels); six nodes of the
        level under the same parent; four under one of the three nearest ancestors, and four under
        any ancestor, each at any depth between that ancestor and the level; last the root.
        """
        tree, level, highest = self.tree, self._level, self._highest
        # Which sibling; which ancestor of a cousin, how deep below it, which node there.
        sizes = [(len(u), _SIBLINGS)] + 3 * [(len(u), len(highest))]
        bits = tuple(random_bits(size, generator, u.device) for size in sizes)
        if u.device.type == "cpu":
            from poincare_taxa.kernels.numba.stress import level_partners

            shape = tree.parent, tree.end, tree.level_order, tree.level_start, self._height
            return level_partners(u, level, shape, highest, bits, _ANCESTORS)
        return _partners(tree, level, u, highest, bits)


def _partners(
    tree: TreeIndex, level: int, u: Tensor, highest: Tensor, bits: tuple[Tensor, ...]
) -> tuple[Tensor, Tensor]:
    """Find what `LevelStress._partners` draws, on tensors of any device."""

    def drawn(gap: Tensor, depth: Tensor, bits: Tensor) -> Tensor:
        first, end = tree.stretch(tree.ancestor(u[:, None], level - gap), depth)
        return tree.level_order[first + bits % (end - first)]

    sibling, ancestor, depth, place = bits
    gap = torch.arange(1, _ANCESTORS + 1, device=u.device).clamp(max=level)
    ancestors = tree.ancestor(u[:, None], level - gap.expand(len(u), -1))
    one = torch.ones_like(sibling)
    siblings = drawn(one, level * one, sibling)
    gap = 1 + ancestor % highest
    cousins = drawn(gap, level - depth % gap, place)
    root = torch.zeros_like(u[:, None])
    partners = torch.cat((ancestors, siblings, cousins, root), dim=1)
    return partners, tree.distance(u[:, None], partners)


def _stress(
    x: Tensor,
    table: Tensor,
    manifold: Any,
    partners: Tensor,
    edges: Tensor,
    tau: float,
    root_weight: float,
    least: float,
    count: float,
) -> tuple[Tensor, Tensor]:
    """Both terms, over a count, of points x [B, …] and their partners [B, K], the root last."""
    # A node that was drawn as its own sibling weighs nothing; the root takes its place, because a
    # distance of 0 has no second derivative.
    edges = edges.to(x.dtype)
    itself = edges == 0
    fixed = table.detach()[torch.where(itself, 0, partners)]
    error = manifold.dist(x[:, None], fixed) / tau - edges
    weight = torch.where(itself, 0.0, torch.where(itself, 1.0, edges.clamp(min=least)) ** -2)
    stress = (weight * error.square())[:, :-1].sum() / count
    return stress, root_weight * error[:, -1].square().sum() / count


class _FusedStress(torch.autograd.Function):
    """`_stress` of a polar table on the CPU, by a compiled loop that computes the gradient too."""

    @staticmethod
    def forward(
        ctx: Any,
        table: Tensor,
        u: Tensor,
        partners: Tensor,
        edges: Tensor,
        tau: float,
        root_weight: float,
        least: float,
        count: float,
    ) -> tuple[Tensor, Tensor]:
        from poincare_taxa.kernels.numba.stress import level_stress

        sums, gradient = level_stress(table, u, partners, edges, tau, root_weight, least)
        ctx.save_for_backward(table, u, partners, edges, gradient)
        ctx.settings = tau, root_weight, least, count
        stress, root = (sums / count).to(table.dtype).unbind()
        return stress, root

    @staticmethod
    def backward(ctx: Any, by_stress: Tensor, by_root: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        table, u, partners, edges, gradient = ctx.saved_tensors
        if torch.is_grad_enabled():  # create_graph: the gradient has to have one of its own
            terms = _stress(table[u], table, Polar(), partners, edges, *ctx.settings)
            given = torch.autograd.grad(terms, table, (by_stress, by_root), create_graph=True)
            return *given, *(None for _ in range(7))
        # numpy: torch's threads would wait for each other longer than these products take
        both, terms = gradient.numpy(), (by_stress.numpy(), by_root.numpy())
        rows = terms[0] * both[0]
        rows += terms[1] * both[1]
        rows /= ctx.settings[-1]
        by_table = torch.sparse_coo_tensor(
            u[None],
            torch.from_numpy(rows),
            table.shape,
            check_invariants=False,
            is_coalesced=True,  # nodes of a level ascend
        )
        return by_table, *(None for _ in range(7))
