"""What `import poincare_taxa` promises: names, documentation, types, and what it leaves out."""

import ast
import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import poincare_taxa as pt

ROOT = Path(__file__).parents[1]
PACKAGE = Path(pt.__file__).parent


ROOMS = [module.name for module in pkgutil.iter_modules(pt.__path__) if module.ispkg]


def stub(path):
    """Names of a stub → the module that each comes from."""
    nodes = ast.parse(path.read_text()).body
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom)]
    return {alias.asname: node.module for node in imports for alias in node.names}


def test_all__is_sorted_and_is_the_namespace():
    assert pt.__all__ == sorted(pt.__all__)
    assert dir(pt) == pt.__all__ == sorted(stub(PACKAGE / "__init__.pyi"))
    for name in pt.__all__:
        assert getattr(pt, name) is not None


@pytest.mark.parametrize("room", [room for room in ROOMS if room not in ("files", "processes")])
def test_room__holds_the_names_of_its_stub(room):
    module = getattr(pt, room)
    names = stub(PACKAGE / room / "__init__.pyi")
    assert module.__all__ == sorted(names)
    for name, file in names.items():
        value = getattr(module, name)
        home = importlib.import_module(f"poincare_taxa.{room}.{file}" if file else module.__name__)
        assert value is getattr(home, name)
        assert not inspect.ismodule(value) or file is None, "no file bears the name of a function"


@pytest.mark.parametrize("room", ROOMS)
def test_room__its_docstring_names_each_of_its_files(room):
    text = importlib.import_module(f"poincare_taxa.{room}").__doc__ or ""
    for module in pkgutil.iter_modules([PACKAGE / room]):
        if not module.name.startswith("_"):
            assert re.search(rf"`{module.name}/?`", text), module.name


def test_namespace__has_no_other_names():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = pt.no_such_name


def test_moved_name__says_where_it_is_now():
    for room, names in pt._MOVED.items():
        for name in names.split():
            with pytest.raises(AttributeError, match=rf"is poincare_taxa\.{room}\.{name} now"):
                getattr(pt, name)
            assert hasattr(getattr(pt, room), name) or importlib.util.find_spec(
                f"poincare_taxa.{room}.{name}"
            )


def public_paths():
    """Functions and classes → the shortest path that users reach each by."""
    paths = {}
    for room in [*ROOMS, ""]:
        module = getattr(pt, room) if room else pt
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                paths[value] = f"{module.__name__}.{name}"
    return sorted(paths.items(), key=lambda item: item[1])


PUBLIC = public_paths()


@pytest.mark.parametrize(("value", "path"), PUBLIC, ids=[path for _, path in PUBLIC])
def test_public_name__is_documented_by_its_public_path(value, path):
    assert inspect.getdoc(value)
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    places = re.findall(r"^\.\. auto(?:function|class|exception):: (\S+)$", pages, re.MULTILINE)
    assert places.count(path) == 1
    if inspect.isclass(value):
        operators = {"__call__", "__contains__", "__getitem__", "__iter__", "__len__"}
        for name in operators & set(vars(value)):
            assert vars(value)[name].__doc__, f"{path}.{name}"


def test_public_alias__is_documented_by_its_public_path():
    """Names that are neither functions, classes nor modules: of types, and constants."""
    pages = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    places = re.findall(r"^\.\. (?:py:type|autodata):: (\S+)$", pages, re.MULTILINE)
    aliases = set()
    for room in ROOMS:
        for name in getattr(getattr(pt, room), "__all__", ()):
            value = getattr(getattr(pt, room), name)
            documented = inspect.isclass(value) or inspect.isfunction(inspect.unwrap(value))
            if not (documented or inspect.ismodule(value)):
                aliases.add(f"poincare_taxa.{room}.{name}")
    assert aliases == set(places)


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
