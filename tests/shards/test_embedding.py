"""Shards: the vectors of one process, bit for bit, whole and one by one."""

import json
import subprocess
import sys

import hypothesis.strategies as st
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from support.processes import in_threads, torchrun
from support.trees import taxonomies

import poincare_taxa as pt
from poincare_taxa.testing import synthetic_taxonomy

DTYPES = st.sampled_from([torch.float32, torch.float64])
TAXONOMIES = taxonomies(min_size=4).map(lambda tax: tax.without_lengths())


def embedded(folder, tax, size, **settings):
    """The folder of shards of a taxonomy."""
    tax.to_frame().write_parquet(folder / "tax.parquet")
    in_threads(
        size, lambda rank: pt.embed_shards(folder / "tax.parquet", folder / "out", **settings)
    )
    return folder / "out"


def assert_same(found, expected):
    assert torch.equal(found.radius, expected.radius)
    assert torch.equal(found.direction, expected.direction)
    assert found.taxonomy.to_frame().to_dicts() == expected.taxonomy.to_frame().to_dicts()


@pytest.mark.filterwarnings("ignore:.*taxa share their siblings")
@pytest.mark.filterwarnings("ignore:.*radius .* per level")
@settings(max_examples=25, deadline=None)
@given(
    tax=TAXONOMIES,
    size=st.integers(1, 4),
    dim=st.integers(2, 5),
    dtype=DTYPES,
    seed=st.integers(0, 9),
    refine=st.sampled_from([False, 2]),
)
def test_joined_shards__are_the_embedding_of_one_process(
    tmp_path_factory, tax, size, dim, dtype, seed, refine
):
    about = {"dim": dim, "dtype": dtype, "seed": seed, "refine": refine}
    folder = embedded(tmp_path_factory.mktemp("shards"), tax, size, **about)
    whole = pt.embed(tax, **about)
    found = pt.load(folder)
    assert_same(found, whole)
    kept, expected = (json.loads(json.dumps(model.meta)) for model in (found, whole))
    assert kept["settings"] == expected["settings"]
    if expected["layout"].get("passes"):  # whose first τ is estimated from radii
        first = (layout["layout"]["passes"][0].pop("tau") for layout in (kept, expected))
        assert next(first) == pytest.approx(next(first), rel=torch.finfo(dtype).eps)
    assert kept["layout"] == expected["layout"]


@pytest.mark.parametrize(("size", "refine"), [(2, False), (3, True), (4, False)])
def test_shards__of_a_larger_taxonomy_in_which_families_are_cut(tmp_path, size, refine):
    tax = synthetic_taxonomy(3000)
    found = pt.load(embedded(tmp_path, tax, size, dim=6, refine=refine))
    assert_same(found, pt.embed(tax, 6, refine=refine))
    found.save(tmp_path / "one")
    assert all(result.status == "passed" for result in pt.check(tmp_path / "one"))


def test_shard__is_an_embedding_by_itself(tmp_path):
    tax = pt.load_sample("mammals")
    folder = embedded(tmp_path, tax, 3, dim=4)
    whole = pt.load(folder)
    names = sorted(path.name for path in folder.iterdir() if path.is_dir())
    assert names == [f"shard-0000{i}-of-00003" for i in (1, 2, 3)]
    seen = []
    for name in names:
        part = pt.load(folder / name)
        assert_same(part, whole.prune(list(part.taxonomy.ids)))
        assert not [r for r in pt.check(folder / name) if r.status == "failed"]
        seen += list(part.taxonomy.ids)
    assert set(seen) == set(tax.ids)
    assert len(seen) < len(tax) + 3 * tax.max_depth


