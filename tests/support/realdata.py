"""Where the real taxonomies for tests lie, and the skip for when they are absent."""

import os
from pathlib import Path

import pytest

DATA = Path(
    os.environ.get("POINCARE_TAXA_DATA", Path(__file__).resolve().parents[3] / "shared" / "data")
)


def real_data(relative: str) -> Path:
    """Path of a real data file; skips the calling test where it is absent."""
    path = DATA / relative
    if not path.exists():
        pytest.skip(f"{relative} is not in {DATA} (set POINCARE_TAXA_DATA)")
    return path
