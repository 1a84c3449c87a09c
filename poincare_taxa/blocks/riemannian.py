"""geoopt, imported here and nowhere else in the library.

geoopt 0.5.1 scripts functions while it is imported, and newer releases of torch warn of that: with
a `DeprecationWarning`, from 2.14 on with a `FutureWarning`, which a user would see. Exactly this
warning is silenced, so that Python's ``-W error`` is possible.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
    warnings.filterwarnings("ignore", message=".*torch.jit", category=FutureWarning)
    import geoopt
    from geoopt.utils import size2shape

__all__ = ["geoopt", "size2shape"]
