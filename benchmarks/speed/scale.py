"""Bytes between the processes of `fit`: counted, replayed for other sizes, and what they bound.

The simulator replays the code that trains: `LevelStress` names the rows that each process moves and
draws its partners, samplers draw the batches of `Ranking`, from the seeds that `fit` gives them. It
is compared with the bytes that runs of `fit` hand to `torch.distributed`.

Two tables are simulated. A *whole* table is what `fit` has: every process holds all rows. *Slices*
are a plan: a process holds the rows between two `cuts` of room `shards`, and all hold the levels at
the top; of each interval between exchanges it fetches the rows of other slices that its batches
need, and (of pairs) returns their gradients.

Bytes are those that one process receives. Recipes: *levels* is the recommended one, *pairs* are
ancestor pairs with a tile of shared negatives under the softmax.
"""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.speed import shards
from benchmarks.speed.processes import TILE, trained
from benchmarks.tables import Row
from poincare_taxa.blocks.embedding import PoincareEmbedding
from poincare_taxa.blocks.negatives import SharedNegatives
from poincare_taxa.blocks.optimizers import RowwiseRiemannianAdam
from poincare_taxa.blocks.pairs import AncestorPairs
from poincare_taxa.blocks.tree_index import TreeIndex
from poincare_taxa.files.seeds import stream_seed
from poincare_taxa.processes.group import Processes
from poincare_taxa.shards.slices import cuts
from poincare_taxa.taxonomy.taxonomy import Taxonomy
from poincare_taxa.testing import synthetic_taxonomy
from poincare_taxa.training.defaults import recipe
from poincare_taxa.training.level_stress import LevelStress

DIM = 10
PARTNERS = 18
"""Pairs of a node of a batch of levels; of a pair of the other recipe: TILE."""

TOP = 0.01
"""Largest share of the nodes that are on the levels which every process holds, of slices."""

MAPPED = 12
"""Bytes of a node of the tree that all processes of shards map."""

OPERATIONS, LAUNCH = 100, 5e-6
"""Arithmetic of a distance and its gradient in 10 dimensions, about; seconds to start a kernel."""

KERNELS = {"levels": 250, "pairs": 600}
"""Calls of torch in a step that compute, about, where no loop is compiled."""


class Machine(NamedTuple):
    """A device and the link of each process, as their makers state them.

    Operations (float64) and bytes of memory a second, None where they are in a measured rate; bytes
    a second that a process receives, and seconds of a hop.
    """

    device: str
    link: str
    size: int
    operations: float | None
    memory: float | None
    bytes: float
    latency: float


MACHINES = [
    Machine("core", "Ethernet 10 Gb/s", 8, None, None, 1.25e9, 30e-6),
    Machine("core", "Ethernet 10 Gb/s", 64, None, None, 1.25e9, 30e-6),
    Machine("H200", "NVLink 4", 8, 34e12, 4.8e12, 450e9, 5e-6),
    Machine("H200", "InfiniBand 400 Gb/s", 64, 34e12, 4.8e12, 50e9, 5e-6),
    Machine("H200", "Ethernet 10 Gb/s", 64, 34e12, 4.8e12, 1.25e9, 30e-6),
]


def row_bytes() -> tuple[int, int]:
    """Bytes of a row of the table, and of its moments in the optimizer."""
    table = PoincareEmbedding(1, DIM, sparse=True).weight
    optimizer = RowwiseRiemannianAdam([table])
    one = torch.zeros(1, dtype=torch.int64)
    table.manifold.dist0(torch.nn.functional.embedding(one, table, sparse=True)).sum().backward()
    optimizer.step()
    return table.nbytes, sum(moment.nbytes for moment in optimizer.state[table].values())


# -------------------------------------------------------------------- replays


def recommended(tax: Taxonomy) -> LevelStress:
    """Return what `fit` minimises by default, whose tree and passes are those of the replays."""
    unset = dict.fromkeys(("pairs", "negatives", "loss", "regularizer", "curriculum"))
    start = PoincareEmbedding(1, DIM, sparse=True)  # of which only dimension and dtype matter
    return recipe(tax, start, None, unset, {}, None, None).objective


def levels(tree: TreeIndex, passes: int, size: int, batch: int, deepest: int | None = None) -> Row:
    """Replay levels over whole tables, all or those up to a depth."""
    objective = LevelStress(tree, tau=1.0, batch_size=batch, passes=passes)
    objective.split(0, size)
    row = row_bytes()[0]
    received = collectives = steps = longest = 0
    for level in range(1, (deepest or tree.max_depth) + 1):
        objective._open_level(level)
        shares = objective.shares()
        most = max(map(len, shares.rows))
        times = math.ceil(objective.steps_per_epoch / shares.steps)
        received += (size - 1) * most * times * row
        collectives += times
        steps, longest = steps + objective.steps_per_epoch, longest + most
    nodes = int(tree.level_start[level + 1]) - 1
    balance, compared = nodes / (size * longest), passes * PARTNERS * nodes
    return _row(
        tree, "levels", "whole", size, batch, steps, compared, received, collectives, balance
    )


