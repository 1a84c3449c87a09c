r"""Constructive embedding: a taxonomy's points without training, one vectorised step per level.

A node at depth L lies at radius r = τL. Its direction is its parent's plus a small offset of length
about e^{-r} (r the parent's radius), taken from a separated code (`layouts.codes`). By the
polar law of cosines

.. math:: \sinh^2\tfrac d2 = \sinh^2\tfrac{r_1-r_2}2 + \sinh r_1 \sinh r_2 \tfrac{|u_1-u_2|^2}4

two nodes whose directions differ by 2e^{-r} are as far apart as if their paths met at radius r:
distance is τ times the tree's. How well that holds depends on τ, and τ is limited by the
floating-point numbers that hold the offsets, so the offsets are laid where these are finest.

**Where floating-point precision goes.** A coordinate x resolves offsets down to eps·|x|, so one
that is still zero resolves everything. All directions therefore start at a pole (1, 0, …, 0), whose
other coordinates are untouched, and a step touches as few as it needs:

- an only child, and in a tall subtree the child that holds most of it, keep the parent's direction;
- in a tall subtree, one whose levels span more than one mantissa, siblings are put on single axes
  (sparse codes), preferring axes touched so far above that they neither clash with the last few
  offsets nor have run out of digits, then untouched ones;
- elsewhere codes are as tight as possible, over the axes that recent offsets used least.

Coordinates too coarse for a family are left as they are, bit for bit: directions are never
renormalised unless their length is off by more than a few eps. So 2^{-24} of float32 limits the
span of *one coordinate*, not of the tree: see docs/numerics.md.

Sources: [Sar11] Sarkar 2011 (children on a circle around the parent); [SDGR18] Sala, De Sa, Gu & Ré
2018, §3 (in n dimensions, by spherical codes); the nesting of directions and the bookkeeping of
precision are this library's.
"""

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.layouts.codes import extent, sparse_code, tight_code
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["Layout", "layout"]

_SPREAD = 0.45
"""Reach of a compact family's offsets, in units of 2e^{-r}: siblings are then 2τ apart, as in the
tree, and a child's subtree (which reaches e^{-τ} times as far) stays clear of its siblings'."""

_SPREAD_REFINED = 0.5
"""The same for `in_rows`: where e^{-τ} is small, subtrees leave families more room. Wider still,
and members of a genus stand farther apart, next to other distances, than in the tree."""

_WIDEST = 2.0
"""How much further a huge family may reach to keep its separation. Beyond that it thins out."""

_ROOT_SPREAD, _WIDEST_ANGLE = 2.0, 2.2
"""Angles in radians at which the root's children stand from the pole: all around the sphere, for
paths that meet at radius 0 meet at an angle of π."""

_HEAVY = 0.5
"""A child with more than this share of a tall family's subtree keeps the family's direction."""

_FINE = 1 / 8
"""A coordinate serves a family if its spacing is below this share of the siblings' separation."""

_RECENT = 8.0
"""A coordinate this many times a family's reach was touched two or more levels above."""

_NEAR_POLE = 0.95
"""Cosine of the angle to the pole up to which the sphere is taken for its tangent space there."""

_RESERVE = 3.5
"""Of a mantissa's nats, what `_FINE` and the finer separation of big families take."""

_MAX_RADIUS = {torch.float64: 320.0, torch.float32: 80.0}
"""Where e^{-r} (float32) and the square of an offset in float64 arithmetic come near underflow."""

_TOLERATED = 1e-3
"""Share of taxa without a direction of their own above which a smaller τ is tried."""


class Layout(NamedTuple):
    """Points of a taxonomy's nodes in polar coordinates, and how they were made."""

    radius: Tensor
    """Hyperbolic distance from the origin, [n]; strictly increasing in depth."""
    direction: Tensor
    """Unit vectors, [n, dim]. Unit to 16 eps and not further: their last bits carry the leaves."""
    info: dict[str, Any]
    """``tau``; ``unresolved``, the number of nodes that share their parent's direction because no
    coordinate was fine enough to tell siblings apart."""


