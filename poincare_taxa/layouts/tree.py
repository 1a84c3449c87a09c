r"""Constructive embedding: points of a taxonomy without training, one vectorised step per level.

A node at depth L, or at the distance L from the root by branch lengths, lies at radius r = τL. Its
direction is its parent's plus a small offset of length about e^{-r} (r the parent's radius), taken
from a separated code (`layouts.codes`). By the polar law of cosines ([R19] theorem 3.5.3; equation
(1) of `geometry.polar`)

.. math:: \sinh^2\tfrac d2 = \sinh^2\tfrac{r_1-r_2}2 + \sinh r_1 \sinh r_2 \tfrac{|u_1-u_2|^2}4

two nodes whose directions differ by 2e^{-r} are at the distance of two nodes whose paths from the
root separate at radius r: distance is τ times the tree distance. How well this holds depends on τ.
The largest τ is limited by the floating-point numbers that hold the offsets, so every offset is put
on the coordinates with the finest spacing.

**Use of floating-point precision.** A coordinate x resolves offsets down to eps·|x|, so a
coordinate that is still zero resolves offsets of any size. All directions therefore start at a pole
(1, 0, …, 0), whose other coordinates are zero, and a step changes as few of them as it needs:

- an only child has its parent's direction; so has, in a tall subtree, the child with the largest
  share of it;
- in a tall subtree, one whose levels span more than one mantissa, siblings are put on single axes
  (sparse codes). The axes chosen first were last changed many levels above, so that they neither
  collide with the last few offsets nor have used up their digits; then come unchanged axes;
- elsewhere codes are as compact as possible, over the axes that recent offsets used least.

Coordinates too coarse for a family are left as they are, bit for bit: directions are not
normalised again unless their length is off by more than a few eps. So the 2^{-24} of float32 limits
the range of *one coordinate*, not the depth of the tree: see docs/numerics.md.

**Branch lengths.** Two children at distances a and b (times τ) from a parent at radius r are at the
distance a + b if their directions differ by :math:`2\sqrt{q_a q_b}\,e^{-r}` with
:math:`q_a = 1 - e^{-2a}`, by the equation above and :math:`e^{-r} \ll 1`. So the offset of a leaf
is shortened by the factor :math:`q_a`, which is 1 but for edges near zero. A child with a subtree
whose nearest leaf is the distance l below it needs less of its own offset, because the subtree's
offsets, nearly orthogonal to it, separate its leaves from those of its siblings too: its factor is
:math:`(q_{a+l}^2 - κ e^{-2a} q_l^2)^{1/2}` with :math:`κ = 0.8` (1 for a subtree that spreads in
all directions evenly, 1/2 for one of two leaves). A node on an edge near zero so comes near to its
parent, and its children near to where those of the parent are. Without lengths the factor is 1.

Sources: [Sar11] Sarkar 2011 (children on a circle around the parent); [SDGR18] Sala, De Sa, Gu & Ré
2018, §3 (in n dimensions, by spherical codes); [R19] Ratcliffe, *Foundations of Hyperbolic
Manifolds*, 3rd ed. 2019. The nesting of directions and the choice of coordinates by their precision
are this library's.
"""

import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.files.progress import open_display
from poincare_taxa.layouts.codes import (
    Code,
    even_code,
    extent,
    sparse_code,
    tight_code,
    wide_code,
)
from poincare_taxa.taxonomy.preorder import group_rows
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = [
    "Layout",
    "Level",
    "Shape",
    "check_request",
    "families_by_level",
    "family_offsets",
    "fitted",
    "largest_tau",
    "layout",
    "layout_in_layers",
    "move_directions",
    "pole",
    "preferred_tau",
    "warn_of_limits",
]

_SPREAD = 0.45
"""Extent of a compact family's offsets, in units of 2e^{-r}. Siblings then have the distance 2τ, as
in the tree, and a child's subtree, whose extent is e^{-τ} times this one, does not overlap its
siblings' subtrees."""

