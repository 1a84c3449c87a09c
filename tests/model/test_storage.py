"""Saved folders: files of others, full disks, other processes, and files that harm."""

import json
import math
import re
import resource
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import polars as pl
import pytest
import torch

import poincare_taxa as pt
from benchmarks.tools import damage
from poincare_taxa.model import storage
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
    (path / "figures" / "last").symlink_to("tree.svg")
    (path / "figures" / "gone").symlink_to("nowhere")
    pt.embed(TAX, dim=5).save(path)
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "figures" / "tree.svg").read_text() == "<svg/>"
    links = [(path / "figures" / name).readlink() for name in ("last", "gone")]
    assert links == [Path("tree.svg"), Path("nowhere")]
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


# -------------------------------------------------------------------- what is read is not trusted


@pytest.fixture
def saved(tmp_path):
    tax = pt.Taxonomy.from_parents(
        [-1, 0, 0, 1],
        ids=[1, 20, 30, 40],
        names=["root", "cats", "dogs", "lion"],
        synonyms=pl.DataFrame({"name": ["felids"], "node": [1], "name_class": ["synonym"]}),
        merged=pl.DataFrame({"old_id": [41], "new_id": [40]}),
        deleted=pl.Series([42]),
    )
    pt.embed(tax, dim=3).save(tmp_path / "saved")
    return tmp_path / "saved"


def refusal(path, **options):
    """Message of the error of `load`; and some check fails, or the folder is no embedding."""
    with pytest.raises(ValueError, match=r"saved") as caught:
        pt.TaxonEmbedding.load(path, **options)
    try:
        results = pt.check(path)
    except ValueError as error:
        assert "saved" in str(error)  # noqa: PT017
    else:
        assert "failed" in {result.status for result in results}
    return str(caught.value)


BAD_META = {
    "deep": "[" * 100_000,
    "a list": "[]",
    "files is a list": {"files": []},
    "files without sizes": {"files": {"points.safetensors": {}}},
    "sizes that are texts": {"files": {"points.safetensors": {"bytes": "1", "sha256": "0"}}},
    "a file elsewhere": {"files": {"../saved/meta.json": {"bytes": 1, "sha256": "0"}}},
    "source is a text": {"source": "NCBI"},
    "settings is a list": {"settings": [1]},
    "layout is a number": {"layout": 7},
    "probe is a list": {"probe": [1, 2]},
    "dim": {"dim": 10**9},
    "num_taxa": {"num_taxa": "4"},
    "version": {"format_version": "1"},
}


@pytest.mark.parametrize("case", BAD_META)
def test_load__refuses_a_meta_file_with(saved, case):
    file, bad = saved / "meta.json", BAD_META[case]
    meta = json.loads(file.read_text())
    file.write_text(bad if isinstance(bad, str) else json.dumps(meta | bad))
    refusal(saved)


@pytest.mark.parametrize(("letters", "shown"), [(58, "'{}': was"), (59, "'{}…: was")])
def test_load__shows_60_characters_of_what_stands_in_a_wrong_place(saved, letters, shown):
    file, text = saved / "meta.json", "x" * letters
    file.write_text(json.dumps(json.loads(file.read_text()) | {"source": text}))
    assert f"source must be an object, not {shown.format(text)} it edited?" in refusal(saved)


def test_write_json__keeps_letters_as_they_are(tmp_path):
    content = {"path": "Félidés/貓.tsv"}
    storage.write_json(tmp_path / "x.json", content)
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert content["path"] in text
    assert json.loads(text) == content


SHARDS = [
    {"folder": "a", "start": 0, "stop": 1, "above": [], "sha256": "0"},
    {"folder": "b", "start": 1, "stop": 3, "above": [0], "sha256": "1"},
    {"folder": "c", "start": 3, "stop": 4, "above": [0, 2], "sha256": "2"},
]


