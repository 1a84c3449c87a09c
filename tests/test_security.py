"""What SECURITY.md promises of all files at once, and that the tests that it names exist."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from support.pickles import Touches

import poincare_taxa as pt
from poincare_taxa.taxonomy.taxonomy import TaxonomyError
from poincare_taxa.training.checkpoint import Checkpoints
from poincare_taxa.training.config import read_config

ROOT = Path(__file__).parents[1]


def saved_with(name):
    """Read a saved embedding of which one file holds something else."""

    def read(path):
        tax = pt.Taxonomy.from_parents([-1, 0, 0])
        folder = path.parent / "saved"
        pt.embed(tax, dim=2).save(folder)
        (folder / name).write_bytes(path.read_bytes())
        return pt.load(folder)

    return read


READS = {
    "x.txt": pt.read,
    "x.tsv": pt.readers.read_edges,
    "x.parents": pt.readers.read_parents,
    "x.lineages": pt.readers.read_lineages,
    "x.nwk": pt.readers.read_newick,
    "x.dmp": pt.read_ncbi,
    "x.parquet": pt.readers.read_edges,
    "x.npz": pt.load,
    "x.npy": pt.load,
    "x.csv": pt.load,
    "x.vec": lambda path: pt.load(path, taxonomy=pt.Taxonomy.from_parents([-1])),
    "x.pkl": pt.load,
    "x.pth": pt.load,
    "points": saved_with("points.safetensors"),
    "tree": saved_with("tree.safetensors"),
    "taxonomy": saved_with("taxonomy.parquet"),
    "meta": saved_with("meta.json"),
    "epoch-000001.safetensors": lambda path: Checkpoints(path.parent).load(1),
    "run.toml": read_config,
}


@pytest.mark.parametrize("name", READS)
def test_files__that_are_pickles_are_refused_and_not_run(tmp_path, name):
    ran = tmp_path / "ran"
    data = pickle.dumps(Touches(ran))
    pickle.loads(data)
    ran.unlink()  # the pickle does what it is made for
    (tmp_path / name).write_bytes(data)
    with pytest.raises((TaxonomyError, ValueError)):
        READS[name](tmp_path / name)
    assert not ran.exists()


RUN_CODE = {"eval", "exec", "__import__"}
RUN_MORE = {"system", "popen", "extractall"}  # methods
UNPICKLE = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "subprocess"}
PLACES = {  # what is here runs text of the library's own
    ("kernels/numba/compile.py", "eval"),  # signatures
}


def calls_of(source):
    """What a file calls or imports that could run the contents of a file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            callee = node.func
            name = callee.id if isinstance(callee, ast.Name) else getattr(callee, "attr", "")
            owner = callee.value if isinstance(callee, ast.Attribute) else None
            of_torch = isinstance(owner, ast.Name) and owner.id == "torch"
            runs = name in (RUN_CODE if isinstance(callee, ast.Name) else RUN_MORE)
            if runs or (of_torch and name == "load"):
                yield name
            for word in node.keywords:
                if word.arg == "allow_pickle" and getattr(word.value, "value", True) is not False:
                    yield "allow_pickle"
        elif isinstance(node, ast.Import):
            yield from {alias.name.split(".")[0] for alias in node.names} & UNPICKLE
        elif isinstance(node, ast.ImportFrom):
            yield from {str(node.module).split(".")[0]} & UNPICKLE


def test_calls__that_run_code_are_found():
    source = "import pickle\nfrom subprocess import run\neval(x)\nos.system(x)\ntorch.load(p)\n"
    source += "np.load(p, allow_pickle=True)\nnp.load(p, allow_pickle=False)\nre.compile(x)\n"
    found = ["allow_pickle", "eval", "load", "pickle", "subprocess", "system"]
    assert sorted(calls_of(source)) == found


def test_library__unpickles_and_runs_nothing():
    package = ROOT / "poincare_taxa"
    found = {
        (file.relative_to(package).as_posix(), name)
        for file in package.rglob("*.py")
        for name in calls_of(file.read_text(encoding="utf-8"))
    }
    assert found == PLACES


def test_config__names_of_classes_are_those_of_the_library_or_of_torch_optim(tmp_path):
    tax = pt.Taxonomy.from_parents([-1, 0, 0])
    for name in ("os.system", "builtins.eval", "subprocess.Popen", "Margin.__init__", "torch.load"):
        file = tmp_path / "run.toml"
        file.write_text(f'source = "demo"\nout = "x"\n[loss]\nclass = "{name}"\n')
        with pytest.raises(ValueError, match=re.escape(name)):
            read_config(file).run(lambda _: tax)


def test_safetensors__headers_that_announce_more_than_the_file_are_refused(tmp_path):
    file = tmp_path / "epoch-000001.safetensors"
    for length in (2**27, 2**62, 2**64 - 1):
        file.write_bytes(length.to_bytes(8, "little") + b"{" + b" " * 1000)
        with pytest.raises(ValueError, match=r"epoch-000001\.safetensors is damaged"):
            Checkpoints(tmp_path).load(1)


def test_arrays__that_announce_more_than_there_is_are_refused(tmp_path):
    path = tmp_path / "x.npz"
    pt.embed(pt.Taxonomy.from_parents([-1, 0, 0]), dim=2).export(path)
    arrays = dict(np.load(path))
    np.savez(path, **arrays)
    data = path.read_bytes()
    assert data.count(b"(3, 2)") == 1
    path.write_bytes(data.replace(b"(3, 2), }" + b" " * 8, b"(3, 200000000), }", 1))
    with pytest.raises(ValueError, match=r"x\.npz"):
        pt.load(path)


def test_promises__name_tests_that_exist():
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", (ROOT / "SECURITY.md").read_text())
    assert len(named) > 10
    for file, test in named:
        assert f"def {test}" in (ROOT / file).read_text(encoding="utf-8"), (file, test)
