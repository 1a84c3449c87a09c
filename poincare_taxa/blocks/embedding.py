"""One trainable point per node: an `nn.Module` around a geoopt parameter.

The module is a table only: its manifold computes distances, and any loop can train it.
"""

import warnings
from typing import Any, Self

import torch
from torch import Tensor

from poincare_taxa.blocks.manifolds import PoincareBall, Polar
from poincare_taxa.blocks.riemannian import geoopt
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

__all__ = ["PoincareEmbedding"]

_LOOKS = 3  # changes of the table after which its points are checked


class PoincareEmbedding(torch.nn.Module):
    """A table of points of hyperbolic space, one per node, like `torch.nn.Embedding`.

    Parameters
    ----------
    num_embeddings
        Number of nodes, at least 1.
    embedding_dim
        Dimension of the space, at least 2. On `Polar` a row has one coordinate more (the radius).
    manifold
        `Polar` (default: holds any depth) or `PoincareBall`.
    sparse
        Whether gradients are sparse: only rows of the batch are stored, and
        `optimizers.RowwiseRiemannianAdam` touches only these.
    initial_radius
        Typical radius of the random start, > 0: points are normal around the origin.
    dtype
        ``torch.float64`` or ``torch.float32``.
    device
        Device of the table.
    generator
        Generator of the start; torch's global one by default.

    Attributes
    ----------
    weight : geoopt.ManifoldParameter
        Points [num_embeddings, coordinates], in the coordinates of ``manifold``.

    Raises
    ------
    ValueError
        If a number is out of its range, or the manifold is none of these two.

    Examples
    --------
    >>> emb = PoincareEmbedding(5, 2)
    >>> emb(torch.tensor([3, 4])).shape  # radius and two coordinates of the direction
    torch.Size([2, 3])
    >>> emb.dist(torch.tensor(3), torch.tensor(3))
    tensor(0., dtype=torch.float64, grad_fn=<HaversinesBackward>)
    """

    weight: geoopt.ManifoldParameter
    tree_fingerprint: str | None = None
    """Fingerprint of the tree whose rows these are, where it is known: after a layout or `fit`."""

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        manifold: Polar | PoincareBall | None = None,
        sparse: bool = False,
        initial_radius: float = 0.01,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        if num_embeddings < 1:
            raise ValueError(f"num_embeddings must be at least 1; got {num_embeddings}")
        if embedding_dim < 2:
            raise ValueError(
                f"embedding_dim must be at least 2; got {embedding_dim} "
                "(on a line there is no room for siblings)"
            )
        if not initial_radius > 0:
            raise ValueError(f"initial_radius must be positive; got {initial_radius}")
        tangent = torch.randn(
            num_embeddings, embedding_dim, dtype=dtype, device=device, generator=generator
        )
        tangent *= initial_radius / embedding_dim**0.5
        radius = torch.linalg.vector_norm(tangent, dim=-1)
        self._keep(radius, tangent / radius[:, None], manifold, sparse)

    @classmethod
    def from_layout(
        cls,
        taxonomy: Taxonomy | Tree,
        embedding_dim: int,
        *,
        manifold: Polar | PoincareBall | None = None,
        sparse: bool = False,
        **layout_options: Any,
    ) -> Self:
        """Start from the constructive embedding of a taxonomy.

        Parameters
        ----------
        taxonomy
            A taxonomy or its tree; row i of the table is its row i.
        embedding_dim
            Dimension of the space.
        manifold, sparse
            As in the constructor.
        **layout_options
            Passed to `poincare_taxa.layouts.tree`: ``dtype``, ``seed``, ``tau``.

        Raises
        ------
        ValueError
            As `poincare_taxa.layouts.tree`.

        Examples
        --------
        >>> emb = PoincareEmbedding.from_layout(Taxonomy.from_parents([-1, 0, 0, 1]), 4, tau=1.0)
        >>> emb.radius
        tensor([0., 1., 2., 1.], dtype=torch.float64)
        """
        points = layout(taxonomy, embedding_dim, **layout_options)
        embedding = cls.from_pretrained(
            points.radius, points.direction, manifold=manifold, sparse=sparse
        )
        embedding.tree_fingerprint = tree_of(taxonomy).fingerprint
        return embedding

    @classmethod
    def from_pretrained(
        cls,
        radius: Tensor,
        direction: Tensor,
        *,
        manifold: Polar | PoincareBall | None = None,
        sparse: bool = False,
    ) -> Self:
        """Start from points in polar coordinates (copied).

        Parameters
        ----------
        radius, direction
            [n] and [n, dim], float32 or float64; the table has the direction's dtype.
        manifold, sparse
            As in the constructor. On `PoincareBall`, radii beyond `geometry.ball.max_radius` are
            clipped.

        Raises
        ------
        ValueError
            If the shapes do not fit, a value is not finite, a radius is negative or a direction is
            not a unit vector.

        Examples
        --------
        >>> r, u = torch.tensor([0.0, 1.0]), torch.tensor([[0.0, 1.0], [0.0, 1.0]])
        >>> PoincareEmbedding.from_pretrained(r, u).direction
        tensor([[0., 1.],
                [0., 1.]])
        """
        if radius.ndim != 1 or direction.ndim != 2 or len(radius) != len(direction):
            raise ValueError(
                "from_pretrained takes radius [n] and direction [n, dim]; got "
                f"{tuple(radius.shape)} and {tuple(direction.shape)}"
            )
        finite = radius.isfinite() & direction.isfinite().all(-1)
        if not finite.all():
            raise ValueError(
                f"row {int((~finite).nonzero()[0])} is not finite; did a training diverge?"
            )
        Polar().assert_check_point_on_manifold(Polar.join(radius, direction))
        embedding = cls.__new__(cls)
        torch.nn.Module.__init__(embedding)
        embedding._keep(radius.detach(), direction.detach(), manifold, sparse)
        return embedding

    def _keep(
        self, radius: Tensor, direction: Tensor, manifold: Polar | PoincareBall | None, sparse: bool
    ) -> None:
        manifold = Polar() if manifold is None else manifold
        if not isinstance(manifold, Polar | PoincareBall):
            raise ValueError(
                f"manifold must be Polar or PoincareBall of poincare_taxa; got {manifold!r}"
            )
        self.sparse = sparse
        self.num_embeddings, self.embedding_dim = direction.shape
        points = manifold.from_polar(radius, direction)
        self.weight = geoopt.ManifoldParameter(points, manifold=manifold)  # pyright: ignore[reportCallIssue]
        self._looks, self._seen = _LOOKS, self.weight._version

    def _on(self, manifold: Polar | PoincareBall) -> None:
        """Make `weight` a parameter on the manifold again, where torch made it a plain one."""
        plain = self.weight
        if not isinstance(plain, geoopt.ManifoldParameter):
            kept: Any = {"manifold": manifold, "requires_grad": plain.requires_grad}
            self.weight = geoopt.ManifoldParameter(plain.data, **kept)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        manifold = self.manifold
        super()._load_from_state_dict(*args, **kwargs)  # with assign=True sets a plain parameter
        self._on(manifold)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        manifold = self.manifold
        super()._apply(fn, recurse)  # on some devices sets a plain parameter
        self._on(manifold)
        return self

    def _look(self) -> None:
        """Warn where the first steps of an optimizer move points of `Polar` out of their space."""
        if torch.compiler.is_compiling() or not self._looks or self.weight._version == self._seen:
            return
        self._looks, self._seen = self._looks - 1, self.weight._version
        if not isinstance(self.manifold, Polar):
            return
        with torch.no_grad():
            fine, why = self.manifold._check_point_on_manifold(self.weight)
        if not fine:
            self._looks = 0
            warnings.warn(
                f"the points have left their space ({why}): distances will become nan. An "
                "optimizer that knows no manifolds, such as torch.optim.Adam, needs "
                "pt.project_after_step(optimizer, embedding); RowwiseRiemannianAdam and "
                "geoopt.optim need nothing",
                UserWarning,
                stacklevel=3,
            )

    @property
    def manifold(self) -> Polar | PoincareBall:
        """The manifold of `weight`."""
        return self.weight.manifold  # pyright: ignore[reportReturnType]

    @property
    def radius(self) -> Tensor:
        """Hyperbolic distance of every node from the origin [n], detached."""
        return self.manifold.to_polar(self.weight.detach())[0]

    @property
    def direction(self) -> Tensor:
        """Direction of every node [n, dim], detached."""
        return self.manifold.to_polar(self.weight.detach())[1]

    def forward(self, nodes: Tensor) -> Tensor:
        """Points [..., coordinates] of nodes [...].

        Warns
        -----
        UserWarning
            If an optimizer without a manifold has moved points out of their space; noticed in the
            first steps.
        """
        self._look()
        return torch.nn.functional.embedding(nodes, self.weight, sparse=self.sparse)

    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        """Geodesic distance between paired nodes [...]; the shapes broadcast.

        Warns as `forward`.
        """
        self._look()
        pairs = a.long(), b.long()
        return self.manifold.pair_distance(self.weight, *pairs, sparse=self.sparse)

    def ancestor_score(self, node: Tensor, candidate: Tensor) -> Tensor:
        """Small where the candidate is an ancestor of the node; see `geometry.polar`."""
        return self.manifold.ancestor_score(self(node), self(candidate))

    def extra_repr(self) -> str:
        """Text of the sizes and the manifold for ``repr``."""
        sparse = ", sparse=True" if self.sparse else ""
        return f"{self.num_embeddings}, {self.embedding_dim}, manifold={self.manifold}{sparse}"
