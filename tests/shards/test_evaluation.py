"""The report of shards: the values of one process, to the last digit, in any number of them."""

import pytest
from support.processes import in_threads

import poincare_taxa as pt
from poincare_taxa.testing import synthetic_taxonomy

PARTS = {"precision", "ancestor", "closure", "neighbour", "correlation", "distortion"}


@pytest.fixture(scope="module", params=["mammals", "synthetic", "star"])
def folder(request, tmp_path_factory):
    """Shards of four processes."""
    folder = tmp_path_factory.mktemp("shards")
    tax = {
        "mammals": lambda: pt.load_sample("mammals").subtree("Carnivora"),
        "synthetic": lambda: synthetic_taxonomy(2500),
        "star": lambda: pt.Taxonomy.from_parents([-1] + [0] * 600),
    }[request.param]()
    tax.to_frame().write_parquet(folder / "tax.parquet")
    in_threads(4, lambda rank: pt.embed_shards(folder / "tax.parquet", folder / "out", 4))
    return folder / "out"


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_report__is_that_of_one_process(folder, size):
    whole = pt.evaluate(
        pt.load(folder), queries=60, seed=3, exact=False, floor_queries=0, only=PARTS
    )
    for report in in_threads(size, lambda rank: pt.evaluate_shards(folder, queries=60, seed=3)):
        assert report.to_frame().equals(whole.to_frame(), null_equal=True)
        kept = {key: value for key, value in whole.meta.items() if key != "seconds"}
        assert {**report.meta, "seconds": 0} == {**kept, "seconds": 0}


def test_evaluate_shards__refuses_what_it_cannot_measure(folder):
    with pytest.raises(ValueError, match="no part"):
        pt.evaluate_shards(folder, only={"purity"})
    with pytest.raises(ValueError, match="queries and k"):
        pt.evaluate_shards(folder, queries=0)
    with pytest.raises(ValueError, match="4 shards for 5 processes"):
        in_threads(5, lambda rank: pt.evaluate_shards(folder))


def test_evaluate_shards__refuses_a_folder_without_shards(tmp_path):
    pt.embed(synthetic_taxonomy(30), 3).save(tmp_path / "one")
    with pytest.raises(ValueError, match="embed_shards"):
        pt.evaluate_shards(tmp_path / "one")
