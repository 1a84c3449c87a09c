"""Landmarks: laws of a Cholesky decomposition with pivots, and depths of a tree in vectors."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.points import polar_points
from support.tolerance import eps, polar_atol
from support.trees import taxonomies
from support.zoo import random_points

from poincare_taxa.features.landmarks import choose_landmarks, kernel_coordinates, shared_depth
from poincare_taxa.geometry import polar
from poincare_taxa.layouts.tree import layout
from poincare_taxa.readers.sample import load_sample

EPS = eps(torch.float64)


def gromov(r, u):
    return ((r[:, None] + r - polar.cdist(r, u, r, u)) / 2).numpy()


@given(st.integers(1, 12), st.integers(1, 15), st.integers(0, 2**31))
def test_kernel_coordinates__products_are_the_kernel_that_landmarks_explain(n, num, seed):
    r, u = random_points(n, 3, seed=seed)
    landmarks = choose_landmarks(r, u, num)
    assert len(landmarks.place) == min(n, num)
    z, kernel = kernel_coordinates(r, u, landmarks), gromov(r, u)
    # What is left of the kernel is positive semidefinite, and 0 for landmarks: a Nyström residual.
    left = kernel - z @ z.T
    # Distances are exact to a few eps (1 + d); solving magnifies this by the inverse of the factor.
    inverse = np.linalg.norm(np.linalg.inv(landmarks.factor), 2) ** 2
    slack = 100 * n * EPS * 30 * (1 + 30 * inverse)
    at = landmarks.place
    assert np.abs(left[at]).max() <= slack
    assert np.linalg.eigvalsh((left + left.T) / 2).min() >= -slack
    np.testing.assert_allclose(z[at], landmarks.factor, rtol=0, atol=slack)


@given(st.integers(2, 12), st.integers(0, 2**31))
def test_choose_landmarks__takes_the_point_that_is_explained_least(n, seed):
    r, u = random_points(n, 3, seed=seed)
    landmarks = choose_landmarks(r, u, n - 1)
    kernel = gromov(r, u)
    for step in range(1, n - 1):
        at = landmarks.place[:step]
        explained = kernel[:, at] @ np.linalg.solve(kernel[np.ix_(at, at)], kernel[at])
        left = (kernel - explained).diagonal()
        assert left[landmarks.place[step]] >= left.max() - 1e-6


@given(polar_points(5, 200.0))
def test_choose_landmarks__of_any_points_are_finite_and_differ(points):
    landmarks = choose_landmarks(*points, 5)
    assert 1 <= len(landmarks.place) == len(set(landmarks.place.tolist()))
    for compute in (shared_depth, kernel_coordinates):
        assert np.isfinite(compute(*points, landmarks)).all()


def test_choose_landmarks__points_that_coincide_are_one():
    r, u = random_points(4, 3)
    twice = torch.cat((r, r)), torch.cat((u, u))
    assert len(choose_landmarks(*twice, 8).place) == 4
    nowhere = torch.zeros(3, dtype=torch.float64)
    assert len(choose_landmarks(nowhere, u[:3], 8).place) == 1


@given(polar_points(4, 200.0, dtype=torch.float64))
def test_shared_depth__is_between_0_and_the_radius_and_all_of_it_on_the_ray(points):
    r, u = points
    landmarks = choose_landmarks(r, u, 4)
    depth = shared_depth(r, u, landmarks)
    slack = polar_atol(torch.float64, r).numpy()[:, None]
    assert (depth >= -slack).all()
    assert (depth <= r.numpy()[:, None] + slack).all()
    own = depth[landmarks.place, np.arange(len(landmarks.place))]
    assert (np.abs(own - landmarks.radius.numpy()) <= slack[landmarks.place, 0]).all()
    # At least the Gromov product with the landmark itself, which ends at the landmark.
    assert (depth >= gromov(r, u)[:, landmarks.place] - 2 * slack.max()).all()


@given(taxonomies(min_size=2), st.data())
def test_shared_depth__of_a_layout_is_the_radius_of_the_common_ancestor(tax, data):
    tax = tax.without_lengths()
    points = layout(tax, 10)
    rows = np.array(data.draw(st.lists(st.integers(0, len(tax) - 1), min_size=1, max_size=6)))
    landmarks = choose_landmarks(points.radius[rows], points.direction[rows], 6)
    chosen = rows[landmarks.place]
    everyone = np.arange(len(tax))
    depth = shared_depth(points.radius, points.direction, landmarks)
    common = points.radius[tax.tree.lca(everyone[:, None], chosen)].numpy()
    below = tax.tree.is_ancestor(chosen, everyone[:, None])  # there the ray may go on
    off = np.where(below, np.maximum(common - depth, 0), np.abs(common - depth))
    # An edge is τ ≥ .85 long. A child's offset is about e^-r: rays that separate at an ancestor
    # are within log 2 of its radius for offsets of twice or half that, and families of 40 in 10-D
    # are wider by less.
    edge = float(points.radius[1]) if len(tax) > 1 else 1.0
    assert (off <= max(edge, 1.0)).mean() >= 0.99


def test_shared_depth__orders_mammals_as_the_tree_does():
    tax = load_sample("mammals")
    points = layout(tax, 10)
    rows = np.random.default_rng(0).choice(len(tax), 500, replace=False)
    landmarks = choose_landmarks(points.radius[rows], points.direction[rows], 64)
    everyone = np.arange(len(tax))
    depth = shared_depth(points.radius, points.direction, landmarks)
    common = tax.depth[tax.tree.lca(everyone[:, None], rows[landmarks.place])]
    assert np.corrcoef(depth.ravel(), common.ravel())[0, 1] > 0.97