_SPREAD_LAYERED = 0.5
"""The same for `layout_in_layers`: its larger τ makes subtrees smaller, which leaves families more
room. At a larger extent, members of a genus would be farther apart, relative to other distances,
than in the tree."""

_WIDEST = 2.0
"""Factor by which a large family may exceed its extent to keep its separation. A still larger
family has a smaller separation instead."""

_ROOT_SPREAD, _WIDEST_ANGLE = 2.0, 2.2
"""Angles in radians between the root's children and the pole. They cover the whole sphere, since
paths that separate at radius 0 do so at an angle of π."""

_HEAVY = 0.5
"""In a tall subtree, a child with more than this share of it keeps the parent's direction."""

_FINE = 1 / 8
"""A coordinate is fine enough for a family if its spacing is at most this share of the separation
of siblings."""

_FARTHEST = 0.7
"""Largest extent of a family of `Shape`, in units of 2e^{-r}: the distance s from a parent makes
an edge longer by log(1 + s²), which is 0.4 here, and a smaller one siblings nearer."""

_OLD = 8.0
"""A coordinate of more than this multiple of a family's extent was last changed two or more levels
above."""

_NEAR_POLE = 0.95
"""Cosine of the angle to the pole up to which the sphere is replaced by its tangent space there."""

_RESERVE = 3.5
"""Part of a mantissa, in nats, that `_FINE` and the smaller separation of large families use."""

_NESTED = 0.8
"""κ, the share of a subtree's own offsets that its root's offset leaves out."""

_MAX_RADIUS = {torch.float64: 320.0, torch.float32: 80.0}
"""Radius at which e^{-r} (float32), or the square of an offset in float64, nearly underflows."""

_TOLERATED = 1e-3
"""Share of unresolved taxa above which a smaller τ is tried."""


class Layout(NamedTuple):
    """Points of a taxonomy's nodes in polar coordinates, and how they were computed."""

    radius: Tensor
    """Hyperbolic distance from the origin, [n]: τ times the distance from the root."""
    direction: Tensor
    """Unit vectors, [n, dim], of length 1 to 16 eps: normalising them again would change the last
    bits, which separate leaves."""
    info: dict[str, Any]
    """``tau``, the radius per level (per unit of length, where the tree has branch lengths: then
    ``lengths`` is True); ``unresolved``, the number of nodes that share their parent's direction
    because no coordinate was fine enough to separate siblings."""


