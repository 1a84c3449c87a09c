"""Quality of the layout: the figures of docs/quality.md.

    … layouts frontier  few dimensions and float32, complete NCBI taxonomy
    … layouts ideas  what each idea of the layout buys there
    … layouts refine  before and after refinement, complete NCBI taxonomy
    … layouts refine --clade 2697495  the same for a part of it: Spiralia
    … layouts trees DATA  every tree of a folder of taxonomies, nothing tuned

Each writes a table to benchmarks/results/quality/ and prints it. `trees` reads what it finds of the
files listed in TREES; the others need the extra [ncbi].
"""

import gzip
import importlib
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any
from unittest.mock import patch

import numpy as np
import torch
import typer

import poincare_taxa as pt
from benchmarks.quality.paired import Comparison
from benchmarks.tables import write_markdown, write_tsv
from poincare_taxa.geometry import ball
from poincare_taxa.layouts.codes import sparse_code, tight_code
from poincare_taxa.readers import read_parents

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
    "WoL phylogeny (Newick)": ("newick_wol/tree.nwk.gz", pt.read_newick),
    "Vascular plants (Newick)": ("newick_plants_gbotb/GBOTB.extended.nwk.gz", pt.read_newick),
    "phylo_tree (Sala et al.)": (
        "hyperbolics_graphs/phylo_tree.edges.gz",
        lambda path: pt.read_edges(path, root=0, undirected=True),
    ),
    "OneZoom tree of life": ("onezoom_opentree15.1/parents.txt.gz", read_parents),
}

app = typer.Typer(add_completion=False)
Queries = Annotated[int, typer.Option(help="Taxa compared with all taxa.")]


def measure(tax: pt.Taxonomy, queries: int, dim: int, dtype: torch.dtype) -> dict[str, object]:
    """Lay a taxonomy out and evaluate it: one row of a table."""
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        points = pt.layout(tax, dim, dtype=dtype)
    seconds = time.perf_counter() - start
    report = pt.evaluate((points.radius, points.direction), tax, queries=queries, only=PARTS)
    row = {
        "dim": dim,
        "dtype": str(dtype).removeprefix("torch."),
        "tau": round(points.info["tau"], 3),
        "unresolved": points.info["unresolved"],
        "layout s": round(seconds, 2),
    }
    for key in MEASURES:
        row[key] = round(report[key].value, 4)
        floor = report[key].floor
        row[f"floor {key}"] = None if floor is None else round(floor.value, 4)
    if caught:
        row["unresolved"] = f"{row['unresolved']} (warned)"
    return row


def write(name: str, rows: list[dict[str, object]]) -> None:
    """Write a table for machines, and one for readers: each value with its floor in brackets."""
    write_tsv(f"quality/{name}", rows)
    described = [key for key in rows[0] if key not in MEASURES and not key.startswith("floor")]
    readable = []
    for row in rows:
        values = {key: f"{row[key]} ({row[f'floor {key}']})" for key in MEASURES}
        readable.append({key: row[key] for key in described} | values)
    write_markdown(name, readable)


@app.command()
def frontier(queries: Queries = 1000) -> None:
    """Few dimensions and float32 on the complete NCBI taxonomy."""
    tax = pt.read_ncbi()
    rows = []
    for dim, dtype in FRONTIER:
        rows.append(measure(tax, queries, dim, dtype))
        write("frontier", rows)


def random_code(k: int, m: int, *_: object) -> np.ndarray:
    """Random directions instead of separated ones."""
    code = np.random.default_rng([k, m]).standard_normal((k, m))
    return code / np.linalg.norm(code, axis=1, keepdims=True) * (k > 1)


def everywhere(dim: int) -> np.ndarray:
    """A root whose coordinates are all touched."""
    return np.full(dim, dim**-0.5)


IDEAS = {
    "all of them": {},
    "radius 0.85 per level in every dimension": {"_preferred": lambda dim: 0.85},
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
    "the root not at a pole: no untouched coordinates": {"_pole": everywhere},
}
"""Parts of `poincare_taxa.layouts.tree` to take away, one at a time."""


@app.command()
def ideas(queries: Queries = 200) -> None:
    """What each idea of the layout buys: quality without it."""
    tax = pt.read_ncbi()
    rows = []
    for name, parts in IDEAS.items():
        with patch.dict(vars(layout_module), parts):
            for dim, dtype in [(10, torch.float32), (3, torch.float64)]:
                rows.append({"without": name, **measure(tax, queries, dim, dtype)})
        write("ideas", rows)


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


@app.command()
def refine(
    queries: Queries = 1000,
    clade: Annotated[int | None, typer.Option(help="Taxid of a part of NCBI.")] = None,
) -> None:
    """Measure the same taxa before and after refinement, with the error of the difference."""
    tax = pt.read_ncbi() if clade is None else pt.read_ncbi().subtree(clade)
    suffix = "" if clade is None else f"_{clade}"
    ranks = [at for metric, at in REFINED if metric == "separation"]
    compare = Comparison(tax, queries, ranks)
    rows, summary = [], []
    for dim, dtype in HARD:
        start = pt.layout(tax, dim, dtype=dtype)
        began = time.perf_counter()
        refined = pt.refine(tax, start)
        seconds = time.perf_counter() - began
        setting = f"{dim}-D {str(dtype).removeprefix('torch.')}"
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
                "seconds": round(seconds, 1),
                **{verdict: verdicts.count(verdict) for verdict in ("better", "level", "worse")},
                "beyond a float64 ball before": _beyond(start),
                "after": _beyond(refined),
            }
        )
        write_tsv(f"quality/refine{suffix}", rows)
        write_tsv(f"quality/refine_passes{suffix}", summary)
        write_markdown(f"refine_passes{suffix}", summary)
        write_markdown(f"refine{suffix}", _side_by_side(rows))


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


def _side_by_side(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
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


@app.command()
def trees(data: Path, queries: Queries = 1000) -> None:
    """Every tree of a folder, with the defaults."""
    rows = []
    for name, (file, read) in TREES.items():
        if not (data / file).exists():
            print(f"{name}: {file} is not in {data}")
            continue
        tax = read(data / file)
        for dim, dtype in [(10, torch.float64), (10, torch.float32), (5, torch.float64)]:
            row = measure(tax, queries, dim, dtype)
            rows.append({"tree": name, "nodes": len(tax), "levels": tax.max_depth, **row})
        write("trees", rows)


if __name__ == "__main__":
    app()
