"""What a first call of `fit` imports."""

import subprocess
import sys

# Loaded by neither geoopt nor a fit: compilers, drawing, statistics, graphs and downloads.
# (`torch.optim.SGD(…)` loads torch._dynamo and torch._inductor, 1.3 s; the optimizers here do not.)
HEAVY = {
    "matplotlib",
    "networkx",
    "pooch",
    "rich",
    "scipy.interpolate",
    "scipy.ndimage",
    "scipy.stats",
    "torch._dynamo",
    "torch._inductor",
    "torch.utils.tensorboard",
    "triton",
    "typer",
}


def test_first_fit__imports_nothing_heavy():
    program = (
        "import sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import poincare_taxa as pt\n"
        "pt.fit(pt.load_sample('mammals').subtree('Felidae'), dim=3, epochs=1, progress=False)\n"
        "print(*sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert {"torch", "geoopt", "polars", "numba"} <= loaded
    assert not HEAVY & loaded
