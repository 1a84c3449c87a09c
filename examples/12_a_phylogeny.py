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
# # A phylogeny: branch lengths are distances
#
# A taxonomy counts edges. A phylogeny has lengths of branches, such as millions of years, and its
# distance is the sum of the lengths on the path. `pt.read` takes Newick and NEXUS files; here the
# tree is a text, with ages that are about those of the literature.

# %%
import tempfile
from pathlib import Path

import numpy as np

import poincare_taxa as pt

NEWICK = """((((((Homo_sapiens:6.7,Pan_troglodytes:6.7):2.3,Gorilla_gorilla:9):6.2,
Pongo_pygmaeus:15.2):4.8,Hylobates_lar:20):9,Macaca_mulatta:29):58,
((Mus_musculus:12,Rattus_norvegicus:12):58,Cavia_porcellus:70):17)Euarchontoglires;"""

with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "mammals.nwk"
    path.write_text(NEWICK)
    tax = pt.read(path)
tax

# %%
(
    tax.tree_distance("Homo_sapiens", "Pan_troglodytes"),
    tax.tree_distance("Homo_sapiens", "Pan_troglodytes", edges=True),
)

# %% [markdown]
# The vectors keep these lengths: the layout gives a long branch more radius. The same tree without
# its lengths is laid out by edges, for comparison.

# %%
model = pt.embed(tax, dim=10)
by_edges = pt.embed(tax.without_lengths(), dim=10)
model.nearest("Homo_sapiens", k=5)

# %%
leaves = [key for key in tax if tax.tree.num_children[tax.rows(key)] == 0]
upper = np.triu_indices(len(leaves), 1)
truth = tax.distance_matrix(leaves)[upper]


def correlation(embedding):
    return float(np.corrcoef(embedding.distance_matrix(leaves)[upper], truth)[0, 1])


print(f"laid out by lengths {correlation(model):.3f}, by edges {correlation(by_edges):.3f}")

# %% [markdown]
# The report measures distances by lengths too; neighbours and ancestors are those of the tree.

# %%
report = pt.evaluate(model)
report

# %% [markdown]
# What this page claims:

# %%
assert abs(tax.tree_distance("Homo_sapiens", "Pan_troglodytes") - 13.4) < 1e-9
assert correlation(model) > 0.99
assert correlation(model) > correlation(by_edges)
assert report["ancestor MAP"].value > 0.99
