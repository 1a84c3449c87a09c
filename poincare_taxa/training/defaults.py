"""Defaults of `fit`: objective, optimizer and schedule where none are given."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from poincare_taxa.blocks.belonging import require_belonging
from poincare_taxa.blocks.closure_pairs import ClosurePairs
from poincare_taxa.blocks.cones import EntailmentConeLoss
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.losses import (
    DepthMarginRankingLoss,
    SoftmaxRankingLoss,
    StressLoss,
    TripletLoss,
)
from poincare_taxa.blocks.margins import TreeMargin
from poincare_taxa.blocks.negatives import SharedNegatives, UniformNegatives
from poincare_taxa.blocks.optimizers import AngularAdam, RowwiseRiemannianAdam
from poincare_taxa.blocks.pairs import AncestorPairs, LCAPairs, LCATriplets
from poincare_taxa.blocks.schedules import Cosine, Schedule, value_at
from poincare_taxa.blocks.tree_index import Movable, TreeIndex
from poincare_taxa.closure.softmax import ClosureSoftmax
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.training.level_stress import LevelStress
from poincare_taxa.training.objectives import Objective, Ranking, Stress, Triplets

__all__ = ["MakeOptimizer", "Recipe", "recipe"]

MakeOptimizer = Callable[[Iterable[Any]], torch.optim.Optimizer]

_EPOCHS = 20
_LEVEL_LR = 0.2
_LR = 0.05
_RADIUS_LR = 0.1  # Of closure training; its angle depends on the dimension.


@dataclass(frozen=True)
class Recipe:
    """What to train, with what, for how long."""

    objective: Any
    optimizer: MakeOptimizer
    epochs: int
    lr_schedule: Schedule | Callable[[float], float] | None = None

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise ValueError(f"epochs must be at least 1; got {self.epochs}")
        stages = self.objective.epochs
        if stages is not None and self.epochs > stages:
            raise ValueError(
                f"{self.epochs} epochs, but there are {stages} stages to train (levels of the tree,"
                " or the objective's own epochs); give at most as many, or leave epochs out"
            )
        self.lr_factor(0)

    def lr_factor(self, epoch: float) -> float:
        """Factor of the step size at an epoch, which may be a fraction."""
        schedule: Any = self.lr_schedule
        if schedule is None:
            return 1.0
        factor: Any = schedule(epoch) if callable(schedule) else value_at(schedule, int(epoch))
        return float(factor)


def recipe(
    source: Taxonomy | ClosurePairs,
    embedding: PoincareEmbedding,
    objective: Any,
    blocks: dict[str, Any],
    sizes: dict[str, int | None],
    optimizer: MakeOptimizer | None,
    lr: float | None,
    ignore: Any = None,
) -> Recipe:
    """Choose a recipe.

    Parameters
    ----------
    source, embedding
        What is trained, and its table.
    objective
        Replaces the blocks.
    blocks
        ``pairs``, ``negatives``, ``loss``, ``regularizer``, ``curriculum``; None for the default.
    sizes
        ``batch_size``, ``steps_per_epoch``; None for the default.
    optimizer, lr
        An optimizer, or the step of the default one.
    ignore
        Pairs of a DAG that are no negatives.
    """
    if optimizer is not None and lr is not None:
        raise ValueError(
            "lr is that of the default optimizer; give yours its own step size, for example "
            "optimizer=partial(torch.optim.Adam, lr=0.01)"
        )
    if objective is not None and not isinstance(objective, Objective):
        raise TypeError(
            f"objective is a {type(objective).__name__}, which fit cannot call by epochs: make it "
            "a class that inherits from training.Objective and has steps_per_epoch and __call__"
        )
    if lr is not None and not lr > 0:
        raise ValueError(f"lr must be positive; got {lr}")
    sized = {name: size for name, size in sizes.items() if size is not None}
    given = [name for name, block in blocks.items() if block is not None] + list(sized)
    require_belonging(source, {"objective": objective, **blocks})
    adam = partial(RowwiseRiemannianAdam, lr=lr or _LR)
    if ignore is not None:
        _require_default_negatives(source, objective, blocks["negatives"])
    if objective is not None and given:
        raise ValueError(f"an objective has {', '.join(given)} of its own: give it these")
    if objective is None and isinstance(source, ClosurePairs) and not set(given) - {"batch_size"}:
        objective = ClosureSoftmax(source.to(embedding.weight.device), ignore=ignore, **sized)
    if isinstance(objective, ClosureSoftmax):
        angle = lr or objective.step(embedding.embedding_dim)
        adam = partial(AngularAdam, lr=angle, radius_ratio=_RADIUS_LR / angle)
        schedule = Cosine(period=objective.epochs, last=0.0)
        return Recipe(objective, optimizer or adam, objective.epochs, schedule)
    if objective is not None:
        return Recipe(objective, optimizer or adam, objective.epochs or _EPOCHS)
    device = embedding.weight.device
    if isinstance(source, Taxonomy) and not set(given) - {"batch_size"}:
        tree = TreeIndex(source).to(device)
        tau, passes = _edges(source, embedding)
        level = LevelStress(tree, tau=tau, passes=passes, **sized)
        # short memory: partners stand still or settle within tens of steps
        adam = partial(RowwiseRiemannianAdam, lr=lr or _LEVEL_LR, betas=(0.9, 0.95))
        return Recipe(level, optimizer or adam, tree.max_depth, Cosine(period=1, last=0.05))
    sparse = optimizer is None or embedding.sparse
    options = {**sized, "sparse": sparse, "regularizer": blocks["regularizer"]}
    options["curriculum"] = blocks["curriculum"]
    pairs, negatives = (_moved(blocks[name], device) for name in ("pairs", "negatives"))
    if isinstance(source, ClosurePairs):
        source.warn_unless_closed()
        made = _over_closure(source.to(device), pairs, negatives, blocks["loss"], options, ignore)
    else:
        tree = TreeIndex(source).to(device)
        made = _over_tree(tree, pairs, negatives, blocks["loss"], options)
    return Recipe(made, optimizer or adam, _EPOCHS)


def _edges(tax: Taxonomy, embedding: PoincareEmbedding) -> tuple[float, int]:
    """Distance per edge, the layout's or what the dtype holds of the deepest; passes of a level.

    With branch lengths, the distance per unit of length that gives the mean edge as much. Where
    edges are shorter than the layout's, cousins are harder to tell from siblings: of Echinodermata
    at 0.895 an edge, precision@10 is 0.989 after 50 passes and 0.997 after 100.
    """
    wanted = (0.85 + 3 / (embedding.embedding_dim - 1)) / tax.tree.mean_edge
    most = LevelStress.deepest(embedding.weight.dtype) / (float(tax.tree.height.max()) or 1.0)
    return (wanted, 50) if wanted <= most else (most, 100)


def _over_tree(
    tree: TreeIndex, pairs: Any, negatives: Any, loss: Any, options: dict[str, Any]
) -> Objective:
    if isinstance(loss, StressLoss | TripletLoss):
        if negatives is not None:
            raise ValueError(
                f"{type(loss).__name__} takes no negatives: it draws all its nodes itself; leave "
                "them out"
            )
        if isinstance(loss, StressLoss):
            return Stress(tree, LCAPairs(tree) if pairs is None else pairs, loss, **options)
        return Triplets(tree, LCATriplets(tree) if pairs is None else pairs, loss, **options)
    if negatives is None:
        anchor = loss.anchor if isinstance(loss, EntailmentConeLoss) else "descendant"
        negatives = UniformNegatives(tree, 50, anchor=anchor)
    if loss is None:
        loss = DepthMarginRankingLoss(margin=TreeMargin(1.0))
    return Ranking(
        tree, AncestorPairs(tree) if pairs is None else pairs, negatives, loss, **options
    )


def _over_closure(
    source: ClosurePairs,
    pairs: Any,
    negatives: Any,
    loss: Any,
    options: dict[str, Any],
    ignore: Any,
) -> Objective:
    if isinstance(loss, StressLoss | TripletLoss):
        raise ValueError(
            f"{type(loss).__name__} asks for tree distances, and a DAG has none: give a taxonomy, "
            "or another loss such as SoftmaxRankingLoss"
        )
    if negatives is None:
        anchor = loss.anchor if isinstance(loss, EntailmentConeLoss) else "descendant"
        negatives = SharedNegatives(source, 1024, anchor=anchor, exclude="positives", ignore=ignore)
    loss = SoftmaxRankingLoss() if loss is None else loss
    return Ranking(None, source if pairs is None else pairs, negatives, loss, **options)


def _require_default_negatives(
    source: Taxonomy | ClosurePairs, objective: Any, negatives: Any
) -> None:
    """Refuse pairs to ignore where it is not `fit` that makes the negatives."""
    if isinstance(source, Taxonomy):
        raise ValueError("ignore is for the pairs of a DAG: in a tree no relative is a negative")
    for block in (objective, negatives):
        if block is not None:
            raise ValueError(
                f"ignore is for the default negatives; give it to {type(block).__name__}, or to "
                "the sampler that it draws from"
            )


def _moved(block: Any, device: torch.device) -> Any:
    return block.to(device) if isinstance(block, Movable) else block
