r"""Taxa as targets of a classifier: soft labels, probabilities of clades, losses of several levels.

Columns of a matrix of log-probabilities are *candidates*: taxa of any ranks in the order of their
rows, so that the candidates of a clade are one slice [low, high).

.. math:: \log P(\text{clade}) = \log \sum_{c \in \text{clade}} e^{\log P(c)},

computed in log space, where small probabilities keep their digits.

Sources: [BMCL20] Bertinetto, Mueller, Tertikas, Samangooei & Lord 2020, *Making Better Mistakes*,
§3.2 (soft labels; there β acts on the height of the lowest common ancestor, here on the number of
edges between the taxa).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy

__all__ = ["clade_levels", "clade_log_probs", "hierarchical_cross_entropy", "soft_labels"]

_MOST_CELLS = 1 << 28
"""Cells of a matrix of soft labels: 1 GiB of float32."""


def soft_labels(
    tax: Taxonomy, keys: Keys, beta: float = 4.0, *, targets: Keys | None = None
) -> Tensor:
    r"""Label distributions that give near taxa a share: :math:`\propto e^{-\beta\,t}` [BMCL20].

    :math:`t` is the number of edges between two taxa, divided by the largest one that occurs. With
    ``torch.nn.functional.cross_entropy(logits, soft_labels(tax, keys)[y])`` a network learns which
    mistakes are small ones.

    Parameters
    ----------
    tax
        Taxonomy of the taxa.
    keys
        Candidates, in the order of the columns.
    beta
        Sharpness, > 0. At infinity the labels are one-hot.
    targets
        Taxa with a row each; by default the candidates. Needed for a batch where the matrix of all
        candidates would be too large.

    Returns
    -------
    labels
        float32 [targets, candidates]; every row sums to 1.

    Raises
    ------
    TaxonomyError
        If a key is unknown, deleted or ambiguous.
    ValueError
        If `beta` is not positive, or the matrix would have more than 2²⁸ cells.

    Examples
    --------
    >>> tax = Taxonomy.from_parents([-1, 0, 0, 1, 1], ids=["root", "cats", "dog", "lion", "lynx"])
    >>> soft_labels(tax, ["lion", "lynx", "dog"], beta=6.0).round(decimals=3)
    tensor([[0.9800, 0.0180, 0.0020],
            [0.0180, 0.9800, 0.0020],
            [0.0020, 0.0020, 0.9950]])
    """
    if not beta > 0:
        raise ValueError(f"beta must be positive; got {beta}")
    columns = np.atleast_1d(tax.rows(keys))
    rows = columns if targets is None else np.atleast_1d(tax.rows(targets))
    if len(rows) * len(columns) > _MOST_CELLS:
        raise ValueError(
            f"labels of {len(rows):,} targets over {len(columns):,} candidates are more than "
            f"{_MOST_CELLS:,} numbers; compute those of each batch, with targets=its keys"
        )
    distance = torch.from_numpy(tax.tree.distance(rows[:, None], columns)).float()
    farthest = distance.max()
    return torch.softmax(-beta * distance / torch.where(farthest > 0, farthest, 1), dim=1)


def clade_log_probs(log_probs: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Log-probabilities of clades from those of candidates in the order of their rows.

    Parameters
    ----------
    log_probs
        [..., candidates].
    low, high
        Slices of the candidates of each clade, int64 [k]; clades may lie in one another.

    Returns
    -------
    log_probs
        [..., k]; −inf for a clade without candidates.

    Examples
    --------
    >>> p = torch.tensor([0.5, 0.3, 0.2]).log()
    >>> clade_log_probs(p, torch.tensor([0, 0, 2]), torch.tensor([3, 2, 2])).exp()
    tensor([1.0000, 0.8000, 0.0000])
    """
    # 1. Pairs (clade, candidate), clade after clade.
    length = high - low
    clade = torch.repeat_interleave(torch.arange(len(low), device=low.device), length)
    first = torch.repeat_interleave(low - (length.cumsum(0) - length), length)
    values = log_probs[..., first + torch.arange(len(clade), device=low.device)]
    # 2. The largest of each clade; a clade of probability 0 subtracts nothing.
    shape = (*log_probs.shape[:-1], len(low))
    top = log_probs.new_full(shape, -torch.inf)
    top = top.scatter_reduce(-1, clade.expand_as(values), values.detach(), "amax")
    shift = torch.where(top.isfinite(), top, 0)
    # 3. The sum relative to it.
    sums = log_probs.new_zeros(shape).index_add(-1, clade, (values - shift[..., clade]).exp())
    empty = sums == 0
    return torch.where(empty, -torch.inf, shift + torch.where(empty, 1, sums).log())


