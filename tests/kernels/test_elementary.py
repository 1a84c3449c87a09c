"""The exponential and logarithm of the compiled kernels: a few eps from the C library's."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from poincare_taxa.kernels.numba.elementary import exp, log1p

REALS = (np.float32, np.float64)


@njit(error_model="numpy")
def all_log1p(y, out):
    for m in range(len(y)):
        out[m] = log1p(y[m])


@njit(error_model="numpy")
def all_exp(x, out):
    for m in range(len(x)):
        out[m] = exp(x[m])


def numbers(least, most):
    return st.lists(st.floats(least, most), min_size=1, max_size=40)


@pytest.mark.parametrize("real", REALS)
@given(powers=numbers(-36, 36))
@settings(deadline=None)
def test_log1p__is_within_three_eps(real, powers):
    """u, its quotient s, the series and two products: each rounds once or twice."""
    y = (10 ** np.array([*powers, np.log10(2**0.5 - 1), 0.0])).astype(real)
    found = np.empty_like(y)
    all_log1p(y, found)
    expected = np.log1p(y.astype(np.longdouble))
    assert (np.abs(found - expected) <= 3 * np.finfo(real).eps * expected).all()


@pytest.mark.parametrize("real", REALS)
@given(shares=numbers(-1, 1))
@settings(deadline=None)
def test_exp__is_within_two_eps(real, shares):
    """The remainder of x is exact but for the second part of log 2; the series ends in 1 + r."""
    x = (np.array([*shares, 0.0]) * (85 if real is np.float32 else 700)).astype(real)
    found = np.empty_like(x)
    all_exp(x, found)
    expected = np.exp(x.astype(np.longdouble))
    assert (np.abs(found - expected) <= 2 * np.finfo(real).eps * expected).all()


@pytest.mark.parametrize("real", REALS)
def test_elementary__of_0_and_of_nan(real):
    x, found = np.array([0, np.nan], real), np.empty(2, real)
    all_log1p(x, found)
    assert found[0] == 0
    assert np.isnan(found[1])
    all_exp(x, found)
    assert found[0] == 1
    assert np.isnan(found[1])
