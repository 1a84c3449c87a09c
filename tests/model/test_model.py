"""`TaxonEmbedding`: queries against brute force, files against themselves and against readers
that do not use the library.
"""

import concurrent.futures
import copy
import json
import multiprocessing
import pickle

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file
from support.threads import in_python_threads
from support.zoo import random_model, random_points, trees, zoo
from torch import Tensor

from poincare_taxa.geometry import ball, polar
from poincare_taxa.kernels import search
from poincare_taxa.kernels.torch import search as plain_search
from poincare_taxa.layouts.distances import distance_layout
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model import storage
from poincare_taxa.model.checks import check
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.search import index
from poincare_taxa.search.nodes import Nodes
from poincare_taxa.taxonomy.taxonomy import MergedTaxonWarning, Taxonomy, TaxonomyError
from poincare_taxa.testing import synthetic_taxonomy

# -------------------------------------------------------------------- vectors


@pytest.mark.parametrize("options", [{}, {"refine": 2}, {"aim": "distances"}])
def test_embed__shows_how_far_it_is_where_that_takes_long(options, capsys, request):
    tax = synthetic_taxonomy(60, seed=0)
    quiet = embed(tax, dim=4, **options)
    assert capsys.readouterr().err == "", "short work leaves no line"
    request.getfixturevalue("every_step")
    shown = embed(tax, dim=4, **options)
    lines = [line.split(" · ") for line in capsys.readouterr().err.splitlines()]
    assert lines[0][0] == "layout"
    assert {line[0] for line in lines} == {"layout", *["refinement"] * ("refine" in options)}
    shares = [int(line[2].rstrip("%")) for line in lines]
    assert all(0 <= share <= 100 for share in shares)
    assert len(set(shares)) > 1
    assert torch.equal(shown.direction, quiet.direction)
    embed(tax, dim=4, progress=False, **options)
    assert capsys.readouterr().err == ""


def test_getitem__id_text_id_name_and_synonym_are_one_vector():
    model = random_model(zoo())
    for key in ("9606", "Homo sapiens", "human", np.int64(9606)):
        assert torch.equal(model[key], model[9606])
    assert torch.equal(model[["9606", "9598"]], torch.stack([model[9606], model[9598]]))
    assert torch.equal(model[["Homo", 9598]], torch.stack([model[9605], model[9598]]))


def test_getitem__follows_a_merged_id_and_says_so():
    model = random_model(zoo())
    with pytest.warns(MergedTaxonWarning, match="9606"):
        assert torch.equal(model[63221], model[9606])


@pytest.mark.parametrize("key", ["Homo sapienz", 2, 12345])
def test_getitem__refuses_what_is_no_taxon(key):
    with pytest.raises(TaxonomyError, match=str(key)):
        random_model(zoo())[key]


def test_getitem__length_is_the_radius_and_half_of_it_maps_into_the_ball():
    model = random_model(zoo())
    rows = model.tangent()
    eps = torch.finfo(torch.float64).eps
    torch.testing.assert_close(
        torch.linalg.vector_norm(rows, dim=1), model.radius, rtol=4 * eps, atol=0
    )
    assert torch.equal(model[model.taxonomy.ids], rows)
    torch.testing.assert_close(ball.expmap0(rows / 2), model.ball(), rtol=16 * eps, atol=0)


@pytest.mark.parametrize("stored", [torch.float32, torch.float64])
@pytest.mark.parametrize("asked", [None, torch.float32, torch.float64])
def test_ball__lies_strictly_inside_at_any_radius(stored, asked):
    tax = zoo()
    direction = random_points(len(tax), 10, stored)[1]
    model = TaxonEmbedding(tax, torch.full((len(tax),), 100, dtype=stored), direction)
    points = model.ball(asked)
    assert points.dtype == (asked or stored)
    assert (torch.linalg.vector_norm(points.double(), dim=1) < 1).all()


def test_to_frame__rows_are_taxa_in_the_order_of_the_vectors():
    model = random_model(zoo())
    frame = model.to_frame()
    assert frame["id"].equals(model.taxonomy.ids)
    np.testing.assert_array_equal(frame["direction"].to_numpy(), model.direction.numpy())
    np.testing.assert_array_equal(frame["radius"].to_numpy(), model.radius.numpy())
    assert frame["depth"].to_list() == model.taxonomy.depth.tolist()


