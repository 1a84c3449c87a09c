"""Saved folders: files of others, full disks, and loading while another process saves."""

import resource
import subprocess
import sys

import pytest

import poincare_taxa as pt
from poincare_taxa.testing import synthetic_taxonomy

TAX = synthetic_taxonomy(300, seed=1)


@pytest.fixture(scope="module")
def model():
    return pt.embed(TAX, dim=4)


def test_save__keeps_the_files_of_others(tmp_path, model):
    path = tmp_path / "saved"
    model.save(path)
    (path / "notes.txt").write_text("mine")
    (path / "figures").mkdir()
    (path / "figures" / "tree.svg").write_text("<svg/>")
    pt.embed(TAX, dim=5).save(path)
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "figures" / "tree.svg").read_text() == "<svg/>"
    assert pt.TaxonEmbedding.load(path).dim == 5
    assert {result.status for result in pt.check(path)} == {"passed"}


@pytest.mark.parametrize("limit", [100, 3000])
def test_save__on_a_full_disk_is_an_oserror_and_leaves_what_was_there(tmp_path, model, limit):
    path = tmp_path / "saved"
    model.save(path)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    code = f"""
import resource, signal, sys
import poincare_taxa as pt
model = pt.TaxonEmbedding.load(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
try:
    model.save(sys.argv[1])
except OSError as error:
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == 7
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["saved"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] in (-1, resource.RLIM_INFINITY)


def test_load__while_another_process_saves_is_the_old_or_the_new(tmp_path, model):
    path = tmp_path / "saved"
    model.save(path)
    code = """
import itertools, sys, time
from pathlib import Path
import poincare_taxa as pt
from poincare_taxa.testing import synthetic_taxonomy
path = Path(sys.argv[1])
models = [pt.embed(synthetic_taxonomy(300, seed=1), dim=dim) for dim in (4, 5)]
print("ready", flush=True)
for model in itertools.cycle(models):
    model.save(path)
    if (path.parent / "enough").exists():
        break
    time.sleep(0.05)
"""
    expected = {4: model.direction, 5: pt.embed(TAX, dim=5).direction}
    seen = set()
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
        assert writer.stdout.readline() == b"ready\n"
        try:
            for count in range(1000):
                found = pt.TaxonEmbedding.load(path)
                assert found.direction.equal(expected[found.dim])
                seen.add(found.dim)
                if seen == {4, 5} and count >= 30:
                    break
        finally:
            (tmp_path / "enough").touch()
    assert writer.returncode == 0
    assert seen == {4, 5}
