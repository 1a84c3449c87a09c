"""What torchrun says of this process, in its environment."""

import os
import socket

__all__ = ["job", "number_of_processes", "restarted"]


def number_of_processes() -> int:
    """How many processes torchrun has started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1)) if "TORCHELASTIC_RUN_ID" in os.environ else 1


def restarted() -> bool:
    """Whether torchrun has started this process anew, after one has died."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", 0)) > 0


def job() -> str | None:
    """Name of the torchrun that this process is of, the same after a restart; None without one."""
    name = os.environ.get("TORCHELASTIC_RUN_ID")
    if name in (None, "none"):  # not named: known by its process
        return None if name is None else f"{socket.gethostname()}-{os.getppid()}"
    return name
