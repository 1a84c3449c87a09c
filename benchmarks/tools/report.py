"""The tables and plots of docs/benchmarks.md: one page for each device, from its rows.

Every table stands beside a sentence that says what is in it; sizes where this library loses are
listed, not left out.
"""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.measure import load
from benchmarks.speed import distances, scaling
from benchmarks.tables import markdown, pages, results, write_text
from poincare_taxa.files.atomic import replace_file

Measured = list[dict[str, Any]]

PAIRS, DIM = 10**6, 10
"""Of the tables that compare implementations; where a run was smaller, its largest size."""

COMPILED = "plain torch, torch.compile"
USERS = "pt.dist, pt.cdist"
SHORT = {
    "geoopt, eager": "geoopt",
    "geoopt, torch.compile": "geoopt, compiled",
    COMPILED: "plain torch, compiled",
}
STYLE = {
    "geoopt, eager": ("#888888", "o", "-"),
    "geoopt, torch.compile": ("#888888", "s", "--"),
    "HypLL": ("#c7902b", "^", "-"),
    "kernels, torch": ("#7fb2e5", "o", "-"),
    COMPILED: ("#7fb2e5", "s", "--"),
    "kernels, numba": ("#0b4f9e", "o", "-"),
    "kernels, triton": ("#0b4f9e", "D", "-"),
}
"""What is plotted: others grey and ochre, ours blue; with a compiler dashed."""


def devices(root: Path) -> list[Path]:
    """Folders that hold rows of the suite, below a folder that is laid out as a checkout."""
    return sorted({path.parent for path in results(root).glob("*/*.jsonl")})


def write(folder: Path, root: Path) -> Path:
    """Write the page of one device, and its plots, below such a folder."""
    path = pages(root) / f"{_name(folder)}.md"
    write_text(path, page(folder, pages(root)) + "\n")
    return path


def page(folder: Path, plots: Path | None) -> str:
    """Markdown of one device's page; its plots are drawn into a folder, if there is one."""
    rows = {path.stem: load(path) for path in sorted(folder.glob("*.jsonl"))}
    rows = {suite: mine for suite, mine in rows.items() if mine}
    parts = [f"## {next(iter(rows.values()))[0]['device']}", _facts(rows)]
    for suite, section in SECTIONS.items():
        if suite in rows:
            parts += section(rows[suite], f"{_name(folder)}-{suite}.svg", plots)
    return "\n\n".join(parts)


def _name(folder: Path) -> str:
    return f"benchmarks-{folder.name}"


# -------------------------------------------------------------------- what ran


def _facts(rows: dict[str, Measured]) -> str:
    table = []
    for suite, mine in rows.items():
        first, loads = mine[0], [row["load"] for row in mine if "load" in row]
        installed = {k: v for row in mine for k, v in row["versions"].items() if v}
        table.append(
            {
                "suite": suite,
                "rows": len(mine),
                "commit": ", ".join(dict.fromkeys(row["commit"] for row in mine)),
                "date": first["date"][:10],
                "system": first["driver"],
                "memory": f"{first['memory_bytes'] / 2**30:.0f} GiB",
                "load": f"{min(loads):.1f}–{max(loads):.1f}" if loads else "unknown",
                "versions": ", ".join(f"{name} {one}" for name, one in installed.items()),
            }
        )
    return (
        "What ran. *load* is the system's load average while rows were taken: more than the "
        "threads in use says that other programs were at work, and times are longer than on a "
        f"machine at rest.\n\n{markdown(table)}"
    )


# -------------------------------------------------------------------- distances


