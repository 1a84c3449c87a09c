"""Streams of random numbers: one seed, and an independent stream for each purpose.

A part of a computation that is left out does not shift the numbers that the other parts draw.
"""

import hashlib

import numpy as np

__all__ = ["stream", "stream_seed"]


def stream(seed: int, purpose: str) -> np.random.Generator:
    """Return the generator of a purpose.

    Examples
    --------
    >>> queries, others = stream(0, "queries"), stream(0, "others")
    >>> bool(queries.random() == others.random())
    False
    """
    return np.random.default_rng([seed, *purpose.encode()])


def stream_seed(seed: int, purpose: str) -> int:
    """Return the seed of a purpose, for generators that take one number: 0 … 2⁵⁶ − 1."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:7], "big")