def layout(
    taxonomy: Taxonomy | Tree,
    dim: int = 10,
    *,
    tau: float | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Layout:
    """Compute a point for every node so that distance is proportional to tree distance.

    Parameters
    ----------
    taxonomy
        A taxonomy or its tree. Where it has branch lengths, tree distance is the sum of them;
        ``taxonomy.without_lengths()`` counts edges.
    dim
        Number of coordinates of a direction, at least 2.
    tau
        Radius per level, or per unit of branch length, > 0. By default 0.85 + 3 / (dim - 1), a
        larger radius where few dimensions leave large families little room. The default is less
        where the tree is too deep for `dtype`: no radius exceeds 320 (float64) or 80 (float32), and
        τ decreases while that clearly lowers the number of unresolved nodes. Of a tree with branch
        lengths the default is the largest τ of a few that resolves all but one in a thousand nodes,
        because relative errors of distances are about as 1/τ: mostly that of radius 320 or 80.
        ``tau=28 / tax.tree.height.max()`` keeps all points inside a float64 ball.
    dtype
        Dtype of the result, ``torch.float64`` or ``torch.float32``.
    seed
        Seed of the orientation of families.

    Returns
    -------
    layout
        Radius [n], direction [n, dim] and info.

    Warns
    -----
    UserWarning
        If more than one in a thousand nodes share their siblings' direction, or τ is less than
        half of its default because of depth and `dtype`.
    BranchLengthWarning
        If branch lengths are negative or missing; see `Tree.height`.

    Raises
    ------
    ValueError
        If `dim` < 2, `dtype` is another one, `tau` is not positive or gives the deepest node a
        radius beyond the largest one, or all branch lengths are 0.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1, 1])
    >>> points = layout(tax, dim=4, tau=1.0)
    >>> points.radius.tolist()
    [0.0, 1.0, 2.0, 2.0, 1.0]
    """
    tree = tree_of(taxonomy)
    largest = check_request(tree, dim, tau, dtype)
    weighted = tree.lengths is not None
    wanted = 0.0 if weighted else preferred_tau(dim) if tau is None else tau
    levels = list(families_by_level(tree))
    if tau is not None:
        direction, unresolved = _directions(levels, dim, tau, dtype, seed)
    elif weighted:
        tau, direction, unresolved = _resolved(levels, dim, largest, dtype, seed)
    else:
        tau, direction, unresolved = fitted(
            lambda tau: _directions(levels, dim, tau, dtype, seed), min(wanted, largest), len(tree)
        )
    warn_of_limits(unresolved, len(tree), _extent(tree), tau, wanted, dim, dtype)
    return _as_layout(tree, tau, direction, unresolved)


def warn_of_limits(
    unresolved: int,
    n: int,
    extent: str,
    tau: float,
    wanted: float,
    dim: int,
    dtype: torch.dtype,
) -> None:
    """Warn where siblings share a direction, or τ is less than half of what was wanted."""
    limits = f"{dim} coordinates of {dtype}"
    if unresolved > _TOLERATED * n:
        warnings.warn(
            f"{unresolved} of {n} taxa share their siblings' direction: a tree {extent} has more "
            f"levels than {limits} resolve. Use more dimensions or float64.",
            stacklevel=3,
        )
    elif tau < 0.5 * wanted:
        warnings.warn(
            f"a tree {extent} gets radius {tau:.2g} per level in {limits}, where large families "
            f"need {preferred_tau(dim):.2g}: nearest neighbours will be less accurate. Use more "
            "dimensions or float64.",
            stacklevel=3,
        )


def check_request(tree: Tree, dim: int, tau: float | None, dtype: torch.dtype) -> float:
    """Check the arguments of a layout, and return the largest τ."""
    if dim < 2:
        raise ValueError(
            f"dim must be at least 2, got {dim}: one dimension has no room for siblings"
        )
    if dtype not in _MAX_RADIUS:
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}")
    if tree.lengths is not None and len(tree) > 1 and tree.height.max() == 0:
        raise ValueError(
            "all branch lengths are 0, so that all taxa are at one place: are they lengths? "
            "taxonomy.without_lengths() counts edges"
        )
    largest = largest_tau(tree, dtype)
    if tau is not None and not 0 < tau <= largest:
        raise ValueError(
            f"tau must be in (0, {largest:.4g}] for a tree {_extent(tree)} in {dtype}, got {tau}"
        )
    return largest


def _extent(tree: Tree) -> str:
    """How high the tree is, in words."""
    if tree.lengths is None:
        return f"{max(tree.max_depth, 1)} levels deep"
    return f"of height {tree.height.max():.4g} by branch lengths"


def layout_in_layers(tree: Tree, dim: int, tau: float, dtype: torch.dtype, seed: int) -> Layout:
    """Compute a layout with wider families than `layout` and siblings on coarse coordinates too.

    `refinement` proposes such layouts; see `_layered_axes`. Arguments and result are those of
    `layout`; no argument is checked.
    """
    levels = list(families_by_level(tree))
    direction, unresolved = _directions(levels, dim, tau, dtype, seed, layered=True)
    return _as_layout(tree, tau, direction, unresolved)


def largest_tau(tree: Tree, dtype: torch.dtype) -> float:
    """Radius per level, or unit of branch length, that gives the highest node the largest radius.

    That is the largest of the dtype.
    """
    return _MAX_RADIUS[dtype] / (float(tree.height.max()) or 1.0)


