"""Closure MAP and mean rank by plain distance: python -m benchmarks.quality.wordnet DATA [JOB …].

DATA is the folder with mammal_closure.csv.gz and noun_closure.csv.gz. A job is data-dim-method such
as nouns-5-training, or nouns-5 for all methods; without one all are run, which takes an hour. Rows
of other jobs stay as they are in results/wordnet.tsv. Points are kept in the folder --keep, so that
a search starts from the training that is there.

The methods: *layout*, which draws nothing at random; *training*, `pt.fit` with nothing else said;
*random start*, the same objective from random points; the first two, *then search*,
`pt.refine_closure`, whose seconds are without those of its start; and the *floor*, random
directions at the radii of the layout. With ``ncbi`` for DATA the layout of all
of NCBI in 2-D is ranked instead, on sampled queries.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
import torch

import poincare_taxa as pt
from benchmarks.tables import RESULTS, write_markdown, write_tsv
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
KEPT = Path(tempfile.gettempdir()) / "poincare-wordnet"
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
    started = time.perf_counter()
    if method == "layout":
        radius, direction, info = pt.closure_layout(pairs, dim)
        print(info, flush=True)
    elif start is not None:
        radius, direction, info = pt.refine_closure(pairs, start.radius, start.direction, seed=seed)
        print(info, flush=True)
    else:
        embedding, options = None, {"dim": dim}
        if method == "random start":
            generator = torch.Generator().manual_seed(seed)
            embedding = pt.PoincareEmbedding(pairs.num_nodes, dim, generator=generator)
            objective = pt.closure.ClosureSoftmax(pairs, epochs=100, batch_size=141)
            options = {"objective": objective, "lr": 0.15}
        run = pt.fit(pairs, embedding, seed=seed, measure_every=1000, progress=False, **options)
        radius, direction = run.model.radius, run.model.direction
    seconds = time.perf_counter() - started
    pt.ClosureEmbedding(pairs.names, radius, direction, {"seconds": seconds}).save(kept(method))
    return radius, direction, seconds


def measured(name, pairs, dim, method, keep):
    """One row: the mean over the seeds, and the range where there are several."""
    found, taken = [], []
    seeds = SEEDS[:1] if method in ("floor", "layout") else SEEDS
    for seed in seeds:

        def kept(made, seed=seed):
            return Path(keep) / f"{job(name, dim, made)}-{seed}"

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
    started = time.perf_counter()
    tax = pt.read_ncbi()
    read = time.perf_counter()
    radius, direction, info = pt.closure_layout(tax, 2)
    seconds = time.perf_counter() - read
    print(f"{len(tax):,} taxa, read in {read - started:.0f} s, {info}", flush=True)
    rows = np.sort(np.random.default_rng(0).permutation(len(tax) - 1)[:queries] + 1)
    above = [tax.ancestors(int(row)) for row in rows]
    targets = torch.full((queries, max(map(len, above))), -1)
    for row, nodes in enumerate(above):
        targets[row, : len(nodes)] = torch.from_numpy(np.asarray(nodes))
    query = torch.from_numpy(rows)
    counts = count_nearer(
        (radius, direction),
        (radius[query], direction[query]),
        targets,
        manifold="polar",
        skip=query,
    )
    precision, ranks = [], []
    for row, nodes in enumerate(above):
        # a tie counts as a node before
        before = np.sort((counts.nearer + counts.tied)[row, : len(nodes)].numpy())
        place = np.arange(len(nodes))
        others = np.maximum(before - place, 0)
        precision.append(np.mean((place + 1) / (place + 1 + others)))
        ranks.append(1 + others)
    return {
        "data": f"NCBI, {queries} of {len(tax):,}",
        "dim": 2,
        "points": "layout",
        "MAP": round(float(np.mean(precision)), 4),
        "mean rank": round(float(np.concatenate(ranks).mean()), 3),
        "seconds": round(seconds, 1),
        "seeds": 1,
        "range": None,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="the folder, or ncbi")
    parser.add_argument("jobs", nargs="*", help="such as nouns-5 or nouns-5-training")
    parser.add_argument("--keep", default=KEPT, help="folder for the points")
    options = parser.parse_args()
    rows = [ncbi()] if options.data == "ncbi" else list(chosen(options))
    key = ("data", "dim", "points")
    new = {tuple(row[k] for k in key) for row in rows}
    path = RESULTS / "wordnet.tsv"
    if path.exists():
        old = pl.read_csv(path, separator="\t").to_dicts()
        rows += [row for row in old if tuple(row[k] for k in key) not in new]
    rows.sort(key=lambda row: (row["data"], row["dim"], place(row["points"])))
    write_tsv("wordnet", rows)
    shown = [{k: "" if v is None else v for k, v in row.items() if k != "commit"} for row in rows]
    write_markdown("wordnet", shown)


def job(name, dim, method):
    return f"{name}-{dim}-{method.replace(', then ', '-').replace(' ', '-')}"


def place(points):
    return ORDER.index(points) if points in ORDER else len(ORDER)


def chosen(options):
    for (name, dim), methods in METHODS.items():
        todo = [
            method
            for method in methods
            if not options.jobs or {job(name, dim, method), f"{name}-{dim}"} & set(options.jobs)
        ]
        if not todo:
            continue
        pairs = pt.ClosurePairs.read_csv(Path(options.data) / FILES[name])
        for method in todo:
            yield measured(name, pairs, dim, method, options.keep)
        for by, value, rank, seconds in PUBLISHED.get((name, dim), []):
            row = {"data": name, "dim": dim, "points": by, "MAP": value, "mean rank": rank}
            yield row | {"seconds": seconds, "seeds": None, "range": None}


if __name__ == "__main__":
    main()
