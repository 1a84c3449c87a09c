"""The command line: what it prints, where, and with which exit status."""

import io
import json
import re
import resource
import subprocess
import sys
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import requests
import torch
from support.zoo import zoo

import poincare_taxa
from poincare_taxa import cli, readers
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.files import atomic
from poincare_taxa.model import storage
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.readers import download
from poincare_taxa.taxonomy.taxonomy import Taxonomy


@pytest.fixture
def run(capsys):
    """Run the command in this process: exit status, standard output, standard error."""

    def run(*args: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit:
            cli.main([str(arg) for arg in args])
        printed = capsys.readouterr()
        return int(exit.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def saved(tmp_path) -> Path:
    embed(zoo(), dim=4).save(tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture
def edges(tmp_path) -> Path:
    path = tmp_path / "zoo.tsv"
    zoo().to_frame().select("id", "parent").write_csv(path, separator="\t")
    return path


def one_line(text: str) -> str:
    assert text.count("\n") == 1, text
    assert "Traceback" not in text
    return text


# -------------------------------------------------------------------- embed


def test_embed__writes_what_the_library_computes(run, tmp_path, edges):
    out = tmp_path / "out"
    code, _, err = run("embed", edges, "-o", out, "--dim", "6", "--dtype", "float32", "--seed", "5")
    assert code == 0, err
    model = TaxonEmbedding.load(out)
    again = embed(readers.read(edges), 6, dtype=torch.float32, seed=5)
    assert model.dtype == torch.float32
    assert torch.equal(model.direction, again.direction)
    assert "12 taxa" in err


def test_embed__takes_the_shipped_sample(run, tmp_path):
    code, out, err = run("embed", "demo", "-o", tmp_path / "out", "--dim", "3")
    assert (code, out) == (0, ""), err
    assert "Homo sapiens" in TaxonEmbedding.load(tmp_path / "out").taxonomy.names


def test_embed__refines_when_asked(run, tmp_path):
    code, _, err = run("embed", "demo", "-o", tmp_path / "out", "--dim", "3", "--refine")
    assert code == 0, err
    model = TaxonEmbedding.load(tmp_path / "out")
    assert model.meta["settings"]["refine"] is True
    assert len(model.meta["layout"]["passes"]) > 1


def test_embed__says_what_a_source_can_be_when_there_is_none(run, tmp_path):
    code, _, err = run("embed", "nbci", "-o", tmp_path / "out")
    assert code == 2
    assert "nbci is neither 'ncbi' nor 'demo' nor a file or folder" in one_line(err)
    assert not (tmp_path / "out").exists()


def test_embed__in_several_processes_is_refused_without_shards(run, tmp_path, edges, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "one")
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = run("embed", edges, "-o", tmp_path / "out")
    assert status == 2
    assert "--shards" in one_line(err)
    assert not (tmp_path / "out").exists()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert run("embed", edges, "-o", tmp_path / "out", "--dim", "3")[0] == 0


def test_embed__refuses_a_taken_place_before_it_reads_anything(run, tmp_path, monkeypatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    monkeypatch.setattr(cli, "_read", lambda source: pytest.fail("read before refusing"))
    code, _, err = run("embed", "demo", "-o", tmp_path / "thesis")
    assert code == 2
    assert "thesis" in one_line(err)


@pytest.mark.parametrize(
    "args",
    [
        ("embed", "no-such-file", "-o", "OUT"),
        ("embed", "demo", "-o", "OUT", "--dim", "0"),
        ("evaluate", "OUT"),
        ("check", "OUT"),
        ("nearest", "OUT", "9606"),
        ("plot", "OUT"),
    ],
)
def test_bad_input__is_one_line_on_standard_error_and_status_2(run, tmp_path, args):
    code, out, err = run(*(tmp_path / "OUT" if arg == "OUT" else arg for arg in args))
    assert (code, out) == (2, "")
    assert "error: " in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (tmp_path / "OUT").exists()


def test_bad_arguments__are_status_2(run, saved):
    for args in (
        ["nearest", saved],
        ["embed", "demo", "-o", saved, "--dtype", "float16"],
        ["fly"],
        ["nearest", saved, "9606", "-k", "0"],
    ):
        code, out, err = run(*args)
        assert (code, out) == (2, ""), args
        assert "Traceback" not in err


# -------------------------------------------------------------------- nearest


def test_nearest__json_is_what_the_model_says(run, saved):
    code, out, _ = run(
        "nearest", saved, "Homo sapiens", "--taxon-rank", "genus", "-k", "2", "--json"
    )
    assert code == 0
    wanted = TaxonEmbedding.load(saved).nearest("Homo sapiens", k=2, taxon_rank="genus")
    assert json.loads(out) == wanted.to_dicts()


def test_nearest__within_a_clade(run, saved):
    code, out, _ = run("nearest", saved, "Homo sapiens", "--within", "Mammalia", "--json")
    assert code == 0
    model = TaxonEmbedding.load(saved)
    assert json.loads(out) == model.nearest("Homo sapiens", within="Mammalia").to_dicts()
    assert run("nearest", saved, "Homo", "--within", "Homo", "--taxon-rank", "class")[0] == 2


def test_nearest__imports_no_compiler(saved):
    code = """
import atexit, sys
from poincare_taxa.cli import main
atexit.register(lambda: print({"numba", "scipy"} & set(sys.modules)))
main(["nearest", sys.argv[1], "9606", "--json"])
"""
    command = [sys.executable, "-c", code, str(saved)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    listed, loaded = done.stdout.rsplit("\n", 2)[:2]
    assert loaded == "set()"
    assert json.loads(listed) == TaxonEmbedding.load(saved).nearest(9606).to_dicts()


def test_nearest__prints_a_line_per_taxon_nearest_first(run, saved):
    code, out, _ = run("nearest", saved, "9606", "-k", "3")
    assert code == 0
    names = TaxonEmbedding.load(saved).nearest(9606, k=3)["name"]
    lines = out.splitlines()[1:]
    assert len(lines) == 3
    assert all(name in line for name, line in zip(names, lines, strict=True))


def test_nearest__says_what_may_have_been_meant(run, saved):
    code, out, err = run("nearest", saved, "Homo sapienz")
    assert (code, out) == (2, "")
    assert "Homo sapiens" in err.splitlines()[-1]


def test_nearest__warns_of_a_merged_id_in_one_line(run, saved):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, err = run("nearest", saved, "63221", "--json")
    assert code == 0
    assert json.loads(out) == TaxonEmbedding.load(saved).nearest(9606).to_dicts()
    assert err.splitlines()[-1].startswith("warning: taxon 63221 was merged into 9606")


# -------------------------------------------------------------------- check


def test_check__passes_with_status_0_and_says_what_it_compared(run, saved):
    code, out, _ = run("check", saved)
    assert code == 0
    assert out.count("✓") == 11
    code, out, _ = run("check", saved, "--json")
    assert code == 0
    assert {result["status"] for result in json.loads(out)} == {"passed"}


def test_check__fails_with_status_1(run, saved):
    storage.update_meta(saved, dim=3)
    code, out, _ = run("check", saved)
    assert code == 1
    assert out.count("✗") == 1
    code, out, _ = run("check", saved, "--json")
    assert code == 1
    assert [r["name"] for r in json.loads(out) if r["status"] == "failed"] == ["configuration"]


# -------------------------------------------------------------------- evaluate


def test_evaluate__prints_the_report_as_text_and_as_json(run, saved):
    code, text, _ = run("evaluate", saved, "--queries", "5")
    assert code == 0
    assert "precision@10" in text
    code, text, _ = run("evaluate", saved, "--queries", "5", "--json")
    assert code == 0
    assert any(row["key"] == "precision@10" for row in json.loads(text)["rows"])
    assert "report" not in storage.read_meta(saved)


def test_evaluate__keeps_the_report_where_asked(run, saved):
    code, text, _ = run("evaluate", saved, "--json", "--save")
    assert code == 0
    kept = TaxonEmbedding.load(saved).meta["report"]
    assert kept["rows"] == json.loads(text)["rows"]


# -------------------------------------------------------------------- plot, download, the rest


def test_plot__writes_a_picture_beside_the_embedding_or_where_asked(run, saved, tmp_path):
    code, _, err = run("plot", saved, "--color-by", "order")
    assert code == 0, err
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    code, _, err = run("plot", saved, "-o", tmp_path / "pictures" / "zoo.svg")
    assert code == 0, err
    assert "<svg" in (tmp_path / "pictures" / "zoo.svg").read_text()


@pytest.mark.parametrize("kind", ["disk", "depth-radius", "distances"])
def test_plot__draws_each_kind(run, saved, tmp_path, kind):
    picture = tmp_path / "new.png"
    code, out, err = run("plot", saved, "--kind", kind, "-o", picture, "--json")
    assert code == 0, err
    assert json.loads(out) == {"path": str(picture), "kind": kind, "taxa": 12}
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_plot__has_a_focus_and_highlights(run, saved, tmp_path):
    options = ["--focus", "Pan", "--highlight", "9606", "--highlight", "Mus musculus"]
    code, _, err = run("plot", saved, "-o", tmp_path / "x.svg", *options)
    assert code == 0, err
    assert run("plot", saved, "-o", tmp_path / "y.svg")[0] == 0
    assert (tmp_path / "x.svg").read_bytes() != (tmp_path / "y.svg").read_bytes()
    code, _, err = run("plot", saved, "--kind", "distances", *options)
    assert code == 2
    assert "--focus, --highlight is of no use to --kind distances" in one_line(err)
    code, _, err = run("plot", saved, "--focus", "nobody")
    assert (code, "nobody" in err) == (2, True)


def test_explore__writes_the_page_of_a_saved_embedding_or_of_a_source(run, saved, tmp_path):
    marked = tmp_path / "marked.txt"
    marked.write_text("Homo sapiens\n\n10090\n")
    options = ["--highlight", "9598", "--highlight-file", marked, "--json"]
    for source in (saved, "demo"):
        page = tmp_path / f"{Path(source).name}.html"
        code, text, err = run("explore", source, "-o", page, *options)
        assert code == 0, err
        assert json.loads(text)["bytes"] == page.stat().st_size
        found = re.search(r'"highlight": (\[.*?\])', page.read_text(encoding="utf-8"))
        assert found
        assert len(json.loads(found[1])) == 3
    code, _, err = run("explore", saved, "-o", tmp_path / "no.html", "--color-by", "colour")
    assert code == 2
    assert "taxon rank" in err
    assert not (tmp_path / "no.html").exists()


def test_download__prints_the_path_of_the_dump(run, tmp_path, monkeypatch):
    asked = {}

    def fetch(date, *, sha256, cache_dir, progress):
        progress(1, 2)
        progress(2, 2)
        asked.update(date=date, sha256=sha256)
        return cache_dir / "taxdump.zip"

    monkeypatch.setattr(download, "download_ncbi", fetch)
    code, out, _ = run(
        "download", "ncbi", "--date", "2024-09-01", "--sha256", "ab", "--to", tmp_path
    )
    assert (code, out) == (0, f"{tmp_path / 'taxdump.zip'}\n")
    assert asked == {"date": "2024-09-01", "sha256": "ab"}


def test_download__a_broken_connection_is_one_line_and_status_2(run, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise requests.ConnectionError("connection refused")

    monkeypatch.setattr(requests, "get", refuse)
    code, out, err = run("download", "ncbi", "--to", tmp_path)
    assert (code, out) == (2, "")
    assert "refused" in err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_download__takes_known_taxonomies_only(run):
    code, _, err = run("download", "gbif")
    assert code == 2
    assert "ncbi" in err


def test_version__is_that_of_the_package(run):
    assert run("--version") == (0, f"{poincare_taxa.__version__}\n", "")


def test_help__waits_for_neither_torch_nor_polars():
    code = (
        "import sys; from poincare_taxa.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'torch', 'polars', 'numpy', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for command in ("demo", "embed", "evaluate", "check", "nearest", "plot", "download"):
        assert command in done.stdout


def test_module__is_the_same_command(saved):
    done = subprocess.run(
        [sys.executable, "-m", "poincare_taxa", "nearest", str(saved), "nobody", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "error: " in done.stderr
    assert "Traceback" not in done.stderr


# -------------------------------------------------------------------- text as it is

MARKUP = [
    *("a [/x] b", "[bold]loud[/bold]", "x [cold-adapted]", "[/]", ":cat:", "<script>"),
    "50 % [red",
]


def test_commands__print_every_name_as_it_is(run, tmp_path):
    names = ["top", *MARKUP]
    tax = Taxonomy.from_parents([-1, *[0] * len(MARKUP)], names=names, taxon_ranks=["[/no]"] * 8)
    path = tmp_path / "out [/b] :cat:"
    embed(tax, dim=4).save(path)
    code, out, err = run("nearest", path, "top", "-k", "8")
    assert code == 0, err
    for name in MARKUP:
        assert name in out
    code, out, err = run("evaluate", path)
    assert code == 0, err
    code, out, err = run("check", path)
    assert code == 0, err
    source = tmp_path / "edges [x].tsv"
    source.write_text("child\tparent\na\tb\nc\tb\n")
    code, _, err = run("embed", source, "-o", tmp_path / "new [/b] :dog:", "--dim", "3")
    assert code == 0, err
    assert "[/b] :dog:" in err
    assert (tmp_path / "new [/b] :dog:" / "meta.json").exists()


def test_report__prints_every_text_as_it_is():
    report = evaluate(embed(zoo(), dim=4), queries=5)
    row = replace(report.rows[0], at="[/x]", metric="[red]m", note=":cat:", group="[/]")
    text = str(replace(report, rows=(row,)))
    assert all(part in text for part in ("[/x]", "[red]m", ":cat:", "[/]"))


# -------------------------------------------------------------------- full disks

CONFIG = """
source = "edges.tsv"
out = "out"
dim = 3
epochs = 2
checkpoint = "run"
"""
WRITING = {
    "embed": ["embed", "edges.tsv", "-o", "out"],
    "embed to a new place": ["embed", "edges.tsv", "-o", "new"],
    "train": ["train", "run.toml"],
    "evaluate --save": ["evaluate", "out", "--save"],
    "plot": ["plot", "out", "-o", "tree.png"],
    "demo": ["demo", "-o", "demo"],
}


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}


@pytest.fixture
def full_disk(monkeypatch):
    """Let no file grow beyond 300 bytes while a draft is written."""
    sound, limits = atomic._draft_beside, resource.getrlimit(resource.RLIMIT_FSIZE)

    @contextmanager
    def begin(path):
        with sound(path) as draft:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, limits[1]))
            try:
                yield draft
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    monkeypatch.setattr(atomic, "_draft_beside", begin)


@pytest.mark.parametrize("case", WRITING)
def test_commands__on_a_full_disk_end_with_one_line_and_leave_what_was_there(
    run, tmp_path, monkeypatch, request, case
):
    zoo().to_frame().select("id", "parent").write_csv(tmp_path / "edges.tsv", separator="\t")
    (tmp_path / "run.toml").write_text(CONFIG)
    embed(zoo(), dim=4).save(tmp_path / "out")
    (tmp_path / "tree.png").write_bytes(b"old")
    before = contents(tmp_path)
    monkeypatch.chdir(tmp_path)
    request.getfixturevalue("full_disk")
    code, _, err = run(*WRITING[case])
    assert code == 2, err
    (last,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "cannot be written" in last
    assert contents(tmp_path) == before


PRINTING = {
    "nearest": ["nearest", "out", "9606"],
    "evaluate": ["evaluate", "out"],
    "check --json": ["check", "out", "--json"],
    "version": ["--version"],
}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("case", PRINTING)
def test_commands__whose_output_has_no_room_end_with_one_line(tmp_path, case):
    embed(zoo(), dim=4).save(tmp_path / "out")
    command = [sys.executable, "-m", "poincare_taxa", *PRINTING[case]]
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "No space left" in done.stderr.splitlines()[-1]


def test_evaluate__does_not_save_its_report_into_another_embedding(run, saved, monkeypatch):
    sound = storage.read_meta(saved)["files"]
    embed(zoo(), dim=5).save(saved)
    before = contents(saved)
    with pytest.raises(OSError, match="replaced by another embedding"):
        storage.update_meta(saved, files=sound, report={"rows": []})
    assert contents(saved) == before


def test_train__saves_the_model_and_its_history_in_one_step(run, tmp_path, monkeypatch):
    zoo().to_frame().select("id", "parent").write_csv(tmp_path / "edges.tsv", separator="\t")
    monkeypatch.chdir(tmp_path)
    Path("run.toml").write_text(CONFIG.replace('checkpoint = "run"\n', ""))
    assert run("train", "run.toml")[0] == 0
    Path("out/notes.txt").write_text("mine")
    before = contents(tmp_path)

    def refuse(*args, **kwargs):
        raise OSError("no room")

    monkeypatch.setattr("polars.DataFrame.write_csv", refuse)
    assert run("train", "run.toml")[0] == 2
    assert contents(tmp_path) == before
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert run("train", "run.toml")[0] == 0
    assert Path("out/notes.txt").read_text() == "mine"
    assert {"history.csv", "meta.json"} <= {file.name for file in Path("out").iterdir()}


# -------------------------------------------------------------------- diff


def test_diff_counts_and_writes_what_changed(run, edges, tmp_path):
    later = tmp_path / "later.tsv"
    frame = zoo().to_frame().select("id", "parent")
    gone = frame["id"][-1]  # a leaf: the last row in preorder
    frame[:-1].write_csv(later, separator="\t")
    status, printed, _ = run("diff", edges, later, "-o", tmp_path / "changes.tsv", "--json")
    assert status == 0
    count = json.loads(printed)
    assert {key: value for key, value in count.items() if value} == {
        "old": len(frame),
        "new": len(frame) - 1,
        "removed": 1,
    }
    lines = (tmp_path / "changes.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["change", "id", "name", "taxon_rank", "old", "new"]
    assert lines[1].startswith(f"removed\t{gone}\t")
    status, printed, _ = run("diff", edges, later)
    assert status == 0
    assert f"removed   1     {gone}" in printed


# -------------------------------------------------------------------- migrate


def test_migrate__writes_what_the_library_computes_and_what_changed(run, saved, tmp_path):
    later = tmp_path / "later.tsv"
    frame = zoo().to_frame().select("id", "parent")[:-1]
    frame.extend(frame.clear().extend(pl.DataFrame({"id": [7], "parent": [9605]})))
    frame.write_csv(later, separator="\t")
    changes = tmp_path / "changes.tsv"
    status, printed, _ = run(
        "migrate", saved, later, "-o", tmp_path / "new", "--changes", changes, "--json"
    )
    assert status == 0
    found = json.loads(printed)
    assert {key: found[key] for key in ("kept", "placed", "removed")} == {
        "kept": 11,
        "placed": 1,
        "removed": 1,
    }
    assert [line.split("\t")[:2] for line in changes.read_text().splitlines()[1:]] == [
        ["placed", "7"],
        ["removed", "8782"],
    ]
    old, new = (TaxonEmbedding.load(path) for path in (saved, tmp_path / "new"))
    expected = old.migrate(readers.read(later)).model
    assert torch.equal(new.direction, expected.direction)
    status, printed, _ = run("migrate", saved, later, "-o", tmp_path / "new")
    assert status == 0
    assert "kept               11" in printed


def test_migrate__an_error_is_one_line_and_writes_nothing(run, saved, tmp_path):
    other = tmp_path / "other.tsv"
    other.write_text("child\tparent\n5\t4\n")
    status, printed, errors = run("migrate", saved, other, "-o", tmp_path / "new")
    assert status == 2
    assert not printed
    assert "releases of one taxonomy" in errors.splitlines()[-1]
    assert not (tmp_path / "new").exists()


# -------------------------------------------------------------------- taxa from standard input

PIPED = {
    "nearest": (["-k", "2"], "9606\nMus\n\n"),
    "lineage": ([], "9606\nMus\n"),
    "ancestors": ([], "9606\nMus\n"),
    "ancestors by vector": (["--by-vector"], "9606\nMus\n"),
    "distance": ([], "9606\tMus\nhuman\t9598\n"),
    "is-a": ([], "9606\tHomo\nhuman\tHomo\n"),
}


@pytest.mark.parametrize("case", PIPED)
def test_commands__take_taxa_from_standard_input_and_print_tsv(run, saved, monkeypatch, case):
    options, text = PIPED[case]
    command = case.split()[0]
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code, out, err = run(command, saved, *options)
    assert code == 0, err
    head, *rows = (line.split("\t") for line in out.splitlines())
    assert all(len(row) == len(head) for row in rows)
    taxa = [taxon for line in text.split("\n") for taxon in line.split("\t") if taxon]
    code, out, err = run(command, saved, *taxa, *options, "--json")
    assert code == 0, err
    records = json.loads(out)
    assert [list(record) for record in records] == [head] * len(rows)
    cells = [
        [value if isinstance(value, str) else json.dumps(value) for value in record.values()]
        for record in records
    ]
    assert cells == rows


def test_distance__is_that_of_the_model(run, saved):
    code, out, _ = run("distance", saved, "Homo sapiens", "Mus", "--json")
    model = TaxonEmbedding.load(saved)
    assert code == 0
    (found,) = json.loads(out)
    assert found["distance"] == model.distance("Homo sapiens", "Mus")
    assert found["tree_distance"] == model.taxonomy.tree_distance("Homo sapiens", "Mus")


def test_embed__for_an_aim_at_a_radius(run, tmp_path, edges):
    code, _, err = run("embed", edges, "-o", tmp_path / "out", "--aim", "distances", "--tau", "3")
    assert code == 0, err
    found, expected = TaxonEmbedding.load(tmp_path / "out"), embed(zoo(), aim="distances", tau=3)
    assert torch.equal(found.direction, expected.direction)
    assert torch.equal(found.radius, expected.radius)
    code, _, err = run("embed", edges, "-o", tmp_path / "out", "--shards", "--tau", "3")
    assert code == 2
    assert "leave --aim and --tau out" in one_line(err)


def test_is_a__is_that_of_the_model_beside_the_truth(run, saved):
    code, out, _ = run("is-a", saved, "human", "Homo", "Homo", "human", "--json")
    model = TaxonEmbedding.load(saved)
    assert code == 0
    found = json.loads(out)
    assert [pair["is_ancestor"] for pair in found] == [True, False]
    assert found[0]["probability"] == model.is_a("human", "Homo")
    assert found[1]["probability"] == model.is_a("Homo", "human")


@pytest.mark.parametrize(
    ("args", "text", "message"),
    [
        (["distance", "9606", "9598", "1"], "", "got 3"),
        (["distance"], "9606\n", "line 1 has 1 taxa"),
        (["lineage"], "", "no lines in standard input"),
        (["lineage"], "nobody\n", "nobody"),
    ],
)
def test_commands__say_what_is_wrong_with_the_taxa(run, saved, monkeypatch, args, text, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    code, out, err = run(args[0], saved, *args[1:])
    assert (code, out) == (2, "")
    assert message in err.splitlines()[-1]


def test_info__reads_the_record_alone(run, saved):
    (saved / "points.safetensors").unlink()
    code, out, _ = run("info", saved, "--json")
    assert code == 0
    assert json.loads(out)["num_taxa"] == 12
    code, out, _ = run("info", saved)
    assert code == 0
    assert "2024-09-07" in out


def test_export__writes_the_format_of_the_suffix(run, saved, tmp_path):
    code, out, err = run("export", saved, tmp_path / "zoo.csv", "--json")
    assert code == 0, err
    assert json.loads(out)["taxa"] == 12
    assert (tmp_path / "zoo.csv").read_text().startswith("id,parent,name,taxon_rank")
    code, _, err = run("export", saved, tmp_path / "zoo.xlsx")
    assert code == 2
    assert "none of .csv" in one_line(err)


def test_completion__is_printed(run, monkeypatch):
    monkeypatch.setattr("shellingham.detect_shell", lambda: ("bash", "/bin/bash"))
    code, out, err = run("--show-completion")
    assert code == 0, err
    assert "COMPLETE=complete_bash" in out
