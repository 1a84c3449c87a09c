"""Inputs of `fuzz` that are kept: the bytes that their numbers are drawn by, as a file of text."""

import base64
import json
import random
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from benchmarks.tables import CHECKOUT
from poincare_taxa.files.atomic import replace_file

CORPUS = Path("tests", "benchmarks", "corpus.json")


class Drawn(random.Random):
    """Random numbers from given bytes; behind their end from the stream that they seed.

    Examples
    --------
    >>> Drawn(b"abc").getrandbits(8) == ord("a")
    True
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = data

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        if len(self._left) < size:
            self._left = b""
            return super().getrandbits(k)
        taken, self._left = self._left[:size], self._left[size:]
        return int.from_bytes(taken, "little") >> (8 * size - k)

    def random(self) -> float:
        return self.getrandbits(53) * 2.0**-53


@cache
def corpus(root: Path = CHECKOUT) -> dict[str, list[bytes]]:
    """Bytes that the kept inputs of each subject are drawn by."""
    file = root / CORPUS
    if not file.exists():
        return {}
    found: Mapping[str, list[str]] = json.loads(file.read_text())
    return {name: [base64.b64decode(text) for text in texts] for name, texts in found.items()}


def write_corpus(kept: Mapping[str, list[bytes]], root: Path) -> None:
    """Write those bytes as text, a line for each subject."""
    lines = {
        name: [base64.b64encode(data).decode() for data in sorted(some, key=lambda x: (len(x), x))]
        for name, some in kept.items()
    }
    (root / CORPUS).parent.mkdir(parents=True, exist_ok=True)
    with replace_file(root / CORPUS) as draft:
        text = ",\n".join(f"{json.dumps(name)}: {json.dumps(some)}" for name, some in lines.items())
        draft.write_text(f"{{\n{text}\n}}\n")
