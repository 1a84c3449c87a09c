from . import metrics as metrics
from .measure import evaluate as evaluate
from .ranks import Nearest as Nearest
from .ranks import Ranks as Ranks
from .report import Estimate as Estimate
from .report import Report as Report
from .report import Row as Row
