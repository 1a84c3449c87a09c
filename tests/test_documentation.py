"""README, pages and package agree: links lead somewhere, badges are true, claims are asserted."""

import gzip
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import torchrun

import poincare_taxa as pt
from benchmarks.cli import app as benchmarks
from benchmarks.tools.code_blocks import code_blocks

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README_PAGE = ROOT / "README.md"
README = README_PAGE.read_text()
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
        if page.parent.name == "tables":  # a page that includes it says so
            continue
        if "git clone REPOSITORY" in text:
            assert "`REPOSITORY` stands for the address" in text, page


def test_urls_of_the_package__lead_nowhere_until_there_is_an_address():
    urls = PROJECT["urls"].values()
    assert {url.split("/")[2] for url in urls} == {"repository.invalid"}
    for page in (README_PAGE, ROOT / "docs" / "installation.md"):
        assert "https://repository.invalid/" in page.read_text(), page


def test_page__has_no_name_that_sphinx_writes_over():
    assert not {"genindex", "py-modindex", "search"} & {
        page.stem for page in (ROOT / "docs").glob("*.md")
    }


def test_extras__are_explained():
    page = (ROOT / "docs" / "installation.md").read_text()
    named = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert named == set(PROJECT["optional-dependencies"])


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


def link(status, uri="https://example.org/a", **about):
    known = {"filename": "index.md", "lineno": 3, "status": status, "uri": uri, "info": "404"}
    return json.dumps(known | about)


