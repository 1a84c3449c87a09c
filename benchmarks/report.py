"""Tables and plots of docs/benchmarks.md, from the rows under results/."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import scaling
from benchmarks.tables import PAGES, RESULTS, write_markdown

Measured = list[dict[str, Any]]
SHOWN = 10**6  # Pairs of the table.


def load(folder: Path, suite: str) -> Measured:
    path = folder / f"{suite}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(folder: Path, *, plots: bool = True) -> list[str]:
    """Write the tables and plots of one device; return their names."""
    written = []
    distance = load(folder, "distance")
    if distance:
        largest = max(row["items"] for row in distance if "items" in row)
        table = distance_table(distance, min(SHOWN, largest))
        write_markdown(f"benchmarks-distance-{folder.name}", table)
        written.append(f"benchmarks-distance-{folder.name}")
    law = load(folder, "scaling")
    if law:
        write_markdown(f"benchmarks-scaling-{folder.name}", scaling_table(law))
        written.append(f"benchmarks-scaling-{folder.name}")
    training = load(folder, "training")
    if training:
        write_markdown(f"benchmarks-training-{folder.name}", training_table(training))
        written.append(f"benchmarks-training-{folder.name}")
    if plots and distance:
        _plot_distance(distance, PAGES / f"benchmarks-distance-{folder.name}.svg")
    if plots and law:
        _plot_scaling(law, PAGES / f"benchmarks-scaling-{folder.name}.svg")
    return written


def devices() -> list[Path]:
    """Folders of results that hold rows of the suite."""
    return sorted({path.parent for path in RESULTS.glob("*/*.jsonl")})


def distance_table(rows: Measured, pairs: int) -> list[dict[str, object]]:
    """One line per implementation at one size in 10 dimensions, what was refused included."""
    table = []
    for row in rows:
        if row.get("items", pairs) != pairs or row["dim"] != 10:
            continue
        line: dict[str, object] = {
            "task": row["task"],
            "dtype": row["dtype"],
            "implementation": row["implementation"],
        }
        if row["status"] == "measured":
            low, high = 1e3 * row["seconds_20"], 1e3 * row["seconds_80"]
            line["ms (20–80 %)"] = f"{1e3 * row['seconds']:.1f} ({low:.1f}–{high:.1f})"
            line["× geoopt eager"] = "1" if row["against"] is None else f"{row['against']:.2f}"
            line["of copy"] = f"{row['of_copy_bandwidth']:.0%}"
            line["of special"] = f"{row['of_special_limit']:.0%}"
            line["peak MiB"] = f"{row['peak_bytes'] / 2**20:.0f}"
        else:
            line |= {"ms (20–80 %)": row["status"]}
            line |= dict.fromkeys(["× geoopt eager", "of copy", "of special", "peak MiB"], "")
        table.append(line)
    return table


def training_table(rows: Measured) -> list[dict[str, object]]:
    """Pairs per second of each job, and how many times those of the slower programs."""
    speed = {row["implementation"]: row.get("items_per_second") for row in rows}
    table = []
    for row in rows:
        line: dict[str, object] = {"job": row["implementation"]}
        mine = row.get("items_per_second")
        line["pairs per second"] = f"{mine:,.0f}" if mine else row["status"]
        for other in ("facebookresearch", "gensim"):
            known = mine and speed.get(other)
            line[f"× {other}"] = f"{mine / speed[other]:.1f}" if known else ""
        table.append(line)
    return table


def scaling_table(rows: Measured) -> list[dict[str, object]]:
    """Time and memory of each step, and by how much the law misses it."""
    fitted = scaling.planning.fit_law(rows)
    lines = scaling.errors(rows, fitted)
    return [
        {
            "step": line["step"],
            "taxa": f"{line['taxa']:,}",
            "seconds": f"{line['seconds']:.3g}",
            "law": f"{line['seconds error']:+.0%}",
            "law without this size": f"{line['seconds error, held out']:+.0%}",
            "GiB": f"{line['memory'] / 2**30:.2f}",
            "law of memory": f"{line['memory error']:+.0%}",
        }
        for line in sorted(lines, key=lambda line: scaling.planning.STEPS.index(line["step"]))
    ]


def _plot_distance(rows: Measured, path: Path) -> None:
    import matplotlib.pyplot as plt

    tasks = sorted({row["task"] for row in rows})
    figure, axes = plt.subplots(1, len(tasks), figsize=(3.2 * len(tasks), 3.2), sharey=True)
    for ax, task in zip(_list(axes), tasks, strict=True):
        chosen = [
            row
            for row in rows
            if (row["task"], row["dtype"], row["dim"]) == (task, "float32", 10)
            and row["status"] == "measured"
        ]
        for name in dict.fromkeys(row["implementation"] for row in chosen):
            mine = [row for row in chosen if row["implementation"] == name]
            x, y = [r["items"] for r in mine], [r["items_per_second"] for r in mine]
            ax.loglog(x, y, "o-", label=name, markersize=3)
        ax.set(title=task, xlabel="pairs")
        ax.title.set_fontsize(8)
    _list(axes)[0].set_ylabel("pairs per second (float32, 10-D)")
    _list(axes)[-1].legend(fontsize=6)
    _save(figure, path)


def _plot_scaling(rows: Measured, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    for ax, what, scale in zip(axes, ("seconds", "memory"), (1, 2**30), strict=True):
        for step in scaling.planning.STEPS:
            mine = [row for row in rows if row["step"] == step]
            x, y = [r["taxa"] for r in mine], [r[what] / scale for r in mine]
            ax.loglog(x, y, "o-", label=step, markersize=3)
        ax.set(xlabel="taxa", ylabel="seconds" if what == "seconds" else "GiB at the peak")
    axes[0].legend(fontsize=8)
    _save(figure, path)


def _list(axes: Any) -> Sequence[Any]:
    return list(getattr(axes, "flat", [axes]))


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)
    print(path)
