r"""Entailment cones: an ancestor's cone, opening outwards, holds its descendants.

Unlike the losses of `losses`, which take distances, these take points of the unit ball.

Source: [GBH18] Ganea, Bécigneul & Hofmann 2018, *Hyperbolic Entailment Cones for Learning
Hierarchical Embeddings*, eq. 25 (inner radius), 26 (aperture), 28 (angle), 32 (loss), 33 (energy).
"""

import math
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor

from poincare_taxa.blocks.losses import Reduction, check_negatives, reduced
from poincare_taxa.geometry import ball
from poincare_taxa.geometry.numerics import norm as euclidean_norm
from poincare_taxa.geometry.numerics import unit

__all__ = ["EntailmentConeLoss", "cone_energy", "entailment_cone_loss"]

Anchor = Literal["ancestor", "descendant"]


def cone_energy(x: Tensor, y: Tensor, *, aperture: float = 0.1) -> Tensor:
    r"""Angle by which ``y`` is outside the entailment cone of ``x``, in radians: [GBH18, eq. 33].

    .. math:: E(x, y) = \max\Bigl(0,\ \Xi(x, y) - \arcsin\frac{K(1 - |x|^2)}{|x|}\Bigr)

    Ξ is the angle at x between the outward ray and the geodesic to y [eq. 28], computed from the
    direction of (−x) ⊕ y instead of the arccos of the paper, which loses half of the digits of
    small angles. The paper defines no cone within the norm 2K / (1 + √(1 + 4K²)) [eq. 25]; here
    it is a half-space there, and the whole ball at the origin.

    Parameters
    ----------
    x, y
        Points of the unit ball [..., dim]; they broadcast.
    aperture
        K > 0; [GBH18] use 0.1.

    Returns
    -------
    energy
        [...], in [0, π].

    Raises
    ------
    ValueError
        If ``aperture <= 0``, or as `ball.mobius_add`.

    Examples
    --------
    A point farther out on the ray is inside; one on the other side of the origin is outside by
    π − arcsin(0.1 · 0.75 / 0.5):

    >>> x = torch.tensor([0.5, 0.0])
    >>> cone_energy(x, torch.tensor([[0.9, 0.0], [-0.9, 0.0]]))
    tensor([0.0000, 2.9910])
    """
    if not aperture > 0:
        raise ValueError(f"aperture must be positive; got {aperture}")
    norm, outwards = unit(x)
    way, onwards = unit(ball.mobius_add(-x, y))
    angle = 2 * torch.atan2(euclidean_norm(outwards - onwards), euclidean_norm(outwards + onwards))
    angle = torch.where((norm > 0) & (way > 0), angle, 0)
    sine = aperture * ball.conformal_gap(x) / torch.where(norm > 0, norm, 1)
    narrow = (norm > 0) & (sine < 1)
    half = torch.where(narrow, torch.asin(torch.where(narrow, sine, 0)), math.pi / 2)
    return (angle - half).clamp(min=0)


def entailment_cone_loss(
    ancestor: Tensor,
    descendant: Tensor,
    negative: Tensor,
    *,
    anchor: Anchor = "descendant",
    aperture: float = 0.1,
    margin: float = 0.01,
    mask: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Penalise descendants outside the cones of their ancestors, and negatives inside.

    .. math:: E(a, v) + \sum_k \max(0,\ \gamma - E_k)

    with E_k = E(a, n_k) if the ancestor is the anchor, and E(n_k, v) if the descendant is: a
    negative takes the place of the other endpoint [GBH18, eq. 32].

    Parameters
    ----------
    ancestor, descendant
        Points of the unit ball [batch, dim].
    negative
        Points [batch, num_negatives, dim], or [1, num_negatives, dim] shared by the batch.
    anchor
        The endpoint that stays, as in the sampler.
    aperture
        K > 0, as in `cone_energy`.
    margin
        γ, in radians; [GBH18] use 0.01.
    mask
        Valid negatives, bool [batch, num_negatives].
    reduction
        "mean", "sum" or "none".

    Raises
    ------
    ValueError
        If an argument is out of its range or shapes do not fit.

    Examples
    --------
    The descendant is inside the cone and the negative is outside, so the loss is 0.

    >>> a, v, n = (torch.tensor([[x, 0.0]]) for x in (0.5, 0.9, -0.9))
    >>> entailment_cone_loss(a, v, n[:, None], anchor="ancestor")
    tensor(0.)
    """
    if anchor not in ("ancestor", "descendant"):
        raise ValueError(f"anchor must be 'ancestor' or 'descendant'; got {anchor!r}")
    if ancestor.ndim != 2 or negative.ndim != 3:
        raise ValueError(
            "points are [batch, dim] and negatives [batch, num_negatives, dim]; got "
            f"{tuple(ancestor.shape)} and {tuple(negative.shape)}"
        )
    e_pos = cone_energy(ancestor, descendant, aperture=aperture)
    if anchor == "ancestor":
        e_neg = cone_energy(ancestor[:, None], negative, aperture=aperture)
    else:
        e_neg = cone_energy(negative, descendant[:, None], aperture=aperture)
    check_negatives(e_pos, e_neg, mask)
    violation = (margin - e_neg).clamp(min=0)
    if mask is not None:
        violation = torch.where(mask, violation, 0)
    return reduced(e_pos + violation.sum(1), None, reduction)


@dataclass(frozen=True)
class EntailmentConeLoss:
    """`entailment_cone_loss` with its settings."""

    anchor: Anchor = "descendant"
    aperture: float = 0.1
    margin: float = 0.01
    reduction: Reduction = "mean"

    def __call__(
        self,
        ancestor: Tensor,
        descendant: Tensor,
        negative: Tensor,
        *,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Return the loss of points; see `entailment_cone_loss`."""
        return entailment_cone_loss(ancestor, descendant, negative, mask=mask, **asdict(self))
