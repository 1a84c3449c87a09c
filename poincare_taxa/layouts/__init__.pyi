from .codes import sparse_code as sparse_code
from .codes import tight_code as tight_code
from .distances import distance_layout as distance_layout
from .placement import Placement as Placement
from .placement import place as place
from .refinement import refine as refine
from .tree import Layout as Layout
from .tree import layout as layout
