"""One trainable point per node: a `torch.nn.Embedding` whose weight is a geoopt parameter.

The module is a table only: its manifold computes distances, and any loop can train it.
"""

import warnings
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from poincare_taxa.blocks._random import tensor_of
from poincare_taxa.blocks.manifolds import PoincareBall, Polar, own_manifold
from poincare_taxa.blocks.riemannian import geoopt
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy, tree_of
from poincare_taxa.taxonomy.tree import Tree

if TYPE_CHECKING:
    from poincare_taxa.model.model import TaxonEmbedding

__all__ = ["PoincareEmbedding"]

_LOOKS = 3  # changes of the table after which its points are checked


class PoincareEmbedding(torch.nn.Embedding):
    """A table of points of hyperbolic space, one per node: a `torch.nn.Embedding`.

    Tools that know torch's class know this one: `DistributedDataParallel` sees sparse gradients,
    and the state dict has ``weight`` alone. A table stays in float32 or float64 where the module
    that it is in is converted to half precision, which would make neighbours coincide.

    Parameters
    ----------
    num_embeddings
        Number of nodes, at least 1.
    embedding_dim
        Dimension of the space, at least 2. On `Polar` a row of `weight` has one coordinate more
        (the radius): its shape is [num_embeddings, embedding_dim + 1].
    manifold
        `Polar` (default: holds any depth), `PoincareBall`, or geoopt's own ball, which becomes the
        `PoincareBall` of its curvature.
    sparse
        Whether gradients are sparse: only rows of the batch are stored, and
        `optimizers.RowwiseRiemannianAdam` touches only these.
    padding_idx
        Row that stands for "no node": it starts at the origin and never has a gradient.
    initial_radius
        Typical radius of the random start, > 0: points are normal around the origin.
    dtype
        ``torch.float64`` or ``torch.float32``.
    device
        Device of the table.
    generator
        Generator of the start; torch's global one by default.
    max_norm, scale_grad_by_freq
        Of torch's class; refused unless they are its defaults.

    Attributes
    ----------
    weight : geoopt.ManifoldParameter
        Points [num_embeddings, coordinates], in the coordinates of ``manifold``: radius and
        direction [dim + 1] on `Polar`, [dim] on `PoincareBall`.
    taxonomy : Taxonomy or None
        The taxonomy whose rows these are, after `from_model`, `from_layout` or `fit`.

    Raises
    ------
    ValueError
        If a number is out of its range, the manifold is none of these, or ``max_norm`` or
        ``scale_grad_by_freq`` is given.

    Examples
    --------
    >>> emb = PoincareEmbedding(5, 2)
    >>> emb(torch.tensor([3, 4])).shape  # radius and two coordinates of the direction
    torch.Size([2, 3])
    >>> emb.dist(torch.tensor(3), torch.tensor(3))
    tensor(0., dtype=torch.float64, grad_fn=<HaversinesBackward>)
    """

    weight: geoopt.ManifoldParameter
    taxonomy: Taxonomy | None = None
    tree_fingerprint: str | None = None
    """Fingerprint of the tree whose rows these are, where it is known: after a layout or `fit`."""
    # Of the class, because tables pickled by the first versions have none of these.
    padding_idx: int | None = None
    initial_radius: float = 0.01
    max_norm: float | None = None
    norm_type: float = 2.0
    num_embeddings: int
    embedding_dim: int
    scale_grad_by_freq = False

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        manifold: Polar | PoincareBall | geoopt.PoincareBall | None = None,
        sparse: bool = False,
        padding_idx: int | None = None,
        initial_radius: float = 0.01,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
        generator: torch.Generator | None = None,
        max_norm: None = None,
        scale_grad_by_freq: Literal[False] = False,
    ) -> None:
        torch.nn.Module.__init__(self)
        if max_norm is not None or scale_grad_by_freq:
            raise ValueError(
                "max_norm and scale_grad_by_freq are for Euclidean tables: a manifold has its own "
                "limit, and RowwiseRiemannianAdam steps of one length for frequent and rare rows"
            )
        if num_embeddings < 1:
            raise ValueError(f"num_embeddings must be at least 1; got {num_embeddings}")
        if embedding_dim < 2:
            raise ValueError(
                f"embedding_dim must be at least 2; got {embedding_dim} "
                "(on a line there is no room for siblings)"
            )
        if not initial_radius > 0:
            raise ValueError(f"initial_radius must be positive; got {initial_radius}")
        start = torch.empty(num_embeddings, embedding_dim, dtype=dtype, device=device)
        self.initial_radius = initial_radius
        self._keep(*_around_origin(start, initial_radius, generator), manifold, sparse, padding_idx)
        self._pad()

    @classmethod
    def from_layout(
        cls,
        taxonomy: Taxonomy | Tree,
        embedding_dim: int,
        *,
        manifold: Polar | PoincareBall | geoopt.PoincareBall | None = None,
        sparse: bool = False,
        padding_idx: int | None = None,
        **layout_options: Any,
    ) -> Self:
        """Start from the constructive embedding of a taxonomy.

        Parameters
        ----------
        taxonomy
            A taxonomy or its tree; row i of the table is its row i.
        embedding_dim
            Dimension of the space.
        manifold, sparse, padding_idx
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
            points.radius,
            points.direction,
            manifold=manifold,
            sparse=sparse,
            padding_idx=padding_idx,
        )
        embedding.tree_fingerprint = tree_of(taxonomy).fingerprint
        embedding.taxonomy = taxonomy if isinstance(taxonomy, Taxonomy) else None
        return embedding

    @classmethod
    def from_model(
        cls,
        model: "TaxonEmbedding",
        freeze: bool = False,
        *,
        manifold: Polar | PoincareBall | geoopt.PoincareBall | None = None,
        sparse: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Start from a model's vectors (copied); `rows` leads from keys to rows.

        Parameters
        ----------
        model
            Result of `embed`, `fit` or ``TaxonEmbedding.load``.
        freeze
            Whether the table stays as it is: ``weight.requires_grad`` is then False.
        manifold, sparse
            As in the constructor.
        padding_idx
            As in the constructor, but the row keeps its point. 0, the root, is the origin.

        Examples
        --------
        >>> from poincare_taxa.model.model import embed
        >>> tax = Taxonomy.from_parents([-1, 0, 0, 1], ids=["root", "cats", "dogs", "lion"])
        >>> emb = PoincareEmbedding.from_model(embed(tax, dim=3))
        >>> emb.rows(["lion", "dogs"])
        tensor([2, 3])
        """
        embedding = cls.from_pretrained(
            model.radius,
            model.direction,
            freeze=freeze,
            manifold=manifold,
            sparse=sparse,
            padding_idx=padding_idx,
        )
        embedding.taxonomy = model.taxonomy
        embedding.tree_fingerprint = model.taxonomy.tree.fingerprint
        return embedding

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        radius: ArrayLike | Tensor,
        direction: ArrayLike | Tensor,
        *,
        freeze: bool = False,
        manifold: Polar | PoincareBall | geoopt.PoincareBall | None = None,
        sparse: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """Start from points in polar coordinates (copied).

        Parameters
        ----------
        radius, direction
            [n] and [n, dim], float32 or float64; the table has the direction's dtype.
        freeze, padding_idx
            As in `from_model`. Unlike torch's, a table is trainable unless ``freeze=True``.
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
        radius, direction = tensor_of(radius), tensor_of(direction)
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
        embedding._keep(radius.detach(), direction.detach(), manifold, sparse, padding_idx)
        embedding.weight.requires_grad_(not freeze)
        return embedding

    def _keep(
        self,
        radius: Tensor,
        direction: Tensor,
        manifold: geoopt.Manifold | None,
        sparse: bool,
        padding_idx: int | None,
    ) -> None:
        manifold = own_manifold(Polar() if manifold is None else manifold)
        self.sparse = sparse
        n, self.embedding_dim = direction.shape
        self.num_embeddings = n
        if padding_idx is not None and not -n <= padding_idx < n:
            raise ValueError(f"padding_idx is one of the {n} rows; got {padding_idx}")
        self.padding_idx = None if padding_idx is None else padding_idx % n
        points = manifold.from_polar(radius, direction)
        self.weight = geoopt.ManifoldParameter(points, manifold=manifold)  # pyright: ignore[reportCallIssue]
        self._looks, self._seen = _LOOKS, self.weight._version

    def _pad(self) -> None:
        """Move the padding row to the origin, which on `Polar` has a direction too."""
        if self.padding_idx is not None:
            with torch.no_grad():
                self.weight[self.padding_idx] = 0
                if isinstance(self.manifold, Polar):
                    self.weight[self.padding_idx, 1] = 1

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """Draw a new random start, as in the constructor."""
        start = torch.empty(
            len(self.weight),
            self.embedding_dim,
            dtype=self.weight.dtype,
            device=self.weight.device,
        )
        points = _around_origin(start, self.initial_radius, generator)
        self.weight.copy_(self.manifold.from_polar(*points))
        self._pad()

    def _on(self, manifold: Polar | PoincareBall) -> None:
        """Make `weight` a parameter on the manifold again, where torch made it a plain one."""
        plain = self.weight
        if not isinstance(plain, geoopt.ManifoldParameter):
            kept: Any = {"manifold": manifold, "requires_grad": plain.requires_grad}
            weight = geoopt.ManifoldParameter(plain.data, **kept)
            self.weight = weight  # pyright: ignore[reportIncompatibleVariableOverride]

    def __setattr__(self, name: str, value: Any) -> None:
        # With a method of its own, `fully_shard` calls it instead of replacing `weight` unseen.
        if name == "weight" and isinstance(value, Tensor):
            _require_whole(value)
        super().__setattr__(name, value)

    def register_parameter(self, name: str, param: torch.nn.Parameter | None) -> None:
        """Add a parameter; a shard in place of `weight` is a `ValueError`."""
        if name == "weight" and param is not None:
            _require_whole(param)
        super().register_parameter(name, param)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        manifold = self.manifold
        super()._load_from_state_dict(*args, **kwargs)  # with assign=True sets a plain parameter
        self._on(manifold)

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        manifold = self.manifold

        def precise(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            if moved.dtype in (torch.float32, torch.float64):
                return moved
            warnings.warn(
                f"a PoincareEmbedding stays in {tensor.dtype}: in {moved.dtype} neighbours would "
                "coincide; the rest of the module is converted",
                UserWarning,
                stacklevel=2,
            )
            return tensor.to(moved.device)

        super()._apply(precise, recurse)  # on some devices sets a plain parameter
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

    def rows(self, keys: Keys, *, missing: int | Literal["raise"] = "raise") -> Tensor:
        """Rows of taxa, int64 [] for one key or [k] for many: the bridge from keys to `forward`.

        Parameters
        ----------
        keys
            Ids or names; see `Taxonomy`.
        missing
            What a key that leads to no taxon gives: an error, or this row, such as `padding_idx`.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous, and `missing` is "raise".
        ValueError
            If the table has no taxonomy.
        """
        if self.taxonomy is None:
            raise ValueError(
                "this table has no taxonomy to look keys up in; make it with "
                "PoincareEmbedding.from_model(model), or set embedding.taxonomy"
            )
        rows = np.asarray(self.taxonomy.rows(keys, missing=missing), np.int64)
        return torch.from_numpy(rows).to(self.weight.device)

    def forward(self, nodes: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Points [..., coordinates] of nodes [...].

        Warns
        -----
        UserWarning
            If an optimizer without a manifold has moved points out of their space; noticed in the
            first steps.
        """
        self._look()
        return torch.nn.functional.embedding(
            nodes, self.weight, self.padding_idx, sparse=self.sparse
        )

    def dist(self, a: Tensor, b: Tensor) -> Tensor:
        """Geodesic distance between paired nodes [...]; the shapes broadcast.

        Warns as `forward`.
        """
        if self.padding_idx is not None:  # whose gradient `forward` leaves out
            return self.manifold.dist(self(a), self(b))
        self._look()
        pairs = a.long(), b.long()
        return self.manifold.pair_distance(self.weight, *pairs, sparse=self.sparse)

    def ancestor_score(self, node: Tensor, candidate: Tensor) -> Tensor:
        """Small where the candidate is an ancestor of the node; see `geometry.polar`."""
        return self.manifold.ancestor_score(self(node), self(candidate))

    def extra_repr(self) -> str:
        """Text of the sizes and the manifold for ``repr``."""
        sparse = ", sparse=True" if self.sparse else ""
        padding = "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        sizes = f"{self.num_embeddings}, {self.embedding_dim}"
        return f"{sizes}, manifold={self.manifold}{padding}{sparse}"


def _require_whole(weight: Tensor) -> None:
    """Raise ValueError for a shard of a table, such as a DTensor, which has no manifold."""
    if hasattr(weight, "placements") or not isinstance(weight, torch.nn.Parameter):
        raise ValueError(
            "a PoincareEmbedding is whole in every process: a shard of it "
            f"({type(weight).__name__}) has no manifold, and would be stepped as a flat tensor; "
            "use DistributedDataParallel, or leave the table out with "
            "fully_shard(module, ignored_params=set(embedding.parameters()))"
        )


def _around_origin(
    points: Tensor, radius: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Radius [n] and direction [n, dim] of normal points; ``points`` [n, dim] are overwritten."""
    points.normal_(generator=generator).mul_(radius / points.shape[1] ** 0.5)
    length = torch.linalg.vector_norm(points, dim=-1)
    return length, points / length[:, None]
