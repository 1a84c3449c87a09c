"""Programs run by torchrun, or by several processes or threads without it."""

import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from poincare_taxa.processes.group import Processes

PREAMBLE = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import poincare_taxa as pt
from poincare_taxa.processes.group import Processes
out, rank = sys.argv[1], int(os.environ.get("RANK", 0))
"""


def torchrun(folder: Path, program: str, size: int, *, restarts: int = 0, name: str = "out") -> str:
    """Run a program in so many processes with the path folder/name; return its standard error.

    With size 0 it runs without torchrun. A program that fails raises `CalledProcessError`.
    """
    script = folder / f"{name}.py"
    script.write_text(PREAMBLE + program)
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={size}"]
    launcher += [f"--max-restarts={restarts}"]
    command = [sys.executable, "-W", "ignore", *(launcher if size else []), script, folder / name]
    done = subprocess.run(
        command, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        error = subprocess.CalledProcessError(done.returncode, command, done.stdout, done.stderr)
        error.add_note(done.stderr[-4000:])
        raise error
    return done.stderr


class InThreads(Processes):
    """What a process knows of others, where threads take the place of processes."""

    def __init__(self, rank: int, barrier: threading.Barrier, found: list[Any]) -> None:
        super().__init__(rank, len(found))
        self.barrier, self.found = barrier, found

    def each(self, action: Callable[[], Any]) -> list[Any]:
        try:
            self.found[self.rank] = action()
        except Exception as error:
            self.found[self.rank] = error
        self.barrier.wait()
        found = pickle.loads(pickle.dumps(self.found))  # as what is sent
        self.barrier.wait()
        for part in found:
            if isinstance(part, Exception):
                raise part
        return found

    def _gathered(self, tensor: Tensor) -> Tensor:
        return torch.stack(self.each(lambda: tensor))

    def once(self, action: Callable[[], Any]) -> Any:
        return self.each(lambda: action() if self.rank == 0 else None)[0]


def in_threads(size: int, program: Callable[[int], Any]) -> list[Any]:
    """Run a program of the rank in so many threads that join as processes do; results of each."""
    here, barrier, found = threading.local(), threading.Barrier(size), [None] * size

    def one(rank: int) -> Any:
        here.processes = InThreads(rank, barrier, found)
        try:
            return program(rank)
        except BaseException:
            barrier.abort()  # what the launcher does to the others
            raise

    with (
        patch.object(Processes, "joined", lambda: here.processes),
        ThreadPoolExecutor(size) as pool,
    ):
        runs = [pool.submit(one, rank) for rank in range(size)]
        errors = [run.exception() for run in runs]
        for error in errors:
            if error is not None and not isinstance(error, threading.BrokenBarrierError):
                raise error
        return [run.result() for run in runs]
