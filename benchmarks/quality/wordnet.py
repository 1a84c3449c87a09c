"""Closure MAP and mean rank by plain distance, of WordNet's mammals and nouns and of all of NCBI.

A *job* is data-dim-method such as nouns-5-training, or nouns-5 for all methods; all of them take an
hour. Points are kept in a folder, so that a search starts from the training that is there.

The methods: *layout*, which draws nothing at random; *training*, `pt.fit` with nothing else said;
*random start*, the same objective from random points; the first two, *then search*,
`pt.refine_closure`, whose seconds are without those of its start; and the *floor*, random
directions at the radii of the layout. Of NCBI the layout in 2-D is ranked, on sampled queries.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

import poincare_taxa as pt
from benchmarks import clades
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.kernels import count_nearer

PUBLISHED = {
    ("mammals", 5): [
        ("Nickel & Kiela 2017 (published)", 0.927, 1.26, None),
        ("facebookresearch/poincare-embeddings (run once, on 2 cores)", 0.945, 1.195, 677),
    ],
    ("nouns", 2): [("tiling, Yu & De Sa 2019 (published)", 0.413, 15.3, None)],
    ("nouns", 5): [("Lorentz, Nickel & Kiela 2018 (published)", 0.923, 3.18, None)],
    ("nouns", 10): [("Lorentz, Nickel & Kiela 2018 (published)", 0.928, 2.95, None)],
}
FILES = {"mammals": "mammal_closure.csv.gz", "nouns": "noun_closure.csv.gz"}
SEEDS = (0, 1, 2)
METHODS = {
    ("mammals", 2): ["floor", "layout"],
    ("mammals", 5): ["floor", "layout", "training", "random start"],
    ("nouns", 2): ["floor", "layout", "layout, then search"],
    ("nouns", 5): ["floor", "layout", "training", "training, then search"],
    ("nouns", 10): ["floor", "layout", "training", "training, then search"],
}
ORDER = ["floor", "layout", "layout, then search", "training", "training, then search"]
ORDER += ["random start"]


def points_of(pairs, dim, method, seed, kept):
    """Radius, direction and the seconds that they took."""
    if method == "floor":
        radius, direction, _ = pt.closure_layout(pairs, dim)
        generator = torch.Generator().manual_seed(seed)
        random = torch.randn(direction.shape, generator=generator, dtype=torch.float64)
        return radius, random / random.norm(dim=1, keepdim=True), None
    start = None
    if method.endswith("search"):
        before = method.partition(",")[0]
        start = pt.ClosureEmbedding.load(kept(before, 0 if before == "layout" else seed))
    with stopwatch() as elapsed:
        if method == "layout":
            radius, direction, info = pt.closure_layout(pairs, dim)
            print(info, flush=True)
        elif start is not None:
            radius, direction, info = pt.refine_closure(
                pairs, start.radius, start.direction, seed=seed
            )
            print(info, flush=True)
        else:
            radius, direction = trained(pairs, dim, seed, random=method == "random start")
    seconds = elapsed.wall
    pt.ClosureEmbedding(pairs.names, radius, direction, {"seconds": seconds}).save(kept(method))
    return radius, direction, seconds


def trained(pairs, dim, seed, *, random):
    """Points of `pt.fit`, from its own start or a random one."""
    embedding, options = None, {"dim": dim}
    if random:
        generator = torch.Generator().manual_seed(seed)
        embedding = pt.PoincareEmbedding(pairs.num_nodes, dim, generator=generator)
        objective = pt.closure.ClosureSoftmax(pairs, epochs=100, batch_size=141)
        options = {"objective": objective, "lr": 0.15}
    run = pt.fit(pairs, embedding, seed=seed, progress=False, **options)
    return run.model.radius, run.model.direction


def measured(name, pairs, dim, method, keep):
    """One row: the mean over the seeds, and the range where there are several."""
    found, taken = [], []
    seeds = SEEDS[:1] if method in ("floor", "layout") else SEEDS
    for seed in seeds:

        def kept(made, seed=seed):
            return keep / f"{job(name, dim, made)}-{seed}"

        radius, direction, seconds = points_of(pairs, dim, method, seed, kept)
        found.append(pt.closure.rank_ancestors(pairs, radius, direction)[:2])
        taken.append(seconds)
        print(name, dim, method, seed, found[-1], seconds, flush=True)
    value, rank = np.mean(found, axis=0)
    spread = np.ptp(found, axis=0)
    return {
        "data": name,
        "dim": dim,
        "points": method,
        "MAP": round(float(value), 4),
        "mean rank": round(float(rank), 3),
        "seconds": None if taken[0] is None else round(float(np.mean(taken)), 1),
        "seeds": len(seeds),
        "range": f"{spread[0]:.4f} / {spread[1]:.3f}" if len(seeds) > 1 else None,
    }


def ncbi(queries=500):
    """The layout of the complete taxonomy in 2-D: sampled nodes, ranked among all nodes."""
    tax = clades.ncbi()
    with stopwatch() as elapsed:
        radius, direction, info = pt.closure_layout(tax, 2)
    print(f"{len(tax):,} taxa, {info}", flush=True)
    rows = np.sort(np.random.default_rng(0).permutation(len(tax) - 1)[:queries] + 1)
    targets = torch.from_numpy(tax.tree.lineages(rows)[:, 1:])
    query = torch.from_numpy(rows)
    counts = count_nearer(
        (radius, direction),
        (radius[query], direction[query]),
        targets,
        manifold="polar",
        skip=query,
    )
    precision, ranks = [], []
    for row, depth in enumerate(tax.tree.depth[rows].tolist()):
        # a tie counts as a node before
        before = np.sort((counts.nearer + counts.tied)[row, :depth].numpy())
        place = np.arange(depth)
        others = np.maximum(before - place, 0)
        precision.append(np.mean((place + 1) / (place + 1 + others)))
        ranks.append(1 + others)
    return {
        "data": f"NCBI, {queries} of {len(tax):,}",
        "dim": 2,
        "points": "layout",
        "MAP": round(float(np.mean(precision)), 4),
        "mean rank": round(float(np.concatenate(ranks).mean()), 3),
        "seconds": round(elapsed.wall, 1),
        "seeds": 1,
        "range": None,
    }


def completed(rows: list[Row], kept: list[Row]) -> list[Row]:
    """Rows of this run and those of other jobs that are kept, in the order of the page."""
    key = ("data", "dim", "points")
    new = {tuple(row[k] for k in key) for row in rows}
    both = rows + [row for row in kept if tuple(row[k] for k in key) not in new]
    return sorted(both, key=lambda row: (row["data"], row["dim"], place(row["points"])))


def readable(rows: list[Row]) -> list[Row]:
    """Leave empty what is not known, and the commit out."""
    return [{k: "" if v is None else v for k, v in row.items() if k != "commit"} for row in rows]


def job(name, dim, method):
    return f"{name}-{dim}-{method.replace(', then ', '-').replace(' ', '-')}"


def place(points):
    return ORDER.index(points) if points in ORDER else len(ORDER)


def measure(data: Path, jobs: list[str], keep: Path) -> Iterator[Row]:
    """Yield a row for each job on the closures of a folder, and the published ones beside it."""
    for (name, dim), methods in METHODS.items():
        todo = [
            method
            for method in methods
            if not jobs or {job(name, dim, method), f"{name}-{dim}"} & set(jobs)
        ]
        if not todo:
            continue
        pairs = pt.ClosurePairs.read_csv(data / FILES[name])
        for method in todo:
            yield measured(name, pairs, dim, method, keep)
        for by, value, rank, seconds in PUBLISHED.get((name, dim), []):
            row = {"data": name, "dim": dim, "points": by, "MAP": value, "mean rank": rank}
            yield row | {"seconds": seconds, "seeds": None, "range": None}
