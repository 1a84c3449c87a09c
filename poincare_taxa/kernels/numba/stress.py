r"""The inner loops of `training.level_stress`: partners of nodes, and stress with its gradient.

Both go node by node and write to that node's own rows only, so no result depends on the number of
threads. Distances and derivatives are those of `pairs`, in float64.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.kernels.arguments import LARGEST
from poincare_taxa.kernels.numba.arrays import Array, Rows, array
from poincare_taxa.kernels.numba.compile import helper, in_threads, inline, kernel, summing
from poincare_taxa.kernels.numba.elementary import exp, log1p
from poincare_taxa.kernels.numba.pairs import far_distance, far_partials
from poincare_taxa.kernels.numba.tiles import sinh

__all__ = ["level_partners", "level_stress"]


def level_partners(
    nodes: Tensor,
    level: int,
    tree: tuple[Tensor, ...],
    highest: Tensor,
    bits: tuple[Tensor, ...],
    ancestors: int,
) -> tuple[Tensor, Tensor]:
    """Partners of nodes of a level, the root last, and their tree distances: [B, K] each.

    The tree: parent, end, level_order, level_start and height (float64) of a `TreeIndex`. Bits:
    random integers for the siblings [B, S], and for the cousins' ancestors, depths and places
    [B, C].
    """
    columns = ancestors + bits[0].shape[1] + len(highest) + 1
    partners, edges = (
        torch.empty(len(nodes), columns, dtype=dtype) for dtype in (torch.int64, torch.float64)
    )
    given = [array(x) for x in (nodes, *tree, highest, *bits)]
    out = partners.numpy(), edges.numpy()
    loop = level_partners_loop(np.float64)
    in_threads(lambda start, stop: loop(*given, level, start, stop, *out), len(nodes), 50 * columns)
    return partners, edges


def level_stress(
    table: Tensor,
    nodes: Tensor,
    partners: Tensor,
    edges: Tensor,
    tau: float,
    root_weight: float,
    least: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Add up the stress of all nodes and the root's term [2]; gradients by each row [2, B, …].

    numpy adds up: its sums do not depend on the number of threads.
    """
    loss = np.empty((2, len(nodes)))
    gradient = np.empty((2, len(nodes), table.shape[1]), array(table[:0]).dtype)
    given = [array(x) for x in (table, nodes, partners, edges)]
    loop = level_stress_loop(gradient.dtype)

    def part(start: int, stop: int) -> None:
        loop(*given, tau, root_weight, least, start, stop, loss, gradient)

    in_threads(part, len(nodes), partners.shape[1] * (20 + 2 * table.shape[1]))
    return torch.from_numpy(loss.sum(1)), torch.from_numpy(gradient)


# -------------------------------------------------------------------- loops


@inline
def _place(order: Rows, low: int, high: int, row: Any) -> int:
    """First place from low on, in an ascending stretch of an order, that is not below a row."""
    while low < high:
        middle = (low + high) // 2
        if order[middle] < row:
            low = middle + 1
        else:
            high = middle
    return low


@kernel(
    "int64[::1], int64[::1], int64[::1], int64[::1], int64[::1], float64[::1], int64[::1], "
    "int64[:, ::1], int64[:, ::1], int64[:, ::1], int64[:, ::1], int64, int64, int64, "
    "int64[:, ::1], float64[:, ::1]"
)
def level_partners_loop(
    nodes: Rows,  # of one level
    parent: Rows,  # the tree, as `TreeIndex` has it
    end: Rows,
    level_order: Rows,
    level_start: Rows,
    height: Array,  # distances from the root, by edges or branch lengths
    highest: Rows,  # [C]: edges up to the highest ancestor below which a cousin is drawn
    sibling_bits: Rows,  # [B, S]: which node of the level below the same parent
    gap_bits: Rows,  # [B, C]: which ancestor a cousin is drawn below
    depth_bits: Rows,  # [B, C]: how deep below this ancestor
    place_bits: Rows,  # [B, C]: which of the nodes there
    level: int,  # depth of the nodes
    start: int,  # stretch of the nodes
    stop: int,
    partners: Rows,  # out [B, A + S + C + 1]: ancestors, siblings, cousins, the root
    edges: Array,  # out: tree distances
) -> None:
    """Draw partners as `LevelStress` does on tensors."""
    siblings, cousins = sibling_bits.shape[1], len(highest)
    ancestors = partners.shape[1] - siblings - cousins - 1
    path = np.empty(level + 1, np.int64)  # ancestor of the node at each depth
    for b in range(start, stop):
        path[level] = nodes[b]
        for depth in range(level, 0, -1):
            path[depth - 1] = parent[path[depth]]
        # 1. The nearest ancestors; on the first levels the root in place of those that are missing.
        for k in range(ancestors):
            gap = min(k + 1, level)
            partners[b, k] = path[level - gap]
            # as below: sums in another order would have other last bits
            above = height[path[level - gap]]
            edges[b, k] = height[path[level]] + above - 2 * above
        low, size = 0, 1
        for k in range(siblings + cousins):
            # 2. The stretch of the level order from which this partner is drawn.
            gap, depth = 1, level
            if k >= siblings:
                c = k - siblings
                gap = 1 + gap_bits[b, c] % highest[c]
                depth = level - depth_bits[b, c] % gap
            if k == 0 or k >= siblings:  # all siblings have one
                top, stop_of_level = path[level - gap], level_start[depth + 1]
                low = _place(level_order, level_start[depth], stop_of_level, top)
                size = _place(level_order, low, stop_of_level, end[top]) - low
            chosen = place_bits[b, k - siblings] if k >= siblings else sibling_bits[b, k]
            v = level_order[low + chosen % size]
            # 3. The lowest common ancestor is the deepest one that has v in its subtree.
            common = level - gap
            while common < level and path[common + 1] <= v < end[path[common + 1]]:
                common += 1
            partners[b, ancestors + k] = v
            edges[b, ancestors + k] = height[path[level]] + height[v] - 2 * height[path[common]]
        partners[b, ancestors + siblings + cousins] = 0
        edges[b, ancestors + siblings + cousins] = height[path[level]]


