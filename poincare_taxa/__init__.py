"""Taxonomies as hyperbolic vectors: distance means relatedness, radius means depth.

The public names are those of ``__init__.pyi``. Each is imported when it is first used, so that
reading a taxonomy does not import torch, and ``poincare-taxa --help`` imports neither. Other names
are in the rooms, such as ``pt.blocks``, ``pt.training``, ``pt.closure`` and ``pt.evaluation``;
``docs/architecture.md`` describes them.
"""

from typing import Any

import lazy_loader

__version__ = "0.1.0"

_public_name, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

# Room of each name and module that was at the front door before there were rooms. The next release
# removes this table.
_MOVED = {
    "blocks": "AngularAdam "
    "LCAPairs LCATriplets TreeIndex balanced_depths clip_gradients cone_energy "
    "entailment_cone_loss join_at_parent lift margin_ranking_loss project_all "
    "softmax_ranking_loss stress_loss triplet_loss "
    "cones curriculum embedding losses manifolds margins negatives optimizers pairs "
    "projection regularizers schedules tree_index",
    "closure": "ClosureRanking ClosureSoftmax nested_start rank_ancestors",
    "evaluation": "Report metrics ranks report",
    "layouts": "Layout codes refinement",
    "model": "CheckResult checks planning storage",
    "pictures": "disk_layout",
    "training": "Run checkpoint config early_stopping objectives",
}


def __getattr__(name: str) -> Any:
    for room, names in _MOVED.items():
        if name in names.split():
            raise AttributeError(f"poincare_taxa.{name} is poincare_taxa.{room}.{name} now")
    return _public_name(name)
