"""Every check passes on a sound embedding and has been seen to fail on a damaged one."""

import itertools
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import torch
from support.zoo import zoo

from poincare_taxa.geometry import convert, polar
from poincare_taxa.model import storage
from poincare_taxa.model.checks import check
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.readers.ncbi import read_ncbi
from poincare_taxa.taxonomy.taxonomy import Taxonomy

NAMES = [
    "files",
    "mapping",
    "self-loops",
    "indices",
    "depth",
    "projection",
    "distance",
    "initialisation",
    "siblings",
    "targets",
    "configuration",
]
LEAF, UNCLE = 10090, 9597  # Mus musculus, Pan paniscus


@pytest.fixture
def saved(tmp_path) -> Path:
    embed(zoo(), dim=4).save(tmp_path / "out")
    return tmp_path / "out"


def statuses(path: Path) -> dict[str, str]:
    return {result.name: result.status for result in check(path)}


def failed(path: Path) -> list[str]:
    return [name for name, status in statuses(path).items() if status == "failed"]


def said(path: Path) -> str:
    """Detail of the first check that fails."""
    return next(result.detail for result in check(path) if result.status == "failed")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check__passes_all_on_a_sound_embedding(tmp_path, dtype):
    embed(zoo(), dim=5, dtype=dtype, seed=2).save(tmp_path / "out")
    assert statuses(tmp_path / "out") == dict.fromkeys(NAMES, "passed")


def test_check__says_where_nothing_can_be_compared(tmp_path):
    model = embed(zoo(), dim=4)
    TaxonEmbedding(model.taxonomy, model.radius, model.direction).save(tmp_path / "out")
    results = statuses(tmp_path / "out")
    assert [name for name, status in results.items() if status == "skipped"] == [
        "initialisation",
        "targets",
        "configuration",
    ]
    assert not failed(tmp_path / "out")


def test_check__needs_an_embedding_to_start_from(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"meta\.json"):
        check(tmp_path)


# -------------------------------------------------------------------- damaged files


@pytest.mark.parametrize("name", ["points.safetensors", "taxonomy.parquet"])
@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_files__fails_on_any_damage_and_the_rest_is_skipped(saved, name, damage):
    content = (saved / name).read_bytes()
    if damage == "flip":
        (saved / name).write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif damage == "cut":
        (saved / name).write_bytes(content[:-9])
    else:
        (saved / name).unlink()
    results = check(saved)
    assert [result.name for result in results] == NAMES
    assert results[0].status == "failed"
    assert name in results[0].detail
    assert {result.status for result in results[1:]} == {"skipped"}


# -------------------------------------------------------------------- damaged content, whole files


def rewrite(path: Path, **tables_or_points) -> None:
    """Replace tensors or the table, with hashes that fit, as a careless program would."""
    meta = storage.read_meta(path)
    points = storage.read_points(path)
    frame = tables_or_points.pop("taxonomy", storage.read_table(path, "taxonomy"))
    for key in ("format", "format_version", "files"):
        del meta[key]
    storage.write_folder(path, points | tables_or_points, {"taxonomy": frame}, meta)


def with_parent(path: Path, id: int, parent: int | None) -> None:
    frame = storage.read_table(path, "taxonomy")
    changed = pl.when(pl.col("id") == id).then(pl.lit(parent)).otherwise("parent").alias("parent")
    rewrite(path, taxonomy=frame.with_columns(changed))


def test_mapping__fails_on_an_id_twice(saved):
    frame = storage.read_table(saved, "taxonomy").with_columns(pl.col("id").replace(LEAF, UNCLE))
    rewrite(saved, taxonomy=frame)
    assert failed(saved) == ["mapping"]
    first = frame["id"].to_list().index(UNCLE)
    assert f"1 ids occur more than once, the first in row {first} (id {UNCLE}" in said(saved)


def test_mapping__names_the_root_where_another_taxon_has_its_id(saved):
    frame = storage.read_table(saved, "taxonomy")
    rewrite(saved, taxonomy=frame.with_columns(pl.col("id").replace(LEAF, frame["id"][0])))
    assert f"the first in row 0 (id {frame['id'][0]}" in said(saved)


