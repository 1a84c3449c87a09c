"""`Taxonomy`: a rooted tree of taxa with their ids, names and ranks.

Terms: an *id* identifies a taxon in its source (a taxid). A *key* is an id, or a name or synonym. A
*row* is the place of a node in preorder, 0…n-1 (`Tree`). A *taxon rank* is a level of the
classification, such as "genus". The root has depth 0.
"""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from poincare_taxa.files.atomic import replace_file
from poincare_taxa.files.extras import import_extra
from poincare_taxa.files.html import html_sheet
from poincare_taxa.taxonomy import columns, preorder
from poincare_taxa.taxonomy.columns import Key, TaxonomyError
from poincare_taxa.taxonomy.edges import (
    add_root,
    check_unique,
    cycle_error,
    edge_table,
    find_root,
    nodes_of_edges,
    nodes_of_undirected_edges,
    unused_id,
)
from poincare_taxa.taxonomy.lookup import (
    MAX_CELLS,
    OTHER_RELEASE,
    Found,
    Keys,
    Lookup,
    MergedTaxonWarning,
    check_cells,
    check_paired,
)
from poincare_taxa.taxonomy.tree import Tree
from poincare_taxa.taxonomy.writing import newick

if TYPE_CHECKING:
    import networkx as nx
    import pandas as pd

__all__ = ["MergedTaxonWarning", "Taxonomy", "TaxonomyError", "tree_of"]


_MANY = 100_000  # rows from which a loop that must be compiled, or read from disk, is worth it
# What the first versions had. The next release removes this table.
_MOVED = {
    "node": "Taxonomy.rows(key)",
    "nodes": "Taxonomy.rows(keys)",
    "rows_of_ids": "Taxonomy.rows(keys, missing=-1)",
    "status": "Taxonomy.resolve(keys)",
}


