"""What each coordinate system and dtype resolves: the table and the pictures of docs/numerics.md.

Two siblings one unit below a parent at radius R, nearly at right angles there: about 2 apart for
every R. Each cell is the relative error of the library's distance after their
coordinates have been rounded to the dtype; the siblings lie in a generic direction, or (last
columns) next to a pole, where all coordinates but one are near zero.
"""

from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import torch

from benchmarks.tables import Row
from poincare_taxa.files.atomic import replace_file
from poincare_taxa.geometry import ball, lorentz, polar
from poincare_taxa.pictures.colours import PALETTE
from poincare_taxa.pictures.figures import axes_of

RADII = [1, 3, 5, 8, 12, 16, 20, 30, 40, 80, 160]
DIM = 10


def siblings(radius: float, pole: bool) -> tuple[list, list]:
    """Directions of two siblings around one axis, in 200 digits."""
    mpmath.mp.dps = 200
    axis = [mpmath.mpf(i == 0) for i in range(DIM)]
    if not pole:
        axis = [mpmath.mpf(x) for x in torch.linspace(1, 2, DIM, dtype=torch.float64).tolist()]
    length = mpmath.sqrt(sum(x * x for x in axis))
    axis = [x / length for x in axis]
    angle = 2 * mpmath.exp(-mpmath.mpf(radius)) / mpmath.sqrt(2)
    points = []
    for i in (1, 2):
        tangent = [mpmath.mpf(j == i) - axis[i] * a for j, a in enumerate(axis)]
        norm = mpmath.sqrt(sum(x * x for x in tangent))
        points.append(
            [
                a * mpmath.cos(angle) + t / norm * mpmath.sin(angle)
                for a, t in zip(axis, tangent, strict=True)
            ]
        )
    return points[0], points[1]


def exact(r: float, u: list, v: list) -> float:
    """Distance by the polar law of cosines, in 200 digits."""
    gap = sum((a - b) ** 2 for a, b in zip(u, v, strict=True))
    return float(2 * mpmath.asinh(mpmath.sinh(r) * mpmath.sqrt(gap) / 2))


def stored(points: list, dtype: torch.dtype) -> torch.Tensor:
    """Round exact coordinates to a dtype."""
    return torch.tensor([float(x) for x in points], dtype=torch.float64).to(dtype)


def in_ball(r: float, u: list, dtype: torch.dtype) -> torch.Tensor:
    scale = mpmath.tanh(mpmath.mpf(r) / 2)
    return ball.project(stored([scale * x for x in u], dtype))


def in_lorentz(r: float, u: list, dtype: torch.dtype) -> torch.Tensor:
    return stored([mpmath.cosh(r), *(mpmath.sinh(r) * x for x in u)], dtype)


def error(value: torch.Tensor, true: float) -> float:
    """Relative error; nan is as wrong as can be."""
    relative = abs(float(value) - true) / true
    return relative if relative < 1 else 1.0


def measure() -> list[Row]:
    """Errors of each coordinate system and dtype, one row for each radius."""
    rows = []
    for radius in RADII:
        r = radius + 1.0
        u, v = siblings(radius, pole=False)
        true = exact(r, u, v)
        row: Row = {"parent's radius": radius}
        for name, dtype in [("float32", torch.float32), ("float64", torch.float64)]:
            row[f"ball {name}"] = error(ball.dist(in_ball(r, u, dtype), in_ball(r, v, dtype)), true)
            x, y = in_lorentz(r, u, dtype), in_lorentz(r, v, dtype)
            row[f"Lorentz {name}"] = error(lorentz.dist(x, y), true)
        for place, at_pole in [("polar", False), ("polar, at a pole", True)]:
            u, v = siblings(radius, at_pole)
            for name, dtype in [("float32", torch.float32), ("float64", torch.float64)]:
                length = torch.tensor(r, dtype=dtype)
                value = polar.dist(length, stored(u, dtype), length, stored(v, dtype))
                row[f"{place} {name}"] = error(value, exact(r, u, v))
        rows.append(row)
    return rows


def readable(rows: list[Row]) -> list[Row]:
    """Errors as a page has them: 'lost' from 50 % on."""
    return [
        row
        | {
            key: "lost" if not value < 0.5 else f"{value:.0e}" if value > 1e-16 else "0"
            for key, value in row.items()
            if key != "parent's radius"
        }
        for row in rows
    ]


# -------------------------------------------------------------------- pictures


def draw_errors(rows: list[Row], path: Path) -> None:
    """Draw the errors over the radius up to 40; a straight line is a factor for each unit."""
    ax = axes_of(None, 7.5, 3.8)
    rows = [row for row in rows if row["parent's radius"] <= 40]
    radius = [row["parent's radius"] for row in rows]
    for i, place in enumerate(("ball", "Lorentz", "polar", "polar, at a pole")):
        for dtype, line in (("float32", "--"), ("float64", "-")):
            errors = np.clip([row[f"{place} {dtype}"] for row in rows], 1e-17, 1)
            ax.semilogy(
                radius, errors, f"{'osD^'[i]}{line}", color=PALETTE[i], markersize=4,
                linewidth=1.3, label=f"{place}, {dtype}",
            )  # fmt: skip
    ax.axhline(0.5, color="#606060", linewidth=0.8)
    ax.text(0, 0.8, "lost", va="bottom", color="#606060", fontsize="small")
    ax.set_xlim(0, 41)
    ax.set_xlabel("radius of the parent")
    ax.set_ylabel("relative error of the siblings' distance")
    ax.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    _save(ax, path)


def draw_steps(path: Path) -> None:
    """Draw the distance from a number to the next that a dtype has, over the number."""
    ax = axes_of(None, 7, 3.2)
    for i, dtype in enumerate((np.float32, np.float64)):
        x = np.geomspace(1e-12, 1, 2000, dtype=dtype)
        name = np.dtype(dtype).name
        ax.loglog(x, np.spacing(x), color=PALETTE[2 * i], linewidth=1.6, label=name)
    for x, text, side in ((0.3, "coordinates of a\ngeneric direction", "right"),
                          (1e-10, "coordinates\nnext to a pole", "left")):  # fmt: skip
        ax.axvline(x, color="#606060", linewidth=0.8, linestyle=":")
        shift = 1.4 if side == "left" else 1 / 1.4
        ax.text(x * shift, 3e-14, text, ha=side, va="bottom", fontsize="small", color="#404040")
    ax.set_xlabel("a coordinate")
    ax.set_ylabel("step to the next float")
    ax.legend(frameon=False, loc="upper left")
    _save(ax, path)


def _save(ax: Any, path: Path) -> None:
    """Write a picture that is the same file whenever it is drawn."""
    import matplotlib.pyplot as plt

    ax.spines[["top", "right"]].set_visible(False)
    with plt.rc_context({"svg.hashsalt": path.name}), replace_file(path) as draft:
        ax.figure.savefig(draft, metadata={"Date": None})
    plt.close(ax.figure)
