"""Ontologies: relations by the names that their stanzas give them."""

from pathlib import Path

import pytest

from poincare_taxa.readers.dags import read_obo
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

RELATIONS = Path(__file__).parents[1] / "support" / "relations.obo"


def test_read_obo__takes_the_names_of_a_relation_from_its_own_stanza():
    pytest.importorskip("obonet")
    table = read_obo(RELATIONS, ["part of"])
    assert table.drop_nulls("parent")["child", "parent"].rows() == [("CELL:0003", "CELL:0001")]
    with pytest.raises(TaxonomyError, match=r"they have 'BFO:0000050' \(part of\), 'RO:0002202' "):
        read_obo(RELATIONS, ["has part"])
