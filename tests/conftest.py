"""Settings of every test run: Hypothesis profiles, one thread per process, no display."""

import os
from types import SimpleNamespace

os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch
from hypothesis import settings

from poincare_taxa.files import progress

# A first call that imports or compiles takes longer than any per-example deadline.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=100, derandomize=True, print_blob=True)
settings.register_profile("nightly", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

torch.set_num_threads(1)

# Without a device Triton's kernels run in its interpreter, chosen where they are first imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# No line of progress on a machine that is slow today; tests of progress have a clock of their own.
progress._LOG_PAUSE = 1e9


@pytest.fixture
def every_step(monkeypatch):
    """Progress in a log as it comes: no pause, on a clock that stands still."""
    monkeypatch.setattr(progress, "_LOG_PAUSE", 0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: 0.0))
