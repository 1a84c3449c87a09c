"""`synthetic_taxonomy`: a tree of any size, the same each time, shaped like NCBI's."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

import poincare_taxa as pt
from poincare_taxa.evaluation.groups import taxon_groups
from poincare_taxa.testing import _level_sizes, synthetic_taxonomy


@given(st.integers(1, 3000), st.integers(0, 2**32 - 1))
def test_synthetic_taxonomy__is_a_tree_of_the_size_asked_for(n, seed):
    tax = synthetic_taxonomy(n, seed=seed)
    assert len(tax) == n
    assert sorted(tax.ids.to_list()) == list(range(1, n + 1))
    assert tax.names.null_count() == 0
    leaf = tax.num_children == 0
    assert (tax.taxon_ranks.to_numpy() == "species").tolist() == leaf.tolist()


def test_synthetic_taxonomy__same_seed_same_tree():
    first, again, other = (synthetic_taxonomy(5000, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.parent, again.parent)
    assert first.ids.equals(again.ids)
    assert not np.array_equal(first.parent, other.parent)


def test_synthetic_taxonomy__refuses_to_have_no_node():
    with pytest.raises(ValueError, match="at least one node; got n = 0"):
        synthetic_taxonomy(0)


@pytest.mark.parametrize("n", [1000, 30_000, 300_000])
def test_synthetic_taxonomy__keeps_its_shape_at_every_size(n):
    tax = synthetic_taxonomy(n)
    assert 36 <= tax.max_depth <= 38
    assert (tax.num_children == 0).mean() == pytest.approx(0.909, abs=0.01)
    assert tax.depth.mean() == pytest.approx(18.15, abs=0.1)
    assert len(taxon_groups(tax)) >= 3  # ranks that a report can judge by


def shares_of_large_families(tax: pt.Taxonomy) -> list[float]:
    """Share of the families that have at least 3, 10, 100 and 1,000 children."""
    families = tax.num_children[tax.num_children > 0]
    return [float((families >= k).mean()) for k in (3, 10, 100, 1000)]


@pytest.mark.parametrize("n", [1, 2, 7, 40, 10_000, 5_000_000, 10**8])
def test_level_sizes__have_one_root_and_hold_every_node(n):
    nodes, inner = _level_sizes(n)
    assert nodes[0] == 1
    assert nodes.sum() == n
    assert (inner <= nodes).all()
    assert (inner[:-1] <= nodes[1:]).all()  # each of them has a child


@pytest.mark.slow
def test_synthetic_taxonomy__is_shaped_like_ncbi():
    pytest.importorskip("marisa_trie", reason="needs the extra [ncbi]")
    real = pt.read_ncbi()
    made = synthetic_taxonomy(len(real))
    depths = [np.bincount(tax.depth, minlength=60) / len(tax) for tax in (real, made)]
    assert np.abs(depths[0] - depths[1]).sum() < 0.002  # the histograms overlap by 99.9 %
    leaves = [(tax.num_children == 0).mean() for tax in (real, made)]
    assert leaves[1] == pytest.approx(leaves[0], abs=0.002)
    assert made.num_children.max() == pytest.approx(real.num_children.max(), rel=0.5)
    # The power law fits within a quarter over three decades of family sizes.
    assert shares_of_large_families(made) == pytest.approx(shares_of_large_families(real), rel=0.25)