def clade_levels(tax: Taxonomy, keys: Keys, ranks: Sequence[str] = ("genus", "family")) -> Tensor:
    """Clade of each candidate at each rank, int64 [ranks, candidates]: equal numbers, one clade.

    A candidate without an ancestor of a rank is a clade of its own there.

    Raises
    ------
    TaxonomyError
        If a key is unknown, deleted or ambiguous.
    ValueError
        If no taxon has a rank.

    Examples
    --------
    >>> ranks = ["order", "genus", *3 * ["species"]]
    >>> tax = Taxonomy.from_parents([-1, 0, 1, 1, 0], taxon_ranks=ranks)
    >>> clade_levels(tax, [2, 3, 4], ["genus"])
    tensor([[1, 1, 4]])
    """
    rows = np.atleast_1d(tax.rows(keys))
    levels = []
    for rank in ranks:
        above = tax.tree.nearest_marked(tax.has_rank(rank))[rows]
        levels.append(np.where(above >= 0, above, rows))
    return torch.from_numpy(np.stack(levels).astype(np.int64))


def hierarchical_cross_entropy(
    log_probs: Tensor, target: Tensor, levels: Tensor, weights: Sequence[float] | None = None
) -> Tensor:
    r"""Cross entropy of the candidate and, weighted, of its clades at higher levels.

    .. math:: -\log P(y) - \sum_l w_l \log P(\text{clade of } y \text{ at level } l)

    Parameters
    ----------
    log_probs
        [batch, candidates].
    target
        Column of the true candidate, int64 [batch].
    levels
        Clade of each candidate at each level, int64 [levels, candidates]; see `clade_levels`.
    weights
        Weight of each level, at least 0; by default 1 each.

    Returns
    -------
    loss
        Mean over the batch, a scalar.

    Raises
    ------
    ValueError
        If the shapes or the number of weights do not fit, or a weight is negative.

    Examples
    --------
    >>> p = torch.tensor([[0.5, 0.25, 0.25]]).log()
    >>> loss = hierarchical_cross_entropy(p, torch.tensor([0]), torch.tensor([[7, 7, 9]]))
    >>> round(loss.exp().item(), 4) == round(1 / 0.5 / 0.75, 4)
    True
    """
    if levels.ndim != 2 or levels.shape[1] != log_probs.shape[-1]:
        raise ValueError(
            f"levels are [levels, candidates]; got {tuple(levels.shape)} for "
            f"{log_probs.shape[-1]} candidates (clade_levels makes them)"
        )
    weights = [1.0] * len(levels) if weights is None else weights
    if len(weights) != len(levels) or not all(weight >= 0 for weight in weights):
        raise ValueError(
            f"weights are {len(levels)} numbers, at least 0, one for each level; got {weights}"
        )
    loss = torch.nn.functional.nll_loss(log_probs, target)
    levels = levels.to(log_probs.device)
    inside = levels[:, target, None] == levels[:, None]  # [levels, batch, candidates]
    clades = log_probs.masked_fill(~inside, -torch.inf).logsumexp(-1).mean(-1)
    return loss - (log_probs.new_tensor(weights) * clades).sum()
