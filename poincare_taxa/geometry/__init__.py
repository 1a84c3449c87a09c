"""Hyperbolic geometry in three models, as functions of tensors.

`polar` (radius and direction) is where points live: it holds any radius. `ball` and `lorentz` are
views of it for use in other people's models; `convert` goes between them.
"""

from poincare_taxa.geometry import ball as ball
from poincare_taxa.geometry import convert as convert
from poincare_taxa.geometry import lorentz as lorentz
from poincare_taxa.geometry import polar as polar

__all__ = ["ball", "convert", "lorentz", "polar"]
