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
import tempfile
import warnings
from pathlib import Path

import torch

import poincare_taxa as pt

warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
torch.set_num_threads(1)
terms = {  # identifier: (name, its parents)
    "CELL:0001": ("process",),
    "CELL:0002": ("upkeep", "is_a: CELL:0001"),
    "CELL:0003": ("transport", "is_a: CELL:0001"),
    "CELL:0004": ("division", "is_a: CELL:0001"),
    "CELL:0005": ("repair", "is_a: CELL:0002"),
    "CELL:0006": ("upkeep of a mitochondrion", "is_a: CELL:0002"),
    "CELL:0007": ("repair of a mitochondrion", "is_a: CELL:0005", "is_a: CELL:0006"),
    "CELL:0008": ("repair of DNA", "is_a: CELL:0005"),
    "CELL:0009": ("transport of a protein", "is_a: CELL:0003"),
    "CELL:0010": ("import", "is_a: CELL:0003", "relationship: part_of CELL:0006"),
    "CELL:0011": ("import of a protein", "is_a: CELL:0009", "is_a: CELL:0010"),
    "CELL:0012": ("copying of DNA", "is_a: CELL:0002", "relationship: part_of CELL:0004"),
    "CELL:0013": ("repair of DNA after copying", "is_a: CELL:0008", "is_a: CELL:0012"),
}
lines = ["format-version: 1.2\nontology: cells", "[Typedef]\nid: part_of\nname: part of"]
for term, (name, *facts) in terms.items():
    lines.append("\n".join(["[Term]", f"id: {term}", f"name: {name}", *facts]))
path = Path(tempfile.mkdtemp()) / "cells.obo"
path.write_text("\n\n".join(lines) + "\n")

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
