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
# # Features of taxa, for your own model
#
# The metabolic rate of an animal follows from its mass, and the rest from what kind of animal it
# is. The data are AnimalTraits (Herberstein et al. 2022, CC0), matched to the NCBI taxonomy.

# %%
import numpy as np
import polars as pl
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline

import poincare_taxa as pt

tax = pt.load_sample("animals")
model = pt.embed(tax)
table = pt.readers.load_traits().drop_nulls(["mass_kg", "metabolic_rate_w"])
table = table.with_columns(pl.col("mass_kg").log10().alias("log_mass"))
y = table["metabolic_rate_w"].log10().to_numpy()
table.head(3)

# %% [markdown]
# Whole genera are held out: a model that has seen *Mus musculus* knows *Mus spretus* already.

# %%
genus = tax.tree.nearest_marked(tax.has_rank("genus"))[tax.rows(table["taxid"])]
folds = list(GroupKFold(5, shuffle=True, random_state=0).split(table, groups=genus))
grid = {"ridge__alpha": np.logspace(-1, 3, 5)}


def score(columns):
    pipeline = make_pipeline(columns, Ridge())
    best = GridSearchCV(pipeline, grid, cv=folds).fit(table, y).best_params_
    return r2_score(y, cross_val_predict(pipeline.set_params(**best), table, y, cv=folds))


mass = ("passthrough", ["log_mass"])
alone = score(make_column_transformer(mass))
features = pt.TaxonFeatures(model, num_features=128)
with_taxa = score(make_column_transformer(mass, (features, ["taxid"])))
print(f"mass alone {alone:.3f}, mass and TaxonFeatures {with_taxa:.3f}")

# %% [markdown]
# A column is a landmark, a species of the training set, and its value the radius down to which a
# taxon and the landmark have the same lineage. New taxa need no training, and the tree is not read.

# %%
names = tax.names.gather(tax.rows(features.fit(table[["taxid"]]).landmark_ids_))
print(*names[:4], sep=", ")
features.transform(["Mus musculus", "Apis mellifera"])[:, :4].round(1)

# %% [markdown]
# ## The baseline that one must know
#
# A matrix with a column for every taxon, 1 for a species and all its ancestors, is the exact
# account of the tree. A ridge on it *is* the Gaussian process of the tree. Where the taxon is all
# that a model has, nothing of fixed width beats it; {doc}`../does-it-help` has the figures.

# %%
ancestors = pt.ancestor_matrix(tax, table["taxid"])
ancestors.shape, ancestors.nnz

# %% [markdown]
# What does not work is to use coordinates as they are: the lower ranks are in digits that a linear
# model cannot use.

# %%
coordinates = pl.from_numpy(model[table["taxid"]].numpy(), [f"x{i}" for i in range(10)])
table = table.hstack(coordinates)
plain = score(make_column_transformer(mass, ("passthrough", coordinates.columns)))
print(f"mass and coordinates {plain:.3f}")

# %% [markdown]
# ## Neighbours
#
# In a taxonomy many taxa are equally near, and "the k nearest" would depend on their order:
# `neighbour_weights` takes all of a level. Here, what is left when the mass is known:

# %%
rest = y - np.polyval(np.polyfit(table["log_mass"], y, 1), table["log_mass"].to_numpy())
predicted = np.empty(len(rest))
for train, test in folds:
    apart = tax.distance_matrix(table["taxid"].gather(test), table["taxid"].gather(train))
    predicted[test] = pt.features.neighbour_weights(apart, k=3) @ rest[train]
print(f"the rest from relatives {r2_score(rest, predicted):.3f}")

# %% [markdown]
# What this page claims:

# %%
assert alone < 0.91
assert with_taxa > 0.97
assert plain < with_taxa
assert r2_score(rest, predicted) > 0.5
assert len(names) == 128
