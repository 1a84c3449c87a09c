"""What `import poincare_taxa` promises: names, documentation, types, and what it leaves out."""

import ast
import functools
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import poincare_taxa as pt

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pt.__file__).parent


def test_all__is_sorted_and_is_the_namespace():
    assert pt.__all__ == sorted(pt.__all__)
    assert [name for name in dir(pt) if not name.startswith("_")] == pt.__all__
    for name in pt.__all__:
        assert getattr(pt, name) is not None


def test_all__is_what_type_checkers_see():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname for node in typed.body for alias in node.names}
    assert seen == set(pt.__all__)
    homes = {alias.name: node.module for node in typed.body for alias in node.names}
    assert homes == pt._HOME


def test_namespace__has_no_other_names():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pt.no_such_name


@pytest.mark.parametrize("name", pt.__all__)
def test_public_name__has_a_docstring_and_a_place_in_the_documentation(name):
    value = getattr(pt, name)
    assert inspect.getdoc(value)
    module = value.__name__ if inspect.ismodule(value) else value.__module__
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    documented = [line.split()[-1] for line in pages.splitlines() if "automodule::" in line]
    assert any(module == page or module.startswith(f"{page}.") for page in documented), module


def test_layout__is_the_function_whatever_was_imported_before():
    code = "import poincare_taxa.layout, poincare_taxa as pt; assert callable(pt.layout), pt.layout"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_import__loads_nothing_heavy_before_it_is_used():
    code = (
        "import sys, poincare_taxa as pt\n"
        "heavy = {'torch', 'polars', 'networkx', 'scipy', 'matplotlib', 'marisa_trie', 'geoopt'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "pt.load_sample()\n"
        "assert 'torch' not in sys.modules\n"
        "pt.TaxonEmbedding, pt.evaluate, pt.plot_disk, pt.check\n"
        "late = {'matplotlib', 'marisa_trie', 'geoopt'}\n"
        "assert not late & set(sys.modules), late & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_readme__its_python_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pt, "evaluate", functools.partial(pt.evaluate, queries=5))
    exec(code, {})
    assert (tmp_path / "mammals-10d" / "meta.json").exists()
    assert "ancestor MAP" in capsys.readouterr().out


def test_package__says_that_it_is_typed():
    assert (PACKAGE / "py.typed").exists()
