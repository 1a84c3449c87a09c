"""Laws of separated codes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist

from poincare_taxa.layouts.codes import extent, sparse_code, tight_code

SIZES = [2, 3, 4, 5, 7, 9, 10, 18, 19, 40, 100, 150, 300, 700]


@pytest.mark.parametrize("m", [1, 2, 3, 4, 9, 15])
@pytest.mark.parametrize("k", SIZES)
def test_tight_code__is_separated_and_sorted_by_length(k, m):
    code = tight_code(k, m)
    length = np.linalg.norm(code, axis=1)
    assert code.shape == (k, m)
    assert pdist(code).min() >= 1 - 1e-9
    assert (np.diff(length) > -1e-9).all() or np.allclose(length, length[0], atol=1e-6)


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize("m", [1, 2, 3, 9])
@pytest.mark.parametrize("k", SIZES)
def test_sparse_code__is_separated_and_centred_where_asked(k, m, centred):
    code = sparse_code(k, m, centred)
    assert code.shape == (k, m)
    assert pdist(code).min() >= 1 - 1e-9
    assert not centred or not code[0].any()


@given(m=st.integers(1, 16), data=st.data())
def test_sparse_code__uses_one_coordinate_a_point_while_the_axes_suffice(m, data):
    k = data.draw(st.integers(1, 3 if m == 2 else 2 * m))
    assert ((sparse_code(k, m, False) != 0).sum(1) <= 1).all()


@given(m=st.integers(2, 12), data=st.data())
def test_tight_code__makes_small_families_equidistant(m, data):
    k = data.draw(st.integers(2, m + 1))
    np.testing.assert_allclose(pdist(tight_code(k, m)), 1, atol=1e-12)


@pytest.mark.parametrize(("k", "m", "at_most"), [(30, 9, 0.82), (100, 9, 0.97), (182, 15, 0.9)])
def test_tight_code__packs_middling_families_better_than_a_lattice(k, m, at_most):
    """D_m needs extent 1 for more than 2m and up to 2m(m-1) points."""
    assert extent(tight_code(k, m)) <= at_most


def test_tight_code__fills_the_plane_like_the_densest_packing():
    # Area per point of the hexagonal lattice is √3/2, so a disk of k points has radius √(k√3/2π).
    k = 5000
    assert extent(tight_code(k, 2)) == pytest.approx(
        np.sqrt(k * np.sqrt(3) / (2 * np.pi)), rel=0.02
    )


def test_codes__cannot_be_changed_by_a_caller():
    with pytest.raises(ValueError, match="read-only"):
        tight_code(5, 3)[0] = 0


def test_tight_code__is_the_same_on_every_processor():
    """A thread more or another instruction set changes last bits; they must not grow."""
    code = (
        "from poincare_taxa.layouts.codes import tight_code as t; "
        "print(t(81, 9).round(9).tobytes().hex())"
    )
    slow = {"OPENBLAS_CORETYPE": "Sandybridge", "OPENBLAS_NUM_THREADS": "1"}
    environment = os.environ | slow
    other = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert other.stdout.strip() == tight_code(81, 9).round(9).tobytes().hex()
