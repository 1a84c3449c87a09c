"""Small tables of results: TSV for machines under results/, Markdown for the documentation."""

import subprocess
from pathlib import Path

import polars as pl

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "tables"


def commit() -> str:
    """Name of the commit that a measurement ran on."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_tsv(name: str, rows: list[dict[str, object]]) -> None:
    """Write rows and the commit that made them to results/<name>.tsv."""
    path = RESULTS / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pl.DataFrame(rows, infer_schema_length=None).with_columns(commit=pl.lit(commit()))
    table.write_csv(path, separator="\t")


def write_markdown(name: str, rows: list[dict[str, object]]) -> None:
    """Write rows to docs/tables/<name>.md, and print them."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += ["| " + " | ".join(str(row[column]) for column in columns) + " |" for row in rows]
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
