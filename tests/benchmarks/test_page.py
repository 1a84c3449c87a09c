"""The measurement of the page, on a small clade."""

import shutil

import pytest

import poincare_taxa as pt
from benchmarks.quality import page_layout
from benchmarks.speed import page

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")
def test_page__has_a_row_for_each_size(monkeypatch):
    pytest.importorskip("playwright", reason="Playwright is not installed")
    monkeypatch.setattr(page, "ncbi", lambda: pt.load_sample("mammals"))
    monkeypatch.setattr(page, "SECONDS", 0.2)
    rows = list(page.measure([100]))
    assert [row["drawn by"] for row in rows] == ["canvas", "WebGL, in software"]
    for row in rows:
        assert int(row["taxa"].replace(",", "")) < 200
        assert row["first picture (s)"] <= row["searchable (s)"]
        assert row["frames a second, least"] > 0
        assert row["strokes"] > 10


def test_layout__has_a_row_for_each_set_of_points():
    tax = pt.testing.synthetic_taxonomy(300, seed=0)
    rows = list(page_layout.measure(tax))
    assert [row["dim"] for row in rows] == [2, 2, 10]
    assert all(key in row for row in rows for key in page_layout.MEASURES)
    # Every taxon has a point of its own.
    model = page_layout.points(tax)
    distance = model.distance(tax.ids[1:], tax.ids[:-1])
    assert float(distance.min()) > 0.1
