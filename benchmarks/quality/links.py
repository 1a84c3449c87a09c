"""Link prediction in WordNet: the split of Ganea, Bécigneul & Hofmann 2018, and basic edges.

Points are made of the closure of the training pairs: by `pt.closure_layout`, by `pt.fit`, and by
`pt.fit` of 10 epochs with a limit (`pt.closure.ClosureSoftmax`), which is for link prediction. The
shares of that split (0 to 90 % of the pairs that follow) have one closure, because all of them have
every basic edge; so what is made of the closure has one row for all of them, after a check that the
closures are the same.

A *job* is data-dim-points-held such as nouns-5-fit-follow; a run takes all jobs that begin with one
of its names. Those of `pt.fit` on nouns take 5 to 30 minutes each, the others seconds.
"""

import gzip
from collections.abc import Iterator
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np

import poincare_taxa as pt
from benchmarks.measure import stopwatch
from benchmarks.tables import Row

DIMS = (5, 10)
NAMES = {"mammals": "mammal", "nouns": "noun"}
HELD = {"follow": "pairs that follow", "basic": "basic edges"}
POINTS = ("layout", "fit", "limit")
LABELS = {"limit": "fit with a limit"}
JOBS = [
    f"{name}-{dim}-{points}-{held}"
    for name, held, dim, points in product(NAMES, HELD, DIMS, POINTS)
]
COLUMNS = ("f1", "precision", "recall", "inverse_harmonic_mean_rank", "hits_at_10")


def read_pairs(path: Path) -> np.ndarray:
    with gzip.open(path, "rt") as stream:
        return np.loadtxt(stream, dtype=np.int64, ndmin=2)


@cache
def public_split(
    folder: Path, name: str
) -> tuple[pt.closure.LinkSplit, dict[int, pt.ClosurePairs]]:
    """Read the public split, its training pairs closed, and the training pairs of each share.

    Raises
    ------
    ValueError
        If the shares have different closures.
    """
    held = {
        part: read_pairs(folder / f"{name}.{part}.tsv.gz")
        for part in ("valid", "valid_neg", "test", "test_neg")
    }
    found = {
        int(path.name.split("train_")[1].partition("percent")[0]): read_pairs(path)
        for path in folder.glob(f"{name}.train_*percent*.tsv.gz")
    }
    n = 1 + max(int(pairs.max()) for pairs in (*held.values(), *found.values()))
    shares = {share: pt.ClosurePairs(found[share], num_nodes=n) for share in sorted(found)}
    closure = shares[0].closed()
    for share, pairs in shares.items():
        # All basic edges are among the pairs, and nothing that does not follow from them.
        if len(shares[0].beyond(pairs)) or len(pairs.beyond(shares[0])):
            raise ValueError(f"the closure of the share {share} of {name} is another than of 0")
    split = pt.closure.LinkSplit(
        closure, held["valid"], held["valid_neg"], held["test"], held["test_neg"]
    )
    return split, shares


def about(job: str) -> Row:
    """Say what a job measures."""
    name, dim, points, held = job.split("-")
    return {"data": name, "held out": HELD[held], "dim": int(dim), "points": points}


def measured(job: str, data: Path, ranked: int) -> Row:
    """Make the points of a job and measure them, with reachability beside them."""
    row = about(job)
    split, shares = public_split(data, NAMES[row["data"]])
    trained = "/".join(map(str, shares)) + " %"
    if row["held out"] == HELD["basic"]:
        split, trained = pt.split_links(split.train, basic=True), "all others"
    with stopwatch() as elapsed:
        if row["points"] == "layout":
            made = pt.closure_layout(split.train, row["dim"])[:2]
        else:
            objective = None
            if row["points"] == "limit":
                objective = pt.closure.ClosureSoftmax(split.train, limit=1.0, epochs=10)
            made = pt.fit(split.train, dim=row["dim"], objective=objective, progress=False).model
    report = pt.evaluate_links(made, split, ranked=ranked)
    row |= {"trained on": trained, "limit": report.limit, "cpu seconds": elapsed.cpu}
    row |= {key: report.metrics[key] for key in COLUMNS}
    return row | {f"reachability: {key}": report.baseline[key] for key in COLUMNS}


def measure(data: Path, only: list[str], ranked: int = 200) -> Iterator[Row]:
    """Yield a row for each job that begins with one of some names; with no names, for all."""
    for job in JOBS:
        if not only or job.startswith(tuple(only)):
            yield measured(job, data, ranked)


def completed(rows: list[Row], kept: list[Row]) -> list[Row]:
    """Rows of this run and those of other jobs that are kept, in the order of the jobs."""
    key = ("data", "held out", "dim", "points")
    every = {tuple(row[k] for k in key): row for row in [*kept, *rows]}
    wanted = [tuple(about(job)[k] for k in key) for job in JOBS]
    return [every[one] for one in wanted if one in every]


def readable(rows: list[Row]) -> list[Row]:
    """Write percentages, with reachability in brackets; jobs that have no row are not run."""
    key = ("data", "held out", "dim", "points")
    found = {tuple(row[k] for k in key): row for row in rows}
    shown = []
    for job in JOBS:
        what = about(job)
        shown_as = what | {"points": LABELS.get(what["points"], what["points"])}
        row = found.get(tuple(what[k] for k in key))
        if row is None:
            shown.append(shown_as | {"F1": "not run"})
            continue
        base = {name: row[f"reachability: {name}"] for name in COLUMNS}
        shown.append(
            shown_as
            | {
                "trained on": row["trained on"],
                "F1": f"{100 * row['f1']:.1f} ({100 * base['f1']:.0f})",
                "precision": f"{100 * row['precision']:.1f}",
                "recall": f"{100 * row['recall']:.1f} ({100 * base['recall']:.0f})",
                "MRR, filtered": f"{row['inverse_harmonic_mean_rank']:.3f} "
                f"({base['inverse_harmonic_mean_rank']:.3f})",
                "hits at 10": f"{row['hits_at_10']:.3f} ({base['hits_at_10']:.3f})",
                "limit": row["limit"],
                "CPU s": f"{row['cpu seconds']:.0f}",
            }
        )
    return shown