@pytest.mark.parametrize(
    ("links", "status", "text"),
    [
        ([link("working"), link("redirected"), link("unchecked", "api.html")], 0, "2 .* answer, 0"),
        ([link("working"), link("broken", lineno=7)], 1, "index.md:7: https://example.org/a: 404"),
        ([link("broken"), link("timeout"), link("ignored")], 2, "NOT CHECKED: none of 2 addresses"),
        ([link("unknown"), link("unchecked", "#a")], 2, "NOT CHECKED: no address was tried"),
    ],
)
def test_links__say_where_there_is_no_network(tmp_path, links, status, text):
    (tmp_path / "output.json").write_text("\n".join(links))
    command = [sys.executable, ROOT / ".ci" / "links.py", tmp_path / "output.json"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == status
    assert re.search(text, done.stdout)


# ------------------------------------------- blocks of code that the build does not execute

BLOCKS = {
    str(page.relative_to(ROOT)): code_blocks(page.read_text())
    for page in [README_PAGE, ROOT / "CONTRIBUTING.md", *PAGES]
}


def pages_with(language):
    """Pages that have blocks of a language which the tests execute."""
    return [
        name
        for name, blocks in BLOCKS.items()
        if any(block.language == language and block.reason is None for block in blocks)
    ]


def script_of(page, language):
    """Return the blocks of a page that are executed, as one script."""
    blocks = [block for block in BLOCKS[page] if block.language == language]
    return "\n".join(block.code for block in blocks if block.reason is None)


def test_blocks__are_found_in_pages():
    fences = {
        name: re.findall(
            r"^```(?!\{(?!code-block))[^\n]+$", (ROOT / name).read_text(), re.MULTILINE
        )
        for name in BLOCKS
    }
    assert {name: len(found) for name, found in fences.items()} == {
        name: len(blocks) for name, blocks in BLOCKS.items()
    }, "a language that no test knows"
    # By tests/training/test_config.py, the only one.
    assert [name for name in BLOCKS if "toml" in {b.language for b in BLOCKS[name]}] == [
        "docs/blocks/training.md"
    ]
    indented = [
        name
        for name in BLOCKS
        if re.search(
            r"\n\n    \S[^\n]*\n", re.sub(r"(?ms)^```.*?^```", "", (ROOT / name).read_text())
        )
    ]
    assert indented == [], "write code between fences: what is indented is not executed"


@pytest.mark.parametrize(
    ("page", "block"),
    [(name, block) for name, blocks in BLOCKS.items() for block in blocks if block.reason],
    ids=lambda value: value if isinstance(value, str) else value.code.split("\n")[0],
)
def test_block__that_is_not_executed_says_why(page, block):
    assert len(block.reason) > 20
    pytest.skip(f"{page}: {block.reason}")


def test_benchmarks__that_a_page_names_exist():
    known = {command.name for command in benchmarks.registered_commands}
    for page in [README_PAGE, *PAGES, ROOT / "benchmarks" / "README.md"]:
        named = set(re.findall(r"python -m benchmarks ([a-z][\w-]*)", page.read_text()))
        assert named <= known, page


# What pages take as given: names, small files, and small taxonomies in place of large ones.


@pytest.fixture
def known(tmp_path, monkeypatch):
    """Taxa that pages name, and `pt` whose readers return little."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    apes = ["Homo sapiens", "Pan paniscus", "Pan troglodytes"]
    rodents = ["Mus musculus", "Mus spretus", "Rattus rattus", "Rattus norvegicus"]
    taxa = [*apes, *rodents, "Balaenoptera musculus"]
    sample = pt.load_sample("mammals")
    tax, larger = sample.prune(taxa), sample.prune([*taxa, "Gorilla gorilla"])
    model = pt.embed(tax, dim=4)
    monkeypatch.setattr(pt, "read_ncbi", lambda path: larger)
    monkeypatch.setattr(pt, "load_sample", lambda name: tax)
    return {
        "pt": pt,
        "tax": tax,
        "model": model,
        "hits_of_x": ["Homo sapiens", "Pan paniscus"],
        "hits_of_y": ["Mus musculus", "Rattus rattus"],
        "scores_of_x": [2.0, 1.0],
        "scores_of_y": [1.0, 1.0],
    }


def for_closure(known):
    """Write an ontology and a closure of nouns: a tree with two children a node."""
    pytest.importorskip("obonet")
    terms = ["biological_process", "cellular process", "cell death", "apoptotic process"]
    for i, term in enumerate([*terms, *(f"process {i}" for i in range(4, 12))]):
        above = "" if i == 0 else f"is_a: GO:000691{i - 1}\n" if i < 4 else "is_a: GO:0006910\n"
        above += "relationship: part_of GO:0006911\n" if i == 11 else ""
        text = f"[Term]\nid: GO:00069{10 + i}\nname: {term}\n{above}\n"
        with Path("go-basic.obo").open("a") as file:
            file.write(("" if i else "format-version: 1.2\n\n") + text)
    with Path("go-basic.obo").open("a") as file:
        file.write("[Typedef]\nid: part_of\nname: part of\n")
    nouns = {0: "entity", 1: "animal", 3: "dog", 7: "pug"}
    name = [f"{nouns.get(i, f'noun{i}')}.n.01" for i in range(255)]
    rows = ["id1,id2"]
    for i in range(1, 255):
        above = (i - 1) // 2
        while True:
            rows.append(f"{name[i]},{name[above]}")
            if above == 0:
                break
            above = (above - 1) // 2
    with gzip.open("noun_closure.csv.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    return known


def for_report(known):
    """Groups of ten species, which a report of separation by genus needs, and points of others."""
    parent = [-1, 0, 0, *(1 + i % 2 for i in range(6)), *(3 + i % 6 for i in range(72))]
    ranks = ["order", *["family"] * 2, *["genus"] * 6, *["species"] * 72]
    tax = pt.Taxonomy.from_parents(parent, taxon_ranks=ranks)
    model = pt.embed(tax, dim=4, tau=0.5)
    points = pt.convert.polar_to_lorentz(model.radius, model.direction)
    return known | {"tax": tax, "model": model, "theirs": model.ball(), "hyperboloid": points}


def for_kernels(known):
    return known | {"rows": torch.tensor([0, 1]), "tree": known["tax"].tree}


def for_other_libraries(known):
    """Write a checkpoint of taxembed and its table of rows, in ascending order of the taxids."""
    order = np.argsort([int(key) for key in known["tax"].ids])
    lines = [f"{known['tax'].ids[row]}\t{i}" for i, row in enumerate(order.tolist())]
    Path("echinodermata.mapping.tsv").write_text("\n".join(["taxid\tidx", *lines]) + "\n")
    points = 0.95 * known["model"].ball()[torch.from_numpy(order)].float()
    torch.save({"embeddings": points, "epoch": 3, "loss": 0.1}, "echinodermata_best.pth")
    return known


STAND_INS = {
    "docs/coming-from.md": for_other_libraries,
    "docs/closure.md": for_closure,
    "docs/report.md": for_report,
    "docs/kernels.md": for_kernels,
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "page", [page for page in pages_with("python") if page != "docs/distributed.md"]
)
def test_code__of_a_page_runs(page, known):
    names = STAND_INS.get(page, dict)(known)
    exec(compile(script_of(page, "python"), page, "exec"), names)


PROCESSES = """
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
tax = pt.testing.synthetic_taxonomy(60, seed=0)
model, many_keys = pt.embed(tax, dim=4), list(tax.ids[:7])
encoder = torch.nn.Linear(4, 4)


class Model(torch.nn.Module):
    def __init__(self, encoder, table):
        super().__init__()
        self.encoder, self.table = encoder, table
"""


@pytest.mark.slow
@pytest.mark.parametrize("part", ["your loop", "measuring, searching and shards"])
def test_code__of_several_processes_runs(part, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loop, *others = (b.code for b in BLOCKS["docs/distributed.md"] if b.language == "python")
    if part == "your loop":
        torchrun(tmp_path, loop, 2)
        assert (tmp_path / "table.pt").exists()
    else:
        torchrun(tmp_path, "\n".join([PROCESSES, *others, "dist.destroy_process_group()"]), 2)


SHELL = """#!{python}
import sys
from {module} import main
names = {names}
sys.argv = [names.get(argument, argument) for argument in sys.argv]
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("page", pages_with("bash"))
def test_commands__of_a_page_run(page, known, tmp_path):
    # 1. The two programs, of this environment; the complete taxonomy is a small tree.
    programs = tmp_path / "programs"
    programs.mkdir()
    (tmp_path / "small.nwk").write_text("((a,b)c,(d,e)f)g;")
    modules = {"poincare-taxa": "poincare_taxa.cli", "torchrun": "torch.distributed.run"}
    for name, module in modules.items():
        names = {"ncbi": str(tmp_path / "small.nwk"), "SOURCE": str(tmp_path / "source.parquet")}
        text = SHELL.format(python=sys.executable, module=module, names=names)
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    # 2. The files that commands read: embeddings, and lists of taxa.
    known["tax"].to_frame().write_parquet(tmp_path / "source.parquet")
    model = pt.embed(pt.read(tmp_path / "source.parquet"), dim=4)
    for name in ("OUT", "ncbi-10d"):
        model.save(tmp_path / name)
    for block in BLOCKS[page]:
        if block.language == "toml":
            (tmp_path / "run.toml").write_text(block.code.replace("50", "2"))
    (tmp_path / "species.txt").write_text("Homo sapiens\nMus musculus\n")
    (tmp_path / "hits.tsv").write_text("Homo sapiens\t1\nMus musculus\t2\n")
    (tmp_path / "pairs.tsv").write_text("Homo sapiens\tMus musculus\t3\n")
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script_of(page, "bash")],
        env=os.environ | {"PATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
