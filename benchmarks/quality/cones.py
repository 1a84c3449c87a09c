"""Entailment cones on the split of Ganea, Bécigneul & Hofmann 2018 ([GBH18]): from a layout, and
from random points by their recipe.

The layout is that of `pt.embed` of a spanning tree, each node below its parent with the most
ancestors; nothing is trained, and a pair is predicted where the energy is below a threshold. It is
made of the closure of the training pairs, which all shares have in common. Of mammals, `pt.fit`
goes on from there with the loss of cones on basic edges, by small and by large steps.

The recipe is that of the paper's code: points within 0.0001 of the origin; 100 epochs of the loss
of Nickel & Kiela 2017 in the ball, steps of 0.03 (a tenth of it in the first 20 epochs), negatives
drawn by degree to the power of 0.75; all points times 0.7; 300 epochs of the loss of cones, K = .1,
margin 0.01, steps of 0.0003, points kept out of the norms where there is no cone. For each pair 10
negatives take the place of its descendant. Every 20 epochs the pairs of the validation choose a
threshold, and the best of these choose the points. There, a pair that is not trained on is a
negative, even if it follows from those that are; jobs named *excluded* draw none of these.
Gradients of a batch are added up, as there; a batch has 50 pairs of mammals, or 200 of nouns,
instead of 10, which makes a fifth or a twentieth as many steps, each as much larger.

A *job* is data-dim-points-share such as mammals-5-recipe-10 (or mammals-5-excluded-10); a run takes
all jobs that begin with one of its names.
"""

from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import poincare_taxa as pt
from benchmarks.measure import stopwatch
from benchmarks.quality.links import NAMES, public_split
from benchmarks.tables import Row
from poincare_taxa.blocks.cones import cone_energy, entailment_cone_loss
from poincare_taxa.closure.links import LinkSplit

SHARES = {"mammals": (0, 10, 25, 50, 90), "nouns": (0, 10, 25, 50)}
DIMS = {"mammals": (5,), "nouns": (5, 10)}
LAYOUT, RECIPE, EXCLUDED = "layout", "recipe", "excluded"
STEPS = {"small": 0.005, "large": 0.05}
LABELS = {
    LAYOUT: "the layout, no training",
    "small": f"the layout, 20 epochs, steps of {STEPS['small']}",
    "large": f"the layout, 20 epochs, steps of {STEPS['large']}",
    RECIPE: "random points, the paper's recipe",
    EXCLUDED: "random points, its recipe without negatives that follow",
}
JOBS = [
    f"{name}-{dim}-{points}-{share}"
    for name in NAMES
    for dim, points, share in [
        *product(DIMS[name], [LAYOUT, *(STEPS if name == "mammals" else ())], [0]),
        *product(DIMS[name], [RECIPE, EXCLUDED], SHARES[name]),
    ]
]
_SHADOW = "published by Yu et al. 2024"
PUBLISHED = {
    ("mammals", 5): {
        f"cones, {_SHADOW}": (56.3, 81.0, 84.1, 83.6, 82.9),
        f"umbral half-space cones, {_SHADOW}": (69.4, 81.1, 83.7, 88.5, 91.8),
    },
    ("nouns", 5): {
        "cones, in the code of the paper": (None, None, None, 92.8),
        f"cones, {_SHADOW}": (29.2, 78.1, 84.6, 92.1),
        f"umbral half-space cones, {_SHADOW}": (45.2, 87.8, 94.2, 96.4),
    },
    ("nouns", 10): {
        f"cones, {_SHADOW}": (32.1, 82.9, 91.0, 95.2),
        f"umbral half-space cones, {_SHADOW}": (52.2, 89.4, 95.7, 97.0),
    },
}
APERTURE, MARGIN, NEGATIVES = 0.1, 0.01, 10
BATCH = {"mammals": 50, "nouns": 200}
INNERMOST = 2 * APERTURE / (1 + (1 + 4 * APERTURE**2) ** 0.5)
EPOCHS, EVERY = (100, 300), 20


