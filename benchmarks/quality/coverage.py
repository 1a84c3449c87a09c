"""How often the 95 % intervals of a report hold the truth, by simulation.

*Shares* lie between 0 and 1 and have a known mean p; *ranks* have no bound and often a heavy tail.
Each sample is a report's: q query taxa, some of which share a genus.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Row
from poincare_taxa.evaluation.intervals import (
    bootstrap_interval,
    rank_interval,
    share_interval,
    sums_of_clusters,
)

__all__ = ["MEANS", "QUERIES", "RANKS", "SHARES", "ranks", "shares", "table"]

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, float], tuple[Floats, NDArray[np.integer]]]

MEANS = (0.5, 0.9, 0.99, 0.999, 1.0)
QUERIES = (30, 100, 1000)


def coins(rng: np.random.Generator, q: int, p: float) -> tuple[Floats, NDArray[np.integer]]:
    """1 or 0, each taxon for itself."""
    return (rng.random(q) < p).astype(float), np.arange(q)


def tenths(rng: np.random.Generator, q: int, p: float) -> tuple[Floats, NDArray[np.integer]]:
    """Precision at 10."""
    return rng.binomial(10, p, q) / 10, np.arange(q)


def genera(rng: np.random.Generator, q: int, p: float) -> tuple[Floats, NDArray[np.integer]]:
    """Genera of few and of many taxa, each right or wrong as a whole."""
    size = np.minimum((2 * rng.pareto(1.5, q)).astype(int) + 1, max(1, q // 10))
    genus = np.repeat(np.arange(q), size)[:q]
    return (rng.random(q) < p)[genus].astype(float), genus


def half_genera(rng: np.random.Generator, q: int, p: float) -> tuple[Floats, NDArray[np.integer]]:
    """The same, but every second taxon goes its own way."""
    (together, genus), (alone, _) = genera(rng, q, p), coins(rng, q, p)
    return np.where(rng.random(q) < 0.5, together, alone), genus


SHARES: dict[str, Draw] = {
    "0 or 1": coins,
    "tenths": tenths,
    "genera right or wrong as a whole": genera,
    "genera, every second taxon by itself": half_genera,
}
RANKS: dict[str, tuple[Callable[[np.random.Generator, int], Floats], float]] = {
    "normal": (lambda rng, q: rng.normal(5, 1, q), 5),
    "exponential": (lambda rng, q: rng.exponential(1, q), 1),
    "lognormal, σ = 2": (lambda rng, q: np.exp(2 * rng.normal(size=q)), math.exp(2)),
    "Pareto, α = 1.5": (lambda rng, q: rng.pareto(1.5, q), 2),
    "1,000 in three of a thousand": (
        lambda rng, q: np.where(rng.random(q) < 0.003, 1000.0, 0.0),
        3,
    ),
}
"""Draws of excess ranks, and their means."""


def shares(samples: int) -> Iterator[Row]:
    """Coverage of the interval of shares, and of a bootstrap of the same clusters."""
    for name, draw in SHARES.items():
        for q in QUERIES:
            for p in MEANS:
                rng = np.random.default_rng([q, int(1000 * p)])
                sums = [sums_of_clusters(*_table(*draw(rng, q, p))) for _ in range(samples)]
                found = [share_interval(each) for each in sums]
                other = [bootstrap_interval(each, _ratio) for each in sums]
                yield {
                    "values": name,
                    "queries": q,
                    "mean": p,
                    "coverage": _coverage(found, p),
                    "bootstrap": _coverage(other, p),
                    "width": round(float(np.mean([high - low for low, high in found])), 4),
                }


def ranks(samples: int) -> Iterator[Row]:
    """Coverage of the interval of mean ranks, and how often it has no upper end."""
    for name, (draw, mean) in RANKS.items():
        for q in QUERIES:
            rng = np.random.default_rng(q)
            sums = [_table(draw(rng, q), np.arange(q))[0] for _ in range(samples)]
            found = [rank_interval(each) for each in sums]
            other = [bootstrap_interval(each, _ratio) for each in sums]
            yield {
                "excess ranks": name,
                "queries": q,
                "coverage": _coverage(found, mean),
                "bootstrap": _coverage(other, mean),
                "tail not seen": round(float(np.mean([high == math.inf for _, high in found])), 3),
            }


def table(rows: list[Row]) -> list[Row]:
    """Shares with a column for each mean: coverage, that of a bootstrap in brackets."""
    lines: dict[tuple[str, int], Row] = {}
    for row in rows:
        line = lines.setdefault(
            (row["values"], row["queries"]), {"values": row["values"], "queries": row["queries"]}
        )
        line[f"p = {row['mean']:g}"] = f"{row['coverage']:.3f} ({row['bootstrap']:.3f})"
    return list(lines.values())


def _table(values: Floats, clusters: NDArray[np.integer]) -> tuple[Floats, NDArray[np.integer]]:
    return np.stack([values, np.ones(len(values))], axis=1), clusters


def _ratio(sums: Floats) -> Floats:
    return sums[..., 0] / sums[..., 1]


def _coverage(found: list[tuple[float, float]], truth: float) -> float:
    return round(float(np.mean([low <= truth <= high for low, high in found])), 4)
