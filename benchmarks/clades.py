"""Clades of the complete NCBI taxonomy, which the extra [ncbi] brings."""

from functools import cache

import poincare_taxa as pt

ECHINODERMATA, MOLLUSCA, SPIRALIA = 7586, 6447, 2697495
"""Taxids of clades with 7,112, 47,554 and 181,713 taxa."""


@cache
def ncbi() -> "pt.Taxonomy":
    """The complete taxonomy, read once."""
    return pt.read_ncbi()


def clade(taxid: int | None) -> "pt.Taxonomy":
    """The taxon and everything below it; without a taxid the complete taxonomy."""
    return ncbi() if taxid is None else ncbi().subtree(taxid)
