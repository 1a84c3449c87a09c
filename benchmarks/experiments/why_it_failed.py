"""Why the training that this library grew from learned nothing: docs/why-it-failed.md in figures.

Echinodermata of the NCBI taxonomy. Every run of an ablation sees the
same number of pairs, two epochs of the 61,168 (the recommended recipe, which draws no pairs, says
its seconds instead). OLD is the recipe that failed, REPAIRED a ranking recipe without its faults;
each other row changes what it says. The floor is the random start, the ceiling the tree's own
distances. Tables keep every seed; the page has mean ± standard deviation.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import geoopt
import polars as pl
import torch

import poincare_taxa as pt
from benchmarks.experiments.predecessor_separation import predecessor_separations
from benchmarks.experiments.scores import MEASURES, mean_and_deviation, scores
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.blocks.schedules import Cosine
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.files.atomic import replace_file

EPOCHS = 20
PAGES = {
    "pairs": ("pairs:", "all"),
    "negatives": ("negatives:", "10, uniform, exact"),
    "margins": ("margin:", "tree"),
    "regularizers": ("λ:", "0"),
    "curriculum": ("curriculum:", "top-down"),
    "optimizers": ("optimizer:", "row-wise, lr 0.1"),
    "embedding": ("space:", "polar float64"),
}
"""Pages of docs/blocks, what changes of their blocks begin with, and what the base has."""
GAPS = {"parent": (1, 1), "grandparent": (2, 2), "deeper": (3, None)}


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; what they mean is in `train`."""

    pairs: str = "10 % parents, 10 % grandparents, 80 % deeper"
    negatives: str = "same depth"
    exact: bool = False
    anchor: str = "ancestor"
    num_negatives: int = 50
    loss: str = "hinge"
    margin: str = "0.2"
    weight: float = 0.1
    curriculum: str = "none"
    optimizer: str = "Adam"
    lr: float = 0.005
    decay: bool = False
    clip: float | None = 1.0
    space: str = "ball float32"
    batch_size: int = 64
    epochs_of_data: float = 2.0


OLD = Recipe()
REPAIRED = Recipe(
    pairs="all",
    negatives="uniform",
    exact=True,
    anchor="descendant",
    num_negatives=10,
    margin="tree",
    weight=0.0,
    curriculum="top-down",
    optimizer="row-wise",
    lr=0.1,
    decay=True,
    clip=None,
    space="polar float64",
    batch_size=256,
)

OLD_CHANGES: dict[str, dict[str, Any]] = {
    "as it was": {},
    "pairs: parents only": {"pairs": "parents"},
    "pairs: depths balanced": {"pairs": "depths balanced"},
    "negatives: exact": {"exact": True},
    "negatives: uniform": {"negatives": "uniform"},
    "negatives: uniform, exact": {"negatives": "uniform", "exact": True},
    "negatives: cousins": {"negatives": "cousins"},
    "negatives: cousins, exact": {"negatives": "cousins", "exact": True},
    "margin: 0.5": {"margin": "0.5"},
    "margin: by gap": {"margin": "gap"},
    "margin: tree": {"margin": "tree"},
    "λ: 0": {"weight": 0.0},
    "λ: 0.01": {"weight": 0.01},
    "λ: 0.05": {"weight": 0.05},
    "curriculum: by gap": {"curriculum": "by gap"},
    "curriculum: top-down": {"curriculum": "top-down"},
    "optimizer: geoopt's Riemannian Adam": {"optimizer": "geoopt", "lr": 0.05},
    "optimizer: row-wise": {"optimizer": "row-wise", "lr": 0.05},
    "space: ball float64": {"space": "ball float64"},
    "space: polar float64": {"space": "polar float64"},
    "five times the pairs": {"epochs_of_data": 10.0},
}

