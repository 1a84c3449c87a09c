"""Small changes of the library's code, one at a time: do the tests notice?

A change is drawn from the syntax tree of a file and takes the place of that file where Python
imports it: in the tests' process, and in those that tests start. The files of the checkout stay as
they are. Of the tests that mirror the file those run that execute the changed line, the fastest
first, then those of its room; all of them where none is seen to (`Server.covered`).

mutmut puts its changes behind functions that choose one, which numba cannot compile, and leaves
defaults and constants of modules alone; cosmic-ray changes the checkout in place and has one
command of tests for all files. Hence this runner.
"""

import ast
import hashlib
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from benchmarks.tables import CHECKOUT, Row, commit, kept_rows
from benchmarks.tools.trial import Server, Trial

PACKAGE = CHECKOUT / "poincare_taxa"
AREAS = {
    "taxonomy": ("taxonomy/*.py",),
    "geometry": ("geometry/*.py",),
    "metrics": ("evaluation/metrics.py", "evaluation/intervals.py", "evaluation/calibration.py"),
    "ranks": ("evaluation/ranks.py",),
    "rank counts": ("evaluation/rank_counts.py", "evaluation/subjects.py"),
    "negatives": ("blocks/negatives.py", "blocks/_candidates.py"),
    "pairs": ("blocks/pairs.py", "blocks/closure_pairs.py"),
    "search": ("search/*.py",),
    "storage": ("model/storage.py", "model/checks.py", "files/*.py", "training/checkpoint.py"),
    "readers": ("readers/*.py",),
}
# Of the processor, where tests do not end: 60 s, and 20 times what they took with a tenth of the
# examples.
SECONDS = 60
TIMES = 20
CACHE = CHECKOUT / "build" / "mutate"

_COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE,), ast.LtE: (ast.Lt,), ast.Gt: (ast.GtE,), ast.GtE: (ast.Gt,),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.Pow: ast.Mult, ast.LShift: ast.RShift,
    ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip


class Change(NamedTuple):
    """One change of one file."""

    area: str
    file: str
    """Below the package."""
    line: int
    kind: str
    before: str
    after: str
    start: int
    """Place of `before` in the file, in bytes."""
    called: bool
    """Whether it is in the body of a function, which tests execute; else imports do."""
    key: str
    """Name that stays the same while the function around it does, or the statement of a module."""

    def source(self) -> str:
        """Text of the changed file."""
        data = (PACKAGE / self.file).read_bytes()
        end = self.start + len(self.before.encode())
        if data[self.start : end] != self.before.encode():
            raise RuntimeError(f"{self.file} was changed while this ran; start it again")
        return (data[: self.start] + self.after.encode() + data[end:]).decode()


# -------------------------------------------------------------------- what can be changed


class Found(NamedTuple):
    """Something that can be changed, in a source."""

    kind: str
    node: ast.expr | ast.stmt
    after: str
    around: tuple[ast.stmt, ...]
    """Classes and functions around it; outside of functions the statement, too."""
    called: bool


def changes_of(source: str) -> Iterator[Found]:
    """Yield every change of a source.

    Texts, annotations, docstrings, messages of errors and what only type checkers read stay.
    """
    pending: list[tuple[ast.AST, tuple[ast.stmt, ...], bool]] = [(ast.parse(source), (), False)]
    while pending:
        node, around, called = pending.pop()
        inside = any(isinstance(one, ast.FunctionDef) for one in around)
        if isinstance(node, ast.FunctionDef) or (isinstance(node, ast.stmt) and not inside):
            around = (*around, node)
        for kind, changed, after in _changes_here(node):
            yield Found(kind, changed, after, around, called)
        body = node.body if isinstance(node, ast.FunctionDef) else ()
        pending += [(child, around, called or child in body) for child in _children(node)]


def _children(node: ast.AST) -> list[ast.AST]:
    """Parts of a node in which something may be changed."""
    match node:
        case ast.Raise() | ast.JoinedStr() | ast.Assert() | ast.Import() | ast.ImportFrom():
            return []
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return list(node.orelse)
        case ast.FunctionDef() if any("overload" in ast.dump(d) for d in node.decorator_list):
            return []
        case ast.FunctionDef():
            return [*node.args.defaults, *filter(None, node.args.kw_defaults), *node.body]
        case ast.match_case():  # patterns are no expressions
            return [*filter(None, [node.guard]), *node.body]
        case ast.AnnAssign():
            return [node.value] if node.value else []
        case ast.Assign(targets=[ast.Name(id="__all__")]):
            return []
    return list(ast.iter_child_nodes(node))


