"""Margins are functions of tree distances."""

import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks.margins import ConstantMargin, DepthMargin, Margin, TreeMargin

NEAR, FAR = torch.tensor([1, 3]), torch.tensor([[2, 5], [2, 7]])


@given(st.floats(0.01, 5), st.floats(0.01, 5))
def test_margins__recomputed_by_loops(a, b):
    for i in range(2):
        for k in range(2):
            near, far = int(NEAR[i]), int(FAR[i, k])
            for margin, expected in [
                (ConstantMargin(a), a),
                (DepthMargin(base=a, slope=b), a + b * near),
                (TreeMargin(tau=a), a * (far - near)),
            ]:
                value = torch.as_tensor(margin(NEAR, FAR)).expand(2, 2)[i, k]
                assert float(value) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("margin", [ConstantMargin(), DepthMargin(), TreeMargin()])
def test_margins__are_values_that_fit_the_seam(margin):
    assert isinstance(margin, Margin)
    assert pickle.loads(pickle.dumps(margin)) == margin
    with pytest.raises(AttributeError):
        margin.tau = 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantMargin(-0.1), "margin must be at least 0; got -0.1"),
        (lambda: ConstantMargin(float("nan")), "margin must be at least 0"),
        (lambda: TreeMargin(0), "tau must be positive; got 0"),
    ],
)
def test_margins__refuse_with_advice(make, message):
    with pytest.raises(ValueError, match=message):
        make()
