"""Where taxa are drawn: arcs around any centre, and geodesics."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa.geometry import ball
from poincare_taxa.pictures.view import arcs, geodesics


@settings(deadline=None)
@given(taxonomies())
def test_arcs__around_the_root_are_in_proportion_to_leaves(tax):
    turn = arcs(tax.tree)
    leaves = [node for node in range(len(tax)) if tax.num_children[node] == 0]
    for node in range(1, len(tax)):
        mine = [i for i, leaf in enumerate(leaves) if tax.tree.is_ancestor(node, leaf)]
        np.testing.assert_allclose(turn[node], (mine[0] + mine[-1] + 1) / 2 / len(leaves))


@settings(deadline=None)
@given(taxonomies(min_size=2), st.data())
def test_arcs__around_any_centre_keep_clades_together_and_leaves_apart(tax, data):
    centre = data.draw(st.integers(0, len(tax) - 1))
    turn = arcs(tax.tree, centre)
    assert ((turn >= 0) & (turn <= 1)).all()
    leaves = np.array([x for x in range(len(tax)) if tax.num_children[x] == 0 and x != centre], int)
    order = leaves[np.argsort(turn[leaves], kind="stable")]
    assert (np.diff(turn[order]) > 1e-12).all()
    for node in range(len(tax)):
        if tax.tree.is_ancestor(node, centre):
            continue  # It is on the way from the centre to the root.
        mine = np.flatnonzero(tax.tree.is_ancestor(node, order))
        assert (np.diff(mine) == 1).all()
        assert turn[order[mine[0]]] - 1e-12 <= turn[node] <= turn[order[mine[-1]]] + 1e-12


def test_geodesics__lie_between_their_ends():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.rand(20, 2, generator=generator, dtype=torch.float64) * 0.7 for _ in range(2))
    path = geodesics(x, y)
    torch.testing.assert_close(path[:, 0], x)
    torch.testing.assert_close(path[:, -1], y)
    through = ball.dist(x[:, None], path) + ball.dist(path, y[:, None])
    torch.testing.assert_close(through, ball.dist(x, y)[:, None].expand_as(through))
