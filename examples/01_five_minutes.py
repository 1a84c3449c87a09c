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
# # Five minutes
#
# From a taxonomy to vectors, and what to do with them. The sample that ships with the package is
# the mammals of the NCBI taxonomy: real ids, names and ranks. With your own data, start from
# `pt.read_ncbi("taxdump.tar.gz")`, `pt.read_newick(...)`, `pt.read_edges(...)` or
# `pt.read_lineages(...)`; `pt.read(path)` recognises the format.

# %%
import tempfile
from pathlib import Path

import torch

import poincare_taxa as pt

tax = pt.load_sample("mammals")
tax

# %% [markdown]
# Ten numbers for every taxon. There is no training: the vectors are constructed, and the same
# seed gives the same vectors.

# %%
model = pt.embed(tax, dim=10, seed=0)
model

# %% [markdown]
# A taxon is asked for by id, by name or by synonym.

# %%
model["9606"]

# %%
model.nearest("Homo sapiens", k=8, taxon_rank="genus")

# %%
for other in ("Pan troglodytes", "Macaca mulatta", "Mus musculus"):
    print(f"{other:25} {model.distance('Homo sapiens', other):6.2f}")

# %% [markdown]
# The radius (distance from the origin) says how deep a taxon stands in the tree, and the
# ancestors of a taxon lie on the way to it. `ancestors` reads them off the vectors; the column
# `is_ancestor` is the taxonomy's own answer.

# %%
model.ancestors("Homo sapiens")

# %% [markdown]
# For your own model: a matrix of features whose row i is taxon i (`tangent()`), or points inside
# the Poincaré ball for hyperbolic layers (`ball()`).

# %%
features = model.tangent()
points = model.ball()
features.shape, points.shape, float(points.norm(dim=1).max())

# %% [markdown]
# Saving writes a folder that other programs can read: safetensors, parquet, JSON.

# %%
with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "mammals-10d")
    print(sorted(path.name for path in Path(folder, "mammals-10d").iterdir()))
    again = pt.TaxonEmbedding.load(Path(folder) / "mammals-10d")

# %% [markdown]
# And a picture. Paper has two dimensions, so here the mammals are laid out once more, for the
# disk. (`pt.plot_disk(model)` has the radii of the ten dimensions.)

# %%
pt.plot_disk(pt.pictures.disk_layout(tax))

# %% [markdown]
# What this page claims:

# %%
genera = model.nearest("Homo sapiens", k=8, taxon_rank="genus")["name"].to_list()
assert genera[0] == "Homo"
assert set(genera[1:4]) == {"Pan", "Gorilla", "Pongo"}
assert model.ancestors("Homo sapiens")["is_ancestor"].all()
assert torch.equal(again.direction, model.direction)
assert points.norm(dim=1).max() < 1