def test_read_meta__takes_shards_that_are_consecutive_slices_below_earlier_rows(saved):
    storage.update_meta(saved, shards=SHARDS)
    assert storage.read_meta(saved)["shards"] == SHARDS
    meta = json.loads((saved / "meta.json").read_text())
    for place, change in [
        *[(0, {"start": 1}), (1, {"start": 0}), (1, {"stop": 2}), (2, {"start": 2})],
        *[(2, {"stop": 5}), (2, {"start": 4}), (0, {"start": False}), (2, {"stop": 4.0})],
        *[(1, {"above": [1]}), (1, {"above": [-1]}), (1, {"above": [False]}), (1, {"above": 0})],
        *[(0, {"folder": ".."}), (0, {"folder": "a/b"}), (0, {"sha256": None})],
        (3, {"folder": "d", "start": 4}),
    ]:
        shards = [one | change if i == place else one for i, one in enumerate(SHARDS)]
        if place == 3:  # one that holds nothing
            shards.append(SHARDS[2] | change)
        (saved / "meta.json").write_text(json.dumps(meta | {"shards": shards}))
        with pytest.raises(ValueError, match="no list of consecutive slices"):
            storage.read_meta(saved)


def test_shard_folder__is_that_which_was_written(saved):
    written = storage.fingerprint(saved / "meta.json")["sha256"]
    shard = {"folder": saved.name, "sha256": written}
    assert storage.shard_folder(saved.parent, shard) == saved
    for wrong, fault in (
        ({"sha256": written[::-1]}, "not the shard"),
        ({"folder": "b"}, "missing"),
    ):
        with pytest.raises(ValueError, match=fault):
            storage.shard_folder(saved.parent, shard | wrong)


def test_refuse_changed__reads_the_points_unless_it_is_told_otherwise(saved):
    file, meta = saved / "points.safetensors", storage.read_meta(saved)
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    storage.refuse_changed(saved, meta, verify=False)
    with pytest.raises(ValueError, match=r"points\.safetensors was changed after it was written"):
        storage.refuse_changed(saved, meta)


HOSTILE_META = {
    "seed": {"settings": {"seed": "x"}},
    "dim of the settings": {"settings": {"dim": 10**9}},
    "dtype of the settings": {"settings": {"dtype": ["float64"]}},
    "targets": {"settings": {"target_radius": "x"}},
    "tau": {"layout": {"tau": None, "passes": [0, {"kept": 1}]}},
    "passes": {"layout": {"passes": 5}},
    "ends of the probe": {"probe": {"a": [1], "b": ["x"], "distance": [0]}},
    "distances of the probe": {"probe": {"a": [1], "b": [1], "distance": [{}]}},
}


@pytest.mark.parametrize("case", HOSTILE_META)
def test_check__fails_where_meta_has_a_wrong(saved, case):
    (part, bad), *_ = HOSTILE_META[case].items()
    storage.update_meta(saved, **{part: storage.read_meta(saved)[part] | bad})
    assert "failed" in {result.status for result in pt.check(saved)}


def points(n=4, dim=3, dtype=torch.float64):
    return {
        "radius": torch.arange(n).to(dtype),
        "direction": torch.nn.functional.one_hot(torch.arange(n) % dim, dim).to(dtype),
    }


BAD_POINTS = {
    "int64": (points(dtype=torch.int64), "I64"),
    "float16": (points(dtype=torch.float16), "F16"),
    "two dtypes": (points() | {"radius": torch.arange(4.0)}, "F32 and a direction of F64"),
    "no radius": ({"direction": points()["direction"]}, "no radius"),
    "too few": (points(n=3), "different embeddings"),
    "more radii": (points() | {"radius": torch.arange(5.0).double()}, "different embeddings"),
    "a flat direction": (points() | {"direction": torch.ones(4).double()}, "not .n. and"),
    "no dimensions": (points(dim=1), "dim 3, the files 1"),
}


@pytest.mark.parametrize("case", BAD_POINTS)
def test_load__refuses_points_with(saved, case):
    tensors, said = BAD_POINTS[case]
    storage.save_tensors(tensors, saved / "points.safetensors")
    damage.forge_hashes(saved)
    assert re.search(said, refusal(saved))


