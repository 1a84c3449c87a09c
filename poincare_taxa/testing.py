"""Synthetic taxonomies of any size with the statistics of NCBI's, and taxdumps of them.

They serve for tests of your own code, and for measuring how the time of a method grows with the
number of taxa.
"""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["synthetic_taxonomy", "write_taxdump"]

# The NCBI taxonomy of September 2024, 2,609,295 nodes: nodes at each depth from 0 to 38, and how
# many of them have children.
_NODES = np.fromstring(
    """
    1 4 43 4194 66164 26803 37845 29130 56590 232364 235499 85816 86929 159202 48239 48929 69342
    85312 62714 47610 66190 118408 116585 54987 58789 193830 144716 114063 89483 60660 66496
    74724 28267 15170 11568 7562 4736 280 51
    """,
    np.int64,
    sep=" ",
)
_INNER = np.fromstring(
    """
    1 4 41 241 741 1149 2828 7513 13192 14589 9388 6567 4762 4112 5755 9037 10436 7856 5582 8167
    9673 8967 8420 8201 9760 16619 15107 7827 6040 10580 9821 5255 2921 2133 1853 1165 123 23 0
    """,
    np.int64,
    sep=" ",
)
_TAIL = 1.07
"""A family has at least k children with a probability of about k^-1.07."""

_CROWDED = 50
"""In a family of this many children, a child has children half as often as an only child has. In
the NCBI taxonomy nearly all children of the largest families ("unclassified …", the isolates of a
virus) are leaves."""

_RANK_DEPTHS = {
    "superkingdom": 1,
    "kingdom": 2,
    "phylum": 4,
    "subphylum": 6,
    "class": 8,
    "order": 11,
    "family": 14,
}
_RANKS = ["no rank", *_RANK_DEPTHS, "genus", "species"]


def synthetic_taxonomy(n: int, *, seed: int = 0) -> Taxonomy:
    """Make a random taxonomy with the degree and depth statistics of NCBI's.

    At any size, the share of nodes at each depth, the share of leaves and the power law of family
    sizes are those of the NCBI taxonomy of September 2024. Depths without a node are left out: 36
    levels remain at a thousand nodes, 37 at ten thousand, 38 beyond.

    Parameters
    ----------
    n
        Number of nodes, at least 1.
    seed
        The same number and seed give the same taxonomy.

    Returns
    -------
    taxonomy
        A taxonomy with ids 1…n, a name for every node, species as leaves, and eight ranks above.

    Raises
    ------
    ValueError
        If `n` is below 1.

    Examples
    --------
    >>> tax = synthetic_taxonomy(10_000)
    >>> len(tax), tax.max_depth, round(float((tax.num_children == 0).mean()), 2)
    (10000, 37, 0.91)
    """
    if n < 1:
        raise ValueError(f"a taxonomy has at least one node; got n = {n}")
    rng = np.random.default_rng([seed, n])
    nodes, inner = _level_sizes(n)
    parent, start = [np.array([-1])], 0
    chosen = np.array([0])  # Positions, in the level above, of the nodes with children.
    # From level to level: divide its nodes among the families, then choose those with children.
    for depth in range(1, len(nodes)):
        children = _family_sizes(len(chosen), nodes[depth], rng)
        parent.append(np.repeat(start + chosen, children))
        start += nodes[depth - 1]
        siblings = np.repeat(children, children)
        chosen = _choose(1 / (1 + siblings / _CROWDED), inner[depth], rng)
    return _described(np.concatenate(parent), np.repeat(np.arange(len(nodes)), nodes))


