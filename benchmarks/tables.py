"""Small tables of results: TSV for machines under results/, Markdown for the documentation."""

import subprocess
from functools import cache
from pathlib import Path

import polars as pl

RESULTS = Path(__file__).parent / "results"
PAGES = Path(__file__).parents[1] / "docs" / "tables"


@cache
def commit() -> str:
    """Name of the commit that a measurement ran on."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_tsv(name: str, rows: list[dict[str, object]]) -> None:
    """Write rows to results/<name>.tsv, each with the commit that made it: this one, or its own."""
    path = RESULTS / f"{name}.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [row | {"commit": row.get("commit", commit())} for row in rows]
    table = pl.DataFrame(rows, infer_schema_length=None)
    table.write_csv(path, separator="\t")


def write_markdown(name: str, rows: list[dict[str, object]]) -> None:
    """Write rows to docs/tables/<name>.md, and print them."""
    text = markdown(rows)
    PAGES.mkdir(parents=True, exist_ok=True)
    (PAGES / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    print(text)


def markdown(rows: list[dict[str, object]]) -> str:
    """Write rows as a table; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += [
        "| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows
    ]
    return "\n".join(lines)
