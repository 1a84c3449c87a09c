"""Remake the shipped sample, the NCBI clade Mammalia: python -m benchmarks.tools.make_sample"""

from pathlib import Path

import poincare_taxa
from poincare_taxa.readers import read_ncbi

if __name__ == "__main__":
    path = Path(poincare_taxa.__file__).parent / "data" / "mammals.parquet"
    frame = read_ncbi().subtree(40674).to_frame()
    frame.write_parquet(path, compression="zstd", compression_level=19)
    print(f"{path}: {len(frame):,} taxa, {path.stat().st_size / 1e3:.0f} kB")
