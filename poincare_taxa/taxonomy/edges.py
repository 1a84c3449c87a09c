"""Tables of edges converted to tables of nodes, and errors of tables that are no tree."""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from poincare_taxa.taxonomy import preorder
from poincare_taxa.taxonomy.columns import (
    Key,
    TaxonomyError,
    and_more,
    as_frame,
    as_id,
    as_series,
    count_distinct,
    find,
    id_column,
    is_blank,
    label,
    parent_column,
    sort,
    whole_numbers,
    without_none_words,
)

__all__ = [
    "add_root",
    "check_unique",
    "cycle_error",
    "edge_table",
    "find_root",
    "nodes_of_edges",
    "nodes_of_undirected_edges",
]


def edge_table(
    edges: pl.DataFrame | NDArray[Any] | Iterable[Sequence[Key | None]],
) -> pl.DataFrame:
    """Make a table whose ``child`` and ``parent`` have one type, Int64 or String.

    Raises
    ------
    TaxonomyError
        If there are no edges, or they are no pairs; with the row at fault where there is one.
    """
    if hasattr(edges, "columns"):
        table = as_frame(edges)
        if missing := {"child", "parent"} - set(table.columns):
            raise TaxonomyError(
                f"no column {sorted(missing)}; the table has {table.columns}: rename them"
            )
    elif hasattr(edges, "__array__"):
        edges = np.asarray(edges)
        if edges.ndim != 2 or edges.shape[1] != 2:
            raise TaxonomyError(
                f"edges have the shape {edges.shape}, not [k, 2]: a row is (child, parent)"
            )
        table = pl.DataFrame({"child": as_series(edges[:, 0]), "parent": as_series(edges[:, 1])})
    else:
        pairs = list(edges)
        for row, pair in enumerate(pairs):
            if (
                not isinstance(pair, Sequence | np.ndarray)
                or isinstance(pair, str)
                or len(pair) != 2
            ):
                raise TaxonomyError(f"edge {row} is {pair!r}, not (child, parent)", row=row)
        child, parent = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
        table = pl.DataFrame({"child": as_series(child), "parent": as_series(parent)})
    if len(table) == 0:
        raise TaxonomyError("there are no edges; a taxonomy has at least one (child, parent)")
    child = whole_numbers(table["child"].alias("id"))
    parent = without_none_words(table["parent"], child)
    if child.dtype.is_integer():
        numbers = parent.cast(pl.Int64, strict=False)
        if numbers.null_count() == parent.null_count():
            parent = numbers
    whole = child.dtype.is_integer() and (parent.dtype.is_integer() or parent.dtype == pl.Null)
    ids = id_column(child, pl.Int64() if whole else pl.String())
    return table.with_columns(ids.alias("child"), parent_column(parent, ids).alias("parent"))


def nodes_of_edges(table: pl.DataFrame, multi_parent: Literal["error", "first"]) -> pl.DataFrame:
    """Make one row per node (``id``, ``parent``, …): children as listed, then the other parents.

    Column ``row`` is the first row of the edges with the node as a child, or as a parent for those
    that are no child.

    Raises
    ------
    TaxonomyError
        If a child is listed more than once and `multi_parent` is "error".
    """
    if multi_parent not in ("error", "first"):
        raise ValueError(f"multi_parent is 'error' or 'first'; got {multi_parent!r}")
    first = table["child"].is_first_distinct()
    if not first.all() and multi_parent == "error":
        raise _multi_parent_error(table, first)
    nodes = table.with_row_index("row").filter(first).rename({"child": "id"})
    parents = nodes.filter(nodes["parent"].is_first_distinct() & nodes["parent"].is_not_null())
    roots = parents.filter(~parents["parent"].is_in(nodes["id"].implode()))
    return pl.concat([nodes, roots.select(pl.col("parent").alias("id"), "row")], how="diagonal")


