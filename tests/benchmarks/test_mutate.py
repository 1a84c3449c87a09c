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
        f"{ast.get_source_segment(SOURCE, found.node)} -> {found.after}"
        for found in mutate.changes_of(SOURCE)
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


def test_keys__stay_while_the_function_around_does(tmp_path, monkeypatch):
    (tmp_path / "taxonomy").mkdir()
    monkeypatch.setattr(mutate, "PACKAGE", tmp_path)
    file = tmp_path / "taxonomy" / "some.py"
    file.write_text("LIMIT = 3\n\n\ndef f(x=1):\n    return x + 2\n")
    before = {(c.before, c.after): c for c in mutate.all_changes()}
    assert len({change.key for change in before.values()}) == len(before) == 7
    assert {c.before for c in before.values() if c.called} == {"x + 2", "2"}
    file.write_text("LIMIT = 4\n\n\nLAST = 5\n\n\ndef f(x=1):\n    return x + 2\n")
    after = {(c.before, c.after): c for c in mutate.all_changes()}
    same = {what for what in before if what in after and after[what].key == before[what].key}
    assert same == {what for what in before if what[0] != "3"}


SEEN = {
    "seconds": {
        "tests/taxonomy/test_lookup.py::test_slow": 2.0,
        "tests/taxonomy/test_lookup.py::test_fast": 1.0,
        "tests/taxonomy/test_tree.py::test_a": 0.2,
        "tests/taxonomy/test_tree.py::test_b": 0.1,
    },
    "lines": {
        "taxonomy/lookup.py": {
            "7": ["tests/taxonomy/test_lookup.py::test_slow", "tests/taxonomy/test_tree.py"]
        }
    },
}


@pytest.mark.parametrize(
    ("line", "called", "mirror", "room"),
    [
        (7, True, ["slow"], ["b", "a"]),
        (6, True, ["slow"], ["b", "a"]),  # an expression of two lines
        (8, True, ["fast", "slow"], ["b", "a"]),  # seen by none: compiled, or in another process
        (7, False, ["fast", "slow"], ["b", "a"]),  # executed by imports
    ],
)
def test_tests__execute_the_line_and_those_of_the_mirror_come_first(
    monkeypatch, line, called, mirror, room
):
    monkeypatch.setattr(mutate, "_covered", lambda _: SEEN)
    change = mutate.Change("", "taxonomy/lookup.py", line, "", "a +\nb", "(a - b)", 0, called, "")
    found = [[test.rpartition("_")[2] for test in tests] for tests in mutate.tests_of(change)]
    assert found == [mirror, room]


def test_covered__are_lines_in_functions_by_the_tests_that_execute_them(tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text(
        "from poincare_taxa.files.html import html_sheet\n"
        "def test_a(): html_sheet('a', {})\n"
        "def test_b(): pass\n"
    )
    found = mutate._server().covered(file, "files", tmp_path / "cache" / "files.json")
    a, b = found["seconds"]
    assert a.endswith("::test_a")
    assert b.endswith("::test_b")
    executed = found["lines"]["files/html.py"]
    assert [a] in executed.values()
    assert not any(b in tests for tests in executed.values())
    file.unlink()  # what was found is kept
    assert mutate._server().covered(file, "files", tmp_path / "cache" / "files.json") == found


def test_covered__leaves_out_tests_that_fail(tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text("def test_a(): assert False\ndef test_b(): pass\n")
    found = mutate._server().covered(file, "files", tmp_path / "files.json")
    assert [name.rpartition("::")[2] for name in found["seconds"]] == ["test_b"]
    assert [name.rpartition("::")[2] for name in found["failed"]] == ["test_a"]
    file.write_text("import nothing_of_this_name\n")
    with pytest.raises(RuntimeError, match="could not be run"):
        mutate._server().covered(file, "files", tmp_path / "others.json")


@pytest.mark.parametrize("noticed", [True, False])
def test_judged__by_tests_that_pass_without_the_change(monkeypatch, noticed):
    change = mutate.sample(1, seed=0)[0]
    monkeypatch.setattr(mutate, "_covered", lambda _: {"seconds": dict.fromkeys("abc", 1.0)})
    monkeypatch.setattr(mutate, "tests_of", lambda _: [["a", "b"], ["c"]])
    monkeypatch.setattr(mutate, "_is_sound", lambda test: test != "a")

    def outcome(change, tests, seconds):
        fails = "a" if "a" in tests else "b" if "b" in tests and noticed else ""
        return mutate.Trial("killed" if fails else "survived", fails, 1.0)

    monkeypatch.setattr(mutate, "outcome", outcome)
    row = mutate.judged(change)
    assert (row["outcome"], row["by"]) == (("killed", "b") if noticed else ("survived", ""))
    assert row["CPU seconds"] == 2 + (not noticed)


def test_table__counts_what_was_noticed_and_what_has_no_effect(monkeypatch):
    monkeypatch.setattr(mutate, "without_effect", lambda: {"b": "a reason", "a": "not needed"})
    outcomes = {"a": "killed", "b": "survived", "c": "survived", "d": "too long"}
    rows = [
        {"key": key, "area": "search" if key in "ab" else "readers", "outcome": found}
        for key, found in outcomes.items()
    ]
    assert mutate.survived(rows) == ["c"]
    counts = [tuple(row.values()) for row in mutate.table(rows)]
    assert counts == [
        ("search", 2, 1, 1, 0, "50%"),
        ("readers", 2, 1, 0, 1, "50%"),
        ("all", 4, 2, 1, 1, "50%"),
    ]


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
    change = mutate.Change("", "files/html.py", 1, "", before, "(1 / 0)", start, True, "")
    file = tmp_path / "test_it.py"
    file.write_text(textwrap.dedent(test))
    assert mutate.outcome(None, [str(file)]).outcome == "survived"
    found = mutate.outcome(change, [str(file)])
    assert found.outcome == ("survived" if "nothing" in test else "killed")
    assert ("::test_" in found.by) == (found.outcome == "killed")


def test_outcome__of_an_endless_loop_is_too_long(tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text("def test_it():\n    while True:\n        pass\n")
    assert mutate.outcome(None, [str(file)], seconds=8).outcome == "too long"


def test_outcome__of_what_tests_leave_open_is_noticed_at_the_end(tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text("def test_it():\n    some = [open(__file__)]\n    some.append(some)\n")
    assert mutate.outcome(None, [str(file)]).outcome == "killed"
