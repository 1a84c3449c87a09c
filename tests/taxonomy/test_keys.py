"""Keys: one or many, of every kind that people hold; and what is refused."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.trees import taxonomies

from poincare_taxa.model.model import embed
from poincare_taxa.taxonomy.lookup import MergedTaxonWarning
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError

pd = pytest.importorskip("pandas")


@given(taxonomies(), st.data())
def test_rows__is_the_inverse_of_ids_for_one_and_for_many(tax, data):
    rows = data.draw(st.lists(st.integers(0, len(tax) - 1)))
    ids = [tax.ids[row] for row in rows]
    assert tax.rows(ids).tolist() == rows
    assert tax.rows(tax.ids).tolist() == list(range(len(tax)))
    for row, key in zip(rows, ids, strict=True):
        assert tax.rows(key) == tax.rows(str(key)) == row


def test_rows__takes_every_kind_of_column(animals):
    for keys in (
        [20, 40],
        (20, 40),
        np.array([20, 40]),
        pl.Series([20, 40]),
        pd.Series([20, 40]),
        pd.Index(["20", "40"]),
        torch.tensor([20, 40]),
        np.array(["20", "Felis catus"]),
        ["Insecta", 40],
    ):
        assert animals.rows(keys).tolist() == animals.nodes([20, 40]).tolist()
    for key in (40, "40", "Felis catus", np.int64(40), torch.tensor(40), np.str_("40")):
        assert animals.rows(key) == animals.node(40)
    assert animals.rows([]).tolist() == []


NO_KEYS = [True, None, math.nan, 1.5, b"40", slice(0, 2), np.array([1.0]), [40, None], {40: 1}, 4j]


@pytest.mark.parametrize("key", NO_KEYS, ids=repr)
def test_keys__of_other_kinds_are_refused_in_one_sentence(animals, key):
    model = embed(animals, dim=3)
    for call in (animals.rows, animals.resolve, model.__getitem__, model.__contains__):
        with pytest.raises(TypeError, match="a key is an id") as error:
            call(key)
        assert "\n" not in str(error.value)


def test_resolve__tells_what_became_of_each_key(animals):
    found = animals.resolve([40, "Musca", "cat", 41, 42, 43, 70, 99, "nobody", "domestic cat"])
    assert found["status"].to_list() == [
        *["active", "active", "homonym", "merged", "merged", "unknown", "deleted"],
        *["unknown", "unknown", "active"],
    ]
    assert found["id"].to_list() == [40, 50, None, 40, 40, None, None, None, None, 40]
    assert found["name"][0] == "Felis catus"


@given(taxonomies(), st.data())
def test_resolve__agrees_with_looking_up_one_key(tax, data):
    known = [*tax.ids.to_list(), *tax.names.drop_nulls().to_list()]
    keys = data.draw(st.lists(st.sampled_from([*known, "nobody", 10**9]), max_size=8))
    for key, id in zip(keys, tax.resolve(keys)["id"], strict=True):
        try:
            row = tax.node(key)
        except TaxonomyError:
            assert id is None
        else:
            assert id == tax.ids[row]


def test_rows__counts_what_is_missing_and_warns_of_what_was_merged(animals):
    with pytest.raises(TaxonomyError, match=r"3 of 4 keys .* 70 is deleted, 'no' is unknown"):
        animals.rows([40, 70, "no", "cat"])
    with pytest.warns(MergedTaxonWarning, match="2 of 3 ids were merged .* 41 was merged into 40"):
        assert animals.rows([41, 20, 42]).tolist() == animals.nodes([40, 20, 40]).tolist()


def test_model__has_keys_as_a_mapping_has(animals):
    model = embed(animals, dim=3)
    assert 40 in model
    assert "Felis catus" in model
    assert 41 in model
    assert 70 not in model
    assert "cat" not in model
    assert list(model) == animals.ids.to_list()
    assert model.get("nobody") is None
    assert model.get("nobody", 0) == 0
    assert model.get(40).equal(model[40])


def test_vectors__of_keys_some_of_which_are_missing(animals):
    model, keys = embed(animals, dim=3), [40, 70, 20]
    with pytest.raises(TaxonomyError, match="1 of 3 keys"):
        model.vectors(keys)
    found = model.vectors(keys, missing="nan")
    assert found.shape == (3, 3)
    assert found[[0, 2]].equal(model[[40, 20]])
    assert found[1].isnan().all()
    assert model.vectors(keys, missing="drop").equal(model[[40, 20]])
    with pytest.raises(ValueError, match="missing is 'raise'"):
        model.vectors(keys, missing="skip")
    with pytest.raises(ValueError, match="go together"):
        model.vectors(keys, missing="ancestor")


def test_vectors__of_a_missing_taxon_is_that_of_its_nearest_ancestor_here(animals):
    frame = animals.to_frame().filter(pl.col("id") != 40)
    pruned = embed(Taxonomy.from_frame(frame), dim=3)
    assert 40 not in pruned
    found = pruned.vectors([40, 20], missing="ancestor", lineages=animals)
    assert found.equal(pruned[[30, 20]])
    model = embed(animals.subtree(10), dim=3)
    smaller = embed(animals.subtree(30), dim=3)
    older = animals
    assert model.vectors([40], missing="ancestor", lineages=older).equal(model[[40]])
    found = smaller.vectors([40, 30], missing="ancestor", lineages=older)
    assert found.equal(smaller[[40, 30]])
    with pytest.raises(TaxonomyError, match="no ancestor of 20"):
        model.vectors([20], missing="ancestor", lineages=older)
    with pytest.raises(TaxonomyError, match="no taxon has the id or name 99"):
        model.vectors([99], missing="ancestor", lineages=older)
