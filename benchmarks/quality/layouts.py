"""Quality of the layout: the figures of docs/quality.md.

*complete*: every taxon against all; *confirm*: through the index as by scans; *frontier*: few
dimensions and float32; *ideas*: what each idea of the layout buys; *refine*: before and after
refinement; these on the complete NCBI taxonomy or a clade of it, which need the extra [ncbi].
*trees*: every tree of a folder of taxonomies, nothing tuned.
"""

import gzip
import importlib
import resource
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
import torch

import poincare_taxa as pt
from benchmarks.measure import WrongAnswerError, stopwatch
from benchmarks.quality.paired import Comparison
from benchmarks.tables import Row
from poincare_taxa.files.records import dtype_name
from poincare_taxa.geometry import ball
from poincare_taxa.layouts.codes import sparse_code, tight_code
from poincare_taxa.readers import read_parents
from poincare_taxa.search import index as search_index

# `poincare_taxa.layouts.tree` names the function; its module is patched to take ideas away.
layout_module = importlib.import_module("poincare_taxa.layouts.tree")
MEASURES = ["precision@10", "ancestor MAP", "ancestor mean rank", "Spearman", "mean distortion"]
PARTS = {"precision", "ancestor", "correlation", "distortion"}


def without_a_stray_line(path: Path, read: Callable[[Path], pt.Taxonomy]) -> pt.Taxonomy:
    """Read a gzipped CSV into which its maker's program wrote an error message."""
    with TemporaryDirectory() as folder:
        clean = Path(folder) / path.stem
        lines = gzip.decompress(path.read_bytes()).decode().splitlines(keepends=True)
        clean.write_text("".join(line for line in lines if "," in line))
        return read(clean)


def edges_of_newick(path: Path) -> pt.Taxonomy:
    """Read a phylogeny without its branch lengths, which `phylogenies` measures."""
    return pt.Taxonomy.from_parents(pt.read_newick(path).parent)


FRONTIER = [
    (10, torch.float64),
    (16, torch.float32),
    (10, torch.float32),
    (5, torch.float64),
    (3, torch.float64),
    (5, torch.float32),
    (3, torch.float32),
]

TREES = {
    "NCBI genomes 2017 (WoL)": ("ncbi_wol_2017/taxdump.tar.gz", pt.read_ncbi),
    "NCBI 2013, no ranks": ("ncbi_2013_stree/taxdump_partial.tar.gz", pt.read_ncbi),
    "GenBank lineages 2017": (
        "ncbi_genbank_lineage_2017/genbank-genomes-accession+lineage-20170529.csv.gz",
        lambda path: without_a_stray_line(path, pt.read_lineages),
    ),
    "Asterales, NCBI": ("asterales_ncbi/taxonomy.tsv.gz", pt.read_edges),
    "Mammal Diversity Database": ("mammal_diversity_2020/edges.tsv.gz", pt.read_edges),
    "ICTV viruses 2020": ("ictv_2020/edges.tsv.gz", pt.read_edges),
    "WordNet nouns, first hypernym": (
        "wordnet30_nouns/noun_direct_edges.tsv.gz",
        lambda path: pt.read_edges(path, multi_parent="first"),
    ),
    "WoL phylogeny (Newick)": ("newick_wol/tree.nwk.gz", edges_of_newick),
    "Vascular plants (Newick)": ("newick_plants_gbotb/GBOTB.extended.nwk.gz", edges_of_newick),
    "phylo_tree (Sala et al.)": (
        "hyperbolics_graphs/phylo_tree.edges.gz",
        lambda path: pt.read_edges(path, root=0, undirected=True),
    ),
    "OneZoom tree of life": ("onezoom_opentree15.1/parents.txt.gz", read_parents),
}


def measure(tax: pt.Taxonomy, queries: int, dim: int, dtype: torch.dtype) -> Row:
    """Lay a taxonomy out and evaluate it: one row of a table."""
    with warnings.catch_warnings(record=True) as caught, stopwatch() as elapsed:
        warnings.simplefilter("always")
        points = pt.layout(tax, dim, dtype=dtype)
    report = pt.evaluate((points.radius, points.direction), tax, queries=queries, only=PARTS)
    row = {
        "dim": dim,
        "dtype": dtype_name(dtype),
        "tau": round(points.info["tau"], 3),
        "unresolved": points.info["unresolved"],
        "layout s": round(elapsed.wall, 2),
    }
    for key in MEASURES:
        row[key] = round(report[key].value, 4)
        floor = report[key].floor
        row[f"floor {key}"] = None if floor is None else round(floor.value, 4)
    if caught:
        row["unresolved"] = f"{row['unresolved']} (warned)"
    return row


