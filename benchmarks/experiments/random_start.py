"""Training from random starts, by the recommended recipe: the figures of docs/blocks/training.md.

    … random_start three clades of NCBI, three seeds each
    … random_start 7586  any taxids of the NCBI taxonomy
    … random_start 7586 6447 --root-weight 2 --root-weight 4 --root-weight 8
    … random_start --table  only the table, of the rows that are kept

Needs the extra [ncbi]. The floor is the random start itself, the ceiling the tree's own distances;
"root share" is what the distance to the root contributes to the loss, in the mean over all steps.
Writes random_start to benchmarks/results/ and docs/tables/; where weights of the root are given,
root_weight, the worst of the seeds.
"""

import time
from collections.abc import Iterable
from typing import Annotated
from unittest.mock import patch

import polars as pl
import torch
import typer

import poincare_taxa as pt
from benchmarks.tables import RESULTS, write_markdown, write_tsv
from poincare_taxa.training.objectives import LevelStress

CLADES = [7586, 6447, 2697495]  # Echinodermata, Mollusca, Spiralia
GROUPS = ["phylum", "class", "order", "family"]
MEASURES = {
    "depth–radius Spearman": "depth–radius",
    "precision@10": "precision@10",
    "ancestor MAP": "ancestor MAP",
    "Spearman": "Spearman",
    **{f"separation/{group}": f"sep. {group}" for group in GROUPS},
}
PARTS = {"radius", "precision", "ancestor", "correlation", "separation"}

Row = dict[str, object]


def measured(model: object, tax: pt.Taxonomy, queries: int) -> tuple[Row, Row]:
    """Value of every measure, and that of the tree itself."""
    report = pt.evaluate(
        model, tax, queries=queries, exact=False, only=PARTS, floor_queries=0, progress=False
    )
    found = {label: report[key] for key, label in MEASURES.items() if key in report}
    value: Row = {label: round(row.value, 4) for label, row in found.items()}
    tree = {label: round(row.ceiling.value, 4) for label, row in found.items() if row.ceiling}
    return value, dict(tree)


def trained(tax: pt.Taxonomy, dim: int, seed: int, queries: int) -> tuple[Row, Row]:
    """Train from one random start: times and share of the root's term, and every measure."""
    wall, cpu = time.perf_counter(), time.process_time()
    run = pt.fit(tax, dim=dim, seed=seed, progress=False)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    history = run.history.drop_nulls("loss")
    steps = history["steps"].to_numpy()
    share = (history["loss/root"].to_numpy() @ steps) / (history["loss"].to_numpy() @ steps)
    about: Row = {"s": f"{wall:.0f}", "CPU s": f"{cpu:.0f}", "root share": f"{share:.2f}"}
    return about, measured(run.model, tax, queries)[0]


def write(name: str, rows: list[Row]) -> None:
    """Write rows whose columns differ."""
    columns = ranks_last(dict.fromkeys(key for row in rows for key in row))
    rows = [{column: str(row.get(column, "")) for column in columns} for row in rows]
    write_tsv(name, rows)
    write_markdown(name, rows)


def ranks_last(columns: Iterable[str]) -> list[str]:
    """Columns as they come, then those of the taxon ranks, from the highest down."""
    groups = list(MEASURES.values())[-len(GROUPS) :]
    columns = list(columns)
    return [c for c in columns if c not in groups] + [c for c in groups if c in columns]


def tabulate() -> None:
    """Write the table of the kept rows."""
    kept = pl.read_csv(RESULTS / "random_start.tsv", separator="\t", infer_schema=False)
    kept = kept.drop("commit").fill_null("")
    write_markdown("random_start", kept.select(ranks_last(kept.columns)).to_dicts())


def starts(ncbi: pt.Taxonomy, taxids: list[int], seeds: int, queries: int, dim: int) -> None:
    """Every clade: the tree, and each random start before and after training."""
    rows: list[Row] = []
    for taxid in taxids:
        tax = ncbi.subtree(taxid)
        name: Row = {"clade": tax.names[0], "taxa": len(tax)}
        blank = {"s": "", "CPU s": "", "root share": ""}
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            start = pt.PoincareEmbedding(len(tax), dim, generator=generator)
            floor, tree = measured(start, tax, queries)
            about, value = trained(tax, dim, seed, queries)
            if seed == 0:
                rows.append({**name, "points": "the tree itself", **blank, **tree})
            rows.append({**name, "points": f"random start {seed}", **blank, **floor})
            rows.append({**name, "points": f"fit, seed {seed}", **about, **value})
            print(rows[-1], flush=True)
        write("random_start", rows)


def weights(
    ncbi: pt.Taxonomy, taxids: list[int], root: list[float], seeds: int, queries: int, dim: int
) -> None:
    """Every clade and weight of the root: the worst of the seeds."""
    rows: list[Row] = []
    assert LevelStress.__init__.__kwdefaults__
    for taxid in taxids:
        tax = ncbi.subtree(taxid)
        start = pt.PoincareEmbedding(len(tax), dim, generator=torch.Generator().manual_seed(0))
        floor, tree = measured(start, tax, queries)
        name: Row = {"clade": tax.names[0]}
        rows += [
            {**name, "root weight": "the tree itself", "root share": "", **tree},
            {**name, "root weight": "random start", "root share": "", **floor},
        ]
        for weight in root:
            with patch.dict(LevelStress.__init__.__kwdefaults__, root_weight=weight):
                runs = [trained(tax, dim, seed, queries) for seed in range(seeds)]
            share = max(str(about["root share"]) for about, _ in runs)
            worst = {key: min(float(str(value[key])) for _, value in runs) for key in runs[0][1]}
            rows.append({**name, "root weight": weight, "root share": share, **worst})
            print(rows[-1], flush=True)
        write("root_weight", rows)


def main(
    taxids: Annotated[list[int] | None, typer.Argument(help="Roots of clades.")] = None,
    seeds: Annotated[int, typer.Option(help="Random starts of each clade.")] = 3,
    queries: Annotated[int, typer.Option(help="Taxa compared with all taxa.")] = 300,
    dim: Annotated[int, typer.Option(help="Coordinates of a direction.")] = 10,
    root_weight: Annotated[list[float] | None, typer.Option(help="Weights to compare.")] = None,
    table: Annotated[bool, typer.Option("--table", help="Only write the table.")] = False,
) -> None:
    """Train every clade from several random starts."""
    if table:
        tabulate()
        return
    torch.set_num_threads(1)
    ncbi = pt.read_ncbi()
    if root_weight:
        weights(ncbi, taxids or CLADES[:2], root_weight, seeds, queries, dim)
    else:
        starts(ncbi, taxids or CLADES, seeds, queries, dim)


if __name__ == "__main__":
    typer.run(main)