@pytest.mark.parametrize(
    ("radius", "direction", "said"),
    [
        (torch.zeros(3), torch.zeros(12, 2), r"\[3\]"),
        (torch.zeros(12), torch.zeros(12), r"\[12\]"),
        (
            torch.zeros(12),
            torch.zeros(12, 2, dtype=torch.float64),
            "float32 and float64",
        ),
        (torch.zeros(12).half(), torch.zeros(12, 2).half(), "float16"),
        ([0] * 12, np.ones((12, 1), np.float32), "int64 and float32"),
    ],
)
def test_init__refuses_points_that_do_not_fit(radius, direction, said):
    with pytest.raises(ValueError, match=said):
        TaxonEmbedding(zoo(), radius, direction)


def backwards(x):
    """Array of a tensor with negative strides, of which torch makes no tensor."""
    return x.numpy()[::-1].copy()[::-1]


@pytest.mark.parametrize("form", [Tensor.numpy, backwards, Tensor.tolist])
def test_init__copies_arrays_and_lists(form):
    model = random_model(zoo())
    given = form(model.radius.clone()), form(model.direction)
    twin = TaxonEmbedding(model.taxonomy, *given)
    assert torch.equal(twin.direction, model.direction)  # numbers of lists are float64
    given[0][1] = 7.0
    assert torch.equal(twin.radius, model.radius)


def test_repr__says_what_it_is():
    assert repr(random_model(zoo())).startswith(
        "TaxonEmbedding(12 taxa below 'root', dim=3, float64"
    )


# -------------------------------------------------------------------- queries


def all_distances(model: TaxonEmbedding) -> np.ndarray:
    """Law of cosines pair by pair, in float64; loses digits that random points do not need."""
    r, u = model.radius.double().numpy(), model.direction.double().numpy()
    result = np.empty((len(r), len(r)))
    for i in range(len(r)):
        for j in range(len(r)):
            cosine = 1 - ((u[i] - u[j]) ** 2).sum() / 2
            cosh = np.cosh(r[i]) * np.cosh(r[j]) - np.sinh(r[i]) * np.sinh(r[j]) * cosine
            result[i, j] = np.arccosh(max(cosh, 1))
    return result


# cosh loses eps cosh r1 cosh r2 <= 3e-8 (radius 10) of sinh d, which random points keep above .1.
COSINES = 1e-6


def test_distance__agrees_with_the_law_of_cosines():
    model = random_model(zoo())
    ids, wanted = model.taxonomy.ids.to_list(), all_distances(model)
    apart = ~np.eye(len(ids), dtype=bool)
    for i, a in enumerate(ids):
        found = model.distance(a, ids)
        assert found.dtype == torch.float64
        assert found[i] == 0
        np.testing.assert_allclose(found[apart[i]], wanted[i, apart[i]], rtol=0, atol=COSINES)
        for b, distance in zip(ids, found.tolist(), strict=True):
            assert model.distance(a, b) == model.distance(b, a) == distance


def test_distance_matrix__is_distance_of_all_pairs_and_symmetric():
    model = random_model(zoo())
    ids, wanted = model.taxonomy.ids.to_list(), all_distances(model)
    found = model.distance_matrix(ids)
    apart = ~np.eye(len(ids), dtype=bool)
    np.testing.assert_allclose(found[apart], wanted[apart], rtol=0, atol=COSINES)
    assert (found == found.T).all()
    assert (found.diagonal() == 0).all()
    np.testing.assert_array_equal(model.distance_matrix(ids[2:4], ids[5]), found[2:4, 5:6])


def test_distance_matrix__of_float32_is_that_of_the_same_points_in_float64():
    small = random_model(zoo(), dtype=torch.float32)
    same = TaxonEmbedding(small.taxonomy, small.radius.double(), small.direction.double())
    ids = small.taxonomy.ids
    np.testing.assert_array_equal(small.distance_matrix(ids), same.distance_matrix(ids))


def test_distance_matrix__names_ways_out_of_too_many_cells():
    model = random_model(zoo())
    with pytest.raises(ValueError, match=r"1 × 2 distances .* others=.*neighbour_graph\(k\)"):
        model.distance_matrix("Homo", ["Homo", "Pan"], max_cells=1)


def test_distance__pairs_many_with_as_many():
    model = random_model(zoo())
    found = model.distance(["Homo", "Pan"], [10090, 8782])
    assert found.tolist() == [model.distance("Homo", 10090), model.distance("Pan", 8782)]


