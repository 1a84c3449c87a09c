"""Training from random starts, by the recommended recipe: the figures of docs/blocks/training.md.

    python benchmarks/random_start.py            three clades of NCBI, three seeds each
    python benchmarks/random_start.py 7586       any taxids of the NCBI taxonomy

Needs the extra [ncbi]. The floor is the random start itself, the ceiling the tree's own distances;
"root share" is what the distance to the root contributes to the loss, in the mean over all steps.
Writes random_start to benchmarks/results/ and docs/tables/.
"""

import time
from typing import Annotated

import torch
import typer
from tables import write_markdown, write_tsv

import poincare_taxa as pt

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


def main(
    taxids: Annotated[list[int] | None, typer.Argument(help="Roots of clades.")] = None,
    seeds: Annotated[int, typer.Option(help="Random starts of each clade.")] = 3,
    queries: Annotated[int, typer.Option(help="Taxa compared with all taxa.")] = 300,
    dim: Annotated[int, typer.Option(help="Coordinates of a direction.")] = 10,
) -> None:
    """Train every clade from several random starts."""
    torch.set_num_threads(1)
    ncbi = pt.read_ncbi()
    rows: list[Row] = []
    for taxid in taxids or CLADES:
        tax = ncbi.subtree(taxid)
        name: Row = {"clade": tax.names[0], "taxa": len(tax)}
        for seed in range(seeds):
            generator = torch.Generator().manual_seed(seed)
            start = pt.PoincareEmbedding(len(tax), dim, generator=generator)
            floor, tree = measured(start, tax, queries)
            wall, cpu = time.perf_counter(), time.process_time()
            run = pt.fit(tax, dim=dim, seed=seed, progress=False)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            history = run.history.drop_nulls("loss")
            share = (history["loss/root"] * history["steps"]).sum()
            share /= (history["loss"] * history["steps"]).sum()
            value, _ = measured(run.model, tax, queries)
            blank = {"s": "", "CPU s": "", "root share": ""}
            if seed == 0:
                rows.append({**name, "points": "the tree itself", **blank, **tree})
            rows.append({**name, "points": f"random start {seed}", **blank, **floor})
            times = {"s": f"{wall:.0f}", "CPU s": f"{cpu:.0f}", "root share": f"{share:.2f}"}
            rows.append({**name, "points": f"fit, seed {seed}", **times, **value})
            print(rows[-1], flush=True)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    rows = [{column: row.get(column, "") for column in columns} for row in rows]
    for row in rows:
        row |= {key: str(row[key]) for key in columns}
    write_tsv("random_start", rows)
    write_markdown("random_start", rows)


if __name__ == "__main__":
    typer.run(main)
