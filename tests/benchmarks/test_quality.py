"""The measurements of quality run on a small tree, and take away what they say."""

import gzip

import networkx as nx
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import poincare_taxa as pt
from benchmarks import tables
from benchmarks.cli import app
from benchmarks.quality import (
    hsdte,
    htree,
    hypernyms,
    is_a,
    layouts,
    numerics,
    phylogenies,
    wordnet,
)
from poincare_taxa.evaluation import ancestry
from poincare_taxa.layouts.tree import Layout

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
    rows = numerics.readable(numerics.measure())
    assert [row["parent's radius"] for row in rows] == numerics.RADII
    for row in rows[:8]:  # Up to 30, where float64 still resolves directions.
        assert row["polar float64"] != "lost"
    assert rows[-1]["ball float32"] == "lost"


def test_numerics__pictures_are_the_same_files_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    rows = numerics.measure()
    for name in ("a/x.svg", "b/x.svg"):
        numerics.draw_errors(rows, tmp_path / name)
        numerics.draw_steps(tmp_path / name.replace("x", "y"))
    for name in ("x.svg", "y.svg"):
        written = (tmp_path / "a" / name).read_bytes()
        assert b"<text" not in written  # Letters are shapes: no font is needed.
        assert written == (tmp_path / "b" / name).read_bytes()


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
    # Without their code, theirs are those of an earlier run, of the same tree, dim and dtype.
    theirs = {
        "theirs: radius": 30.0,
        "theirs: average": 0.5,
        "theirs: worst": 2.0,
        "theirs: MAP": 1,
    }
    earlier = [rows[0] | {"dim": 5}, rows[0] | theirs]
    again = list(hsdte.hsdte(tmp_path, None, earlier))
    assert again[0] == rows[0] | theirs
    assert again[1:] == rows[1:]
    (first, *_) = hsdte.readable(again)
    assert first["worst, ours / HS-DTE"] == f"{rows[0]['ours: worst']:.4g} / 2"
    times = 0.5 / rows[0]["ours, largest radius: average"]
    assert first["HS-DTE's average / that"] == f"{times:.0f}"


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


def test_htree__is_measured_at_its_leaves_and_beside_ours_at_its_radius(
    tmp_path, monkeypatch, capsys
):
    """A library with its interface, whose leaves are at one radius and at right angles."""
    (tmp_path / "htree").mkdir()
    (tmp_path / "htree" / "__init__.py").touch()
    (tmp_path / "treeswift.py").write_text("def read_tree_newick(text): return text\n")
    (tmp_path / "htree" / "tree_collections.py").write_text(
        "import re, types, torch\n"
        "class Tree:\n"
        "    def __init__(self, name, text): self.text = text\n"
        "    def terminal_names(self): return re.findall(r'[(,](\\w+)', self.text)[::-1]\n"
        "    def embed(self, dim, geometry, precise_opt=False):\n"
        "        x = torch.eye(dim)[: len(self.terminal_names())] * torch.tensor(3.0).sinh()\n"
        "        first = (1 + (x**2).sum(1, keepdim=True)).sqrt()\n"
        "        return types.SimpleNamespace(points=torch.cat([first, x], dim=1).T)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    written_tree(tmp_path, "weevils")
    rows = list(htree.htree(tmp_path, tmp_path))
    assert "carnivora, leaves: skipped" in capsys.readouterr().out
    assert [row["points"] for row in rows] == [
        "htree", "htree, optimised", *["ours, neighbours", "ours, distances"] * 2
    ]  # fmt: skip
    tax = phylogenies.centred(tmp_path / "hsdte_trees" / "weevils.tsv.gz")
    true = tax.tree.distance_matrix(tax.tree.leaf_rows)[np.triu_indices(len(tax.tree.leaf_rows), 1)]
    for row in rows[:2]:  # All distances are equal, so that their ratio is that of the tree's.
        assert row["radius"] == pytest.approx(3, rel=1e-3)
        assert row["expansion × contraction"] == pytest.approx(true.max() / true.min(), rel=1e-3)
    assert rows[2]["radius"] == pytest.approx(3, rel=1e-3)
    assert rows[4]["radius"] > 100


def test_hypernyms__ranks_as_all_distances_do(tmp_path):
    """A tree of 40 nouns, ten of which have a second hypernym, beside a loop over all distances."""
    rng = np.random.default_rng(0)
    edges = [(i, rng.integers(i)) for i in range(1, 40)] + [(i, i - 3) for i in range(5, 35, 3)]
    lines = ["id\tparent_id\tpointer", *(f"n{i}\tn{above}\t@" for i, above in edges)]
    path = tmp_path / hypernyms.FILE
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    tax, neighbours = hypernyms.graph(path)
    graph = nx.Graph((f"n{i}", f"n{above}") for i, above in edges)
    for row, near in enumerate(neighbours):
        assert set(tax.ids.gather(near)) == set(graph[tax.ids[row]])

    def expected(distance, row):
        far = {other: distance[row, other] for other in range(40) if other != row}
        return np.mean(
            [
                sum(far[b] <= far[a] for b in neighbours[row])
                / sum(d <= far[a] for d in far.values())
                for a in neighbours[row]
            ]
        )

    rows = np.arange(40)
    edges_apart = tax.tree.distance(rows[:, None], rows)
    found = hypernyms.of_tree(tax.tree, neighbours, rows)
    np.testing.assert_allclose(found, [expected(edges_apart, row) for row in rows], rtol=1e-15)
    # Points at random: those of a layout tie, up to rounding.
    r = torch.from_numpy(1 + rng.random(40))
    u = torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(40, 3))))
    distance = pt.polar.cdist(r, u, r, u).numpy()
    found = hypernyms.of_points(Layout(r, u, {}), neighbours, rows)
    np.testing.assert_allclose(np.sort(found), np.sort([expected(distance, row) for row in rows]))


