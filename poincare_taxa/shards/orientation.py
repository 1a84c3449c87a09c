"""Random numbers of some families of a level, the bits of a layout of all families.

A layout draws, level by level, a double for each axis of each family and then a sign (0 or 1) for
each. numpy's PCG64 makes a double of one word of 64 bits, and a sign of half a word, the low half
first; a half that is left over is the first sign of the next level. So the place of every number in
the stream of words is known, and `PCG64.advance` goes there.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Drawn", "Orientation"]


class Drawn(NamedTuple):
    """Numbers that `layouts.tree.family_offsets` draws of a generator, drawn before."""

    uniform: NDArray[np.float64]
    sign: NDArray[np.int64]

    def random(self, size: tuple[int, int]) -> NDArray[np.float64]:
        """Return the doubles."""
        assert size == self.uniform.shape
        return self.uniform

    def integers(self, low: int, high: int, size: tuple[int, int]) -> NDArray[np.int64]:
        """Return the signs."""
        assert (low, high, size) == (0, 2, self.sign.shape)
        return self.sign


class Orientation:
    """The stream of a seed, of levels with so many families each; 0 for a level that draws none."""

    def __init__(self, seed: int, families: Sequence[int], axes: int) -> None:
        self._seed, self._axes = seed, axes
        self._levels: list[tuple[int, int, int]] = []
        word, left = 0, -1  # the next word, and the word whose high half is left over
        for count in families:
            draws = count * axes
            # The first double's word, the first whole sign's half, and the half before it.
            self._levels.append((word, 2 * (word + draws), left))
            whole = draws - (left >= 0 and draws > 0)
            word += draws + -(-whole // 2)
            if draws:
                left = word - 1 if whole % 2 else -1

    def at(self, level: int, families: NDArray[np.integer]) -> Any:
        """Numbers of some families of a level, by their place among all of it: `Drawn`."""
        runs = np.split(families, 1 + np.flatnonzero(np.diff(families) != 1))
        drawn = [self._of_run(level, int(run[0]), len(run)) for run in runs if len(run)]
        return Drawn(*(np.concatenate(part) for part in zip(*drawn, strict=True)))

    def _of_run(
        self, level: int, family: int, count: int
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        word, half, left = self._levels[level]
        first, draws = family * self._axes, count * self._axes
        uniform = np.random.Generator(self._words(word + first)).random((count, self._axes))
        # Place of each sign in halves of words.
        place = half + first + np.arange(draws) - (left >= 0)
        if left >= 0 and first == 0:
            place[0] = 2 * left + 1
        signs = np.empty(draws, np.int64)
        for some in (place < half, place >= half):
            if some.any():
                at = place[some]
                words = self._words(int(at[0]) // 2).random_raw(
                    int(at[-1]) // 2 - int(at[0]) // 2 + 1
                )
                halves = words[at // 2 - at[0] // 2] >> (32 * (at % 2)).astype(np.uint64)
                signs[some] = halves >> np.uint64(31) & np.uint64(1)
        return uniform, signs.reshape(count, self._axes)

    def _words(self, place: int) -> np.random.PCG64:
        return np.random.PCG64(self._seed).advance(place)
