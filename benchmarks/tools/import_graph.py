"""The import graph of the library: circles between files or rooms, and a picture of the rooms.

An import counts wherever it stands in a file, inside a function too; only those for type checkers
do not. A *room* is a folder of the package, or a file beside the folders.
"""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from html import escape
from itertools import pairwise

import grimp

Imports = Mapping[str, set[str]]
"""What each file or room imports."""

Place = tuple[str, str]
"""A room twice is its box; a room and another name, a gap that a line from the room passes."""

FRONT_DOOR = "(front door)"
WIDTH, HEIGHT = 96, 30
ACROSS, GAP, DOWN = 116, 20, 72
"""Pixels of a box; from one box or gap to the next."""


def files(package: str = "poincare_taxa") -> dict[str, set[str]]:
    """What each file of a package imports of the package itself."""
    graph = grimp.build_graph(package, exclude_type_checking_imports=True, cache_dir=None)
    return {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}


def rooms(imports: Imports) -> dict[str, set[str]]:
    """What each room imports of other rooms; the package's own ``__init__`` is the front door."""
    found: dict[str, set[str]] = {}
    for name, others in imports.items():
        room = room_of(name)
        found.setdefault(room, set()).update(map(room_of, others))
    return {room: others - {room} for room, others in found.items()}


def room_of(name: str) -> str:
    """Room of a file."""
    _, _, inside = name.partition(".")
    return inside.partition(".")[0] or FRONT_DOOR


def circle(imports: Imports) -> list[str]:
    """Return a circle of imports, its first name again at the end; empty where there is none."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return error.args[1][::-1]  # Named against the direction of its imports.
    return []


def levels(imports: Imports) -> dict[str, int]:
    """Level of each room: 0 for those that import no other, else one above all they import."""
    found: dict[str, int] = {}
    for room in TopologicalSorter(imports).static_order():
        found[room] = 1 + max((found[other] for other in imports[room]), default=-1)
    return found


def direct(imports: Imports) -> dict[str, set[str]]:
    """Leave out what is imported through another room as well (the transitive reduction)."""
    reached: dict[str, set[str]] = {}
    for room in TopologicalSorter(imports).static_order():
        reached[room] = imports[room].union(*(reached[other] for other in imports[room]))
    return {
        room: {other for other in others if not any(other in reached[x] for x in others)}
        for room, others in imports.items()
    }


def chains(imports: Imports) -> list[list[Place]]:
    """Way of each direct import: the room, a gap in each level that is passed, the other room."""
    level = levels(imports)
    found = []
    for room, others in sorted(direct(imports).items()):
        for other in sorted(others):
            passed = range(level[room] - 1, level[other], -1)
            gaps = [(room, f"{other} {at}") for at in passed]
            found.append([(room, room), *gaps, (other, other)])
    return found


def places(imports: Imports) -> dict[Place, tuple[float, float]]:
    """Middle of each box and gap: a row for each level, everything below what leads to it."""
    level = levels(imports)
    rows: list[list[Place]] = [[] for _ in range(max(level.values()) + 1)]
    for room in sorted(level):
        rows[level[room]].append((room, room))
    above: dict[Place, list[Place]] = {}
    for chain in chains(imports):
        for upper, lower in pairwise(chain):
            above.setdefault(lower, []).append(upper)
        for gap, at in zip(chain[1:-1], range(level[chain[0][0]] - 1, 0, -1), strict=False):
            rows[at].append(gap)
    middle: dict[Place, tuple[float, float]] = {}
    for at, row in reversed(list(enumerate(rows))):

        def pull(place: Place) -> float:
            found = [middle[upper][0] for upper in above.get(place, [])]
            return sum(found) / len(found) if found else 0.0

        row.sort(key=pull)
        widths = [ACROSS if room == name else GAP for room, name in row]
        left = -sum(widths) / 2
        for place, width in zip(row, widths, strict=True):
            middle[place] = (left + width / 2, (len(rows) - at - 0.5) * DOWN)
            left += width
    return middle


def picture(imports: Imports) -> str:
    """Draw rooms as boxes and imports, the direct ones, as lines downwards: SVG."""
    imports = {room: others for room, others in imports.items() if room != FRONT_DOOR}
    middle = places(imports)
    left = min(x for x, _ in middle.values()) - ACROSS / 2
    width = max(x for x, _ in middle.values()) + ACROSS / 2 - left
    height = max(y for _, y in middle.values()) + DOWN / 2
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{left:g} 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="13">',
        f'<rect x="{left:g}" width="{width:g}" height="{height:g}" fill="white"/>',
    ]
    for chain in chains(imports):
        (x, y), *rest = (middle[place] for place in chain)
        way = f"M{x:g} {y:g}"
        for u, v in rest:
            way += f" C{x:g} {(y + v) / 2:g} {u:g} {(y + v) / 2:g} {u:g} {v:g}"
            x, y = u, v
        said = f"{chain[0][0]} imports {chain[-1][0]}"
        lines.append(f'<path d="{way}" fill="none" stroke="#888"><title>{said}</title></path>')
    for room in sorted(imports):
        x, y = middle[room, room]
        lines.append(
            f'<rect x="{x - WIDTH / 2:g}" y="{y - HEIGHT / 2:g}" width="{WIDTH}" height="{HEIGHT}" '
            'rx="5" fill="#e8f0fa" stroke="#0b4f9e"/>'
            f'<text x="{x:g}" y="{y + 4.5:g}" text-anchor="middle">{escape(room)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def described(circle: list[str]) -> str:
    """Write a circle as text."""
    return ", ".join(f"{one} imports {other}" for one, other in pairwise(circle))
