"""What shows a run while it is trained: a progress bar in the terminal, and TensorBoard."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

__all__ = ["TensorBoard", "progress_bar"]

History = list[dict[str, Any]]
_SHOWN = {"loss": "loss", "depth_radius": "depth–radius", "spearman": "Spearman"}


@contextmanager
def progress_bar(wanted: bool | None, epochs: int) -> Iterator[Callable[[History], None]]:
    """Draw a bar on standard error: epochs, and the latest measures beside those of the start."""
    if not (sys.stderr.isatty() if wanted is None else wanted):
        yield lambda history: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()
    console = Console(stderr=True, force_terminal=wanted)
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=epochs)

        def show(history: History) -> None:
            bar.update(task, completed=history[-1]["epoch"], description=_line(history, epochs))

        yield show


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
