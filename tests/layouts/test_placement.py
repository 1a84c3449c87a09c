"""Laws of placement: who stays, isometries of what moves, room for what is new."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.tree import walk_up
from support.tolerance import direction_atol, eps
from support.trees import parents, random_phylogeny

from poincare_taxa.geometry import polar
from poincare_taxa.layouts import placement
from poincare_taxa.layouts.placement import CARRIED, INSERTED, KEPT, MOVED, PLACED, place
from poincare_taxa.layouts.refinement import count_coincident
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.taxonomy import Taxonomy

DTYPES = [torch.float64, torch.float32]
TAU = 1.1


@st.composite
def changes(draw, max_size=25):
    """Two trees, and for each node of the second its row in the first, else −1."""
    old, new = (Taxonomy.from_parents(draw(parents(2, max_size))).tree for _ in range(2))
    shared = draw(st.integers(1, min(len(old), len(new))))
    source = np.full(len(new), -1)
    theirs = draw(st.permutations(range(1, len(new))))[: shared - 1]
    source[[0, *theirs]] = [0, *draw(st.permutations(range(1, len(old))))[: shared - 1]]
    return old, new, source


def anchor(parent, known, row):
    """The nearest ancestor that is known."""
    return next(above for above in walk_up(parent, row)[1:] if known(above))


def states_one_by_one(old, new, source):
    """What becomes of each node, from the parents of one node after the other."""
    goal = {int(s): row for row, s in enumerate(source) if s >= 0}
    stays = {0}
    for row in range(1, len(new)):
        if source[row] >= 0:
            then = anchor(old.parent, lambda o: o in goal, int(source[row]))
            now = anchor(new.parent, lambda v: source[v] >= 0, row)
            if goal[then] == now:
                stays.add(row)
    found = []
    for row in range(len(new)):
        below = [v for v in range(row + 1, new.end[row]) if v in stays]
        if row in stays:
            moved = any(source[v] >= 0 and v not in stays for v in walk_up(new.parent, row))
            found.append(CARRIED if moved else KEPT)
        elif source[row] >= 0:
            found.append(MOVED)
        else:
            nearest = any(anchor(new.parent, lambda v: source[v] >= 0, v) < row for v in below)
            found.append(INSERTED if nearest else PLACED)
    return found


def placed(change, dtype=torch.float64, dim=6):
    old, new, source = change
    points = layout(old, dim, tau=TAU, dtype=dtype)
    return points, place(new, old, source, points[:2], TAU)


@given(changes())
def test_state__is_that_of_a_walk_up_both_trees(change):
    assert placed(change)[1].state.tolist() == states_one_by_one(*change)


@pytest.mark.parametrize("dtype", DTYPES)
@given(change=changes())
def test_points__of_taxa_that_stay_are_the_old_ones_bit_for_bit(dtype, change):
    points, found = placed(change, dtype)
    kept = np.flatnonzero(found.state == KEPT)
    at = change[2][kept]
    assert found.radius[kept].equal(points.radius[at])
    assert found.direction[kept].equal(points.direction[at])


@given(changes())
def test_distances__within_a_moved_subtree_are_as_they_were(change):
    points, found = placed(change)
    radius, direction, _ = points
    inside = np.flatnonzero(found.top > 0)
    inside = inside[change[2][inside] >= 0]
    for top in np.unique(found.top[inside]):
        new = inside[found.top[inside] == top]
        at = change[2][new]
        then = polar.cdist(radius[at], direction[at], radius[at], direction[at])
        now = (found.radius[new], found.direction[new])
        # Every level adds a rounding of the direction; the radius has that of an exponential.
        levels = change[0].max_depth + change[1].max_depth
        furthest = max(float(radius[at].max()), float(now[0].max()))
        atol = levels * direction_atol(torch.float64, furthest, 6)
        torch.testing.assert_close(polar.cdist(*now, *now), then, rtol=0, atol=atol)


@pytest.mark.parametrize("dtype", DTYPES)
@given(change=changes())
def test_points__are_points_and_a_child_is_beyond_its_parent(dtype, change):
    _, found = placed(change, dtype)
    square = found.direction.double().square().sum(1)
    assert (square - 1).abs().max() <= 17 * eps(dtype)
    placed_or_kept = np.flatnonzero(found.top[1:] == 0) + 1
    above = change[1].parent[placed_or_kept]
    assert (found.radius[placed_or_kept] > found.radius[above]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@given(changes())
def test_new_siblings__keep_clear_of_old_ones(dtype, change):
    _, found = placed(change, dtype)
    tree = change[1]
    assert found.unresolved == 0
    # Taxa that stay are where they were, so that only new ones are compared with them.
    for family in range(len(tree)):
        children = tree.children(family).copy()  # torch takes what can be written to
        new = children[np.isin(found.state[children], (MOVED, PLACED))]
        if len(new) and len(children) > 1:
            d = polar.cdist(
                found.radius[new].double(),
                found.direction[new].double(),
                found.radius[children].double(),
                found.direction[children].double(),
            ).numpy()
            d[new[:, None] == children] = np.inf
            assert d.min() > 0.2 * TAU


@given(changes())
def test_a_new_taxon__has_the_radius_of_a_level_beyond_its_parent(change):
    _, found = placed(change)
    new = np.flatnonzero(np.isin(found.state, (MOVED, PLACED)))
    above = change[1].parent[new]
    torch.testing.assert_close(
        found.radius[new], found.radius[above] + TAU, rtol=8 * eps(torch.float64), atol=0
    )


def test_a_new_taxon__has_the_radius_of_its_siblings_bit_for_bit():
    old = Taxonomy.from_parents([-1, 0, 1, 2, 2, 1]).tree
    new = Taxonomy.from_parents([-1, 0, 1, 2, 2, 1, 2]).tree  # a third child of row 2
    points = layout(old, 5, dtype=torch.float32)
    source = np.array([0, 1, 2, 3, 4, -1, 5])
    found = place(new, old, source, points[:2], points.info["tau"])
    assert found.state.tolist() == [KEPT] * 5 + [PLACED, KEPT]
    assert found.radius[5] == found.radius[4]


def test_inserted__is_between_its_parent_and_what_stays_below():
    old = Taxonomy.from_parents([-1, 0, 1, 1]).tree
    new = Taxonomy.from_parents([-1, 0, 1, 2, 3, 3]).tree  # two nodes between row 1 and its leaves
    points = layout(old, 5, tau=TAU)
    found = place(new, old, np.array([0, 1, -1, -1, 2, 3]), points[:2], TAU)
    assert found.state.tolist() == [KEPT, KEPT, INSERTED, INSERTED, KEPT, KEPT]
    expected = TAU * torch.tensor([0, 1, 4 / 3, 5 / 3, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(found.radius, expected)
    score = polar.ancestor_score(
        found.radius[4], found.direction[4], found.radius[2], found.direction[2]
    )
    assert score < 0.5 * TAU  # of a sibling, or a cousin, it is at least about 2 τ


def test_many_new_siblings__share_a_code_clear_of_old_ones():
    old, new = (Taxonomy.from_parents([-1, 0, *([1] * k)]).tree for k in (20, 20 + 300))
    assert new.num_children[1] - old.num_children[1] > placement._ONE_BY_ONE
    points = layout(old, 8, tau=TAU)
    source = np.r_[np.arange(len(old)), np.full(300, -1)]
    found = place(new, old, source, points[:2], TAU)
    assert found.unresolved == 0
    assert count_coincident(new.parent, found.direction) == 0
    fresh = layout(new, 8, tau=TAU)

    def nearest(points):
        d = polar.cdist(points.radius, points.direction, points.radius, points.direction)[2:, 2:]
        return d.fill_diagonal_(torch.inf).min(dim=1).values.median()

    assert nearest(found) > 0.8 * nearest(fresh)


def test_branch_lengths__of_new_leaves_are_kept():
    tax = random_phylogeny(60, 3, shortest=0.2)
    tree = tax.tree
    out = tree.leaf_rows[::5]
    rows = np.setdiff1d(np.arange(len(tree)), out)
    old = tax.at_rows(rows).tree
    source = np.full(len(tree), -1)
    source[rows] = np.arange(len(rows))
    points = layout(old, 8)
    found = place(tree, old, source, points[:2], points.info["tau"])
    u, v = np.repeat(out, len(rows)), np.tile(rows, len(out))
    d = polar.dist(found.radius[u], found.direction[u], found.radius[v], found.direction[v])
    ratio = d.numpy() / points.info["tau"] / tree.distance(u, v)
    assert np.median(np.abs(ratio - 1)) < 0.05


def test_same_seed__same_bits():
    old = layout(Taxonomy.from_parents([-1, *[0] * 5]), 4)
    new = Taxonomy.from_parents([-1, *[0] * 8]).tree
    source = np.array([0, 1, 2, 3, 4, 5, -1, -1, -1])
    tree = Taxonomy.from_parents([-1, *[0] * 5]).tree
    first, again, other = (
        place(new, tree, source, old[:2], 1.0, seed=seed).direction for seed in (3, 3, 4)
    )
    assert first.equal(again)
    assert not first.equal(other)


def test_a_radius_beyond_the_largest__is_an_error_that_advises():
    old = Taxonomy.from_parents([-1, 0]).tree
    new = Taxonomy.from_parents([-1, 0, 1, 2]).tree
    points = layout(old, 4, dtype=torch.float32, tau=70.0)
    with pytest.raises(ValueError, match="the largest of float32 is 80: embed it afresh"):
        place(new, old, np.array([0, 1, -1, -1]), points[:2], 70.0)


@pytest.mark.filterwarnings("error")
def test_a_moved_subtree__far_beyond_the_largest_radius_is_that_error_alone():
    old = Taxonomy.from_parents([-1, 0, 0, 2, 3], branch_lengths=[0, 4, 0.5, 4.5, 5]).tree
    new = Taxonomy.from_parents([-1, 0, 1, 2, 3], branch_lengths=[0, 4, 0.5, 4.5, 5]).tree
    points = layout(old, 4)
    with pytest.raises(ValueError, match="embed it afresh"):
        place(new, old, np.arange(5), points[:2], points.info["tau"])


def test_a_new_subtree__in_a_crowded_family_gets_more_room_than_a_leaf():
    def room(below):
        """Distance from a new sibling, with children or without, to the nearest old one."""
        crowd = [-1, 0] + [1] * 90
        old = Taxonomy.from_parents(crowd).tree
        new = Taxonomy.from_parents(crowd + [1] + [len(crowd)] * below).tree
        points = layout(old, 3)
        source = np.r_[np.arange(len(old)), [-1] * (1 + below)]
        found = place(new, old, source, points[:2], points.info["tau"])
        siblings = slice(2, len(old))
        row = found.radius[[len(old)]], found.direction[[len(old)]]
        return float(polar.cdist(*row, found.radius[siblings], found.direction[siblings]).min())

    assert room(below=5) > room(below=0)