def layout(
    taxonomy: Taxonomy,
    dim: int = 10,
    *,
    tau: float | None = None,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Layout:
    """Place every node so that distance is proportional to tree distance, without training.

    Parameters
    ----------
    taxonomy
        The tree.
    dim
        Number of coordinates of a direction, at least 2.
    tau
        Radius per level, > 0. By default 0.85 + 3 / (dim - 1), which gives large families the room
        that few dimensions deny them, or less where the tree is too deep for `dtype`: no radius
        beyond 320 (float64) or 80 (float32), and as few unresolved nodes as possible.
    dtype
        Of the result, ``torch.float64`` or ``torch.float32``.
    seed
        For the orientation of families.

    Returns
    -------
    layout
        Radius [n], direction [n, dim] and info.

    Warns
    -----
    UserWarning
        If more than one in a thousand nodes share their siblings' direction, or depth and `dtype`
        leave less than half the default radius per level.

    Raises
    ------
    ValueError
        If `dim` < 2, `dtype` is another one, or `tau` is not positive or takes the deepest node
        beyond the largest radius.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1, 1])
    >>> points = layout(tax, dim=4, tau=1.0)
    >>> points.radius.tolist()
    [0.0, 1.0, 2.0, 2.0, 1.0]
    """
    if dim < 2:
        raise ValueError(
            f"dim must be at least 2, got {dim}: one dimension has no room for siblings"
        )
    if dtype not in _MAX_RADIUS:
        raise ValueError(f"dtype must be torch.float64 or torch.float32, got {dtype}")
    deepest = max(taxonomy.max_depth, 1)
    largest = largest_tau(taxonomy, dtype)
    if tau is not None and not 0 < tau <= largest:
        raise ValueError(
            f"tau must be in (0, {largest:.4g}] for a tree {deepest} levels deep in {dtype}, "
            f"got {tau}"
        )
    levels = list(_levels(taxonomy))
    wanted = _preferred(dim) if tau is None else tau
    if tau is not None:
        direction, unresolved = _directions(taxonomy, levels, dim, tau, dtype, seed)
    else:
        tau, direction, unresolved = _fitted(taxonomy, levels, dim, largest, dtype, seed)
    if unresolved > _TOLERATED * len(taxonomy):
        warnings.warn(
            f"{unresolved} of {len(taxonomy)} taxa share their siblings' direction: a tree "
            f"{deepest} levels deep has more levels than {dim} coordinates of {dtype} resolve. "
            "Use more dimensions or float64.",
            stacklevel=2,
        )
    elif tau < 0.5 * wanted:
        warnings.warn(
            f"a tree {deepest} levels deep gets radius {tau:.2g} per level in {dim} coordinates of "
            f"{dtype}, where {_preferred(dim):.2g} keeps large families apart: expect blurred "
            "neighbourhoods. Use more dimensions or float64.",
            stacklevel=2,
        )
    return Layout(
        radius=tau * torch.tensor(taxonomy.depth, dtype=dtype),
        direction=torch.from_numpy(direction),
        info={"tau": tau, "unresolved": unresolved},
    )


def in_rows(taxonomy: Taxonomy, dim: int, tau: float, dtype: torch.dtype, seed: int) -> Layout:
    """Lay out as `layout` does, but wider, and on coarse coordinates too: see `refinement`."""
    levels = list(_levels(taxonomy))
    direction, unresolved = _directions(taxonomy, levels, dim, tau, dtype, seed, rows=True)
    radius = tau * torch.tensor(taxonomy.depth, dtype=dtype)
    return Layout(radius, torch.from_numpy(direction), {"tau": tau, "unresolved": unresolved})


def largest_tau(taxonomy: Taxonomy, dtype: torch.dtype) -> float:
    """Radius per level that takes the deepest node to the largest radius of a dtype."""
    return _MAX_RADIUS[dtype] / max(taxonomy.max_depth, 1)


def _preferred(dim: int) -> float:
    """τ that neighbourhoods on NCBI need; few dimensions crowd large families (docs/quality.md)."""
    return 0.85 + 3 / (dim - 1)


def _fitted(
    taxonomy: Taxonomy,
    levels: "list[_Level]",
    dim: int,
    largest: float,
    dtype: torch.dtype,
    seed: int,
) -> tuple[float, NDArray[Any], int]:
    """Directions for the largest τ, from the default down, that leaves few nodes unresolved."""
    tau = min(_preferred(dim), largest)
    best = (tau, *_directions(taxonomy, levels, dim, tau, dtype, seed))
    for _ in range(4):
        if best[2] <= _TOLERATED * len(taxonomy):
            break
        tau *= 0.8
        candidate = (tau, *_directions(taxonomy, levels, dim, tau, dtype, seed))
        if candidate[2] > 0.7 * best[2]:
            break
        best = candidate
    return best


class _Level(NamedTuple):
    """The families whose parents share a depth; children in families, larger subtrees first."""

    parent: NDArray[np.int64]  # [f]
    child: NDArray[np.int64]  # [c]
    family: NDArray[np.int64]  # [c] index into parent
    first: NDArray[np.int64]  # [f] index of a family's first child
    children: NDArray[np.int64]  # [f] how many
    heavy: NDArray[np.bool_]  # [f] the first child holds most of the subtree
    bottom: NDArray[np.int64]  # [f] depth of the deepest parent in the subtree


def _levels(taxonomy: Taxonomy) -> Iterator[_Level]:
    depth, parent = taxonomy.depth, taxonomy.parent
    size = taxonomy.end - np.arange(len(taxonomy))
    by_depth = np.argsort(depth, kind="stable")
    bounds = np.searchsorted(depth[by_depth], np.arange(taxonomy.max_depth + 2))
    rows = [by_depth[bounds[d] : bounds[d + 1]] for d in range(1, taxonomy.max_depth + 1)]
    bottom = np.where(size > 1, depth, 0).astype(np.int64)
    for nodes in reversed(rows):  # Rows of a level are sorted by parent: preorder.
        first = np.flatnonzero(np.diff(parent[nodes], prepend=-2))
        above = parent[nodes[first]]
        bottom[above] = np.maximum(bottom[above], np.maximum.reduceat(bottom[nodes], first))
    for nodes in rows:
        child = nodes[np.lexsort((-size[nodes], parent[nodes]))]
        first = np.flatnonzero(np.diff(parent[child], prepend=-2))
        above = parent[child[first]].astype(np.int64)
        count = np.diff(np.append(first, len(child)))
        yield _Level(
            parent=above,
            child=child,
            family=np.repeat(np.arange(len(above)), count),
            first=first,
            children=count,
            heavy=size[child[first]] > _HEAVY * (size[above] - 1),
            bottom=bottom[above],
        )


def _directions(
    taxonomy: Taxonomy,
    levels: list[_Level],
    dim: int,
    tau: float,
    dtype: torch.dtype,
    seed: int,
    rows: bool = False,
) -> tuple[NDArray[Any], int]:
    """Directions [n, dim] in the dtype that will hold them, and the number of unresolved nodes.

    With `rows`, families use coarse coordinates too; see `_in_rows`.
    """
    direction = np.zeros((len(taxonomy), dim), torch.empty(0, dtype=dtype).numpy().dtype)
    direction[0] = _pole(dim)
    rng = np.random.default_rng(seed)
    unresolved = 0
    for depth, level in enumerate(levels):
        if (level.children == 1).all():
            direction[level.child] = direction[level.parent]
            continue
        offset, lost = _offsets(level, direction[level.parent], depth, tau, rng, rows)
        direction[level.child] = _move(direction[level.parent][level.family], offset, rows)
        unresolved += lost
    return direction, unresolved


def _pole(dim: int) -> NDArray[np.float64]:
    """Direction of the root: all coordinates but one untouched."""
    return np.eye(1, dim)[0]


def _offsets(
    level: _Level,
    above: NDArray[Any],
    depth: int,
    tau: float,
    rng: np.random.Generator,
    in_rows: bool,
) -> tuple[NDArray[np.float64], int]:
    """Offsets [c, dim - 1] of a level's children from the pole's tangent space."""
    families, dim = above.shape
    m = dim - 1
    spread = _SPREAD_REFINED if in_rows else _SPREAD
    unit = 2 * spread * np.exp(-tau * depth) if depth else _ROOT_SPREAD
    # A family's reach and separation, before its code is known: k points fill R^m to k^{1/m}.
    roughly = np.maximum(0.7, 0.7 * (level.children / 2) ** (1 / m))
    separation = unit * np.clip(roughly / 0.8, 1, _WIDEST) / roughly

    touched = np.abs(above[:, 1:])
    spacing = np.spacing(touched).astype(np.float64)
    serves = spacing <= _FINE * separation[:, None]
    rows = np.ones(families, np.int64)
    step, coarse = np.zeros(families), np.zeros(families, np.int64)
    if in_rows:
        serves, rows, step, coarse = _in_rows(
            level.children, spacing, np.where(above[:, 0] > _NEAR_POLE, 1, 2), unit
        )
    dimensions = serves.sum(1)
    mantissa = -np.log(np.finfo(above.dtype).eps)
    tall = tau * (level.bottom - depth) > mantissa - _RESERVE
    centred = tall & level.heavy & (level.children > 1)

    # Axes in the order in which a family takes them; ties at random.
    with np.errstate(divide="ignore"):
        scale = np.log(touched.astype(np.float64) / unit)
    tie = rng.random((families, m))
    old = scale > np.log(_RECENT)
    fresh = touched == 0
    sparing = np.where(
        old, -1 / (1 + np.abs(scale)), np.where(fresh, tie, 2 - 1 / (1 + np.abs(scale)))
    )
    least_used = np.maximum(scale, np.log(1e-6)) + 0.01 * tie
    order = np.argsort(
        np.where(serves, np.where(tall[:, None], sparing, least_used), np.inf),
        axis=1,
        kind="stable",
    )
    sign = rng.integers(0, 2, (families, m)) * 2.0 - 1

    offset = np.zeros((len(level.child), m))
    kinds, kind = np.unique(
        np.stack([level.children, dimensions, tall, centred, rows], axis=1),
        axis=0,
        return_inverse=True,
    )
    members = np.split(np.argsort(kind, kind="stable"), np.cumsum(np.bincount(kind))[:-1])
    for (k, usable, sparse, centre, count), family in zip(kinds.tolist(), members, strict=True):
        if k == 1 or (usable == 0 and count == 1):
            continue
        rank = np.arange(k)
        rows_of = level.first[family][:, None] + rank
        if count > 1:  # The middle row first, then on either side in turn.
            row = rank % count
            row = np.where(row % 2, row + 1, -row) // 2
            offset[rows_of, coarse[family, None]] = row * step[family, None]
            if usable == 0:
                continue
            code = tight_code(-(-k // count), usable)[rank // count]
        else:
            code = sparse_code(k, usable, bool(centre)) if sparse else tight_code(k, usable)
        reach = extent(code) or 1.0
        code = code * (min(unit * np.clip(reach / 0.8, 1, _WIDEST), _WIDEST_ANGLE) / reach)
        axes = order[family, :usable]
        turned = code * sign[family[:, None], axes][:, None, :]
        offset[rows_of[:, :, None], axes[:, None, :]] = turned
    together = level.children - np.where(rows > 1, rows, 0)
    return offset, int(together[(dimensions == 0) & (level.children > 1)].sum())


def _in_rows(
    children: NDArray[np.int64],
    spacing: NDArray[np.float64],
    grains: NDArray[np.int64],
    unit: float,
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Which coordinates serve each family, and rows on the best of those that do not.

    A family has only as many dimensions as serve it, and lies the closer the fewer they are: here a
    coordinate must be fine enough for *that* separation. On the finest of the others siblings
    stand in rows, at whole multiples of its spacing, which floating point holds exactly; of twice
    its spacing far from the pole, where a step along one coordinate turns into steps along two.

    Returns
    -------
    serves, rows, step, axis
        [f, m]; the number of rows, 1 for none; the offset from row to row; the coordinate.
    """
    m = spacing.shape[1]
    finest = np.sort(spacing, axis=1)
    fine_enough = np.zeros(len(children))
    for d in range(1, m + 1):
        needed = _FINE * _separation(children, d, unit)
        fine_enough = np.where(finest[:, d - 1] <= needed, needed, fine_enough)
    serves = spacing <= fine_enough[:, None]
    dimensions = serves.sum(1)

    others = np.where(serves, np.inf, spacing)
    axis = others.argmin(1)
    grain = others.min(1) * grains
    fits = np.isfinite(grain) & (grain < unit)
    grain = np.where(fits, grain, unit)
    step = np.maximum(1, np.round(_separation(children, dimensions + 1, unit) / grain)) * grain
    reach = 0.8 * _WIDEST * unit
    most = np.where(dimensions == 0, children, np.ceil(children**0.7))
    rows = np.minimum(2 * np.floor(reach / step) + 1, most).astype(np.int64)
    wanted = np.where(dimensions == 0, children > 1, children > 3)
    return serves, np.where(fits & wanted & (rows > 1), rows, 1), step, axis


def _separation(
    children: NDArray[np.int64], dimensions: int | NDArray[np.int64], unit: float
) -> NDArray[np.float64]:
    """Estimate how far apart siblings are in a number of dimensions: k points fill k^{1/d}."""
    dimensions = np.broadcast_to(dimensions, children.shape)
    line = np.maximum(0.5, (children - 1) / 2)
    roughly = np.where(
        dimensions == 1, line, np.maximum(0.7, 0.7 * (children / 2) ** (1 / dimensions))
    )
    return unit * np.clip(roughly / 0.8, 1, _WIDEST) / roughly


def _move(
    direction: NDArray[Any], offset: NDArray[np.float64], keep_axes: bool = False
) -> NDArray[Any]:
    """Move directions [c, dim] by offsets [c, dim - 1] that are tangent at the pole.

    With `keep_axes`, an offset near the pole changes its own coordinates and no other but the
    first, where a reflection would mix a fine coordinate with a coarse one.
    """
    u = direction.astype(np.float64)
    step = np.concatenate([np.zeros((len(u), 1)), offset], axis=1)
    # The reflection that takes the pole to u takes the pole's tangent space to u's and leaves
    # coordinates alone in which u is zero.
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

    moved = direction + step.astype(direction.dtype)
    eps = np.finfo(direction.dtype).eps
    long = np.abs((moved.astype(np.float64) ** 2).sum(1) - 1) > 16 * eps
    if long.any():  # Too large a step to add: follow the great circle, and normalise.
        angle = np.linalg.norm(step[long], axis=1)[:, None]
        turned = u[long] * np.cos(angle) + step[long] * np.sinc(angle / np.pi)
        moved[long] = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    return moved
