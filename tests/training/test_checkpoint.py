"""Checkpoints: whole or not there, never pickled, and each fault is one clear error."""

import json
import os

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import poincare_taxa as pt
from poincare_taxa.files.atomic import DRAFT, _host
from poincare_taxa.testing import synthetic_taxonomy
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


@pytest.mark.parametrize("keep_last", [1, 2, 3, None])
def test_save__keeps_as_many_of_the_latest_as_asked_for(tmp_path, keep_last):
    folder = Checkpoints(tmp_path, **({"keep_last": keep_last} if keep_last else {}))
    for epoch in range(1, 6):
        folder.save(epoch, {}, {})
    assert folder.epochs() == list(range(6 - (keep_last or 2), 6))


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


def rewrite(path, change, tensors=None):
    """Write a checkpoint anew, its header changed and without a checksum, as versions before."""
    with safe_open(path, framework="pt") as stream:
        header = json.loads(stream.metadata()["checkpoint"])
        tensors = tensors or {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    save_file(tensors, path, {"checkpoint": change(header)})


@pytest.mark.parametrize("place", ["tensor", "state", "name"])
def test_load__notices_any_change_by_the_checksum(checkpoints, place):
    path = file(checkpoints, 2)
    data = path.read_bytes()
    if place == "tensor":
        data = data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]
    else:
        was, now = {"state": (b'epoch\\": 2', b'epoch\\": 3'), "name": (b'"x":', b'"y":')}[place]
        assert data.count(was) == 1
        data = data.replace(was, now)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"epoch-000002.* was changed .*SHA-256.* Delete it"):
        checkpoints.load(2)


def test_load__reads_checkpoints_without_a_checksum(checkpoints):
    rewrite(file(checkpoints, 2), json.dumps)
    assert checkpoints.load(2).state == {"epoch": 2}


HEADERS = {
    "deep": lambda header: "[" * 100_000,
    "not JSON": lambda header: "{",
    "a list": lambda header: "[]",
    "no state": lambda header: json.dumps(header | {"state": 7}),
    "another format": lambda header: json.dumps(header | {"format": None}),
}


@pytest.mark.parametrize("case", HEADERS)
def test_load__does_not_trust_the_header(checkpoints, case):
    rewrite(file(checkpoints, 2), HEADERS[case])
    with pytest.raises(ValueError, match="epoch-000002"):
        checkpoints.load(2)


def test_save__lets_others_read_as_the_umask_says(checkpoints):
    plain = checkpoints.path / "plain"
    plain.touch()
    assert file(checkpoints, 2).stat().st_mode == plain.stat().st_mode


STATES = {
    "no settings": lambda state, tensors: state.pop("settings"),
    "no source": lambda state, tensors: state["settings"].pop("source"),
    "a text for the history": lambda state, tensors: state.update(history="x"),
    "no optimizer": lambda state, tensors: state.pop("optimizer"),
    "groups of numbers": lambda state, tensors: state["optimizer"].update(param_groups=[1]),
    "points of another shape": lambda state, tensors: tensors.update(points=torch.ones(1, 4)),
    "no generator": lambda state, tensors: tensors.pop("generator"),
    "a short generator": lambda state, tensors: tensors.update(generator=torch.zeros(3).byte()),
}


@pytest.mark.parametrize("case", STATES)
def test_resume__refuses_a_state_that_is_none(tmp_path, case):
    tax = synthetic_taxonomy(50, seed=1)
    options = {"dim": 3, "checkpoint": tmp_path / "run", "progress": False}
    pt.fit(tax, epochs=1, **options)
    path = tmp_path / "run" / "epoch-000001.safetensors"
    with safe_open(path, framework="pt") as stream:
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118

    def change(header):
        STATES[case](header["state"], tensors)
        return json.dumps(header)

    rewrite(path, change, tensors)
    with pytest.raises(ValueError, match=r"run: the checkpoint of epoch 1 is no state"):
        pt.fit(tax, epochs=2, resume=True, **options)


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


def test_run__in_the_folder_of_a_run_is_told(tmp_path):
    tax = synthetic_taxonomy(20, seed=0)
    others = []

    def second(row, embedding):
        with pytest.raises(
            BlockingIOError, match=r"another run is in .*\(process \d+ on .*\)"
        ) as e:
            pt.fit(tax, dim=3, checkpoint=tmp_path / "run", resume=True, progress=False)
        others.append(e)

    pt.fit(tax, dim=3, epochs=1, checkpoint=tmp_path / "run", callback=second, progress=False)
    assert len(others) == 2
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["epoch-000001.safetensors"]
