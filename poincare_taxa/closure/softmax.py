r"""Training for closure mode: the softmax of [NK17] over all nodes, not a sample of them.

For a node u and an ancestor v the loss is

.. math:: \log\Bigl(1 + \sum_b e^{(d(u, v) - d(u, b)) / T}\Bigr)

over all nodes b that are not ancestors of u ([NK17] eq. 5; T a temperature). Three things make it
cheap. Nodes without descendants, four of five in WordNet, go to radius 160: they are never in the
way, so b runs over the others only. Seen from there e^d is a bilinear form, a matrix product for
all pairs at once (the Busemann distance, see `closure_layout`). And leaves with the same ancestors
share one direction, so they are one query.

And three things make it find its way. T is small, near to counting ranks. The step is an *angle*,
the same at every radius, falling to 0 by a cosine: nodes first fly across the sphere, whole clades
settle early and deep nodes last. Steps of one hyperbolic length, as Riemannian optimizers take,
leave deep nodes where the first epochs brought them. And what is still stuck late in the run is put
where one of its parents is, if it ranks better there.

Source: [NK17] Nickel & Kiela 2017, *Poincaré Embeddings for Learning Hierarchical Representations*.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.manifolds import Polar
from poincare_taxa.blocks.optimizers import step_tables
from poincare_taxa.closure.layout import LEAF_RADIUS, direct_parents
from poincare_taxa.closure.queries import Queries
from poincare_taxa.layouts.tree import Layout

__all__ = ["AngularAdam", "ClosureSoftmax", "nested_start"]

_ENTRIES = 1 << 18
"""Of a block of scores: what stays in a core's cache."""

_NEAR = 1e-3
"""Squared chord below which 2 - 2 cos θ has lost digits, and differences of coordinates count."""

_OUTERMOST = 40.0
"""Radius of inner nodes at the start, at most. A `closure_layout` puts those that have no child in
its spanning tree to the rim, where e^(d / T) overflows."""

_LATE = 5
"""Places by which the ancestors of a node must be late, on average, for the node to be moved."""

_SMALL = 30
"""Descendants of a node up to which it is moved: they are then put behind it, one by one."""


_INNERMOST = 1e-3
"""Radius at which `AngularAdam` stops points that move inwards: at 0 there are no directions."""


