"""What each block costs: milliseconds of a core for a batch, in the tables of docs/blocks/.

The shipped sample, 10 dimensions, float64, batches of 512 pairs with 50 negatives each (or a tile
of 4,096 for all). Losses are forward and backward, from rows of a table to their gradients, and so
is "distances alone"; a regularizer and a margin are what they add to that. The samplers on the
complete taxonomy: samplers.py; the optimizers: optimizers.py.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch

import poincare_taxa as pt
from benchmarks.measure import Machine, side_by_side
from benchmarks.tables import Row
from poincare_taxa.files.records import dtype_name

BATCH, NEGATIVES, TILE, DIM = 512, 50, 4096, 10
SECONDS = 0.5
Blocks = dict[str, Callable[[], Any]]

ONE_CORE = Machine.of("cpu", 1)
TAX = pt.load_sample("mammals")
TREE = pt.blocks.TreeIndex(TAX)
GENERATOR = torch.Generator().manual_seed(0)


def milliseconds(run: Callable[[], Any]) -> float:
    """Median of a core's time, after one run to warm up."""
    run()
    return 1e3 * side_by_side({"": run}, ONE_CORE, seconds=SECONDS)[""].median


def pairs() -> Blocks:
    near, every = pt.ParentChildPairs(TREE), pt.AncestorPairs(TREE)
    shares = {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8}
    closure = pt.ClosurePairs(every[range(len(every))], num_nodes=len(TAX))
    samplers = {
        "ParentChildPairs": near,
        "AncestorPairs": every,
        "StratifiedPairs": pt.StratifiedPairs(TREE, shares),
        "ClosurePairs": closure,
        "MixedPairs of the first two": pt.MixedPairs([near, every], [0.5, 0.5]),
        "LCAPairs": pt.blocks.LCAPairs(TREE),
        "LCATriplets": pt.blocks.LCATriplets(TREE),
    }
    return {
        name: lambda draw=sampler: draw.sample(BATCH, generator=GENERATOR)
        for name, sampler in samplers.items()
    }


