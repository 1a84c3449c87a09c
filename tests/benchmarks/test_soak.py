"""A round of the soak does what it says, and slopes find what grows."""

import numpy as np
import pytest

from benchmarks.tools import soak
from poincare_taxa.model.model import TaxonEmbedding


@pytest.mark.filterwarnings("ignore")  # what is learned in so few steps is nothing
def test_round__leaves_a_run_an_embedding_and_an_export(tmp_path):
    for seed in range(2):
        soak.one_round(tmp_path, seed, 30)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        *("run-0", "run-1", "saved", "vectors.npz")
    ]
    assert len(TaxonEmbedding.load(tmp_path / "saved", verify=True)) == 30


@pytest.mark.parametrize("growth", [0.0, 0.5])
def test_slopes__find_what_grows_and_overlook_the_warm_up(growth):
    noise = np.random.default_rng(0).normal(0, 0.1, 100)
    rows = [
        {
            "round": i + 1,
            "memory (MiB)": (50.0 if i < 20 else 100.0) + growth * i + noise[i],
            "open files": 7,
            "files on disk": 9,
        }
        for i in range(100)
    ]
    memory, files, _ = soak.slopes(rows)
    slope, error = map(float, memory["slope a round"].split(" ± "))
    assert abs(slope - growth) < 4 * error
    assert error < 0.01
    assert files["slope a round"] == "+0.0000 ± 0.0000"
