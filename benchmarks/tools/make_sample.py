"""Make the samples that the library ships: the NCBI clade Mammalia, and animals with traits."""

import io
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.clades import clade, ncbi
from poincare_taxa.files.atomic import replace_file

MAMMALIA = 40674
SAMPLES = Path("poincare_taxa", "data")
"""In a checkout."""


def make(out: Path | None, traits: Path | None = None) -> None:
    """Compress the tables; with a folder that is laid out as a checkout write them there.

    Animals are made only of a file of traits: columns ``taxid``, ``mass_kg``, ``metabolic_rate_w``
    and ``brain_kg``, of AnimalTraits.
    """
    tables = {"mammals": clade(MAMMALIA).to_frame()}
    if traits is not None:
        tables["animals"] = with_lineages(pl.read_csv(traits, infer_schema_length=None))
    for name, frame in tables.items():
        data = io.BytesIO()
        frame.write_parquet(data, compression="zstd", compression_level=19)
        print(f"{name}: {len(frame):,} taxa, {len(data.getvalue()) / 1e3:.0f} kB")
        if out is not None:
            with replace_file(out / SAMPLES / f"{name}.parquet") as draft:
                draft.write_bytes(data.getvalue())


def with_lineages(traits: pl.DataFrame) -> pl.DataFrame:
    """Return the table of the taxa with traits and their ancestors, with the traits beside them."""
    tax = clade(ncbi().lca(traits["taxid"]))
    above = np.unique(tax.tree.lineages(tax.rows(traits["taxid"])))
    frame = tax.to_frame()[above[above >= 0]]
    columns = traits.select(pl.col("taxid").alias("id"), "mass_kg", "metabolic_rate_w", "brain_kg")
    return frame.join(columns, on="id", how="left", maintain_order="left")
