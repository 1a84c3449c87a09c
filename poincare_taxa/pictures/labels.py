"""A disk with its title, names and legend inside one pair of axes, of whatever size.

Everything is placed by the measured sizes of its texts: the title at the top, the legend or colour
bar at the bottom, names in a column on each side, and the disk in the room that is left. So no text
lies over another one or leaves the axes, in a figure of its own as in a small sub-plot. The places
are computed again whenever the axes are drawn in another size.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox, TransformedBbox
from numpy.typing import NDArray

__all__ = ["Frame", "Name"]

_COLUMN = 0.23  # Largest width of a column of names, as a share of the axes.
_TEXTS = 0.35  # Largest height of the title, and of the legend, as a share of the axes.
_LEAST_COLUMN = 36.0  # Points of a column below which names are left out.
_SLACK = 1.03  # Texts are this much wider than measured in another file format.
_INK = "#202020"


@dataclass
class Name:
    """A name beside the disk, and the point of the disk that it is for."""

    text: str
    point: NDArray[np.float64]
    color: Any
    count: str = ""  # Behind the name, where there is room.


@dataclass
class _Label:
    """A name with its artists."""

    name: Name
    text: Text
    line: Line2D


@dataclass
class _Entry:
    """An entry of the legend with its artists."""

    full: str
    text: Text
    mark: Line2D


class _Inside:
    """Locator of inner axes: a box in coordinates of the outer ones."""

    def __init__(self, outer: Axes) -> None:
        self.outer, self.box = outer, Bbox.unit()

    def __call__(self, axes: Any, renderer: Any) -> Any:
        inside: Any = TransformedBbox(self.box, self.outer.transData)
        return TransformedBbox(inside, self.outer.figure.transSubfigure.inverted())


@dataclass
class Frame:
    """Places of everything in the axes of a disk; a locator of matplotlib, called at each drawing.

    Parameters
    ----------
    ax
        The axes. The disk is the unit disk of their coordinates.
    title, subtitle
        Texts at the top.
    names
        Names in the order of their importance: where there is no room the last are left out.
    legend
        Name and colour of each category.
    scale
        What a colour bar shows, and its label; None without one.
    """

    ax: Axes
    title: str
    subtitle: str
    names: list[Name] = field(default_factory=list)
    legend: dict[str, Any] = field(default_factory=dict)
    scale: Any = None
    scale_label: str = ""

    def __post_init__(self) -> None:
        ax = self.ax
        self._size: tuple[float, ...] = ()

        def write(text: str, **how: Any) -> Text:
            return ax.text(0, 0, text, color=_INK, clip_on=False, parse_math=False, **how)

        self._title = write(self.title, va="top", fontweight="bold")
        self._subtitle = write(self.subtitle, va="top")
        self._labels = []
        for name in self.names:
            line = Line2D([], [], color=name.color, linewidth=0.9, zorder=4, clip_on=False)
            self._labels.append(_Label(name, write(name.text, va="center"), ax.add_line(line)))
        self._entries = []
        for text, color in self.legend.items():
            mark = Line2D([], [], marker="o", linestyle="", color=color)
            mark.set_clip_on(False)
            self._entries.append(_Entry(text, write(text, va="center"), ax.add_line(mark)))
        self._bar_at, self._bar = _Inside(ax), None
        if self.scale is not None:
            inner = ax.inset_axes((0, 0, 1, 1))
            inner.set_axes_locator(self._bar_at)
            bar = ax.figure.colorbar(self.scale, cax=inner, orientation="horizontal")
            bar.outline.set_visible(False)
            self._bar = bar
        # All of it lies inside the axes: layout engines of matplotlib need not look for room.
        for artist in (*ax.texts, *ax.lines, *ax.child_axes):
            artist.set_in_layout(False)
        ax.set_axes_locator(self)
        self(ax, None)

    def __call__(self, axes: Any, renderer: Any) -> Bbox:
        """Place everything, if the size of the axes has changed; returns where the axes are."""
        position = axes.get_position(original=True)
        box = TransformedBbox(position, axes.figure.transSubfigure)
        dpi = axes.figure.dpi
        size = tuple(round(part / dpi, 4) for part in (box.x0, box.y0, box.width, box.height))
        if (*size, dpi) != self._size and min(box.width, box.height) > 1:
            self._size = (*size, dpi)
            self._arrange(box, renderer, dpi / 72)
        return position

    # ---------------------------------------------------------------- the steps

    def _arrange(self, box: Any, renderer: Any, point: float) -> None:
        """Place everything in a box of pixels; a point of typography has so many pixels."""
        self._renderer, self._point = renderer, point
        inches = min(box.width, box.height) / (72 * point)
        self._font = float(np.clip(4.2 + 0.75 * inches, 5.0, 10.0))
        pad = 2 * point
        self._places: list[tuple[Text | Line2D, float, float]] = []
        # 1. Title at the top, legend or colour bar at the bottom; between them is the disk.
        top = self._place_title(box, pad)
        bottom = self._place_legend(box, pad)
        if self._bar is not None:
            bottom = self._place_bar(box, bottom, pad)
        height = max(top - bottom, 10 * point)
        # 2. Widths of the columns of names, and the disk between them.
        gap = 1.4 * self._font * point
        columns = self._choose_names(box.width, height)
        wide = {
            side: max((self._width(label.text) * _SLACK for label in labels), default=0.0)
            for side, labels in columns.items()
        }
        taken = {side: (width + gap if width else 0.0) + 2 * pad for side, width in wide.items()}
        radius = max(min(height / 2 - 2 * pad, (box.width - sum(taken.values())) / 2), 5 * point)
        slack = box.width - sum(taken.values()) - 2 * radius
        centre = np.array(
            [box.x0 + taken["left"] + radius + slack / 2, (top + bottom) / 2], np.float64
        )
        low = (np.array([box.x0, box.y0]) - centre) / radius
        high = (np.array([box.x1, box.y1]) - centre) / radius
        self.ax.set_xlim(low[0], high[0])
        self.ax.set_ylim(low[1], high[1])
        # 3. Names from bottom to top on each side, with lines to their points.
        line = self._line_height()
        for side, sign in (("left", -1), ("right", 1)):
            labels = sorted(columns[side], key=lambda label: _rim(label.name.point)[1])
            wanted = np.array([centre[1] + radius * _rim(x.name.point)[1] for x in labels])
            heights = _apart(wanted, line, bottom + line / 2, top - line / 2)
            for label, y in zip(labels, heights, strict=True):
                x = centre[0] + sign * (radius + gap)
                self._places.append((label.text, x, y))
                label.text.set_horizontalalignment("right" if sign < 0 else "left")
                end = (np.array([x - sign * 0.2 * gap, y]) - centre) / radius
                knee = [sign * (1 + 0.35 * gap / radius), end[1]]
                label.line.set_data(*np.array([label.name.point, knee, end]).T)
        # 4. All places in the coordinates of the disk, which move with the axes.
        for artist, *place in self._places:
            x, y = (np.array(place) - centre) / radius
            if isinstance(artist, Text):
                artist.set_position((x, y))
            else:
                artist.set_data([x], [y])
        if self._bar is not None:
            corners = (self._bar_corners - centre) / radius
            self._bar_at.box = Bbox(corners)

    def _place_title(self, box: Any, pad: float) -> float:
        """Wrap title and subtitle to the width; returns the lower end of both."""
        top = box.y1 - pad
        for text, words, size in (
            (self._title, self.title, 1.15 * self._font),
            (self._subtitle, self.subtitle, 0.9 * self._font),
        ):
            text.set_fontsize(size)
            lines = int((top - box.y1 + _TEXTS * box.height) / (1.4 * size * self._point))
            shown = bool(words) and lines > 0
            text.set_visible(shown)
            if shown:
                text.set_text(self._wrapped(text, words, box.width - 4 * pad, lines))
                self._places.append((text, box.x0 + 2 * pad, top))
                top -= self._height(text) + 0.35 * self._font * self._point
        return top - pad

    def _wrapped(self, text: Text, words: str, width: float, most: int) -> str:
        """Words in lines of a width; what is beyond the last line is cut."""
        lines = [""]
        for word in words.split(" "):
            longer = f"{lines[-1]} {word}".strip()
            text.set_text(longer)
            if lines[-1] and len(lines) < most and self._width(text) * _SLACK > width:
                lines.append(word)
            else:
                lines[-1] = longer
        return "\n".join(self._shortened(text, line, width) for line in lines)

    def _shortened(self, text: Text, full: str, width: float) -> str:
        """Return the text, or as much of it as is at most so wide, with an ellipsis."""
        text.set_text(full)
        if self._width(text) * _SLACK <= width:
            return full
        low, high = 0, len(full)
        while low < high:
            middle = (low + high + 1) // 2
            text.set_text(full[:middle].rstrip() + "…")
            low, high = (middle, high) if self._width(text) * _SLACK <= width else (low, middle - 1)
        return full[:low].rstrip() + "…"

    def _place_legend(self, box: Any, pad: float) -> float:
        """Place the entries in rows, from the bottom up; returns the upper end."""
        if not self._entries:
            return box.y0 + pad
        mark, between, widest = (part * self._font * self._point for part in (1.1, 1.2, 18))
        line, rows, x = self._line_height(), [list[tuple[float, _Entry]]()], 0.0
        for entry in self._entries:
            entry.text.set_visible(True)  # What cannot be seen cannot be measured.
            entry.text.set_fontsize(self._font)
            room = min(widest, box.width - 4 * pad - mark)
            entry.text.set_text(self._shortened(entry.text, entry.full, room))
            wide = mark + self._width(entry.text) * _SLACK
            if rows[-1] and x + wide > box.width - 4 * pad:
                rows.append([])
                x = 0.0
            rows[-1].append((x, entry))
            x += wide + between
        most = max(int(_TEXTS * box.height / line), 1)
        for _, entry in (pair for row in rows[most:] for pair in row):
            entry.text.set_visible(False)
            entry.mark.set_visible(False)
        rows = rows[:most]
        for i, row in enumerate(reversed(rows)):
            y = box.y0 + pad + line * (i + 0.5)
            for x, entry in row:
                entry.mark.set_visible(True)
                self._places.append((entry.mark, box.x0 + 2 * pad + x + mark / 3, y))
                entry.mark.set_markersize(0.6 * self._font)
                self._places.append((entry.text, box.x0 + 2 * pad + x + mark, y))
        return box.y0 + pad + line * len(rows)

    def _place_bar(self, box: Any, bottom: float, pad: float) -> float:
        """Place the colour bar above its ticks; returns the upper end."""
        assert self._bar is not None
        axis, unit = self._bar.ax.xaxis, self._font * self._point
        axis.set_tick_params(labelsize=0.85 * self._font, length=2, pad=1)
        self._bar.set_label(self.scale_label, fontsize=0.9 * self._font, labelpad=1)
        low = bottom + unit * (2.9 if self.scale_label else 1.5)
        inset = 0.2 * box.width
        ends = (box.x0 + inset, low), (box.x1 - inset, low + 0.7 * unit)
        self._bar_corners = np.array(ends)
        return low + 0.7 * unit + pad

    def _choose_names(self, width: float, height: float) -> dict[str, list[_Label]]:
        """Names of each side: those that there is room for, the most important first."""
        line = self._line_height()
        capacity = int(height / line)
        room = _COLUMN * width
        columns: dict[str, list[_Label]] = {"left": [], "right": []}
        for label in self._labels:
            side = "left" if label.name.point[0] < 0 else "right"
            shown = room >= _LEAST_COLUMN * self._point and len(columns[side]) < capacity
            label.text.set_visible(shown)
            label.line.set_visible(shown)
            if shown:
                label.text.set_fontsize(self._font)
                label.text.set_text(self._with_count(label, room))
                columns[side].append(label)
        return columns

    def _with_count(self, label: _Label, room: float) -> str:
        """Name and count; without room for both, as much of the name as there is room for."""
        both = f"{label.name.text}  {label.name.count}".rstrip()
        label.text.set_text(both)
        if self._width(label.text) * _SLACK <= room:
            return both
        return self._shortened(label.text, label.name.text, room)

    # ---------------------------------------------------------------- measures

    def _width(self, text: Artist) -> float:
        return text.get_window_extent(self._renderer).width

    def _height(self, text: Artist) -> float:
        return text.get_window_extent(self._renderer).height

    def _line_height(self) -> float:
        return 1.45 * self._font * self._point


def _rim(point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Point of the rim in the direction of a point."""
    return point / max(float(np.linalg.norm(point)), 1e-300)


def _apart(wanted: NDArray[np.float64], gap: float, low: float, high: float) -> NDArray[np.float64]:
    """Ascending heights between two ends, at least `gap` apart, close to those wanted.

    After subtraction of i·gap from the i-th height the condition is that heights do not descend,
    which is isotonic regression (least squares).
    """
    from scipy.optimize import isotonic_regression

    if len(wanted) == 0:
        return wanted
    steps = gap * np.arange(len(wanted))
    return isotonic_regression(wanted - steps).x.clip(low, high - steps[-1]) + steps
