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
# # Train an encoder with taxa as targets
#
# An encoder of your own, `pt.TaxonHead` on top, one optimizer for both. The data here are made up:
# measurements of species that resemble those of their genus and family, with noise.

# %%
import warnings

import polars as pl
import torch

import poincare_taxa as pt

warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
torch.set_num_threads(1)
torch.manual_seed(0)
tax = pt.load_sample("mammals").subtree("Carnivora")
species = tax.ids.filter(pl.Series(tax.has_rank("species")))
genus, family = (tax.ancestor_at_rank(species, rank) for rank in ("genus", "family"))
known = pl.DataFrame({"species": species, "genus": genus, "family": family}).drop_nulls()
centre = sum(torch.randn(len(tax), 24)[tax.rows(known[rank])] for rank in known.columns)

# %% [markdown]
# Every third species is left out of training: no example of it is ever shown.

# %%
unseen = torch.arange(len(known)) % 3 == 2


def examples(which, number):
    rows = which.nonzero()[:, 0].repeat_interleave(number)
    x = torch.tanh(0.5 * (centre[rows] + 0.5 * torch.randn(len(rows), 24)))
    return x, known["species"].gather(pl.Series(rows.numpy()))


x, truth = examples(~unseen, 8)
x_new, truth_new = examples(unseen, 4)

# %% [markdown]
# The encoder computes in bfloat16 under autocast, the head in float32. `RowwiseRiemannianAdam`
# steps the tensors of both as AdamW does, and would step a `pt.PoincareEmbedding` row by row.

# %%
head = pt.TaxonHead(tax, in_features=32, candidates=known["species"])
encoder = torch.nn.Sequential(
    torch.nn.Linear(24, 64), torch.nn.GELU(), torch.nn.Linear(64, 32), torch.nn.LayerNorm(32)
)
net = torch.nn.Sequential(encoder, head)
optimizer = pt.RowwiseRiemannianAdam(net.parameters(), lr=5e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 15)
target, levels = head.targets(truth), pt.clade_levels(tax, head.candidates)
for _epoch in range(15):
    for batch in torch.randperm(len(x)).split(128):
        with torch.autocast("cpu", torch.bfloat16):
            log_probs = net(x[batch])
        loss = pt.hierarchical_cross_entropy(log_probs, target[batch], levels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    schedule.step()
float(loss.detach())

# %% [markdown]
# Species without an example have no answer of their own, but a genus and a family: `predict`
# answers at the lowest rank that is sure enough.

# %%
net.eval()
with torch.no_grad():
    log_probs = net(x_new)
answers = head.predict(log_probs, threshold=0.6)
answers.head(8)

# %%
right = {
    rank: (answers[rank] == tax.ancestor_at_rank(truth_new, rank)).mean()
    for rank in ("family", "genus")
}
assert right["family"] > 0.7, right
right, answers["taxon_rank"].value_counts()

# %% [markdown]
# The clades are sums over their candidates, and any clade may be required: here the animal is known
# to be a cat.

# %%
head.topk(log_probs[:2], k=3, taxon_rank="genus")

# %%
with torch.no_grad():
    cats = net[1](net[0](x_new[:2]), within="Felidae")
assert head.clade_log_probs(cats, ["Felidae"]).exp().allclose(torch.ones(2, 1))
head.topk(cats, k=3)
