"""Taxonomies as hyperbolic vectors: distance means relatedness, radius means depth.

The names below are the library. Each is imported when it is first used, so that reading a
taxonomy does not wait for torch, nor ``poincare-taxa --help`` for either.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import kernels as kernels
    from .checks import CheckResult as CheckResult
    from .checks import check as check
    from .closure import ClosurePairs as ClosurePairs
    from .closure_layout import closure_layout as closure_layout
    from .closure_model import ClosureEmbedding as ClosureEmbedding
    from .closure_ranking import ClosureRanking as ClosureRanking
    from .closure_ranking import rank_ancestors as rank_ancestors
    from .closure_search import refine_closure as refine_closure
    from .closure_training import AngularAdam as AngularAdam
    from .closure_training import ClosureSoftmax as ClosureSoftmax
    from .closure_training import nested_start as nested_start
    from .cones import EntailmentConeLoss as EntailmentConeLoss
    from .cones import cone_energy as cone_energy
    from .cones import entailment_cone_loss as entailment_cone_loss
    from .curriculum import Curriculum as Curriculum
    from .curriculum import balanced_depths as balanced_depths
    from .curriculum import join_at_parent as join_at_parent
    from .curriculum import lift as lift
    from .early_stopping import EarlyStopping as EarlyStopping
    from .embedding import PoincareEmbedding as PoincareEmbedding
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
    from .lca import LCAPairs as LCAPairs
    from .lca import LCATriplets as LCATriplets
    from .losses import DepthMarginRankingLoss as DepthMarginRankingLoss
    from .losses import SoftmaxRankingLoss as SoftmaxRankingLoss
    from .losses import StressLoss as StressLoss
    from .losses import TripletLoss as TripletLoss
    from .losses import margin_ranking_loss as margin_ranking_loss
    from .losses import softmax_ranking_loss as softmax_ranking_loss
    from .losses import stress_loss as stress_loss
    from .losses import triplet_loss as triplet_loss
    from .manifolds import PoincareBall as PoincareBall
    from .manifolds import Polar as Polar
    from .margins import ConstantMargin as ConstantMargin
    from .margins import DepthMargin as DepthMargin
    from .margins import TreeMargin as TreeMargin
    from .model import TaxonEmbedding as TaxonEmbedding
    from .model import embed as embed
    from .negatives import CousinNegatives as CousinNegatives
    from .negatives import MixedNegatives as MixedNegatives
    from .negatives import SameDepthNegatives as SameDepthNegatives
    from .negatives import UniformNegatives as UniformNegatives
    from .optimizers import RowwiseRiemannianAdam as RowwiseRiemannianAdam
    from .pairs import AncestorPairs as AncestorPairs
    from .pairs import MixedPairs as MixedPairs
    from .pairs import ParentChildPairs as ParentChildPairs
    from .pairs import StratifiedPairs as StratifiedPairs
    from .projection import clip_gradients as clip_gradients
    from .projection import project_after_step as project_after_step
    from .projection import project_all as project_all
    from .readers import load_sample as load_sample
    from .readers import read as read
    from .readers import read_edges as read_edges
    from .readers import read_lineages as read_lineages
    from .readers import read_ncbi as read_ncbi
    from .readers import read_newick as read_newick
    from .readers import read_parents as read_parents
    from .refinement import refine as refine
    from .regularizers import LinearRadius as LinearRadius
    from .regularizers import NormRegularizer as NormRegularizer
    from .taxonomy import Taxonomy as Taxonomy
    from .taxonomy import TaxonomyError as TaxonomyError
    from .tiles import SharedNegatives as SharedNegatives
    from .training import Run as Run
    from .training import fit as fit
    from .tree_index import TreeIndex as TreeIndex
    from .visualize import disk_layout as disk_layout
    from .visualize import plot_disk as plot_disk

__version__ = "0.1.0"

_HOMES = {
    "checks": ["CheckResult", "check"],
    "closure": ["ClosurePairs"],
    "closure_layout": ["closure_layout"],
    "closure_model": ["ClosureEmbedding"],
    "closure_ranking": ["ClosureRanking", "rank_ancestors"],
    "closure_search": ["refine_closure"],
    "closure_training": ["AngularAdam", "ClosureSoftmax", "nested_start"],
    "cones": ["EntailmentConeLoss", "cone_energy", "entailment_cone_loss"],
    "curriculum": ["Curriculum", "balanced_depths", "join_at_parent", "lift"],
    "early_stopping": ["EarlyStopping"],
    "embedding": ["PoincareEmbedding"],
    "evaluation": ["Report", "evaluate"],
    "geometry": ["ball", "convert", "lorentz", "polar"],
    "geometry.ball": ["cdist", "dist"],
    "layout": ["Layout", "layout"],
    "lca": ["LCAPairs", "LCATriplets"],
    "losses": [
        "DepthMarginRankingLoss",
        "SoftmaxRankingLoss",
        "StressLoss",
        "TripletLoss",
        "margin_ranking_loss",
        "softmax_ranking_loss",
        "stress_loss",
        "triplet_loss",
    ],
    "manifolds": ["PoincareBall", "Polar"],
    "margins": ["ConstantMargin", "DepthMargin", "TreeMargin"],
    "model": ["TaxonEmbedding", "embed"],
    "negatives": ["CousinNegatives", "MixedNegatives", "SameDepthNegatives", "UniformNegatives"],
    "optimizers": ["RowwiseRiemannianAdam"],
    "pairs": ["AncestorPairs", "MixedPairs", "ParentChildPairs", "StratifiedPairs"],
    "projection": ["clip_gradients", "project_after_step", "project_all"],
    "readers": [
        "load_sample",
        "read",
        "read_edges",
        "read_lineages",
        "read_ncbi",
        "read_newick",
        "read_parents",
    ],
    "refinement": ["refine"],
    "regularizers": ["LinearRadius", "NormRegularizer"],
    "taxonomy": ["Taxonomy", "TaxonomyError"],
    "tiles": ["SharedNegatives"],
    "training": ["Run", "fit"],
    "tree_index": ["TreeIndex"],
    "visualize": ["disk_layout", "plot_disk"],
}
_HOME = {name: home for home, names in _HOMES.items() for name in names} | {"kernels": None}

__all__ = sorted(_HOME)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = _HOME[name]
    if home is None:
        return import_module(f".{name}", __name__)
    value = globals()[name] = getattr(import_module(f".{home}", __name__), name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    def __setattr__(self, name: str, value: Any) -> None:
        # Importing a submodule binds its name in the package; these here mean the functions.
        if name in ("layout", "closure_layout") and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