@dataclass(frozen=True, eq=False, repr=False)
class Taxonomy:
    """A rooted tree of taxa; immutable.

    Build one with `from_parents`, `from_edges`, `from_frame`, `from_networkx` or a reader. The
    plain constructor does not check that its arrays are in preorder.

    *Methods* take keys, and what they return are ids. A key is an id (9606 or "9606"), else a
    scientific name, else a synonym; the id of a taxon that was merged into another one leads to
    that one, with a `MergedTaxonWarning`. One key gives one value. Many keys (a list, or a column
    or array of numpy, polars, pandas or torch) give a polars Series with a value for each, in their
    order. Methods of two keys pair one with each of many, or many with as many.

    *Columns* have an entry for each row: ``ids[row]``, ``names[row]``, ``parent[row]``. Arithmetic
    of rows is in `tree`, and `rows` is the bridge: ``tax.lca(9606, 10090)`` is
    ``tax.ids[tax.tree.lca(tax.rows(9606), tax.rows(10090))]``.

    Every method of keys raises `TaxonomyError` if a key is unknown (the message suggests similar
    names), deleted or a homonym (the message lists the taxa), and `TypeError` if it is no key: a
    bool, None, a float, bytes.

    Attributes
    ----------
    tree : Tree
        Preorder arrays, and arithmetic of rows.
    ids : pl.Series [n]
        Int64 or String, unique.
    names : pl.Series [n]
        Scientific names (String); null where the source has none.
    taxon_ranks : pl.Series [n]
        Enum of the ranks that occur, in order of appearance; "no rank" where the source gives none.
    synonyms : pl.DataFrame or None
        Further names: columns ``name``, ``node``, ``name_class``.
    merged : pl.DataFrame or None
        Old ids that were merged into other taxa: columns ``old_id``, ``new_id``.
    deleted : pl.Series or None
        Ids that were deleted.
    source : dict
        Origin of the taxonomy: format, path, hash, date.

    Examples
    --------
    >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals"), ("tabby", "cat")])
    >>> tax.lineage("tabby"), tax.lca("tabby", "dog"), tax.is_ancestor("cat", "dog")
    ('mammals; cat; tabby', 'mammals', False)
    >>> tax.tree_distance("tabby", ["cat", "dog"]).to_list()
    [1, 3]
    """

    tree: Tree
    ids: pl.Series
    names: pl.Series
    taxon_ranks: pl.Series
    synonyms: pl.DataFrame | None = None
    merged: pl.DataFrame | None = None
    deleted: pl.Series | None = None
    source: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        lengths = [len(self.tree), len(self.ids), len(self.names), len(self.taxon_ranks)]
        if len(set(lengths)) != 1:
            raise ValueError(
                f"tree, ids, names and taxon_ranks differ in length: {lengths}; each has an entry "
                "for every node (from_parents builds them all)"
            )
        for name in ("ids", "names", "taxon_ranks"):
            object.__setattr__(self, name, columns.Column(getattr(self, name)))

    def __deepcopy__(self, memo: dict[int, Any]) -> "Taxonomy":
        return self  # immutable: what is copied with it shares it

    # ---------------------------------------------------------------- construction

    @classmethod
    def from_parents(
        cls,
        parent: ArrayLike,
        *,
        ids: pl.Series | Sequence[Key] | None = None,
        names: pl.Series | Sequence[str | None] | None = None,
        taxon_ranks: pl.Series | Sequence[str | None] | None = None,
        branch_lengths: ArrayLike | None = None,
        synonyms: pl.DataFrame | None = None,
        merged: pl.DataFrame | None = None,
        deleted: pl.Series | None = None,
        source: dict[str, Any] | None = None,
    ) -> "Taxonomy":
        """Build a taxonomy from the parent of each node, nodes in any order.

        Parameters
        ----------
        parent
            Position of each node's parent, int [n]; -1, or the node itself, at the root. Children
            keep the order in which they are given.
        ids
            Int or str [n], unique; the positions 0…n-1 where absent.
        names, taxon_ranks
            [n]; a null or empty taxon rank becomes "no rank".
        branch_lengths
            Float [n], length of the edge to the parent.
        synonyms
            Columns ``name``, ``node`` (a position in `parent`), ``name_class``.
        merged, deleted, source
            See the class.

        Raises
        ------
        TaxonomyError
            If there is no node, no root or more than one, a cycle, a parent that is no node, an id
            that occurs twice, a column of another length, or a synonym or an old id of nothing.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([1, -1, 1, 0], ids=["cat", "root", "dog", "lion"])
        >>> tax.ids.to_list(), tax.parent.tolist(), tax.end.tolist()
        (['root', 'cat', 'lion', 'dog'], [-1, 0, 1, 0], [4, 3, 3, 4])
        """
        above = np.asarray(parent)
        given = {"ids": ids, "names": names, "taxon_ranks": taxon_ranks}
        _check_arrays(above, {**given, "branch_lengths": branch_lengths})
        ids = columns.id_column(np.arange(len(above)) if ids is None else ids)
        check_unique(ids)
        return cls._from_nodes(
            _in_preorder(above, ids, columns.string_column("name", names, len(above))),
            ids,
            names,
            taxon_ranks,
            branch_lengths,
            synonyms=synonyms,
            merged=merged,
            deleted=deleted,
            source=source,
        )

    @classmethod
    def _from_nodes(
        cls,
        tree: preorder.Preorder,
        ids: pl.Series,
        names: Any,
        taxon_ranks: Any,
        branch_lengths: Any,
        *,
        synonyms: pl.DataFrame | None = None,
        merged: pl.DataFrame | None = None,
        deleted: pl.Series | None = None,
        source: dict[str, Any] | None = None,
    ) -> "Taxonomy":
        """Bring columns of nodes with distinct ids into the order of a tree."""
        n = len(tree.order)
        names = columns.string_column("name", names, n)
        taxon_ranks = columns.rank_column(taxon_ranks, n)
        # Nodes that are in preorder already need not be gathered.
        order = pl.Series(tree.order)
        is_moved = bool((tree.order != np.arange(n)).any())
        if is_moved:
            ids, names, taxon_ranks = (part.gather(order) for part in (ids, names, taxon_ranks))
        lengths = None
        if branch_lengths is not None:
            lengths = np.asarray(branch_lengths, np.float64)[tree.order]
            lengths[0] = np.nan
        if synonyms is not None:
            row = np.empty(n, np.int32)
            row[tree.order] = np.arange(n, dtype=np.int32)
            _check_nodes(synonyms["node"], n)
            nodes = pl.Series("node", row[synonyms["node"].to_numpy()])
            synonyms = synonyms.select(pl.col("name").cast(pl.String), nodes, "name_class")
        if merged is not None:
            merged = merged.select(
                columns.id_column(merged[name], ids.dtype).alias(name)
                for name in ("old_id", "new_id")
            )
        return cls(
            tree=Tree(tree.parent, tree.end, tree.depth, lengths),
            ids=ids,
            names=names,
            taxon_ranks=taxon_ranks,
            synonyms=synonyms,
            merged=merged,
            deleted=None if deleted is None else columns.id_column(deleted, ids.dtype),
            source=source or {},
        )

    @classmethod
    def from_frame(cls, frame: "pl.DataFrame | pd.DataFrame", **extra: Any) -> "Taxonomy":
        """Build a taxonomy from a table with a row per node, in any order.

        Parameters
        ----------
        frame
            Columns ``id``, ``parent`` (id of the parent; null, or the id itself, at the root) and
            optionally ``name``, ``taxon_rank`` (or ``rank``), ``branch_length``.
        extra
            ``synonyms``, ``merged``, ``deleted``, ``source``, as in `from_parents`.

        Raises
        ------
        TaxonomyError
            As `from_parents`; its ``row`` is the row of `frame` at fault.
        """
        frame = columns.as_frame(frame)
        missing = {"id", "parent"} - set(frame.columns)
        if missing:
            raise TaxonomyError(
                f"no column {sorted(missing)}; the table has {frame.columns}: rename them"
            )
        ids = columns.id_column(frame["id"])
        check_unique(ids)
        given = columns.without_none_words(frame["parent"], ids)
        above = columns.find(columns.sort(ids), columns.parent_column(given, ids))
        orphans = np.flatnonzero((above < 0) & ~columns.is_blank(given))
        if len(orphans):
            row = int(orphans[0])
            name = frame["name"][row] if "name" in frame.columns else None
            raise TaxonomyError(
                f"parent {given[row]} of {columns.label(ids[row], name)} is no node here"
                f"{columns.and_more(len(orphans) - 1)} (is the table cut short?)",
                row=row,
            )

        def column(name: str) -> pl.Series | None:
            return frame[name] if name in frame.columns else None

        _check_arrays(above, {})
        names = columns.string_column("name", column("name"), len(ids))
        tree = _in_preorder(above, ids, names)
        return cls._from_nodes(tree, ids, names, *_about(frame), **extra)

    @classmethod
    def from_rows(cls, tree: Tree, frame: pl.DataFrame, **extra: Any) -> "Taxonomy":
        """Give a tree the columns of a table whose rows are the tree's, in its order.

        Parameters
        ----------
        tree
            The tree. That it is the one of the table's column ``parent`` is not verified.
        frame, extra
            As in `from_frame`; that ids are distinct is not verified.

        Raises
        ------
        TaxonomyError
            If the table has not a row for each of the tree, or a column holds something else.
        """
        if len(frame) != len(tree):
            raise TaxonomyError(f"{len(frame)} rows of a table for a tree of {len(tree)}")
        ids = columns.id_column(frame["id"])
        sorted_tree = preorder.Preorder(
            np.arange(len(tree), dtype=np.int32), tree.parent, tree.end, tree.depth
        )
        return cls._from_nodes(sorted_tree, ids, frame["name"], *_about(frame), **extra)

    @classmethod
    def from_edges(
        cls,
        edges: "pl.DataFrame | pd.DataFrame | NDArray[Any] | Iterable[tuple[Key, Key | None]]",
        *,
        root: Key | None = None,
        undirected: bool = False,
        multi_parent: Literal["error", "first"] = "error",
        **extra: Any,
    ) -> "Taxonomy":
        """Build a taxonomy from (child, parent) pairs, in any order.

        Parameters
        ----------
        edges
            Pairs, an array [k, 2], or a table with columns ``child``, ``parent`` and, describing
            the child, ``name``, ``taxon_rank``, ``branch_length``. A root's parent may be null.
        root
            Id of the root. If it is a node of the edges, only this node and its descendants are
            kept; undirected edges are directed away from it. Otherwise a new node is put above the
            roots of several trees; where ids are integers and `root` is not, `root` is its name and
            its id is an unused one.
        undirected
            Whether the pairs have no direction. Names, ranks and lengths are then not used.
        multi_parent
            Whether a child with several parents is an error, or only its first parent is kept.

        Raises
        ------
        TaxonomyError
            As `from_frame`, and if the edges are not a tree.

        Examples
        --------
        >>> Taxonomy.from_edges([("cat", "mammal"), ("dog", "mammal")])
        Taxonomy(3 nodes, max depth 1, root mammal)
        >>> Taxonomy.from_edges([("cat", "mammal"), ("crow", "bird")], root="animal")
        Taxonomy(5 nodes, max depth 2, root animal)
        """
        table = edge_table(edges)
        if undirected:
            return cls.from_frame(nodes_of_undirected_edges(table, root), **extra)
        nodes = nodes_of_edges(table, multi_parent)
        num_roots, key = 0, None
        if root is not None:
            key = columns.as_id(root, nodes["id"].dtype)
            key = key if key in nodes["id"] else None
            nodes, num_roots = add_root(nodes, root)
        if num_roots == 1 and key is None:
            raise TaxonomyError(
                f"root {root!r} is no node, and the edges already form one tree: leave root out"
            )
        try:
            tax = cls.from_frame(nodes, **extra)
        except TaxonomyError as error:
            row = None if error.row is None else nodes["row"][error.row]
            raise TaxonomyError(str(error), row=row) from error
        return tax if key is None else tax.subtree(key)

    @classmethod
    def from_networkx(
        cls,
        graph: "nx.Graph[Any]",
        *,
        root: Key | None = None,
        multi_parent: Literal["error", "first"] = "error",
    ) -> "Taxonomy":
        """Build a taxonomy from a graph with an edge from each parent to its children.

        Parameters
        ----------
        graph
            A directed tree, or an undirected one, whose edges are then directed away from `root`;
            of several edges between two nodes the first counts. Ids are its nodes (as text, unless
            all are integers). Node attributes ``name`` and ``taxon_rank`` and edge attribute
            ``length`` are read; a value that is missing or nan is none.
        root, multi_parent
            As in `from_edges`.

        Raises
        ------
        TaxonomyError
            As `from_edges`.
        """
        directed: Any = graph if graph.is_directed() else None
        if directed is not None:
            above = {node: list(directed.pred[node]) for node in graph}
        else:
            above = _directed_away(graph, root)
            root = None
        rows = [
            (child, parent, *_attributes(graph, child, parent))
            for child, parents in above.items()
            for parent in parents or [None]
        ]
        child, parent, names, taxon_ranks, lengths = zip(*rows, strict=True) if rows else [()] * 5
        lengths = columns.length_column(columns.as_series(lengths))
        table = pl.DataFrame(
            {
                "child": columns.as_series(child),
                "parent": columns.as_series(parent),
                "name": pl.Series(names, dtype=pl.String),
                "taxon_rank": pl.Series(taxon_ranks, dtype=pl.String),
                **({} if lengths.is_null().all() else {"branch_length": lengths}),
            }
        )
        return cls.from_edges(table, root=root, multi_parent=multi_parent)

    @classmethod
    def from_tree(cls, tree: Tree) -> "Taxonomy":
        """Give a tree ids, which are its rows; it has no names and no ranks.

        Examples
        --------
        >>> tree = Taxonomy.from_parents([-1, 0, 0], ids=["Life", "cat", "dog"]).tree
        >>> Taxonomy.from_tree(tree).children(0).to_list()
        [1, 2]
        """
        n = len(tree)
        names = columns.string_column("name", None, n)
        return cls(tree, columns.id_column(np.arange(n)), names, columns.rank_column(None, n))

    def to_frame(self, keys: Keys | None = None) -> pl.DataFrame:
        """Return a table of taxa: ``id``, ``parent`` (an id), ``name``, ``taxon_rank``.

        All taxa in row order, or those of keys, one or many, in theirs.
        """
        rows = np.arange(len(self)) if keys is None else np.atleast_1d(self.rows(keys))
        at, above = pl.Series(rows), self.tree.parent[rows]
        return pl.DataFrame(
            {
                "id": self.ids.gather(at),
                "parent": self.ids.gather(pl.Series(above).set(pl.Series(above < 0), None)),
                "name": self.names.gather(at),
                "taxon_rank": self.taxon_ranks.gather(at),
            }
        )

    def to_newick(
        self, path: str | Path | None = None, *, labels: Literal["id", "name"] = "id"
    ) -> str | None:
        r"""Return the tree as Newick text, with labels of all nodes and branch lengths if any.

        Parameters
        ----------
        path
            File to write instead, piece by piece; None is then returned.
        labels
            What nodes are called: "id", or "name", the id where there is none. Names may occur
            twice.

        Raises
        ------
        ValueError
            If `labels` is neither.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> Taxonomy.from_edges([("cat", "mammals"), ("Felis sp.", "cat")]).to_newick()
        "(('Felis sp.')cat)mammals;\n"
        """
        if labels not in ("id", "name"):
            raise ValueError(f"labels are 'id' or 'name'; got {labels!r}")
        texts = self.ids.cast(pl.String)
        if labels == "name":
            texts = self._labels(np.arange(len(self)))
        pieces = newick(self.tree.parent, texts, self.tree.lengths)
        if path is None:
            return "".join(pieces)
        with replace_file(path) as draft, draft.open("w", encoding="utf-8") as stream:
            stream.writelines(pieces)
        return None

    def to_skbio(self, *, labels: Literal["id", "name"] = "id") -> Any:
        """Return a ``skbio.TreeNode``, named by ids as text, or by names; needs scikit-bio.

        Each node has attributes ``taxon_name`` and ``taxon_rank``.
        """
        node_type = import_extra("skbio", "bio").TreeNode

        texts = self.ids.cast(pl.String) if labels == "id" else self._labels(np.arange(len(self)))
        lengths = self.tree.lengths
        nodes: list[Any] = []
        columns_ = zip(self.tree.parent.tolist(), texts, self.names, self.taxon_ranks, strict=True)
        for row, (above, text, name, taxon_rank) in enumerate(columns_):
            length = float("nan") if lengths is None else float(lengths[row])
            node = node_type(text, length=length if length == length else None)
            node.taxon_name, node.taxon_rank = name, taxon_rank
            if above >= 0:
                nodes[above].append(node, uncache=False)
            nodes.append(node)
        return nodes[0]

    # ---------------------------------------------------------------- the tree

    def __len__(self) -> int:
        """Return the number of taxa."""
        return len(self.tree.parent)

    def __repr__(self) -> str:
        root = columns.label(self.ids[0], self.names[0])
        return f"Taxonomy({len(self):,} nodes, max depth {self.max_depth}, root {root})"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: size, root, ranks, origin."""
        ranks = self.taxon_ranks.value_counts(sort=True).rows()[:8]
        leaves = int((self.tree.num_children == 0).sum())
        entries = {
            "taxa": f"{len(self):,}, {leaves:,} of them leaves",
            "root": columns.label(self.ids[0], self.names[0]),
            "largest depth": self.max_depth,
            "ranks": ", ".join(f"{rank} {count:,}" for rank, count in ranks),
            "branch lengths": "no" if self.tree.lengths is None else "yes",
        }
        known = [key for key in ("format", "path", "date") if key in self.source]
        entries |= {f"source: {key}": self.source[key] for key in known}
        return html_sheet("Taxonomy", entries)

    def has_rows_of(self, other: "Taxonomy") -> bool:
        """Whether the rows of another taxonomy are the same taxa: equal trees and equal ids."""
        if self is other:
            return True
        return self.tree.fingerprint == other.tree.fingerprint and self.ids.equals(other.ids)

    @property
    def parent(self) -> NDArray[np.int32]:
        """Row of each node's parent, int32 [n]; -1 at the root. See `Tree`."""
        return self.tree.parent

    @property
    def end(self) -> NDArray[np.int32]:
        """End of each node's subtree, int32 [n]. See `Tree`."""
        return self.tree.end

    @property
    def depth(self) -> NDArray[np.int32]:
        """Edges from the root, int32 [n]."""
        return self.tree.depth

    @property
    def branch_lengths(self) -> NDArray[np.float64] | None:
        """Length of the edge to the parent, float64 [n], or None. See `Tree`."""
        return self.tree.lengths

    @property
    def max_depth(self) -> int:
        """Depth of the deepest node."""
        return self.tree.max_depth

    @property
    def num_children(self) -> NDArray[np.int32]:
        """Number of children of each node, int32 [n]."""
        return self.tree.num_children

    @property
    def subtree_size(self) -> NDArray[np.int32]:
        """Number of nodes in each node's subtree, itself included, int32 [n]."""
        return self.tree.subtree_size

    # ---------------------------------------------------------------- queries by key

    def is_ancestor(self, a: Keys, v: Keys) -> Any:
        """Whether taxon `a` is taxon `v` or one of its ancestors: bool, or a Series for many."""
        return _value(self.tree.is_ancestor(*self._paired(a, v, "is_ancestor")))

    def lca(self, a: Keys, b: Keys | None = None) -> Any:
        """Id of the lowest common ancestor of two taxa; of all, where only `a` is given.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals"), ("tabby", "cat")])
        >>> tax.lca("cat", ["dog", "tabby"]).to_list(), tax.lca(["cat", "dog", "tabby"])
        (['mammals', 'cat'], 'mammals')
        """
        if b is not None:
            return self._ids(self.tree.lca(*self._paired(a, b, "lca")))
        rows = np.atleast_1d(self.rows(a))
        if len(rows) == 0:
            raise ValueError("no keys have no common ancestor; give at least one")
        return self._ids(self.tree.lca(rows.min(), rows.max()))  # In preorder, these are enough.

    def tree_distance(self, a: Keys, b: Keys, *, edges: bool = False) -> Any:
        """Sum the branch lengths between two taxa; count the edges where there are no lengths.

        Parameters
        ----------
        a, b
            A key, or many.
        edges
            Whether edges are counted also where there are branch lengths.

        Returns
        -------
        distance
            A float of lengths, an int of edges; a Series for many keys.

        Warns
        -----
        BranchLengthWarning
            If lengths are negative (they count as 0) or missing (as the median of the others).

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 1, 0], branch_lengths=[0, 0.5, 0.25, 2])
        >>> tax.tree_distance(2, 3), tax.tree_distance(2, [3, 1], edges=True).to_list()
        (2.75, [3, 1])
        """
        tree = self.tree.topology if edges else self.tree
        return _value(tree.distance(*self._paired(a, b, "distance")))

    def without_lengths(self) -> "Taxonomy":
        """Return the same taxonomy without branch lengths: distances count edges."""
        return self if self.tree.lengths is None else replace(self, tree=self.tree.topology)

    def distance_matrix(
        self, keys: Keys, others: Keys | None = None, *, max_cells: int = MAX_CELLS
    ) -> NDArray[Any]:
        """Compute the `tree_distance` of every taxon and every other one: [k, m].

        Int32 of edges, or float64 of branch lengths.

        For what takes ``metric="precomputed"``, such as neighbours of scikit-learn and UMAP.
        Distances by edges are whole numbers, and many taxa are equally near:
        `features.neighbour_weights` takes all of a level, where "the k nearest" are arbitrary.

        Parameters
        ----------
        keys
            The taxa of the rows.
        others
            Those of the columns; by default the same.
        max_cells
            Largest number of cells that is not an error, since memory is 4 bytes a cell, or 8 of
            branch lengths.

        Raises
        ------
        TaxonomyError
            If a key is unknown, deleted or ambiguous.
        ValueError
            If the matrix has more than `max_cells` cells.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals"), ("tabby", "cat")])
        >>> tax.distance_matrix(["tabby", "dog"]).tolist()
        [[0, 3], [3, 0]]
        """
        rows = np.atleast_1d(self.rows(keys))
        other_rows = rows if others is None else np.atleast_1d(self.rows(others))
        way_out = "tax.tree.distance(i, j) takes pairs of rows"
        check_cells(len(rows), len(other_rows), self.tree.height.itemsize, max_cells, way_out)
        return self.tree.distance_matrix(rows, other_rows)

    def ancestors(self, keys: Keys) -> pl.Series:
        """Ids from the parent of a taxon up to the root; a list of them for each of many.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("tabby", "cat")])
        >>> tax.ancestors("tabby").to_list(), tax.ancestors(["mammals", "cat"]).to_list()
        (['cat', 'mammals'], [[], ['mammals']])
        """
        rows = self.rows(keys)
        if isinstance(rows, int):
            return self._ids(self.tree.ancestors(rows))
        above = self.tree.lineages(rows)[:, 1:]
        place, step = np.nonzero(above >= 0)
        return self._lists(self._ids(above[place, step]), place, len(rows))

    def children(self, keys: Keys) -> pl.Series:
        """Ids of the children of a taxon, in the order of the source; lists of them for many."""
        rows, first = self.rows(keys), self.tree.first_child
        if isinstance(rows, int):
            return self._ids(self.tree.children(rows))
        place, member = preorder.ranges(first[rows], first[rows + 1])
        return self._lists(self._ids(self.tree.by_parent[member]), place, len(rows))

    def leaves(self, keys: Keys) -> pl.Series:
        """Ids of the taxa without children below a taxon; lists of them for many.

        A taxon without children is its own.
        """
        rows, leaves = self.rows(keys), self.tree.leaf_rows
        if isinstance(rows, int):
            return self._ids(self.tree.leaves(rows))
        first, stop = (np.searchsorted(leaves, edge) for edge in (rows, self.tree.end[rows]))
        place, member = preorder.ranges(first, stop)
        return self._lists(self._ids(leaves[member]), place, len(rows))

    def ancestor_at_rank(self, keys: Keys, taxon_rank: str) -> Any:
        """Id of the nearest self-or-ancestor of exactly a taxon rank; None, or null, without one.

        Raises
        ------
        ValueError
            If no taxon has this rank.

        Examples
        --------
        >>> ranks = [None, "genus", "species"]
        >>> tax = Taxonomy.from_parents([-1, 0, 1], ids=["Life", "Felis", "F. catus"],
        ...     taxon_ranks=ranks)
        >>> tax.ancestor_at_rank("F. catus", "genus")
        'Felis'
        """
        rows, marked = self.rows(keys), self.has_rank(taxon_rank)
        if isinstance(rows, int):
            above = [row for row in (rows, *self.tree.ancestors(rows)) if marked[row]]
            return self.ids[above[0]] if above else None
        found = pl.Series(self.tree.nearest_marked(marked)[rows])
        return self.ids.gather(found.set(found < 0, None))

    def has_rank(self, taxon_rank: str) -> NDArray[np.bool_]:
        """Whether each row has exactly a taxon rank, bool [n].

        Raises
        ------
        ValueError
            If no taxon has this rank.
        """
        ranks = self.taxon_ranks.unique().cast(pl.String)
        if taxon_rank not in ranks:
            known = ", ".join(ranks.sort())
            raise ValueError(f"no taxon has the rank {taxon_rank!r}; the ranks here are: {known}")
        return (self.taxon_ranks == taxon_rank).to_numpy()

    def lineage(self, keys: Keys) -> Any:
        """Names from the root down to a taxon, with "; " between; ids for taxa without.

        Text, or a Series of text for many keys.
        """
        rows = self.rows(keys)
        above = self.tree.lineages(rows)[:, ::-1]
        place, step = np.nonzero(above >= 0)
        found = self._lists(self._labels(above[place, step]), place, len(above)).list.join("; ")
        return found[0] if isinstance(rows, int) else found

    def subtree(self, key: Key) -> "Taxonomy":
        """Return the taxonomy of a taxon and its descendants.

        Parameters
        ----------
        key
            Id or name of the taxon.
        """
        top = self.rows(key)
        if not isinstance(top, int):
            raise TypeError(f"a subtree is that of one taxon; got {len(top)} keys")
        rows = slice(top, int(self.tree.end[top]))
        synonyms = self.synonyms
        if synonyms is not None:
            inside = pl.col("node").is_between(rows.start, rows.stop, closed="left")
            synonyms = synonyms.filter(inside).with_columns(pl.col("node") - top)
        return replace(
            self,
            tree=self.tree.subtree(top),
            ids=self.ids[rows],
            names=self.names[rows],
            taxon_ranks=self.taxon_ranks[rows],
            synonyms=synonyms,
            source={**self.source, "subtree": self.ids[top]},
        )

    def centre(self) -> Key:
        """Return the id of the taxon whose farthest taxon is nearest, beside the midpoint.

        That is the end of an edge that the midpoint of the longest path is on, or the midpoint
        itself. Distances are those of `tree_distance`.
        """
        rows = np.arange(len(self))
        # The farthest row from any is an end of a longest path, and the farthest from that the
        # other end; no row is farther from another one than from these two.
        one = int(self.tree.height.argmax())
        from_one = self.tree.distance(one, rows)
        from_other = self.tree.distance(int(from_one.argmax()), rows)
        return self.ids[int(np.maximum(from_one, from_other).argmin())]

    def reroot(self, key: Key | None = None) -> "Taxonomy":
        """Return the same taxa with another root; distances between taxa stay the same.

        Ancestors, depths and subtrees are others. A root in the middle halves the radius that an
        embedding needs for the same distances: so less precision is lost.

        Parameters
        ----------
        key
            Id or name of the root; by default the `centre`.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 1, 2], branch_lengths=[0, 1.0, 2.0, 4.0])
        >>> other = tax.reroot()
        >>> other.ids.to_list(), other.branch_lengths[1:].tolist()
        ([2, 1, 0, 3], [2.0, 1.0, 4.0])
        """
        top = self.rows(self.centre() if key is None else key)
        if not isinstance(top, int):
            raise TypeError(f"a root is one taxon; got {len(top)} keys")
        # Edges from the new root up to the old one turn round, and keep their lengths.
        path = self.tree.lineages(np.array([top]))[0]
        path = path[path >= 0]
        parent, lengths = self.tree.parent.copy(), self.tree.lengths
        parent[path[1:]], parent[top] = path[:-1], -1
        if lengths is not None:
            lengths = lengths.copy()
            lengths[path[1:]], lengths[top] = lengths[path[:-1]], 0
        return Taxonomy.from_parents(
            parent,
            ids=self.ids,
            names=self.names,
            taxon_ranks=self.taxon_ranks,
            branch_lengths=lengths,
            synonyms=self.synonyms,
            merged=self.merged,
            deleted=self.deleted,
            source={**self.source, "root": self.ids[top]},
        )

    def root_at_midpoint(self) -> "Taxonomy":
        """Return the same taxa with the root in the middle of a longest path.

        The two taxa farthest apart are then equally far from the root: in a phylogeny whose
        lineages evolve at one rate the oldest ancestor is there (midpoint rooting). Distances
        between taxa stay the same. Where the middle is on an edge, the root is a new taxon called
        "midpoint", with an id that is not in use; all others are kept, the former root too.

        Returns
        -------
        taxonomy
            Where there is a new taxon, lengths that were negative or missing are those that counted
            in their place (`Tree.height`).

        Raises
        ------
        ValueError
            If the middle is on an edge, and the taxonomy has no branch lengths, that is no halves.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "root"), ("dog", "root")])
        >>> lengths = tax.to_frame().with_columns(branch_length=pl.Series([None, 1.0, 3.0]))
        >>> other = Taxonomy.from_frame(lengths).root_at_midpoint()
        >>> other.ids.to_list(), other.branch_lengths[1:].tolist()
        (['midpoint', 'root', 'cat', 'dog'], [1.0, 1.0, 2.0])
        """
        # 1. The farthest row is an end of a longest path, and the middle is above that end.
        tree, n = self.tree, len(self)
        end = int(tree.height.argmax())
        length = tree.distance(end, np.arange(n)).max()
        above = tree.lineages(end)[0]
        walked = tree.height[end] - tree.height[above]
        # 2. A taxon in the middle becomes the root; of several at one place the topmost.
        is_middle = np.isclose(2 * walked, length, rtol=1e-12, atol=0)
        if is_middle.any():
            return self.reroot(self.ids[int(above[is_middle][-1])])
        if tree.lengths is None:
            raise ValueError(
                f"the middle of the longest path, of {length} edges, is on an edge, and without "
                "branch lengths an edge has no halves; use reroot(), whose root is beside it"
            )
        # 3. Else a new taxon divides the edge of the middle.
        upper = int(np.searchsorted(2 * walked, length))
        parent = np.append(tree.parent, above[upper])
        parent[above[upper - 1]] = n
        known = tree.lengths >= 0
        lengths = np.where(known, tree.lengths, tree.height - tree.height[tree.parent])
        lengths = np.append(lengths, walked[upper] - length / 2)
        lengths[above[upper - 1]] = length / 2 - walked[upper - 1]
        old = [] if self.merged is None else [self.merged["old_id"]]
        old += [] if self.deleted is None else [self.deleted]
        key = unused_id(pl.concat([self.ids, *old]), "midpoint")
        return Taxonomy.from_parents(
            parent,
            ids=self.ids.extend_constant(key, 1),
            names=self.names.extend_constant("midpoint", 1),
            taxon_ranks=self.taxon_ranks.extend_constant(None, 1),
            branch_lengths=lengths,
            synonyms=self.synonyms,
            merged=self.merged,
            deleted=self.deleted,
            source=self.source,
        ).reroot(key)

    def prune(self, keys: Keys) -> "Taxonomy":
        """Return the taxonomy of some taxa and their ancestors, up to the same root.

        Examples
        --------
        >>> tax = Taxonomy.from_edges([("cat", "mammals"), ("dog", "mammals"), ("tabby", "cat")])
        >>> tax.prune("tabby").ids.to_list()
        ['mammals', 'cat', 'tabby']
        """
        return self.at_rows(self.rows_above(keys))

    def rows_above(self, keys: Keys) -> NDArray[np.int64]:
        """Rows of taxa and of all their ancestors, ascending: those that `prune` keeps."""
        above = np.unique(self.tree.lineages(np.atleast_1d(self.rows(keys))))
        return above[above >= 0] if len(above) else np.zeros(1, np.int64)

    def at_rows(self, rows: NDArray[np.int64]) -> "Taxonomy":
        """Return the taxonomy of ascending rows that have all their ancestors among them.

        Raises
        ------
        ValueError
            If a parent is missing.
        """
        kept = np.zeros(len(self), np.bool_)
        kept[self.tree.check_rows(rows)] = True
        above = self.tree.parent[rows]
        if not (kept[np.maximum(above, 0)].all() and kept[0]):
            raise ValueError("rows of a taxonomy need those of all their ancestors beside them")
        place = np.cumsum(kept, dtype=np.int32)
        at, lengths, synonyms = pl.Series(rows), self.tree.lengths, self.synonyms
        if synonyms is not None:
            synonyms = synonyms.filter(pl.Series(kept[synonyms["node"].to_numpy()]))
            node = place[synonyms["node"].to_numpy()] - 1
            synonyms = synonyms.with_columns(pl.Series("node", node.astype(np.int32)))
        return replace(
            self,
            tree=Tree(
                np.where(above < 0, -1, place[above] - 1).astype(np.int32),
                place[self.tree.end[rows] - 1],
                self.tree.depth[rows],
                None if lengths is None else lengths[rows],
            ),
            ids=self.ids.gather(at),
            names=self.names.gather(at),
            taxon_ranks=self.taxon_ranks.gather(at),
            synonyms=synonyms,
            source={**self.source, "pruned": True},
        )

    # ---------------------------------------------------------------- looking taxa up

    def resolve(self, keys: Keys) -> pl.DataFrame:
        """Return what became of keys, found or not; nothing is raised for those that are missing.

        Parameters
        ----------
        keys
            An id or a name, or many: a list, or a column of numpy, polars, pandas or torch.

        Returns
        -------
        found
            One row per key, in their order: ``key`` (as text), ``status`` ("active", "merged" into
            another taxon, "deleted", "unknown", or "homonym", a name of several taxa), and ``id``,
            ``name``, ``taxon_rank`` of the taxon, null where there is none.

        Raises
        ------
        TypeError
            If a key is no int and no str.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0], ids=[1, 7], names=["root", "Felis"])
        >>> tax.resolve([7, "Felis", 9]).rows()[1:]
        [('Felis', 'active', 7, 'Felis', 'no rank'), ('9', 'unknown', None, None, None)]
        """
        found = self._lookup.resolve(keys)
        at = pl.Series(found.row).set(pl.Series(found.row < 0), None)
        return pl.DataFrame(
            {
                "key": found.keys.values.cast(pl.String),
                "status": found.status,
                "id": self.ids.gather(at),
                "name": self.names.gather(at),
                "taxon_rank": self.taxon_ranks.gather(at),
            }
        )

    def rows(self, keys: Keys, *, missing: int | Literal["raise"] = "raise") -> Any:
        """Rows of taxa: the bridge from keys to `tree` and to columns.

        Parameters
        ----------
        keys
            A key, or many. A merged id gives the taxon that it was merged into, with a
            `MergedTaxonWarning`.
        missing
            What a key that leads to no taxon gives: an error, or this number, such as -1.

        Returns
        -------
        rows
            An int for one key, else int64 [k].

        Raises
        ------
        TaxonomyError
            If a key is unknown (the message suggests similar names), deleted or a homonym (the
            message lists the taxa); of many keys the message has the number and the first few.
        TypeError
            If a key is no int and no str.

        Examples
        --------
        >>> tax = Taxonomy.from_parents([-1, 0, 1], ids=[1, 7, 9], names=["root", "Felis", None])
        >>> tax.rows("Felis"), tax.rows([9, 1]).tolist(), tax.rows([7, 8], missing=-1).tolist()
        (1, [2, 0], [1, -1])
        """
        if (row := self._lookup.row_of_one(keys)) is not None:
            return row
        found = self._lookup.resolve(keys)
        lost = np.flatnonzero(found.row < 0)
        if len(lost) and missing == "raise":
            raise TaxonomyError(self._no_taxon(found, lost) + self._note())
        merged = np.flatnonzero((found.status == "merged").to_numpy())
        if len(merged):
            first = int(merged[0])
            one = f"{found.keys.values[first]} was merged into {found.into[first]}"
            warnings.warn(
                f"taxon {one}, which is used"
                if found.keys.single
                else f"{len(merged)} of {len(found.row)} ids were merged into others, which are "
                f"used: {one}",
                MergedTaxonWarning,
                2,
            )
        if missing != "raise":
            found.row[lost] = missing
        return int(found.row[0]) if found.keys.single else found.row

    def __contains__(self, key: object) -> bool:
        """Whether a key leads to a taxon."""
        if self._lookup.row_of_one(key) is not None:
            return True
        found = self._lookup.resolve(key)
        return found.keys.single and bool(found.row[0] >= 0)

    def __iter__(self) -> Iterator[Key]:
        """Ids in the order of the rows."""
        return iter(self.ids)

    def __sklearn_clone__(self) -> "Taxonomy":
        """Return itself: clones of an estimator of scikit-learn share what is immutable."""
        return self

    @cached_property
    def _lookup(self) -> Lookup:
        return Lookup(self.ids, self.names, self.synonyms, self.merged, self.deleted)

    def _no_taxon(self, found: Found, lost: NDArray[np.integer]) -> str:
        """Message of keys that lead to no taxon: why one does, or how many of them and which."""
        if not found.keys.single:
            shown = [
                f"{found.keys.shown(i)} is {_what(found.status[int(i)], found.into[int(i)])}"
                for i in lost[:5]
            ]
            return (
                f"{len(lost)} of {len(found.row)} keys are not in the taxonomy: {', '.join(shown)}"
                f"{columns.and_more(len(lost) - 5)}"
            )
        key, status, into = found.keys.shown(0), found.status[0], found.into[0]
        if status == "deleted":
            return (
                f"taxon {key} was deleted from the taxonomy and has no successor: leave it out, or "
                "take its parent of an older release"
            )
        if into is not None:
            return f"taxon {key} is {_what(status, into)}"
        name = str(found.keys.values[0])
        if status == "homonym":
            return self._lookup.homonyms(name, self._place)
        if not found.keys.is_text[0]:
            return f"no taxon has the id {key}{OTHER_RELEASE}"
        return f"no taxon has the id or name {key}{self._lookup.suggestions(name)}"

    def _note(self) -> str:
        """Return what the source lacks, for errors about keys that are not found."""
        note = self.source.get("note")
        return f" ({note})" if note else ""

    def _place(self, row: int) -> str:
        """Taxon rank and shortened lineage of a row, which distinguish homonyms."""
        names = self._labels(np.append(self.tree.ancestors(row)[::-1], row)).to_list()
        brief = "; ".join(names if len(names) <= 7 else [*names[:3], "…", *names[-3:]])
        return f"{self.taxon_ranks[row]}, in {brief}"

    def _labels(self, rows: NDArray[np.integer]) -> pl.Series:
        """Names of rows; ids of those without."""
        at = pl.Series(rows)
        return self.names.gather(at).fill_null(self.ids.gather(at).cast(pl.String))

    def _ids(self, rows: Any) -> Any:
        """Id of a row, or ids of many."""
        return self.ids[rows] if np.ndim(rows) == 0 else self.ids.gather(pl.Series(rows))

    def _paired(self, a: Keys, b: Keys, what: str) -> tuple[Any, Any]:
        """Rows of pairs of keys: one with each of many, or many with as many."""
        rows_a, rows_b = self.rows(a), self.rows(b)
        check_paired(rows_a, rows_b, f"tax.tree.{what}(tax.rows(a)[:, None], tax.rows(b))")
        return rows_a, rows_b

    @staticmethod
    def _lists(members: pl.Series, place: NDArray[np.integer], k: int) -> pl.Series:
        """Gather members into k lists: each belongs to the list of its place."""
        flat = pl.DataFrame({"place": pl.Series(place).set_sorted(), "member": members})
        lists = flat.group_by("place", maintain_order=True).agg("member")
        every = pl.DataFrame({"place": np.arange(k)})
        found = every.join(lists, on="place", how="left", maintain_order="left")["member"]
        return found.fill_null([]).alias(members.name)

    # ---------------------------------------------------------------- networkx

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if name in _MOVED:
                raise AttributeError(f"Taxonomy.{name} is {_MOVED[name]} now")
            raise AttributeError(f"'Taxonomy' object has no attribute {name!r}")

    def to_networkx(self) -> "nx.DiGraph[Any]":
        """Return a graph with an edge from each parent to its children.

        Nodes are ids, with attributes ``name`` and ``taxon_rank``; edges carry ``length`` where
        there are branch lengths.
        """
        import networkx as nx  # Imported here: it takes a sixth of a second.

        graph = nx.DiGraph()
        ids, lengths = self.ids.to_list(), self.tree.lengths
        for key, name, taxon_rank in zip(ids, self.names, self.taxon_ranks, strict=True):
            graph.add_node(key, name=name, taxon_rank=taxon_rank)
        for row in range(1, len(self)):
            edge = ids[self.tree.parent[row]], ids[row]
            graph.add_edge(*edge, **({} if lengths is None else {"length": lengths[row]}))
        return graph


