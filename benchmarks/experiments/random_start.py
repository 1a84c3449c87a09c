"""Training from random starts, by the recommended recipe: the figures of docs/blocks/training.md.

The floor is the random start itself, the ceiling the tree's own distances;
"root share" is what the distance to the root contributes to the loss, in the mean over all steps.
Where weights of the root are compared, the table has the worst of the seeds.
"""

from collections.abc import Iterable, Iterator
from functools import partial
from unittest.mock import patch

import torch

import poincare_taxa as pt
from benchmarks.clades import ECHINODERMATA, MOLLUSCA, SPIRALIA, clade
from benchmarks.experiments.scores import scores
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.training.level_stress import LevelStress

CLADES = [ECHINODERMATA, MOLLUSCA, SPIRALIA]
GROUPS = ["phylum", "class", "order", "family"]
MEASURES = {
    "depth–radius Spearman": "depth–radius",
    "precision@10": "precision@10",
    "ancestor MAP": "ancestor MAP",
    "Spearman": "Spearman",
    **{f"separation/{group}": f"sep. {group}" for group in GROUPS},
}
measured = partial(scores, measures=MEASURES)


def trained(tax: pt.Taxonomy, dim: int, seed: int, queries: int) -> tuple[Row, Row]:
    """Train from one random start: times and share of the root's term, and every measure."""
    with stopwatch() as elapsed:
        run = pt.fit(tax, dim=dim, seed=seed, progress=False)
    history = run.history.drop_nulls("loss")
    steps = history["steps"].to_numpy()
    share = (history["loss/root"].to_numpy() @ steps) / (history["loss"].to_numpy() @ steps)
    about: Row = {"s": f"{elapsed.wall:.0f}", "CPU s": f"{elapsed.cpu:.0f}"}
    about["root share"] = f"{share:.2f}"
    return about, measured(run.model, tax, queries=queries)[0]


def readable(rows: list[Row]) -> list[Row]:
    """Text of all cells, the columns of all rows in one order, without the commit."""
    columns = ranks_last(dict.fromkeys(key for row in rows for key in row if key != "commit"))
    return [{column: _text(row.get(column)) for column in columns} for row in rows]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def ranks_last(columns: Iterable[str]) -> list[str]:
    """Columns as they come, then those of the taxon ranks, from the highest down."""
    groups = list(MEASURES.values())[-len(GROUPS) :]
    columns = list(columns)
    return [c for c in columns if c not in groups] + [c for c in groups if c in columns]


def starts(taxids: list[int], seeds: int, queries: int, dim: int) -> Iterator[Row]:
    """Every clade: the tree, and each random start before and after training."""
    for taxid in taxids:
        tax = clade(taxid)
        name: Row = {"clade": tax.names[0], "taxa": len(tax)}
        blank = {"s": "", "CPU s": "", "root share": ""}
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            start = pt.PoincareEmbedding(len(tax), dim, generator=generator)
            floor, tree = measured(start, tax, queries=queries)
            about, value = trained(tax, dim, seed, queries)
            if seed == 0:
                yield {**name, "points": "the tree itself", **blank, **tree}
            yield {**name, "points": f"random start {seed}", **blank, **floor}
            yield {**name, "points": f"fit, seed {seed}", **about, **value}


def weights(
    taxids: list[int], root: list[float], seeds: int, queries: int, dim: int
) -> Iterator[Row]:
    """Every clade and weight of the root: the worst of the seeds."""
    assert LevelStress.__init__.__kwdefaults__
    for taxid in taxids:
        tax = clade(taxid)
        start = pt.PoincareEmbedding(len(tax), dim, generator=torch.Generator().manual_seed(0))
        floor, tree = measured(start, tax, queries=queries)
        name: Row = {"clade": tax.names[0]}
        yield {**name, "root weight": "the tree itself", "root share": "", **tree}
        yield {**name, "root weight": "random start", "root share": "", **floor}
        for weight in root:
            with patch.dict(LevelStress.__init__.__kwdefaults__, root_weight=weight):
                runs = [trained(tax, dim, seed, queries) for seed in range(seeds)]
            share = max(str(about["root share"]) for about, _ in runs)
            worst = {key: min(float(str(value[key])) for _, value in runs) for key in runs[0][1]}
            yield {**name, "root weight": weight, "root share": share, **worst}
