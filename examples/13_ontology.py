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
# # An ontology: from an OBO file to neighbours, ancestors and a picture
#
# Terms of the Gene Ontology have several parents. `pt.ClosurePairs.from_obo` reads its file
# (`go-basic.obo`, from geneontology.org) through obonet (`pip install 'poincare-taxa[dag]'`). Here
# is a file with a few invented terms in the same format.

# %%
import warnings
from pathlib import Path

import torch

import poincare_taxa as pt

warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
torch.set_num_threads(1)
here = Path(__file__).parent if "__file__" in globals() else Path.cwd()
path = here / "cells.obo"

# %%
pairs = pt.ClosurePairs.from_obo(path, relations=["is_a", "part_of"])
model = pt.fit(pairs, dim=5, progress=False).model
print(model.nearest("repair of a mitochondrion", k=4))
print(model.ancestors("repair of a mitochondrion"))
ax = pt.plot_disk(model)

# %% [markdown]
# Names are identifiers, and labels lead to nodes as well. Without training, the points are those of
# `pt.closure_layout`.

# %%
assert model.ancestors("repair of a mitochondrion")["is_ancestor"].all()
print(repr(model))
print(model.descendants("CELL:0001", k=5))
