"""The NCBI taxonomy: taxdump folders and archives, and the offline package."""

from poincare_taxa.readers._package import read_package
from poincare_taxa.taxonomy import Taxonomy

__all__ = ["read_ncbi"]


def read_ncbi() -> Taxonomy:
    """Read the complete NCBI taxonomy from the offline package."""
    return read_package()
