"""Write the complete NCBI taxonomy as a full-size taxdump.

The tree, the names and the common names are those of the offline package. Everything else in the
dump (the further columns of nodes.dmp, synonyms, merged and deleted ids) is filled up to the size
that a real dump has.
"""

from pathlib import Path

import polars as pl

from benchmarks.clades import ncbi

BAR = "\t|\t"
END = "\t|"
SYNONYMS_PER_NODE = 0.55  # 4.0 M names of 2.6 M taxa, as in September 2024
REST = BAR.join(["", "8", "0", "1", "0", "0", "0", "0", "0", "", "", "", "0", "1", "0", "1", "0"])


def lines(*fields: pl.Expr | str) -> pl.Expr:
    columns = [pl.lit(f) if isinstance(f, str) else f.cast(pl.String) for f in fields]
    return pl.concat_str(pl.concat_str(columns, separator=BAR, ignore_nulls=False), pl.lit(END))


def write(path: Path, table: pl.DataFrame, line: pl.Expr) -> None:
    with path.open("wb") as file:
        table.select(line).write_csv(file, include_header=False, quote_style="never")
    print(f"{path}: {len(table):,} lines, {path.stat().st_size / 1e6:.0f} MB")


def make(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    tax = ncbi()
    nodes = tax.to_frame().with_columns(pl.col("parent").fill_null(pl.col("id"))).sort("id")
    write(
        folder / "nodes.dmp",
        nodes,
        lines(pl.col("id"), pl.col("parent"), pl.col("taxon_rank"), REST),
    )
    assert tax.synonyms is not None
    common = tax.synonyms.select(tax.ids.gather(tax.synonyms["node"]), "name", "name_class")
    filled = nodes.sample(fraction=SYNONYMS_PER_NODE, seed=0).select(
        "id",
        pl.concat_str("name", pl.lit(" Linnaeus, 1758")).alias("name"),
        pl.lit("authority").alias("name_class"),
    )
    scientific = nodes.select("id", "name", pl.lit("scientific name").alias("name_class"))
    names = pl.concat([scientific, common, filled]).sort("id", maintain_order=True)
    write(
        folder / "names.dmp", names, lines(pl.col("id"), pl.col("name"), "", pl.col("name_class"))
    )
    unused = pl.DataFrame({"id": pl.int_range(4_000_000, 4_700_000, eager=True)})
    targets = nodes["id"].gather(pl.int_range(0, 90_000, eager=True))
    write(
        folder / "merged.dmp",
        unused[:90_000].with_columns(targets.alias("new_id")),
        lines(pl.col("id"), pl.col("new_id")),
    )
    write(folder / "delnodes.dmp", unused[90_000:], lines(pl.col("id")))
