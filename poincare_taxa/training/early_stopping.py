"""When to stop, and which epoch was the best: by any column of the history."""

import math
from dataclasses import dataclass
from typing import Literal

__all__ = ["EarlyStopping"]

_HIGHER = ("depth_radius", "spearman", "separation/", "pair_accuracy")
_LOWER = ("loss", "share/", "gradient_norm", "projected", "at_clip", "seconds")


@dataclass(frozen=True)
class EarlyStopping:
    """Keep the best epoch, and stop when it is long ago.

    Attributes
    ----------
    metric
        Column of the history, for example "depth_radius" or "loss".
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

    def better(self, value: float, best: float) -> bool:
        """Whether a value improves on the best so far, nan if there is none; nan never does."""
        if math.isnan(value) or math.isnan(best):
            return not math.isnan(value)
        up = self.mode == "max" if self.mode else self.metric.startswith(_HIGHER)
        return value > best if up else value < best
