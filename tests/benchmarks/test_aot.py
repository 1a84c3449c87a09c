"""Kernels compile for a GPU, without one: what runs in Triton's interpreter alone cannot land."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def test_aot__every_kernel_compiles_within_the_registers(tmp_path):
    pytest.importorskip("triton", reason="triton is not installed (extra: gpu)")
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "benchmarks", "aot", "--quick"]
    result = subprocess.run(
        command,
        cwd=Path(__file__).parents[2],
        env=environment | {"TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    rows = [line.split(" · ") for line in result.stdout.splitlines()]
    assert {row[0].split(",")[0] for row in rows} == {
        *("pairs", "pairs_backward", "cdist", "pull", "ranking", "minima", "keys", "count")
    }
    # the compiler trades a few bytes for more threads in flight; hundreds mean a tile too large
    assert max(int(row[-1]) for row in rows) <= 64
