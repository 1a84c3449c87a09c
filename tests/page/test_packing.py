"""Bytes of columns, against a decoder that is slow and obvious."""

import base64
import gzip
import re

import numpy as np
import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from poincare_taxa.page import packing


def decoded(data):
    numbers, value, place = [], 0, 0
    for byte in data:
        value += (byte & 127) << place
        place += 7
        if byte < 128:
            numbers.append(value)
            value = place = 0
    return numbers


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_varints__are_decoded_to_the_numbers(numbers):
    assert decoded(packing.varints(np.array(numbers, np.uint64))) == numbers


@given(st.lists(st.integers(-(2**52), 2**52)))
def test_differences__add_up_to_the_numbers(numbers):
    value, found = 0, []
    for code in packing.differences(np.array(numbers, np.int64)).tolist():
        value += -(code + 1) // 2 if code % 2 else code // 2
        found.append(value)
    assert found == numbers


def test_lines__have_one_for_each_text():
    texts = pl.Series(["a", None, "b\nc\r", "é"])
    assert packing.lines(texts).decode() == "a\n\nb c \né\n"


@given(st.binary())
def test_element__holds_the_bytes_and_no_markup(content):
    text = packing.element("x", packing.packed(content))
    inside = re.fullmatch(r'<script type="text/plain" id="data-x">([A-Za-z0-9+/=]*)</script>', text)
    assert inside
    assert gzip.decompress(base64.b64decode(inside[1])) == content
    assert text == packing.element("x", packing.packed(content))
