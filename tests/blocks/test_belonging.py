"""Blocks that do not belong together are refused by their content, not by their size."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks.belonging import require_belonging
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.losses import SoftmaxRankingLoss
from poincare_taxa.blocks.negatives import (
    CousinNegatives,
    MixedNegatives,
    SameDepthNegatives,
    SharedNegatives,
    UniformNegatives,
)
from poincare_taxa.blocks.pairs import AncestorPairs, LCAPairs, MixedPairs, ParentChildPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.objectives import Ranking

WIDE, DEEP = (Taxonomy.from_parents(p) for p in ([-1, 0, 0, 1, 1, 2, 2], [-1, 0, 1, 2, 3, 4, 5]))


def ranking(tree):
    return Ranking(tree, AncestorPairs(tree), UniformNegatives(tree, 2), SoftmaxRankingLoss())


BLOCKS = {
    "ancestors": AncestorPairs,
    "parents": ParentChildPairs,
    "lcas": LCAPairs,
    "mixed": lambda tax: MixedPairs([AncestorPairs(WIDE), AncestorPairs(tax)], [0.5, 0.5]),
    "uniform": lambda tax: UniformNegatives(tax, 2),
    "same depth": lambda tax: SameDepthNegatives(tax, 2),
    "cousins": lambda tax: CousinNegatives(tax, 2),
    "shared": lambda tax: SharedNegatives(tax, 2),
    "mixed negatives": lambda tax: MixedNegatives([UniformNegatives(tax, 2)]),
    "ranking": ranking,
    "levels": lambda tax: LevelStress(tax, tau=1.0),
    "of an index": lambda tax: AncestorPairs(TreeIndex(tax)),
    "of a tree": lambda tax: AncestorPairs(tax.tree),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_require_belonging__of_trees(name):
    again = Taxonomy.from_frame(WIDE.to_frame())
    for source in (WIDE, WIDE.tree, TreeIndex(WIDE)):
        require_belonging(source, {"block": BLOCKS[name](again), "none": None})
        with pytest.raises(ValueError, match="belongs to another tree of as many nodes"):
            require_belonging(source, {"block": BLOCKS[name](DEEP)})


def shapes(n):
    return st.tuples(*(st.integers(0, max(i - 1, 0)) for i in range(1, n)))


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(shapes(n), shapes(n))))
def test_require_belonging__trees_belong_if_their_parents_are_equal(two):
    a, b = (Taxonomy.from_parents([-1, *above]) for above in two)
    try:
        require_belonging(a, {"pairs": AncestorPairs(b)})
        belong = True
    except ValueError:
        belong = False
    assert belong == (a.parent.tolist() == b.parent.tolist())


CLOSURE = ClosurePairs([[0, 1], [1, 2], [0, 2], [0, 3]])


def test_require_belonging__of_pairs():
    edges = ClosurePairs([[0, 1], [1, 2], [0, 3]])
    swapped = ClosurePairs([[3, 1], [1, 2], [3, 2], [3, 0]])
    edges._warned = True  # ClosureSoftmax would warn that they are not closed
    for make in (
        lambda pairs: pairs,
        lambda pairs: UniformNegatives(pairs, 1, exclude="positives"),
        lambda pairs: ClosureSoftmax(pairs, epochs=1),
    ):
        require_belonging(CLOSURE, {"block": make(edges)})
        with pytest.raises(ValueError, match="belongs to other pairs"):
            require_belonging(CLOSURE, {"block": make(swapped)})


def test_require_belonging__names_tell_nodes_apart():
    source = ClosurePairs(CLOSURE.pairs, names=list("abcd"))
    require_belonging(source, {"pairs": ClosurePairs([[1, 3]], names=list("abcd"))})
    with pytest.raises(ValueError, match="belongs to other pairs"):
        require_belonging(source, {"pairs": ClosurePairs(CLOSURE.pairs, names=list("abdc"))})
    tax = Taxonomy.from_parents([-1, 0, 1, 0], ids=list("abcd"))
    require_belonging(tax, {"pairs": source})
    with pytest.raises(ValueError, match="pairs whose names are not the ids of the taxonomy"):
        require_belonging(tax, {"pairs": ClosurePairs(CLOSURE.pairs, names=list("abdc"))})
    with pytest.raises(ValueError, match="belongs to 3 nodes, where there are 4"):
        require_belonging(tax, {"pairs": ClosurePairs(torch.tensor([[0, 2]]))})


def test_ranking__of_two_trees_is_refused():
    with pytest.raises(ValueError, match=r"pairs \(AncestorPairs\) belongs to another tree"):
        Ranking(WIDE, AncestorPairs(DEEP), UniformNegatives(WIDE, 2), SoftmaxRankingLoss())
    with pytest.raises(ValueError, match=r"negatives \(UniformNegatives\) belongs to another"):
        Ranking(WIDE, AncestorPairs(WIDE), UniformNegatives(DEEP, 2), SoftmaxRankingLoss())
