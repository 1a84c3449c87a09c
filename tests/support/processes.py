"""Programs run by torchrun, or by several processes without it."""

import os
import subprocess
import sys
from pathlib import Path

PREAMBLE = """
import os, sys, warnings
warnings.simplefilter("ignore")
import torch
torch.set_num_threads(1)
import poincare_taxa as pt
from poincare_taxa.processes import Processes
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
