r"""`ranking_loss`: rows of a table to the loss of each anchor, and back to gradients of those rows.

With d₊ the distance to the positive, d_k to the negatives, w_k their weights and T a temperature,

.. math:: \text{softmax:}\quad \log\Bigl(1 + \sum_k w_k e^{(d_+ - d_k)/T}\Bigr), \qquad
          \text{margin:}\quad \frac1K \sum_{k=1}^{K} \max(0,\ d_+ - d_k + m),

sums over the valid negatives. A backend (see `backend`) fuses all of it in two functions,

    ranking_forward(table, anchor, positive, negatives, how) -> (loss [B], saved)
    ranking_backward(table, …, how, saved, grad [B]) -> (rows [R], values [R, columns])

with ``how`` a `Comparison`, ``saved`` a tuple of tensors, None instead of both where the first
cannot (radii beyond what it is for), and a gradient that is the sum over entries (rows[i],
values[i]); a negative that all anchors share is one entry, and where each row is there once and
they ascend, nothing is left to add up.
"""

from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from poincare_taxa.geometry import ball, polar
from poincare_taxa.geometry.arguments import is_plain
from poincare_taxa.geometry.derivatives import by_rule
from poincare_taxa.kernels.arguments import Comparison, Manifold, check_rows, table_of
from poincare_taxa.kernels.backend import Backend
from poincare_taxa.kernels.dispatch import kernels_for, raised, table_gradient

__all__ = ["RankingKind", "ranking_loss"]

RankingKind = Literal["softmax", "margin"]
_MARGIN = 0.2


