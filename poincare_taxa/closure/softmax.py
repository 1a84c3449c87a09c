r"""Training of closure mode: the softmax of [NK17] over all nodes, not over a sample of them.

For a node u and an ancestor v the loss is

.. math:: \log\Bigl(1 + \sum_b e^{(d(u, v) - d(u, b)) / T}\Bigr)

over all nodes b that are not ancestors of u ([NK17] eq. 5; T a temperature), listed or by
transitivity, and that no pair to ignore names as one. That orders the nodes seen from u, and says
nothing of distances of different u. For link prediction u can have a *limit*,
l(u) = d(u, origin) + 1: ancestors should be nearer and other nodes b farther, which adds

.. math:: \lambda \sum_v \log\bigl(1 + e^{(d(u, v) - l(u)) / T}\bigr)
   + 5 \lambda \sum_b s_b \log\bigl(1 + e^{(l(u) - d(u, b)) / T}\bigr)

with the share s_b of all nodes that are descendants of b: as often as b is an ancestor in a pair
whose descendant is replaced at random, five times for each pair (`links`). (The first sum stands in
the logarithm above, as one more b.) Three properties make it cheap:

- Leaves (nodes without descendants; four of five in WordNet) have radius 160. They are farther from
  every node than its ancestors are, so b runs over the inner nodes only.
- At radius 160 e^d is a bilinear form (see the Busemann distance in `layout`), so that one matrix
  product computes it for all pairs.
- Leaves with the same ancestors share one direction and are one query.

Three choices decide the quality. T is small, so that the loss is near to a count of ranks. A step
is an *angle*, the same at every radius, which falls to 0 by a cosine: at first whole clades change
places, and deep nodes settle last. Steps of one hyperbolic length, as Riemannian optimizers take
them, leave deep nodes where the first epochs brought them. And late in the run, a node whose
ancestors still rank badly moves to one of its parents, if they rank better there.

Source: [NK17] Nickel & Kiela 2017, *Poincaré Embeddings for Learning Hierarchical Representations*.
"""

import math
from typing import Any, NamedTuple

import torch
from numpy.typing import ArrayLike
from torch import Tensor
from torch.autograd.function import once_differentiable

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.manifolds import Polar
from poincare_taxa.blocks.settings import settings_repr
from poincare_taxa.closure.layout import LEAF_RADIUS, nested_start, packed_start
from poincare_taxa.closure.queries import Queries
from poincare_taxa.layouts.tree import Layout

__all__ = ["ClosureSoftmax"]

_ENTRIES = 1 << 18
"""Entries of a block of scores, so that it stays in a core's cache."""

_NEAR = 1e-3
"""Squared chord below which 2 - 2 cos θ has lost digits; it is then computed from differences."""

_OUTERMOST = 40.0
"""Largest radius of inner nodes at the start. `closure_layout` gives the radius of leaves to inner
nodes that have no child in its spanning tree, and there e^(d / T) overflows."""

_BEYOND = 1.0
"""Distance of the limit beyond the origin, so that the root can be within it for every node."""

_REPLACED = 5.0
"""Negatives of each pair with another descendant, in the splits of `links`."""

_LARGE_EXCESS = 5
"""Mean of (rank − 1) over a node's ancestors above which the node moves to a parent."""

_SMALL = 30
"""Largest number of descendants of a node that is moved; they follow one by one."""


