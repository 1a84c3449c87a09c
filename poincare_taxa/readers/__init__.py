"""Files and packages → `Taxonomy`."""

from poincare_taxa.readers.edges import read_edges as read_edges
from poincare_taxa.readers.edges import read_parents as read_parents
from poincare_taxa.readers.lineages import read_lineages as read_lineages
from poincare_taxa.readers.ncbi import read_ncbi as read_ncbi
from poincare_taxa.readers.newick import read_newick as read_newick
from poincare_taxa.readers.recognise import read as read
from poincare_taxa.readers.sample import load_sample as load_sample

__all__ = [
    "load_sample",
    "read",
    "read_edges",
    "read_lineages",
    "read_ncbi",
    "read_newick",
    "read_parents",
]