def test_mapping__fails_on_a_missing_id(saved):
    frame = storage.read_table(saved, "taxonomy")
    rewrite(saved, taxonomy=frame.with_columns(pl.col("id").replace(LEAF, None)))
    assert failed(saved) == ["mapping"]


def test_mapping__fails_on_a_point_too_few(saved):
    points = storage.read_points(saved)
    rewrite(saved, radius=points["radius"][:-1], direction=points["direction"][:-1])
    assert failed(saved) == ["mapping"]


def test_self_loops__fails_on_a_taxon_that_is_its_own_parent(saved):
    with_parent(saved, LEAF, LEAF)
    assert failed(saved) == ["self-loops"]


@pytest.mark.parametrize("parent", [424242, None, LEAF], ids=["unknown", "second root", "cycle"])
def test_indices__fails_on_a_parent_that_makes_no_tree(saved, parent):
    with_parent(saved, 10088, parent)  # Mus, the parent of LEAF
    assert failed(saved) == ["indices"]


def test_indices__fails_on_rows_out_of_preorder(saved):
    frame = storage.read_table(saved, "taxonomy")
    rewrite(saved, taxonomy=pl.concat([frame[:4], frame[5:], frame[4:5]]))
    assert failed(saved) == ["indices"]


# -------------------------------------------------------------------- damaged points


def moved(path: Path, *, radius: float | None = None, like: int | None = None, **meta) -> None:
    """Move one taxon and save, as a training run gone wrong would."""
    model = TaxonEmbedding.load(path)
    row = model.taxonomy.rows(LEAF)
    if radius is not None:
        model.radius[row] = radius
    if like is not None:
        model.direction[row] = model.direction[model.taxonomy.rows(like)]
        model.radius[row] = model.radius[model.taxonomy.rows(like)]
    TaxonEmbedding(model.taxonomy, model.radius, model.direction, model.meta | meta).save(path)


def test_depth__fails_on_a_taxon_no_further_out_than_its_parent(saved):
    model = TaxonEmbedding.load(saved)
    moved(saved, radius=float(model.radius[model.taxonomy.rows(10088)]))
    assert failed(saved) == ["depth"]


def test_targets__fails_on_a_radius_off_its_target(saved):
    moved(saved, radius=30.0)
    assert failed(saved) == ["targets"]


@pytest.mark.parametrize(("off", "status"), [(4, "passed"), (5, "failed")])
def test_targets__may_be_off_by_4_roundings(saved, off, status):
    model = TaxonEmbedding.load(saved)
    row = model.taxonomy.rows(LEAF)
    radius = torch.from_numpy(model.taxonomy.tree.depth.copy()).double()
    radius[row] += off * torch.finfo(torch.float64).eps * (1 + radius[row])
    settings = model.meta["settings"] | {"target_radius": [0, 1, 2, 3, 4]}
    meta = model.meta | {"settings": settings}
    TaxonEmbedding(model.taxonomy, radius, model.direction, meta).save(saved)
    assert statuses(saved)["targets"] == status


def test_siblings__are_not_only_children(tmp_path):
    for parents, detail in (
        ([-1, 0, 1], "no taxon has a sibling"),
        ([-1, 0, 1, 2, 2], "2 taxa with siblings, no two of them at one point"),
    ):
        embed(Taxonomy.from_parents(parents), dim=2).save(tmp_path / "out")
        (found,) = [one for one in check(tmp_path / "out") if one.name == "siblings"]
        assert (found.status, found.detail) == ("passed", detail)


@pytest.mark.parametrize("radius", [float("inf"), float("nan")])
def test_projection__fails_on_a_radius_that_is_not_finite(saved, radius):
    model = TaxonEmbedding.load(saved)
    model.radius[model.taxonomy.rows(LEAF)] = radius
    rewrite(saved, radius=model.radius)
    assert failed(saved) == ["projection"]


def test_projection__fails_where_a_point_is_not_inside_the_ball(saved, monkeypatch):
    """Of a conversion gone wrong, which the library's own is not for any radius and direction."""
    at_the_rim = torch.eye(4)[:1]
    monkeypatch.setattr(convert, "polar_to_ball", lambda r, u: at_the_rim.to(u.dtype).expand_as(u))
    assert failed(saved) == ["projection"]
    assert "is not inside the ball in torch.float32" in said(saved)


