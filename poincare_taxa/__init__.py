"""Taxonomies as hyperbolic vectors: distance means relatedness, radius means depth.

The names below are the library. Each is imported when it is first used, so that reading a
taxonomy does not wait for torch, nor ``poincare-taxa --help`` for either.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checks import CheckResult as CheckResult
    from .checks import check as check
    from .evaluation import Report as Report
    from .evaluation import evaluate as evaluate
    from .geometry import ball as ball
    from .geometry import convert as convert
    from .geometry import lorentz as lorentz
    from .geometry import polar as polar
    from .geometry.ball import cdist as cdist
    from .geometry.ball import dist as dist
    from .layout import Layout as Layout
    from .layout import layout as layout
    from .model import TaxonEmbedding as TaxonEmbedding
    from .model import embed as embed
    from .readers import load_sample as load_sample
    from .readers import read as read
    from .readers import read_edges as read_edges
    from .readers import read_lineages as read_lineages
    from .readers import read_ncbi as read_ncbi
    from .readers import read_newick as read_newick
    from .readers import read_parents as read_parents
    from .taxonomy import Taxonomy as Taxonomy
    from .taxonomy import TaxonomyError as TaxonomyError
    from .visualize import disk_layout as disk_layout
    from .visualize import plot_disk as plot_disk

__version__ = "0.1.0"

_HOMES = {
    "checks": ["CheckResult", "check"],
    "evaluation": ["Report", "evaluate"],
    "geometry": ["ball", "convert", "lorentz", "polar"],
    "geometry.ball": ["cdist", "dist"],
    "layout": ["Layout", "layout"],
    "model": ["TaxonEmbedding", "embed"],
    "readers": [
        "load_sample",
        "read",
        "read_edges",
        "read_lineages",
        "read_ncbi",
        "read_newick",
        "read_parents",
    ],
    "taxonomy": ["Taxonomy", "TaxonomyError"],
    "visualize": ["disk_layout", "plot_disk"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_HOME[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a submodule binds its name in the package; `layout` here means the function.
        if name == "layout" and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