def spanning_tree(closure: pt.ClosurePairs) -> pt.Taxonomy:
    """Take the parent with the most ancestors of each node; ids are rows of the pairs.

    Several roots get a common parent, the last id.
    """
    above = np.bincount(closure.pairs[:, 1], minlength=closure.num_nodes)
    parent, child = closure.reduced().pairs.numpy().T
    order = np.argsort(above[parent], kind="stable")
    chosen = np.full(closure.num_nodes, -1)
    chosen[child[order]] = parent[order]  # of several the last, which has the most ancestors
    roots = np.flatnonzero(chosen < 0)
    if len(roots) > 1:
        chosen = np.append(chosen, -1)
        chosen[roots] = len(chosen) - 1
    return pt.Taxonomy.from_parents(chosen)


def laid_out(closure: pt.ClosurePairs, dim: int) -> pt.PoincareEmbedding:
    """Take the layout of a spanning tree, in the rows of the pairs."""
    tree = spanning_tree(closure)
    model = pt.embed(tree, dim=dim)
    row = torch.empty(len(tree), dtype=torch.int64)
    row[tree.ids.to_list()] = torch.arange(len(tree))
    row = row[: closure.num_nodes]
    return pt.PoincareEmbedding.from_pretrained(model.radius[row], model.direction[row])


def stepped(embedding: pt.PoincareEmbedding, train: pt.ClosurePairs, lr: float) -> None:
    """Train a start by the loss of cones, in place."""
    negatives = pt.UniformNegatives(train, 2 * NEGATIVES, anchor="ancestor")
    loss = pt.EntailmentConeLoss(anchor="ancestor", aperture=APERTURE, margin=MARGIN)
    pt.fit(train, embedding, negatives=negatives, loss=loss, lr=lr, epochs=20, progress=False)