def distance_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    pairs = min(PAIRS, max(row["items"] for row in rows))
    at = [row for row in rows if row["items"] == pairs and row["dim"] == DIM]
    many = _many(pairs)
    parts = ["### Distances"]
    for manifold, about in (
        ("ball", "The ball. In brackets how many times faster than geoopt, eager."),
        ("polar", "Polar coordinates, radii up to 20. In brackets, against kernels, torch."),
    ):
        for dtype in ("float32", "float64"):
            mine = [r for r in at if _manifold(r) == manifold and r["dtype"] == dtype]
            if mine:
                title = f"**{many} pairs, {DIM} dimensions, {dtype}**: milliseconds. {about}"
                parts += [title, markdown(comparison(mine))]
    parts += [
        f"**What limits them** ({many} pairs, {DIM} dimensions): the fastest of this library's. "
        "Bytes, operations and special functions (roots, logarithms, exponentials) are the least "
        "that a pair needs; *of copy* and *of special* are the shares reached of what this "
        "device's own copy and logarithm reach, above 100 % where the points fit in a cache; "
        "*peak* is the memory that one block adds.",
        markdown(limits(at)),
    ]
    for key, title in (("items", "pairs"), ("dim", "dimensions")):
        by_size = key == "items"
        where = "the ball" if by_size else "the ball, 10⁷ coordinates a side"
        chosen = [
            row
            for row in rows
            if (row["dim"] == DIM if by_size else row["items"] == PAIRS * DIM // row["dim"])
        ]
        if len({row[key] for row in chosen}) > 1:
            parts += [
                f"**By {title}** ({where}): nanoseconds a pair, of the fastest library that is "
                "not this one, then of this library's kernels (without a compiler), and how many "
                "times faster these are; bold where they lose.",
                markdown(against(chosen, key, title)),
            ]
    parts += [f"**Where we lose**, all of it: what is faster than {USERS}, and by how much."]
    parts += [markdown(losses(rows))] if losses(rows) else ["Nowhere in these rows."]
    parts += _left(rows)
    if plots is not None:
        _plot_sizes(rows, plots / plot)
    parts.append(
        f"![Time a pair by size, {DIM} dimensions, in the ball; lower is better](tables/{plot})"
    )
    return parts


def comparison(rows: Measured) -> Measured:
    """Implementations down, tasks across."""
    table = []
    for name in _in_order(row["implementation"] for row in rows):
        line: dict[str, Any] = {"implementation": name}
        for task in _in_order(row["task"] for row in rows):
            row = _find(rows, implementation=name, task=task)
            line[task.removesuffix(", polar")] = _cell(row)
        table.append(line)
    return table


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"
    if row["status"] != "measured":
        return row["status"].split(":")[0]
    ratio = "" if row["against"] is None else f" ({row['against']:.1f}×)"
    return f"{_span(row)}{ratio}"


def limits(rows: Measured) -> Measured:
    table = []
    for task in _in_order(row["task"] for row in rows):
        for dtype in ("float32", "float64"):
            row = _fastest(rows, ours=True, task=task, dtype=dtype)
            if row is not None:
                table.append(
                    {
                        "task": task,
                        "dtype": dtype,
                        "by": row["implementation"],
                        "ns a pair": _number(1e9 / row["items_per_second"]),
                        "bytes": f"{row['bytes']:.0f}",
                        "operations": f"{row['flops']:.0f}",
                        "special": f"{row['special']:.0f}",
                        "of copy": f"{row['of_copy_bandwidth']:.0%}",
                        "of special": f"{row['of_special_limit']:.0%}",
                        "peak MiB": f"{row['peak_bytes'] / 2**20:.0f}",
                    }
                )
    return table


def against(rows: Measured, key: str, title: str) -> Measured:
    """The fastest of the others beside the fastest kernel, by size or dimension."""
    table = []
    ball = [row for row in rows if _manifold(row) == "ball"]
    for value in sorted({row[key] for row in ball}):
        line: dict[str, Any] = {title: _many(value) if key == "items" else value}
        for task in _in_order(row["task"] for row in ball):
            for dtype in ("float32", "float64"):
                about = {key: value, "task": task, "dtype": dtype}
                other = _fastest(ball, ours=False, **about)
                mine = _fastest(ball, ours=True, compiled=False, **about)
                line[f"{task}, {dtype}"] = _beside(other, mine)
        table.append(line)
    return table


def _beside(other: dict[str, Any] | None, mine: dict[str, Any] | None) -> str:
    if mine is None:
        return "–"
    ours = _number(1e9 / mine["items_per_second"])
    if other is None:
        return f"– / {ours}"
    ratio = mine["items_per_second"] / other["items_per_second"]
    text = f"{_number(1e9 / other['items_per_second'])} / {ours} = {ratio:.1f}×"
    return f"**{text}**" if ratio < 1 else text


def losses(rows: Measured) -> Measured:
    """Each measured size at which something is faster than what users of this library call."""
    table = []
    measured = [row for row in rows if row["status"] == "measured"]
    for mine in measured:
        if mine["implementation"] != USERS:
            continue
        others = [
            row
            for row in measured
            if _about(row) == _about(mine) and not row["implementation"].startswith("kernels")
        ]
        fastest = max(others, key=lambda row: row["items_per_second"])
        if fastest is not mine:
            table.append(_loss(fastest, mine))
    return table


def _loss(fastest: dict[str, Any], mine: dict[str, Any]) -> dict[str, Any]:
    ratio = fastest["items_per_second"] / mine["items_per_second"]
    return {
        "task": mine["task"],
        "dtype": mine["dtype"],
        "dimensions": mine["dim"],
        "pairs": _many(mine["items"]),
        "faster": fastest["implementation"],
        "by": f"{ratio:.2f}×",
    }


def _about(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["task"], row["dtype"], row["dim"], row["items"]


def _left(rows: Measured) -> list[str]:
    left = [row for row in rows if row["status"] != "measured"]
    return ["**What has no time**, and why.", markdown(reasons(left))] if left else []


def reasons(rows: Measured) -> Measured:
    """Implementations and why they were not timed, with the number of rows."""
    found: dict[tuple[str, str], Measured] = {}
    for row in rows:
        # Seconds differ from row to row.
        why = "left out: a call would take too long" if "take" in row["status"] else row["status"]
        found.setdefault((row["implementation"], why), []).append(row)
    return [
        {"implementation": name, "why": why, "rows": len(some)}
        for (name, why), some in found.items()
    ]


def _fastest(
    rows: Measured, *, ours: bool, compiled: bool = True, **about: Any
) -> dict[str, Any] | None:
    found = [
        row
        for row in rows
        if row["status"] == "measured"
        and (row["implementation"] not in distances.OTHERS) == ours
        and (compiled or row["implementation"] != COMPILED)
        and about.items() <= row.items()
    ]
    return max(found, key=lambda row: row["items_per_second"], default=None)


def _manifold(row: dict[str, Any]) -> str:
    return "polar" if row["task"].endswith("polar") else "ball"


def _plot_sizes(rows: Measured, path: Path) -> None:
    ball = [
        row
        for row in rows
        if _manifold(row) == "ball" and row["dim"] == DIM and row["status"] == "measured"
    ]
    tasks = _in_order(row["task"] for row in ball)
    figure, axes = _figure(2, len(tasks))
    for dtype, line in zip(("float32", "float64"), axes, strict=True):
        for task, ax in zip(tasks, line, strict=True):
            for name, (color, marker, dashes) in STYLE.items():
                mine = [
                    (row["items"], 1e9 / row["items_per_second"])
                    for row in ball
                    if (row["implementation"], row["task"], row["dtype"]) == (name, task, dtype)
                ]
                if mine:
                    ax.loglog(
                        *zip(*sorted(mine), strict=True),
                        color=color,
                        marker=marker,
                        linestyle=dashes,
                        markersize=4,
                        linewidth=2 if name.startswith("kernels") else 1.2,
                        label=SHORT.get(name, name),
                    )
            ax.set_title(f"{task}\n{dtype}", fontsize=9)
        line[0].set_ylabel("ns a pair")
    for ax in axes[-1]:
        ax.set_xlabel("pairs")
    _save(figure, path, axes)


# -------------------------------------------------------------------- steps, nearest, training


def steps_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    table = []
    for row in rows:
        line: dict[str, Any] = {
            "step": row["task"],
            "by": row["implementation"],
            "dimensions": row.get("dim", ""),
            "dtype": row.get("dtype", ""),
            "taxa": f"{row['taxa']:,}",
            "ms": _span(row) if row["status"] == "measured" else row["status"],
        }
        timed = row["status"] == "measured"
        line["taxa a second"] = _many(row["items_per_second"]) if timed else ""
        line["peak MiB"] = f"{row['peak_bytes'] / 2**20:.0f}" if timed else ""
        table.append(line)
    return [
        "### Steps of a run",
        "Synthetic taxonomies. Checked first: the table read is the one written; radii are τ times "
        "the depth and distances near τ times the tree's; no kept pass of the refinement is worse; "
        "mean ranks are those of plain counting. *peak* is the memory that a run adds.",
        markdown(table),
    ]


def search_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    table = []
    for row in sorted(rows, key=lambda row: (row["task"], row["taxa"], row["queries"])):
        timed = row["status"] == "measured"
        shown = {key: row[key] for key in ("task", "implementation", "dtype")}
        shown |= {key: f"{row[key]:,}" for key in ("taxa", "queries")}
        shown["ms"] = _span(row) if timed else row["status"].split(":")[0]
        shown["ms a query"] = _number(1e3 * row["seconds"] / row["queries"]) if timed else ""
        shown["distances a second"] = f"{row['items_per_second']:.2g}" if timed else ""
        shown["peak MiB"] = f"{row['peak_bytes'] / 2**20:.0f}" if timed else ""
        table.append(shown)
    return [
        "### Searches of all taxa",
        f"Layouts of synthetic taxonomies, {rows[0]['dim']} dimensions, polar; every row is "
        "compared with every query. The answers must be those of plain distances, sorted or "
        "counted. *Ranks of all ancestors* is what mean rank and MAP need: with as many queries "
        "as taxa it is exact evaluation.",
        markdown(table),
        *_left(rows),
    ]


def exact_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    table = []
    for row in rows:
        timed = row["status"] == "measured"
        line: dict[str, Any] = {"taxa": f"{row['taxa']:,}", "dtype": row["dtype"]}
        line["seconds"] = _number(row["seconds"]) if timed else row["status"]
        line["distances a second"] = f"{row['taxa'] ** 2 / row['seconds']:.2g}" if timed else ""
        line["peak MiB"] = f"{row['peak_bytes'] / 2**20:.0f}" if timed else ""
        table.append(line)
    return [
        "### Exact evaluation",
        "The whole report with every taxon as a query, once. Checked first: on a small taxonomy "
        "its values are those of scanning each query's row of distances.",
        markdown(table),
    ]


def step_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    parts = [
        "### A step of training",
        f"*Gradient*: gather rows of a table, distances, softmax loss, gradients of the rows that "
        f"were touched, {rows[0]['dim']} dimensions; losses and gradients are compared with "
        "float64 autograd through the definition. *Step*: that, drawing pairs and negatives, and "
        "the optimizer; its loss had to fall. In brackets how many times faster than geoopt "
        "(ball), or than plain torch (polar). An item is a pair with all its negatives.",
    ]
    table = []
    for row in rows:
        timed = row["status"] == "measured"
        table.append(
            {
                "task": row["task"],
                "by": row["implementation"],
                "dtype": row["dtype"],
                "rows of the table": f"{row['taxa']:,}",
                "pairs": f"{row['items']:,}",
                "ms": _cell({"against": None} | row),
                "pairs a second": _many(row["items_per_second"]) if timed else "",
                "peak MiB": f"{row['peak_bytes'] / 2**20:.0f}" if timed else "",
            }
        )
    return [*parts, markdown(table), *_left(rows)]


def training_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    parts = [
        "### Training",
        f"Whole jobs in {rows[0]['dim']} dimensions, one thread each: pairs a second, and how many "
        "times those of the other programs. A job counts if it learned: its loss had to fall, and "
        "the MAP of ancestors to rise. Other programs train in the small batches of their own "
        "design.",
    ]
    for task in _in_order(row["task"] for row in rows):
        mine = [row for row in rows if row["task"] == task]
        speed = {row["implementation"]: row.get("items_per_second") for row in mine}
        table = []
        for name, pairs in speed.items():
            row = _find(mine, implementation=name) or {}
            line = {"job": name, "pairs a second": f"{pairs:,.0f}" if pairs else row["status"]}
            for other in ("facebookresearch", "gensim"):
                known = pairs and speed.get(other)
                line[f"× {other}"] = f"{pairs / known:.1f}" if known and pairs else ""
            table.append(line)
        parts += [f"**{task}**", markdown(table)]
    return parts


# -------------------------------------------------------------------- the scaling law


def scaling_section(rows: Measured, plot: str, plots: Path | None) -> list[str]:
    fitted = scaling.fit_law(rows)
    lines = scaling.errors(rows, fitted)
    if plots is not None:
        _plot_scaling(lines, plots / plot)
    return [
        "### The scaling law",
        "Each step on synthetic taxonomies in a process of its own: seconds (on one thread the "
        "processor's, so that other programs count less), in brackets by how much the law is off. "
        "Evaluation asks 1,000 queries (every taxon up to 5,000 taxa; "
        "100 beyond 100,000), refinement makes at most two passes of 256 queries (64 beyond "
        "100,000).",
        markdown(scaling_table(lines, "seconds", lambda seconds: f"{seconds:.3g}")),
        "GiB that the process holds at the peak of each step, in brackets by how much the law is "
        "off.",
        markdown(scaling_table(lines, "memory", lambda size: f"{size / 2**30:.2f}")),
        "Exponents of n where n is 100,000 or more, and the largest errors of the law: on the "
        "points it was fitted to, and on a size that was held out of the fit.",
        markdown(law_table(rows, lines)),
        f"![Time and memory against the number of taxa](tables/{plot})",
        "The line of evaluation dips where fewer queries are asked.",
    ]


def scaling_table(lines: Measured, what: str, written: Callable[[float], str]) -> Measured:
    """Sizes down, steps across."""
    table = []
    for taxa in sorted({line["taxa"] for line in lines}):
        shown: dict[str, Any] = {"taxa": f"{taxa:,}"}
        for step in scaling.STEPS:
            line = _find(lines, taxa=taxa, step=step)
            if line is not None:
                shown[step] = f"{written(line[what])} ({line[f'{what}, law, error']:+.0%})"
        table.append(shown)
    return table


def law_table(rows: Measured, lines: Measured) -> Measured:
    slopes = scaling.slopes(rows)
    table = []
    for step in scaling.STEPS:
        mine = [line for line in lines if line["step"] == step]
        if not mine:
            continue
        shown: dict[str, Any] = {"step": step}
        for what, short in (("seconds", "time"), ("memory", "memory")):
            slope = slopes[step][what]
            shown[f"{short} ∝"] = "" if math.isnan(slope) else f"n^{slope:.2f}"
            for kind, title in (("law", "error"), ("law, held out", "error, held out")):
                worst = max((line[f"{what}, {kind}, error"] for line in mine), key=abs)
                shown[f"{short}, {title}"] = f"{worst:+.0%}"
        table.append(shown)
    return table


def _plot_scaling(lines: Measured, path: Path) -> None:
    figure, axes = _figure(1, 2, width=4.4, share=False)
    panels = (("seconds", 1, "seconds"), ("memory", 2**30, "GiB at the peak"))
    colors = ("#0b4f9e", "#c7902b", "#3a9a5b", "#b5402a", "#7b5aa6", "#e08a7a")
    for ax, (what, scale, title) in zip(axes[0], panels, strict=True):
        for step, color in zip(scaling.STEPS, colors, strict=True):
            mine = sorted(
                (line["taxa"], line[what] / scale, line[f"{what}, law"] / scale)
                for line in lines
                if line["step"] == step
            )
            if not mine:
                continue
            taxa, measured, law = zip(*mine, strict=True)
            ax.loglog(taxa, measured, "o", color=color, markersize=4, label=step)
            ax.loglog(taxa, law, "-", color=color, linewidth=1)
        ax.set(xlabel="taxa", ylabel=title)
    for ax in axes[0]:
        ax.set_title("dots measured, lines the law", fontsize=9)
    _save(figure, path, axes)


# -------------------------------------------------------------------- small things

SECTIONS: dict[str, Callable[[Measured, str, Path | None], list[str]]] = {
    "distance": distance_section,
    "search": search_section,
    "exact": exact_section,
    "step": step_section,
    "training": training_section,
    "steps": steps_section,
    "scaling": scaling_section,
}


def _find(rows: Measured, **about: Any) -> dict[str, Any] | None:
    return next((row for row in rows if about.items() <= row.items()), None)


def _in_order(values: Iterable[str]) -> list[str]:
    """Once each: as in `distances.IMPLEMENTATIONS`, or as they come."""
    known = list(distances.IMPLEMENTATIONS)
    return sorted(dict.fromkeys(values), key=lambda v: known.index(v) if v in known else -1)


def _span(row: dict[str, Any]) -> str:
    """Median and quantiles in milliseconds."""
    middle, *ends = (1e3 * row[key] for key in ("seconds", "seconds_20", "seconds_80"))
    return f"{_number(middle)} [{'–'.join(map(_number, ends))}]"


def _number(x: float) -> str:
    """Three digits, without an exponent."""
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _many(number: float) -> str:
    """1000 as 1,000; powers of ten from a million on as 10⁶."""
    exponent = len(str(int(number))) - 1
    if number == 10**exponent and exponent >= 6:
        return "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(digit)] for digit in str(exponent))
    return f"{number:,.0f}"


def _figure(rows: int, columns: int, *, width: float = 2.6, share: bool = True) -> tuple[Any, Any]:
    import matplotlib.pyplot as plt

    size = (width * columns + 0.6, 2.5 * rows + 0.8)
    return plt.subplots(rows, columns, figsize=size, sharex=True, sharey=share, squeeze=False)


def _save(figure: Any, path: Path, axes: Any) -> None:
    """One legend below all panels."""
    import matplotlib.pyplot as plt

    named = {}
    for ax in axes.flat:
        ax.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
        handles, labels = ax.get_legend_handles_labels()
        named |= dict(zip(labels, handles, strict=True))
    columns = len(named) if len(named) <= 6 else 4
    figure.legend(
        named.values(), named, loc="lower center", ncol=columns, frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0.06 + 0.06 / axes.shape[0], 1, 1))
    with replace_file(path) as draft:
        figure.savefig(draft, metadata={"Date": None})
    plt.close(figure)
