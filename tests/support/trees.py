"""Hypothesis strategies: random taxonomies of every shape, in every order."""

import hypothesis.strategies as st
import numpy as np

from poincare_taxa.taxonomy.taxonomy import Taxonomy

RANKS = ["no rank", "clade", "domain", "phylum", "class", "genus", "species"]


@st.composite
def parents(draw, min_size=1, max_size=40):
    """Parent arrays of random trees, nodes in random order: (parent with -1 at the root)."""
    n = draw(st.integers(min_size, max_size))
    shape = draw(st.sampled_from(["random", "path", "star", "caterpillar", "bushy"]))
    if shape == "random":
        parent = [-1, *(draw(st.integers(0, i - 1)) for i in range(1, n))]
    elif shape == "path":
        parent = list(range(-1, n - 1))
    elif shape == "star":
        parent = [-1] + [0] * (n - 1)
    elif shape == "caterpillar":  # a path with a leaf at every second node
        parent = [-1, *(max(i - 2 + i % 2, 0) for i in range(1, n))]
    else:
        parent = [-1, *((i - 1) // 3 for i in range(1, n))]
    order = draw(st.permutations(range(n)))
    shuffled = [0] * n
    for old, new in enumerate(order):
        shuffled[new] = -1 if parent[old] == -1 else order[parent[old]]
    return shuffled


@st.composite
def taxonomies(draw, min_size=1, max_size=40):
    """Random taxonomies: integer or text ids, some names missing or shared, random taxon ranks."""
    parent = draw(parents(min_size, max_size))
    n = len(parent)
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    numbers = rng.choice(10 * n, size=n, replace=False)
    ids = [int(i) for i in numbers] if draw(st.booleans()) else [f"t{i}" for i in numbers]
    names = [None if k == 0 else f"Taxon {k}" for k in rng.integers(0, 3 * n, size=n)]
    ranks = rng.choice(RANKS, size=n).tolist()
    lengths = rng.exponential(size=n) if draw(st.booleans()) else None
    return Taxonomy.from_parents(
        parent, ids=ids, names=names, taxon_ranks=ranks, branch_lengths=lengths
    )


@st.composite
def phylogenies(draw, min_size=2, max_size=40):
    """Random taxonomies with branch lengths in eighths, some 0: sums of them are exact."""
    parent = draw(parents(min_size, max_size))
    eighths = draw(st.lists(st.integers(0, 64), min_size=len(parent), max_size=len(parent)))
    return Taxonomy.from_parents(parent, branch_lengths=np.array(eighths) / 8)


def random_phylogeny(leaves, seed, shortest=0.0):
    """A binary tree whose branch lengths are exponential, and a tenth of them nearly 0."""
    rng = np.random.default_rng(seed)
    parent, open_rows = [-1], [0]
    while len(open_rows) < leaves:
        row = open_rows.pop(int(rng.integers(len(open_rows))))
        open_rows += [len(parent), len(parent) + 1]
        parent += [row, row]
    lengths = rng.exponential(size=len(parent))
    lengths[rng.random(len(parent)) < 0.1] *= 1e-3
    return Taxonomy.from_parents(parent, branch_lengths=np.maximum(lengths, shortest))
