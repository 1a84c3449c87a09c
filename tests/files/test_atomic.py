"""Files and folders: what was there before or what is new, and nothing beside it."""

import ast
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from poincare_taxa.files import atomic
from poincare_taxa.files.atomic import DRAFT, mend, probe, read_whole, replace_file, replace_folder


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
    write, path = WRITERS[kind], tmp_path / "made" / "too" / "name.txt"
    write(path, "old")
    old = listing(tmp_path)
    write(path, "new")
    assert listing(tmp_path) == dict.fromkeys(old, "new")
    assert [entry.name for entry in path.parent.iterdir()] == ["name.txt"]


@pytest.mark.parametrize("kind", WRITERS)
def test_replace__is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch, kind):
    forced, fsync = [], os.fsync

    def noted(file):
        forced.append((str(Path(f"/proc/self/fd/{file}").readlink()), (tmp_path / "name").exists()))
        fsync(file)

    monkeypatch.setattr(os, "fsync", noted)
    WRITERS[kind](tmp_path / "name", "new")
    drafts = [name for name, there in forced if not there and DRAFT in name]
    ends = {"file": ["/name"], "folder": ["/a", "/b"]}[kind]
    assert all(any(name.endswith(end) for name in drafts) for end in ends)


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


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "name cannot be written .*; it is as before"),
        (errno.EPERM, "^.Errno 1. broken"),
    ],
)
def test_replace__says_what_became_of_the_old_where_the_disk_is_full(tmp_path, number, message):
    write_file(tmp_path / "name", "old")
    with pytest.raises(OSError, match=message), replace_file(tmp_path / "name"):
        raise OSError(number, "broken")
    assert listing(tmp_path) == {"name": "old"}


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


@pytest.mark.parametrize("system", ["this one", "cannot exchange", "has no such function"])
def test_replace_folder__without_an_exchange_in_one_step_too(tmp_path, monkeypatch, system):
    if system == "cannot exchange":
        monkeypatch.setattr(atomic, "_exchange", lambda first, second: False)
    if system == "has no such function":  # an old C library
        monkeypatch.setattr(atomic.ctypes, "CDLL", lambda name: object())
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


def test_mend__removes_all_drafts_but_those_of_live_processes_other_hosts_and_other_names(tmp_path):
    write_folder(tmp_path / "name", "old")
    removed, kept = [dead(tmp_path)], [dead(tmp_path, "name2")]
    begin = f".name{DRAFT}{atomic._host()}"
    kept += [tmp_path / name for name in (f"{begin}x-1-0123", ".name", ".tmp1")]
    # several, in turns: some of the live ones are found before some of the others
    for number in range(8):
        kept.append(tmp_path / f"{begin}-{os.getpid()}-{number}")
        removed.append(removed[0].with_name(f"{removed[0].name}{number}"))
        for folder in (kept[-1], removed[-1]):
            folder.mkdir()
    for folder in kept:
        folder.mkdir(exist_ok=True)
    mend(tmp_path / "name")
    assert not any(folder.exists() for folder in removed)
    assert all(folder.exists() for folder in kept)


def test_probe__leaves_nothing_and_removes_what_a_killed_one_left(tmp_path):
    left = dead(tmp_path)
    probe(tmp_path / "name")
    assert not left.exists()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        probe(tmp_path / "file" / "name")


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


# -------------------------------------------------------------------- stopped at any moment

STEPS = """
import itertools, os, shutil, sys
from pathlib import Path
from poincare_taxa.files import atomic

can_exchange, how, root = sys.argv[1] == "exchange", sys.argv[2], Path(sys.argv[3])
calls, at = itertools.count(), [0, "before"]

def stops(function):
    # Stop before or after the call with number at[0].
    def wrapped(*args, **kwargs):
        here = next(calls) == at[0]
        if here and at[1] == "before":
            stop()
        found = function(*args, **kwargs)
        if here:
            stop()
        return found
    return wrapped

def stop():
    if how == "kill":
        os._exit(9)
    raise KeyboardInterrupt

def write(text):
    with atomic.replace_folder(root / "name") as draft:
        for name in "ab":
            (draft / name).write_text(text)

write("old")
if not can_exchange:
    atomic._exchange = lambda first, second: False
for owner, name in ((Path, "rename"), (Path, "mkdir"), (os, "fsync"), (shutil, "rmtree"),
                    (atomic, "_exchange")):
    setattr(owner, name, stops(getattr(owner, name)))
seen = set()
for at[:] in itertools.product(range(20), ("before", "after")):
    process = os.fork()
    if process == 0:
        calls = itertools.count()
        try:
            write("new")
        except KeyboardInterrupt:
            os._exit(2)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    code = os.waitstatus_to_exitcode(status)
    calls = itertools.count(1000)
    if code != 2 or at[0] >= 1000:
        atomic.mend(root / "name")
    texts = {file.name: file.read_text() for file in (root / "name").iterdir()}
    assert texts in ({"a": "old", "b": "old"}, {"a": "new", "b": "new"}), (at, texts)
    seen.add((code, texts["a"]))
    atomic.mend(root / "name")
    assert [entry.name for entry in root.iterdir()] == ["name"], (at, list(root.iterdir()))
    write("old")
print(sorted(seen))
"""


@pytest.mark.parametrize("how", ["kill", "interrupt"])
@pytest.mark.parametrize("renaming", ["exchange", "two renames"])
def test_replace_folder__stopped_at_any_moment_leaves_the_old_or_the_new(tmp_path, how, renaming):
    command = [sys.executable, "-c", STEPS, renaming, how, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stopped = 9 if how == "kill" else 2
    assert ast.literal_eval(done.stdout) == sorted([(0, "new"), (stopped, "new"), (stopped, "old")])


def test_replace_folder__where_another_process_makes_it_meanwhile(tmp_path):
    with replace_folder(tmp_path / "name") as draft:
        (draft / "a").write_text("new")
        write_folder(tmp_path / "name", "old")
    assert listing(tmp_path) == {"name/a": "new"}


@pytest.mark.parametrize("kind", WRITERS)
def test_replace__a_full_disk_names_the_place(tmp_path, kind):
    code = f"""
import resource, signal, sys
from pathlib import Path
from poincare_taxa.files.atomic import replace_{kind}
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with replace_{kind}(sys.argv[1]) as draft:
    Path(draft, "a" if {kind == "folder"} else "").write_text("a" * 5000)
"""
    WRITERS[kind](tmp_path / "name", "old")
    before = listing(tmp_path)
    command = [sys.executable, "-c", code, tmp_path / "name"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = f"OSError: {tmp_path / 'name'} cannot be written (File too large); it is as before"
    assert done.stderr.splitlines()[-1] == said
    assert listing(tmp_path) == before
