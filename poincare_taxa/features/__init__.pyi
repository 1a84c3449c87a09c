from .ancestors import ancestor_matrix as ancestor_matrix
from .landmarks import Landmarks as Landmarks
from .landmarks import choose_landmarks as choose_landmarks
from .landmarks import kernel_coordinates as kernel_coordinates
from .landmarks import shared_depth as shared_depth
from .neighbours import neighbour_weights as neighbour_weights
from .transformer import TaxonFeatures as TaxonFeatures
