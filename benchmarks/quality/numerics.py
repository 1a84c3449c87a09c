"""What each coordinate system and dtype resolves: the table of docs/numerics.md.

Two siblings one unit below a parent at radius R, nearly at right angles there: about 2 apart for
every R. Each cell is the relative error of the library's distance after their
coordinates have been rounded to the dtype; the siblings lie in a generic direction, or (last
columns) next to a pole, where all coordinates but one are near zero.
"""

import mpmath
import torch

from benchmarks.tables import Row
from poincare_taxa.geometry import ball, lorentz, polar

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


def error(value: torch.Tensor, true: float) -> str:
    """Relative error, or 'lost' from 50 % on."""
    relative = abs(float(value) - true) / true
    return "lost" if not relative < 0.5 else f"{relative:.0e}" if relative > 1e-16 else "0"


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