@pytest.mark.parametrize("stretch", [0.0, 1 + 1e-12, torch.nan])
def test_projection__fails_on_a_direction_that_is_no_unit_vector(saved, stretch):
    direction = storage.read_points(saved)["direction"]
    direction[3] *= stretch
    rewrite(saved, direction=direction)
    assert failed(saved) == ["projection"]


def test_siblings__fails_on_two_at_one_point(saved):
    model = TaxonEmbedding.load(saved)
    rows = [model.taxonomy.rows(name) for name in ("Pan troglodytes", "Pan paniscus")]
    model.direction[rows[0]] = model.direction[rows[1]]
    TaxonEmbedding(model.taxonomy, model.radius, model.direction).save(saved)
    assert failed(saved) == ["siblings"]


def test_initialisation__fails_on_a_direction_that_the_settings_do_not_give(saved):
    model = TaxonEmbedding.load(saved)
    row = model.taxonomy.rows(LEAF)
    model.direction[row] = model.direction[row].roll(1)
    TaxonEmbedding(model.taxonomy, model.radius, model.direction, model.meta).save(saved)
    assert failed(saved) == ["initialisation"]


@pytest.mark.parametrize(("more", "status"), [(0, "passed"), (1, "failed")])
def test_initialisation__may_be_off_by_a_rounding_of_each_level_and_4_more(saved, more, status):
    model = TaxonEmbedding.load(saved)
    row = model.taxonomy.rows(LEAF)
    off = (4 + model.taxonomy.max_depth + more) * torch.finfo(torch.float64).eps
    model.direction[row, 0] -= off * model.direction[row, 0].sign()  # towards 0: exact
    TaxonEmbedding(model.taxonomy, model.radius, model.direction, model.meta).save(saved)
    assert statuses(saved)["initialisation"] == status


@pytest.mark.parametrize(
    ("ends", "status", "detail"),
    [
        ([(2, 1), (2, 3), (1, 0), (2, 0)], "passed", "4 pairs of nodes, without a cycle"),
        ([], "passed", "0 pairs of nodes, without a cycle"),
        ([(2, 1), (1, 0), (2, 1), (1, 0)], "failed", "2 pairs are listed more than once"),
        ([(2, 1), (4, 1)], "failed", "pair 1 is [4, 1], and nodes run from 0 to 3"),
        ([(0, 2), (2, 1), (1, 3), (3, 2)], "failed", "row 1 (name b) is an ancestor of itself"),
        ([(0, 1), (2, 2), (1, 3)], "failed", "row 2 (name c) is an ancestor of itself"),
    ],
)
def test_pairs__of_a_dag_are_counted(tmp_path, ends, status, detail):
    schema = {"ancestor": pl.Int64, "descendant": pl.Int64}
    tables = {
        "nodes": pl.DataFrame({"name": ["a", "b", "c", "d"]}),
        "pairs": pl.DataFrame(ends, schema=schema, orient="row"),
    }
    points = {"radius": torch.ones(4), "direction": torch.eye(4)}
    storage.write_folder(tmp_path / "dag", points, tables, {})
    found = check(tmp_path / "dag")[-1]
    assert (found.name, found.status, found.detail) == ("pairs", status, detail)


# -------------------------------------------------------------------- damaged meta.json


def test_distance__fails_on_a_recorded_distance_that_is_not_found_again(saved):
    probe = storage.read_meta(saved)["probe"]
    probe["distance"][5] *= 1 + 1e-9
    storage.update_meta(saved, probe=probe)
    assert failed(saved) == ["distance"]


