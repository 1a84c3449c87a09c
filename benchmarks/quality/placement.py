"""New taxa and new releases: placed points beside a copy of an ancestor's, and a fresh embedding.

Taxa are left out of a tree, the rest is embedded, and they are placed again; or an embedding of the
NCBI taxonomy of 2013 is migrated to that of 2024. Values are those of the new taxa in the whole
tree. Floor: each has the vector of its nearest ancestor that was there. Ceiling: a fresh embedding.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import poincare_taxa as pt
from benchmarks.clades import ncbi
from benchmarks.measure import stopwatch
from benchmarks.tables import Row
from poincare_taxa.evaluation.clock import Clock
from poincare_taxa.evaluation.rank_counts import QueryTaxa, query_statistics
from poincare_taxa.evaluation.subjects import polar_subject
from poincare_taxa.files.records import dtype_name
from poincare_taxa.taxonomy.releases import rows_before
from poincare_taxa.taxonomy.tree import Tree

Rows = NDArray[np.int64]

RANKS = {"leaves": None, "genera": "genus", "families": "family"}
"""What is left out, each with all that is below it."""
SPACES = [(10, torch.float64), (10, torch.float32), (3, torch.float64)]
K = 10
WEIGHTS = {"equal": 0, "1 / edges²": 2}
"""Powers of the tree distance that the weights of neighbours are the inverse of."""
FLOORS = ("parent of the nearest", "common ancestor")
GROWN = (9605, 10088, 9611, 9443, 40674)
"""Homo, Mus, Canis, Primates, Mammalia."""
CLADES = (33554, 40674, 8782, 6447)
"""Carnivora, Mammalia, Aves, Mollusca."""
RELEASE = "ncbi_2013_stree/taxdump_partial.tar.gz"


def title(tax: pt.Taxonomy) -> str:
    """Name of the root, with the number of taxa."""
    return f"{tax.names[0]}, {len(tax):,}"


# -------------------------------------------------------------------- taxa left out


def left_out(tax: pt.Taxonomy, rank: str | None, size: int, seed: int = 0) -> tuple[Rows, Rows]:
    """Return tops by lot, leaves or taxa of a rank, and all rows below: about `size` at most."""
    tree, rng = tax.tree, np.random.default_rng(seed)
    candidates = tree.leaf_rows if rank is None else np.flatnonzero(tax.has_rank(rank))
    tops, left = [], size
    for top in rng.permutation(candidates[candidates > 0]).tolist():
        if tree.subtree_size[top] <= left:
            tops.append(top)
            left -= int(tree.subtree_size[top])
    out = np.zeros(len(tax) + 1, np.int64)
    np.add.at(out, tops, 1)
    np.add.at(out, tree.end[tops], -1)
    return np.array(tops, np.int64), np.flatnonzero(out.cumsum()[:-1])


def known(tax: pt.Taxonomy, rows: Rows) -> NDArray[np.bool_]:
    """Return a mask of the taxa that are not left out."""
    mask = np.ones(len(tax), np.bool_)
    mask[rows] = False
    return mask


def in_order_of(tax: pt.Taxonomy, model: pt.TaxonEmbedding) -> pt.TaxonEmbedding:
    """The vectors of a model of the same taxa, in the order of a taxonomy."""
    at = model.taxonomy.rows(tax.ids)
    return replace(model, taxonomy=tax, radius=model.radius[at], direction=model.direction[at])


def copied(model: pt.TaxonEmbedding, source: NDArray[np.bool_]) -> pt.TaxonEmbedding:
    """Give each taxon that was not there the vector of its nearest ancestor that was: the floor."""
    tree, at = model.taxonomy.tree, np.arange(len(model))
    for row in np.flatnonzero(~source).tolist():  # ancestors come first
        at[row] = at[tree.parent[row]]
    return replace(model, radius=model.radius[at], direction=model.direction[at])


def precision(model: Any, tree: Tree, rows: Rows) -> float:
    """Tie-aware precision@10 of rows among all taxa; nan of none."""
    if len(rows) == 0:
        return float("nan")
    subject = polar_subject(model.radius, model.direction)
    wanted = QueryTaxa(tree, {}, K, {"precision"})
    found = query_statistics(subject, wanted, rows, Clock(), lambda *_: None)
    return float(found["precision"].mean())


def depth_errors(model: pt.TaxonEmbedding, rows: Rows, seed: int = 0) -> NDArray[np.float64]:
    """Error, in levels, of the depth at which the paths to three random taxa each part.

    The depth by the vectors is the Gromov product, in units of τ.
    """
    tree = model.taxonomy.tree
    others = np.random.default_rng(seed).integers(len(tree), size=(len(rows), 3)).ravel()
    rows = np.repeat(rows, 3)
    (r, u), (s, v) = (
        (model.radius[i].double(), model.direction[i].double()) for i in (rows, others)
    )
    shared = (r + s - pt.polar.dist(r, u, s, v)) / 2 / model.meta["layout"]["tau"]
    return np.abs(shared.numpy() - tree.depth[tree.lca(rows, others)])


def place_again(tax: pt.Taxonomy, dim: int, dtype: torch.dtype, size: int = 1000) -> Iterator[Row]:
    """Leave out leaves, genera and families, and place them by their parents."""
    parents = tax.to_frame()["parent"]
    for what, rank in RANKS.items():
        tops, rows = left_out(tax, rank, size)
        there = known(tax, rows)
        start = pt.embed(tax.at_rows(np.flatnonzero(there)), dim, dtype=dtype)
        with stopwatch() as elapsed:
            larger = start.place(tax.ids.gather(rows), parent=parents.gather(rows))
        placed = in_order_of(tax, larger)
        # Known taxa whose neighbours are new: parents and siblings.
        above = tax.tree.parent[rows]
        beside = np.isin(tax.tree.parent, above) | np.isin(np.arange(len(tax)), above)
        beside = np.random.default_rng(1).permutation(np.flatnonzero(beside & there))[:size]
        subjects = {
            "copy": copied(placed, there),
            "placed": placed,
            "fresh": pt.embed(tax, dim, dtype=dtype),
        }
        row: Row = {
            "taxonomy": title(tax),
            "dim": dim,
            "dtype": dtype_name(dtype),
            "left out": f"{len(tops):,} {what}",
            "new taxa": len(rows),
        }
        for name, model in subjects.items():
            errors = depth_errors(model, rows)
            row |= {
                f"precision@10 {name}": round(precision(model, tax.tree, rows), 4),
                f"precision@10 of kin {name}": round(precision(model, tax.tree, beside), 4),
                f"depth error {name}": round(float(np.median(errors)), 3),
                f"depth error, p95 {name}": round(float(np.quantile(errors, 0.95)), 3),
            }
        yield row | {"CPU seconds": round(elapsed.cpu, 2)}


def placement(mammals: pt.Taxonomy, larger: pt.Taxonomy) -> Iterator[Row]:
    """Place taxa again in several spaces, and in one space in a larger taxonomy."""
    for dim, dtype in SPACES:
        yield from place_again(mammals, dim, dtype)
    yield from place_again(larger, *SPACES[0])


def readable(rows: list[Row]) -> list[Row]:
    """Put floor and ceiling behind each value, in brackets."""
    return [
        {
            key.removesuffix(" placed"): f"{value} ({row[floor]}, {row[ceiling]})"
            if (floor := key.replace(" placed", " copy")) != key
            and (ceiling := key.replace(" placed", " fresh"))
            else value
            for key, value in row.items()
            if not key.endswith((" copy", " fresh"))
        }
        for row in rows
    ]


# -------------------------------------------------------------------- by neighbours


def relatives(tax: pt.Taxonomy, rows: Rows, there: NDArray[np.bool_], k: int = 3) -> Rows:
    """Rows [q, k] of the nearest known leaves of each row, nearest first, ties by lot."""
    leaves = tax.tree.leaf_rows
    leaves, rng = leaves[there[leaves]], np.random.default_rng(2)
    found = np.zeros((len(rows), k), np.int64)
    for some in np.array_split(np.arange(len(rows)), -(-len(rows) // 100)):
        far = tax.tree.distance_matrix(rows[some], leaves) + rng.random((len(some), len(leaves)))
        found[some] = leaves[np.argsort(far, axis=1)[:, :k]]
    return found


def by_neighbours(tax: pt.Taxonomy, dim: int = 10, size: int = 1000) -> Iterator[Row]:
    """Place leaves by three relatives: edges from the place found to the true one.

    The true place of a leaf is below its nearest ancestor that was not left out. Floors: the parent
    of the nearest relative, and the common ancestor of all three.
    """
    tree = tax.tree
    for what, rank in RANKS.items():
        tops, rows = left_out(tax, rank, size)
        there = known(tax, rows)
        first = np.array([tree.leaves(top)[0] for top in tops])  # one new leaf of each
        true = tree.nearest_marked(there)[first]
        start = pt.embed(tax.at_rows(np.flatnonzero(there)), dim)
        near = relatives(tax, first, there)
        stray = near.copy()
        known_rows = np.flatnonzero(there & (np.arange(len(tax)) > 0))
        stray[:, 2] = np.random.default_rng(3).choice(known_rows, len(first))
        for kind, some in {"three nearest": near, "two nearest, one random": stray}.items():
            edges = tree.distance(np.repeat(first, 3), some.ravel()).reshape(some.shape)
            common = tree.lca(tree.lca(some[:, 0], some[:, 1]), some[:, 2])
            for weights, power in WEIGHTS.items():
                larger = start.place(
                    tax.ids.gather(first),
                    neighbours=[tax.ids.gather(three).to_list() for three in some],
                    weights=(1.0 / edges**power).tolist(),
                )
                above = larger.taxonomy.to_frame(tax.ids.gather(first))["parent"]
                row: Row = {
                    "taxonomy": title(tax),
                    "new taxa": f"{len(tops):,} leaves" + (f" of {what} left out" if rank else ""),
                    "neighbours": kind,
                    "weights": weights,
                }
                floors = dict(zip(FLOORS, (tree.parent[some[:, 0]], common), strict=True))
                for name, found in {"": tax.rows(above), **floors}.items():
                    error = tree.distance(found, true)
                    row |= {
                        f"{name} median".strip(): float(np.median(error)),
                        f"{name} p95".strip(): int(np.quantile(error, 0.95, method="higher")),
                        f"{name} mean".strip(): round(float(error.mean()), 3),
                    }
                yield row


def readable_neighbours(rows: list[Row]) -> list[Row]:
    """Put median, 95 % quantile and mean of each into one column."""
    names = {"": "edges", **{f"{floor} ": floor for floor in FLOORS}}
    return [
        {key: row[key] for key in ("taxonomy", "new taxa", "neighbours", "weights")}
        | {
            f"{shown}: median, p95, mean": f"{row[f'{name}median']:g}, {row[f'{name}p95']}, "
            f"{row[f'{name}mean']:.2f}"
            for name, shown in names.items()
        }
        for row in rows
    ]


# -------------------------------------------------------------------- releases


def migrate(old: pt.Taxonomy, new: pt.Taxonomy, name: str, size: int = 1000) -> Row:
    """Migrate an embedding of a release to another: what it costs, and what the vectors are worth.

    Precision is that of as many taxa, at most, of each kind; in brackets that of a fresh embedding.
    """
    model = pt.embed(old)
    with stopwatch() as of_diff:
        pt.diff(old, new)
    with stopwatch() as of_migrate:
        found = model.migrate(new, queries=0)
    with stopwatch() as of_embed:
        fresh = pt.embed(new)
    # Rows that kept their vectors, moved (as tops or below them), and are new.
    changes = found.changes
    kinds = np.full(len(new), "kept", dtype="<U8")
    for change in ("moved", "carried", "inserted", "placed"):
        kinds[np.atleast_1d(new.rows(changes.filter(change=change)["id"]))] = change
    kept = np.flatnonzero(kinds == "kept")
    before = rows_before(new, old)[kept]
    moved = [
        float((part[kept] - earlier[before]).abs().max())
        for part, earlier in (
            (found.model.radius, model.radius),
            (found.model.direction, model.direction),
        )
    ]
    row: Row = {"clade": name, "taxa 2013": len(old), "taxa 2024": len(new)}
    row |= {k: v for k, v in found.summary.items() if isinstance(v, int)}
    row["kept: largest difference"] = max(moved)
    rng = np.random.default_rng(0)
    for label, states in {
        "kept": ["kept"], "moved": ["moved", "carried"], "new": ["placed", "inserted"]
    }.items():  # fmt: skip
        rows = rng.permutation(np.flatnonzero(np.isin(kinds, states)))[:size]
        for subject, points in {"": found.model, "fresh ": fresh}.items():
            row[f"{subject}precision@10 {label}"] = round(precision(points, new.tree, rows), 4)
    seconds = {"diff": of_diff, "migrate": of_migrate, "embed": of_embed}
    return row | {f"CPU seconds {what}": round(took.cpu, 2) for what, took in seconds.items()}


def releases(data: Path) -> Iterator[Row]:
    """Migrate the NCBI taxonomy of 2013: the taxa of both releases, then clades with new taxa."""
    if not (data / RELEASE).exists():
        print(f"releases: skipped, {RELEASE} is not in {data}")
        return
    old, new = pt.read_ncbi(data / RELEASE), ncbi()
    shared = new.prune(new.ids.gather(np.flatnonzero(rows_before(new, old) >= 0)))
    yield migrate(old, shared, "all, without new taxa")
    for taxid in CLADES:
        tax = new.subtree(taxid)
        yield migrate(old.subtree(taxid), tax, tax.names[0])


def readable_releases(rows: list[Row]) -> list[Row]:
    """Put the precision of a fresh embedding behind that of the migrated one, in brackets."""
    return [
        {
            key: f"{value} ({row[f'fresh {key}']})" if f"fresh {key}" in row else value
            for key, value in row.items()
            if not key.startswith("fresh ")
        }
        for row in rows
    ]


# -------------------------------------------------------------------- one species more


def one_more(tax: pt.Taxonomy, parents: tuple[int, ...] = GROWN) -> Iterator[Row]:
    """Embed a taxonomy afresh with one species more: how many vectors are the same bits."""
    start = pt.embed(tax)
    for parent in parents:
        larger = start.place(parent=parent)
        fresh = in_order_of(tax, pt.embed(larger.taxonomy))
        same = (fresh.radius == start.radius) & (fresh.direction == start.direction).all(1)
        yield {
            "taxonomy": title(tax),
            "one species more below": tax.names[tax.rows(parent)],
            "vectors of a fresh embedding that are the same bits": int(same.sum()),
            "of": len(tax),
        }
