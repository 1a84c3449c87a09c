"""Tests with a change of one module, each trial in a fork of one process.

That process has imported what is slow to import, torch before all, but nothing of the library: a
fork of it imports the library with the change, runs the tests that were named in their order,
and stops at the first that fails. `Server.covered` finds which tests execute which lines.
"""

import atexit
import gc
import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

CHECKOUT = Path(__file__).parents[2]
SLOW = (
    *("torch", "geoopt", "numpy", "numba", "polars", "pandas", "networkx", "scipy.sparse"),
    *("scipy.stats", "safetensors.numpy", "safetensors.torch", "mpmath", "pooch", "lazy_loader"),
    *("rich", "typer", "pytest", "hypothesis.strategies", "hypothesis.extra.numpy"),
    *("_pytest.doctest", "_pytest.unraisableexception", "_hypothesis_pytestplugin"),
)
NO_TESTS = 5  # what pytest returns where all are slow
EXAMPLES = 10  # of a law, to find the lines that its test executes
MEMORY = 12 << 30  # addresses of a process: a changed size must not take the machine's memory
WAIT = 900  # seconds of the clock, for tests that wait for what never comes

# Takes the place of a module where it is imported; Python runs this file when it starts.
_SITE = """
import importlib.util, os, sys
class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == os.environ.get("CHANGED_MODULE"):
            return importlib.util.spec_from_file_location(name, os.environ["CHANGED_FILE"])
sys.meta_path.insert(0, Finder)
"""


class Trial(NamedTuple):
    """What became of tests."""

    outcome: str
    """"killed" where a test fails, "too long" at a limit of time, "survived" where all pass."""
    by: str
    """The test that failed, else ""."""
    seconds: float
    """Of the processor."""


class Server:
    """The process that forks."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.tools.trial"],
            cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        atexit.register(self._end)

    def _end(self) -> None:
        self._process.communicate()  # closes its input, which ends it

    def run(
        self, tests: Iterable[str], seconds: float, module: str = "", source: str = ""
    ) -> Trial:
        """Run tests, or whole files of them, with another source of a module, or as it is."""
        work = {"tests": list(tests), "seconds": seconds, "module": module, "source": source}
        return Trial(**self._answer(work))

    def covered(self, file: Path, room: str, cache: Path) -> dict[str, Any]:
        """Find the CPU seconds of each test of a file, and the tests that execute each line.

        Of lines in a room of the package; those in compiled functions, and in processes that tests
        start, are not seen. Tests that fail are left out, and named. The result is kept in the
        file `cache`, and read from it where that exists.
        """
        if not cache.exists():
            cache.parent.mkdir(parents=True, exist_ok=True)
            work = {"tests": [str(file)], "seconds": 3600, "room": room, "cache": str(cache)}
            if self._answer(work)["outcome"] != "survived":
                raise RuntimeError(f"tests of {file} could not be run")
        return json.loads(cache.read_text())

    def _answer(self, work: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(work) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        if "error" in found:
            raise RuntimeError(f"{' '.join(work['tests'])} did not run: {found['error']}")
        return found


# ------------------------------------------------------------------ the process that forks


def _serve() -> None:
    _import_what_is_slow()
    gc.freeze()  # forks share what is there
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        with tempfile.TemporaryDirectory(prefix="trial-", ignore_cleanup_errors=True) as folder:
            answers.write(json.dumps(_trial(json.loads(line), Path(folder))) + "\n")
            answers.flush()


def _import_what_is_slow() -> None:
    with warnings.catch_warnings(action="ignore"):
        import torch

        if not torch.cuda.is_available():
            os.environ["TRITON_INTERPRET"] = "1"  # as in tests/conftest.py
        for name in SLOW:
            importlib.import_module(name)
    import numba

    numba.njit(lambda: 0)()  # its compiler makes ready what it needs
    _choose_examples(100)


def _choose_examples(number: int) -> None:
    """Let tests of laws have the examples of CI, or the first of them; none is made smaller."""
    from hypothesis import Phase, settings

    phases = (Phase.explicit, Phase.generate)
    options = {"deadline": None, "derandomize": True, "phases": phases}
    settings.register_profile("trial", max_examples=number, **options)
    os.environ |= {"HYPOTHESIS_PROFILE": "trial", "OMP_NUM_THREADS": "1"}


def _trial(work: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Fork, wait, and name what happened."""
    pid = os.fork()
    if not pid:
        _child(work, folder)  # never returns
    late = threading.Timer(WAIT, os.killpg, (pid, signal.SIGKILL))
    late.start()
    _, status, used = os.wait4(pid, 0)
    late.cancel()
    with suppress(ProcessLookupError):  # what tests started and left
        os.killpg(pid, signal.SIGKILL)
    seconds = used.ru_utime + used.ru_stime
    said = folder / "said.json"
    if said.exists():
        code, by = json.loads(said.read_text())
        if code not in (0, 1, 2, 3):
            return {"error": f"pytest ended with {code}: {_tail(folder)}"}
        return {"outcome": "killed" if code else "survived", "by": by, "seconds": seconds}
    late_one = os.waitstatus_to_exitcode(status) in (-signal.SIGXCPU, -signal.SIGKILL)
    return {"outcome": "too long" if late_one else "killed", "by": "", "seconds": seconds}


