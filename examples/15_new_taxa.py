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
# # New taxa and a new release
#
# A taxonomy changes every day, and a network or an index that was made from old vectors should not
# notice. Here the sample plays the new release; the old one lacks one species in fifty, and has
# the genus of lions one level too high.

# %%
import numpy as np
import polars as pl
import torch

import poincare_taxa as pt

torch.set_num_threads(1)
new = pt.load_sample("mammals").subtree("Carnivora")

rng = np.random.default_rng(0)
leaves = new.ids.filter(pl.Series(new.num_children == 0))
unknown = leaves.gather(rng.choice(len(leaves), len(leaves) // 50, replace=False))
lions, family = (new.resolve([name])["id"][0] for name in ("Panthera", "Felidae"))
parent = pl.when(pl.col("id") == lions).then(family).otherwise("parent").alias("parent")
old = pt.Taxonomy.from_frame(
    new.to_frame().filter(~pl.col("id").is_in(unknown.to_list())).with_columns(parent)
)
pt.diff(old, new)["change"].value_counts(sort=True)

# %% [markdown]
# ## A new release
#
# `migrate` follows the release. Vectors of taxa that stayed where they were are the same bits as
# before; new taxa get places beside their siblings, and a subtree that moved is carried as a whole.

# %%
model = pt.embed(old, dim=10)
migration = model.migrate(new)
migration

# %%
migration.changes.filter(pl.col("change").is_in(["moved", "placed"])).head(8)

# %% [markdown]
# Is the result as good as vectors that are made afresh, which would be new numbers for every taxon?

# %%
parts = {"precision", "ancestor"}
followed, afresh = (
    pt.evaluate(m, only=parts, queries=200, progress=False)
    for m in (migration.model, pt.embed(new, dim=10))
)
pl.DataFrame(
    [
        {"measure": name, "followed": followed[name].value, "afresh": afresh[name].value}
        for name in ("precision@10", "ancestor MAP")
    ]
)

# %% [markdown]
# ## One new taxon
#
# A species that no release has yet: below its genus, or below the lowest taxon that most of its
# nearest relatives share, say the hits of a search with its sequence.

# %%
below = model.place("Panthera nova", parent="Panthera")
between = model.place("Felis or so", neighbours=["Felis catus", "Felis silvestris", "Lynx lynx"])
below.nearest("Panthera nova", k=4), between.taxonomy.ancestors("Felis or so").to_list()

# %% [markdown]
# What this page claims:

# %%
changed = migration.changes["id"]
kept = [key for key in old if key not in set(changed)]
assert torch.equal(migration.model[kept], model[kept])
assert set(changed) >= set(unknown)
assert len(kept) > 0.8 * len(old)
for name in ("precision@10", "ancestor MAP"):
    assert followed[name].value > afresh[name].value - 0.02
assert torch.equal(below[list(old)], model[list(old)])
assert between.taxonomy.ancestors("Felis or so")[0] == old.resolve(["Felis"])["id"][0]
len(kept), len(old)
