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
# # On a GPU
#
# Points decide where work is done: functions compute on the device of their tensors, `fit` and
# `evaluate` take `device=`. Without a CUDA device this page runs on the CPU, and says so; on one,
# it runs the same lines.

# %%
import torch

import poincare_taxa as pt

torch.set_num_threads(1)
device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
print("GPU:", torch.cuda.get_device_name() if device.type == "cuda" else "none, this is the CPU")

# %% [markdown]
# ## Distances and searches
#
# The kernels are numba on the CPU and Triton on a CUDA device (`pip install 'poincare-taxa[gpu]'`),
# else plain torch. All three are the same functions, so each checks the other.

# %%
tax = pt.load_sample("mammals").subtree("Carnivora")
model = pt.embed(tax, dim=10)
points = model.radius.to(device), model.direction.to(device)

some = tuple(part[:100] for part in points)
found = pt.kernels.nearest(some, points, 5, manifold="polar")
plain = pt.kernels.nearest(some, points, 5, manifold="polar", backend="torch")
found

# %% [markdown]
# ## Training
#
# A table on the device trains there: its gradients and the optimizer's state are beside it.

# %%
run = pt.fit(tax, dim=10, epochs=3, seed=0, device=device, progress=False)
print(run.embedding.weight.device)
run.history.select("epoch", "loss", "spearman")

# %% [markdown]
# ## In your own loop
#
# `PoincareEmbedding` is a module and moves as modules do. Pairs and negatives are drawn where the
# tree is, by a generator of that device.

# %%
tree = pt.blocks.TreeIndex(tax).to(device)
pairs, negatives = pt.AncestorPairs(tree), pt.UniformNegatives(tree, 20)
table = pt.PoincareEmbedding.from_model(model).to(device)
optimizer = pt.RowwiseRiemannianAdam(table.parameters(), lr=1e-3)
generator = torch.Generator(device).manual_seed(0)

losses = []
for _ in range(20):
    batch = pairs.sample(256, generator=generator)
    other = negatives(batch, generator=generator)
    d_pos = table.dist(batch[:, 1], batch[:, 0])
    d_neg = table.dist(batch[:, 1:], other.clamp(min=0))
    loss = pt.blocks.softmax_ranking_loss(d_pos, d_neg, mask=other >= 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(float(loss.detach()))
losses[0], losses[-1]

# %% [markdown]
# ## What comes back
#
# A model's vectors and its files are on the CPU, so that a model that was trained on a GPU is
# loaded on any machine.
#
# What this page claims:

# %%
torch.testing.assert_close(found.distance, plain.distance)
for part in (found.row, found.distance, run.embedding.weight, batch, other, table.weight):
    assert part.device.type == device.type
assert run.model.radius.device.type == "cpu"
assert losses[-1] < losses[0]
