"""Exact versions of everything that is installed where the published figures are made.

``constraints.txt`` pins what the tests need; the lock repeats those pins and adds the programs that
only benchmarks compare with. It is a file of requirements: ``pip install -r benchmarks/lock.txt``.
"""

import platform
import re
from importlib.metadata import distributions
from pathlib import Path

__all__ = ["FILE", "pins", "text"]

FILE = Path("benchmarks", "lock.txt")
_OURS = {"poincare-taxa", "pip"}


def pins(lines: str) -> dict[str, str]:
    """Read the versions of a file of pins, by normalised name."""
    found = re.findall(r"^([\w.-]+)==([^\s;#]+)", lines, re.MULTILINE)
    return {_normal(name): version for name, version in found}


def text() -> str:
    """Write the versions of this environment, one a line; a build of torch without its suffix."""
    found = {
        _normal(one.metadata["Name"]): one.version.partition("+")[0] for one in distributions()
    }
    head = (
        "# Everything that was installed where the tables of docs/tables were made:\n"
        f"# Python {platform.python_version()}, {platform.system()} {platform.machine()}."
        " Written by `python -m benchmarks lock --out .`\n"
    )
    lines = [f"{name}=={found[name]}" for name in sorted(found) if name not in _OURS]
    return head + "\n".join(lines) + "\n"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
