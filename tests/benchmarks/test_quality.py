"""The measurements of quality run on a small tree, and take away what they say."""

import gzip

import networkx as nx
import numpy as np
import pytest
import torch

import poincare_taxa as pt
from benchmarks.quality import hsdte, layouts, numerics, phylogenies, wordnet

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


def written_tree(folder, name):
    """A caterpillar with lengths as undirected edges, in the folder that a command reads."""
    path = folder / "hsdte_trees" / f"{name}.tsv.gz"
    path.parent.mkdir(exist_ok=True)
    edges = [(i, i + 1, 0.5 + i % 3) for i in range(8)] + [(i, 10 + i, 1.25) for i in range(8)]
    lines = ["u\tv\tweight", *(f"{u}\t{v}\t{w}" for u, v, w in edges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return edges


def test_centred__keeps_distances_and_has_the_least_height(tmp_path):
    graph = nx.Graph()
    graph.add_weighted_edges_from(written_tree(tmp_path, "carnivora"))
    tax = phylogenies.centred(tmp_path / "hsdte_trees" / "carnivora.tsv.gz")
    true = dict(nx.all_pairs_dijkstra_path_length(graph))
    assert tax.tree.height.max() == min(max(of.values()) for of in true.values())
    for u, of in true.items():
        assert tax.tree_distance(str(u), [str(v) for v in of]).to_list() == list(of.values())


def test_phylogenies__a_row_has_each_measure_beside_that_of_a_layout_by_edges(tmp_path, capsys):
    written_tree(tmp_path, "carnivora")
    rows = list(phylogenies.phylogenies(tmp_path))
    assert "WoL, 10,575 genomes: skipped" in capsys.readouterr().out
    settings = [(row["dtype"], row["aim"]) for row in rows]
    assert settings == [(d, a) for d in ("float64", "float32") for a in phylogenies.AIMS]
    assert rows[0]["tree"] == "carnivora, leaves"
    for row in rows:
        assert row["mean distortion"] < 0.05 < row["floor mean distortion"]
        assert 1 <= row["expansion × contraction"] < row["floor expansion × contraction"]
    shown = phylogenies.readable(rows)[0]["mean distortion"]
    assert shown == f"{rows[0]['mean distortion']:g} ({rows[0]['floor mean distortion']:g})"


def test_hsdte__measures_as_the_oracles_do(tmp_path, monkeypatch, capsys):
    written_tree(tmp_path, "weevils")
    monkeypatch.setattr(hsdte, "FULL", {"2^3": (2, 3)})
    monkeypatch.setattr(hsdte, "DIMS", (4,))
    rows = list(hsdte.hsdte(tmp_path, None))
    assert "mosses: skipped" in capsys.readouterr().out
    assert [(row["tree"], row["dtype"]) for row in rows] == [
        ("weevils", "float64"),
        ("weevils", "float32"),
        ("2^3", "float64"),
        ("2^3", "float32"),
    ]
    for row in rows:
        limit = 36 if row["dtype"] == "float64" else 16
        assert row["ours: radius"] == pytest.approx(limit, rel=1e-3)
        assert row["ours: average"] < 0.02
        assert row["ours, largest radius: radius"] > limit
    (first, *_) = hsdte.readable(rows)
    assert first["worst, ours / HS-DTE"] == f"{rows[0]['ours: worst']:.4g}"


def test_hsdte__map_counts_ties_against_the_points():
    tax = pt.Taxonomy.from_parents([-1, 0, 0, 1])
    true = tax.tree.distance(np.arange(4)[:, None], np.arange(4)).astype(float)
    assert hsdte.quality(true, tax) == {"average": 0, "worst": 1, "MAP": 1}
    tied = hsdte.quality(np.ones((4, 4)) - np.eye(4), tax)
    assert tied["MAP"] == pytest.approx(np.mean([2 / 3, 2 / 3, 1 / 3, 1 / 3]))
    lost = hsdte.quality(np.full((4, 4), np.nan), tax)
    assert np.isnan(lost["average"])
    assert lost["worst"] == np.inf


def test_hsdte__runs_the_code_of_a_folder_on_the_same_tree(tmp_path, monkeypatch):
    package = tmp_path / "tree_embeddings" / "embeddings" / "constructive_method"
    package.mkdir(parents=True)
    for folder in (package, package.parent, package.parent.parent):
        (folder / "__init__.py").touch()
    (package / "constructive_tree_embeddings_w_floats.py").write_text(
        "import functools, networkx as nx, torch\n"
        "get_sphere_points = functools.cache(lambda: None)\n"
        "def embed_tree(graph, dataset, name, dim, tau, root, dtype):\n"
        "    far = nx.shortest_path_length(graph, root, weight='weight')\n"
        "    x = torch.zeros(len(graph), dim, dtype=dtype)\n"
        "    for i, n in enumerate(far):\n"
        "        x[n, 0] = (-1) ** i * torch.tanh(torch.tensor(far[n] * tau / 2, dtype=dtype))\n"
        "    plt.figure(figsize=(1, 1)); sn.heatmap(x).collections[0].set_clim(0, 1)\n"
        "    return x, 0.0, 0.0\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    tax = pt.Taxonomy.from_parents([-1, 0, 0], branch_lengths=[0, 2.0, 3.0])
    row = hsdte.theirs(tax, 3, torch.float64, 6.0, tmp_path)
    assert row["radius"] == pytest.approx(6)
    assert row["worst"] > 1
