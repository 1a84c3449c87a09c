# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Train from random points
#
# `pt.fit` starts from random points near the origin and learns the tree level by level. The history
# says what became of it: row 0 is the start, the untrained floor.

# %%
import tempfile
import warnings
from pathlib import Path

import torch

import poincare_taxa as pt

warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
torch.set_num_threads(1)  # small batches: threads would only wait for each other
tax = pt.load_sample("mammals").subtree("Primates")
run = pt.fit(tax, dim=10, seed=0, progress=False)
run.history.select("epoch", "loss", "share/root", "depth_radius", "spearman")

# %% [markdown]
# The report, with the tree's own values beside.

# %%
parts = {"precision", "ancestor", "correlation"}
report = pt.evaluate(run.model, only=parts, queries=200, progress=False)
print(report)
assert report["ancestor MAP"].value > 0.9
assert report["Spearman"].value > 0.9

# %% [markdown]
# Any block can be passed in, and a run that is stopped goes on from its last checkpoint with the
# same bits as one that was not.

# %%
recipe = {
    "dim": 5,
    "loss": pt.DepthMarginRankingLoss(margin=pt.TreeMargin(1.0)),
    "curriculum": pt.Curriculum.top_down(6, tax),
    "steps_per_epoch": 10,
}
with tempfile.TemporaryDirectory() as folder:
    first = pt.fit(tax, **recipe, epochs=4, checkpoint=Path(folder) / "run")
    resumed = pt.fit(tax, **recipe, epochs=6, checkpoint=Path(folder) / "run", resume=True)
whole = pt.fit(tax, **recipe, epochs=6)
assert torch.equal(whole.embedding.weight, resumed.embedding.weight)
resumed.history.select("epoch", "loss", "spearman", "pair_accuracy/gap 1")
