"""New taxa and other releases: which vectors stay, who is the parent, what is reported."""

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.tree import walk_up
from support.realdata import real_data
from support.trees import taxonomies
from support.zoo import random_model, zoo

from poincare_taxa.geometry import polar
from poincare_taxa.model.checks import check
from poincare_taxa.model.migration import common_parents
from poincare_taxa.model.model import TaxonEmbedding, embed
from poincare_taxa.readers.ncbi import read_ncbi
from poincare_taxa.readers.sample import load_sample
from poincare_taxa.taxonomy.releases import diff
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

pytestmark = pytest.mark.filterwarnings("ignore::poincare_taxa.taxonomy.tree.BranchLengthWarning")


@pytest.fixture(scope="module")
def model():
    return embed(zoo(), dim=5)


def same_vectors(old, new, keys):
    return torch.equal(old[keys], new[keys])


# -------------------------------------------------------------------- place


def test_place__keeps_every_old_vector_and_all_that_the_taxonomy_has(model):
    larger = model.place(7, parent="Homo", names="Homo novus", taxon_ranks="species")
    assert same_vectors(model, larger, list(model))
    tax = larger.taxonomy
    assert tax.to_frame(7).rows() == [(7, 9605, "Homo novus", "species")]
    assert tax.children("Homo").to_list() == [9606, 7]
    assert tax.rows("human") == tax.rows(9606)
    assert len(larger) == len(model) + 1
    assert larger.nearest(7, k=2)["id"].to_list() == [9605, 9606]
    assert diff(model.taxonomy, tax).select("change", "id").rows() == [("added", 7)]


def test_place__names_without_ids_get_ids_that_were_never_used(model):
    larger = model.place(["Ardi", "Lucy"], parent="Primates")
    ids = [key for key in larger if key not in model]
    assert ids == [63222, 63223]  # 63221 is a merged id
    assert larger.taxonomy.rows("Lucy") == larger.taxonomy.rows(63223)


def test_place__without_ids_makes_some():
    numbers = embed(zoo(), dim=4).place(parent="Homo")
    assert [key for key in numbers if key not in zoo()] == [63222]
    text = embed(Taxonomy.from_edges([("cat", "root"), ("new 2", "root")]), dim=4)
    assert [k for k in text.place(parent=["cat", "root"]) if k not in text] == ["new 3", "new 4"]


@pytest.mark.parametrize("where", ["parent", "neighbours"])
def test_place__of_no_taxa_leaves_all_as_they_are(model, where):
    same = model.place([], **{where: []})
    assert same.taxonomy.ids.equals(model.taxonomy.ids)
    assert same_vectors(model, same, list(model))


def test_place__takes_parents_that_are_new_themselves(model):
    larger = model.place(["Felidae", "Felis", "cat"], parent=["Mammalia", "Felidae", "Felis"])
    assert larger.taxonomy.lineage("cat") == "root; Mammalia; Felidae; Felis; cat"
    radius = larger.radius[larger.taxonomy.rows(["Mammalia", "Felidae", "Felis", "cat"])]
    assert (radius.diff() > 0).all()


