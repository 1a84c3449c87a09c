"""Values as JSON has them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poincare_taxa.files.records import as_json, dtype_name

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
)


def finite(value):
    """Whether nothing in a plain value would be changed."""
    if isinstance(value, dict):
        return all(map(finite, value.values()))
    if isinstance(value, list):
        return all(map(finite, value))
    return not isinstance(value, tuple) and not (
        isinstance(value, float) and not math.isfinite(value)
    )


@settings(deadline=None)
@given(PLAIN)
def test_as_json__is_read_back_as_it_is(value):
    plain = as_json(value)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert as_json(plain) == plain
    if finite(value):
        assert plain == value


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float32(0.5), 0.5),
        (np.float64("nan"), None),
        (np.bool_(True), True),
        (np.array([[1.0, math.inf]]), [[1.0, None]]),
        (torch.tensor(3), 3),
        (torch.tensor([0.5, math.nan]), [0.5, None]),
        (Path("a"), "a"),
        ({1: {2: (None,)}}, {"1": {"2": [None]}}),
    ],
)
def test_as_json__of_objects(value, plain):
    found = as_json(value)
    assert found == plain
    assert type(found) is type(plain)


def test_as_json__writes_other_objects_as_it_is_told():
    class Block:
        def __init__(self, part):
            self.part = part

    found = as_json([Block(Block(math.inf))], lambda block: {"class": "Block", **vars(block)})
    assert found == [{"class": "Block", "part": {"class": "Block", "part": None}}]


@pytest.mark.parametrize("name", ["float32", "float64", "bfloat16", "int64"])
def test_dtype_name__is_the_name_in_torch(name):
    assert dtype_name(getattr(torch, name)) == name