def test_load__reads_no_more_than_the_file_has(saved):
    header = (
        b'{"radius":{"dtype":"F64","shape":[4],"data_offsets":[0,32]},"direction":{"dtype":"F64",'
    )
    header += b'"shape":[4,1000000000],"data_offsets":[32,32000000032]}}'
    data = len(header).to_bytes(8, "little") + header + bytes(128)
    (saved / "points.safetensors").write_bytes(data)
    damage.forge_hashes(saved)
    assert "damaged" in refusal(saved)


def test_load__refuses_a_table_that_unpacks_to_too_much(saved):
    table = pl.DataFrame({"id": [1] * 10**7, "parent": [1] * 10**7})
    table = table.with_columns(name=pl.lit("a"), taxon_rank=pl.lit("b"))
    table.write_parquet(saved / "taxonomy.parquet")
    damage.forge_hashes(saved)
    assert "unpacks to more than 64 MiB" in refusal(saved)


BAD_TABLES = {
    "synonyms": {
        "of no node": {"node": [4]},
        "of a node before the first": {"node": [-1]},
        "of nothing": {"node": pl.Series([None], dtype=pl.Int64)},
        "nodes that are texts": {"node": ["1"]},
        "names that are numbers": {"name": [7]},
        "without a class": {"name_class": None},
    },
    "merged": {
        "into a text": {"new_id": ["x"]},
        "into nothing": {"new_id": pl.Series([None], dtype=pl.Int64)},
        "from a number": {"old_id": [1.5]},
    },
    "deleted": {
        "nothing": {"id": pl.Series([None], dtype=pl.Int64)},
        "a date": {"id": [date.today()]},
    },
    "taxonomy": {
        "parents that are texts": {"parent": ["x", "1", "1", "2"]},
        "ranks that are numbers": {"taxon_rank": [1, 2, 3, 4]},
        "lengths that are texts": {"branch_length": ["a"] * 4},
        "one id twice": {"id": [1, 20, 20, 40]},
        "no ids": {"id": None},
        "another order": {"id": [1, 30, 40, 20], "parent": [None, 1, 20, 1]},
    },
}


@pytest.mark.parametrize(("key", "case"), [(k, c) for k, v in BAD_TABLES.items() for c in v])
def test_load__refuses_tables_with(saved, key, case):
    table = storage.read_table(saved, key)
    for name, values in BAD_TABLES[key][case].items():
        table = table.drop(name) if values is None else table.with_columns(pl.Series(name, values))
    table.write_parquet(saved / f"{key}.parquet")
    damage.forge_hashes(saved)
    refusal(saved, verify=key == "taxonomy")  # that its rows are those of the tree is computed
    if key == "taxonomy":
        without_tree(saved)
        refusal(saved)


def without_tree(saved):
    """What earlier versions wrote."""
    (saved / "tree.safetensors").unlink()
    files = storage.read_meta(saved)["files"]
    del files["tree.safetensors"]
    storage.update_meta(saved, files=None)
    meta = json.loads((saved / "meta.json").read_text())
    (saved / "meta.json").write_text(json.dumps(meta | {"files": files}))


def test_load__computes_the_tree_where_there_is_none(saved):
    model = pt.TaxonEmbedding.load(saved)
    without_tree(saved)
    again = pt.TaxonEmbedding.load(saved)
    for name in ("parent", "end", "depth"):
        assert (getattr(model.taxonomy, name) == getattr(again.taxonomy, name)).all()
    assert {result.status for result in pt.check(saved)} == {"passed"}


def tree(n=4, dtype=torch.int32):
    parent = torch.tensor([-1, 0, 1, 0], dtype=dtype)[:n]
    return {"parent": parent, "end": torch.arange(1, n + 1).to(dtype), "depth": parent + 1}


BAD_TREES = {
    "another dtype": (tree(dtype=torch.int64), "I32 .n."),
    "no depth": ({key: tree()[key] for key in ("parent", "end")}, "I32 .n."),
    "two lengths": (tree() | {"end": tree(3)["end"]}, "I32 .n."),
    "two dimensions": ({key: part[None] for key, part in tree().items()}, "I32 .n."),
    "no rows": ({key: part[:0] for key, part in tree().items()}, "I32 .n."),
    "too few": (tree(3), "4 rows of a table for a tree of 3"),
}