def _multi_parent_error(table: pl.DataFrame, first: pl.Series) -> TaxonomyError:
    """Describe children that are listed more than once."""
    row = int(first.arg_min() or 0)
    repeated = table.filter(~first)["child"].unique(maintain_order=True)
    several = (
        table.filter(pl.col("child").is_in(repeated.head(1000).implode()))
        .group_by("child", maintain_order=True)
        .agg(pl.col("parent").unique(maintain_order=True))
        .filter(pl.col("parent").list.len() > 1)
    )
    if len(several) == 0:
        return TaxonomyError(
            f"{table['child'][row]!r} is listed twice{and_more(len(repeated) - 1)}"
            " (multi_parent='first' keeps the first)",
            row=row,
        )
    examples = [
        f"{child!r} below {' and '.join(map(repr, parents[:2]))}{and_more(len(parents) - 2)}"
        for child, parents in several.head(3).rows()
    ]
    return TaxonomyError(
        f"{len(repeated)} nodes are listed more than once, so this is not a tree:"
        f" {'; '.join(examples)}. multi_parent='first' keeps each one's first parent. Are child and"
        " parent the other way round (child= and parent= of read_edges, graph.reverse())? Edges"
        " without direction need undirected=True (a graph: graph.to_undirected())",
        row=row,
    )


def add_root(nodes: pl.DataFrame, root: Key) -> tuple[pl.DataFrame, int]:
    """Add a node above every root of a table of nodes; also return the former number of roots."""
    ids = nodes["id"]
    key = as_id(root, ids.dtype)
    if key is None or key in ids:
        name, key = str(root), unused_id(ids)
    else:
        name = None
    is_root = pl.Series(is_blank(nodes["parent"])) | (nodes["parent"] == ids)
    below = nodes.with_columns(nodes["parent"].set(is_root, None).fill_null(key))
    top = pl.DataFrame({"id": [key], "name": [name]}, schema={"id": ids.dtype, "name": pl.String})
    return pl.concat([top, below], how="diagonal"), int(is_root.sum())


def unused_id(ids: pl.Series, word: str = "root") -> Key:
    """Return an id that no node has: the least natural number, or a word with underscores."""
    if ids.dtype == pl.String:
        key = word
        while key in ids:
            key += "_"
        return key
    taken = np.unique(ids.filter(ids >= 0).to_numpy())
    gap = np.flatnonzero(taken != np.arange(len(taken)))
    return int(gap[0]) if len(gap) else len(taken)


def nodes_of_undirected_edges(
    table: pl.DataFrame, root: Key | None, nodes: Sequence[Any] | None = None
) -> pl.DataFrame:
    """Direct the edges of an undirected tree away from its root.

    Parameters
    ----------
    table
        As `edge_table` makes it.
    root
        Id of the root.
    nodes
        All nodes, where some may have no edge.

    Returns
    -------
    nodes
        Columns ``id``, ``parent``, in order of appearance.

    Raises
    ------
    TaxonomyError
        If the root is no node, or the edges are no tree: loops, several parts, cycles.
    """
    if root is None:
        raise TaxonomyError("edges without direction need root=<id of the node that is the root>")
    # Imported here: it takes a tenth of a second.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, connected_components

    # 1. Number the nodes in order of appearance, and find the root.
    ends = table.select("child", "parent").drop_nulls()
    ids = pl.Series("id", np.column_stack(list(ends)).ravel()).unique(maintain_order=True)
    ids = ids.cast(table["child"].dtype)
    if nodes is not None:
        ids = ids.extend(id_column(nodes, ids.dtype)).unique(maintain_order=True)
    index, n = sort(ids), len(ids)
    at = as_id(root, ids.dtype)
    start = -1 if at is None else int(find(index, pl.Series([at], dtype=ids.dtype))[0])
    if start < 0:
        raise TaxonomyError(
            f"root {root!r} is no node of these edges; it must be one of them, such as {ids[0]!r}"
        )
    # 2. Distinct edges, each with the smaller number first; a tree has n − 1 and is connected.
    pairs = np.sort(np.column_stack([find(index, ends["child"]), find(index, ends["parent"])]))
    pairs = np.unique(pairs, axis=0)
    loops = np.flatnonzero(pairs[:, 0] == pairs[:, 1])
    if len(loops):
        raise TaxonomyError(
            f"an edge joins {ids[int(pairs[loops[0], 0])]!r} to itself; a tree has none, so leave "
            "it out"
        )
    graph = csr_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    graph = graph + graph.T
    parts, part = connected_components(graph, directed=False)
    if parts > 1:
        apart = int((part != part[start]).argmax())
        raise TaxonomyError(
            f"the edges fall into {parts} parts: {ids[apart]!r} cannot be reached from {root!r}; "
            "are edges missing?"
        )
    if len(pairs) != n - 1:
        raise TaxonomyError(
            f"{len(pairs)} edges between {n} nodes are not a tree, which would have {n - 1}:"
            " there are cycles, so distances in this graph are not those of any taxonomy"
        )
    # 3. Parents are the predecessors of a breadth-first search from the root.
    _, above = breadth_first_order(graph, start, directed=False)
    parents = ids.gather(pl.Series(np.maximum(above, 0))).scatter(start, None)
    return pl.DataFrame({"id": ids, "parent": parents})


