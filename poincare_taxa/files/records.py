"""What stands in the records that the library writes: its own version."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["library_version"]


def library_version() -> str:
    """Return the version of the installed library; "uninstalled" in a bare checkout."""
    try:
        return version("poincare-taxa")
    except PackageNotFoundError:
        return "uninstalled"