def test_embed_shards__replaces_shards_and_keeps_what_is_not_theirs(tmp_path):
    tax = synthetic_taxonomy(50)
    embedded(tmp_path, tax, 2, dim=3)
    (tmp_path / "out" / "notes.txt").write_text("mine")
    folder = embedded(tmp_path, tax, 3, dim=3, tau=1.5)
    names = {path.name for path in folder.iterdir()}
    assert names == {*(f"shard-0000{i}-of-00003" for i in (1, 2, 3)), "meta.json", "notes.txt"}
    assert_same(pt.load(folder), pt.embed(tax, 3, tau=1.5))
    pt.embed(tax, 3).save(folder)
    assert not [path for path in folder.iterdir() if path.is_dir()]


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dim": 1}, "dim must be at least 2"), ({"tau": -1.0}, "tau must be in")],
)
def test_embed_shards__an_error_is_that_of_all_and_leaves_nothing(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        embedded(tmp_path, synthetic_taxonomy(50), 3, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["tax.parquet"]


def test_embed_shards__an_id_that_occurs_twice_is_refused(tmp_path):
    frame = pl.DataFrame({"id": [1, 2, 3, 3], "parent": [None, 1, 1, 1]})
    frame.write_parquet(tmp_path / "tax.parquet")
    with pytest.raises(ValueError, match="3"):
        in_threads(1, lambda rank: pt.embed_shards(tmp_path / "tax.parquet", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["missing", "other", "list"])
def test_load__refuses_shards_that_do_not_belong_together(tmp_path, damage):
    folder = embedded(tmp_path, synthetic_taxonomy(60), 2, dim=3)
    second, meta = folder / "shard-00002-of-00002", folder / "meta.json"
    if damage == "missing":
        second.rename(tmp_path / "elsewhere")
    elif damage == "other":
        pt.embed(synthetic_taxonomy(30), 3).save(second)
    else:
        text = json.loads(meta.read_text())
        text["shards"][0]["folder"] = "../out"
        meta.write_text(json.dumps(text))
    with pytest.raises(ValueError, match={"list": "shards are no list"}.get(damage, "shard-00002")):
        pt.load(folder)


def test_check__checks_one_shard_after_another(tmp_path):
    folder = embedded(tmp_path, synthetic_taxonomy(60), 2, dim=3)
    whole = pt.check(folder)
    skipped = {result.name for result in whole if result.status == "skipped"}
    assert skipped <= {"initialisation", "targets"}  # which are of the whole
    assert not [result for result in whole if result.status == "failed"]
    assert [r.name for r in whole] == [r.name for r in pt.check(folder / "shard-00001-of-00002")]
    with pytest.raises(ValueError, match="has shards"):
        pt.check(folder, reproduce=synthetic_taxonomy(60))


@pytest.mark.parametrize("damage", ["missing", "other", "file", "table"])
def test_check__names_the_shard_that_is_damaged(tmp_path, damage):
    folder = embedded(tmp_path, synthetic_taxonomy(60), 2, dim=3)
    second = folder / "shard-00002-of-00002"
    if damage == "missing":
        second.rename(tmp_path / "elsewhere")
    elif damage == "other":
        pt.embed(synthetic_taxonomy(30), 3).save(second)
    elif damage == "file":
        (second / "taxonomy.parquet").unlink()
    else:
        points = second / "points.safetensors"
        points.write_bytes(points.read_bytes()[:-1] + b"?")
    files, *_ = pt.check(folder)
    assert (files.name, files.status) == ("files", "failed")
    assert "shard-00002-of-00002" in files.detail


PROGRAM = """
pt.embed_shards(out + ".parquet", out, 5, refine=2)
report = pt.evaluate_shards(out, queries=80)
report.to_frame().write_parquet(out + f"-report-{rank}.parquet")
"""


@pytest.mark.slow
def test_processes__of_torchrun_have_the_embedding_and_the_report_of_one(tmp_path):
    tax = synthetic_taxonomy(2000)
    tax.to_frame().write_parquet(tmp_path / "out.parquet")
    torchrun(tmp_path, PROGRAM, 3)
    found, whole = pt.load(tmp_path / "out"), pt.embed(tax, 5, refine=2)
    assert_same(found, whole)
    one = pt.evaluate(
        whole,
        queries=80,
        exact=False,
        floor_queries=0,
        only={"precision", "ancestor", "closure", "neighbour", "correlation", "distortion"},
    ).to_frame()
    for rank in range(3):
        report = pl.read_parquet(tmp_path / f"out-report-{rank}.parquet")
        assert report.equals(one, null_equal=True)


@pytest.mark.slow
def test_command__embeds_and_evaluates_shards(tmp_path):
    tax = pt.load_sample("mammals").subtree("Felidae")
    tax.to_frame().write_parquet(tmp_path / "tax.parquet")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    tasks = [
        ["embed", "tax.parquet", "--shards", "-o", "out", "--json"],
        ["evaluate", "out", "--json"],
    ]
    for task in tasks:
        command = [*launcher, "-m", "poincare_taxa", *task]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)
    assert len(pt.load(tmp_path / "out")) == len(tax)