@given(trees(), st.integers(1, 50), st.integers(1, 9), st.booleans(), st.integers(0, 3))
def test_nearest__is_the_beginning_of_a_full_sort(tax, k, scores, numba, seed):
    model = random_model(tax, seed=seed)
    wanted = all_distances(model)
    with pytest.MonkeyPatch.context() as patch:
        if not numba:
            patch.setattr(search, "choose", lambda backend, device: None)
            patch.setattr(plain_search, "_SCORES", scores)  # so that a search takes many steps
            patch.setattr(plain_search, "_QUERIES", 5)
        found = [model.nearest(key, k=k) for key in tax.ids]
        together = model.nearest(tax.ids, k=k)
    for row, frame in enumerate(found):
        order = [int(node) for node in np.argsort(wanted[row]) if node != row][:k]
        assert frame["id"].to_list() == [tax.ids[node] for node in order]
        np.testing.assert_allclose(frame["distance"], wanted[row, order], rtol=0, atol=COSINES)
        assert frame["tree_distance"].to_list() == [tax.tree.distance(row, node) for node in order]
        ours = together.filter(pl.col("query") == tax.ids[row]).drop("query")
        assert ours["id"].equals(frame["id"])


def test_nearest__searches_one_taxon_rank_where_asked():
    model = random_model(zoo())
    genera = model.nearest("Homo", k=99, taxon_rank="genus")
    assert sorted(genera["name"]) == ["Mus", "Pan"]
    assert set(genera["taxon_rank"]) == {"genus"}
    assert genera["distance"].is_sorted()
    assert model.nearest("Mammalia", k=99, taxon_rank="genus").height == 3
    for key in model.taxonomy.ids:
        best = model.nearest(key, k=1, taxon_rank="genus")
        everywhere = model.nearest(key, k=99).filter(pl.col("taxon_rank") == "genus")
        assert best["id"][0] == everywhere["id"][0]


def test_model__asked_by_many_python_threads_answers_as_one(monkeypatch):
    tax = synthetic_taxonomy(5000, seed=0)
    vectors = layout(tax, 5)
    built, build = [], Nodes.build
    monkeypatch.setattr(Nodes, "build", lambda *given: built.append(given[1]) or build(*given))
    keys = tax.ids.sample(30, seed=0).to_list()

    def answers(model):
        return [
            *(model.nearest(key, 5) for key in keys),
            *(model.ancestors(key, 3) for key in keys),
            model.nearest(keys[0], 5, taxon_rank="genus"),
        ]

    expected = answers(TaxonEmbedding(tax, vectors.radius, vectors.direction))
    assert len(built) == 1
    built.clear()
    fresh = synthetic_taxonomy(5000, seed=0)  # its tables of names are made on demand, too
    model = TaxonEmbedding(fresh, vectors.radius, vectors.direction)
    for found in in_python_threads(lambda: answers(model)):
        assert all(one.equals(other) for one, other in zip(found, expected, strict=True))
    assert len(built) == 1


@given(trees(), st.data(), st.booleans())
def test_nearest__filters_are_those_of_a_full_sort(tax, data, built):
    model = random_model(tax, seed=1)
    wanted = all_distances(model)
    row = st.integers(0, len(tax) - 1)
    top = data.draw(st.none() | row)
    chosen = data.draw(st.none() | st.lists(row, min_size=1))
    rank = data.draw(st.none() | st.sampled_from(tax.taxon_ranks.unique().to_list()))
    allowed = np.ones(len(tax), np.bool_)
    filters = {}
    if top is not None:
        allowed &= tax.tree.is_ancestor(top, np.arange(len(tax)))
        filters["within"] = tax.ids[top]
    if rank is not None:
        allowed &= (tax.taxon_ranks == rank).to_numpy()
        filters["taxon_rank"] = rank
    mask = np.isin(np.arange(len(tax)), chosen if chosen is not None else [])
    if chosen is not None:
        allowed &= mask
    forms = [mask, torch.from_numpy(mask), [tax.ids[node] for node in chosen or []]]
    with pytest.MonkeyPatch.context() as patch:
        if built:
            patch.setattr(index, "_FEWEST", 0)
            patch.setattr(index, "_BUILDING", 0.0)
            patch.setattr(index, "_OPENED", 0.0)
        for among in forms if chosen is not None else [None]:
            filters |= {} if among is None else {"among": among}
            if not allowed.any():
                with pytest.raises(ValueError, match=f"no taxon is left .*{next(iter(filters))}"):
                    model.nearest(tax.ids[0], **filters)
                continue
            together = model.nearest(tax.ids, k=4, **filters)
            for node in range(min(len(tax), 5)):
                frame = model.nearest(tax.ids[node], k=4, **filters)
                order = [int(m) for m in np.argsort(wanted[node]) if m != node and allowed[m]][:4]
                assert frame["id"].to_list() == [tax.ids[m] for m in order]
                ours = together.filter(pl.col("query") == tax.ids[node])
                assert ours["id"].equals(frame["id"])


