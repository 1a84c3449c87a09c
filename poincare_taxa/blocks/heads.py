r"""`TaxonHead`: from the output of an encoder to probabilities of taxa.

An output x is a tangent vector at the origin; its point is compared with one point per candidate:

.. math:: \log P(c \mid x) = \log \operatorname{softmax}_c
          \bigl(-d(\exp_0 \lambda x,\; \exp_0 w_c) / T\bigr),
          \qquad w_c = \sum_{a \,\in\, \text{ancestors of } c \text{ or } c} \delta_a .

The vectors δ, one for each node of the tree, are what is learned, with λ and T. An example of a
species moves its genus and its family too, so that taxa share what their clades have in common, and
a species with few examples is near its relatives. δ starts from a layout shrunk to a small radius:
the tree's shape, and nothing that the first steps could not undo. That is why only the taxonomy of
a model is used, and not its vectors: at their own radii a network does not reach them (``python -m
benchmarks head`` has the figures of both).

The controls have a free vector for each candidate: the cosine of x and w_c over T, or a linear map.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from poincare_taxa.blocks.targets import clade_levels, clade_log_probs
from poincare_taxa.geometry import polar
from poincare_taxa.kernels.distance import cdist
from poincare_taxa.layouts.tree import layout
from poincare_taxa.taxonomy.columns import and_more
from poincare_taxa.taxonomy.lookup import Keys
from poincare_taxa.taxonomy.taxonomy import Taxonomy

if TYPE_CHECKING:
    from poincare_taxa.model.model import TaxonEmbedding

__all__ = ["TaxonHead"]

_START_RADIUS = 0.2
"""Radius of the outermost candidate at the start."""

_START_TAU = 0.5
"""Radius per level of the layout that δ starts from, before it is shrunk."""

_TEMPERATURE = {"hyperbolic": 0.05, "cosine": 0.05, "linear": 1.0}


class TaxonHead(torch.nn.Module):
    """Log-probabilities over taxa of any ranks, from the output of an encoder.

    Parameters
    ----------
    taxonomy
        A taxonomy, or a model, whose taxonomy is used.
    in_features
        Number of outputs of the encoder.
    candidates
        Taxa that can be the answer, of any ranks; by default the leaves of the taxonomy. The
        columns of the result are in the order of `candidates` of the head, which is that of rows.
    geometry
        "hyperbolic"; "cosine" or "linear" are controls that do not know the tree, with the same
        interface.
    dim
        Dimension of the points. By default `in_features`, the encoder's output as it is; another
        number is reached by a linear map.
    temperature
        Start of the learned temperature T, > 0; by default 0.05, 1 of the linear map.
    seed
        Seed of the start.

    Attributes
    ----------
    candidates : pl.Series
        Ids of the columns.

    Raises
    ------
    TaxonomyError
        If a candidate is unknown, deleted or ambiguous.
    ValueError
        If a number or the geometry is out of its range, there are fewer than two candidates, or one
        occurs twice.

    Examples
    --------
    >>> tax = Taxonomy.from_edges([("lion", "cats"), ("lynx", "cats"), ("cats", "all"),
    ...                            ("fox", "dogs"), ("dogs", "all")])
    >>> head = TaxonHead(tax, in_features=8)
    >>> head.candidates.to_list()
    ['lion', 'lynx', 'fox']
    >>> log_probs = head(torch.zeros(1, 8))
    >>> head.clade_log_probs(log_probs, ["cats", "all"]).exp().round(decimals=1).tolist()
    [[0.699999988079071, 1.0]]
    >>> target = head.targets(["fox"])
    >>> loss = torch.nn.functional.nll_loss(log_probs, target)

    Notes
    -----
    Train it with Adam or `RowwiseRiemannianAdam`: its parameters are plain tensors. Weight decay
    pulls taxa to their clades.
    """

    _bags: Tensor
    _first: Tensor

    def __init__(
        self,
        taxonomy: "Taxonomy | TaxonEmbedding",
        in_features: int,
        candidates: Keys | None = None,
        *,
        geometry: Literal["hyperbolic", "cosine", "linear"] = "hyperbolic",
        dim: int | None = None,
        temperature: float | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if geometry not in _TEMPERATURE:
            raise ValueError(f"geometry is one of {', '.join(_TEMPERATURE)}; got {geometry!r}")
        temperature = _TEMPERATURE[geometry] if temperature is None else temperature
        dim = in_features if dim is None else dim
        for name, value, least in (("in_features", in_features, 1), ("dim", dim, 2)):
            if value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        if not temperature > 0:
            raise ValueError(f"temperature must be positive; got {temperature}")
        self.taxonomy = taxonomy if isinstance(taxonomy, Taxonomy) else taxonomy.taxonomy
        self.geometry, self.in_features, self.dim = geometry, in_features, dim
        self.temperature = temperature
        self._rows = self._candidate_rows(candidates)
        self.candidates: pl.Series = self.taxonomy.ids.gather(pl.Series(self._rows))
        generator = torch.Generator().manual_seed(seed)
        self.projection = torch.nn.Identity()
        if dim != in_features:
            self.projection = torch.nn.Linear(in_features, dim, bias=False)
            torch.nn.init.orthogonal_(self.projection.weight, generator=generator)
        # Both relative to their starts, so that weight decay pulls them there.
        self.log_temperature = torch.nn.Parameter(torch.zeros(()))
        self.log_scale = torch.nn.Parameter(torch.zeros(()))
        if geometry == "hyperbolic":
            self._start_in_tree(seed)
        else:
            start = torch.randn(len(self._rows), dim, generator=generator) / dim**0.5
            self.weight = torch.nn.Parameter(start)
            self.bias = torch.nn.Parameter(torch.zeros(len(self._rows)))

    def _candidate_rows(self, candidates: Keys | None) -> np.ndarray:
        """Rows of the candidates, ascending."""
        tree = self.taxonomy.tree
        rows = (
            tree.leaves() if candidates is None else np.atleast_1d(self.taxonomy.rows(candidates))
        )
        rows, number = np.unique(rows, return_counts=True)
        if len(rows) < 2:
            raise ValueError(f"a head needs at least two candidates; got {len(rows)}")
        if (number > 1).any():
            double = self.taxonomy.ids[int(rows[number > 1][0])]
            raise ValueError(f"candidate {double!r} occurs more than once; give each taxon once")
        return rows

    def _start_in_tree(self, seed: int) -> None:
        """δ of the nodes above the candidates, and which of them each candidate adds up."""
        # 1. The tree of the candidates and their ancestors.
        lineages = self.taxonomy.tree.lineages(self._rows)
        nodes = np.unique(lineages[lineages >= 0])
        parent = np.searchsorted(nodes, self.taxonomy.tree.parent[nodes])
        parent[0] = -1
        # 2. Its layout, shrunk; each node's vector minus its parent's.
        points = layout(Taxonomy.from_parents(parent), self.dim, tau=_START_TAU, seed=seed)
        tangent = points.radius[:, None] * points.direction
        tangent *= _START_RADIUS / points.radius.max()
        offsets = tangent - tangent[torch.from_numpy(parent).clamp(min=0)]
        self.offsets = torch.nn.Parameter(offsets.float())
        # 3. Bags of nodes: the lineages of the candidates, one after the other.
        inside = lineages >= 0
        bags = torch.from_numpy(np.searchsorted(nodes, lineages[inside]))
        first = torch.from_numpy(inside.sum(axis=1).cumsum() - inside.sum(axis=1))
        self.register_buffer("_bags", bags, persistent=False)
        self.register_buffer("_first", first, persistent=False)

    def extra_repr(self) -> str:
        """Text of the sizes and the geometry for ``repr``."""
        return f"{self.in_features}, {len(self.candidates)} taxa, geometry={self.geometry!r}"

    # ---------------------------------------------------------------- probabilities

    def points(self) -> Tensor:
        """Tangent vectors of the candidates at the origin [candidates, dim] (hyperbolic only)."""
        return torch.nn.functional.embedding_bag(self._bags, self.offsets, self._first, mode="sum")

    def forward(self, x: Tensor, within: Keys | None = None) -> Tensor:
        """Log-probabilities of the candidates.

        Parameters
        ----------
        x
            Output of an encoder, [..., in_features], of any floating dtype. Computed in the head's
            own dtype, also under autocast.
        within
            Taxa whose clades contain the answer, such as those of a place; the other candidates
            have probability 0. By default every candidate is possible.

        Returns
        -------
        log_probs
            [..., candidates].

        Raises
        ------
        ValueError
            If no candidate is within these clades.
        """
        with torch.autocast(x.device.type, enabled=False):
            logits = self._logits(x.to(self.log_scale.dtype))
        if within is not None:
            low, high = self._slices(np.atleast_1d(self.taxonomy.rows(within)))
            column = torch.arange(len(self.candidates))
            possible = ((column >= low[:, None]) & (column < high[:, None])).any(0)
            if not possible.any():
                raise ValueError(f"no candidate is within {within!r}")
            logits = logits.masked_fill(~possible.to(x.device), -torch.inf)
        return logits.log_softmax(-1)

    def _logits(self, x: Tensor) -> Tensor:
        temperature = self.temperature * self.log_temperature.exp()
        x = self.projection(x)
        if self.geometry == "linear":
            return torch.nn.functional.linear(x, self.weight, self.bias) / temperature
        if self.geometry == "cosine":
            normalize = torch.nn.functional.normalize
            return normalize(x, dim=-1) @ normalize(self.weight, dim=-1).T / temperature
        # An output has a length of about √dim, as after a LayerNorm: it becomes one of about 1.
        query = x.reshape(-1, self.dim) * self.log_scale.exp() / self.dim**0.5
        distance = cdist(polar.expmap0(query), polar.expmap0(self.points()), manifold="polar")
        return (-distance / temperature).view(*x.shape[:-1], -1)

    def targets(self, keys: Keys) -> Tensor:
        """Columns of taxa, int64 [k]: the labels of `torch.nn.functional.nll_loss`.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If a taxon is no candidate.
        """
        rows = np.atleast_1d(self.taxonomy.rows(keys))
        columns = np.searchsorted(self._rows, rows).clip(max=len(self._rows) - 1)
        if len(other := rows[self._rows[columns] != rows]):
            names = ", ".join(str(self.taxonomy.ids[int(row)]) for row in other[:5])
            raise ValueError(
                f"no candidates: {names}{and_more(len(other) - 5)}; make the head with "
                "candidates=<all taxa that can be an answer>"
            )
        return torch.from_numpy(columns).to(self.log_scale.device)

    def _slices(self, rows: np.ndarray) -> tuple[Tensor, Tensor]:
        """Slices of the columns in the clades of rows."""
        low = np.searchsorted(self._rows, rows)
        high = np.searchsorted(self._rows, self.taxonomy.tree.end[rows])
        return torch.from_numpy(low), torch.from_numpy(high)

    def clade_log_probs(self, log_probs: Tensor, keys: Keys) -> Tensor:
        """Log-probabilities [..., k] of clades: the sums over their candidates.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        """
        low, high = self._slices(np.atleast_1d(self.taxonomy.rows(keys)))
        return clade_log_probs(log_probs, low.to(log_probs.device), high.to(log_probs.device))

    # ---------------------------------------------------------------- answers

    def topk(self, log_probs: Tensor, k: int = 5, taxon_rank: str | None = None) -> pl.DataFrame:
        """Most probable candidates, or clades of a rank.

        Parameters
        ----------
        log_probs
            [batch, candidates].
        k
            Number of taxa of each sample, at least 1.
        taxon_rank
            Rank of the clades, such as "genus"; by default the candidates themselves.

        Returns
        -------
        answers
            Columns ``sample``, ``id``, ``name``, ``taxon_rank``, ``probability``, the most probable
            first.

        Raises
        ------
        ValueError
            If `k` is below 1 or no taxon has the rank.
        """
        if k < 1:
            raise ValueError(f"k must be at least 1; got {k}")
        rows = self._rows
        if taxon_rank is not None:
            rows, log_probs = self._at_rank(log_probs, taxon_rank)
        best, column = log_probs.detach().topk(min(k, len(rows)), dim=-1)
        found = rows[column.cpu().numpy()]
        sample = np.broadcast_to(np.arange(len(found))[:, None], found.shape)
        answers = {"sample": sample.ravel(), **self._described(found.ravel())}
        return pl.DataFrame({**answers, "probability": best.exp().cpu().numpy().ravel()})

    def _at_rank(self, log_probs: Tensor, taxon_rank: str) -> tuple[np.ndarray, Tensor]:
        """Rows of the clades at a rank, and their log-probabilities."""
        rows = np.unique(clade_levels(self.taxonomy, self.candidates, [taxon_rank]).numpy())
        low, high = self._slices(rows)
        return rows, clade_log_probs(log_probs, low.to(log_probs.device), high.to(log_probs.device))

    def predict(
        self,
        log_probs: Tensor,
        ranks: Sequence[str] = ("family", "genus", "species"),
        threshold: float = 0.5,
    ) -> pl.DataFrame:
        """Answer as precisely as a threshold allows: "family: .97, genus: .41" is the family.

        The most probable clade of the first rank is taken, in it the most probable of the second,
        and so on. The answer is the last one whose probability reaches the threshold.

        Parameters
        ----------
        log_probs
            [batch, candidates].
        ranks
            From high to low.
        threshold
            Least probability of an answer, in [0, 1].

        Returns
        -------
        answers
            A row for each sample: ``id``, ``name``, ``taxon_rank`` and ``probability`` of the
            answer, null where no rank reaches the threshold; then for each rank the id of its
            clade, in a column of its name, and its probability, in ``p_<rank>``.

        Raises
        ------
        ValueError
            If no taxon has a rank, there are none, or the threshold is no probability.
        """
        if not ranks or not 0 <= threshold <= 1:
            raise ValueError(
                f"predict needs ranks, and a threshold in [0, 1]; got {ranks} and {threshold}"
            )
        batch = np.arange(len(log_probs))
        first, last = np.zeros(len(batch), np.int64), np.full(len(batch), len(self.taxonomy))
        answer, probability = np.full(len(batch), -1), np.full(len(batch), np.nan)
        columns = {}
        for rank in ranks:
            # The best clade of this rank inside of that of the rank above.
            rows, values = self._at_rank(log_probs.detach(), rank)
            values = values.exp().cpu().numpy()
            inside = (rows >= first[:, None]) & (rows < last[:, None])
            best = np.where(inside, values, -1).argmax(axis=1)
            chosen, p = rows[best], values[batch, best]
            first, last = chosen, self.taxonomy.tree.end[chosen]
            answer = np.where(p >= threshold, chosen, answer)
            probability = np.where(p >= threshold, p, probability)
            ids = self.taxonomy.ids.gather(pl.Series(chosen))
            columns |= {rank: ids, f"p_{rank}": p}
        known = pl.Series(answer >= 0)
        described = {
            name: column.zip_with(known, pl.Series([None] * len(known), dtype=column.dtype))
            for name, column in self._described(answer.clip(0)).items()
        }
        p_answer = pl.Series(probability).fill_nan(None)
        return pl.DataFrame({**described, "probability": p_answer, **columns})

    def _described(self, rows: np.ndarray) -> dict[str, pl.Series]:
        """Id, name and taxon rank of rows."""
        tax, at = self.taxonomy, pl.Series(rows, dtype=pl.Int64)
        return {
            "id": tax.ids.gather(at),
            "name": tax.names.gather(at),
            "taxon_rank": tax.taxon_ranks.gather(at),
        }
