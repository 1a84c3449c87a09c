"""Terminals, locales and installations as people have them: narrow, in ASCII, without extras."""

import os
import subprocess
import sys

import pytest
import torch
from support.zoo import zoo

from poincare_taxa import cli
from poincare_taxa.kernels import backend, cdist
from poincare_taxa.model.model import embed
from poincare_taxa.pictures.disk import plot_disk

# Three commands in one process, since torch takes seconds to import.
_COMMANDS = """
import sys
from poincare_taxa.cli import main
for args in ("embed names.tsv -o out --dim 3", "nearest out 2 -k 3", "evaluate out"):
    try:
        main(args.split())
    except SystemExit as end:
        assert not end.code, args
"""
_GEOOPT = """
import torch, warnings
script = torch.jit.script
def scripted(*args, **kwargs):
    for category in (FutureWarning, DeprecationWarning):
        warnings.warn("`torch.jit.script` is deprecated. Please switch", category)
    return script(*args, **kwargs)
torch.jit.script = scripted
import poincare_taxa.blocks.manifolds
try:
    torch.jit.script(lambda x: x)
except FutureWarning:
    print("elsewhere the warning is an error")
"""


def python(code, folder, **environment):
    return subprocess.run(
        [sys.executable, *environment.pop("options", []), "-c", code],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        # Without Python's own help against it, standard output takes nothing but ASCII.
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "COLUMNS": "20"},
        {"NO_COLOR": "1", "COLUMNS": "40", "FORCE_COLOR": "", "TERM": "dumb"},
    ],
    ids=["ASCII, 20 columns", "NO_COLOR, 40 columns"],
)
def test_commands__in_any_locale_and_terminal(tmp_path, environment):
    text = "id\tparent\tname\n1\t\tLeb\u00e9n\n2\t1\tCaf\u00e9 \u03b1 [x]\n3\t1\tB\n4\t2\tC\n"
    (tmp_path / "names.tsv").write_text(text, encoding="utf-8")
    done = python(_COMMANDS, tmp_path, **environment)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    assert b"\x1b[" not in done.stdout
    assert b"ancestor MAP" in done.stdout


def test_geoopt__is_imported_without_warnings_that_are_errors(tmp_path):
    done = python(_GEOOPT, tmp_path, options=["-W", "error"])
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.strip() == b"elsewhere the warning is an error"


def test_pictures__without_their_extra_name_the_command(tmp_path, monkeypatch, capsys):
    model = embed(zoo(), dim=4)
    model.save(tmp_path / "out")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install 'poincare-taxa\[viz\]'"):
        plot_disk(model)
    with pytest.raises(SystemExit) as end:
        cli.main(["plot", str(tmp_path / "out"), "-o", str(tmp_path / "x.png")])
    assert end.value.code == 2
    assert "pip install 'poincare-taxa[viz]'" in capsys.readouterr().err.replace("\n", " ")


def test_kernels__without_their_extra_name_the_command(monkeypatch):
    monkeypatch.setattr(backend, "_installed", lambda name: False)
    x = torch.full((2, 3), 0.1, dtype=torch.float64)
    with pytest.raises(ImportError, match=r"pip install 'poincare-taxa\[gpu\]'"):
        cdist(x, x, backend="triton")
    assert cdist(x, x).shape == (2, 2)
