"""Opening a saved embedding, its first and later searches, and the command line: fresh processes.

Each number is the median over processes that do one thing; CPU time is shown beside wall time:
compare that on a machine with other work to do. The floor of the command line is ``import torch``.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.tables import CHECKOUT, Row

FLOOR, COMMAND = "import torch", "poincare-taxa nearest"
SEARCHES = 50  # later searches, whose median counts

PROGRAM = """
import json, statistics, sys, time
clocks = time.perf_counter, time.process_time
found = {}

def clocked(name, work, times=1):
    rows = []
    for _ in range(times):
        before = [clock() for clock in clocks]
        work()
        rows.append([clock() - start for clock, start in zip(clocks, before)])
    found[name] = [statistics.median(column) for column in zip(*rows)]

import torch
from poincare_taxa.model.model import TaxonEmbedding
path, times = sys.argv[1], int(sys.argv[2])
model = None

def load():
    global model
    model = TaxonEmbedding.load(path)

clocked("load, beyond imports", load)
tax = model.taxonomy
row = len(tax) // 3
while tax.rows(tax.names[row] or tax.ids[row], missing=-1) < 0:
    row += 1
key, name = tax.ids[row], tax.names[row] or tax.ids[row]
clade = tax.ids[int(tax.tree.ancestors(row)[-3])]
rank = "genus" if "genus" in tax.taxon_ranks.unique() else tax.taxon_ranks[-1]
clocked("first nearest(id)", lambda: model.nearest(key))
clocked("first nearest(name)", lambda: model.nearest(name))
clocked("building the index", model._indexes(None).build)
clocked("later nearest(id)", lambda: model.nearest(key), times)
for _ in range(60):  # until names have an index
    model.nearest(name)
clocked("later nearest(name)", lambda: model.nearest(name), times)
clocked(f"first nearest(id, taxon_rank='{rank}')", lambda: model.nearest(key, taxon_rank=rank))
model._indexes(rank).build()
clocked("later, of a rank", lambda: model.nearest(key, taxon_rank=rank), times)
clocked("later, within=…", lambda: model.nearest(key, within=clade), times)
print(json.dumps(found))
"""


def measure(saved: Path, runs: int) -> list[Row]:
    """Medians of `runs` processes of each kind; one before them fills the caches of files."""
    command = ["-m", "poincare_taxa", "nearest", str(saved.resolve()), "1"]
    kinds = {FLOOR: ["-c", FLOOR], COMMAND: command}
    found: dict[str, list[list[float]]] = {}
    for count in range(runs + 1):
        row = {kind: process(arguments)[0] for kind, arguments in kinds.items()}
        row |= json.loads(process(["-c", PROGRAM, str(saved.resolve()), str(SEARCHES)])[1])
        if count:
            for name, numbers in row.items():
                found.setdefault(name, []).append(numbers)
    medians = {
        name: [statistics.median(column) for column in zip(*rows, strict=True)]
        for name, rows in found.items()
    }
    beyond = [a - b for a, b in zip(medians[COMMAND], medians[FLOOR], strict=True)]
    first = {kind: medians[kind] for kind in kinds}
    medians = {**first, f"… beyond {FLOOR}": beyond, **medians}
    return [
        {"": name, "ms": f"{1e3 * wall:.3g}", "CPU ms": f"{1e3 * cpu:.3g}"}
        for name, (wall, cpu) in medians.items()
    ]


def process(arguments: list[str]) -> tuple[list[float], str]:
    """Wall and CPU seconds of a process of this checkout, and the last line of its output."""
    env = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    start, before = time.perf_counter(), os.times()
    done = subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - start, os.times()
    if done.returncode:
        raise SystemExit(done.stderr)
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return [wall, cpu], (done.stdout.splitlines() or [""])[-1]
