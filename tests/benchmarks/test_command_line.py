"""One command line: help costs nothing, and nothing is written but what a complete run found."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from benchmarks import tables
from benchmarks.cli import app
from benchmarks.quality import commands as quality
from benchmarks.quality import layouts
from benchmarks.tools import commands as tools

CHECKOUT = Path(__file__).parents[2]
NAMES = [command.name for command in app.registered_commands]
MODULES = sorted(
    ".".join(file.relative_to(CHECKOUT).with_suffix("").parts)
    for file in (CHECKOUT / "benchmarks").rglob("*.py")
    if not file.name.startswith("__")
)

PRINT_ONLY = {"examples", "lines", "lookup", "startup", "fit", "reading"}

ALL_HELP = """
import sys
from typer.testing import CliRunner
from benchmarks.cli import app
for name in [None, *(command.name for command in app.registered_commands)]:
    found = CliRunner().invoke(app, [name, "--help"] if name else ["--help"])
    assert found.exit_code == 0, (name, found.output)
    assert "Usage: " in found.output, name
    for module in ("torch", "matplotlib", "geoopt", "numba", "triton", "polars"):
        assert module not in sys.modules, (name, module)
"""


def written():
    """Files of the checkout that results go to, and when they were changed."""
    folders = (tables.results(CHECKOUT), CHECKOUT / "docs", CHECKOUT / "poincare_taxa" / "data")
    return {file: file.stat().st_mtime_ns for folder in folders for file in folder.rglob("*.*")}


def test_help__of_every_command_loads_no_library_and_writes_nothing(tmp_path):
    before = written()
    environment = os.environ | {"PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        [sys.executable, "-c", ALL_HELP],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert written() == before
    assert list(tmp_path.iterdir()) == []


def test_help__every_command_and_option_has_a_text():
    for name, command in typer.main.get_command(app).commands.items():
        assert command.help, name
        for parameter in command.params:
            assert parameter.help, (name, parameter.name)
        options = {option for parameter in command.params for option in parameter.opts}
        assert ("--out" in options) == (name not in PRINT_ONLY | {"taxdump"}), name


@pytest.mark.parametrize("name", MODULES)
def test_module__finds_what_it_imports(name):
    if name == "benchmarks.tools.aot":
        pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
    importlib.import_module(name)


def test_names__are_each_once():
    assert len(set(NAMES)) == len(NAMES)


def test_publish__writes_only_with_a_folder(tmp_path, capsys):
    before = written()
    tables.publish(None, "any", [{"a": 1}])
    assert "| 1 |" in capsys.readouterr().out
    assert written() == before
    tables.publish(tmp_path, "quality/any", [{"a": 1}], [{"shown": 2}])
    (row,) = tables.kept_rows(tmp_path, "quality/any")
    assert row["a"] == 1
    assert "shown" in (tmp_path / "docs" / "tables" / "any.md").read_text()


def test_command__without_a_folder_writes_nothing():
    before = written()
    found = CliRunner().invoke(app, ["lines"])
    assert found.exit_code == 0
    assert written() == before


def test_command__that_fails_leaves_the_files_as_they_were(tmp_path, monkeypatch):
    tables.publish(tmp_path, "quality/frontier", [{"a": 1}])
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*")}

    def broken(tax, queries):
        yield {"dim": 10}
        raise ValueError("power is off")

    monkeypatch.setattr(quality, "ncbi", lambda: None)
    monkeypatch.setattr(layouts, "frontier", broken)
    found = CliRunner().invoke(app, ["frontier", "--out", str(tmp_path)])
    assert "power is off" in str(found.exception)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*.*")} == before


def test_aot__a_part_is_not_written(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
    found = CliRunner().invoke(app, ["aot", "--quick", "--out", str(tmp_path)])
    assert found.exit_code == 2
    assert list(tmp_path.iterdir()) == []
    assert tools.PACKAGE.is_dir()
