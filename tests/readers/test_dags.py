"""Ontologies as tables of edges; what is made of them is tested with `ClosurePairs`."""

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


def test_read_obo__names_relations_that_are_called_otherwise_in_their_stanza(tmp_path):
    pytest.importorskip("obonet")
    nameless = tmp_path / "nameless.obo"
    nameless.write_text(RELATIONS.read_text().replace("name: part of\n", ""))
    for path, part in [(RELATIONS, r"'BFO:0000050' \(part of\)"), (nameless, "'BFO:0000050'")]:
        with pytest.raises(TaxonomyError, match=rf"no relation 'x'; they have {part}, 'RO:"):
            read_obo(path, ["x"])