@summing
def _differences(table: Array, u: int, partners: Rows, between: Array, apart: Array) -> None:
    """Directions u − v of the partners [K, dim], and their squared lengths [K]."""
    for k in range(len(partners)):
        v, total = partners[k], 0.0
        for j in range(between.shape[1]):
            step = np.float64(table[u, 1 + j]) - np.float64(table[v, 1 + j])
            between[k, j] = step
            total += step * step
        apart[k] = total


@helper
def _distances(
    table: Array, r1: float, partners: Rows, apart: Array, d: Array, by_radius: Array, turn: Array
) -> None:
    """Distance of a node to its partners, ∂d/∂r of its own, and what u − v is times in ∂d/∂u."""
    e1 = exp(0.5 * r1)
    i1 = 1 / e1
    grown, shrunk = e1 * e1, i1 * i1
    sinh1 = sinh(r1, grown, shrunk)
    for k in range(len(partners)):
        d[k] = table[partners[k], 0]
    for k in range(len(partners)):
        r2 = d[k]
        e2 = exp(0.5 * r2)
        i2 = 1 / e2
        out, back = e1 * i2, e2 * i1
        h = sinh(0.5 * (r1 - r2), out, back)
        sinh2 = sinh(r2, e2 * e2, i2 * i2)
        w = 0.25 * sinh1 * sinh2
        t = h * h + w * apart[k]
        root, more = math.sqrt(t), math.sqrt(1 + t)
        slope = 1 / (root * more) if t > 0 else 0.0
        radial = 0.5 * h * slope * (out + back)
        d[k] = 2 * log1p(root + t / (1 + more))
        by_r = radial + 0.125 * (grown + shrunk) * slope * (sinh2 * apart[k])
        by_radius[k] = min(1.0, max(-1.0, by_r))
        turn[k] = 2 * w * slope
    for k in range(len(partners)):
        r2 = np.float64(table[partners[k], 0])
        if max(r1, r2) > LARGEST:
            d[k] = far_distance(r1, r2, apart[k])
            by_radius[k], _, turn[k] = far_partials(r1, r2, apart[k])


@kernel(
    "real[:, ::1], int64[::1], int64[:, ::1], float64[:, ::1], float64, float64, float64, int64, "
    "int64, float64[:, ::1], real[:, :, ::1]",
    fastmath={"contract"},
)
def level_stress_loop(
    table: Array,  # polar, the radius first
    nodes: Rows,  # [B]
    partners: Rows,  # [B, K], the root last
    edges: Array,  # [B, K], tree distances; 0 for a node that was drawn as its own sibling
    tau: float,  # distance for each edge
    root_weight: float,
    least: float,  # the tree distance to which errors of nearer partners are relative
    start: int,  # stretch of the nodes
    stop: int,
    loss: Array,  # out [2, B]: relative stress over all but the root; weighted stress of the root
    gradient: Array,  # out [2, B, columns]: of both, by the nodes' own rows
) -> None:
    """Stress of nodes against partners that stay where they are, and its gradient."""
    many, dim = partners.shape[1], table.shape[1] - 1
    between, total = np.empty((many, dim)), np.empty(dim)
    apart, d, by_radius, turn = np.empty(many), np.empty(many), np.empty(many), np.empty(many)
    for b in range(start, stop):
        _differences(table, nodes[b], partners[b], between, apart)
        r = np.float64(table[nodes[b], 0])
        _distances(table, r, partners[b], apart, d, by_radius, turn)
        for term in range(2):
            first, last = (0, many - 1) if term == 0 else (many - 1, many)
            stress, radial = 0.0, 0.0
            total[:] = 0
            for k in range(first, last):
                t = edges[b, k]
                weight = root_weight
                if term == 0:
                    near = max(t, least)
                    weight = 1 / (near * near) if t > 0 else 0.0
                error = d[k] / tau - t
                stress += weight * error * error
                pull = 2 * weight * error / tau
                radial += pull * by_radius[k]
                pull *= turn[k]
                for j in range(dim):
                    total[j] += pull * between[k, j]
            loss[term, b], gradient[term, b, 0] = stress, radial
            for j in range(dim):
                gradient[term, b, 1 + j] = total[j]
