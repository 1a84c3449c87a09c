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
# # A hierarchy with several parents
#
# WordNet is no tree, nor is a taxonomy with ways of life in it. `pt.ClosurePairs` takes any pairs
# of ancestor and descendant. Here the carnivores of NCBI get a second hierarchy: what swims.

# %%
import tempfile
import warnings
from pathlib import Path

import polars as pl
import torch

import poincare_taxa as pt

warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
torch.set_num_threads(1)
tax = pt.load_sample("mammals").subtree("Carnivora")
tree = pt.AncestorPairs(tax)[torch.arange(len(pt.AncestorPairs(tax)))]

swims = len(tax)  # a row of its own, below the root
swimmers = pl.concat([tax.subtree("Pinnipedia").ids, tax.subtree("Lutrinae").ids])
more = [(0, swims), *((swims, row) for row in tax.rows(swimmers))]
names = pl.concat([tax.names, pl.Series(["swims"])])
pairs = pt.ClosurePairs(torch.cat((tree, torch.tensor(more))), num_nodes=len(tax) + 1)
len(tax), len(pairs)

# %% [markdown]
# Without training: seals and otters lie apart in the tree, and from four dimensions on a cap holds
# both. Mean average precision and mean rank of the ancestors, by plain distance, in 2-D and 4-D:

# %%
for dim in (2, 4):
    radius, direction, info = pt.closure_layout(pairs, dim)
    print(dim, info, pt.closure.rank_ancestors(pairs, radius, direction)[:2])

# %% [markdown]
# By training, in five dimensions. Row 0 of the history is the start; the last, the end.


# %%
def ranks(row, points):
    """Columns to add to the row of every twelfth epoch."""
    if row["epoch"] % 12 == 0:
        found = pt.closure.rank_ancestors(pairs, points.radius, points.direction)
        return {"MAP": found[0], "mean rank": found[1]}
    return {}


run = pt.fit(pairs, dim=5, seed=0, progress=False, callback=ranks)
print(run.history.select("epoch", "loss", "MAP", "mean rank").drop_nulls("MAP"))
assert run.history["MAP"][-1] > 0.9

# %% [markdown]
# The model is what is kept: points with names. The nearest of an otter are its ancestors, of both
# kinds.

# %%
model = pt.ClosureEmbedding(
    pl.Series([f"{name} ({row})" for row, name in enumerate(names)]),
    run.model.radius,
    run.model.direction,
)
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "carnivores")
    model = pt.ClosureEmbedding.load(Path(folder) / "carnivores")
otter = tax.rows("Lutra lutra")
print(model.nearest(model.names[otter], k=len(tax.ancestors("Lutra lutra")) + 1))
