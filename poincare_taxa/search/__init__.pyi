from .graph import neighbour_graph as neighbour_graph
from .index import SearchIndex as SearchIndex
