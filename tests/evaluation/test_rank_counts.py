"""Which queries are measured together."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa.evaluation import rank_counts
from poincare_taxa.evaluation.rank_counts import QueryTaxa
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
