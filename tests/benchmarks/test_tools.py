"""Lines are counted as they stand, and the library has no circle of imports."""

from itertools import pairwise
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tools import count_lines, import_graph

SOURCE = '''"""Module.

Two lines and one blank."""
# a comment

import os  # counted as code

LIMIT = 1
"""Of an attribute."""
TEXT = """
not a docstring"""


def f():
    """Function."""
    return [
        # inside brackets
        LIMIT,
    ]
'''


def test_lines__of_each_kind_are_those_of_a_file_counted_by_hand():
    assert count_lines.count(SOURCE) == {"code": 8, "docstrings": 5, "comments": 2, "blank": 4}


@given(st.lists(st.sampled_from(["x = 1", "# note", '"""text"""', "", "y = [  # note", "]"])))
def test_lines__every_line_is_of_one_kind(lines):
    source = "\n".join(lines)
    try:
        compile(source, "any", "exec")
    except SyntaxError:
        return
    assert count_lines.count(source).total() == len(source.splitlines())


def test_lines__rooms_sum_to_the_package(tmp_path):
    (tmp_path / "room" / "inner").mkdir(parents=True)
    for path in ("a.py", "room/b.py", "room/inner/c.py"):
        (tmp_path / path).write_text(SOURCE)
    (tmp_path / "stub.pyi").write_text("x: int\n")
    rows = {row["room"]: row for row in count_lines.table(tmp_path)}
    assert rows.keys() == {count_lines.BESIDE, "room", "all"}
    assert rows["room"]["code"] == 16
    assert rows["all"]["code"] == 25
    assert rows["all"]["files"] == 4
    with pytest.raises(FileNotFoundError, match="holds no Python file"):
        count_lines.table(tmp_path / "nowhere")


def test_imports__the_library_has_no_circle_of_files_nor_of_rooms():
    files = import_graph.files()
    rooms = import_graph.rooms(files)
    assert {"poincare_taxa.geometry.ball", "poincare_taxa.cli"} < files.keys()
    assert "geometry" in rooms["kernels"]
    assert import_graph.circle(files) == []
    assert import_graph.circle(rooms) == []


def test_circle__is_found_and_named_in_the_direction_of_imports():
    imports = {"p.a.x": {"p.b.y"}, "p.b.y": {"p.c"}, "p.c": {"p.b.z"}, "p.b.z": set()}
    assert import_graph.circle(imports) == []
    circle = import_graph.circle(import_graph.rooms(imports))
    assert circle[0] == circle[-1]
    assert sorted(circle[1:]) == ["b", "c"]
    three = {"a": {"b"}, "b": {"c"}, "c": {"a"}}
    found = import_graph.circle(three)
    assert all(other in three[one] for one, other in pairwise(found))


@given(st.sets(st.tuples(st.integers(0, 8), st.integers(0, 8)).filter(lambda e: e[0] > e[1])))
def test_picture__keeps_what_reaches_what_and_draws_every_import_downwards(edges):
    imports = {str(i): {str(j) for k, j in edges if k == i} for i in range(9)}

    def reached(graph, room):
        return graph[room].union(*(reached(graph, other) for other in graph[room]))

    direct = import_graph.direct(imports)
    places = import_graph.places(imports)
    for room in imports:
        assert reached(direct, room) == reached(imports, room)
        for other in direct[room]:
            rest = direct | {room: direct[room] - {other}}
            assert other not in reached(rest, room)
            assert places[room, room][1] < places[other, other][1]
    assert len(set(places.values())) == len(places)
    drawn = ElementTree.fromstring(import_graph.picture(imports))
    assert len(drawn.findall("{*}path")) == sum(map(len, direct.values()))
