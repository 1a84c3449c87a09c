"""Columns of a taxonomy as bytes of a document: varints, lines of text, gzip, base64.

The page and the widget read them with ``DecompressionStream``, and base64 is inert in HTML: no
name, id or value can become markup, whatever it holds.
"""

import base64
import zlib

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

__all__ = ["differences", "element", "lines", "packed", "varints"]


def varints(values: ArrayLike) -> bytes:
    """Write whole numbers ≥ 0, 7 bits a byte, the low ones first; a high bit: more bytes follow.

    Examples
    --------
    >>> varints([0, 127, 128, 300]).hex(" ")
    '00 7f 80 01 ac 02'
    """
    left = np.asarray(values, np.uint64)
    # Bytes of each number, then the place of its first byte.
    length = np.ones(len(left), np.int64)
    for bits in range(7, 64, 7):
        length += left >> np.uint64(bits) > 0
    place = np.cumsum(length) - length
    out = np.empty(int(length.sum()), np.uint8)
    for i in range(int(length.max(initial=0))):
        has = length > i
        part = (left[has] >> np.uint64(7 * i)).astype(np.uint8) & 127
        out[place[has] + i] = part | np.where(length[has] > i + 1, 128, 0).astype(np.uint8)
    return out.tobytes()


def differences(values: ArrayLike) -> NDArray[np.uint64]:
    """Return differences of neighbours as numbers ≥ 0, the sign in the lowest bit.

    Examples
    --------
    >>> differences([5, 3, 4]).tolist()
    [10, 3, 2]
    """
    delta = np.diff(np.asarray(values, np.int64), prepend=np.int64(0))
    return ((delta << 1) ^ (delta >> 63)).astype(np.uint64)


def lines(texts: pl.Series) -> bytes:
    """Write texts in UTF-8, a line feed after each; null is empty, a line break in one a space."""
    clean = texts.cast(pl.String).fill_null("").str.replace_all(r"[\r\n]", " ")
    return "".join(f"{text}\n" for text in clean).encode()


def packed(content: bytes) -> bytes:
    """Return a gzip stream of bytes, the same for the same bytes."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)  # 31: gzip, without the time of day
    return packer.compress(content) + packer.flush()


def element(name: str, packed_bytes: bytes) -> str:
    """Return an inert element of the document that holds bytes."""
    text = base64.b64encode(packed_bytes).decode()
    return f'<script type="text/plain" id="data-{name}">{text}</script>'
