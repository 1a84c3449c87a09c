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
# # Your loop, our loss
#
# The blocks ask only for what they use: samplers give row numbers, losses take distances. So they
# work in a model, an optimizer and a geometry that this library has never heard of. Here the
# points live in the Lorentz model of geoopt, and the loop is ten lines of torch.

# %%
import warnings

import torch

import poincare_taxa as pt

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
    import geoopt

torch.set_num_threads(1)  # small batches: threads would only wait for each other
torch.manual_seed(0)
tax = pt.load_sample("mammals").subtree("Primates")
tax

# %% [markdown]
# Pairs (ancestor, descendant) are drawn without listing them. The descendant is the *anchor*: its
# ancestor must be nearer to it than negatives are, half of them from anywhere, half from the
# anchor's own surroundings. None is ever the anchor's ancestor or descendant.

# %%
tree = pt.blocks.TreeIndex(tax)  # the tree as tensors, shared by the blocks
pairs = pt.AncestorPairs(tree)
negatives = pt.MixedNegatives(
    [pt.UniformNegatives(tree, 10), pt.CousinNegatives(tree, 10, levels=2)]
)
batch = pairs.sample(4)
print(f"{len(pairs)} pairs, for example {batch[0].tolist()}, with negatives")
negatives(batch)[0]

# %% [markdown]
# Your loop:

# %%
space = geoopt.Lorentz().double()
start = space.projx(0.01 * torch.randn(len(tax), 6, dtype=torch.float64))
x = geoopt.ManifoldParameter(start.clone(), manifold=space)
optimizer = geoopt.optim.RiemannianAdam([x], lr=0.05)

for _ in range(250):
    batch = pairs.sample(128)
    ancestor, descendant = batch.unbind(1)
    nodes = negatives(batch)
    d_pos = space.dist(x[descendant], x[ancestor])
    d_neg = space.dist(x[descendant][:, None], x[nodes.clamp(min=0)])
    loss = pt.blocks.softmax_ranking_loss(d_pos, d_neg, mask=nodes >= 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

# %% [markdown]
# Is anything learned? How often is an ancestor nearer than a negative drawn afresh: from anywhere,
# from the ancestor's own level, from among the siblings of the anchor? Guessing gives one half.


# %%
def accuracy(points, dist, sampler):
    batch = pairs.sample(3000)
    (ancestor, descendant), other = batch.unbind(1), sampler(batch)[:, 0]
    nearer = dist(points[descendant], points[ancestor]) < dist(points[descendant], points[other])
    return float(nearer[other >= 0].double().mean())


tests = {
    "from anywhere": pt.UniformNegatives(tree, 1),
    "same level": pt.SameDepthNegatives(tree, 1),
    "siblings": pt.CousinNegatives(tree, 1, levels=1),
}
before = {name: accuracy(start, space.dist, sampler) for name, sampler in tests.items()}
after = {name: accuracy(x.detach(), space.dist, sampler) for name, sampler in tests.items()}
for name in tests:
    print(f"{name:15} untrained {before[name]:.3f}   trained {after[name]:.3f}")

# %% [markdown]
# ## Your optimizer, our projection
#
# The same with what most people have: points in the Poincaré ball, an ordinary parameter and plain
# Adam, which knows nothing of the rim. A hook projects what each step pushed out, and counts it.

# %%
y = torch.nn.Parameter(0.01 * torch.randn(len(tax), 5))
optimizer = torch.optim.Adam([y], lr=0.005)
handle = pt.project_after_step(optimizer, y)

for _ in range(250):
    batch = pairs.sample(128)
    nodes = negatives(batch)
    anchor = y[batch[:, 1]]
    d_pos, d_neg = pt.dist(anchor, y[batch[:, 0]]), pt.dist(anchor[:, None], y[nodes.clamp(min=0)])
    loss = pt.blocks.softmax_ranking_loss(d_pos, d_neg, mask=nodes >= 0)
    optimizer.zero_grad()
    loss.backward()
    pt.blocks.clip_gradients(y, 1.0)
    optimizer.step()

in_ball = accuracy(y.detach(), pt.dist, tests["from anywhere"])
print(f"accuracy {in_ball:.3f}, largest norm {float(y.detach().norm(dim=1).max()):.6f}")
print(f"{handle.moved} of {handle.touched} rows were brought back in {handle.steps} steps")

# %% [markdown]
# So many, because momentum pushes every row in every step, and near the rim a small Euclidean step
# is a long way. The count is there to show it; `pt.PoincareEmbedding` and a Riemannian optimizer
# are the cure.
#
# What this page claims:

# %%
assert max(before.values()) < 0.6
assert after["from anywhere"] > 0.95
assert after["siblings"] > 0.95
assert in_ball > 0.9
assert y.detach().norm(dim=1).max() < 1
