"""NaN in weights, gradients, data, moments: named with its row; the last checkpoint is good."""

import pytest
import torch

import poincare_taxa as pt
from poincare_taxa.testing import synthetic_taxonomy
from poincare_taxa.training.checkpoint import Checkpoints
from poincare_taxa.training.objectives import Objective

TAX = synthetic_taxonomy(40, seed=0)
ROW, EPOCH = 7, 3


class Injected(Objective):
    """Radii towards 1, of rows other than `ROW`; from one epoch on NaN comes in at one place."""

    steps_per_epoch = 2

    def __init__(self, place):
        self._place = place
        self._target = torch.ones(len(TAX), dtype=torch.float64)
        self._active = False

    def begin(self, epoch, points, generator):
        self._active = epoch + 1 == EPOCH
        if self._active and self._place == "weights":
            with torch.no_grad():
                points[ROW, 1] = torch.nan
        if self._active and self._place == "data":
            self._target[ROW] = torch.nan
        if self._active and self._place in ("exp_avg", "exp_avg_sq"):
            self._optimizer.state[points][self._place][ROW] = torch.nan

    def __call__(self, points, generator):
        rows = torch.tensor([row for row in range(len(TAX)) if row != ROW or not self._idle])
        x = torch.nn.functional.embedding(rows, points, sparse=True)
        if self._active and self._place == "gradients":
            x.register_hook(lambda g: torch.where((rows == ROW)[:, None], torch.nan, g))
        return {"radius": (x[:, 0] - self._target[rows]).square().sum()}

    @property
    def _idle(self):
        """Whether the row has no gradient, so that only a look at the state finds the NaN."""
        return self._active and self._place in ("weights", "exp_avg", "exp_avg_sq")


@pytest.mark.filterwarnings("ignore:depth_radius:UserWarning")  # what it learns is nothing
@pytest.mark.parametrize("place", ["weights", "gradients", "data", "exp_avg", "exp_avg_sq"])
def test_nan__is_caught_with_its_row_and_the_last_checkpoint_is_good(place, tmp_path):
    objective = Injected(place)

    def optimizer(params):
        objective._optimizer = pt.RowwiseRiemannianAdam(params, lr=0.01)
        return objective._optimizer

    def fit(**options):
        return pt.fit(
            TAX, dim=3, objective=objective, optimizer=optimizer, epochs=5,
            checkpoint=tmp_path / "run", progress=False, **options,
        )  # fmt: skip

    with pytest.raises(FloatingPointError, match=rf"not finite,? in 1 row: {ROW} \(id "):
        fit()
    folder = Checkpoints(tmp_path / "run")
    assert folder.epochs() == [EPOCH - 2, EPOCH - 1]
    tensors = folder.load(EPOCH - 1).tensors
    assert all(x.isfinite().all() for x in tensors.values() if x.is_floating_point())
    # without the fault, the run goes on from there
    objective._place, objective._target[ROW] = "nowhere", 1.0
    assert fit(resume=True).history["epoch"].to_list() == [0, 1, 2, 3, 4, 5]