def test_nearest__says_what_filters_take():
    model = random_model(zoo())
    with pytest.raises(ValueError, match=r"among has \[3\] bools.*one for each of"):
        model.nearest("Homo", among=np.ones(3, np.bool_))
    with pytest.raises(TypeError, match="within is one taxon; got 2 keys"):
        model.nearest("Homo", within=["Homo", "Pan"])
    with pytest.raises(TaxonomyError, match="nowhere"):
        model.nearest("Homo", among=["Pan", "nowhere"])
    with pytest.raises(ValueError, match="taxon_rank and within; leave one of them out"):
        model.nearest("Homo", taxon_rank="class", within="Homo")
    assert model.nearest(point=[0.0, 0.0, 0.1], within="Homo", k=99).height == 2


def test_nearest__says_which_taxon_ranks_there_are():
    with pytest.raises(ValueError, match=r"'tribe'.*class, genus, no rank, order, species"):
        random_model(zoo()).nearest("Homo", taxon_rank="tribe")


@pytest.mark.parametrize("k", [0, -1])
def test_nearest_and_ancestors__refuse_to_return_nothing(k):
    model = random_model(zoo())
    with pytest.raises(ValueError, match=f"got {k}"):
        model.nearest("Homo", k=k)
    with pytest.raises(ValueError, match=f"got {k}"):
        model.ancestors("Homo", k=k)


def radial_model() -> TaxonEmbedding:
    """An embedding where ancestors lie on the way: one ray per leaf, shared as long as possible."""
    tax = zoo()
    direction = torch.zeros(len(tax), 3, dtype=torch.float64)
    direction[0, 0] = 1
    for node in range(1, len(tax)):
        parent = int(tax.parent[node])
        turn = 20.0 ** (1 - float(tax.depth[node])) * (node - parent) / len(tax)
        u = direction[parent] + torch.tensor([0, np.cos(node), np.sin(node)]) * turn
        direction[node] = u / torch.linalg.vector_norm(u)
    return TaxonEmbedding(tax, 3.0 * torch.from_numpy(tax.depth.astype(np.float64)), direction)


def test_ancestors__are_those_of_lowest_score_from_the_outermost_to_the_root():
    model = radial_model()
    tax = model.taxonomy
    for node in range(len(tax)):
        key = tax.ids[node]
        score = polar.all_ancestor_scores(
            model.radius[node : node + 1],
            model.direction[node : node + 1],
            model.radius,
            model.direction,
        )[0]
        score[node] = torch.inf
        k = int(tax.depth[node])
        found = model.ancestors(key)
        lowest = sorted(score.tolist())[:k]
        np.testing.assert_allclose(sorted(found["score"]), lowest, rtol=0, atol=1e-12)
        rows = tax.rows(found["id"])
        assert found["is_ancestor"].to_list() == tax.tree.is_ancestor(rows, node).tolist()
        assert (np.diff(model.radius[torch.from_numpy(rows)]) <= 0).all()
    assert model.ancestors("Homo sapiens")["name"].to_list() == [
        "Homo",
        "Primates",
        "Mammalia",
        "root",
    ]
    assert model.ancestors("Homo sapiens", k=6)["is_ancestor"].sum() == 4
    assert model.ancestors("root").height == 0


# -------------------------------------------------------------------- files


def extras(tax: Taxonomy) -> list[object]:
    return [
        None if tax.merged is None else tax.merged.to_dict(as_series=False),
        None if tax.deleted is None else tax.deleted.to_list(),
        None if tax.synonyms is None else tax.synonyms.to_dict(as_series=False),
        tax.source,
    ]


