"""The points of a DAG as something to query, save and load."""

import polars as pl
import pytest
import torch

import poincare_taxa as pt

PAIRS = pt.ClosurePairs(
    [(0, 1), (1, 2), (0, 2), (0, 3), (3, 2)], names=["animal", "dog", "pug", "pet"]
)


@pytest.fixture
def model():
    return pt.fit(PAIRS, dim=3, progress=False).model


def test_model__finds_ancestors_by_name(model):
    assert set(model.nearest("pug", k=3)["name"]) == {"animal", "dog", "pet"}
    frame = model.nearest("dog", k=99)
    assert frame["name"][0] == "animal"
    assert len(frame) == 3
    assert frame["distance"].is_sorted()
    assert model.distance("dog", "animal") == pytest.approx(frame["distance"][0])
    assert model.rows("pug") == 2
    assert model.rows(["pet", "dog"]).tolist() == [3, 1]
    with pytest.raises(pt.TaxonomyError, match="no node has the name 'fly'"):
        model.rows(["pet", "fly"])
    with pytest.raises(pt.TaxonomyError, match="no node has the name 'cat'"):
        model.nearest("cat")
    with pytest.raises(ValueError, match="k must be at least 1"):
        model.nearest("dog", k=0)


def test_a_saved_model__comes_back_bit_for_bit(model, tmp_path):
    model.save(tmp_path / "dag")
    back = pt.ClosureEmbedding.load(tmp_path / "dag")
    assert back.names.to_list() == ["animal", "dog", "pug", "pet"]
    assert torch.equal(back.radius, model.radius)
    assert torch.equal(back.direction, model.direction)
    assert back.meta["settings"]["seed"] == 0
    with (tmp_path / "dag" / "nodes.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"nodes.parquet has .* bytes"):
        pt.ClosureEmbedding.load(tmp_path / "dag")


def test_folders__of_trees_and_dags_are_told_apart(model, tmp_path):
    model.save(tmp_path / "dag")
    with pytest.raises(ValueError, match=r"points of a DAG, .* load it with ClosureEmbedding"):
        pt.TaxonEmbedding.load(tmp_path / "dag")
    with pytest.raises(ValueError, match=r"points of a DAG, .* load it with ClosureEmbedding"):
        pt.check(tmp_path / "dag")
    pt.embed(pt.Taxonomy.from_parents([-1, 0, 0]), dim=2).save(tmp_path / "tree")
    with pytest.raises(ValueError, match="holds a taxonomy: load it with TaxonEmbedding"):
        pt.ClosureEmbedding.load(tmp_path / "tree")


def test_faults__are_named():
    one = torch.ones(1), torch.ones(1, 2)
    with pytest.raises(ValueError, match="2 names need a radius"):
        pt.ClosureEmbedding(pl.Series(["a", "b"]), *one)
    with pytest.raises(ValueError, match="two nodes have the name 'a'"):
        pt.ClosureEmbedding(pl.Series(["a", "a"]), torch.ones(2), torch.ones(2, 2))
