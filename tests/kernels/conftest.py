"""Every kernel's test runs for each backend, manifold and dtype that it names."""

import pytest
from support.kernels import BACKENDS, DTYPES, MANIFOLDS, available

from poincare_taxa.kernels.numba import compile as compiled


@pytest.fixture(autouse=True)
def threads_for_small_work(monkeypatch):
    """Let small inputs be cut among threads wherever a test asks for more than one."""
    monkeypatch.setattr(compiled, "_SHARE", 1.0)


@pytest.fixture(params=BACKENDS)
def backend(request):
    return available(request.param)


@pytest.fixture(params=MANIFOLDS)
def manifold(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param