def _changes_here(node: ast.AST) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    match node:
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return
        case ast.Compare(ops=[op]) if type(op) in _COMPARE:
            for other in _COMPARE[type(op)]:
                changed = ast.Compare(node.left, [other()], node.comparators)
                kind = "boundary" if isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) else "test"
                yield kind, node, _written(changed)
        case ast.BinOp() if type(node.op) in _BINARY:
            yield (
                "operator",
                node,
                _written(ast.BinOp(node.left, _BINARY[type(node.op)](), node.right)),
            )
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "and, or", node, _written(ast.BoolOp(other, node.values))
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            kind = "not" if isinstance(node.op, ast.Not) else "sign"
            yield kind, node, _written(node.operand)
        case ast.Constant(value=bool()):
            yield "true, false", node, repr(not node.value)
        case ast.Constant(value=int(value) | float(value)):
            yield "number", node, _written(ast.Constant(value + 1))
            yield "number", node, _written(ast.Constant(value - 1))
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp | ast.Constant):
                yield "not", test, _written(ast.UnaryOp(ast.Not(), test))
        case ast.Expr(value=ast.Call()):
            yield "call left out", node, "pass"
        case ast.Break() | ast.Continue():
            yield "break", node, "continue" if isinstance(node, ast.Break) else "break"


def _written(node: ast.expr) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, ast.Constant) and not text.startswith("-") else f"({text})"


def all_changes() -> list[Change]:
    """List every change of every area, in the order of files and lines."""
    found = []
    for area, patterns in AREAS.items():
        for path in sorted({file for pattern in patterns for file in PACKAGE.glob(pattern)}):
            source = path.read_bytes()
            starts = [0]
            for line in source.splitlines(keepends=True):
                starts.append(starts[-1] + len(line))

            def span(node: ast.expr | ast.stmt, starts: list[int] = starts) -> tuple[int, int]:
                end = (node.end_lineno or 0) - 1
                first = starts[node.lineno - 1] + node.col_offset
                return first, starts[end] + (node.end_col_offset or 0)

            for change in changes_of(source.decode()):
                start, end = span(change.node)
                first, last = span(change.around[-1])
                name = path.relative_to(PACKAGE).as_posix()
                names = [getattr(node, "name", "") for node in change.around]
                text = f"{name} {names} {start - first} {end - start} {change.after} ".encode()
                key = hashlib.sha256(text + source[first:last]).hexdigest()[:12]
                before = source[start:end].decode()
                what = (change.node.lineno, change.kind, before, change.after)
                found.append(Change(area, name, *what, start, change.called, key))
    return sorted(found, key=lambda c: (c.area, c.file, c.start, c.after))


def sample(size: int, seed: int) -> list[Change]:
    """Draw changes, equally many of each area as far as there are; a larger sample holds a smaller.

    In an area the kinds take turns, so that rare ones are there.
    """
    turns: dict[str, list[Change]] = {}
    possible = all_changes()
    for area in AREAS:
        drawn = sorted(
            (change for change in possible if change.area == area),
            key=lambda c: hashlib.sha256(f"{seed} {c.key}".encode()).hexdigest(),
        )
        place, seen = {}, Counter[str]()
        for change in drawn:
            place[change] = seen[change.kind]
            seen[change.kind] += 1
        turns[area] = sorted(drawn, key=lambda c: place[c])  # stable: drawn order in a turn
    queue = [
        changes[turn]
        for turn in range(max(map(len, turns.values())))
        for changes in turns.values()
        if turn < len(changes)
    ]
    return queue[:size]


# -------------------------------------------------------------------- do the tests notice?


def tests_of(change: Change) -> list[list[str]]:
    """Tests that can notice a change: of those that mirror its file, then of those of its room."""
    room, name = change.file.split("/")
    seen = _covered(room)
    end = change.line + change.before.count("\n")
    lines = seen["lines"].get(change.file, {}) if change.called else {}
    names = {name for line in range(change.line, end + 1) for name in lines.get(str(line), ())}
    mirror = f"tests/{room}/test_{name.removeprefix('_')}"
    chosen = [
        test
        for test in sorted(seen["seconds"], key=seen["seconds"].get)
        if not names or test in names or test.split("::")[0] in names
    ]
    mine = [test for test in chosen if test.split("::")[0] == mirror]
    others = [test for test in chosen if test.split("::")[0] != mirror]
    return [tests for tests in (mine, others) if tests]