REPAIRED_CHANGES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "pairs: parents only": {"pairs": "parents"},
    "pairs: 10 % parents, 10 % grandparents, 80 % deeper": {"pairs": OLD.pairs},
    "pairs: depths balanced": {"pairs": "depths balanced"},
    "negatives: not exact": {"exact": False},
    "negatives: same depth": {"negatives": "same depth"},
    "negatives: same depth, not exact": {"negatives": "same depth", "exact": False},
    "negatives: cousins": {"negatives": "cousins"},
    "negatives: cousins, not exact": {"negatives": "cousins", "exact": False},
    "negatives: siblings": {"negatives": "siblings"},
    "negatives: 50": {"num_negatives": 50},
    "anchor: ancestor, same depth": {"anchor": "ancestor", "negatives": "same depth"},
    "margin: 0.2": {"margin": "0.2"},
    "margin: 0.5": {"margin": "0.5"},
    "margin: by gap": {"margin": "gap"},
    "λ: 0.01": {"weight": 0.01},
    "λ: 0.05": {"weight": 0.05},
    "λ: 0.1": {"weight": 0.1},
    "curriculum: none": {"curriculum": "none"},
    "curriculum: by gap": {"curriculum": "by gap"},
    "optimizer: Adam, lr 0.003": {"optimizer": "Adam", "lr": 0.003},
    "optimizer: Adam, lr 0.01": {"optimizer": "Adam", "lr": 0.01},
    "optimizer: Adam, lr 0.03": {"optimizer": "Adam", "lr": 0.03},
    "optimizer: geoopt's Riemannian Adam, lr 0.03": {"optimizer": "geoopt", "lr": 0.03},
    "optimizer: geoopt's Riemannian Adam, lr 0.1": {"optimizer": "geoopt", "lr": 0.1},
    "space: ball float32": {"space": "ball float32"},
    "space: ball float64": {"space": "ball float64"},
}

LOSSES: dict[str, dict[str, Any]] = {
    "hinge, margin of the tree": {},
    "hinge, margin 0.2": {"margin": "0.2"},
    "softmax": {"loss": "softmax"},
    "softmax, tile of 1,024": {"loss": "softmax", "negatives": "tile"},
    "stress, all at once": {"loss": "stress", "curriculum": "none"},
    "triplets, all at once": {"loss": "triplets", "curriculum": "none"},
}


def start(tax: pt.Taxonomy, space: str, seed: int) -> pt.PoincareEmbedding:
    """Random points about 0.01 from the origin, ten dimensions."""
    manifold = pt.Polar() if space.startswith("polar") else pt.PoincareBall()
    return pt.PoincareEmbedding(
        len(tax),
        10,
        manifold=manifold,
        dtype=torch.float32 if space.endswith("32") else torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )


def make_pairs(tree: TreeIndex, name: str) -> pt.AncestorPairs:
    if name == "parents":
        return pt.ParentChildPairs(tree)
    if name == "depths balanced":
        return pt.StratifiedPairs(tree, pt.blocks.balanced_depths(tree), by="depth")
    if name == "all":
        return pt.AncestorPairs(tree)
    return pt.StratifiedPairs(tree, {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8})


def make_negatives(tree: TreeIndex, recipe: Recipe) -> Any:
    k, which = recipe.num_negatives, {"anchor": recipe.anchor}
    which["exclude"] = "relatives" if recipe.exact else "nothing"
    if recipe.negatives == "tile":
        return pt.SharedNegatives(tree, 1024, **which)  # pyright: ignore
    if recipe.negatives == "same depth":
        return pt.SameDepthNegatives(tree, k, **which)  # pyright: ignore
    if recipe.negatives == "uniform":
        return pt.UniformNegatives(tree, k, **which)  # pyright: ignore
    levels = {"siblings": 1, "cousins": 3}[recipe.negatives]
    return pt.CousinNegatives(tree, k, levels=levels, **which)  # pyright: ignore


def make_margin(tree: TreeIndex, name: str) -> Any:
    if name == "tree":
        return pt.TreeMargin(1.0)
    if name == "gap":
        return pt.DepthMargin(0.05, 0.95 / tree.max_depth)
    return pt.ConstantMargin(float(name))


def make_blocks(tree: TreeIndex, recipe: Recipe) -> dict[str, Any]:
    """Loss, and what it draws; stress and triplets draw evenly over the depth of the LCA."""
    if recipe.loss == "stress":
        return {"loss": pt.StressLoss(), "pairs": pt.blocks.LCAPairs(tree)}
    if recipe.loss == "triplets":
        return {"loss": pt.TripletLoss(), "pairs": pt.blocks.LCATriplets(tree)}
    loss = pt.SoftmaxRankingLoss()
    if recipe.loss == "hinge":
        loss = pt.DepthMarginRankingLoss(margin=make_margin(tree, recipe.margin))
    return {
        "loss": loss,
        "pairs": make_pairs(tree, recipe.pairs),
        "negatives": make_negatives(tree, recipe),
    }


