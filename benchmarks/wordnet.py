"""Closure MAP and mean rank of WordNet by plain distance: python -m benchmarks.wordnet DATA.

DATA is the folder with mammal_closure.csv.gz and noun_closure.csv.gz. The layout draws nothing at
random, so that one run says it all; the floor has its radii and random directions.
"""

import sys
import time
from pathlib import Path

import torch

import poincare_taxa as pt

from .tables import write_markdown, write_tsv

PUBLISHED = [
    ("mammals", 5, "Nickel & Kiela 2017 (published)", 0.927, 1.26),
    ("nouns", 2, "tiling, Yu & De Sa 2019 (published)", 0.413, 15.3),
    ("nouns", 5, "Lorentz, Nickel & Kiela 2018 (published)", 0.923, 3.18),
    ("nouns", 10, "Lorentz, Nickel & Kiela 2018 (published)", 0.928, 2.95),
]


def measured(name, pairs, dim):
    started = time.perf_counter()
    radius, direction, info = pt.closure_layout(pairs, dim)
    laid_out = time.perf_counter() - started
    print(name, dim, info, flush=True)
    started = time.perf_counter()
    ranking = pt.rank_ancestors(pairs, radius, direction)
    measured = time.perf_counter() - started
    row = {"data": name, "dim": dim, "points": "closure layout"}
    yield row | result(ranking, laid_out, measured)
    generator = torch.Generator().manual_seed(0)
    random = torch.randn(direction.shape, generator=generator, dtype=torch.float64)
    random /= random.norm(dim=1, keepdim=True)
    ranking = pt.rank_ancestors(pairs, radius, random)
    yield row | {"points": "floor"} | result(ranking, None, None)


def result(ranking, laid_out, measured):
    return {
        "MAP": round(ranking.mean_average_precision, 4),
        "mean rank": round(ranking.mean_rank, 3),
        "seconds": laid_out and round(laid_out, 2),
        "seconds to measure": measured and round(measured, 1),
    }


def main(folder):
    rows = []
    for name, file, dims in [("mammals", "mammal", (2, 5)), ("nouns", "noun", (2, 5, 10))]:
        pairs = pt.ClosurePairs.read_csv(Path(folder) / f"{file}_closure.csv.gz")
        for dim in dims:
            rows += measured(name, pairs, dim)
            rows += [
                {"data": name, "dim": dim, "points": by, "MAP": value, "mean rank": rank}
                | {"seconds": None, "seconds to measure": None}
                for data, d, by, value, rank in PUBLISHED
                if (data, d) == (name, dim)
            ]
    write_tsv("wordnet", rows)
    write_markdown("wordnet", [{k: "" if v is None else v for k, v in row.items()} for row in rows])


if __name__ == "__main__":
    main(sys.argv[1])
