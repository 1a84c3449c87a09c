"""Eight views of the page beside pictures of them that people have looked at."""

import io
import os
from pathlib import Path

import numpy as np
import pytest

from poincare_taxa.page.html import explore
from poincare_taxa.readers.sample import load_sample

pytestmark = pytest.mark.slow
SHOTS = Path(__file__).parent / "screenshots"
# Grams, of some mammals: a column that spans eight orders of magnitude.
MASS = {
    "Homo sapiens": 62_000,
    "Mus musculus": 19.3,
    "Balaenoptera musculus": 1.5e8,
    "Canis lupus": 43_000,
    "Felis catus": 4_000,
    "Bos taurus": 620_000,
    "Loxodonta africana": 4.5e6,
    "Rattus norvegicus": 300,
    "Equus caballus": 400_000,
    "Ornithorhynchus anatinus": 1_500,
    "Macropus giganteus": 35_000,
    "Myotis lucifugus": 8,
    "Pan troglodytes": 45_000,
    "Oryctolagus cuniculus": 1_600,
    "Ursus arctos": 180_000,
    "Sus scrofa": 85_000,
}
# What most of an order eats.
FOOD = {"Carnivora": "meat", "Primates": "fruit", "Rodentia": "seeds", "Artiodactyla": "grass"}
FOOD |= {"Chiroptera": "insects", "Lagomorpha": "grass", "Perissodactyla": "grass"}
FOOD |= {"Eulipotyphla": "insects", "Pilosa": "leaves", "Proboscidea": "leaves", "Sirenia": "algae"}


def food(tax):
    """The food of every taxon in an order."""
    rows = [(tax.rows(order), what) for order, what in FOOD.items()]
    return {tax.ids[i]: what for row, what in rows for i in range(row, tax.tree.end[row])}


FLY = "name => { page.fly(page.search.row(name)); page.draw(); }"
# Name → what the page is made with, what is done in it, and its window.
VIEWS = {
    "root": ({}, "page.color('clades')", {}),
    "dark": ({}, "page.color('clades')", {"color_scheme": "dark"}),
    "homo-sapiens": ({}, f"({FLY})('Homo sapiens')", {}),
    "numbers": ({"values": {"mass (g)": MASS}}, "", {}),
    "categories": (
        {"values": {"food": food(load_sample("mammals"))}},
        f"({FLY})('Laurasiatheria')",
        {},
    ),
    "highlight": ({"highlight": list(MASS)}, "", {}),
    "collapsed": ({}, "page.fold(page.search.row('Rodentia'))", {}),
    "phone": ({}, f"({FLY})('Primates')", {"width": 390, "height": 760}),
}


def small(png):
    """A picture without its letters, whose shapes differ between systems."""
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB").resize((160, 110)), np.float64)


def difference(one, other):
    return np.abs(small(one) - small(other)).mean()


@pytest.mark.parametrize("name", VIEWS)
def test_picture__is_the_one_that_was_reviewed(opened, tmp_path, name):
    pytest.importorskip("PIL", reason="Pillow is not installed")
    given, act, options = VIEWS[name]
    explore(load_sample("mammals"), tmp_path / "tree.html", **given)
    page = opened(tmp_path / "tree.html", **{"width": 960, "height": 640, **options})
    page.tab.evaluate(f"() => {{ {act}; page.draw(); }}")
    png = page.tab.screenshot()
    file = SHOTS / f"{name}.png"
    if os.environ.get("RENEW_SCREENSHOTS"):
        from PIL import Image

        file.parent.mkdir(exist_ok=True)
        with Image.open(io.BytesIO(png)) as image:
            image = image.convert("RGB")
            few = image.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
            few.save(file, optimize=True)
    # Fonts differ between systems, and so do the places of labels: a mean of the differences.
    found = {other: difference(png, (SHOTS / f"{other}.png").read_bytes()) for other in VIEWS}
    assert found[name] < 6
    assert min(found, key=found.get) == name


def test_pictures__are_small_and_none_is_left_over():
    files = {file.stem: file.stat().st_size for file in SHOTS.glob("*.png")}
    assert set(files) == set(VIEWS)
    assert sum(files.values()) <= 400 * 1024