@pytest.mark.parametrize(("times", "status"), [(1, "passed"), (1 + 2**-50, "failed")])
def test_distance__may_be_off_by_64_roundings_of_the_largest_radius(saved, times, status):
    radius = float(storage.read_points(saved)["radius"].max())
    off = times * 64 * torch.finfo(torch.float64).eps * (1 + radius)
    storage.update_meta(saved, probe={"a": [LEAF], "b": [LEAF], "distance": [off]})
    assert statuses(saved)["distance"] == status


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (lambda d, call: d + 0.0045, "from itself"),
        (lambda d, call: d.square(), "triangle"),
        (lambda d, call: d * (1 + 0.01 * call), "symmetric"),
    ],
)
def test_distance__fails_on_a_function_that_is_no_metric(saved, monkeypatch, broken, said):
    sound, calls = polar.dist, itertools.count()
    monkeypatch.setattr(polar, "dist", lambda *points: broken(sound(*points), next(calls)))
    results = {result.name: result for result in check(saved)}
    assert results["distance"].status == "failed"
    assert said in results["distance"].detail


@pytest.mark.parametrize("change", [{"seed": 1}, {"dim": 5}])
def test_initialisation__fails_on_settings_of_another_embedding(saved, change):
    settings = storage.read_meta(saved)["settings"] | change
    storage.update_meta(saved, settings=settings)
    assert failed(saved) == ["initialisation"] + ["configuration"] * ("dim" in change)


@pytest.mark.parametrize("change", ["shorter", "shifted", "level"])
def test_targets__fails_on_targets_that_do_not_grow_from_0(saved, change):
    settings = storage.read_meta(saved)["settings"]
    target = settings["target_radius"]
    settings["target_radius"] = {
        "shorter": target[:-1],
        "shifted": [radius + 1 for radius in target],
        "level": [*target[:2], target[1], *target[3:]],
    }[change]
    storage.update_meta(saved, settings=settings)
    assert failed(saved) == ["targets"]
    fault = "target radii for 5 levels" if change == "shorter" else "do not start at 0 and grow"
    assert fault in said(saved)


@pytest.mark.parametrize(("key", "value"), [("dim", 3), ("dtype", "float32"), ("num_taxa", 13)])
def test_configuration__fails_on_a_record_that_the_files_contradict(saved, key, value):
    storage.update_meta(saved, **{key: value})
    assert failed(saved) == ["configuration"]


def without(key: str) -> Callable[[dict], dict]:
    return lambda meta: {name: value for name, value in meta.items() if name != key}


@pytest.mark.parametrize("key", ["created", "library_version", "versions", "source"])
def test_configuration__fails_on_missing_provenance(saved, key):
    meta = without(key)(storage.read_meta(saved))
    (saved / "meta.json").write_text(json.dumps(meta))
    assert failed(saved) == ["configuration"]


def test_configuration__fails_without_a_seed(saved):
    settings = storage.read_meta(saved)["settings"] | {"seed": None, "method": "by hand"}
    storage.update_meta(saved, settings=settings)
    assert failed(saved) == ["configuration"]


def test_check__of_a_phylogeny_compares_with_its_branch_lengths(tmp_path):
    lengths = [0, 1, 2, 0.5, 0, 0, 0, 3]  # two siblings at the place of their parent
    tax = Taxonomy.from_parents([-1, 0, 0, 1, 1, 1, 2, 2], branch_lengths=lengths)
    model = embed(tax, dim=4)
    model.save(tmp_path / "out")
    assert failed(tmp_path / "out") == []
    assert {result.status for result in check(tmp_path / "out")} == {"passed"}
    assert "target_radius" not in model.meta["settings"]
    # Points by edges, said to be by lengths.
    by_edges = embed(tax.without_lengths(), dim=4)
    wrong = replace(by_edges, taxonomy=tax, meta={**model.meta, "probe": None})
    wrong.save(tmp_path / "wrong")
    assert {"initialisation", "targets"} <= set(failed(tmp_path / "wrong"))


# -------------------------------------------------------------------- shards, and points of a DAG


def test_check__of_shards_has_one_result_for_each_check_the_worst_of_all(tmp_path):
    shards = []
    for i, name in enumerate(("one", "two")):
        embed(zoo(), dim=4).save(tmp_path / name)
        sha256 = storage.fingerprint(tmp_path / name / "meta.json")["sha256"]
        place = {"start": i, "stop": i + 1, "above": []}
        shards.append({"folder": name, "sha256": sha256, **place})
    meta = {"format": storage.FORMAT, "format_version": storage.FORMAT_VERSION, "num_taxa": 2}
    storage.write_json(tmp_path / "meta.json", meta | {"shards": shards})
    assert statuses(tmp_path) == dict.fromkeys(NAMES, "passed")
    (tmp_path / "two" / "points.safetensors").unlink()
    results = check(tmp_path)
    assert [result.name for result in results] == NAMES
    assert [result.status for result in results] == ["failed"] + ["skipped"] * (len(NAMES) - 1)
    assert all(result.detail.startswith("two: ") for result in results)


