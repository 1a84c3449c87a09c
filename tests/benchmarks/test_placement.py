"""Placement is measured on a small clade, between its floor and its ceiling."""

import numpy as np
import polars as pl
import pytest
import torch
from oracles.tree import walk_up

import poincare_taxa as pt
from benchmarks.quality import placement

TAX = pt.load_sample().subtree("Carnivora")
SIZE = 80
CLEARLY = 0.02  # of precision, as for the advice of `migrate`


@pytest.mark.parametrize("rank", placement.RANKS.values())
def test_left_out__is_whole_and_no_more_than_asked(rank):
    tops, rows = placement.left_out(TAX, rank, SIZE)
    below = [row for top in tops for row in range(top, TAX.end[top])]
    assert sorted(below) == rows.tolist()  # No taxon is below two tops.
    assert 0 < len(rows) <= SIZE
    assert rank is None or set(TAX.taxon_ranks.gather(tops)) == {rank}


def test_copied__gives_new_taxa_the_vectors_of_ancestors_and_changes_no_other():
    model = pt.embed(TAX, dim=4)
    there = placement.known(TAX, placement.left_out(TAX, "genus", SIZE)[1])
    found = placement.copied(model, there)
    at = [next(row for row in walk_up(TAX.parent, i) if there[row]) for i in range(len(TAX))]
    assert found.direction.equal(model.direction[at])
    assert found.radius.equal(model.radius[at])


def test_place_again__is_as_good_as_a_fresh_embedding_and_better_than_copies():
    rows = list(placement.place_again(TAX, 10, torch.float64, SIZE))
    assert [row["left out"].split()[1] for row in rows] == list(placement.RANKS)
    for row in rows:
        for measure in ("precision@10", "precision@10 of kin"):
            copy, placed, fresh = (row[f"{measure} {name}"] for name in ("copy", "placed", "fresh"))
            assert copy < placed
            assert placed >= fresh - CLEARLY
        for name in ("copy", "placed", "fresh"):
            assert 0 <= row[f"depth error {name}"] <= row[f"depth error, p95 {name}"]
    shown = placement.readable(rows)[0]
    values = [rows[0][f"precision@10 {name}"] for name in ("placed", "copy", "fresh")]
    assert shown["precision@10"] == "{} ({}, {})".format(*values)
    assert not [key for key in shown if key.endswith((" placed", " copy", " fresh"))]


def test_depth_errors__of_a_taxon_and_its_own_descendants_are_0():
    # A path: every taxon is above or below every other, and all are on one ray.
    tax = pt.Taxonomy.from_parents([-1, 0, 1, 2, 3])
    errors = placement.depth_errors(pt.embed(tax, dim=3), np.arange(len(tax)))
    assert errors.shape == (15,)
    np.testing.assert_allclose(errors, 0, atol=1e-6)


def test_relatives__are_the_nearest_known_leaves():
    _, rows = placement.left_out(TAX, "genus", SIZE)
    there = placement.known(TAX, rows)
    leaves = [leaf for leaf in TAX.tree.leaf_rows if there[leaf]]
    for row, near in zip(rows, placement.relatives(TAX, rows, there), strict=True):
        assert set(near) <= set(leaves)
        far = sorted(int(TAX.tree.distance(row, leaf)) for leaf in leaves)
        assert [int(TAX.tree.distance(row, leaf)) for leaf in near] == far[:3]


def test_by_neighbours__is_at_most_an_edge_off_and_not_led_astray():
    rows = list(placement.by_neighbours(TAX, size=SIZE))
    assert all(row["median"] <= 1 for row in rows if row["neighbours"] == "three nearest")
    stray = [row for row in rows if row["neighbours"] != "three nearest"]
    assert all(row["mean"] < row["common ancestor mean"] for row in stray)
    assert len(rows) == 2 * len(stray) == len(placement.RANKS) * 2 * len(placement.WEIGHTS)
    shown = placement.readable_neighbours(rows)[0]
    numbers = [float(rows[0][key]) for key in ("median", "p95", "mean")]
    found = [float(part) for part in shown["edges: median, p95, mean"].split(", ")]
    assert found == pytest.approx(numbers, abs=0.005)


def test_migrate__counts_every_taxon_and_keeps_vectors_exactly():
    _, rows = placement.left_out(TAX, "genus", SIZE)
    old = TAX.at_rows(np.flatnonzero(placement.known(TAX, rows)))
    row = placement.migrate(old, TAX, "Carnivora", SIZE)
    assert (row["kept"], row["placed"], row["removed"]) == (len(old), len(rows), 0)
    assert row["kept: largest difference"] == 0
    assert np.isnan(row["precision@10 moved"])
    assert row["precision@10 new"] >= row["fresh precision@10 new"] - CLEARLY
    (shown,) = placement.readable_releases([row])
    assert shown["precision@10 new"].startswith(f"{row['precision@10 new']} (")
    # The other direction removes the same taxa.
    back = placement.migrate(TAX, old, "Carnivora", SIZE)
    assert (back["kept"], back["removed"]) == (len(old), len(rows))


def test_migrate__sees_what_moved():
    frame = TAX.to_frame()
    genera = TAX.ids.filter(pl.Series(TAX.has_rank("genus")))
    frame = frame.with_columns(
        pl.when(pl.col("id") == genera[0]).then(TAX.ids[0]).otherwise("parent").alias("parent")
    )
    row = placement.migrate(TAX, pt.Taxonomy.from_frame(frame), "Carnivora", SIZE)
    assert row["moved"] == 1
    assert row["carried"] == TAX.subtree_size[TAX.rows(genera[0])] - 1
    assert row["kept"] + row["moved"] + row["carried"] == len(TAX)
    assert row["kept: largest difference"] == 0


def test_releases__without_data_says_so(tmp_path, capsys):
    assert list(placement.releases(tmp_path)) == []
    assert "skipped" in capsys.readouterr().out


def test_one_more__changes_fewer_vectors_the_smaller_the_family_is():
    same = "vectors of a fresh embedding that are the same bits"
    leaf = int(TAX.ids[int(TAX.tree.leaf_rows[-1])])
    deep, root = (row[same] for row in placement.one_more(TAX, (leaf, TAX.ids[0])))
    assert len(TAX) >= deep > root >= 1