def _about(frame: pl.DataFrame) -> tuple[pl.Series | None, pl.Series | None]:
    """Taxon ranks and branch lengths of a table, where it has them."""
    rank = "taxon_rank" if "taxon_rank" in frame.columns else "rank"
    lengths = frame.get_column("branch_length", default=None)
    lengths = None if lengths is None else columns.length_column(lengths)
    return frame.get_column(rank, default=None), lengths


def tree_of(source: Taxonomy | Tree) -> Tree:
    """Return the tree of a taxonomy; a tree is returned as it is.

    Raises
    ------
    TypeError
        If the source is neither.
    """
    if isinstance(source, Taxonomy):
        return source.tree
    if isinstance(source, Tree):
        return source
    raise TypeError(
        f"a Taxonomy (pt.read(path)) or its tree is needed; got {type(source).__name__}"
    )


def _check_arrays(parent: NDArray[Any], given: dict[str, Any]) -> None:
    """Raise TaxonomyError unless parents are whole numbers and every column is as long as they."""
    n = len(parent)
    if n == 0:
        raise TaxonomyError("there are no nodes; a taxonomy has at least a root")
    if parent.dtype.kind not in "iu":
        raise TaxonomyError(
            f"parents are positions of nodes, whole numbers, -1 at the root; got {parent.dtype}"
            " (for pairs of ids, use from_edges)"
        )
    for what, column in given.items():
        if column is not None and len(column) != n:
            raise TaxonomyError(f"{len(column)} {what} for {n} nodes; give one for each")