def _as_layout(tree: Tree, tau: float, direction: NDArray[Any], unresolved: int) -> Layout:
    directions = torch.from_numpy(direction)
    radius = tau * torch.tensor(tree.height, dtype=directions.dtype)
    info = {"tau": tau, "unresolved": unresolved}
    return Layout(radius, directions, info if tree.lengths is None else {**info, "lengths": True})


def preferred_tau(dim: int) -> float:
    """τ that large families of the NCBI taxonomy need in few dimensions (docs/quality.md)."""
    return 0.85 + 3 / (dim - 1)


def fitted(
    directions: Callable[[float], tuple[NDArray[Any], int]], tau: float, n: int
) -> tuple[float, NDArray[Any], int]:
    """Decrease τ while this clearly lowers the number of unresolved ones of n nodes.

    Returns
    -------
    tau, direction, unresolved
        τ, and what `directions` returns for it.
    """
    best = (tau, *directions(tau))
    for _ in range(4):
        if best[2] <= _TOLERATED * n:
            break
        tau *= 0.8
        candidate = (tau, *directions(tau))
        if candidate[2] > 0.7 * best[2]:
            break
        best = candidate
    return best


def _resolved(
    levels: "list[Level]", dim: int, largest: float, dtype: torch.dtype, seed: int
) -> tuple[float, NDArray[Any], int]:
    """Return the largest of some τ that leaves few nodes unresolved, as `_fitted` does.

    Where none does, the one that leaves fewest; the last is 1/16 of the largest.
    """
    best = None
    for tau in largest * 0.5 ** np.linspace(0, 4, 9):
        candidate = (float(tau), *_directions(levels, dim, float(tau), dtype, seed))
        if best is None or candidate[2] < best[2]:
            best = candidate
        if best[2] <= _TOLERATED * len(best[1]):
            break
    assert best is not None
    return best


class Level(NamedTuple):
    """Families whose parents have one depth. Children: family by family, larger subtrees first."""

    parent: NDArray[np.int64]
    """[f] row of each parent."""
    child: NDArray[np.int64]
    """[c] row of each child."""
    family: NDArray[np.int64]
    """[c] index of each child's parent in `parent`."""
    first: NDArray[np.int64]
    """[f] index of each family's first child in `child`."""
    children: NDArray[np.int64]
    """[f] number of children."""
    heavy: NDArray[np.bool_]
    """[f] whether the first child's subtree exceeds the share `_HEAVY` of the family's."""
    height: NDArray[Any]
    """[f] distance of each parent from the root, int64 of edges or float64 of branch lengths."""
    bottom: NDArray[Any]
    """[f] height of the highest parent in the subtree."""
    edge: NDArray[Any] | None
    """[c] branch length above each child; None where the tree has none."""
    reach: NDArray[Any] | None
    """[c] distance of each child from its nearest leaf."""

    def some(self, chosen: NDArray[np.bool_]) -> "Level":
        """Return the level of some of its families, bool [f]."""
        theirs, count = chosen[self.family], self.children[chosen]
        return Level(
            parent=self.parent[chosen],
            child=self.child[theirs],
            family=np.repeat(np.arange(len(count)), count),
            first=np.cumsum(count) - count,
            children=count,
            heavy=self.heavy[chosen],
            height=self.height[chosen],
            bottom=self.bottom[chosen],
            edge=None if self.edge is None else self.edge[theirs],
            reach=None if self.reach is None else self.reach[theirs],
        )


