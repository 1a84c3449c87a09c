"""What ids, old ids, names and synonyms lead to."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from support.trees import taxonomies

from poincare_taxa.taxonomy.lookup import MergedTaxonWarning, Status
from poincare_taxa.taxonomy.taxonomy import Taxonomy, TaxonomyError


@given(taxonomies())
def test_nodes__is_the_inverse_of_ids(tax):
    rows = np.arange(len(tax))
    np.testing.assert_array_equal(tax.nodes(tax.ids), rows)
    np.testing.assert_array_equal(tax.nodes(tax.ids.to_list()), rows)
    assert [tax.node(key) for key in tax.ids] == rows.tolist()
    assert tax.nodes(tax.ids).dtype == np.int64


def test_node__takes_id_then_name_then_synonym(animals):
    row = animals.ids.to_list().index(40)
    assert animals.node(40) == animals.node("40") == row
    assert animals.node("Felis catus") == row  # though it is also a synonym of Morus
    assert animals.node("domestic cat") == row
    assert animals.node("Musca") == animals.node("fly")  # name and synonym of one taxon


def test_node__lists_the_candidates_of_a_homonym(animals):
    with pytest.raises(TaxonomyError) as error:
        animals.node("cat")
    assert str(error.value).splitlines() == [
        "'cat' names 2 taxa; choose one by its id:",
        "  40: species, in root; Mammalia; Felis; Felis catus",
        "  60: genus, in root; Insecta; Morus",
    ]


@pytest.mark.parametrize(
    ("asked", "meant"),
    [("felis catus", "Felis catus"), ("Felix catus", "Felis catus"), ("domestic  cat", "domestic")],
)
def test_node__suggests_names_like_an_unknown_one(animals, asked, meant):
    with pytest.raises(TaxonomyError, match=f"did you mean '{meant}"):
        animals.node(asked)


def test_node__suggests_nothing_where_nothing_is_alike(animals):
    for key in ("Quercus", 12345, 7, "ab", "", -1):
        with pytest.raises(TaxonomyError, match=f"no taxon has the id or name {key!r}; is it of"):
            animals.node(key)


def test_status__is_active_merged_deleted_or_unknown(animals):
    cat = animals.node(40)
    assert animals.status(40) == Status("active", cat)
    assert animals.status("41") == Status("merged", cat, 40)
    assert animals.status(42) == Status("merged", cat, 40)  # through 41
    assert animals.status(43) == Status("unknown", None, 999)
    assert animals.status(44) == Status("unknown", None, 999)
    assert animals.status(70) == Status("deleted")
    assert animals.status(10).state == "active"  # a list of deleted ids may be older than the tree
    assert animals.status(71) == Status("unknown")
    for key in ("Felis", "4_0", "", 10**30, "9" * 30):
        assert animals.status(key) == Status("unknown")
    assert [str(animals.status(i)) for i in (40, 41, 43, 70)] == [
        "active",
        "merged into 40",
        "unknown (merged into 999, which is not in this taxonomy)",
        "deleted",
    ]


def test_status__of_ids_merged_in_a_circle_is_unknown():
    merged = pl.DataFrame({"old_id": [5, 6], "new_id": [6, 5]})
    tax = Taxonomy.from_parents([-1], ids=[1], merged=merged)
    assert tax.status(5).state == "unknown"


def test_status__of_text_ids_merged_by_numbers():
    merged = pl.DataFrame({"old_id": [5], "new_id": [1]})
    tax = Taxonomy.from_parents([-1], ids=["1"], merged=merged, deleted=pl.Series([7]))
    assert [str(tax.status(key)) for key in (5, "7", 1)] == ["merged into 1", "deleted", "active"]


def test_node__follows_merged_ids_and_says_so(animals):
    with pytest.warns(MergedTaxonWarning, match="taxon 41 was merged into 40"):
        assert animals.node(41) == animals.node(40)
    with pytest.warns(MergedTaxonWarning, match="1 of 2 ids were merged .* 41 was merged into 40"):
        assert animals.nodes([1, 41]).tolist() == [0, animals.node(40)]


def test_node__refuses_deleted_and_unknown_ids(animals):
    with pytest.raises(TaxonomyError, match="taxon 70 was deleted"):
        animals.node(70)
    with pytest.raises(TaxonomyError, match=r"taxon 43 is unknown \(merged into 999"):
        animals.node(43)
    with pytest.raises(TaxonomyError, match=r"2 of 3 ids .* 70 is deleted, 71 is unknown"):
        animals.nodes(["1", "70", "71"])
    with pytest.raises(TaxonomyError, match="'Felis' is not an id"):
        animals.nodes(["1", "Felis"])
