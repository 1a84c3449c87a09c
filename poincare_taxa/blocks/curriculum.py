"""What to train on when: schedules as data, and growing an embedding down the tree.

A schedule is a sequence of (epoch, value): the value holds from that epoch on. A `Curriculum` is
two of them, the largest gap and the largest depth of the pairs:

>>> curriculum = Curriculum(max_gap=[(0, 1), (20, 3), (50, None)])
>>> curriculum.at(30)
Stage(max_gap=3, max_depth=None)

and ``pairs.limit(**stage._asdict())`` applies it. Growing down the tree (`Curriculum.top_down`)
needs two things more when a level opens: its nodes start at their parents' place
(`join_at_parent`), and deeper negatives stand for their ancestor on the open level (`lift`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from poincare_taxa.blocks.schedules import Schedule, value_at
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.geometry import convert, polar
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "Curriculum",
    "Stage",
    "balanced_depths",
    "join_at_parent",
    "lift",
]


class Stage(NamedTuple):
    """Limits of the pairs during an epoch; None means no limit."""

    max_gap: int | None
    max_depth: int | None


@dataclass(frozen=True)
class Curriculum:
    """Schedules of the largest gap and the largest depth of pairs.

    Attributes
    ----------
    max_gap
        (epoch, most edges between ancestor and descendant or None).
    max_depth
        (epoch, greatest depth of the descendant or None).

    Raises
    ------
    ValueError
        If a schedule is not one (see `value_at`).
    """

    max_gap: Schedule = ((0, None),)
    max_depth: Schedule = ((0, None),)

    def __post_init__(self) -> None:
        self.at(0)

    @classmethod
    def progressive(cls, epochs: int, taxonomy: Taxonomy | Tree | TreeIndex) -> Self:
        """Near pairs before far ones: gaps 1, D/4, D/2 and all, for 20, 20, 20 and 40 % of epochs.

        D is the depth of the tree. This is taxembed's automatic schedule, without the steps that
        change nothing.

        Examples
        --------
        >>> Curriculum.progressive(50, Taxonomy.from_parents(range(-1, 20))).max_gap
        ((0, 1), (10, 5), (20, 10), (30, None))
        """
        deepest = taxonomy.max_depth
        gaps = [1, max(deepest // 4, 1), max(deepest // 2, 1), None]
        return cls(max_gap=_spread(gaps, [0, epochs // 5, 2 * epochs // 5, 3 * epochs // 5]))

    @classmethod
    def top_down(cls, epochs: int, taxonomy: Taxonomy | Tree | TreeIndex) -> Self:
        """One level after the other, evenly over the first two thirds of the epochs.

        Examples
        --------
        >>> Curriculum.top_down(12, Taxonomy.from_parents(range(-1, 4))).max_depth
        ((0, 1), (2, 2), (4, 3), (6, None))
        """
        deepest = taxonomy.max_depth
        starts = [level * (2 * epochs) // (3 * max(deepest, 1)) for level in range(deepest)]
        return cls(max_depth=_spread([*range(1, deepest), None], starts or [0]))

    def at(self, epoch: int) -> Stage:
        """Limits at an epoch."""
        return Stage(value_at(self.max_gap, epoch), value_at(self.max_depth, epoch))


def balanced_depths(taxonomy: Taxonomy | Tree | TreeIndex) -> dict[int, float]:
    """Return equal shares of all depths, for ``StratifiedPairs(tax, shares, by="depth")``.

    Among all pairs of a large tree nearly every descendant is a species; with these shares, each
    depth of the descendant is equally frequent.

    Examples
    --------
    >>> balanced_depths(Taxonomy.from_parents([-1, 0, 1]))
    {1: 0.5, 2: 0.5}
    """
    deepest = taxonomy.max_depth
    return dict.fromkeys(range(1, deepest + 1), 1 / deepest)


def lift(nodes: Tensor, tree: TreeIndex, max_depth: int) -> Tensor:
    """Replace nodes below a depth by their ancestors at that depth; −1 stays.

    A negative that is not related to its anchor remains unrelated if the anchor itself is not below
    that depth, so that lifted negatives are exact too.

    Examples
    --------
    >>> lift(torch.tensor([2, 1, -1]), TreeIndex(Taxonomy.from_parents([-1, 0, 1])), 1)
    tensor([ 1,  1, -1])
    """
    lifted = nodes.clone()
    below = ((nodes >= 0) & (tree.depth[nodes.clamp(min=0)] > max_depth)).nonzero(as_tuple=True)
    lifted[below] = tree.ancestor(nodes[below], torch.full_like(below[0], max_depth))
    return lifted


@torch.no_grad()
def join_at_parent(
    points: Tensor,
    tree: TreeIndex,
    depth: int,
    *,
    step: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Put the nodes of a level near their parents, in place, when they enter the training.

    Each gets its parent's point, moved by ``step`` in a random direction, because coincident points
    have no gradient towards each other.

    Parameters
    ----------
    points
        Table [n, coordinates]; row i is node i. Its coordinates are those of its ``manifold``,
        which must have ``to_polar`` and ``from_polar``, or of the unit ball without a manifold.
    tree
        The tree.
    depth
        Depth of the nodes, 1 … max depth.
    step
        Distance from the parent, > 0.
    generator
        Generator on the device of the points; torch's global one by default.

    Returns
    -------
    nodes
        Rows of the nodes.

    Raises
    ------
    ValueError
        If `depth` or `step` is out of its range, the table has another number of rows, or its
        manifold no polar coordinates.

    Examples
    --------
    >>> tree = TreeIndex(Taxonomy.from_parents([-1, 0, 0]))
    >>> points = torch.zeros(3, 2)
    >>> join_at_parent(points, tree, 1, step=0.5)
    tensor([1, 2])
    >>> convert.ball_to_polar(points)[0]
    tensor([0.0000, 0.5000, 0.5000])
    """
    if not 1 <= depth <= tree.max_depth:
        raise ValueError(f"depth must be in 1…{tree.max_depth}; got {depth}")
    if not step > 0:
        raise ValueError(f"step must be positive; got {step}")
    if len(points) != len(tree):
        raise ValueError(
            f"{len(points)} points for {len(tree)} nodes: row i must be node i of the tree"
        )
    to_polar, from_polar = convert.ball_to_polar, convert.polar_to_ball
    if (manifold := getattr(points, "manifold", None)) is not None:
        if not hasattr(manifold, "to_polar"):
            raise ValueError(f"{manifold} has no to_polar and from_polar; use one of this library")
        to_polar, from_polar = manifold.to_polar, manifold.from_polar
        step *= float(getattr(manifold, "c", 1.0)) ** 0.5  # its radii are in units of 1/√c
    nodes = tree.level_order[tree.level_start[depth] : tree.level_start[depth + 1]]
    radius, direction = to_polar(points.detach()[tree.parent[nodes]])
    way = torch.randn(
        direction.shape, dtype=direction.dtype, device=direction.device, generator=generator
    )
    way /= torch.linalg.vector_norm(way, dim=-1, keepdim=True)
    points[nodes] = from_polar(*_stepped(radius, direction, step, way))
    return nodes


def _stepped(r: Tensor, u: Tensor, step: float, way: Tensor) -> tuple[Tensor, Tensor]:
    """Move by a step from (r, u) along unit vectors of the frame, whose radial axis is u."""
    along = (way * u).sum(-1)
    across = way - along[:, None] * u
    origin = r == 0
    stretch = torch.sinh(torch.where(origin, 1, r))[:, None]
    radius, direction = polar.expmap(r, u, step * along, step * across / stretch)
    # The chart has no directions at the origin; the new direction is that of the step.
    radius = torch.where(origin, torch.full_like(r, step), radius)
    return radius, torch.where(origin[:, None], way, direction)


def _spread(values: Sequence[Any], starts: Sequence[int]) -> tuple[tuple[int, Any], ...]:
    """Make a schedule: the last of several values at one epoch, and repeated values once."""
    last = dict(zip(starts, values, strict=True))
    steps = list(last.items())
    return tuple(s for i, s in enumerate(steps) if i == 0 or s[1] != steps[i - 1][1])
