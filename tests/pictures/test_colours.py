"""Colours of taxa."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pytest
from matplotlib.colors import to_rgba
from support.zoo import zoo

from poincare_taxa.pictures.colours import OTHERS, PALETTE, colours
from poincare_taxa.taxonomy.taxonomy import Taxonomy

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


def test_palette__is_that_of_the_page_in_the_browser():
    source = (Path(__file__).parents[2] / "web" / "src" / "colors.ts").read_text()
    listed = re.search(r"PALETTE = \[(.*?)\];", source, re.DOTALL)[1]
    assert re.findall(r"#[0-9a-f]{6}", listed) == [color.lower() for color in PALETTE]


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
    tax = Taxonomy.from_parents([-1] + [0] * 15)
    names = ["a"] * 4 + [f"c{i:02}" for i in range(12)]
    found = colours(tax, values=names, colors={"a": "black"})
    assert found.legend["a"] == ("black", 4)
    assert len(found.legend) == 1 + len(PALETTE) + 1
    assert found.legend["2 others"] == (OTHERS, 2)
    assert sum(count for _, count in found.legend.values()) == 16


def test_clades__more_than_colours_have_no_colour_twice_and_the_rest_is_grey():
    ranks = ["class"] + ["order", "species"] * 14
    tax = Taxonomy.from_parents(
        [-1] + [at for i in range(14) for at in (0, 1 + 2 * i)], taxon_ranks=ranks
    )
    found = colours(tax, "order", most=12)
    assert len(found.clades) == 12
    seen = [tuple(found.of_taxon[row]) for row in found.clades]
    assert len({color for color in seen if color != GREY}) == len(PALETTE)
    assert seen.count(GREY) == 2


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
