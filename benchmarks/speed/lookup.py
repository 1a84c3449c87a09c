"""Keys looked up in the complete NCBI taxonomy, many at once, some of which are missing."""

import statistics
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import torch

import poincare_taxa as pt
from benchmarks import clades
from benchmarks.measure import stopwatch


def measure(number: int, missing: int, runs: int) -> list[dict[str, Any]]:
    """Milliseconds of each call: the first, which may build an index, and the median of others."""
    tax = clades.ncbi()
    ids, texts = keys(tax, number, missing)
    vectors = torch.zeros(len(tax), 10)
    model = pt.TaxonEmbedding(tax, torch.zeros(len(tax)), vectors)
    found = tax.resolve(texts)
    if (found["status"] == "unknown").sum() != missing or found["id"].null_count() != missing:
        raise AssertionError("not the keys that were drawn are missing")

    calls: dict[str, Callable[[], Any]] = {
        "tax.rows(ids, missing=-1)": lambda: tax.rows(ids, missing=-1),
        "tax.resolve(ids)": lambda: tax.resolve(ids),
        "tax.resolve(texts)": lambda: tax.resolve(texts),
        'model.vectors(ids, missing="nan")': lambda: model.vectors(ids, missing="nan"),
        "model.vectors(ids), an error": lambda: refused(model, ids),
        "tax.lineage(ids)": lambda: tax.lineage(ids[missing:]),
        "tax.lca(ids, others)": lambda: tax.lca(ids[missing:], ids[missing:][::-1]),
    }
    rows = []
    for name, call in calls.items():
        taken = []
        for _ in range(runs + 1):
            with stopwatch() as elapsed:
                call()
            taken.append(1000 * elapsed.wall)
        rows.append(
            {
                "call": f"`{name}`",
                "keys": number,
                "missing": missing,
                "first, ms": round(taken[0], 1),
                "ms": round(statistics.median(taken[1:]), 1),
            }
        )
    return rows


def keys(tax: pt.Taxonomy, number: int, missing: int) -> tuple[list[int], list[str]]:
    """Ids, the missing ones first, as integers and as text."""
    rng = np.random.default_rng(0)
    known = tax.ids.gather(pl.Series(rng.permutation(len(tax))[: number - missing]))
    unknown = range(int(tax.ids.cast(pl.Int64).max() or 0) + 1, 10**12)[:missing]  # pyright: ignore[reportArgumentType]
    ids = [*unknown, *known.to_list()]
    return ids, [str(key) for key in ids]


def refused(model: pt.TaxonEmbedding, ids: list[int]) -> None:
    """Run the call that counts what is missing in its error."""
    try:
        model.vectors(ids)
    except pt.TaxonomyError:
        return
    raise AssertionError("no error of missing keys")
