"""Ontologies as tables of edges; what is made of them is tested with `ClosurePairs`."""

from pathlib import Path

import pytest

from poincare_taxa.readers.dags import read_obo
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

RELATIONS = Path(__file__).parents[1] / "support" / "relations.obo"


def test_read_obo__names_relations_that_are_called_otherwise_in_their_stanza(tmp_path):
    pytest.importorskip("obonet")
    nameless = tmp_path / "nameless.obo"
    nameless.write_text(RELATIONS.read_text().replace("name: part of\n", ""))
    for path, part in [(RELATIONS, r"'BFO:0000050' \(part of\)"), (nameless, "'BFO:0000050'")]:
        with pytest.raises(TaxonomyError, match=rf"no relation 'x'; they have {part}, 'RO:"):
            read_obo(path, ["x"])
