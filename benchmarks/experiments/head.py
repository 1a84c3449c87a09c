"""`TaxonHead` beside the usual heads: the figures of docs/blocks/heads.md.

A simulated encoder: outputs are normal around a vector for each species, the sum of random vectors
of its family, its genus and its own, so that relatives are alike, plus noise. Species with at least
four in their genus take part; a quarter of each genus is unseen: no example of them is ever shown,
and the question is whether their genus is recognised. All heads see the same few examples of the
others, and each baseline has the best of several settings, chosen by examples of their own.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

import poincare_taxa as pt
from benchmarks.tables import Row

FEATURES = 64
SPREAD = {"family": 0.7, "genus": 0.5, "species": 0.5}
"""Length of the random vectors, relative to the noise at level 1, in each coordinate."""
EXAMPLES, TESTS = 4, 10
"""Of each species."""
EPOCHS, BATCH = 20, 256
SETTINGS = [(1e-2, 0.01), (1e-2, 1.0), (3e-2, 0.1), (3e-3, 1.0)]
"""Step size and weight decay of the baselines."""
OURS = (2e-3, 0.01)
"""Of `TaxonHead`, at its default temperature: those of `settings` with the fewest errors at genus
of unseen species, the error that the head is for."""
STEPS = (1e-3, 2e-3, 5e-3, 1e-2)
TEMPERATURES = (0.02, 0.05, 0.1, 0.2, 0.4)
VALIDATION = (1000, 1001, 1002, 1003)
"""Seeds of the simulations that chose `OURS` and the default temperature; none is reported."""

Outputs = tuple[Tensor, pl.Series]
"""Outputs of the encoder, and the ids of their species."""


class Simulation(NamedTuple):
    """A simulated encoder's outputs."""

    tax: pt.Taxonomy
    seen: pl.Series
    train: Outputs
    tune: Outputs
    """Of seen species, to choose the settings of the baselines."""
    test: Outputs
    unseen: Outputs


