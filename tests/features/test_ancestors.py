"""The ancestor matrix against walks along the parents, and what a ridge on it is."""

import hypothesis.strategies as st
import numpy as np
from hypothesis import given
from oracles.tree import walk_up
from support.trees import taxonomies

from poincare_taxa.features.ancestors import ancestor_matrix
from poincare_taxa.readers.sample import load_sample


@given(taxonomies(), st.data())
def test_ancestor_matrix__marks_a_taxon_and_its_ancestors(tax, data):
    rows = data.draw(st.lists(st.integers(0, len(tax) - 1), max_size=6))
    found = ancestor_matrix(tax, tax.ids.gather(rows))
    assert found.shape == (len(rows), len(tax))
    assert found.has_canonical_format
    wanted = [[float(v in walk_up(tax.parent, row)) for v in range(len(tax))] for row in rows]
    np.testing.assert_array_equal(found.toarray(), np.reshape(wanted, found.shape))


@given(taxonomies())
def test_ancestor_matrix__products_are_depths_of_common_ancestors(tax):
    rows = np.arange(len(tax))
    ancestors = ancestor_matrix(tax, tax.ids)
    shared = tax.depth[tax.tree.lca(rows[:, None], rows)] + 1
    np.testing.assert_array_equal((ancestors @ ancestors.T).toarray(), shared)


def test_ancestor_matrix__ridge_on_it_is_the_gaussian_process_of_the_tree():
    tax, rng = load_sample("mammals"), np.random.default_rng(0)
    rows, noise = rng.choice(len(tax), 60, replace=False), 0.7
    train, test = rows[:40], rows[40:]
    y = rng.normal(size=40)
    # The posterior mean of the process, from lowest common ancestors alone.
    kernel = tax.depth[tax.tree.lca(rows[:, None], train)] + 1.0
    process = kernel[40:] @ np.linalg.solve(kernel[:40] + noise * np.eye(40), y)
    # Ridge regression, in its primal form.
    x = ancestor_matrix(tax, tax.ids.gather(train)).toarray()
    used = x.any(axis=0)
    normal = x[:, used].T @ x[:, used] + noise * np.eye(used.sum())
    ridge = np.linalg.solve(normal, x[:, used].T @ y)
    found = ancestor_matrix(tax, tax.ids.gather(test)).toarray()[:, used] @ ridge
    # Both systems have a condition below 40 · 15 / .7, and numbers of a few units.
    np.testing.assert_allclose(found, process, rtol=0, atol=1e-10)
