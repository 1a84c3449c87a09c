"""Every table of the documentation, with the command that makes it, and where that can run.

A table is listed once. What fits a machine of two cores (at most about an hour, 16 GB, and data
that are shipped or lie in the given folder) is made again on demand; the rest has a reason.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.tables import CHECKOUT, Row, pages

__all__ = ["FIGURES", "Figure", "listed", "made"]


class Figure(NamedTuple):
    """Tables that one command makes."""

    command: str
    """Its arguments, with {data} for the folder of data."""
    tables: tuple[str, ...]
    """Files below docs/tables, by their beginnings where there are several; `*` ends those."""
    needs: str = ""
    """A file or folder below {data}, without which the command cannot run; "" for shipped data."""
    packages: tuple[str, ...] = ()
    """Modules without which rows are missing; `benchmarks/lock.txt` has their versions."""
    elsewhere: str = ""
    """Why it does not run on two cores; "" where it does."""

    def files(self, root: Path = CHECKOUT) -> list[Path]:
        """Find the tables that are there."""
        return sorted(file for name in self.tables for file in pages(root).glob(name))


_NOUNS = "wordnet30_nouns/noun_closure.csv.gz"

FIGURES = (
    # quality
    Figure("frontier", ("frontier.md",)),
    Figure("complete", ("complete.md", "complete_cost.md")),
    Figure("confirm", ("confirm.md",)),
    Figure("ideas", ("ideas.md",)),
    Figure("refine", ("refine.md", "refine_passes.md")),
    Figure("refine --clade 2697495", ("refine_2697495.md", "refine_passes_2697495.md")),
    Figure("intervals", ("intervals.md", "interval_ranks.md")),
    Figure("numerics", ("numerics.md", "numerics_errors.svg", "numerics_steps.svg")),
    Figure("page-layout", ("page_layout.md",)),
    Figure(
        "placement {data}",
        ("one_more.md", "placement.md", "placement_neighbours.md", "migration.md"),
        needs="ncbi_2013_stree",
    ),
    Figure("trees {data}", ("trees.md",), needs="ncbi_wol_2017"),
    Figure("phylogenies {data}", ("phylogenies.md",), needs="newick_wol"),
    Figure(
        "htree {data} --theirs FOLDER",
        ("htree.md",),
        elsewhere="it runs another library, which is no dependency",
    ),
    Figure("links {data}/cones_split", ("links.md",), needs="cones_split"),
    Figure("cones {data}/cones_split", ("cones.md",), needs="cones_split"),
    Figure("wordnet {data}/wordnet30_nouns", ("wordnet.md",), needs=_NOUNS),
    Figure("is-a {data}/wordnet30_nouns", ("is_a.md", "is_a_bins.md"), needs=_NOUNS),
    Figure(
        "hypernyms {data}/wordnet30_nouns",
        ("hypernyms.md",),
        needs="wordnet30_nouns/noun_direct_edges.tsv.gz",
    ),
    Figure(
        "hsdte {data} --theirs CHECKOUT",
        ("hsdte.md",),
        elsewhere="it runs the code of other authors, from a checkout with its own environment",
    ),
    # experiments
    Figure("ablation", ("why_it_failed.md",)),
    Figure("ablation-plots", ("accuracy_*.md",)),
    Figure("ablation-losses", ("losses.md",)),
    Figure("ablation-large", ("why_it_failed_large.md",)),
    Figure("controls", ("controls.md",)),
    Figure("random-start", ("random_start.md",)),
    Figure("full-size", ("full_size.md", "full_size_quality.md")),
    Figure("head", ("head_settings.md", "heads.md", "head_targets.md")),
    Figure("does-it-help", ("help_*.md",), needs="traits", packages=("lightgbm", "gensim")),
    # time and memory
    Figure("blocks", ("cost_*.md",)),
    Figure("optimizers", ("optimizers.md",)),
    Figure("exports", ("exports.md",)),
    Figure("opening", ("opening.md",)),
    Figure("page", ("page.md",)),
    Figure("neighbours", ("neighbours.md",), packages=("faiss", "hnswlib", "usearch")),
    Figure("index --graph", ("search_index.md",)),
    Figure("torchrun", ("torchrun.md",)),
    Figure("shards --processes 4", ("shards.md",)),
    Figure("scale", ("scale.md", "scale_*.md")),
    Figure("report", ("benchmarks-*",)),
    Figure(
        "all --device cpu --threads 2",
        (),
        elsewhere="it takes hours: rows beside geoopt and others, of which `report` makes pages",
    ),
    Figure("all --device cuda", (), elsewhere="it needs a GPU with CUDA"),
    # reliability
    Figure("fuzz --inputs 1000000", ("fuzz.md",), elsewhere="it takes hours: a million inputs"),
    Figure("fuzz --guided --inputs 25500", ("fuzz_guided.md",)),
    Figure("kills", ("kills.md",)),
    Figure("mutate", ("mutate.md",), elsewhere="it takes hours: tests of 1,500 changes"),
    Figure("soak --minutes 120", ("soak.md",), elsewhere="it takes two hours by design"),
    # this repository
    Figure("aot", ("aot.md",)),
    Figure("imports", ("rooms.svg",)),
    Figure("newcomer", ("newcomer.md",)),
)


def _hindrance(figure: Figure, data: Path) -> str:
    """Why the command does not run here; "" where it does."""
    if figure.needs and not (data / figure.needs).exists():
        return f"{data / figure.needs} is not there"
    if missing := [name for name in figure.packages if find_spec(name) is None]:
        return f"{', '.join(missing)} not installed: pip install -r benchmarks/lock.txt"
    return figure.elsewhere


def _arguments(figure: Figure, data: Path) -> list[str]:
    return [word.replace("{data}", str(data)) for word in shlex.split(figure.command)]


def listed(data: Path) -> list[Row]:
    """List all tables, with their commands and what keeps them from being made here."""
    return [
        {
            "command": "python -m benchmarks " + shlex.join(_arguments(figure, data)),
            "tables": ", ".join(file.name for file in figure.files()) or "–",
            "here": _hindrance(figure, data) or "yes",
        }
        for figure in FIGURES
    ]


def made(data: Path, out: Path, figures: tuple[Figure, ...] = FIGURES) -> Iterator[Row]:
    """Run what can run here, one command after the other, and compare the tables with those before.

    Yields
    ------
    row
        Command, seconds, and what became of its tables, or why it did not run.
    """
    for figure in figures:
        arguments = _arguments(figure, data)
        row: Row = {"command": shlex.join(arguments)}
        if reason := _hindrance(figure, data):
            yield row | {"s": "", "result": f"not run: {reason}"}
            continue
        before = {file.name: file.read_bytes() for file in figure.files()}
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks", *arguments, "--out", str(out)]
        done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True)
        row["s"] = f"{time.monotonic() - began:.0f}"
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            yield row | {"result": f"failed: {last}"}
            continue
        after = {file.name: file.read_bytes() for file in figure.files(out)}
        changed = sorted(name for name in after if after[name] != before.get(name))
        yield row | {"result": f"other: {', '.join(changed)}" if changed else "the same"}
