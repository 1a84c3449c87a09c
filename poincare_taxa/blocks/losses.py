r"""Losses as functions of distances, in any geometry.

Notation: ``d_pos`` [batch] distances from each anchor to its positive, ``d_neg`` [batch,
num_negatives] to its negatives, ``mask`` [batch, num_negatives] which negatives are valid (all
by default; an anchor without one contributes nothing), t tree distances, m margins, w weights.
Distances may be ancestor scores or distances of another space. Every loss is a function and,
with its settings fixed, a frozen class; ``reduction`` is "mean" (over the pairs that count), "sum"
or "none" ([batch]), as in torch. What a loss takes besides distances, it declares with `needs`.

| loss | of a pair |
|---|---|
| `margin_ranking_loss` | mean over k of max(0, d_pos − d_neg,k + m) |
| `softmax_ranking_loss` | log(1 + Σ_k w_k exp(d_pos − d_neg,k)) |
| `stress_loss` | (d − τt)² / (τt)² |
| `triplet_loss` | −log softmax of the LCA radii (near, far, across) at near |

Sources: [NK17] Nickel & Kiela 2017, eq. 5. [SGR18] Sala, De Sa, Gu & Ré 2018, §4 (relative
stress). [CGCR20] Chami, Gu, Chatziafratis & Ré 2020, *From Trees to Continuous Embeddings and
Back*, §4 (softmax over the three LCAs of a triplet).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor

from poincare_taxa.blocks.margins import ConstantMargin, Margin

__all__ = [
    "DepthMarginRankingLoss",
    "Reduction",
    "SoftmaxRankingLoss",
    "StressLoss",
    "TripletLoss",
    "check_negatives",
    "margin_ranking_loss",
    "needs",
    "needs_of",
    "reduced",
    "softmax_ranking_loss",
    "stress_loss",
    "triplet_loss",
]

Reduction = Literal["mean", "sum", "none"]


_NEEDS = ("near", "far", "mask", "log_weights")


def needs(*names: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Declare what a ranking loss takes, by keyword, besides the distances.

    Parameters
    ----------
    names
        Some of ``near`` [batch] and ``far`` [batch, num_negatives], tree distances from the anchor
        to its positive and to its negatives; ``mask``, which negatives are valid; ``log_weights``
        of the negatives. A loss without this declaration takes ``(d_pos, d_neg)`` alone.

    Raises
    ------
    ValueError
        If a name is another one.

    Examples
    --------
    >>> @needs("near", "mask")
    ... def loss(d_pos, d_neg, near, mask):
    ...     return margin_ranking_loss(d_pos, d_neg, 0.1 * near[:, None], mask=mask)
    >>> needs_of(loss), needs_of(SoftmaxRankingLoss()), needs_of(lambda d_pos, d_neg: d_pos.mean())
    (('near', 'mask'), ('mask', 'log_weights'), ())
    """
    if unknown := set(names) - set(_NEEDS):
        raise ValueError(f"a loss can need {', '.join(_NEEDS)}; got {sorted(unknown)}")

    def declare(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
        loss.needs = names  # pyright: ignore[reportFunctionMemberAccess]
        return loss

    return declare


def needs_of(loss: Callable[..., Tensor]) -> tuple[str, ...]:
    """Return what a loss declares to need: its attribute `needs`, or nothing."""
    return tuple(getattr(loss, "needs", ()))


@needs("mask")
def margin_ranking_loss(
    d_pos: Tensor,
    d_neg: Tensor,
    margin: Tensor | float = 0.2,
    *,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Hinge: the positive must be nearer than each negative by a margin.

    .. math:: \frac{1}{K}\sum_{k=1}^K \max(0,\ d_{pos} - d_{neg,k} + m_k)

    Parameters
    ----------
    d_pos, d_neg
        Distances [batch] and [batch, num_negatives].
    margin
        A number, or a tensor that broadcasts to [batch, num_negatives]; see `margins`.
    mask
        Valid negatives, bool [batch, num_negatives].
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ValueError
        If shapes do not fit or `reduction` is none of these.

    Examples
    --------
    >>> margin_ranking_loss(torch.tensor([1.0]), torch.tensor([[1.5, 0.5]]), 0.2)
    tensor(0.3500)
    """
    check_negatives(d_pos, d_neg, mask)
    hinge = (d_pos[:, None] - d_neg + margin).clamp(min=0)
    if mask is None:
        return reduced(hinge.mean(1), None, reduction)
    number = mask.sum(1)
    total = torch.where(mask, hinge, 0).sum(1)
    return reduced(total / number.clamp(min=1), number > 0, reduction)


@needs("mask", "log_weights")
def softmax_ranking_loss(
    d_pos: Tensor,
    d_neg: Tensor,
    *,
    mask: Tensor | None = None,
    log_weights: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross entropy of the positive among its negatives, [NK17, eq. 5].

    .. math:: -\log\frac{e^{-d_{pos}}}{e^{-d_{pos}} + \sum_k w_k e^{-d_{neg,k}}}

    The denominator includes the positive, as in the authors' code. With all nodes as negatives
    (`SharedNegatives` with None) this is the full softmax; with a sample and the sampler's
    ``log_weights``, log w_k = −log(K q_k), the sum is an unbiased estimate of the full one; without
    them it is the published objective, over the sample only.

    Parameters
    ----------
    d_pos, d_neg
        Distances [batch] and [batch, num_negatives].
    mask
        Valid negatives, bool [batch, num_negatives].
    log_weights
        log w, broadcasts to [batch, num_negatives]; 0 where absent.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ValueError
        If shapes do not fit or `reduction` is none of these.

    Examples
    --------
    Two candidates at one distance: log 2.

    >>> softmax_ranking_loss(torch.tensor([1.0]), torch.tensor([[1.0]]))
    tensor(0.6931)
    """
    check_negatives(d_pos, d_neg, mask)
    logits = -d_neg if log_weights is None else log_weights - d_neg
    counts = None
    if mask is not None:
        # Not −inf: if a whole row is masked, the gradient of logsumexp would contain nan.
        logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min / 2)
        counts = mask.any(1)
    return reduced(
        torch.nn.functional.softplus(torch.logsumexp(logits, 1) + d_pos), counts, reduction
    )


def stress_loss(
    d: Tensor,
    t: Tensor,
    *,
    tau: float = 1.0,
    weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Squared relative error of the distance as τ times the tree distance, [SGR18, §4].

    .. math:: w\,\frac{(d - \tau t)^2}{(\tau t)^2}

    `LCAPairs` draws suitable pairs, evenly over the depth of their LCA: hardly any uniform pair of
    a large tree has its LCA below a family. For other pairs, ``weight`` can balance the depths.

    Parameters
    ----------
    d
        Distances, any shape.
    t
        Tree distances of the same pairs; the loss of a pair at tree distance 0 is 0.
    tau
        Distance per edge, or per unit of branch length, > 0.
    weight
        Weight of each pair, at least 0; "mean" is then the weighted mean.
    reduction
        "mean", "sum" or "none" (the shape of `d`).

    Raises
    ------
    ValueError
        If ``tau <= 0``, shapes do not fit, or `reduction` is none of these.

    Examples
    --------
    >>> stress_loss(torch.tensor([3.0]), torch.tensor([2]))
    tensor(0.2500)
    """
    if not tau > 0:
        raise ValueError(f"tau must be positive; got {tau}")
    if d.shape != t.shape:
        raise ValueError(f"d and t must have one shape; got {tuple(d.shape)} and {tuple(t.shape)}")
    t = t.to(d.dtype)
    apart = t > 0  # Taxa at one place, by branch lengths of 0, have no relative error.
    error = torch.where(apart, d / (tau * torch.where(apart, t, 1)) - 1, 0).square()
    if weight is None:
        return reduced(error, None, reduction)
    if reduction == "mean":
        return (weight * error).sum() / weight.sum()
    return reduced(weight * error, None, reduction)


def triplet_loss(
    d: Tensor,
    r: Tensor | None = None,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Cross entropy of "anchor and near have the deepest common ancestor of the three".

    The LCA of two points is the point of the geodesic between them that is nearest to the origin.
    Its radius is, up to a constant, the Gromov product g(x, y) = ½(r_x + r_y − d(x, y)). So the
    loss is

    .. math:: -\log\frac{e^{g(a, n)/T}}{e^{g(a, n)/T} + e^{g(a, f)/T} + e^{g(n, f)/T}}

    after [CGCR20, §4], for anchor a, near n and far f (`LCATriplets` draws them).

    Parameters
    ----------
    d
        Distances [batch, 3]: anchor–near, anchor–far, near–far.
    r
        Radii [batch, 3] of anchor, near and far; None for equal radii: only distances count.
    temperature
        T > 0, in units of distance; [CGCR20] use 0.05.
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ValueError
        If ``temperature <= 0``, shapes do not fit, or `reduction` is none of these.

    Examples
    --------
    Three equal distances: log 3.

    >>> triplet_loss(torch.tensor([[2.0, 2.0, 2.0]]))
    tensor(1.0986)
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    if d.ndim != 2 or d.shape[1] != 3 or (r is not None and r.shape != d.shape):
        shapes = [tuple(x.shape) for x in (d, r) if x is not None]
        raise ValueError(f"distances and radii are [batch, 3]; got {shapes}")
    product = -d
    if r is not None:
        anchor, near, far = r.unbind(1)
        product = product + torch.stack((anchor + near, anchor + far, near + far), dim=1)
    log_share = torch.log_softmax(product / (2 * temperature), dim=1)
    return reduced(-log_share[:, 0], None, reduction)


@dataclass(frozen=True)
class DepthMarginRankingLoss:
    """`margin_ranking_loss` with a margin that may depend on the tree.

    Attributes
    ----------
    margin
        A `margins.Margin`, or any callable ``(near, far) -> margin``.
    reduction
        As in the function.

    Examples
    --------
    >>> from poincare_taxa.blocks.margins import TreeMargin
    >>> loss = DepthMarginRankingLoss(margin=TreeMargin(tau=0.5))
    >>> near, far = torch.tensor([1]), torch.tensor([[3]])
    >>> loss(torch.tensor([0.5]), torch.tensor([[1.5]]), near, far)
    tensor(0.)
    """

    margin: Margin = field(default_factory=ConstantMargin)
    reduction: Reduction = "mean"
    needs: ClassVar[tuple[str, ...]] = ("near", "far", "mask")

    def __call__(
        self,
        d_pos: Tensor,
        d_neg: Tensor,
        near: Tensor,
        far: Tensor,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of distances and the tree distances of the same pairs."""
        margin = self.margin(near.to(d_pos.dtype), far.to(d_pos.dtype))
        return margin_ranking_loss(d_pos, d_neg, margin, mask=mask, reduction=self.reduction)


@dataclass(frozen=True)
class SoftmaxRankingLoss:
    """`softmax_ranking_loss` with its settings."""

    reduction: Reduction = "mean"
    needs: ClassVar[tuple[str, ...]] = ("mask", "log_weights")

    def __call__(
        self,
        d_pos: Tensor,
        d_neg: Tensor,
        *,
        mask: Tensor | None = None,
        log_weights: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of distances; see `softmax_ranking_loss`."""
        return softmax_ranking_loss(
            d_pos, d_neg, mask=mask, log_weights=log_weights, reduction=self.reduction
        )


@dataclass(frozen=True)
class StressLoss:
    """`stress_loss` with its τ."""

    tau: float = 1.0
    reduction: Reduction = "mean"

    def __call__(self, d: Tensor, t: Tensor, *, weight: Tensor | None = None) -> Tensor:
        """Return the loss of distances; see `softmax_ranking_loss`."""
        return stress_loss(d, t, tau=self.tau, weight=weight, reduction=self.reduction)


@dataclass(frozen=True)
class TripletLoss:
    """`triplet_loss` with its temperature."""

    temperature: float = 1.0
    reduction: Reduction = "mean"

    def __call__(self, d: Tensor, r: Tensor | None = None) -> Tensor:
        """Return the loss of distances; see `softmax_ranking_loss`."""
        return triplet_loss(d, r, temperature=self.temperature, reduction=self.reduction)


def check_negatives(d_pos: Tensor, d_neg: Tensor, mask: Tensor | None) -> None:
    """Raise ValueError unless each positive has a row of negatives, and of their mask."""
    if d_pos.ndim != 1 or d_neg.ndim != 2 or len(d_pos) != len(d_neg):
        raise ValueError(
            "positives are [batch] and negatives [batch, num_negatives]; got "
            f"{tuple(d_pos.shape)} and {tuple(d_neg.shape)}"
        )
    if mask is not None and mask.shape != d_neg.shape:
        raise ValueError(
            f"mask {tuple(mask.shape)} does not fit negatives {tuple(d_neg.shape)}: it needs one "
            "entry for each of them"
        )


def reduced(losses: Tensor, counts: Tensor | None, reduction: Reduction) -> Tensor:
    """Reduce the losses of pairs; the mean is over those that count, and 0 if none does."""
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction != "mean":
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")
    if counts is None:
        return losses.mean()
    return losses.sum() / counts.sum().clamp(min=1)