def readable(rows: list[Row]) -> list[Row]:
    """Put the floor of each value behind it, in brackets."""
    described = [key for key in rows[0] if key not in MEASURES and not key.startswith("floor")]
    return [
        {key: row[key] for key in described}
        | {key: f"{_short(row[key])} ({_short(row[f'floor {key}'])})" for key in MEASURES}
        for row in rows
    ]


def _short(value: Any) -> str:
    """Four decimals as they come; of ranks in the thousands none."""
    return f"{value:,.0f}" if value >= 1000 else f"{value}"


def frontier(tax: pt.Taxonomy, queries: int) -> Iterator[Row]:
    """Few dimensions and float32."""
    for dim, dtype in FRONTIER:
        yield measure(tax, queries, dim, dtype)


def complete(tax: pt.Taxonomy) -> tuple[list[Row], Row]:
    """Every taxon of the 10-D float64 layout against all: a row for each measure, and the cost."""
    points = pt.layout(tax, 10)
    with stopwatch() as elapsed:
        report = pt.evaluate((points.radius, points.direction), tax, exact=True)
    rows = [row for row in report.to_frame().to_dicts() if row["value"] is not None]
    taken = {
        "taxa": len(tax),
        "minutes": round(elapsed.wall / 60, 2),
        "CPU minutes": round(elapsed.cpu / 60, 2),
        "threads": torch.get_num_threads(),
        # Of the process, whose layout and taxonomy are in it.
        "peak GiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    }
    return rows, taken


def confirm(tax: pt.Taxonomy) -> list[Row]:
    """Like `complete`; refuses values that differ in any digit from those of scans."""
    through_index, taken = complete(tax)
    with patch.object(search_index, "_FEWEST", len(tax)):  # no index of so few rows
        by_scans, scanned = complete(tax)
    for mine, theirs in zip(through_index, by_scans, strict=True):
        if mine != theirs:
            raise WrongAnswerError(f"{mine} through the index, by scans {theirs}")
    return [{"by": "index"} | taken, {"by": "scans, the same values"} | scanned]


def every_measure(rows: list[Row]) -> list[Row]:
    """Values beside floor and tree, as a report prints them."""
    return [
        {
            "measure": f"{row['metric']}, {row['at']}" if row["at"] else row["metric"],
            "value": _digits(row["value"]),
            "floor": _digits(row["floor"]),
            "tree": _digits(row["ceiling"]),
            "taxa": row["count"],
        }
        for row in rows
    ]


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def random_code(k: int, m: int, *_: object) -> np.ndarray:
    """Random directions instead of separated ones."""
    code = np.random.default_rng([k, m]).standard_normal((k, m))
    return code / np.linalg.norm(code, axis=1, keepdims=True) * (k > 1)


def everywhere(dim: int) -> np.ndarray:
    """A root whose coordinates are all touched."""
    return np.full(dim, dim**-0.5)


IDEAS = {
    "all of them": {},
    "radius 0.85 per level in every dimension": {"preferred_tau": lambda dim: 0.85},
    "random offsets instead of separated codes": {
        "tight_code": random_code,
        "sparse_code": random_code,
    },
    "no lattices or optimised codes for middling families: sparse codes": {
        "tight_code": lambda k, m: sparse_code(k, m, False)
    },
    "big families not spread wider": {"_WIDEST": 1.0},
    "heavy children do not keep the direction": {"_HEAVY": 2.0},
    "tight codes also in tall subtrees": {"sparse_code": lambda k, m, centred: tight_code(k, m)},
    "the root not at a pole: no untouched coordinates": {"pole": everywhere},
}
"""Parts of `poincare_taxa.layouts.tree` to take away, one at a time."""


def ideas(tax: pt.Taxonomy, queries: int) -> Iterator[Row]:
    """What each idea of the layout buys: quality without it."""
    for name, parts in IDEAS.items():
        with patch.multiple(layout_module, **parts) if parts else nullcontext():
            for dim, dtype in [(10, torch.float32), (3, torch.float64)]:
                yield {"without": name, **measure(tax, queries, dim, dtype)}


HARD = [(3, torch.float64), (5, torch.float64), (10, torch.float32), (10, torch.float64)]
REFINED = [
    ("precision@10", ""),
    ("purity@10", "genus"),
    ("purity@10", "family"),
    ("ancestor MAP", ""),
    ("ancestor mean rank", ""),
    ("neighbour MAP", ""),
    ("Spearman", ""),
    ("Spearman", "LCA-balanced"),
    ("Spearman within LCA depth", ""),
    ("triplet order", ""),
    ("triplet order", "LCA-balanced"),
    ("mean distortion", ""),
    ("mean distortion", "LCA-balanced"),
    ("p99 distortion", "LCA-balanced"),
    ("separation", "phylum"),
    ("separation", "class"),
    ("separation", "order"),
    ("separation", "family"),
    ("separation", "genus"),
]


def refine(tax: pt.Taxonomy, queries: int) -> tuple[list[Row], list[Row]]:
    """Measure the same taxa before and after refinement: a row for each measure, and each run."""
    ranks = [at for metric, at in REFINED if metric == "separation"]
    compare = Comparison(tax, queries, ranks)
    rows, summary = [], []
    for dim, dtype in HARD:
        start = pt.layout(tax, dim, dtype=dtype)
        with stopwatch() as elapsed:
            refined = pt.refine(tax, start)
        setting = f"{dim}-D {dtype_name(dtype)}"
        found = {(row["metric"], row["at"]): row for row in compare(start, refined)}
        settled = [{"setting": setting, **_settled(found[key])} for key in REFINED]
        rows += settled
        verdicts = [row["verdict"] for row in settled]
        summary.append(
            {
                "setting": setting,
                "tau before": round(start.info["tau"], 3),
                "tau after": round(refined.info["tau"], 3),
                "passes": len(refined.info["passes"]) - 1,
                "kept": sum(bool(one["kept"]) for one in refined.info["passes"]) - 1,
                "seconds": round(elapsed.wall, 1),
                **{verdict: verdicts.count(verdict) for verdict in ("better", "level", "worse")},
                "beyond a float64 ball before": _beyond(start),
                "after": _beyond(refined),
            }
        )
    return rows, summary


def _beyond(points: pt.layouts.Layout) -> int:
    """Count the taxa that a view in a float64 ball pulls in to its rim."""
    return int((points.radius > ball.max_radius(torch.float64)).sum())


def _settled(row: dict[str, Any]) -> dict[str, Any]:
    """Round, and judge: nearer to the tree's own value by two standard errors, or farther."""
    error, gain = row["error"], row["gain"]
    level = abs(gain) <= 2 * (error or 0)
    return {
        "measure": f"{row['metric']}, {row['at']}" if row["at"] else row["metric"],
        "floor": round(row["floor"], 4),
        "layout": round(row["value"], 5),
        "refined": round(row["after"], 5),
        "tree": round(row["ceiling"], 5),
        "gain": round(gain, 6),
        "standard error": None if error is None else round(error, 6),
        "verdict": "level" if level else "better" if gain > 0 else "worse",
    }


def side_by_side_table(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put a setting in each column: layout → refined (floor, tree), and the gain."""
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = table.setdefault(row["measure"], {"measure": row["measure"]})
        line[str(row["setting"])] = (
            f"{row['layout']} → {row['refined']} ({row['floor']}, {row['tree']}), "
            f"{row['verdict']}: {row['gain']:.1g}"
            + ("" if row["standard error"] is None else f" ± {row['standard error']:.1g}")
        )
    return list(table.values())


def trees(data: Path, queries: int) -> Iterator[Row]:
    """Every tree of a folder, with the defaults."""
    for name, (file, read) in TREES.items():
        if not (data / file).exists():
            print(f"{name}: {file} is not in {data}")
            continue
        tax = read(data / file)
        for dim, dtype in [(10, torch.float64), (10, torch.float32), (5, torch.float64)]:
            row = measure(tax, queries, dim, dtype)
            yield {"tree": name, "nodes": len(tax), "levels": tax.max_depth, **row}
