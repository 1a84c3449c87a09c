"""Tables of the documentation: each has one command that makes it, and versions that made it."""

from importlib.metadata import version
from pathlib import Path

import pytest
import typer

from benchmarks import tables
from benchmarks.cli import app
from benchmarks.tools import figures, lock
from benchmarks.tools.figures import FIGURES, Figure

ROOT = Path(__file__).parents[2]


def test_tables__are_each_made_by_one_command():
    made = [file for figure in FIGURES for file in figure.files()]
    assert len(made) == len(set(made))
    assert sorted(made) == sorted(tables.pages(ROOT).iterdir())
    for figure in FIGURES:
        assert figure.tables or figure.elsewhere, figure.command
        for name in figure.tables:
            assert list(tables.pages(ROOT).glob(name)), f"{name} is no table"


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.command)
def test_command__of_a_table_is_one_that_the_command_line_takes(figure, tmp_path):
    name, *arguments = figures.listed(tmp_path)[FIGURES.index(figure)]["command"].split()[3:]
    command = typer.main.get_command(app).commands[name]
    command.make_context(name, [*arguments, "--out", str(tmp_path)])  # parses, and runs nothing


def test_list__names_what_is_missing(tmp_path):
    (tmp_path / "newick_wol").mkdir()
    here = {row["command"].split()[3]: row["here"] for row in figures.listed(tmp_path)}
    assert here["frontier"] == here["phylogenies"] == "yes"
    assert here["trees"] == f"{tmp_path / 'ncbi_wol_2017'} is not there"
    assert "code of other authors" in here["hsdte"]


def test_list__names_packages_without_which_rows_are_missing(tmp_path):
    (tmp_path / "traits").mkdir()
    chosen = Figure("does-it-help", (), needs="traits", packages=("numpy", "not_there", "nor_this"))
    (row,) = figures.made(tmp_path, tmp_path, (chosen,))
    assert row["result"].startswith("not run: not_there, nor_this not installed: pip install -r")
    locked = " ".join(lock.pins((ROOT / lock.FILE).read_text()))
    assert all(name in locked for figure in FIGURES for name in figure.packages)


def test_made__runs_compares_and_goes_on_after_a_failure(tmp_path):
    chosen = (
        Figure("no-such-command", ("rooms.svg",)),
        Figure("soak --minutes 120", ("soak.md",), elsewhere="two hours"),
        Figure("imports", ("rooms.svg",)),
    )
    failed, left_out, made = figures.made(tmp_path, tmp_path, chosen)
    assert failed["result"].startswith("failed: ")
    assert left_out["result"] == "not run: two hours"
    assert made["result"] == "the same"  # tests/test_architecture.py keeps it so
    assert (tables.pages(tmp_path) / "rooms.svg").exists()


def test_lock__has_the_pins_of_the_tests_and_what_benchmarks_need_besides():
    locked = lock.pins((ROOT / lock.FILE).read_text())
    pinned = lock.pins((ROOT / "constraints.txt").read_text())
    shared = locked.keys() & pinned.keys()
    assert {name: locked[name] for name in shared} == {name: pinned[name] for name in shared}
    needed = {"torch", "numpy", "numba", "polars", "scipy", "geoopt", "safetensors"}
    assert needed <= shared
    assert {"usearch", "hnswlib", "lightgbm"} <= locked.keys() - pinned.keys()


def test_lock__is_what_is_installed():
    found = lock.pins(lock.text())
    assert found["numpy"] == version("numpy")
    assert found["torch"] == version("torch").partition("+")[0]
