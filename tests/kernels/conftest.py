"""Every kernel's test runs for each backend, manifold and dtype that it names."""

import pytest
from support.kernels import BACKENDS, DTYPES, MANIFOLDS, available


@pytest.fixture(params=BACKENDS)
def backend(request):
    return available(request.param)


@pytest.fixture(params=MANIFOLDS)
def manifold(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=str)
def dtype(request):
    return request.param
