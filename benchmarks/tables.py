"""Where results go: TSV for machines, Markdown for the documentation, nothing unless asked.

One rule for every command: it prints, and with ``--out FOLDER`` it also writes, once, when the run
is complete. The folder is laid out as a checkout: rows are in ``benchmarks/results/``, tables in
``docs/tables/``; ``--out .`` renews those of the checkout. Rows of earlier runs, which some
commands complete, are read from the same folder. A file is written whole or not at all.
"""

import subprocess
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl

from poincare_taxa.files.atomic import replace_file

CHECKOUT = Path(__file__).parents[1]
Row = dict[str, Any]


def results(root: Path) -> Path:
    """Folder of rows below a folder that is laid out as a checkout."""
    return root / "benchmarks" / "results"


def pages(root: Path) -> Path:
    """Folder of tables that the documentation includes."""
    return root / "docs" / "tables"


@cache
def commit() -> str:
    """Name of the commit that a measurement ran on."""
    command = ["git", "describe", "--always", "--dirty"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def publish(
    out: Path | None,
    name: str,
    rows: list[Row],
    shown: list[Row] | None = None,
    below: str = "",
) -> None:
    """Print the table of a complete run; with a folder write its rows and the table there.

    The table has what is shown, else the rows, and a text below it. A name may have a folder of
    the results in front.
    """
    table = markdown(rows if shown is None else shown) + (f"\n\n{below}" if below else "")
    print(table)
    if out is not None:
        write_rows(out, name, rows)
        write_page(out, name, table)


def collected(rows: Iterable[Row]) -> list[Row]:
    """List rows, each printed as it comes: a run may take hours."""
    found = []
    for row in rows:
        print(*(value for value in row.values() if value not in (None, "")), sep=" · ", flush=True)
        found.append(row)
    return found


def write_rows(out: Path, name: str, rows: list[Row]) -> None:
    """Write rows as TSV, each with the commit that made it: its own, else this one."""
    rows = [row | {"commit": row.get("commit", commit())} for row in rows]
    table = pl.DataFrame(rows, infer_schema_length=None)
    with replace_file(results(out) / f"{name}.tsv") as draft:
        table.write_csv(draft, separator="\t")


def write_page(out: Path, name: str, text: str) -> None:
    """Write Markdown that a page of the documentation includes."""
    write_text(pages(out) / f"{Path(name).name}.md", text + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a whole file."""
    with replace_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def kept_rows(out: Path | None, name: str, *, as_text: bool = False) -> list[Row]:
    """Rows that an earlier run wrote to the folder, else to the checkout; none without a file."""
    path = results(out or CHECKOUT) / f"{name}.tsv"
    if not path.exists():
        return []
    inferred: dict[str, Any] = {"infer_schema": False} if as_text else {"infer_schema_length": None}
    return pl.read_csv(path, separator="\t", **inferred).to_dicts()


def markdown(rows: list[Row]) -> str:
    """Write rows as a table; a column that a row lacks is empty there."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    lines += [
        "| " + " | ".join(str(row.get(column, "")) for column in columns) + " |" for row in rows
    ]
    return "\n".join(lines)