def levels_of_slices(tree: TreeIndex, passes: int, size: int, batches: list[int]) -> Iterator[Row]:
    """Replay all levels in the slice in the middle: the rows of other slices that it fetches.

    An interval is 25 passes, whatever the batch.
    """
    objective = LevelStress(tree, tau=1.0, batch_size=len(tree), passes=passes)
    bounds, own, top = _slice(tree, size)
    generator, needed = torch.Generator().manual_seed(0), torch.zeros(len(tree), dtype=torch.bool)
    received = collectives = longest = 0
    for level in range(top + 1, tree.max_depth + 1):
        objective._open_level(level)
        (nodes,), interval = objective._batches, objective.shares().steps
        needed.zero_()
        for _ in range(interval):
            for u in nodes[own(nodes)].split(1 << 16):
                needed[objective._partners(u, generator)[0].flatten()] = True
        times = math.ceil(passes / interval)
        received += times * _remote(tree, needed.nonzero()[:, 0], own, top) * (row_bytes()[0] + 8)
        collectives += 2 * times
        longest += int(torch.bucketize(nodes, bounds, right=True).bincount().max())
    nodes = tree.level_start.diff()[top + 1 :]
    balance, compared = int(nodes.sum()) / (size * longest), passes * PARTNERS * (len(tree) - 1)
    for batch in batches:
        steps = passes * int((nodes / batch).ceil().sum())
        yield _row(
            tree, "levels", "slices", size, batch, steps, compared, received, collectives, balance
        )


