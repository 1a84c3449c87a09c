"""Lines of a package by room: code, docstrings, comments, blank lines.

Every line of every ``.py`` and ``.pyi`` file is counted once. A *docstring* is any string that
stands alone as a statement (of a module, class, function or attribute), with all lines that it
spans. *Code* is every other line with a token on it, a comment behind it or not; a *comment* line
holds nothing else; what is left is *blank*.
"""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
KINDS = ("code", "docstrings", "comments", "blank")
BESIDE = "beside the rooms"


def count(source: str) -> Counter[str]:
    """Lines of one file by kind."""
    texts, code, comments = set(), set(), set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Expr(ast.Constant(str())):
                texts.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        lines = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            comments.update(lines)
        elif token.type not in NO_CODE:
            code.update(lines)
    code -= texts
    found = {"code": code, "docstrings": texts, "comments": comments - code - texts}
    counts = Counter({kind: len(lines) for kind, lines in found.items()})
    counts["blank"] = len(source.splitlines()) - counts.total()
    return counts


def by_room(package: Path) -> dict[str, Counter[str]]:
    """Lines of each folder of a package, and of the files beside them; folders count as a whole."""
    rooms: dict[str, Counter[str]] = {}
    files = sorted(path for path in package.rglob("*.py*") if path.suffix in (".py", ".pyi"))
    for path in files:
        place = path.relative_to(package).parts
        counts = count(path.read_text(encoding="utf-8"))
        counts["files"] = 1
        room = place[0] if len(place) > 1 else BESIDE
        rooms[room] = rooms.get(room, Counter()) + counts
    if not files:
        raise FileNotFoundError(f"{package} holds no Python file: give the folder of a package")
    return rooms


def table(package: Path) -> list[dict[str, object]]:
    """One row for each room, and their sum."""
    rooms = by_room(package)
    rooms["all"] = sum(rooms.values(), Counter())
    return [
        {
            "room": room,
            "files": counts["files"],
            "lines": sum(counts[kind] for kind in KINDS),
            **{kind: counts[kind] for kind in KINDS},
        }
        for room, counts in rooms.items()
    ]