# -------------------------------------------------------------------- what is not a tree


def check_unique(ids: pl.Series) -> None:
    """Raise TaxonomyError if an id occurs twice."""
    if (distinct := count_distinct(ids)) == len(ids):
        return
    row = int(ids.is_first_distinct().arg_min() or 0)
    first = int((ids == ids[row]).arg_max() or 0)
    raise TaxonomyError(
        f"id {ids[row]!r} occurs twice, in rows {first} and {row}"
        f"{and_more(len(ids) - distinct - 1)}; every node has one row (names may repeat, ids not)",
        row=row,
    )


def find_root(parent: NDArray[np.int32], ids: pl.Series, names: pl.Series) -> int:
    """Return the only node that has no parent, or is its own parent.

    Raises
    ------
    TaxonomyError
        If there is no such node, or more than one.
    """
    own = parent == np.arange(len(parent))
    roots = np.flatnonzero((parent == -1) | own)
    if len(roots) == 1:
        return int(roots[0])
    if len(roots) == 0:
        raise cycle_error(parent, 0, ids, names)

    def called(row: np.integer) -> str:
        return label(ids[int(row)], names[int(row)])

    loops = roots[own[roots]]
    if len(roots) - len(loops) == 1:
        root = roots[~own[roots]][0]
        raise TaxonomyError(
            f"{called(loops[0])} is its own parent, but the root is {called(root)};"
            " only the root may be its own parent",
            row=int(loops[0]),
        )
    raise TaxonomyError(
        f"{len(roots)} trees, with the roots {', '.join(called(root) for root in roots[:3])}"
        f"{and_more(len(roots) - 3)}; a taxonomy has one. Are parents missing? An edge list is"
        " joined by root=<a new id>, and root=<one of the roots> keeps only what is below that",
        row=int(roots[1]),
    )


def cycle_error(
    parent: NDArray[np.int32], start: int, ids: pl.Series, names: pl.Series
) -> TaxonomyError:
    """Describe the cycle that the ancestors of a node run into."""
    cycle = preorder.find_cycle(parent, start)
    shown = [label(ids[node], names[node]) for node in [*cycle, cycle[0]]]
    if len(shown) > 7:
        shown[5:-1] = ["…"]
    if len(cycle) == 1:
        return TaxonomyError(
            f"{shown[0]} is its own parent; only the root may be its own parent", row=cycle[0]
        )
    return TaxonomyError(
        f"the parents run in a cycle of {len(cycle)}: {' → '.join(shown)}; one of these links is "
        "wrong, or child and parent are the other way round",
        row=cycle[0],
    )
