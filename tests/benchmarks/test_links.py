"""Link prediction and cones on a small split in the files of the public one."""

import gzip
import warnings

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import poincare_taxa as pt
from benchmarks.cli import app
from benchmarks.quality import cones, links

TREE = pt.ClosurePairs.from_edges([(v, (v - 1) // 2) for v in range(1, 127)])


def write(path, pairs):
    with gzip.open(path, "wt") as stream:
        np.savetxt(stream, np.asarray(pairs), "%d")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A split of a binary tree, under the name of the mammals."""
    path = tmp_path_factory.mktemp("split")
    split = pt.split_links(TREE)
    for part in ("valid", "test"):
        write(path / f"mammal.{part}.tsv.gz", getattr(split, part))
        write(path / f"mammal.{part}_neg.tsv.gz", getattr(split, f"{part}_negatives"))
    for share in (0, 10, 50):
        train = pt.split_links(TREE, share / 100).train  # of the same seed: the same pairs held out
        write(path / f"mammal.train_{share}percent.tsv.gz", train.pairs)
    return path


def test_links__one_row_a_job_and_what_was_not_run(folder, tmp_path):
    command = ["links", str(folder), "--only", "mammals-5-layout", "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    table = (tmp_path / "docs" / "tables" / "links.md").read_text().splitlines()
    assert len(table) == 2 + len(links.JOBS)
    assert sum("not run" in line for line in table) == len(links.JOBS) - 2
    assert "0/10/50 %" in table[2]
    assert "100.0 (100)" in table[2]  # F1 of the layout and of reachability: a tree is read off
    (basic,) = [line for line in table if "basic edges" in line and "not run" not in line]
    assert " (0) |" in basic
    # Another run completes the table, in the order of the jobs.
    command[3] = "mammals-10-layout"
    assert CliRunner().invoke(app, command, catch_exceptions=False).exit_code == 0
    more = (tmp_path / "docs" / "tables" / "links.md").read_text().splitlines()
    assert more[2] == table[2]
    assert sum("not run" in line for line in more) == len(links.JOBS) - 4


def test_links__refuse_shares_of_different_closures(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    less = TREE.reduced().pairs[1:]
    write(tmp_path / "mammal.train_10percent.tsv.gz", less)
    with pytest.raises(ValueError, match="closure of the share 10"):
        links.public_split(tmp_path, "mammal")


def test_cones__from_a_layout_hold_what_is_below_and_training_learns(folder, monkeypatch):
    monkeypatch.setattr(cones, "EPOCHS", (20, 40))
    jobs = ["mammals-5-layout", "mammals-5-small", "mammals-5-excluded-50"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pairs that follow are not trained on
        rows = list(cones.measure(folder, jobs))
    layout, small, trained = rows
    assert layout["f1"] > 0.9
    assert small["f1"] > 0.9
    assert small["threshold"] < layout["threshold"]
    split, shares = links.public_split(folder, "mammal")
    start = cones.Recipe(shares[50], split.train, 5, 50, seed=0)
    floor = pt.evaluate_links(cones.energies(start.points), split, ranked=0).metrics["f1"]
    assert trained["f1"] > floor + 0.1
    shown = cones.readable(rows)
    first = shown[0]
    assert first["10 %"] == f"{100 * layout['f1']:.1f}"
    assert (shown[4]["50 %"], shown[4]["10 %"]) == (f"{100 * trained['f1']:.1f}", "not run")


def test_recipe__draws_no_known_pair_and_keeps_points_where_cones_are(folder):
    split, shares = links.public_split(folder, "mammal")
    known = {tuple(pair) for pair in split.train.pairs.tolist()}
    for by_degree in (False, True):
        recipe = cones.Recipe(shares[0], split.train, 3, 50, seed=1)
        nodes, valid = recipe.negatives(recipe.pairs, by_degree)
        anchor = recipe.pairs[:, :1].expand_as(nodes)
        drawn = torch.stack([anchor[valid], nodes[valid]], 1).tolist()
        assert not {tuple(pair) for pair in drawn} & known
        assert all(a != v for a, v in drawn)
        left_out = torch.stack([anchor[~valid], nodes[~valid]], 1).tolist()
        assert all(a == v or (a, v) in known for a, v in left_out)
    recipe.epoch(recipe.inside, 0.1, cones.INNERMOST)
    touched = recipe.points[recipe.pairs.unique()].norm(dim=1)
    assert touched.min() > cones.INNERMOST
    assert touched.max() < 1


def test_spanning_tree__goes_to_the_deepest_parent():
    pairs = pt.ClosurePairs.from_edges([("b", "a"), ("c", "b"), ("d", "c"), ("d", "a"), ("e", "a")])
    tree = cones.spanning_tree(pairs)
    assert tree.tree_distance(3, 0) == 3
    several = pt.ClosurePairs([(0, 1), (2, 3)])
    tree = cones.spanning_tree(several)
    assert (len(tree), tree.tree_distance(0, 2)) == (5, 2)
    assert cones.laid_out(several, 3).num_embeddings == 4
