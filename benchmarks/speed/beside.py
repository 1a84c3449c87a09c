"""Starting up, training, reading, beside another checkout of this library: alternating processes.

*Startup* is what a first fit costs beyond ``import torch``: importing `fit`, and one epoch on the
sample of mammals. *Fit* is the recommended recipe on a clade, 10-D, one thread, from the same
random start in both, and what `evaluate` then finds; the clade is a table as `to_frame` makes it,
for example ``pt.read_ncbi().subtree(7586).to_frame().write_parquet(…)``. The first run of each
fills the caches of machine code and is not counted. *Reading* is that of the complete NCBI taxonomy
as a taxdump and from the offline package, and of a million of its edges as a table. CPU time is
shown beside wall time: compare that on a machine with other work to do.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.clades import ncbi
from benchmarks.tables import CHECKOUT, Row
from benchmarks.tools import make_taxdump

EDGES = 10**6
STARTUP = """
import json, sys, time, warnings
import torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
wall, cpu = time.perf_counter(), time.process_time()
import poincare_taxa as pt
pt.fit
imported = time.process_time() - cpu
pt.fit(pt.load_sample("mammals"), epochs=1, progress=False)
found = {"s": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}
print(json.dumps(found | {"of which import": imported}))
"""

FIT = """
import json, sys, time, warnings
import polars, torch
warnings.simplefilter("ignore")
torch.set_num_threads(1)
import poincare_taxa as pt
tax = pt.Taxonomy.from_frame(polars.read_parquet(sys.argv[1]))
pt.fit(pt.load_sample("mammals"), dim=10, epochs=2, progress=False)
wall, cpu = time.perf_counter(), time.process_time()
run = pt.fit(tax, dim=10, seed=0, progress=False)
found = {"s": time.perf_counter() - wall, "CPU s": time.process_time() - cpu}
parts = {"radius", "precision", "ancestor", "correlation", "separation"}
report = pt.evaluate(run.model, queries=300, only=parts, floor_queries=0, progress=False)
names = ("precision@10", "ancestor MAP", "Spearman", "separation/class", "separation/order",
         "separation/family")
found |= {name: report[name].value for name in names if name in report}
print(json.dumps(found))
"""

READING = """
import gc, json, sys, time, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import poincare_taxa as pt
folder = Path(sys.argv[1])
tasks = {
    "taxdump": lambda: pt.read_ncbi(folder / "dump"),
    "offline package": lambda: pt.read_ncbi(),
    "edges": lambda: pt.read(folder / "edges.tsv"),
}
small = folder / "few.tsv"
small.write_text("child\\tparent\\na\\tb\\n")
pt.read(small)  # imports what reading needs
found = {}
for name, read in tasks.items():
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    taxa = len(read())
    found[f"{name}, s"] = time.perf_counter() - wall
    found[f"{name}, CPU s"] = time.process_time() - cpu
    found[f"{name}, taxa"] = taxa
print(json.dumps(found))
"""


def run(tree: Path, program: str, arguments: list[str]) -> dict[str, float]:
    """One process that imports the library from a tree."""
    env = {**os.environ, "PYTHONPATH": str(tree.resolve()), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=env, cwd=tree, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"{tree}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def startup(other: Path, runs: int) -> list[Row]:
    """Medians of a first fit, of both checkouts and their ratio."""
    return compare(other, STARTUP, [], runs)


def fit(other: Path, clade: Path, runs: int) -> list[Row]:
    """Medians of a whole fit of a clade and its quality, of both checkouts and their ratio."""
    return compare(other, FIT, [str(clade.resolve())], runs)


def reading(other: Path, runs: int) -> list[Row]:
    """Medians of reading large files, of both checkouts and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        make_taxdump.make(Path(folder) / "dump")
        # In preorder parents come first, so that the first rows are a tree.
        edges = ncbi().to_frame()[1 : EDGES + 1].select(child="id", parent="parent")
        edges.write_csv(Path(folder) / "edges.tsv", separator="\t")
        return compare(other, READING, [folder], runs)


def compare(other: Path, program: str, arguments: list[str], runs: int) -> list[Row]:
    """Run a program in both, one after the other: a row for each number that it finds."""
    found: dict[Path, list[dict[str, float]]] = {other: [], CHECKOUT: []}
    for _ in range(runs + 1):
        for tree, rows in found.items():
            rows.append(run(tree, program, arguments))
    before, here = (
        {name: statistics.median(row[name] for row in rows[1:]) for name in rows[0]}
        for rows in found.values()
    )
    return [
        {
            "": name,
            "other": f"{before[name]:.4g}",
            "here": f"{here[name]:.4g}",
            "ratio": f"{here[name] / before[name]:.3f}",
        }
        for name in before
    ]
