"""Controls of the recommended recipe: flat space, a shuffled tree, no training.

Echinodermata of the NCBI taxonomy, ten dimensions, three seeds. Beside the recommended recipe:

- Euclidean: the same loop, loss, partners, steps and optimizer in a ball of curvature −1e-8, where
  a clade of radius 18 is flat to a part in a million; its own sweep of the step size (one seed),
  and the best of it by precision@10 with all seeds;
- labels shuffled: trained on a tree of the same shape whose labels are permuted, measured against
  the true one, and the reverse; and permuted among the taxa of one depth, which keeps the radii;
- untrained: the random start.
"""

from typing import Any

import numpy as np
import polars as pl
import torch

import poincare_taxa as pt
from benchmarks.experiments.scores import MEASURES, mean_and_deviation, scores
from benchmarks.experiments.why_it_failed import start
from benchmarks.tables import Row
from poincare_taxa.blocks.schedules import Cosine
from poincare_taxa.training.level_stress import LevelStress

CURVATURE = 1e-8
STEPS = [0.1, 0.4, 0.8, 1.6, 3.2, 6.4]
Points = tuple[torch.Tensor, torch.Tensor]


def tau(tax: pt.Taxonomy) -> float:
    """Distance per edge of the recommended recipe in ten dimensions."""
    return min(0.85 + 3 / 9, LevelStress.deepest(torch.float64) / tax.max_depth)


def euclidean(tax: pt.Taxonomy, seed: int, lr: float) -> torch.Tensor:
    """Points of flat space [n, 10]."""
    embedding = pt.PoincareEmbedding(
        len(tax),
        10,
        manifold=pt.PoincareBall(CURVATURE),
        initial_radius=0.01 * CURVATURE**0.5,  # radii of the start are in units of 1/√c
        generator=torch.Generator().manual_seed(seed),
    )
    run = pt.fit(
        tax,
        embedding,
        seed=seed,
        objective=LevelStress(tax, tau=tau(tax)),
        optimizer=lambda params: pt.RowwiseRiemannianAdam(params, lr=lr, betas=(0.9, 0.95)),
        lr_schedule=Cosine(period=1, last=0.05),
        progress=False,
    )
    return run.embedding.weight.detach()


def permutation(tax: pt.Taxonomy, seed: int, *, within_depth: bool = False) -> np.ndarray:
    """Row of the shuffled tree at which each true row's label stands."""
    rng = np.random.default_rng(seed)
    if not within_depth:
        return rng.permutation(len(tax))
    mixed = rng.permutation(len(tax))
    order, place = np.argsort(tax.depth, kind="stable"), np.empty(len(tax), np.int64)
    place[order] = mixed[np.argsort(tax.depth[mixed], kind="stable")]
    return place


def shuffled(tax: pt.Taxonomy, place: np.ndarray) -> pt.Taxonomy:
    """Tree of the same shape; the label of the true row i stands at row place[i]."""
    ids, names, ranks = (
        pl.Series(column.to_list()).gather(np.argsort(place))
        for column in (tax.ids, tax.names, tax.taxon_ranks)
    )
    return pt.Taxonomy.from_parents(tax.parent, ids=ids, names=names, taxon_ranks=ranks)


def relabelled(embedding: pt.PoincareEmbedding, rows: np.ndarray) -> Points:
    """Points in the order of another tree's labels."""
    at = torch.from_numpy(rows)
    return embedding.radius[at], embedding.direction[at]


def row(name: str, seed: int, points: Any, tax: pt.Taxonomy, lr: float | None, **kind: Any) -> Row:
    value, _ = scores(points, tax, **kind)
    return {"control": name, "seed": seed, "lr": lr, **value}


def means(rows: list[Row]) -> list[Row]:
    """One line for each control: mean ± standard deviation over seeds."""
    table = pl.DataFrame(rows, infer_schema_length=None)
    lines = []
    for (name,), part in table.group_by(["control"], maintain_order=True):
        line: Row = {"control": name, "seeds": len(part)}
        for key in [key for key in MEASURES.values() if key in table.columns]:
            line[key] = mean_and_deviation(part[key])
        lines.append(line)
    return lines


def runs(tax: pt.Taxonomy, seeds: int, steps: list[float] = STEPS) -> list[Row]:
    """Every control."""
    rows: list[Row] = []
    swept = {lr: euclidean(tax, 0, lr) for lr in steps}
    for lr, points in swept.items():
        rows.append(row(f"Euclidean, lr {lr:g}", 0, points, tax, lr, c=CURVATURE))
    best = max(rows, key=lambda found: float(str(found["precision@10"])))["lr"]
    assert isinstance(best, float)
    for seed in range(seeds):
        points = swept[best] if seed == 0 else euclidean(tax, seed, best)
        rows.append(row("Euclidean, best lr", seed, points, tax, best, c=CURVATURE))
        hyperbolic = pt.fit(tax, seed=seed, progress=False).embedding
        rows.append(row("recommended", seed, hyperbolic, tax, None))
        rows.append(row("untrained", seed, start(tax, "polar float64", seed), tax, None))
        for kind, within in (("labels", False), ("labels within depths", True)):
            place = permutation(tax, seed, within_depth=within)
            other = shuffled(tax, place)
            trained = pt.fit(other, seed=seed, progress=False).embedding
            name = f"{kind} shuffled: trained on the shuffled tree"
            rows.append(row(name, seed, relabelled(trained, place), tax, None))
            name = f"{kind} shuffled: measured against the shuffled tree"
            back = relabelled(hyperbolic, np.argsort(place))
            rows.append(row(name, seed, back, other, None))
    _, tree = scores(start(tax, "polar float64", 0), tax)
    rows.append({"control": "ceiling: the tree", "seed": 0, "lr": None, **tree})
    return rows
