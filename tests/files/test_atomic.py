"""Files and folders: what was there before or what is new, and nothing beside it."""

import os
import subprocess
import sys

import pytest

from poincare_taxa.files import atomic
from poincare_taxa.files.atomic import DRAFT, mend, read_whole, replace_file, replace_folder


def write_file(path, text):
    with replace_file(path) as draft:
        draft.write_text(text)
        assert not path.exists() or path.read_text() != text, "it is not there before it is whole"


def write_folder(path, text):
    with replace_folder(path) as draft:
        (draft / "a").write_text(text)
        (draft / "sub").mkdir()
        (draft / "sub" / "b").write_text(text)


def listing(path):
    return {str(f.relative_to(path)): f.read_text() for f in path.rglob("*") if f.is_file()}


WRITERS = {"file": write_file, "folder": write_folder}


@pytest.mark.parametrize("kind", WRITERS)
def test_replace__shows_what_is_new_and_leaves_no_draft(tmp_path, kind):
    write, path = WRITERS[kind], tmp_path / "made too" / "name.txt"
    write(path, "old")
    old = listing(tmp_path)
    write(path, "new")
    assert listing(tmp_path) == dict.fromkeys(old, "new")
    assert [entry.name for entry in path.parent.iterdir()] == ["name.txt"]


@pytest.mark.parametrize("had_one", [False, True])
@pytest.mark.parametrize("replace", [replace_file, replace_folder])
def test_replace__after_an_exception_is_what_it_was(tmp_path, replace, had_one):
    if had_one:
        WRITERS[replace.__name__.removeprefix("replace_")](tmp_path / "name", "old")
    before = listing(tmp_path)
    with pytest.raises(KeyboardInterrupt), replace(tmp_path / "name") as draft:  # noqa: PT012
        (draft / "part" if replace is replace_folder else draft).write_text("half of i")
        raise KeyboardInterrupt
    assert listing(tmp_path) == before
    assert len(list(tmp_path.iterdir())) == had_one


def test_replace_folder__puts_the_old_one_back_where_the_new_cannot_be_moved(tmp_path, monkeypatch):
    write_folder(tmp_path / "name", "old")
    before = listing(tmp_path)
    rename = type(tmp_path).rename

    def refuse(self, target):
        if self.name == "new":
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    with pytest.raises(OSError, match="no"):
        write_folder(tmp_path / "name", "new")
    assert listing(tmp_path) == before


@pytest.mark.parametrize("kind", WRITERS)
def test_replace__of_a_process_that_is_killed_leaves_what_was_there(tmp_path, kind):
    WRITERS[kind](tmp_path / "name", "old")
    before = listing(tmp_path)
    code = f"""
import os, signal, sys
from pathlib import Path
from poincare_taxa.files.atomic import replace_{kind}
with replace_{kind}(sys.argv[1]) as draft:
    Path(draft, "a" if {kind == "folder"} else "").write_text("half of i")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "name"], check=False)
    assert done.returncode == -9
    kept = {name: text for name, text in listing(tmp_path).items() if not name.startswith(".")}
    assert kept == before


def test_replace_file__draft_is_in_a_hidden_folder_under_the_name_of_the_file(tmp_path):
    with replace_file(tmp_path / "picture.old.png") as draft:
        draft.touch()
        assert draft.name == "picture.old.png"
        assert draft.parent.parent == tmp_path
        assert draft.parent.name.startswith(f".picture.old.png{DRAFT}")


@pytest.mark.parametrize("exchanged", [True, False])
def test_replace_folder__without_an_exchange_in_one_step_too(tmp_path, monkeypatch, exchanged):
    if not exchanged:
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    write_folder(tmp_path / "name", "old")
    write_folder(tmp_path / "name", "new")
    assert set(listing(tmp_path).values()) == {"new"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["name"]


def dead(tmp_path, name="name"):
    """Draft folder of a process that is no more."""
    done = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], **CAPTURE)
    folder = tmp_path / f".{name}{DRAFT}{atomic._host()}-{done.stdout.strip()}-0123"
    folder.mkdir()
    return folder


CAPTURE = {"check": True, "capture_output": True, "text": True}


def test_mend__puts_back_what_a_killed_process_moved(tmp_path):
    write_folder(tmp_path / "name", "old")
    before = listing(tmp_path)
    (tmp_path / "name").rename(dead(tmp_path) / "old")
    assert read_whole(tmp_path / "name", lambda: listing(tmp_path)) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["name"]


def test_mend__leaves_drafts_of_live_processes_other_hosts_and_other_names(tmp_path):
    write_folder(tmp_path / "name", "old")
    removed = dead(tmp_path)
    live = tmp_path / f".name{DRAFT}{atomic._host()}-{os.getpid()}-0123"
    elsewhere = tmp_path / f".name{DRAFT}{atomic._host()}x-1-0123"
    kept = [live, elsewhere, dead(tmp_path, "name2"), tmp_path / ".name", tmp_path / ".tmp1"]
    for folder in kept:
        folder.mkdir(exist_ok=True)
    mend(tmp_path / "name")
    assert not removed.exists()
    assert all(folder.exists() for folder in kept)


def test_read_whole__never_sees_a_mixture(tmp_path):
    code = """
import sys
from poincare_taxa.files.atomic import replace_folder
for i in range(300):
    with replace_folder(sys.argv[1]) as draft:
        for name in "abc":
            (draft / name).write_text(str(i))
"""
    path = tmp_path / "name"
    with replace_folder(path) as draft:
        for name in "abc":
            (draft / name).write_text("start")

    def read():
        return [(path / name).read_text() for name in "abc"]

    seen = set()
    with subprocess.Popen([sys.executable, "-c", code, str(path)]) as writer:
        while writer.poll() is None:
            found = read_whole(path, read)
            assert len(set(found)) == 1, found
            seen.add(found[0])
    assert writer.returncode == 0
    assert len(seen) > 1


def test_replace_file__lets_others_read_as_the_umask_says(tmp_path):
    write_file(tmp_path / "ours", "text")
    (tmp_path / "plain").write_text("text")
    assert os.stat(tmp_path / "ours").st_mode == os.stat(tmp_path / "plain").st_mode  # noqa: PTH116
