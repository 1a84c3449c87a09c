"""Make the sample that the library ships, the NCBI clade Mammalia."""

import io
from pathlib import Path

from benchmarks.clades import clade
from poincare_taxa.files.atomic import replace_file

MAMMALIA = 40674
SAMPLE = Path("poincare_taxa", "data", "mammals.parquet")
"""In a checkout."""


def make(out: Path | None) -> None:
    """Compress the table; with a folder that is laid out as a checkout write it there."""
    frame, data = clade(MAMMALIA).to_frame(), io.BytesIO()
    frame.write_parquet(data, compression="zstd", compression_level=19)
    print(f"{len(frame):,} taxa, {len(data.getvalue()) / 1e3:.0f} kB")
    if out is not None:
        with replace_file(out / SAMPLE) as draft:
            draft.write_bytes(data.getvalue())
