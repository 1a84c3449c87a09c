"""Compile every Triton kernel for GPUs that are not here: registers, shared memory, spills.

What is compiled is what the launchers start: their calls are taken down, and handed to Triton's
compiler with a driver that knows nothing but the name of its GPU. No GPU is needed.
"""

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

from poincare_taxa.kernels import triton as kernels
from poincare_taxa.kernels.arguments import Comparison, Pairs, Points
from poincare_taxa.kernels.triton import pairs, search, tiles

PTXAS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
DTYPES = {"float32": torch.float32, "float64": torch.float64}
Launch = tuple[Any, tuple[Any, ...], dict[str, Any]]


def launches(polar: bool, dtype: torch.dtype, dim: int) -> list[Launch]:
    """Take down every kernel that the backend starts, with its arguments."""
    seen: list[Launch] = []

    def record(kernel: Any, grid: object, *arguments: Any, **settings: Any) -> None:
        seen.append((kernel, arguments, settings))

    x = torch.rand(301, dim + polar, dtype=dtype) / dim
    i, j = torch.arange(200), torch.arange(1, 201)
    valid, ones = torch.ones(200, 99, dtype=torch.bool), x.new_ones(200)
    points = Points(x[:, 0], x[:, 1:], 1.0) if polar else Points(None, x, 1.0)
    with (
        patch.object(pairs, "launch", record),
        patch.object(search, "launch", record),
        patch.object(tiles, "launch", record),
    ):
        kernels.pairs_forward(Pairs(x, i, x, j, polar, 1.0))
        kernels.pairs_backward(Pairs(x, i, x, j, polar, 1.0), ones)
        kernels.cdist(x, x, polar, 1.0)
        kernels.cdist_backward(x, x[:200], polar, 1.0, x.new_ones(301, 200))
        for about in ((valid, x.new_zeros(1, 99)), (valid, None, ones)):
            compared = x, i, j, torch.arange(99), Comparison(*about, polar=polar)
            _, saved = kernels.ranking_forward(*compared)
            kernels.ranking_backward(*compared, saved, ones)
        for ancestor in (False, True):
            rows = points, points.at(i)
            kernels.nearest(*rows, 5, ancestor, i, None)
            kernels.count_nearer(*rows, i[:, None], ancestor, i)
    return seen


def compiled(launch: Launch, architecture: int) -> dict[str, Any]:
    """Compile for an architecture and ask for its use of a multiprocessor."""
    kernel, arguments, settings = launch
    target = GPUTarget("cuda", architecture, 32)
    driver.set_active(
        SimpleNamespace(
            get_current_device=lambda: architecture,  # one cache of kernels for each
            get_current_stream=lambda device: 0,
            get_current_target=lambda: target,
        )
    )
    binary = kernel.warmup(*arguments, grid=(1,), **settings)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(binary.asm["ptx"], encoding="utf-8")
        gpu = re.search(r"\.target (\w+)", binary.asm["ptx"])
        assert gpu is not None
        command = [PTXAS, "-v", f"--gpu-name={gpu[1]}", source, "-o", source.with_suffix(".cubin")]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    registers = re.search(r"Used (\d+) registers", report)
    assert spills is not None
    assert registers is not None, report
    return {
        "threads": 32 * binary.metadata.num_warps,
        "registers": int(registers[1]),
        "shared_bytes": binary.metadata.shared,
        "spilled_bytes": int(spills[1]) + int(spills[2]),
    }


def name_of(launch: Launch) -> str:
    kernel, arguments, settings = launch
    kind = settings.get("KIND")
    name = kernel.__name__.removesuffix("_kernel")
    turned = name == "pull" and arguments[7 if kind == "given" else 8] == 1  # a step
    variants = {
        "KIND": f"{kind}{', transposed' if turned else ''}",
        "SOFTMAX": "softmax" if settings.get("SOFTMAX") else "margin",
        "ANCESTOR": "ancestor" if settings.get("ANCESTOR") else "distance",
    }
    return ", ".join([name, *(variants[key] for key in variants if key in settings)])


def rows(dims: list[int], dtypes: list[str], architectures: list[int]) -> Iterator[dict[str, Any]]:
    """Yield a row for each kernel, once: searches are in float64 whatever the points are."""
    seen = set()
    for dim, dtype, polar in product(dims, dtypes, (False, True)):
        for launch in launches(polar, DTYPES[dtype], dim):
            name = name_of(launch)
            stored = "float64" if launch[0].__module__.endswith(".search") else dtype
            key = (name, polar, stored, dim)
            if key in seen:
                continue
            seen.add(key)
            for architecture in architectures:
                yield {
                    "kernel": name,
                    "manifold": "polar" if polar else "ball",
                    "arithmetic": stored,
                    "dim": dim,
                    "architecture": f"sm_{architecture}",
                } | compiled(launch, architecture)


def page(found: list[dict[str, Any]]) -> list[dict[str, object]]:
    """One line per kernel: registers of a thread and, where there are any, bytes spilled."""
    lines: dict[tuple[object, ...], dict[str, object]] = {}
    for row in found:
        about = {key: row[key] for key in ("kernel", "arithmetic", "dim")}
        spilled = f" ({row['spilled_bytes']} B spilled)" if row["spilled_bytes"] else ""
        line = lines.setdefault(tuple(about.values()), about)
        line[f"{row['manifold']}, {row['architecture']}"] = f"{row['registers']}{spilled}"
    return list(lines.values())


def measure(*, quick: bool) -> Iterator[dict[str, Any]]:
    """Compile everything for two architectures, which takes minutes; or each kernel once."""
    if kernels.INTERPRETED:
        sys.exit("unset TRITON_INTERPRET: it turns kernels into Python, which nothing compiles")
    return rows([10], ["float32"], [90]) if quick else rows([10], list(DTYPES), [80, 90])
