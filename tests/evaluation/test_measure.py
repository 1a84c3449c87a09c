"""`evaluate`: agrees with loops, flatters nobody, and does not depend on how it is computed."""

import json
import math

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from oracles import metrics as oracle
from scipy import stats
from support.threads import in_python_threads
from support.trees import random_phylogeny, taxonomies

from poincare_taxa.evaluation import measure as evaluation
from poincare_taxa.evaluation import metrics, rank_counts, samples, subjects
from poincare_taxa.evaluation.measure import evaluate
from poincare_taxa.evaluation.report import Estimate, Report, Row
from poincare_taxa.evaluation.subjects import TreeSubject, polar_subject
from poincare_taxa.files.seeds import stream
from poincare_taxa.geometry import convert, polar
from poincare_taxa.layouts.tree import layout
from poincare_taxa.model.model import embed
from poincare_taxa.search import index, nodes
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy

TREE_IS_1 = [
    "precision@10",
    "ancestor MAP",
    "ancestor mean rank",
    "neighbour MAP",
    "Spearman",
    "Spearman/LCA-balanced",
    "Spearman within LCA depth",
    "triplet order",
    "triplet order/LCA-balanced",
    "depth–radius Pearson",
    "depth–radius Spearman",
]


def a_taxonomy(n=300, seed=0, ranked=True):
    """A random recursive tree; three levels of it are ranked."""
    rng = np.random.default_rng(seed)
    parent = np.array([-1, 0, 0, 0, *(rng.integers(max(0, i // 8), i) for i in range(4, n))])
    tax = Taxonomy.from_parents(parent)
    names = np.array(["no rank", "phylum", "class", "order", *["no rank"] * n])
    ranks = names[tax.depth].tolist() if ranked else None
    return Taxonomy.from_parents(tax.parent, taxon_ranks=ranks)


def nested(tax, dim=16, step=2.0, seed=0):
    """A good embedding of a small tree: each direction is its parent's, turned by e^(−radius)."""
    rng = np.random.default_rng(seed)
    direction = np.zeros((len(tax), dim))
    direction[0, 0] = 1
    for v in range(1, len(tax)):
        up = direction[tax.parent[v]]
        turn = rng.standard_normal(dim)
        turn -= turn @ up * up
        angle = np.exp(-step * (tax.depth[v] - 1))
        direction[v] = up * np.cos(angle) + turn / np.linalg.norm(turn) * np.sin(angle)
    return torch.tensor(step * tax.depth, dtype=torch.float64), torch.from_numpy(direction)


def scattered(n, dim=4, seed=0, largest=6.0):
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(n, dim, generator=generator, dtype=torch.float64)
    direction /= torch.linalg.vector_norm(direction, dim=1, keepdim=True)
    return largest * torch.rand(n, generator=generator, dtype=torch.float64), direction


def stable(report):
    """All of a report that does not depend on the clock."""
    found = report.to_dict()
    del found["meta"]["seconds"]
    return found


# -------------------------------------------------------------------- against loops


@given(taxonomies(min_size=2, max_size=6), st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=12)
def test_evaluate__agrees_with_loops_over_every_way_to_break_ties(tax, seed, k):
    rng = np.random.default_rng(seed)
    r, u = scattered(len(tax), seed=seed)
    same = rng.integers(0, len(tax), len(tax))  # Some points coincide.
    r, u = r[same], u[same]
    report = evaluate((r, u), tax, k=k, floor_queries=0, taxon_ranks=["depth 1"])
    rows = np.arange(len(tax))
    distance = polar_subject(r, u).pairs(rows[:, None], rows)
    radius = r.numpy()
    tree = oracle.tree_matrix(tax.parent)
    labels = [
        next((a for a in (*tax.tree.ancestors(v), v) if tax.depth[a] == 1), -1)
        for v in range(len(tax))
    ]
    found = {key: [] for key in ("precision", "purity", "closure", "ancestor", "beside", "ranks")}
    pairs = 0
    for q in range(len(tax)):
        by_distance = oracle.orders(distance[q], q)
        by_score = oracle.orders(distance[q] + radius, q)
        above = set(tax.tree.ancestors(q).tolist())
        beside = {v for v in range(len(tax)) if tree[q, v] == 1}
        pairs += len(above)

        def mean(measure, ways, *rest):
            return np.mean([measure(way, *rest) for way in ways])

        found["precision"].append(mean(oracle.tie_aware_precision, by_distance, tree[q], k))
        found["beside"].append(mean(oracle.average_precision, by_distance, beside))
        if labels[q] >= 0:
            found["purity"].append(mean(oracle.purity, by_distance, labels, q, k))
        if above:
            found["closure"].append(mean(oracle.average_precision, by_distance, above))
            found["ancestor"].append(mean(oracle.average_precision, by_score, above))
            found["ranks"].append(mean(oracle.rank_sum, by_score, above))
    assert report[f"precision@{k}"].value == pytest.approx(np.mean(found["precision"]))
    assert report[f"purity@{k}/depth 1"].value == pytest.approx(np.mean(found["purity"]))
    assert report["closure MAP"].value == pytest.approx(np.mean(found["closure"]))
    assert report["ancestor MAP"].value == pytest.approx(np.mean(found["ancestor"]))
    assert report["neighbour MAP"].value == pytest.approx(np.mean(found["beside"]))
    assert report["ancestor mean rank"].value == pytest.approx(np.sum(found["ranks"]) / pairs)


def test_evaluate__separation_agrees_with_loops():
    """It weighs taxa, not pairs, and is sampled: 20 partners of every taxon."""
    tax = a_taxonomy(60)
    r, u = nested(tax)
    report = evaluate((r, u), tax, only={"separation"}, taxon_ranks=["class"])
    labels = tax.tree.nearest_marked(tax.has_rank("class"))
    rows = np.flatnonzero(labels >= 0)
    matrix = polar.cdist(r, u, r, u).numpy()
    near, far = [], []
    for q in rows:
        group = labels[rows] == labels[q]
        if group.sum() > 1:
            near.append(matrix[q, rows[group & (rows != q)]].mean())
            far.append(matrix[q, rows[~group]].mean())
    plain = report["separation/class"]
    assert plain.value == pytest.approx(np.mean(far) / np.mean(near), rel=0.05)
    assert plain.estimate.low < np.mean(far) / np.mean(near) < plain.estimate.high


def test_evaluate__sampled_pairs_are_measured_as_scipy_does():
    tax = a_taxonomy(150)
    r, u = scattered(150, dim=2)
    r += torch.tensor(0.4 * tax.depth)
    report = evaluate((r, u), tax, queries=45, exact=False, seed=1, floor_queries=0)
    queries = stream(1, "queries").permutation(150)[:45]
    draws = {
        "": samples.uniform_others(150, queries, 100, stream(1, "uniform others")),
        "/LCA-balanced": samples.lca_balanced_others(
            tax.tree, queries, 100, stream(1, "balanced others")
        )[0],
    }
    assert stream(1, "a").random() != stream(1, "b").random()
    for kind, others in draws.items():
        tree = tax.tree.distance(queries[:, None], others)
        distance = polar_subject(r, u).pairs(queries[:, None], others)
        expected = stats.spearmanr(distance, tree, axis=None).statistic
        assert report[f"Spearman{kind}"].value == pytest.approx(expected)
        each = np.sort(metrics.distortion(distance, tree).each.ravel())
        assert report[f"mean distortion{kind}"].value == pytest.approx(each.mean())
        assert report[f"p99 distortion{kind}"].value == each[math.ceil(0.99 * (len(each) - 1))]
        assert report[f"worst distortion{kind}"].value == each[-1]
    lca = tax.depth[tax.tree.lca(queries[:, None], others)]
    levels = []
    for level in np.flatnonzero(np.bincount(lca.ravel()) >= 45):
        inside = lca == level
        if len(set(tree[inside])) > 1:
            levels.append(stats.spearmanr(distance[inside], tree[inside]).statistic)
            key = f"Spearman within LCA depth/{level}"
            assert report[key].value == pytest.approx(levels[-1])
            assert report[key].detail
    assert len(levels) > 3
    assert report["Spearman within LCA depth"].value == pytest.approx(np.mean(levels))


def test_evaluate__distances_follow_branch_lengths_and_neighbours_count_edges():
    tax = random_phylogeny(60, 3)
    points = layout(tax, 10)
    report = evaluate(points, tax, floor_queries=20)
    edges = evaluate(points, tax.without_lengths(), floor_queries=20)
    assert report["Spearman"].value > 0.99 > 0.95 > edges["Spearman"].value
    assert report["Spearman/LCA-balanced"].value > 0.99
    assert report["mean distortion"].value < 0.05 < 0.1 < edges["mean distortion"].value
    assert report["depth–radius Pearson"].value == pytest.approx(1)
    for key in ("precision@10", "ancestor MAP", "neighbour MAP", "radius explained by depth"):
        assert report[key].value == edges[key].value, key
    for key in (
        "Spearman",
        "triplet order",
        "precision@10",
        "ancestor MAP",
        "depth–radius Pearson",
    ):
        assert report[key].ceiling.value == pytest.approx(1, abs=1e-12), key
    assert report["expansion × contraction"].ceiling.value == pytest.approx(1)
    about = "nearest taxa, ancestors and depths count edges"
    assert about in report.meta["remarks"][0]
    assert not any(about in remark for remark in edges.meta["remarks"])


def test_evaluate__distortion_at_the_scale_of_the_layout_beside_the_best_one():
    tax = random_phylogeny(60, 4)
    points = layout(tax, 5)
    report = evaluate(points, tax, only="distortion", floor_queries=0)
    queries = stream(0, "queries").permutation(len(tax))[:, None]
    others = samples.uniform_others(len(tax), queries[:, 0], 100, stream(0, "uniform others"))
    true, distance = (
        by.pairs(queries, others)
        for by in (TreeSubject(tax.tree), polar_subject(points.radius, points.direction))
    )
    nominal = np.abs(distance / (points.info["tau"] * true) - 1).mean()
    assert report["mean distortion at τ"].value == pytest.approx(nominal)
    assert report["mean distortion"].value <= nominal
    expected = metrics.spread(distance, true)
    assert report["expansion × contraction"].value == pytest.approx(expected)
    # Of a saved model too; of bare vectors there is no scale but the best one.
    of_model = evaluate(embed(tax, 5), only="distortion")["mean distortion at τ"].value
    assert of_model == report["mean distortion at τ"].value
    bare = evaluate((points.radius, points.direction), tax, only="distortion")
    assert "mean distortion at τ" not in bare


def test_evaluate__taxa_at_one_place_in_the_tree_have_no_distortion():
    tax = Taxonomy.from_parents([-1, 0, 0, 1, 1], branch_lengths=[0, 1, 2, 0, 0])
    points = layout(tax, 3)
    report = evaluate(points, tax)
    assert report["mean distortion"].value < 0.1
    assert report["expansion × contraction"].value < 1.2
    assert all(row.value >= 0 for row in report.rows if "distortion" in row.metric)
    flat = Taxonomy.from_parents([-1, 0, 0], branch_lengths=[0, 0, 0])
    assert "mean distortion" not in evaluate(points_of(points, 3), flat)


def points_of(points, n):
    """The first of some points."""
    return points.radius[:n], points.direction[:n]


def test_evaluate__depth_correlations_are_those_of_scipy():
    tax = a_taxonomy(150)
    r, u = scattered(150)
    r += torch.tensor(0.4 * tax.depth)
    report = evaluate((r, u), tax, only="radius")
    norm = torch.tanh(r / 2).numpy()
    for name, values in (("radius", r.numpy()), ("norm", norm)):
        expected = stats.pearsonr(values, tax.depth).statistic
        assert report[f"depth–{name} Pearson"].value == pytest.approx(expected)
        expected = stats.spearmanr(values, tax.depth).statistic
        assert report[f"depth–{name} Spearman"].value == pytest.approx(expected)
        assert expected > 0.2


# -------------------------------------------------------------------- ceilings and floors


@given(taxonomies(min_size=2), st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_evaluate__the_tree_itself_scores_1_where_it_should(tax, seed):
    report = evaluate(scattered(len(tax), seed=seed), tax, floor_queries=0)
    for key in TREE_IS_1:
        if key in report and not math.isnan(report[key].ceiling.value):
            assert report[key].ceiling.value == pytest.approx(1, abs=1e-12), key
    assert report["mean distortion"].ceiling.value == 0
    assert report["worst distortion/LCA-balanced"].ceiling.value == 0


def test_evaluate__a_faithful_embedding_is_seen_to_be_one():
    tax = a_taxonomy()
    report = evaluate(nested(tax), tax)
    assert report["precision@10"].value > 0.99
    assert report["ancestor MAP"].value > 0.99
    assert report["ancestor mean rank"].value < 1.02
    assert report["neighbour MAP"].value > 0.95
    assert report["Spearman"].value > 0.97
    assert report["triplet order/LCA-balanced"].value > 0.97
    assert report["separation/class"].ratio > 1
    for row in report.rows:
        if (
            row.floor
            and row.ceiling
            and row.group.startswith(("the 10", "ancestors, ranked by d(q"))
        ):
            assert row.floor.value != row.value, row.key


def test_evaluate__a_planted_radius_earns_no_more_than_the_floor():
    """Depth as radius, directions at random: the failure that once passed for a success."""
    tax = a_taxonomy(400)
    _, direction = scattered(400, dim=10, seed=5)
    report = evaluate((torch.tensor(0.8 * tax.depth), direction), tax, floor_queries=400)
    planted = report["depth–radius Pearson"]
    assert planted.value == pytest.approx(1)
    assert planted.note == "by construction"
    assert planted.floor.value == planted.value
    assert report["radius explained by depth"].value == pytest.approx(1)
    for key in ("precision@10", "ancestor MAP", "neighbour MAP", "Spearman", "triplet order"):
        row = report[key]
        assert row.value == pytest.approx(row.floor.value, abs=0.05), key
        assert row.value < 0.75, key
    for rank in ("phylum", "class"):
        assert report[f"separation/{rank}"].value < 1.1
        lift = float(report[f"purity@10/{rank}"].note.split()[-1])
        assert lift < 1.6


def test_evaluate__a_learned_radius_is_not_called_planted():
    tax = a_taxonomy()
    radius, direction = nested(tax)
    radius += 0.1 * torch.rand(len(tax), generator=torch.Generator().manual_seed(0))
    report = evaluate((radius, direction), tax, only="radius")
    assert report["depth–radius Spearman"].note == ""
    assert 0.9 < report["radius explained by depth"].value < 1


def test_evaluate__radii_beyond_the_largest_exponential_have_a_norm_of_1():
    tax = a_taxonomy(60)
    _, direction = scattered(60)
    report = evaluate((torch.tensor(1000.0 * tax.depth), direction), tax, only="radius")
    at_root = np.arange(60) == 0
    expected = stats.pearsonr(~at_root, tax.depth).statistic
    assert report["depth–norm Pearson"].value == pytest.approx(expected, rel=1e-12)


def test_evaluate__a_collapsed_embedding_earns_chance():
    tax = a_taxonomy(120)
    n = len(tax)
    report = evaluate(torch.full((n, 3), 0.25), tax, floor_queries=0)
    tree = oracle.tree_matrix(tax.parent)
    allowed = [np.mean(np.delete(tree[q], q) <= np.sort(tree[q])[10]) for q in range(n)]
    assert report["precision@10"].value == pytest.approx(np.mean(allowed))
    assert report["plain precision@10"].value == pytest.approx(10 / (n - 1))
    assert report["drawn by lot@10"].value == 1
    # Each ancestor stands, in the mean, halfway down the list of those that are none.
    depth = tax.depth.astype(float)
    rank = (depth * (1 + (n - 1 - depth) / 2)).sum() / depth.sum()
    assert report["ancestor mean rank"].value == pytest.approx(rank)
    assert report["ancestor MAP"].value < 0.1
    assert report["ancestor MAP"].note == report["closure MAP"].note != ""
    assert report["Spearman"].value == 0
    assert report["Spearman within LCA depth"].value == 0
    assert report["triplet order"].value == 0
    assert report["mean distortion"].value == 1
    assert report["depth–radius Spearman"].value == 0
    for rank in ("phylum", "class"):
        labels = tax.tree.nearest_marked(tax.has_rank(rank))
        size = np.bincount(labels[labels >= 0], minlength=n)
        chance = np.mean([(size[a] - 1) / (n - 1) for a in labels[labels >= 0]])
        assert report[f"purity@10/{rank}"].value == pytest.approx(chance)
        assert report[f"purity@10/{rank}"].note.endswith("lift 1")
        assert not report[f"separation/{rank}"].value > 1


@pytest.mark.parametrize("damage", [math.nan, math.inf, -1.0])
def test_evaluate__damaged_rows_cost_and_are_reported(damage):
    tax = a_taxonomy()
    radius, direction = nested(tax)
    sound = evaluate((radius, direction), tax)
    hurt = radius.clone()
    hurt[::7] = damage
    report = evaluate((hurt, direction), tax)
    for key in ("precision@10", "ancestor MAP", "neighbour MAP", "Spearman", "triplet order"):
        assert report[key].value < sound[key].value - 0.02, key
    assert report["lost rows"].value == len(hurt[::7])
    assert f"{len(hurt[::7])} rows are no points" in str(report)
    assert not report["separation/class"].value > sound["separation/class"].value
    json.dumps(report.to_dict(), allow_nan=False)


@pytest.mark.parametrize("damage", [math.nan, math.inf])
def test_evaluate__nothing_but_damage_earns_no_more_than_the_floor(damage):
    tax = a_taxonomy(60)
    report = evaluate(torch.full((60, 3), damage), tax)
    random = evaluate(scattered(60, seed=3), tax)
    higher_is_better = [
        "precision@10", "plain precision@10", "ancestor MAP", "closure MAP", "neighbour MAP",
        "Spearman", "Spearman/LCA-balanced", "Spearman within LCA depth", "triplet order",
        "triplet order/LCA-balanced", *(key for key in report if key.startswith("purity@10")),
    ]  # fmt: skip
    for key in higher_is_better:
        assert report[key].value <= random[key].value, key
    for key in ("ancestor mean rank", "closure mean rank"):
        assert report[key].value >= random[key].value, key
    assert report["precision@10"].value == 0
    assert report["Spearman"].value == report["triplet order"].value == -1
    assert report["lost rows"].value == 60
    assert report["depth–radius Pearson"].value == report["depth–norm Spearman"].value == -1
    for key in ("mean distortion", "separation/phylum", "radius explained by depth"):
        assert math.isnan(report[key].value)
    assert "–" in str(report)


@given(taxonomies(min_size=4, max_size=25), st.integers(0, 2**32 - 1))
@settings(max_examples=15)
def test_evaluate__losing_rows_of_an_exact_embedding_raises_nothing(tax, seed):
    """The tree itself, measured as points are, with some of its taxa lost."""
    rng = np.random.default_rng(seed)
    valid = rng.random(len(tax)) < rng.random()
    rows = (torch.arange(len(tax)),)

    def distance(i, j):
        i, j = torch.broadcast_tensors(i, j)
        return torch.from_numpy(tax.tree.topology.distance(i.numpy(), j.numpy()))

    found = {
        name: subjects.DistanceSubject(rows, distance, tax.tree.depth, valid)
        for name, valid in (("exact", np.ones(len(tax), bool)), ("hurt", valid))
    }
    parts = {"precision", "purity", "ancestor", "closure", "neighbour"}
    query_taxa = rank_counts.QueryTaxa(tax.tree, {}, 10, parts)
    measured = {
        name: rank_counts.query_statistics(
            subject, query_taxa, np.arange(len(tax)), evaluation.Clock(), lambda done, total: None
        )
        for name, subject in found.items()
    }
    for name in ("precision", "ancestor AP", "neighbour AP", "plain"):
        better = np.nanmean(measured["hurt"][name]) - np.nanmean(measured["exact"][name])
        assert better <= 1e-12, name
    for name in ("ancestor ranks", "neighbour ranks"):
        assert (measured["hurt"][name] >= measured["exact"][name])[
            ~np.isnan(measured["exact"][name])
        ].all(), name
        count = measured["hurt"][name.replace("ranks", "count")]
        assert (measured["hurt"][name] >= count)[~np.isnan(count)].all()
    lost = np.flatnonzero(~valid)
    assert not measured["hurt"]["precision"][lost].any()


# -------------------------------------------------------------------- trees of every shape


@pytest.mark.parametrize(
    "parent",
    [
        [-1],
        [-1, 0],
        [-1, 0, 0],
        [-1, 0, 1],
        [-1] + [0] * 40,
        list(range(-1, 40)),
    ],
    ids=["one", "two", "cherry", "chain", "star", "path"],
)
def test_evaluate__answers_for_any_tree(parent):
    tax = Taxonomy.from_parents(parent)
    n = len(tax)
    report = evaluate(nested(tax), tax)
    assert report.meta["taxa"] == n
    json.dumps(report.to_dict(), allow_nan=False)
    assert len(str(report).splitlines()) > len(report) / 2
    assert report.to_frame().height == len(report)
    if n == 1:
        assert math.isnan(report["precision@10"].value)
    else:
        assert report["precision@10"].ceiling.value == 1
        assert report["ancestor MAP"].value > 0.9
        assert report["ancestor MAP"].ceiling.value == 1


def test_evaluate__a_star_flatters_everybody_and_says_so():
    tax = Taxonomy.from_parents([-1] + [0] * 40)
    report = evaluate(scattered(41), tax, floor_queries=41)
    precision = report["precision@10"]
    assert precision.value == precision.floor.value == precision.ceiling.value == 1
    assert report["plain precision@10"].ceiling.value < 0.4


def test_evaluate__without_ranks_judges_by_clades_and_says_so():
    tax = a_taxonomy(ranked=False)
    report = evaluate(nested(tax), tax, only={"purity", "separation"})
    assert "purity@10/depth 1" in report
    assert "separation/depth 1" in report
    assert "groups are the clades at a depth" in str(report)
    ranked = a_taxonomy()
    report = evaluate(nested(ranked), ranked, only={"purity", "separation"})
    assert "purity@10/phylum" in report
    assert "clades at a depth" not in str(report)


# -------------------------------------------------------------------- how it is computed


def test_evaluate__does_not_depend_on_threads_blocks_or_memory(monkeypatch):
    tax = a_taxonomy(120)
    model = nested(tax)
    expected = stable(evaluate(model, tax))
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(rank_counts, "_QUERIES", 5)
    monkeypatch.setattr(rank_counts, "_TARGETS", 20)
    monkeypatch.setattr(subjects, "_TILE", 37)
    assert stable(evaluate(model, tax)) == expected


def test_evaluate__same_seed_same_report_and_parts_stand_alone():
    tax = a_taxonomy()
    model = nested(tax)
    whole = evaluate(model, tax, queries=50, exact=False, seed=3)
    assert stable(whole) == stable(evaluate(model, tax, queries=50, exact=False, seed=3))
    other = evaluate(model, tax, queries=50, exact=False, seed=4)
    assert other["closure MAP"].value != whole["closure MAP"].value
    for part in whole.meta["parts"]:
        alone = evaluate(model, tax, queries=50, exact=False, seed=3, only={part})
        assert 0 < len(alone) < len(whole)
        for row in alone.rows:
            assert repr(row) == repr(whole[row.key])  # nan is nan


def test_evaluate__sampled_queries_approach_every_taxon():
    tax = a_taxonomy()
    model = scattered(len(tax), dim=2)
    exact = evaluate(model, tax)
    assert exact.meta["exact"]
    assert exact.meta["queries"] == len(tax)
    sampled = evaluate(model, tax, queries=100, exact=False)
    assert not sampled.meta["exact"]
    for key in ("precision@10", "closure MAP", "ancestor MAP", "neighbour MAP", "Spearman"):
        row = sampled[key].estimate
        assert row.low < row.value < row.high
        # The interval holds the truth, with a margin for the five at once.
        slack = row.high - row.low
        assert row.low - slack < exact[key].value < row.high + slack
        assert slack > exact[key].estimate.high - exact[key].estimate.low


def test_evaluate__large_taxonomies_are_sampled(monkeypatch):
    monkeypatch.setattr(evaluation, "_EXACT", 100)
    tax = a_taxonomy(300)
    report = evaluate(nested(tax), tax, queries=40, floor_queries=7)
    assert (report.meta["queries"], report.meta["floor_queries"]) == (40, 7)
    assert report["precision@10"].estimate.count == 40
    assert report["precision@10"].floor.count == 7
    assert "40 query taxa against all" in str(report)
    assert evaluate(nested(tax), tax, queries=40, exact=True, only="precision").meta["exact"]


# -------------------------------------------------------------------- what it takes


def test_evaluate__ball_points_and_polar_ones_are_the_same():
    tax = a_taxonomy(80)
    r, u = scattered(80, largest=5.0)
    expected = evaluate((r, u), tax)

    class Model:
        taxonomy, radius, direction = tax, r, u

    read_only = convert.polar_to_ball(r, u).numpy()
    read_only.flags.writeable = False

    for report in (
        evaluate(Model()),
        evaluate((r.numpy(), u.numpy()), tax),
        evaluate(convert.polar_to_ball(r, u), tax),
        evaluate(convert.polar_to_ball(r, u, c=0.3), tax, c=0.3),
        evaluate(read_only, tax),
    ):
        for row in expected.rows:
            if row.key != "direction norm error":
                expected_value = pytest.approx(row.value, rel=1e-6, abs=1e-9, nan_ok=True)
                assert report[row.key].value == expected_value, row.key


def test_evaluate__float32_is_measured_as_it_is_stored():
    tax = a_taxonomy(80)
    r, u = nested(tax)
    stored = r.float(), u.float()
    report = evaluate(stored, tax)
    assert report.meta["dtype"] == "float32"
    wide = evaluate((stored[0].double(), stored[1].double()), tax)
    assert report["ancestor MAP"].value == wide["ancestor MAP"].value
    assert report["Spearman"].value == wide["Spearman"].value


def test_evaluate__counts_lost_rows_and_rows_at_the_clip_of_a_ball():
    tax = a_taxonomy(30)
    x = torch.zeros(30, 2)
    x[:, 0] = 0.5
    x[0, 0], x[1, 0] = math.nan, -math.inf
    x[2:5, 0] = 1 - 1e-5
    report = evaluate(x, tax, only="ball")
    assert report["lost rows"].value == 2
    assert report["rows at the clip of a float32 ball"].value == 3
    assert report["rows at the clip of a float64 ball"].value == 0
    assert report["max norm"].value == pytest.approx(1 - 1e-5)
    assert "direction norm error" not in report
    r, u = scattered(30)
    u[3] *= 1.0001
    r[4], u[4] = 0, 0  # the origin has no direction
    report = evaluate((r, u), tax, only="ball")
    assert report["lost rows"].value == report["rows at the clip of a float32 ball"].value == 0
    assert report["max norm"].value == pytest.approx(math.tanh(float(r.max()) / 2))
    r, u = scattered(30)
    u[3] *= 1.0001
    report = evaluate((r, u), tax, only="ball")
    assert report["direction norm error"].value == pytest.approx(0.0001)


def some_points():
    return scattered(30, largest=3.0)


@pytest.mark.parametrize(
    ("points", "advice"),
    [
        (convert.polar_to_lorentz(*some_points()), r'taxonomy, manifold="lorentz"\)'),
        (torch.cat((some_points()[0][:, None], some_points()[1]), 1), r'manifold="polar"\)'),
        (some_points()[0][:, None] * some_points()[1], "tangent vectors"),
        (10 * torch.randn(30, 4, generator=torch.Generator().manual_seed(0)), "Euclidean"),
    ],
    ids=["lorentz", "polar", "tangent", "euclidean"],
)
def test_evaluate__points_of_other_spaces_are_refused_with_a_guess(points, advice):
    tax = a_taxonomy(30)
    points[5] = math.nan  # a lost row does not hide the space of the others
    outside = int((torch.linalg.vector_norm(points, dim=1) >= 1).sum())
    with pytest.raises(ValueError, match=f"{outside} rows lie outside the ball.*{advice}"):
        evaluate(points, tax)


def test_evaluate__the_advice_for_other_spaces_can_be_followed():
    tax = a_taxonomy(30)
    r, u = some_points()
    expected = evaluate((r, u), tax, only="closure")["closure MAP"].value
    tangent = r[:, None] * u
    for points, manifold in (
        (convert.polar_to_lorentz(r, u), "lorentz"),
        (torch.cat((r[:, None], u), 1), "polar"),
        ((tangent.norm(dim=1), torch.nn.functional.normalize(tangent)), "ball"),
    ):
        report = evaluate(points, tax, only="closure", manifold=manifold)
        assert report["closure MAP"].value == pytest.approx(expected)


def test_evaluate__directions_that_are_no_unit_vectors_are_refused():
    r, u = some_points()
    u[3] *= 1.01
    with pytest.raises(
        ValueError, match=r"the direction of row 3 has length 1\.01: directions are"
    ):
        evaluate((r, u), a_taxonomy(30))
    x = torch.full((30, 2), 0.1)
    x[4, 0] = 1.0
    with pytest.raises(ValueError, match=r"1 rows lie outside the ball, the first is row 4"):
        evaluate(x, a_taxonomy(30))


@pytest.mark.parametrize("c", [0.0, -1.0, math.nan])
def test_evaluate__curvature_is_positive(c):
    with pytest.raises(ValueError, match="c must be positive"):
        evaluate(torch.zeros(30, 2), a_taxonomy(30), c=c)


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (torch.zeros(5, 2), {}, "5 vectors, but the taxonomy has 3 taxa: row i must be"),
        (torch.zeros(3), {}, r"points of the ball have shape \[n, dim\]; got \[3\]"),
        ((torch.zeros(3, 1), torch.zeros(3, 2)), {}, r"a radius \[n\] and a direction \[n, dim\]"),
        (torch.zeros(3, 2), {"only": {"speed"}}, r"no part \['speed'\] in a report; there are rad"),
        (torch.zeros(3, 2), {"k": 0}, "queries and k must be at least 1"),
        (torch.zeros(3, 2), {"taxon_ranks": ["tribe"]}, "no taxon has the rank 'tribe'"),
    ],
)
def test_evaluate__errors_say_what_to_do(model, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(model, Taxonomy.from_parents([-1, 0, 0]), **options)


def test_evaluate__needs_a_taxonomy():
    with pytest.raises(ValueError, match=r"without a taxonomy: evaluate\(vectors, taxonomy\)"):
        evaluate(torch.zeros(3, 2))


def test_evaluate__draws_progress_only_when_asked(capsys):
    tax = a_taxonomy(30)
    evaluate(nested(tax), tax, only="precision", progress=False)
    evaluate(nested(tax), tax, only="precision")  # standard error is no terminal here
    assert capsys.readouterr() == ("", "")
    evaluate(nested(tax), tax, only="precision", progress=True)
    assert "queries" in capsys.readouterr().err


def test_evaluate__exact_says_first_how_long_it_takes(monkeypatch, capsys):
    monkeypatch.setattr(evaluation, "_EXACT", 20)
    tax = a_taxonomy()
    points = nested(tax)
    report = evaluate(points, tax, exact=True, queries=30)
    assert "300 queries will take about 0 minutes on 1 thread(s)" in capsys.readouterr().err
    assert report.meta["exact"]
    assert report["ancestor MAP"].estimate.count == 299  # the root has no ancestors
    assert report["ancestor MAP"].ceiling.count <= 30
    monkeypatch.undo()
    every = evaluate(points, tax, progress=False)
    for key in ("precision@10", "ancestor MAP", "closure mean rank", "neighbour MAP"):
        assert report[key].value == every[key].value
    assert "exact evaluation" not in capsys.readouterr().err


# -------------------------------------------------------------------- the report


def test_report__finds_rows_and_survives_json():
    tax = a_taxonomy()
    report = evaluate(nested(tax), tax)
    assert len(set(report)) == len(report)  # keys are unique
    row = report["purity@10/class"]
    assert (row.metric, row.at) == ("purity@10", "class")
    assert "precision@10" in report
    with pytest.raises(KeyError, match="no measure 'precision'"):
        report["precision"]
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert found["rows"][0]["key"] == report.rows[0].key
    assert found["meta"]["versions"].keys() == {"poincare_taxa", "torch"}
    frame = report.to_frame()
    values = [row.value for row in report.rows]
    assert frame["value"].to_list() == [None if math.isnan(v) else v for v in values]
    printed = str(report)
    for row in report.rows:
        assert row.detail or f"  {row.metric}" in printed
    assert max(map(len, printed.splitlines())) <= 140


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.0, "1"),
        (0.99999, "0.99999"),
        (0.999949, "0.9999"),
        (1.000004, "1.000004"),
        (0.0, "0"),
        (2.5e-7, "2.5e-07"),
        (0.98765, "0.9877"),
        (126880.4, "126,880"),
        (14.618, "14.62"),
        (math.nan, "–"),
        (math.inf, "∞"),
    ],
)
def test_report__numbers_are_not_rounded_up_to_perfection(value, text):
    assert text in str(Report((Row("group", "measure", Estimate(value)),))).split()


def test_estimate__leaves_out_taxa_that_say_nothing():
    table = np.array([[3.0, 1.0], [0.0, 0.0], [0.0, 1.0]])
    found = Estimate.of(table, lambda sums: sums[..., 0] / sums[..., 1])
    assert (found.value, found.count) == (1.5, 2)
    assert math.isnan(Estimate.of(np.zeros((3, 2)), lambda sums: sums[..., 0]).value)


def test_evaluate__takes_a_tree_without_ranks():
    tax = a_taxonomy(60)
    points = nested(tax)
    unranked = Taxonomy.from_parents(tax.parent)
    found, expected = (evaluate(points, source) for source in (tax.tree, unranked))
    assert list(found) == list(expected)
    for key in found:
        np.testing.assert_equal(found[key].value, expected[key].value)
    with pytest.raises(ValueError, match="no taxon has the rank 'class'"):
        evaluate(points, tax.tree, taxon_ranks=["class"])


def test_evaluate__exact_is_the_same_through_the_index_and_by_scans(monkeypatch):
    tax = synthetic_taxonomy(6000, seed=0)
    model = embed(tax, dim=5)
    parts = {"precision", "purity", "ancestor", "closure", "neighbour"}

    def values():
        report = evaluate(model, exact=True, only=parts, floor_queries=300, progress=False)
        return [(row.key, row.value, row.floor, row.ceiling) for row in report.rows]

    built = []
    whole = nodes.Nodes.build
    monkeypatch.setattr(
        nodes.Nodes, "build", lambda points, rows: built.append(len(points)) or whole(points, rows)
    )
    monkeypatch.setattr(index, "_COUNTED", 1.0)
    through_index = values()
    assert 6000 in built
    built.clear()
    monkeypatch.setattr(index, "_FEWEST", 10**9)
    assert values() == through_index
    assert not built


def test_evaluate__in_many_python_threads_is_that_of_one():
    tax = synthetic_taxonomy(3000, seed=0)
    model = embed(tax, dim=5)

    def values():
        report = evaluate(model, queries=200, exact=False, floor_queries=20)
        return [(row.key, row.estimate, row.floor, row.ceiling) for row in report.rows]

    expected = repr(values())  # nan is equal to nan
    assert all(repr(found) == expected for found in in_python_threads(values, 4))
