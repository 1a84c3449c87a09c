"""What shows a run while it is trained: a progress bar or lines in a log, and TensorBoard."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poincare_taxa.files.progress import progress_display

__all__ = ["TensorBoard", "progress_bar"]

History = list[dict[str, Any]]
_SHOWN = {"loss": "loss", "depth_radius": "depth–radius", "spearman": "Spearman"}


@contextmanager
def progress_bar(wanted: bool | None, epochs: int) -> Iterator[Callable[[History], None]]:
    """Show on standard error: epochs, and the latest measures beside those of the start."""
    with progress_display(wanted) as show:
        yield lambda history: show(_line(history, epochs), history[-1]["epoch"], epochs)


def _line(history: History, epochs: int) -> str:
    parts = [f"epoch {history[-1]['epoch']}/{epochs}"]
    for name, label in _SHOWN.items():
        known = [row[name] for row in history if name in row]
        if known:
            floor = f" (start {known[0]:.2f})" if name in history[0] else ""
            parts.append(f"{label} {known[-1]:.3g}{floor}")
    return " · ".join(parts)


class TensorBoard:
    """Callback of `fit` that writes each row of the history to TensorBoard.

    Parameters
    ----------
    log_dir
        Folder that TensorBoard reads.

    Raises
    ------
    ImportError
        If TensorBoard is not installed.
    """

    def __init__(self, log_dir: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise ImportError(
                "TensorBoard is not installed: `pip install tensorboard`, or read run.history"
            ) from error
        self._writer = SummaryWriter(str(log_dir))

    def __call__(self, row: Mapping[str, Any], embedding: object) -> None:
        """Write a row."""
        for name, value in row.items():
            if name != "epoch":
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()