def families_by_level(
    tree: Tree, *, edges: bool = False, size: NDArray[np.integer] | None = None
) -> Iterator[Level]:
    """Group the children of a tree by the depth of their parents, from the root downwards.

    With `edges`, levels have the lengths of edges of a tree without branch lengths too: 1. Sizes of
    subtrees [n] are given where the tree has only a part of them.
    """
    depth, parent = tree.depth, tree.parent
    size = tree.subtree_size if size is None else size
    weighted = edges or tree.lengths is not None
    height = tree.height.astype(np.float64 if weighted else np.int64)
    # Rows of each depth from 1 on, in preorder, so that the children of one parent are adjacent.
    rows = group_rows(depth)[1:]
    # From the leaves upwards: the highest inner node of each subtree, and its lowest leaf.
    bottom = np.where(size > 1, height, 0)
    leaf = np.where(size > 1, np.inf, height) if weighted else None
    for nodes in reversed(rows):
        first = np.flatnonzero(np.diff(parent[nodes], prepend=-2))
        above = parent[nodes[first]]
        bottom[above] = np.maximum(bottom[above], np.maximum.reduceat(bottom[nodes], first))
        if leaf is not None:
            leaf[above] = np.minimum.reduceat(leaf[nodes], first)
    # From the root downwards: each family's children, by size of their subtrees.
    for nodes in rows:
        child = nodes[np.lexsort((-size[nodes], parent[nodes]))]
        first = np.flatnonzero(np.diff(parent[child], prepend=-2))
        above = parent[child[first]].astype(np.int64)
        count = np.diff(np.append(first, len(child)))
        yield Level(
            parent=above,
            child=child,
            family=np.repeat(np.arange(len(above)), count),
            first=first,
            children=count,
            heavy=size[child[first]] > _HEAVY * (size[above] - 1),
            height=height[above],
            bottom=bottom[above],
            edge=None if leaf is None else height[child] - height[parent[child]],
            reach=None if leaf is None else leaf[child] - height[child],
        )


def _directions(
    levels: list[Level],
    dim: int,
    tau: float,
    dtype: torch.dtype,
    seed: int,
    layered: bool = False,
) -> tuple[NDArray[Any], int]:
    """Directions [n, dim] of a dtype, and the number of unresolved nodes.

    With `layered`, families are wider and use coarse coordinates too; see `_layered_axes`.
    """
    n = 1 + sum(len(level.child) for level in levels)
    direction = np.zeros((n, dim), torch.empty(0, dtype=dtype).numpy().dtype)
    direction[0] = pole(dim)
    rng = np.random.default_rng(seed)
    show = open_display()
    placed, unresolved = 1, 0
    for level in levels:
        show(f"layout · {tau:.3g} per level", placed, n)
        placed += len(level.child)
        if (level.children == 1).all():
            direction[level.child] = direction[level.parent]
            continue
        offset, lost = family_offsets(level, direction[level.parent], tau, rng, layered)
        direction[level.child] = move_directions(
            direction[level.parent][level.family], offset, layered
        )
        unresolved += lost
    return direction, unresolved


def pole(dim: int) -> NDArray[np.float64]:
    """Direction of the root: all its coordinates but the first are 0."""
    return np.eye(1, dim)[0]


class Shape(NamedTuple):
    """How wide the families of `distances.distance_layout` are."""

    growth: float
    """Separation of the children of small families, where 1 is that of the tree."""
    centred: bool
    """Whether the heaviest child of a tall family keeps the parent's direction, as in `layout`."""
    shift: float
    """Radius of all nodes but the root beyond τ times their distance from the root."""


class _Axes(NamedTuple):
    """The coordinates on which each family of a level puts its children."""

    fine: NDArray[np.bool_]
    """[f, m] coordinates that are fine enough for the family's separation."""
    layers: NDArray[np.int64]
    """[f] number of layers of siblings on one coarse coordinate; 1 where there are none."""
    step: NDArray[np.float64]
    """[f] offset from layer to layer."""
    coarse: NDArray[np.int64]
    """[f] the coordinate of the layers."""