class ClosureSoftmax:
    """Ancestors nearer than all other nodes: the full softmax, for `fit` with `ClosurePairs`.

    An objective (see `objectives`) for points in polar coordinates, float64. `fit` gives it
    `AngularAdam` and a cosine from ``lr`` to 0 over its ``epochs``. By default ``lr`` is `step`,
    which suits a `nested_start`; random points need more, such as 0.15, and more epochs.

    Parameters
    ----------
    pairs
        Who is an ancestor of whom, transitively closed.
    temperature
        T, > 0, in units of distance. [NK17] has 1; smaller is nearer to counting ranks.
    epochs
        Stages of the run, at least 1.
    batch_size
        Distinct queries of a step, at least 1; by default 1024, or less so that an epoch has 24.
    rejoin
        Share of the epochs after which nodes that are stuck are put beside a parent, every other
        epoch; 1 for never.

    Attributes
    ----------
    steps_per_epoch : int
        So that every query comes once in an epoch.

    Raises
    ------
    ValueError
        If a number is out of its range, or there are fewer queries than the batch has.
    TaxonomyError
        If the pairs have a cycle.

    Examples
    --------
    >>> import poincare_taxa as pt
    >>> pairs = pt.ClosurePairs([(0, 1), (1, 2), (0, 2), (0, 3), (3, 4), (0, 4), (1, 4)])
    >>> run = pt.fit(pairs, dim=3, objective=ClosureSoftmax(pairs, epochs=40))
    >>> pt.closure.rank_ancestors(pairs, run.embedding.radius, run.embedding.direction)[:2]
    (1.0, 1.0)
    """

    def __init__(
        self,
        pairs: ClosurePairs,
        *,
        temperature: float = 0.25,
        epochs: int = 24,
        batch_size: int | None = None,
        rejoin: float = 0.6,
    ) -> None:
        if not temperature > 0 or epochs < 1 or not 0 <= rejoin <= 1:
            raise ValueError(
                "temperature must be positive, epochs at least 1, rejoin between 0 and 1; got "
                f"{temperature}, {epochs} and {rejoin}"
            )
        self._queries = queries = Queries.of(pairs)
        if batch_size is None:
            batch_size = min(1024, math.ceil(len(queries.row) / 24))
        if not 1 <= batch_size <= len(queries.row):
            raise ValueError(
                f"batch_size must be at least 1 and at most the number of distinct queries, "
                f"{len(queries.row)}; got {batch_size}"
            )
        self.temperature, self.epochs, self.rejoin = temperature, epochs, rejoin
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(queries.row) / batch_size)

    def step(self, dim: int) -> float:
        """Angle of the first steps: a quarter of a leaf's cap in a `nested_start`."""
        return 0.25 * self._queries.nodes ** (-1 / (dim - 1))

    @torch.no_grad()
    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Put leaves at the rim, and late in the run what is stuck beside a parent."""
        if not isinstance(points.manifold, Polar) or points.dtype != torch.float64:
            raise ValueError(
                "closure training needs polar coordinates in float64, which hold its radii, as "
                "PoincareEmbedding has them by default; got "
                f"{type(points.manifold).__name__} and {points.dtype}"
            )
        if epoch == 0:
            self._to_the_rim(points, generator)
        late = epoch - math.ceil(self.rejoin * self.epochs)
        if late >= 0 and late % 2 == 0 and epoch < self.epochs - 1:
            self._rejoin(points, generator)
        self._order = torch.randperm(
            len(self._queries.row), generator=generator, device=points.device
        ).split(self.batch_size)
        self._done = 0

    def __call__(self, points: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss of the next batch, per pair."""
        batch = self._order[self._done]
        self._done += 1
        loss: Any = _Softmax.apply(points, self._queries, batch, 1 / self.temperature)
        return {"softmax": loss}

    def _to_the_rim(self, points: Tensor, generator: torch.Generator) -> None:
        q = self._queries
        points[q.rim, 0] = LEAF_RADIUS
        points[q.inner, 0] = points[q.inner, 0].clamp(max=_OUTERMOST)
        q.gather(points, generator)

    def _rejoin(self, points: Tensor, generator: torch.Generator) -> None:
        """Put queries whose ancestors are late beside the parent where they are least so."""
        q = self._queries
        table = points[q.inner].clone()
        every = torch.arange(len(q.row), device=points.device)
        late = q.rank_excess(table, points[q.row], every)
        many = late > _LATE * q.ancestors.start.diff()
        stuck = every[many & (q.descendants <= _SMALL)]
        number = q.parents.start.diff()[stuck]
        chosen, parent = stuck.repeat_interleave(number), q.parents.lists(stuck)
        if len(chosen) == 0:
            return
        place = table[parent]
        turn = torch.randn(
            len(place), place.shape[1] - 1, generator=generator, dtype=place.dtype,
            device=place.device,
        )  # fmt: skip
        turn *= 1e-3 * torch.exp(-place[:, :1])
        place[:, 1:] = torch.nn.functional.normalize(place[:, 1:] + turn, dim=1)
        place[:, 0] = torch.maximum(points[q.row[chosen], 0], place[:, 0] + 0.5)
        there = q.rank_excess(table, place, chosen)
        order = torch.argsort(there, stable=True)
        order = order[torch.argsort(chosen[order], stable=True)]
        first = torch.ones(len(order), dtype=torch.bool, device=order.device)
        first[1:] = chosen[order].diff() != 0
        best = order[first]
        best = best[there[best] < late[chosen[best]] / 2]
        points[q.row[chosen[best]]] = place[best]
        q.gather(points, generator)


def nested_start(pairs: ClosurePairs, dim: int, *, seed: int = 0) -> Layout:
    """Place every node at random near its parents, the farther out the fewer descendants it has.

    A node's cap is of the radian measure (its share of all nodes)^(1 / (dim - 1)), so that siblings
    have about as much room as they need; its direction is the mean of its parents' plus noise of
    0.7 times the smallest of their caps. Caps overlap: a start for training, no layout to keep.

    Parameters
    ----------
    pairs
        Who is an ancestor of whom, transitively closed.
    dim
        Number of coordinates of a direction, at least 2.
    seed
        Of the noise.

    Returns
    -------
    layout
        Radius [n], direction [n, dim], float64; info is empty.

    Raises
    ------
    ValueError
        If `dim` < 2.
    TaxonomyError
        If the pairs have a cycle.
    """
    if dim < 2:
        raise ValueError(f"dim must be at least 2, got {dim}: there is no room for siblings")
    n, rng = pairs.num_nodes, np.random.default_rng(seed)
    parents: Any = direct_parents(pairs).astype(np.float64)
    below = np.bincount(pairs.pairs[:, 0].cpu().numpy(), minlength=n)
    cap = ((below + 1) / n) ** (1 / (dim - 1))
    noise = rng.standard_normal((n, dim))
    direction = noise / np.linalg.norm(noise, axis=1, keepdims=True)
    for rows in _levels(parents)[1:]:
        above = parents[rows]
        room = np.minimum.reduceat(cap[above.indices], above.indptr[:-1])
        x = above @ direction
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        x += 0.7 * (room / dim**0.5)[:, None] * noise[rows]
        direction[rows] = x / np.linalg.norm(x, axis=1, keepdims=True)
    radius = np.maximum(-2 * np.log(np.tan(cap / 2)), 0.05)
    return Layout(torch.from_numpy(radius), torch.from_numpy(direction), {})


