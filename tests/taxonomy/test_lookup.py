"""What ids, old ids, names and synonyms lead to."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy import lookup
from poincare_taxa.taxonomy.lookup import MergedTaxonWarning
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError


@given(taxonomies())
def test_rows__is_the_inverse_of_ids(tax):
    rows = np.arange(len(tax))
    np.testing.assert_array_equal(tax.rows(tax.ids), rows)
    np.testing.assert_array_equal(tax.rows(tax.ids.to_list()), rows)
    assert [tax.rows(key) for key in tax.ids] == rows.tolist()
    assert tax.rows(tax.ids).dtype == np.int64


@pytest.mark.parametrize("scans", [0, 10**9])
def test_rows__of_one_key_are_those_of_many(animals, scans, monkeypatch):
    monkeypatch.setattr(lookup, "_MANY_SCANS", scans)  # names by their hashes, or one by one
    keys = [*animals.ids, *animals.ids.cast(pl.String), *animals.names.drop_nulls()]
    keys += [*animals.synonyms["name"], "nothing", "0", 0, -1, "-1", 10**30, str(10**30), ""]
    found = animals.resolve(keys).select("status", "id")
    for key, (status, taxon) in zip(keys, found.rows(), strict=True):
        row = animals._lookup.row_of_one(key)
        assert row is None or (status, taxon) == ("active", animals.ids[row])
        if isinstance(key, str) and key.isalpha():  # names, of which one taxon has each
            assert (row is None) == (status != "active")


def test_rows__takes_id_then_name_then_synonym(animals):
    row = animals.ids.to_list().index(40)
    assert animals.rows(40) == animals.rows("40") == row
    assert animals.rows("Felis catus") == row  # though it is also a synonym of Morus
    assert animals.rows("domestic cat") == row
    assert animals.rows("Musca") == animals.rows("fly")  # name and synonym of one taxon


def test_rows__lists_the_candidates_of_a_homonym(animals):
    with pytest.raises(TaxonomyError) as error:
        animals.rows("cat")
    assert str(error.value).splitlines() == [
        "'cat' names 2 taxa; choose one by its id:",
        "  40: species, in root; Mammalia; Felis; Felis catus",
        "  60: genus, in root; Insecta; Morus",
    ]


def test_rows__shortens_the_lineages_of_candidates_of_more_than_7_names():
    tax = Taxonomy.from_parents([-1, 0, 1, 2, 3, 4, 5, 6, 5], names=list("abcdefgxx"))
    with pytest.raises(TaxonomyError) as error:
        tax.rows("x")
    assert str(error.value).splitlines()[1:] == [
        "  7: no rank, in a; b; c; …; f; g; x",
        "  8: no rank, in a; b; c; d; e; f; x",
    ]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("felis catus", "Felis catus"), ("Felix catus", "Felis catus"), ("domestic  cat", "domestic")],
)
def test_rows__suggests_names_like_an_unknown_one(animals, asked, meant):
    with pytest.raises(TaxonomyError, match=f"did you mean '{meant}"):
        animals.rows(asked)


def test_rows__suggests_nothing_where_nothing_is_alike(animals):
    for key in ("Quercus", "ab", ""):
        with pytest.raises(TaxonomyError, match=f"no taxon has the id or name {key!r}; is it of"):
            animals.rows(key)
    for key in (12345, 7, -1, 10**30):
        with pytest.raises(TaxonomyError, match=f"no taxon has the id {key}; is it of"):
            animals.rows(key)


def test_resolve__of_old_ids(animals):
    found = animals.resolve([40, "41", 42, 43, 44, 70, 10, 1, 71])
    expected = [
        ("active", 40),
        ("merged", 40),
        ("merged", 40),  # through 41
        ("unknown", None),  # merged into 999, which is not here
        ("unknown", None),
        ("deleted", None),
        ("active", 10),  # a list of deleted ids may be older than the tree
        ("active", 1),
        ("unknown", None),
    ]
    assert found.select("status", "id").rows() == expected
    keys = ["4_0", "", 10**30, "9" * 30, -1]
    assert set(animals.resolve(keys)["status"]) == {"unknown"}
    assert animals.resolve(keys)["key"].to_list() == [str(key) for key in keys]


def test_resolve__of_ids_merged_in_a_circle_is_unknown():
    merged = pl.DataFrame({"old_id": [5, 6], "new_id": [6, 5]})
    tax = Taxonomy.from_parents([-1], ids=[1], merged=merged)
    assert tax.resolve(5)["status"].item() == "unknown"


def test_resolve__of_text_ids_merged_by_numbers():
    merged = pl.DataFrame({"old_id": [5], "new_id": [1]})
    tax = Taxonomy.from_parents([-1], ids=["1"], merged=merged, deleted=pl.Series([7]))
    assert tax.resolve([5, "7", 1])["status"].to_list() == ["merged", "deleted", "active"]


def test_rows__follows_merged_ids_and_says_so(animals):
    with pytest.warns(MergedTaxonWarning, match="taxon 41 was merged into 40"):
        assert animals.rows(41) == animals.rows(40)
    with pytest.warns(MergedTaxonWarning, match="1 of 2 ids were merged .* 41 was merged into 40"):
        assert animals.rows([1, 41]).tolist() == [0, animals.rows(40)]


def test_rows__refuses_deleted_and_unknown_ids(animals):
    with pytest.raises(TaxonomyError, match="taxon 70 was deleted"):
        animals.rows(70)
    with pytest.raises(TaxonomyError, match=r"taxon 43 is unknown \(merged into 999"):
        animals.rows(43)
    with pytest.raises(TaxonomyError, match=r"2 of 3 keys .* '70' is deleted, '71' is unknown"):
        animals.rows(["1", "70", "71"])