def assert_same(a: TaxonEmbedding, b: TaxonEmbedding) -> None:
    for x, y in ((a.radius, b.radius), (a.direction, b.direction)):
        assert x.dtype == y.dtype
        assert x.numpy().tobytes() == y.numpy().tobytes()
    assert a.taxonomy.to_frame().equals(b.taxonomy.to_frame())
    for x, y in ((a.taxonomy.parent, b.taxonomy.parent), (a.taxonomy.end, b.taxonomy.end)):
        np.testing.assert_array_equal(x, y)
    assert (a.taxonomy.branch_lengths is None) == (b.taxonomy.branch_lengths is None)
    if a.taxonomy.branch_lengths is not None:
        np.testing.assert_array_equal(a.taxonomy.branch_lengths, b.taxonomy.branch_lengths)
    assert extras(a.taxonomy) == extras(b.taxonomy)


@given(trees(), st.integers(1, 5), st.sampled_from([torch.float32, torch.float64]))
def test_save_load__is_the_identity_on_bits(tmp_path_factory, tax, dim, dtype):
    path = tmp_path_factory.mktemp("model") / "out"
    model = random_model(tax, dim, dtype)
    model.direction[0, 0] = -0.0
    model.save(path)
    assert_same(TaxonEmbedding.load(path), model)


def test_save_load__keeps_old_ids_synonyms_source_and_meta(tmp_path):
    model = TaxonEmbedding(
        zoo(), *random_points(12, 3), {"settings": {"seed": 7}, "report": {"a": float("nan")}}
    )
    model.save(tmp_path / "out")
    loaded = TaxonEmbedding.load(tmp_path / "out")
    assert_same(loaded, model)
    assert loaded.taxonomy.resolve([63221, 2])["status"].to_list() == ["merged", "deleted"]
    assert loaded.taxonomy.resolve(63221)["id"].item() == 9606
    assert torch.equal(loaded["human"], model[9606])
    assert loaded.meta["settings"] == {"seed": 7}
    assert loaded.meta["report"] == {"a": None}
    loaded.save(tmp_path / "again")
    assert TaxonEmbedding.load(tmp_path / "again").meta == loaded.meta


def test_save__is_read_without_the_library_and_its_probe_says_how_to_measure(tmp_path):
    model = random_model(zoo())
    model.save(tmp_path / "out")
    points = load_file(tmp_path / "out" / "points.safetensors")
    frame = pl.read_parquet(tmp_path / "out" / "taxonomy.parquet")
    meta = json.loads((tmp_path / "out" / "meta.json").read_text())
    assert frame.columns == ["id", "parent", "name", "taxon_rank"]
    assert frame.rows()[0] == (1, None, "root", "no rank")
    row = {id: i for i, id in enumerate(frame["id"])}
    r, u = points["radius"], points["direction"]
    for a, b, distance in zip(*(meta["probe"][key] for key in ("a", "b", "distance")), strict=True):
        i, j = row[a], row[b]
        square = np.sinh((r[i] - r[j]) / 2) ** 2
        square += np.sinh(r[i]) * np.sinh(r[j]) * ((u[i] - u[j]) ** 2).sum() / 4
        np.testing.assert_allclose(2 * np.arcsinh(np.sqrt(square)), distance, rtol=1e-13)


def test_save__lets_others_read_all_files_or_none(tmp_path):
    random_model(zoo()).save(tmp_path / "out")
    (tmp_path / "new").touch()
    modes = {file.stat().st_mode for file in (tmp_path / "out").iterdir()}
    assert modes == {(tmp_path / "new").stat().st_mode}


def test_save__replaces_an_embedding_and_leaves_nothing_else(tmp_path):
    first, second = random_model(zoo(), seed=1), random_model(zoo(), seed=2)
    first.save(tmp_path / "out")
    second.save(tmp_path / "out")
    assert_same(TaxonEmbedding.load(tmp_path / "out"), second)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_save__refuses_to_overwrite_anything_else(tmp_path):
    model = random_model(zoo())
    folder, file = tmp_path / "photos", tmp_path / "thesis.tex"
    folder.mkdir()
    (folder / "meta.json").write_text("{}")
    file.write_text("x")
    for path in (folder, file):
        with pytest.raises(FileExistsError, match=path.name):
            model.save(path)
    assert (folder / "meta.json").read_text() == "{}"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos", "thesis.tex"]
    (tmp_path / "empty").mkdir()
    model.save(tmp_path / "empty")
    assert len(TaxonEmbedding.load(tmp_path / "empty")) == len(model)


