"""Where taxa are drawn in the disk: nested arcs around a centre, and geodesics.

The centre is the root or, of a view from another taxon (a focus), that taxon. Around it each clade
has an arc that nests in that of the clade above it, so that no two clades share a place, as in
[Sar11] Sarkar 2011, *Low distortion Delaunay embedding of trees in hyperbolic plane*. Arcs are in
proportion to leaves, except on the way from a focus to the root: there the clades beside each step
share an arc in proportion to the logarithm of their leaves, so that what is near has room beside
what is large. (An isometry of the whole layout would leave what is far next to no room, and the
view a wedge.)
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from poincare_taxa.geometry import ball, convert
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["OUTERMOST", "arcs", "drawn", "geodesics", "placed"]

OUTERMOST = 4.0  # Largest radius of a taxon as drawn: norm 0.964.
_OWN = 4.0  # Room of the centre's own clade, in multiples of that of another one of its size.
_PIECES = 12  # Straight pieces of a geodesic.


def arcs(tree: Tree, centre: int = 0) -> NDArray[np.float64]:
    """Place of each row on a circle around a centre, in turns (0 to 1): float64 [n].

    Each clade that does not hold the centre has an arc with its own root in the middle.
    """
    # Leaves before each row: in preorder the leaves of a clade are adjacent.
    before = np.cumsum(np.append(0, tree.num_children == 0)).astype(np.float64)
    middle = (before[:-1] + before[tree.end]) / 2
    turn = np.zeros(len(tree))

    def spread(first: int, stop: int, low: float, high: float) -> None:
        """Give rows first … stop - 1, whole clades, the arc from low to high."""
        leaves = before[stop] - before[first]
        if leaves:
            turn[first:stop] = low + (high - low) * (middle[first:stop] - before[first]) / leaves

    # The way from the centre to the root, and the rows beside it before and after each step.
    path = [centre, *tree.ancestors(centre).tolist()]
    inner = [(centre + 1, centre + 1)] + [(row, int(tree.end[row])) for row in path[:-1]]
    ahead = [(row + 1, first) for row, (first, _) in zip(path, inner, strict=True)]
    after = [(stop, int(tree.end[row])) for row, (_, stop) in zip(path, inner, strict=True)]
    leaves = np.array([[before[b] - before[a] for a, b in part] for part in (ahead, after)])
    room = np.log1p(leaves.sum(0)) * leaves / np.maximum(leaves.sum(0), 1)
    room[:, 0] *= _OWN
    room /= max(room.sum(), 1e-300)
    low, high = 0.0, 1.0
    for step, row in enumerate(path):
        turn[row] = (low + high) / 2
        spread(*after[step], low, low + room[1, step])
        spread(*ahead[step], high - room[0, step], high)
        low, high = low + room[1, step], high - room[0, step]
    return turn


def placed(radius: Tensor, turn: Tensor, reach: float | None = None) -> Tensor:
    """Points of the disk [n, 2] at radii and turns; radii are scaled to stay off the rim.

    Parameters
    ----------
    radius, turn
        Distance from the centre and share of a full turn [n].
    reach
        Radius that is drawn at `OUTERMOST`, by default the largest one. Radii are never enlarged.
    """
    angle = 2 * torch.pi * turn
    return drawn(radius, torch.stack([angle.cos(), angle.sin()], dim=1), reach)


def drawn(radius: Tensor, direction: Tensor, reach: float | None = None) -> Tensor:
    """Points of the disk [n, 2]; all radii are multiplied by one factor of at most 1."""
    reach = float(radius.max()) if reach is None else reach
    return convert.polar_to_ball(radius * (OUTERMOST / max(reach, OUTERMOST)), direction)


def geodesics(x: Tensor, y: Tensor) -> Tensor:
    """Points on the geodesics from x to y [m, 2]: [m, pieces + 1, 2].

    x ⊕ t ⊗ (−x ⊕ y) for t in [0, 1], [GBH18] Ganea, Bécigneul & Hofmann 2018, eq. 11.
    """
    step = ball.logmap0(ball.mobius_add(-x, y))
    t = torch.linspace(0, 1, _PIECES + 1, dtype=x.dtype)[:, None]
    return ball.mobius_add(x[:, None], ball.expmap0(t * step[:, None]))