def _levels(parents: Any) -> list[NDArray[np.int64]]:
    """Nodes by the length of the longest way up."""
    child, parent = parents.nonzero()
    level = np.zeros(parents.shape[0], np.int64)
    while True:
        now = level.copy()
        np.maximum.at(now, child, level[parent] + 1)
        if (now == level).all():
            order = np.argsort(level, kind="stable")
            return np.split(order, np.cumsum(np.bincount(level))[:-1])
        level = now


class AngularAdam(torch.optim.Optimizer):
    """Adam whose steps in `Polar` are of one length in radius and of one *angle* in direction.

    One second moment for a row's radius and one for its direction, as in
    `optimizers.RowwiseRiemannianAdam`, without the division by sinh r: a point at radius 10 turns
    as far as one at radius 1. That is what lets whole clades change places; with ``lr`` falling to
    0, deep nodes settle last. Every row moves at every step, by its momentum where it has no
    gradient.

    Parameters
    ----------
    params
        `geoopt.ManifoldParameter` tables on `Polar`, or groups of them; dense gradients.
    lr
        Step of the direction in radians, at least 0.
    radius_ratio
        Step of the radius, in units of distance, as a multiple of ``lr``, at least 0.
    betas
        Decay of the moments, in [0, 1).
    eps
        Added to the root of the second moment.

    Raises
    ------
    ValueError
        If a number is out of its range, or a parameter is not on `Polar`.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 0.05,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-12,
        radius_ratio: float = 1.0,
    ) -> None:
        sizes = lr, eps, radius_ratio
        if not all(size >= 0 for size in sizes) or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(
                "lr, eps and radius_ratio must be at least 0, betas in [0, 1); got "
                f"{lr}, {eps}, {radius_ratio} and {betas}"
            )
        defaults = {"lr": lr, "betas": betas, "eps": eps, "radius_ratio": radius_ratio}
        super().__init__(params, defaults)
        for group in self.param_groups:
            for table in group["params"]:
                if not isinstance(manifold := getattr(table, "manifold", None), Polar):
                    raise ValueError(f"AngularAdam moves points of Polar; got some of {manifold}")

    @torch.no_grad()
    def step(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, closure: Callable[[], float] | None = None
    ) -> float | None:
        """Take one step; returns what ``closure``, which recomputes the loss, returns."""
        return step_tables(self, closure, self._turn)

    def _turn(self, table: Any, group: dict[str, Any]) -> None:
        x, state = table.detach().as_subclass(Tensor), self.state[table]
        if not state:
            state["step"] = 0
            state["exp_avg"] = torch.zeros_like(x)
            state["exp_avg_sq"] = x.new_zeros(len(x), 2)
        state["step"] += 1
        (beta1, beta2), t = group["betas"], state["step"]
        gradient = table.manifold.proju(x, table.grad)
        mean, square = state["exp_avg"], state["exp_avg_sq"]
        mean.lerp_(gradient, 1 - beta1)
        sizes = torch.stack((gradient[:, 0].square(), gradient[:, 1:].square().sum(1)), dim=1)
        square.lerp_(sizes, 1 - beta2)
        rate = group["lr"] / (1 - beta1**t)
        size = (square / (1 - beta2**t)).sqrt_().add_(group["eps"])
        x[:, 0].sub_(group["radius_ratio"] * rate * mean[:, 0] / size[:, 0]).clamp_(min=_INNERMOST)
        x[:, 1:] -= rate * mean[:, 1:] / size[:, 1:]
        x[:, 1:] /= torch.linalg.vector_norm(x[:, 1:], dim=1, keepdim=True)
        mean.copy_(table.manifold.proju(x, mean))


class _Softmax(torch.autograd.Function):
    """Loss per pair of a batch of queries, and its gradient, computed together."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, queries: Queries, batch: Tensor, power: float) -> Tensor:
        points = points.detach().as_subclass(Tensor)
        gradient = torch.zeros_like(points)
        table = points[queries.inner]
        sums = torch.zeros_like(table)
        loss = points.new_zeros(())
        per_block = max(1, _ENTRIES // len(table))
        at_rim = queries.own[batch] < 0
        for some in (batch[~at_rim], batch[at_rim]):
            for block in some.split(per_block) if len(some) else ():
                terms, asking = _block(table, points, queries, block, power, sums)
                loss += terms
                gradient[queries.row[block]] += asking
        number = queries.ancestors.start.diff()[batch]
        total = (queries.weight[batch] * number).sum()
        # All leaves of a query move as one.
        gradient[queries.leaf] = gradient[queries.row[queries.leaf_query]]
        gradient[queries.inner] += sums
        u = points[:, 1:]
        gradient[:, 1:] -= (gradient[:, 1:] * u).sum(1, keepdim=True) * u
        ctx.save_for_backward(gradient.div_(total))
        return loss / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return ctx.saved_tensors[0] * grad, None, None, None


def _block(
    table: Tensor, points: Tensor, q: Queries, block: Tensor, power: float, sums: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of some queries, all leaves or all inner nodes, and its gradient by their points.

    The gradient by the table is added to ``sums``. With D the squared chord, the scores are

    - of leaves, at infinite radius: E = h = exp(-r) + sinh r D / 2, which is e^d up to a factor;
    - else E = e^d with h = cosh d - 1 = 2 sinh²((R - r) / 2) + sinh R sinh r D / 2.
    """
    asking = points[q.row[block]]
    (r, x), (R, y) = (table[:, 0], table[:, 1:]), (asking[:, :1], asking[:, 1:])
    at_rim = bool(q.own[block[0]] < 0)
    chord = torch.addmm(x.new_full((), 2.0), y, x.T, alpha=-2)
    i, j = (chord < _NEAR).nonzero(as_tuple=True)
    chord[i, j] = (y[i] - x[j]).square().sum(1)
    half = torch.sinh(r) / 2
    if at_rim:
        slope = torch.ones_like(R)
        E = torch.addcmul(torch.exp(-r), chord, half)
        root = E
    else:
        slope = torch.sinh(R)
        h = torch.sinh((R - r) / 2).square_().mul_(2)
        h.addcmul_(chord * half, slope).clamp_(min=1e-14)
        root = (h * (h + 2)).sqrt_()
        E = h.add_(1).add_(root)

    # c becomes the derivative of the loss by log E, then by h
    c = _power(E.reciprocal(), power)
    number = q.ancestors.start.diff()[block]
    i = torch.arange(len(block), device=block.device).repeat_interleave(number)
    j = q.ancestors.lists(block)
    c[i, j] = 0
    if not at_rim:
        c[torch.arange(len(block), device=block.device), q.own[block]] = 0
    weight = q.weight[block][i]
    wrong = _power(E[i, j], power)
    f = wrong * c.sum(1)[i]
    loss = (weight * torch.log1p(f)).sum()
    pull = torch.zeros_like(number, dtype=c.dtype).index_add_(0, i, weight * wrong / (1 + f))
    c.mul_(-power * pull[:, None])
    c[i, j] = power * weight * f / (1 + f)
    c.div_(root)

    by_query = torch.zeros_like(asking)
    by_chord = c * chord
    sums[:, 0] += (slope.T @ by_chord)[0] * torch.cosh(r) / 2
    if at_rim:
        sums[:, 0] -= torch.exp(-r) * c.sum(0)
    else:
        ch = torch.cosh(R)
        sums[:, 0] += (torch.sinh(r) * (ch.T @ c) - torch.cosh(r) * (slope.T @ c))[0]
        by_query[:, :1] = slope * (c @ torch.cosh(r)[:, None]) - ch * (c @ torch.sinh(r)[:, None])
        by_query[:, :1] += ch * (by_chord @ half[:, None])
    lever = 2 * half[:, None]
    sums[:, 1:] += lever * ((slope.T @ c).T * x - c.T @ (slope * y))
    by_query[:, 1:] = slope * ((c @ lever) * y - c @ (lever * x))
    return loss, by_query


def _power(x: Tensor, power: float) -> Tensor:
    """X to a power, in place; by squaring where that is enough, which is many times faster."""
    doublings = math.log2(power)
    if doublings.is_integer() and doublings >= 0:
        for _ in range(int(doublings)):
            x.square_()
        return x
    return x.pow_(power)
