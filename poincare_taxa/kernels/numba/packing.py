"""Caps of siblings inside the cap of their parent: each at the best of some random places."""

import math

import numpy as np

from poincare_taxa.kernels.numba.arrays import Array, Rows
from poincare_taxa.kernels.numba.compile import kernel

__all__ = ["pack_caps"]


@kernel(
    "int64[::1], int64[::1], int64[::1], real[::1], real[:, ::1], real[::1], int64, real[:, ::1]"
)
def pack_caps(
    order: Rows,  # rows to place: parents before children, siblings next to each other [m]
    first: Rows,  # index in `order` of the first of the siblings of each [m]
    parent: Rows,  # rows of parents [n + 1]
    cap: Array,  # half-angles in radians [n + 1]
    turns: Array,  # random vectors [t, dim]
    shares: Array,  # random numbers in [0, 1], of the way to the rim of the parent's cap [t]
    tries: int,
    direction: Array,  # of placed rows [n + 1, dim], in place
) -> None:
    """Place rows in order; of `tries` places the one that leaves most room to earlier siblings."""
    dim = direction.shape[1]
    place, best = np.empty(dim), np.empty(dim)
    for p in range(len(order)):
        v, a = order[p], parent[order[p]]
        room = cap[a] - cap[v]
        most = -np.inf
        for k in range(tries):
            # A random direction at a, and a random angle from it, within the room.
            i = (p * tries + k) % len(turns)
            along, square = 0.0, 0.0
            for q in range(dim):
                along += turns[i, q] * direction[a, q]
            for q in range(dim):
                place[q] = turns[i, q] - along * direction[a, q]
                square += place[q] * place[q]
            angle = room * shares[i]
            turn = math.sin(angle) / math.sqrt(square)
            for q in range(dim):
                place[q] = math.cos(angle) * direction[a, q] + turn * place[q]
            # The first sibling goes to the rim; the others keep clear, in units of both caps.
            clear = angle if first[p] == p else np.inf
            for s in range(first[p], p):
                chord = 0.0
                for q in range(dim):
                    chord += (place[q] - direction[order[s], q]) ** 2
                apart = 2 * math.asin(min(1.0, math.sqrt(chord) / 2))
                clear = min(clear, apart / (cap[order[s]] + cap[v]))
            if clear > most:
                most = clear
                best[:] = place
        norm = 0.0
        for q in range(dim):
            norm += best[q] * best[q]
        for q in range(dim):
            direction[v, q] = best[q] / math.sqrt(norm)
