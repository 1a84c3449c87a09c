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
# # Write a sampler
#
# Your data has more than a tree: ranks, abundances, traits. Every seam between the blocks is a call
# signature, so a sampler of your own is a function of a few lines. Two are written here.

# %%
import torch

import poincare_taxa as pt

torch.set_num_threads(1)  # small batches: threads would only wait for each other
tax = pt.load_sample("mammals").subtree("Carnivora")
tree = pt.blocks.TreeIndex(tax)
generator = torch.Generator().manual_seed(0)
tax

# %% [markdown]
# ## Negatives of the same taxon rank
#
# The seam is `(pairs [batch, 2], generator) -> nodes [batch, num_negatives]`, with −1 where there
# is no valid negative. Pairs are (ancestor, descendant), and here the descendant is the anchor.
#
# A family should be told from other families. So: draw nodes that have the ancestor's taxon rank,
# then strike out those that are related to the anchor. `TreeIndex` answers such questions for whole
# batches, on any device.

# %%
rank_names, rank = torch.unique(
    torch.tensor(tax.taxon_ranks.to_physical().to_numpy().astype("int64")), return_inverse=True
)
by_rank = torch.argsort(rank, stable=True)  # the nodes of a rank stand side by side
count = torch.bincount(rank)
start = count.cumsum(0) - count


def same_rank(pairs, generator=None, num_negatives=10):
    """Nodes of the taxon rank of the ancestor; not checked against the tree."""
    wanted = rank[pairs[:, 0]]
    u = torch.rand(len(pairs), num_negatives, generator=generator, dtype=torch.float64)
    return by_rank[start[wanted][:, None] + (u * count[wanted][:, None]).long()]


def unrelated(sampler):
    """Make any sampler exact, by marking ancestors and descendants of the anchor as missing."""

    def checked(pairs, generator=None):
        nodes, anchor = sampler(pairs, generator), pairs[:, 1:]
        related = tree.is_ancestor(nodes, anchor) | tree.is_ancestor(anchor, nodes)
        return torch.where(related, -1, nodes)

    return checked


pairs = pt.AncestorPairs(tree)
batch = pairs.sample(1000, generator=generator)
unchecked, nodes = same_rank(batch, generator), unrelated(same_rank)(batch, generator)

family = rank[torch.tensor(tax.has_rank("family"))][0]
i = int((rank[batch[:, 0]] == family).nonzero()[0])
ancestor, descendant = batch[i].tolist()
print(
    tax.names[descendant], "is in the", tax.taxon_ranks[ancestor], tax.names[ancestor], "and not in"
)
print(", ".join(tax.names[node] for node in nodes[i].tolist() if node >= 0))

# %% [markdown]
# How many were false negatives before the check?

# %%
anchor = batch[:, 1:]
false = tree.is_ancestor(unchecked, anchor) | tree.is_ancestor(anchor, unchecked)
print(f"{float(false.double().mean()):.1%}")

# %% [markdown]
# Yours and the library's mix. (The library's own draw by place among the allowed nodes, so that
# nothing has to be struck out; checking afterwards is the simple way, and costs some columns.)

# %%
negatives = pt.MixedNegatives([unrelated(same_rank), pt.CousinNegatives(tree, 10)])
negatives(batch, generator).shape

# %% [markdown]
# ## Pairs as often as they are observed
#
# A source of pairs is anything with `sample(batch_size, generator=...)`. Say each species was
# counted in some survey; an abundant one should be trained on more often. The ancestor is drawn
# uniformly from those of the species.

# %%
species = torch.tensor((tax.taxon_ranks == "species").to_numpy()).nonzero()[:, 0]
observed = 1 + torch.distributions.Geometric(0.05).sample((len(species),))  # your counts


class ObservedPairs:
    def sample(self, batch_size, *, generator=None):
        drawn = torch.multinomial(observed, batch_size, True, generator=generator)
        descendant = species[drawn]
        u = torch.rand(batch_size, generator=generator, dtype=torch.float64)
        depth = (u * tree.depth[descendant]).long()
        return torch.stack((tree.ancestor(descendant, depth), descendant), dim=1)


observed_pairs = ObservedPairs()
sample = observed_pairs.sample(200_000, generator=generator)
frequency = torch.bincount(sample[:, 1], minlength=len(tax))[species] / len(sample)

# %% [markdown]
# Both in a loop, as in the page before:

# %%
x = torch.nn.Parameter(0.01 * torch.randn(len(tax), 5, generator=generator))
optimizer = torch.optim.Adam([x], lr=0.005)
pt.project_after_step(optimizer, x)
history = []
for _ in range(200):
    batch = observed_pairs.sample(128, generator=generator)
    nodes = negatives(batch, generator)
    d_pos = pt.dist(x[batch[:, 1]], x[batch[:, 0]])
    d_neg = pt.dist(x[batch[:, 1:]], x[nodes.clamp(min=0)])
    loss = pt.blocks.softmax_ranking_loss(d_pos, d_neg, mask=nodes >= 0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    history.append(float(loss.detach()))
first, last = sum(history[:10]) / 10, sum(history[-10:]) / 10
print(f"loss {first:.2f} → {last:.2f}")

# %% [markdown]
# What this page claims:

# %%
batch = pairs.sample(5000, generator=generator)
nodes = unrelated(same_rank)(batch, generator)
valid = nodes >= 0
assert (rank[nodes] == rank[batch[:, :1]])[valid].all()
assert not tax.tree.is_ancestor(nodes[valid], batch[:, 1:].expand_as(nodes)[valid]).any()
assert not tax.tree.is_ancestor(batch[:, 1:].expand_as(nodes)[valid], nodes[valid]).any()
assert float(false.double().mean()) > 0.1
assert torch.allclose(frequency, observed / observed.sum(), atol=0.002)
assert tree.is_ancestor(sample[:, 0], sample[:, 1]).all()
assert last < 0.7 * first