@pytest.mark.parametrize("case", BAD_TREES)
def test_load__refuses_trees_with(saved, case):
    tensors, said = BAD_TREES[case]
    storage.save_tensors(tensors, saved / "tree.safetensors")
    damage.forge_hashes(saved)
    assert re.search(said, refusal(saved))


def test_load__verifies_that_the_tree_is_that_of_the_table(saved):
    storage.save_tensors(tree(), saved / "tree.safetensors")  # not the ends of that table
    damage.forge_hashes(saved)
    assert "is not the tree of taxonomy.parquet" in refusal(saved, verify=True)


def test_load__of_a_folder_that_is_replaced_keeps_what_it_was(tmp_path, model):
    path = tmp_path / "saved"
    model.save(path)
    found = pt.TaxonEmbedding.load(path)  # mapped, not read yet
    pt.embed(synthetic_taxonomy(200, seed=2), dim=4).save(path)
    assert len(pt.TaxonEmbedding.load(path)) == 200
    shutil.rmtree(path)
    assert found.direction.equal(model.direction)
    assert found.radius.equal(model.radius)
    assert (found.taxonomy.end == TAX.end).all()
    assert found.nearest(TAX.ids[7]).equals(model.nearest(TAX.ids[7]))


def test_load__tensors_can_be_written_to_and_the_file_stays(tmp_path, model):
    path = tmp_path / "saved"
    model.save(path)
    found = pt.TaxonEmbedding.load(path)
    found.radius.add_(1)
    found.direction[3] = 0
    assert pt.TaxonEmbedding.load(path, verify=True).direction.equal(model.direction)


def test_load__has_the_results_of_the_model_in_memory(tmp_path, model):
    path = tmp_path / "saved"
    model.save(path)
    found, ids = pt.TaxonEmbedding.load(path), TAX.ids
    assert found[ids].equal(model[ids])
    assert list(found) == list(model)
    assert found.radius.equal(model.radius)
    assert found.direction.equal(model.direction)
    assert found.to_frame().equals(model.to_frame())
    assert found.distance(ids[:9], ids[9:18]).equal(model.distance(ids[:9], ids[9:18]))
    assert found.nearest(ids, k=3).equals(model.nearest(ids, k=3))
    assert found.nearest(ids[5], within=ids[1]).equals(model.nearest(ids[5], within=ids[1]))
    assert found.ancestors(ids[200]).equals(model.ancestors(ids[200]))
    assert (found.neighbour_graph(4) != model.neighbour_graph(4)).nnz == 0
    assert repr(found) == repr(model)
    for name in ("lineage", "ancestors", "children", "leaves"):
        wanted = getattr(TAX, name)(ids)
        assert getattr(found.taxonomy, name)(ids).equals(wanted)


BAD_ROWS = {
    "is not finite": {"radius": math.nan},
    "negative radius": {"radius": -1.0},
    "no unit vector": {"direction": 1.001},
}


@pytest.mark.parametrize("said", BAD_ROWS)
def test_load__verifies_every_row_where_it_is_told_to(saved, said):
    tensors = storage.read_points(saved)
    for name, value in BAD_ROWS[said].items():
        tensors[name][2] = value
    storage.save_tensors(tensors, saved / "points.safetensors")
    damage.forge_hashes(saved)
    assert len(pt.TaxonEmbedding.load(saved)) == 4
    with pytest.raises(ValueError, match=rf"row 2 \(id 40\) .*{said}"):
        pt.TaxonEmbedding.load(saved, verify=True)
    assert "failed" in {result.status for result in pt.check(saved)}


def test_load__refuses_files_of_two_embeddings(saved, tmp_path):
    pt.embed(TAX, dim=3).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "points.safetensors", saved)
    damage.forge_hashes(saved)
    assert "different embeddings" in refusal(saved)


@pytest.mark.parametrize("name", ["hominoidea", "strings"])
def test_load__verified_embeddings_of_before_are_sound(name):
    path = Path(__file__).parents[1] / "fixtures" / "embeddings" / name
    assert len(pt.TaxonEmbedding.load(path, verify=True)) > 10
