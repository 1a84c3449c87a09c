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
# # Cones and triplets
#
# Two losses that ask for something else than near neighbours: that a taxon lies in the *cone* of
# its ancestors, and that of three taxa the right two have the deepest common ancestor.

# %%
import torch

import poincare_taxa as pt
from poincare_taxa.blocks.cones import cone_energy

torch.set_num_threads(1)  # small batches: threads would only wait for each other
tax = pt.load_sample("mammals").subtree("Felidae")
tree = pt.blocks.TreeIndex(tax)
generator = torch.Generator().manual_seed(0)

# %% [markdown]
# ## Is y below x? It is, if it lies in the cone of x
#
# The *energy* of a pair is the angle by which y lies outside the cone of x. In the layout subtrees
# already stand together, so that a threshold of the energy tells descendants from strangers, and
# nothing needs training. The threshold is chosen on parents and grandparents; the F1 is that of
# ancestors three levels up and more, and of as many strangers as the sampler draws.

# %%
seen, unseen = pt.AncestorPairs(tree, max_gap=2), pt.AncestorPairs(tree, min_gap=3)
negatives = pt.UniformNegatives(tree, 20, anchor="ancestor")


def in_ball(embedding):
    """Cones need points of the ball, whatever the points are kept in."""
    x = embedding.weight
    return pt.convert.polar_to_ball(*x.manifold.to_polar(x))


@torch.no_grad()
def energies(embedding, pairs):
    """Of descendants in the cones of their ancestors, and of strangers."""
    p, pairs = in_ball(embedding), pairs[range(len(pairs))]
    pairs = pairs[pairs[:, 0] > 0]  # all are below the root
    ancestor, descendant = pairs.unbind(1)
    strangers = negatives(pairs, torch.Generator().manual_seed(1))
    other = cone_energy(p[ancestor][:, None], p[strangers.clamp(min=0)])[strangers >= 0]
    return cone_energy(p[ancestor], p[descendant]), other


def f1(below, other, threshold):
    found = (below <= threshold).sum()
    return float(2 * found / (found + (other <= threshold).sum() + len(below)))


def measured(embedding):
    """F1 of unseen pairs, and share of unseen descendants that are wholly inside."""
    known = energies(embedding, seen)
    threshold = max(known[0].unique().tolist(), key=lambda t: f1(*known, t))
    below, other = energies(embedding, unseen)
    return f1(below, other, threshold), float((below == 0).double().mean())


layout = pt.PoincareEmbedding.from_layout(tax, 5)
before = measured(layout)
print(f"layout: F1 {before[0]:.3f}, wholly inside {before[1]:.2f}")

# %% [markdown]
# If descendants are to be wholly inside, energy 0, the loss of cones moves them there. From a
# layout the steps must be small: a tenth of those that random points need. Larger ones lose some
# of what the layout has, as the table of {doc}`../blocks/cones` shows.

# %%
loss = pt.EntailmentConeLoss(anchor="ancestor", aperture=0.1, margin=0.01)


def train_cones(embedding, lr):
    optimizer = pt.RowwiseRiemannianAdam(embedding.parameters(), lr=lr)
    for _ in range(300):
        batch = seen.sample(128, generator=generator)
        nodes = negatives(batch, generator)
        p = in_ball(embedding)
        energy = loss(p[batch[:, 0]], p[batch[:, 1]], p[nodes.clamp(min=0)], mask=nodes >= 0)
        optimizer.zero_grad()
        energy.backward()
        optimizer.step()


train_cones(layout, lr=0.005)
after = measured(layout)
random = pt.PoincareEmbedding(len(tax), 5, initial_radius=0.5, generator=generator)
floor = measured(random)
train_cones(random, lr=0.05)
learned_from_random = measured(random)
for name, (value, inside) in {
    "layout, small steps": after,
    "random points": floor,
    "random points, trained": learned_from_random,
}.items():
    print(f"{name:24} F1 {value:.3f}, wholly inside {inside:.2f} (tree 1)")

# %% [markdown]
# ## Which two of three are the nearest kin?
#
# `LCATriplets` draws (anchor, near, far) evenly over depths: otherwise hardly any triplet would be
# about the species of one genus. Guessing is right in a third of the cases.

# %%
triplets = pt.blocks.LCATriplets(tree)
loss = pt.TripletLoss(temperature=1.0)


def distances_and_radii(embedding, rows):
    a, n, f = rows.unbind(1)
    d = torch.stack([embedding.dist(x, y) for x, y in ((a, n), (a, f), (n, f))], dim=1)
    return d, embedding.manifold.dist0(embedding.weight[rows])


@torch.no_grad()
def right(embedding):
    """How often the two with the deepest LCA are those of the tree."""
    d, r = distances_and_radii(embedding, triplets.sample(5000, generator=generator))
    depth = torch.stack((r[:, 0] + r[:, 1], r[:, 0] + r[:, 2], r[:, 1] + r[:, 2]), dim=1) - d
    return float((depth.argmax(1) == 0).double().mean())


embedding = pt.PoincareEmbedding(len(tax), 5, generator=generator)
optimizer = pt.RowwiseRiemannianAdam(embedding.parameters(), lr=0.05)
guessed = right(embedding)
for _ in range(300):
    value = loss(*distances_and_radii(embedding, triplets.sample(256, generator=generator)))
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
learned = right(embedding)
print(f"triplets right: untrained {guessed:.3f}, trained {learned:.3f} (tree 1)")

# %% [markdown]
# What this page claims:

# %%
assert before[0] == after[0] == 1
assert before[1] < 0.2
assert after[1] > 0.9
assert floor[0] < 0.2
assert abs(guessed - 1 / 3) < 0.05
assert learned > 0.85