@pytest.mark.parametrize(
    ("ends", "status", "said"),
    [
        ([(0, 1), (1, 2), (0, 2)], "passed", "3 pairs of nodes, without a cycle"),
        ([(0, 1), (1, 3)], "failed", "pair 1 is [1, 3], and nodes run from 0 to 2"),
        ([(0, 1), (-1, 2)], "failed", "pair 1 is [-1, 2], and nodes run from 0 to 2"),
    ],
)
def test_pairs__fails_on_an_end_that_is_no_node(tmp_path, ends, status, said):
    tables = {
        "nodes": pl.DataFrame({"name": ["animal", "dog", "pug"]}),
        "pairs": pl.DataFrame(ends, schema=["ancestor", "descendant"], orient="row"),
    }
    points = {"radius": torch.ones(3), "direction": torch.eye(3)}
    storage.write_folder(tmp_path / "dag", points, tables, {})
    result = check(tmp_path / "dag")[-1]
    assert (result.name, result.status, result.detail) == ("pairs", status, said)


# -------------------------------------------------------------------- from the source

DUMP = Path(__file__).parents[1] / "data" / "taxdump"


def reproduced(path: Path, source: Taxonomy) -> tuple[str, str]:
    (found,) = [one for one in check(path, reproduce=source) if one.name == "reproduction"]
    return found.status, found.detail


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "options", [{}, {"refine": 2}, {"aim": "distances"}, {"aim": "targets"}, {"tau": 0.7}]
)
def test_reproduction__is_bit_for_bit_from_source_and_settings(tmp_path, dtype, options):
    embed(read_ncbi(DUMP), dim=4, dtype=dtype, seed=3, **options).save(tmp_path / "out")
    status, detail = reproduced(tmp_path / "out", read_ncbi(DUMP))
    assert status == "passed"
    assert "bit for bit" in detail


def test_reproduction__fails_for_another_source_or_a_part_of_it(tmp_path):
    tax = read_ncbi(DUMP)
    embed(tax.subtree(tax.ids[1]), dim=4).save(tmp_path / "out")
    assert reproduced(tmp_path / "out", tax)[0] == "failed"
    dump = Path(shutil.copytree(DUMP, tmp_path / "dump"))
    with (dump / "nodes.dmp").open("a") as file:
        file.write("424242\t|\t1\t|\tno rank\t|\n")
    embed(tax, dim=4).save(tmp_path / "out")
    status, detail = reproduced(tmp_path / "out", read_ncbi(dump))
    assert status == "failed"
    assert "another source" in detail


def test_reproduction__of_other_vectors_is_judged_by_who_made_them(tmp_path):
    tax = read_ncbi(DUMP)
    model = embed(tax, dim=4)
    ulp = torch.finfo(torch.float64).eps
    for off, elsewhere, status in (
        (ulp, False, "failed"),
        (ulp, True, "passed"),
        ((4 + tax.tree.max_depth) * ulp, True, "passed"),
        ((5 + tax.tree.max_depth) * ulp, True, "failed"),
        (1e-9, True, "failed"),
    ):
        direction = model.direction.clone()
        direction[-1, 0] += off * (1 if direction[-1, 0] < 0 else -1)
        other = replace(model, direction=direction)
        if elsewhere:
            other.meta["versions"] = {"numpy": "0.9", "processor": "z80"}
        other.save(tmp_path / "out")
        assert reproduced(tmp_path / "out", tax)[0] == status, (off, elsewhere)


def test_reproduction__is_skipped_without_settings_of_a_layout(tmp_path):
    model = embed(zoo(), dim=4)
    TaxonEmbedding(model.taxonomy, model.radius, model.direction).save(tmp_path / "out")
    assert reproduced(tmp_path / "out", zoo())[0] == "skipped"