def test_ensure_writable__refuses_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"file/new/out cannot be written .* name a folder"):
        storage.ensure_writable(tmp_path / "file" / "new" / "out")
    storage.ensure_writable(tmp_path / "new" / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("culprit", ["save_file", "write_json"])
def test_save__leaves_the_old_embedding_when_the_disk_refuses(tmp_path, monkeypatch, culprit):
    old = random_model(zoo(), seed=1)
    old.save(tmp_path / "out")

    def refuse(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(storage, culprit, refuse)
    with pytest.raises(OSError, match="No space"):
        random_model(zoo(), seed=2).save(tmp_path / "out")
    assert_same(TaxonEmbedding.load(tmp_path / "out"), old)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    "name",
    [
        "points.safetensors",
        "taxonomy.parquet",
        "tree.safetensors",
        "merged.parquet",
        "synonyms.parquet",
    ],
)
def test_load__names_the_file_that_changed_or_is_missing(tmp_path, name):
    random_model(zoo()).save(tmp_path / "out")
    file = tmp_path / "out" / name
    content = file.read_bytes()
    for damaged, said in (
        (content[:-1] + bytes([content[-1] ^ 1]), "changed"),
        (content[: len(content) // 2], "bytes"),
        (None, "missing"),
    ):
        if damaged is None:
            file.unlink()
        else:
            file.write_bytes(damaged)
        # The points are mapped, not read: a change that keeps their size is found where asked.
        verify = (name, said) == ("points.safetensors", "changed")
        if verify:
            TaxonEmbedding.load(tmp_path / "out")
        with pytest.raises(ValueError, match=rf"{name}.*{said}"):
            TaxonEmbedding.load(tmp_path / "out", verify=verify)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("{}", "another program"),
        (json.dumps({"format": storage.FORMAT, "format_version": 2}), "format version 2"),
    ],
)
def test_load__explains_a_meta_file_that_it_cannot_read(tmp_path, text, said):
    random_model(zoo()).save(tmp_path / "out")
    (tmp_path / "out" / "meta.json").write_text(text)
    with pytest.raises(ValueError, match=said):
        TaxonEmbedding.load(tmp_path / "out")


def test_load__says_that_a_folder_is_no_embedding(tmp_path):
    for path, said in ((tmp_path, "no meta.json"), (tmp_path / "nowhere", "not a folder")):
        with pytest.raises(FileNotFoundError, match=said):
            TaxonEmbedding.load(path)


def test_load__refuses_rows_that_are_not_in_preorder(tmp_path):
    tax = zoo()
    tables = {"taxonomy": tax.to_frame().reverse()}
    radius, direction = random_points(len(tax), 3)
    storage.write_folder(
        tmp_path / "out", {"radius": radius, "direction": direction}, tables, {"source": {}}
    )
    with pytest.raises(ValueError, match="preorder"):
        TaxonEmbedding.load(tmp_path / "out")


def test_update_meta__changes_one_entry_and_nothing_else(tmp_path):
    model = random_model(zoo())
    model.save(tmp_path / "out")
    before = storage.read_meta(tmp_path / "out")
    storage.update_meta(tmp_path / "out", report={"precision": 1.0})
    after = storage.read_meta(tmp_path / "out")
    assert after == before | {"report": {"precision": 1.0}}
    assert_same(TaxonEmbedding.load(tmp_path / "out"), model)


# -------------------------------------------------------------------- the main job


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_embed__same_settings_same_vectors_and_settings_are_kept(dtype):
    tax = zoo()
    model, again, other = (embed(tax, 4, dtype=dtype, seed=seed) for seed in (3, 3, 4))
    assert_same(model, again)
    assert not torch.equal(model.direction, other.direction)
    assert model.dtype == dtype
    assert model.dim == 4
    assert model.meta["settings"]["seed"] == 3
    assert model.meta["versions"]["torch"] == torch.__version__


def test_embed__puts_relatives_near_and_ancestors_on_the_way():
    model = embed(zoo())
    assert model.nearest("Homo sapiens", k=1)["name"][0] == "Homo"
    assert model.ancestors("Homo sapiens")["is_ancestor"].all()
    assert model.distance("Homo", "Pan") < model.distance("Homo", "Mus")


def test_neighbour_graph__has_the_neighbours_of_each_taxon():
    tax = synthetic_taxonomy(5000, seed=3)
    model = embed(tax, dim=5)
    graph = model.neighbour_graph(7)
    assert graph.shape == (5000, 5000)
    assert (np.diff(graph.indptr) == 7).all()
    for row in (0, 17, 4999):
        there = slice(graph.indptr[row], graph.indptr[row + 1])
        expected = model.nearest(tax.ids[row], k=7)
        assert tax.ids.gather(pl.Series(graph.indices[there])).to_list() == expected["id"].to_list()
        assert graph.data[there].tolist() == expected["distance"].to_list()
    with pytest.raises(ValueError, match="k must be"):
        model.neighbour_graph(0)


# -------------------------------------------------------------------- means


def test_mean__is_a_point_that_nearest_takes():
    tax = synthetic_taxonomy(200, seed=0)
    model = embed(tax, dim=4)
    keys = tax.leaves(tax.ids[0])
    radius, direction = model.mean(keys)
    assert (radius.ndim, direction.shape) == (0, (4,))
    assert model.nearest(point=model.mean(keys[:1]), k=1)["id"].to_list() == [keys[0]]
    found = model.nearest(point=(radius, direction), k=3)
    assert found.equals(model.nearest(point=(radius, direction), k=3, coordinates="polar"))
    rows = tax.rows(keys)
    spread = polar.cdist(model.radius, model.direction, model.radius[rows], model.direction[rows])
    least = polar.dist(radius, direction, model.radius[rows], model.direction[rows]).square().mean()
    assert least < spread.square().mean(1).min()


def test_mean__of_a_table_of_weights_is_that_of_each_sample():
    model = random_model(zoo())
    keys = [9606, 9598, "Mus"]
    table = np.array([[1, 0, 0], [1, 2, 3]])
    radius, direction = model.mean(keys, table)
    assert (radius.shape, direction.shape) == ((2,), (2, 3))
    torch.testing.assert_close(radius[0], model.radius[model.taxonomy.rows(9606)])
    one = model.mean(keys, table[1])
    assert polar.dist(*one, radius[1], direction[1]) < 1e-9


def test_mean__refuses_weights_that_do_not_fit():
    model = random_model(zoo())
    with pytest.raises(ValueError, match=r"weights of 2 taxa have shape \[2\]"):
        model.mean([9606, 9598], [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="sample 1: weights must be at least 0, and not all 0"):
        model.mean([9606, 9598], [[1.0, 2.0], [-1.0, 2.0]])
    with pytest.raises(ValueError, match="sample 0"):
        model.mean([9606, 9598], [[0.0, 0.0]])


def test_embed__has_the_radius_per_level_that_is_given_or_that_of_its_aim():
    tax = zoo()
    for options, dim, tau in [
        ({"dim": 4, "tau": 0.7}, 4, 0.7),
        ({"aim": "targets"}, 32, 0.1),
        ({"aim": "targets", "dim": 5, "tau": 0.3}, 5, 0.3),
    ]:
        model, points = embed(tax, **options), layout(tax, dim, tau=tau)
        assert torch.equal(model.radius, points.radius)
        assert torch.equal(model.direction, points.direction)
        assert model.meta["settings"]["dim"] == dim
        assert model.meta["settings"]["aim"] == options.get("aim", "neighbours")
    assert not {"aim", "tau"} & set(embed(tax).meta["settings"])  # files are as they were
    with pytest.raises(ValueError, match="aim is 'neighbours', 'distances' or 'targets'; got 'f'"):
        embed(tax, aim="f")
    for aim in ("distances", "targets"):
        with pytest.raises(ValueError, match="leave refine out"):
            embed(tax, aim=aim, refine=True)


@pytest.mark.parametrize("tau", [None, 2.0])
def test_embed__for_distances_is_checked_as_it_was_saved(tmp_path, tau):
    tax = zoo()
    model = embed(tax, aim="distances", tau=tau)
    assert torch.equal(model.direction, distance_layout(tax, 10, tau=tau).direction)
    model.save(tmp_path / "saved")
    assert all(result.status != "failed" for result in check(tmp_path / "saved"))


def test_views__count_the_taxa_that_coincide_in_them():
    """A chain as long as this leaves the ball of float32 behind; its end is one point there."""
    tax = Taxonomy.from_parents([-1, *range(25), 10])
    model = embed(tax, dim=3, tau=1.0)
    with pytest.warns(UserWarning, match="of 27 taxa have the coordinates of another") as caught:
        view = model.ball(torch.float32)
    equal = (view[:, None] == view).all(-1).sum(1) > 1
    assert str(caught[0].message).startswith(f"{int(equal.sum())} of 27 taxa")
    model.ball()  # float64 holds this radius (warnings are errors here)


def test_views__do_not_count_taxa_that_coincide_as_stored():
    tax = Taxonomy.from_parents([-1, 0, 0])
    r, u = torch.tensor([0.0, 1.0, 1.0]).double(), torch.eye(2).double()[[0, 1, 1]]
    model = TaxonEmbedding(tax, r, u)
    model.tangent(), model.ball(), model.tangent(torch.float32)
    apart = TaxonEmbedding(tax, r + torch.tensor([0.0, 0.0, 1e-12]).double(), u)
    assert apart.tangent().unique(dim=0).shape == (3, 2)
    with pytest.warns(UserWarning, match="^2 of 3 taxa have .* in float32"):
        apart.tangent(torch.float32)


# -------------------------------------------------------------------- copies


@pytest.mark.parametrize("searched", [False, True])
def test_model__pickles_copies_and_is_shared(searched):
    model = random_model(zoo())
    if searched:  # the index of a search is kept
        model.nearest(9606)
        model.neighbour_graph(2)
    for twin in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), copy.copy(model)):
        assert torch.equal(twin.direction, model.direction)
        assert twin.nearest("human").equals(model.nearest(9606))
        assert twin.taxonomy.has_rows_of(model.taxonomy)
        assert twin.meta == model.meta
    assert copy.copy(model).direction is model.direction


