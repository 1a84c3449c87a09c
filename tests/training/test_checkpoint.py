"""Checkpoints: whole or not there, never pickled, and each fault is one clear error."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

from poincare_taxa.files.atomic import DRAFT, _host
from poincare_taxa.training import checkpoint
from poincare_taxa.training.checkpoint import Checkpoints


@pytest.fixture
def checkpoints(tmp_path):
    folder = Checkpoints(tmp_path / "run", keep_last=2)
    for epoch in (1, 2):
        folder.save(epoch, {"x": torch.full((1000,), epoch)}, {"epoch": epoch})
    return folder


def file(checkpoints, epoch):
    return checkpoints.path / f"epoch-{epoch:06d}.safetensors"


def test_checkpoint__comes_back_bit_for_bit(tmp_path):
    folder = Checkpoints(tmp_path)
    tensors = {
        "strided": torch.randn(4, 6)[:, ::2],
        "nan": torch.tensor([torch.nan, -0.0]),
        "bytes": torch.Generator().get_state(),
        "none": torch.empty(0, 3, dtype=torch.float64),
    }
    state = {"numbers": [0.1, 1e-300, 2**60], "text": "τ", "nothing": None}
    folder.save(7, tensors, state)
    found = folder.load(7)
    assert found.state == state
    for name, tensor in tensors.items():
        assert found.tensors[name].numpy().tobytes() == tensor.contiguous().numpy().tobytes()


def test_save__that_fails_leaves_what_was_there(checkpoints, monkeypatch):
    before = {f.name: f.read_bytes() for f in checkpoints.path.iterdir()}

    def half(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(checkpoint, "save_tensors", half)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.save(3, {}, {})
    assert {f.name: f.read_bytes() for f in checkpoints.path.iterdir()} == before


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_load__says_that_a_file_was_cut_short(checkpoints, length):
    whole = file(checkpoints, 2).read_bytes()
    file(checkpoints, 2).write_bytes(whole[:length])
    with pytest.raises(ValueError, match=r"epoch-000002.safetensors is damaged .* cut short"):
        checkpoints.load(2)
    assert checkpoints.load(1).state == {"epoch": 1}


def test_load__refuses_other_files_and_other_versions(checkpoints, monkeypatch):
    save_file({"x": torch.zeros(1)}, file(checkpoints, 3))
    with pytest.raises(ValueError, match="another program's file"):
        checkpoints.load(3)
    monkeypatch.setattr(checkpoint, "library_version", lambda: "9.9")
    with pytest.raises(ValueError, match=r"written by poincare-taxa 0\..* this is 9.9"):
        checkpoints.load(2)
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "FORMAT_VERSION", 2)
    with pytest.raises(ValueError, match="checkpoint format 1"):
        checkpoints.load(2)
    with pytest.raises(FileNotFoundError, match=r"there are \[1, 2, 3\]"):
        checkpoints.load(9)


def test_checkpoint__is_read_without_this_library(checkpoints):
    raw = file(checkpoints, 2).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])["__metadata__"]["checkpoint"]
    assert json.loads(header)["state"] == {"epoch": 2}


def test_leftovers__of_a_killed_write_are_cleared(checkpoints):
    begin = f".epoch-000003.safetensors{DRAFT}{_host()}"
    draft = checkpoints.path / f"{begin}-{2**22 + 1}-0123"  # beyond the largest process number
    alive = checkpoints.path / f"{begin}-{os.getpid()}-0123"
    draft.mkdir()
    alive.mkdir()
    foreign = [checkpoints.path / name for name in ("notes.txt", ".tmpABC")]
    for note in foreign:
        note.touch()
    checkpoints.ensure_writable()
    assert not draft.exists()
    assert alive.exists()
    assert all(note.exists() for note in foreign)
    assert checkpoints.epochs() == [1, 2]
