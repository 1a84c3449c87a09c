"""Keys: one or many, of every kind that people hold; and what is refused."""

import math

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from oracles.tree import walk_up
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
        assert animals.ids.gather(animals.rows(keys)).to_list() == [20, 40]
    for key in (40, "40", "Felis catus", np.int64(40), torch.tensor(40), np.str_("40")):
        assert animals.ids[animals.rows(key)] == 40
    assert animals.rows([]).tolist() == []


NO_KEYS = [True, None, math.nan, 1.5, b"40", slice(0, 2), np.array([1.0]), [40, None], {40: 1}, 4j]
NO_KEYS += [pl.Series([40, None])]


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


# ------------------------------------------------------------------ methods by keys


def some_keys(tax, data, **size):
    """Rows, and keys that lead to them: ids, as text too."""
    rows = data.draw(st.lists(st.integers(0, len(tax) - 1), **size))
    as_text = data.draw(st.booleans())
    return rows, [str(tax.ids[row]) if as_text else tax.ids[row] for row in rows]


@given(taxonomies(), st.data())
def test_methods__of_two_keys_equal_those_of_rows(tax, data):
    rows, keys = some_keys(tax, data, min_size=2, max_size=6)
    others = list(reversed(range(len(rows))))
    columns = [[sequence[i] for i in others] for sequence in (rows, keys)]
    for by_key, by_row, convert in (
        (tax.is_ancestor, tax.tree.is_ancestor, lambda found: found),
        (tax.tree_distance, tax.tree.distance, lambda found: found),
        (tax.lca, tax.tree.lca, lambda found: tax.ids[found]),
    ):
        one = by_key(keys[0], keys[1])
        assert one == convert(by_row(rows[0], rows[1]))
        assert type(one) in (bool, int, str, float)
        expected = [convert(value) for value in by_row(rows, columns[0])]
        assert by_key(keys, columns[1]).to_list() == expected
        expected = [convert(value) for value in by_row(rows[0], rows)]
        assert by_key(keys[0], keys).to_list() == expected
    shared = set.intersection(*(set(walk_up(tax.parent, row)) for row in rows))
    assert tax.lca(keys) == tax.ids[max(shared)]


@given(taxonomies(), st.data())
def test_methods__of_keys_equal_those_of_rows(tax, data):
    rows, keys = some_keys(tax, data, max_size=6)
    for by_key, by_row in (
        (tax.ancestors, tax.tree.ancestors),
        (tax.children, tax.tree.children),
        (tax.leaves, tax.tree.leaves),
    ):
        expected = [[tax.ids[i] for i in by_row(row)] for row in rows]
        assert by_key(keys).to_list() == expected
        assert by_key(keys).dtype == pl.List(tax.ids.dtype)
        assert [by_key(key).to_list() for key in keys] == expected
    assert tax.lineage(keys).to_list() == [tax.lineage(key) for key in keys]
    for row, lineage in zip(rows, tax.lineage(keys), strict=True):
        walk = walk_up(tax.parent, row)[::-1]
        assert lineage == "; ".join(tax.names[v] or str(tax.ids[v]) for v in walk)


@given(taxonomies(), st.sampled_from(["genus", "clade", "phylum"]), st.data())
def test_ancestor_at_rank__equals_walking_up(tax, taxon_rank, data):
    rows, keys = some_keys(tax, data, max_size=6)
    if taxon_rank not in set(tax.taxon_ranks):
        with pytest.raises(ValueError, match=f"no taxon has the rank '{taxon_rank}'; the ranks"):
            tax.ancestor_at_rank(keys, taxon_rank)
        return
    expected = []
    for row in rows:
        having = [a for a in walk_up(tax.parent, row) if tax.taxon_ranks[a] == taxon_rank]
        expected.append(tax.ids[having[0]] if having else None)
    assert tax.ancestor_at_rank(keys, taxon_rank).to_list() == expected
    assert [tax.ancestor_at_rank(key, taxon_rank) for key in keys] == expected


def test_methods__take_an_id_for_an_id_where_it_is_a_row_too():
    """Ids that are rows of other taxa: every method reads them as ids."""
    tax = Taxonomy.from_parents([-1, 0, 1, 0], ids=[3, 2, 1, 0])
    assert tax.lineage(1) == "3; 2; 1"
    assert tax.is_ancestor(2, 1)
    assert not tax.is_ancestor(1, 2)
    assert tax.lca(1, 0) == 3
    assert tax.tree_distance(1, 0) == 3
    assert tax.ancestors(1).to_list() == [2, 3]
    assert tax.children(3).to_list() == [2, 0]
    assert len(tax.subtree(2)) == 2
    assert list(tax) == [3, 2, 1, 0]
    assert 4 not in tax


