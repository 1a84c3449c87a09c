"""Files and folders: what was there before or what is new, and nothing beside it."""

import os
import subprocess
import sys

import pytest

from poincare_taxa.files.atomic import replace_file, replace_folder


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
        if ".new-" in self.name:
            raise OSError("no")
        return rename(self, target)

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


def test_replace_file__draft_is_hidden_and_keeps_the_ending(tmp_path):
    with replace_file(tmp_path / "picture.old.png") as draft:
        draft.touch()
        assert draft.parent == tmp_path
        assert draft.name.startswith(".picture.old.")
        assert draft.suffix == ".png"


def test_replace_file__lets_others_read_as_the_umask_says(tmp_path):
    write_file(tmp_path / "ours", "text")
    (tmp_path / "plain").write_text("text")
    assert os.stat(tmp_path / "ours").st_mode == os.stat(tmp_path / "plain").st_mode  # noqa: PTH116