def _check_nodes(nodes: pl.Series, n: int) -> None:
    """Raise TaxonomyError unless every synonym is that of a node."""
    outside = ~nodes.is_between(0, n - 1).fill_null(False)
    if outside.any():
        row = int(outside.arg_max() or 0)
        raise TaxonomyError(
            f"synonym {row} is one of node {nodes[row]}, and nodes run from 0 to {n - 1}; is the "
            "table that of another taxonomy?",
            row=row,
        )


def _in_preorder(parent: NDArray[Any], ids: pl.Series, names: pl.Series) -> preorder.Preorder:
    """Renumber nodes in preorder; raise TaxonomyError unless they form one tree."""
    n = len(parent)
    outside = np.flatnonzero((parent < -1) | (parent >= n))
    if len(outside):
        row = int(outside[0])
        taxon = columns.label(ids[row], names[row])
        raise TaxonomyError(
            f"parent {parent[row]} of {taxon} is no node; nodes run from 0 to {n - 1}", row=row
        )
    if n >= _MANY and (tree := preorder.as_it_is(parent)) is not None:
        return tree
    parent = parent.astype(np.int32)
    tree = preorder.renumber(parent, find_root(parent, ids, names))
    if len(tree.order) < n:
        reached = np.zeros(n, np.bool_)
        reached[tree.order] = True
        raise cycle_error(parent, int(np.argmin(reached)), ids, names)
    return tree


