"""The row-wise optimizer beside geoopt's: time of a step on a large table, loss on a small tree.

One thread. Every optimizer steps the same kind of table (10-D
`Polar`, float64) by the same gradients; the time is the median of some steps after the first.
"""

import statistics
import warnings
from collections.abc import Callable

import torch

import poincare_taxa as pt
from benchmarks.measure import Machine, stopwatch
from benchmarks.tables import Row

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # geoopt 0.5.1 at import
    import geoopt

DIM, TOUCHED, SEEDS = 10, 20_000, 3
STEPS, BATCH = 600, 512

OPTIMIZERS: dict[str, tuple[bool, int, Callable[..., torch.optim.Optimizer]]] = {
    "RowwiseRiemannianAdam, sparse": (True, 9, pt.RowwiseRiemannianAdam),
    "RowwiseRiemannianAdam, dense": (False, 5, pt.RowwiseRiemannianAdam),
    "geoopt SparseRiemannianAdam": (True, 9, geoopt.optim.SparseRiemannianAdam),
    "geoopt RiemannianAdam": (False, 2, geoopt.optim.RiemannianAdam),
    "geoopt RiemannianSGD": (False, 2, geoopt.optim.RiemannianSGD),
}


def table(rows: int, sparse: bool, seed: int) -> pt.PoincareEmbedding:
    generator = torch.Generator().manual_seed(seed)
    return pt.PoincareEmbedding(rows, DIM, sparse=sparse, generator=generator)


def step_time(rows: int, name: str) -> tuple[float, float]:
    """Seconds of a step that touches some rows, and bytes of state a row."""
    sparse, repeats, make = OPTIMIZERS[name]
    emb = table(rows, sparse, 0)
    optimizer = make(emb.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(1)
    seconds = []
    for _ in range(repeats + 1):
        u, v = torch.randint(rows, (2, TOUCHED // 2), generator=generator)
        optimizer.zero_grad()
        emb.dist(u, v).sum().backward()
        with stopwatch() as elapsed:
            optimizer.step()
        seconds.append(elapsed.wall)
    state = sum(
        value.numel() * value.element_size()
        for values in optimizer.state.values()
        for value in values.values()
        if torch.is_tensor(value)
    )
    return statistics.median(seconds[1:]), state / rows


def final_stress(tree: pt.blocks.TreeIndex, name: str, lr: float, seed: int) -> float:
    """Stress at fresh pairs after training a random start."""
    sparse, _, make = OPTIMIZERS[name]
    emb = table(len(tree), sparse, seed)
    optimizer = make(emb.parameters(), lr=lr)
    generator = torch.Generator().manual_seed(seed)
    pairs = pt.blocks.LCAPairs(tree)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = lr * (1 - step / STEPS)
        u, v = pairs.sample(BATCH, generator=generator).unbind(1)
        optimizer.zero_grad()
        pt.blocks.stress_loss(emb.dist(u, v), tree.distance(u, v), tau=1.0).backward()
        optimizer.step()
    with torch.no_grad():
        u, v = pairs.sample(20_000, generator=generator).unbind(1)
        return float(pt.blocks.stress_loss(emb.dist(u, v), tree.distance(u, v), tau=1.0))


def measure(rows: int) -> list[Row]:
    """One row for each optimizer: a step on a table of many rows, stress of a small one."""
    Machine.of("cpu", 1)
    tree = pt.blocks.TreeIndex(pt.load_sample("mammals").subtree("Carnivora"))
    with torch.no_grad():
        emb = table(len(tree), False, 0)
        u, v = pt.blocks.LCAPairs(tree).sample(20_000).unbind(1)
        floor = float(pt.blocks.stress_loss(emb.dist(u, v), tree.distance(u, v), tau=1.0))
    out: list[Row] = []
    for name in OPTIMIZERS:
        seconds, state = step_time(rows, name)
        by_lr = {
            lr: statistics.mean(final_stress(tree, name, lr, seed) for seed in range(SEEDS))
            for lr in (0.1, 0.5, 1.0, 2.0)
        }
        lr, stress = min(by_lr.items(), key=lambda item: item[1])
        out.append(
            {
                "optimizer": name,
                f"step, {TOUCHED:,} of {rows:,} rows (ms)": f"{1e3 * seconds:,.0f}",
                "state (bytes a row)": f"{state:.0f}",
                f"stress, {len(tree):,} taxa (start {floor:.2f}, tree 0)": f"{stress:.3f}",
                "at lr": lr,
            }
        )
    return out
