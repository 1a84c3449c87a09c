# %% [markdown]
# # Every figure, drawn
#
# Every figure of the library takes a model, and returns axes of matplotlib to go on with. They take
# `ax=`, so that several of them make one figure, and are saved as SVG or PDF by
# `pt.pictures.save_figure(ax, path)`. Colours can be told apart by readers of every colour vision.

# %%
import os

import matplotlib.pyplot as plt
import polars as pl

import poincare_taxa as pt

tax = pt.load_sample()
model = pt.embed(tax)


def keep(ax, name):
    """Write a picture of this page, where the environment names a folder for them."""
    if folder := os.environ.get("FIGURES"):
        ax.figure.savefig(f"{folder}/{name}.png", dpi=80)


# %% [markdown]
# ## The disk
#
# The vectors have ten dimensions. In the plane each taxon has the radius of its vector, and an
# angle from the taxonomy; the title says how much of the distances is left.

# %%
ax = pt.plot_disk(model)
keep(ax, "disk")

# %% [markdown]
# With a focus the tree is seen from that taxon: the radius is the distance of the vectors from it.

# %%
ax = pt.plot_disk(model, focus="Primates", highlight=["Homo sapiens", "Lemur catta"])
keep(ax, "focus")

# %% [markdown]
# Your own values: numbers by key, with a colour bar, or categories, with a legend. Here are
# the number of taxa of each family, and three ways to move.

# %%
families = tax.ids.filter(pl.Series(tax.has_rank("family")))
size = dict(zip(families, tax.subtree_size[tax.rows(families)].tolist(), strict=True))
kind = {"Chiroptera": "flies", "Cetacea": "swims", "Primates": "climbs"}
lives = {key: way for clade, way in kind.items() for key in tax.subtree(clade)}

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 5), layout="constrained")
pt.plot_disk(model, values=size, size=6, title="Taxa of each family", ax=left)
pt.plot_disk(model, values=lives, title="Ways to move", ax=right)
keep(left, "values")

# %% [markdown]
# ## What the vectors keep

# %%
figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
pt.plot_depth_radius(model, ax=axes[0])
pt.plot_distances(model, ax=axes[1])
pt.plot_separation(model, ax=axes[2])
keep(axes[0], "kept")

# %% [markdown]
# ## What a training learned
#
# Every curve begins at its floor, the untrained start (dotted), and has its ceiling, the tree
# itself (dashed).

# %%
run = pt.fit(tax.subtree("Primates"), dim=5)
ax = pt.plot_training(run)
keep(ax, "training")

# %% [markdown]
# ## A map of neighbourhoods
#
# `pt.plot_umap(model)` (extra `umap`) is UMAP with the hyperbolic metric: its neighbours are those
# of `model.neighbour_graph`, exactly. Near points are neighbours; how far groups are apart means
# nothing.

# %% [markdown]
# What this page claims:

# %%
shown = pt.plot_disk(model, focus="Primates").texts[0].get_text()
assert "seen from Primates" in shown
assert run.history["spearman"][-1] > 0.8 > abs(run.history["spearman"][0])