@given(taxonomies(min_size=2), st.data())
def test_place__any_number_of_taxa_anywhere(tax, data):
    # Radii of branch lengths are the largest already, so that there is room only above them.
    start = embed(tax, dim=6, tau=None if tax.tree.lengths is None else 10 / tax.tree.height.max())
    k = data.draw(st.integers(1, 5))
    above = data.draw(st.lists(st.sampled_from(tax.ids.to_list()), min_size=k, max_size=k))
    new = [10_000 + i if tax.ids.dtype == pl.Int64 else f"new{i}" for i in range(k)]
    larger = start.place(new, parent=above)
    assert same_vectors(start, larger, list(start))
    assert larger.taxonomy.to_frame(new)["parent"].to_list() == above


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_place__in_points_that_are_no_layout(dtype):
    start = random_model(zoo(), dim=4, dtype=dtype)
    larger = start.place([3, 4], parent=["Homo", 3])
    assert same_vectors(start, larger, list(start))
    assert larger.dtype == dtype
    assert larger.meta["history"][0]["placed"] == 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "either the parent of each new taxon, or its neighbours"),
        ({"parent": 1, "neighbours": [1]}, ValueError, "either the parent"),
        ({"parent": 1, "weights": [1]}, ValueError, "weights are those of neighbours"),
        ({"taxa": 9606, "parent": 1}, TaxonomyError, "9606 is in the taxonomy already"),
        ({"taxa": "Homo", "parent": 1}, TaxonomyError, "Homo is in the taxonomy already"),
        ({"taxa": 63221, "parent": 1}, TaxonomyError, "63221 is merged"),
        ({"taxa": [5, 5], "parent": 1}, TaxonomyError, "given twice"),
        ({"taxa": [5, 6], "parent": [1, 1, 1]}, ValueError, "2 new taxa have 3 parents"),
        ({"taxa": 5, "parent": "Hono"}, TaxonomyError, "no taxon has the id or name"),
        ({"taxa": 5, "parent": 1, "names": ["a", "b"]}, ValueError, "1 new taxa have 2 names"),
        ({"taxa": 5, "parent": 1, "branch_lengths": 1.0}, ValueError, "no branch lengths"),
        ({"taxa": 5, "neighbours": []}, ValueError, "has no neighbours"),
        ({"taxa": 5, "neighbours": [1], "weights": [-1]}, ValueError, "weights are numbers"),
        ({"taxa": 5, "neighbours": [1], "weights": [1, 1]}, ValueError, "weights are numbers"),
    ],
)
def test_place__names_what_is_wrong(model, arguments, error, message):
    with pytest.raises(error, match=message):
        model.place(**arguments)


def test_place__follows_branch_lengths():
    tax = Taxonomy.from_parents([-1, 0, 0, 1], branch_lengths=[0, 1.0, 2.0, 3.0])
    start = embed(tax, dim=4)
    larger = start.place(9, parent=1, branch_lengths=0.5)
    tau = start.meta["layout"]["tau"]
    assert larger.distance(9, 1) == pytest.approx(0.5 * tau, rel=0.02)


# -------------------------------------------------------------------- neighbours


def lowest_with_most(tax, keys, weights):
    """The deepest taxon that is a proper ancestor of more than half of the weight."""
    best = 0
    for row in range(len(tax)):
        below = sum(
            w
            for key, w in zip(keys, weights, strict=True)
            if row in walk_up(tax.parent, tax.rows(key))[1:] or (row == 0 and tax.rows(key) == 0)
        )
        if below > sum(weights) / 2 and tax.depth[row] > tax.depth[best]:
            best = row
    return best


@given(taxonomies(), st.data())
def test_common_parent__is_the_lowest_taxon_with_most_of_the_weight_below(tax, data):
    keys = st.lists(st.sampled_from(tax.ids.to_list()), min_size=1, max_size=4)
    lists = data.draw(st.lists(keys, min_size=1, max_size=3))
    weights = [[data.draw(st.integers(1, 9)) for _ in some] for some in lists]
    found = common_parents(tax, lists, weights)
    expected = [lowest_with_most(tax, *pair) for pair in zip(lists, weights, strict=True)]
    assert found.tolist() == expected


def test_place__near_neighbours_is_a_child_of_their_common_parent(model):
    larger = model.place(
        ["x", "y"],
        neighbours=[["Pan paniscus", "Pan troglodytes", "Homo sapiens"], ["Mus musculus", 9606]],
        weights=[[1, 1, 1], [3, 1]],
    )
    parents = larger.taxonomy.to_frame(["x", "y"])["parent"].to_list()
    assert parents == [9596, 10088]
    assert larger.taxonomy.lineage("x") == "root; Mammalia; Primates; Pan; x"


# -------------------------------------------------------------------- migrate


def release(rows):
    """The zoo with other parents, some taxa more or less: id → parent."""
    frame = zoo().to_frame()
    parents = dict(zip(frame["id"], frame["parent"], strict=True)) | rows
    kept = {key: above for key, above in parents.items() if above != "gone"}
    return Taxonomy.from_frame(pl.DataFrame({"id": list(kept), "parent": list(kept.values())}))


def test_migrate__to_the_same_release_changes_nothing(model):
    found = model.migrate(zoo())
    assert len(found.changes) == 0
    assert found.summary["kept"] == len(model)
    assert torch.equal(found.model.direction, model.direction)
    assert torch.equal(found.model.radius, model.radius)