@cache
def _covered(room: str) -> dict[str, Any]:
    """Lines that tests of a room execute; found again for a file of tests that is another."""
    found: dict[str, Any] = {"seconds": {}, "lines": {}}
    sources = b"".join(file.read_bytes() for file in sorted((PACKAGE / room).rglob("*.py")))
    for file in sorted((CHECKOUT / "tests" / room).rglob("test_*.py")):
        now = hashlib.sha256(sources + file.read_bytes()).hexdigest()[:12]
        cache = CACHE / f"{room}-{file.stem}-{now}.json"
        part = _server().covered(file.relative_to(CHECKOUT), room, cache)
        found["seconds"] |= part["seconds"]
        for test in part.get("failed", ()):
            print(f"{test} fails without a change, and is left out", flush=True)
        for name, lines in part["lines"].items():
            for line, tests in lines.items():
                found["lines"].setdefault(name, {}).setdefault(line, []).extend(tests)
    return found


@cache
def _server() -> Server:
    return Server()


def outcome(change: Change | None, tests: Iterable[str], seconds: float = SECONDS) -> Trial:
    """Run tests with a change, or without."""
    if change is None:
        return _server().run(tests, seconds)
    module = "poincare_taxa." + change.file.removesuffix(".py").replace("/", ".")
    return _server().run(tests, seconds, module, change.source())


def judged(change: Change) -> Row:
    """Row of a change: what became of it, and the test that noticed it."""
    took = _covered(change.file.split("/")[0])["seconds"]
    found, seconds = Trial("survived", "", 0.0), 0.0
    for tests in tests_of(change):
        while tests and found.outcome == "survived":
            found = outcome(change, tests, SECONDS + TIMES * sum(took[test] for test in tests))
            seconds += found.seconds
            by = found.by or tests[0]
            if found.outcome == "survived":
                break
            if not _is_sound(by):  # it would count as noticed
                print(f"{by} fails without a change, and is left out", flush=True)
                found, tests = Trial("survived", "", 0.0), [one for one in tests if one != by]
    return {
        "key": change.key,
        "area": change.area,
        "file": change.file,
        "line": change.line,
        "kind": change.kind,
        "before": textwrap.shorten(change.before, 200),
        "after": textwrap.shorten(change.after, 200),
        "outcome": found.outcome,
        "by": found.by,
        "CPU seconds": round(seconds, 1),
    }


@cache
def _is_sound(test: str) -> bool:
    """Whether a test passes without a change."""
    return outcome(None, [test], 1000).outcome == "survived"


@cache
def without_effect() -> dict[str, str]:
    """Changes that were found to change nothing that can be observed, by key, with the reason."""
    rows = kept_rows(None, "mutate_without_effect", as_text=True)
    return {row["key"]: row["reason"] for row in rows}


def survived(rows: Iterable[Row]) -> list[str]:
    """Keys of the changes that no test notices, though they have an effect."""
    return [
        row["key"]
        for row in rows
        if row["outcome"] == "survived" and row["key"] not in without_effect()
    ]


def table(rows: Iterable[Row]) -> list[Row]:
    """Number of changes by area: noticed, without effect, and neither."""
    rows = list(rows)
    found = []
    for area in [*AREAS, "all"]:
        mine = [row for row in rows if area in (row["area"], "all")]
        if mine:
            noticed = sum(row["outcome"] != "survived" for row in mine)
            left = len(survived(mine))
            found.append(
                {
                    "area": area,
                    "changes": len(mine),
                    "noticed": noticed,
                    "without effect": len(mine) - noticed - left,
                    "survived": left,
                    "share noticed": f"{noticed / len(mine):.0%}",
                }
            )
    return found


def circumstances(rows: list[Row], seed: int) -> str:
    """Sentence about a run."""
    return (
        f"{len(rows):,} of {len(all_changes()):,} possible changes, drawn with seed {seed}, as "
        f"many of each area; {sum(float(row['CPU seconds']) for row in rows):,.0f} s of CPU time, "
        f"on commit {commit()}."
    )
