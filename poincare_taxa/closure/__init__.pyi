from .layout import closure_layout as closure_layout
from .layout import nested_start as nested_start
from .model import ClosureEmbedding as ClosureEmbedding
from .model import link_score as link_score
from .ranking import ClosureRanking as ClosureRanking
from .ranking import rank_ancestors as rank_ancestors
from .refinement import refine_closure as refine_closure
from .softmax import ClosureSoftmax as ClosureSoftmax
