"""README, pages and package agree: links lead somewhere, badges are true, claims are asserted."""

import re
import tomllib
from pathlib import Path

import pytest

import poincare_taxa as pt

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
EXAMPLES = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
PAGES = sorted((ROOT / "docs").rglob("*.md"))


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md"])
def test_link__leads_to_a_file(page):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text())
    lost = [link for link in links if "://" not in link and not (ROOT / link).exists()]
    assert lost == []


def test_badges__say_what_the_package_says():
    badges = dict(re.findall(r"!\[(\w+): ([^\]]+)\]\(https://img\.shields\.io/badge/", README))
    assert badges == {
        "Python": PROJECT["requires-python"].replace(">=", "≥ "),
        "Licence": PROJECT["license"],
    }


def test_placeholder__is_explained_wherever_it_is_used():
    for page in [ROOT / "README.md", *PAGES]:
        text = page.read_text()
        if "git clone REPOSITORY" in text:
            assert "`REPOSITORY` stands for the address" in text, page


def test_example__is_in_the_documentation_and_ends_in_its_claim():
    index = (ROOT / "docs" / "index.md").read_text()
    assert len(EXAMPLES) >= 12
    for name in EXAMPLES:
        assert f"\nexamples/{name}\n" in index, name
        cells = (ROOT / "examples" / f"{name}.py").read_text().split("# %%")
        assert any(re.search(r"^ *assert ", cell, re.MULTILINE) for cell in cells[-3:]), name


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_table__that_a_page_shows_is_there(page):
    for path in re.findall(r"\{include\} (\S+)", page.read_text()):
        assert (page.parent / path).exists(), path


# ------------------------------------------- blocks of code that the build does not execute


def blocks_of(page):
    """Return the Python of a page that has no outputs there, as one script."""
    fence = r"^```(?:python|\{code-block\} python)\n(.*?)^```"
    found = re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL)
    return "\n".join(found)


# Elsewhere such blocks show large data, or several processes, which tests of their own have.
PLAIN = [ROOT / "docs" / name for name in ("explore.md", "index.md", "releases.md")]


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Names that pages take as given, and small files and taxonomies in place of large ones."""
    monkeypatch.chdir(tmp_path)
    apes = ["Homo sapiens", "Pan paniscus", "Pan troglodytes"]
    rodents = ["Mus musculus", "Mus spretus", "Rattus rattus", "Rattus norvegicus"]
    known = [*apes, *rodents, "Balaenoptera musculus"]
    sample = pt.load_sample("mammals")
    tax, larger = sample.prune(known), sample.prune([*known, "Gorilla gorilla"])
    model = pt.embed(tax, dim=4)
    monkeypatch.setattr(pt, "read_ncbi", lambda path: larger)
    monkeypatch.setattr(pt, "load_sample", lambda name: tax)
    near = ["Homo sapiens", "Pan paniscus"], ["Mus musculus", "Rattus rattus"]
    return {
        "pt": pt,
        "tax": tax,
        "model": model,
        "hits_of_x": near[0],
        "hits_of_y": near[1],
        "scores_of_x": [2.0, 1.0],
        "scores_of_y": [1.0, 1.0],
    }


@pytest.mark.parametrize("page", PLAIN, ids=lambda path: path.name)
def test_code__of_a_page_runs(page, stand_ins):
    assert blocks_of(page)
    exec(compile(blocks_of(page), str(page), "exec"), stand_ins)
