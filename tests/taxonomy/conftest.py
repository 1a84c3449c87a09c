"""A taxonomy that the tests of this room share."""

import polars as pl
import pytest

from poincare_taxa.taxonomy.taxonomy import Taxonomy


@pytest.fixture(scope="module")
def animals():
    """A small taxonomy with homonyms, synonyms, merged and deleted ids."""
    return Taxonomy.from_parents(
        [-1, 0, 0, 1, 3, 2, 2],
        ids=[1, 10, 20, 30, 40, 50, 60],
        names=["root", "Mammalia", "Insecta", "Felis", "Felis catus", "Musca", "Morus"],
        taxon_ranks=["no rank", "class", "class", "genus", "species", "genus", "genus"],
        synonyms=pl.DataFrame(
            {
                "name": ["cat", "domestic cat", "fly", "cat", "Felis catus", "Musca", "mammals"],
                "node": [4, 4, 5, 6, 6, 5, 1],
                "name_class": ["common name"] * 7,
            }
        ),
        merged=pl.DataFrame({"old_id": [41, 42, 43, 44], "new_id": [40, 41, 999, 43]}),
        deleted=pl.Series([70, 10, 1]),
    )