def _what(status: str, into: Key | None) -> str:
    if into is not None:
        return f"{status} (merged into {into}, which is not in this taxonomy)"
    return "a homonym" if status == "homonym" else status


def _value(found: NDArray[Any]) -> Any:
    """Convert what a method found to a value of Python for one key, to a Series for many."""
    return found.item() if np.ndim(found) == 0 else pl.Series(found)


def _directed_away(graph: "nx.Graph[Any]", root: Key | None) -> dict[Any, list[Any]]:
    """Parents of each node of an undirected tree, away from its root."""
    nodes = nodes_of_undirected_edges(edge_table(list(graph.edges())), root, list(graph))
    ids = columns.as_series(list(graph)).cast(pl.String)  # 1.0 is the id 1
    node_of = dict(zip(ids, graph, strict=True))
    return {
        node_of[str(child)]: [] if parent is None else [node_of[str(parent)]]
        for child, parent in nodes.rows()
    }


def _attributes(
    graph: "nx.Graph[Any]", child: Any, parent: Any
) -> tuple[str | None, str | None, Any]:
    """Name and taxon rank of a node of a graph, and the length of the edge to its parent."""
    edge: Any = {} if parent is None else graph.get_edge_data(parent, child)
    if graph.is_multigraph() and parent is not None:
        edge = next(iter(edge.values()))
    values = (*(graph.nodes[child].get(key) for key in ("name", "taxon_rank")), edge.get("length"))
    name, rank, length = (None if value != value else value for value in values)  # nan is none
    return (
        None if name is None else str(name),
        None if rank is None else str(rank),
        length,
    )