def _level_sizes(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of nodes at each depth, n in all, and of those with children."""
    # 1. Scale NCBI's numbers, without the depths that would have no node.
    wanted = _NODES * (n / _NODES.sum())
    bottom = min(n - 1, max(np.flatnonzero(wanted >= 0.5), default=1))
    wanted = wanted[: bottom + 1]
    # 2. Round cumulative numbers, so that errors do not add up; each depth has at least one node,
    #    depth 0 exactly one.
    upto = np.rint(np.cumsum(wanted) * (n / wanted.sum()))
    nodes = np.maximum(np.diff(upto, prepend=0), 1).astype(np.int64)
    nodes[0] = 1
    # 3. Correct the sum at the largest level.
    nodes[nodes.argmax()] += max(n - int(nodes.sum()), 0)
    while nodes.sum() > n:
        nodes[nodes.argmax()] -= 1
    # 4. Nodes with children: at least one where there is a level below, at most that level's nodes.
    inner = np.rint(_INNER[: bottom + 1] * (n / _NODES.sum())).astype(np.int64)
    below = np.append(nodes[1:], 0)
    return nodes, np.minimum(np.maximum(inner, below > 0), np.minimum(nodes, below))


def _family_sizes(families: int, children: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Divide children among families, at least one each, by a power law."""
    # Quantiles in random order, not draws: the largest draw of such a power law varies too much.
    quantile = (np.arange(families) + 0.5) / families
    weight = np.cumsum(rng.permutation(quantile ** (-1 / _TAIL) - 1))
    shared = np.rint(weight * ((children - families) / weight[-1]))
    return 1 + np.diff(shared, prepend=0).astype(np.int64)


def _choose(
    weight: NDArray[np.float64], number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Draw positions by weight without replacement, in ascending order."""
    # Those with the smallest of independent exponentials [Efraimidis & Spirakis 2006].
    key = rng.exponential(size=len(weight)) / weight
    return np.sort(np.argsort(key)[:number])


def _described(parent: NDArray[np.int64], depth: NDArray[np.int64]) -> Taxonomy:
    """Build the taxonomy with ids, names and ranks."""
    n = len(parent)
    inner = np.zeros(n, np.bool_)
    inner[parent[1:]] = True
    rank = np.where(inner, 0, _RANKS.index("species"))
    above_leaves = parent[1:][~inner[1:]]
    rank[above_leaves] = _RANKS.index("genus")
    for name, level in _RANK_DEPTHS.items():
        rank[inner & (depth == level)] = _RANKS.index(name)
    ids = pl.Series("id", np.arange(1, n + 1))
    return Taxonomy.from_parents(
        parent,
        ids=ids,
        names=pl.select(pl.format("Taxon {}", ids)).to_series(),
        taxon_ranks=pl.Series(_RANKS).gather(pl.Series(rank)),
        source={"format": "synthetic", "nodes": n},
    )


def write_taxdump(taxonomy: Taxonomy, folder: str | Path) -> None:
    """Write a taxonomy with integer ids as the nodes.dmp and names.dmp of an NCBI taxdump.

    Parameters
    ----------
    taxonomy
        A taxonomy with a name for every node. Names and synonyms are written; merged and deleted
        ids and branch lengths are not.
    folder
        Folder to write to; it is created if it does not exist.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from poincare_taxa import read
    >>> with TemporaryDirectory() as folder:
    ...     write_taxdump(synthetic_taxonomy(100), folder)
    ...     len(read(folder))
    100
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    nodes = taxonomy.to_frame().with_columns(pl.col("parent").fill_null(pl.col("id"))).sort("id")
    names = nodes.select("id", "name", pl.lit("scientific name").alias("name_class"))
    if taxonomy.synonyms is not None:
        ids = taxonomy.ids.gather(taxonomy.synonyms["node"]).alias("id")
        names = pl.concat([names, taxonomy.synonyms.select(ids, "name", "name_class")])
    files = {
        "nodes.dmp": (nodes, [pl.col("id"), pl.col("parent"), pl.col("taxon_rank"), *_REST]),
        "names.dmp": (
            names.sort("id", maintain_order=True),
            [pl.col("id"), pl.col("name"), pl.lit(""), pl.col("name_class")],
        ),
    }
    for file, (table, fields) in files.items():
        line = pl.concat_str([field.cast(pl.String) for field in fields], separator="\t|\t")
        with (folder / file).open("wb") as out:
            table.select(pl.concat_str(line, pl.lit("\t|"))).write_csv(
                out, include_header=False, quote_style="never"
            )


_REST = [pl.lit(text) for text in ["", "8", *"0101000", "", "", "", "0", "1", "0", "1", "0"]]
"""The other columns of nodes.dmp: division, genetic codes, flags."""
