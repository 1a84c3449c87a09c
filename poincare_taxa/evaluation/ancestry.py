"""Pairs of nodes to judge by whether the second is an ancestor of the first: half of them are.

Negatives are what an embedding confuses most: a pair reversed, a sibling, a cousin.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from poincare_taxa.taxonomy.tree import Tree

__all__ = ["KINDS", "Kinship", "balanced_pairs", "kinship_of_closure", "kinship_of_tree"]

KINDS = ("ancestor", "descendant", "sibling", "cousin")
"""What the second node of a pair is to the first; only the first kind is a positive."""

_ROUNDS = 20  # of m draws each: what is not found by then is too rare

Rows = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Kinship:
    """Who is whose parent, in a tree or a DAG, and which pairs of its closure there are.

    Attributes
    ----------
    parents
        Sparse matrix [n, n]: a row has entries at the direct parents of a node.
    num_pairs
        Number of (descendant, ancestor) pairs.
    pairs
        Function: numbers of pairs [k] → rows [k, 2], (descendant, ancestor).
    is_ancestor
        Function: rows a [k], v [k] → whether a is v or an ancestor of v [k].
    """

    parents: csr_array
    num_pairs: int
    pairs: Callable[[Rows], Rows]
    is_ancestor: Callable[[Rows, Rows], NDArray[np.bool_]]

    @cached_property
    def children(self) -> csr_array:
        """Sparse matrix [n, n]: a row has entries at the direct children of a node."""
        return csr_array(self.parents.T)


def kinship_of_tree(tree: Tree) -> Kinship:
    """Return the kinship of a tree, by its arrays: no list of pairs is made."""
    n = len(tree)
    start = np.append(0, np.arange(n))
    parents = csr_array((np.ones(n - 1, np.int8), tree.parent[1:], start), shape=(n, n))
    stop = np.cumsum(tree.depth, dtype=np.int64)

    def pairs(number: Rows) -> Rows:
        # A node of depth k has k numbers, one for each depth of an ancestor.
        v = np.searchsorted(stop, number, side="right")
        depth = stop[v] - number - 1
        return np.stack([v, tree.ancestor_at_depth(v, depth)], axis=1).astype(np.int64)

    return Kinship(parents, int(stop[-1]), pairs, tree.is_ancestor)


def kinship_of_closure(above: Any) -> Kinship:
    """Return the kinship of a DAG from its closed pairs, 1 at [descendant, ancestor].

    A parent is an ancestor that is above no other ancestor.
    """
    parents: Any = csr_array(above - above.multiply((above @ above) > 0))
    parents.eliminate_zeros()
    descendant, ancestor = above.nonzero()
    n = above.shape[0]
    key = np.sort(descendant.astype(np.int64) * n + ancestor)

    def pairs(number: Rows) -> Rows:
        return np.stack(np.divmod(key[number], n), axis=1)

    def is_ancestor(a: Rows, v: Rows) -> NDArray[np.bool_]:
        wanted = v * n + a
        place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
        return (key[place] == wanted) | (a == v)

    return Kinship(parents, len(key), pairs, is_ancestor)


def balanced_pairs(
    kin: Kinship, m: int, rng: np.random.Generator
) -> tuple[Rows, NDArray[np.int64]]:
    """Draw m pairs whose second node is an ancestor of the first, and m where it is not.

    Ancestors are uniform over all pairs of the closure. Of the others a third are such pairs
    reversed, a third siblings and a third cousins of the descendant of such a pair: they share a
    parent, or a grandparent only, and neither is an ancestor of the other. Where there are too few
    siblings or cousins, reversed pairs take their place.

    Returns
    -------
    pairs, kind
        Rows [2m, 2], (node, candidate), and places in `KINDS` [2m].

    Raises
    ------
    ValueError
        If there is no pair at all.

    Examples
    --------
    >>> from poincare_taxa.taxonomy.taxonomy import Taxonomy
    >>> kin = kinship_of_tree(Taxonomy.from_parents([-1, 0, 1, 1, 0, 4]).tree)
    >>> pairs, kind = balanced_pairs(kin, 3, np.random.default_rng(0))
    >>> [KINDS[k] for k in kind]
    ['ancestor', 'ancestor', 'ancestor', 'sibling', 'cousin', 'descendant']
    """
    if kin.num_pairs == 0:
        raise ValueError("there is no (ancestor, descendant) pair: a single node has none")

    def drawn(k: int) -> Rows:
        return kin.pairs(rng.integers(0, kin.num_pairs, k))

    found, kinds = [drawn(m)], [np.zeros(m, np.int64)]
    for kind, up in ((2, 1), (3, 2)):
        got = np.empty((0, 2), np.int64)
        for _ in range(_ROUNDS):
            v = drawn(m)[:, 0]
            pair = np.stack([v, _relative(kin, v, up, rng)], axis=1)
            got = np.concatenate([got, pair[pair[:, 1] >= 0]])[: m // 3]
        found.append(got)
        kinds.append(np.full(len(got), kind))
    rest = 2 * m - sum(map(len, found))
    found.append(drawn(rest)[:, ::-1])
    kinds.append(np.ones(rest, np.int64))
    return np.concatenate(found), np.concatenate(kinds)


def _relative(kin: Kinship, v: Rows, up: int, rng: np.random.Generator) -> Rows:
    """Walk up and as far down along random edges: a sibling or cousin of each node, −1 for none."""
    here = v
    for _ in range(up):
        here = _step(kin.parents, here, rng)
    for left in reversed(range(up)):
        here = _step(kin.children, here, rng)
        # On the way down no node may be above v: its children are nearer kin, or v itself.
        strays = (here < 0) | kin.is_ancestor(np.maximum(here, 0), v)
        if left == 0:
            strays |= kin.is_ancestor(v, np.maximum(here, 0))
        here = np.where(strays, -1, here)
    return here


def _step(edges: csr_array, rows: Rows, rng: np.random.Generator) -> Rows:
    """Take a random edge from each row; −1 where there is none."""
    at = np.maximum(rows, 0)
    first, count = edges.indptr[at], edges.indptr[at + 1] - edges.indptr[at]
    stuck = (rows < 0) | (count == 0)
    if stuck.all():
        return np.full(len(rows), -1)
    place = first + rng.integers(0, np.maximum(count, 1))
    place = np.minimum(place, len(edges.indices) - 1)
    return np.where(stuck, -1, edges.indices[place]).astype(np.int64)
