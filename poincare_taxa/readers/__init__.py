"""Files and packages → `Taxonomy`."""

from poincare_taxa.readers.ncbi import read_ncbi as read_ncbi
from poincare_taxa.readers.sample import load_sample as load_sample

__all__ = ["load_sample", "read_ncbi"]
