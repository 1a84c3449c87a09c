"""Link prediction in WordNet: the split of Ganea, Bécigneul & Hofmann 2018, and basic edges.

Points are made of the closure of the training pairs: by `pt.closure_layout`, and by `pt.fit`. The
four shares of that split have one closure, because all of them have every basic edge; so what is
made of the closure has one row for all of them, after a check that the closures are the same.
"""

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import poincare_taxa as pt
from benchmarks.measure import stopwatch
from benchmarks.tables import Row

DIMS = (5, 10)
NAMES = {"mammals": "mammal", "nouns": "noun"}
COLUMNS = ("f1", "precision", "recall", "inverse_harmonic_mean_rank", "hits_at_10")


def read_pairs(path: Path) -> np.ndarray:
    with gzip.open(path, "rt") as stream:
        return np.loadtxt(stream, dtype=np.int64)


def public_split(folder: Path, name: str) -> tuple[pt.closure.LinkSplit, str]:
    """Read the public split, and check that its shares have one closure."""
    held = {
        part: read_pairs(folder / f"{name}.{part}.tsv.gz")
        for part in ("valid", "valid_neg", "test", "test_neg")
    }
    shares = {
        path.name.split("train_")[1].partition("percent")[0]: read_pairs(path)
        for path in folder.glob(f"{name}.train_*percent*.tsv.gz")
    }
    n = 1 + max(int(pairs.max()) for pairs in (*held.values(), *shares.values()))
    trains = {share: pt.ClosurePairs(pairs, num_nodes=n) for share, pairs in shares.items()}
    closures = {
        tuple(np.unique(train.closed().pairs.numpy(), axis=0).ravel()) for train in trains.values()
    }
    if len(closures) != 1:
        raise ValueError(f"the shares {sorted(trains)} of {name} have different closures")
    train = trains["0"]
    split = pt.closure.LinkSplit(
        train, held["valid"], held["valid_neg"], held["test"], held["test_neg"]
    )
    return split, "/".join(sorted(shares, key=int)) + " %"


def measured(name: str, held: str, split: pt.closure.LinkSplit, ranked: int) -> Iterator[Row]:
    """Yield a row of reachability, then one for each dimension and way to make points."""
    closure = split.train.closed()
    baseline = None
    for dim in DIMS:
        for points in ("layout", "fit"):
            with stopwatch() as elapsed:
                if points == "layout":
                    made = pt.closure_layout(closure, dim)[:2]
                else:
                    made = pt.fit(closure, dim=dim, progress=False).model
            report = pt.evaluate_links(made, split, ranked=ranked)
            if baseline is None:
                baseline = report.baseline
                first = {"data": name, "held out": held, "points": "reachability"}
                yield (
                    first
                    | {"dim": None, "limit": None, "seconds": None}
                    | {key: baseline[key] for key in COLUMNS}
                )
            row = {"data": name, "held out": held, "points": points, "dim": dim}
            row |= {"limit": report.limit, "seconds": elapsed.wall}
            yield row | {key: report.metrics[key] for key in COLUMNS}


def measure(data: Path, names: list[str], ranked: int = 200) -> Iterator[Row]:
    """Yield the rows of the public split, then those of held-out basic edges."""
    for name in names or NAMES:
        split, shares = public_split(data, NAMES[name])
        yield from measured(name, f"pairs that follow (train {shares})", split, ranked)
        basic = pt.split_links(split.train, basic=True)
        yield from measured(name, "basic edges", basic, ranked)


def readable(rows: list[Row]) -> list[Row]:
    return [
        {
            "data": row["data"],
            "held out": row["held out"],
            "points": row["points"],
            "dim": row["dim"] or "–",
            "F1": f"{100 * row['f1']:.1f}",
            "precision": f"{100 * row['precision']:.1f}",
            "recall": f"{100 * row['recall']:.1f}",
            "MRR, filtered": f"{row['inverse_harmonic_mean_rank']:.3f}",
            "hits at 10": f"{row['hits_at_10']:.3f}",
            "limit": row["limit"] or "–",
        }
        for row in rows
    ]
