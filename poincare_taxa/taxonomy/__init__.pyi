from .releases import diff as diff
from .taxonomy import MergedTaxonWarning as MergedTaxonWarning
from .taxonomy import Taxonomy as Taxonomy
from .taxonomy import TaxonomyError as TaxonomyError
from .tree import BranchLengthWarning as BranchLengthWarning
from .tree import Tree as Tree