def test_methods__of_pairs_say_which_they_take(animals):
    for method in (animals.is_ancestor, animals.lca, animals.tree_distance):
        with pytest.raises(ValueError, match=r"2 and 3 keys make no pairs: .*tax.tree\."):
            method([1, 10], [1, 10, 20])
    rows = animals.rows([1, 10])[:, None], animals.rows([1, 10, 20])
    assert animals.tree.lca(*rows).shape == (2, 3)  # as the message advises
    with pytest.raises(ValueError, match="no common ancestor"):
        animals.lca([])
    with pytest.raises(ValueError, match=r"2 and 3 keys make no pairs: .*kernels.cdist"):
        embed(animals, dim=3).distance([1, 10], [1, 10, 20])


@given(taxonomies())
def test_columns__are_indexed_by_integers_of_numpy(tax):
    for row in range(1, len(tax)):
        assert tax.ids[tax.parent[row]] == tax.ids[int(tax.parent[row])]
        assert tax.names[np.int64(row)] == tax.names[row]
    assert tax.ids[tax.tree.parent[1:]].to_list() == tax.to_frame()["parent"][1:].to_list()


def test_rows__that_are_missing_by_a_number(animals):
    assert animals.rows([40, 70, "cat"], missing=-1).tolist() == [3, -1, -1]
    assert animals.rows("nobody", missing=-1) == -1


@pytest.mark.parametrize("name", ["node", "nodes", "status", "rows_of_ids"])
def test_names__that_went_tell_their_place(animals, name):
    with pytest.raises(AttributeError, match=rf"Taxonomy.{name} is Taxonomy\.(rows|resolve)"):
        getattr(animals, name)
    assert not hasattr(animals, "nodez")


@given(taxonomies(), st.data())
def test_resolve__agrees_with_looking_up_one_key(tax, data):
    known = [*tax.ids.to_list(), *tax.names.drop_nulls().to_list()]
    keys = data.draw(st.lists(st.sampled_from([*known, "nobody", 10**9]), max_size=8))
    for key, id in zip(keys, tax.resolve(keys)["id"], strict=True):
        try:
            row = tax.rows(key)
        except TaxonomyError:
            assert id is None
        else:
            assert id == tax.ids[row]


def test_rows__counts_what_is_missing_and_warns_of_what_was_merged(animals):
    with pytest.raises(TaxonomyError, match=r"3 of 4 keys .* 70 is deleted, 'no' is unknown"):
        animals.rows([40, 70, "no", "cat"])
    with pytest.warns(MergedTaxonWarning, match="2 of 3 ids were merged .* 41 was merged into 40"):
        assert animals.rows([41, 20, 42]).tolist() == animals.rows([40, 20, 40]).tolist()


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
    with pytest.raises(ValueError, match="is for missing='ancestor'"):
        model.vectors(keys, missing="nan", lineages=animals)
    with pytest.raises(
        TaxonomyError, match=r"1 of 1 missing keys .* lineages=<a release> has some"
    ):
        model.vectors(keys, missing="ancestor")
    assert model.vectors([40], missing="ancestor").equal(model[[40]])


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
    with pytest.raises(
        TaxonomyError, match=r"2 of 2 missing keys .* by the other release: '20', '99'"
    ):
        model.vectors([20, 40, 99], missing="ancestor", lineages=older)
    with pytest.raises(TaxonomyError, match=r"1 of 1 missing keys .* by the other release: '99'"):
        model.vectors([99], missing="ancestor", lineages=older)


def test_distance_matrix__is_tree_distance_of_all_pairs(animals):
    keys = animals.ids.to_list()
    found = animals.distance_matrix(keys, keys[:3])
    assert found.tolist() == [[animals.tree_distance(a, b) for b in keys[:3]] for a in keys]
    assert animals.distance_matrix(keys[1]).tolist() == [[0]]


def test_distance_matrix__names_ways_out_of_too_many_cells(animals):
    with pytest.raises(ValueError, match=r"2 × 3 distances .* others=.*tax.tree.distance.*max_c"):
        animals.distance_matrix([1, 10], [1, 10, 20], max_cells=5)
    assert animals.distance_matrix([1, 10], [1, 10, 20], max_cells=6).shape == (2, 3)
