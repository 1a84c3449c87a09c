"""Provenance: a JSON description of a run's source and settings, to compare runs and to store."""

import hashlib
from collections.abc import Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.schedules import value_at
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.files.records import as_json
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["called", "described", "fingerprint", "node_names", "translated"]

Source = Taxonomy | ClosurePairs


def node_names(source: Source) -> pl.Series:
    """Ids of the rows, or names; the numbers of the rows where they have none.

    Raises
    ------
    TypeError
        If the source is neither a taxonomy nor pairs.
    """
    if isinstance(source, Taxonomy):
        return source.ids
    if not isinstance(source, ClosurePairs):
        raise TypeError(
            f"source is a Taxonomy (pt.read(path)) or ClosurePairs; got {type(source).__name__}"
        )
    if source.names is not None:
        return source.names
    return pl.Series("name", np.arange(source.num_nodes))


def called(rows: Tensor, names: pl.Series) -> str:
    """Text that names rows: how many, and the first of them with their ids."""
    first = rows[:5].tolist()
    listed = ", ".join(f"{row} (id {names[row]})" for row in first)
    plural = "row" if len(rows) == 1 else "rows"
    return f"{len(rows):,} {plural}: {listed}{', …' if len(rows) > 5 else ''}"


def fingerprint(source: Source) -> dict[str, Any]:
    """Describe a source by its number of nodes and a hash of its shape and its ids."""
    digest = hashlib.sha256()
    if isinstance(source, Taxonomy):
        digest.update(source.tree.parent.tobytes())
    else:
        digest.update(source.pairs.cpu().numpy().tobytes())
    names = node_names(source)
    digest.update("\n".join(names.cast(pl.String).fill_null("")).encode())
    return {"nodes": len(names), "sha256": digest.hexdigest()}


def described(value: Any) -> Any:
    """Describe a block by its class and its settings, as JSON has them."""
    return as_json(value, _described_object)


def _described_object(value: Any) -> Any:
    match value:
        case partial():
            return [value.func, value.keywords]
        case Tensor():
            return hashlib.sha256(value.detach().cpu().numpy().tobytes()).hexdigest()[:12]
        case TreeIndex() | Taxonomy() | pl.Series() | np.ndarray():
            return type(value).__name__
    if is_dataclass(value):
        return repr(value)
    if hasattr(value, "__qualname__"):
        return value.__qualname__
    settings = {k: v for k, v in vars(value).items() if not k.startswith("_")}
    size = {"size": len(value)} if hasattr(value, "__len__") else {}
    return {"class": type(value).__name__, **size, **settings}


def translated(stored: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """Express the settings of a checkpoint in the arguments that `fit` has now.

    The first versions had ``measure_every``, which did not change what was learned, and
    ``burn_in``: epochs at the beginning with a tenth of the step, which a schedule says today.
    Their optimizer had no ``weight_decay``, which tables of points do not have, and
    `ClosureSoftmax` had no ``limit``.
    """
    settings = dict(stored)
    settings.pop("measure_every", None)
    match settings.get("optimizer"):
        case ["RowwiseRiemannianAdam", dict() as sizes]:
            added = {"weight_decay": now["optimizer"][1].get("weight_decay")}
            settings["optimizer"] = ["RowwiseRiemannianAdam", added | sizes]
    match settings.get("objective"):
        case {"class": "ClosureSoftmax", **given}:
            settings["objective"] = {"class": "ClosureSoftmax", "limit": 0.0, **given}
    burn_in, schedule = settings.pop("burn_in", 0), settings.get("lr_schedule")
    if burn_in and isinstance(schedule, str):
        # a callable is described by its name alone: that of today's cannot be compared with it
        settings["lr_schedule"] = now["lr_schedule"]
    elif burn_in:
        steps: Any = schedule or [(0, 1.0)]
        starts = sorted({0, burn_in, *(start for start, _ in steps)})
        settings["lr_schedule"] = [
            [start, (0.1 if start < burn_in else 1.0) * value_at(steps, start)] for start in starts
        ]
    return settings
