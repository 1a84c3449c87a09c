"""The points of a DAG as something to query, save and load."""

import json
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from typer.testing import CliRunner

import poincare_taxa as pt
from poincare_taxa.cli import app
from poincare_taxa.closure.model import link_score
from poincare_taxa.geometry import polar
from poincare_taxa.model import storage

PAIRS = pt.ClosurePairs(
    [(0, 1), (1, 2), (0, 2), (0, 3), (3, 2)],
    names=["animal", "dog", "pug", "pet"],
    labels=["a beast", None, "a small dog", "a beast"],
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
    assert frame["is_ancestor"].to_list() == [True, False, False]
    assert model.distance("dog", "animal") == pytest.approx(frame["distance"][0])
    assert model.rows("pug") == 2
    assert model.rows(["pet", "dog"]).tolist() == [3, 1]
    with pytest.raises(pt.TaxonomyError, match="no node has the name 'fly'"):
        model.rows(["pet", "fly"])
    with pytest.raises(pt.TaxonomyError, match="no node has the name 'cat'"):
        model.nearest("cat")
    with pytest.raises(ValueError, match="k must be at least 1"):
        model.nearest("dog", k=0)


def test_keys__are_names_or_labels_of_one_node(model):
    assert model.rows("a small dog") == 2
    assert "a small dog" in model
    assert "pug" in model
    assert "cat" not in model
    assert 3 not in model
    assert 1.5 not in model
    assert list(model) == ["animal", "dog", "pug", "pet"]
    assert torch.equal(model["pug"], model.radius[2] * model.direction[2])
    assert torch.equal(model[["pug", "dog"]], model.radius[[2, 1], None] * model.direction[[2, 1]])
    assert torch.equal(model.get("dog"), model["dog"])
    assert model.get("cat") is None
    assert model.dim == 3
    assert repr(model) == "ClosureEmbedding(4 nodes, 5 pairs, dim=3, float64)"
    with pytest.raises(pt.TaxonomyError, match=r"did you mean 'animal'\?"):
        model.rows("animel")
    with pytest.raises(pt.TaxonomyError, match=r"2 nodes have the label 'a beast': \['animal', "):
        model.rows("a beast")


def test_many_keys__are_tables_and_tensors(model):
    frame = model.nearest(["pug", "dog"], k=2)
    assert frame["query"].to_list() == ["pug", "pug", "dog", "dog"]
    one = model.nearest("dog", k=2)
    assert frame[2:].drop("query").equals(one)
    apart = model.distance("pug", ["dog", "pet"])
    assert apart.tolist() == [model.distance("pug", name) for name in ("dog", "pet")]
    table = model.to_frame(["pet", "pug"])
    assert table.columns == ["name", "label", "radius", "direction"]
    assert table["name"].to_list() == ["pet", "pug"]
    assert np.array_equal(model.to_frame()["direction"].to_numpy(), model.direction.numpy())


def test_relatives__by_score_are_those_of_the_pairs():
    pairs = pt.ClosurePairs.from_edges(
        [("b", "a"), ("c", "a"), ("d", "b"), ("e", "b"), ("f", "c"), ("g", "f")]
    )
    model = pt.ClosureEmbedding(pairs.names, *pt.closure_layout(pairs, 2)[:2], pairs=pairs)
    up = model.ancestors("g")
    assert up["name"].to_list() == ["f", "c", "a"]
    assert up["is_ancestor"].all()
    assert up["score"].max() < 1e-9
    down = model.descendants("b")
    assert set(down["name"]) == {"d", "e"}
    assert down["is_descendant"].all()
    assert not model.descendants("b", k=4)["is_descendant"][2:].any()
    assert model.descendants("d").is_empty()
    # The score is the difference of two distances; and who has it below 0 is in the cap.
    rows = torch.arange(7)
    origin = torch.zeros(7), model.direction
    score = link_score((model.radius, model.direction), torch.tensor(2), rows)
    wanted = polar.dist(
        model.radius[2], model.direction[2], model.radius, model.direction
    ) - polar.dist(*origin, model.radius, model.direction)
    torch.testing.assert_close(score, wanted)
    bare = pt.ClosureEmbedding(pairs.names, model.radius, model.direction)
    assert bare.ancestors("g", k=3)["name"].to_list() == ["f", "c", "a"]
    with pytest.raises(ValueError, match="no pairs that count the relatives: give k"):
        bare.ancestors("g")
    with pytest.raises(TypeError, match="of one node"):
        model.ancestors(["g", "f"])


def test_a_saved_model__comes_back_bit_for_bit(model, tmp_path):
    model.save(tmp_path / "dag")
    back = pt.load(tmp_path / "dag")
    assert back.names.to_list() == ["animal", "dog", "pug", "pet"]
    assert back.labels.to_list() == PAIRS.labels.to_list()
    assert torch.equal(back.pairs.pairs, PAIRS.pairs)
    assert torch.equal(back.radius, model.radius)
    assert torch.equal(back.direction, model.direction)
    assert back.meta == model.meta
    assert {r.name: r.status for r in pt.check(tmp_path / "dag")} == dict.fromkeys(
        ["files", "mapping", "projection", "pairs"], "passed"
    )
    with (tmp_path / "dag" / "nodes.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"nodes.parquet has .* bytes"):
        pt.ClosureEmbedding.load(tmp_path / "dag")
    assert pt.check(tmp_path / "dag")[0].status == "failed"


@pytest.mark.parametrize(
    ("ends", "message"),
    [
        ([(0, 4)], "nodes run from 0 to 3"),
        ([(0, 1), (0, 1)], "1 pairs are listed more than once"),
        ([(0, 1), (1, 0)], "is an ancestor of itself"),
        ([(2, 2)], r"row 2 \(name pug\) is an ancestor of itself"),
    ],
)
def test_check__names_faulty_pairs(model, tmp_path, ends, message):
    tables = {
        "nodes": pl.DataFrame([model.names.alias("name")]),
        "pairs": pl.DataFrame(ends, schema=["ancestor", "descendant"], orient="row"),
    }
    points = {"radius": model.radius, "direction": model.direction}
    storage.write_folder(tmp_path / "dag", points, tables, {})
    result = pt.check(tmp_path / "dag")[-1]
    assert (result.name, result.status) == ("pairs", "failed")
    assert re.search(message, result.detail)


def test_command_line__takes_the_folder_of_a_dag(model, tmp_path):
    folder = str(tmp_path / "dag")
    model.save(folder)

    def run(*args):
        return CliRunner().invoke(app, list(args))

    assert "animal" in run("nearest", folder, "dog", "-k", "1", "--json").stdout
    found = run("ancestors", folder, "pug", "--json")
    assert all(f'"name": "{name}"' in found.stdout for name in ("animal", "dog", "pet"))
    assert run("check", folder).exit_code == 0
    assert "num_nodes" in run("info", folder).stdout
    found = [
        json.loads(run(command, folder, "pug", "animal", "animal", "pug", "--json").stdout)
        for command in ("distance", "is-a")
    ]
    ends = ["pug", "animal"], ["animal", "pug"]
    assert [pair["distance"] for pair in found[0]] == model.distance(*ends).tolist()
    assert [pair["probability"] for pair in found[1]] == model.is_a(*ends).tolist()
    assert [pair["is_ancestor"] for pair in found[1]] == [True, False]
    refused = run("nearest", folder, "dog", "--taxon-rank", "genus")
    assert "have no ranks" in str(refused.exception)
    pytest.importorskip("matplotlib")
    assert run("plot", folder, "-o", str(tmp_path / "dag.png")).exit_code == 0
    assert (tmp_path / "dag.png").stat().st_size > 1000


def test_the_gene_ontology__from_its_file_to_neighbours_ancestors_and_a_picture():
    for needed in ("obonet", "matplotlib"):
        pytest.importorskip(needed)
    terms = Path(__file__).parents[1] / "support" / "heart.obo"
    pairs = pt.ClosurePairs.from_obo(terms, relations=["is_a", "part_of"])
    model = pt.fit(pairs, dim=5, progress=False).model
    # Read off the file by hand: organ, heart and system, in morphogenesis and in development.
    above = {
        "animal organ morphogenesis", "anatomical structure morphogenesis", "heart development",
        "animal organ development", "circulatory system development", "system development",
        "multicellular organism development", "anatomical structure development",
        "multicellular organismal process", "developmental process", "biological_process",
    }  # fmt: skip
    assert set(model.ancestors("heart morphogenesis")["label"]) == above
    assert set(model.nearest("GO:0003007", k=11)["label"]) == above
    assert pt.plot_disk(model).has_data()


def test_folders__of_trees_and_dags_are_told_apart(model, tmp_path):
    model.save(tmp_path / "dag")
    with pytest.raises(ValueError, match=r"points of a DAG, .* load it with ClosureEmbedding"):
        pt.TaxonEmbedding.load(tmp_path / "dag")
    pt.embed(pt.Taxonomy.from_parents([-1, 0, 0]), dim=2).save(tmp_path / "tree")
    with pytest.raises(ValueError, match="holds a taxonomy: load it with TaxonEmbedding"):
        pt.ClosureEmbedding.load(tmp_path / "tree")


def test_faults__are_named():
    one = torch.ones(1), torch.ones(1, 2)
    with pytest.raises(ValueError, match="2 names need a radius"):
        pt.ClosureEmbedding(pl.Series(["a", "b"]), *one)
    with pytest.raises(ValueError, match="two nodes have the name 'a'"):
        pt.ClosureEmbedding(pl.Series(["a", "a"]), torch.ones(2), torch.ones(2, 2))
    with pytest.raises(ValueError, match="1 names for pairs of 4 nodes"):
        pt.ClosureEmbedding(pl.Series(["a"]), *one, pairs=PAIRS)


def test_is_a__of_a_fitted_model_agrees_with_the_pairs_and_survives_saving(model, tmp_path):
    model.save(tmp_path / "dag")
    back = pt.ClosureEmbedding.load(tmp_path / "dag")
    every = [(a, b) for a in model.names for b in model.names if a != b]
    a, b = map(list, zip(*every, strict=True))
    probability = model.is_a(a, b)
    assert torch.equal(back.is_a(a, b), probability)
    # The order of probabilities is that of scores, the lowest score first.
    score = model.ancestor_score(a, b)
    assert (probability[score.argsort()].diff() <= 0).all()
    assert model.is_a("pug", "dog") == probability[every.index(("pug", "dog"))].item()
    assert model.is_a("pug", "animal") > 0.5 > model.is_a("animal", "pug")
    assert model.is_ancestor("dog", "dog")
    assert model.is_ancestor(["dog", "pug"], "pug").tolist() == [True, True]
    assert model.is_ancestor("dog", ["pet", "a small dog"]).tolist() == [False, True]
    expected = model.distance("pug", "dog") - model.radius[model.rows("pug")].item()
    assert model.ancestor_score("pug", "dog") == pytest.approx(expected)
    with pytest.raises(ValueError, match="keys make no pairs"):
        model.is_a(["pug", "dog"], ["pug", "dog", "pet"])


def test_is_a__of_a_layout_is_right_and_needs_the_closure_of_its_pairs():
    edges = [((v - 1) // 2, v) for v in range(1, 63)]
    cover = pt.ClosurePairs(edges, names=[f"n{v}" for v in range(63)])
    pairs = cover.closed()
    points = pt.closure_layout(pairs, 2)[:2]
    model = pt.ClosureEmbedding(pairs.names, *points, pairs=pairs)
    a, d = ([f"n{v}" for v in side.tolist()] for side in pairs.pairs.unbind(1))
    assert (model.is_a(d, a) > 0.5).all()
    assert (model.is_a(a, d) < 0.5).all()
    # Pairs without what follows from them are calibrated as their closure: other pairs, the same
    # kinds of kin, and here scores that separate them.
    half = pt.ClosureEmbedding(pairs.names, *points, pairs=cover)
    assert ((half.is_a(d, a) > 0.5) == (model.is_a(d, a) > 0.5)).all()
    with pytest.raises(ValueError, match="no pairs to calibrate"):
        pt.ClosureEmbedding(pairs.names, *points).is_a("n5", "n2")
    loop = pt.ClosurePairs([(0, 1), (1, 0)], names=["x", "y"])
    with pytest.raises(pt.TaxonomyError, match="cycle"):
        pt.ClosureEmbedding(loop.names, torch.ones(2), torch.eye(2), pairs=loop).is_a("x", "y")