def family_offsets(
    level: Level,
    above: NDArray[Any],
    tau: float,
    rng: np.random.Generator,
    layered: bool,
    shape: Shape | None = None,
) -> tuple[NDArray[np.float64], int]:
    """Offsets of a level's children in the tangent space of the pole, of dimension m = dim - 1.

    Parameters
    ----------
    level, above
        The families, and the directions of their parents, [f, dim].
    tau
        Radius per level, or per unit of branch length.
    rng
        Source of the orientation of families.
    layered
        As in `_directions`.
    shape
        Families whose children are at the tree's distance from each other, instead of compact ones.

    Returns
    -------
    offset
        [c, m]; `move_directions` applies them to the parents' directions.
    unresolved
        Number of siblings that have no offset because no coordinate is fine enough.
    """
    families, dim = above.shape
    m = dim - 1
    spread = _SPREAD_LAYERED if layered else _SPREAD
    if shape is None:
        unit = compact_extents(level.parent, tau * level.height, layered)
    else:
        unit = 2 * spread * np.exp(-tau * level.height) * np.exp(-shape.shift)
    factor = _shortening(level, tau)

    # 1. Coordinates that can hold the family's offsets.
    changed = np.abs(above[:, 1:])
    spacing = np.spacing(changed).astype(np.float64)
    if layered:
        grains = np.where(above[:, 0] > _NEAR_POLE, 1, 2)
        axes = _layered_axes(level.children, spacing, grains, unit)
    else:
        axes = fine_axes(level.children, spacing, unit)
    dimensions = axes.fine.sum(1)

    # 2. Tall families, whose levels below span more than a mantissa, and those among them whose
    #    first child keeps the parent's direction.
    mantissa = -np.log(np.finfo(above.dtype).eps)
    tall = tau * (level.bottom - level.height) > mantissa - _RESERVE
    centred = tall & level.heavy & (level.children > 1)
    if shape is not None and not shape.centred:
        centred[:] = False

    # 3. Order and orientation of each family's axes.
    order = _axis_order(changed, unit, rng.random((families, m)), tall, axes.fine)
    sign = rng.integers(0, 2, (families, m)) * 2.0 - 1

    # 4. Codes. Families of one kind share a code, each with its own axes and signs.
    offset = np.zeros((len(level.child), m))
    kinds, kind = np.unique(
        np.stack([level.children, dimensions, tall, centred, axes.layers], axis=1),
        axis=0,
        return_inverse=True,
    )
    members = group_rows(kind)
    for (k, usable, sparse, centre, layers), family in zip(kinds.tolist(), members, strict=True):
        if k == 1 or (usable == 0 and layers == 1):
            continue
        nth = np.arange(k)
        places = level.first[family][:, None] + nth  # [families of this kind, k]
        if layers > 1:  # The middle layer comes first, then those on either side in turn.
            layer = nth % layers
            layer = np.where(layer % 2, layer + 1, -layer) // 2
            offset[places, axes.coarse[family, None]] = layer * axes.step[family, None]
            if usable == 0:
                continue
            code = tight_code(-(-k // layers), usable)[nth // layers]
        elif sparse and (shape is None or centre or k > 3):  # Up to 3, a tight code is as sparse.
            code = (sparse_code if shape is None else even_code)(k, usable, bool(centre))
        else:
            code = (tight_code if shape is None else wide_code)(k, usable)
        used = order[family, :usable]
        if shape is None:
            scaled = scaled_codes(code, unit[family])
        else:
            scaled = _at_distance(code, unit[family] / spread, shape.growth)
        turned = scaled * sign[family[:, None], used][:, None, :]
        turned *= factor[places][:, :, None]
        offset[places[:, :, None], used[:, None, :]] = turned
    alike = level.children - np.where(axes.layers > 1, axes.layers, 0)
    return offset, int(alike[(dimensions == 0) & (level.children > 1)].sum())


def compact_extents(
    parent: NDArray[np.int64], radius: NDArray[Any], layered: bool
) -> NDArray[np.float64]:
    """Extent of a compact family around each parent [f] at a radius [f]."""
    unit = 2 * (_SPREAD_LAYERED if layered else _SPREAD) * np.exp(-radius)
    unit[parent == 0] = _ROOT_SPREAD
    return unit


def _shortening(level: Level, tau: float) -> NDArray[np.float64]:
    """Factor of each child's offset, [c]: less than 1 where its branch is short; see the module."""
    if level.edge is None or level.reach is None:
        return np.ones(len(level.child))
    edge, reach = tau * level.edge, tau * level.reach
    whole, below = np.expm1(-2 * (edge + reach)), np.expm1(-2 * reach)
    return np.sqrt(np.maximum(whole**2 - _NESTED * np.exp(-2 * edge) * below**2, 0))


def fine_axes(
    children: NDArray[np.int64], spacing: NDArray[np.float64], unit: NDArray[np.float64]
) -> _Axes:
    """Coordinates fine enough for each family, if its code used all of them; no layers."""
    m = spacing.shape[1]
    # Extent of a code of separation 1 before the code is known: k points fill R^m to k^{1/m}.
    roughly = np.maximum(0.7, 0.7 * (children / 2) ** (1 / m))
    separation = unit * np.clip(roughly / 0.8, 1, _WIDEST) / roughly
    families = len(children)
    return _Axes(
        fine=spacing <= _FINE * separation[:, None],
        layers=np.ones(families, np.int64),
        step=np.zeros(families),
        coarse=np.zeros(families, np.int64),
    )


def _layered_axes(
    children: NDArray[np.int64],
    spacing: NDArray[np.float64],
    grains: NDArray[np.int64],
    unit: NDArray[np.float64],
) -> _Axes:
    """Coordinates fine enough for each family, and layers on the best one of the others.

    A family has only as many dimensions as it has fine coordinates, and the fewer they are, the
    smaller its separation: here a coordinate must be fine enough for *that* separation. On the
    finest of the other coordinates siblings are put in layers, at whole multiples of its spacing,
    which floating point represents exactly. Far from the pole the layers are at multiples of twice
    the spacing, because there `move_directions` distributes a step over two coordinates.

    Parameters
    ----------
    children
        Number of children of each family, [f].
    spacing
        Distance to the next larger number at each coordinate of the parents, [f, m].
    grains
        Spacings from layer to layer, at least: 1 near the pole, 2 elsewhere, [f].
    unit
        Extent of a compact family, [f].
    """
    m = spacing.shape[1]
    # 1. The largest number d of dimensions such that d coordinates are fine enough for the
    #    separation of a code in d dimensions.
    finest = np.sort(spacing, axis=1)
    fine_enough = np.zeros(len(children))
    for d in range(1, m + 1):
        needed = _FINE * _separation(children, d, unit)
        fine_enough = np.where(finest[:, d - 1] <= needed, needed, fine_enough)
    fine = spacing <= fine_enough[:, None]
    dimensions = fine.sum(1)

    # 2. The finest of the other coordinates, where its spacing fits into the family at all.
    others = np.where(fine, np.inf, spacing)
    coarse = others.argmin(1)
    grain = others.min(1) * grains
    fits = np.isfinite(grain) & (grain < unit)
    grain = np.where(fits, grain, unit)

    # 3. Layers as far apart as siblings are in one dimension more, as many as the extent allows.
    step = np.maximum(1, np.round(_separation(children, dimensions + 1, unit) / grain)) * grain
    reach = 0.8 * _WIDEST * unit
    most = np.where(dimensions == 0, children, np.ceil(children**0.7))
    layers = np.minimum(2 * np.floor(reach / step) + 1, most).astype(np.int64)
    wanted = np.where(dimensions == 0, children > 1, children > 3)
    return _Axes(fine, np.where(fits & wanted & (layers > 1), layers, 1), step, coarse)


def _separation(
    children: NDArray[np.int64], dimensions: int | NDArray[np.int64], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Estimate the separation of siblings in d dimensions: k points fill R^d to k^{1/d}."""
    dimensions = np.broadcast_to(dimensions, children.shape)
    line = np.maximum(0.5, (children - 1) / 2)
    roughly = np.where(
        dimensions == 1, line, np.maximum(0.7, 0.7 * (children / 2) ** (1 / dimensions))
    )
    return unit * np.clip(roughly / 0.8, 1, _WIDEST) / roughly


def _axis_order(
    changed: NDArray[Any],
    unit: NDArray[np.float64],
    tie: NDArray[np.float64],
    tall: NDArray[np.bool_],
    fine: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """Order in which each family uses its axes [f, m], ties at random; coarse axes come last.

    Tall families prefer axes that were changed long ago, the nearest in scale first, then unchanged
    ones, then those changed recently. Other families prefer the axes with the smallest coordinate.
    """
    with np.errstate(divide="ignore"):
        scale = np.log(changed.astype(np.float64) / unit[:, None])
    old, unchanged = scale > np.log(_OLD), changed == 0
    sparing = np.where(
        old, -1 / (1 + np.abs(scale)), np.where(unchanged, tie, 2 - 1 / (1 + np.abs(scale)))
    )
    least_used = np.maximum(scale, np.log(1e-6)) + 0.01 * tie
    preference = np.where(tall[:, None], sparing, least_used)
    return np.argsort(np.where(fine, preference, np.inf), axis=1, kind="stable")


def scaled_codes(code: Code, unit: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale a code [k, m] to each family's extent: [f, k, m].

    The extent is `unit`, or up to `_WIDEST` times that for large codes.
    """
    reach = extent(code) or 1.0
    scale = np.minimum(unit * np.clip(reach / 0.8, 1, _WIDEST), _WIDEST_ANGLE) / reach
    return code * scale[:, None, None]


def _at_distance(code: Code, unit: NDArray[np.float64], growth: float) -> NDArray[np.float64]:
    """Scale a code [k, m] so that siblings are at the tree's distance: [f, k, m].

    Their separation is `unit` (2e^{-r}) times `growth`, or less where the code's extent would
    exceed `_FARTHEST`.
    """
    return code * (unit * min(growth, _FARTHEST / (extent(code) or 1.0)))[:, None, None]


def move_directions(
    direction: NDArray[Any], offset: NDArray[np.float64], keep_axes: bool = False
) -> NDArray[Any]:
    """Move directions [c, dim] by offsets [c, dim - 1] that are tangent at the pole.

    With `keep_axes`, an offset near the pole changes only its own coordinates and the first one. A
    reflection would add a fine coordinate to a coarse one there.
    """
    u = direction.astype(np.float64)
    step = np.concatenate([np.zeros((len(u), 1)), offset], axis=1)
    # 1. From the pole's tangent space to that of u, as `reflect`, with the sums of the first
    #    versions to the bit: the order of a sum, and so its last bit, depends on the memory.
    mirror = -u
    mirror[:, 0] += 1
    length = (mirror**2).sum(1)
    off_pole = length > 1e-20
    mirror, length = mirror[off_pole], length[off_pole]
    step[off_pole] -= (2 * (step[off_pole] * mirror).sum(1) / length)[:, None] * mirror
    if keep_axes:
        near = u[:, 0] > _NEAR_POLE
        step[near, 1:] = offset[near]
        step[near, 0] = -(u[near, 1:] * offset[near]).sum(1) / u[near, 0]

    # 2. A short step is added to the stored directions: coordinates without it keep their bits.
    moved = direction + step.astype(direction.dtype)
    # 3. A step too long to be added follows the great circle, and its end is normalised.
    eps = np.finfo(direction.dtype).eps
    long = np.abs((moved.astype(np.float64) ** 2).sum(1) - 1) > 16 * eps
    if long.any():
        angle = np.linalg.norm(step[long], axis=1)[:, None]
        turned = u[long] * np.cos(angle) + step[long] * np.sinc(angle / np.pi)
        moved[long] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return moved


def reflect(u: NDArray[np.float64], vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Reflect vectors [..., dim] so that the pole and directions u [..., dim] change places.

    The pole's tangent space so becomes that of u, and back. No coordinate in which u is zero
    changes.
    """
    mirror = -u
    mirror[..., 0] += 1
    length = (mirror**2).sum(-1)
    safe = np.where(length > 1e-20, length, np.inf)  # At the pole nothing is reflected.
    return vectors - (2 * (vectors * mirror).sum(-1) / safe)[..., None] * mirror