def test_hypernyms__a_layout_is_beside_its_tree_and_above_the_floor(tmp_path):
    path = tmp_path / hypernyms.FILE
    edges = [(i, (i - 1) // 4) for i in range(1, 200)] + [(150, 7), (160, 9)]
    lines = ["id\tparent_id", *(f"{i}\t{above}" for i, above in edges)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    rows = list(hypernyms.measure(tmp_path, 100))
    assert [row["dim"] for row in rows] == [None, *np.repeat(hypernyms.DIMS, 3)]
    tree, (floor, layout, refined) = rows[0], rows[-3:]
    # Of the 100 queries few have a second hypernym, the tree's only miss; ties count against it.
    assert floor["MAP"] < 0.5 < 0.9 < tree["MAP"] < 1
    assert layout["MAP"] <= refined["MAP"] == pytest.approx(tree["MAP"], abs=0.01)
    assert {row["queries"] for row in rows} == {100}
    assert hypernyms.readable(rows)[0]["MAP"] == f"{tree['MAP']} ± {tree['error']}"


@pytest.fixture
def few_pairs(monkeypatch):
    """Calibration and judgement of 300 pairs of each kind."""
    for where in ("evaluation.calibration", "model.model", "closure.model"):
        monkeypatch.setattr(f"poincare_taxa.{where}.CALIBRATION_PAIRS", 300)
    monkeypatch.setattr(is_a, "PAIRS", 300)


def test_is_a__pairs_are_balanced_and_none_was_calibrated_on(few_pairs):
    kin = ancestry.kinship_of_tree(pt.load_sample().tree)
    pairs, kind = is_a.fresh_pairs(kin)
    assert len(pairs) > 400
    assert (kind == 0).mean() == 0.5
    seen, _ = ancestry.balanced_pairs(kin, 300, np.random.default_rng(0))
    assert not {tuple(pair) for pair in pairs.tolist()} & {tuple(pair) for pair in seen.tolist()}


def test_is_a__command_judges_every_subject_beside_the_constant(tmp_path, few_pairs, monkeypatch):
    monkeypatch.setattr(is_a, "ncbi", pt.load_sample)
    monkeypatch.setattr(is_a, "SPACES", [(3, torch.float64)])
    nouns = pt.ClosurePairs.from_edges([(v, (v - 1) // 2) for v in range(1, 1023)])
    lines = ["id1,id2", *(f"n{v},n{above}" for above, v in nouns.pairs.tolist())]
    (tmp_path / "noun_closure.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    pairs = pt.ClosurePairs.read_csv(tmp_path / "noun_closure.csv.gz")
    points = pt.closure_layout(pairs, 5)[:2]
    kept = tmp_path / wordnet.job("nouns", 5, "training-0")
    pt.ClosureEmbedding(pairs.names, *points, pairs=pairs).save(kept)
    folders = [str(tmp_path), "--keep", str(tmp_path), "--out", str(tmp_path / "out")]
    found = CliRunner().invoke(app, ["is-a", *folders])
    assert found.exit_code == 0, found.output
    rows = tables.kept_rows(tmp_path / "out", "quality/is_a")
    constant = "constant (the share of ancestors)"
    assert [(row["data"], row["points"]) for row in rows] == [
        ("NCBI", constant),
        ("NCBI", "layout, 3-D float64"),
        ("WordNet nouns", constant),
        *[("WordNet nouns", points) for points in ("layout, 2-D", "layout, 5-D", "training, 5-D")],
    ]
    for row in rows:
        if row["points"] == constant:
            assert (row["calibration error"], row["Brier"], row["AUC"]) == (0, 0.25, 0.5)
        else:
            assert row["AUC"] > 0.9
            assert row["Brier"] < 0.1
    # Every pair of a subject is in one of its bins.
    bins = tables.kept_rows(tmp_path / "out", "quality/is_a_bins")
    for row in rows[1:2] + rows[3:]:
        inside = [one for one in bins if (one["data"], one["points"]) == tuple(row.values())[:2]]
        assert sum(one["pairs"] for one in inside) == row["pairs"]
    assert (tmp_path / "out" / "docs" / "tables" / "is_a_bins.md").exists()
