from .download import download_ncbi as download_ncbi
from .edges import read_edges as read_edges
from .edges import read_parents as read_parents
from .lineages import read_lineages as read_lineages
from .ncbi import read_ncbi as read_ncbi
from .newick import read_newick as read_newick
from .recognise import read as read
from .sample import load_sample as load_sample
