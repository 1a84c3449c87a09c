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
# # Is it any good?
#
# An embedding can be valid and mean nothing: every point inside the ball, radii that follow
# depth, and neighbours drawn at random. So a report shows beside every value its *floor* (what the
# same radii earn with random directions, or with one) and its *ceiling* (the tree's own distances,
# through the same code).

# %%
import torch

import poincare_taxa as pt

tax = pt.load_sample("mammals")
model = pt.embed(tax, dim=10, seed=0)
parts = {"radius", "precision", "ancestor", "correlation", "separation"}
report = pt.evaluate(model, queries=200, only=parts)
print(report)

# %% [markdown]
# ## A number that flatters
#
# Here is an embedding that knows nothing but depth: the radii are the model's, the directions are
# noise.

# %%
generator = torch.Generator().manual_seed(0)
noise = torch.randn(len(tax), 10, generator=generator, dtype=torch.float64)
noise /= torch.linalg.vector_norm(noise, dim=1, keepdim=True)
nothing = pt.TaxonEmbedding(tax, model.radius, noise)
empty_report = pt.evaluate(nothing, queries=200, only=parts - {"separation"})

for measure in ("depth–radius Spearman", "precision@10", "ancestor MAP", "Spearman"):
    print(f"{measure:25} {report[measure].value:8.4f} {empty_report[measure].value:8.4f}")

# %% [markdown]
# Both have a perfect correlation of radius with depth, since both have it by construction. Only
# one of them knows which taxa are related.
#
# ## Fewer dimensions
#
# Where the room ends, the report says so.

# %%
small = pt.evaluate(pt.embed(tax, dim=2), queries=200, only={"precision"})
small["precision@10"].value, report["precision@10"].value

# %% [markdown]
# What this page claims:

# %%
assert report["depth–radius Spearman"].value > 0.9999
assert empty_report["depth–radius Spearman"].value > 0.9999
assert report["precision@10"].value > 0.95
assert empty_report["precision@10"].value < 0.05
assert report["ancestor MAP"].value > 0.99
assert report["separation/genus"].ratio >= 0.99
assert small["precision@10"].value < report["precision@10"].value
