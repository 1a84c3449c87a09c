"""How machine code is kept, and how work is shared by threads."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import torch

import poincare_taxa
from poincare_taxa.kernels.numba.compile import STATE, in_threads
from poincare_taxa.kernels.numba.matrix import cdist_loop

DISTANCE = """
import poincare_taxa
import torch

x = torch.tensor([[0.0, 0.0]])
print(poincare_taxa.__file__, poincare_taxa.kernels.dist(x, x + 0.5, backend="numba").item())
"""


def test_machine_code__is_kept_under_the_state_of_all_sources():
    """A change of a helper in another file must not leave old loops on disk in use."""
    compiled = cdist_loop(np.dtype("float32"))
    assert compiled.py_func.__qualname__ == f"cdist_loop_{STATE}"


def test_machine_code__is_not_needed_on_disk(tmp_path):
    """An installation and a home that cannot be written.

    Permissions do not bind an administrator: files stand where folders would be made.
    """
    installed = tmp_path / "poincare_taxa"
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(poincare_taxa.__file__).parent, installed, ignore=ignore)
    for folder in [installed, *(path for path in installed.rglob("*") if path.is_dir())]:
        (folder / "__pycache__").touch()
    home = tmp_path / "home"
    home.touch()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("NUMBA_", "XDG_"))}
    result = subprocess.run(
        [sys.executable, "-c", DISTANCE],
        env=environment | {"HOME": str(home), "PYTHONPATH": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    place, distance = result.stdout.split()
    assert Path(place).is_relative_to(tmp_path)
    assert abs(float(distance) - 2 * np.arctanh(0.5**0.5)) < 1e-6


def test_in_threads__covers_the_total_once_from_several_callers_at_a_time():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    counts = np.zeros((4, 1001), int)

    def caller(row):
        def part(start, stop):
            counts[row, start:stop] += 1

        for _ in range(50):
            in_threads(part, 1001, 10, step=8)

    try:
        callers = [threading.Thread(target=caller, args=(row,)) for row in range(4)]
        for each in callers:
            each.start()
        for each in callers:
            each.join()
    finally:
        torch.set_num_threads(before)
    assert (counts == 50).all()