def test_model__is_shared_with_other_processes():
    model = random_model(zoo())
    with concurrent.futures.ProcessPoolExecutor(
        1, mp_context=multiprocessing.get_context("spawn")
    ) as pool:
        found = pool.submit(model.distance, 9606, [9598, 10090]).result()
    assert torch.equal(found, model.distance(9606, [9598, 10090]))


# ---------------------------------------------------------------- is a


def test_is_a__one_key_many_keys_and_the_score_agree_with_the_taxonomy():
    tax = synthetic_taxonomy(300, seed=0)
    model = embed(tax, dim=8)
    a, b = tax.ids[[7, 250, 250]], tax.ids[[250, 7, 0]]
    probability = model.is_a(a, b)
    assert probability.dtype == torch.float64
    score = model.ancestor_score(a, b)
    for i in range(3):
        assert model.is_a(a[i], b[i]) == probability[i].item()
        points = [x for r in (tax.rows(a[i]), tax.rows(b[i])) for x in model._points(r)]
        assert model.ancestor_score(a[i], b[i]) == pytest.approx(
            (polar.dist(*points) + points[2] - points[0]).item()
        )
        assert score[i].item() == model.ancestor_score(a[i], b[i])
    everyone = list(tax.ids)
    for i in (0, 7, 250):  # many keys against one, both ways; a taxon is itself
        up = model.is_a(tax.ids[i], everyone)
        assert ((up > 0.5).numpy() == tax.tree.is_ancestor(np.arange(300), i)).all()
        down = model.is_a(everyone, tax.ids[i])
        assert ((down > 0.5).numpy() == tax.tree.is_ancestor(i, np.arange(300))).all()
    assert torch.equal(embed(tax, dim=8).is_a(a, b), probability)


def test_is_a__knows_that_random_vectors_know_nothing():
    model = random_model(synthetic_taxonomy(300, seed=0))
    rng = np.random.default_rng(1)
    pairs = (
        model.taxonomy.ids[rng.integers(0, 300, 2000)],
        model.taxonomy.ids[rng.integers(0, 300, 2000)],
    )
    different = (pairs[0] != pairs[1]).to_numpy()
    assert model.is_a(*pairs).numpy()[different].max() < 0.99


def test_is_a__refuses_lists_that_do_not_pair_and_unknown_taxa():
    model = random_model(zoo())
    with pytest.raises(ValueError, match="keys"):
        model.is_a(["Homo", 9606], ["Homo", 9606, 9598])
    with pytest.raises(TaxonomyError, match="Homoo"):
        model.is_a("Homoo", 9606)
    with pytest.raises(ValueError, match="a single node has none"):
        random_model(Taxonomy.from_parents([-1], ids=[5])).is_a(5, 5)