class ClosureSoftmax:
    """Ancestors nearer than all other nodes: the full softmax, for `fit` with `ClosurePairs`.

    An objective (see `training.objectives`) for points in polar coordinates, float64. By default,
    `fit` steps it with `blocks.AngularAdam` and a cosine from ``lr`` to 0 over its ``epochs``. The
    default of ``lr`` is `step`, which suits `start`; random points need more, such as 0.15, and
    more epochs.

    Parameters
    ----------
    pairs
        Pairs of a DAG, transitively closed.
    ignore
        Pairs that are no negatives either, as in `blocks.UniformNegatives`.
    temperature
        T, > 0, in units of distance; 1 in [NK17]. Smaller is nearer to a count of ranks.
    epochs
        Length of the run, at least 1.
    batch_size
        Queries of a step; by default 1,024, or a 24th of all if that is fewer.
    limit
        λ, at least 0: the weight of the limit. With one, training begins with a `packed_start`,
        and its steps are a tenth as long.
    rejoin
        Share of the run after which every second epoch moves nodes to a parent; 1 for never.

    Raises
    ------
    ValueError
        If a number is out of its range.
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

    open_depth: int | None = None
    ignored: Tensor | None = None

    temperature: float
    epochs: int
    limit: float
    rejoin: float
    steps_per_epoch: int

    def __init__(
        self,
        pairs: ClosurePairs,
        *,
        temperature: float = 0.25,
        epochs: int = 24,
        batch_size: int | None = None,
        limit: float = 0.0,
        rejoin: float = 0.6,
        ignore: ClosurePairs | ArrayLike | Tensor | None = None,
    ) -> None:
        if not temperature > 0 or epochs < 1 or not limit >= 0 or not 0 <= rejoin <= 1:
            raise ValueError(
                "temperature must be positive, epochs at least 1, limit at least 0 and rejoin "
                f"between 0 and 1; got {temperature}, {epochs}, {limit} and {rejoin}"
            )
        self._pairs = pairs
        pairs.require_acyclic()
        pairs.warn_unless_closed()
        exclude = pairs.missing
        if ignore is not None:
            self.ignored = pairs.beyond(ignore)
            exclude = torch.cat([exclude, self.ignored])
        self._queries = queries = Queries.of(pairs, exclude)
        if batch_size is None:
            batch_size = min(1024, math.ceil(len(queries.row) / 24))
        if not 1 <= batch_size <= len(queries.row):
            raise ValueError(
                f"batch_size must be at least 1 and at most the number of distinct queries, "
                f"{len(queries.row)}; got {batch_size}"
            )
        self.temperature, self.epochs, self.limit, self.rejoin = temperature, epochs, limit, rejoin
        self.batch_size = batch_size
        self.steps_per_epoch = math.ceil(len(queries.row) / batch_size)
        self._rank, self._size = 0, 1

    __repr__ = settings_repr

    def split(self, rank: int, size: int) -> None:
        """Divide the queries of a batch among processes."""
        self._rank, self._size = rank, size

    def start(self, dim: int, *, seed: int = 0) -> Layout:
        """Make the points that training begins with."""
        make = packed_start if self.limit else nested_start
        return make(self._pairs, dim, seed=seed)

    def shares(self) -> None:
        """Return None: a query has a gradient of every row, so that processes take joint steps."""

    def step(self, dim: int) -> float:
        """Angle of the first steps: a quarter of a leaf's cap in a `nested_start`.

        With a limit it is a tenth of that, which leaves clades in the caps of a `packed_start`.
        """
        return (0.025 if self.limit else 0.25) * self._queries.num_nodes ** (-1 / (dim - 1))

    @torch.no_grad()
    def begin(self, epoch: int, points: Any, generator: torch.Generator) -> None:
        """Put leaves at their radius, move stuck nodes to a parent, and order the batches."""
        if not isinstance(points.manifold, Polar) or points.dtype != torch.float64:
            raise ValueError(
                "closure training needs polar coordinates in float64, which hold its radii, as "
                "PoincareEmbedding has them by default; got "
                f"{type(points.manifold).__name__} and {points.dtype}"
            )
        if epoch == 0:
            self._set_radii(points, generator)
        since = epoch - math.ceil(self.rejoin * self.epochs)
        if since >= 0 and since % 2 == 0 and epoch < self.epochs - 1:
            self._rejoin(points, generator)
        self._order = torch.randperm(
            len(self._queries.row), generator=generator, device=points.device
        ).split(self.batch_size)
        self._done = 0

    def __call__(self, points: Any, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the loss of the next batch, per pair."""
        batch = self._order[self._done]
        self._done += 1
        q, share = self._queries, batch.tensor_split(self._size)[self._rank]
        pairs = (q.weight[batch] * q.ancestors.length(batch)).sum() / self._size
        loss: Any = _Softmax.apply(points, q, share, pairs, 1 / self.temperature, self.limit)
        return {"softmax": loss}

    def _set_radii(self, points: Tensor, generator: torch.Generator) -> None:
        """Put leaves at their radius and inner nodes within `_OUTERMOST`, in place."""
        q = self._queries
        points[q.leaves, 0] = LEAF_RADIUS
        points[q.inner, 0] = points[q.inner, 0].clamp(max=_OUTERMOST)
        q.align_leaves(points, generator)

    def _rejoin(self, points: Tensor, generator: torch.Generator) -> None:
        """Move queries whose ancestors rank badly to the parent where they rank best, in place."""
        q = self._queries
        table = points[q.inner].clone()
        every = torch.arange(len(q.row), device=points.device)
        # Queries to move, each with all of its parents as candidates.
        here = q.rank_excess(table, points[q.row], every)
        bad = here > _LARGE_EXCESS * q.ancestors.length(every)
        stuck = every[bad & (q.descendants <= _SMALL)]
        chosen = stuck.repeat_interleave(q.parents.length(stuck))
        if len(chosen) == 0:
            return
        # A candidate is the point of the parent, turned a little and half a unit farther out.
        place = table[q.parents.joined(stuck)]
        turn = torch.randn(
            len(place), place.shape[1] - 1, generator=generator, dtype=place.dtype,
            device=place.device,
        )  # fmt: skip
        turn *= 1e-3 * torch.exp(-place[:, :1])
        place[:, 1:] = torch.nn.functional.normalize(place[:, 1:] + turn, dim=1)
        place[:, 0] = torch.maximum(points[q.row[chosen], 0], place[:, 0] + 0.5)
        there = q.rank_excess(table, place, chosen)
        # The best candidate of each query, if it halves the excess.
        order = torch.argsort(there, stable=True)
        order = order[torch.argsort(chosen[order], stable=True)]
        first = torch.ones(len(order), dtype=torch.bool, device=order.device)
        first[1:] = chosen[order].diff() != 0
        best = order[first]
        best = best[there[best] < here[chosen[best]] / 2]
        points[q.row[chosen[best]]] = place[best]
        q.align_leaves(points, generator)