def ranking_loss(
    table: Tensor,
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    *,
    loss: RankingKind = "softmax",
    margin: float | Tensor | None = None,
    temperature: float = 1.0,
    valid: Tensor | None = None,
    log_weights: Tensor | None = None,
    manifold: Manifold = "ball",
    c: float = 1.0,
    sparse: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Loss of each anchor: its positive shall be nearer than its negatives.

    The inner part of a training step in one: gather, distances, loss, and in the backward pass the
    gradients of the rows that were touched; distances are computed twice and never stored.

    Parameters
    ----------
    table
        [n, dim] in the ball, [n, 1 + dim] in the polar model.
    anchor, positive
        Rows, int64 [B].
    negatives
        Rows, int64: [K] that all anchors share, or [B, K].
    loss
        "softmax": `softmax_ranking_loss` of distances divided by the temperature;
        "margin": `margin_ranking_loss`. Both without reduction.
    margin
        Of the margin loss: a number, or one for each anchor [B]; 0.2 by default.
    temperature
        Of the softmax, > 0, in units of distance.
    valid
        Bool [B, K], which negatives count; all by default. An anchor with none has loss 0.
    log_weights
        Of the softmax: log w, [K] or [B, K]; 0 by default.
    manifold, c, backend
        As for `dist`.
    sparse
        Whether the gradient of the table is sparse, as for `pair_distance`.

    Returns
    -------
    loss
        [B], in the dtype of the table. Its gradient does not depend on the number of threads;
        margin and log_weights are constants to it.

    Raises
    ------
    ValueError
        If shapes or dtypes do not fit, a row is not in the table, a setting is out of its range or
        belongs to the other loss.
    ModuleNotFoundError
        As `dist`.

    Examples
    --------
    Two candidates at one distance: log 2.

    >>> table = torch.tensor([[0.0, 0.0], [0.5, 0.0], [0.0, 0.5]])
    >>> one, two = torch.tensor([0]), torch.tensor([1])
    >>> ranking_loss(table, one, two, torch.tensor([2]))
    tensor([0.6931])
    """
    table = raised(table)
    table_of(table, manifold, c)
    shared = negatives.ndim == 1
    if is_plain(table, anchor, positive, negatives):
        for name, rows in (("anchor", anchor), ("positive", positive)):
            check_rows(name, rows, len(table))
        check_rows("negatives", negatives, len(table), ndim=1 if shared else 2)
    b, k = len(anchor), negatives.shape[-1]
    if len(positive) != b or (not shared and len(negatives) != b):
        raise ValueError(
            "positive is [B] and negatives [K] or [B, K], B the number of anchors; got "
            f"{b} anchors, {tuple(positive.shape)} and {tuple(negatives.shape)}"
        )
    if valid is not None and (valid.dtype != torch.bool or valid.shape != (b, k)):
        raise ValueError(f"valid must be bool [{b}, {k}]; got {valid.dtype} {tuple(valid.shape)}")
    margins = _margins(loss, margin, temperature, log_weights, b, table)
    if log_weights is not None:
        if log_weights.shape not in ((k,), (b, k)):
            raise ValueError(f"log_weights are [{k}] or [{b}, {k}]; got {log_weights.shape}")
        log_weights = torch.atleast_2d(log_weights.detach().to(table.dtype))
    how = Comparison(valid, log_weights, margins, temperature, manifold == "polar", c)
    module = kernels_for(backend, table, table, b * k, c)
    if module is None:
        return _by_geometry(table, anchor, positive, negatives, how, sparse)
    return by_rule(_Ranking(module, how, sparse), table, anchor, positive, negatives)


class _Ranking(NamedTuple):
    """Rule of the loss by a backend."""

    module: ModuleType
    how: Comparison
    sparse: bool

    def value(self, *tensors: Tensor) -> tuple[Tensor, tuple[Tensor, ...]] | None:
        return self.module.ranking_forward(*tensors, self.how)

    def gradient(self, grad: Tensor, *saved: Tensor) -> tuple[Tensor | None, ...]:
        tensors, kept = saved[:4], saved[4:]
        rows, values = self.module.ranking_backward(*tensors, self.how, kept, grad)
        once = not rows.is_cuda and bool((rows.diff() > 0).all())
        by_table = table_gradient(self.module, rows, values, tensors[0], self.sparse, once=once)
        return by_table, None, None, None

    def plain(self, *tensors: Tensor) -> Tensor:
        return _by_geometry(*tensors, self.how, self.sparse)  # pyright: ignore[reportCallIssue]


def _margins(
    loss: str,
    margin: float | Tensor | None,
    temperature: float,
    log_weights: Tensor | None,
    b: int,
    table: Tensor,
) -> Tensor | None:
    """Margins [B] of the margin loss, None for the softmax; raises where settings do not fit."""
    if loss == "softmax":
        if margin is not None:
            raise ValueError("a margin belongs to loss='margin'; the softmax has none")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive; got {temperature}")
        return None
    if loss != "margin":
        raise ValueError(f"loss must be 'softmax' or 'margin'; got {loss!r}")
    if temperature != 1 or log_weights is not None:
        raise ValueError("temperature and log_weights belong to loss='softmax'")
    given: Any = _MARGIN if margin is None else margin
    wanted = torch.as_tensor(given, dtype=table.dtype, device=table.device).detach()
    if wanted.shape not in ((), (b,)):
        raise ValueError(f"margin is a number or [{b}]; got {tuple(wanted.shape)}")
    return wanted.expand(b)


def _by_geometry(
    table: Tensor,
    anchor: Tensor,
    positive: Tensor,
    negatives: Tensor,
    how: Comparison,
    sparse: bool,
) -> Tensor:
    """Leave the gradient to autograd: rows gathered once, and all distances stored."""
    rows = torch.cat((anchor, positive, negatives.flatten()))
    x = torch.nn.functional.embedding(rows, table, sparse=sparse)
    a, p, n = x.tensor_split([len(anchor), 2 * len(anchor)])
    shared = negatives.ndim == 1
    n = n if shared else n.view(*negatives.shape, x.shape[1])
    if how.polar:
        (r, u), (s, v), (t, w) = ((x[..., 0], x[..., 1:]) for x in (a, p, n))
        near = polar.dist(r, u, s, v)
        far = polar.cdist(r, u, t, w) if shared else polar.dist(r[:, None], u[:, None], t, w)
    else:
        near = ball.dist(a, p, c=how.c)
        far = ball.cdist(a, n, c=how.c) if shared else ball.dist(a[:, None], n, c=how.c)
    valid = torch.ones_like(far, dtype=torch.bool) if how.valid is None else how.valid
    if how.margin is not None:
        hinge = (near[:, None] - far + how.margin[:, None]).clamp(min=0)
        return torch.where(valid, hinge, 0).sum(1) / valid.sum(1).clamp(min=1)
    # not −inf: where a whole row is masked, the gradient of logsumexp would pass through nan
    logits = how.logits(far).masked_fill(~valid, torch.finfo(far.dtype).min / 2)
    if logits.shape[1] == 0:
        return 0 * near
    level = torch.logsumexp(logits, 1)
    # not softplus, which torch rounds to its argument from 20 on
    return torch.logaddexp(level + near / how.temperature, torch.zeros_like(near))