def pairs(tree: TreeIndex, size: int, batch: int, steps: int, epochs: int = 1) -> Row:
    """Replay batches of pairs over whole tables, with the draws of `fit` from seed 0."""
    drawn, negatives = AncestorPairs(tree), SharedNegatives(tree, TILE)
    shared = torch.Generator().manual_seed(stream_seed(0, "batches"))
    row, received = row_bytes()[0], 0
    for _ in range(epochs):
        own, state = [], shared.get_state()
        for rank in range(size):
            shared.set_state(state)
            own.append(Processes(rank, size).generator(shared))
        for _ in range(steps):
            most = 0
            for one in own:
                rows = drawn.sample(batch // size, generator=one)
                most = max(most, len(_touched(rows, negatives, one)))
            received += (size - 1) * (most * (row + 8) + 2 * 8)  # and its length, and its term
    every = steps * epochs
    compared = every * batch * TILE
    return _row(tree, "pairs", "whole", size, batch, every, compared, received, 2 * every, 1.0)


def pairs_of_slices(tree: TreeIndex, size: int, batch: int, steps: int) -> Row:
    """Replay batches of pairs whose descendants are in the slice in the middle."""
    drawn, negatives = AncestorPairs(tree), SharedNegatives(tree, TILE)
    bounds, own, top = _slice(tree, size)
    generator, received, longest = torch.Generator().manual_seed(0), 0, 0
    for _ in range(steps):
        rows = drawn.sample(batch, generator=generator)
        longest += int(
            torch.bucketize(rows[:, 1].contiguous(), bounds, right=True).bincount().max()
        )
        rows = _touched(rows[own(rows[:, 1])], negatives, generator)
        received += _remote(tree, rows, own, top) * (2 * row_bytes()[0] + 2 * 8)
    balance, compared = steps * batch / (size * longest), steps * batch * TILE
    return _row(tree, "pairs", "slices", size, batch, steps, compared, received, 4 * steps, balance)


def _touched(rows: Tensor, negatives: SharedNegatives, generator: torch.Generator) -> Tensor:
    """Rows of pairs and of their tile, whose nodes are the same for any pairs."""
    return torch.cat((rows.flatten(), negatives.tile(rows[:1], generator).nodes)).unique()


def _slice(tree: TreeIndex, size: int) -> tuple[Tensor, Callable[[Tensor], Tensor], int]:
    """Cuts; whether rows are in the slice in the middle; the deepest level that all hold."""
    bounds = cuts(tree.parent.numpy(), tree.end.numpy(), size)
    first, end = bounds[size // 2 : size // 2 + 2]
    top = int((tree.level_start[1:] <= TOP * len(tree)).sum()) - 1
    return torch.tensor(bounds[1:-1]), lambda rows: (rows >= first) & (rows < end), top


def _remote(tree: TreeIndex, rows: Tensor, own: Callable[[Tensor], Tensor], top: int) -> int:
    return int((~own(rows) & (tree.depth[rows] > top)).sum())


def _row(tree: TreeIndex, recipe: str, table: str, size: int, batch: int, *found: float) -> Row:
    steps, compared, received, collectives, balance = found
    return {
        "taxa": len(tree), "recipe": recipe, "table": table, "processes": size, "batch": batch,
        "steps": steps, "pairs": compared, "received": received, "collectives": collectives,
        "balance": balance,
    }  # fmt: skip


# -------------------------------------------------------------------- tables


def checked(sizes: list[int], taxa: int, batch: int) -> Iterator[Row]:
    """Bytes and collectives of runs of `fit`, beside those of the simulator."""
    tax = Taxonomy.from_parents(synthetic_taxonomy(taxa).parent)
    default = recommended(tax)
    tree, epochs = default.tree, {"levels": min(12, tax.max_depth), "pairs": 2}
    for what in epochs:
        for size in sizes:
            run = trained(tax, size, 0, DIM, recipe=what, batch=batch, epochs=epochs[what])
            if what == "levels":
                replay = levels(tree, default.passes, size, batch, run["epochs"])
            else:
                replay = pairs(tree, size, batch, run["steps"] // run["epochs"], run["epochs"])
            yield {
                "recipe": what,
                "processes": size,
                "steps": run["steps"],
                "collectives": run["collectives"],
                "simulated collectives": replay["collectives"] * (size > 1),
                "bytes received": run["received"],
                "simulated bytes": replay["received"],
                "bytes at the start": run["copied"],
                "of objects": run["objects"],
                "million pairs": run["pairs"] / 1e6,
                "CPU s": round(run["cpu"], 2),
            }


def costs(checks: list[Row]) -> dict[str, tuple[float, float]]:
    """CPU seconds of a pair, and of a step besides, of each recipe; adds a column with this law.

    A process has its share of the pairs and all of the steps: least squares over numbers of them.
    """
    found = {}
    for what in KERNELS:
        some = [row for row in checks if row["recipe"] == what]
        terms = np.array(
            [[row["million pairs"] * 1e6 / row["processes"], row["steps"]] for row in some]
        )
        scale = terms.max(0)
        parts = np.linalg.lstsq(terms / scale, np.array([row["CPU s"] for row in some]))[0]
        found[what] = tuple((parts / scale).tolist())
        for row, told in zip(some, terms / scale @ parts, strict=True):
            row["CPU s, law"] = f"{told:.2f}"
    return found


def replayed(taxa: list[int], sizes: list[int], batches: list[int], steps: int) -> Iterator[Row]:
    """All replays."""
    for n in taxa:
        default = recommended(synthetic_taxonomy(n))
        tree, passes = default.tree, default.passes
        for size in sizes:
            for batch in batches:
                yield levels(tree, passes, size, batch)
                yield pairs(tree, size, batch, steps)
                yield pairs_of_slices(tree, size, batch, steps)
            yield from levels_of_slices(tree, passes, size, batches)


SAME = ("recipe", "table", "processes", "batch")


def step_bytes(row: Row) -> float:
    """Bytes that a process receives for a full batch."""
    compared = row["batch"] * (PARTNERS if row["recipe"] == "levels" else TILE)
    return row["received"] * compared / row["pairs"]


def law(before: Row, last: Row, n: float) -> float:
    """Bytes of a step at n nodes, of the power of n that two replays have."""
    first, second = step_bytes(before), step_bytes(last)
    if not first or not second:
        return math.nan
    power = math.log(second / first) / math.log(last["taxa"] / before["taxa"])
    return second * (n / last["taxa"]) ** power


def shown(rows: list[Row], further: list[int]) -> Iterator[Row]:
    """Bytes of a step of each kind by nodes: replayed, then by the law of the last two.

    The last replay is beside what the law of the two before it gives.
    """
    kinds = dict.fromkeys(tuple(row[k] for k in SAME) for row in rows)
    for kind in sorted(kinds):
        some = [row for row in rows if tuple(row[k] for k in SAME) == kind]
        found = dict(zip(SAME, kind, strict=True))
        found |= {f"kB, {row['taxa']:.0e}": f"{step_bytes(row) / 1e3:,.0f}" for row in some}
        told = law(*some[-3:-1], some[-1]["taxa"])
        found["law / replay"] = f"{told / step_bytes(some[-1]):.2f}"
        found |= {f"law, {n:.0e}": f"{law(*some[-2:], n) / 1e3:,.0f}" for n in further}
        yield found | {"balance": f"{some[-1]['balance']:.2f}"}


def limits(rows: list[Row], costs: dict[str, tuple[float, float]]) -> Iterator[Row]:
    """Picoseconds of a pair by cause, of the largest tree; speed-up over one device, and rate."""
    largest, row_size = max(row["taxa"] for row in rows), row_bytes()[0]
    # What a pair of levels gathers: a row in sectors of 32 bytes, its number, edges, random bits.
    gathered = {"levels": 32 * math.ceil(row_size / 32) + 2 * 8 + 30 * 8 / PARTNERS, "pairs": 0}
    for machine in MACHINES:
        for row in rows:
            if row["taxa"] != largest or row["processes"] != machine.size:
                continue
            of = row["recipe"]
            pair, step = costs[of]
            alone = {"computing": pair, "memory": 0.0, "steps": step}
            if machine.operations and machine.memory:
                alone = {
                    "computing": OPERATIONS / machine.operations,
                    "memory": gathered[of] / machine.memory,
                    "steps": KERNELS[of] * LAUNCH,
                }
            alone["steps"] *= row["steps"] / row["pairs"]
            share = 1 / machine.size / row["balance"]
            times = {k: alone[k] * (1 if k == "steps" else share) for k in alone}
            hops = row["collectives"] * (machine.size - 1) * machine.latency
            times["network"] = (row["received"] / machine.bytes + hops) / row["pairs"]
            together = sum(times.values())
            yield {
                "device": machine.device,
                "link": machine.link,
                **{k: row[k] for k in ("processes", "recipe", "table", "batch")},
                **{f"ps {what}": f"{1e12 * value:.3g}" for what, value in times.items()},
                "most": max(times, key=lambda what: times[what]),
                "speed-up": f"{sum(alone.values()) / together:.2g}",
                "million pairs/s": f"{1e-6 / together:.3g}",
            }


def bounds(rows: list[Row]) -> list[Row]:
    """Lay out limits as a row for each machine and kind, with a column for each batch."""
    found: dict[tuple, Row] = {}
    for row in rows:
        same = {k: row[k] for k in ("device", "link", "processes", "recipe", "table")}
        text = f"{row['most']}, {row['speed-up']} ×, {row['million pairs/s']}"
        found.setdefault(tuple(same.values()), same)[f"batch {row['batch']:,}"] = text
    return list(found.values())


def memory(taxa: list[int], sizes: list[int]) -> Iterator[Row]:
    """GB of a process of `fit`: table, moments and tree, whole; and what slices would take."""
    tax = synthetic_taxonomy(1000)
    tree = TreeIndex(tax)
    held = {id(x): x.nbytes for x in vars(tree).values() if isinstance(x, Tensor)}
    columns = (tax.tree.parent, tax.tree.end, tax.tree.depth)
    node = sum(row_bytes()) + (sum(held.values()) + sum(x.nbytes for x in columns)) / len(tree)
    for n in taxa:
        row = {"nodes": f"{n:.0e}", "bytes of a node": round(node)}
        row["whole, GB"] = round(n * node / 1e9, 1)
        for size in sizes:
            row[f"{size} slices, GB"] = round(n * ((1 - TOP) / size + TOP) * node / 1e9, 1)
        yield row


def memory_of_shards(taxa: list[int], sizes: list[int]) -> Iterator[Row]:
    """Peak GiB and CPU s of the largest process that embeds, refines and evaluates shards."""
    for _ in shards.runs(1000, sizes[:1], DIM, 10, math.inf, None):
        pass  # all kernels are compiled, which takes memory too
    for n in taxa:
        rows = list(shards.runs(n, sizes, DIM, 200, math.inf, None))
        for size in sizes:
            some = [row for row in rows if row["processes"] == size]
            most = {k: max(row[k] for row in some) for k in some[0] if ": " in k}
            yield {"nodes": n, "processes": size, **most}


def forecast(rows: list[Row], more: list[tuple[int, int]]) -> list[Row]:
    """Measured peaks beside a law, then the law for other sizes.

    Each process maps the tree. A fixed part and bytes of each node of a slice are fitted to the
    measured peaks by least squares.
    """
    sizes = [(row["nodes"], row["processes"]) for row in rows] + more
    found: list[Row] = [{"nodes": f"{n:.0e}", "processes": size} for n, size in sizes]
    mapped = np.array([MAPPED * n / 2**30 for n, _ in sizes])
    terms = np.array([[1.0, n / size / 2**30] for n, size in sizes])
    for peak in (name for name in rows[0] if name.endswith("GiB")):
        known = np.array([row[peak] for row in rows])
        some = len(rows)
        parts = np.linalg.lstsq(terms[:some], known - mapped[:some])[0]
        for row, told in zip(found, mapped + terms @ parts, strict=True):
            row[f"{peak}, law"] = f"{told:.2f}"
        for row, value in zip(found, known, strict=False):
            row[peak] = value
    return found
