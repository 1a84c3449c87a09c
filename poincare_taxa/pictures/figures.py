"""Axes to draw into, and files to write (extra ``[viz]``)."""

from pathlib import Path
from typing import TYPE_CHECKING

from poincare_taxa.files.atomic import replace_file
from poincare_taxa.files.extras import import_extra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_of", "save_figure"]


def axes_of(ax: "Axes | None", width: float, height: float) -> "Axes":
    """Return the axes; those of a new figure of so many inches where there are none.

    Raises
    ------
    ImportError
        If matplotlib is not installed, with the command that installs it.
    """
    import_extra("matplotlib", "viz")
    pyplot = import_extra("matplotlib.pyplot", "viz")
    if ax is not None:
        return ax
    made: Axes = pyplot.subplots(figsize=(width, height), layout="constrained")[1]
    return made


def save_figure(ax: "Axes", path: str | Path) -> None:
    """Write the figure of `ax` as a picture in the format of the ending of `path`.

    Parameters
    ----------
    ax
        Axes of the figure, as every function of this room returns them.
    path
        The file, such as ``disk.png``, ``.svg`` or ``.pdf``; its folder is created if necessary.
    """
    from matplotlib.figure import Figure

    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    with replace_file(path) as draft:
        figure.savefig(draft, dpi=200)
