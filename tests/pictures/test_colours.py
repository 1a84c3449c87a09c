"""Colours of taxa."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgba
from support.zoo import zoo

from poincare_taxa.pictures.colours import OKABE_ITO, OTHERS, colours

TAX = zoo()
GREY = to_rgba(OTHERS)


def grey(found):
    return {TAX.names[i] for i in range(len(TAX)) if tuple(found.of_taxon[i]) == GREY}


def test_clades__of_a_rank_have_colours_of_their_own():
    found = colours(TAX, "order")
    primates, rodents = TAX.rows(["Primates", "Rodentia"])
    assert found.clades == {primates: 6, rodents: 3}
    assert grey(found) == {"root", "Mammalia", "Aves"}
    assert (found.of_taxon[primates : primates + 6] == found.of_taxon[primates]).all()
    assert tuple(found.of_taxon[rodents]) != tuple(found.of_taxon[primates])


def test_clades__of_your_own_nest():
    found = colours(TAX, colors={"Mammalia": "red", "Homo": "blue"})
    assert tuple(found.of_taxon[TAX.rows("Homo sapiens")]) == to_rgba("blue")
    assert tuple(found.of_taxon[TAX.rows("Pan")]) == to_rgba("red")
    assert grey(found) == {"root", "Aves"}


@pytest.mark.parametrize(
    "values",
    [
        {"Homo sapiens": 1.5, "Pan": 3.0},
        pd.Series([1.5, 3.0], index=["Homo sapiens", "Pan"], name="mass"),
        pl.Series("mass", [{4: 1.5, 5: 3.0}.get(i) for i in range(12)]),
        np.array([{4: 1.5, 5: 3.0}.get(i, np.nan) for i in range(12)]),
        [{4: 1.5, 5: 3.0}.get(i, np.nan) for i in range(12)],
    ],
    ids=["dict", "pandas", "polars", "numpy", "list"],
)
def test_numbers__have_a_scale_from_the_least_to_the_greatest(values):
    rows = [int(TAX.rows("Homo sapiens")), int(TAX.rows("Pan"))]
    if not hasattr(values, "index") and not isinstance(values, dict):
        rows = [4, 5]
    found = colours(TAX, values=values)
    assert found.scale.norm.vmin == 1.5
    assert found.scale.norm.vmax == 3.0
    assert len(grey(found)) == 10
    assert tuple(found.of_taxon[rows[0]]) == found.scale.to_rgba(1.5)


def test_categories__are_in_a_legend_with_counts_and_the_rest_are_others():
    names = ["a"] * 3 + [f"c{i}" for i in range(9)]
    found = colours(TAX, values=names, colors={"a": "black"})
    assert found.legend["a"] == ("black", 3)
    assert len(found.legend) == 1 + len(OKABE_ITO) + 1
    assert found.legend["2 others"] == (OTHERS, 2)
    assert sum(count for _, count in found.legend.values()) == 12


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"values": [1, 2]}, "2 values for 12 taxa"),
        ({"color_by": "order", "values": {"Homo": 1}}, "exclude"),
        ({"color_by": "order", "colors": {"Homo": "red"}}, "exclude"),
        ({"colors": "viridis"}, "colour map"),
        ({"color_by": "tribe"}, "tribe"),
        ({"values": {"Homo": float("nan")}}, "no value is a number"),
        ({"values": {"Homoo": 1}}, "Homo"),
    ],
)
def test_arguments__that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        colours(TAX, **wrong)