def energies(points: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Score of pairs (ancestor, descendant): the angle by which one is outside the other's cone."""
    return lambda a, v: cone_energy(points[a], points[v], aperture=APERTURE)


class Recipe:
    """The two stages of training; `train` yields the points every 20 epochs of the second."""

    def __init__(
        self, train: pt.ClosurePairs, known: pt.ClosurePairs, dim: int, batch: int, seed: int
    ) -> None:
        self.pairs, self.n, self.batch = train.pairs, train.num_nodes, batch
        self.known = (known.pairs[:, 0] * self.n + known.pairs[:, 1]).sort().values
        self.generator = torch.Generator().manual_seed(seed)
        random = torch.rand(self.n, dim, generator=self.generator, dtype=torch.float64)
        self.points = 2e-4 * (random - 0.5)
        degree = 1 + torch.bincount(train.pairs[:, 0], minlength=self.n).double()
        self.mass = (degree**0.75).cumsum(0)

    def train(self) -> Iterator[Tensor]:
        for epoch in range(EPOCHS[0]):
            self.epoch(self.near, 0.003 if epoch < EVERY else 0.03, 0.0)
        self.points *= 0.7
        self.keep(torch.arange(self.n), INNERMOST)
        for epoch in range(EPOCHS[1]):
            self.epoch(self.inside, 3e-4, INNERMOST)
            if (epoch + 1) % EVERY == 0:
                yield self.points

    def epoch(self, loss: Callable[..., Tensor], step: float, least: float) -> None:
        order = torch.randperm(len(self.pairs), generator=self.generator)
        by_degree = least == 0
        for some in order.split(self.batch):
            batch = self.pairs[some]
            negatives, valid = self.negatives(batch, by_degree)
            rows = torch.cat([batch, negatives], 1)
            x = self.points[rows].requires_grad_()
            (gradient,) = torch.autograd.grad(loss(x, valid), x)
            factor = (1 - x.detach().square().sum(-1, keepdim=True)).square() / 4
            change = (-step * factor * gradient).flatten(0, 1)
            self.points.index_add_(0, rows.flatten(), change)
            self.keep(rows.flatten(), least)

    def near(self, x: Tensor, valid: Tensor) -> Tensor:
        """Loss of Nickel & Kiela, eq. 5."""
        d = pt.dist(x[:, :1], x[:, 1:])
        return pt.blocks.softmax_ranking_loss(d[:, 0], d[:, 1:], mask=valid, reduction="sum")

    def inside(self, x: Tensor, valid: Tensor) -> Tensor:
        return entailment_cone_loss(
            x[:, 0], x[:, 1], x[:, 2:], anchor="ancestor", aperture=APERTURE, margin=MARGIN,
            mask=valid, reduction="sum",
        )  # fmt: skip

    def negatives(self, batch: Tensor, by_degree: bool) -> tuple[Tensor, Tensor]:
        """Draw nodes for the ancestors of a batch, and say which are not known to be below them."""
        shape = len(batch), NEGATIVES
        drawn = torch.rand(shape, generator=self.generator, dtype=torch.float64)
        if by_degree:
            nodes = torch.searchsorted(self.mass, drawn * self.mass[-1]).clamp(max=self.n - 1)
        else:
            nodes = (drawn * self.n).long()
        key = batch[:, :1] * self.n + nodes
        place = torch.searchsorted(self.known, key).clamp(max=len(self.known) - 1)
        return nodes, (self.known[place] != key) & (nodes != batch[:, :1])

    def keep(self, rows: Tensor, least: float) -> None:
        """Put points between the norms where cones are, in place."""
        x = self.points[rows]
        norm = x.norm(dim=1, keepdim=True).clamp(min=1e-12)
        self.points[rows] = x * (norm.clamp(least + 1e-5 * (least > 0), 1 - 1e-5) / norm)


def best_by_validation(stages: Iterator[Tensor], split: LinkSplit) -> Tensor:
    """Choose the points whose best threshold has the best F1 on the validation pairs."""
    only = pt.closure.LinkSplit(
        split.train, split.valid, split.valid_negatives, split.valid, split.valid_negatives
    )
    best, points = -1.0, torch.empty(0)
    for stage in stages:
        found = pt.evaluate_links(energies(stage), only, ranked=0).metrics["f1"]
        if found > best:
            best, points = found, stage.clone()
    return points


def about(job: str) -> Row:
    """Say what a job measures."""
    name, dim, points, share = job.split("-")
    return {"data": name, "dim": int(dim), "points": points, "share": int(share)}


def measured(job: str, data: Path) -> Row:
    row = about(job)
    split, shares = public_split(data, NAMES[row["data"]])
    with stopwatch() as elapsed:
        if row["points"] in (LAYOUT, *STEPS):
            embedding = laid_out(split.train, row["dim"])
            if row["points"] in STEPS:
                stepped(embedding, shares[0], STEPS[row["points"]])
            points = pt.convert.polar_to_ball(
                embedding.radius.detach(), embedding.direction.detach()
            )
        else:
            train = shares[row["share"]]
            known = train if row["points"] == RECIPE else split.train
            stages = Recipe(train, known, row["dim"], BATCH[row["data"]], seed=0).train()
            points = best_by_validation(stages, split)
    report = pt.evaluate_links(energies(points), split, ranked=0)
    row |= {key: report.metrics[key] for key in ("f1", "precision", "recall")}
    return row | {"threshold": report.threshold, "cpu seconds": elapsed.cpu}


def measure(data: Path, only: list[str]) -> Iterator[Row]:
    """Yield a row for each job that begins with one of some names; with no names, for all."""
    for job in JOBS:
        if not only or job.startswith(tuple(only)):
            yield measured(job, data)


def completed(rows: list[Row], kept: list[Row]) -> list[Row]:
    """Rows of this run and those of other jobs that are kept, in the order of the jobs."""
    every = {_key(row): row for row in [*kept, *rows]}
    return [every[_key(about(job))] for job in JOBS if _key(about(job)) in every]


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(row[k] for k in ("data", "dim", "points", "share"))


def readable(rows: list[Row]) -> list[Row]:
    """F1 in percent, a column for each share; published figures beside ours."""
    found = {_key(row): 100 * row["f1"] for row in rows}
    shown = []
    for name in NAMES:
        for dim in DIMS[name]:
            what = {"data": name, "dim": dim}
            for points, label in LABELS.items():
                if points in STEPS and name != "mammals":
                    continue
                same = points not in (RECIPE, EXCLUDED)  # of what all shares have
                cells = [
                    found.get((name, dim, points, 0 if same else share)) for share in SHARES[name]
                ]
                shown.append(what | {"cones from": label} | _cells(name, cells, "not run"))
            shown.append(
                what
                | {"cones from": "no cones: reachability"}
                | _cells(name, [100.0] * len(SHARES[name]), "")
            )
            shown += [
                what | {"cones from": by} | _cells(name, list(values), "")
                for by, values in PUBLISHED[name, dim].items()
            ]
    return shown


def _cells(name: str, values: list[float | None], lacking: str) -> Row:
    return {
        f"{share} %": lacking if value is None else f"{value:.1f}"
        for share, value in zip(SHARES[name], values, strict=True)
    }