def negatives() -> Blocks:
    batch = pt.AncestorPairs(TREE).sample(BATCH, generator=GENERATOR)
    uniform, cousins = (
        make(TREE, NEGATIVES // 2) for make in (pt.UniformNegatives, pt.CousinNegatives)
    )
    samplers = {
        "UniformNegatives": pt.UniformNegatives(TREE, NEGATIVES),
        "UniformNegatives, weighted": pt.UniformNegatives(
            TREE, NEGATIVES, weights=TAX.subtree_size**0.75
        ),
        "SameDepthNegatives": pt.SameDepthNegatives(TREE, NEGATIVES),
        "CousinNegatives": pt.CousinNegatives(TREE, NEGATIVES, levels=2),
        "MixedNegatives, half cousins": pt.MixedNegatives([uniform, cousins]),
        "SharedNegatives, 4,096": pt.SharedNegatives(TREE, TILE).tile,
    }
    return {name: lambda draw=sampler: draw(batch, GENERATOR) for name, sampler in samplers.items()}


class Batch:
    """A batch, gathered from a table in the ball: what every loss starts with."""

    def __init__(self) -> None:
        self.table = torch.nn.Parameter(pt.embed(TAX, DIM).ball())
        self.pairs = pt.AncestorPairs(TREE).sample(BATCH, generator=GENERATOR)
        self.nodes = pt.UniformNegatives(TREE, NEGATIVES)(self.pairs, GENERATOR).clamp(min=0)
        self.tile = pt.SharedNegatives(TREE, TILE).tile(self.pairs, GENERATOR)

    def points(self, rows: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.embedding(rows, self.table, sparse=True)

    def distances(self) -> tuple[torch.Tensor, torch.Tensor]:
        a, p, n = (self.points(x) for x in (self.pairs[:, 1], self.pairs[:, 0], self.nodes))
        return pt.dist(a, p), pt.dist(a[:, None], n)

    def learn(self, loss: Callable[[], torch.Tensor]) -> Callable[[], None]:
        def run() -> None:
            self.table.grad = None
            loss().backward()

        return run


def losses() -> Blocks:
    b = Batch()
    u, v = pt.blocks.LCAPairs(TREE).sample(BATCH, generator=GENERATOR).unbind(1)
    three = pt.blocks.LCATriplets(TREE).sample(BATCH, generator=GENERATOR)

    def stress() -> torch.Tensor:
        return pt.blocks.stress_loss(
            pt.dist(b.points(u), b.points(v)), TREE.distance(u, v), tau=1.6
        )

    def triplets() -> torch.Tensor:
        x = b.points(three)
        a, n, f = x.unbind(1)
        d = torch.stack((pt.dist(a, n), pt.dist(a, f), pt.dist(n, f)), dim=1)
        return pt.blocks.triplet_loss(d, pt.ball.dist0(x))

    def tile() -> torch.Tensor:
        a, p, n = (b.points(x) for x in (b.pairs[:, 1], b.pairs[:, 0], b.tile.nodes))
        found = pt.dist(a, p), pt.cdist(a, n)
        return pt.blocks.softmax_ranking_loss(
            *found, mask=b.tile.mask, log_weights=b.tile.log_weights
        )

    found = {
        "distances alone": lambda: sum(d.sum() for d in b.distances()),
        "margin_ranking_loss": lambda: pt.blocks.margin_ranking_loss(*b.distances(), 0.2),
        "softmax_ranking_loss": lambda: pt.blocks.softmax_ranking_loss(*b.distances()),
        "softmax_ranking_loss, tile of 4,096": tile,
        "stress_loss, 512 pairs": stress,
        "triplet_loss, 512 triplets": triplets,
    }
    return {name: b.learn(loss) for name, loss in found.items()}


def cones() -> Blocks:
    b, loss = Batch(), pt.EntailmentConeLoss()

    def run() -> torch.Tensor:
        return loss(b.points(b.pairs[:, 0]), b.points(b.pairs[:, 1]), b.points(b.nodes))

    return {
        "distances alone": b.learn(lambda: sum(d.sum() for d in b.distances())),  # pyright: ignore
        "entailment_cone_loss": b.learn(run),
    }


def margins() -> Blocks:
    b = Batch()

    anchor, positive = b.pairs[:, 1], b.pairs[:, 0]

    def near() -> torch.Tensor:
        return TREE.distance(anchor, positive).double()

    def far() -> torch.Tensor:
        return TREE.distance(anchor[:, None], b.nodes).double()

    return {
        "ConstantMargin": pt.ConstantMargin(),
        "DepthMargin, with the gaps": lambda: pt.DepthMargin()(near()),
        "TreeMargin, with the tree distances": lambda: pt.TreeMargin()(near(), far()),
    }


def regularizers() -> Blocks:
    b, penalty = Batch(), pt.NormRegularizer(target=pt.LinearRadius(1.0), weight=0.1)
    rows = b.pairs.flatten()
    return {
        "NormRegularizer, the 1,024 rows of 512 pairs": b.learn(
            lambda: penalty(pt.ball.dist0(b.points(rows)), TREE.depth[rows])
        )
    }


def projection() -> Blocks:
    found: Blocks = {}
    for name, sparse in (("sparse gradient", True), ("dense gradient", False)):
        b = Batch()
        rows = torch.cat((b.pairs.flatten(), b.nodes.flatten()))
        torch.nn.functional.embedding(rows, b.table, sparse=sparse).sum().backward()
        optimizer = torch.optim.SGD([b.table], lr=0.0)
        plain = milliseconds(optimizer.step)
        pt.project_after_step(optimizer, b.table)
        found[f"step with project_after_step, {name} (without it {plain:.2f} ms)"] = optimizer.step
        found[f"clip_gradients, {name}"] = lambda table=b.table: pt.blocks.clip_gradients(
            table, 1.0
        )
    return found | {
        f"project_all, {len(TAX):,} rows": lambda: pt.blocks.project_all(b.table.detach())
    }


def curriculum() -> Blocks:
    every = pt.AncestorPairs(TREE)
    batch = every.sample(BATCH, generator=GENERATOR)
    nodes = pt.UniformNegatives(TREE, NEGATIVES)(batch, GENERATOR)
    points = pt.embed(TAX, DIM).ball()
    width = TREE.level_start.diff()
    widest = int(width.argmax())
    return {
        "limit": lambda: every.limit(max_gap=3, max_depth=5),
        f"join_at_parent, a level of {int(width.max()):,}": lambda: pt.blocks.join_at_parent(
            points, TREE, widest, generator=GENERATOR
        ),
        "lift, 512 × 50": lambda: pt.blocks.lift(nodes, TREE, 5),
    }


def embedding() -> Blocks:
    u, v = torch.randint(len(TAX), (2, BATCH * NEGATIVES), generator=GENERATOR)
    found: Blocks = {}
    for manifold in (pt.Polar(), pt.PoincareBall()):
        for dtype in (torch.float64, torch.float32):
            table = pt.PoincareEmbedding(
                len(TAX), DIM, manifold=manifold, dtype=dtype, sparse=True, initial_radius=3.0
            )

            def run(table: pt.PoincareEmbedding = table) -> None:
                table.weight.grad = None
                table.dist(u, v).sum().backward()

            found[f"{type(manifold).__name__}, {dtype_name(dtype)}: 25,600 distances"] = run
    return found


PAGES = (
    embedding, pairs, negatives, losses, cones, margins, regularizers, projection, curriculum,
)  # fmt: skip


def measure() -> Iterator[tuple[str, list[Row]]]:
    """Time every block: the name and the table of each page."""
    for page in PAGES:
        yield (
            page.__name__,
            [{"block": name, "ms": f"{milliseconds(run):.2f}"} for name, run in page().items()],
        )
