"""The map of the rooms is true: what docs/architecture.md names exists, and no room is absent."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import poincare_taxa as pt
from benchmarks.tools import import_graph

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"
TEXT = PAGE.read_text(encoding="utf-8")
ROOMS = {module.name for module in pkgutil.iter_modules(pt.__path__)}
NAMED = sorted(
    {name for name in re.findall(r"`([a-z_]+\.[A-Za-z_.]+)`", TEXT) if name.split(".")[0] in ROOMS}
)


def test_named__are_many():
    assert len(NAMED) > 30


@pytest.mark.parametrize("name", NAMED)
def test_named__is_there(name):
    room, *path = name.split(".")
    found = importlib.import_module(f"poincare_taxa.{room}")
    for part in path:
        if not hasattr(found, part):
            importlib.import_module(f"{found.__name__}.{part}")
        found = getattr(found, part)


def test_rooms__each_has_a_row_and_a_box():
    rows = set(re.findall(r"^\| `([a-z_]+)` \|", TEXT, re.MULTILINE))
    assert rows == ROOMS - {"__main__", "data"}


def test_picture__is_of_the_imports_as_they_are():
    drawn = (PAGE.parent / "tables" / "rooms.svg").read_text(encoding="utf-8")
    rooms = import_graph.rooms(import_graph.files())
    assert drawn == import_graph.picture(rooms) + "\n", (
        "python -m benchmarks imports --out . renews the picture"
    )


@pytest.mark.parametrize("walk", ["A walk through the data", "A walk through training"])
def test_walk__has_ten_steps(walk):
    section = TEXT.split(f"## {walk}")[1].split("\n## ")[0]
    assert re.findall(r"^(\d+)\. ", section, re.MULTILINE) == [str(i) for i in range(1, 11)]
