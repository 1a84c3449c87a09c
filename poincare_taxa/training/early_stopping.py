"""When to stop, and which epoch was the best: by any column of the history."""

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

__all__ = ["EarlyStopping"]

_HIGHER = ("depth_radius", "spearman", "separation/", "pair_accuracy")
_OF_TRAINING = ("loss", "share/", "lr", "gradient_norm", "projected")
_LOWER = ("loss", "share/", "gradient_norm", "projected", "at_clip", "seconds")


@dataclass(frozen=True)
class EarlyStopping:
    """Keep the best epoch; stop after ``patience`` epochs without a better one.

    Attributes
    ----------
    metric
        Column of the history, for example "depth_radius" or "loss"; one that a callback adds must
        be there from epoch 0 on.
    patience
        Epochs without a better one after which the run ends, at least 1; None never ends it.
    mode
        "max" or "min": which direction is better. Known for the columns that `fit` makes itself.

    Raises
    ------
    ValueError
        If ``patience < 1``, or the direction of the metric is not known.
    """

    metric: str
    patience: int | None = None
    mode: Literal["max", "min"] | None = None

    def __post_init__(self) -> None:
        if self.patience is not None and self.patience < 1:
            raise ValueError(f"patience must be at least 1, or None; got {self.patience}")
        if self.mode not in (None, "max", "min"):
            raise ValueError(f"mode must be 'max' or 'min'; got {self.mode!r}")
        if self.mode is None and not self.metric.startswith((*_HIGHER, *_LOWER)):
            raise ValueError(f"say mode='max' or 'min': is a high {self.metric!r} good or bad?")

    def require(self, columns: Collection[str], *, begun: bool) -> None:
        """Refuse a metric that the history does not have.

        Parameters
        ----------
        columns
            Those of the latest epoch.
        begun
            Whether any epoch was trained: the loss and its terms are not known before.

        Raises
        ------
        ValueError
            If the metric is none of them.
        """
        later = () if begun else _OF_TRAINING
        if self.metric in columns or self.metric.startswith(later):
            return
        known = ", ".join(key for key in columns if key not in ("epoch", "steps"))
        after = "" if begun else "; loss, lr and others of training follow"
        raise ValueError(f"no metric {self.metric!r} in the history; there are {known}{after}")

    def better(self, value: float, best: float) -> bool:
        """Whether a value improves on the best so far, nan if there is none; nan never does."""
        if math.isnan(value) or math.isnan(best):
            return not math.isnan(value)
        up = self.mode == "max" if self.mode else self.metric.startswith(_HIGHER)
        return value > best if up else value < best
