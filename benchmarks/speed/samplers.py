"""Draw pairs and negatives from the complete NCBI taxonomy and from WordNet's nouns; print rates.

Before a sampler is timed, what it draws is checked against the tree or the closure.

    python -m benchmarks.speed.samplers [CLOSURE.csv.gz]
"""

import resource
import sys
import time
from collections.abc import Callable

import torch

import poincare_taxa as pt

BATCH, NEGATIVES, TILE = 1024, 50, 4096
SHARES = {"parent": 0.1, "grandparent": 0.1, "deeper": 0.8}


def row(name: str, draw: Callable[[], torch.Tensor], items: int) -> None:
    """Time draws for a second of one core's time, after one to warm up."""
    draw()
    start, draws = time.process_time(), 0
    while time.process_time() - start < 1:
        draw()
        draws += 1
    seconds = (time.process_time() - start) / draws
    print(f"{name:44} {1e3 * seconds:9.2f} ms {items / seconds / 1e6:9.2f} M/s")


def assert_unrelated(nodes: torch.Tensor, anchor: torch.Tensor, tree: pt.blocks.TreeIndex) -> None:
    related = tree.is_ancestor(nodes, anchor) | tree.is_ancestor(anchor, nodes)
    assert not related[nodes >= 0].any()


def tree_samplers(generator: torch.Generator) -> None:
    tax = pt.read_ncbi()
    start = time.process_time()
    tree = pt.blocks.TreeIndex(tax)
    print(f"{len(tax):,} taxa; TreeIndex built in {time.process_time() - start:.2f} s")
    for pairs in (
        pt.ParentChildPairs(tree),
        pt.AncestorPairs(tree),
        pt.StratifiedPairs(tree, SHARES),
        pt.blocks.LCAPairs(tree),
        pt.blocks.LCATriplets(tree),
    ):
        drawn = pairs.sample(100_000, generator=generator)
        if isinstance(pairs, pt.AncestorPairs):
            assert tree.is_ancestor(drawn[:, 0], drawn[:, 1]).all()
            assert (drawn[:, 0] != drawn[:, 1]).all()
        size = f" of {len(pairs):,}" if isinstance(pairs, pt.AncestorPairs) else ""
        for batch in (BATCH, 16 * BATCH):
            name = f"{type(pairs).__name__}{size}: {batch:,}"
            row(name, lambda: pairs.sample(batch, generator=generator), batch)  # noqa: B023

    pairs = pt.AncestorPairs(tree).sample(BATCH, generator=generator)
    samplers = {
        "UniformNegatives": pt.UniformNegatives(tree, NEGATIVES),
        "UniformNegatives, weighted": pt.UniformNegatives(
            tree, NEGATIVES, weights=tax.subtree_size**0.75
        ),
        "SameDepthNegatives": pt.SameDepthNegatives(tree, NEGATIVES),
        "CousinNegatives": pt.CousinNegatives(tree, NEGATIVES, levels=2),
    }
    for name, sampler in samplers.items():
        nodes = sampler(pairs, generator)
        assert_unrelated(nodes, pairs[:, 1:], tree)
        missing = float((nodes < 0).double().mean())
        label = f"{name} ({missing:.0%} missing): {BATCH:,} × {NEGATIVES}"
        row(label, lambda: sampler(pairs, generator), nodes.numel())  # noqa: B023
    shared = pt.SharedNegatives(tree, TILE)
    assert_unrelated(shared(pairs, generator), pairs[:, 1:], tree)
    name = f"SharedNegatives.tile: {BATCH:,} × {TILE:,}"
    row(name, lambda: shared.tile(pairs, generator).mask, BATCH * TILE)

    nodes = samplers["UniformNegatives"](pairs, generator)
    expected = torch.from_numpy(tax.tree_distance(pairs[:, 1:].numpy(), nodes.numpy()))
    assert torch.equal(tree.distance(pairs[:, 1:], nodes), expected.to(torch.int64))
    row("TreeIndex.distance", lambda: tree.distance(pairs[:, 1:], nodes), nodes.numel())


def closure_samplers(path: str, generator: torch.Generator) -> None:
    closure = pt.ClosurePairs.read_csv(path)
    print(f"{closure.num_nodes:,} nodes, {len(closure):,} pairs of {path.rsplit('/', 1)[-1]}")
    row(f"ClosurePairs: {BATCH:,}", lambda: closure.sample(BATCH, generator=generator), BATCH)
    pairs = closure.sample(BATCH, generator=generator)
    known = {tuple(pair) for pair in closure.pairs.tolist()}
    for num in (NEGATIVES, TILE, None):
        shared = num != NEGATIVES
        sampler = (
            pt.SharedNegatives(closure, num) if shared else pt.UniformNegatives(closure, NEGATIVES)
        )
        nodes = sampler(pairs, generator)
        for (_, v), others in zip(pairs[:20].tolist(), nodes[:20].tolist(), strict=True):
            assert not any((v, n) in known or (n, v) in known or n == v for n in others if n >= 0)
        draw = (
            (lambda: sampler.tile(pairs, generator).mask)  # noqa: B023
            if isinstance(sampler, pt.SharedNegatives)
            else (lambda: sampler(pairs, generator))  # noqa: B023
        )
        row(f"{type(sampler).__name__}: {BATCH:,} × {nodes.shape[1]:,}", draw, nodes.numel())


if __name__ == "__main__":
    torch.set_num_threads(1)
    rng = torch.Generator().manual_seed(0)
    tree_samplers(rng)
    for path in sys.argv[1:]:
        closure_samplers(path, rng)
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")
