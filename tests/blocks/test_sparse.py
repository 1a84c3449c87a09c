"""Sparse gradients of tables."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.blocks._sparse import coalesced


@given(st.lists(st.integers(0, 9), max_size=12))
def test_coalesced__is_what_torch_computes__and_shares_the_values_of_ascending_rows(rows):
    values = torch.arange(2.0 * len(rows)).view(-1, 2)
    index = torch.tensor([rows], dtype=torch.int64)
    gradient = torch.sparse_coo_tensor(index, values, (10, 2), check_invariants=True)
    found, expected = coalesced(gradient), gradient.coalesce()
    assert found.is_coalesced()
    assert torch.equal(found.indices(), expected.indices())
    assert torch.equal(found.values(), expected.values())
    if rows == sorted(set(rows)):
        assert found.values().data_ptr() == values.data_ptr()
    assert coalesced(expected) is expected
