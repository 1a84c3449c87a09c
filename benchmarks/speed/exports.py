"""Exports of a saved embedding: time, size, and memory beyond that of the embedding itself.

Each format is written by a process of its own, which opens the embedding (points are mapped, not
read) and watches its own memory without pages of files while it writes.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import poincare_taxa as pt
from benchmarks.tables import CHECKOUT, Row
from poincare_taxa.model.exports import neighbour_overlap

FORMATS = {
    "folder (model.save)": "",
    ".parquet": "x.parquet",
    ".npz": "x.npz",
    ".csv": "x.csv",
    ".txt (word2vec)": "x.txt",
    ".nwk": "x.nwk",
}

PROGRAM = """
import json, sys, threading, time, warnings
from pathlib import Path
import poincare_taxa as pt

warnings.simplefilter("ignore")
model = pt.load(sys.argv[1])
place, name = Path(sys.argv[2]), sys.argv[3]
done = threading.Event()

def anonymous():  # MB of this process that no file can give back
    text = Path("/proc/self/status").read_text()
    return int(text.split("RssAnon:")[1].split()[0]) / 1000

before = peak = anonymous()

def watch():
    global peak
    while not done.wait(0.002):
        peak = max(peak, anonymous())

watcher = threading.Thread(target=watch)
watcher.start()
start = time.process_time()
if name:
    model.export(place / name)
else:
    model.save(place / "folder")
seconds = time.process_time() - start
done.set()
watcher.join()
size = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
print(json.dumps([len(model), seconds, size, before, peak - before]))
"""


def measure(saved: Path) -> list[Row]:
    """One row for each format: CPU seconds, size, and the peak of memory while it is written.

    Of word2vec text besides, how many of the 10 nearest taxa cosine similarity finds.
    """
    rows = []
    for label, name in FORMATS.items():
        with tempfile.TemporaryDirectory() as place:
            command = [sys.executable, "-c", PROGRAM, str(saved.resolve()), place, name]
            done = subprocess.run(
                command, cwd=CHECKOUT, capture_output=True, text=True, check=False
            )
        if done.returncode:
            raise SystemExit(done.stderr)
        taxa, seconds, size, before, more = json.loads(done.stdout.splitlines()[-1])
        rows.append(
            {
                "format": label,
                "taxa": f"{taxa:,}",
                "CPU s": f"{seconds:.2g}",
                "file MB": f"{size:.3g}",
                "memory before, MB": f"{before:.0f}",
                "more while writing, MB": f"{more:.0f}",
            }
        )
        if name == "x.txt":
            share = neighbour_overlap(pt.TaxonEmbedding.load(saved))
            rows[-1]["of 10 nearest, cosine finds"] = f"{10 * share:.1f}"
    return rows
