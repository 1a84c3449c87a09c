"""Small changes of the library's code, one at a time: do the tests notice?

A change is drawn from the syntax tree of a file and put into a copy of that one file, which takes
its place where Python imports it: in the tests' process, and in those that tests start. The files
of the checkout stay as they are. The tests that mirror the file run first, then those of its room.

mutmut puts its changes behind functions that choose one, which numba cannot compile, and leaves
defaults and constants of modules alone; cosmic-ray changes the checkout in place and has one
command of tests for all files. Hence this runner.
"""

import ast
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.tables import CHECKOUT, Row, commit

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
SECONDS = 300  # of the processor, for the tests of a change: an endless loop is noticed too

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

    @property
    def key(self) -> str:
        """Name that stays the same while the file does."""
        source = (CHECKOUT / "poincare_taxa" / self.file).read_bytes()
        text = f"{self.file} {self.start} {self.before} {self.after} ".encode()
        return hashlib.sha256(text + source).hexdigest()[:12]

    def source(self) -> str:
        """Text of the changed file."""
        data = (CHECKOUT / "poincare_taxa" / self.file).read_bytes()
        end = self.start + len(self.before.encode())
        return (data[: self.start] + self.after.encode() + data[end:]).decode()


# -------------------------------------------------------------------- what can be changed


def changes_of(source: str) -> Iterator[tuple[str, ast.expr | ast.stmt, str]]:
    """Yield (kind, node, the text that takes its place) of every change of a source.

    Texts, annotations, docstrings, messages of errors and what only type checkers read stay.
    """
    pending: list[ast.AST] = [ast.parse(source)]
    while pending:
        node = pending.pop()
        yield from _changes_here(node)
        pending += _children(node)


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
        package = CHECKOUT / "poincare_taxa"
        for path in sorted({file for pattern in patterns for file in package.glob(pattern)}):
            source = path.read_text(encoding="utf-8")
            starts = [0]
            for line in source.encode().splitlines(keepends=True):
                starts.append(starts[-1] + len(line))
            for kind, node, after in changes_of(source):
                start = starts[node.lineno - 1] + node.col_offset
                end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
                before = source.encode()[start:end].decode()
                name = path.relative_to(package).as_posix()
                found.append(Change(area, name, node.lineno, kind, before, after, start))
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
            key=lambda c: hashlib.sha256(
                f"{seed} {c.file} {c.start} {c.after}".encode()
            ).hexdigest(),
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

# Takes the place of a module where it is imported; Python runs this file when it starts.
_SITE = """
import importlib.util, os, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ["CHANGED_MODULE"]:
            return importlib.util.spec_from_file_location(name, os.environ["CHANGED_FILE"])
sys.meta_path.insert(0, Finder)
"""


def tests_of(file: str) -> list[list[str]]:
    """Tests of a file of the package: those that mirror it, then those of its room."""
    room, name = file.split("/")
    mirror = CHECKOUT / "tests" / room / f"test_{name.removeprefix('_')}"
    whole = [f"tests/{room}"]
    return [[str(mirror.relative_to(CHECKOUT))], whole] if mirror.exists() else [whole]


def outcome(change: Change | None, tests: list[str]) -> tuple[str, float]:
    """Run tests with a change, or without; return what became of them, and CPU seconds.

    "killed" where a test fails, "too long" where the time is used up, "survived" where all pass.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        environment = os.environ | {"HYPOTHESIS_PROFILE": "ci", "OMP_NUM_THREADS": "1"}
        paths = [str(CHECKOUT)]
        if change is not None:
            changed = folder / Path(change.file).name
            changed.write_text(change.source(), encoding="utf-8")
            (folder / "site" / "sitecustomize.py").parent.mkdir()
            (folder / "site" / "sitecustomize.py").write_text(_SITE)
            module = "poincare_taxa." + change.file.removesuffix(".py").replace("/", ".")
            environment |= {"CHANGED_MODULE": module, "CHANGED_FILE": str(changed)}
            paths.insert(0, str(folder / "site"))
        environment["PYTHONPATH"] = os.pathsep.join(paths)
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            ["/bin/sh", "-c", f'ulimit -t {SECONDS}; exec "$@"', "sh", *command],
            cwd=CHECKOUT, env=environment, capture_output=True, check=False,
        )  # fmt: skip
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    if done.returncode == 0:
        return "survived", seconds
    if done.returncode in (1, 2, 3):  # failed, or not collected
        return "killed", seconds
    if done.returncode < 0 or done.returncode > 128:
        return "too long" if seconds > SECONDS - 5 else "killed", seconds
    raise RuntimeError(f"{tests} did not run: {done.stdout.decode()[-2000:]}")


def judged(change: Change) -> Row:
    """Row of a change: the tests that mirror its file, and if it survives those of its room."""
    found, seconds, by = "survived", 0.0, ""
    for tests in tests_of(change.file):
        _require_sound(tuple(tests))
        found, more = outcome(change, tests)
        seconds, by = seconds + more, " ".join(tests)
        if found != "survived":
            break
    return {
        "key": change.key,
        "area": change.area,
        "file": change.file,
        "line": change.line,
        "kind": change.kind,
        "before": textwrap.shorten(change.before, 200),
        "after": textwrap.shorten(change.after, 200),
        "outcome": found,
        "by": by,
        "CPU seconds": round(seconds, 1),
    }


_SOUND: set[tuple[str, ...]] = set()


def _require_sound(tests: tuple[str, ...]) -> None:
    """Raise where tests fail without a change, which would count as noticed."""
    if tests not in _SOUND:
        found, _ = outcome(None, list(tests))
        if found != "survived":
            raise RuntimeError(f"{' '.join(tests)} fails without a change")
        _SOUND.add(tests)


def table(rows: Iterable[Row]) -> list[Row]:
    """Number of changes by area: noticed, and not."""
    rows = list(rows)
    found = []
    for area in [*AREAS, "all"]:
        mine = [row for row in rows if area in (row["area"], "all")]
        if mine:
            noticed = sum(row["outcome"] != "survived" for row in mine)
            found.append(
                {
                    "area": area,
                    "changes": len(mine),
                    "noticed": noticed,
                    "survived": len(mine) - noticed,
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