class _Softmax(torch.autograd.Function):
    """Loss per pair of a batch of queries, and its gradient, computed together."""

    @staticmethod
    def forward(
        ctx: Any,
        points: Tensor,
        queries: Queries,
        batch: Tensor,
        total: Tensor,
        power: float,
        limit: float,
    ) -> Tensor:
        """Compute the loss and keep its gradient by all points.

        ``total`` is the number of pairs that the loss is divided by; ``power`` is 1 / T, and
        ``limit`` is λ.
        """
        points = points.detach().as_subclass(Tensor)
        gradient = torch.zeros_like(points)
        table = points[queries.inner]
        by_table = torch.zeros_like(table)
        loss = points.new_zeros(())
        per_block = max(1, _ENTRIES // len(table))
        is_leaf = queries.own[batch] < 0
        for some in (batch[~is_leaf], batch[is_leaf]):
            for block in some.split(per_block) if len(some) else ():
                terms, by_query = _block(table, points, queries, block, power, limit, by_table)
                loss += terms
                gradient[queries.row[block]] += by_query
        # All leaves of a query move as one.
        gradient[queries.leaf] = gradient[queries.row[queries.leaf_query]]
        gradient[queries.inner] += by_table
        # Gradients of directions are tangent to the sphere.
        u = points[:, 1:]
        gradient[:, 1:] -= (gradient[:, 1:] * u).sum(1, keepdim=True) * u
        ctx.save_for_backward(gradient.div_(total))
        return loss / total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Scale the gradient that `forward` kept."""
        return ctx.saved_tensors[0] * grad, None, None, None, None, None


class _Scores(NamedTuple):
    """Scores E of a block of queries [q, V], which e^d is up to a factor of the query."""

    E: Tensor
    by_h: Tensor
    """E divided by its derivative by h, which the formulas of `_scores` define."""
    slope: Tensor
    """Factor of h of the query, 1 or sinh R [q, 1]."""
    origin: Tensor
    """Score of the origin: 1 or e^R [q]."""


def _block(
    table: Tensor,
    points: Tensor,
    q: Queries,
    block: Tensor,
    power: float,
    limit: float,
    by_table: Tensor,
) -> tuple[Tensor, Tensor]:
    """Loss of some queries, all leaves or all inner nodes, and its gradient by their points.

    The gradient by the table is added to ``by_table``.
    """
    query = points[q.row[block]]
    (r, x), (R, y) = (table[:, 0], table[:, 1:]), (query[:, :1], query[:, 1:])
    of_leaves = bool(q.own[block[0]] < 0)
    half = torch.sinh(r) / 2
    chord = _squared_chords(y, x)
    scores = _scores(r, R, half, chord, of_leaves)
    loss, c, by_limit = _loss_by_h(scores, q, block, power, limit)

    # By radii: through sinh r and sinh R of the term with D, then through the rest of h.
    slope, by_query, by_chord = scores.slope, torch.zeros_like(query), c * chord
    by_table[:, 0] += (slope.T @ by_chord)[0] * torch.cosh(r) / 2
    if of_leaves:
        by_table[:, 0] -= torch.exp(-r) * c.sum(0)
    else:
        ch = torch.cosh(R)
        by_table[:, 0] += (torch.sinh(r) * (ch.T @ c) - torch.cosh(r) * (slope.T @ c))[0]
        by_query[:, :1] = slope * (c @ torch.cosh(r)[:, None]) - ch * (c @ torch.sinh(r)[:, None])
        by_query[:, :1] += ch * (by_chord @ half[:, None])
        by_query[:, 0] += by_limit
    # By directions: D = |x - y|².
    lever = 2 * half[:, None]
    by_table[:, 1:] += lever * ((slope.T @ c).T * x - c.T @ (slope * y))
    by_query[:, 1:] = slope * ((c @ lever) * y - c @ (lever * x))
    return loss, by_query


def _squared_chords(y: Tensor, x: Tensor) -> Tensor:
    """|y - x|² of unit vectors, for all pairs [q, V]; from differences where they are near."""
    chord = torch.addmm(x.new_full((), 2.0), y, x.T, alpha=-2)
    i, j = (chord < _NEAR).nonzero(as_tuple=True)
    chord[i, j] = (y[i] - x[j]).square().sum(1)
    return chord


def _scores(r: Tensor, R: Tensor, half: Tensor, chord: Tensor, of_leaves: bool) -> _Scores:
    """Compute the scores of all inner nodes for queries of one kind.

    With D the squared chord, leaves (at infinite radius) have E = h = exp(-r) + sinh r D / 2, which
    is e^d up to a factor. Others have E = e^d with
    h = cosh d - 1 = 2 sinh²((R - r) / 2) + sinh R sinh r D / 2.
    """
    if of_leaves:
        E = torch.addcmul(torch.exp(-r), chord, half)
        return _Scores(E, E, torch.ones_like(R), torch.ones_like(R[:, 0]))
    slope = torch.sinh(R)
    h = torch.sinh((R - r) / 2).square_().mul_(2)
    h.addcmul_(chord * half, slope).clamp_(min=1e-14)
    root = (h * (h + 2)).sqrt_()  # sinh d
    return _Scores(h.add_(1).add_(root), root, slope, torch.exp(R[:, 0]))


def _loss_by_h(
    scores: _Scores, q: Queries, block: Tensor, power: float, limit: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Loss of some queries, and its derivatives by h [q, V] and by the distance of the origin."""
    # Each entry of c is e^(-d / T), and 0 for ancestors, what is excluded and the query itself.
    c = _power(scores.E.reciprocal(), power)
    number = q.ancestors.length(block)
    every = torch.arange(len(block), device=block.device)
    i, j = every.repeat_interleave(number), q.ancestors.joined(block)
    c[i, j] = 0
    c[every.repeat_interleave(q.excluded.length(block)), q.excluded.joined(block)] = 0
    if (own := q.own[block])[0] >= 0:
        c[every, own] = 0
    # f is the sum over b in the loss of each pair: e^(d(u, v) / T) times the sum of the row, with
    # the limit as one b.
    bound = (scores.origin * math.exp(_BEYOND)).pow(-power)  # e^(-l / T)
    weight = q.weight[block][i]
    wrong = _power(scores.E[i, j], power)
    f = wrong * c.sum(1).add_(limit * bound)[i]
    loss = (weight * torch.log1p(f)).sum()
    # By log E: all other nodes share the pull of the ancestors of their row.
    pull = torch.zeros_like(number, dtype=c.dtype).index_add_(0, i, weight * wrong / (1 + f))
    by_limit = -power * limit * pull * bound
    if limit > 0:
        # The other nodes b by the limit: x is e^((l - d) / T).
        x, share = c / bound[:, None], limit * _REPLACED * q.share
        loss += q.weight[block] @ (torch.log1p(x) @ share)
        x.div_(x + 1).mul_(share).mul_(q.weight[block][:, None])
        by_limit += power * x.sum(1)
        c.mul_(-power * pull[:, None]).sub_(x, alpha=power)
    else:
        c.mul_(-power * pull[:, None])
    c[i, j] = power * weight * f / (1 + f)
    return loss, c.div_(scores.by_h), by_limit


def _power(x: Tensor, power: float) -> Tensor:
    """Raise to a power, in place; by squaring where possible, which is many times faster."""
    doublings = math.log2(power)
    if doublings.is_integer() and doublings >= 0:
        for _ in range(int(doublings)):
            x.square_()
        return x
    return x.pow_(power)
