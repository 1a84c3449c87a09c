"""How far the probabilities of `is_a` can be trusted, beside those of a constant.

Pairs are drawn as for the calibration, with another seed and without the pairs that it saw.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import poincare_taxa as pt
from benchmarks.clades import ncbi
from benchmarks.measure import stopwatch
from benchmarks.quality import wordnet
from benchmarks.tables import Row
from poincare_taxa.evaluation import ancestry, calibration
from poincare_taxa.files.records import dtype_name

PAIRS = 50_000
"""Positives of each subject, and as many negatives."""
SPACES = [(10, torch.float64), (10, torch.float32), (3, torch.float64), (2, torch.float64)]


def fresh_pairs(kin):
    """Balanced pairs that no calibration saw, and their kinds."""
    seen, _ = ancestry.balanced_pairs(kin, calibration.CALIBRATION_PAIRS, np.random.default_rng(0))
    drawn, kind = ancestry.balanced_pairs(kin, PAIRS, np.random.default_rng(1))
    n = kin.parents.shape[0]
    new = ~np.isin(drawn @ [n, 1], seen @ [n, 1])
    # Balanced again: the same number of ancestors and of others.
    ancestors, others = np.flatnonzero(new & (kind == 0)), np.flatnonzero(new & (kind > 0))
    others = np.random.default_rng(2).permutation(others)
    k = min(len(ancestors), len(others))
    kept = np.concatenate([ancestors[:k], others[:k]])
    return drawn[kept], kind[kept]


def judged(data, points, kin, is_a):
    """Rows of one subject: what it is worth, and its bins."""
    pairs, kind = fresh_pairs(kin)
    is_a(*pairs[:1].T)  # calibrates
    with stopwatch() as elapsed:
        probability = is_a(*pairs.T).numpy()
    found = calibration.reliability(probability, kind == 0)
    about = {"data": data, "points": points, "pairs": len(pairs)}
    values = {
        "calibration error": round(found.calibration_error, 4),
        "Brier": round(found.brier, 4),
        "AUC": round(found.auc, 4),
    }
    wrong = {
        f"wrong: {name}": round(float(((probability > 0.5) != (kind == 0))[kind == k].mean()), 4)
        for k, name in enumerate(ancestry.KINDS)
    }
    bins = [
        {"data": data, "points": points, **{k: _short(v) for k, v in row.items()}}
        for row in found.bins.to_dicts()
    ]
    return about | values | wrong | {"seconds": round(elapsed.wall, 2)}, bins


def constant(data, kin):
    """The predictor that returns the share of ancestors, whatever the pair."""
    _, kind = fresh_pairs(kin)
    share = (kind == 0).mean()
    found = calibration.reliability(np.full(len(kind), share), kind == 0)
    return {
        "data": data,
        "points": "constant (the share of ancestors)",
        "pairs": len(kind),
        "calibration error": round(found.calibration_error, 4),
        "Brier": round(found.brier, 4),
        "AUC": round(found.auc, 4),
    }


def measure(data: Path, keep: Path) -> Iterator[tuple[Row, list[Row]]]:
    """Yield the row of each subject, with the rows of its bins."""
    tax = ncbi()
    kin = ancestry.kinship_of_tree(tax.tree)
    ids = tax.ids.to_numpy()
    yield constant("NCBI", kin), []
    for dim, dtype in SPACES:
        model = pt.embed(tax, dim, dtype=dtype)
        points = f"layout, {dim}-D {dtype_name(dtype)}"
        yield judged("NCBI", points, kin, lambda a, b, m=model: m.is_a(ids[a], ids[b]))
    pairs = pt.ClosurePairs.read_csv(data / "noun_closure.csv.gz")
    kin = ancestry.kinship_of_closure(pairs.matrix)
    yield constant("WordNet nouns", kin), []
    for points, model in wordnet_models(pairs, keep):
        names = model.names.to_numpy()
        yield judged(
            "WordNet nouns", points, kin, lambda a, b, m=model, n=names: m.is_a(n[a], n[b])
        )


def wordnet_models(pairs, keep):
    """Layouts of the nouns, and the training that `wordnet nouns-5-training` kept, if any."""
    for dim in (2, 5):
        points = pt.closure_layout(pairs, dim)[:2]
        yield f"layout, {dim}-D", pt.ClosureEmbedding(pairs.names, *points, pairs=pairs)
    kept = keep / wordnet.job("nouns", 5, "training-0")
    if kept.exists():
        trained = pt.ClosureEmbedding.load(kept)
        yield "training, 5-D", replace(trained, pairs=pairs)


def _short(value):
    return round(value, 4) if isinstance(value, float) else value
