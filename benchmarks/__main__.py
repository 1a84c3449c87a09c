"""The command ``python -m benchmarks``."""

from benchmarks.cli import app

app()
