"""The measurements of quality run on a small tree, and take away what they say."""

import pytest

import poincare_taxa as pt
from benchmarks.quality import layouts, numerics, wordnet

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
TAX = pt.load_sample().subtree("Lagomorpha")


def test_ideas__each_that_is_taken_away_changes_the_layout(monkeypatch):
    def measure(tax, queries, dim, dtype):
        return {"dim": dim, "direction": pt.layout(tax, dim, dtype=dtype).direction}

    monkeypatch.setattr(layouts, "measure", measure)
    rows = list(layouts.ideas(pt.load_sample(), 5))  # Small trees have no big families.
    whole = {row["dim"]: row["direction"] for row in rows[:2]}
    changed = {row["without"] for row in rows if not row["direction"].equal(whole[row["dim"]])}
    assert changed == layouts.IDEAS.keys() - {"all of them"}


def test_frontier__a_row_has_each_measure_beside_its_floor():
    rows = [layouts.measure(TAX, 20, *case) for case in layouts.FRONTIER[:2]]
    (first, _) = layouts.readable(rows)
    assert rows[0]["precision@10"] > rows[0]["floor precision@10"]
    assert first["precision@10"] == f"{rows[0]['precision@10']} ({rows[0]['floor precision@10']})"


def test_numerics__float64_polar_coordinates_resolve_every_radius():
    rows = numerics.measure()
    assert [row["parent's radius"] for row in rows] == numerics.RADII
    for row in rows[:8]:  # Up to 30, where float64 still resolves directions.
        assert row["polar float64"] != "lost"
    assert rows[-1]["ball float32"] == "lost"


def test_wordnet__rows_of_other_jobs_stay():
    def row(dim, points, value):
        return {"data": "nouns", "dim": dim, "points": points, "MAP": value}

    kept = [row(5, "layout", 0.1), row(5, "floor", 0.2), row(2, "layout", 0.3)]
    found = wordnet.completed([row(5, "layout", 0.9)], kept)
    assert [(r["dim"], r["points"], r["MAP"]) for r in found] == [
        (2, "layout", 0.3),
        (5, "floor", 0.2),
        (5, "layout", 0.9),
    ]