def test_migrate__moves_subtrees_places_what_is_new_and_reports_both(model):
    new = release({9596: 9989, 5: 9605, 8782: "gone", 6: 1, 40674: 6})
    found = model.migrate(new)
    rows = found.changes.select("change", "id", "top").rows()
    assert sorted(rows) == sorted(
        [
            ("moved", 9596, 9596),
            ("carried", 9598, 9596),
            ("carried", 9597, 9596),
            ("placed", 5, None),
            ("inserted", 6, None),
            ("removed", 8782, None),
        ]
    )
    kept = [1, 40674, 9443, 9605, 9606, 9989, 10088, 10090]
    assert same_vectors(model, found.model, kept)
    moved = [9596, 9598, 9597]
    distances = [m.distance_matrix(moved) for m in (model, found.model)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    for key, far in found.changes.drop_nulls("distance").select("id", "distance").rows():
        i, j = model.taxonomy.rows(key), new.rows(key)
        points = (model.radius[i], model.direction[i], found.model.radius[j])
        expected = polar.dist(*points, found.model.direction[j])
        assert far == pytest.approx(float(expected))
    assert found.summary["largest distance"] == found.changes["distance"].max()
    assert found.summary["kept"] == len(kept)


def test_migrate__a_merged_id_passes_its_vector_on_to_a_new_one_only(model):
    frame = release({9606: "gone", 77: 9605, 9598: "gone"}).to_frame()
    merged = pl.DataFrame({"old_id": [9606, 9598], "new_id": [77, 9597]})
    found = model.migrate(Taxonomy.from_frame(frame, merged=merged))
    assert torch.equal(found.model[77], model[9606])
    assert torch.equal(found.model[9597], model[9597])
    assert found.changes.select("change", "id").rows() == [("removed", 9598)]


def test_migrate__records_the_chain(model, tmp_path):
    start = embed(zoo(), dim=5)
    start.meta["report"] = {"a": 1}
    second = start.place(7, parent="Homo").migrate(release({5: 9605})).model
    second.save(tmp_path / "out")
    meta = TaxonEmbedding.load(tmp_path / "out").meta
    assert [step["step"] for step in meta["history"]] == ["place", "migrate"]
    first, last = (step["from"] for step in meta["history"])
    assert (first["method"], last["method"]) == ("layout", "migrated")
    assert first["source"]["date"] == "2024-09-07"
    assert (first["num_taxa"], last["num_taxa"]) == (12, 13)
    assert first["tree"] == zoo().tree.fingerprint
    assert "report" not in meta  # It was of other vectors.
    results = check(tmp_path / "out")
    assert [result for result in results if result.status == "failed"] == []


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (Taxonomy.from_edges([(9606, 9605)]), "the root of the old release, 1 'root', is not"),
        (Taxonomy.from_edges([("9606", "x")]), "Int64 in the old release and String"),
        (Taxonomy.from_edges([(5, 4)]), "releases of one taxonomy"),
    ],
)
def test_migrate__refuses_what_is_no_other_release(model, new, message):
    with pytest.raises(TaxonomyError, match=message):
        model.migrate(new)


def test_migrate__refuses_a_release_without_the_lengths_that_the_vectors_follow():
    tax = Taxonomy.from_parents([-1, 0, 0], branch_lengths=[0, 1.0, 2.0])
    with pytest.raises(TaxonomyError, match="follows branch lengths"):
        embed(tax, dim=3).migrate(tax.without_lengths())


def test_migrate__says_when_a_fresh_embedding_would_be_better():
    tax = load_sample().subtree("Primates")
    start = embed(tax, dim=10)
    same = start.migrate(tax)
    assert same.summary["precision@10"] == pytest.approx(same.summary["afresh"], abs=0.02)
    assert "would not be clearly better" in repr(same)
    # Points that are those of other taxa.
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(tax)))
    wrong = TaxonEmbedding(tax, start.radius[order], start.direction[order], start.meta)
    assert "would be clearly better" in wrong.migrate(tax).summary["advice"]
    assert "precision@10" not in start.migrate(tax, queries=0).summary


def test_migrate__from_2013_to_the_newest_ncbi_taxonomy():
    old = read_ncbi(real_data("ncbi_2013_stree/taxdump_partial.tar.gz")).subtree("Carnivora")
    new = read_ncbi().subtree("Carnivora")
    start = embed(old)
    found = start.migrate(new, queries=0)
    changed = found.changes.filter(pl.col("change") != "removed")["id"]
    kept = new.ids.filter(~new.ids.is_in(changed.implode()))
    assert len(kept) == found.summary["kept"] > 100
    assert same_vectors(start, found.model, kept)
