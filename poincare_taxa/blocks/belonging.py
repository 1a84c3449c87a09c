"""Whether blocks belong together: whether they are made of one tree, or of pairs of one DAG.

Rows of another tree are no error that a computation could notice: it trains on wrong pairs.
Identity is that of content (`Tree.fingerprint`), so that a taxonomy that was saved and loaded, or
read again, belongs to itself.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl
import torch
from torch import Tensor

from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["require_belonging"]

_Source = Taxonomy | Tree | TreeIndex | ClosurePairs
_DEEPEST = 4  # blocks inside of blocks: an objective's mixed negatives' candidates' tree


def require_belonging(source: _Source, blocks: Mapping[str, Any]) -> None:
    """Refuse blocks that are made of another tree, or of pairs of other nodes, than the source.

    Parameters
    ----------
    source
        What is trained.
    blocks
        Blocks by what they are called in the message; None is left out.

    Raises
    ------
    ValueError
        With the name of the first block that does not belong to the source.
    """
    for name, block in blocks.items():
        for part in _parts(block, _DEEPEST):
            if (why := _difference(source, part)) is not None:
                raise ValueError(
                    f"{name} ({type(block).__name__}) belongs to {why}: its rows are other nodes; "
                    "make it from what is trained"
                )


def _parts(block: Any, deepest: int) -> Iterator[_Source]:
    """Trees and pairs that a block holds."""
    if isinstance(block, _Source):
        yield block
    elif isinstance(block, list | tuple):
        for one in block:
            yield from _parts(one, deepest)
    elif deepest and hasattr(block, "__dict__") and not isinstance(block, Tensor | type):
        for value in vars(block).values():
            yield from _parts(value, deepest - 1)


def _difference(source: _Source, part: _Source) -> str | None:
    """Describe what a part is of, where this is not the source."""
    nodes, others = _nodes(source), _nodes(part)
    if nodes != others:
        return f"{others:,} nodes, where there are {nodes:,}"
    if isinstance(source, ClosurePairs) and isinstance(part, ClosurePairs):
        return None if _related(source, part) else "other pairs"
    if isinstance(source, ClosurePairs) or isinstance(part, ClosurePairs):
        names, ids = _names(source), _names(part)
        same = names is None or ids is None or names.equals(ids)
        return None if same else "pairs whose names are not the ids of the taxonomy"
    return None if _fingerprint(source) == _fingerprint(part) else "another tree of as many nodes"


def _nodes(source: _Source) -> int:
    return source.num_nodes if isinstance(source, ClosurePairs) else len(source)


def _names(source: _Source) -> pl.Series | None:
    if isinstance(source, Taxonomy):
        return source.ids.cast(pl.String).alias("name")
    names = source.names if isinstance(source, ClosurePairs) else None
    return None if names is None else names.cast(pl.String).alias("name")


def _fingerprint(source: Taxonomy | Tree | TreeIndex) -> str:
    return source.tree.fingerprint if isinstance(source, Taxonomy) else source.fingerprint


def _related(source: ClosurePairs, part: ClosurePairs) -> bool:
    """Whether pairs are of the same nodes.

    They are if their names are; of nodes without names, if all pairs of one are pairs of the other,
    such as the edges of a closure.
    """
    names, others = _names(source), _names(part)
    if names is not None and others is not None:
        return names.equals(others)
    if source.fingerprint == part.fingerprint:
        return True
    keys = [p.pairs.cpu() @ torch.tensor([source.num_nodes, 1]) for p in (source, part)]
    fewer, more = sorted(keys, key=len)
    return bool(torch.isin(fewer, more).all())