def norm_regularizer(weight: float, max_depth: int) -> Callable[[torch.Tensor, torch.Tensor], Any]:
    """Pull norms in the ball towards 0.1 + 0.85 depth / max_depth, as the old recipe did."""

    def penalty(radius: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        target = 0.1 + 0.85 * depth.to(radius.dtype) / max_depth
        return weight * (torch.tanh(radius / 2) - target).square().mean()

    return penalty


OPTIMIZERS: dict[str, Any] = {
    "Adam": torch.optim.Adam,
    "geoopt": geoopt.optim.RiemannianAdam,
    "row-wise": pt.RowwiseRiemannianAdam,
}


def train(tax: pt.Taxonomy, recipe: Recipe, seed: int) -> pt.training.Run:
    """Run a recipe through `fit`."""
    tree = TreeIndex(tax)
    total = recipe.epochs_of_data * len(pt.AncestorPairs(tree))
    curricula = {
        "none": None,
        "by gap": pt.Curriculum.progressive(EPOCHS, tree),
        "top-down": pt.Curriculum.top_down(EPOCHS, tree),
    }
    penalty = norm_regularizer(recipe.weight, tax.max_depth) if recipe.weight else None
    return pt.fit(
        tax,
        start(tax, recipe.space, seed),
        seed=seed,
        **make_blocks(tree, recipe),
        regularizer=penalty,
        curriculum=curricula[recipe.curriculum],
        optimizer=partial(OPTIMIZERS[recipe.optimizer], lr=recipe.lr),
        lr_schedule=Cosine(period=EPOCHS) if recipe.decay else None,
        max_grad_norm=recipe.clip,
        batch_size=recipe.batch_size,
        epochs=EPOCHS,
        steps_per_epoch=max(1, math.ceil(total / recipe.batch_size / EPOCHS)),
        progress=False,
    )


def accuracy(points: Any, tax: pt.Taxonomy) -> Row:
    """How often a descendant is nearer to its ancestor than an unrelated node of its depth."""
    tree, generator = TreeIndex(tax), torch.Generator().manual_seed(0)
    r, u = (torch.as_tensor(part).double() for part in (points.radius, points.direction))
    found: Row = {}
    for name, (least, most) in GAPS.items():
        pairs = pt.AncestorPairs(tree, min_gap=least, max_gap=most).sample(
            3000, generator=generator
        )
        nodes = pt.SameDepthNegatives(tree, 5, anchor="ancestor")(pairs, generator)
        valid, nodes = nodes >= 0, nodes.clamp(min=0)
        a, v = pairs[:, :1], pairs[:, 1:]
        near = pt.polar.dist(r[a], u[a], r[v], u[v])
        far = pt.polar.dist(r[a], u[a], r[nodes], u[nodes])
        right = (near < far).double() + 0.5 * (near == far)
        found[f"accuracy, {name}"] = round(float(right[valid].mean()), 4)
    return found


def one_run(
    tax: pt.Taxonomy, make: Callable[[], pt.training.Run], epochs: int | None = None
) -> Row:
    """Train and measure."""
    with warnings.catch_warnings(record=True) as caught, stopwatch() as elapsed:
        warnings.simplefilter("always")
        run = make()
    last = run.history.row(-1, named=True)
    value, _ = scores(run.embedding, tax)
    radius = run.embedding.radius
    return {
        **value,
        **predecessor_separations(run.embedding, tax),
        **accuracy(run.embedding, tax),
        "regularizer's share": round(last.get("share/regularizer") or 0.0, 4),
        "loss": round(last["loss"], 4),
        "mean radius": round(float(radius.mean()), 3),
        "at the clip": round(last["at_clip"], 4),
        "warned": sum(issubclass(w.category, UserWarning) for w in caught),
        "cpu s": round(elapsed.cpu, 1),
    }


def references(tax: pt.Taxonomy, seed: int) -> list[Row]:
    """Rows of the floor (untrained) and of the ceiling (the tree)."""
    floor = start(tax, "polar float64", seed)
    value, tree = scores(floor, tax)
    ones: Row = {f"accuracy, {name}": 1.0 for name in GAPS}
    return [
        {"from": "–", "change": "floor: untrained", "seed": seed, **value, **accuracy(floor, tax)},
        {"from": "–", "change": "ceiling: the tree", "seed": seed, **tree, **ones},
    ]


def recommended(tax: pt.Taxonomy, seed: int) -> pt.training.Run:
    return pt.fit(tax, seed=seed, progress=False)


def all_runs(tax: pt.Taxonomy, seed: int) -> list[tuple[str, str, Callable[[], pt.training.Run]]]:
    """(from, change, run) of every row of the ablation."""
    runs: list[tuple[str, str, Callable[[], pt.training.Run]]] = [
        ("ours", "recommended", partial(recommended, tax, seed))
    ]
    for name, base, changes in (
        ("repaired", REPAIRED, REPAIRED_CHANGES),
        ("old", OLD, OLD_CHANGES),
    ):
        for change, settings in changes.items():
            runs.append((name, change, partial(train, tax, replace(base, **settings), seed)))
    return runs


def means(rows: list[Row]) -> list[Row]:
    """One line for each configuration: mean ± standard deviation over its seeds."""
    table = pl.DataFrame(rows, infer_schema_length=None)
    keys = [key for key in MEASURES.values() if key in table.columns]
    lines = []
    for (origin, change), part in table.group_by(["from", "change"], maintain_order=True):
        shown: Row = {"from": origin, "change": change}
        for key in keys:
            shown[key] = mean_and_deviation(part[key])
        accuracies = [part[f"accuracy, {name}"].mean() for name in GAPS]
        shown["pair accuracy, gap 1 / 2 / 3+"] = " / ".join(f"{a:.2f}" for a in accuracies)
        share = part["regularizer's share"].mean() if "regularizer's share" in part else None
        shown["regularizer's share"] = "–" if share is None else f"{share:.2f}"
        lines.append(shown)
    return lines


def ablation(tax: pt.Taxonomy, seeds: int, only: str, kept: list[Row]) -> list[Row]:
    """Change one thing at a time: all of them, or those with some text in their name.

    Rows that are kept from an earlier run stay where they are not measured again.
    """
    table = {(row["from"], row["change"], row["seed"]): row for row in kept}
    for seed in range(seeds):
        for row in references(tax, seed):
            table[row["from"], row["change"], seed] = row
        for origin, change, run in all_runs(tax, seed):
            if only in change:
                row = {"from": origin, "change": change, "seed": seed, **one_run(tax, run)}
                table[origin, change, seed] = row
                print(row, flush=True)
    return list(table.values())


def losses(tax: pt.Taxonomy, seeds: int) -> Iterator[Row]:
    """Change the loss of the repaired recipe; stress level by level is the recommended one."""
    for seed in range(seeds):
        yield from references(tax, seed)
        found = one_run(tax, partial(recommended, tax, seed))
        yield {"from": "ours", "change": "stress, level by level", "seed": seed, **found}
        for change, settings in LOSSES.items():
            found = one_run(tax, partial(train, tax, replace(REPAIRED, **settings), seed))
            yield {"from": "repaired", "change": change, "seed": seed, **found}


def large(tax: pt.Taxonomy, seeds: int) -> Iterator[Row]:
    """The old recipe and the repaired one on a larger clade (ours: random_start.py)."""
    for seed in range(seeds):
        yield from references(tax, seed)
        for origin, change, recipe in (
            ("old", "as it was", OLD),
            ("repaired", "as it is", REPAIRED),
        ):
            found = one_run(tax, partial(train, tax, recipe, seed))
            yield {"from": origin, "change": change, "seed": seed, **found}


def block_tables(rows: list[Row]) -> dict[str, list[Row]]:
    """Table of each block's page: its rows of the repaired recipe, between floor and ceiling."""
    shown = ["depth–radius", "precision@10", "ancestor MAP", "Spearman"]
    lines = [line for line in means(rows) if line["from"] != "old"]
    tables = {}
    for page, (prefix, base) in PAGES.items():
        part = [
            {"": str(line["change"]).replace("as it is", f"{prefix} {base}")}
            | {key: line[key] for key in shown}
            for line in lines
            if str(line["change"]).startswith(("floor", "as it is", prefix, "ceiling"))
        ]
        tables[f"accuracy_{page}"] = part[:1] + part[2:] + part[1:2]
    return tables


def draw(rows: list[Row], folder: Path) -> None:
    """Draw the rows of both recipes, a picture each."""
    import matplotlib.pyplot as plt

    table = pl.DataFrame(rows, infer_schema_length=None)
    for origin in ("old", "repaired"):
        part = table.filter(pl.col("from") == origin)
        changes = part["change"].unique(maintain_order=True).to_list()
        figure, axes = plt.subplots(1, 3, figsize=(9, 0.24 * len(changes) + 0.9), sharey=True)
        for axis, key in zip(axes, ("depth–radius", "precision@10", "ancestor MAP"), strict=True):
            axis.axvline(0, color="0.85", lw=1)
            for reference, style in (("floor: untrained", ":"), ("ceiling: the tree", "--")):
                at = table.filter(pl.col("change") == reference)[key].mean()
                axis.axvline(at, color="0.4", lw=1, ls=style)
            first = part.filter(pl.col("change") == changes[0])[key].mean()
            axis.axvline(first, color="tab:red", lw=1)
            axis.plot(part[key], [changes.index(c) for c in part["change"]], "o", ms=4, alpha=0.7)
            axis.set_title(key, fontsize=9)
            axis.tick_params(labelsize=8)
        axes[0].set_yticks(range(len(changes)), changes, fontsize=7)
        axes[0].invert_yaxis()
        figure.tight_layout()
        with replace_file(folder / f"why-it-failed-{origin}.png") as draft:
            figure.savefig(draft, dpi=110, bbox_inches="tight")
        plt.close(figure)
