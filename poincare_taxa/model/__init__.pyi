from .checks import CheckResult as CheckResult
from .checks import check as check
from .migration import Migration as Migration
from .model import TaxonEmbedding as TaxonEmbedding
from .model import embed as embed
