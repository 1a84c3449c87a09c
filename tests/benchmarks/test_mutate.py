"""Changes of the code: what is changed, what is drawn, and that tests run with the change."""

import ast
import textwrap
from collections import Counter

import pytest

from benchmarks.tools import mutate

SOURCE = '''
"""Text 1 stays."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    N = 1
__all__ = ["f"]
LIMIT: int = 7
def f(x: "int | None" = 2, *, deep=False) -> "list[int]":
    """Text."""
    if x < 3 and not deep:
        raise ValueError(f"{x + 1} is too small")
    log(x)
    match x:
        case 5:
            return -x
    while g(x):
        break
    return x // 2
'''
EXPECTED = """
7 -> 8, 7 -> 6, 2 -> 3, 2 -> 1, False -> True, x < 3 and not deep -> (x < 3 or not deep),
x < 3 -> (x <= 3), 3 -> 4, 3 -> 2, not deep -> (deep), log(x) -> pass, -x -> (x),
g(x) -> (not g(x)), break -> continue, x // 2 -> (x * 2), 2 -> 3, 2 -> 1
"""


def test_changes__are_those_of_code_that_does_something():
    found = [
        f"{ast.get_source_segment(SOURCE, node)} -> {after}"
        for _, node, after in mutate.changes_of(SOURCE)
    ]
    assert Counter(found) == Counter(EXPECTED.replace("\n", " ").strip().split(", "))


def test_changes__of_the_library_are_python_and_differ_from_it():
    for change in mutate.sample(200, seed=1):
        source = (mutate.CHECKOUT / "poincare_taxa" / change.file).read_text(encoding="utf-8")
        changed = ast.dump(ast.parse(change.source()))
        assert changed != ast.dump(ast.parse(source)), change


def test_sample__has_as_many_of_each_area_and_a_larger_one_holds_it():
    small, large = mutate.sample(50, seed=3), mutate.sample(200, seed=3)
    assert large[:50] == small
    assert Counter(change.area for change in small) == dict.fromkeys(mutate.AREAS, 5)
    assert len({change.key for change in large}) == 200
    assert len({change.kind for change in large}) > 5
    assert mutate.sample(50, seed=4) != small


def test_tests__mirror_the_file_and_then_are_those_of_its_room():
    tests = mutate.tests_of("taxonomy/lookup.py")
    assert tests == [["tests/taxonomy/test_lookup.py"], ["tests/taxonomy"]]
    assert mutate.tests_of("taxonomy/writing.py") == [["tests/taxonomy"]]


NOTICES = """
    import subprocess, sys
    from poincare_taxa.files.html import html_sheet
    def test_here():
        assert html_sheet("a", {}).startswith("<div>"), html_sheet("a", {})
"""
IN_A_CHILD = """
    import subprocess, sys
    CODE = "from poincare_taxa.files.html import html_sheet as h; assert h('a', {})[:5] == '<div>'"
    def test_in_a_child():
        subprocess.run([sys.executable, "-c", CODE], check=True)
"""


@pytest.mark.parametrize("test", [NOTICES, IN_A_CHILD, "def test_nothing(): pass"])
def test_outcome__is_that_of_tests_with_the_change(tmp_path, test):
    source = (mutate.CHECKOUT / "poincare_taxa/files/html.py").read_text(encoding="utf-8")
    before = "escape(title)"
    start = len(source[: source.index(before)].encode())
    change = mutate.Change("", "files/html.py", 1, "", before, "(1 / 0)", start)
    file = tmp_path / "test_it.py"
    file.write_text(textwrap.dedent(test))
    assert mutate.outcome(None, [str(file)])[0] == "survived"
    expected = "survived" if "nothing" in test else "killed"
    assert mutate.outcome(change, [str(file)])[0] == expected
