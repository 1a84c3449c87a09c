"""Blocks of code in the pages of this repository, as readers see them."""

import re
from typing import NamedTuple

__all__ = ["CodeBlock", "code_blocks"]

_FENCE = re.compile(
    r"(?:^<!-- not executed in tests: (?P<reason>[^\n]+) -->\n+)?"
    r"^```(?:\{code-block\} )?(?P<language>python|bash|toml)\n(?P<code>.*?)^```$"
    r"|^## (?P<heading>[^\n]+)$",
    re.MULTILINE | re.DOTALL,
)


class CodeBlock(NamedTuple):
    """A block that the build of the documentation shows and does not execute."""

    heading: str
    """The heading of second level above it; "" where there is none."""
    language: str
    """python, bash or toml."""
    code: str
    """Its text."""
    reason: str | None
    """Why the tests do not execute it, from a comment above it; None where they do."""


def code_blocks(page: str) -> list[CodeBlock]:
    """Find the blocks in the Markdown of a page, without those that have outputs (code-cell)."""
    found, heading = [], ""
    for match in _FENCE.finditer(page):
        heading = match["heading"] or heading
        if match["language"]:
            found.append(CodeBlock(heading, match["language"], match["code"], match["reason"]))
    return found
