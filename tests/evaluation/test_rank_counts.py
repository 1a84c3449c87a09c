"""Which queries are measured together, and what of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa.evaluation import rank_counts
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.subjects import TreeSubject
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy


@given(taxonomies(), st.integers(0, 2**32 - 1))
def test_blocks__have_each_query_once_with_all_its_relatives(tax, seed):
    tree = tax.tree
    queries = np.random.default_rng(seed).permutation(len(tree))
    found = {}
    for at, above, below in QueryTaxa(tree, {}, 10, {"neighbour"}).blocks(queries):
        for place, up, down in zip(at, above, below, strict=True):
            found[int(place)] = up[up >= 0].tolist(), down[down >= 0].tolist()
    assert len(found) == len(queries)
    for place, (up, down) in found.items():
        assert up == tree.lineages(queries[place : place + 1])[0, 1:].tolist()
        assert down == np.flatnonzero(tree.parent == queries[place]).tolist()


def test_blocks__are_of_queries_near_each_other_that_have_about_as_many_relatives(monkeypatch):
    tree = synthetic_taxonomy(9000, seed=0).tree
    children = np.diff(tree.first_child)
    assert children.max() > 200, "a family for which others would leave room empty"
    queries = np.random.default_rng(0).permutation(len(tree))
    blocks = list(QueryTaxa(tree, {}, 10, {"neighbour"}).blocks(queries))
    order = np.concatenate([at for at, _, _ in blocks])
    assert (np.diff(queries[order]) < 0).sum() < 9, "one stretch for each doubling of the width"
    assert max(len(at) for at, _, _ in blocks) == 1024
    room = sum(above.size + below.size for _, above, below in blocks)
    assert room <= 2 * (tree.depth + children).sum() + 64 * len(tree)
    monkeypatch.setattr(rank_counts, "_TARGETS", 300)
    for at, above, below in QueryTaxa(tree, {}, 10, {"neighbour"}).blocks(queries):
        assert len(at) == 1 or len(at) * (above.shape[1] + below.shape[1]) <= 600


def measured(tree, k, parts):
    """Statistics of all taxa by the tree's own distances."""
    query_taxa, queries = QueryTaxa(tree, {}, k, parts), np.arange(len(tree))
    return query_statistics(TreeSubject(tree), query_taxa, queries, Clock(), lambda *_: None)


@given(taxonomies())
def test_query_statistics__count_all_relatives_and_so_the_root(tax):
    tree = tax.tree
    found = measured(tree, 10, {"ancestor", "closure", "neighbour"})
    degree = np.bincount(tree.parent[1:], minlength=len(tree)) + (tree.depth > 0)
    for name, expected in (
        ("ancestor", tree.depth),
        ("closure", tree.depth),
        ("neighbour", degree),
    ):
        count = np.where(expected > 0, expected, np.nan)
        np.testing.assert_array_equal(found[f"{name} count"], count)


def test_query_statistics__have_a_purity_of_each_taxon_in_a_group():
    star = Taxonomy.from_parents([-1, 0, 0, 0]).tree
    groups = {"one": np.array([0, 0, 0, 0]), "two": np.array([-1, 0, 0, 1])}
    query_taxa, queries = QueryTaxa(star, groups, 3, {"purity"}), np.arange(4)
    found = query_statistics(TreeSubject(star), query_taxa, queries, Clock(), lambda *_: None)
    assert found["purity one"].tolist() == [1] * 4
    np.testing.assert_allclose(found["purity two"], [np.nan, 1 / 3, 1 / 3, 0])


def test_query_statistics__tell_which_share_of_the_places_is_drawn_by_lot():
    star = Taxonomy.from_parents([-1, 0, 0, 0]).tree
    # Of a leaf the root is nearest, then the two others are tied; of the root all three are.
    for k, expected in ((1, [1, 0, 0, 0]), (2, [1, 0.5, 0.5, 0.5]), (3, [0, 0, 0, 0])):
        found = measured(star, k, {"precision"})
        assert found["by lot"].tolist() == expected
        assert found["precision"].tolist() == [1] * 4


def test_query_statistics__are_the_same_bits_on_any_number_of_threads(monkeypatch):
    monkeypatch.setattr(rank_counts, "_QUERIES", 16)
    tree = synthetic_taxonomy(400, seed=0).tree
    queries = np.random.default_rng(0).permutation(len(tree))[:300]
    parts = {"precision", "ancestor", "closure", "neighbour"}
    query_taxa = QueryTaxa(tree, {}, 10, parts)
    reached = []
    one, many = (
        query_statistics(
            TreeSubject(tree),
            query_taxa,
            queries,
            Clock(),
            lambda done, total: reached.append((done, total)),
            threads=threads,
        )
        for threads in (1, 3)
    )
    assert one.keys() == many.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], many[name])
    half = len(reached) // 2
    assert reached[:half] == reached[half:], "progress in the order of the blocks"
    assert reached[-1] == (300, 300)


def test_query_statistics__raises_what_a_thread_raises(monkeypatch):
    tree = synthetic_taxonomy(400, seed=0).tree
    monkeypatch.setattr(rank_counts, "_QUERIES", 16)

    class Broken(TreeSubject):
        def nearest(self, queries, k, relatives):
            if 7 in queries:
                raise MemoryError("block of 7")
            return super().nearest(queries, k, relatives)

    query_taxa = QueryTaxa(tree, {}, 10, {"precision"})
    with pytest.raises(MemoryError, match="block of 7"):
        query_statistics(
            Broken(tree), query_taxa, np.arange(400), Clock(), lambda *_: None, threads=2
        )
