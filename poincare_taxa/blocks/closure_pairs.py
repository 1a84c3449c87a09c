"""Pairs given explicitly: the closure of a DAG such as WordNet, or any noisy set of is-a pairs."""

import warnings
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor
from torch.utils.data import Dataset

from poincare_taxa.blocks._random import Order, below, index_tensor, integer_weights, tensor_of
from poincare_taxa.blocks.tree_index import moved
from poincare_taxa.processes.digests import digest
from poincare_taxa.readers.dags import read_obo, read_wordnet
from poincare_taxa.readers.headings import headed_table
from poincare_taxa.readers.text import Text
from poincare_taxa.taxonomy import columns
from poincare_taxa.taxonomy.edges import edge_table
from poincare_taxa.taxonomy.taxonomy import TaxonomyError

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

__all__ = ["ClosurePairs"]


class ClosurePairs(Dataset[Tensor]):
    """(ancestor, descendant) pairs of nodes 0 … num_nodes − 1, each listed once.

    This is a torch ``Dataset`` in the order given, and a sampler of batches, like `AncestorPairs`.
    Pairs that follow from others by transitivity must be listed too where they are meant: `closed`
    adds them, and what takes a closure warns where they are missing.

    Parameters
    ----------
    pairs
        Rows [k, 2]: (ancestor, descendant).
    num_nodes
        Number of nodes; by default the number of names, else 1 + the largest row.
    names
        Names of the nodes [num_nodes].
    weights
        Relative frequency of each pair in a sample [k], at least 0; equal by default.
    labels
        Texts for readers [num_nodes], where names are identifiers such as those of an ontology.

    Attributes
    ----------
    pairs : int64 [k, 2]
        The pairs.
    num_nodes : int
        Number of nodes.
    names, labels : pl.Series or None
        Names and labels of the nodes.

    Raises
    ------
    ValueError
        If a weight is negative or not finite, or arguments differ in length.
    TaxonomyError
        If there are no pairs, a row is not a node, a node is its own ancestor, or a pair is listed
        twice; ``row`` is the index of the faulty pair.

    Examples
    --------
    >>> pairs = ClosurePairs([[0, 1], [1, 2], [0, 2]])
    >>> len(pairs), pairs[2].tolist()
    (3, [0, 2])
    """

    pairs: Tensor
    names: pl.Series | None
    labels: pl.Series | None
    weights: Tensor | None

    def __init__(
        self,
        pairs: ArrayLike | Tensor,
        *,
        num_nodes: int | None = None,
        names: Sequence[Any] | pl.Series | None = None,
        weights: ArrayLike | Tensor | None = None,
        labels: Sequence[str | None] | pl.Series | None = None,
    ) -> None:
        self.pairs = _rows(pairs)
        self.names = None if names is None else pl.Series("name", names)
        self.labels = None if labels is None else pl.Series("label", labels, dtype=pl.String)
        if num_nodes is None:
            num_nodes = int(self.pairs.max()) + 1 if self.names is None else len(self.names)
        self.num_nodes = num_nodes
        if self.names is not None and len(self.names) != num_nodes:
            raise ValueError(
                f"{len(self.names)} names for {num_nodes} nodes; give one for each, or leave "
                "num_nodes out"
            )
        if self.labels is not None and len(self.labels) != num_nodes:
            raise ValueError(f"{len(self.labels)} labels for {num_nodes} nodes; give one for each")
        self._refuse_faults()
        units = None
        if weights is not None:
            weights = tensor_of(weights)
            if weights.shape != (len(self),):
                raise ValueError(
                    f"{tuple(weights.shape)} weights for {len(self)} pairs; give one for each"
                )
            units = integer_weights(weights)
        alike = units is None or bool((units == units[0]).all())
        self.weights = None if alike else units
        self._order = Order.weighted(None, self.weights)

    @classmethod
    def read_csv(cls, path: str | Path) -> Self:
        r"""Read a text with a line per pair: columns ``id1``, ``id2``, perhaps ``weight``.

        This is the format of the WordNet closures of Nickel & Kiela 2017: id1 is the descendant,
        id2 its ancestor. Columns are separated by comma, tab or semicolon; gzip is optional.
        Nodes are numbered in order of their names.

        Raises
        ------
        TaxonomyError
            With the file, the line and the likely cause, if a line is faulty.

        Examples
        --------
        >>> path = getfixture("tmp_path") / "closure.csv"
        >>> _ = path.write_text("id1,id2\ndog,mammal\nmammal,animal\ndog,animal\n")
        >>> pairs = ClosurePairs.read_csv(path)
        >>> pairs.names.to_list(), pairs.pairs.tolist()
        (['animal', 'dog', 'mammal'], [[2, 1], [0, 2], [0, 1]])
        """
        text = Text.load(path)
        table, _, above = headed_table(text, {"id1", "id2"})
        if missing := {"id1", "id2"} - set(table.columns):
            raise text.error(
                f"no column {' or '.join(sorted(missing))}; the first line must name the columns "
                f"id1 (descendant), id2 (ancestor) and perhaps weight; got {table.row(0)}"
            )
        try:
            descendant, ancestor = _named(table["id1"]), _named(table["id2"])
            weights = _numbers(table["weight"]) if "weight" in table.columns else None
            names = pl.concat([descendant, ancestor]).unique().sort()
            index = columns.sort(names)
            rows = [columns.find(index, column) for column in (ancestor, descendant)]
            return cls(np.stack(rows, axis=1), names=names, weights=weights)
        except TaxonomyError as error:
            raise text.error_in_row(error, above=above) from error

    @classmethod
    def from_edges(
        cls,
        edges: "pl.DataFrame | pd.DataFrame | NDArray[Any] | Iterable[tuple[Any, Any]]",
        *,
        closed: bool = True,
    ) -> "ClosurePairs":
        """Build the closure of a DAG from (child, parent) pairs; a child may have several parents.

        Parameters
        ----------
        edges
            Pairs, an array [k, 2], or a table with columns ``child``, ``parent`` and perhaps
            ``label``, a text for readers about the child. A node without parents may be listed
            with the parent None. An edge that is listed twice counts once.
        closed
            Whether to add the pairs that follow by transitivity.

        Raises
        ------
        TaxonomyError
            If there are no edges, one is no pair, or they have a cycle.

        Examples
        --------
        >>> pairs = ClosurePairs.from_edges([("pug", "dog"), ("pug", "pet"), ("dog", "animal")])
        >>> pairs.names.to_list()
        ['animal', 'dog', 'pet', 'pug']
        >>> pairs.pairs.tolist()
        [[1, 3], [2, 3], [0, 1], [0, 3]]
        """
        table = edge_table(edges)
        names = pl.concat([table["child"], table["parent"]]).drop_nulls().unique().sort()
        labels = None
        if "label" in table.columns:
            about = table.drop_nulls("label").unique("child", keep="first", maintain_order=True)
            labels = names.alias("child").to_frame().join(about, "child", "left")["label"]
        index, listed = columns.sort(names), table.drop_nulls("parent")
        listed = listed.unique(["child", "parent"], maintain_order=True)
        rows = [columns.find(index, listed[column]) for column in ("parent", "child")]
        found = ClosurePairs(np.stack(rows, axis=1), names=names, labels=labels)
        return found.closed() if closed else found

    @classmethod
    def from_networkx(cls, graph: "nx.DiGraph[Any]", *, closed: bool = True) -> "ClosurePairs":
        """Build the closure of a directed graph with an edge from each parent to its children.

        The direction is that of `Taxonomy.from_networkx`; ``graph.reverse()`` turns around the
        edges of obonet and others, which lead to the parent. Node attribute ``name`` is the label.

        Parameters
        ----------
        graph
            A directed acyclic graph.
        closed
            Whether to add the pairs that follow by transitivity.

        Raises
        ------
        TaxonomyError
            If the graph is undirected or has a cycle or no edges.

        Examples
        --------
        >>> import networkx as nx
        >>> graph = nx.DiGraph([("animal", "dog"), ("dog", "pug"), ("pet", "pug")])
        >>> len(ClosurePairs.from_networkx(graph))
        4
        """
        if not graph.is_directed():
            raise TaxonomyError("the graph is undirected: a DAG needs edges from parent to child")
        above = {node: list(graph.predecessors(node)) for node in graph}
        rows = [(node, up) for node, parents in above.items() for up in parents or [None]]
        if not rows:
            raise TaxonomyError("the graph has no nodes")
        table = edge_table(rows)
        names = {str(node): about.get("name") for node, about in graph.nodes(data=True)}
        if any(name is not None for name in names.values()):
            keys = table["child"].cast(pl.String)
            table = table.with_columns(pl.Series("label", [names[key] for key in keys], pl.String))
        return cls.from_edges(table, closed=closed)

    @classmethod
    def from_obo(
        cls, path: str | Path, *, relations: Sequence[str] = ("is_a",), closed: bool = True
    ) -> "ClosurePairs":
        """Read an ontology in the OBO format, such as the Gene Ontology; needs obonet.

        Names are identifiers (``GO:0006915``), labels the names of the terms; obsolete terms are
        left out.

        Parameters
        ----------
        path
            The file, perhaps compressed with gzip.
        relations
            Relations that lead from a term to what is above it, such as "is_a" and "part_of": each
            by its id, or by the id, the name or an xref of its [Typedef] stanza ("part of",
            "BFO:0000050").
        closed
            Whether to add the pairs that follow by transitivity.

        Raises
        ------
        ImportError
            If obonet is not installed (``pip install 'poincare-taxa[dag]'``).
        TaxonomyError
            If the file is no OBO, a relation does not occur, or the terms have a cycle.
        """
        edges = read_obo(path, relations)
        try:
            return cls.from_edges(edges, closed=closed)
        except TaxonomyError as error:
            raise TaxonomyError(f"{path}: {error}") from error

    @classmethod
    def from_wordnet(
        cls, root: str | None = None, *, pos: str = "n", closed: bool = True
    ) -> "ClosurePairs":
        """Take the hypernyms and instance hypernyms of WordNet from nltk, where it is installed.

        Names are those of synsets, such as ``dog.n.01``.

        Parameters
        ----------
        root
            A synset, such as "mammal.n.01": only it and what is below it; by default all.
        pos
            Part of speech, "n" or "v".
        closed
            Whether to add the pairs that follow by transitivity.

        Raises
        ------
        ImportError
            If nltk is not installed.
        FileNotFoundError
            If its WordNet is not on this machine, with the call that downloads it.
        TaxonomyError
            If there is no such synset, or none below it.
        """
        return cls.from_edges(read_wordnet(root, pos), closed=closed)

    @cached_property
    def missing(self) -> Tensor:
        """Pairs that follow from others by transitivity and are not listed, int64 [k, 2]."""
        descendant, ancestor = (_closure(self.matrix) - self.matrix).nonzero()
        return torch.from_numpy(np.stack([ancestor, descendant], axis=1)).to(self.pairs)

    @property
    def num_missing(self) -> int:
        """Number of the `missing` pairs."""
        return len(self.missing)

    @property
    def is_closed(self) -> bool:
        """Whether all pairs that follow from others are listed."""
        return self.num_missing == 0

    def closed(self) -> "ClosurePairs":
        """Return the transitive closure: these pairs, then those that follow from them.

        Memory: about 40 bytes for each pair of the closure.

        Raises
        ------
        TaxonomyError
            If the pairs have a cycle.
        ValueError
            If the pairs have weights of their own: those of other pairs do not follow from them.

        Examples
        --------
        >>> ClosurePairs([[0, 1], [1, 2]]).closed().pairs.tolist()
        [[0, 1], [1, 2], [0, 2]]
        """
        if self.weights is not None:
            raise ValueError(
                "pairs with weights have no closure: leave the weights out, or list it"
            )
        self.require_acyclic()
        return self._of_same_nodes(torch.cat([self.pairs, self.missing]))

    def reduced(self) -> "ClosurePairs":
        """Return the transitive reduction: the pairs that do not follow from others, in order.

        Raises
        ------
        TaxonomyError
            If the pairs have a cycle.

        Examples
        --------
        >>> ClosurePairs([[0, 1], [1, 2], [0, 2]]).reduced().pairs.tolist()
        [[0, 1], [1, 2]]
        """
        self.require_acyclic()
        ancestor, descendant = self.pairs.cpu().numpy().T
        closure = _closure(self.matrix)
        follows = _keys((closure @ closure).tocoo(), self.num_nodes)
        basic = torch.from_numpy(~np.isin(descendant * self.num_nodes + ancestor, follows))
        basic = basic.to(self.pairs.device)
        weights = None if self.weights is None else self.weights[basic]
        return self._of_same_nodes(self.pairs[basic], weights)

    def beyond(self, others: "ClosurePairs | ArrayLike | Tensor") -> Tensor:
        """Return those of other pairs of the same nodes that do not follow from these.

        Parameters
        ----------
        others
            Rows [k, 2]: (ancestor, descendant), or `ClosurePairs`.

        Returns
        -------
        pairs
            int64 [m, 2], each once, by descendant and ancestor.

        Raises
        ------
        ValueError
            If the other pairs are of another number of nodes.
        TaxonomyError
            If a row is no node or a node is its own ancestor.

        Examples
        --------
        >>> ClosurePairs([[0, 1], [1, 2]], num_nodes=4).beyond([[0, 2], [0, 3]]).tolist()
        [[0, 3]]
        """
        if not isinstance(others, ClosurePairs):
            others = self._of_same_nodes(_rows(others).unique(dim=0))
        if others.num_nodes != self.num_nodes:
            raise ValueError(
                f"pairs of {others.num_nodes} nodes for pairs of {self.num_nodes}: row i must be "
                "the same node in both"
            )
        base = torch.tensor([1, self.num_nodes])
        known, keys = ((rows.cpu() * base).sum(1) for rows in (self.reached, others.pairs))
        keys = keys.unique()
        keys = keys[~torch.isin(keys, known)]
        return torch.stack((keys % self.num_nodes, keys // self.num_nodes), 1).to(self.pairs)

    @property
    def reached(self) -> Tensor:
        """These pairs and those that follow from them, int64 [k, 2]."""
        return torch.cat([self.pairs, self.missing])

    def _of_same_nodes(self, pairs: Tensor, weights: Tensor | None = None) -> "ClosurePairs":
        return ClosurePairs(
            pairs,
            num_nodes=self.num_nodes,
            names=self.names,
            weights=weights,
            labels=self.labels,
        )

    def warn_unless_closed(self) -> None:
        """Warn, once, where pairs are missing that follow from others."""
        if "_warned" not in vars(self) and not self.is_closed:
            self._warned = True
            warnings.warn(
                f"{self.num_missing:,} pairs follow from these {len(self):,} by transitivity and "
                f"are not listed, such as {self._missing_example()}, so that they do not count as "
                "ancestors; pairs.closed() adds them",
                UserWarning,
                stacklevel=3,
            )

    def _missing_example(self) -> str:
        """Describe a pair that follows from others and is not listed."""
        shown = [
            str(row) if self.names is None else repr(self.names[row])
            for row in self.missing[0].tolist()
        ]
        return f"(ancestor {shown[0]}, descendant {shown[1]})"

    def require_acyclic(self) -> None:
        """Raise TaxonomyError if a node is an ancestor of one of its ancestors."""
        pieces, piece = connected_components(self.matrix, directed=True, connection="strong")
        if pieces < self.num_nodes:
            row = int(np.flatnonzero(np.bincount(piece)[piece] > 1)[0])
            raise TaxonomyError(
                f"node {row if self.names is None else self.names[row]} is an ancestor of one of "
                "its ancestors: a cycle; one of these pairs is wrong, or the other way round",
                row=row,
            )

    @property
    def matrix(self) -> Any:
        """Sparse matrix [n, n], 1 where the column is an ancestor of the row."""
        ancestor, descendant = self.pairs.cpu().numpy().T
        shape = self.num_nodes, self.num_nodes
        return csr_array((np.ones(len(ancestor), np.int32), (descendant, ancestor)), shape=shape)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the pairs: copies have the same, also of pairs that were read again."""
        return digest(self.pairs)

    def to(self, device: torch.device | str) -> Self:
        """Copy to a device."""
        return moved(self, device)

    def __repr__(self) -> str:
        kind = ", weighted" if self.weights is not None else ""
        return f"ClosurePairs({len(self):,} pairs of {self.num_nodes:,} nodes{kind})"

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: int | Sequence[int] | Tensor) -> Tensor:
        """Pair [2] at an index, or pairs [k, 2] at many."""
        return self.pairs[index_tensor(index, len(self), self.pairs.device)]

    def sample(self, batch_size: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw pairs with replacement, in proportion to their weights.

        Parameters
        ----------
        batch_size
            How many, at least 1.
        generator
            Randomness, on the device of the pairs; torch's global one by default, and among
            processes (`torch.distributed`) a stream of each one's own from it.

        Returns
        -------
        pairs
            [batch_size, 2], int64: (ancestor, descendant).
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; got {batch_size}")
        zero = self.pairs.new_zeros(batch_size)
        total = self._order.mass(zero, zero + len(self))
        return self.pairs[self._order.at(zero, below(total, generator))]

    def _refuse_faults(self) -> None:
        ancestor, descendant = self.pairs.unbind(1)
        outside = ((self.pairs < 0) | (self.pairs >= self.num_nodes)).any(1)
        if outside.any():
            raise self._error(
                f"has a row that is no node; rows run from 0 to {self.num_nodes - 1} (num_nodes, "
                "or the number of names)",
                outside,
            )
        if (ancestor == descendant).any():
            raise self._error("makes a node its own ancestor: leave it out", ancestor == descendant)
        key = descendant * self.num_nodes + ancestor
        order = torch.argsort(key, stable=True)
        again = torch.zeros(len(key), dtype=torch.bool)
        again[order[1:]] = key[order[1:]] == key[order[:-1]]
        if again.any():
            raise self._error(
                "was listed before; list it once, with a weight if it counts more", again
            )

    def _error(self, what: str, fault: Tensor) -> TaxonomyError:
        row = int(fault.nonzero()[0])
        ancestor, descendant = self.pairs[row].tolist()
        if self.names is not None and max(ancestor, descendant) < len(self.names):
            ancestor, descendant = self.names[ancestor], self.names[descendant]
        return TaxonomyError(
            f"pair {row} (ancestor {ancestor}, descendant {descendant}) {what}", row=row
        )


def _closure(matrix: csr_array) -> Any:
    """Transitive closure of a relation, without the diagonal.

    With each product the longest path that is covered doubles.
    """
    while True:
        reached = (matrix + matrix @ matrix).tocoo()
        off = reached.row != reached.col
        at = reached.row[off], reached.col[off]
        longer = csr_array((np.ones(len(at[0]), np.int32), at), shape=matrix.shape)
        if longer.nnz == matrix.nnz:
            return longer
        matrix = longer


def _keys(matrix: Any, n: int) -> NDArray[np.int64]:
    """Entries of a sparse matrix in coordinates, each as one number."""
    return matrix.row.astype(np.int64) * n + matrix.col


def _rows(pairs: ArrayLike | Tensor) -> Tensor:
    """Pairs as int64 [k, 2]."""
    try:
        rows = tensor_of(pairs)
    except (TypeError, ValueError):  # texts, or rows of different lengths
        rows = torch.empty(1)
    if rows.numel() == 0:
        raise TaxonomyError("there are no pairs; a closure has at least one (ancestor, descendant)")
    if rows.ndim != 2 or rows.shape[1] != 2 or rows.is_floating_point():
        raise TaxonomyError(
            "pairs are rows [k, 2] of whole numbers, (ancestor, descendant); for names use "
            "ClosurePairs.from_edges, whose pairs are (child, parent)"
        )
    return rows.to(torch.int64)


def _named(column: pl.Series) -> pl.Series:
    blank = columns.is_blank(column)
    if blank.any():
        row = int(blank.argmax())
        raise TaxonomyError(f"{column.name} is empty: a pair needs both", row=row)
    return column.alias("name")


def _numbers(column: pl.Series) -> np.ndarray:
    numbers = column.cast(pl.Float64, strict=False)
    bad = ~(numbers.is_finite() & (numbers >= 0)).fill_null(False).to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise TaxonomyError(f"weight {column[row]!r} is not a number of at least 0", row=row)
    if not (numbers > 0).any():
        raise TaxonomyError("all weights are zero; leave the column out, or give one a value")
    return numbers.to_numpy()