def simulate(noise: float, seed: int, clade: str = "Primates", least: int = 4) -> Simulation:
    """Draw the vectors of taxa, the unseen species, and examples."""
    tax = pt.load_sample("mammals").subtree(clade)
    species = tax.ids.filter(pl.Series(tax.has_rank("species")))
    ranks = {rank: tax.ancestor_at_rank(species, rank) for rank in SPREAD}
    known = pl.DataFrame(ranks).drop_nulls().filter(pl.len().over("genus") >= least)
    rng = np.random.default_rng(seed)
    vectors = sum(
        spread * rng.normal(size=(len(tax), FEATURES))[tax.rows(known[rank])]
        for rank, spread in SPREAD.items()
    )
    draws = pl.Series("draw", rng.random(len(known)))
    place = pl.col("draw").rank("ordinal").over("genus")  # the first quarter is unseen
    order = known.with_columns(draws).select(place <= pl.len().over("genus") // 4).to_series()
    unseen = order.to_numpy()

    def draw(which: NDArray[np.int64], number: int) -> Outputs:
        rows = np.repeat(which, number)
        outputs = vectors[rows] + noise * rng.normal(size=(len(rows), FEATURES))
        return torch.from_numpy(outputs).float(), known["species"].gather(pl.Series(rows))

    there, away = np.flatnonzero(~unseen), np.flatnonzero(unseen)
    drawn = draw(there, EXAMPLES), draw(there, 2), draw(there, TESTS), draw(away, TESTS)
    return Simulation(tax, known["species"].filter(pl.Series(~unseen)), *drawn)


def train(head: Any, data: Simulation, setting: tuple[float, float], levels: Tensor | None) -> Any:
    """Train a head on the examples; with levels by the hierarchical loss."""
    lr, weight_decay = setting
    optimizer = pt.RowwiseRiemannianAdam(head.parameters(), lr=lr, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    x, target = data.train[0], head.targets(data.train[1])
    generator = torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(x), generator=generator).split(BATCH):
            log_probs = head(x[batch])
            loss = torch.nn.functional.nll_loss(log_probs, target[batch])
            if levels is not None:
                loss = pt.hierarchical_cross_entropy(log_probs, target[batch], levels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return head


@torch.no_grad()
def accuracy(head: Any, outputs: Outputs) -> float:
    """Share of outputs whose most probable candidate is their species."""
    return (head(outputs[0]).argmax(-1) == head.targets(outputs[1])).double().mean().item()


@torch.no_grad()
def figures(head: Any, data: Simulation) -> dict[str, float]:
    """Accuracy, the size of mistakes, and the genus of unseen species by the sums over clades."""
    tax, (x, truth) = data.tax, data.test
    answer = head.topk(head(x), k=1)["id"]
    wrong = answer != truth
    edges = tax.tree_distance(answer, truth)
    genus = head.topk(head(data.unseen[0]), k=1, taxon_rank="genus")["id"]
    return {
        "accuracy": 1 - wrong.mean(),  # pyright: ignore[reportOperatorIssue]
        "tree distance of errors": edges.filter(wrong).mean(),
        "tree distance of all": edges.mean(),
        "unseen: error at genus": (genus != tax.ancestor_at_rank(data.unseen[1], "genus")).mean(),
    }  # pyright: ignore[reportReturnType]


class FlatHead(pt.TaxonHead):
    """The hyperbolic head with Euclidean distances: what the curvature is worth."""

    def _logits(self, x: Tensor) -> Tensor:
        query = x * self.log_scale.exp() / self.dim**0.5
        distance = torch.cdist(query, self.points())
        return -distance / (self.temperature * self.log_temperature.exp())


class FixedHead(torch.nn.Module):
    """A linear map into the space of a model whose vectors stay as they are."""

    def __init__(self, data: Simulation, dim: int, tau: float) -> None:
        super().__init__()
        self.head = pt.TaxonHead(data.tax, dim, data.seen)
        self.targets, self.topk = self.head.targets, self.head.topk
        points = pt.layout(data.tax, dim, tau=tau, dtype=torch.float32)
        table = pt.PoincareEmbedding.from_pretrained(points.radius, points.direction, freeze=True)
        table.taxonomy = data.tax
        self.table, self.rows = table, table.rows(self.head.candidates)
        self.map = torch.nn.Linear(FEATURES, dim)
        self.log_temperature = torch.nn.Parameter(torch.tensor(0.05).log())

    def forward(self, x: Tensor) -> Tensor:
        query = pt.polar.expmap0(self.map(x))
        points = self.table(self.rows)
        distance = pt.cdist(query, (points[:, 0], points[:, 1:]), manifold="polar")
        return (-distance / self.log_temperature.exp()).log_softmax(-1)


Build = Callable[[Simulation], Any]


def head_of(geometry: Any, **options: Any) -> Build:
    """Make the head of a geometry, of the seen species."""
    return lambda data: pt.TaxonHead(data.tax, FEATURES, data.seen, geometry=geometry, **options)


METHODS: dict[str, tuple[Build, list[tuple[float, float]], bool]] = {
    "softmax (linear)": (head_of("linear"), SETTINGS, False),
    "softmax (linear), hierarchical loss": (head_of("linear"), SETTINGS, True),
    "cosine": (head_of("cosine"), SETTINGS, False),
    "cosine, hierarchical loss": (head_of("cosine"), SETTINGS, True),
    "TaxonHead": (head_of("hyperbolic"), [OURS], False),
    "TaxonHead, hierarchical loss": (head_of("hyperbolic"), [OURS], True),
    "TaxonHead, flat distances": (
        lambda data: FlatHead(data.tax, FEATURES, data.seen),
        [OURS],
        False,
    ),
}
TARGETS: dict[str, tuple[Build, list[tuple[float, float]], bool]] = {
    "TaxonHead": METHODS["TaxonHead"],
    "temperature 0.1": (head_of("hyperbolic", temperature=0.1), [OURS], False),
    "temperature 0.3": (head_of("hyperbolic", temperature=0.3), [OURS], False),
    "dim 32, by a linear map": (head_of("hyperbolic", dim=32), [OURS], False),
    **{
        f"fixed vectors, dim {dim}, tau {tau}": (
            lambda data, dim=dim, tau=tau: FixedHead(data, dim, tau),
            SETTINGS,
            False,
        )
        for dim, tau in [(10, 1.2), (32, 0.1)]
    },
}


def settings(noise: float) -> Iterator[Row]:
    """Accuracy on seen species, and error at genus of unseen ones, by temperature and step size."""
    simulations = [simulate(noise, seed) for seed in VALIDATION]
    for temperature in TEMPERATURES:
        row: Row = {"noise": noise, "temperature": temperature}
        for lr in STEPS:
            found = []
            for data in simulations:
                head = head_of("hyperbolic", temperature=temperature)(data)
                train(head, data, (lr, OURS[1]), None)
                found.append((accuracy(head, data.tune), *figures(head, data).values()))
            row[f"step {lr:g}"] = "{0:.3f} ({4:.3f})".format(*np.mean(found, axis=0))
        yield row


def compared(methods: Any, noises: list[float], seeds: int) -> Iterator[Row]:
    """Every noise and method: means over seeds of the figures."""
    for noise in noises:
        simulations = [simulate(noise, seed) for seed in range(seeds)]
        for name, (build, settings, hierarchical) in methods.items():
            found = []
            for seed, data in enumerate(simulations):
                tried = []
                for setting in settings:
                    torch.manual_seed(seed)
                    head = build(data)
                    levels = None
                    if hierarchical:
                        levels = pt.clade_levels(data.tax, head.candidates)
                    train(head, data, setting, levels)
                    tried.append((accuracy(head, data.tune), head))
                best = max(tried, key=lambda pair: pair[0])[1]
                found.append(figures(best, data))
            means = pl.DataFrame(found).mean().row(0, named=True)
            yield {"noise": noise, "head": name, **{k: f"{v:.3f}" for k, v in means.items()}}