def _tail(folder: Path) -> str:
    return (folder / "output").read_text(errors="replace")[-3000:]


def _child(work: dict[str, Any], folder: Path) -> None:
    """Import the library with the change, and run the tests; or find what they execute."""
    code, by = -1, ""  # no code of pytest
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(work["seconds"]), int(work["seconds"]) + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        output = os.open(folder / "output", os.O_CREAT | os.O_WRONLY)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for name in ("site", "tmp"):
            (folder / name).mkdir()
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder / "tmp")
        paths = [str(CHECKOUT)]
        if work.get("module"):
            changed = folder / (work["module"].split(".")[-1] + ".py")
            changed.write_text(work["source"], encoding="utf-8")
            os.environ |= {"CHANGED_MODULE": work["module"], "CHANGED_FILE": str(changed)}
            (folder / "site" / "sitecustomize.py").write_text(_SITE)  # for what tests start
            paths.insert(0, str(folder / "site"))
            exec(_SITE, {})
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)
        run = _cover if "cache" in work else _run
        code, by = run(work, folder / "tmp" / "pytest")
    except BaseException:
        traceback.print_exc()
    finally:
        (folder / "draft.json").write_text(json.dumps([code, by]))
        (folder / "draft.json").rename(folder / "said.json")
        sys.stdout.flush()
        os._exit(0)


def _run(work: dict[str, Any], place: Path) -> tuple[int, str]:
    return _pytest(work["tests"], place, "-x")


def _pytest(
    tests: list[str], place: Path, *options: str, plugins: Iterable[object] = ()
) -> tuple[int, str]:
    """Run tests in the order in which they are named; whole files are names too."""
    import pytest

    order = {str(CHECKOUT / name): i for i, name in enumerate(tests)}
    failed = []

    class Chosen:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            def turn(item: pytest.Item) -> int:
                test = f"{item.path}::{item.nodeid.partition('::')[2]}"
                names = (test, str(item.path), *map(str, item.path.parents))
                return next((order[name] for name in names if name in order), len(order))

            items[:] = sorted((i for i in items if turn(i) < len(order)), key=turn)

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.append(report.nodeid)

    files = dict.fromkeys(name.split("::")[0] for name in tests)
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of other packages take seconds
    options += (f"--basetemp={place}", "-c", str(CHECKOUT / "pyproject.toml"), "--tb=short")
    options += ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-p", "_hypothesis_pytestplugin")
    options += ("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning")
    try:
        code = int(pytest.main([*options, *files], plugins=[Chosen(), *plugins]))
    except Exception:  # what tests left open, of which pytest warns at its very end
        traceback.print_exc()
        code = 1
    return code, (failed or [""])[0]


# ------------------------------------------------------------------ which tests execute a line


def _cover(work: dict[str, Any], place: Path) -> tuple[int, str]:
    import coverage
    import pytest

    package = CHECKOUT / "poincare_taxa"
    seconds: dict[str, float] = {}
    failed: set[str] = set()
    _choose_examples(EXAMPLES)

    class Contexts:
        """The test that runs is the context of what is executed; a shared fixture has its file."""

        def __init__(self) -> None:
            self.now = ""

        @contextmanager
        def _inside(self, name: str) -> Iterator[None]:
            before, self.now = self.now, name
            measured.switch_context(name)
            yield
            self.now = before
            measured.switch_context(before)

        @pytest.hookimpl(wrapper=True)
        def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
            began = _processor()
            with self._inside(item.nodeid):
                result = yield
            seconds[item.nodeid] = round(_processor() - began, 3)
            return result

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                failed.add(report.nodeid)

        @pytest.hookimpl(wrapper=True)
        def pytest_fixture_setup(
            self, fixturedef: pytest.FixtureDef, request: pytest.FixtureRequest
        ) -> Iterator[None]:
            file = request.node.nodeid.split("::")[0]
            if fixturedef.scope == "function":
                return (yield)
            with self._inside(file):
                return (yield)

    measured = coverage.Coverage(data_file=None, source=[str(package)], config_file=False)
    measured.start()
    code, by = _pytest(work["tests"], place, plugins=[Contexts()])
    measured.stop()
    if code in (0, 1, NO_TESTS):
        data = measured.get_data()
        lines = {
            Path(file).relative_to(package).as_posix(): {
                line: names
                for line, contexts in data.contexts_by_lineno(file).items()
                if (names := [name for name in contexts if name and name not in failed])
            }
            for file in data.measured_files()
            if Path(file).parent == package / work["room"]
        }
        sound = {test: spent for test, spent in seconds.items() if test not in failed}
        found = {"seconds": sound, "lines": lines, "failed": sorted(failed)}
        draft = Path(work["cache"]).with_suffix(".draft")
        draft.write_text(json.dumps(found))
        draft.replace(work["cache"])
        return 0, ""
    return code, by


def _processor() -> float:
    """CPU seconds of this process and of those that it has waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


if __name__ == "__main__":
    _serve()
