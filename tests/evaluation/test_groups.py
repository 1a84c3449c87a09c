"""Groups to judge by: the taxon ranks that divide a taxonomy, or its clades at a depth."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.evaluation.groups import genera, taxon_groups
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@given(taxonomies(), st.integers(1, 5))
def test_taxon_groups__depths_are_the_ancestors_at_that_depth(tax, depth):
    labels = taxon_groups(tax, [f"depth {depth}"])[f"depth {depth}"]
    for node in range(len(tax)):
        lineage = [*tax.tree.ancestors(node)[::-1], node]
        assert labels[node] == (lineage[depth] if depth < len(lineage) else -1)


def test_genera__are_clusters_unless_they_are_all_there_is():
    """Ten genera of ten, one of which has a subtree; two taxa above them; one genus of half."""
    parent = [-1, 0] + [1] * 10 + [2 + i // 9 for i in range(90)]
    rank = ["no rank"] * 2 + ["genus"] * 10 + ["species"] * 90
    tax = Taxonomy.from_parents(parent, taxon_ranks=rank)
    labels = genera(tax)
    marked = tax.tree.nearest_marked(tax.has_rank("genus"))
    assert np.array_equal(labels[2:], marked[2:])
    assert labels[:2].tolist() == [0, 1]
    few = Taxonomy.from_parents(
        [-1, 0, 0, 1, 1, 2, 2], taxon_ranks=["no rank", *["genus"] * 2, *["species"] * 4]
    )
    assert genera(few).tolist() == list(range(7))
    assert genera(Taxonomy.from_parents([-1, 0, 0])).tolist() == [0, 1, 2]


def test_taxon_groups__take_the_ranks_that_divide_from_the_root_down():
    # Two families of two genera of ten species, under one kingdom; "clade" nests in itself.
    parent, rank = [-1, 0, 1], ["no rank", "kingdom", "clade"]
    for _ in range(2):
        family = len(parent)
        parent, rank = [*parent, 2], [*rank, "family"]
        for _ in range(2):
            parent, rank = [*parent, family, len(parent)], [*rank, "clade", "genus"]
            genus = len(parent) - 1
            parent, rank = [*parent, *[genus] * 10], [*rank, *["species"] * 10]
    tax = Taxonomy.from_parents(parent, taxon_ranks=rank)
    groups = taxon_groups(tax)
    assert list(groups) == ["family", "genus"]
    assert np.array_equal(groups["genus"], tax.tree.nearest_marked(tax.has_rank("genus")))
    assert list(taxon_groups(tax, ["species"])) == ["species"]
    unranked = Taxonomy.from_parents(parent)
    assert list(taxon_groups(unranked)) == ["depth 3", "depth 4", "depth 5"]
    with pytest.raises(ValueError, match="no taxon has the rank 'tribe'; there are clade, family"):
        taxon_groups(tax, ["tribe"])


def test_taxon_groups__a_tree_that_nothing_divides_has_none():
    assert taxon_groups(Taxonomy.from_parents([-1, *range(99)])) == {}
    assert taxon_groups(Taxonomy.from_parents([-1])) == {}


def test_taxon_groups__that_leave_most_taxa_out_are_not_used():
    # Two genera of twelve beside a hundred taxa that are in none.
    parent = [-1, 0, 0, *[1] * 12, *[2] * 12, *[0] * 100]
    ranks = ["no rank", "genus", "genus", *["species"] * 124]
    assert taxon_groups(Taxonomy.from_parents(parent, taxon_ranks=ranks)) == {}
    assert taxon_groups(Taxonomy.from_parents(parent)) == {}
    ranked = Taxonomy.from_parents(parent, taxon_ranks=ranks)
    assert list(taxon_groups(ranked, ["genus"])) == ["genus"]
