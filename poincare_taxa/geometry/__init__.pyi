from . import ball as ball
from . import convert as convert
from . import lorentz as lorentz
from . import polar as polar
