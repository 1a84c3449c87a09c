"""The path of a newcomer is what the pages print, and its times are those of its steps."""

import pytest

from benchmarks.tables import CHECKOUT
from benchmarks.tools import examples, newcomer
from benchmarks.tools.code_blocks import code_blocks
from benchmarks.tools.newcomer import Step


def test_path__goes_from_a_clone_to_a_notebook():
    shown = [step.shown for step in newcomer.path()]
    page = (CHECKOUT / "docs" / "installation.md").read_text()
    assert shown[0].startswith("git clone REPOSITORY")
    for word in ("pip install", "embed", "evaluate", "explore", "plot", "jupytext"):
        (line, *_) = [line for line in shown if word in line]
        assert f"\n{line}\n" in page
    assert shown[-1] == "the README's Python"
    assert [step.shown for step in newcomer.path(complete=True)][: len(shown)] == shown
    assert any("embed ncbi" in step.shown for step in newcomer.path(complete=True))


def test_blocks__have_their_heading_and_the_reason_above_them():
    fence = "`" * 3
    page = (
        f"{fence}bash\none\n{fence}\n## Two\n<!-- not executed in tests: because -->\n"
        f"{fence}{{code-block}} python\n2\n{fence}\n\n{fence}{{code-cell}} python\n3\n{fence}\n"
    )
    first, second = code_blocks(page)
    assert first == ("", "bash", "one\n", None)
    assert second == ("Two", "python", "2\n", "because")


def test_follow__keeps_folder_and_variables_and_sums_what_steps_took(tmp_path, monkeypatch):
    monkeypatch.setattr(newcomer, "_answers", lambda url: True)
    steps = [
        Step("enter", "mkdir there && cd there && WORD=here"),
        Step("write", 'echo "$WORD" > file'),
        Step("compute", "python3 -c 'sum(range(10**7))'"),
    ]
    rows = newcomer.follow(steps, tmp_path / "work")
    assert (tmp_path / "work" / "there" / "file").read_text() == "here\n"
    assert [row["step"] for row in rows] == ["`enter`", "`write`", "`compute`", "**all**"]
    seconds = [float(row["CPU s"]) for row in rows]
    assert abs(sum(seconds[:-1]) - seconds[-1]) <= len(steps)  # each is rounded
    with pytest.raises(SystemExit, match="not empty"):
        newcomer.follow(steps, tmp_path / "work")
    with pytest.raises(SystemExit, match="failed: break"):
        newcomer.follow([Step("go on", "true"), Step("break", "false"), Step("never", "true")])


@pytest.mark.parametrize("answers", [True, False])
def test_follow__puts_checkout_and_torch_in_place_of_what_is_not_there(answers):
    clone, torch = (
        newcomer._here(step.command, answers)
        for step in newcomer.path()
        if "REPOSITORY" in step.shown or "whl/cpu" in step.shown
    )
    assert f"git clone file://{CHECKOUT} poincare_taxa" in clone
    assert ("--index-url" in torch) == answers
    assert ("torch==" in torch) != answers


def test_follow__leaves_the_environment_of_the_caller(monkeypatch):
    monkeypatch.setenv("VIRTUAL_ENV", "/an/environment")
    monkeypatch.setenv("PATH", "/an/environment/bin:/usr/bin:/bin")
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    found = newcomer._bare()
    assert found["PATH"] == "/usr/bin:/bin"
    assert not {"VIRTUAL_ENV", "PYTHONPATH"} & found.keys()


def test_examples__run_as_scripts_and_as_notebooks(tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("# %%\nassert True\n")
    bad.write_text("# %%\nassert 1 == 2\n")
    rows = list(examples.measure([good], notebooks=True))
    assert [(row["example"], row["as"]) for row in rows] == [
        ("good", "script"),
        ("good", "notebook"),
        ("all 1", "script and notebook"),
    ]
    with pytest.raises(SystemExit, match="bad, as a script failed"):
        list(examples.measure([bad]))
