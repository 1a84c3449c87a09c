"""Files of an earlier version: embeddings load and say the same, interrupted runs go on.

`fixtures/make.py` made them. Nothing here names a module: only what `import poincare_taxa` gives.
"""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from fixtures import make

import poincare_taxa as pt

FIXTURES = make.HERE
EXPECTED = json.loads((FIXTURES / "expected.json").read_text(encoding="utf-8"))
TREES = sorted(make.EMBEDDINGS)

here, there = make.processor(), EXPECTED["processor"]
same_libraries = all(here[k] == there[k] for k in ("machine", "torch", "numpy"))
# Neighbours at equal distances, as siblings of a layout have, count by their last bits, which
# processors and kernels round differently. Points without such ties agree to 1e-14.
REPORT = 5e-3
# Rows that reports have no longer, and those that they have since.
OTHER_ROWS = {
    "separation (training log)",
    "separation (analysis script)",
    "rows outside",
    "rows not finite",
    "lost rows",
    "mean distortion at τ",
    "expansion × contraction",
}


def folder(name):
    return FIXTURES / "embeddings" / name


def assert_close(found, expected, tolerance, where=""):
    """Compare what JSON holds: floats within tolerance * max(1, |expected|), all else exactly."""
    if isinstance(expected, dict):
        assert list(found) == list(expected), where
        for key, value in expected.items():
            assert_close(found[key], value, tolerance, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_close(found[index], value, tolerance, f"{where}/{index}")
    elif isinstance(expected, float):
        assert isinstance(found, float), where
        assert abs(found - expected) <= tolerance * max(1, abs(expected)), (where, found, expected)
    else:
        assert found == expected, where


# -------------------------------------------------------------------- embeddings


@pytest.mark.parametrize("name", TREES)
def test_embedding__loads_bit_for_bit_and_passes_all_checks(name):
    model = pt.TaxonEmbedding.load(folder(name))
    assert make.digest(model.radius, model.direction) == EXPECTED["embeddings"][name]["sha256"]
    assert {result.name: result.status for result in pt.check(folder(name))} == dict.fromkeys(
        [
            "files", "mapping", "self-loops", "indices", "depth", "projection", "distance",
            "initialisation", "siblings", "targets", "configuration",
        ],
        "passed",
    )  # fmt: skip


def counting_edges(model):
    """The same model as the first versions took it, which ignored branch lengths."""
    return dataclasses.replace(model, taxonomy=model.taxonomy.without_lengths())


def without_intervals(row):
    """What a row has said since the first reports: its values, and what they are taken over."""
    kept = {key: row[key] for key in ("key", "group", "metric", "at", "note", "detail", "ratio")}
    for name in ("estimate", "ceiling"):
        kept[name] = row[name] and {key: row[name][key] for key in ("value", "count")}
    return kept


@pytest.mark.parametrize("name", TREES)
def test_embedding__says_what_it_said(name):
    expected = {k: v for k, v in EXPECTED["embeddings"][name].items() if k != "sha256"}
    report = expected.pop("report")
    model = pt.TaxonEmbedding.load(folder(name))
    lengths = model.taxonomy.branch_lengths
    found = make.numbers(counting_edges(model), make.ASKED[name])
    found["branch lengths"] = None if lengths is None else make.plain(lengths.tolist())
    was, now = (
        [row for row in rows if row["metric"] not in OTHER_ROWS and row["at"] != "all pairs"]
        for rows in (report, found.pop("report"))
    )
    assert len(now) == len(was)
    for mine, theirs in zip(now, was, strict=True):
        if "MAP" in theirs["metric"]:  # its note has the range of the ties that rounding leaves
            mine["note"] = theirs["note"] = ""
        by_lot = theirs["metric"].startswith("drawn by lot")
        assert_close(without_intervals(mine), without_intervals(theirs), REPORT * (1 + 3 * by_lot))
        if theirs["floor"] and theirs["floor"]["value"] is not None:
            # The better of two floors, of which one is the floor of then.
            low_is_good = by_lot or theirs["metric"].endswith(("mean rank", "distortion"))
            gain = mine["floor"]["value"] - theirs["floor"]["value"]
            slack = REPORT * max(1, abs(theirs["floor"]["value"]))
            assert (-gain if low_is_good else gain) >= -slack, theirs["key"]
    assert_close(found, {k: expected[k] for k in found}, 1e-12)


def test_embedding__knows_old_names_and_ids():
    taxonomy = pt.TaxonEmbedding.load(folder("hominoidea")).taxonomy
    human = taxonomy.rows("Homo sapiens")
    assert taxonomy.rows(9606) == taxonomy.rows("wise man") == human
    with pytest.warns(UserWarning, match="taxon 1 was merged into 9606"):
        assert taxonomy.rows(1) == human
    found = taxonomy.resolve([9606, 1, 2])
    assert found["status"].to_list() == ["active", "merged", "deleted"]
    assert found["id"].to_list() == [9606, 9606, None]


@pytest.mark.parametrize("name", TREES)
def test_embedding__is_saved_as_it_was(name, tmp_path):
    model = pt.TaxonEmbedding.load(folder(name))
    model.save(tmp_path / name)
    points = [path / "points.safetensors" for path in (folder(name), tmp_path / name)]
    assert points[0].read_bytes() == points[1].read_bytes()
    was, now = (
        json.loads((path / "meta.json").read_text(encoding="utf-8"))
        for path in (folder(name), tmp_path / name)
    )
    assert set(now["files"]) - set(was["files"]) == {"tree.safetensors"}
    assert set(was["files"]) <= set(now["files"])
    assert_close(now | {"files": None}, was | {"files": None}, 1e-12)


def test_closure_embedding__loads_bit_for_bit_and_says_what_it_said():
    model = pt.ClosureEmbedding.load(folder("dag"))
    expected = {**EXPECTED["embeddings"]["dag"]}
    assert make.digest(model.radius, model.direction) == expected.pop("sha256")
    assert_close(make.closure_numbers(model), expected, 1e-12)


# -------------------------------------------------------------------- embed


@pytest.mark.skipif(not same_libraries, reason=f"bits are those of {there}, here is {here}")
@pytest.mark.parametrize("call", make.BITS)
def test_embed__gives_the_same_bits(call):
    tree, options = make.BITS[call]
    if "refine" in options and here != there:
        pytest.skip(f"of two equal trials another processor may keep another; not here: {there}")
    model = make.embedded(make.tree_of(tree).without_lengths(), options)
    assert make.digest(model.radius, model.direction) == EXPECTED["sha256 of embed"][call]


@pytest.mark.parametrize("name", TREES)
def test_embed__gives_the_saved_vectors_on_any_processor(name):
    old = pt.TaxonEmbedding.load(folder(name))
    new = pt.embed(old.taxonomy.without_lengths(), **make.EMBEDDINGS[name][1])
    # an ulp on each level, as `pt.check` allows
    slack = (4 + old.taxonomy.max_depth) * torch.finfo(old.dtype).eps
    torch.testing.assert_close(new.radius, old.radius, rtol=slack, atol=0)
    torch.testing.assert_close(new.direction, old.direction, rtol=0, atol=slack)
    assert new.meta["settings"] == old.meta["settings"]


# -------------------------------------------------------------------- runs

# Greatest difference of a coordinate, and of a number of the history in units of max(1, number).
# Measured with other kernels (no numba) and without AVX: 3e-14 and 7e-14, in float32 6e-6 and 1e-6.
# Runs that draw other batches after the interruption are off by 0.03 and more.
TOLERANCE = {"levels": (1e-9, 1e-6), "softmax": (1e-3, 2e-3)}
OTHERS = (1e-9, 1e-6)


@pytest.mark.skipif(
    pt.__version__ != EXPECTED["library version"],
    reason="a checkpoint is resumed only by the version that wrote it",
)
@pytest.mark.parametrize("name", make.RUNS)
def test_checkpoint__resumes_and_ends_as_the_run_that_was_not_interrupted(name, tmp_path):
    run_folder = FIXTURES / "runs" / name
    checkpoints = shutil.copytree(run_folder / "checkpoints", tmp_path / name)
    tax = make.tree_of("hominoidea")
    measured = []
    run = make.trained(
        name,
        tax,
        checkpoint=checkpoints,
        resume=True,
        callback=lambda *given: measured.append(given),
    )
    interrupted, last = make.EPOCHS[name]
    assert len(measured) == last - interrupted  # it did not start anew
    final = np.load(run_folder / "final.npy")
    found = run.embedding.weight.detach().numpy()
    assert found.dtype == final.dtype
    points, history = TOLERANCE.get(name, OTHERS)
    np.testing.assert_allclose(found, final, rtol=0, atol=points)
    expected = json.loads((run_folder / "history.json").read_text(encoding="utf-8"))
    assert_close(make.told(run), expected, history)
