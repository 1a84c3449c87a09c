"""Vectors with ids are put into the rows of their taxa, whatever their order and container."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch

import poincare_taxa as pt
from poincare_taxa.evaluation.keyed import place_by_id
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.testing import synthetic_taxonomy

TAX = synthetic_taxonomy(40)
MODEL = pt.embed(TAX, dim=4, tau=0.5)  # all of it well inside of the ball
BALL = MODEL.ball().numpy()
ORDER = np.random.default_rng(0).permutation(40)
IDS = [TAX.ids[int(i)] for i in ORDER]


class KeyedVectors:
    """What of gensim's class matters: keys are text, and their order need not be that of rows."""

    def __init__(self, keys, vectors):
        order = np.random.default_rng(1).permutation(len(keys))
        self.vectors = np.empty_like(vectors)
        self.vectors[order] = vectors
        self.key_to_index = {str(key): int(at) for key, at in zip(keys, order, strict=True)}


def in_containers(ids, vectors):
    vectors = np.asarray(vectors)
    columns = {f"x{i}": vectors[:, i] for i in range(vectors.shape[1])}
    return {
        "dict": dict(zip(ids, vectors, strict=True)),
        "dict of tensors": {i: torch.tensor(v) for i, v in zip(ids, vectors, strict=True)},
        "polars": pl.DataFrame({"taxid": ids, **columns}),
        "polars, nested": pl.DataFrame({"id": ids, "name": ["a"] * len(ids), "v": vectors}),
        "polars, lists": pl.DataFrame({"id": ids, "v": vectors.tolist()}),
        "pandas": pd.DataFrame({"rank": [3] * len(ids), "TaxID": ids, **columns}),
        "pandas, index": pd.DataFrame(columns, index=ids),
        "pandas, nested": pd.DataFrame({"id": ids, "v": list(vectors)}),
        "gensim": KeyedVectors(ids, vectors),
    }


@pytest.mark.parametrize("container", list(in_containers(IDS, BALL[ORDER])))
def test_keyed__vectors_are_aligned_by_id(container):
    placed, notes = place_by_id(in_containers(IDS, BALL[ORDER])[container], TAX)
    assert np.array_equal(placed, BALL)
    assert notes == ()
    given = in_containers(IDS, BALL[ORDER])[container]
    assert evaluate(given, TAX, only="closure")["closure MAP"].value == (
        evaluate(BALL, TAX, only="closure")["closure MAP"].value
    )


def test_keyed__the_table_of_a_model_is_its_polar_coordinates():
    frame = MODEL.to_frame()[ORDER.tolist()]
    (radius, direction), _ = place_by_id(frame, TAX)
    assert torch.equal(radius, MODEL.radius)
    assert torch.equal(direction, MODEL.direction)
    assert evaluate(frame, TAX)["precision@10"].value == evaluate(MODEL)["precision@10"].value


def test_keyed__anything_else_is_left_as_it_is():
    for model in (MODEL, BALL, torch.tensor(BALL), (MODEL.radius, MODEL.direction)):
        assert place_by_id(model, TAX) == (model, ())


def test_keyed__taxa_without_a_vector_are_lost_and_strange_keys_are_left_out():
    given = dict(zip(IDS, BALL[ORDER], strict=True))
    for i in IDS[:6]:
        del given[i]
    given |= {-5: BALL[0], "Felis imaginaria": BALL[0]}
    report = evaluate(given, TAX)
    assert report["lost rows"].value == 6
    printed = str(report)
    first = TAX.ids[int(min(ORDER[:6]))]
    assert f"6 of 40 taxa have no vector ({first}" in printed
    assert ", and 1 more): they are lost rows" in printed
    assert "2 of 36 keys are no taxa here (-5, 'Felis imaginaria')" in printed
    assert report["precision@10"].value < evaluate(MODEL)["precision@10"].value


def test_keyed__old_ids_and_names_find_their_taxa():
    merged = pl.DataFrame({"old_id": [900, 901], "new_id": [2, 3]})
    tax = pt.Taxonomy.from_parents(
        [-1, 0, 0, 1], ids=[1, 2, 3, 4], names=["root", "a", "b", "c"], merged=merged
    )
    x = np.eye(4) / 2  # in preorder: root, a, c, b
    placed, notes = place_by_id({"root": x[0], 900: x[1], 3: x[3], 901: x[2], "c": x[2]}, tax)
    assert np.array_equal(placed, x)  # 3 is there under its own id: the old one is left out
    assert notes == ("1 of 5 keys are no taxa here (901)",)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            dict(zip(IDS[:19], BALL, strict=False)),
            r"^21 of 40 taxa have no vector \(.*every key is",
        ),
        (
            dict.fromkeys(range(-50, 0), BALL[0]),
            r"^40 of 40 .*; 50 of 50 keys are no taxa here \(-50",
        ),
        ({}, "40 of 40 taxa have no vector"),
        (
            {i: np.zeros(2 + (i == IDS[3])) for i in IDS},
            r"have one shape \[dim\]; got \[\(2,\), \(",
        ),
        (pl.DataFrame({"id": [*IDS, IDS[0]], "x": np.zeros(41)}), "has 2 vectors"),
        (pl.DataFrame({"x": np.zeros(40), "y": np.zeros(40)}), "no column of ids among .*'x', 'y'"),
        (pd.DataFrame(BALL), "no column of ids"),
        (pl.DataFrame({"id": IDS, "name": ["a"] * 40}), "no columns of decimals"),
    ],
    ids=["few", "strange", "empty", "ragged", "twice", "no ids", "numbered", "no vectors"],
)
def test_keyed__errors_say_what_to_do(given, message):
    with pytest.raises(ValueError, match=message):
        evaluate(given, TAX)


def test_keyed__rows_that_are_nan_are_lost_rows_too():
    x = BALL.copy()
    x[3] = math.nan
    report = evaluate(dict(zip(IDS, x[ORDER], strict=True)), TAX)
    assert report["lost rows"].value == 1


def test_keyed__a_tree_has_no_ids():
    """Its rows are no ids, though they are numbers too."""
    with pytest.raises(ValueError, match="a tree has no ids to find vectors by"):
        evaluate(dict(enumerate(BALL)), TAX.tree)
